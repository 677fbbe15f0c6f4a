"""Modules that hang where no timeout reaches them: the step is recorded for what it is, the others go on, the run ends."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet import Fleet, check, thing
from stage import Stage, step, until
from terminal import Terminal

from engine.diagnostics import Exit


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are left behind soon after their time."""
    monkeypatch.setattr("engine.calling.LATE", 1.0)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What hung calls wait for; set when the test is over, so that no thread outlives it for long."""
    made = threading.Event()
    yield made
    made.set()


def hangs(release: threading.Event, in_: str, after: int = 0, does: Any = None) -> Any:
    """A trouble: the call of `in_` blocks, where the context's time does not reach it. `after`: so many go well first;
    `does` is done before it blocks."""
    count = itertools.count()

    def act(word: str, ctx: Any) -> None:
        if word == in_ and next(count) >= after:
            if does:
                does(ctx)
            release.wait(120)

    return act


def spins(word: str, _ctx: Any) -> None:
    """A trouble: reading computes for ever."""
    while word == "read":
        sum(range(1000))


def test_a_reading_that_hangs(tmp_path: Path, release: threading.Event) -> None:
    """A step whose reading never comes back has timed out; nothing was changed, the other hosts are through."""
    fleet = Fleet(tmp_path, {"execution": [thing("w", timeout="200ms"), thing("v")], "max_failed": 1}, 4)
    fleet.things.trouble["h001", "w"] = hangs(release, "read")
    assert Exit.FAILED == fleet.run(forks=2)
    assert {"h000": "changed", "h001": "timed_out", "h002": "changed", "h003": "changed"} == fleet.outcomes("w")
    assert {"h000", "h002", "h003"} == set(fleet.outcomes("v"))
    [why] = [e.body["why"] for e in fleet.entries("step.outcome") if e.body["outcome"] == "timed_out"]
    assert "the call has not come back for" in why
    assert 0 == fleet.things.effects["h001"]


def test_a_module_that_computes_for_ever(tmp_path: Path) -> None:
    """A loop without an end is left as well, and does not keep the interpreter from the others."""
    fleet = Fleet(tmp_path, {"execution": [thing("w", timeout="2s")], "max_failed": 1}, 3)
    fleet.things.trouble["h001", "w"] = spins
    assert Exit.FAILED == fleet.run(forks=3)
    assert {"h000": "changed", "h001": "timed_out", "h002": "changed"} == fleet.outcomes("w")


def test_a_change_that_hangs_is_uncertain(tmp_path: Path, release: threading.Event) -> None:
    """A call that was to change something and is still out may yet take effect: nobody says failed, and nothing follows."""
    fleet = Fleet(tmp_path, {"execution": [thing("w", timeout="200ms"), thing("v")]})
    fleet.things.trouble["h000", "w"] = hangs(release, "apply")
    assert Exit.FAILED == fleet.run()
    assert {"h000": "uncertain"} == fleet.outcomes("w")
    why = fleet.entries("step.outcome")[-1].body["why"]
    assert "was left behind, and may still take effect" in why
    assert "value 0 -> 1 is not done so far" in why
    assert {} == fleet.outcomes("v")
    release.set()
    del fleet.things.trouble["h000", "w"]
    assert Exit.DONE == fleet.resume()
    assert fleet.things.effects["h000"] == 2, "w and v, once each"


def test_a_change_that_hangs_after_its_effect(tmp_path: Path, release: threading.Event) -> None:
    """When the second reading shows it done, the hung call is only a lost reply."""
    fleet = Fleet(tmp_path, {"execution": [thing("w", timeout="200ms")]})

    def does(ctx: Any) -> None:
        fleet.things.is_[ctx.host, "w"] = 1

    fleet.things.trouble["h000", "w"] = hangs(release, "apply", does=does)
    assert Exit.DONE == fleet.run()
    assert {"h000": "changed"} == fleet.outcomes("w")
    assert "the second reading shows it done" in fleet.entries("step.outcome")[-1].body["why"]


def test_a_second_reading_that_hangs(tmp_path: Path, release: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nobody can read what was done, nobody says that it was."""
    monkeypatch.setattr("engine.effect.GRACE", 0.1)
    fleet = Fleet(tmp_path, {"execution": [thing("w", timeout="200ms")]})
    fleet.things.trouble["h000", "w"] = hangs(release, "read", after=1)
    assert Exit.FAILED == fleet.run()
    assert {"h000": "uncertain"} == fleet.outcomes("w")
    assert 1 == fleet.things.effects["h000"]


def test_one_of_five_hundred(tmp_path: Path, release: threading.Event) -> None:
    """One service that hangs holds the other 499 up no longer than its own time: all are through, and only it is not."""
    sections = {"execution": [thing("w", timeout="3s"), thing("v")], "verification": [check("v")], "max_failed": 1}
    fleet = Fleet(tmp_path, sections, 500)
    began: list[float] = []
    fleet.things.trouble["h250", "w"] = hangs(release, "apply", does=lambda _: began.append(time.monotonic()))
    assert Exit.FAILED == fleet.run(forks=64)
    assert {"changed": 499, "uncertain": 1} == {
        word: list(fleet.outcomes("w").values()).count(word) for word in set(fleet.outcomes("w").values())
    }
    assert 499 == list(fleet.outcomes("see_v").values()).count("unchanged")
    assert "1 of 500 hosts failed, 1 may; 0 are not through" == fleet.ended["why"]
    assert all(2 == fleet.things.effects[name] for name in fleet.names if name != "h250")


def test_the_process_ends(tmp_path: Path) -> None:
    """The command ends with its own exit code, though a call is still out that nothing can interrupt."""
    stage = Stage(tmp_path, {"execution": [step("w", {"x": 1}, timeout="200ms")], "max_failed": 1}, ["a", "b"])
    stage.trouble("w", "a", read="stuck")
    process = stage.process("run", str(stage.playbook), "-i", str(stage.stock))
    out, err = process.communicate(timeout=50)
    assert 1 == process.returncode, out + err
    assert "timed_out" == stage.last("w", "a")["outcome"]
    assert ["b/w"] == [line.split()[0] for line in stage.effects()]


def test_a_hung_undo(tmp_path: Path, release: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """An undo that does not come back is recorded as failed, says that it may still take effect, and ends."""
    monkeypatch.setattr("engine.effect.GRACE", 0.1)
    fleet = Fleet(tmp_path, {"execution": [thing("w", timeout="200ms"), thing("v", on_failure="undo")]})
    fleet.things.trouble["h000", "w"] = hangs(release, "undo")

    def breaks(word: str, _ctx: Any) -> None:
        if word == "apply":
            raise ZeroDivisionError

    fleet.things.trouble["h000", "v"] = breaks
    assert Exit.FAILED == fleet.run()
    undone = fleet.entries("undo.outcome")[-1].body
    assert "failed" == undone["outcome"]
    assert "may still take effect" in undone["why"]


def test_one_of_two_hundred_as_typed(tmp_path: Path) -> None:
    """A service that hangs in a fleet's second batch: its batch goes on, everybody who looks is told whom the run waits on,
    and after its own time the next batches follow. Recap and status say who is not through, and a resume does only that."""
    names = [f"h{n:03}" for n in range(200)]
    sections = {"execution": [step("w", {"x": 1}, timeout="4s")], "serial": 50, "max_failed": 1}
    stage = Stage(tmp_path, sections, names)
    stage.trouble("w", "h077", read="stuck")
    soon = "from engine import calling, live; calling.LATE, live.SOON = 1.0, 1.0\n"
    with Terminal(stage, "run", str(stage.playbook), "-i", str(stage.stock), before=soon) as run:
        until(stage.beside("w.stuck", "h077").exists)
        until(lambda: 99 == len(stage.effects()))
        assert "waits for h077 for" in stage.engine("status").text
        run.shows("waiting on h077 for")
        assert [] == stage.effects("h100"), "the third batch waits for the second"
        assert Exit.FAILED == run.ends(), run.text
        told = run.text
    outcomes = {entry.host: entry for entry in stage.entries(kind="step.outcome")}
    assert {"h077": "timed_out"} == {n: e.body["outcome"] for n, e in outcomes.items() if e.body["outcome"] != "changed"}
    hung = outcomes["h077"]
    third = next(entry for entry in stage.entries(kind="batch.started") if entry.body["number"] == 3)
    assert third.seq > hung.seq
    assert third.at - hung.body["started"] < 10, "its four seconds, and one until it is left behind"
    for said in (told, stage.engine("status").text):
        assert "200: 199 changed, 1 timed_out (h077)" in said
    done = sorted(stage.effects())
    assert [f'{host}/w {{"x": 1}}' for host in names if host != "h077"] == done, "each of the others once"
    stage.trouble("w", "h077")
    assert Exit.DONE == stage.resume().exit
    assert 'h077/w {"x": 1}' == stage.effects()[-1]
    assert [f'{host}/w {{"x": 1}}' for host in names] == sorted(stage.effects())
