"""A moment, and a server that answers at the second look."""

from collections.abc import Iterator
from pathlib import Path

from world import MARKED, Served, World


def world(tmp: Path) -> Iterator[World]:
    yield World(tmp, params={"for": "10ms"})


def world_port(tmp: Path) -> Iterator[World]:
    with Served(lambda request: 200) as server:
        yield World(tmp, params={"port": int(server.url.rsplit(":", 1)[1])})


def world_until_url(tmp: Path) -> Iterator[World]:
    with Served(lambda request: 200 if len(server.requests) % 2 == 0 else 503) as server:
        yield World(tmp, params={"until_url": f"{server.url}/ready", "every": "10ms", "headers": {"X-Token": MARKED}})
