"""Faults that are planted into what keeps the record, in this process: the suites of this folder must see each of them.

Each function plants one; its docstring says what the engine then does wrong.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from engine import database_file, sqlite_store
from engine.journal import Entry, Journal
from engine.sqlite_store import SqliteStore
from engine.store import Broken, JournalError


def drops_the_fsync() -> None:
    """A commit is acknowledged without any fsync."""
    database_file.MODES["delete"] = "OFF"


def drops_the_directory_sync() -> None:
    """The directory is not synced after the rollback journal is removed."""
    database_file.MODES["delete"] = "FULL"


def drops_the_fsync_of_the_log() -> None:
    """A commit in a write-ahead log is acknowledged before the log is synced."""
    database_file.MODES["wal"] = "NORMAL"


def acknowledges_before_the_commit() -> None:
    """A transaction counts as written when it is about to be, and is committed before the next one."""

    def write(self: SqliteStore, work: Callable[[Any], Any], sole: bool = False) -> Any:
        with self._writing:
            try:
                with suppress(sqlite3.Error):  # nothing was under way
                    self._db.execute("COMMIT")
                self._db.execute("BEGIN IMMEDIATE")
                return work(sqlite_store._Rows(self._db))
            except sqlite3.Error as error:
                raise Broken(str(error)) from None

    SqliteStore.write = write  # type: ignore[method-assign]


def commits_by_halves() -> None:
    """What belongs together is committed one by one."""
    real = Journal.append_all

    def append_all(self: Journal, run: str, rows: Sequence[Any]) -> list[Entry]:
        return [entry for row in rows for entry in real(self, run, [row])]

    Journal.append_all = append_all  # type: ignore[method-assign]


def tries_a_failed_commit_again() -> None:
    """A commit whose fsync failed is simply tried once more."""
    real = SqliteStore.write

    def write(self: SqliteStore, *given: Any) -> Any:
        try:
            return real(self, *given)
        except Broken:
            return real(self, *given)

    SqliteStore.write = write  # type: ignore[method-assign]


def ignores_a_failed_commit() -> None:
    """A commit that failed is taken for one that was."""
    real = SqliteStore.write

    def write(self: SqliteStore, work: Callable[[Any], Any], sole: bool = False) -> Any:
        found: list[Any] = []

        def kept(rows: Any) -> Any:
            found[:] = [work(rows)]
            return found[0]

        try:
            return real(self, kept, sole)
        except Broken:
            if found:
                return found[0]
            raise

    SqliteStore.write = write  # type: ignore[method-assign]


def acts_without_its_intent() -> None:
    """An effect is let through though its intent could not be committed."""
    real = Journal.append

    def append(self: Journal, run: str, kind: str, body: Any, host: str = "", step: str = "") -> Entry:
        try:
            return real(self, run, kind, body, host, step)
        except JournalError:
            if kind != "step.intent":
                raise
            return Entry(run, 0, 0.0, kind, host, step, "{}")

    Journal.append, Journal.live = append, lambda *_: None  # type: ignore[method-assign]


def acts_after_another_failed() -> None:
    """A host acts though a commit of another host has failed since its own."""
    real = Journal.live

    def live(self: Journal, run: str) -> None:
        broken, self._broken = self._broken, None
        try:
            real(self, run)
        finally:
            self._broken = broken

    Journal.live = live  # type: ignore[method-assign]


def checks_no_hash() -> None:
    """The chain is read and not computed again."""
    Journal.verified = lambda self, run: self.entries(run)  # type: ignore[method-assign]


def takes_any_log() -> None:
    """A write-ahead log is opened by a SQLite that can lose commits in it."""
    database_file.mended = lambda _version: True


def takes_any_journal() -> None:
    """A rollback journal of another database is rolled back into this one."""
    database_file._own_journal = lambda *_: None


def takes_any_disk() -> None:
    """A store on a file system of another machine is opened."""
    database_file._ELSEWHERE = frozenset()


def forgets_the_folders_name() -> None:
    """The folder of a new store is not synced into the one above it."""
    sqlite_store._make = lambda folder: folder.mkdir(parents=True, exist_ok=True, mode=0o700)
