"""Freeze windows: open to the minute, by the clocks on the wall of their zone, for the hosts that they name."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from engine import freeze, source

BERLIN = "Europe/Berlin"


def document(**said: Any) -> source.Document:
    lines = "".join(f"    {name}: {value}\n" for name, value in {"reason": "books", **said}.items())
    return source.parse(f"windows:\n  - name: w\n{lines}", "freeze.yml")


def is_open(local: str, zone: str = "UTC", **said: Any) -> bool:
    """Whether the window is open at this time of the zone's clocks."""
    found = document(**said, zone=zone)
    assert [] == freeze.mistakes(found)
    at = datetime.fromisoformat(local).replace(tzinfo=ZoneInfo(zone)).timestamp()
    return bool(freeze.open_now(freeze.windows(found), [("a", ("eu",))], at))


DATED = {"from": "2026-12-24T00:00", "until": "2027-01-02T08:00"}
WEEKEND = {"from": "Fri 16:00", "until": "Mon 06:00"}
NIGHT = {"from": "Tue 22:00", "until": "Wed 02:00"}


@pytest.mark.parametrize(
    ("said", "zone", "local", "expected"),
    [
        (DATED, "UTC", "2026-12-23T23:59:59", False),
        (DATED, "UTC", "2026-12-24T00:00:00", True),
        (DATED, "UTC", "2027-01-02T07:59:59", True),
        (DATED, "UTC", "2027-01-02T08:00:00", False),
        (DATED, BERLIN, "2026-12-24T00:00:00", True),
        (WEEKEND, BERLIN, "2026-11-27T15:59:59", False),
        (WEEKEND, BERLIN, "2026-11-27T16:00:00", True),
        (WEEKEND, BERLIN, "2026-11-30T05:59:59", True),
        (WEEKEND, BERLIN, "2026-11-30T06:00:00", False),
        (WEEKEND, BERLIN, "2026-12-02T12:00:00", False),
        (WEEKEND, BERLIN, "2026-07-03T16:00:00", True),  # in summer by the same clocks
        (WEEKEND, BERLIN, "2026-07-03T15:59:59", False),
        (NIGHT, "UTC", "2026-12-02T01:59:59", True),
        (NIGHT, "UTC", "2026-12-02T02:00:00", False),
        (NIGHT, "UTC", "2026-12-01T21:59:59", False),
        ({"from": "Mon 00:00", "until": "Mon 00:00"}, "UTC", "2026-12-02T12:00:00", True),  # a whole week
    ],
)
def test_open_to_the_minute(said: dict[str, str], zone: str, local: str, expected: bool) -> None:
    """A window begins with its first minute and ends before its last, on the clocks of its zone, in every season."""
    assert expected == is_open(local, zone, **said)


@pytest.mark.parametrize(
    ("said", "local", "until"),
    [
        (DATED, "2026-12-25T12:00", "2027-01-02T08:00"),
        (WEEKEND, "2026-11-29T12:00", "2026-11-30T06:00"),
        (WEEKEND, "2026-10-24T12:00", "2026-10-26T06:00"),  # the clocks go back in between
        (WEEKEND, "2027-03-27T12:00", "2027-03-29T06:00"),  # the clocks go forward in between
    ],
)
def test_its_end_is_told(said: dict[str, str], local: str, until: str) -> None:
    """A window that is open says until when, by the clocks of its zone."""
    zone = ZoneInfo(BERLIN)
    at, end = (datetime.fromisoformat(text).replace(tzinfo=zone).timestamp() for text in (local, until))
    [found] = freeze.open_now(freeze.windows(document(**said, zone=BERLIN)), [("a", ())], at)
    assert end == found.until


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ("[a]", True),
        ("[b, a]", True),
        ("['*']", True),
        ("[eu]", True),
        ("[e*]", True),
        ("[b]", False),
        ("[aa]", False),
        ("[us]", False),
    ],
)
def test_for_its_hosts(hosts: str, expected: bool) -> None:
    """A window names hosts and groups, `*` standing for any letters; without names it holds for all."""
    assert expected == is_open("2026-12-25T00:00", **DATED, hosts=hosts)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"from": "2026-12-24", "until": "2026-12-25T00:00"}, "`from` is no time"),
        ({"from": "2026-02-30T00:00", "until": "2026-12-25T00:00"}, "`from` is no time"),
        ({"from": "Fri 24:00", "until": "Mon 06:00"}, "`from` is no time"),
        ({"from": "Friday 16:00", "until": "Mon 06:00"}, "`from` is no time"),
        ({"from": "Fri 16:00", "until": "2026-12-25T00:00"}, "one kind of time"),
        ({"from": "2026-12-25T00:00", "until": "2026-12-25T00:00"}, "ends before it begins"),
        ({**DATED, "zone": "Europe/Berlinn"}, "no time zone is called `Europe/Berlinn`"),
        ({**DATED, "zone": "../../etc/passwd"}, "no time zone"),
        ({**DATED, "hosts": "[]"}, "not be empty"),
        ({**DATED, "hosts": "['a;b']"}, "any letters"),
        ({**DATED, "reason": "''"}, "not be empty"),
        ({**DATED, "who": "me"}, "unknown key `who`"),
        ({"from": "2026-12-25T00:00"}, "`until` is missing"),
        ({**DATED, "reason": "'{{ x }}'"}, "holds a template"),
    ],
)
def test_a_window_that_cannot_be_read_is_refused(said: dict[str, str], words: str) -> None:
    """A window that would hold nothing back by mistake is LG115, with its place."""
    found = freeze.mistakes(document(**said))
    assert {"LG115"} == {one.code for one in found}
    assert any(words in one.summary for one in found), found
    assert all(one.place for one in found)


def test_two_windows_of_one_name_are_refused() -> None:
    """A key names a window, so a name is one window's."""
    one = "  - {name: w, reason: r, from: Fri 16:00, until: Mon 06:00}\n"
    [found] = freeze.mistakes(source.parse(f"windows:\n{one}{one}", "freeze.yml"))
    assert "two windows are called `w`" == found.summary
