"""Bugs that are planted into an engine, in its own process, to see whether the exploration finds them."""

from __future__ import annotations

from typing import Any

from engine import effect, recall


def forgets_what_was_cut_off() -> None:
    """A resume does not know of intents without an outcome, nor of failed tries."""
    real = recall.of

    def of(*given: Any) -> Any:
        found = real(*given)
        found.cut.clear()
        found.tried.clear()
        return found

    recall.of = of


def intends_after_the_effect() -> None:
    """The intent is written down when the effect is done."""
    real, late = effect._applied, []

    def apply(*given: Any) -> Any:
        result = real(*given)
        for row in late:
            row()
        return result

    from engine.journal import Journal

    append = Journal.append

    def held(self: Journal, run: str, kind: str, body: Any, host: str = "", name: str = "") -> Any:
        if kind == "step.intent":
            late.append(lambda: append(self, run, kind, body, host, name))
            return None
        while late:
            late.pop()()
        return append(self, run, kind, body, host, name)

    effect._applied, Journal.append = apply, held  # type: ignore[assignment]


def takes_up_nothing() -> None:
    """A resume keeps no step, as if nothing had been done."""
    real = recall.of

    def of(*given: Any) -> Any:
        found = real(*given)
        found.kept.clear()
        found.items.clear()
        return found

    recall.of = of
