"""The figures of a record on PostgreSQL: what it adds to a step against a folder of this machine, and how many syncs a fleet
costs. A server of the benchmark's own on the loopback, as the tests start it."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

import postgres


def each_step(run: Callable[[str], float], runs: int, steps: int) -> tuple[float, float, float, float]:
    """Medians: seconds on SQLite and on PostgreSQL, their ratio, seconds that PostgreSQL adds to a step; in pairs.

    `run` carries out a playbook of `steps` steps with a given `--state`, and returns how long it took.
    """
    pairs = []
    for server in postgres.serving():
        for number in range(runs + 1):
            pairs.append((run(f"state{number}"), run(server.url())))
    counted = pairs[1:]  # the first fills the caches
    here, there = (statistics.median(column) for column in zip(*counted, strict=True))
    ratio = statistics.median(b / a for a, b in counted)
    return here, there, ratio, statistics.median((b - a) / steps for a, b in counted)


def syncs(run: Callable[[str], object]) -> tuple[int, int]:
    """How often the server has synced its log, and how many entries are on record, after `run` was given its address."""
    for server in postgres.serving():
        schema = server.schema()
        with server.direct(schema=schema) as db:
            before = _synced(db)
            run(server.url(schema))
            entries = db.execute("SELECT COUNT(*) FROM entries").fetchone()
            return _synced(db) - before, entries[0] if entries else 0
    raise AssertionError("there is no server")


def _synced(db: postgres.psycopg.Connection) -> int:
    db.execute("SELECT pg_stat_force_next_flush()")
    found = db.execute("SELECT wal_sync FROM pg_stat_wal").fetchone()
    return int(found[0]) if found else 0
