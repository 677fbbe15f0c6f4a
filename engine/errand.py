"""A call that may never come back, made by a thread that can be left behind.

In: some work and a moment. Out: what the work returned or raised, or `Left` when the moment came first. The thread that
was left is told to end: an exception waits for it at its next step in Python, so it begins nothing new, and its result is
dropped. What it had already sent may still take effect; that is for the caller to find out.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")
#: Seconds after which a caller looks again whether the moment has come: it may have been moved forward meanwhile.
LOOK = 0.5
#: Seconds that a thread waits for its next errand before it ends.
IDLE = 5.0


class Left(Exception):
    """The work did not come back in time; its thread was left behind."""


class _Over(BaseException):
    """Ends a thread that was left behind."""


class Errands:
    """Threads that run errands, each for one caller at a time; they are kept for the next errand, and end when there is
    none."""

    def __init__(self) -> None:
        self._idle: list[_Runner] = []  # taken from and given back to by single operations, which need no lock

    def run(self, work: Callable[[], Result], due: Callable[[], float]) -> Result:
        """What `work` returns or raises. `due`: until when (as `time.monotonic` counts) it is waited for, asked again and
        again. Raises Left after that."""
        try:
            runner = self._idle.pop()
        except IndexError:
            runner = _Runner(self._rests)
        runner.begin(work)
        while not runner.done.acquire(timeout=min(LOOK, max(due() - time.monotonic(), 0.0))):
            if time.monotonic() >= due() and runner.leave():
                raise Left
        try:
            result: Result = runner.result()
            return result
        finally:
            self._idle.append(runner)

    def _rests(self, runner: _Runner) -> bool:
        """Whether the thread may end: nobody has taken it for an errand meanwhile."""
        try:
            self._idle.remove(runner)
        except ValueError:
            return False
        return True


class _Runner:
    """One thread and the errand that it is on."""

    def __init__(self, rests: Callable[[_Runner], bool]) -> None:
        self.done, self._go, self._state = threading.Lock(), threading.Lock(), threading.Lock()
        self.done.acquire()
        self._go.acquire()
        self._rests = rests
        self._work: Callable[[], Any] | None = None
        self._returned: Any = None
        self._raised: BaseException | None = None
        self._left = False
        self._thread = threading.Thread(target=self._run, name="errand", daemon=True)
        self._thread.start()

    def begin(self, work: Callable[[], Any]) -> None:
        self._work, self._returned, self._raised = work, None, None
        self._go.release()

    def result(self) -> Any:
        """What the errand came to, forgotten here."""
        returned, raised = self._returned, self._raised
        self._returned = self._raised = None
        if raised is not None:
            raise raised
        return returned

    def leave(self) -> bool:
        """Goes on without the thread. False: it has just come back."""
        with self._state:
            if self._work is None:
                return False
            self._left = True
            ident = ctypes.c_ulong(self._thread.ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(_Over))
        return True

    def _run(self) -> None:
        try:
            while True:
                if not self._go.acquire(timeout=IDLE):
                    if self._rests(self):
                        return
                    continue
                self._once()
                if self._left:
                    return
        except _Over:
            return

    def _once(self) -> None:
        work = self._work
        try:
            self._returned = work() if work else None
        except _Over:
            raise
        except BaseException as error:  # noqa: BLE001 (whatever it is, it is raised where it is waited for)
            self._raised = error
        with self._state:
            self._work = None
            if not self._left:
                self.done.release()
