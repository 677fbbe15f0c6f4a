"""A stand-in Prometheus on which precision falls."""

from collections.abc import Iterator
from pathlib import Path

from standins import prometheus
from world import MARKED, World


def world(tmp: Path) -> Iterator[World]:
    with prometheus(lambda when: 0.97 - (when % 100) / 1000) as (server, url):
        params = {"server": url, "query": "fraud_precision", "as": "precision.json", "window": "30m"}
        yield World(tmp, {**params, "headers": {"authorization": MARKED}}, now=lambda: server.now)
