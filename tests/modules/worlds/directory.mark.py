"""A registry of one version, which carries a mark already, or none yet."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from world import World

from modules.directory import _client


def world(tmp: Path) -> Iterator[World]:
    there = World(tmp, params={"path": "models/fraud", "version": "1.4.0", "key": "bad", "value": "poisoned data"})
    made = datetime(2026, 1, 1, tzinfo=UTC)
    _client.publish(there.base / "models/fraud", "1.4.0", {"model.json": b"x"}, by="ada", created=made)
    yield there


def world_marked(tmp: Path) -> Iterator[World]:
    for there in world(tmp):
        _client.mark(there.base / "models/fraud", "1.4.0", "bad", "perhaps")
        _client.mark(there.base / "models/fraud", "1.4.0", "seen", "by ada")
        yield there
