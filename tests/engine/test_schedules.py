"""Who holds what, whoever asks at once: every answer of the store is one that a model of leases gives in the same order."""

from __future__ import annotations

import itertools
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from postgres import PASSWORD, Server
from proxy import Proxy
from schedules import Schedule, judged

from engine import leases
from engine.journal import Journal, JournalError
from engine.postgres_store import PostgresStore
from engine.sqlite_store import SqliteStore

#: Schedules in all; `make sharing` plays 500.
SCHEDULES = int(os.environ.get("LASTGOOD_SCHEDULES", "40"))
LOTS = 4  # each lot of schedules is a test of its own


def opener(kind: str, server: Server | None, folder: Path) -> Any:
    if server is None:
        return lambda: SqliteStore(folder)
    url = server.url()
    return lambda: PostgresStore(url, folder, 60)


@pytest.mark.parametrize("lot", range(LOTS))
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_no_stale_write_and_no_two_at_one_host(request: pytest.FixtureRequest, tmp_path: Path, kind: str, lot: int) -> None:
    """Eight workers start, claim, lock, write, act, oversleep, break and give back, by seeded schedules: no write under an
    old token is accepted, no effect of one run meets another's on a host, and no answer differs from the model's."""
    server = request.getfixturevalue("postgres") if kind == "postgres" else None
    asked = refused = effects = 0
    for seed in itertools.count(lot, LOTS):
        if seed >= SCHEDULES // 2 and (min(refused, effects) > 5 or seed >= SCHEDULES):
            break  # threads are as fast as they like: where little came of a lot, it goes on until it says something
        done = Schedule(seed, opener(kind, server, tmp_path / str(seed))).play()
        assert [] == judged(done), f"schedule {seed}"
        asked += len(done)
        refused += sum(one.answer in ("LG080", "LG082") for one in done)
        effects += sum(one.what == "effect" for one in done)
    print(f"{asked} operations, {refused} refused, {effects} effects")
    assert min(refused, effects) > 5, "the schedules say something"


def test_schedules_over_a_network_that_is_cut(postgres: Server, tmp_path: Path) -> None:
    """The same, while connections are cut at any message: what was not acknowledged is asked again, and is done once."""
    url = postgres.url()
    with Proxy(("127.0.0.1", postgres.port)) as proxy:
        for seed in range(100, 104):
            proxy.calm()  # what was to fail in the schedule before would meet a store that is being opened
            url = postgres.url(port=proxy.port, password=PASSWORD)
            schedule = Schedule(seed, lambda url=url: PostgresStore(url, tmp_path, 60))
            schedule.trouble = lambda dice: proxy.next("cut", dice.randint(1, 8))
            assert [] == judged(schedule.play()), f"schedule {seed}"
        assert proxy.failed > 5


#: What the engine does wrong when somebody takes it out: each must be seen.
PLANTED = {
    "a write does not look at its token": (leases, "holds", lambda *_: True),
    "who is in the way is not looked at": (leases, "in_the_way", lambda *_: None),
    "a lapsed lease is renewed": (leases, "renew", lambda *_: True),
    "nobody looks before an effect": (Journal, "live", lambda *_: None),
}


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_mistake_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Without the check, some schedule soon shows an answer that the model does not give, or two effects at once."""
    monkeypatch.setattr(*PLANTED[what])
    for seed in range(40):
        if judged(Schedule(seed, opener("sqlite", None, tmp_path / str(seed))).play()):
            return
    pytest.fail("nobody saw it")


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_two_hundred_at_once(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    """Two hundred connections start a run at one moment, and then want one host: each has a number of its own, one has the
    host, and all others are told who."""
    server = request.getfixturevalue("postgres") if kind == "postgres" else None
    open_, start, lock = opener(kind, server, tmp_path), threading.Barrier(200), threading.Barrier(200)
    runs, winners, losers = list[str](), list[str](), list[str]()
    made = [Journal(open_(), lease=600) for _ in range(200)]

    def go(journal: Journal) -> None:
        start.wait()
        run = journal.start({})
        runs.append(run)
        lock.wait()
        try:
            journal.lock(run, ["fraud"], "x")
            winners.append(run)
        except JournalError as error:
            losers.append(error.diagnostics[0].summary)

    threads = [threading.Thread(target=go, args=(journal,)) for journal in made]
    for one in threads:
        one.start()
    for one in threads:
        one.join(300)
    for journal in made:
        journal.close()
    assert [f"RB-{n:04d}" for n in range(1, 201)] == sorted(runs)
    assert (1, 199) == (len(winners), len(losers))
    assert {f"fraud is held by {winners[0]} (x)"} == {said.partition(",")[0] for said in losers}
