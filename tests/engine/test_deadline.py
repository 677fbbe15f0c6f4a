"""The deadline of a whole run: nothing new begins, waits are cut short, clean-up runs, and the end says why."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import books
import pytest
from fleet import Fleet, check, thing
from stage import TWO_KEYS, Stage, step

from engine import budget
from engine.diagnostics import Diagnostic, Exit


class Clock:
    """The run's clock: as it is, and further on when somebody says so."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead

    def passes(self, seconds: float = 3600.0) -> None:
        self.ahead += seconds


def sleeps(clock: Clock) -> Any:
    """A trouble: the change waits for very long, in the way in which a module should, and meanwhile the time passes."""

    def act(word: str, ctx: Any) -> None:
        if word == "apply":
            clock.passes()
            ctx.sleep(120)

    return act


BLOCK = {
    "name": "B",
    "block": [thing("drain"), thing("load"), thing("warm")],
    "rescue": [thing("mend")],
    "always": [thing("open_again")],
}


def test_nothing_new_begins_and_clean_up_runs(tmp_path: Path) -> None:
    """At the deadline the wait inside a step is cut short, its block cleans up, no other step and no other host begins."""
    fleet, clock = Fleet(tmp_path, {"execution": [BLOCK, thing("after")], "serial": 1, "deadline": "1h"}, 3), Clock()
    fleet.things.trouble["h001", "load"] = sleeps(clock)
    began = time.monotonic()
    assert Exit.FAILED == fleet.run(now=clock, deadline=clock() + 1800)
    assert time.monotonic() - began < 60
    assert {"h000": 5, "h001": 2} == dict(fleet.things.effects), "h001: drained, and opened again"
    assert {"h000": "changed", "h001": "changed"} == fleet.outcomes("open_again")
    assert {"h000"} == set(fleet.outcomes("after"))
    assert "failed" == fleet.ended["outcome"]
    assert "deadline" == fleet.ended["cause"]
    assert fleet.ended["why"].startswith("the deadline passed at 20")
    assert fleet.ended["why"].endswith("Z: 2 of 3 hosts are not through")


def test_a_retry_is_not_waited_for(tmp_path: Path) -> None:
    """The pause between two tries ends with the run's time, and there is no other try."""
    fleet, clock = (
        Fleet(tmp_path, {"execution": [thing("w", retries=5, delay="1m", timeout="30m")], "deadline": "1h"}),
        Clock(),
    )
    tries = []

    def act(word: str, _ctx: Any) -> None:
        if word == "apply":
            tries.append(clock.passes())
            raise ZeroDivisionError

    fleet.things.trouble["h000", "w"] = act
    assert Exit.FAILED == fleet.run(now=clock, deadline=clock() + 1800)
    assert 1 == len(tries)
    assert fleet.ended["why"].endswith("the host is not through")


def test_who_is_through_has_not_failed(tmp_path: Path) -> None:
    """A deadline that passes while the last step of the last host ends well cuts nobody short."""
    sections = {"execution": [thing("w")], "verification": [check("w")], "deadline": "1h"}
    fleet, clock = Fleet(tmp_path, sections), Clock()
    seen = []

    def act(word: str, _ctx: Any) -> None:
        seen.append(word)
        if seen.count("read") == 3:  # the check
            clock.passes()

    fleet.things.trouble["h000", "w"] = act
    assert Exit.DONE == fleet.run(now=clock, deadline=clock() + 1800)
    assert "succeeded" == fleet.ended["outcome"]
    assert "cause" not in fleet.ended


def test_a_hung_call_is_left_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that does not look whether the run is being stopped is left behind a bounded time after the deadline."""
    monkeypatch.setattr("engine.runner.PATIENCE", 0.2)
    monkeypatch.setattr("engine.calling.LATE", 0.2)
    fleet, clock = Fleet(tmp_path, {"execution": [thing("w", timeout="1h"), thing("v")], "deadline": "1h"}, 2), Clock()

    def act(word: str, _ctx: Any) -> None:
        if word == "apply":
            clock.passes()
            time.sleep(20)

    fleet.things.trouble["h001", "w"] = act
    began = time.monotonic()
    assert Exit.FAILED == fleet.run(forks=2, now=clock, deadline=clock() + 1800)
    assert time.monotonic() - began < 15
    assert "uncertain" == fleet.outcomes("w")["h001"]


def test_a_run_that_was_killed_cleans_up_after_its_deadline(tmp_path: Path) -> None:
    """Taken up after its time was up, a run does nothing but clean up what it had begun, the cut step's block included."""
    fleet, clock = Fleet(tmp_path, {"execution": [BLOCK], "deadline": "1h"}, 2), Clock()

    def stops(word: str, ctx: Any) -> None:
        if word == "apply":
            run.stop("interrupted")
            ctx.sleep(60)

    fleet.things.trouble["h000", "drain"] = stops
    fleet.begin()
    run = fleet.made(1, now=clock, deadline=clock() + 1800)
    assert Exit.INTERRUPTED == run.go()
    fleet.store.unlock(fleet.run_id)
    assert {} == dict(fleet.things.effects)
    fleet.things.trouble.clear()
    clock.passes()
    assert Exit.FAILED == fleet.resume(now=clock, deadline=clock() - 1)
    assert {"h000": 1} == dict(fleet.things.effects), "opened again, though its first step was cut off; h001 never began"
    assert "deadline" == fleet.ended["cause"]


def test_more_time_is_on_record(tmp_path: Path) -> None:
    """A run that ended at its deadline says so; only more time, given by a person and on record, takes it up again."""
    steps = [step("w", {"x": 1}, retries=5, delay="1m", timeout="30m"), step("v", {"x": 1})]
    stage = Stage(tmp_path, {"execution": steps, "deadline": "1s"})
    stage.trouble("w", apply="breaks")
    said = stage.run()
    assert 1 == said.exit
    assert "FAILED: deadline passed" in said.text
    assert f"next: engine resume {stage.latest} --extend 30m" in said.text
    before = stage.entries()
    assert before[0].body["deadline"] == pytest.approx(before[0].at + 1, abs=30)
    said = stage.resume()
    assert 1 == said.exit
    assert "LG093" in said.text
    assert "has passed, and the run has ended" in said.text
    assert before == stage.entries(), "a refusal leaves no trace"
    assert 2 == stage.resume("--extend", "soon").exit
    stage.trouble("w")
    assert 0 == stage.resume("--extend", "30m").exit
    assert stage.bodies("run.resumed")[-1]["deadline"] > time.time() + 600
    assert ["a/w", "a/v"] == [line.split()[0] for line in stage.effects()]


def test_keys_are_for_a_plan_with_its_deadline(tmp_path: Path) -> None:
    """What two people have signed is not made longer by a third."""
    authority = {**TWO_KEYS, "expires": "500ms"}
    stage = Stage(tmp_path, {"execution": [step("w", {"x": 1})], "authority": authority, "deadline": "1h"}).people()
    assert 6 == stage.run().exit
    stage = Stage(tmp_path / "b", {"execution": [step("w", {"x": 1})], "authority": TWO_KEYS, "deadline": "1h"}).people()
    assert 5 == stage.run("--no-wait").exit
    said = stage.resume("--extend", "30m")
    assert 1 == said.exit
    assert "was part of what the keys were given for, and is not extended" in said.text
    assert "asks for new keys" in said.text


def test_a_run_without_a_deadline_has_none_to_extend(tmp_path: Path) -> None:
    """More time for a run that has no end is a mistake, and is said to be one."""
    stage = Stage(tmp_path, {"execution": [step("w", {"x": 1})]})
    stage.trouble("w", apply="breaks")
    assert 1 == stage.run().exit
    said = stage.resume("--extend", "30m")
    assert 2 == said.exit
    assert "has no deadline" in said.text


def test_the_plan_says_what_counts(tmp_path: Path) -> None:
    """The plan says how long the run may take, what counts, and what happens then; the run's header names the moment."""
    stage = Stage(tmp_path, {"execution": [step("w", {"x": 1})], "deadline": "2h"}, ["a", "b"])
    said = stage.plan()
    assert "2h after its start, waiting for keys and pauses included" in said.text
    assert budget.words(0, 2, [2]) in said.text
    assert 0 == stage.run().exit
    assert "of 2 hosts: none may fail" in stage.run().text


def test_a_question_must_not_outlive_the_run(tmp_path: Path) -> None:
    """A playbook whose run would end while it may still wait for keys is refused, the default of an hour counted."""
    for authority in (TWO_KEYS, {"mode": "one-click", "roles": ["ml-oncall"]}):
        stage = Stage(
            tmp_path / authority["mode"], {"execution": [step("w", {"x": 1})], "authority": authority, "deadline": "30m"}
        )
        said = stage.people().engine("validate", str(stage.playbook), "-i", str(stage.stock))
        assert 3 == said.exit
        assert "LG033" in said.text
        assert "the run would end while it may still wait for keys" in said.text


def test_plans_without_a_deadline_are_what_they_were(tmp_path: Path) -> None:
    """The keyword is not part of a plan that does not use it: the digest of such a plan has not moved."""
    plain = Fleet(tmp_path / "a", {"execution": [thing("w")]}, 2).plan
    timed = Fleet(tmp_path / "b", {"execution": [thing("w")], "deadline": "1h"}, 2).plan
    assert "deadline" not in json.dumps(plain.document())
    assert plain.digest != timed.digest, "the text is part of what is approved"


def test_no_time_at_all_is_refused(tmp_path: Path) -> None:
    """A deadline is longer than nothing and no longer than a week."""
    for text in ("0s", "8d"):
        found: list[Diagnostic] = []
        books.read({**books.book(), "deadline": text}, found=found)
        assert ["LG033"] == [one.code for one in found]
