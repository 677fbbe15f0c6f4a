"""The same work on many things: side by side, in order, and with nobody left to wait for."""

from __future__ import annotations

import threading
import time

import pytest

from engine import abreast


def test_results_stand_in_the_order_of_the_items() -> None:
    """However long each takes, results come in the order of what was given."""
    assert [4, 3, 2, 1, 0] == abreast.each(lambda at: (time.sleep(at / 200), at)[1], [4, 3, 2, 1, 0], 3)
    assert [] == abreast.each(lambda at: at, [], 3)


@pytest.mark.parametrize(("items", "most", "wide"), [(8, 3, 3), (2, 8, 2), (5, 1, 1)])
def test_so_many_at_once(items: int, most: int, wide: int) -> None:
    """As many threads as may be and as are of use, no more."""
    meet = threading.Barrier(wide, timeout=20)
    names: set[str] = set()

    def work(_at: int) -> None:
        names.add(threading.current_thread().name)
        if len(names) <= wide and not meet.broken and _at < wide:
            meet.wait()

    abreast.each(work, range(items), most)
    assert wide == len(names)


def test_the_first_failure_is_raised() -> None:
    """What goes wrong in a thread goes wrong for who waits; what had not begun is left."""
    done: list[int] = []

    def work(at: int) -> None:
        if at == 1:
            raise KeyError("one")
        done.append(at)

    with pytest.raises(KeyError, match="one"):
        abreast.each(work, range(100), 1)
    assert [0] == done


def test_nobody_waits_for_the_last_thread() -> None:
    """The threads are daemons: a process can end while one of them has no answer yet."""
    seen: list[bool] = []
    abreast.each(lambda _: seen.append(threading.current_thread().daemon), range(3), 2)
    assert [True, True, True] == seen
