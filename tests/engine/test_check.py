"""check: each step against its module, every name against what is known where it stands, the strategy against its rules."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import books
import pytest
from books import book, step
from hypothesis import given
from hypothesis import strategies as st

from engine import check, reader, source
from engine.check import HostRow
from engine.diagnostics import Diagnostic
from engine.layout import Options
from modules.catalog import Catalog

NOTE = {"file": {"path": "/x", "content": "x"}}


def row(name: str = "one", outside: Sequence[str] = (), **values: Any) -> HostRow:
    return HostRow(name, ("all",), values, frozenset(outside))


def mistakes(
    data: Any, rows: Sequence[HostRow] = (), options: Options | None = None, imports: Any = None
) -> list[Diagnostic]:
    """What is wrong between the playbook, its modules and its hosts."""
    found: list[Diagnostic] = []
    check.steps(books.read(data, imports), Catalog(), rows, options or Options(), found)
    return found


def told(data: Any, rows: Sequence[HostRow] = (), options: Options | None = None) -> list[tuple[str, str]]:
    """Code and the marked text of each mistake."""
    return [(d.code, d.place.text[d.place.column - 1 :][: d.place.length]) for d in mistakes(data, rows, options) if d.place]


def test_a_playbook_in_order_has_no_mistakes() -> None:
    """Names of the inventory, of `vars`, of -e, of earlier steps, of the loop and of the engine itself are all known."""
    known = ("host", "own", "given", "early.x", "item", "run.id", "inventory_hostname", "mine", "a | default(b)")
    text = " ".join(f"{{{{ {name} }}}}" for name in known)
    act = step("a", file={"path": "/x", "content": text}, loop=[1], vars={"mine": 1}, when="host == 1")
    data = book(vars={"own": "{{ host }}"}, forensics=[step("f", register="early")], execution=[act])
    assert [] == mistakes(data, [row(host=1), row("two", host=2)], Options({"given": "x"}))


PLACES: dict[str, dict[str, Any]] = {
    "a parameter": {"file": {"path": "/x", "content": "<{{ wrong.x }}>"}},
    "a condition": {**NOTE, "when": "wrong == 1"},
    "a loop": {**NOTE, "loop": "{{ wrong }}"},
    "a list": {**NOTE, "loop": ["{{ wrong }}"]},
    "until": {**NOTE, "until": "wrong == 1"},
    "a variable": {**NOTE, "vars": {"x": "{{ wrong }}"}},
    "a filter's argument": {**NOTE, "when": "1 | default(1) == wrong"},
    "a nested parameter": {"command": {"argv": ["a", "{{ wrong }}"], "creates": "/x"}},
}


@pytest.mark.parametrize("where", PLACES)
def test_an_unknown_name_is_found_wherever_it_stands(where: str) -> None:
    """A name that nobody knows is marked where it stands; without an inventory it may be one of its variables."""
    data = book(execution=[{"name": "a", **PLACES[where]}])
    assert [("LG020", "wrong")] == told(data, [row(right=1)])
    assert [] == told(data)
    assert [] == told(data, [row(wrong=1)])
    assert [] == told(data, [row()], Options({"wrong": "x"}))


AROUND: dict[str, Any] = {
    "a block": lambda when: book(
        execution=[{"id": "b", "when": when, "block": [step("x"), step("y")], "rescue": [step("z")]}]
    ),
    "blocks in blocks": lambda when: book(
        execution=[{"id": "b", "block": [{"id": "c", "when": when, "block": [step("x"), step("y")]}]}]
    ),
    "a block whose steps have conditions": lambda when: book(
        execution=[{"id": "b", "when": when, "block": [step("x", when="1 == 1")]}]
    ),
}


@pytest.mark.parametrize("where", AROUND)
@pytest.mark.parametrize(
    ("when", "code", "mark"), [("wrong == 1", "LG020", "wrong"), ("a ==", "LG021", '"a =="'), ("'x'", "LG022", "\"'x'\"")]
)
def test_the_condition_of_a_block_is_an_expression_too(where: str, when: str, code: str, mark: str) -> None:
    """What is wrong with the condition of a block is told once, at the block, however many steps it is for."""
    assert [(code, mark)] == told(AROUND[where](when), [row(a=1)])


def test_the_condition_of_an_import_is_an_expression_too() -> None:
    """What is wrong with the condition of an import is told once, at the import."""
    data = book(execution=[{"import": "two.yml", "when": "wrong == 1"}])
    (found,) = mistakes(data, [row()], imports={"two.yml": [step("x"), step("y")]})
    assert ("LG020", "book.yml") == (found.code, found.place and found.place.path)


@pytest.mark.parametrize(
    ("data", "code", "mark"),
    [
        (book(execution=[step("a", when="out.x == 1"), step("b", register="out")], verification=[]), None, None),
        (book(forensics=[step("a", when="out.x == 1")], execution=[step("b", register="out")]), "LG024", "out"),
        (book(execution=[step("a", register="out", when="out.x == 1")]), "LG024", "out"),
        (book(execution=[step("a", register="out", until="out.x == 1")]), None, None),
        (book(execution=[step("a", register="out"), step("b", register="out")]), "LG038", '"out"'),
        (book(execution=[step("a", when="item == 1")]), "LG020", "item"),
        (book(execution=[step("a", loop="{{ item }}")]), "LG020", "item"),
        (book(execution=[step("a", loop=[1], when="item == 1")]), None, None),
        (book(execution=[step("a", loop="list")]), "LG015", '"list"'),
        (book(communications=[step("a", when="out.x == 1")], execution=[step("b", register="out")]), None, None),
        (book(vars={"a": "{{ b }}", "b": "{{ a }}"}), "LG023", '"{{ b }}"'),
        (book(vars={"a": "{{ a }}"}), "LG023", '"{{ a }}"'),
        (book(vars={"a": "{{ b"}), "LG021", '"{{ b"'),
        (book(execution=[step("a", when="1")]), "LG022", '"1"'),
        (book(execution=[step("a", when="x.y.__class__ == 1")]), "LG021", "__class__"),
        (book(execution=[step("a", when="x | list == 1")]), "LG021", "list"),
    ],
)  # fmt: skip
def test_names_have_their_time(data: Any, code: str | None, mark: str | None) -> None:
    """A registered name is known in later steps and sections, `item` where there is a loop, variables but in no circle."""
    assert ([(code, mark)] if code else []) == told(data)


def test_a_name_that_only_some_hosts_have() -> None:
    """A variable that is missing on one host of many is told with that host's name, before anything has begun."""
    data = book(execution=[step("a", when="v == 1")])
    (found,) = mistakes(data, [row("one", v=1), row("two"), row("three", v=2)])
    assert "two" in found.hint
    assert [] == mistakes(data, [row("one", v=1), row("three", v=2)])


@pytest.mark.parametrize(
    ("changed", "code", "mark"),
    [
        ({"nothing.like.it": {}}, "LG040", '"nothing.like.it"'), ({"file": {"paht": "/x",
        "content": "x"}}, "LG012", '"paht"'),
        ({"file": {"content": "x"}}, "LG013", '"file"'), ({"file": {"path": "/x", "content": 1}}, "LG014", "1"),
        ({"file": {"path": "~/x", "content": "x"}}, "LG046", '"~/x"'),
        ({"file": "{{ all_of_it }}"}, "LG015", '"{{ all_of_it }}"'),
        ({"file": None}, "LG013", '"file"'), ({"command": {"argv": ["a"], "once": True}, "retries": 2}, "LG042", "2"),
        ({"prometheus.metric": {"server": "http://h", "query": "q", "above": 1}}, None, None),
        ({"wait": {"until_url": "ftp://h"}}, "LG046", '"ftp://h"'),
        ({"wait": {"until_url": "http://h/#f"}}, "LG046", '"http://h/#f"'),
        ({"directory.current": {"path": "/m", "version": "latest"}}, "LG045", '"latest"'),
        ({"directory.current": {"path": "/m", "version": "../v1"}}, "LG045", '"../v1"'),
    ],
)  # fmt: skip
def test_a_step_against_its_module(changed: dict[str, Any], code: str | None, mark: str | None) -> None:
    """Unknown modules and parameters, wrong types, paths, addresses and versions are marked where they stand."""
    assert ([(code, mark)] if code else []) == told(book(execution=[step("z"), {"name": "a", **changed}]))


@pytest.mark.parametrize("section", ["trigger", "verification"])
def test_sections_that_look_do_not_change(section: str) -> None:
    """A module that changes things cannot stand where things are only looked at."""
    listed = {"any": [step("a")]} if section == "trigger" else [step("a")]
    assert [("LG041", '"file"')] == told(book(**{section: listed}))


@pytest.mark.parametrize(
    ("strategy", "fine"), [("configuration", True), ("version", False), ("checkpoint", False), ("data", False)]
)
def test_a_strategy_is_checked(strategy: str, fine: bool) -> None:
    """A playbook says what it takes back, and its execution must hold a step that does."""
    codes = [code for code, _ in told({**book(), "strategy": strategy})]
    assert ([] if fine else ["LG050"]) == [code for code in codes if code == "LG050"]
    assert (strategy == "data") == ("LG051" in codes)
    assert "LG050" in [code for code, _ in told({**book(), "execution": []})]


@pytest.mark.parametrize(
    ("options", "codes"),
    [
        (Options(tags=("x",)), []), (Options(tags=("y",)), ["LG047"]), (Options(skip_tags=("y",)), ["LG047"]),
        (Options(tags=("all",)), []),
        (Options({"v": 1}), []), (Options({"w": 1}), ["LG044"]), (Options({"to": "v1"}), ["LG044"]),
    ],
)  # fmt: skip
def test_what_the_command_line_adds_is_used(options: Options, codes: list[str]) -> None:
    """A tag that no step has, a variable that nothing mentions: a misspelling, not a wish."""
    data = book(execution=[step("a", tags=["x"], when="v == 1")])
    assert codes == [d.code for d in mistakes(data, [row(v=1)], options)]


def test_the_version_to_go_back_to_is_a_name_that_can_be_meant() -> None:
    """`-e to=` is known where a step chooses a version, also where it is misspelt."""
    choose = {"name": "A", "last_good": {"of": "directory.current", "with": {"path": "/x"}}}
    for execution, hint in (([choose], "did you mean `to`?"), ([step("a")], "leave it out")):
        assert hint in [d.hint for d in mistakes(book(execution=execution), (), Options({"too": "v1"})) if d.code == "LG044"]


def test_a_broken_module_is_a_mistake_of_its_own(tmp_path: Path) -> None:
    """A file of modules/ that does not load, is no module, or takes one of our names is named at the step that uses it."""
    (tmp_path / "broken.py").write_text("raise RuntimeError('no')", "utf-8")
    (tmp_path / "empty.py").write_text("", "utf-8")
    (tmp_path / "file.py").write_text("", "utf-8")
    for name in ("broken", "empty", "file"):
        found: list[Diagnostic] = []
        text = json.dumps(book(execution=[{"name": "a", name: {}}]))
        made = reader.read(lambda _, text=text: source.parse(text, "book.yml"), "book.yml", lambda _: True, [])
        assert made is not None
        check.steps(made, Catalog(tmp_path), (), Options(), found)
        assert "LG040" == found[0].code
        assert name in found[0].summary


def test_what_can_be_undone() -> None:
    """For each step that changes things, whether it can be put back, asked of the module with these parameters."""
    data = book(
        execution=[step("a"), {"name": "c", "command": {"argv": ["a"], "once": True}}, {"name": "w", "wait": {"for": "1s"}}]
    )
    modules = check.steps(books.read(data), Catalog(), (), Options(), [])
    assert {"execution/a": True, "execution/c": False} == modules.undo
    assert {"command", "file", "wait"} == set(modules.digests)


@given(books.books(), st.dictionaries(st.sampled_from("abc"), st.integers()))
def test_a_playbook_made_of_correct_parts_is_correct(data: Any, values: Mapping[str, Any]) -> None:
    """Blocks, needs and mentions of earlier steps are never mistakes by themselves (but for sections that only look)."""
    assert {"LG041"} >= {d.code for d in mistakes(data, [row(**values)])}
