"""The slow platform: it honours the key, it says what is under way, or it does neither; and it is fast here."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slow_platform import Platform
from world import MARK, MARKED, Served, World


@contextmanager
def _platform(tmp: Path, **more: Any) -> Iterator[World]:
    platform = Platform(seconds=0.0, keyed="key_header" in more)
    platform.token = MARK
    with Served(platform.answer) as served:
        params = {
            "url": f"{served.url}/endpoints/fraud",
            "start_url": f"{served.url}/endpoints/fraud/update",
            "fields": {"deployment.version": "1"},
            "body": {"version": "$deployment.version"},
            "headers": {"authorization": MARKED},
            "done_when": "reply.state == 'Succeeded'",
            "failed_when": "reply.state in ['Failed', 'RolledBack', 'Cancelled']",
            "says": "message",
            "cancel_url": f"{served.url}/operations/$handle",
        }
        yield World(tmp, params={**params, **more}, look=lambda: dict(platform.now))


def world(tmp: Path) -> Iterator[World]:
    with _platform(tmp, key_header="Idempotency-Key", cancel_url="$handle") as there:
        yield there


def world_that_says_what_goes_on(tmp: Path) -> Iterator[World]:
    with _platform(tmp, pending="operation.id", handle="operation.id") as there:
        there.params["status_url"] = there.params["cancel_url"]
        yield there


def world_that_says_nothing(tmp: Path) -> Iterator[World]:
    with _platform(tmp, handle="operation.id") as there:
        there.params["status_url"] = there.params["cancel_url"]
        yield there
