"""A server whose audit log is kept, for the first time, or because the first copy was altered."""

from collections.abc import Iterator
from pathlib import Path

from world import MARK, MARKED, Served, World

from modules.catalog import Catalog


def world(tmp: Path) -> Iterator[World]:
    with Served(
        lambda request: (200, b'{"a": 1}\n\n{"a": 2}\n') if request.headers.get("x-token") == MARK else 401
    ) as server:
        yield World(
            tmp, params={"url": f"{server.url}/audit?wrong=true", "as": "wrong.jsonl", "headers": {"X-Token": MARKED}}
        )


def world_altered(tmp: Path) -> Iterator[World]:
    for there in world(tmp):
        capture = Catalog().get("http.capture").module
        capture.apply(there.params, None, there.context())
        (there.evidence / "wrong.jsonl").write_text("something else")
        yield there
