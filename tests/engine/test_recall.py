"""What a record says of a run that is taken up again: a fold over entries, with nothing else to look at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from stage import Stage, look, step

from engine import recall
from engine.cli import opening
from engine.journal import Entry
from engine.plan import Plan
from engine.recall import Recalled

BLOCK = {
    "name": "B",
    "id": "b",
    "block": [step("body", {"x": 1})],
    "rescue": [step("r", {"x": 1})],
    "always": [step("z", {"x": 1})],
}
EACH = {"name": "Each", "id": "each", "loop": ["p", "q"], "thing": {"name": "{{ item }}", "fields": {"x": 1}}}
STEPS = [
    step("a", {"x": 1}, register="one"),
    step("tolerant", {"x": 1}, on_failure="continue"),
    step("undoes", {"x": 1}, on_failure="undo"),
    step("quiet", {"x": 1}, no_log=True, register="two"),
    BLOCK,
    EACH,
]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A plan with a step of every sort."""
    book = {"execution": STEPS, "verification": {"on_failure": "next", "steps": [look("check")]}}
    stage = Stage(tmp_path_factory.mktemp("recall"), book, ["h"])
    return opening.opened(Path(stage.playbook), [str(stage.stock)]).plan


def recalled(plan: Plan, *said: str) -> Recalled:
    """The fold of entries written as `intent a`, `blind a` (nobody can read it back), `a changed`, `ended failed`, `undo a
    undone`, and so on."""
    entries: list[Entry] = []
    for number, text in enumerate(said, 1):
        kind, step_id, body = _entry(plan, text)
        host = "h" if step_id or kind in ("candidate.failed", "host.undoing", "host.undone", "gate.opened") else ""
        entries.append(Entry("RB-0001", number, float(number), kind, host, step_id, json.dumps(body)))
    return recall.of(plan, entries)


def _entry(plan: Plan, text: str) -> tuple[str, str, dict[str, Any]]:
    first, _, rest = text.partition(" ")
    change = {"before": {"x": 0}, "after": {"x": 1}}
    if first in ("intent", "blind"):
        crash = "B" if first == "intent" else "D"
        return "step.intent", _id(plan, rest), {"change": change, "module": "thing", "crash": crash}
    if first == "undo":
        name, _, outcome = rest.partition(" ")
        return (f"undo.{'outcome' if outcome else 'intent'}", _id(plan, name), {"outcome": outcome})
    if first == "handle":
        name, _, handle = rest.partition(" ")
        return "step.handle", _id(plan, name), {"handle": handle, "key": f"key of {handle}", "module": "thing"}
    if first == "again":
        return "note", _id(plan, rest), {"decision": "again"}
    bodies: dict[str, tuple[str, dict[str, Any]]] = {
        "ended": ("run.ended", {"outcome": rest}),
        "resumed": ("run.resumed", {}),
        "undoing": ("undo.started", {"by": "eve"}),
        "next": ("candidate.failed", {"version": rest}),
        "hostundoing": ("host.undoing", {"of": rest}),
        "hostundone": ("host.undone", {}),
        "asked": ("key.asked", {"digest": rest or plan.digest}),
        "settled": ("authority.settled", {"decision": rest}),
        "cancel": ("cancel.asked", {"by": "ana"}),
        "gate": ("gate.opened", {}),
        "queued": ("message.queued", {"key": rest}),
        "interrupted": ("run.interrupted", {}),
    }
    if first in bodies:
        return bodies[first][0], "", bodies[first][1]
    outcome = {
        "outcome": rest,
        "reading": {"x": 1},
        "change": change,
        "why": "",
        "hint": "",
        "started": 1.0,
        "seconds": 0.0,
        "attempts": 1,
    }
    return "step.outcome", _id(plan, first), outcome


def _id(plan: Plan, name: str) -> str:
    bare, bracket, index = name.partition("[")
    return next(key for key in plan.nodes if key.rpartition("/")[2] == bare) + bracket + index


def names(places: Any) -> list[str]:
    return sorted(name.rpartition("/")[2] for _, name in places)


@pytest.mark.parametrize(
    ("said", "kept", "cut", "tried"),
    [
        ("intent a", "", "a", ""),
        ("intent a; a changed", "a", "", ""),
        ("a unchanged", "a", "", ""),
        ("a skipped", "a", "", ""),
        ("a waived", "a", "", ""),
        ("intent a; a failed", "", "", "a"),
        ("a failed", "", "", ""),
        ("intent a; a uncertain", "", "a", ""),
        ("intent a; a uncertain; again a", "", "", ""),
        ("intent a; a failed; ended failed; resumed; a unchanged", "a", "", ""),
        ("intent tolerant; tolerant failed", "tolerant", "", "tolerant"),
        ("intent tolerant; tolerant uncertain", "", "tolerant", ""),
        # a failure that has a remedy stands, until the run has ended
        ("intent undoes; undoes failed", "undoes", "", "undoes"),
        ("intent undoes; undoes failed; interrupted", "undoes", "", "undoes"),
        ("intent undoes; undoes failed; ended failed", "", "", "undoes"),
        ("intent body; body failed", "body", "", "body"),
        ("intent body; body failed; ended failed", "", "", "body"),
        ("intent body; body failed; intent r; r failed; ended failed", "body", "", "body r"),
        ("see_check failed", "see_check", "", ""),
        ("see_check failed; ended held", "", "", ""),
        # what is put back is not done
        ("intent a; a changed; undoing; undo a undone", "", "", ""),
        ("intent a; a changed; undoing; undo a", "", "", ""),
        ("intent a; a changed; undoing; undo a drifted", "a", "", ""),
        ("intent a; a changed; undoing; undo a none", "a", "", ""),
        # an undo by the playbook that was cut off goes on; when it is through, what it put back is not done
        ("intent a; a changed; intent undoes; undoes failed; undo a undone", "a undoes", "", "undoes"),
        ("intent a; a changed; intent undoes; undoes failed; undo a undone; ended failed", "", "", "undoes"),
        # a remedy is one of failures: what is uncertain is looked at again
        ("intent body; body uncertain; intent r; r changed", "r", "body", ""),
        # another candidate
        ("a changed; see_check failed; next v2", "", "", ""),
        ("intent a; next v2", "", "", ""),
        # what was kept as a digest is read again, and looked at if it acted
        ("quiet unchanged", "", "", ""),
        ("intent quiet; quiet changed", "", "quiet", ""),
    ],
)
def test_what_is_kept(plan: Plan, said: str, kept: str, cut: str, tried: str) -> None:
    """Which steps a resume keeps, which it looks at first, and which it only knows to have been tried."""
    found = recalled(plan, *said.split("; "))
    assert (kept.split(), cut.split(), tried.split()) == (names(found.kept), names(found.cut), names(found.tried))


def test_items(plan: Plan) -> None:
    """Items that ended well are kept, those that did not are not; an item that is put back takes its loop with it."""
    found = recalled(plan, "intent each[0]", "each[0] changed", "intent each[1]", "each[1] failed", "each failed")
    assert {("h", "execution/each"): ["execution/each[0]"]} == {place: list(items) for place, items in found.items.items()}
    found = recalled(plan, "intent each[0]", "each[0] changed", "each changed", "undoing", "undo each[0] undone")
    assert ([], {}) == (names(found.kept), found.items)


@pytest.mark.parametrize(
    ("said", "firm"),
    [
        ("intent a; a changed", ""),
        ("blind a; a changed", "a"),
        ("blind a; a changed; resumed; a unchanged", "a"),
        ("blind a; a failed", ""),
        ("blind a; a uncertain", ""),
        ("blind a; a uncertain; a waived", "a"),
        ("intent a; a uncertain; a waived", "a"),
        ("blind each[0]; each[0] changed; blind each[1]; each[1] failed", "each[0]"),
        ("blind a; a changed; undoing; undo a undone", ""),
        ("blind a; a changed; next v2", ""),
    ],
)
def test_what_is_not_done_twice(plan: Plan, said: str, firm: str) -> None:
    """What was done and nobody could read, or what a person says was done, stands whatever is done anew before it."""
    assert firm.split() == names(recalled(plan, *said.split("; ")).firm)


def test_a_host_that_is_being_put_back(plan: Plan) -> None:
    """That a host had begun to be put back is known until the run has ended: it is not walked forth again."""
    assert {"h": "execution"} == recalled(plan, "a changed", "hostundoing execution", "undo a undone").undoing
    assert {} == recalled(plan, "hostundoing cancel", "ended cancelled").undoing


def test_again_and_uncertain(plan: Plan) -> None:
    """What only a person can settle is listed; what is read again for its result is known to have ended well."""
    assert ["a"] == names(recalled(plan, "intent a", "a uncertain").uncertain)
    assert [] == names(recalled(plan, "intent a").uncertain), "it is looked at first"
    assert ["quiet"] == names(recalled(plan, "quiet unchanged").again)


def test_keys(plan: Plan) -> None:
    """The question is the one about this plan; keys that were settled for something else open nothing."""
    assert recalled(plan, "asked").asked is not None
    assert recalled(plan, "asked sha256:of-the-undo").asked is None
    assert recalled(plan, "settled approved").settled
    assert recalled(plan, "settled automatic").settled
    assert not recalled(plan, "settled rejected").settled


def test_the_run_itself(plan: Plan) -> None:
    """How often it has ended and whether it still has; a cancel counts until the run ends."""
    found = recalled(plan, "gate", "cancel", "queued k")
    assert {"by": "ana", "undo": False} == found.cancel
    assert ({"h"}, ["message.queued"]) == (found.opened, [entry.kind for entry in found.messages])
    found = recalled(plan, "ended failed", "resumed", "cancel", "ended cancelled")
    assert (2, "cancelled", None) == (found.lives, found.ended["outcome"], found.cancel)
    assert {} == recalled(plan, "ended failed", "resumed").ended
    assert {"h"} == recalled(plan, "hostundone", "ended failed").undone
    assert [("h", "v2")] == recalled(plan, "next v2").failed
    assert 3 == recalled(plan, "gate", "gate", "gate").seen


# -- operations
def test_an_operation_that_was_under_way_comes_with_its_intent(plan: Plan) -> None:
    """A step that was cut off after its handle was recorded is taken up with it, also when it was uncertain since."""
    for said in (["intent a", "handle a op-1"], ["intent a", "handle a op-1", "a uncertain"]):
        found = recalled(plan, *said)
        assert "op-1" == found.cut["h", "execution/a"]["handle"]
        assert {} == found.spent
    assert "handle" not in recalled(plan, "intent a", "handle a op-1", "a failed", "intent a").cut["h", "execution/a"]


@pytest.mark.parametrize("end", ["a failed", "a changed", "again a"])
def test_the_key_of_an_operation_that_is_over_is_spent(plan: Plan, end: str) -> None:
    """Whatever an operation came to, and if a person says that it was not done, the next one has another key."""
    said = ["intent a", "handle a op-1", *(["a uncertain"] if end == "again a" else []), end]
    assert {("h", "execution/a"): "key of op-1"} == recalled(plan, *said).spent
    assert {("h", "execution/a"): "key of op-1"} == recalled(plan, *said, "intent a", "a failed").spent, (
        "one that was refused"
    )


@pytest.mark.parametrize("kind", ["step.intent", "step.outcome"])
@pytest.mark.parametrize("moved", ["", "h", "i"])
def test_what_one_host_has_done_for_all(tmp_path: Path, kind: str, moved: str) -> None:
    """It is on record under the host that came there first, for all of its batch but those with another candidate."""
    book = {"execution": [step("w", {"x": 1}, run_once=True)], "verification": {"on_failure": "next", "steps": [look("w")]}}
    stage = Stage(tmp_path, book, ["h", "i", "j"])
    plan = opening.opened(Path(stage.playbook), [str(stage.stock)]).plan
    _, place, body = _entry(plan, "blind w" if kind == "step.intent" else "w changed")
    entries = [Entry("RB-0001", 2, 2.0, kind, "h", place, json.dumps(body))]
    if moved:
        failed = Entry("RB-0001", 1, 1.0, "candidate.failed", moved, "", json.dumps({"version": "3"}))
        entries.insert(0 if moved == "h" else 1, failed)
    with_it = {"": "hij", "h": "h", "i": "hj"}[moved]
    found = recall.of(plan, entries)
    assert {(host, place): "h" for host in with_it} == found.doers
    assert set(found.doers if kind == "step.outcome" else ()) == set(found.kept)
