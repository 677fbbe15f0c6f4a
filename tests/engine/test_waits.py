"""Whom a run waits on and for how long: in sentences, in lines, in the redrawn view, in `engine status`."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from stage import Stage, step, until

from engine import screen, standing, story
from engine.diagnostics import EngineError
from engine.journal import Entry
from engine.live import Lines, Live, frame
from engine.look import Style
from engine.story import Story

BEGAN = 1000.0


def told(began: Mapping[tuple[str, str], float], hosts: Sequence[str]) -> Story:
    """A run on these hosts in which these steps have begun so many seconds ago (at 1100)."""
    return story.tell(entries(began, hosts))


def entries(began: Mapping[tuple[str, str], float], hosts: Sequence[str]) -> list[Entry]:
    first = {"name": "A fleet", "hosts": list(hosts), "batches": [list(hosts)], "plan": {}}
    steps = [Entry("RB-0001", 0, 1100.0 - ago, "step.started", host, name, "{}") for (host, name), ago in began.items()]
    return [Entry("RB-0001", 1, BEGAN, "run.started", "", "", json.dumps(first)), *steps]


MANY = {(f"svc-{n:03}", "execution/serve"): ago for n, ago in ((7, 3), (41, 40), (90, 7), (207, 38), (300, 12))}


@pytest.mark.parametrize(("began", "hosts", "said"), [
    ({("a", "execution/serve"): 40}, ["a"], "waiting on execution/serve for 40 s"),
    ({("a", "execution/serve"): 125}, ["a", "b"], "waiting on a for 2m05s, at execution/serve"),
    (MANY, [f"svc-{n:03}" for n in range(500)],
     "waiting on svc-041 for 40 s, svc-207 for 38 s and 3 more, at execution/serve"),
    ({("a", "execution/x"): 9, ("b", "execution/y"): 30}, ["a", "b"],
     "waiting on b execution/y for 30 s, a execution/x for 9 s"),
    ({}, ["a"], ""),
])  # fmt: skip
def test_the_longest_first(began: Mapping[tuple[str, str], float], hosts: Sequence[str], said: str) -> None:
    """The longest waits are named first, by what tells them apart: the host, the step, or both."""
    assert said == standing.waiting_on(told(began, hosts), 1100.0)


def test_why_it_is_tried_again() -> None:
    """A step that waits between two tries says why."""
    one = told({("a", "execution/serve"): 40}, ["a"])
    body = json.dumps({"why": "it does not answer; try 2 of 4"})
    one.add(Entry("RB-0001", 0, 1090.0, "step.waiting", "a", "execution/serve", body))
    said = "waiting on execution/serve for 40 s (it does not answer; try 2 of 4)"
    assert said == standing.waiting_on(one, 1100.0)


def test_in_the_heartbeat() -> None:
    """Where nothing is redrawn, the line of every half minute says whom the run waits on, and for how long by then."""
    out, clock = io.StringIO(), [1100.0]
    view = Lines(out, Style(), lambda: clock[0])
    for entry in entries(MANY, [f"svc-{n:03}" for n in range(500)]):
        view.add(entry)
    view.drain()
    clock[0] = 1131.0
    view.tick(clock[0])
    assert "waiting on svc-041 for 1m11s, svc-207 for 1m09s and 3 more, at execution/serve" in out.getvalue()


def test_in_the_redrawn_view() -> None:
    """The live view names the longest waits above its last line, once they are worth a line."""
    one = told(MANY, [f"svc-{n:03}" for n in range(500)])
    lines = frame(one, 1100.0, Style(width=120), 40)
    assert " waiting on svc-041 for 40 s, svc-207 for 38 s and 2 more, at execution/serve" == lines[-2], "those over 5 s"
    assert not any("waiting on" in line for line in frame(told({("a", "execution/x"): 2}, ["a"]), 1100.0, Style(), 40))
    assert not Live(io.StringIO(), Style()).broken


def test_in_the_status() -> None:
    """`engine status` answers the question what the run waits for with names and times."""
    shown = screen.status(told(MANY, [f"svc-{n:03}" for n in range(500)]), 1100.0, Style(width=140), True)
    assert "waits for svc-041 for 40 s, svc-207 for 38 s and 3 more, at execution/serve" in " ".join(shown.split())


def _intents(stage: Stage) -> int:
    try:
        return len(stage.entries(kind="step.intent"))
    except EngineError:  # the store is only just being made
        return 0


def test_in_the_status_as_json(tmp_path: Path) -> None:
    """`engine status --json` lists the waits of a run that goes on in another process, the longest first."""
    stage = Stage(tmp_path, {"execution": [step("w", {"x": 1}, thing={"slow": 60}, timeout="2m")]}, ["a", "b"])
    with stage.process("run", str(stage.playbook), "-i", str(stage.stock)) as process:
        until(lambda: _intents(stage) == 2)
        said = stage.engine("status", "--json")
        found = json.loads(said.out or said.err)
        stage.engine("cancel")
        process.communicate(timeout=60)
    assert {("a", "execution/w"), ("b", "execution/w")} == {(one["host"], one["step"]) for one in found["waiting_on"]}
    seconds = [one["seconds"] for one in found["waiting_on"]]
    assert sorted(seconds, reverse=True) == seconds
    assert [] == json.loads(stage.engine("status", "--json").out)["waiting_on"], "nothing goes on in a run that has ended"
