"""SQLite over a file layer that writes down what it asks of the disk, and a connection that speaks as sqlite3's does.

The file layer is SQLite's own for Unix, so everything really happens, in a real folder; each write, truncation, sync,
creation and deletion is an event of a `Log` as well. `images.py` says what a disk may hold after any of them.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

#: Files whose directory SQLite's Unix layer syncs at their first sync, when it has just created them (its `unixSync`).
_JOURNALS = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_WAL


@dataclass(frozen=True)
class Event:
    """What the disk was asked for: create, delete (a name); write, truncate, sync (a file's number); dirsync; or a mark."""

    what: str
    file: int = 0
    name: str = ""
    offset: int = 0
    data: bytes = b""
    mark: Any = None


class Log:
    """The events of one folder, in order. `deaf`: kinds that are not written down, as if they had been left out."""

    def __init__(self, deaf: Iterable[str] = ()) -> None:
        self.events: list[Event] = []
        self.deaf = frozenset(deaf)
        self._numbers: dict[str, int] = {}
        self._lock = threading.Lock()
        self._made = 0

    def add(self, event: Event) -> None:
        """Writes one down."""
        if event.what not in self.deaf and (event.file or event.what in ("dirsync", "mark")):  # 0: SQLite's own scratch
            with self._lock:
                self.events.append(event)

    def mark(self, what: Any) -> None:
        """Notes where in the course of things something was the case."""
        self.add(Event("mark", mark=what))

    def create(self, name: str, data: bytes = b"") -> int:
        """A new file of this name, or one with data that was there before anybody looked."""
        with self._lock:
            self._made += 1
            self._numbers[name] = self._made
            self.events.append(Event("create", self._made, name, data=data))
            return self._made

    def number(self, path: Path) -> int:
        """The file that has this name now."""
        return self._numbers.get(path.name) or self.create(path.name, path.read_bytes())

    def delete(self, name: str, synced: bool) -> None:
        """The name goes; `synced`: and the directory is synced."""
        self.add(Event("delete", self._numbers.pop(name), name))
        if synced:
            self.add(Event("dirsync"))


class Disk(apsw.VFS):
    """The file layer. `before` is asked before everything that is done to a file, and may raise what a disk would."""

    def __init__(self, name: str, log: Log, before: Callable[[str, str], None] = lambda what, name: None) -> None:
        self.name, self.log, self.before = name, log, before
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> Any:  # noqa: N802 (SQLite's names)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        shown = Path(path).name if path else ""
        fresh = bool(path) and bool(flags[0] & apsw.SQLITE_OPEN_CREATE) and not Path(path).exists()
        self.before("create" if fresh else "open", shown)
        made = _File(self, name, flags, shown)
        if fresh:
            made.number, made.unsynced = self.log.create(shown), bool(flags[0] & _JOURNALS)
        elif shown:
            made.number = self.log.number(Path(path))
        return made

    def xDelete(self, path: str, synced: bool) -> None:  # noqa: N802
        self.before("delete", Path(path).name)
        super().xDelete(path, synced)
        self.log.delete(Path(path).name, bool(synced))


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int], shown: str) -> None:
        self.disk, self.shown = disk, shown
        self.number, self.unsynced = 0, False
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self.disk.before("write", self.shown)
        super().xWrite(data, offset)
        self.disk.log.add(Event("write", self.number, self.shown, offset, bytes(data)))

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self.disk.before("truncate", self.shown)
        super().xTruncate(size)
        self.disk.log.add(Event("truncate", self.number, self.shown, size))

    def xSync(self, flags: int) -> None:  # noqa: N802
        self.disk.before("sync", self.shown)
        super().xSync(flags)
        self.disk.log.add(Event("sync", self.number, self.shown))
        if self.unsynced:
            self.unsynced = False
            self.disk.log.add(Event("dirsync"))


class Answer:
    """Rows that were read already, as a cursor hands them out."""

    def __init__(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self._rows = list(rows)

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row."""
        return self._rows.pop(0) if self._rows else None

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows that are left."""
        rows, self._rows = self._rows, []
        return rows


class Connection:
    """An apsw connection as the store knows connections: sqlite3's words, sqlite3's errors."""

    def __init__(self, path: Path, vfs: str | None = None, pragmas: Sequence[str] = ()) -> None:
        self._db: Any = self._said(lambda: apsw.Connection(os.fspath(path), vfs=vfs))
        self._db.set_busy_timeout(20_000)
        for pragma in pragmas:
            self.execute(f"PRAGMA {pragma}")

    def execute(self, sql: str, values: Sequence[Any] = ()) -> Answer:
        """Runs one statement, to its end."""
        return Answer(self._said(lambda: self._db.execute(sql, tuple(values)).fetchall()))

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Runs one statement for each of the rows."""
        self._said(lambda: self._db.executemany(sql, rows).fetchall())

    def close(self) -> None:
        """Lets go of the file."""
        self._said(self._db.close)

    def _said(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except (apsw.Error, UnicodeDecodeError) as error:
            raise sqlite3.OperationalError(f"{error}") from None
