"""What goes on in a run, worked out from its journal and the plan in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from engine import story, underway
from engine.journal import Entry
from engine.story import Story
from modules.contract import Json

#: section/id -> what it waits for, as `Plan.document` holds it: a block with a remedy and a clean-up, and more after it.
NODES = {
    "trigger": [],
    "trigger/alarm": ["trigger"],
    "forensics": ["trigger/alarm"],
    "forensics/keep_a": ["forensics"],
    "forensics/keep_b": ["forensics"],
    "execution": ["forensics/keep_a", "forensics/keep_b"],
    "execution/choose": ["execution"],
    "execution/load": ["execution/choose"],
    "execution/warm": ["execution/load"],
    "execution/move.rescue": ["execution/load", "execution/warm"],
    "execution/restart": ["execution/move.rescue"],
    "execution/look": ["execution/restart"],
    "execution/move.always": ["execution/load", "execution/warm", "execution/restart", "execution/look"],
    "execution/wait": ["execution/move.always"],
    "execution/move.end": ["execution/wait"],
    "execution/flush": ["execution/move.end"],
    "verification": ["execution/flush"],
    "verification/golden": ["verification"],
}


class Script:
    """A journal in memory, written line by line."""

    def __init__(
        self, nodes: Mapping[str, Sequence[str]] = NODES, hosts: Sequence[str] = ("eu",), once: str = "", left_out: str = ""
    ) -> None:
        self.entries: list[Entry] = []
        rows = [[name, list(after), name != left_out] for name, after in nodes.items()]
        steps = [
            {"section": name.partition("/")[0], "id": name.partition("/")[2], "once": name == once}
            for name in nodes
            if "/" in name and "." not in name
        ]
        plan: Json = {"nodes": rows, "steps": steps}
        self.add("run.started", plan=plan, hosts=list(hosts), batches=[list(hosts)])
        self.add("batch.started", number=1, hosts=list(hosts))

    def add(self, kind: str, host: str = "", step: str = "", **body: Json) -> None:
        number = len(self.entries) + 1
        self.entries.append(Entry("RB-0001", number, 1000.0 + number, kind, host, step, json.dumps(body)))

    def ended(self, *steps: str, outcome: str = "unchanged", host: str = "eu") -> Script:
        """Steps that have come to an outcome; a section's gate as `gate.opened`."""
        for name in steps:
            if name == "execution":
                self.add("gate.opened", host, name)
            else:
                at = 1000.0 + len(self.entries)
                self.add("step.outcome", host, name, outcome=outcome, started=at, seconds=0.5, reading={"met": True})
        return self

    def told(self) -> Story:
        return story.tell(self.entries)

    def going(self) -> list[tuple[str, str]]:
        return [(entry.host, entry.step) for entry in underway.steps(self.told())]


BEFORE = ("trigger/alarm", "forensics/keep_a", "forensics/keep_b", "execution", "execution/choose")


def _going(*ended: str) -> list[str]:
    return [step for _, step in Script().ended(*ended).going()]


def test_steps_begin_as_soon_as_all_that_they_wait_for_is_over() -> None:
    """From section to section, side by side where nothing stands between."""
    assert ["trigger/alarm"] == _going()
    assert ["forensics/keep_a", "forensics/keep_b"] == _going(*BEFORE[:1])
    assert ["forensics/keep_b"] == _going(*BEFORE[:2])
    assert ["execution/load"] == _going(*BEFORE)
    assert ["verification/golden"] == _going(
        *BEFORE, "execution/load", "execution/warm", "execution/wait", "execution/flush"
    )


def test_execution_does_not_begin_before_its_gate_is_opened() -> None:
    """All the evidence is there, and the keys are not: nothing goes on."""
    assert [] == _going(*BEFORE[:3])


def test_a_remedy_runs_only_where_its_block_went_wrong() -> None:
    """After a good block comes the clean-up, after a bad step the remedy; what followed the bad step never begins."""
    assert ["execution/wait"] == _going(*BEFORE, "execution/load", "execution/warm")
    bad = Script().ended(*BEFORE).ended("execution/load", outcome="failed")
    assert [("eu", "execution/restart")] == bad.going()
    bad.ended("execution/restart", "execution/look")
    assert [("eu", "execution/wait")] == bad.going()
    bad.ended("execution/wait")
    assert [("eu", "execution/flush")] == bad.going()


def test_nothing_follows_a_step_that_failed_outside_a_block() -> None:
    """What waits for it is blocked, in the sections after it too."""
    assert [] == [s for _, s in Script().ended(*BEFORE[:4]).ended("execution/choose", outcome="failed").going() if "/l" in s]
    chain = {"execution": [], "execution/a": ["execution"], "execution/b": ["execution/a"], "verification": ["execution/b"]}
    chain["verification/c"] = ["verification"]
    assert [] == Script(chain).ended("execution").ended("execution/a", outcome="failed").going()


def test_a_trigger_that_does_not_hold_holds_nothing_up() -> None:
    """By hand a run goes on whatever the trigger says."""
    assert ["forensics/keep_a", "forensics/keep_b"] == [
        s for _, s in Script().ended("trigger/alarm", outcome="failed").going()
    ]


def test_a_step_that_is_done_once_goes_on_on_one_host() -> None:
    """The others of the batch do not say that it is over for them; what comes after it does."""
    nodes = {"execution": [], "execution/a": ["execution"], "execution/b": ["execution/a"], "execution/c": ["execution/b"]}
    script = Script(nodes, ("eu", "us"), once="execution/b")
    for host in ("eu", "us"):
        script.ended("execution", "execution/a", host=host)
    assert [("eu", "execution/b")] == script.going()
    script.ended("execution/b", host="us")
    script.ended("execution/c", host="us")
    assert [] == script.going()
    script.ended("execution/c", host="eu")
    assert [] == script.going()


def test_steps_that_the_tags_leave_out_are_passed() -> None:
    """They never say anything, and what comes after them begins."""
    nodes = {"execution": [], "execution/a": ["execution"], "execution/b": ["execution/a"]}
    assert [("eu", "execution/b")] == Script(nodes, left_out="execution/a").ended("execution").going()


def test_a_step_that_has_said_something_is_not_announced_again() -> None:
    """An intent without an outcome is already a step that runs."""
    script = Script().ended(*BEFORE)
    script.add("step.intent", "eu", "execution/load", change={"before": {}, "after": {}}, attempt=1)
    assert [] == script.going()


def test_nothing_goes_on_in_a_run_that_has_stopped() -> None:
    """Interrupted, asked to stop, ended."""
    for kind, body in (
        ("run.interrupted", {"why": "x"}),
        ("cancel.asked", {"by": "a"}),
        ("run.ended", {"outcome": "failed"}),
    ):
        script = Script().ended(*BEFORE)
        script.add(kind, **body)
        assert [] == script.going()


def test_a_step_has_begun_when_the_last_before_it_ended() -> None:
    """The time of the announcement is what its duration is counted from."""
    told = Script().ended(*BEFORE).told()
    (entry,) = underway.steps(told)
    last = told.steps["eu", "execution/choose"]
    assert (last.started or 0) + last.seconds == entry.at
    told.add(entry)
    assert "running" == told.steps["eu", "execution/load"].outcome


def test_a_replay_announces_each_step_before_its_first_entry() -> None:
    """In the order of time, the stored entries unchanged among them."""
    script = Script().ended(*BEFORE)
    events = underway.replayed(script.entries)
    assert script.entries == [event for event in events if event.seq]
    assert [event.at for event in events] == sorted(event.at for event in events)
    for step in ("trigger/alarm", "execution/choose"):
        assert ["step.started", "step.outcome"] == [event.kind for event in events if event.step == step]
