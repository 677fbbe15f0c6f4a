"""database_file: a file that must not keep the record is refused by name before SQLite touches it."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import database_file
from engine.journal import Journal, JournalError
from engine.sqlite_store import SqliteStore

DEFECTIVE, SAFE = "3.51.2", "3.51.3"


def made(folder: Path) -> Path:
    """A store with one run; its database."""
    journal = Journal(folder)
    journal.start({})
    journal.close()
    return folder / "journal.db"


def sql(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


def patched(path: Path, at: int, data: bytes) -> None:
    whole = bytearray(path.read_bytes())
    whole[at : at + len(data)] = data
    path.write_bytes(whole)


def swapped(path: Path, target: Callable[[Path], None]) -> None:
    path.unlink()
    target(path)
    path.chmod(0o600)


#: What is done to a store -> the code, and what the diagnostic says.
REFUSED: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "bytes of something else": (lambda path: path.write_bytes(b"no database at all" * 99), "LG070", "is no database"),
    "random bytes": (lambda path: path.write_bytes(random.Random(1).randbytes(8192)), "LG070", "is no database"),
    "zero bytes": (lambda path: path.write_bytes(bytes(8192)), "LG070", "is no database"),
    "one byte": (lambda path: path.write_bytes(b"S"), "LG070", "is no database"),
    "a header and nothing else": (lambda path: path.write_bytes(path.read_bytes()[:50]), "LG070", "is no database"),
    "half of it": (lambda path: path.write_bytes(path.read_bytes()[:6000]), "LG070", "cannot be opened"),
    "a folder": (lambda path: swapped(path, Path.mkdir), "LG070", "is no file"),
    "a pipe": (lambda path: swapped(path, os.mkfifo), "LG070", "is no file"),
    "a link to nothing": (lambda path: swapped_link(path), "LG070", "cannot be opened"),
    "a newer format": (lambda path: sql(path, "PRAGMA user_version=7"), "LG071", "has format 7, this engine reads 2"),
    "an unknown way of writing": (lambda path: patched(path, 18, b"\3\3"), "LG074", "in a mode (3, 3)"),
    "others may read it": (lambda path: path.chmod(0o644), "LG075", "others may change or read the file"),
    "a group may write it": (lambda path: path.chmod(0o660), "LG075", "(mode 660)"),
    "a group may write in its folder": (lambda path: path.parent.chmod(0o770), "LG075", "the folder"),
    "all may write in its folder": (lambda path: path.parent.chmod(0o757), "LG075", "(mode 757)"),
}


def swapped_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "gone" / "far")


@pytest.mark.parametrize("what", REFUSED)
def test_what_must_not_keep_the_record_is_refused_by_name(tmp_path: Path, what: str) -> None:
    """The diagnostic says what is wrong and what to do, and nothing in the folder has changed."""
    path = made(tmp_path / "state")
    change, code, said = REFUSED[what]
    change(path)
    before = {one.name: one.read_bytes() for one in path.parent.iterdir() if one.is_file()}
    with pytest.raises(JournalError) as caught:
        Journal(tmp_path / "state")
    (found,) = caught.value.diagnostics
    assert (code, True) == (found.code, said in found.summary), found.summary
    assert found.hint
    assert before == {one.name: one.read_bytes() for one in path.parent.iterdir() if one.is_file()}


def test_a_store_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is not the owner would leave files that the owner cannot write any more."""
    made(tmp_path / "state")
    monkeypatch.setattr(os, "geteuid", lambda: (tmp_path / "state").stat().st_uid + 1)
    with pytest.raises(JournalError, match=r"LG075.*belongs to another user"):
        Journal(tmp_path / "state")


def test_a_new_store_passes_and_can_be_told_from_others(tmp_path: Path) -> None:
    """What the engine makes itself is not refused, whatever the umask; each store has a number of its own."""
    numbers = set()
    for name in ("a", "b"):
        before = os.umask(0)
        try:
            path = made(tmp_path / name)
        finally:
            os.umask(before)
        assert "delete" == database_file.looked_at(path, DEFECTIVE)
        numbers.add(path.read_bytes()[68:72])
    assert (2, False) == (len(numbers), bytes(4) in numbers)


def test_an_empty_file_is_a_store_that_was_never_begun(tmp_path: Path) -> None:
    """Power was cut before the first commit: the file is there, and nothing is in it."""
    path = made(tmp_path)
    path.write_bytes(b"")
    assert "RB-0001" == Journal(tmp_path).start({})


# -- the write-ahead log


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ("3.7.0", False), ("3.40.1", False), ("3.44.5", False), ("3.44.6", True), ("3.45.0", False), ("3.50.6", False),
        ("3.50.7", True), ("3.51.2", False), ("3.51.3", True), ("3.51.10", True), ("3.54.1", True), ("4.0.0", True),
    ],
)  # fmt: skip
def test_versions_with_the_defect_of_the_log(tmp_path: Path, version: str, safe: bool) -> None:
    """A write-ahead log is opened only by a SQLite in which no commit can be lost, as the file's own header says."""
    path = made(tmp_path)
    sql(path, "PRAGMA journal_mode=WAL")
    assert safe == database_file.mended(version)
    if safe:
        assert "wal" == database_file.looked_at(path, version)
    else:
        with pytest.raises(JournalError, match=f"LG074.*SQLite {version} can lose"):
            database_file.looked_at(path, version)


class Old:
    """A connection of a SQLite with the defect: no file is opened with it."""

    def __init__(self, path: Path) -> None:
        assert Path(":memory:") == path

    def execute(self, statement: str) -> Old:
        assert "SELECT sqlite_version()" == statement
        return self

    def fetchone(self) -> tuple[str]:
        return (DEFECTIVE,)

    def close(self) -> None:
        pass


def test_a_log_is_not_touched_by_a_sqlite_with_the_defect(tmp_path: Path) -> None:
    """Of a store in that mode no byte is read by such a SQLite: already opening it would repair it."""
    path = made(tmp_path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA wal_autocheckpoint=0")
        db.execute("DELETE FROM leases")
        kept = {one: one.read_bytes() for one in tmp_path.glob("journal.db*") if not one.name.endswith("-shm")}
    for one, data in kept.items():  # as after a crash: closing has taken the log away
        one.write_bytes(data)
        one.chmod(0o600)
    with pytest.raises(JournalError, match="LG074"):
        SqliteStore(tmp_path, Old)
    assert kept == {one: one.read_bytes() for one in tmp_path.glob("journal.db*")}


# -- where it lies

TABLE = """\
21 26 0:19 / /proc rw,nosuid - proc proc rw
26 1 0:77 / / rw,relatime - ext4 /dev/root rw
30 26 0:26 / /dev/shm rw - tmpfs tmpfs rw
40 26 {device} / {place} rw,relatime - {kind} server:/export rw
"""
KINDS = {
    "nfs": False, "nfs4": False, "cifs": False, "smb3": False, "9p": False, "fuse.sshfs": False, "fuse": False,
    "ceph": False, "fuse.glusterfs": False, "lustre": False, "ext4": True, "xfs": True, "btrfs": True, "zfs": True,
    "tmpfs": True, "overlay": True,
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("known", [True, False])
def test_file_systems_of_other_machines_are_refused(tmp_path: Path, kind: str, known: bool) -> None:
    """By the table of mounts, where the device is listed or (on several devices) only the place."""
    folder = tmp_path / "a place" / "state"
    folder.mkdir(parents=True)
    at = folder.stat().st_dev
    device = f"{os.major(at)}:{os.minor(at)}" if known else "0:999"
    place = str(tmp_path / "a place").replace(" ", "\\040") if not known else "/mnt"
    table = tmp_path / "mounts"
    table.write_text(TABLE.format(device=device, place=place, kind=kind))
    if KINDS[kind]:
        database_file.local(folder, table)
    else:
        with pytest.raises(JournalError, match=rf"LG075.*file system \({kind}\)"):
            database_file.local(folder, table)


def test_this_machine_knows_where_its_folders_lie(tmp_path: Path) -> None:
    """The system's own table is read: a folder of a mount is told from one beside it."""
    database_file.local(tmp_path)
    database_file.local(Path("/"))
    with pytest.raises(OSError, match="No such file"):
        database_file.local(tmp_path / "nowhere")


def test_the_name_of_a_new_folder_is_on_the_disk_before_the_first_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every folder that was made for the store is synced into the one above it; SQLite would only sync the last."""
    synced, real = [], os.fsync

    def fsync(file: int) -> None:
        synced.append(Path(f"/proc/self/fd/{file}").readlink())
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    Journal(tmp_path / "a" / "b").close()
    assert {tmp_path, tmp_path / "a"} == set(synced)
