"""images: what a disk may hold after a power cut; ways of SQLite that do not wait for the disk are seen to lose rows."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections import Counter
from pathlib import Path

import pytest
from images import SECTOR, Model, cuts, sectors
from recording import Connection, Disk, Event, Log

OLD, NEW = b"o" * SECTOR, b"n" * SECTOR


def held(*events: Event) -> Model:
    """A disk with the file `a`, of two old sectors, that was asked for these since."""
    model = Model()
    for event in (Event("create", 1, "a", data=OLD * 2), Event("dirsync"), *events):
        model.play(event)
    return model


def drawn(model: Model, draws: int = 400) -> set[bytes | None]:
    return {image.get("a") for image in model.images(random.Random(1), draws)}


def test_of_a_write_any_sectors_arrive() -> None:
    """Two sectors written, not synced: none, either or both are there. After the sync there is one image."""
    write = Event("write", 1, "a", 0, NEW * 2)
    assert {OLD * 2, NEW + OLD, OLD + NEW, NEW * 2} == drawn(held(write))
    assert {NEW * 2} == drawn(held(write, Event("sync", 1)))


def test_writes_arrive_in_any_order() -> None:
    """The second write may be there without the first."""
    found = drawn(held(Event("write", 1, "a", 0, NEW), Event("write", 1, "a", SECTOR, NEW)))
    assert {OLD * 2, NEW + OLD, OLD + NEW, NEW * 2} == found


def test_a_longer_file_may_be_cut_and_hold_what_nobody_wrote() -> None:
    """A file that was being lengthened has any length between; a hole in it is zeros or leftovers."""
    found = drawn(held(Event("write", 1, "a", 2 * SECTOR, NEW * 3)), 4000)
    assert {2 * SECTOR, 3 * SECTOR, 4 * SECTOR, 5 * SECTOR} == {len(data or b"") for data in found}
    holes = {data[2 * SECTOR : 3 * SECTOR] for data in found if data and len(data) == 5 * SECTOR}
    assert {NEW, bytes(SECTOR)} < holes


def test_bytes_beside_a_write_do_not_suffer() -> None:
    """A write of a few bytes leaves the rest of its sector as it was, torn where a sector ends."""
    (first, second) = sectors(Event("write", 1, "a", SECTOR - 2, b"nnnn"))
    assert ((SECTOR - 2, b"nn"), (SECTOR, b"nn")) == ((first.offset, first.data), (second.offset, second.data))
    allowed = {OLD * 2, OLD[2:] + b"nn" + OLD, OLD + b"nn" + OLD[2:], OLD[2:] + b"nnnn" + OLD[2:]}
    assert allowed == drawn(held(Event("write", 1, "a", SECTOR - 2, b"nnnn")))


def test_a_deletion_may_be_undone_until_the_directory_is_synced() -> None:
    """A deleted file is there again with what it held; a new one may be gone; names move independently."""
    gone = Event("delete", 1, "a")
    assert {OLD * 2, None} == drawn(held(gone))
    assert {None} == drawn(held(gone, Event("dirsync")))
    model = held(gone, Event("create", 2, "b"))
    assert {(), ("a",), ("b",), ("a", "b")} == {tuple(sorted(image)) for image in model.images(random.Random(1), 9)}
    again = held(gone, Event("create", 2, "a"), Event("write", 2, "a", 0, NEW))
    assert {None, b"", OLD * 2, NEW} <= drawn(again)


def test_a_truncation_may_not_have_arrived() -> None:
    """A file cut to one sector has one or two."""
    assert {OLD * 2, OLD} == drawn(held(Event("truncate", 1, "a", SECTOR)))


# -- SQLite itself

#: journal_mode and synchronous -> which events are left out, whether all that was acknowledged is kept.
WAYS: dict[str, tuple[tuple[str, ...], bool]] = {
    "DELETE EXTRA": ((), True),
    "WAL FULL": ((), True),
    "DELETE FULL": ((), False),
    "WAL NORMAL": ((), False),
    "DELETE OFF": ((), False),
    "DELETE EXTRA without fsync": (("sync",), False),
    "DELETE EXTRA without directory sync": (("dirsync",), False),
    "WAL FULL without fsync": (("sync",), False),
}


def recorded(folder: Path, mode: str, synchronous: str, deaf: tuple[str, ...]) -> Log:
    """Thirty commits, each marked when SQLite has acknowledged it."""
    log = Log(deaf)
    disk = Disk(f"power-{folder.name}", log)
    db = Connection(
        folder / "x.db", disk.name, (f"journal_mode={mode}", f"synchronous={synchronous}", "wal_autocheckpoint=8")
    )
    db.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT)")
    log.mark(0)
    for number in range(1, 31):
        db.execute("INSERT INTO t VALUES (?, ?)", (number, "x" * 400))
        log.mark(number)
    db.close()
    disk.unregister()
    return log


def left(folder: Path, image: dict[str, bytes]) -> int | None:
    """How many rows a plain SQLite finds, from the first on without a gap; None: it finds damage."""
    for path in folder.iterdir():
        path.unlink()
    for name, data in image.items():
        (folder / name).write_bytes(data)
    with contextlib.closing(sqlite3.connect(folder / "x.db", isolation_level=None)) as db:
        try:
            db.execute("PRAGMA synchronous=OFF")
            if not db.execute("SELECT 1 FROM sqlite_schema").fetchone():
                return 0
            numbers = [row[0] for row in db.execute("SELECT n FROM t ORDER BY n")]
            whole = ("ok",) == db.execute("PRAGMA integrity_check").fetchone()
        except sqlite3.Error:
            return None
    return len(numbers) if whole and numbers == list(range(1, len(numbers) + 1)) else None


@pytest.mark.parametrize("way", WAYS)
def test_what_each_way_of_sqlite_keeps(tmp_path: Path, memory: Path, way: str) -> None:
    """DELETE with EXTRA and WAL with FULL keep what was acknowledged; every other way, and a disk that skips a sync, is seen
    to lose rows or to damage the file: the images can fail."""
    deaf, keeps = WAYS[way]
    mode, synchronous = way.split()[:2]
    log, seen = recorded(memory, mode, synchronous, deaf), Counter[str]()
    for cut in cuts(log.events, 200):
        found = left(tmp_path, cut.image)
        seen["images"] += 1
        seen["lost"] += found is not None and found < (cut.marks or (0,))[-1]
        seen["damaged"] += found is None
        seen["more"] += found is not None and found > (cut.marks or (0,))[-1] + 1
    print(f"{way}: {seen['images']} images, lost rows in {seen['lost']}, damaged {seen['damaged']}")
    assert seen["images"] > 150
    assert (keeps, 0) == (seen["lost"] + seen["damaged"] == 0, seen["more"])
