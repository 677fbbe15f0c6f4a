"""Values in words: moments, durations, digests, changes."""

import pytest

from engine import words


@pytest.mark.parametrize(
    ("expected", "seconds"),
    [
        ("0.0s", -1.0),
        ("0.4s", 0.4),
        ("9.9s", 9.9),
        ("41s", 41.2),
        ("2m41s", 161.0),
        ("10m", 600.0),
        ("3h05m", 11100.0),
        ("2d04h", 187200.0),
    ],
)
def test_a_duration_is_said_in_two_parts_at_most(expected: str, seconds: float) -> None:
    """A duration has the unit that fits it and one smaller one."""
    assert expected == words.span(seconds)


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        ("nothing", None),
        ("yes", True),
        ("0.9123", 0.91234567),
        ("47", "47"),
        ("a, b", ["a", "b"]),
        ("none", []),
        ('{"a": 1}', {"a": 1}),
        ("sha256:9c1e9c1e…", "sha256:" + "9c1e" * 16),
        ("\\u001b[31mred", "\x1b[31mred"),
    ],
)
def test_a_value_is_short_and_safe_to_print(expected: str, value: object) -> None:
    """Digests are shortened, and control characters are shown instead of sent."""
    assert expected == words.brief(value)


def test_a_change_says_what_differs_and_what_was_made_or_removed() -> None:
    """A thing that was absent as a whole is made, one that will be absent is removed."""
    assert "version 47 → 46" == words.told({"before": {"version": "47"}, "after": {"version": "46"}})
    assert "made path a, size 3" == words.told({"before": None, "after": {"path": "a", "size": 3}})
    assert "removed path a" == words.told({"before": {"path": "a"}, "after": None})
    assert "" == words.told({"_digest": "sha256:00"})
    assert "" == words.told(None)


def test_a_digest_can_be_read_aloud() -> None:
    """Eight characters of a digest are enough to compare two screens."""
    assert "7f3c-21e9" == words.short("sha256:7f3c21e9aabb")
    assert "x" == words.short("x")


def test_how_far_clocks_are_apart_is_said_or_that_nobody_knows() -> None:
    """A figure comes with its sign and how sure it is; no figure comes with its reason."""
    met = {"seconds": -0.25, "within": 1.01, "clock": "scoring-1 (Date header)"}
    assert "clock -0.250 ± 1.010 s against scoring-1 (Date header)" == words.offset(met)
    assert "clock +3.000 s against what the step says" == words.offset(
        {"seconds": 3, "within": None, "clock": "what the step says"}
    )
    assert "clock offset unknown: no clock" == words.offset({"seconds": None, "why": "no clock"})
    assert "clock offset unknown: it was not recorded" == words.offset(None)


def test_moments_are_utc_with_a_date() -> None:
    """A moment names its zone, and the day where it stands alone."""
    assert "2026-11-23 03:09:02Z" == words.utc(1795403342.0)
    assert "03:09:02Z" == words.utc(1795403342.9, date=False)
