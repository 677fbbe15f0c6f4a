"""The exploration can fail: it catches faults that are planted in the engine. `make mutants` plants all of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2]))

from tests.mutants import Mutant, every

MUTANTS = [one for one in every() if one.suite == "crash"]


@pytest.mark.slow
@pytest.mark.parametrize("mutant", [pytest.param(one, id=one.name) for one in MUTANTS if one.quick])
def test_a_planted_fault_is_caught(mutant: Mutant) -> None:
    """With the fault in every process, something goes wrong at some point."""
    assert mutant.shown() is not None, mutant.says


def test_every_fault_is_named() -> None:
    """Each has a name of its own and says what the engine does wrong, so that a list of them can be read."""
    assert len(MUTANTS) == len({one.name for one in MUTANTS})
    assert [] == [one.name for one in MUTANTS if not one.says.endswith(".")]
