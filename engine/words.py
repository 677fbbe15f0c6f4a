"""Values in words: moments, durations, digests, changes, as every screen and page says them.

In: numbers and JSON values, some of them from outside. Out: short text that is safe to print. Times are UTC.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from engine import diagnostics
from modules.contract import Change, Json

# A digest is recognised by its first characters; 64 of them hide everything else.
_DIGEST = re.compile(r"\b(?:sha256:)?[0-9a-f]{64}\b")


def utc(at: float, date: bool = True) -> str:
    """A moment as people read it: ``2026-11-23 03:09:02Z``, or only the time of day."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ" if date else "%H:%M:%SZ")


def span(seconds: float) -> str:
    """A duration as people read it: ``0.4s``, ``41s``, ``2m41s``, ``3h05m``, ``2d04h``."""
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f}s"
    whole = round(seconds)
    for size, name, part, below in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size}{name}" + (f"{rest:02}{below}" if rest else "")
    return f"{whole}s"


def seconds(count: float) -> str:
    """How long something has gone on, to whole seconds: ``40 s``, ``2m05s``."""
    return f"{int(count)} s" if count < 60 else span(count)


def brief(value: Json, limit: int = 40) -> str:
    """A JSON value in a few characters, safe to print; absent is ``nothing``."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and all(isinstance(one, str | int | float) for one in value):
        value = ", ".join(brief(one, limit) for one in value) or "none"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return diagnostics.printable(_DIGEST.sub(lambda found: found[0][:-56] + "…", text), limit)


def differences(change: Mapping[str, Json] | None) -> list[tuple[str, Json, Json]]:
    """(key, before, after) of a journalled change, sorted by key; empty where nothing differs."""
    return list(Change.of(change)) if change and change.get("before") != change.get("after") else []


def told(change: Mapping[str, Json] | None, most: int = 3) -> str:
    """A change in words: ``version 47 → 46``; ``made …`` and ``removed …`` where it was or will be absent."""
    changes = differences(change)
    if change and change.get("before") is None:
        return some(
            [
                f"made {key} {brief(after)}" if i == 0 else f"{key} {brief(after)}"
                for i, (key, _, after) in enumerate(changes)
            ],
            most,
        )
    if change and change.get("after") is None:
        return some([f"removed {key} {brief(before)}" for key, before, _ in changes], most)
    return some([f"{key} {brief(before)} → {brief(after)}" for key, before, after in changes], most)


def kept(reading: Mapping[str, Json]) -> str:
    """A kept file in words: its name, its size, the beginning of its digest."""
    name, size = str(reading.get("_path", "")).rpartition("/")[2], reading.get("_size")
    parts = [brief(name), f"{size} bytes" if isinstance(size, int) else "", brief("sha256:" + str(reading["_sha256"]))]
    return ", ".join(part for part in parts if part)


def offset(said: Json) -> str:
    """How far the clock of a moment was ahead of another, as a custody log has it; logs of earlier versions say nothing."""
    if not isinstance(said, Mapping) or not isinstance(said.get("seconds"), int | float):
        why = said.get("why") if isinstance(said, Mapping) else ""
        return f"clock offset unknown: {why or 'it was not recorded'}"
    within = f" ± {said['within']:.3f}" if isinstance(said.get("within"), int | float) else ""
    return f"clock {said['seconds']:+.3f}{within} s against {said.get('clock') or 'another'}"


def some(names: Iterable[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def plural(count: int, noun: str) -> str:
    """``1 host``, ``3 hosts``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def short(digest: str) -> str:
    """``sha256:7f3c21e9…`` as ``7f3c-21e9``."""
    text = digest.rpartition(":")[2]
    return f"{text[:4]}-{text[4:8]}" if len(text) >= 8 else text


def resolving(run: str, host: str, step: str) -> str:
    """The command with which a person says what became of an uncertain step (``section/id``)."""
    place = f"{host}:{step.partition('/')[2]}"
    return f"engine resolve {run} {shlex.quote(place)}"
