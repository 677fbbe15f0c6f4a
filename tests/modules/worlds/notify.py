"""Two files to write to, and none of apprise: what can be seen of real channels is in tests/real/test_smtp_real.py."""

from collections.abc import Iterator
from pathlib import Path

from world import World


def world(tmp: Path) -> Iterator[World]:
    params = {"to": "incident-channel", "title": "fraud", "message": "fraud is going back to 1.3.2"}
    yield World(tmp, params, destinations={"incident-channel": ["file:messages.jsonl", "file:again/messages.jsonl"]})
