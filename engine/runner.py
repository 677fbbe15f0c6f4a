"""Walk the plan: which step may run where and when; batches, budget, keys, stop, resume.

In: a `Site` (plan, catalog, journal). Out: an exit code, and a journal that tells all of it. How one step is done is
`step`'s affair, how the record is shown is the screen's: it listens to the journal.

Each host walks its own copy of the graph. A worker that has settled a step goes on with the next one that this made
ready, so a chain costs no hand-over between threads; what else became ready goes to the queue.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import cast

from engine import abreast, effect, ending, evidence, outbox, preview, recall, remedy, step
from engine.diagnostics import Exit
from engine.effect import Drifted, Settled
from engine.journal import Entry
from engine.layout import Node
from engine.leave import GO, Leave
from engine.playbook import Step
from engine.site import Site
from engine.walk import Walk, Ways
from modules.contract import Json, Stopped

#: Hosts side by side. A step mostly waits for its host, so this is about how many answers may be outstanding.
FORKS = 256
TICK = 0.25
#: Seconds that a thread may compute before it must let another one: they wait for hosts nearly all the time, and being
#: interrupted every 5 ms costs a wide fleet a fifth of its time.
SWITCH = 0.05
#: Seconds that calls under way may still take when a run is cancelled or its deadline has passed; then they are left behind.
PATIENCE = 20.0
#: The sections that another candidate goes through.
AGAIN = ("execution", "verification")


@dataclass(frozen=True)
class Wishes:
    """How the run is to behave, beyond what the plan says.

    `poll` is called again and again while a key is waited for; `confirm` before each step of execution; `until` is the step
    after which to stop.
    """

    if_triggered: bool = False
    wait: bool = True
    forks: int = FORKS
    until: str = ""
    confirm: Callable[[str, str], bool] | None = None
    poll: Callable[[Mapping[str, Json]], None] | None = None


class Run:
    """One execution of a plan, from its first entry or taken up again."""

    def __init__(self, site: Site, wishes: Wishes) -> None:
        self.site, self.wishes, self.plan = site, wishes, site.plan
        self.journal, self.id = site.journal, site.run
        self.ways = ways = Ways.of(self.plan.nodes)
        self.walks = {row.name: Walk(ways, row) for row in self.plan.hosts}
        self.batch_of = {name: number for number, batch in enumerate(self.plan.batches) for name in batch}
        self.evidence = evidence.Evidence(site)
        self.outbox = outbox.Outbox(site, lambda: next(iter(self.walks.values())).registers)
        self.tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.changed = threading.Condition()
        self.moving: set[str] = set()  # hosts of the batch that have not come to rest
        self.failed: set[str] = set()  # hosts that count against the budget
        self.shared: dict[tuple[int, str, int], Settled | None] = {}
        self.items: dict[tuple[str, str], dict[str, Settled]] = {}
        self.doers: dict[tuple[str, str], str] = {}  # host and step with `run_once` -> the host that has begun it for all
        self.cut: set[tuple[str, str]] = set()  # hosts and steps that have begun, and do not hold
        self.broken: BaseException | None = None
        self.stopping = ""  # interrupted, cancelled, deadline, waiting, rejected or expired
        self.triggered = self.cancelled = self.cancel_undo = False
        self.leave = Leave(site, self.outbox, wishes.poll)
        self.seen = 0

    # -- the run as a whole

    def go(self) -> Exit:
        """Runs to an end, to a wait that is not to be waited for, or to a safe point. Raises JournalError."""
        most = len(self.walks) * self.ways.paths
        workers = [threading.Thread(target=self._work, daemon=True) for _ in range(max(1, min(self.wishes.forks, most)))]
        for thread in workers:
            thread.start()
        self.outbox.start()
        interval = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH)
        try:
            self.outbox.event("started")
            self.leave.remind()
            for number, batch in enumerate(self.plan.batches, 1):
                self._look()  # what was asked while the last batch came to its end
                walks = [self.walks[name] for name in batch if not self.walks[name].result]
                if self._closed():
                    walks = [walk for walk in walks if self._ends(walk)]
                if walks:
                    self.journal.append(self.id, "batch.started", {"number": number, "hosts": list(batch)})
                    self._walk(walks)
            self._look()
            if self.cancelled and self.stopping in ending.PAUSES:  # nobody else will clean up what was left as it was
                self.stopping = "cancelled"
                self.site.unsettled = recall.of(self.plan, self.journal.entries(self.id)).cut  # operations left under way
                self._walk([walk for walk in self.walks.values() if (walk.begun or walk.begun_earlier) and not walk.result])
            return self._end()
        finally:
            sys.setswitchinterval(interval)
            for _ in workers:
                self.tasks.put(None)

    def deliver(self) -> None:
        """Only sends what an earlier attempt could not."""
        self.outbox.start()
        self.outbox.close()

    def _walk(self, walks: list[Walk]) -> None:
        """Walks these hosts to their ends: what their failures ask for included."""
        self.moving |= {walk.row.name for walk in walks}
        for walk in walks:
            self.tasks.put(partial(self._begin, walk))
        self._wait(walks)
        if self.broken is None and self.stopping in ("", *ending.CLEANS):
            more = abreast.each(self._finish, walks, 64)
            again = [walk for walk, another in zip(walks, more, strict=True) if another]
            if again:  # and with them those that did not begin while it looked as if too many had failed
                self._walk(again + [walk for walk in walks if not walk.begun and not walk.result and walk not in again])

    def _wait(self, walks: list[Walk]) -> None:
        """Until every host has come to rest; looks after keys, cancel and stop meanwhile."""
        while True:
            with self.changed:
                if self.moving and not self.broken:
                    self.changed.wait(TICK)
                resting = not self.moving
            if self.broken:
                return
            self._look()
            parked = any(walk.parked for walk in walks)
            if resting and not self.moving and (not parked or self.stopping):
                return
            if resting and parked and self.leave.waits and not self.wishes.wait:
                self.stopping = self.stopping or "waiting"
            elif resting and parked:
                with self.changed:
                    self.changed.wait(TICK)

    def _closed(self) -> bool:
        """Whether no further host may begin."""
        return bool(self.stopping or self.broken or len(self.failed) > self.plan.tolerated)

    def _look(self) -> None:
        """What other processes have written since: keys, refusals, a wish to cancel; and whether the time is up.

        A cancel that is seen before the end is written wins over everything else.
        """
        for entry in self.journal.entries(self.id, self.seen):
            self.seen = entry.seq
            if entry.kind == "cancel.asked":
                self.cancelled, self.cancel_undo = True, self.cancel_undo or bool(entry.body.get("undo"))
                self.stop("cancelled")
        if self.site.now() >= self.site.deadline:
            self.stop("deadline")
        asks = (self.leave.asked or self.triggered) and not (self.leave.granted or self.stopping)
        if asks and (decision := self.leave.look()):
            self._decided(decision)

    def stop(self, why: str) -> None:
        """No new step starts; waits inside steps are cut short. `why`: interrupted, cancelled, deadline, rejected or
        expired."""
        if not self.stopping or (why == "cancelled" and self.stopping not in ending.PAUSES):
            self.stopping = why
        if why in ending.CLEANS:
            self.site.ends = True
            self.site.caller.cut = min(self.site.caller.cut, time.monotonic() + PATIENCE)
        self.site.stop.set()
        with self.changed:
            self.changed.notify_all()

    def _decided(self, decision: str) -> None:
        """The question is answered: hosts that wait at the gate go on, or nobody does."""
        if decision not in GO:
            self.stop(decision)
            return
        for walk in self.walks.values():
            with walk.lock:
                parked, walk.parked = walk.parked, []
                walk.busy += len(parked)
            if parked:
                with self.changed:
                    self.moving.add(walk.row.name)
            for name in parked:
                self.tasks.put(partial(self._go_on, walk, name))

    # -- one host

    def _work(self) -> None:
        while (task := self.tasks.get()) is not None:
            try:
                task()
            except BaseException as error:  # noqa: BLE001 (a worker must not die silently: the main thread raises it)
                self.broken = self.broken or error
                with self.changed:
                    self.changed.notify_all()

    def _begin(self, walk: Walk) -> None:
        with walk.lock:
            if not self._closed() or self._ends(walk):
                walk.begun = True
                ready = [] if walk.undoing else walk.ready()
                walk.busy += len(ready)
            else:
                ready = []
        if not ready:
            self._rest(walk)
            return
        for name in ready[1:]:
            self.tasks.put(partial(self._go_on, walk, name))
        self._go_on(walk, ready[0])

    def _ends(self, walk: Walk) -> bool:
        """Whether the host is to come to its end though nobody begins: it is being put back, or cleans up after a cancel."""
        return self.broken is None and bool(
            walk.undoing or ((walk.begun or walk.begun_earlier) and self.stopping in ending.CLEANS)
        )

    def _go_on(self, walk: Walk, name: str) -> None:
        """Settles `name` and whatever it makes ready, one after the other on this thread."""
        ready = [name]
        while ready:
            for other in ready[1:]:
                self.tasks.put(partial(self._go_on, walk, other))
            status = None if self.broken else self._visit(walk, walk.ways.nodes[ready[0]])
            with walk.lock:
                ready = walk.settle(ready[0], status) if status is not None else []
                walk.busy += len(ready) - 1
                resting = walk.busy == 0
        if resting:
            self._rest(walk)

    def _rest(self, walk: Walk) -> None:
        """The host has come to rest: it is through, parked before a gate, or the run is stopping."""
        wrong = walk.result in ("drifted", "failed") or (not walk.parked and walk.went_wrong())
        with self.changed:
            if wrong:
                self.failed.add(walk.row.name)
            if not walk.busy:  # else it was let through its gate just now, and goes on
                self.moving.discard(walk.row.name)
            if not self.moving or self.stopping or wrong:
                self.changed.notify_all()

    def _visit(self, walk: Walk, node: Node) -> str | None:
        """The node's status, or None when it is not to be settled now (parked, or the run is stopping)."""
        if node.kind == "gate":
            return self._gate(walk, node)
        if node.step is None:
            return walk.point(node)
        if node.section != "trigger" and walk.blocked(node):
            return "blocked"
        if not node.chosen or walk.unneeded(node) or (self.site.check and node.section == "verification"):
            return "skip"
        if walk.holds(node):
            return self._take(walk, node.step, walk.kept[node.id])
        asks = self.wishes.confirm if node.section == "execution" and not self.stopping else None
        if asks and not asks(walk.row.name, node.id):
            self.stop("interrupted")
        if self.stopping in ending.PAUSES:
            return None
        if self.stopping and not self._goes_on(walk, node) and not any(arm == "always" for _, arm in node.around):
            return "stopped" if (walk.row.name, node.id) in self.cut else "blocked"
        walk.acts(node)
        return self._step(walk, node.step)

    def _goes_on(self, walk: Walk, node: Node) -> bool:
        """Whether an operation of the step, or of an item of its loop, is under way: a cancel does not leave it there."""
        going = (place for place, intent in list(self.site.unsettled.items()) if "handle" in intent)
        return any(host == walk.row.name and name.partition("[")[0] == node.id for host, name in going)

    def _gate(self, walk: Walk, node: Node) -> str | None:
        if node.section == "forensics":
            holds = self._holds(walk)
            if holds and self.plan.playbook.section("trigger"):
                self.site.alarmed.add(walk.row.name)
            if self.wishes.if_triggered and not holds:
                walk.result = "not_triggered"
                return "blocked"
            if not self.triggered:
                self.triggered = True
                with self.changed:
                    self.changed.notify_all()
            return "ok"
        if walk.blocked(node):
            return "blocked"
        if node.section != "execution":
            return "ok"
        if not walk.opened and not self._closed() and not self.evidence.secured(walk):
            return "blocked"
        with walk.lock:
            if not self.leave.granted:
                walk.parked.append(node.id)
                return None
        if self.stopping:
            return None if self.stopping in ending.PAUSES else "ok" if walk.opened else "blocked"
        if self._closed():  # too many have failed since this host began: it is left as it is
            walk.begun = False
            return None
        if not walk.opened and (why := self.leave.held(walk.row)):
            self._denied(walk, self.plan.playbook.section("execution")[0].id, why)
            return "blocked"
        if moved := self._moved(walk):
            self._unlike(walk, *moved)
            return "blocked"
        if not walk.opened:
            self.journal.append(self.id, "gate.opened", {}, walk.row.name, node.section)
        return "ok"

    def _holds(self, walk: Walk) -> bool:
        said = [walk.met.get(one.id, False) for one in self.plan.playbook.section("trigger")]
        return not said or (any(said) if self.plan.playbook.trigger_mode == "any" else all(said))

    def _moved(self, walk: Walk) -> tuple[str, Settled, bool] | None:
        """Before the first change: the first step for which the world is no longer what the keys were given for."""
        if not self.site.approved or walk.row.name in self.site.touched:
            return None
        with self.changed:
            where = self.batch_of[walk.row.name], walk.generation
            shared = {name: settled for (batch, name, turn), settled in self.shared.items() if (batch, turn) == where}
        names = {one.id: one.register for one in self.plan.playbook.steps if one.register}
        known = {names[name]: one.registered for name, one in shared.items() if one and name in names}
        without = set(shared) | {name for name in walk.kept if walk.holds(walk.ways.nodes[name])}
        return preview.moved_since(self.site, walk.row, {**walk.registers, **known}, without)

    def _unlike(self, walk: Walk, name: str, settled: Settled, moved: bool = True) -> None:
        """Records that a step is not done, because it is not, or cannot be seen to be, what was approved."""
        step.record(self.site, cast(Step, self.plan.nodes[name].step), walk.row.name, name, settled)
        walk.result = "drifted" if moved else "failed"

    def _denied(self, walk: Walk, name: str, why: str) -> None:
        """Records that a step is not done, because the leave to do it does not hold any more."""
        hint = f"engine resume {self.id} looks again; engine undo {self.id} puts back what was done"
        self._unlike(walk, name, Settled("failed", why, hint, started=self.site.now()))

    def _step(self, walk: Walk, one: Step) -> str | None:
        if why := self.leave.lapsed(one):
            self._denied(walk, one.id, why)
            return "bad"
        # the items of a loop that an earlier attempt has settled; if something before it is done anew, only the firm ones
        doer = self.walks[self.doers.get((walk.row.name, one.id), walk.row.name)]
        items = self.items.get((doer.row.name, one.id), {})
        if walk.renewed(walk.ways.nodes[one.id]):
            items = {name: settled for name, settled in items.items() if name in doer.firm}
        perform = partial(step.perform, self.site, one, doer.row, walk.registers, walk.generation, items)
        try:
            settled = self._shared(walk, one, perform) if one.run_once else perform()
        except Stopped:
            self.cut.add((walk.row.name, one.id))
            return None if self.stopping in ending.PAUSES else "stopped"
        except Drifted as drift:
            self._unlike(walk, one.id, preview.found_moved(drift.approved, drift.found, self.site.now()))
            return "bad"
        if settled is None:  # somebody else was to do it, and the run is being stopped
            return None if self.stopping in ("", *ending.PAUSES) else "blocked"
        if self.wishes.until in (one.short, one.id):
            self.stop("interrupted")
        return self._take(walk, one, settled)

    @staticmethod
    def _take(walk: Walk, one: Step, settled: Settled) -> str:
        """What a settled step means for its host."""
        if settled.outcome == "uncertain":
            walk.unsure.append(one.id)
        if one.register:
            walk.registers[one.register] = settled.registered
        if one.section == "trigger":
            walk.met[one.id] = settled.good and bool((settled.reading or {}).get("met", True))
            return "ok"
        if settled.good:
            return "ok"
        if one.on_failure == "continue" and settled.outcome != "uncertain":
            walk.tolerated = True
            return "recovered"
        return "bad"

    def _shared(self, walk: Walk, one: Step, perform: Callable[[], Settled]) -> Settled | None:
        """`run_once`: the first host of the batch to come here does it, the others take its result."""
        key = (self.batch_of[walk.row.name], one.id, walk.generation)
        with self.changed:
            while key in self.shared and self.shared[key] is None and not (self.stopping in ending.PAUSES or self.broken):
                self.changed.wait(TICK)
            stops = self.site.stop_of(one).is_set() and not self._goes_on(walk, walk.ways.nodes[one.id])
            if key in self.shared or stops:
                return self.shared.get(key)
            self.shared[key] = None
        settled = None
        try:
            settled = perform()
        finally:
            with self.changed:
                if settled is None:
                    del self.shared[key]  # stopped, or drifted: the next host looks for itself
                else:
                    self.shared[key] = settled
                self.changed.notify_all()
        return settled

    def _finish(self, walk: Walk) -> bool:
        """Gives the host its result. True: it is to be walked once more, with another candidate."""
        if not walk.begun or walk.result or walk.parked:
            return False
        result = remedy.of(self.site, walk, self.stopping)
        if result != remedy.NEXT:
            walk.result = result
            return False
        version = remedy.candidate(self.site, walk, self.plan.playbook)
        self.journal.append(self.id, "candidate.failed", {"version": version}, walk.row.name)
        self._exclude(walk, version)
        self.failed.discard(walk.row.name)
        return True

    def _exclude(self, walk: Walk, version: str) -> None:
        host = walk.row.name
        with self.changed:  # other hosts may come here at the same time
            self.site.excluded.setdefault(host, {})[version] = "it failed verification in this run"
            self.site.approved = {key: row for key, row in self.site.approved.items() if key[0] != host}
            for known in (self.items, self.doers, self.site.tried, self.site.unsettled, self.site.spent):
                for key in [key for key in known if key[0] == host and key[1].partition("/")[0] in AGAIN]:
                    del known[key]
        walk.anew(AGAIN)

    # -- the end

    def _end(self) -> Exit:
        if self.broken is not None:
            raise self.broken
        if self.stopping in ending.PAUSES:
            if self.stopping == "interrupted":
                self.journal.append(self.id, "run.interrupted", {"why": "stopped by a person"})
            self.outbox.close(patience=1.0)
            return Exit.INTERRUPTED if self.stopping == "interrupted" else Exit.WAITING
        back = self.stopping == "cancelled" and self.cancel_undo
        left = remedy.cancelled(self.site, list(self.walks.values())) if back else ""
        results = [walk.result for walk in self.walks.values()]
        word = ending.outcome(results, self.stopping)
        refused = ending.denied(self.journal.entries(self.id)) if word == "rejected" else ""
        why = ending.why(results, self.stopping, word, self.plan.tolerated, self.site.deadline, refused)
        body: dict[str, Json] = {"outcome": word, "exit": int(ending.EXITS[word]), "why": left or why}
        if self.stopping == "deadline" and "" in results:
            body["cause"] = "deadline"
        if self.leave.settled.get("glass"):
            body |= ending.glass(self.journal.entries(self.id))
        self.outbox.event(word, *(("failed",) if word == "drifted" else ()), "ended", of=("run.ended", body))
        self.outbox.close()
        return ending.EXITS[word]

    # -- resume

    def restore(self, entries: Iterable[Entry]) -> Mapping[str, int]:
        """Takes over what the journal says. Returns how many steps are kept, looked at first, and run."""
        found = recall.of(self.plan, entries)
        self.seen = found.seen
        self.leave.restore(found.asked, found.settled)
        self.items, self.doers, site = found.items, found.doers, self.site
        self.cut = found.begun
        site.unsettled, site.touched, site.spent = found.cut, found.touched, found.spent
        site.tried = {place: effect.intended(intent) for place, intent in found.tried.items()}
        for host, version in found.failed:
            self._exclude(self.walks[host], version)
        for (host, name), settled in found.kept.items():
            one = self.plan.nodes[name].step
            self.walks[host].kept[name] = settled
            if one and one.run_once:
                self.shared[self.batch_of[host], name, self.walks[host].generation] = settled
        for host, name in found.again:
            self.walks[host].again.add(name)
        for host, name in found.firm:
            self.walks[host].firm.add(name)
        for host in found.opened:
            self.walks[host].opened = True
        for host, why in found.undoing.items():
            self.walks[host].put_back(why)
        # What was put back has failed for good: it stays in the budget, in every life of the run.
        self.failed |= found.undone | {host for host, why in found.undoing.items() if why != remedy.CANCEL}
        for host in found.undone:
            self.walks[host].result = "undone"
        self.outbox.restore(found.messages, found.lives)
        for host, _ in found.begun:
            self.walks[host].begun_earlier = True
        if found.refused:  # as it was decided, whatever came afterwards
            self.stop(found.refused)
        if found.cancel:
            self.cancelled, self.cancel_undo = True, bool(found.cancel.get("undo"))
            self.stop("cancelled")
        chosen = sum(1 for node in self.plan.nodes.values() if node.step and node.chosen) * len(self.walks)
        return {"keep": len(found.kept), "look": len(found.cut), "run": chosen - len(found.kept)}
