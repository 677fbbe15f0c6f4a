"""Patterns and ranges: what they name, and where they point when they name nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import pattern
from engine.diagnostics import EngineError, Place, render

HOSTS = ["svc1", "svc2", "svc3", "svc4", "churn"]
GROUPS = {
    "all": tuple(HOSTS),
    "fraud": ("svc2", "svc1", "svc3"),
    "eu": ("svc1", "svc4"),
    "canary": ("svc1",),
    "idle": (),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fraud", ["svc1", "svc2", "svc3"]),
        ("all", HOSTS),
        ("*", HOSTS),
        ("fraud:&eu", ["svc1"]),
        ("fraud:eu", ["svc1", "svc2", "svc3", "svc4"]),
        ("fraud,eu", ["svc1", "svc2", "svc3", "svc4"]),
        (" fraud , eu ", ["svc1", "svc2", "svc3", "svc4"]),
        ("fraud:&eu:!canary:svc4", ["svc4"]),
        ("fraud:!canary", ["svc2", "svc3"]),
        ("!canary:fraud", ["svc2", "svc3"]),
        ("!canary", ["svc2", "svc3", "svc4", "churn"]),
        ("&eu", ["svc1", "svc4"]),
        ("all:!idle", HOSTS),
        ("svc?", ["svc1", "svc2", "svc3", "svc4"]),
        ("*u*", ["svc1", "svc2", "svc3", "svc4", "churn"]),
        ("churn", ["churn"]),
        ("fraud[0]", ["svc2"]),
        ("fraud[-1]", ["svc3"]),
        ("fraud[0:1]", ["svc1", "svc2"]),
        ("fraud[1:]", ["svc1", "svc3"]),
        ("fraud[0:99]:!svc1", ["svc2", "svc3"]),
        ("all:!fraud[0]", ["svc1", "svc3", "svc4", "churn"]),
    ],
)
def test_a_pattern_names_the_hosts_that_ansible_would_name(text: str, expected: list[str]) -> None:
    """Union first, then `&`, then `!`, in any order; numbers count in the group's own order and include both ends."""
    assert expected == pattern.match(text, HOSTS, GROUPS)


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("frud", ["LG103"]),
        ("all:!canray", ["LG103"]),
        ("frud:&eo", ["LG103", "LG103"]),
        ("~fraud.*", ["LG103"]),
        ("svc[ab]", ["LG103"]),
        ("svc[1", ["LG103"]),
        ("", ["LG103"]),
        (" : ,", ["LG103"]),
        ("&", ["LG103"]),
        ("x*", ["LG104"]),
        ("!x*", ["LG104"]),
        ("fraud[3]", ["LG104"]),
        ("fraud[2:1]", ["LG104"]),
        ("fraud[-4]", ["LG104"]),
        ("fraud:!fraud", ["LG104"]),
        ("canary:&churn", ["LG104"]),
        ("idle", ["LG107"]),
        ("fraud:idle", ["LG107"]),
        ("all:&idle", ["LG107"]),
        ("idle[0]", ["LG107"]),
    ],
)
def test_a_pattern_that_names_nobody_is_refused(text: str, codes: list[str]) -> None:
    """Unknown names are mistakes even after `!`; an empty group is one only where its hosts are wanted."""
    assert codes == _codes(text)


def test_the_caret_stands_under_the_wrong_term() -> None:
    """The place is that of the term inside the pattern, quoted or not, and the hint is the likely spelling."""
    place = Place("p.yml", 3, 8, 16, 'hosts: "fraud:&uo:!canary"')
    with pytest.raises(EngineError) as caught:
        pattern.match("fraud:&uo:!canary", HOSTS, {**GROUPS, "uu": ("svc1",)}, place)
    shown = render(caught.value.diagnostics)
    assert "p.yml:3:15" in shown
    assert '3 | hosts: "fraud:&uo:!canary"\n  |               ^^^\n' in shown
    with pytest.raises(EngineError) as caught:
        pattern.match("fruad", HOSTS, GROUPS)
    assert "did you mean `fraud`?" == caught.value.diagnostics[0].hint


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("svc", ["svc"]),
        ("svc[01:03]", ["svc01", "svc02", "svc03"]),
        ("svc[8:11]", ["svc8", "svc9", "svc10", "svc11"]),
        ("svc[1:10:4]", ["svc1", "svc5", "svc9"]),
        ("svc[:2]", ["svc0", "svc1", "svc2"]),
        ("svc[098:101].eu", ["svc098.eu", "svc099.eu", "svc100.eu", "svc101.eu"]),
        ("r-[a:c]", ["r-a", "r-b", "r-c"]),
        ("r-[A:C:2]", ["r-A", "r-C"]),
        ("r[1:2]-[a:b]", ["r1-a", "r1-b", "r2-a", "r2-b"]),
    ],
)
def test_a_range_stands_for_its_hosts(name: str, expected: list[str]) -> None:
    """Both ends count, zeros in front are kept, and the left range moves slowest."""
    assert expected == pattern.expand(name, 1000)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("svc[01:9]", "[01:9]"),
        ("svc[3:1]", "[3:1]"),
        ("svc[a:C]", "[a:C]"),
        ("svc[a:3]", "[a:3]"),
        ("svc[1:]", "[1:]"),
        ("svc[1]", "[1]"),
        ("svc[]", "[]"),
        ("svc[1:9:0]", "[1:9:0]"),
        ("svc[1:9:-1]", "[1:9:-1]"),
        ("svc[1:2:3:4]", "[1:2:3:4]"),
        ("svc[-1:2]", "[-1:2]"),
        ("a[1:2]svc[1:3", "svc[1:3"),
        ("svc]", "svc]"),
        ("svc[1:999999999]", "[1:999999999]"),
        ("svc[1:9999999999999999999]", "[1:9999999999999999999]"),
        ("[1:900][1:900]", "[1:900]"),
    ],
)
def test_a_bad_range_is_refused_with_its_part(name: str, part: str) -> None:
    """The error tells which characters are wrong, and a range never fills the memory before it is refused."""
    with pytest.raises(pattern.BadRange) as caught:
        pattern.expand(name, 1000)
    assert part == name[caught.value.start :][: caught.value.length]


@given(st.text(alphabet="abz019[]:,&!*?~- ", max_size=30))
def test_any_text_is_a_pattern_or_a_diagnostic(text: str) -> None:
    """Nothing but an EngineError leaves `match`, and nothing but a BadRange leaves `expand`."""
    try:
        chosen = pattern.match(text, HOSTS, GROUPS, Place("p.yml", 1, 1, 1, text))
    except EngineError as error:
        codes = {d.code for d in error.diagnostics}
    else:
        codes = set()
        assert chosen
        assert set(chosen) <= set(HOSTS)
    assert codes <= {"LG103", "LG104", "LG107"}
    try:
        names = pattern.expand(text, 500)
    except pattern.BadRange:
        return
    assert len(names) <= 500


def _codes(text: str) -> list[str]:
    with pytest.raises(EngineError) as caught:
        pattern.match(text, HOSTS, GROUPS)
    return [d.code for d in caught.value.diagnostics]
