"""The same crashes over a record on PostgreSQL: drawn playbooks killed anywhere, taken up again, compared."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from drawn import drawn
from exploration import Exploration
from killer import Killer
from postgres import Server, serving
from shelf import Schema
from theatre import Theatre

#: Points in all; `make sharing` takes more.
POINTS = int(os.environ.get("LASTGOOD_POSTGRES_POINTS", "204"))
#: Playbooks with one thread: with several, and a database between them, any host may be the one that does what all share.
SEEDS = [seed for seed in range(2, 400) if drawn(seed).forks == 1][: max(4, POINTS // 60)]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server in memory, where there is one: a kill of the engine loses nothing there, and nobody waits for a disk."""
    shared = Path("/dev/shm")
    yield from serving(shared if os.access(shared, os.W_OK) else Path("/tmp"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_killed_anywhere_on_postgres(memory: Path, kill: Killer, server: Server, seed: int) -> None:
    """Killed in the run and in the resume, at any boundary: each effect as often, the same world and end."""
    folder = memory / f"postgres-{seed}"
    with closing(Schema(server, folder / ".lastgood")) as shelf:
        tally = Exploration(Theatre(folder, drawn(seed), kill, shelf=shelf)).explored(
            POINTS // len(SEEDS), ("run", "resume")
        )
    assert [] == [f"{wrong.sort}: {wrong.point} {wrong.text}" for wrong in tally.wrong]
    print(f"{tally.points} points, {sum(n for (way, _), n in tally.kills.items() if way == 'again')} of them in a recovery")
    assert tally.points >= POINTS // len(SEEDS) * 0.9
