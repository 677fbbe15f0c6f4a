"""The journal and the power: of thousands of images of what a disk may hold, none lacks what had been acknowledged.

The workload is our real journal, with group commits and leases, over the recording layer; each image is a real folder in
which our real journal is opened again, by the SQLite of this Python where it may. `LASTGOOD_POWER_IMAGES` sets how many:
`make power` draws twenty-five thousand of each mode.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from course import Judge, Waiting, courses, lay, tried
from images import cuts
from recording import Connection

from engine import database_file

IMAGES = int(os.environ.get("LASTGOOD_POWER_IMAGES", "4000"))
COURSES = 8
#: How an image is opened: a write-ahead log only by a SQLite in which it is safe.
OPENED = {"delete": None, "wal": Connection}


@pytest.mark.slow
@pytest.mark.parametrize("mode", database_file.MODES)
def test_no_power_cut_loses_what_was_acknowledged(memory: Path, mode: str) -> None:
    """In every image every acknowledged entry and every lease is there, the chains are whole, no commit is there by half,
    and every run can be gone on with."""
    seen, commits, entries = Counter[str](), 0, 0
    for number, course in enumerate(courses(memory, mode, COURSES)):
        folder = memory / f"image-{number}"
        folder.mkdir(mode=0o700)
        found, wrong = tried(Judge(folder, course, OPENED[mode]), IMAGES * 101 // 100 // COURSES + 16, number)
        seen += found
        assert [] == wrong
        entries += sum(map(len, course.chains.values()))
        commits += course.commits
    print(
        f"{mode} + {database_file.MODES[mode]}: {seen['images']} images, {seen['lost']} lost, {seen['corrupt']} corrupt "
        f"({entries} entries in {COURSES} courses)"
    )
    assert seen["images"] >= IMAGES
    assert commits < entries, "entries share commits"


@pytest.mark.parametrize("mode", database_file.MODES)
def test_every_sqlite_reads_the_same(memory: Path, mode: str) -> None:
    """Five hundred images, opened by another SQLite than the one of the big test: this Python's own, or apsw's."""
    (course,) = courses(memory, mode, 1)
    folder = memory / "image"
    folder.mkdir(mode=0o700)
    if mode == "delete":
        seen, said = tried(Judge(folder, course, Connection), 500, 1)
        assert ([], 0) == (said, seen["lost"] + seen["corrupt"])
        return
    # A defective SQLite may not open a write-ahead log through the engine, but alone it reads one well.
    for cut in cuts(course.events, 500, 1):
        lay(folder, cut.image)
        with contextlib.closing(sqlite3.connect(folder / "journal.db", isolation_level=None)) as db:
            assert ("ok",) == db.execute("PRAGMA integrity_check").fetchone()
            runs = dict(db.execute("SELECT run, MAX(seq) FROM entries GROUP BY run"))
        assert [] == [mark for mark in cut.marks if mark[0] == "entry" and runs.get(mark[1], 0) < mark[2]]


class Early(Waiting):
    """A connection that says that it has committed, and does so when it is next asked for something."""

    late = False

    def execute(self, sql: str, values: Any = ()) -> Any:
        if self.late:
            self.late = False
            super().execute("COMMIT")
        if sql == "COMMIT":
            self.late = True
            return None
        return super().execute(sql, values)

    def close(self) -> None:
        if self.late:
            super().execute("COMMIT")
        super().close()


#: What is planted -> mode, `synchronous` in place of ours, what the disk leaves out, connection.
PLANTED: dict[str, tuple[str, str, tuple[str, ...], type[Connection]]] = {
    "DELETE with FULL": ("delete", "FULL", (), Waiting),
    "DELETE with OFF": ("delete", "OFF", (), Waiting),
    "WAL with NORMAL": ("wal", "NORMAL", (), Waiting),
    "WAL with OFF": ("wal", "OFF", (), Waiting),
    "a dropped fsync": ("delete", "EXTRA", ("sync",), Waiting),
    "a dropped directory sync": ("delete", "EXTRA", ("dirsync",), Waiting),
    "acknowledged before the commit": ("delete", "EXTRA", (), Early),
}


@pytest.mark.parametrize("what", PLANTED)
def test_what_would_lose_entries_is_seen_to(memory: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """The images can fail: with a fault planted, acknowledged entries are missing in some of them."""
    mode, synchronous, deaf, connect = PLANTED[what]
    monkeypatch.setitem(database_file.MODES, mode, synchronous)
    (course,) = courses(memory, mode, 1, connect=connect, deaf=deaf)
    folder = memory / "image"
    folder.mkdir(mode=0o700)
    seen, _ = tried(Judge(folder, course, OPENED[mode]), 200, 1)
    print(f"{what}: {seen['images']} images, {seen['lost']} lost, {seen['corrupt']} corrupt (expected: some)")
    assert seen["lost"] + seen["corrupt"] > 0
