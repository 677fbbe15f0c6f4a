"""The outbox: messages about a run, queued in the journal with the event that they tell of, delivered at least once.

In: events of a run. Out: entries `message.queued`, `message.sent`, `message.failed`. A message never blocks the run and is
always sent under the same key, so that a receiver can tell a repeat from news.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from engine import template
from engine.check import HostRow
from engine.diagnostics import EngineError
from engine.journal import Entry
from engine.site import Site
from modules.contract import Json, ModuleError, diff

TICK = 0.1
TRIES = 5
#: Seconds that the end of a run waits for messages that are still on their way.
LAST = 30.0


class Outbox:
    """The messages of one run. `registers` gives what is registered, for messages of a run with one host."""

    def __init__(self, site: Site, registers: Callable[[], Mapping[str, Json]]) -> None:
        self.site, self.registers = site, registers
        self.messages: dict[str, Entry] = {}
        self.settled: set[str] = set()
        self.lives = 0
        self._tries: dict[str, tuple[int, float]] = {}
        self._turn = threading.Condition()  # around `settled` and these three
        self._hurry = self._closing = self._over = False
        self._thread = threading.Thread(target=self._relay, daemon=True)

    def start(self) -> None:
        """Begins to deliver."""
        if self.site.plan.playbook.section("communications"):
            self._thread.start()

    def event(self, *names: str, of: tuple[str, dict[str, Json]] | None = None, turn: str = "") -> None:
        """Queues a message for every step of communications that waits for one of these events.

        `of`: the entry that the events are about, as (kind, body); both are on the disk or neither. A run that was taken up
        again after its end may end, and tell so, once more. `turn`: what tells a repeat from the one before it: the day.
        """
        run, due = self.site.run, []
        for name in () if self.site.check else names:
            again = f"\n{turn or self.lives}" if turn or (self.lives and of) else ""
            for one in self.site.plan.playbook.section("communications"):
                key = hashlib.sha256(f"{run}\n{one.id}\n{name}{again}".encode()).hexdigest()[:32]
                if name in one.on and key not in self.messages:
                    due.append(("message.queued", {"step": one.id, "event": name, "key": key}, "", one.id))
        rows = [(*of, "", ""), *due] if of else due
        if rows:
            self._take(self.site.journal.append_all(run, rows))

    def _take(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            if entry.kind == "message.queued":
                self.messages[entry.body["key"]] = entry
            elif entry.kind == "message.sent":
                self.settled.add(entry.body["key"])

    def restore(self, entries: Iterable[Entry], lives: int) -> None:
        """Takes over what was queued or sent earlier; `lives`: how often the run has ended."""
        self._take(entries)
        self.lives = lives

    def close(self, patience: float = LAST) -> None:
        """Waits at most `patience` seconds for what is still on its way. What could not be delivered is in the record."""
        with self._turn:
            self._hurry, started = True, self._thread.is_alive()
            self._turn.notify_all()
            if started:
                self._turn.wait_for(lambda: self._over or not set(self.messages) - self.settled, patience)
            self._closing = True
            self._turn.notify_all()

    def _relay(self) -> None:
        try:
            while self._waited() and all(self._sent(key) for key in list(self.messages)):
                pass
        finally:
            with self._turn:
                self._over = True
                self._turn.notify_all()

    def _waited(self) -> bool:
        """After a moment, or at once when the run is at its end and waits for this. False: nobody waits any more."""
        with self._turn:
            self._turn.wait_for(lambda: self._hurry or self._closing, TICK)
            self._hurry = False
            return not self._closing

    def _sent(self, key: str) -> bool:
        """Delivers a message if it is due. False: the journal is broken, as the run itself says."""
        attempt, due = self._tries.get(key, (0, 0.0))
        if key in self.settled or time.monotonic() < due:
            return True
        queued = self.messages[key]
        try:
            self._deliver(queued)
        except EngineError:
            return False
        except Exception as error:  # noqa: BLE001 (whatever it is, the other messages still go out)
            self._tries[key] = (attempt + 1, time.monotonic() + 2.0**attempt / 2)
            return self._failed(queued, attempt + 1, error)
        self._settle(key)
        return True

    def _settle(self, key: str) -> None:
        with self._turn:
            self.settled.add(key)
            self._turn.notify_all()

    def _failed(self, queued: Entry, attempt: int, error: Exception) -> bool:
        """Records that a message did not get through. False: that cannot be recorded."""
        key, scrub = queued.body["key"], self.site.secrets.scrub
        why = error.message if isinstance(error, ModuleError) else f"{type(error).__name__}: {error}"
        body = {"key": key, "event": queued.body["event"], "attempt": attempt, "why": scrub(why)}
        try:
            self.site.journal.append(self.site.run, "message.failed", body, "", queued.body["step"])
        except EngineError:
            return False
        if attempt >= TRIES:
            self._settle(key)
        return True

    def _deliver(self, queued: Entry) -> None:
        """Sends it, with what there was to tell when it was queued: every try, and every repeat, says the same."""
        site, started, body = self.site, time.monotonic(), queued.body
        one = next(s for s in site.plan.playbook.section("communications") if s.id == body["step"])
        alone = len(site.plan.hosts) == 1
        row = site.plan.hosts[0] if alone else HostRow("", (), _common(site.plan.hosts))
        entry = site.catalog.get(one.module)
        sent = {"key": body["key"], "event": body["event"]}
        try:
            fixed = site.fixed(row if alone else None, self.registers() if alone else {})
            so_far = (entry for entry in site.journal.entries(site.run) if entry.seq <= queued.seq)
            fixed["run"] = {**fixed["run"], "event": body["event"], **summarise(so_far)}
            names = template.resolve(
                {**row.vars, **site.plan.playbook.vars, **one.vars}, site.wanted(one), fixed, row.outside
            )
            if not all(template.decide(text, names) for text in one.when):
                site.journal.append(site.run, "message.sent", {**sent, "seconds": 0.0, "skipped": True}, "", one.id)
                return
            params = site.params(one, names)
        except template.Fault as fault:
            raise ModuleError(f"{one.place()}: {fault.message}", fault.hint) from None
        ctx = site.context(one, None, one.id, names, time.monotonic() + one.timeout, 1)
        ctx = replace(ctx, key=str(body["key"]), stop=threading.Event())
        change = diff(*site.caller.compare(entry, params, ctx))
        if change and entry.has("apply"):
            site.caller.call(ctx, entry.call, "apply", params, change, ctx)
        site.journal.append(site.run, "message.sent", {**sent, "seconds": round(time.monotonic() - started, 3)}, "", one.id)


def _common(rows: Iterable[HostRow]) -> dict[str, Json]:
    """The variables that are the same on every host: what a message about the whole run may mention."""
    found: dict[str, Json] | None = None
    for row in rows:
        found = (
            dict(row.vars) if found is None else {k: v for k, v in found.items() if row.vars.get(k) == v and k in row.vars}
        )
    return found or {}


def summarise(entries: Iterable[Entry]) -> dict[str, Json]:
    """What a message may say of the run so far: `summary`, `outcome`, counts."""
    counts: dict[str, int] = {}
    outcome, name, changes = "running", "", []
    for entry in entries:
        if entry.kind == "run.started":
            name = entry.body["name"]
        elif entry.kind == "step.outcome" and "[" not in entry.step:
            counts[entry.body["outcome"]] = counts.get(entry.body["outcome"], 0) + 1
            change = entry.body["change"]
            if change and entry.body["outcome"] == "changed" and "version" in (change.get("after") or {}):
                changes.append(f"{entry.host} {(change['before'] or {}).get('version')} -> {change['after']['version']}")
        elif entry.kind in ("run.ended", "run.resumed"):
            outcome = entry.body.get("outcome", "running")
        elif entry.kind in ("key.asked", "authority.settled"):
            outcome = "waiting" if entry.kind == "key.asked" else "running"
    said = f"{name}: {outcome}" + (f" ({'; '.join(dict.fromkeys(changes))})" if changes and len(changes) < 6 else "")
    return {"summary": said, "outcome": outcome, "counts": counts}
