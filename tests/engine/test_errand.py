"""Calls that may never come back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from engine import errand
from engine.errand import Errands, Left


def never() -> float:
    return time.monotonic() + 3600


def gone(holds: Callable[[], bool]) -> bool:
    """Whether `holds` ends, polled for as long as a busy machine may need."""
    until = time.monotonic() + 30
    while holds() and time.monotonic() < until:
        time.sleep(0.01)
    return not holds()


def test_what_comes_back_is_handed_over() -> None:
    """An errand returns what the work returns and raises what it raises, and the next one needs no new thread."""
    errands = Errands()
    assert 7 == errands.run(lambda: 7, never)
    with pytest.raises(ZeroDivisionError):
        errands.run(lambda: 1 // 0, never)
    with pytest.raises(SystemExit):
        errands.run(lambda: (_ for _ in ()).throw(SystemExit(3)), never)
    seen = {errands.run(threading.get_ident, never) for _ in range(20)}
    assert 1 == len(seen)
    assert threading.get_ident() not in seen


def test_what_blocks_is_left_behind() -> None:
    """Work that is still blocked when its moment comes is left; what it returns later is nobody's."""
    errands, release, after, ident = Errands(), threading.Event(), list[str](), list[int]()

    def work() -> None:
        ident.append(threading.get_ident())
        release.wait(60)
        after.append("went on")

    with pytest.raises(Left):
        errands.run(work, lambda: 0.0 if ident else never())
    assert "next" == errands.run(lambda: "next", never), "others are not held up"
    release.set()
    assert gone(lambda: ident[0] in {one.ident for one in threading.enumerate()})
    assert [] == after, "it begins nothing new"


def test_what_computes_for_ever_is_ended() -> None:
    """A loop without an end does not take the interpreter from the others once it was left."""
    errands, ident = Errands(), list[int]()

    def work() -> None:
        ident.append(threading.get_ident())
        while True:
            try:
                sum(range(100))
            except ValueError:
                continue

    began = time.monotonic()
    with pytest.raises(Left):
        errands.run(work, lambda: began + 0.05)
    assert gone(lambda: ident[0] in {one.ident for one in threading.enumerate()})


def test_the_moment_may_come_forward() -> None:
    """Somebody who decides while the work is out that it has had its time need not wait for the old moment."""
    errands, due = Errands(), [time.monotonic() + 3600]
    threading.Timer(0.05, lambda: due.__setitem__(0, 0.0)).start()
    with pytest.raises(Left):
        errands.run(lambda: time.sleep(3), lambda: due[0])


def test_idle_threads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that have no errand for a while end by themselves, and a later errand finds another one."""
    monkeypatch.setattr(errand, "IDLE", 0.01)
    errands = Errands()
    ident = errands.run(threading.get_ident, never)
    assert gone(lambda: ident in {one.ident for one in threading.enumerate()})
    assert 7 == errands.run(lambda: 7, never)


def test_many_at_once() -> None:
    """Errands of many callers get each their own answer, however often threads are idle, taken and left."""
    errands, wrong = Errands(), []

    def caller(number: int) -> None:
        for turn in range(200):
            got = errands.run(lambda turn=turn: (number, turn), never)  # type: ignore[misc]
            if got != (number, turn):
                wrong.append((got, number, turn))

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == wrong
