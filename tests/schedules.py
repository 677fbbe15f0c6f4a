"""Eight workers on one store, by seeded schedules: they start, claim, lock, write, act, sleep too long, break and give back.

Time is the schedule's own: the store's clock and the workers' are one number that sleepers set forward, so that a lease
lapses when the schedule wants it to. Each operation is one transaction of the real store, and takes a number from a counter
while the transaction holds its locks: their order is the order in which the store has done them. `judged` goes through the
operations in that order with a model of leases of a few lines, and says where the store has answered otherwise.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from engine import leases
from engine.journal import Journal, JournalError
from engine.store import Rows

WORKERS, LEASE = 8, 90.0
HOSTS = "abcde"
REFUSALS = ("LG080", "LG082")


class Clock:
    """Microseconds that only sleepers move. While somebody acts it does not go further than an effect may last."""

    def __init__(self) -> None:
        self.now = 1_000_000_000
        self.acting: dict[object, int] = {}
        self.lock = threading.Lock()

    def sleep(self, seconds: float) -> None:
        """Time goes on, step by step: those who are awake meanwhile do what their hearts do."""
        while seconds > 0:
            with self.lock:
                until = self.now + int(min(seconds, LEASE / 5) * 1e6)
                self.now = max(self.now, min([until, *self.acting.values()]))
            seconds -= LEASE / 5
            if seconds > 0:
                time.sleep(0.002)

    def begin(self, who: object) -> None:
        """An effect lasts at most a third of a lease: that much is left of one that has just been looked at."""
        with self.lock:
            self.acting[who] = self.now + int(LEASE / 3 * 1e6) - 1

    def end(self, who: object) -> None:
        with self.lock:
            self.acting.pop(who, None)

    def moment(self) -> float:
        return self.now / 1e6


@dataclass(frozen=True)
class Done:
    """One operation: its place in the order, the clock it saw, what was asked, and what the store answered."""

    order: int
    clock: int
    worker: int
    what: str
    args: tuple[Any, ...]
    answer: Any
    prolonged: bool = False


class Watched:
    """A store that takes a number for each transaction, and whose clock is the schedule's."""

    def __init__(self, store: Any, time: Clock, order: Iterator[int]) -> None:
        self.store, self.time, self.order = store, time, order
        self.folder, self.era, self.locking, self.name = store.folder, "", store.locking, store.name
        self.remedy = store.remedy
        self.last = (0, 0, False)
        self._seen = 0

    def write(self, work: Callable[[Rows], Any], sole: bool = False) -> Any:
        def watched(rows: Rows) -> Any:
            self._seen = 0
            asked: list[str] = []

            def noted(sql: str, *values: object) -> Any:
                asked.append(sql)
                return rows(sql, *values)

            noted.many = rows.many  # type: ignore[attr-defined]
            try:
                found = work(noted)  # type: ignore[arg-type]
            except JournalError:  # an answer too; what is another error is no answer, and is asked again
                self._number(rows, asked)
                raise
            self._number(rows, asked)
            return found

        return self.store.write(watched, sole)

    def _number(self, rows: Rows, asked: list[str]) -> None:
        """The transaction's place in the order, its time, and whether it prolonged a lease: an entry may, by the way."""
        clock = self.clock(rows)
        self.last = (next(self.order), clock, any(sql.startswith("UPDATE leases SET until") for sql in asked))

    def look(self, work: Callable[[Rows], Any]) -> Any:
        self._seen = 0
        return self.store.look(work)

    def clock(self, rows: Rows) -> int:
        self._seen = self._seen or self.time.now  # one transaction, one time
        return self._seen

    def close(self) -> None:
        self.store.close()


@dataclass
class Schedule:
    """What all workers share, and what they have done."""

    seed: int
    open: Callable[[], Any]
    trouble: Callable[[random.Random], None] = lambda _: None
    time: Clock = field(default_factory=Clock)
    order: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    done: list[Done] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    ready: threading.Barrier = field(default_factory=lambda: threading.Barrier(WORKERS, timeout=120))

    def play(self, length: int = 10) -> list[Done]:
        """Everything that was done, in the store's order."""
        with mock.patch.object(leases, "moment", self.time.moment):
            threads = [threading.Thread(target=self._work, args=(number, length)) for number in range(WORKERS)]
            for one in threads:
                one.start()
            for one in threads:
                one.join(300)
        assert not any(one.is_alive() for one in threads)
        return sorted(self.done, key=lambda one: one.order)

    def _work(self, number: int, length: int) -> None:
        dice = random.Random(self.seed * 1000 + number)
        watched = Watched(self.open(), self.time, self.order)
        self.ready.wait()  # trouble is for stores that are open: one that cannot be opened is refused, and that is that
        off = dice.choice([0, 0, 3600, -3600])
        journal = Journal(watched, now=lambda: self.time.moment() + off, lease=LEASE)
        worker = Worker(self, number, dice, watched, journal)
        try:
            for _ in range(length):
                if dice.random() < 0.1:
                    self.trouble(dice)
                worker.step()
        finally:
            journal._held.clear()  # as if it died: what it holds lapses
            journal.close()


@dataclass(eq=False)
class Worker:
    """One of the eight. It holds one run at a time, or none."""

    schedule: Schedule
    number: int
    dice: random.Random
    watched: Watched
    journal: Journal
    run: str = ""
    hosts: tuple[str, ...] = ()

    def step(self) -> None:
        """One thing, drawn."""
        if self.dice.random() < 0.1:
            self.schedule.time.sleep(self.dice.choice([LEASE / 4, LEASE / 4, LEASE * 1.2]))
        held = self.journal._held.get(self.run)
        if held and self.schedule.time.moment() > held.renewed + LEASE / 3 and self.dice.random() < 0.8:
            self.beat()
        if not self.run:
            self.begin()
        else:
            weights = {self.act: 5, self.take: 3, self.note: 2, self.leave: 1, self.steal: 1}
            self.dice.choices(list(weights), list(weights.values()))[0]()

    def asked(self, what: str, call: Callable[[], Any], *args: Any) -> Any:
        """What the store answered; nothing, if it refused. It is written down, unless the store was not asked at all."""
        self.watched.last = (0, 0, False)
        try:
            answer = call()
        except JournalError as error:
            answer = error.diagnostics[0].code
            if answer not in REFUSALS:
                raise
        order, clock, prolonged = self.watched.last
        if order:
            self.schedule.done.append(Done(order, clock, self.number, what, args, answer, prolonged))
        return None if answer in REFUSALS else answer

    def begin(self) -> None:
        runs = list(self.schedule.runs)
        if not runs or self.dice.random() < 0.4:
            began = self.asked("start", lambda: (run := self.journal.start({}), self.journal.token(run)))
            if began:
                self.run = began[0]
                self.schedule.runs.append(self.run)
            return
        run = self.dice.choice(runs)
        if self.asked("claim", lambda: (self.journal.claim(run), self.journal.token(run))[1], run):
            self.run = run

    def take(self) -> None:
        hosts = tuple(self.dice.sample(HOSTS, self.dice.randint(1, 2)))
        run, token = self.run, self.journal.token(self.run)
        if self.asked("lock", lambda: self.journal.lock(run, hosts, "x") or "done", run, token, hosts):
            self.hosts = tuple(dict.fromkeys(self.hosts + hosts))
        else:
            self.maybe_lost()

    def beat(self) -> None:
        """What the heart of a process does."""
        run, token = self.run, self.journal.token(self.run)
        if not self.asked("live", lambda: "done" if self.journal._renewed(run) else "LG082", run, token):
            self.maybe_lost()

    def note(self) -> bool:
        run, token = self.run, self.journal.token(self.run)
        done = self.asked("write", lambda: self.journal.append(run, "note", {}).seq, run, token)
        return bool(done) or self.maybe_lost()

    def act(self) -> None:
        """Intent, a look at the lease, the effect, outcome; it may fall asleep in between, but not in the effect."""
        if not self.hosts or not self.note():
            return
        run, token, begun = self.run, self.journal.token(self.run), self.watched.last[0]
        if self.dice.random() < 0.2:
            self.schedule.time.sleep(LEASE * 1.2)
        if not self.asked("live", lambda: self.acting(run) or "done", run, token):
            self.maybe_lost()
            return
        self.schedule.time.sleep(self.dice.random() * LEASE / 2)
        ended, clock = next(self.schedule.order), self.schedule.time.now
        self.schedule.time.end(self)
        for host in self.hosts:
            self.schedule.done.append(Done(ended, clock, self.number, "effect", (host, run, token, begun), "held"))
        self.note()

    def acting(self, run: str) -> None:
        self.schedule.time.begin(self)
        try:
            self.journal.live(run)
        except BaseException:
            self.schedule.time.end(self)
            raise

    def steal(self) -> None:
        host = self.dice.choice(HOSTS)
        self.asked("break", lambda: getattr(self.journal.break_lock(host, "me", "a drill"), "token", 0), host)

    def leave(self) -> None:
        run, token = self.run, self.journal.token(self.run)
        self.asked("leave", lambda: self.journal.unlock(run), run, token)
        self.run, self.hosts = "", ()

    def maybe_lost(self) -> bool:
        """A run that is lost is let go of; another's host in the way is no reason to."""
        if self.run in self.journal._lost or self.dice.random() < 0.3:
            self.journal._held.pop(self.run, None)
            self.run, self.hosts = "", ()
        return False


def judged(done: list[Done]) -> list[str]:
    """Where the store has answered otherwise than a model of leases that is asked the same in the same order."""
    held: dict[str, tuple[str, int, int]] = {}  # name -> run, token, until
    newest, runs, wrong, broken = 0, 0, list[str](), dict[int, int]()

    def holds(run: str, token: int, clock: int) -> bool:
        found = held.get(f"run {run}")
        return bool(found) and found[1] == token and found[2] > clock

    def put(name: str, run: str, token: int, clock: int) -> None:
        held[name] = (run, token, clock + int(LEASE * 1e6))

    def away(token: int) -> None:
        for name in [name for name, row in held.items() if row[1] == token]:
            del held[name]

    for one in done:
        expected: Any = one.answer
        match one.what, one.args:
            case "start", ():
                run, token = one.answer
                runs += 1
                expected = (f"RB-{runs:04d}", token if token > newest else newest + 1)
                put(f"run {run}", run, token, one.clock)
                newest = max(newest, token)
            case "claim", (run,):
                other = held.get(f"run {run}")
                if other and other[2] > one.clock:
                    expected = "LG080"
                elif one.answer in REFUSALS or one.answer <= newest:
                    expected = newest + 1
                else:
                    put(f"run {run}", run, one.answer, one.clock)
                    newest = one.answer
            case "lock", (run, token, hosts):
                rows = [held.get(f"host {host}") for host in hosts]
                fits, expected = holds(run, token, one.clock), "done"
                for name in [name for name, row in held.items() if row[1] == token and fits]:
                    put(name, run, token, one.clock)
                if not fits:
                    expected = "LG082"
                elif any(row and row[0] != run and row[2] > one.clock for row in rows):
                    expected = "LG080"
                else:
                    for host in hosts:
                        put(f"host {host}", run, token, one.clock)
            case "write", (run, token):
                fits = holds(run, token, one.clock)
                expected = "LG082" if not fits else "written" if one.answer in REFUSALS else one.answer
                for name in [name for name, row in held.items() if row[1] == token and fits and one.prolonged]:
                    put(name, run, token, one.clock)
            case "live", (run, token):
                expected = "done" if holds(run, token, one.clock) else "LG082"
                for name in [name for name, row in held.items() if row[1] == token and expected == "done"]:
                    put(name, run, token, one.clock)
            case "break", (host,):
                row = held.get(f"host {host}")
                expected = row[1] if row and row[2] > one.clock else 0
                if expected:
                    away(expected)
                    broken[expected] = one.order
            case "effect", (host, _, token, begun):
                row = held.get(f"host {host}")
                ours = bool(row) and row[1] == token and row[2] > one.clock
                expected = "held" if ours or broken.get(token, 0) > begun else "nobody's, or somebody else's"
            case "leave", (_, token):
                away(token)
        if expected != one.answer:
            wrong.append(f"{one}: the model says {expected}")
    return wrong + overlaps([one for one in done if one.what == "effect"], broken)


def overlaps(effects: list[Done], broken: dict[int, int]) -> list[str]:
    """Effects of two holders on one host of which neither had ended when the other began. One that a person broke in on
    while it was under way does not count: nobody can call it back."""
    wrong = []
    for first, second in itertools.combinations(effects, 2):
        (host, _, token, begun), (other_host, _, other, other_begun) = first.args, second.args
        apart = first.order < other_begun or second.order < begun
        cut_in = any(low < broken.get(which, 0) for which, low in ((token, begun), (other, other_begun)))
        if host == other_host and token != other and not apart and not cut_in:
            wrong.append(f"{first} and {second} at once")
    return wrong
