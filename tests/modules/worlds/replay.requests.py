"""Kept requests that the stand-in's version 1 answers as they should have been answered."""

import json
from collections.abc import Iterator
from pathlib import Path

from standins import v2
from world import MARK, MARKED, World


def world(tmp: Path) -> Iterator[World]:
    with v2(serving="1") as (server, url):
        server.secret = MARK
        params = {"from": "wrong.jsonl", "url": url, "model": "fraud", "expect": "reply.label == request.truth"}
        there = World(tmp, {**params, "at_least": "95%", "version": "1", "headers": {"authorization": MARKED}})
        body = {"inputs": [{"name": "input-0", "shape": [1, 1], "datatype": "FP64", "data": [3.0]}]}
        kept = [{"input": [2.5], "label": "fraud", "truth": "legitimate"}, {**body, "truth": "legitimate"}]
        (there.base / "wrong.jsonl").write_text("".join(json.dumps(request) + "\n" for request in kept))
        yield there
