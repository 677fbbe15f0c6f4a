"""What keeps the record: the tables, and what a database of them can do. SQLite and PostgreSQL have a room each.

In: statements in one dialect that both understand, with `?` for values. Out: rows. A store knows neither entries nor
leases; it promises that a transaction that was acknowledged is on the disk, and says `Broken` when it cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from engine.diagnostics import Diagnostic, EngineError, Exit

#: The form of the tables. 1: locks beside the entries, held by file locks. 2: leases.
FORMAT = 2
#: `at` and `since` are UTC, in microseconds since 1970; `until` is in those of the store's own clock (`Store.clock`).
TABLES = (
    "CREATE TABLE entries (run TEXT NOT NULL, seq BIGINT NOT NULL, at BIGINT NOT NULL, kind TEXT NOT NULL, "
    "host TEXT NOT NULL, step TEXT NOT NULL, body TEXT NOT NULL, hash TEXT NOT NULL, PRIMARY KEY (run, seq))",
    "CREATE INDEX started ON entries (run) WHERE seq = 1",
)
LEASES = (
    "CREATE TABLE leases (name TEXT PRIMARY KEY, run TEXT NOT NULL, token BIGINT NOT NULL, owner TEXT NOT NULL, "
    "purpose TEXT NOT NULL, since BIGINT NOT NULL, until BIGINT NOT NULL, era TEXT NOT NULL)",
    "CREATE INDEX held ON leases (token)",
    "CREATE TABLE numbers (name TEXT PRIMARY KEY, value BIGINT NOT NULL)",
    "INSERT INTO numbers VALUES ('token', 0)",
    "CREATE TABLE moves (target TEXT PRIMARY KEY)",
    "INSERT INTO moves VALUES ('')",
)

Result = TypeVar("Result")


class JournalError(EngineError):
    """The record cannot be written or does not hold together. Nothing may be changed any more."""

    def __init__(self, code: str, summary: str, hint: str = "", exit: Exit = Exit.FAILED) -> None:
        super().__init__(Diagnostic(code, summary, hint=hint), exit)


class Broken(Exception):
    """The database cannot be read or written any more; the text says why. What was not acknowledged may not be there."""


class Rows(Protocol):
    """An open transaction. Calling it runs one statement and returns the rows that it gave."""

    def __call__(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """One statement with its values."""

    def many(self, sql: str, values: Iterable[tuple[object, ...]]) -> None:
        """One statement for each of the values."""


class Store(Protocol):
    """A database with the tables above. Its methods may be called from any thread, one at a time.

    `name` is shown to people, without a password in it. `folder` holds what is no entry: evidence, reports. `era` names the
    life of the clock: what was written in another era says nothing about this one. `locking` is what a statement that reads
    a lease adds to keep it as it is until the transaction's end. `remedy` is what a person does about a store that broke.
    `dated`: whose time of day `clock` tells, where it tells one; empty for a clock that only counts.
    """

    name: str
    folder: Path
    era: str
    locking: str
    remedy: str
    dated: str

    def write(self, work: Callable[[Rows], Result], sole: bool = False) -> Result:
        """`work` in one transaction, on the disk when this returns. Raises Broken, or what `work` raises: it is not done.

        `work` may be called again, after a connection was lost, and must find out itself what it has done already. `sole`:
        nobody takes or gives up a lease meanwhile.
        """

    def look(self, work: Callable[[Rows], Result]) -> Result:
        """`work`, which only reads, outside of a transaction. Raises Broken."""

    def clock(self, rows: Rows) -> int:
        """Microseconds on a clock that all who share the store have in common, and that nobody sets."""

    def close(self) -> None:
        """Lets go of the database."""


def stays(store: Store, rows: Rows) -> None:
    """Raises JournalError for a record that was moved to another store: nobody may begin or add anything here any more.

    Until the transaction's end it is not moved either.
    """
    target = rows(f"SELECT target FROM moves{store.locking}")[0][0]  # noqa: S608
    if target:
        hint = f"the same command with --state {target}"
        raise JournalError("LG083", f"the record in {store.name} was moved to {target}", hint, Exit.USAGE)
