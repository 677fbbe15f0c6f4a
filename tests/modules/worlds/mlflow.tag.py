"""A stand-in registry whose versions passed validation."""

from collections.abc import Iterator
from pathlib import Path

from standins import mlflow
from world import MARKED, World


def world(tmp: Path) -> Iterator[World]:
    with mlflow() as (registry, url):
        params = {"server": url, "token": MARKED, "model": "fraud", "version": "3", "key": "validation", "value": "failed"}
        yield World(tmp, params, look=lambda: str(registry.tags))


def world_new_tag(tmp: Path) -> Iterator[World]:
    with mlflow() as (registry, url):
        params = {"server": url, "token": MARKED, "model": "fraud", "version": "3", "key": "quarantine", "value": "true"}
        yield World(tmp, params, look=lambda: str(registry.tags))
