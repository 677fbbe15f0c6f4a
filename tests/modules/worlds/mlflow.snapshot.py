"""A stand-in registry, and nothing kept of it yet: what changes is the evidence."""

from collections.abc import Iterator
from pathlib import Path

from standins import mlflow
from world import MARKED, World, tree


def world(tmp: Path) -> Iterator[World]:
    with mlflow() as (_, url):
        params = {"server": url, "token": MARKED, "model": "fraud", "alias": "champion", "files": "keep"}
        there = World(tmp, params, now=lambda: 1_767_225_600.0)
        there.look = lambda: tree(there.evidence)
        yield there
