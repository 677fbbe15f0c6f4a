"""reader, playbook: every keyword arrives in the steps, blocks and imports nest, and nothing written crashes the reading."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import books
import pytest
from books import book, flat, step
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import plan, reader, source
from engine.check import HostRow
from engine.diagnostics import Diagnostic, EngineError, render
from engine.layout import Options
from engine.playbook import DEFAULT_EXPIRY, SECTIONS, Playbook
from modules.catalog import Catalog

ROOT = Path(__file__).parents[2]


def mistakes(data: Any, imports: Any = None) -> list[tuple[str, str]]:
    """Code and summary of what is wrong with the playbook, each with a place and a way out."""
    found: list[Diagnostic] = []
    books.read(data, imports, found)
    assert all(d.place and d.place.line and d.hint for d in found), found
    return [(d.code, d.summary) for d in found]


# -- keywords


@pytest.mark.parametrize(
    ("written", "name", "value"),
    [
        ({}, "id", "execution/a_name_of_its_own"), ({"id": "short"}, "id", "execution/short"), ({}, "name",
        "A name, of its own!"),
        ({}, "module", "file"), ({}, "params", {"path": "/A name, of its own!", "content": "x"}), ({}, "when", ()),
        ({"when": "a == 1"}, "when", ("a == 1",)), ({"when": True}, "when", ("true",)), ({"when": False}, "when",
        ("false",)),
        ({}, "register", None), ({"register": "out"}, "register", "out"), ({}, "loop", None),
        ({"loop": [1, "b"]}, "loop", [1, "b"]),
        ({"loop": "{{ list }}"}, "loop", "{{ list }}"), ({}, "needs", None), ({"needs": []}, "needs", ()),
        ({"needs": ["other"]}, "needs", ("other",)), ({}, "run_once", False), ({"run_once": True}, "run_once", True),
        ({}, "timeout", 300.0), ({"timeout": "90s"}, "timeout", 90.0), ({"timeout": "80ms"}, "timeout", 0.08),
        ({"timeout": "7d"}, "timeout", 604800.0), ({}, "retries", 0), ({"retries": 7}, "retries", 7), ({}, "delay", 5.0),
        ({"delay": "1m"}, "delay", 60.0), ({}, "until", None), ({"until": "out.x"}, "until", "out.x"),
        ({"until": "out.x"}, "retries", 3),
        ({"until": "out.x", "retries": 0}, "retries", 0), ({}, "on_failure", "stop"),
        ({"on_failure": "undo"}, "on_failure", "undo"),
        ({"on_failure": "continue"}, "on_failure", "continue"), ({}, "tags", frozenset()), ({"tags": ["b",
        "a"]}, "tags", frozenset("ab")),
        ({}, "no_log", False), ({"no_log": True}, "no_log", True), ({}, "on", ()), ({}, "vars", {}),
        ({"vars": {"x": 1}}, "vars", {"x": 1}),
        ({}, "arms", ()), ({}, "section", "execution"), ({}, "short", "a_name_of_its_own"),
    ],
)  # fmt: skip
def test_each_keyword_arrives(written: dict[str, Any], name: str, value: Any) -> None:
    """What is written in a step stands in it, and what is not written has its documented default."""
    made = books.read(book(execution=[step("A name, of its own!", **written)])).steps[0]
    assert value == getattr(made, name)


def test_a_module_without_parameters() -> None:
    """A module whose parameters are left out has none."""
    assert {} == books.read(book(execution=[{"name": "a", "wait": None}])).steps[0].params


@pytest.mark.parametrize(
    ("written", "name", "value"),
    [
        ({}, "serial", ()), ({"serial": 2}, "serial", (2,)), ({"serial": "25%"}, "serial", (0.25,)),
        ({"serial": [1, "50%"]}, "serial", (1, 0.5)),
        ({}, "max_failed", 0), ({"max_failed": 3}, "max_failed", 3), ({"max_failed": "10%"}, "max_failed", 0.1),
        ({}, "vars", {}), ({"vars": {"a": [1]}}, "vars", {"a": [1]}),
        ({}, "owner", ""),
        ({"owner": "ml"}, "owner", "ml"), ({}, "trigger_mode", "all"),
        ({"trigger": {"any": [step("t")]}}, "trigger_mode", "any"),
        ({"trigger": {"all": [step("t")], "cooldown": "10m"}}, "cooldown", 600.0), ({}, "on_unverified", "hold"),
        ({"verification": {"steps": [step("v")], "on_failure": "undo"}}, "on_unverified", "undo"),
        ({"verification": [step("v")]}, "on_unverified", "hold"),
    ],
)  # fmt: skip
def test_each_key_of_a_playbook_arrives(written: dict[str, Any], name: str, value: Any) -> None:
    """What is written at the top stands in the playbook, and what is not written has its documented default."""
    assert value == getattr(books.read(book(**written)), name)


def test_authority() -> None:
    """Who has to say yes: mode, roles in their order, how long the question stands; nobody, if nothing is written."""
    asked = books.read(book(authority={"mode": "two-key", "roles": ["b", "a"], "expires": "30m"})).authority
    assert ("two-key", ("b", "a"), 1800.0) == (asked.mode, asked.roles, asked.expires)
    nobody = books.read(book()).authority
    assert ("automatic", (), DEFAULT_EXPIRY) == (nobody.mode, nobody.roles, nobody.expires)


def test_messages_say_when_they_are_sent() -> None:
    """A message is sent at the events that it names; without any, when the run ended well or badly."""
    made = books.read(book(communications=[step("a"), step("b", on=["started", "held"])]))
    assert [("succeeded", "failed"), ("started", "held")] == [one.on for one in made.section("communications")]
    assert ["LG036"] == [code for code, _ in mistakes(book(execution=[step("a", on=["failed"])]))]


def test_sections_are_there_or_not() -> None:
    """A section that is written empty is there; one that is not written is not."""
    made = books.read(book(forensics=[]))
    assert (True, False, True) == (made.has("forensics"), made.has("trigger"), made.has("execution"))
    assert () == made.section("forensics")


# -- blocks and imports


def test_blocks_hand_down_what_they_say() -> None:
    """A step within blocks has their conditions, tags and variables, outermost first; the nearest variable wins."""
    arms = {"block": [step("s", when="c", tags=["tc"], vars={"y": 3})], "rescue": [step("r")], "always": [step("w")]}
    inner = {"id": "in", "when": "b", "tags": ["tb"], "vars": {"x": 2, "y": 2}, **arms}
    made = books.read(
        book(
            execution=[{"id": "out", "when": "a", "tags": ["ta"], "vars": {"x": 1, "z": 1}, "block": [inner]}, step("after")]
        )
    )
    steps = {one.short: one for one in made.steps}
    assert (("a", "b", "c"), frozenset(["ta", "tb", "tc"]), {"x": 2, "y": 3, "z": 1}) == (
        steps["s"].when,
        steps["s"].tags,
        steps["s"].vars,
    )
    assert (("a", "b"), {"x": 2, "y": 2, "z": 1}) == (steps["r"].when, steps["r"].vars)
    assert (("out", "block"), ("in", "block")) == tuple((name.partition("/")[2], arm) for name, arm in steps["s"].arms)
    assert ["block", "rescue", "always"] == [steps[name].arms[1][1] for name in ("s", "r", "w")]
    assert ((), (), frozenset()) == (steps["after"].arms, steps["after"].when, steps["after"].tags)
    assert {"execution/out", "execution/in"} == set(made.blocks)
    assert (("execution/out", "block"),) == made.blocks["execution/in"].around


@given(books.books())
def test_every_step_is_read_once_and_in_order(data: Any) -> None:
    """However blocks nest, the steps of a section come in the order of the text, each in the arms that stand around it."""
    made = books.read(data)
    for section in books.SECTIONS:
        assert [one["id"] for one in flat(data.get(section, []))] == [one.short for one in made.section(section)]
    for one in made.steps:
        depth = sum(1 for key in one.keys if key in ("block", "rescue", "always"))
        assert depth == len(one.arms)
        assert one.place().text.strip() == "{"
        assert json.dumps(one.name) in one.place("name").text


def test_imported_steps_stand_where_the_import_stands() -> None:
    """A file of steps is read into its place, with the import's condition and variables, and remembers its own text."""
    imports = {"steps/two.yml": [step("b"), {"import": "more/three.yml"}], "steps/more/three.yml": [step("c")]}
    made = books.read(
        book(execution=[step("a"), {"import": "steps/two.yml", "when": "x", "vars": {"v": 1}}, step("d")]), imports
    )
    assert ["a", "b", "c", "d"] == [one.short for one in made.steps]
    assert [(), ("x",), ("x",), ()] == [one.when for one in made.steps]
    assert {"v": 1} == made.steps[2].vars
    assert ["book.yml", "steps/two.yml", "steps/more/three.yml", "book.yml"] == [one.document.path for one in made.steps]
    assert set(made.documents) == {"book.yml", "steps/two.yml", "steps/more/three.yml"}


def test_a_file_may_be_imported_twice_under_two_ids() -> None:
    """An import's id stands before the ids of its steps, of its blocks, and of what its steps need."""
    imports = {
        "pair.yml": [
            step("one"),
            {"id": "b", "block": [step("in")]},
            step("two", needs=["one", "b"]),
            step("three", needs=["before"]),
        ]
    }
    made = books.read(
        book(execution=[step("before"), {"import": "pair.yml", "id": "eu"}, {"import": "pair.yml", "id": "us"}]), imports
    )
    assert ["before", "eu_one", "eu_in", "eu_two", "eu_three", "us_one", "us_in", "us_two", "us_three"] == [
        one.short for one in made.steps
    ]
    needs = {one.short: one.needs for one in made.steps}
    assert (("eu_one", "eu_b"), ("us_one", "us_b"), ("before",)) == (needs["eu_two"], needs["us_two"], needs["us_three"])
    nested = {"outer.yml": [{"import": "pair.yml", "id": "in"}], **imports}
    made = books.read(book(execution=[step("before"), {"import": "outer.yml", "id": "out"}]), nested)
    assert ("out_in_one", "out_in_b") == next(one.needs for one in made.steps if one.short == "out_in_two")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("../x.yml", "cannot be imported"), ("a/../../x.yml", "cannot be imported"), ("/etc/passwd", "cannot be imported"),
        ("~/x.yml", "cannot be imported"), ("http://h/x.yml", "cannot be imported"), ("file:///x", "cannot be imported"),
        ("a\\b.yml", "cannot be imported"), ("{{ x }}.yml", "cannot be imported"), ("nothing.yml", "there is no file"),
        ("book.yml", "imports itself"), ("./book.yml", "imports itself"), ("x/../book.yml", "imports itself"), ("",
        "there is no file"),
        (".", "there is no file"), ("map.yml", "a list of steps"),
    ],
)  # fmt: skip
def test_what_cannot_be_imported(path: str, says: str) -> None:
    """Nothing outside the playbook's folder, no address, no template, no circle, nothing that is no list of steps."""
    ((code, summary),) = mistakes(book(execution=[{"import": path}]), {"map.yml": {"a": 1}})
    assert "LG035" == code
    assert says in summary


def test_imports_in_a_circle_are_told_as_the_way_round() -> None:
    """The files of a circle are named in their order."""
    imports = {"a.yml": [{"import": "b.yml"}], "b.yml": [{"import": "sub/c.yml"}], "sub/c.yml": [{"import": "../a.yml"}]}
    assert [("LG035", "`a.yml` imports itself: a.yml -> b.yml -> sub/c.yml -> a.yml")] == mistakes(
        book(execution=[{"import": "a.yml"}]), imports
    )


def test_imports_do_not_grow_without_end() -> None:
    """Ten files that import each other ten times would be a billion steps: the reading stops long before."""
    imports = {f"f{n}.yml": [{"import": f"f{n + 1}.yml", "id": f"i{m}"} for m in range(10)] for n in range(9)} | {
        "f9.yml": [step("a")]
    }
    assert "LG003" in [code for code, _ in mistakes(book(execution=[{"import": "f0.yml"}]), imports)]
    empty = {**imports, "f9.yml": []}
    assert "LG003" in [code for code, _ in mistakes(book(execution=[{"import": "f0.yml"}]), empty)]


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    """A file that is a link to somewhere else is not imported: it is not what the pull request showed."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out.yml").write_text(json.dumps([step("a")]), "utf-8")
    (tmp_path / "in/link.yml").symlink_to(tmp_path / "out.yml")
    (tmp_path / "in/book.yml").write_text(json.dumps(book(execution=[{"import": "link.yml"}])), "utf-8")
    found: list[Diagnostic] = []
    reader.load(tmp_path / "in/book.yml", "book.yml", lambda name: True, found)
    assert ["LG035"] == [d.code for d in found]


# -- ids


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Point the alias at it", "point_the_alias_at_it"),
        ("  a -- b  ", "a_b"),
        ("99 % done", "99_done"),
        ("模型", "step"),
        ("x" * 100, "x" * 64),
    ],
)
def test_an_id_is_made_of_the_name(name: str, slug: str) -> None:
    """Without an `id`, the name's letters and digits are it."""
    assert f"execution/{slug}" == books.read(book(execution=[step(name)])).steps[0].id


@pytest.mark.parametrize(("one", "two"), [("a", "a"), ("A", "a"), ("a b", "a-b"), ("模型", "型模")])
def test_ids_are_unique_in_the_playbook(one: str, two: str) -> None:
    """Two steps with one id, in any case and in any section, are told with both places."""
    found: list[Diagnostic] = []
    books.read(book(forensics=[step(one)], execution=[step(two)]), None, found)
    (d,) = found
    assert "LG037" == d.code
    assert d.context is not None


# -- mentions


def test_what_a_step_mentions() -> None:
    """Names in parameters, conditions, loops and variables; those of a bare word are not."""
    one = step(
        "a",
        file={"path": "{{ p.q }}", "content": ["x {{ c }} y"]},
        when="w and v.x",
        until="u",
        loop="{{ l }}",
        vars={"k": "{{ n }}"},
    )
    made = books.read(book(execution=[one])).steps[0]
    assert frozenset("pcwvuln") == made.mentions
    place = made.mention("c")
    assert ("c", "{{ c }}") == (
        place.text[place.column - 1 : place.column - 1 + place.length],
        place.text[place.column - 4 : place.column + 3],
    )


# -- whatever is written

#: What should stand there is said in the summary.
SAID = {"LG013", "LG015"}
SHIPPED = sorted((ROOT / "playbooks").glob("*.yml")) + sorted((ROOT / "playbooks").glob("*/rollback.yml"))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(-2, 2)
    | st.sampled_from(["", "x", "{{ x }}", "{{", "1s", "-1s", "50%", "a b", "../x", "x == 1"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["name", "block", "import", "needs", "x", "when", "file", "path"]), inner, max_size=2
        )
    ),
    max_leaves=4,
)


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for key, inner in pairs for path in paths(inner, (*at, key)))]


def broken(data: Any, at: tuple[Any, ...], how: str, value: Any) -> Any:
    """A copy of the data with one part deleted, replaced, doubled or called by another name."""
    made = copy.deepcopy(data)
    if not at:
        return value
    owner = made
    for key in at[:-1]:
        owner = owner[key]
    if how == "replace":
        owner[at[-1]] = value
    elif how == "delete":
        del owner[at[-1]]
    elif isinstance(owner, list):
        owner.insert(at[-1], copy.deepcopy(owner[at[-1]]))
    else:
        owner[f"{at[-1]}x"] = owner.pop(at[-1])
    return made


ROWS = (HostRow("one", ("all",), {"x": "y", "scoring_url": "http://127.0.0.1:1", "model": "m"}, frozenset()),)


@settings(max_examples=400)
@given(st.sampled_from(SHIPPED), st.data())
def test_a_playbook_with_a_mistake_is_told_and_never_crashes(path: Path, data: st.DataObject) -> None:
    """One part of a shipped playbook changed into anything: it is read, or told with a place in the text and a way out."""
    whole = source.load(path).data
    at = data.draw(st.sampled_from(paths(whole)))
    text = json.dumps(
        broken(whole, at, data.draw(st.sampled_from(["replace", "delete", "other"])), data.draw(JSON)), indent=1
    )
    lines, found, catalog = text.count("\n") + 1, [], Catalog()
    try:
        made = reader.read(
            lambda name: source.parse(text, name), "book.yml", lambda name: catalog.get(name) is not None, found
        )
        for rows in ((), ROWS):
            if made is not None:
                plan.check(made, catalog, rows, Options(), found)
    except EngineError as error:
        found += error.diagnostics
    assert [] == [d for d in found if not (d.place and 1 <= d.place.line <= lines and "\n" not in d.summary)]
    assert [] == [d for d in found if not d.hint and d.code not in SAID]
    assert len(render(found)) < 100_000


def test_the_table_of_sections() -> None:
    """The order of the sections, and what a difference that remains means in each."""
    assert ["trigger", "forensics", "authority", "execution", "verification", "communications"] == list(SECTIONS)
    assert {name: row.remains for name, row in SECTIONS.items()} == {
        "trigger": "noted", "forensics": "failed", "authority": "waiting", "execution": "failed", "verification": "held",
        "communications": "reported",
    }  # fmt: skip
    assert ["forensics", "execution", "communications"] == [name for name, row in SECTIONS.items() if row.changes]


@pytest.mark.parametrize("make", [list, lambda: [step("a")], lambda: "text", lambda: 1, lambda: {"name": "x"}, dict])
def test_what_is_no_playbook(make: Callable[[], Any]) -> None:
    """A list, a text, a mapping without sections: told, and whatever can be read of it is."""
    found: list[Diagnostic] = []
    text = json.dumps(make())
    made = reader.read(lambda name: source.parse(text, name), "book.yml", lambda name: True, found)
    assert found
    assert made is None or isinstance(made, Playbook)
