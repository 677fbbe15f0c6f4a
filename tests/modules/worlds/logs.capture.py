"""A log in a file that somebody else writes, and one that a command prints."""

import sys
from collections.abc import Iterator
from pathlib import Path

from world import World

LINES = "".join(f"{n} scored payment {n}\n" for n in range(50))


def world(tmp: Path) -> Iterator[World]:
    there = World(tmp, params={"file": "scorer.log", "as": "scorer.log", "lines": 20})
    (there.base / "scorer.log").write_text(LINES)
    yield there


def world_command(tmp: Path) -> Iterator[World]:
    there = World(tmp, params={"command": [sys.executable, "-c", f"print({LINES!r}, end='')"], "as": "scorer.log"})
    yield there
