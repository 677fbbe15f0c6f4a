"""The record: one append-only table of entries, hash-chained for each run, durable when `append` returns.

In: an entry's kind, host, step and body. Out: the entry with its number, time and hash, or `JournalError`. The only door
to SQLite. It knows nothing of what the entries mean; every view of a run is a fold over them.

Durability: rollback journal with ``synchronous=EXTRA``, which syncs the directory after the journal file is removed; with
FULL an acknowledged commit can be lost when power is cut. A commit that fails breaks the store for good: an fsync that
failed once says nothing the second time, so it is never tried again and no effect follows.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from engine.diagnostics import Diagnostic, EngineError, Exit
from modules.contract import Json

FORMAT = 1
#: How often a claim is tried, 20 ms apart, before it counts as held by another process.
_LOOKS = 25
_TABLES = """
CREATE TABLE entries (
    run TEXT NOT NULL, seq INTEGER NOT NULL, at INTEGER NOT NULL, kind TEXT NOT NULL, host TEXT NOT NULL, step TEXT NOT NULL,
    body TEXT NOT NULL, hash TEXT NOT NULL, PRIMARY KEY (run, seq)) WITHOUT ROWID;
CREATE INDEX started ON entries (run) WHERE seq = 1;
CREATE TABLE locks (host TEXT PRIMARY KEY, run TEXT NOT NULL, purpose TEXT NOT NULL, since INTEGER NOT NULL) WITHOUT ROWID;
"""
_SELECT = "SELECT run, seq, at, kind, host, step, body, hash FROM entries WHERE run = ?"
#: The run with the highest number: it has four digits at least, and may have five.
_NEWEST = "SELECT run FROM entries WHERE seq = 1 ORDER BY LENGTH(run) DESC, run DESC LIMIT 1"


class JournalError(EngineError):
    """The record cannot be written or does not hold together. Nothing may be changed any more."""


@dataclass(frozen=True)
class Entry:
    """One row. `at`: UTC, in seconds since 1970. `text`: the body as JSON, as it was hashed. `seq` 0: live, not stored."""

    run: str
    seq: int
    at: float
    kind: str
    host: str
    step: str
    text: str
    hash: str = ""

    @cached_property
    def body(self) -> dict[str, Json]:
        """What the entry says."""
        found: dict[str, Json] = json.loads(self.text)
        return found


@dataclass
class _Ticket:
    """An entry on its way to the disk."""

    run: str
    kind: str
    host: str
    step: str
    text: str
    at: int
    entry: Entry | None = None
    error: Exception | None = None
    wake: threading.Lock | None = (
        None  # held by the thread that waits; released when the entry is settled or must be committed by it
    )

    @property
    def settled(self) -> bool:
        return self.entry is not None or self.error is not None


Listener = Callable[[Entry], None]


class Journal:
    """An open store. Safe to use from many threads: whoever comes first commits for all that are waiting (group commit)."""

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        self.folder = folder.absolute()
        self.listeners: list[Listener] = []
        self.commits = 0
        self._now = now
        self._queue: list[_Ticket] = []
        self._queued = threading.Lock()
        self._leading = False
        self._writing = threading.Lock()
        self._broken: BaseException | None = None
        self._claims: dict[str, IO[str]] = {}
        try:
            self._db = self._open()
        except (sqlite3.Error, OSError) as error:
            raise _error(
                "LG070",
                f"the journal {folder / 'journal.db'} cannot be opened: {error}",
                "check the disk and the permissions",
            ) from None

    def _open(self) -> sqlite3.Connection:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.folder / "journal.db"
        fresh = not path.exists()
        if fresh:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=20.0)
        mode = db.execute("PRAGMA journal_mode").fetchone()[0]
        if mode != "delete":
            raise _error(
                "LG070",
                f"the journal is in the mode {mode!r}, which is not one of those proven safe",
                "move it away, or restore a copy",
            )
        db.execute("PRAGMA synchronous=EXTRA")
        db.execute("BEGIN IMMEDIATE")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            for statement in _TABLES.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version={FORMAT}")
        db.execute("COMMIT")
        if version not in (0, FORMAT):
            raise _error(
                "LG071", f"the journal has format {version}, this engine reads {FORMAT}", "use the engine that wrote it"
            )
        return db

    def close(self) -> None:
        """Lets go of every claim and of the file."""
        with self._writing:
            for claim in self._claims.values():
                claim.close()
            self._claims.clear()
            self._db.close()

    def start(self, body: dict[str, Json]) -> str:
        """Begins a run: its number and its first entry are one commit. Returns its id (``RB-0001``). Claims it."""
        with self._writing:
            self._begin()
            last = self._db.execute(_NEWEST).fetchone()
            run = f"RB-{int(last[0][3:]) + 1 if last else 1:04d}"
            ticket = _Ticket(run, "run.started", "", "", _dump(body), self._time())
            self._finish([ticket])
        if ticket.error:
            raise ticket.error
        self.claim(run)
        return run

    def append(self, run: str, kind: str, body: dict[str, Json], host: str = "", step: str = "") -> Entry:
        """Adds an entry; when this returns it is on the disk. Raises JournalError, and from then on always."""
        return self.append_all(run, [(kind, body, host, step)])[0]

    def append_all(self, run: str, rows: Sequence[tuple[str, dict[str, Json], str, str]]) -> list[Entry]:
        """Adds entries in one commit: all of them or none."""
        tickets = [_Ticket(run, kind, host, step, _dump(body), self._time()) for kind, body, host, step in rows]
        first = tickets[0]
        with self._queued:
            self._queue.extend(tickets)
            lead, self._leading = not self._leading, True
            if not lead:
                first.wake = threading.Lock()
                first.wake.acquire()
        if not lead and first.wake:
            first.wake.acquire()
        if not first.settled:
            self._lead()
        for ticket in tickets:
            if ticket.error:
                raise ticket.error
        return [ticket.entry for ticket in tickets if ticket.entry]

    def _lead(self) -> None:
        """Commits everything that waits, wakes its owners, and hands the lead to the first who came meanwhile."""
        with self._queued:
            batch, self._queue = self._queue, []
        try:
            with self._writing:
                self._begin(batch)
                self._finish(batch)
        except BaseException as error:  # an interrupt: nobody knows how far it came
            self._broken = self._broken or error
            raise
        finally:
            for ticket in batch:
                if not ticket.settled:
                    ticket.error = self._failed()
            for ticket in batch:
                if ticket.wake:
                    ticket.wake.release()
            with self._queued:
                self._leading = bool(self._queue)
                if self._queue and self._queue[0].wake:
                    self._queue[0].wake.release()

    def announce(self, run: str, kind: str, body: dict[str, Json], host: str = "", step: str = "") -> None:
        """Tells the listeners what is going on without recording it (a step has started, a question is open)."""
        self._tell(Entry(run, 0, self._now(), kind, host, step, _dump(body)))

    def _tell(self, entry: Entry) -> None:
        for listener in list(self.listeners):
            try:
                listener(entry)
            except Exception:  # noqa: BLE001 (a reader that has gone away must not stop the run, nor its other readers)
                self.listeners = [other for other in self.listeners if other is not listener]

    def _time(self) -> int:
        return int(self._now() * 1_000_000)

    def _begin(self, batch: Sequence[_Ticket] = ()) -> None:
        if self._broken is None:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.Error as error:
                self._broken = error
        failed = self._failed()
        for ticket in batch:
            ticket.error = failed
        if not batch:
            raise failed

    def _finish(self, batch: Sequence[_Ticket]) -> None:
        if self._broken is not None:
            return
        heads: dict[str, tuple[int, str]] = {}
        made: list[Entry] = []
        try:
            for ticket in batch:
                seq, before = heads.get(ticket.run) or self._head(ticket.run)
                digest = _hash(before, ticket.run, seq + 1, ticket.at, ticket.kind, ticket.host, ticket.step, ticket.text)
                made.append(
                    Entry(ticket.run, seq + 1, ticket.at / 1e6, ticket.kind, ticket.host, ticket.step, ticket.text, digest)
                )
                heads[ticket.run] = (seq + 1, digest)
            self._db.executemany(
                "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [(e.run, e.seq, t.at, e.kind, e.host, e.step, e.text, e.hash) for e, t in zip(made, batch, strict=True)],
            )
            self._db.execute("COMMIT")
            self.commits += 1
        except sqlite3.Error as error:
            self._broken = error
            for ticket in batch:
                ticket.error = self._failed()
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")  # else nobody else could write either, for as long as this process lives
            return
        for ticket, entry in zip(batch, made, strict=True):
            ticket.entry = entry
            self._tell(entry)

    def _failed(self) -> JournalError:
        return _error(
            "LG072", f"the journal cannot be written: {self._broken}",
            "nothing more was changed; free the disk or repair it, then engine resume",
        )  # fmt: skip

    def _head(self, run: str) -> tuple[int, str]:
        row = self._db.execute("SELECT seq, hash FROM entries WHERE run = ? ORDER BY seq DESC LIMIT 1", (run,)).fetchone()
        return (row[0], row[1]) if row else (0, "")

    def entries(self, run: str, after: int = 0) -> list[Entry]:
        """The run's entries with a number above `after`, in order."""
        rows = self._rows(
            "SELECT run, seq, at, kind, host, step, body, hash FROM entries WHERE run = ? AND seq > ? ORDER BY seq",
            run,
            after,
        )
        return [
            Entry(run, seq, at / 1e6, kind, host, step, text, digest)
            for run, seq, at, kind, host, step, text, digest in rows
        ]

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """The answer of the database. What cannot be read any more is not written any more either. Raises JournalError."""
        with self._writing:
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.Error as error:
                self._broken = self._broken or error
                raise self._failed() from None

    def verified(self, run: str) -> list[Entry]:
        """The run's entries, after every hash of the chain was computed again. Raises JournalError where it breaks."""
        found = self.entries(run)
        before = ""
        for number, e in enumerate(found, 1):
            before = _hash(before, e.run, e.seq, round(e.at * 1e6), e.kind, e.host, e.step, e.text)
            if e.seq != number or e.hash != before:
                why = f"the journal of {run} was changed: entry {number} does not follow from the one before it"
                raise _error("LG073", why, "keep a copy of the store; this run cannot be continued")
        return found

    def runs(self) -> list[tuple[Entry, Entry]]:
        """Every run's first and last entry, oldest run first."""
        names = [row[0] for row in self._rows("SELECT run FROM entries WHERE seq = 1 ORDER BY LENGTH(run), run")]
        found = []
        for name in names:
            both = "(1, (SELECT MAX(seq) FROM entries WHERE run = ?))"
            rows = self._rows(f"{_SELECT} AND seq IN {both} ORDER BY seq", name, name)
            ends = [Entry(r, s, at / 1e6, k, h, st, t, d) for r, s, at, k, h, st, t, d in rows]
            found.append((ends[0], ends[-1]))
        return found

    def latest(self) -> str | None:
        """The newest run's id."""
        rows = self._rows(_NEWEST)
        return rows[0][0] if rows else None

    def files(self, run: str) -> Path:
        """The run's own folder: evidence, report, claim."""
        folder = self.folder / "runs" / run
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def claim(self, run: str) -> None:
        """Makes this process the one that runs `run`, until it ends (the system lets go for a killed one). Raises exit 8."""
        held = (self.files(run) / "claim").open("a+", encoding="utf-8")
        for _ in range(_LOOKS):
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                time.sleep(0.02)  # it may only be somebody who looks whether the run is held
        else:
            held.seek(0)
            by = held.read().strip() or "another process"
            held.close()
            raise _error(
                "LG080", f"{run} is being run by {by}", f"engine status {run} --follow shows it", Exit.LOCKED
            ) from None
        held.truncate(0)
        held.write(f"process {os.getpid()}\n")
        held.flush()
        self._claims[run] = held

    def held(self, run: str) -> bool:
        """Whether some living process runs `run`."""
        if run in self._claims:
            return True
        with (self.files(run) / "claim").open("a+", encoding="utf-8") as probe:
            try:
                fcntl.flock(probe, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: those who look do not take each other for it
            except OSError:
                return True
        return False

    def lock(self, run: str, hosts: Iterable[str], purpose: str) -> None:
        """Takes the hosts for `run`: all or none. A lock whose run nobody runs any more is taken over. Raises exit 8."""
        wanted = list(hosts)
        with self._writing:
            self._begin()
            try:
                rows = {
                    host: (by, why, since)
                    for host, by, why, since in self._db.execute("SELECT host, run, purpose, since FROM locks")
                }
                for host in wanted:
                    if host in rows and rows[host][0] != run and self.held(rows[host][0]):
                        by, why, since = rows[host]
                        age = max(0, int(self._now() - since / 1e6))
                        raise _error(
                            "LG080",
                            f"{host} is held by {by} ({why}), for {age} s",
                            f"engine status {by} --follow shows it",
                            Exit.LOCKED,
                        )
                self._db.executemany(
                    "INSERT OR REPLACE INTO locks VALUES (?, ?, ?, ?)",
                    [(host, run, purpose, self._time()) for host in wanted],
                )
                self._db.execute("COMMIT")
            except JournalError:
                self._db.execute("ROLLBACK")
                raise
            except sqlite3.Error as error:
                self._broken = error
                raise self._failed() from None

    def unlock(self, run: str) -> None:
        """Gives the run's hosts and its claim back."""
        with self._writing:
            try:
                if self._broken is None:
                    self._db.execute("DELETE FROM locks WHERE run = ?", (run,))
            except sqlite3.Error:
                pass  # a lock whose run nobody runs any more is taken over
            claim = self._claims.pop(run, None)
            if claim:
                claim.close()


def ending(entries: Sequence[Entry]) -> Entry | None:
    """The `run.ended` that holds: messages may follow it, but no resume and no undo."""
    for entry in reversed(entries):
        if entry.kind == "run.ended":
            return entry
        if entry.kind in ("run.resumed", "undo.started"):
            return None
    return None


def exists(folder: Path) -> bool:
    """Whether there is a store at `folder`."""
    return (folder / "journal.db").is_file()


def _dump(body: dict[str, Json]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # half a character, as a host may send it in JSON, is no text: nobody could write or show it
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _hash(before: str, run: str, seq: int, at: int, kind: str, host: str, step: str, text: str) -> str:
    """sha256 over the previous hash and this entry's fields, each with its length, so that no two entries read alike."""
    when = f"{len(str(seq))}:{seq}{len(str(at))}:{at}"
    where = f"{len(kind)}:{kind}{len(host)}:{host}{len(step)}:{step}"
    whole = f"{len(before)}:{before}{len(run)}:{run}{when}{where}{len(text)}:{text}"
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()


def _error(code: str, summary: str, hint: str = "", ends: Exit = Exit.FAILED) -> JournalError:
    return JournalError(Diagnostic(code, summary, hint=hint), ends)
