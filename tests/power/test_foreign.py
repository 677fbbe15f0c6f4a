"""A -journal or -wal that is not the store's own: refused before SQLite would make the store what it says."""

from __future__ import annotations

import contextlib
import sqlite3
import struct
import threading
import time
from pathlib import Path

import pytest
from course import lay, lived
from images import Image, Model, whole
from recording import Connection

from engine import database_file
from engine.journal import Journal, JournalError
from engine.sqlite_store import SqliteStore


def hot(folder: Path, mode: str, seed: int, part: float) -> Image:
    """A store whose process died in the middle of its life (`part` of its events), everything written: a journal is hot."""
    folder.mkdir(mode=0o700)
    events = lived(folder, mode, seed).events
    ends = "delete" if mode == "delete" else "mark"
    at = next(n for n, event in enumerate(events) if n > part * len(events) and event.what == ends)
    model = Model()
    for event in events[:at]:
        model.play(event)
    names = {**model.names, **{name: moves[-1] for name, moves in model.moves.items()}}
    return {name: whole(model.files[file]) for name, file in names.items() if file}


def opened(folder: Path, mode: str) -> Journal:
    return Journal(SqliteStore(folder, Connection) if mode == "wal" else folder)


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_journal_of_another_store_is_refused(memory: Path, mode: str) -> None:
    """The store's own is taken; another store's is refused by name, and nothing is changed."""
    own, other = hot(memory / "a", mode, 1, 0.5), hot(memory / "b", mode, 2, 0.7)
    name = "journal.db-journal" if mode == "delete" else "journal.db-wal"
    folder = memory / "state"
    folder.mkdir(mode=0o700)
    lay(folder, own)
    opened(folder, mode).close()
    mixed = {**own, name: other[name]}
    lay(folder, mixed)
    with pytest.raises(JournalError, match=f"LG076: {name} beside .* is of another") as caught:
        opened(folder, mode)
    assert "keep a copy of both" in caught.value.diagnostics[0].hint
    assert mixed == {path.name: path.read_bytes() for path in folder.glob("journal.db*")}


def test_a_journal_of_an_earlier_state_is_refused(memory: Path) -> None:
    """The database was copied back over, or its journal was left by an earlier copy: to roll it back would undo entries."""
    early, late = hot(memory / "a", "delete", 1, 0.3), hot(memory / "b", "delete", 1, 0.8)
    folder = memory / "state"
    folder.mkdir(mode=0o700)
    lay(folder, late)
    opened(folder, "delete").close()
    kept = (folder / "journal.db").read_bytes()
    identity = kept[68:72]  # as if both were copies of one store
    before = early["journal.db-journal"].replace(early["journal.db"][68:72], identity)
    lay(folder, {"journal.db": kept, "journal.db-journal": before})
    with pytest.raises(JournalError, match="LG076"):
        opened(folder, "delete")
    assert kept == (folder / "journal.db").read_bytes()


def living(folder: Path, *, more: int) -> Image:
    """What lies in the folder of a store with a write-ahead log while a process that has just begun `more` runs is alive."""
    store = opened(folder, "wal")
    for _ in range(more):
        store.start({})
    image = {path.name: path.read_bytes() for path in folder.glob("journal.db*") if not path.name.endswith("-shm")}
    store.close()  # the last one copies the log into the database
    return image


def test_a_log_of_another_time_is_refused(memory: Path) -> None:
    """A database that was restored without its log, and a log without its database: refused by name, before one is laid over
    the other. Both with their own are taken."""
    folder = memory / "state"
    opened(folder, "delete").close()
    with contextlib.closing(sqlite3.connect(folder / "journal.db")) as db:
        db.execute("PRAGMA journal_mode=WAL")
    first, _, last = [living(folder, more=2) for _ in range(3)]
    for runs, image in ((2, first), (6, last)):
        lay(folder, image)
        journal = opened(folder, "wal")
        assert f"RB-{runs:04}" == journal.latest()
        journal.close()
    for database, log in ((first, last), (last, first)):
        mixed = {"journal.db": database["journal.db"], "journal.db-wal": log["journal.db-wal"]}
        lay(folder, mixed)
        with pytest.raises(JournalError, match=r"LG076: journal\.db-wal beside .* is of another time of it"):
            opened(folder, "wal")
        assert mixed == {path.name: path.read_bytes() for path in folder.glob("journal.db*")}


def test_a_log_that_is_begun_anew_meanwhile_is_the_stores_own(memory: Path) -> None:
    """Other processes that commit, copy the log into the database and begin it anew give no reason to refuse."""
    folder = memory / "state"
    opened(folder, "delete").close()
    with contextlib.closing(sqlite3.connect(folder / "journal.db")) as db:
        db.execute("PRAGMA journal_mode=WAL")
    stop, begun = threading.Event(), list[int]()

    def writes() -> None:
        while not stop.is_set():
            db = Connection(folder / "journal.db")
            db.execute("PRAGMA busy_timeout=5000")
            db.execute("PRAGMA wal_autocheckpoint=2")
            for _ in range(20):
                db.execute("BEGIN IMMEDIATE")
                db.execute("INSERT INTO entries VALUES (?, 1, 1, '', '', '', '{}', '')", (f"X{len(begun)}",))
                db.execute(f"PRAGMA application_id={number}")
                db.execute("COMMIT")
                begun.append(1)
            db.close()

    number = struct.unpack_from(">I", (folder / "journal.db").read_bytes(), 68)[0]
    thread = threading.Thread(target=writes)
    thread.start()
    try:
        until = time.monotonic() + 2
        while time.monotonic() < until:
            assert "wal" == database_file.looked_at(folder / "journal.db", "3.51.3")
    finally:
        stop.set()
        thread.join()
    assert len(begun) > 40


def test_a_journal_that_would_empty_the_store_is_refused(memory: Path) -> None:
    """A journal of a database that was just being made takes back everything: beside a store with a life it is foreign."""
    folder = memory / "new"
    folder.mkdir(mode=0o700)
    events, model = lived(folder, "delete", 1).events, Model()
    for event in events:
        if event.what == "delete":
            break
        model.play(event)
    new = {name: whole(model.files[moves[-1]]) for name, moves in model.moves.items()} | {
        name: whole(model.files[file]) for name, file in model.names.items()
    }
    old = hot(memory / "old", "delete", 2, 0.5)
    folder = memory / "state"
    folder.mkdir(mode=0o700)
    lay(folder, new)
    opened(folder, "delete").close()  # beside the store that it belongs to it is taken
    del old["journal.db-journal"]
    lay(folder, {**old, "journal.db-journal": new["journal.db-journal"]})
    with pytest.raises(JournalError, match="LG076"):
        opened(folder, "delete")


@pytest.mark.parametrize("damage", ["cut", "garbage", "zeros", "empty", "endless"])
def test_what_does_not_count_as_a_journal_is_no_reason_to_refuse(memory: Path, damage: str) -> None:
    """SQLite takes no notice of a journal without a whole header, or with nothing in it; neither do we."""
    store = hot(memory / "a", "delete", 1, 0.5)
    del store["journal.db-journal"]
    magic = bytes.fromhex("d9d505f920a163d7")
    endless = magic + struct.pack(">5I", 0xFFFFFFFF, 1, len(store["journal.db"]) // 4096, 512, 4096) + bytes(484)
    left = {"cut": magic, "garbage": b"?" * 999, "zeros": bytes(999), "empty": b"", "endless": endless}[damage]
    folder = memory / "state"
    folder.mkdir(mode=0o700)
    lay(folder, {**store, "journal.db-journal": left})
    with contextlib.closing(sqlite3.connect(folder / "journal.db")) as db:
        count = db.execute("SELECT COUNT(*) FROM entries").fetchone()
    journal = opened(folder, "delete")
    assert count == journal.store.look(lambda rows: rows("SELECT COUNT(*) FROM entries"))[0]
    journal.close()
