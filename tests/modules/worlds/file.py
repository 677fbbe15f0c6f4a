"""Files on disk: one that differs, one that is not there, one that should go."""

from collections.abc import Iterator
from pathlib import Path

from world import World


def _with(there: World, name: str, content: str, mode: int = 0o640) -> World:
    (there.base / name).write_text(content)
    (there.base / name).chmod(mode)
    return there


def world(tmp: Path) -> Iterator[World]:
    yield _with(World(tmp, params={"path": "config.yml", "content": "threshold: 0.5\n", "mode": "0600"}), "config.yml", "x")


def world_only_the_mode(tmp: Path) -> Iterator[World]:
    yield _with(World(tmp, params={"path": "config.yml", "content": "x", "mode": "0600"}), "config.yml", "x")


def world_created(tmp: Path) -> Iterator[World]:
    yield World(tmp, params={"path": "new.yml", "content": ""})


def world_copied(tmp: Path) -> Iterator[World]:
    there = _with(World(tmp, params={"path": "config.yml", "from": "good.yml"}), "good.yml", "good")
    yield _with(there, "config.yml", "bad", 0o4755)


def world_copied_to_a_new_place(tmp: Path) -> Iterator[World]:
    yield _with(World(tmp, params={"path": "config.yml", "from": "good.yml"}), "good.yml", "good")


def world_absent(tmp: Path) -> Iterator[World]:
    yield _with(World(tmp, params={"path": "override.yml", "absent": True}), "override.yml", "old")
