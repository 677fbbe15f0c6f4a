"""A registry whose serving version is to be kept: its digests, or its files too."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from world import World

from modules.directory import _client


def world(tmp: Path) -> Iterator[World]:
    there = World(tmp, params={"path": "models/fraud"})
    made = datetime(2026, 1, 1, tzinfo=UTC)
    files = {"model.json": b"weights", "tokenizer/vocab.txt": b"a b c"}
    _client.publish(there.base / "models/fraud", "1.4.0", files, by="ada", created=made, lineage={"parent": "1.3.0"})
    _client.point(there.base / "models/fraud", "1.4.0")
    yield there


def world_files(tmp: Path) -> Iterator[World]:
    for there in world(tmp):
        there.params["files"] = "keep"
        yield there
