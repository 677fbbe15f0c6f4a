"""A fleet: the failure budget against a model that is written independently of the engine, many examples in memory."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fleet import BREAKS, GONE, LATE, Fleet, check, thing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stage import Stage, step, until

from engine.diagnostics import Exit
from engine.runner import Run
from engine.walk import Walk

#: How a host may end -> (what it counts for, the outcome of its step `w`).
ENDS = {
    "good": (0, "changed"), "breaks": (1, "failed"), "late": (1, "timed_out"), "gone": (1, "unreachable"),
    "drifted": (1, "failed"), "held": (1, "changed"),
}  # fmt: skip
CALM = settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder that costs no disk where the system has one: many runs, each with a store of its own."""
    shared = Path("/dev/shm")
    if not shared.is_dir():
        yield tmp_path
        return
    made = Path(tempfile.mkdtemp(prefix="fleet-", dir=shared))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@dataclass(frozen=True)
class Case:
    """How many hosts, at a time, may fail, and how each of them ends."""

    ends: list[str]
    serial: list[int | str]
    max_failed: int | str

    def sections(self) -> dict[str, Any]:
        sized = {"serial": self.serial} if self.serial else {}
        return {"execution": [thing("w")], "verification": [check("w")], "max_failed": self.max_failed, **sized}

    def fleet(self, memory: Path) -> Fleet:
        made = Fleet(Path(tempfile.mkdtemp(dir=memory)), self.sections(), len(self.ends))
        for name, end in zip(made.names, self.ends, strict=True):
            if end in ("breaks", "gone", "late"):
                made.things.trouble[name, "w"] = {"breaks": BREAKS, "gone": GONE, "late": LATE}[end]
            elif end == "held":
                made.things.trouble[name, "w"] = forgetful(made, name)
        return made


def forgetful(fleet: Fleet, host: str) -> Any:
    """A host that loses what was written as soon as the engine has seen it: its check is not met."""
    reads = iter(range(1000))

    def act(word: str, _ctx: Any) -> None:
        if word == "read" and fleet.things.effects[host] and next(reads) == 1:  # the second reading, and then the check
            fleet.things.is_[host, "w"] = 0

    return act


def approved(case: Case, fleet: Fleet) -> dict[tuple[str, str], Any]:
    """What keys were given for: what is there, but on hosts that have drifted since."""
    drifted = {name for name, end in zip(fleet.names, case.ends, strict=True) if end == "drifted"}
    return {
        (name, "execution/w"): {"grade": "exact", "change": [["value", 7, 1]] if name in drifted else [["value", 0, 1]]}
        for name in fleet.names
    }


# -- the model: what the playbook's text promises, worked out on paper
def tolerated(case: Case) -> int:
    count = len(case.ends)
    return int(case.max_failed[:-1]) * count // 100 if isinstance(case.max_failed, str) else case.max_failed


def batches(case: Case) -> list[range]:
    """The numbers of the hosts in each batch."""
    count, at, found = len(case.ends), 0, []
    sizes = [max(1, int(size[:-1]) * count // 100) if isinstance(size, str) else size for size in case.serial] or [count]
    while at < count:
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        found.append(range(at, min(at + size, count)))
        at += size
    return found


def reached(case: Case) -> int:
    """One host after the other: how many begin before the run stops."""
    bad = 0
    for number, end in enumerate(case.ends, 1):
        bad += ENDS[end][0]
        if bad > tolerated(case):
            return number
    return len(case.ends)


def verdict(ends: list[str], begun: int) -> tuple[str, Exit]:
    """The word for the run and its exit code, from the hosts that have begun."""
    seen = ends[:begun]
    if "drifted" in seen:
        return "drifted", Exit.STALE
    if {"breaks", "gone", "late"} & set(seen):
        return "failed", Exit.FAILED
    if "held" in seen:
        return "held", Exit.HELD
    return "succeeded", Exit.DONE


@st.composite
def cases(draw: st.DrawFn) -> Case:
    count = draw(st.integers(1, 14))
    ends = draw(st.lists(st.sampled_from([*ENDS, "good", "good", "good"]), min_size=count, max_size=count))
    size = st.integers(1, 6) | st.integers(0, 100).map(lambda n: f"{n}%")
    return Case(ends, draw(st.lists(size, max_size=3)), draw(st.integers(0, 5) | st.integers(0, 100).map(lambda n: f"{n}%")))


@CALM
@given(case=cases())
def test_the_budget_is_exact(memory: Path, case: Case) -> None:
    """One host at a time: the run stops exactly when one more has failed than may, whatever kind of failure it was."""
    fleet = case.fleet(memory)
    code = fleet.run(forks=1, approved=approved(case, fleet))
    begun = reached(case)
    outcome, exit_ = verdict(case.ends, begun)
    assert {name: ENDS[end][1] for name, end in zip(fleet.names[:begun], case.ends, strict=False)} == fleet.outcomes("w")
    assert {name for name, end in zip(fleet.names[:begun], case.ends, strict=False) if ENDS[end][1] == "changed"} == {
        name for name, count in fleet.things.effects.items() if count == 1
    }
    assert (outcome, exit_) == (fleet.ended["outcome"], code)
    assert set(fleet.names[:begun]) == {name for name, count in fleet.things.reads.items() if count}, "nobody else is read"
    fleet.close()


@settings(CALM, max_examples=60)
@given(case=cases(), forks=st.integers(2, 6))
def test_the_budget_side_by_side(memory: Path, case: Case, forks: int) -> None:
    """Side by side: no batch begins after the run has stopped, hosts under way finish, and nobody begins without need."""
    fleet = case.fleet(memory)
    code = fleet.run(forks=forks, approved=approved(case, fleet))
    bad_after = 0
    for batch in batches(case):
        begun = [n for n in batch if fleet.names[n] in fleet.outcomes("w")]
        if bad_after > tolerated(case):
            assert [] == begun, "a later batch"
            assert not any(fleet.things.reads[fleet.names[n]] for n in batch)
            continue
        bad = sum(ENDS[case.ends[n]][0] for n in begun)
        if len(begun) < len(batch):
            assert bad_after + bad > tolerated(case), "a host was left out without need"
        for n in begun:
            assert ENDS[case.ends[n]][1] == fleet.outcomes("w")[fleet.names[n]], "who has begun comes to an end"
        bad_after += bad
    begun_ends = [case.ends[n] for n, name in enumerate(fleet.names) if name in fleet.outcomes("w")]
    assert verdict(begun_ends, len(begun_ends)) == (fleet.ended["outcome"], code)
    assert all(count == 1 for count in fleet.things.effects.values())
    fleet.close()


def test_two_hundred_hosts(memory: Path) -> None:
    """Of two hundred hosts three may fail: the fourth failure stops the run, unreachable ones counted. The resume does the
    hosts that are not through and no others: those that succeeded are neither changed nor read."""
    sections = {"execution": [thing("w"), thing("v")], "verification": [check("v")], "serial": [1, 10], "max_failed": 3}
    fleet = Fleet(memory / "two-hundred", sections, 200)
    bad = {"h003": BREAKS, "h017": GONE, "h040": LATE, "h063": GONE, "h064": GONE}
    fleet.things.trouble |= {(host, "w"): trouble for host, trouble in bad.items()}
    assert Exit.FAILED == fleet.run(forks=1)
    assert "4 of 200 hosts failed, 3 may; 136 are not through" == fleet.ended["why"]
    assert 64 == len(fleet.outcomes("w"))
    assert 60 == sum(1 for count in fleet.things.effects.values() if count == 2)
    assert {} == {host: count for host, count in fleet.things.reads.items() if host > "h063"}
    done = {host: count for host, count in fleet.things.reads.items() if fleet.things.effects[host] == 2}
    fleet.things.trouble.clear()
    assert Exit.DONE == fleet.resume(forks=4)
    assert [2] * 200 == [fleet.things.effects[host] for host in fleet.names], "each change once on each host"
    assert done == {host: fleet.things.reads[host] for host in done}, "who was through is not read again"
    assert "succeeded" == fleet.ended["outcome"]
    fleet.close()


def test_two_hundred_hosts_as_typed(memory: Path) -> None:
    """The same with commands: what is asked for in the morning is exactly what was not done at night."""
    names = [f"h{n:03}" for n in range(200)]
    stage = Stage(memory / "typed", {"execution": [step("w", {"x": 1})], "serial": 10, "max_failed": 3}, names)
    for host in ("h003", "h017", "h040", "h063"):
        stage.trouble("w", host, **({"apply": "breaks"} if host == "h040" else {"read": "unreachable"}))
    said = stage.run()
    assert Exit.FAILED == said.exit
    assert (
        "max_failed 3 of 200 hosts: 3 may fail, the fourth stops the run; unreachable counts; batches 20 of 10" in said.text
    )
    done = len(stage.effects())
    assert 57 <= done <= 66, "what the last batch had begun comes to its end, the next does not begin"
    for host in ("h003", "h017", "h040", "h063"):
        stage.trouble("w", host)
    said = stage.resume()
    assert Exit.DONE == said.exit
    assert f"keep {done} steps that ended" in said.text
    assert [f'{host}/w {{"x": 1}}' for host in names] == sorted(stage.effects()), "each host once"


def test_a_host_that_was_put_back_stays_in_the_budget(tmp_path: Path) -> None:
    """Taking the run up does not forget it: the next batch stays as it is, and the run ends as it had ended."""
    bad = step("b", {"x": 1}, on_failure="undo")
    stage = Stage(tmp_path, {"serial": [1], "execution": [step("a", {"x": 1}), bad]}, ("h1", "h2"))
    stage.trouble("b", "h1", apply="breaks")
    assert 1 == stage.run().exit
    before = stage.effects()
    assert 1 == stage.resume().exit
    assert (before, [], "failed") == (stage.effects(), stage.effects("h2"), stage.ended["outcome"])


def test_a_host_let_through_its_gate_as_it_comes_to_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run waits for a host whose gate opens between its coming there and its being counted as at rest."""
    fleet = Fleet(tmp_path, {"execution": [thing("w")]}, 2)
    fleet.things.trouble["h001", "w"] = lambda word, _ctx: time.sleep(1.0) if word == "apply" else None
    rest, first = Run._rest, threading.Lock()

    def late(self: Run, walk: Walk) -> None:
        if walk.row.name == "h001" and first.acquire(blocking=False):
            while walk.parked:  # until the run has opened the gate
                time.sleep(0.001)
        rest(self, walk)

    monkeypatch.setattr(Run, "_rest", late)
    assert Exit.DONE == fleet.run(forks=4)
    assert {"h000": "changed", "h001": "changed"} == fleet.outcomes("w")
    assert {"h000": 1, "h001": 1} == dict(fleet.things.effects)


class Killed(BaseException):
    """The process ends here, as far as the run is concerned."""


@pytest.mark.parametrize(("crash", "ends"), [("B", Exit.DONE), ("D", Exit.FAILED)])
def test_what_is_done_once_is_taken_up_where_it_was_begun(tmp_path: Path, crash: str, ends: Exit) -> None:
    """A step with `run_once` that was cut off on one host is not begun afresh by another, whoever comes there first."""
    once = {**thing("w", run_once=True), "mem.thing": {"name": "w", "value": 1, "class": crash}}
    fleet = Fleet(tmp_path, {"execution": [thing("a"), once]}, 2)
    cut = threading.Event()

    def slow(word: str, _ctx: Any) -> None:
        if word == "apply":
            cut.wait(10)

    def kills(word: str, ctx: Any) -> None:
        if word == "apply":
            fleet.things.effects["w"] += 1
            if crash == "B":
                fleet.things.is_[ctx.host, "w"] = 1
            cut.set()
            raise Killed

    fleet.things.trouble |= {("h000", "a"): slow, ("h001", "w"): kills}
    with pytest.raises(Killed):
        fleet.run(forks=4)
    until(lambda: fleet.things.effects["h000"] == 1)
    fleet.store.unlock(fleet.run_id)
    fleet.things.trouble.clear()
    for _ in range(2):
        assert ends == fleet.resume(forks=4)
        assert {"h001": "changed" if crash == "B" else "uncertain"} == fleet.outcomes("w")
    assert ["h001"] == [entry.host for entry in fleet.entries("step.intent") if entry.step == "execution/w"]
    assert {"h000": 1, "h001": 1, "w": 1} == dict(fleet.things.effects)


@pytest.mark.parametrize("more", [{}, {"register": "w", "no_log": True}])
def test_what_follows_what_was_done_once_is_kept_by_those_who_took_its_result(tmp_path: Path, more: dict[str, Any]) -> None:
    """In a resume a host that had only taken the result has it still: what it did after that is not begun anew, and has
    changed something, as it had."""
    steps = [
        thing("w", run_once=True, **more),
        thing("a", register="a"),
        thing("b", when="a.changed"),
        thing("c", needs=["b"]),
    ]
    fleet = Fleet(tmp_path, {"execution": steps, "max_failed": 2}, 2)
    fleet.things.trouble |= {(host, "b"): BREAKS for host in ("h000", "h001")}
    assert Exit.FAILED == fleet.run()
    fleet.things.trouble.clear()
    assert Exit.DONE == fleet.resume()
    assert {"h000": "changed", "h001": "changed"} == fleet.outcomes("b") == fleet.outcomes("a")


def test_what_was_cut_off_is_looked_at_though_it_is_not_wanted_any_more(tmp_path: Path) -> None:
    """The condition of a step may read what the step itself has changed: an intent without an outcome is never skipped."""
    seen = check("w", 0, register="seen", no_log=True, on_failure="continue")  # not on record, so it is read again
    fleet = Fleet(tmp_path, {"execution": [seen, thing("w", when="seen.value == 0")]})

    def kills(word: str, ctx: Any) -> None:
        if word == "apply":
            fleet.things.is_[ctx.host, "w"] = 1
            raise Killed

    fleet.things.trouble["h000", "w"] = kills
    with pytest.raises(Killed):
        fleet.run()
    fleet.store.unlock(fleet.run_id)
    fleet.things.trouble.clear()
    assert Exit.DONE == fleet.resume()
    assert {"h000": "changed"} == fleet.outcomes("w")
    assert {} == dict(fleet.things.effects)
