"""The store that several machines share: the only door to psycopg, and by it to PostgreSQL.

In: an address (`postgresql://…`). Out: a `Store`, or `JournalError` for a server that is not to be trusted with the record.

Durability: ``synchronous_commit`` is set with every transaction, and a server that runs with ``fsync`` or
``full_page_writes`` off is refused. A transaction sees one state of the database (REPEATABLE READ). That is enough: two
writers of one run meet at the unique number of the entry, takers of leases are alone (`sole`), and whoever writes under a
lease keeps its row as it is. What loses such a meeting is tried again.

A connection that is lost is made again and the work done again, for as long as `patience` says. Lost while COMMIT was under
way, nobody knows whether the transaction is there, and the old one may still be on its way: `work` looks for what it wrote;
if it is not to be seen yet, the new transaction waits for the old one at a row or a number that both want, and looks again.
No silence of the server holds longer than the patience: it has a time limit for each statement, and this side cuts the
connection of an attempt that takes too long.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg.conninfo import conninfo_to_dict

from engine.store import FORMAT, LEASES, TABLES, Broken, JournalError, Result, Rows

#: Seconds for which a lost connection is made again; less than what is left of a lease that is renewed in time.
PATIENCE = 10.0
#: One number for all who make the tables, so that they do it one after the other.
_MAKING = 0x6C617374676F6F64
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL synchronous_commit TO on"
_CHECKED = (
    "SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('server_encoding'), "
    "pg_is_in_recovery()"
)
_UNLOGGED = (
    "SELECT relname FROM pg_class WHERE oid IN (to_regclass('entries'), to_regclass('leases'), to_regclass('numbers'), "
    "to_regclass('moves')) AND relpersistence <> 'p'"
)
_CLOCK = "SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::BIGINT"
#: By SQLSTATE or its class: what another attempt may find otherwise. Lost connections; lost meetings of two transactions;
#: a server that stops, starts or has no place for us; a time limit; a number that somebody else took; a standby.
_PASSING = ("08", "40", "57", "53300", "55P03", "25P03", "25006", "23505")


class PostgresStore:
    """A store of many machines. `folder` is where this machine keeps what is no entry.

    `patience` and `limit` are seconds: a lost connection is made again for so long, and one statement may take so long.
    """

    era = ""  # the database's clock goes on when its server starts anew
    locking = " FOR SHARE"
    remedy = "see that the database can be reached"
    dated = "the record's database"

    def __init__(self, address: str, folder: Path, patience: float = PATIENCE, limit: float | None = None) -> None:
        self.folder = folder.absolute()
        self._given = _parsed(address)
        self.name = _named(self._given)
        self._patience, self._limit = patience, limit or max(0.5, patience / 4)
        self._using = threading.Lock()
        self._due = float("inf")
        self._closed = threading.Event()
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            said = f"the files of this machine cannot be kept in {folder}: {error.strerror}"
            raise JournalError("LG070", said, "name another folder with --files") from None
        threading.Thread(target=self._watch, daemon=True).start()
        try:
            self._db = self._connect()
        except psycopg.Error as error:
            self._closed.set()
            raise self._refused(f"cannot be opened: {self._said(error)}", "see that it runs and lets this user in") from None
        try:
            self._tried(self._prepare)
        except Broken as error:
            self.close()
            raise self._refused(f"cannot be used: {error}", "see that this user may create tables in it") from None
        except BaseException:
            self.close()
            raise

    # -- the transactions

    def write(self, work: Callable[[Rows], Result], sole: bool = False) -> Result:
        """See `Store.write`."""

        def attempt(db: psycopg.Connection) -> Result:
            with _transaction(db):
                if sole:  # before the first look, so that what is seen is what the one before us left
                    db.execute("LOCK TABLE leases IN EXCLUSIVE MODE")
                return work(_Rows(db))

        return self._tried(attempt)

    def look(self, work: Callable[[Rows], Result]) -> Result:
        """See `Store.look`."""
        return self._tried(lambda db: work(_Rows(db)))

    def clock(self, rows: Rows) -> int:
        """The time of the database's machine: the same for all, whatever their own clocks say."""
        found: int = rows(_CLOCK)[0][0]
        return found

    def close(self) -> None:
        """See `Store.close`."""
        self._closed.set()
        with self._using:
            self._let_go()

    def _tried(self, attempt: Callable[[psycopg.Connection], Result]) -> Result:
        """The attempt, again and again while what hinders it may pass. Raises Broken after the patience."""
        end = time.monotonic() + self._patience
        for pause in _pauses():
            try:
                return self._once(attempt)
            except _Passing as error:
                if time.monotonic() + pause > end:
                    raise Broken(str(error)) from None
            time.sleep(pause)
        raise AssertionError  # the pauses have no end

    def _once(self, attempt: Callable[[psycopg.Connection], Result]) -> Result:
        """One attempt, on a connection that is made again if need be. Raises Broken: `_Passing` where another may help."""
        with self._using:
            try:
                if self._db.closed:
                    self._let_go()
                    self._db = self._connect()
                self._due = time.monotonic() + 2 * self._limit
                return attempt(self._db)
            except psycopg.Error as error:
                passing = _passing(error)
                if passing and error.sqlstate is None:
                    self._let_go()
                raise (_Passing if passing else Broken)(self._said(error)) from None
            except BaseException:
                if self._db.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                    self._let_go()  # an interrupt: nobody knows what the connection is in the middle of
                raise
            finally:
                self._due = float("inf")

    # -- the connection

    def _connect(self) -> psycopg.Connection:
        limit = int(self._limit * 1000)
        given: dict[str, Any] = {
            "application_name": "lastgood",
            "connect_timeout": max(2, int(self._limit)),
            "tcp_user_timeout": limit,
            **self._given,
            "client_encoding": "utf8",
        }
        db = psycopg.connect(**given, autocommit=True)
        self._wire = socket.socket(fileno=socket.dup(db.fileno()))
        try:
            self._due = time.monotonic() + 2 * self._limit  # it was let in, and may get no answer all the same
            self.name = _named(self._given, db)
            # A client that stops, or is cut off, in mid-transaction keeps no lock for longer than this.
            db.execute(f"SET statement_timeout TO {limit}; SET idle_in_transaction_session_timeout TO {limit}")
            return db
        except BaseException:
            db.close()
            self._wire.close()
            raise

    def _let_go(self) -> None:
        with suppress(psycopg.Error):
            self._db.close()
        with suppress(OSError):
            self._wire.close()

    def _watch(self) -> None:
        """Cuts the connection of an attempt that is over its time: else a server that says nothing holds us up for ever."""
        while not self._closed.wait(0.1):
            if time.monotonic() > self._due:
                with suppress(OSError):
                    self._wire.shutdown(socket.SHUT_RDWR)

    # -- whether it may be trusted

    def _prepare(self, db: psycopg.Connection) -> None:
        fsync, whole_pages, encoding, standby = db.execute(_CHECKED).fetchall()[0]
        if (fsync, whole_pages) != ("on", "on"):
            said = f"runs with fsync={fsync} and full_page_writes={whole_pages}: a power cut could take what it acknowledged"
            raise self._refused(said, "set both to on")
        if encoding != "UTF8":
            raise self._refused(f"has the encoding {encoding}", "create the database with the encoding UTF8")
        if standby:
            raise self._refused("is a standby, which cannot be written", "name the primary")
        with _transaction(db, "BEGIN; SET LOCAL synchronous_commit TO on"):
            db.execute("SELECT pg_advisory_xact_lock(%s)", (_MAKING,))
            if db.execute("SELECT to_regclass('numbers'), to_regclass('entries')").fetchall()[0] == (None, None):
                for statement in (*TABLES, *LEASES):
                    db.execute(statement.replace("TEXT", 'TEXT COLLATE "C"'))  # no index depends on the system's languages
                db.execute("INSERT INTO numbers VALUES ('format', %s)", (FORMAT,))
        self._known(db)

    def _known(self, db: psycopg.Connection) -> None:
        """Raises JournalError unless the tables are ours, of the form that this engine reads, and survive a crash."""
        try:
            found = db.execute("SELECT value FROM numbers WHERE name = 'format'").fetchall()
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
            found = []
        if not found:
            raise self._refused("has tables of these names that are not ours", "give the record a database of its own")
        if found[0][0] != FORMAT:
            said = f"the journal has format {found[0][0]}, this engine reads {FORMAT}"
            raise JournalError("LG071", said, "use the engine that wrote it")
        if unlogged := db.execute(_UNLOGGED).fetchall():
            said = f"keeps the table {unlogged[0][0]} unlogged: a crash would empty it"
            raise self._refused(said, f"ALTER TABLE {unlogged[0][0]} SET LOGGED")

    def _refused(self, said: str, hint: str) -> JournalError:
        return JournalError("LG070", f"the journal {self.name} {said}", hint)

    def _said(self, error: psycopg.Error) -> str:
        """The message in one line, without the password."""
        said = " ".join((error.diag.message_primary or str(error) or type(error).__name__).split())
        password = str(self._given.get("password", ""))
        return said.replace(password, "***") if password else said


class _Passing(Broken):
    """Another attempt may do."""


class _Rows:
    def __init__(self, db: psycopg.Connection) -> None:
        self.db = db

    def __call__(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        cursor = self.db.execute(_ours(sql), values)
        return cursor.fetchall() if cursor.description else []

    def many(self, sql: str, values: Iterable[tuple[object, ...]]) -> None:
        self.db.cursor().executemany(_ours(sql), list(values))


@contextmanager
def _transaction(db: psycopg.Connection, begin: LiteralString = _BEGIN) -> Iterator[None]:
    db.execute(begin, prepare=False)
    try:
        yield
        if db.execute("COMMIT").statusmessage != "COMMIT":
            raise psycopg.errors.InFailedSqlTransaction("a statement of the transaction had failed")
    except BaseException:
        with suppress(psycopg.Error):
            db.execute("ROLLBACK")
        raise


def _passing(error: psycopg.Error) -> bool:
    """Whether another attempt may do: what has no SQLSTATE is a connection that was lost or could not be made."""
    if error.sqlstate is None:
        return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    return error.sqlstate.startswith(_PASSING)


def _ours(sql: str) -> str:
    """The statement as psycopg wants it."""
    return sql.replace("%", "%%").replace("?", "%s")


def _pauses() -> Iterator[float]:
    """Seconds between attempts: from 5 ms to half a second, never quite the same, so that two do not keep meeting."""
    pause = 0.005
    while True:
        yield pause * (0.5 + random.random())  # noqa: S311 (no secret)
        pause = min(0.4, pause * 2)


def _parsed(address: str) -> dict[str, Any]:
    try:
        return dict(conninfo_to_dict(address))
    except psycopg.Error:  # its text holds the address, and with it the password
        hint = "postgresql://USER@HOST/DATABASE; the password from PGPASSWORD or ~/.pgpass"
        raise JournalError("LG070", "the address of the journal is not one of PostgreSQL", hint) from None


def _named(given: dict[str, Any], db: psycopg.Connection | None = None) -> str:
    """The address for people, without the password: as it was found, else as it was given."""
    user, host, port, name = (str(given.get(key) or "") for key in ("user", "host", "port", "dbname"))
    if db is not None:
        user, host, port, name = db.info.user, db.info.host, str(db.info.port), db.info.dbname
    place = (f"{user}@" if user else "") + host + (f":{port}" if port else "")
    return f"postgresql://{place}/{name}"
