"""How many hosts at a time, how many may fail, and the sentence that says so."""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import budget
from modules.contract import fraction


@given(st.decimals(0, 100, places=6), st.integers(0, 5000))
def test_a_percentage_is_exact(percent: Decimal, count: int) -> None:
    """A percentage of the hosts is what it is on paper, rounded down: no float takes a host away or adds one."""
    on_paper = int((percent * count / 100).to_integral_value(ROUND_FLOOR))
    assert on_paper == budget.part(fraction(f"{percent:f}%"), count)


def test_the_percentages_that_floats_get_wrong() -> None:
    """29 % of 100 hosts are 29, though 0.29 * 100 is a little less in floats; the same for all whole percentages."""
    assert list(range(101)) == [budget.part(fraction(f"{n}%"), 100) for n in range(101)]


@given(st.integers(1, 300), st.integers(0, 300) | st.integers(0, 100).map(lambda n: n / 100))
def test_the_sentence_says_the_number(count: int, most: int | float) -> None:
    """The sentence names the number that may fail and the one that stops the run, or that nothing does."""
    tolerated = most if isinstance(most, int) else int(Decimal(str(most)) * count)
    said = budget.words(most, count, [count])
    if count == 1:
        assert "" == said
    elif tolerated >= count:
        assert "all of them may fail, nothing stops the run" in said
    elif tolerated == 0:
        assert "none may fail, the first stops the run; unreachable counts" in said
    else:
        assert f": {tolerated} may fail, the {budget.ordinal(tolerated + 1)} stops the run; unreachable counts" in said


@pytest.mark.parametrize(("most", "serial", "count", "said"), [
    (0.25, [1, 0.25, 1.0], 9,
     "max_failed 25% of 9 hosts: 2 may fail, the third stops the run; unreachable counts; batches 1, 2, 6"),
    (3, [5], 200, "max_failed 3 of 200 hosts: 3 may fail, the fourth stops the run; unreachable counts; batches 40 of 5"),
    (0, [], 2, "max_failed 0 of 2 hosts: none may fail, the first stops the run; unreachable counts; all at once"),
    (1.0, [1, 3], 8, "max_failed 100% of 8 hosts: all of them may fail, nothing stops the run; batches 1, 3, 3, 1"),
    (11, [1, 2, 3, 2, 1, 2, 1, 2, 1, 2], 99,
     "max_failed 11 of 99 hosts: 11 may fail, the 12th stops the run; unreachable counts; "
     "batches 1, 2, 3, 2, 1, 2, 1, 2 and 43 more"),
    (20, [1], 30, "max_failed 20 of 30 hosts: 20 may fail, the 21st stops the run; unreachable counts; batches 30 of 1"),
])  # fmt: skip
def test_the_arithmetic_in_words(most: int | float, serial: list[int | float], count: int, said: str) -> None:
    """The plan's sentence for these hosts: what may fail, what stops the run, how the hosts are taken on."""
    sizes = [len(batch) for batch in budget.batches([str(n) for n in range(count)], serial)]
    assert said == budget.words(most, count, sizes)
