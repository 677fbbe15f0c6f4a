"""Whether a file of this machine may keep the record: found out before SQLite touches it.

In: the path of a database, and the version of the SQLite that is to open it. Out: its journal mode, or `JournalError` that
names what is wrong. It reads a few bytes and writes nothing, since already opening a file can repair it, and a repair with
somebody else's journal, or by a SQLite with a known defect, is what must not happen.

The layout of the database's header, of the rollback journal and of the write-ahead log is SQLite's file format 3.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from engine.store import JournalError

#: journal mode -> the `synchronous` with which it keeps what was acknowledged, whatever becomes of the power. The list is
#: closed: what is not on it was seen to lose commits, or was not looked at.
MODES = {"delete": "EXTRA", "wal": "FULL"}
#: First versions, each in its line, in which two connections cannot lose a commit any more when they write and checkpoint a
#: write-ahead log at the same moment.
_MENDED = ((3, 44, 6), (3, 50, 7), (3, 51, 3))
#: File systems of other machines, or behind a process: their locks and syncs are only promised by somebody else.
_ELSEWHERE = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fuse", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs",
    "nfs4", "ocfs2", "orangefs", "smb3", "smbfs",
})  # fmt: skip
_MAGIC = b"SQLite format 3\0"
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
_WAL_MAGIC = (0x377F0682, 0x377F0683)
_MOUNTS = Path("/proc/self/mountinfo")


class _Header(NamedTuple):
    """What the first page of a database says: how it is written (1: rollback journal, 2: write-ahead log), how often it was
    changed, and the number by which its store is told from others."""

    write: int
    read: int
    changes: int
    identity: int


def looked_at(path: Path, version: str) -> str:
    """The journal mode of the database at `path`, a key of MODES. Raises JournalError for what must not be opened."""
    if not path.is_file():
        raise _untrusted("LG070", f"{path} is no file", "move it away, or restore a copy")
    _alone(path.parent, 0o022)
    _alone(path, 0o177)
    with path.open("rb") as file:
        start = file.read(100)
    journal = _beside(path, "-journal")
    if journal.is_file():
        _own_journal(path, journal)
    if not start or (not start.startswith(_MAGIC) and _begun(journal)):
        return "delete"  # it was never written to its end; SQLite takes back what there is
    header = _header(start)
    if header is None:
        raise _untrusted("LG070", f"{path} is no database", "move it away, or restore a copy")
    if (header.write, header.read) == (2, 2):
        if not mended(version):
            raise _untrusted(
                "LG074",
                f"{path} has a write-ahead log, in which SQLite {version} can lose what was acknowledged",
                "use an engine with SQLite 3.51.3 or later; there: PRAGMA journal_mode=DELETE",
            )
        _own_log(path)
        return "wal"
    if (header.write, header.read) != (1, 1):
        said = f"{path} is in a mode ({header.write}, {header.read}) that is not one of those proven safe: delete, wal"
        raise _untrusted("LG074", said, "move it away, or restore a copy")
    return "delete"


def mended(version: str) -> bool:
    """Whether a SQLite of this version keeps a write-ahead log whole when two connections meet at it."""
    found = tuple(int(part) for part in version.split(".")[:3])
    return found >= _MENDED[-1] or any(found[:2] == line[:2] and found >= line for line in _MENDED)


def local(folder: Path, mounts: Path = _MOUNTS) -> None:
    """Raises JournalError where `folder` lies on a file system of another machine. `mounts`: a table as in proc(5)."""
    at, table = folder.stat().st_dev, mounts.read_text("utf-8", "surrogateescape").splitlines()
    device, real = f" {os.major(at)}:{os.minor(at)} ", os.path.realpath(folder) + "/"
    lines = [line for line in table if device in line]
    if not lines:  # a file system of several devices: the nearest mount above
        above = {line: line.split(" ")[4].replace("\\040", " ").rstrip("/") + "/" for line in table}
        lines = sorted((line for line, place in above.items() if real.startswith(place)), key=lambda line: len(above[line]))
    kind = lines[-1].partition(" - ")[2].split(" ")[0] if lines else "unknown"
    if kind.partition(".")[0] in _ELSEWHERE:
        said = f"{folder} lies on a file system ({kind}) that may answer before anything is safe, or let two write at once"
        raise _untrusted("LG075", said, "name a folder on a disk of this machine with --state")


def _alone(path: Path, others: int) -> None:
    """Raises JournalError unless it is ours, and nobody else has the permissions `others`."""
    found = path.stat()
    what = "folder" if stat.S_ISDIR(found.st_mode) else "file"
    if found.st_uid != os.geteuid():
        said = f"{path} belongs to another user (number {found.st_uid}; you are {os.geteuid()})"
        raise _untrusted("LG075", said, f"run the engine as the {what}'s owner, or name another folder with --state")
    mode = stat.S_IMODE(found.st_mode)
    if mode & others or (what == "file" and mode != 0o600):
        wanted = "600" if what == "file" else f"{mode & ~others:o}"
        said = f"others may change or read the {what} {path} (mode {mode:o}), which holds the record"
        raise _untrusted("LG075", said, f"see who could have changed it, then: chmod {wanted} {path}")


def _header(start: bytes) -> _Header | None:
    if len(start) < 100 or not start.startswith(_MAGIC):
        return None
    return _Header(start[18], start[19], *struct.unpack_from(">I", start, 24), *struct.unpack_from(">I", start, 68))


class _Rollback(NamedTuple):
    """A rollback journal: its random number, how many of its pages count, the database's pages before, its first page."""

    nonce: int
    records: int
    pages: int
    page_size: int
    first: _Header | None


def _rollback(journal: Path) -> _Rollback | None:
    """What a journal would roll back to; None where it holds nothing that SQLite would take."""
    try:
        with journal.open("rb") as file:
            start = file.read(28)
            if len(start) < 28 or not start.startswith(_JOURNAL_MAGIC):
                return None
            records, nonce, pages, sector, page = struct.unpack_from(">5I", start, 8)
            if not (512 <= page <= 65536 and 32 <= sector <= 65536):
                return None
            for number in range(records):
                file.seek(sector + number * (page + 8))
                head = file.read(104)
                if len(head) < 104:
                    break
                if head[:4] == b"\0\0\0\1":
                    return _Rollback(nonce, records, pages, page, _header(head[4:]))
    except OSError:
        return None
    return _Rollback(nonce, records, pages, page, None)


def _begun(journal: Path) -> bool:
    found = _rollback(journal)
    return found is not None and found.pages == 0


def _own_journal(path: Path, journal: Path) -> None:
    """Raises JournalError for a journal whose pages are not an earlier state of this very database.

    Another process may be committing meanwhile: only what the same journal (by its random number) says before and after the
    database was looked at counts.
    """
    while (before := _rollback(journal)) is not None:
        with path.open("rb") as file:
            start, size = file.read(100), os.fstat(file.fileno()).st_size
        if before != _rollback(journal):
            continue
        header = _header(start)
        if before.first is not None:
            fits = header is None or (
                header.identity == before.first.identity and header.changes - before.first.changes in (0, 1)
            )
        elif before.pages == 0:
            fits = header is None or header.changes <= 1
        else:
            least = before.pages * before.page_size
            fits = size >= least if before.records else size == least
        if not fits:
            said = (
                f"{journal.name} beside {path} is of another database, or of another state of this one: it would be undone"
            )
            raise _untrusted("LG076", said, "keep a copy of both, then move the journal away or restore its database")
        return


def _own_log(path: Path) -> None:
    """Raises JournalError for a write-ahead log of another store, or of another time of this one.

    Every commit of ours writes the first page too, whose count of changes is then that of the commit before, or one more.
    So a log begins at most one change after the database that it belongs to, and ends no earlier than what was copied into
    that. A connection that stays alone counts once, however much it commits: two times within one such stretch look alike.

    Another process may begin the log anew meanwhile: only what the same log (by its salts) says before and after counts.
    """
    log = _beside(path, "-wal")
    while (before := _log(log)) is not None:
        with path.open("rb") as file:
            header = _header(file.read(100))
        pages = list(_first_pages(log, *before))
        if before != _log(log):
            continue
        counts = [page.changes for page in pages]
        if header is None or any(page.identity != header.identity for page in pages):
            said = f"{log.name} beside {path} is of another database, whose pages would take the place of this one's"
        elif counts and not min(counts) - 1 <= header.changes <= max(counts):
            said = (
                f"{log.name} beside {path} is of another time of it: that has seen change {header.changes}, and the log has "
                f"{min(counts)} to {max(counts)}; one of the two was put there without the other"
            )
        else:
            return
        raise _untrusted("LG076", said, "keep a copy of both, then move the log away or restore its database")


def _log(log: Path) -> tuple[int, bytes] | None:
    """Page size and salts of a log; None where there is nothing that SQLite would take."""
    try:
        with log.open("rb") as file:
            start = file.read(32)
    except OSError:
        return None
    if len(start) < 32 or struct.unpack_from(">I", start)[0] not in _WAL_MAGIC:
        return None
    return struct.unpack_from(">I", start, 8)[0], start[16:24]


def _first_pages(log: Path, page: int, salts: bytes) -> Iterator[_Header]:
    """The first page's header, as often as the log has that page."""
    with suppress(OSError), log.open("rb") as file:  # it goes when the last connection closes
        at = file.seek(32)
        while len(head := file.read(124)) == 124 and head[8:16] == salts:
            if head[:4] == b"\0\0\0\1" and (found := _header(head[24:])) is not None:
                yield found
            at = file.seek(at + 24 + page)


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _untrusted(code: str, summary: str, hint: str) -> JournalError:
    return JournalError(code, summary, hint)
