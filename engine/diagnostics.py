"""What we say when something is wrong: values with a place, collected first and sorted only when they are shown.

In: a code, words, a place. Out: a `Diagnostic`, an `EngineError` that carries many, and their text. It knows nothing of
YAML, playbooks or terminals, and imports nothing but the standard library.
"""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class Exit(enum.IntEnum):
    """The exit codes: public, one meaning each (``engine doc exit-codes``)."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    INVALID = 3
    HELD = 4
    WAITING = 5
    REJECTED = 6
    STALE = 7
    LOCKED = 8
    CHANGES = 10
    BUG = 70
    INTERRUPTED = 130


@dataclass(frozen=True, order=True)
class Place:
    """Where in a text: path as the user wrote it, line and column from 1, how many characters, and that line's text."""

    path: str
    line: int = 1
    column: int = 1
    length: int = 1
    text: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Diagnostic:
    """One mistake. `summary` is one line; `detail` says what and why in full sentences; `hint` is the one thing to do.

    `context` is a second place that explains the first (where the module's name stands, where the other key is).
    """

    code: str
    summary: str
    place: Place | None = None
    detail: str = ""
    hint: str = ""
    context: tuple[Place, str] | None = None
    severity: str = "error"


class EngineError(Exception):
    """Ends a command: carries every diagnostic that was found, and the exit code."""

    def __init__(self, diagnostics: Iterable[Diagnostic] | Diagnostic, exit: Exit = Exit.INVALID) -> None:
        self.diagnostics = (diagnostics,) if isinstance(diagnostics, Diagnostic) else tuple(diagnostics)
        self.exit = exit
        super().__init__("; ".join(f"{d.code}: {d.summary}" for d in self.diagnostics))


#: More would bury the first ones; the rest is counted.
SHOWN = 20
_WIDEST = 160


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The likeliest meant spelling of `word` among `words`, or None."""
    pool = sorted(set(words))
    near = difflib.get_close_matches(word, pool, n=1, cutoff=0.6)
    if not near:
        lowered = {other.lower().replace("-", "_"): other for other in pool}
        return lowered.get(word.lower().replace("-", "_"))
    return near[0]


def did_you_mean(word: str, words: Iterable[str], otherwise: str = "") -> str:
    """A hint: the nearest spelling, or `otherwise`."""
    near = nearest(word, words)
    return f"did you mean `{near}`?" if near else otherwise


def printable(text: str, limit: int = 80) -> str:
    """`text` from outside, safe to print: control, bidi and invisible characters escaped, cut at `limit` characters."""
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text
    begins = text[: limit + 1]  # it may be megabytes long
    shown = "".join(c if c.isprintable() and not 0xE000 <= ord(c) <= 0xF8FF else f"\\u{ord(c):04x}" for c in begins)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def render(diagnostics: Sequence[Diagnostic]) -> str:
    """The text for people: every mistake with file:line:col, its source line, a caret and a hint; no colour."""
    ordered = sorted(diagnostics, key=lambda d: (d.place or Place(""), d.code, d.summary))
    parts = [_one(d) for d in ordered[:SHOWN]]
    if len(ordered) > SHOWN:
        parts.append(f"and {len(ordered) - SHOWN} more")
    return "\n".join(parts)


def _one(d: Diagnostic) -> str:
    lines = [f"{d.severity}[{d.code}]: {_quiet(d.summary)}"]
    if d.place:
        lines.append(f"  --> {d.place}")
        marks = [(d.place, "", "^")]
        if d.context and d.context[0].path == d.place.path and d.context[0].line != d.place.line:
            marks.append((d.context[0], d.context[1], "-"))
        width = max(len(str(place.line)) for place, _, _ in marks)
        for place, label, sign in sorted(marks, key=lambda mark: mark[0].line):
            if not place.text:
                continue
            text, start = _excerpt(place)
            length = max(1, min(place.length, len(text) - start))
            lines.append(f"{place.line:>{width}} | {text}".rstrip())
            lines.append(f"{'':>{width}} | {' ' * start}{sign * length} {label}".rstrip())
    if d.detail:
        lines.append(f"  = {_quiet(d.detail)}")
    if d.hint:
        lines.append(f"  = help: {_quiet(d.hint)}")
    return "\n".join(lines)


def _quiet(text: str) -> str:
    """A sentence with nothing in it that acts on a terminal: it may repeat a host's or a person's words."""
    return "\n".join(printable(line, 8 * len(line)) for line in text.split("\n"))


def _excerpt(place: Place) -> tuple[str, int]:
    """The part of the source line around the place, and the place's offset in it."""
    start, text = place.column - 1, place.text
    if len(text) > _WIDEST and start > _WIDEST // 2:
        cut = start - _WIDEST // 4
        text, start = "…" + text[cut:], start - cut + 1
    before, after = printable(text[:start], _WIDEST * 6), printable(text[start:], max(_WIDEST - start, 20))
    return before + after, len(before)
