"""The way of one host through blocks, against a reading of the language that is written down a second time here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import layout, reader, source
from engine.check import HostRow
from engine.layout import Options
from engine.walk import Walk, Ways, verdict

ROW = HostRow("a", (), {})


def ways(steps: list[Any], section: str = "execution", **more: Any) -> Ways:
    """The graph of a playbook with these steps."""
    text = json.dumps({"name": "x", "strategy": "version", "hosts": "all", section: steps, **more})
    found: list[Any] = []
    book = reader.read(lambda name: source.parse(text, name), "play.yml", lambda _: True, found)
    assert book is not None
    assert not found, found
    return Ways.of(layout.nodes(book, Options(), found))


def one(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "id": name, "wait": {"for": "1s"}, **more}


def walked(graph: Ways, bad: Mapping[str, str] | set[str] = frozenset()) -> tuple[list[str], Walk]:  # type: ignore[assignment]
    """Walks the graph with these steps failing; the steps that were performed, in order, and the walk."""
    walk, done = Walk(graph, ROW), []
    ready = walk.ready()
    while ready:
        node = graph.nodes[ready.pop(0)]
        if node.kind == "gate":
            status = "blocked" if walk.blocked(node) else "ok"
        elif node.step is None:
            status = walk.point(node)
        elif walk.blocked(node):
            status = "blocked"
        elif walk.unneeded(node):
            status = "skip"
        else:
            done.append(node.step.short)
            status = "bad" if node.step.short in bad else "ok"
        ready += walk.settle(node.id, status)
    assert set(walk.status) == set(graph.nodes), "every node comes to an end"
    return done, walk


BLOCK = {"name": "B", "block": [one("b1"), one("b2")], "rescue": [one("r1"), one("r2")], "always": [one("z1"), one("z2")]}
PLAIN = [one("first"), BLOCK, one("last")]


@pytest.mark.parametrize(
    ("bad", "done", "wrong", "tolerated"),
    [
        ("", "first b1 b2 z1 z2 last", "", False),
        ("b1", "first b1 r1 r2 z1 z2 last", "", True),
        ("b2", "first b1 b2 r1 r2 z1 z2 last", "", True),
        ("b1 r1", "first b1 r1 z1 z2", "execution", False),
        ("b1 r2", "first b1 r1 r2 z1 z2", "execution", False),
        ("z1", "first b1 b2 z1", "execution", False),
        ("b1 z2", "first b1 r1 r2 z1 z2", "execution", False),
        ("first", "first", "execution", False),
        ("last", "first b1 b2 z1 z2 last", "execution", False),
    ],
)
def test_a_block_is_remedied_and_cleaned_up(bad: str, done: str, wrong: str, tolerated: bool) -> None:
    """The remedy runs when the body went wrong, the clean-up in every case, and nothing of a block that never began."""
    found, walk = walked(ways(PLAIN), set(bad.split()))
    assert done.split() == found
    assert wrong == walk.went_wrong()
    assert tolerated == walk.tolerated


def test_nothing_of_a_section_whose_gate_is_shut() -> None:
    """A failure before the gate lets no step of the section behind it run, clean-up and remedies included."""
    graph = ways(PLAIN, forensics=[one("keep")])
    done, walk = walked(graph, {"keep"})
    assert ["keep"] == done
    assert "forensics" == walk.went_wrong()


def test_what_is_stopped_has_begun() -> None:
    """A block that a cancel cut short is cleaned up, and is not ended well."""
    graph = ways([BLOCK])
    walk = Walk(graph, ROW)
    names = {name.rpartition("/")[2]: name for name in graph.nodes}
    for name in ("trigger", "forensics", "execution"):
        walk.settle(name, "ok")
    walk.settle(names["b1"], "stopped")
    walk.settle(names["b2"], "blocked")
    assert "ok" == walk.point(graph.nodes["execution/b.always"])
    walk.settle("execution/b.rescue", "ok")
    for name in ("r1", "r2"):
        walk.settle(names[name], "blocked")
    assert "bad" == walk.point(graph.nodes["execution/b.end"])


# -- against the language, written down again
class Language:
    """What a list of steps does, read straight from language.md: in order, a block's remedy, its clean-up."""

    def __init__(self, bad: set[str]) -> None:
        self.bad, self.done = bad, list[str]()

    def sequence(self, entries: list[Any]) -> bool:
        """Performs the entries one after the other, and says whether all ended well."""
        return all(self.block(entry) if "block" in entry else self.step(entry) for entry in entries)

    def step(self, entry: Any) -> bool:
        self.done.append(entry["id"])
        return entry["id"] not in self.bad

    def block(self, entry: Any) -> bool:
        well = self.sequence(entry["block"])
        if not well and entry.get("rescue"):
            well = self.sequence(entry["rescue"])
        return self.sequence(entry.get("always", [])) and well


@st.composite
def entries(draw: st.DrawFn, depth: int = 0, names: list[int] | None = None) -> list[Any]:
    """A list of steps and nested blocks."""
    names = names if names is not None else []
    found = []
    for _ in range(draw(st.integers(1, 3))):
        names.append(0)
        number = len(names)
        if depth < 2 and draw(st.booleans()):
            inner = {
                arm: draw(entries(depth + 1, names))
                for arm in ("block", "rescue", "always")
                if arm == "block" or draw(st.booleans())
            }
            found.append({"name": f"B{number}", **inner})
        else:
            found.append(one(f"s{number}"))
    return found


@given(entries(), st.data())
def test_blocks_mean_what_the_language_says(steps: list[Any], data: st.DataObject) -> None:
    """Whatever nests in whatever and whichever steps fail: the same steps run, in the same order, to the same end."""
    graph = ways(steps)
    names = [node.step.short for node in graph.nodes.values() if node.step]
    bad = set(data.draw(st.lists(st.sampled_from(names), unique=True)))
    language = Language(bad)
    well = language.sequence(steps)
    done, walk = walked(graph, bad)
    assert language.done == done
    assert well == (walk.went_wrong() == "")


# -- what an earlier attempt did
def test_what_follows_something_new_is_done_again() -> None:
    """A step that ended well earlier counts, until something before it is done anew; steps beside it still count."""
    graph = ways([one("a"), one("b"), one("c"), one("beside", needs=[])], verification=[one("check")])
    walk = Walk(graph, ROW)
    walk.kept = {f"execution/{name}": "kept" for name in ("b", "c", "beside")} | {"verification/check": "kept"}
    for name in ("trigger", "forensics", "execution"):
        walk.settle(name, "ok")
    node = graph.nodes
    assert walk.holds(node["execution/beside"])
    assert not walk.holds(node["execution/a"])
    walk.acts(node["execution/a"])
    walk.settle("execution/a", "ok")
    assert not walk.holds(node["execution/b"])
    walk.settle("execution/b", "ok")
    assert not walk.holds(node["execution/c"]), "through what was not done anew itself"
    walk.settle("execution/c", "ok")
    walk.settle("execution/beside", "ok")
    walk.settle("verification", "ok")
    assert not walk.holds(node["verification/check"]), "a check looks at what was done before it"


def test_what_is_firm_is_not_done_again() -> None:
    """A step that must not be done twice counts, whatever is done anew before it; what follows it does not."""
    graph = ways([one("a"), one("b"), one("c")])
    walk = Walk(graph, ROW)
    walk.kept, walk.firm = {f"execution/{name}": "kept" for name in "bc"}, {"execution/b"}
    for name in ("trigger", "forensics", "execution"):
        walk.settle(name, "ok")
    walk.acts(graph.nodes["execution/a"])
    walk.settle("execution/a", "ok")
    assert walk.holds(graph.nodes["execution/b"])
    walk.settle("execution/b", "ok")
    assert not walk.holds(graph.nodes["execution/c"])


def test_what_is_uncertain_is_not_rescued() -> None:
    """The remedy of a block waits where it is not known whether a step in it failed, however deep; clean-up does not."""
    inner = {"name": "I", "id": "i", "block": [one("a")], "rescue": [one("r")]}
    graph = ways([{"name": "O", "id": "o", "block": [inner], "rescue": [one("s")], "always": [one("z")]}])
    for unsure, gates in ((["execution/a"], "blocked"), ([], "ok")):
        walk = Walk(graph, ROW)
        walk.unsure = unsure
        for name in ("trigger", "forensics", "execution"):
            walk.settle(name, "ok")
        walk.settle("execution/a", "bad")
        assert gates == walk.point(graph.nodes["execution/i.rescue"])
        walk.settle("execution/i.rescue", gates)
        walk.settle("execution/r", "blocked" if unsure else "bad")
        walk.settle("execution/i.end", walk.point(graph.nodes["execution/i.end"]))
        assert gates == walk.point(graph.nodes["execution/o.rescue"])
        assert "ok" == walk.point(graph.nodes["execution/o.always"])


def test_a_trigger_that_is_looked_at_again_renews_nothing() -> None:
    """On resume a trigger may be evaluated again: nothing is repeated because of that."""
    graph = ways([one("a")], trigger={"all": [one("t")]})
    walk = Walk(graph, ROW)
    walk.kept = {"execution/a": "kept"}
    walk.acts(graph.nodes["trigger/t"])
    for name in ("trigger", "trigger/t", "forensics", "execution"):
        walk.settle(name, "ok")
    assert walk.holds(graph.nodes["execution/a"])


@pytest.mark.parametrize(
    ("results", "outcome"),
    [
        ("succeeded", "succeeded"),
        ("succeeded recovered", "recovered"),
        ("succeeded not_triggered", "succeeded"),
        ("not_triggered", "not_triggered"),
        ("succeeded failed", "failed"),
        ("held succeeded", "held"),
        ("held failed", "failed"),
        ("drifted failed held", "drifted"),
        ("undone", "undone"),
        ("undone succeeded", "failed"),
    ],
)
def test_the_worst_host_decides(results: str, outcome: str) -> None:
    """A run ends as its worst host does, and one that is undone in part has failed."""
    assert outcome == verdict(set(results.split()))
    assert verdict({*results.split(), ""}) in ("failed", "drifted", "held"), "a host that is not through is not done"


def test_the_room_needs_nothing_but_a_graph() -> None:
    """The walk knows no journal and no module: what is hard to test is elsewhere."""
    text = (Path(__file__).parents[2] / "engine" / "walk.py").read_text()
    assert not [word for word in ("journal", "step", "site") if f"from engine import {word}" in text]
