"""A stand-in Prometheus, and a metric page, on which precision is too low."""

from collections.abc import Iterator
from pathlib import Path

from standins import prometheus
from world import MARKED, Served, World


def world(tmp: Path) -> Iterator[World]:
    with prometheus(lambda when: 0.874) as (_, url):
        params = {"server": url, "query": 'fraud_precision{service="fraud"}', "below": 0.9, "for": "5m"}
        yield World(tmp, {**params, "headers": {"authorization": MARKED}})


def world_page(tmp: Path) -> Iterator[World]:
    text = '# TYPE fraud_precision gauge\nfraud_precision{service="fraud"} 0.99\nup 1\n'
    with Served(lambda _: (200, text.encode())) as server:
        params = {"page": f"{server.url}/metrics", "query": "fraud_precision", "above": 0.95, "for": "60ms", "every": "20ms"}
        yield World(tmp, {**params, "headers": {"authorization": MARKED}})
