"""A registry of three versions, of which the last serves, or none does."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from world import World

from modules.directory import _client


def _registry(tmp: Path) -> World:
    there = World(tmp, params={"path": "models/fraud", "version": "1.3.2"})
    for day, version in enumerate(("1.3.1", "1.3.2", "1.4.0"), start=1):
        _client.publish(
            there.base / "models/fraud",
            version,
            {"model.json": version.encode(), "tokenizer/vocab.txt": b"a b c"},
            by="ada",
            created=datetime(2026, 1, day, tzinfo=UTC),
            tags={"validation": "passed"},
            metrics={"precision": 0.97},
            lineage={"parent": "1.3.0"},
        )
    return there


def world(tmp: Path) -> Iterator[World]:
    there = _registry(tmp)
    _client.point(there.base / "models/fraud", "1.4.0")
    yield there


def world_without_a_link(tmp: Path) -> Iterator[World]:
    yield _registry(tmp)
