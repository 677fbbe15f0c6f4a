"""A registry's history: one version serves, one is marked, two could be gone back to."""

from collections.abc import Iterator
from pathlib import Path

from world import World


def _candidate(version: str, day: int, **more: object) -> dict[str, object]:
    return {
        "version": version,
        "created": f"2026-01-{day:02}T12:00:00+00:00",
        "by": "ada",
        "tags": {"validation": "passed"},
        "metrics": {},
        "digest": f"sha256:{version}",
        "serving": False,
        "artifact": "present",
        "why": "",
        **more,
    }


def world(tmp: Path) -> Iterator[World]:
    history = [
        _candidate("4", 4, serving=True),
        _candidate("3", 3, tags={"validation": "passed", "status": "quarantined"}),
        _candidate("2", 2),
        _candidate("1", 1),
    ]
    yield World(
        tmp,
        params={"of": "directory.current", "with": {"path": "models"}, "where": "candidate.tags.validation == 'passed'"},
        history=lambda module, params: history,
    )


def world_nothing_serves(tmp: Path) -> Iterator[World]:
    yield World(
        tmp,
        params={"of": "directory.current", "with": {"path": "models"}, "floor": "1", "max_age": "9000d"},
        history=lambda module, params: [_candidate("2", 2), _candidate("1", 1)],
    )
