"""Drawn playbooks killed with signal 9 in their run, and in the resume: they come to what they come to without that.

`make crash` explores thousands of points more, and prints its figures.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from exploration import Point, exploring, sorted_out
from killer import Killer

EACH = 100


@pytest.mark.parametrize("seed", [pytest.param(n, marks=[] if n == 1 else pytest.mark.slow) for n in range(1, 12)])
def test_killed_anywhere(memory: Path, kill: Killer, seed: int) -> None:
    """Killed at any boundary and taken up again: each effect as often, the same world and end, everybody told."""
    tally = exploring(memory, seed, kill).explored(EACH if seed > 1 else 12, ("run", "resume"))
    assert [] == [f"{wrong.sort}: {wrong.point} {wrong.text}" for wrong in tally.wrong]
    assert tally.points >= (EACH if seed > 1 else 12)


def test_a_point_can_be_written_down() -> None:
    """What a failure prints is read back as the same point."""
    for point in (
        Point(3, "run", ("after change a execution/s1", 2)),
        Point(4, "cancel", 17, ("before run.ended", 1), (9, 2)),
    ):
        assert point == Point.read(str(point))


def test_boundaries_are_sorted_out() -> None:
    """What a boundary is follows from its name and its neighbours: half-way is between two changes of one effect."""
    names = [
        "before apply of thing a e/s", "before change a e/s", "before change b e/s", "after change a e/s",
        "before change a e/s", "after change a e/s", "after change b e/s", "after apply of thing a e/s",
        "before step.outcome+x a e/s", "after run.started",
    ]  # fmt: skip
    inside = "inside an effect, {} the change"
    assert [
        "before the effect", inside.format("before"), inside.format("before"), "half-way through an effect",
        inside.format("before"), inside.format("after"), inside.format("after"), "after the effect",
        "before the outcome's commit", "after another commit",
    ] == sorted_out(names)  # fmt: skip
