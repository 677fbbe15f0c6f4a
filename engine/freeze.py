"""Freeze windows: when nothing may be changed, and where. What `freeze.yml` beside an inventory must be.

In: a `Document`, the hosts of a run, the time. Out: every mistake (LG115), or the windows that are open. Who may change
something all the same is not decided here.

Times are those of the clocks on the wall of a zone: a window from Friday 16:00 begins at 16:00 in summer and in winter. A
minute that the clocks skip begins when they have skipped it, one that they show twice the first time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from fnmatch import fnmatchcase
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from engine import source
from engine.diagnostics import Diagnostic, printable
from modules.contract import Json

_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d")
_WEEKLY = re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun) (\d\d):(\d\d)")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_WEEK = 7 * 24 * 60


@dataclass(frozen=True)
class Window:
    """A time in which nothing may change on `hosts` (names of hosts and groups, with `*`). `until`, where it is open now:
    when it ends, in seconds since 1970, UTC."""

    name: str
    reason: str
    said: tuple[str, str]
    zone: tzinfo
    hosts: tuple[str, ...] = ("*",)
    until: float = 0.0

    def covers(self, name: str, groups: Iterable[str]) -> bool:
        """Whether it holds for this host."""
        return any(fnmatchcase(one, pattern) for pattern in self.hosts for one in (name, *groups))

    def at(self, now: float) -> Window | None:
        """The window with its end, if it is open at `now`."""
        local = datetime.fromtimestamp(now, self.zone).replace(tzinfo=None)
        begin, end = (_WEEKLY.fullmatch(text) for text in self.said)
        if begin and end:
            from_, to, minute = _minute(begin), _minute(end), _minute_of(local)
            length = (to - from_) % _WEEK or _WEEK
            passed = (minute - from_) % _WEEK
            start = local.replace(second=0, microsecond=0) - timedelta(minutes=passed)
            return replace(self, until=self._stamp(start + timedelta(minutes=length))) if passed < length else None
        first, last = (self._stamp(datetime.fromisoformat(text)) for text in self.said)
        return replace(self, until=last) if first <= now < last else None

    def _stamp(self, local: datetime) -> float:
        return local.replace(tzinfo=self.zone).timestamp()


def _minute(found: re.Match[str]) -> int:
    return _DAYS.index(found[1]) * 24 * 60 + int(found[2]) * 60 + int(found[3])


def _minute_of(local: datetime) -> int:
    return local.weekday() * 24 * 60 + local.hour * 60 + local.minute


def mistakes(document: source.Document) -> list[Diagnostic]:
    """What is wrong with the windows, LG115 each."""
    found = [replace(d, code="LG115") for d in source.validate(document, source.schema("freeze"))]
    for number, line in enumerate(document.text.split("\n"), 1):
        if "{{" in line:
            summary = f"line {number} holds a template, and nobody renders these"
            found.append(Diagnostic("LG115", summary, document.place(), hint="write the name or time itself"))
    return found or [*_wrong(document)]


def _wrong(document: source.Document) -> Iterator[Diagnostic]:
    names: set[str] = set()
    for number, said in enumerate(document.data["windows"]):
        at: source.Keys = ("windows", number)
        if said["name"] in names:
            summary = f"two windows are called `{said['name']}`"
            yield Diagnostic("LG115", summary, document.place((*at, "name")), hint="rename one")
        names.add(said["name"])
        if not _zone(said.get("zone", "UTC")):
            summary = f"no time zone is called `{printable(said['zone'])}`"
            hint = "write for example Europe/Berlin, or UTC"
            yield Diagnostic("LG115", summary, document.place((*at, "zone")), hint=hint)
        forms = [_form(said[name]) for name in ("from", "until")]
        for name, form in zip(("from", "until"), forms, strict=True):
            if not form:
                hint = "write 2026-12-24T00:00, or every week: Fri 16:00"
                yield Diagnostic("LG115", f"`{name}` is no time", document.place((*at, name)), hint=hint)
        if all(forms) and forms[0] != forms[1]:
            hint = "give both with a date, or both with a day of the week"
            yield Diagnostic("LG115", "a window has one kind of time", document.place((*at, "until")), hint=hint)
        elif forms == ["date", "date"] and said["from"] >= said["until"]:
            place, hint = document.place((*at, "until")), "let it end later than it begins"
            yield Diagnostic("LG115", "the window ends before it begins", place, hint=hint)


def _form(text: str) -> str:
    """date, weekly, or nothing when it is no time."""
    if (found := _WEEKLY.fullmatch(text)) and int(found[2]) < 24 and int(found[3]) < 60:
        return "weekly"
    try:
        return "date" if _DATE.fullmatch(text) and datetime.fromisoformat(text) else ""
    except ValueError:
        return ""


def _zone(name: str) -> tzinfo | None:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def windows(document: source.Document) -> tuple[Window, ...]:
    """The windows of a document without mistakes."""
    return tuple(
        Window(
            one["name"], one["reason"], (one["from"], one["until"]), _zone(one.get("zone", "UTC")) or UTC,
            tuple(one.get("hosts", ("*",))),
        )
        for one in document.data["windows"]
    )  # fmt: skip


def open_now(all_of_them: Sequence[Window], hosts: Iterable[tuple[str, Sequence[str]]], now: float) -> tuple[Window, ...]:
    """The windows that are open at `now` for any of the hosts, given as (name, groups)."""
    rows = list(hosts)
    found = (one.at(now) for one in all_of_them if any(one.covers(*row) for row in rows))
    return tuple(one for one in found if one)


def shown(open_ones: Iterable[Window]) -> list[dict[str, Json]]:
    """As a person is shown them who is asked for a key."""
    return [{"name": one.name, "until": one.until, "reason": one.reason} for one in open_ones]
