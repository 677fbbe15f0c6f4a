"""The shipped demo playbook, killed with signal 9 at every boundary of its journal, and taken up again.

`make test` kills the run at every boundary, and the resume and the undo at some; `make sharing` those at every fourth and at
every one, too (`LASTGOOD_BOUNDARIES=all`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from conftest import World
from killer import Ended, Killer

from engine.playground import INVENTORY, PLAYBOOK

RUN = ("run", PLAYBOOK, "-i", INVENTORY)
ALL = os.environ.get("LASTGOOD_BOUNDARIES") == "all"
#: The boundaries are dealt out to so many tests; and so far apart are second kills.
SHARDS, APART = 6, 4 if ALL else 16


def run(demo: World, kill: Killer, at: int = 0) -> Ended:
    return kill(demo.folder, *RUN, kill=at, beside=demo.keys)


def resume(demo: World, kill: Killer, at: int = 0) -> Ended:
    """Takes the run up. Killed before its first entry was on the disk, there is none yet: then it is begun."""
    return run(demo, kill, at) if not demo.begun else kill(demo.folder, "resume", "-y", kill=at, beside=demo.keys)


def rolled_back(demo: World, last: Ended, story: str) -> None:
    """The end, counted where it happened: the version is back, each effect done once, everyone told and asked once."""
    assert 0 == last.exit, f"{story}\n{last.said}"
    assert {"link": "v1", "serves": "v1", "moves": 1, "loads": 1} == demo.seen(), f"{story}\n{last.said}"
    entries = demo.entries()
    ends = [entry.body["outcome"] for entry in entries if entry.kind == "run.ended"]
    assert ["succeeded"] == ends, story
    assert 1 == sum(entry.kind == "key.asked" for entry in entries), f"{story}: nobody is asked twice"
    queued = {f"{entry.run}/{entry.body['key']}" for entry in entries if entry.kind == "message.queued"}
    assert 3 == len(queued), story
    assert queued == set(demo.messages()), f"{story}: everybody was told everything"
    evidence = demo.store / "runs" / demo.run / "evidence" / "fraud"
    assert {"wrong-requests.jsonl", "metrics.txt", "model.json"} <= {path.name for path in evidence.iterdir()}


def points(demo: World, kill: Killer, shard: int, shards: int = SHARDS) -> Iterator[tuple[int, Ended]]:
    """The demo killed at every `shards`-th boundary, beginning with `shard`, until a run comes to its end."""
    at = shard
    while True:
        demo.reset()
        ended = run(demo, kill, at)
        if not ended.killed:
            rolled_back(demo, ended, f"not killed, {len(ended.points)} boundaries")
            assert at > 40, "there are that many boundaries"
            return
        yield at, ended
        at += shards


def test_a_few_points(demo: World, kill: Killer) -> None:
    """Killed at some boundaries of the run, a resume ends the same."""
    demo.reset()
    whole = run(demo, kill)
    rolled_back(demo, whole, "not killed")
    for name in ("before step.intent", "after apply of directory.current", "after apply of v2.model", "after run.ended"):
        at = max(number for number, point in enumerate(whole.points, 1) if point.startswith(name))
        demo.reset()
        ended = run(demo, kill, at)
        story = f"killed at {at}, {ended.points[-1:]}"
        if ended.killed:
            rolled_back(demo, resume(demo, kill), story)


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(1, SHARDS + 1))
def test_every_boundary(demo: World, kill: Killer, shard: int) -> None:
    """Killed at any boundary, before and after every commit and every effect, a resume ends the same."""
    for at, ended in points(demo, kill, shard):
        story = f"killed at {at}, {ended.points[-1]}"
        rolled_back(demo, resume(demo, kill), story)


#: Where the first kill strikes in the tests with two: the question, the evidence, both effects, the checks, the end.
FIRST = (
    "after key.asked",
    "before apply of http.capture",
    "after apply of directory.current",
    "before apply of v2.model",
    "after apply of v2.model",
    "after step.outcome",
)


@pytest.mark.slow
@pytest.mark.parametrize("first", FIRST)
def test_killed_again_in_the_resume(demo: World, kill: Killer, first: str) -> None:
    """A resume that is killed too is taken up like the run."""
    demo.reset()
    names = run(demo, kill).points
    at = max(number for number, point in enumerate(names, 1) if point.startswith(first))
    for again in range(1, 100, APART):
        demo.reset()
        if not run(demo, kill, at).killed:
            continue  # its threads took another turn
        second = resume(demo, kill, again)
        if not second.killed:
            rolled_back(demo, second, f"killed {first}, and not again at {again}")
            assert again > APART
            return
        rolled_back(demo, resume(demo, kill), f"killed {first}, and {second.points[-1]} of the resume")


@pytest.mark.slow
@pytest.mark.parametrize("shard", [1, 2, 3] if ALL else [2])
def test_killed_in_the_undo(demo: World, kill: Killer, shard: int) -> None:
    """An undo that is killed at any boundary is gone on with: everything is back, each thing put back once."""
    undo = ("undo", "-y")
    for at in range(shard, 100, 3):
        demo.reset()
        rolled_back(demo, run(demo, kill), "before the undo")
        demo.service.loads = 0
        ended = kill(demo.folder, *undo, kill=at, beside=demo.keys)
        story = f"killed at {at}, {ended.points[-1:]}"
        last = kill(demo.folder, *undo, beside=demo.keys) if ended.killed else ended
        assert 0 == last.exit, f"{story}\n{last.said}"
        seen = demo.seen()
        assert {"link": "v2", "serves": "v2", "moves": 1, "loads": 1} == seen, f"{story}\n{last.said}"
        entries = demo.entries()
        assert 2 == sum(entry.kind == "key.asked" for entry in entries), (
            f"{story}: asked once for the run, once for the undo"
        )
        assert "undone" == [entry.body["outcome"] for entry in entries if entry.kind == "run.ended"][-1]
        if not ended.killed:
            assert at > 15
            return
