"""journal: what was acknowledged is there, in order and unchanged; who may write; what happens when nobody can."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from places import Place, Places

from engine import chain, journal, sqlite_store
from engine.diagnostics import Exit
from engine.journal import Entry, Journal, JournalError

ROOT = Path(__file__).parents[2]
#: For another process: `opened(state)` is a journal there.
OPEN = """
from pathlib import Path
from tempfile import TemporaryDirectory
from engine.cli import keeping
from engine.journal import LEASE, Journal
no_files = TemporaryDirectory()
def opened(state):
    return Journal(keeping.opened(state, Path(no_files.name), LEASE))
"""


@pytest.fixture(params=["sqlite", "postgres"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Places:
    """Where stores can be made, of either kind: the laws of the record hold for both."""
    return Places(tmp_path, request.getfixturevalue("postgres") if request.param == "postgres" else None)


@pytest.fixture
def place(places: Places) -> Place:
    return places.new()


@pytest.fixture
def store(place: Place) -> Iterator[Journal]:
    made = place.open()
    yield made
    made.close()


def filled(place: Place, count: int = 6, runs: int = 1) -> list[str]:
    """A closed store with runs of `count` entries each."""
    made = place.open(now=iter(range(1_700_000_000, 1_800_000_000)).__next__)
    names = [made.start({"name": f"run {n}"}) for n in range(runs)]
    for number in range(2, count + 1):
        for name in names:
            made.append(name, "note", {"n": number}, f"host{number % 2}", f"execution/{number}")
    made.close()
    return names


def refused(call: Callable[[], Any], code: str, ends: Exit = Exit.FAILED) -> JournalError:
    with pytest.raises(JournalError) as caught:
        call()
    assert (code, ends) == (caught.value.diagnostics[0].code, caught.value.exit)
    assert caught.value.diagnostics[0].hint
    return caught.value


# -- entries


def test_an_entry_is_given_back_as_it_was_written(place: Place) -> None:
    """Number, time, kind, host, step and body come back the same, from this store and from another process's."""
    body = {
        "text": "précision → 0.98 🙂",
        "n": 1,
        "f": 0.1,
        "none": None,
        "list": [1, {"a": []}],
        "true": True,
        "quote": '"\\\n',
    }
    first = place.open(now=lambda: 1_700_000_000.123456)
    run = first.start({"name": "x"})
    made = first.append(run, "step.outcome", body, "h", "execution/a[2]")
    assert (run, 2, 1_700_000_000.123456, "step.outcome", "h", "execution/a[2]") == (
        made.run, made.seq, made.at, made.kind, made.host, made.step,
    )  # fmt: skip
    assert body == made.body
    first.close()
    second = place.open()
    assert made == second.entries(run)[1] == second.verified(run)[1]
    assert [2] == [entry.seq for entry in second.entries(run, after=1)]
    second.close()


#: Kinds, hosts and steps are checked names; the one character that PostgreSQL keeps in no text is in none of them.
NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(NAMES, st.dictionaries(st.text(), st.text() | st.integers() | st.none()), NAMES, NAMES)))
def test_whatever_is_written_is_verified(places: Places, rows: list[Any]) -> None:
    """Any texts in any field: the chain holds, and bodies come back."""
    store = places.new().open()
    run = store.start({})
    for kind, body, host, step in rows:
        store.append(run, kind, body, host, step)
    assert [body for _, body, _, _ in rows] == [entry.body for entry in store.verified(run)[1:]]
    store.close()


def test_half_a_character_does_not_break_the_record(store: Journal) -> None:
    """A host may send half a surrogate pair in JSON: it is recorded as what nobody could read."""
    run = store.start({})
    assert {"why": "a?b"} == store.append(run, "note", {"why": "a\ud800b"}).body
    assert 2 == len(store.verified(run))


def test_runs_are_numbered_and_listed_in_their_order(place: Place) -> None:
    """RB-0001, RB-0002, and after 9999 one digit more: the newest is the newest, however its number looks."""
    store = place.open()
    assert (None, []) == (store.latest(), store.runs())
    assert ["RB-0001", "RB-0002", "RB-0003"] == [store.start({"n": n}) for n in range(3)]
    store.append("RB-0002", "run.ended", {"outcome": "succeeded"})
    assert [("run.started", "run.started"), ("run.started", "run.ended"), ("run.started", "run.started")] == [
        (first.kind, last.kind) for first, last in store.runs()
    ]
    store.close()
    place.sql("UPDATE entries SET run = 'RB-9999' WHERE run = 'RB-0003'")
    store = place.open()
    assert "RB-10000" == store.start({})
    assert "RB-10001" == store.start({})
    assert ("RB-10001", ["RB-0001", "RB-0002", "RB-9999", "RB-10000", "RB-10001"]) == (
        store.latest(), [first.run for first, _ in store.runs()],
    )  # fmt: skip
    store.close()


def test_a_run_that_was_deleted_gives_its_number_to_nobody(place: Place) -> None:
    """Whatever is missing from the store, a new run has a number of its own and begins with its first entry."""
    filled(place, runs=3)
    place.sql("DELETE FROM entries WHERE run = 'RB-0001'")
    store = place.open()
    assert "RB-0004" == store.start({})
    assert ["run.started"] == [entry.kind for entry in store.entries("RB-0004")]
    store.close()


# -- the chain

DAMAGES: dict[str, str] = {
    "a body": "UPDATE entries SET body = '{\"n\":99}' WHERE seq = 3",
    "a time": "UPDATE entries SET at = at + 1 WHERE seq = 3",
    "a kind": "UPDATE entries SET kind = 'noted' WHERE seq = 3",
    "a host": "UPDATE entries SET host = 'other' WHERE seq = 3",
    "a step": "UPDATE entries SET step = 'execution/x' WHERE seq = 3",
    "a hash": "UPDATE entries SET hash = REPLACE(hash, SUBSTR(hash, 1, 1), 'f') || '' WHERE seq = 3",
    "the last hash": "UPDATE entries SET hash = SUBSTR(hash, 2) || 'x' WHERE seq = 6",
    "a part moved to the next field":
        "UPDATE entries SET host = host || SUBSTR(step, 1, 1), step = SUBSTR(step, 2) WHERE seq = 3",
    "one deleted": "DELETE FROM entries WHERE seq = 3",
    "the first deleted": "DELETE FROM entries WHERE seq = 1",
    "one deleted and the rest renumbered":
        "DELETE FROM entries WHERE seq = 3; UPDATE entries SET seq = seq - 1 WHERE seq > 3",
    "two exchanged":
        "UPDATE entries SET seq = -3 WHERE seq = 3; UPDATE entries SET seq = 3 WHERE seq = 4;"
        "UPDATE entries SET seq = 4 WHERE seq = -3",
    "one doubled": "INSERT INTO entries SELECT run, 7, at, kind, host, step, body, hash FROM entries WHERE seq = 3",
    "one of another run": "UPDATE entries SET run = 'RB-0009'",
    "one put in": "INSERT INTO entries VALUES ('RB-0001', 7, 1, 'note', '', '', '{}', 'x')",
    "everything from three on, once more": "DELETE FROM entries WHERE seq IN (2, 3)",
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGES)
def test_a_changed_record_is_refused(place: Place, what: str) -> None:
    """Any row that was changed, deleted, exchanged or put in is found, and the first place where it shows is named."""
    filled(place)
    before = place.sql("SELECT * FROM entries ORDER BY seq")
    place.sql(DAMAGES[what])
    assert before != place.sql("SELECT * FROM entries ORDER BY seq")
    store = place.open()
    run = "RB-0009" if "another run" in what else "RB-0001"
    assert "was changed: entry" in refused(lambda: store.verified(run), "LG073").diagnostics[0].summary
    store.close()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 7), st.integers(2, 6), st.data())
def test_a_bit_that_was_turned_is_found(places: Places, column: int, seq: int, data: st.DataObject) -> None:
    """Any single character of any field of any row: the chain does not hold any more."""
    place = places.new()
    filled(place)
    name = ("run", "seq", "at", "kind", "host", "step", "body", "hash")[column]
    ((value,),) = place.sql(f"SELECT {name} FROM entries WHERE seq = ?", seq)
    if isinstance(value, int):
        other: Any = value ^ (1 << data.draw(st.integers(0, 40)))
    else:
        at = data.draw(st.integers(0, len(value) - 1))
        other = value[:at] + chr(ord(value[at]) ^ (1 << data.draw(st.integers(0, 5)))) + value[at + 1 :]
    with contextlib.suppress(sqlite3.IntegrityError, psycopg.IntegrityError):
        place.sql(f"UPDATE entries SET {name} = ? WHERE seq = ?", other, seq)
    if [(value,)] == place.sql(f"SELECT {name} FROM entries WHERE seq = ?", seq):
        return  # the number was taken
    store = place.open()
    found = store.entries("RB-0001")
    if found[-1].seq == len(found) and name == "run" and seq == 6:
        pass  # the last entry went to another run: a cut tail, which only an anchor outside could tell
    else:
        with pytest.raises(JournalError):
            store.verified("RB-0001")
    store.close()


def test_no_two_entries_read_alike() -> None:
    """Fields that hold what separates fields: every entry has a hash of its own."""
    words = ("", "1", ":", "1:", "1:a", "a", "2:a1")
    rows = list(itertools.product(words, words, words, words))
    assert len(rows) == len(
        {chain.hashed(before, "RB-0001", 1, 1, kind, host, step, "{}") for before, kind, host, step in rows}
    )


def test_a_whole_record_that_was_written_anew_has_another_head(places: Places) -> None:
    """Who recomputes every hash cannot keep the last one: an anchor outside tells a forged record from the real one."""
    both = (places.new(), places.new())
    heads = []
    for place in both:
        filled(place)
        store = place.open()
        heads.append(store.verified("RB-0001")[-1].hash)
        store.close()
    assert heads[0] == heads[1], "the same entries have the same head"
    before = ""
    for seq, at, kind, host, step, body in place.sql("SELECT seq, at, kind, host, step, body FROM entries ORDER BY seq"):
        body = '{"n":99}' if seq == 3 else body
        before = chain.hashed(before, "RB-0001", seq, at, kind, host, step, body)
        place.sql("UPDATE entries SET body = ?, hash = ? WHERE seq = ?", body, before, seq)
    store = place.open()
    assert heads[0] != store.verified("RB-0001")[-1].hash
    store.close()


# -- many writers


def test_fifty_threads_share_commits_and_keep_their_order(store: Journal) -> None:
    """Entries of many threads are committed together; each thread's are in its order, listeners hear all in the order of the
    record, and the chain holds."""
    run, heard = store.start({}), []
    store.listeners.append(heard.append)
    barrier = threading.Barrier(50)

    def write(thread: int) -> None:
        barrier.wait()
        for number in range(20):
            made = store.append(run, "note", {"thread": thread, "n": number})
            assert made in store.entries(run, after=made.seq - 1)[:1], "it is there when `append` returns"

    threads = [threading.Thread(target=write, args=(n,)) for n in range(50)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(120)
    found = store.verified(run)[1:]
    assert 1_000 == len(found)
    for thread in range(50):
        assert list(range(20)) == [entry.body["n"] for entry in found if entry.body["thread"] == thread]
    assert found == heard
    assert store.commits < 900, "commits are shared"


def test_several_entries_are_one_commit(store: Journal) -> None:
    """`append_all` writes all of its entries or none."""
    run = store.start({})
    before = store.commits
    made = store.append_all(run, [("a", {}, "", ""), ("b", {"x": 1}, "h", "s"), ("c", {}, "", "")])
    assert (1, [2, 3, 4], ["a", "b", "c"]) == (store.commits - before, [e.seq for e in made], [e.kind for e in made])


def test_two_processes_write_into_one_store(place: Place) -> None:
    """A person who approves writes from another process while the run goes on: both chains hold, nothing is lost."""
    store = place.open()
    run = store.start({})
    script = (
        f"import sys\n{OPEN}\nj = opened(sys.argv[1])\n[j.append(sys.argv[2], 'key.given', {{'n': n}}) for n in range(40)]\n"
    )
    other = subprocess.Popen([sys.executable, "-c", script, place.state, run], cwd=ROOT)
    for number in range(40):
        store.append(run, "note", {"n": number})
    assert 0 == other.wait(60)
    found = store.verified(run)
    assert Counter({"note": 40, "key.given": 40, "run.started": 1}) == Counter(entry.kind for entry in found)
    assert list(range(40)) == [entry.body["n"] for entry in found if entry.kind == "key.given"]
    store.close()


# -- when nothing can be written


NO_ROOM = """
CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'the disk is full' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER no_room BEFORE INSERT ON entries FOR EACH ROW WHEN (LENGTH(new.body) > 10000) EXECUTE FUNCTION no_room();
"""


def full(place: Place, store: Journal) -> None:
    """From now on the store has no room for anything large, and says so, as with a full disk."""
    if place.server:
        place.sql(NO_ROOM)
    else:
        pages = store.store._db.execute("PRAGMA page_count").fetchone()[0]
        store.store._db.execute(f"PRAGMA max_page_count={pages}")


def freed(place: Place, store: Journal) -> None:
    """There is room again."""
    if place.server:
        place.sql("DROP TRIGGER no_room ON entries")
    else:
        store.store._db.execute("PRAGMA max_page_count=1000000")


def test_a_commit_that_fails_breaks_the_store_for_good(place: Place) -> None:
    """After one failed commit nothing is written any more, even when there is room again; a new process goes on."""
    store = place.open()
    run = store.start({})
    store.append(run, "note", {"n": 1})
    full(place, store)
    failed = refused(lambda: store.append(run, "note", {"text": "x" * 100_000}), "LG072")
    assert "full" in failed.diagnostics[0].summary
    freed(place, store)
    refused(lambda: store.append(run, "note", {"n": 2}), "LG072")
    refused(lambda: store.append_all(run, [("a", {}, "", ""), ("b", {}, "", "")]), "LG072")
    refused(lambda: store.start({}), "LG072")
    refused(lambda: store.lock(run, ["h"], "x"), "LG072")
    refused(lambda: store.live(run), "LG072")  # nobody acts any more, whose own intent was written in time either
    assert 2 == len(store.verified(run)), "what was acknowledged can still be read"
    other = place.open()
    assert 3 == other.append(run, "note", {"n": 3}).seq
    assert [{}, {"n": 1}, {"n": 3}] == [entry.body for entry in other.verified(run)]
    other.close()
    store.close()


def test_everybody_who_waits_for_a_failed_commit_is_told(place: Place, store: Journal) -> None:
    """Threads whose entries shared the commit that failed, and those that come after, all get the error; none hangs."""
    run, errors, written = store.start({}), [], []
    full(place, store)

    def write(number: int) -> None:
        try:
            written.append(store.append(run, "note", {"n": number, "text": "x" * 20_000}))
        except JournalError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(20)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    assert not any(one.is_alive() for one in threads)
    assert (20, []) == (len(errors), written)
    assert 1 == len(store.verified(run))


def test_a_run_that_is_lost_while_the_answer_to_a_commit_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit is looked for, as a store does whose connection broke; meanwhile the lock was broken, and that is said."""
    store, other = Journal(tmp_path), Journal(tmp_path)
    run, write = store.start({}), store.store.write

    def twice(work: Any, sole: bool = False) -> Any:
        monkeypatch.undo()
        write(work, sole)
        other.break_lock(run, "ben", "a drill")
        assert not store._renewed(run)
        return write(work, sole)

    monkeypatch.setattr(store.store, "write", twice)
    refused(lambda: store.append(run, "note", {}), "LG082", Exit.LOCKED)
    assert ["run.started", "note", "lock.broken"] == [entry.kind for entry in store.verified(run)]
    store.close()
    other.close()


class Failing:
    """The database, until the statement that begins with `when`."""

    def __init__(self, db: sqlite3.Connection, when: str, error: BaseException) -> None:
        self.db, self.when, self.error = db, when, error

    def execute(self, statement: str, *values: Any) -> Any:
        if statement.startswith(self.when):
            raise self.error
        return self.db.execute(statement, *values)

    def executemany(self, statement: str, rows: Any) -> Any:
        if statement.startswith(self.when):
            raise self.error
        return self.db.executemany(statement, rows)

    def close(self) -> None:
        self.db.close()


@pytest.mark.parametrize("when", ["BEGIN", "INSERT", "COMMIT"])
@pytest.mark.parametrize("error", [sqlite3.OperationalError("disk I/O error"), KeyboardInterrupt()])
def test_an_error_at_any_moment_of_the_commit(tmp_path: Path, when: str, error: BaseException) -> None:
    """Whatever goes wrong while an entry is written, the store says no to all that follows, and no entry is half there."""
    store = Journal(tmp_path)
    run = store.start({})
    real, store.store._db = store.store._db, Failing(store.store._db, when, error)  # type: ignore[assignment]
    with pytest.raises((JournalError, KeyboardInterrupt)):
        store.append(run, "note", {"n": 1})
    store.store._db = real
    refused(lambda: store.append(run, "note", {"n": 2}), "LG072")
    real.close()
    other = Journal(tmp_path)
    assert ["run.started"] == [entry.kind for entry in other.verified(run)]
    assert 2 == other.append(run, "note", {"n": 3}).seq
    other.close()


@pytest.mark.parametrize("when", ["INSERT", "COMMIT"])
def test_a_failed_store_holds_nobody_up(tmp_path: Path, when: str) -> None:
    """A process whose commit failed and that lives on lets others write."""
    store = Journal(tmp_path)
    run = store.start({})
    store.store._db = Failing(store.store._db, when, sqlite3.OperationalError("disk I/O error"))  # type: ignore[assignment]
    refused(lambda: store.append(run, "note", {}), "LG072")
    started, other = time.monotonic(), Journal(tmp_path)
    assert 2 == other.append(run, "note", {}).seq
    assert time.monotonic() - started < 10  # SQLite would wait 20 s for a lock
    other.close()
    store.close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """Where the store cannot be put, the reason is told."""
    (tmp_path / "file").write_text("")
    refused(lambda: Journal(tmp_path / "file/state"), "LG070")


def test_the_store_is_its_owners_alone(tmp_path: Path) -> None:
    """Nobody else may read what a run recorded."""
    store = Journal(tmp_path / "state")
    run = store.start({})
    assert {0o700} == {(tmp_path / "state").stat().st_mode & 0o777, store.files(run).stat().st_mode & 0o777}
    assert 0o600 == (tmp_path / "state/journal.db").stat().st_mode & 0o777
    assert (True, False) == (sqlite_store.exists(tmp_path / "state"), sqlite_store.exists(tmp_path))
    store.close()


@pytest.mark.parametrize("places", ["sqlite"], indirect=True)
def test_the_mode_is_one_that_survives_a_power_cut(store: Journal) -> None:
    """Rollback journal, synchronous=EXTRA: of the modes that were tried, the one that lost nothing."""
    assert "delete" == store.store._db.execute("PRAGMA journal_mode").fetchone()[0]
    assert 3 == store.store._db.execute("PRAGMA synchronous").fetchone()[0]


# -- listeners


def test_a_listener_that_breaks_does_not_break_the_run(store: Journal) -> None:
    """Who only looks may go away at any time: the entry is written, the others hear it, the broken one hears no more."""
    run, heard, asked = store.start({}), [], []

    def broken(entry: Entry) -> None:
        asked.append(entry)
        raise BrokenPipeError

    store.listeners += [broken, heard.append]
    store.append(run, "note", {"n": 1})
    store.append(run, "note", {"n": 2})
    store.announce(run, "step.started", {"n": 3}, "h", "s")
    assert [1, 2, 3] == [entry.body["n"] for entry in heard]
    assert [1] == [entry.body["n"] for entry in asked]
    assert (0, "h", "s") == (heard[-1].seq, heard[-1].host, heard[-1].step)
    assert 3 == len(store.verified(run)), "what is only announced is not recorded"


# -- claims and locks

HOLD = f"""
import sys, time
{OPEN}
j = opened(sys.argv[1])
run = j.start(dict())
j.lock(run, sys.argv[2:], "a drill")
print(run, flush=True)
time.sleep(600)
"""


@contextlib.contextmanager
def holder(place: Place, *hosts: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process that runs a run and holds hosts, until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, place.state, *hosts], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


def test_a_run_is_run_by_one_process(place: Place) -> None:
    """While a process runs a run, another that wants it is told who has it (exit 8); when it is killed, the next may."""
    with holder(place) as (process, run):
        store = place.open()
        assert store.held(run)
        refusal = refused(lambda: store.claim(run), "LG080", Exit.LOCKED)
        assert f"process {process.pid}" in refusal.diagnostics[0].summary
        assert store.append(run, "note", {"text": "anybody may leave a note"}).seq == 2
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not store.held(run)
        store.claim(run)
        assert store.held(run)
        store.close()


def test_looking_whether_a_run_is_held_takes_it_from_nobody(place: Place) -> None:
    """Those who look do not hold: many may look while one claims."""
    filled(place)
    stores = [place.open() for _ in range(4)]
    stop = threading.Event()

    def look(store: Journal) -> None:
        while not stop.is_set():
            store.held("RB-0001")

    threads = [threading.Thread(target=look, args=(store,)) for store in stores[1:]]
    for one in threads:
        one.start()
    try:
        for _ in range(20):
            stores[0].claim("RB-0001")
            assert stores[1].held("RB-0001")
            stores[0].unlock("RB-0001")
    finally:
        stop.set()
        for one in threads:
            one.join()
    for store in stores:
        store.close()


def test_hosts_are_taken_all_or_none(place: Place) -> None:
    """A host that another living run holds refuses the whole set, names who has it and for what; the rest stays free."""
    with holder(place, "b", "c") as (process, other):
        store = place.open()
        run = store.start({})
        refusal = refused(lambda: store.lock(run, ["a", "b", "d"], "mine"), "LG080", Exit.LOCKED)
        said = refusal.diagnostics[0].summary
        assert ("b is held by", other in said, "a drill" in said) == (said[:12], True, True)
        third = store.start({})
        store.lock(third, ["a", "d"], "the rest")
        process.kill()
        process.wait()
        store.lock(run, ["b", "c"], "taken over")
        refused(lambda: store.lock(third, ["c"], "x"), "LG080", Exit.LOCKED)
        store.unlock(run)
        store.lock(third, ["c"], "now")
        store.lock(third, ["c", "a"], "again")
        store.close()


# -- killed

WRITE = f"""
import sys, threading
{OPEN}
j = opened(sys.argv[1])
run = j.latest() or j.start(dict())
def write(thread):
    n = 0
    while True:
        n += 1
        e = j.append(run, "note", dict(thread=thread, n=n, text="x" * 300))
        sys.stdout.write(str(e.seq) + " " + e.hash + chr(10)); sys.stdout.flush()
for t in range(int(sys.argv[2])):
    threading.Thread(target=write, args=(t,)).start()
"""


@pytest.mark.parametrize("threads", [1, 8])
def test_a_killed_writer_leaves_a_whole_chain(place: Place, threads: int) -> None:
    """Killed with signal 9 at any moment, again and again: what was acknowledged is there, and the chain holds."""
    acknowledged: dict[int, str] = {}
    dice = random.Random(threads)
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITE, place.state, str(threads)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(dice.randint(1, 12))]
        time.sleep(dice.random() / 50)
        os.kill(process.pid, signal.SIGKILL)
        lines += process.stdout.read().splitlines(keepends=True)
        process.wait()
        process.stdout.close()
        pairs = (line.split() for line in lines if line.endswith("\n"))
        acknowledged |= {int(seq): digest for seq, digest in pairs}
        store = place.open()
        found = {entry.seq: entry.hash for entry in store.verified("RB-0001")}
        assert acknowledged.items() <= found.items()
        store.close()
    assert len(acknowledged) > 8


def test_the_entry_that_ended_a_run(store: Journal) -> None:
    """The last `run.ended` holds, until the run is resumed or its undo begins; messages after it change nothing."""
    run = store.start({})
    for kind, ended in (
        ("run.ended", 2),
        ("message.sent", 2),
        ("run.resumed", None),
        ("run.ended", 5),
        ("undo.started", None),
    ):
        store.append(run, kind, {})
        found = journal.ending(store.entries(run))
        assert ended == (found and found.seq)
    assert json.loads("null") is journal.ending([])
