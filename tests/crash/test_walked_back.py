"""Drawn playbooks whose undo is killed with signal 9, and those that are cancelled and killed: everything is back, once."""

from __future__ import annotations

from pathlib import Path

import pytest
from exploration import exploring
from killer import Killer

EACH = 100


@pytest.mark.parametrize("seed", [pytest.param(n, marks=[] if n == 21 else pytest.mark.slow) for n in range(21, 32)])
def test_killed_while_it_goes_back(memory: Path, kill: Killer, seed: int) -> None:
    """Killed in an undo, or after a cancel with undo: what the run did is put back, nothing done or put back twice."""
    count = EACH if seed > 21 else 12
    tally = exploring(memory, seed, kill).explored(count, ("undo", "cancel"))
    assert [] == [f"{wrong.sort}: {wrong.point} {wrong.text}" for wrong in tally.wrong]
    assert tally.points >= count
