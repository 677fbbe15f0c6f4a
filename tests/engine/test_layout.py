"""layout: the laws of order that every playbook obeys, and what the order must not depend on."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import books
import networkx
import pytest
from books import book, flat, step
from hypothesis import given
from hypothesis import strategies as st

from engine import layout
from engine.diagnostics import Diagnostic
from engine.layout import Node, Options

ROOT = Path(__file__).parents[2]
SHOW = """
from pathlib import Path
from engine import layout
from engine.cli import opening
path = Path("playbooks/mlflow-rollback.yml")
book = opening.read(path, opening.catalog(path), [])
print([(node.id, node.after) for node in layout.nodes(book, layout.Options(), []).values()])
"""


def test_every_process_lays_out_the_same_graph() -> None:
    """A plan made by one process is taken up by another, so no edge may come in the order of a set."""
    seen = set()
    for seed in ("1", "2", "3", "4", "5", "6"):
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
        seen.add(subprocess.run([sys.executable, "-c", SHOW], cwd=ROOT, env=env, capture_output=True, check=True).stdout)
    assert 1 == len(seen)


def lay(data: Any, *, tags: tuple[str, ...] = (), skip: tuple[str, ...] = ()) -> dict[str, Node]:
    """The nodes of the playbook by their ids without a section; nothing may be wrong with it."""
    found: list[Diagnostic] = []
    made = layout.nodes(books.read(data), Options(tags=tags, skip_tags=skip), found)
    assert [] == found
    return made


def before(nodes: dict[str, Node]) -> dict[str, set[str]]:
    """node -> everything that has settled when it begins."""
    made = layout.graph(nodes)
    return {name: networkx.ancestors(made, name) for name in made}


def mistakes(data: Any) -> list[str]:
    """The codes of what is wrong with the order; each mistake has a place and a way out."""
    found: list[Diagnostic] = []
    layout.nodes(books.read(data), Options(), found)
    assert all(d.place and d.hint for d in found), found
    return [d.code for d in found]


@given(books.books())
def test_the_laws_of_order(data: Any) -> None:
    """What a step needs or mentions, and the gates of its section and blocks, have settled before it begins."""
    made = books.read(data)
    nodes = lay(data)
    earlier = before(nodes)
    registers = {one.register: one.id for one in made.steps if one.register}
    for one in made.steps:
        assert one.section in earlier[one.id], "its section is open"
        for need in one.needs or ():
            assert f"{one.section}/{need}" in earlier[one.id]
        for name in one.mentions & registers.keys():
            assert registers[name] in earlier[one.id]
        for block, arm in one.arms:
            assert one.id in earlier[f"{block}.end"]
            assert arm == "block" or f"{block}.{arm}" in earlier[one.id]
            assert arm == "always" or f"{block}.always" not in nodes or one.id in earlier[f"{block}.always"]
            assert arm != "block" or f"{block}.rescue" not in nodes or one.id in earlier[f"{block}.rescue"]
    for first, second in pairwise(books.SECTIONS):
        inside = {node.id for node in nodes.values() if node.section == first}
        assert inside <= earlier[second], f"{second} opens when all of {first} has settled"


@given(books.books())
def test_a_step_without_needs_follows_the_one_above(data: Any) -> None:
    """In each list of steps, blocks counted as one, an entry begins when the entry above it has settled."""
    nodes = lay(data)
    earlier = before(nodes)

    def follow(section: str, listed: list[Any]) -> None:
        for above, below in pairwise(listed):
            over = f"{section}/{above['id']}" + (".end" if "block" in above else "")
            if "block" not in below and "needs" not in below:
                assert over in earlier[f"{section}/{below['id']}"]
        for entry in listed:
            for arm in ("block", "rescue", "always"):
                follow(section, entry.get(arm, []))

    for section in books.SECTIONS:
        if all("id" in entry for entry in data.get(section, [])):
            follow(section, data.get(section, []))


@given(books.books())
def test_nodes_come_in_an_order_in_which_they_can_be_walked(data: Any) -> None:
    """Every node comes after what it waits for, and waits for nothing that is not there."""
    seen: set[str] = set()
    for node in lay(data).values():
        assert set(node.after) <= seen
        assert len(set(node.after)) == len(node.after)
        seen.add(node.id)


@given(books.books())
def test_the_outline_says_the_same_with_fewer_edges(data: Any) -> None:
    """A picture leaves out what other edges imply, and nothing else."""
    nodes = lay(data)
    whole, reduced = layout.graph(nodes), layout.outline(nodes)
    assert set(whole) == set(reduced)
    assert whole.number_of_edges() >= reduced.number_of_edges()
    assert all(networkx.ancestors(whole, name) == networkx.ancestors(reduced, name) for name in whole)
    assert dict(whole.nodes(data="kind")) == dict(reduced.nodes(data="kind"))


@given(books.books(forward=True))
def test_a_circle_is_found_when_there_is_one(data: Any) -> None:
    """With `needs` in any direction, a circle is told exactly where the waits go round."""
    made = books.read(data)
    found: list[Diagnostic] = []
    nodes = layout.nodes(made, Options(), found)
    known = {name: [other for other in node.after if other in nodes] for name, node in nodes.items()}
    left = set(nodes)
    while ready := {name for name in left if not left & set(known[name])}:
        left -= ready
    assert bool(left) == ("LG049" in {d.code for d in found})
    assert {d.code for d in found} <= {"LG049"}
    assert all(d.place for d in found)


def test_needs_replace_the_step_above() -> None:
    """`needs: []` begins with the section, `needs: [a]` after a, whatever stands between."""
    nodes = lay(book(execution=[step("a"), step("b"), step("c", needs=["a"]), step("d", needs=[]), step("e")]))
    after = {name.partition("/")[2]: set(node.after) for name, node in nodes.items() if node.step}
    assert {"execution"} == after["a"] == after["d"]
    assert {"execution/a"} == after["b"]
    assert {"execution", "execution/a"} == after["c"]
    assert {"execution/d"} == after["e"]


def test_needs_may_name_a_block_and_their_section() -> None:
    """A block is needed as a whole: its end, whatever its arms did; a section may stand before the name."""
    data = book(
        execution=[
            {"id": "b", "block": [step("x")], "always": [step("y")]},
            step("a", needs=["b"]),
            step("c", needs=["execution/a"]),
        ]
    )
    nodes = lay(data)
    assert {"execution", "execution/b.end"} == set(nodes["execution/a"].after)
    assert {"execution", "execution/a"} == set(nodes["execution/c"].after)


def test_a_trigger_of_any_asks_all_at_once() -> None:
    """Where one condition is enough, none waits for the one above it."""
    for mode, after in (("any", ("trigger",)), ("all", ("trigger/a",))):
        assert after == lay(book(trigger={mode: [step("a"), step("b")]}))["trigger/b"].after


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        ([step("a", needs=["nothing"])], "LG048"), ([step("a", needs=["a"])], "LG049"),
        ([step("a", needs=["keep"])], "LG048"),
        ([step("a", needs=["kept"])], "LG048"), ([step("a", needs=["tell"])], "LG048"),
        ([step("a", needs=["told"])], "LG048"),
        ([step("a", needs=["later"])], "LG048"), ([step("a", needs=["b"]), step("b", needs=["a"])], "LG049"),
        ([{"id": "b", "block": [step("a", needs=["b"])]}], "LG049"), ([step("a", needs=["forensics"])], "LG048"),
        ([step("a", needs=["b"]), {"id": "b", "block": [step("x", needs=["a"])]}], "LG049"),
    ],
)  # fmt: skip
def test_needs_that_cannot_be(steps: list[Any], code: str) -> None:
    """A step needs others of its own section: not itself, nobody unknown, nothing of another section, no block around it."""
    more = {
        "forensics": [step("keep"), {"id": "kept", "block": [step("kept_in")]}],
        "verification": [step("later")],
        "communications": [step("tell"), {"id": "told", "block": [step("told_in")]}],
    }
    assert [code] == mistakes(book(execution=steps, **more))


def test_a_block_of_nothing_holds_nobody_up() -> None:
    """A block whose imports are empty has no end to wait for."""
    data = book(execution=[{"id": "b", "block": [{"import": "none.yml"}]}, step("a", needs=["b"])])
    made = books.read(data, {"none.yml": []})
    found: list[Diagnostic] = []
    nodes = layout.nodes(made, Options(), found)
    assert [] == found
    assert ("execution",) == nodes["execution/a"].after


TAGGED = book(
    forensics=[step("f", tags=["x"])],
    execution=[step("a", tags=["x"]), step("b", tags=["y"]), step("c"), step("d", tags=["always"]),
               step("e", tags=["never", "z"]), step("g", tags=["x", "y"])],
)  # fmt: skip


@pytest.mark.parametrize(
    ("tags", "skip", "chosen"),
    [
        ((), (), "fabcdg"), (("x",), (), "fadg"), (("y",), (), "fbdg"), (("x", "y"), (), "fabdg"), (("z",), (), "fde"),
        (("never",), (), "fde"),
        (("all",), (), "fabcdg"), (("tagged",), (), "fabdg"), (("untagged",), (), "fcd"), ((), ("x",), "fbcd"), ((),
        ("x", "y"), "fcd"),
        (("y",), ("x",), "fbd"), ((), ("always",), "fabcg"), ((), ("tagged",), "fc"), ((), ("untagged",), "fabdg"),
        (("nobody",), (), "fd"),
    ],
)  # fmt: skip
def test_tags_choose_as_in_ansible_and_never_evidence_away(
    tags: tuple[str, ...], skip: tuple[str, ...], chosen: str
) -> None:
    """--tags and --skip-tags choose steps; `always` and `never` mean what they mean there; forensics is never left out."""
    nodes = lay(TAGGED, tags=tags, skip=skip)
    assert chosen == "".join(node.step.short for node in nodes.values() if node.step and node.chosen)
    assert set(nodes) == set(lay(TAGGED)), "what is not chosen keeps its place"


@given(books.books(), st.sampled_from(books.SECTIONS))
def test_sections_that_are_not_written_change_nothing_for_the_others(data: Any, section: str) -> None:
    """Without one of the sections, the steps of the others wait for what they waited for, within their section."""
    if section == "execution" or section not in data:
        return
    gone = {one["register"] for one in flat(data[section]) if "register" in one}
    for one in (one for other in books.SECTIONS for one in flat(data.get(other, []))):
        if any(name in one["file"]["content"] for name in gone):
            one["file"]["content"] = "x"
    whole, part = lay(data), lay({key: value for key, value in data.items() if key != section})
    for name, node in part.items():
        if node.step and node.section != section:
            inside = [other for other in whole[name].after if other.startswith(node.section)]
            assert inside == [other for other in node.after if other.startswith(node.section)]
