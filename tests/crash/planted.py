"""Bugs that are planted into an engine, in its own process, to see whether the exploration finds them.

Each function plants one; its docstring says what the engine then does wrong.
"""

from __future__ import annotations

import dataclasses
import json
import threading
import uuid
from collections.abc import Callable
from typing import Any

from engine import effect, outbox, recall, undo
from engine.journal import Journal
from engine.site import Site
from engine.walk import Walk


def intends_after_the_effect() -> None:
    """The intent is written down when the effect is done."""
    real, append, held = effect._applied, Journal.append, threading.local()

    def apply(*given: Any) -> Any:
        result = real(*given)
        if row := held.__dict__.pop("row", None):
            append(*row)
        return result

    def late(*row: Any) -> Any:
        if row[2] == "step.intent":
            held.row = row
            return None
        return append(*row)

    effect._applied, Journal.append = apply, late  # type: ignore[assignment]


def settles_before_the_effect() -> None:
    """The outcome is written down before the effect is done."""
    append, sure = Journal.append, set[tuple[str, str]]()

    def early(self: Journal, run: str, kind: str, body: Any, host: str = "", name: str = "") -> Any:
        if kind == "step.intent":
            said = {
                "outcome": "changed", "module": body["module"], "name": name, "reading": body["change"]["after"],
                "change": body["change"], "started": 0.0, "seconds": 0.0, "attempts": 1, "why": "", "hint": "",
                "register": None, "at": "",
            }  # fmt: skip
            sure.add((host, name))
            return self.append_all(run, [(kind, body, host, name), ("step.outcome", said, host, name)])[0]
        if kind == "step.outcome" and (host, name) in sure and body["outcome"] == "changed" and not body["register"]:
            return None
        return append(self, run, kind, body, host, name)

    Journal.append = early  # type: ignore[method-assign]


def _recalled(change: Callable[[recall.Recalled], object]) -> None:
    real = recall.of

    def of(*given: Any) -> Any:
        found = real(*given)
        change(found)
        return found

    recall.of = of


def forgets_what_was_cut_off() -> None:
    """A resume does not know of intents without an outcome, nor of failed tries."""
    _recalled(lambda found: (found.cut.clear(), found.tried.clear()))


def takes_up_nothing() -> None:
    """A resume keeps no step, as if nothing had been done."""
    _recalled(lambda found: (found.kept.clear(), found.items.clear()))


def repeats_finished_items() -> None:
    """A loop that was cut off begins anew."""
    _recalled(lambda found: found.items.clear())


def forgets_what_is_firm() -> None:
    """What nobody can read back is done again when something before it is."""
    _recalled(lambda found: found.firm.clear())


def forgets_the_cancel() -> None:
    """A resume goes on with a run that was cancelled."""

    def forget(found: recall.Recalled) -> None:
        found.cancel = None

    _recalled(forget)


def repeats_blindly() -> None:
    """What was cut off is done again, whether or not it can be seen that it was done."""
    real = effect._after_crash

    def after(*given: Any) -> Any:
        found = real(*given)
        return found if found is None or found.outcome != "uncertain" else None

    effect._after_crash = after


def undoes_what_ended_well() -> None:
    """An undo goes by outcomes: what has none, or has failed, is not put back; and a second try hides the first."""
    real = undo.pending

    def pending(entries: Any) -> Any:
        rows = []
        for entry in entries:
            if entry.kind == "step.outcome" and entry.body["outcome"] == "changed" and entry.body["change"]:
                said = {"change": entry.body["change"], "module": entry.body["module"]}
                rows.append(dataclasses.replace(entry, kind="step.intent", text=json.dumps(said)))
                rows.append(entry)
            elif entry.kind.startswith("undo."):
                rows.append(entry)
        return real(rows)

    undo.pending = pending


def undoes_without_looking() -> None:
    """An undo puts back what is back already."""
    real, turn = undo._shows, threading.local()

    def shows(*given: Any) -> bool:
        turn.second = not getattr(turn, "second", False)
        return False if turn.second else real(*given)

    undo._shows, undo._foreign = shows, lambda *_: ""


def changes_its_keys() -> None:
    """A resume asks the target under another idempotency key than the life before."""
    real, lives = Site.context, list[int]()
    _recalled(lambda _: lives.append(1))

    def context(self: Site, *given: Any) -> Any:
        found = real(self, *given)
        return dataclasses.replace(found, key=f"{found.key[:-1]}{len(lives)}") if lives else found

    Site.context = context  # type: ignore[method-assign]


def sends_under_new_keys() -> None:
    """A message goes out under a new key each time."""
    real = dataclasses.replace

    def replace(what: Any, **more: Any) -> Any:
        return real(what, **{**more, "key": uuid.uuid4().hex} if "key" in more else more)

    outbox.replace = replace


def walks_on_what_is_put_back() -> None:
    """A resume walks a host forth once more that had begun to be put back."""
    _recalled(lambda found: found.undoing.clear())


def remedies_what_is_uncertain() -> None:
    """A block's remedy runs because nobody knows whether a step in it was done."""
    real = Walk.point

    def point(self: Walk, node: Any) -> str:
        kept, self.unsure = self.unsure, []
        try:
            return real(self, node)
        finally:
            self.unsure = kept

    Walk.point = point  # type: ignore[method-assign]
