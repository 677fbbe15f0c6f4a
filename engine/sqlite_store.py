"""The store in a folder of this machine: the only door to SQLite.

In: a folder. Out: a `Store`, or `JournalError` for a file that is not to be trusted with the record.

Durability: rollback journal with ``synchronous=EXTRA``, which syncs the directory after the journal file is removed; with
FULL an acknowledged commit can be lost when power is cut. A commit that fails breaks the store for good: an fsync that
failed once says nothing the second time, so it is never tried again and no effect follows.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from engine import database_file
from engine.diagnostics import Exit
from engine.store import FORMAT, LEASES, TABLES, Broken, JournalError, Result, Rows

_NO_ROWID = " WITHOUT ROWID"


def _connect(path: Path) -> Any:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=20.0)


def exists(folder: Path) -> bool:
    """Whether there is a store at `folder`."""
    return (folder / "journal.db").is_file()


class SqliteStore:
    """A store of one machine. `connect` opens the file; its connection may be another library's, with sqlite3's errors."""

    locking = ""
    remedy = "free the disk or repair it"
    dated = ""  # it counts from the machine's start

    def __init__(self, folder: Path, connect: Callable[[Path], Any] = _connect) -> None:
        self.folder = folder.absolute()
        self.path = self.folder / "journal.db"
        self.name = str(folder)
        self.era = _boot()
        self._writing = threading.Lock()
        try:
            self._db = self._open(connect)
        except (sqlite3.Error, OSError) as error:
            said = f"the journal {folder / 'journal.db'} cannot be opened: {error}"
            raise JournalError("LG070", said, "check the disk and the permissions") from None

    def _open(self, connect: Callable[[Path], Any]) -> Any:
        _make(self.folder)
        database_file.local(self.folder)
        if not self.path.exists():
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        with closing(connect(Path(":memory:"))) as empty:  # even to be asked this, a SQLite would repair the file first
            version = empty.execute("SELECT sqlite_version()").fetchone()[0]
        mode = database_file.looked_at(self.path, version)
        db = connect(self.path)
        try:
            self._prepare(db, mode)
        except BaseException:
            db.close()  # and with it the transaction: else nobody else could open the store while this process lives
            raise
        return db

    def _prepare(self, db: Any, mode: str) -> None:
        """Makes commits as safe as the mode asks for, and the tables of a new store. Raises JournalError."""
        found = db.execute("PRAGMA journal_mode").fetchone()[0]
        if found != mode:
            said = f"{self.path} changed from the mode {mode} to {found} while it was being opened"
            raise JournalError("LG074", said, "find out who else uses it, then try again")
        db.execute(f"PRAGMA synchronous={database_file.MODES[mode]}")
        db.execute("BEGIN IMMEDIATE")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, 1, FORMAT):
            said = f"the journal has format {version}, this engine reads {FORMAT}"
            raise JournalError("LG071", said, "use the engine that wrote it")
        if version == 1:
            self._still_used()
        if version != FORMAT:
            for statement in (*(TABLES if version == 0 else ("DROP TABLE locks",)), *LEASES):
                db.execute(statement + (_NO_ROWID if statement.startswith("CREATE TABLE") else ""))
            db.execute(f"PRAGMA user_version={FORMAT}")
            db.execute(f"PRAGMA application_id={secrets.randbits(31)}")  # tells its journals from another store's
        # in a write-ahead log every commit names its store, so that another store's log can be told from this one's
        self._stamp = f"PRAGMA application_id={db.execute('PRAGMA application_id').fetchone()[0]}" if mode == "wal" else ""
        db.execute("COMMIT")

    def _still_used(self) -> None:
        """Raises JournalError while an engine of format 1, which knows no leases, runs something: it holds a file lock."""
        for path in sorted(self.folder.glob("runs/*/claim")):
            with path.open("a+", encoding="utf-8") as claim:
                try:
                    fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    said = f"{path.parent.name} is being run by an older engine, which does not know the locks of this one"
                    hint = "wait for its end, or cancel it with that engine"
                    raise JournalError("LG080", said, hint, Exit.LOCKED) from None

    def write(self, work: Callable[[Rows], Result], sole: bool = False) -> Result:  # noqa: ARG002 (a writer is alone here)
        """See `Store.write`."""
        with self._writing:
            try:
                self._db.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                raise Broken(str(error)) from None
            try:
                result = work(_Rows(self._db))
                if self._stamp:
                    self._db.execute(self._stamp)
                self._db.execute("COMMIT")
            except BaseException as error:
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")  # else nobody else could write either, for as long as this process lives
                if isinstance(error, sqlite3.Error):
                    raise Broken(str(error)) from None
                raise
            return result

    def look(self, work: Callable[[Rows], Result]) -> Result:
        """See `Store.look`."""
        with self._writing:
            try:
                return work(_Rows(self._db))
            except sqlite3.Error as error:
                raise Broken(str(error)) from None

    def clock(self, rows: Rows) -> int:  # noqa: ARG002 (the machine's, not the database's)
        """Time since this machine started, sleep included: nobody can set it, and every process here has the same."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000

    def close(self) -> None:
        """See `Store.close`."""
        with self._writing:
            self._db.close()


class _Rows:
    def __init__(self, db: Any) -> None:
        self.db = db

    def __call__(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self.db.execute(sql, values).fetchall()
        return found

    def many(self, sql: str, values: Iterable[tuple[object, ...]]) -> None:
        self.db.executemany(sql, values)


def _make(folder: Path) -> None:
    """Makes the folder, and has its name on the disk: SQLite syncs the folder that it writes in, and none above it."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in missing:
        above = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(above)
        finally:
            os.close(above)


def _boot() -> str:
    """The life of this machine's clock: it begins anew when the machine starts."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
