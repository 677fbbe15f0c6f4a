"""Commands that every Linux has, once for each way of telling that the work is done."""

from collections.abc import Iterator
from pathlib import Path

from world import MARKED, World


def world(tmp: Path) -> Iterator[World]:
    yield World(
        tmp,
        params={
            "argv": ["tee", "made"],
            "stdin": "text",
            "creates": "made",
            "undo": ["rm", "made"],
            "env": {"TOKEN": MARKED},
        },
    )


def world_unless(tmp: Path) -> Iterator[World]:
    there = World(tmp, params={"argv": ["touch", "b"], "cwd": "sub", "unless": ["test", "-e", "b"], "undo": ["rm", "b"]})
    (there.base / "sub").mkdir()
    yield there


def world_once(tmp: Path) -> Iterator[World]:
    params = {"argv": ["sh", "-c", "cat >> log; cat log; exit 3"], "stdin": MARKED, "once": True, "expect": [0, 3]}
    there = World(tmp, params={**params, "undo": ["sh", "-c", "rm log; exit 3"]})
    there.look = lambda: (there.base / "log").exists()
    yield there


def world_once_for_good(tmp: Path) -> Iterator[World]:
    yield World(tmp, params={"argv": ["true"], "once": True})
