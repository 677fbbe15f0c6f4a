"""A stand-in scoring server on the same machine, and limits that even a busy machine keeps."""

import json
from collections.abc import Iterator
from pathlib import Path

from standins import v2
from world import MARK, MARKED, World


def world(tmp: Path) -> Iterator[World]:
    with v2() as (server, url):
        server.secret = MARK
        params = {"url": url, "model": "fraud", "probe": [[1.0], [2.0]], "requests": 20, "warmup": 2, "p99_below": "20s"}
        yield World(tmp, {**params, "headers": {"authorization": MARKED}})


def world_side_by_side(tmp: Path) -> Iterator[World]:
    with v2() as (_, url):
        params = {"url": url, "model": "fraud", "data": "rows.jsonl", "requests": 40, "concurrency": 4, "p50_below": "20s"}
        there = World(tmp, {**params, "version": "2"})
        (there.base / "rows.jsonl").write_text("".join(json.dumps({"input": [n]}) + "\n" for n in range(3)))
        yield there
