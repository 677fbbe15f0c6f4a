"""How far a run may reach: which hosts are taken on together, how many of them may fail, and both in words.

In: numbers, and what a playbook says under `serial` and `max_failed`. Out: batches, a number, a sentence. It knows no hosts
but their names, and runs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import groupby

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
#: So many sizes of batches are told one by one.
_TOLD = 8


def part(amount: int | float, count: int) -> int:
    """How many of `count` hosts `amount` is: a number of them, or (a float from 0 to 1) a part of them, rounded down.

    A part is a percentage with at most six decimals, and is taken as exactly that: 29 % of 100 hosts are 29, though the
    nearest float is a little less.
    """
    if isinstance(amount, int):
        return amount
    return math.floor(Fraction(amount).limit_denominator(10**8) * count)


def batches(names: Sequence[str], serial: Sequence[int | float]) -> tuple[tuple[str, ...], ...]:
    """The hosts, `serial` at a time; the last size is repeated, and no batch is empty. Without sizes: all at once."""
    sizes = [max(1, part(amount, len(names))) for amount in serial] or [max(1, len(names))]
    found: list[tuple[str, ...]] = []
    at = 0
    while at < len(names):
        size = sizes[min(len(found), len(sizes) - 1)]
        found.append(tuple(names[at : at + size]))
        at += size
    return tuple(found)


def words(max_failed: int | float, count: int, sizes: Sequence[int]) -> str:
    """The arithmetic for these hosts: ``max_failed 25% of 9 hosts: 2 may fail, the third stops the run; …``. `sizes`: hosts
    in each batch. Empty where there is one host, for which there is nothing to count."""
    if count <= 1:
        return ""
    tolerated = part(max_failed, count)
    said = f"{max_failed * 100:g}%" if isinstance(max_failed, float) else str(max_failed)
    if tolerated >= count:
        verdict = "all of them may fail, nothing stops the run"
    elif tolerated:
        verdict = f"{tolerated} may fail, the {ordinal(tolerated + 1)} stops the run; unreachable counts"
    else:
        verdict = "none may fail, the first stops the run; unreachable counts"
    return f"max_failed {said} of {count} hosts: {verdict}; {_shape(sizes)}"


def _shape(sizes: Sequence[int]) -> str:
    """The sizes of the batches: ``batches 1, 2, 5 of 10, 7``."""
    if len(sizes) == 1:
        return "all at once"
    told: list[tuple[str, int]] = []
    for size, same in groupby(sizes):
        times = len(list(same))
        told += [(str(size), 1)] * times if times < 4 else [(f"{times} of {size}", times)]
    left = len(sizes) - sum(times for _, times in told[:_TOLD])
    return "batches " + ", ".join(text for text, _ in told[:_TOLD]) + (f" and {left} more" if left else "")


def ordinal(number: int) -> str:
    """``third``, ``11th``, ``22nd``."""
    if number <= len(_ORDINALS):
        return _ORDINALS[number - 1]
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number % 100 not in (11, 12, 13) else "th"
    return f"{number}{ending}"
