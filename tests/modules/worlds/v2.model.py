"""A stand-in scoring server that serves version 2; version 1 is asked for, by request or by settings file."""

import json
from collections.abc import Iterator
from pathlib import Path

from standins import v2
from world import MARK, MARKED, World

PARAMS = {"model": "fraud", "version": "1", "probe": [[3.0], [30.0]], "within": "5s"}


def world(tmp: Path) -> Iterator[World]:
    with v2() as (server, url):
        server.secret = MARK
        yield World(tmp, {**PARAMS, "url": url, "headers": {"authorization": MARKED}}, look=lambda: server.serving)


def world_not_loaded(tmp: Path) -> Iterator[World]:
    with v2(serving=None) as (server, url):
        yield World(tmp, {**PARAMS, "url": url}, look=lambda: server.serving)


def world_with_settings(tmp: Path) -> Iterator[World]:
    settings = tmp / "playbook/fraud/model-settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"name": "fraud", "parameters": {"uri": "/models/2", "version": "2"}}))
    with v2(settings=settings) as (server, url):
        params = {**PARAMS, "url": url, "settings": "fraud/model-settings.json", "uri": "/models/1"}
        yield World(tmp, params, look=lambda: (server.serving, settings.read_text()))
