"""The record: one append-only table of entries, hash-chained for each run, durable when `append` returns.

In: an entry's kind, host, step and body. Out: the entry with its number, time and hash, or `JournalError`. It knows nothing
of what the entries mean; every view of a run is a fold over them. Where they lie is the store's affair.

Who runs a run holds a lease on it and on its hosts, which this room renews while its process lives; an entry of a process
whose lease has lapsed, or was taken or broken, is refused in the transaction that would write it. People's entries (a key, a
note, a wish to cancel) need no lease.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import chain, leases, sqlite_store
from engine.chain import FIELDS, Entry, ending
from engine.diagnostics import Exit
from engine.leases import HOST, RUN, Lease, Owner
from engine.store import Broken, JournalError, Result, Rows, Store, stays
from modules.contract import Json

__all__ = ["Entry", "Journal", "JournalError", "ending"]

#: Seconds for which a lease holds when it is not renewed, which happens three times in this time.
LEASE = 15.0
_SELECT = f"SELECT {FIELDS} FROM entries WHERE run = ?"  # noqa: S608
_BEGUN = f"SELECT {FIELDS} FROM entries WHERE seq = 1 AND kind = 'run.started'"  # noqa: S608
#: The run with the highest number: it has four digits at least, and may have five.
_NEWEST = "SELECT run FROM entries WHERE seq = 1 AND kind = 'run.started' ORDER BY LENGTH(run) DESC, run DESC LIMIT 1"


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
Tell = Callable[[str], None]
Refuse = Callable[[Iterable[Entry]], None]


def _silent(_said: str) -> None:
    return None


@dataclass
class _Held:
    """What this process holds for a run: `renewed` is when its lease was last known to hold, in `leases.moment`."""

    token: int
    renewed: float


class Journal:
    """An open record. Safe to use from many threads: whoever comes first commits for all that are waiting (group commit)."""

    def __init__(
        self, where: Path | Store, now: Callable[[], float] = time.time, lease: float = LEASE, person: str = ""
    ) -> None:
        self.store: Store = sqlite_store.SqliteStore(where) if isinstance(where, Path) else where
        self.listeners: list[Listener] = []
        self.commits = 0
        self.memory: tuple[Path, ...] = (self.store.folder,)  # where this machine keeps how far it has seen a chain grow
        self.lease = lease  # how long one holds, in seconds
        self._now, self._person = now, person
        self._queue: list[_Ticket] = []
        self._queued = threading.Lock()
        self._leading = False
        self._broken: BaseException | None = None
        self._held: dict[str, _Held] = {}
        self._lost: set[str] = set()
        self._closed = threading.Event()
        self._heart: threading.Thread | None = None

    def close(self) -> None:
        """Gives back every lease, and the store."""
        self._closed.set()
        if self._heart:
            self._heart.join(1.0)
        for run in list(self._held):
            self.unlock(run)
        self.store.close()

    def start(self, body: dict[str, Json], refuse: Refuse | None = None) -> str:
        """Begins a run: its number, its first entry and the lease on it are one commit. Returns its id (``RB-0001``).
        `refuse` sees the first entries of all earlier runs in that commit, and raises what speaks against one more."""
        text, at, me, made = chain.text_of(body), self._time(), Owner.me(self._person), list[tuple[Entry, int]]()

        def work(rows: Rows) -> tuple[Entry, int]:
            if made and _there(rows, made[-1][0]):
                return made[-1]
            stays(self.store, rows)
            if refuse:
                refuse(Entry.of(row) for row in rows(_BEGUN))
            last = rows(_NEWEST)
            run = f"RB-{int(last[0][0][3:]) + 1 if last else 1:04d}"
            token = leases.next_token(rows)
            leases.put(self.store, rows, [RUN + run], run, token, me, "", self.lease)
            made.append((self._enter(rows, [_Ticket(run, "run.started", "", "", text, at)])[0], token))
            return made[-1]

        asked = leases.moment()
        entry, token = self._write(work, sole=True)
        self._holds(entry.run, token, asked)
        self._tell(entry)
        return entry.run

    def append(self, run: str, kind: str, body: dict[str, Json], host: str = "", step: str = "") -> Entry:
        """Adds an entry; when this returns it is on the disk. Raises JournalError, and from then on always."""
        return self.append_all(run, [(kind, body, host, step)])[0]

    def append_all(self, run: str, rows: Sequence[tuple[str, dict[str, Json], str, str]]) -> list[Entry]:
        """Adds entries in one commit: all of them or none."""
        tickets = [_Ticket(run, kind, host, step, chain.text_of(body), self._time()) for kind, body, host, step in rows]
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
            self._commit(batch)
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

    def _commit(self, batch: list[_Ticket]) -> None:
        made: list[Entry] = []
        mine: list[_Ticket] = []
        prolonged: dict[str, float] = {}

        def work(rows: Rows) -> None:
            """The tickets that may be written are `mine`, as entries `made`. It is called again after a lost connection."""
            if made and _there(rows, made[-1]):
                return  # the lost one had been acknowledged, whoever has lost a run since
            if any(ticket.run not in self._held for ticket in batch):
                stays(self.store, rows)
            for run in {ticket.run for ticket in batch}:
                held = self._held.get(run)  # another thread may just have given it back
                asked = leases.moment()
                if held and asked > held.renewed + self.lease / 3:  # the heartbeat may not get its turn among many entries
                    kept = leases.renew(self.store, rows, run, held.token, self.lease)
                    prolonged.update({run: asked} if kept else {})
                else:
                    kept = held is None or leases.holds(self.store, rows, run, held.token)
                if not kept:
                    self._lost.add(run)
            mine[:] = [ticket for ticket in batch if ticket.run not in self._lost]
            made[:] = self._enter(rows, mine)

        try:
            self._write(work)
        except JournalError as error:
            for ticket in batch:
                ticket.error = error
            return
        for run, asked in prolonged.items():
            if held := self._held.get(run):
                held.renewed = max(held.renewed, asked)
        for ticket in batch:
            if ticket.run in self._lost:
                ticket.error = self._gone(ticket.run)
        for ticket, entry in zip(mine, made, strict=True):
            ticket.entry = entry
            self._tell(entry)

    def _enter(self, rows: Rows, tickets: Sequence[_Ticket]) -> list[Entry]:
        """Writes the entries, each with the hash of the one before."""
        heads: dict[str, tuple[int, str]] = {}
        made = []
        for one in tickets:
            if one.run not in heads:
                last = rows("SELECT seq, hash FROM entries WHERE run = ? ORDER BY seq DESC LIMIT 1", one.run)
                heads[one.run] = (last[0][0], last[0][1]) if last else (0, "")
            made.append(chain.following(heads[one.run], one.run, one.at, one.kind, one.host, one.step, one.text))
            heads[one.run] = (made[-1].seq, made[-1].hash)
        rows.many(f"INSERT INTO entries ({FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [one.row for one in made])  # noqa: S608
        return made

    def _write(self, work: Callable[[Rows], Result], sole: bool = False) -> Result:
        """A transaction. Raises JournalError, and from the first failure on always."""
        if self._broken is None:
            try:
                found = self.store.write(work, sole)
                self.commits += 1
                return found
            except Broken as error:
                self._broken = error
        raise self._failed()

    def _look(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """The answer of the database. What cannot be read any more is not written any more either. Raises JournalError."""
        try:
            return self.store.look(lambda rows: rows(sql, *values))
        except Broken as error:
            self._broken = self._broken or error
            raise self._failed() from None

    def announce(self, run: str, kind: str, body: dict[str, Json], host: str = "", step: str = "") -> None:
        """Tells the listeners what is going on without recording it (a step has started, a question is open)."""
        self._tell(Entry(run, 0, self._now(), kind, host, step, chain.text_of(body)))

    def _tell(self, entry: Entry) -> None:
        for listener in list(self.listeners):
            try:
                listener(entry)
            except Exception:  # noqa: BLE001 (a reader that has gone away must not stop the run, nor its other readers)
                self.listeners = [other for other in self.listeners if other is not listener]

    def _time(self) -> int:
        return int(self._now() * 1_000_000)

    def _failed(self) -> JournalError:
        said, hint = f"the journal cannot be written: {self._broken}", f"{self.store.remedy}, then engine resume"
        return JournalError("LG072", said, f"nothing more was changed; {hint}")

    def _gone(self, run: str) -> JournalError:
        said = (
            f"{run} is not this process's any more: its lock was broken, given back, or lapsed while it was not heard from"
        )
        return JournalError(
            "LG082", said, f"nothing more was changed by it; engine status {run} shows who has it now", Exit.LOCKED
        )

    def entries(self, run: str, after: int = 0) -> list[Entry]:
        """The run's entries with a number above `after`, in order."""
        return [Entry.of(row) for row in self._look(f"{_SELECT} AND seq > ? ORDER BY seq", run, after)]

    def verified(self, run: str) -> list[Entry]:
        """The run's entries, after every hash of the chain was computed again. Raises JournalError where it breaks."""
        found = self.entries(run)
        if number := chain.fault(found):
            why = f"the journal of {run} was changed: entry {number} does not follow from the one before it"
            raise JournalError("LG073", why, "keep a copy of the store; this run cannot be continued")
        return found

    def runs(self) -> list[tuple[Entry, Entry]]:
        """Every run's first and last entry, oldest run first."""
        began = "SELECT run FROM entries WHERE seq = 1 AND kind = 'run.started' ORDER BY LENGTH(run), run"
        names = [row[0] for row in self._look(began)]
        found = []
        for name in names:
            both = "(1, (SELECT MAX(seq) FROM entries WHERE run = ?))"
            ends = [Entry.of(row) for row in self._look(f"{_SELECT} AND seq IN {both} ORDER BY seq", name, name)]
            if not ends:  # the index names what the table has not
                raise JournalError("LG073", f"the journal of {name} is damaged", "restore a copy of the store")
            found.append((ends[0], ends[-1]))
        return found

    def latest(self) -> str | None:
        """The newest run's id."""
        rows = self._look(_NEWEST)
        return rows[0][0] if rows else None

    @property
    def moved(self) -> str:
        """Where the record was moved to: nothing is added to it here any more. Empty as long as it was not."""
        return str(self._look("SELECT target FROM moves")[0][0])

    def clock_offset(self) -> dict[str, Json]:
        """How many `seconds` our clock is ahead of the `clock` of whoever keeps the record, and `within` how many that is
        known: half of what asking took. `seconds` None, and `why`, where that is this machine's own. Raises JournalError."""
        if not self.store.dated:
            return {"seconds": None, "why": "no other clock was met: the record is kept on this machine"}
        try:
            before, theirs, after = self.store.look(lambda rows: (self._now(), self.store.clock(rows), self._now()))
        except Broken as error:
            self._broken = self._broken or error
            raise self._failed() from None
        middle, within = (before + after) / 2, max(0.001, (after - before) / 2)
        return {"seconds": round(middle - theirs / 1e6, 3), "within": round(within, 3), "clock": self.store.dated}

    @property
    def known_as(self) -> str:
        """What this machine calls the store, wherever it is called from."""
        return self.store.name if self.store.dated else str(self.folder.resolve())

    @property
    def folder(self) -> Path:
        """Where this machine keeps what is no entry."""
        return self.store.folder

    def files(self, run: str) -> Path:
        """The run's own folder on this machine: evidence, report."""
        folder = self.folder / "runs" / run
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    # -- who holds what

    def claim(self, run: str, tell: Tell = _silent) -> None:
        """Makes this process the one that runs `run`. Waits for a holder that is not heard from, at most until its lease
        lapses, and says so to `tell`. Raises JournalError (exit 8) naming who has it."""
        self._take(run, [RUN + run], "", tell)

    def lock(self, run: str, hosts: Iterable[str], purpose: str, tell: Tell = _silent) -> None:
        """Takes the hosts for `run`: all or none. Waits, and raises JournalError (exit 8), as `claim` does."""
        if run not in self._held:
            self.claim(run, tell)
        self._take(run, [HOST + host for host in hosts], purpose, tell)

    def _take(self, run: str, names: list[str], purpose: str, tell: Tell) -> None:
        me, heard, taken = Owner.me(self._person), dict[str, int](), list[int]()

        def work(rows: Rows) -> int | Lease:
            held = self._held.get(run)
            if held and not leases.renew(self.store, rows, run, held.token, self.lease):
                raise self._gone(run)  # else a late process would take the hosts from who has its run now
            if held is None and taken and leases.holds(self.store, rows, run, taken[-1]):
                return taken[-1]  # the lost commit had been acknowledged
            stays(self.store, rows)
            token = held.token if held else leases.next_token(rows)
            other = leases.in_the_way(self.store, rows, names, run, token)
            if other is None:
                leases.put(self.store, rows, names, run, token, me, purpose, self.lease)
                taken.append(token)
            return other or token

        waiting = ""
        while True:
            asked = leases.moment()
            found = self._write(work, sole=True)
            if isinstance(found, int):
                self._holds(run, found, asked)
                return
            if found.owner.awake() or found.until > heard.setdefault(found.name, found.until):
                raise self._taken(found)
            if waiting != found.name:
                waiting = found.name
                tell(f"{_held_by(found)}; it is not heard from, waiting {found.left:.0f} s until its lock lapses")
            time.sleep(min(found.left, 0.2))

    def _taken(self, by: Lease) -> JournalError:
        return JournalError("LG080", _held_by(by), f"engine status {by.run} --follow shows it", Exit.LOCKED)

    def _holds(self, run: str, token: int, since: float) -> None:
        self._held[run] = _Held(token, since)
        self._lost.discard(run)
        if self._heart is None:
            self._heart = threading.Thread(target=self._beat, daemon=True)
            self._heart.start()

    def _beat(self) -> None:
        while not self._closed.wait(self.lease / 3):
            for run in list(self._held):
                try:
                    self._renewed(run)
                except JournalError:
                    return

    def _renewed(self, run: str) -> bool:
        held, asked = self._held.get(run), leases.moment()
        if held is None or run in self._lost:
            return False
        if self._write(lambda rows: leases.renew(self.store, rows, run, held.token, self.lease)):
            held.renewed = asked
            return True
        if run in self._held:
            self._lost.add(run)
        return False

    def live(self, run: str) -> None:
        """For the moment before an effect. Raises JournalError when a commit has failed meanwhile, another
        host's too, and (exit 8) unless our lease surely holds. The store is asked only when the last heartbeat is late."""
        if self._broken is not None:
            raise self._failed()
        held = self._held.get(run)
        if run in self._lost or (held and (leases.moment() > held.renewed + self.lease * 2 / 3 and not self._renewed(run))):
            raise self._gone(run)

    def token(self, run: str) -> int:
        """The fencing token under which this process holds the run; 0 when it does not."""
        held = self._held.get(run)
        return held.token if held else 0

    def unlock(self, run: str) -> None:
        """Gives the run and its hosts back. What this process still has under way for it begins and writes nothing more."""
        if run in self._held:  # first of all: whoever finds that nothing is held must find this
            self._lost.add(run)
        held = self._held.pop(run, None)
        if held and self._broken is None:
            try:
                self._write(lambda rows: leases.give_back(rows, held.token))
            except JournalError:
                pass  # it lapses

    def leases(self) -> list[Lease]:
        """Everything that is held now."""
        try:
            found = self.store.look(lambda rows: leases.all_of(self.store, rows))
        except Broken as error:
            self._broken = self._broken or error
            raise self._failed() from None
        return [one for one in found if one.live]

    def held(self, run: str) -> bool:
        """Whether some living process runs `run`."""
        return any(one.name == RUN + run for one in self.leases())

    def break_lock(self, name: str, by: str, why: str, token: int = 0) -> Lease | None:
        """Takes a host, or a run, away from who holds it, who stops before the next effect. It is recorded in the run that
        held it, in the same commit. None: nobody holds it. Raises JournalError (exit 8) if it is not held under `token`."""
        broken = list[tuple[Lease, Entry]]()

        def work(rows: Rows) -> tuple[Lease, Entry] | None:
            if broken and _there(rows, broken[-1][1]):
                return broken[-1]
            names = {HOST + name, RUN + name}
            found = next((one for one in leases.all_of(self.store, rows) if one.name in names and one.live), None)
            if found is None:
                return None
            if token not in (0, found.token):
                said = f"{_held_by(found)}, under token {found.token}: not the one that was to be broken"
                raise JournalError("LG080", said, "nothing was broken; engine locks shows what is held", Exit.LOCKED)
            leases.give_back(rows, found.token)
            about = {"lock": name, "of": str(found.owner), "purpose": found.purpose, "token": found.token}
            body: dict[str, Json] = {**about, "by": by, "why": why}
            host = name if found.name == HOST + name else ""
            made = self._enter(rows, [_Ticket(found.run, "lock.broken", host, "", chain.text_of(body), self._time())])[0]
            broken.append((found, made))
            return broken[-1]

        done = self._write(work, sole=True)
        if done is None:
            return None
        self._tell(done[1])
        return done[0]


def _held_by(one: Lease) -> str:
    age = max(0, int(time.time() - one.since))
    if one.name.startswith(RUN):
        return f"{one.run} is being run by {one.owner}"
    return f"{one.name[len(HOST) :]} is held by {one.run} ({one.purpose}), for {age} s: {one.owner}"


def _there(rows: Rows, one: Entry) -> bool:
    """Whether the entry is in the record: a commit whose answer was lost may have been done."""
    return rows(f"{_SELECT} AND seq = ?", one.run, one.seq) == [one.row]
