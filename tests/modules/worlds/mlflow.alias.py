"""A stand-in registry whose `champion` is version 3."""

from collections.abc import Iterator
from pathlib import Path

from standins import mlflow
from world import MARKED, World


def world(tmp: Path) -> Iterator[World]:
    with mlflow() as (registry, url):
        params = {"server": url, "token": MARKED, "model": "fraud", "alias": "champion", "version": "1", "digests": True}
        yield World(tmp, params, look=lambda: dict(registry.aliases))


def world_new_alias(tmp: Path) -> Iterator[World]:
    with mlflow() as (registry, url):
        params = {"server": url, "token": MARKED, "model": "fraud", "alias": "challenger", "version": "2"}
        yield World(tmp, params, look=lambda: dict(registry.aliases))
