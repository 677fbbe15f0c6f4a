"""Calls of a module: whatever goes wrong in one is a `ModuleError`, and one that does not come back is left behind.

In: a module's entry, parameters, a `Context`. Out: what it read, wants or did. A module may be anybody's: it may break,
answer nonsense, or hang where no timeout reaches it. None of that may stop the run, or hold other hosts up.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from engine import errand
from engine.diagnostics import EngineError, printable
from modules.contract import Context, Json, ModuleError, State, Stopped, TimedOut

Result = TypeVar("Result")
#: Seconds past its time after which a call is left behind. One that keeps to its time says itself that the time is up.
LATE = 5.0


class StillOut(TimedOut):
    """The call has not come back and was left behind: what it was to do may still be done."""


class Caller:
    """Makes the calls of one run. `stop`: what a stop of the run sets; `cut`: the moment (as `time.monotonic` counts) from
    which calls that a stop may cut short are waited for no longer."""

    def __init__(self, stop: threading.Event) -> None:
        self.stop, self.cut = stop, math.inf
        self._errands = errand.Errands()

    def call(self, ctx: Context, work: Callable[..., Result], *given: Any) -> Result:
        """What `work` gives. Raises ModuleError; StillOut when it does not come back."""
        started = time.monotonic()
        with guarded():
            try:
                return self._errands.run(partial(work, *given), partial(self._due, ctx, started))
            except errand.Left:
                took = time.monotonic() - started
                raise StillOut(f"the call has not come back for {took:.0f} s and was left behind", _HUNG) from None

    def _due(self, ctx: Context, started: float) -> float:
        """Until when the call is waited for: however late it was made, it has a moment to come back in."""
        late = max(ctx.deadline, started) + LATE
        return min(late, max(self.cut, started + LATE)) if ctx.stop is self.stop else late

    def read(self, entry: Any, params: Mapping[str, Json], ctx: Context) -> State | None:
        """What the module reads. Raises ModuleError, also for a reading that is no JSON mapping: it could not be recorded;
        Stopped when the stop of the run cut it short."""
        return self._looked(ctx, entry.module.read, params, ctx)

    def compare(self, entry: Any, params: Mapping[str, Json], ctx: Context) -> tuple[State | None, State | None]:
        """What the module reads, and what it wants. Raises as `read` does."""
        wanted: list[State | None] = []

        def both() -> State | None:
            state: State | None = entry.module.read(params, ctx)
            wanted.append(entry.module.desired(params))
            return state

        return self._looked(ctx, both), wanted[0]

    def _looked(self, ctx: Context, work: Callable[..., State | None], *given: Any) -> State | None:
        try:
            state = self.call(ctx, work, *given)
        except StillOut:
            if ctx.stop.is_set() and time.monotonic() < ctx.deadline:
                raise Stopped("stopped while the module was reading") from None
            raise
        why = "" if state is None or isinstance(state, dict) else f"{type(state).__name__} is no mapping"
        try:
            json.dumps(state, allow_nan=False)
        except (TypeError, ValueError) as error:
            why = str(error)
        if why:
            hint = "this is a mistake in the module: tell its author"
            raise ModuleError(f"the module's reading cannot be recorded: {printable(why, 200)}", hint)
        return state


_HUNG = "see why it hangs; the module should ask for its time (ctx.left) and wait with ctx.sleep"


class guarded:  # noqa: N801 (it reads as a word: `with guarded()`)
    """Around a module's call: whatever goes wrong in it is a ModuleError, because a module may be anybody's. What the engine
    itself says in between (this run is no longer ours) stays what it is."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (Exception, SystemExit)) and not isinstance(error, (ModuleError, EngineError)):
            said = f"the module broke: {type(error).__name__}: {printable(str(error), 200)}"
            raise ModuleError(said, "this is a mistake in the module: tell its author") from error
