"""Many steps on many hosts: order, budget, batches, keys, drift, stops, and what a run that is taken up again does."""

from __future__ import annotations

import gc
import io
import json
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stage import TWO_KEYS, Said, Stage, look, step

from engine.diagnostics import EngineError

HOSTS = [f"h{number:02}" for number in range(1, 9)]


def play(tmp: Path, *steps: dict[str, Any], hosts: list[str] | None = None, **more: Any) -> Stage:
    """A stage whose execution has these steps."""
    variables = more.pop("variables", {})
    return Stage(tmp, {"execution": list(steps), **more}, hosts or ["a"], **variables)


def during(stage: Stage, act: Callable[[], Any], when: Callable[[], bool], run: Callable[[], Said] | None = None) -> Said:
    """Runs the playbook, and does `act` in another thread as soon as `when` holds."""

    def wait() -> None:
        deadline = time.monotonic() + 30
        while not when() and time.monotonic() < deadline:
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        return (run or stage.run)()
    finally:
        thread.join()


def intended(stage: Stage, name: str) -> Callable[[], bool]:
    """Whether the step is under way."""
    return lambda: any(entry.step.endswith(f"/{name}") for entry in _entries(stage) if entry.kind == "step.intent")


def _entries(stage: Stage) -> list[Any]:
    try:
        return stage.entries()
    except EngineError:  # the store is only just being made
        return []


# -- order
def test_steps_follow_the_text_and_needs(tmp_path: Path) -> None:
    """Steps follow each other as written; `needs` replaces that, and a mention adds to it."""
    stage = play(
        tmp_path,
        step("a", {"x": 1}, register="one"),
        step("b", {"x": 1}),
        step("late", {"x": "{{ one.x }}"}, needs=["b"]),
        step("free", {"x": 1}, needs=[]),
    )
    assert 0 == stage.run("--forks", "1").exit
    order = [line.split()[0] for line in stage.effects()]
    assert order.index("a/a") < order.index("a/b") < order.index("a/late")
    assert 4 == len(order)


def test_a_failure_blocks_what_follows_and_nothing_else(tmp_path: Path) -> None:
    """What waits for a failed step never begins; what stands beside it goes on."""
    stage = play(tmp_path, step("a", {"x": 1}), step("b", {"x": 1}), step("beside", {"x": 1}, needs=[]))
    stage.trouble("a", apply="breaks")
    assert 1 == stage.run().exit
    assert {"a": "failed", "beside": "changed"} == stage.outcomes()


@pytest.mark.parametrize("section", ["forensics", "execution"])
def test_evidence_first(tmp_path: Path, section: str) -> None:
    """Execution stays shut while evidence is missing, the clean-up and remedies of its blocks included."""
    block = {"name": "B", "block": [step("w", {"x": 1})], "rescue": [step("r", {"x": 1})], "always": [step("z", {"x": 1})]}
    stage = play(tmp_path, block, forensics=[step("keep", {"x": 1})])
    stage.trouble("keep" if section == "forensics" else "w", apply="breaks")
    stage.run()
    assert ([] if section == "forensics" else ["a/keep", "a/r", "a/z"]) == [line.split()[0] for line in stage.effects()]


def test_verification_follows_execution(tmp_path: Path) -> None:
    """Checks look at what execution left, and a run without them is no better than its changes."""
    stage = play(tmp_path, step("w", {"x": 1}), verification=[look("w", {"x": 1})])
    assert 0 == stage.run().exit
    assert {"w": "changed", "see_w": "unchanged"} == stage.outcomes()


# -- the trigger
@pytest.mark.parametrize(("mode", "one", "two", "holds"), [
    ("any", 1, 0, True), ("any", 0, 0, False), ("all", 1, 0, False), ("all", 1, 1, True), ("any", None, 1, True),
    ("any", None, 0, False), ("all", None, 1, False),
])  # fmt: skip
def test_if_triggered(tmp_path: Path, mode: str, one: int | None, two: int, holds: bool) -> None:
    """With --if-triggered a host whose trigger does not hold is left alone; what cannot be measured does not hold."""
    stage = play(tmp_path, step("w", {"x": 1}), trigger={mode: [look("one", {"on": 1}), look("two", {"on": 1})]})
    stage.have("one", {"on": one})
    stage.have("two", {"on": two})
    if one is None:
        stage.beside("one.broken").write_text("")
    assert 0 == stage.run("--if-triggered").exit
    assert ("succeeded" if holds else "not_triggered") == stage.ended["outcome"]
    assert holds == bool(stage.effects())
    assert 0 == stage.run().exit
    assert stage.effects(), "by hand it goes on whatever the trigger says"


def test_if_triggered_is_remembered(tmp_path: Path) -> None:
    """A run that was killed before it looked at its trigger still does nothing where the trigger does not hold."""
    stage = play(tmp_path, step("w", {"x": 1}), trigger={"any": [look("one", {"on": 1})]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.runner.Run.go", lambda _self: (_ for _ in ()).throw(KeyboardInterrupt))
        assert 130 == stage.run("--if-triggered").exit
    assert 0 == stage.resume().exit
    assert not stage.effects()
    assert "not_triggered" == stage.ended["outcome"]


# -- hosts: budget and batches
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_the_budget(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """One more than may fail stops the run before the next host begins, unreachable ones counted; resume does the rest."""
    count = data.draw(st.integers(1, 8), "hosts")
    hosts = HOSTS[:count]
    bad = data.draw(st.lists(st.sampled_from(hosts), unique=True), "bad")
    kinds = {host: data.draw(st.sampled_from(["breaks", "gone", "unreachable"]), host) for host in bad}
    tolerated = data.draw(st.integers(0, 4), "tolerated")
    serial = data.draw(st.sampled_from([1, 2, [1, 2, 4], "50%"]), "serial")
    stage = play(tmp_path_factory.mktemp("budget"), step("w", {"x": 1}), hosts=hosts, max_failed=tolerated, serial=serial)
    for host, kind in kinds.items():
        stage.trouble("w", host, **({"read": kind} if kind == "unreachable" else {"apply": kind}))
    said = stage.run("--forks", "1")
    failed = [host for host in hosts if host in bad]
    begun = hosts if len(failed) <= tolerated else hosts[: hosts.index(failed[tolerated]) + 1]
    assert (1 if bad else 0) == said.exit
    assert set(begun) == {entry.host for entry in stage.entries(kind="step.outcome")}
    assert {host for host in begun if host not in bad} == {line.split("/")[0] for line in stage.effects()}
    for host in bad:
        stage.trouble("w", host)
    if bad:
        assert 0 == stage.resume().exit
    assert sorted(hosts) == sorted(line.split("/")[0] for line in stage.effects()), "each host once"


def test_a_host_that_fails_within_the_budget_is_still_a_failure(tmp_path: Path) -> None:
    """The budget lets the other hosts go on. It does not make the run a success, and the host can be resumed."""
    stage = play(tmp_path, step("w", {"x": 1}), hosts=["a", "b", "c"], max_failed=1)
    stage.trouble("w", "b", apply="gone")
    said = stage.run()
    assert 1 == said.exit
    assert "1 of 3 hosts failed, 1 may; 0 are not through" == stage.ended["why"]
    stage.trouble("w", "b")
    assert 0 == stage.resume().exit
    assert "succeeded" == stage.ended["outcome"]


def test_the_budget_is_asked_again_at_the_gate(tmp_path: Path) -> None:
    """Hosts that wait for keys side by side do not all go on when the first of them fails."""
    stage = play(tmp_path, step("w", {"x": 1}), hosts=HOSTS, max_failed=0, authority=TWO_KEYS).people()
    for host in HOSTS:
        stage.trouble("w", host, apply="breaks")
    assert 5 == stage.run("--no-wait").exit
    stage.approve()
    assert 1 == stage.resume("--forks", "1").exit
    assert 1 == len(stage.entries(kind="step.outcome"))
    assert "7 are not through" in stage.ended["why"]


def test_batches(tmp_path: Path) -> None:
    """A batch begins when the one before is verified."""
    stage = play(tmp_path, step("w", {"x": 1}), hosts=HOSTS[:4], serial=[1, 3], verification=[look("w", {"x": 1})])
    assert 0 == stage.run().exit
    assert [{"number": 1, "hosts": HOSTS[:1]}, {"number": 2, "hosts": HOSTS[1:4]}] == stage.bodies("batch.started")
    second = next(entry.seq for entry in stage.entries(kind="batch.started") if entry.body["number"] == 2)
    assert all((entry.seq < second) == (entry.host == HOSTS[0]) for entry in stage.entries(kind="step.outcome"))


def test_a_canary_that_is_not_verified_stops_the_rest(tmp_path: Path) -> None:
    """When the first batch is held nobody else is touched."""
    stage = play(tmp_path, step("w", {"x": 1}), hosts=HOSTS[:3], serial=1, verification=[look("w", {"x": 2})])
    assert 4 == stage.run().exit
    assert {HOSTS[0]} == {line.split("/")[0] for line in stage.effects()}


# -- run_once
def test_run_once(tmp_path: Path) -> None:
    """A step that is run once is done by one host of each batch, and all of them have its result."""
    stage = play(
        tmp_path,
        step("shared", {"x": 7}, run_once=True, register="it", thing={"shared": True}),
        step("w", {"x": "{{ it.x }}"}),
        hosts=HOSTS[:6],
        serial=3,
    )
    assert 0 == stage.run().exit
    assert 1 == sum(line.startswith("shared/") for line in stage.effects())
    assert 2 == sum(entry.step.endswith("/shared") for entry in stage.entries(kind="step.outcome"))
    assert all({"x": 7} == stage.thing("w", host) for host in HOSTS[:6])


def test_run_once_that_fails(tmp_path: Path) -> None:
    """When the one step fails, it has failed for every host of the batch."""
    stage = play(tmp_path, step("s", {"x": 7}, run_once=True, thing={"shared": True}), step("w", {"x": 1}), hosts=HOSTS[:3])
    stage.trouble("s", "shared", apply="breaks")
    assert 1 == stage.run().exit
    assert not stage.effects()


def test_run_once_and_keys(tmp_path: Path) -> None:
    """What one host did for all is not taken for somebody else's change by the others' gates."""
    stage = play(
        tmp_path,
        step("s", {"x": 7}, run_once=True, register="it", thing={"shared": True}),
        step("w", {"x": "{{ it.x }}"}),
        hosts=HOSTS[:5],
        authority=TWO_KEYS,
    ).people()
    stage.have("s", {"x": 1}, "shared")
    assert 5 == stage.run("--no-wait").exit
    stage.approve()
    assert 0 == stage.resume("--forks", "1").exit
    assert 1 == sum(line.startswith("shared/") for line in stage.effects())


# -- blocks
def test_recovered(tmp_path: Path) -> None:
    """A run saved by its own remedy says so: recovered, never plain success."""
    block = {"name": "B", "block": [step("w", {"x": 1})], "rescue": [step("r", {"x": 1})], "always": [step("z", {"x": 1})]}
    stage = play(tmp_path, block, step("after", {"x": 1}))
    stage.trouble("w", apply="gone")
    said = stage.run()
    assert 0 == said.exit
    assert "recovered" == stage.ended["outcome"]
    assert {"w": "unreachable", "r": "changed", "z": "changed", "after": "changed"} == stage.outcomes()
    assert "RECOVERED" in said.err


def test_clean_up_on_cancel(tmp_path: Path) -> None:
    """A cancel cuts the wait inside a block short, runs its clean-up, and begins nothing else, the remedy included."""
    block = {
        "name": "B",
        "block": [step("freeze", {"x": 1}), step("w", {"x": 1}, thing={"slow": 60}), step("never", {"x": 1})],
        "rescue": [step("r", {"x": 1})],
        "always": [step("thaw", {"x": 1})],
    }  # fmt: skip
    stage = play(tmp_path, block, step("after", {"x": 1}))
    began = time.monotonic()
    said = during(stage, lambda: stage.engine("cancel", "--because", "wrong service"), intended(stage, "w"))
    assert time.monotonic() - began < 30
    assert 1 == said.exit
    assert "cancelled" == stage.ended["outcome"]
    assert ["a/freeze", "a/thaw"] == [line.split()[0] for line in stage.effects()]
    assert 0 == stage.resume().exit
    assert ["a/freeze", "a/thaw"] == [line.split()[0] for line in stage.effects()], "a cancelled run is not taken up again"


def test_cancel_with_undo(tmp_path: Path) -> None:
    """A cancel with --undo puts back what was done, also where the undo has to wait for something."""
    stage = play(tmp_path, step("a", {"x": 1}), step("w", {"x": 1}, thing={"slow": 60}))
    stage.have("a", {"x": 0})
    said = during(stage, lambda: stage.engine("cancel", "--undo"), intended(stage, "w"))
    assert 1 == said.exit
    assert {"x": 0} == stage.thing("a")
    assert stage.thing("w") is None


def test_a_cancel_that_nobody_saw(tmp_path: Path) -> None:
    """A run that was killed before it saw the cancel is cancelled by who takes it up: its clean-up runs, nothing else."""
    block = {"name": "B", "block": [step("freeze", {"x": 1}), step("w", {"x": 1})], "always": [step("thaw", {"x": 1})]}
    stage = play(tmp_path, block, step("after", {"x": 1}))
    assert 130 == stage.run("--until", "freeze").exit
    with stage.store() as store:
        store.append("RB-0001", "cancel.asked", {"by": "ana", "why": "", "undo": False})
    assert 1 == stage.resume().exit
    assert "cancelled" == stage.ended["outcome"]
    assert ["a/freeze", "a/thaw"] == [line.split()[0] for line in stage.effects()]


def test_clean_up_follows_what_is_done_again(tmp_path: Path) -> None:
    """When a resume does a block's failed step again, the clean-up that had run before it runs after it too."""
    block = {"name": "B", "block": [step("drain", {"x": 1}, thing={"name": "gate"})], "always": [step("gate", {"x": 0})]}
    stage = play(tmp_path, block, step("after", {"x": 1}))
    stage.have("gate", {"x": 0})
    stage.trouble("gate", apply=["breaks", 1])
    assert 1 == stage.run().exit
    assert {"drain": "failed", "gate": "unchanged"} == stage.outcomes()
    assert 0 == stage.resume().exit
    assert {"x": 0} == stage.thing("gate"), "it is not left drained"


def test_a_remedy_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    """A failure whose remedy comes next is remedied on resume, and not tried again."""
    block = {"name": "B", "block": [step("w", {"x": 1})], "rescue": [step("r", {"x": 1}), step("r2", {"x": 1})]}
    stage = play(tmp_path, block)
    stage.trouble("w", apply="breaks")
    assert 130 == stage.run("--until", "r").exit
    stage.trouble("w")
    assert 0 == stage.resume().exit
    assert "recovered" == stage.ended["outcome"]
    assert ["a/r", "a/r2"] == [line.split()[0] for line in stage.effects()]


# -- verification that fails
@pytest.mark.parametrize(("wish", "code", "outcome", "left"), [
    (None, 4, "held", 1), ("hold", 4, "held", 1), ("undo", 1, "undone", 0)
])  # fmt: skip
def test_not_verified(tmp_path: Path, wish: str | None, code: int, outcome: str, left: int) -> None:
    """What is not verified is held, loudly, or put back: as the playbook says, and nothing reports success."""
    checks: Any = [look("w", {"x": 2})]
    stage = play(tmp_path, step("w", {"x": 1}), verification={"on_failure": wish, "steps": checks} if wish else checks)
    stage.have("w", {"x": 0})
    assert code == stage.run().exit
    assert outcome == stage.ended["outcome"]
    assert {"x": left} == stage.thing("w")


def test_held_is_verified_again(tmp_path: Path) -> None:
    """Resume looks again at what was held, and repeats no change."""
    stage = play(tmp_path, step("w", {"x": 1}), verification=[look("other", {"ok": True})])
    assert 4 == stage.run().exit
    stage.have("other", {"ok": True})
    assert 0 == stage.resume().exit
    assert 1 == len(stage.effects())


NEXT = [
    {
        "name": "Choose",
        "id": "choose",
        "register": "target",
        "last_good": {"of": "thing", "with": {"name": "model", "fields": {}}},
    },
    step("model", {"version": "{{ target.version }}"}),
    {
        "name": "Each",
        "id": "each",
        "loop": ["p", "q"],
        "thing": {"name": "{{ item }}", "fields": {"of": "{{ target.version }}"}},
    },
]


@pytest.mark.parametrize(("good", "code", "tried"), [("v2", 0, ["v2"]), ("v1", 0, ["v2", "v1"]), ("v0", 1, ["v2", "v1"])])
def test_next_candidate(tmp_path: Path, good: str, code: int, tried: list[str]) -> None:
    """With `next` a version that is not verified is left for the next best one, loops included, until none is left."""
    stage = play(tmp_path, *NEXT, verification={"on_failure": "next", "steps": [look("model", {"version": good})]})
    stage.have("model", {"version": "v3"})
    assert code == stage.run().exit
    versions = [json.loads(line.partition(" ")[2]) for line in stage.effects() if line.startswith("a/model")]
    assert tried == [one["version"] for one in versions]
    assert {"of": tried[-1]} == stage.thing("q"), "a loop is done again for another candidate"
    assert 0 == stage.undo().exit
    assert {"version": "v3"} == stage.thing("model"), "undo goes back to before the first candidate"


def test_next_candidate_after_a_crash(tmp_path: Path) -> None:
    """A run that stopped between two candidates goes on with the next one."""
    stage = play(tmp_path, *NEXT, verification={"on_failure": "next", "steps": [look("model", {"version": "v1"})]})
    stage.have("model", {"version": "v3"})
    assert 130 == stage.run("--until", "see_model").exit
    assert {"version": "v2"} == stage.thing("model")
    assert 0 == stage.resume().exit
    assert {"version": "v1"} == stage.thing("model")
    assert 0 == stage.undo().exit
    assert {"version": "v3"} == stage.thing("model")


# -- keys and drift
def keyed(tmp_path: Path, *steps: dict[str, Any], **more: Any) -> Stage:
    """A stage whose run waits for two keys."""
    return play(tmp_path, *steps, authority=TWO_KEYS, **more).people()


def test_keys_open_the_gate(tmp_path: Path) -> None:
    """Nothing is changed before both keys are there; evidence is kept meanwhile."""
    stage = keyed(tmp_path, step("w", {"x": 1}), forensics=[step("keep", {"x": 1})])
    assert 5 == stage.run("--no-wait").exit
    assert ["a/keep"] == [line.split()[0] for line in stage.effects()]
    stage.approve("ana")
    assert 5 == stage.resume("--no-wait").exit
    stage.approve("ben")
    assert 0 == stage.resume().exit
    assert 1 == len(stage.entries(kind="key.asked")), "nobody is asked twice"
    assert ["a/keep", "a/w"] == [line.split()[0] for line in stage.effects()]


def test_keys_while_it_waits(tmp_path: Path) -> None:
    """A run that waits goes on by itself when the last key is given elsewhere."""
    stage = keyed(tmp_path, step("w", {"x": 1}))
    said = during(stage, stage.approve, lambda: any(entry.kind == "key.asked" for entry in _entries(stage)))
    assert 0 == said.exit
    assert {"x": 1} == stage.thing("w")


def test_rejected(tmp_path: Path) -> None:
    """One no ends the run with exit 6: nothing is changed, and a block of forensics is still cleaned up."""
    block = {"name": "B", "block": [step("freeze", {"x": 1}), step("keep", {"x": 1})], "always": [step("thaw", {"x": 1})]}
    stage = keyed(tmp_path, step("w", {"x": 1}), forensics=[block])
    assert 5 == stage.run("--no-wait").exit
    assert 0 == stage.engine("reject", "RB-0001", "--key", str(tmp_path / "ana"), "--because", "no").exit
    assert 6 == stage.resume().exit
    assert ["a/freeze", "a/keep", "a/thaw"] == [line.split()[0] for line in stage.effects()]
    assert 0 == stage.resume().exit
    assert stage.thing("w") is None
    assert "rejected" == stage.ended["outcome"]


def test_expired(tmp_path: Path) -> None:
    """A question that lapses never means go."""
    stage = keyed(tmp_path, step("w", {"x": 1}))
    book = json.loads(stage.playbook.read_text())
    stage.write({**book, "authority": {**TWO_KEYS, "expires": "50ms"}})
    assert 6 == stage.run().exit
    assert "expired" == stage.ended["outcome"]
    assert not stage.effects()


@pytest.mark.parametrize("moved", [{"x": 5}, None])
def test_drift_before_the_gate(tmp_path: Path, moved: Any) -> None:
    """When the world has moved since the keys were given, the run ends with exit 7, names what, and changes nothing."""
    stage = keyed(tmp_path, step("first", {"x": 1}), step("w", {"x": 1}))
    stage.have("w", {"x": 0})
    assert 5 == stage.run("--no-wait").exit
    stage.approve()
    stage.have("w", moved)
    said = stage.resume()
    assert 7 == said.exit
    assert "drifted" == stage.ended["outcome"]
    found = "5 -> 1" if moved else "absent -> 1"
    assert f"moved since the keys were given: approved x 0 -> 1, now x {found}" in stage.last("w")["why"]
    assert not stage.effects()
    stage.have("w", {"x": 0})
    assert 0 == stage.resume().exit, "put back as it was, it goes on under the same keys"


def test_drift_between_steps(tmp_path: Path) -> None:
    """What no longer leads to the approved state is stopped at its own step."""
    stage = keyed(tmp_path, {**look("wish"), "register": "wish"}, step("w", {"x": "{{ wish.value.x }}"}))
    stage.have("wish", {"x": 1})
    assert 5 == stage.run("--no-wait").exit
    stage.approve()
    stage.have("wish", {"x": 9})
    assert 7 == stage.resume().exit
    assert stage.thing("w") is None


def test_what_is_set_and_reset_is_approved_as_a_whole(tmp_path: Path) -> None:
    """A step that only undoes what an earlier one did shows nothing to change in the plan, and is approved all the same."""
    stage = keyed(tmp_path, step("off", {"weight": 0}, thing={"name": "gate"}), step("gate", {"weight": 100}))
    stage.have("gate", {"weight": 100})
    assert 5 == stage.run("--no-wait").exit
    stage.approve()
    assert 0 == stage.resume().exit
    assert ['a/gate {"weight": 0}', 'a/gate {"weight": 100}'] == stage.effects()


def test_a_remedy_is_approved_with_the_plan(tmp_path: Path) -> None:
    """A remedy that sets back what the failed block had set is no drift."""
    block = {
        "name": "B",
        "block": [step("on", {"x": 1}, thing={"name": "flag"}), step("w", {"x": 1})],
        "rescue": [step("flag", {"x": 0})],
    }  # fmt: skip
    stage = keyed(tmp_path, block)
    stage.have("flag", {"x": 0})
    stage.trouble("w", apply="breaks")
    assert 5 == stage.run("--no-wait").exit
    stage.approve()
    assert 0 == stage.resume().exit
    assert "recovered" == stage.ended["outcome"]
    assert {"x": 0} == stage.thing("flag")


def test_two_steps_of_one_thing_are_no_drift(tmp_path: Path) -> None:
    """A step finds done what an earlier one of the same run did; with keys that is as little a surprise as without."""
    stage = keyed(tmp_path, step("w", {"x": 1}), step("again", {"x": 1, "y": 1}, thing={"name": "w"}))
    stage.have("w", {"x": 0, "y": 0})
    assert 5 == stage.run("--no-wait").exit
    stage.approve()
    assert 0 == stage.resume().exit


def test_no_log_and_keys(tmp_path: Path) -> None:
    """A step with `no_log` is approved by the digest of its change, and compared by it."""
    stage = keyed(tmp_path, step("w", {"x": 1}, no_log=True), step("v", {"x": 1}))
    assert 5 == stage.run("--no-wait").exit
    stage.approve()
    assert 0 == stage.resume().exit
    assert {"w": "changed", "v": "changed"} == stage.outcomes()


# -- resume
def test_resume_repeats_nothing(tmp_path: Path) -> None:
    """After a failure only what did not end well is done; results of earlier steps are kept."""
    stage = play(tmp_path, step("a", {"x": 1}, register="one"), step("b", {"x": "{{ one.x }}"}), step("c", {"x": 1}))
    stage.trouble("b", apply="breaks")
    assert 1 == stage.run().exit
    stage.have("a", {"x": 5})  # somebody else, in the meantime
    stage.trouble("b")
    said = stage.resume()
    assert 0 == said.exit
    assert {"x": 5} == stage.thing("a"), "what ended well is not done again"
    assert {"x": 1} == stage.thing("b"), "with the result that was recorded"
    assert "keep 1 steps" in said.text


def test_resume_of_a_loop(tmp_path: Path) -> None:
    """Items that ended well are kept; the loop goes on with the one that did not."""
    each = {"name": "Each", "id": "each", "loop": ["p", "q", "r"], "thing": {"name": "{{ item }}", "fields": {"x": 1}}}
    stage = play(tmp_path, each)
    stage.trouble("q", apply="breaks")
    assert 1 == stage.run().exit
    stage.trouble("q")
    stage.have("p", {"x": 7})
    assert 0 == stage.resume().exit
    assert ['a/p {"x": 1}', 'a/q {"x": 1}', 'a/r {"x": 1}'] == stage.effects()


def test_resume_after_a_crash_in_class_d(tmp_path: Path) -> None:
    """What cannot be read back is never done twice by itself: a person says whether it was done, and that is on record."""
    for answer, effects in (("done", 1), ("not-done", 2)):
        stage = play(tmp_path / answer, step("w", {"x": 1}, thing={"crash": "D"}), step("v", {"x": 1}))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("engine.calling.Caller.compare", _cut_off_at(2))
            with pytest.raises(SystemError):
                stage.engine("--debug", "run", str(stage.playbook), "-i", str(stage.stock))
        for receipt in stage.state.rglob("thing-*"):
            receipt.unlink()
        said = stage.resume()
        assert 1 == said.exit
        assert "uncertain" == stage.outcomes()["w"]
        assert "next: engine resolve RB-0001 a:w" in said.text
        assert 1 == stage.resume().exit, "nobody guesses, however often it is asked"
        assert 1 == len(stage.effects())
        settled = stage.engine("resolve", "RB-0001", "a:w", "--as", answer, "--because", "I looked")
        assert 0 == settled.exit
        assert "next: engine resume RB-0001" in settled.text
        assert 0 == stage.resume().exit
        assert effects + 1 == len(stage.effects())
        assert ("waived" if answer == "done" else "changed") == stage.outcomes()["w"]


def test_what_nobody_can_read_is_not_done_twice(tmp_path: Path) -> None:
    """What a resume does anew is followed by what follows it, but for steps and items of which nothing shows that they were
    done: the record does."""
    each = {"name": "e", "id": "e", "loop": ["p", "q"], "thing": {"name": "{{ item }}", "fields": {"x": 1}, "crash": "D"}}
    clean = [step("w", {"x": 1}, thing={"crash": "D"}), step("v", {"x": 1}), each]
    stage = play(tmp_path, {"name": "B", "block": [step("body", {"x": 1})], "always": clean})
    stage.trouble("body", apply="breaks")
    stage.trouble("q", apply="breaks")
    assert 1 == stage.run().exit
    for receipt in stage.state.rglob("thing-*"):
        receipt.unlink()
    stage.have("v", {"x": 2})
    stage.trouble("body")
    stage.trouble("q")
    assert 0 == stage.resume().exit
    assert 1 == stage.effects().count('a/w {"x": 1}')
    assert 2 == stage.effects().count('a/v {"x": 1}'), "what can be read is looked at again, and was not as it should be"
    assert ['a/p {"x": 1}', 'a/q {"x": 1}'] == [line for line in stage.effects() if line[2] in "pq"]


def test_a_blind_step_that_cannot_be_looked_at_stays_uncertain(tmp_path: Path) -> None:
    """Cut off in a blind step, a resume that finds the host silent makes no failure of it, to be tried again."""
    stage = play(tmp_path, step("w", {"x": 1}, thing={"crash": "D"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.calling.Caller.compare", _cut_off_at(2))
        with pytest.raises(SystemError):
            stage.engine("--debug", "run", str(stage.playbook), "-i", str(stage.stock))
    for receipt in stage.state.rglob("thing-*"):
        receipt.unlink()
    stage.trouble("w", read="unreachable")
    assert 1 == stage.resume().exit
    assert "uncertain" == stage.outcomes()["w"]
    assert "it could not be looked at: w does not answer" in stage.last("w")["why"]
    stage.trouble("w")
    assert "next: engine resolve RB-0001 a:w" in stage.resume().text
    assert 1 == len(stage.effects())


@pytest.mark.parametrize("cancelled", [False, True])
def test_an_undo_that_was_cut_off_only_goes_on(tmp_path: Path, cancelled: bool) -> None:
    """A host that had begun to be put back is not walked again by a resume: nothing is done anew to be put back again."""
    block = {"name": "B", "block": [step("body", {"x": 1})], "always": [step("tidy", {"x": 1})]}
    waits = step("waits", {"x": 1}, needs=[], thing={"slow": 30})
    last = waits if cancelled else step("last", {"x": 1}, on_failure="undo", needs=["tidy"])
    told = {"name": "Tell", "on": ["ended"], "notify": {"to": "desk", "message": "x is {{ one.x }}"}}
    steps = [step("first", {"x": 1}, register="one"), block, last]
    stage = play(tmp_path, *steps, communications=[told])
    stage.trouble("body", apply="breaks")
    stage.trouble("last", apply="breaks")

    def run() -> Said:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("engine.undo._foreign", _cut_off)
            with pytest.raises(SystemError):
                return stage.engine("--debug", "run", str(stage.playbook), "-i", str(stage.stock))
        return Said(0, "", "")

    def ask() -> None:
        with stage.store() as store:
            store.append("RB-0001", "cancel.asked", {"by": "ana", "why": "", "undo": True})

    if cancelled:
        during(stage, ask, lambda: stage.thing("tidy") is not None, run)
    else:
        run()
    assert stage.thing("tidy") == {"x": 1}, "it was about to be put back"
    stage.trouble("body")
    assert 1 == stage.resume().exit
    assert ("cancelled" if cancelled else "undone") == stage.ended["outcome"]
    assert ['a/first {"x": 1}', 'a/tidy {"x": 1}', "a/tidy null", "a/first null"] == stage.effects()
    assert ["x is 1"] == [message["message"] for message in stage.messages()], "what a step had registered can still be told"


def _cut_off(*_given: Any) -> str:
    raise SystemError("killed")


def _cut_off_at(call: int) -> Any:
    """A look at the world that ends the process, as a kill would, at its n-th call."""
    from engine import calling

    calls, real = iter(range(1, 99)), calling.Caller.compare

    def compare(*given: Any) -> Any:
        if next(calls) == call:
            raise SystemError("killed")
        return real(*given)

    return compare


@pytest.mark.parametrize("what", ["playbook", "import", "module", "variable", "host", "gone"])
def test_resume_refuses_what_is_not_as_it_was(tmp_path: Path, what: str) -> None:
    """A changed playbook, imported file, module, variable or inventory is refused by its name with exit 7."""
    stage = play(tmp_path, {"import": "steps/more.yml"}, step("w", {"x": "{{ colour }}"}), hosts=["a", "b"])
    (stage.base / "steps").mkdir()
    (stage.base / "steps" / "more.yml").write_text(json.dumps([step("v", {"x": 1})]))
    stage.inventory({"colour": "red"})
    for host in "ab":
        stage.trouble("w", host, apply="breaks")
    assert 1 == stage.run().exit
    if what == "playbook":
        stage.playbook.write_text(stage.playbook.read_text() + "\n# edited")
        named = "play.yml"
    elif what == "import":
        (stage.base / "steps" / "more.yml").unlink()
        named = "steps/more.yml"
    elif what == "module":
        module = stage.base / "modules" / "thing.py"
        module.write_text(module.read_text() + "\n# edited")
        named = "the module `thing`"
    elif what == "variable":
        stage.inventory({"colour": "blue"})
        named = "the inventory variable `colour` of a"
    elif what == "host":
        stage.host_vars.pop("b")
        stage.inventory({"colour": "red"})
        named = "the host b is no longer in the inventory"
    else:
        (stage.stock / "hosts.yml").unlink()
        named = str(stage.stock)
    before = stage.entries()
    said = stage.resume()
    assert 7 == said.exit
    assert named in said.text
    assert before == stage.entries(), "a refusal leaves no trace"


def test_resume_without_a_changed_comment_in_a_module_that_is_not_used(tmp_path: Path) -> None:
    """Only what the run uses counts: another module of the folder may be edited."""
    stage = play(tmp_path, step("w", {"x": 1}))
    stage.trouble("w", apply="breaks")
    assert 1 == stage.run().exit
    module = stage.base / "modules" / "look.py"
    module.write_text(module.read_text() + "\n# edited")
    stage.trouble("w")
    assert 0 == stage.resume().exit


def test_no_log_with_a_result_is_read_again(tmp_path: Path) -> None:
    """What was kept as a digest only is read again on resume, for the steps that need it; nothing else is repeated."""
    stage = play(
        tmp_path,
        step("a", {"x": 1}, no_log=True, register="one"),
        step("b", {"x": 1}),
        step("c", {"x": "{{ one.x }}"}),
    )
    stage.trouble("c", apply="breaks")
    assert 1 == stage.run().exit
    stage.trouble("c")
    stage.have("b", {"x": 5})
    assert 0 == stage.resume().exit
    assert {"x": 5} == stage.thing("b")
    assert 3 == len(stage.effects())


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    """Resume of a run that has ended well does nothing, and notes about it change nothing in that."""
    stage = play(tmp_path, step("w", {"x": 1}), communications=[MESSAGE])
    assert 0 == stage.run().exit
    assert 0 == stage.engine("note", "RB-0001", "all is well").exit
    stage.have("w", {"x": 0})
    count = len(stage.entries())
    said = stage.resume()
    assert 0 == said.exit
    assert "There is nothing to do" in said.text
    assert count == len(stage.entries())
    assert gc.isenabled(), "what was stopped to read faster goes on"


MESSAGE = {
    "name": "Tell",
    "on": ["started", "succeeded", "failed", "ended"],
    "notify": {"to": "desk", "message": "{{ run.summary }}"},
}


# -- check mode, tags, until, step
def test_check_changes_nothing(tmp_path: Path) -> None:
    """--check walks the whole path, says what would be changed, and asks nobody for a key."""
    stage = keyed(
        tmp_path, step("w", {"x": 1}), step("v", {"x": 1}), forensics=[step("keep", {"x": 1})], communications=[MESSAGE]
    )
    said = stage.run("--check", "--diff")
    assert 0 == said.exit
    assert not stage.effects()
    assert not stage.messages()
    assert "check mode, would change x absent -> 1" == stage.last("w")["why"]
    assert not stage.entries(kind="step.intent")
    assert not stage.entries(kind="key.asked")


@pytest.mark.parametrize(("words", "done"), [
    (["--tags", "fast"], ["fast", "always"]), (["--skip-tags", "fast"], ["plain", "always"]),
    (["--tags", "all", "--skip-tags", "always"], ["fast", "plain"]), (["--tags", "untagged"], ["plain", "always"]),
    (["--tags", "slow"], ["never", "always"]),
])  # fmt: skip
def test_tags(tmp_path: Path, words: list[str], done: list[str]) -> None:
    """--tags and --skip-tags choose steps as in Ansible; evidence is always kept."""
    stage = play(
        tmp_path,
        step("fast", {"x": 1}, tags=["fast"]),
        step("plain", {"x": 1}),
        step("never", {"x": 1}, tags=["never", "slow"]),
        step("always", {"x": 1}, tags=["always"]),
        forensics=[step("keep", {"x": 1})],
    )
    assert 0 == stage.run(*words).exit
    assert ["keep", *done] == [line.split()[0].partition("/")[2] for line in stage.effects()]


def test_until_stops_after_the_step(tmp_path: Path) -> None:
    """--until ends the run after that step, resumably."""
    stage = play(tmp_path, step("a", {"x": 1}), step("b", {"x": 1}), step("c", {"x": 1}))
    assert 130 == stage.run("--until", "b").exit
    assert ["a/a", "a/b"] == [line.split()[0] for line in stage.effects()]
    assert 0 == stage.resume().exit
    assert 3 == len(stage.effects())


def test_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--step asks before every step of execution; no, and nobody there to ask, end the run resumably."""
    answers = iter([True, False])
    stage = play(tmp_path, step("a", {"x": 1}), step("b", {"x": 1}))
    monkeypatch.setattr("click.confirm", lambda *_a, **_k: next(answers))
    assert 130 == stage.run("--step").exit
    assert ["a/a"] == [line.split()[0] for line in stage.effects()]
    monkeypatch.undo()
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert 130 == stage.run("--step").exit, "at the end of the input"
    assert 0 == stage.resume("RB-0001").exit


# -- Ctrl-C
def test_ctrl_c(tmp_path: Path) -> None:
    """Ctrl-C cuts a wait short at once and ends with 130; resume goes on where it was."""
    stage = play(tmp_path, step("a", {"x": 1}), step("w", {"x": 1}, thing={"slow": 0.5}, timeout="2m"), step("z", {"x": 1}))
    pressed: list[float] = []

    def press() -> None:
        pressed.append(time.monotonic())
        signal.raise_signal(signal.SIGINT)

    slow = stage.playbook.read_text().replace("0.5", "60")
    stage.playbook.write_text(slow)
    said = during(stage, press, intended(stage, "w"))
    assert time.monotonic() - pressed[0] < 5
    assert 130 == said.exit
    assert "stopping at the next safe point" in said.text
    assert "engine resume RB-0001" in said.text
    assert "run.interrupted" == stage.entries()[-1].kind
    assert ["a/a"] == [line.split()[0] for line in stage.effects()]
    (stage.base / "modules" / "thing.py").touch()
    said = during(
        stage, press, lambda: False if not intended(stage, "w")() else len(stage.bodies("step.intent")) > 2, stage.resume
    )
    assert 130 == said.exit
    assert ["a/a"] == [line.split()[0] for line in stage.effects()], "looked at first, and stopped again"


def test_a_stop_in_the_middle_of_a_change_is_no_failure(tmp_path: Path) -> None:
    """A change that Ctrl-C cuts short is neither failed nor remedied: it goes on when the run is taken up again."""
    block = {"name": "B", "block": [step("w", {"x": 1}, thing={"slow": 60})], "rescue": [step("r", {"x": 1})]}
    stage = play(tmp_path, block)
    said = during(stage, lambda: signal.raise_signal(signal.SIGINT), intended(stage, "w"))
    assert 130 == said.exit
    assert {} == stage.outcomes()
    assert not stage.effects()
