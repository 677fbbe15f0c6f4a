"""An operation of a platform: accepted at once, done later. Begun once, its handle on record, waited for until it is over.

In: a module that has `start`, and the step that it is for. Out: nothing; what it came to, the second reading says. What is
under way is never begun a second time: whoever comes later takes up the one whose handle is on record, or that the platform
finds, and where neither can be had, nobody guesses.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from engine import canon
from engine.site import Site
from modules.contract import Change, Context, Json, ModuleError, Over, Stopped, TimedOut

#: Seconds between two looks, the first time and in the end.
FIRST, LAST = 0.1, 15.0
#: Seconds that an operation has for coming to its end after it was asked to stop.
GRACE = 15.0


class Lost(ModuleError):
    """It was asked for, and nothing shows whether it has begun."""


class Going(TimedOut):
    """It is still under way, as far as anybody knows, and nobody waits for it any more."""


@dataclass(frozen=True)
class Operation:
    """The operation of one step on one host, or of putting it back (`kind` undo). `place`: host and step; `handle`: what
    its platform calls it, once it has begun; `sure`: that it is ours. Where the platform knows no keys, what it has under
    way may be somebody else's: that is waited for, and not stopped."""

    site: Site
    entry: Any
    params: Mapping[str, Json]
    place: tuple[str, str]
    kind: str = "step"
    handle: Json = None
    sure: bool = True

    @property
    def repeatable(self) -> bool:
        """Whether it may be asked for again when nobody knows if it has begun: the platform compares or honours the key, or
        it says what is under way."""
        return self._crash in ("A", "C") or (self._crash == "B" and self.entry.has("find"))

    @property
    def _crash(self) -> str:
        return str(self.entry.crash_class(self.params))

    def anew(self, key: str) -> str:
        """The idempotency key of the next try: `key`, or another one if the operation that had it is over."""
        spent = self.site.spent.get(self.place)
        return fresh(spent) if spent else key

    def begun(self, word: str, change: Change, ctx: Context) -> Operation:
        """Starts it (`word`: start or undo), and puts its handle on record before anybody waits. Without one it is done."""
        try:
            handle = self._call(ctx, word, self.params, change, ctx)
        except ModuleError as error:
            if error.nothing_done:
                raise
            return self._sought(word, change, ctx, error)
        if handle is None and word == "start":
            raise Lost("the module has started it and gave no handle; this is a mistake in the module")
        return self if handle is None else self._kept(handle, ctx)

    def _sought(self, word: str, change: Change, ctx: Context, lost: ModuleError) -> Operation:
        """What was asked for, after the answer was lost: as the platform finds it, or as it says when it is asked once more
        under the same key. Raises `lost` if it has not begun, Lost when nobody can tell."""
        if (found := self._found(ctx)) is not None:
            return found
        if not self.repeatable:
            raise Lost(lost.message) from None
        if self._crash == "B":
            raise lost
        patient = _patient(ctx)
        try:
            return self._kept(self._call(patient, word, self.params, change, patient), ctx)
        except ModuleError as error:
            raise Lost(error.message, "engine resume asks again, under the same key") from None

    def taken_up(self, record: Mapping[str, Json], ctx: Context) -> Operation | None:
        """The operation that an earlier process has begun: as its record has it, or as the platform finds it. None where
        there is none to be found. Raises Lost when the platform does not say."""
        if record.get("handle") is not None:
            return replace(self, handle=record["handle"], sure=not record.get("found"))
        return self._found(ctx)

    def _found(self, ctx: Context) -> Operation | None:
        """What the platform has under way under this key, or at all."""
        if not self.entry.has("find"):
            return None
        patient = _patient(ctx)
        try:
            handle = self._call(patient, "find", self.params, patient)
        except ModuleError as error:
            raise Lost(f"it cannot be found out whether it is under way: {error.message}", error.hint) from None
        return None if handle is None else self._kept(handle, ctx, sure=self._crash == "C")

    def _kept(self, handle: Json, ctx: Context, sure: bool = True) -> Operation:
        """Puts the handle on record."""
        try:
            json.dumps(handle, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise Lost(f"the handle cannot be recorded: {error}; this is a mistake in the module") from None
        said = {"handle": self.site.secrets.scrub(handle), "key": ctx.key, "module": self.entry.name}
        body = said if sure else {**said, "found": True}
        self.site.journal.append(self.site.run, f"{self.kind}.handle", body, *self.place)
        return replace(self, handle=handle, sure=sure)

    def waited(self, ctx: Context) -> None:
        """Until it is over. Raises Over when it ended badly, Stopped when it is left under way, Going when it could not be
        stopped in time, TimedOut or ModuleError when it was given up and is over."""
        began, pause = time.monotonic(), FIRST
        while self.handle is not None and (said := self._looked(ctx)) is not True:
            words = f": {said}" if said and not self._hidden else ""
            self._tell(f"waiting on {self.entry.name} for {time.monotonic() - began:.0f} s{words}")
            try:
                ctx.sleep(pause)
            except Stopped:
                if not self.site.ends:
                    self._tell("left under way at the platform: engine resume waits for it again")
                    raise
                return self.given_up(ctx, ModuleError("the run is being ended"))
            except TimedOut as late:
                return self.given_up(ctx, late)
            pause = min(pause * 1.5, LAST)
        return None

    def given_up(self, ctx: Context, why: ModuleError) -> None:
        """Asks for it to be stopped, and waits a while for its end. Raises `why` when it was stopped, Going when it was not;
        returns when it had come to its end by then."""
        patient, asked, pause = _patient(ctx), self._stopped(ctx), FIRST
        try:
            while self._looked(patient) is not True:
                patient.sleep(pause)
                pause = min(pause * 1.5, LAST)
        except Over as over:
            why.message, why.nothing_done = f"{why.message}: {over.message}", True
            raise why from None
        except TimedOut:
            raise Going(f"{why.message}; {asked}, and is still under way", "engine resume waits for it again") from None

    def _stopped(self, ctx: Context) -> str:
        """Asks the platform to stop it; says what came of that."""
        if not self.sure:
            return "it may be somebody else's and was not stopped"
        if not self.entry.has("abandon"):
            return "it cannot be stopped from here"
        patient = _patient(ctx)
        self.site.journal.live(self.site.run)
        try:
            self._call(patient, "abandon", self.params, self.handle, patient)
        except ModuleError as error:
            return f"it could not be asked to stop ({error.message})"
        return "it was asked to stop"

    def _looked(self, ctx: Context) -> bool | str:
        """Where it is: True when over, else a few words. What goes wrong in asking says nothing about it."""
        try:
            said = self._call(ctx, "ended", self.params, self.handle, ctx)
        except Over:
            self.site.spent[self.place] = ctx.key
            raise
        except ModuleError as error:
            return error.message
        if said is True:
            self.site.spent[self.place] = ctx.key
        return True if said is True else str(said or "")

    @property
    def _hidden(self) -> bool:
        """Whether the module's words may repeat what `no_log` hides."""
        step = self.site.plan.nodes[self.place[1].partition("[")[0]].step
        return step is not None and step.no_log

    def _tell(self, text: str) -> None:
        if self.kind == "step":
            body = {"why": self.site.secrets.scrub(text)}
            self.site.journal.announce(self.site.run, "step.waiting", body, *self.place)

    def _call(self, ctx: Context, word: str, *given: Any) -> Json:
        return self.site.caller.call(ctx, self.entry.call, word, *given)


def fresh(key: str) -> str:
    """Another idempotency key, and after a crash the same one again."""
    return canon.text_digest(f"{key}\nanew".encode())[7:39]


def _patient(ctx: Context) -> Context:
    """With time of its own, and deaf to the stop of the run: this is what the stop asks for."""
    return replace(ctx, deadline=max(ctx.deadline, time.monotonic()) + GRACE, stop=threading.Event())
