"""A stand-in registry, and nothing kept of it yet: what changes is the evidence."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from standins import mlflow
from world import MARKED, World, tree

from modules._wire import Wire
from modules.contract import Reply


class Timeless(Wire):
    """Answers without the time of day: the evidence holds it, and two captures are to be compared to the byte."""

    def http(self, *words: Any, **more: Any) -> Reply:
        reply = super().http(*words, **more)
        return replace(reply, headers={name: value for name, value in reply.headers.items() if name != "date"})


def world(tmp: Path) -> Iterator[World]:
    with mlflow() as (_, url):
        params = {"server": url, "token": MARKED, "model": "fraud", "alias": "champion", "files": "keep"}
        there = World(tmp, params, wire=Timeless(), now=lambda: 1_767_225_600.0)
        there.look = lambda: tree(there.evidence)
        yield there
