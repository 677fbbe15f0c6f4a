"""A stand-in scoring server whose version 1 is right about every golden row."""

import json
from collections.abc import Iterator
from pathlib import Path

from standins import v2
from world import MARK, MARKED, World


def world(tmp: Path) -> Iterator[World]:
    with v2(serving="1") as (server, url):
        server.secret = MARK
        params = {"url": url, "model": "fraud", "data": "golden.jsonl", "metric": "f1", "positive": "fraud"}
        params |= {"at_least": "95%", "version": "1", "batch": 7, "headers": {"authorization": MARKED}}
        there = World(tmp, params)
        rows = [{"input": [float(n)], "expect": "fraud" if n > 10 else "legitimate"} for n in range(20)]
        (there.base / "golden.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        yield there
