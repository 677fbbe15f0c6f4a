"""Walk the plan: which step may run where and when; batches, budget, keys, events, resume.

In: a `Site` (plan, catalog, journal). Out: an exit code, and a journal that tells all of it. How one step is done is
`step`'s affair, how the record is shown is the screen's: it listens to the journal.

Each host walks its own copy of the graph. A worker that has settled a step goes on with the next one that this made
ready, so a chain costs no hand-over between threads; what else became ready goes to the queue.
"""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from engine import authority, outbox, preview, source, step, template, undo
from engine.check import HostRow
from engine.diagnostics import Exit, printable
from engine.journal import Entry, JournalError
from engine.layout import Node
from engine.playbook import Step
from engine.step import Drifted, Settled, Site
from modules.contract import Json, Stopped

#: Hosts side by side. A step mostly waits for its host, so this is about how many answers may be outstanding.
FORKS = 256
TICK = 0.25
#: outcome of a run -> exit code
EXITS = {
    "succeeded": Exit.DONE, "recovered": Exit.DONE, "not_triggered": Exit.DONE, "failed": Exit.FAILED, "held": Exit.HELD,
    "undone": Exit.FAILED, "rejected": Exit.REJECTED, "expired": Exit.REJECTED, "cancelled": Exit.FAILED, "drifted": Exit.STALE,
}  # fmt: skip
ENDED = frozenset({"succeeded", "recovered", "undone", "rejected", "expired", "cancelled", "not_triggered"})
BAD = frozenset({"bad", "blocked"})


@dataclass(frozen=True)
class Wishes:
    """How the run is to behave, beyond what the plan says."""

    if_triggered: bool = False
    wait: bool = True
    forks: int = FORKS
    until: str = ""
    confirm: Callable[[str, str], bool] | None = None
    poll: Callable[[dict[str, Json]], None] | None = None


@dataclass
class Walk:
    """One host on its way. `status` of a node: ok, skip (not needed), bad (failed), blocked (never begun), recovered."""

    row: HostRow
    waiting: dict[str, int]
    status: dict[str, str] = field(default_factory=dict)
    registers: dict[str, Json] = field(default_factory=dict)
    items: dict[str, dict[str, Settled]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    met: dict[str, bool] = field(default_factory=dict)
    generation: int = 1
    busy: int = 0
    begun: bool = False
    parked: list[str] = field(default_factory=list)
    result: str = ""
    tolerated: bool = False


class Run:
    """One execution of a plan, from its first entry or taken up again."""

    def __init__(self, site: Site, wishes: Wishes) -> None:
        self.site, self.wishes, self.plan = site, wishes, site.plan
        self.journal, self.id = site.journal, site.run
        self.tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.events = threading.Condition()
        self.walks = {row.name: self._walk(row) for row in self.plan.hosts}
        self.shared: dict[tuple[int, str], Settled | None] = {}
        self.batch_of = {name: number for number, batch in enumerate(self.plan.batches) for name in batch}
        self.stopping = ""
        self.broken: BaseException | None = None
        self.authorised = False
        self.asked: Entry | None = None
        self.decision = ""
        self.triggered = threading.Event()
        self.seen = 0
        self.outbox = outbox.Outbox(site, lambda: next(iter(self.walks.values())).registers)
        self.cancel_undo = False
        self.ended = ""

    def _walk(self, row: HostRow) -> Walk:
        return Walk(row, {node.id: len(node.after) for node in self.plan.nodes.values()})

    # -- the run as a whole -------------------------------------------------------------------------------------------

    def go(self) -> Exit:
        """Runs to an end, to a wait that is not to be waited for, or to a safe point. Raises JournalError."""
        workers = [
            threading.Thread(target=self._work, daemon=True) for _ in range(max(1, min(self.wishes.forks, len(self.walks))))
        ]
        for thread in workers:
            thread.start()
        self.outbox.start()
        try:
            self.outbox.event("started")
            for number, batch in enumerate(self.plan.batches, 1):
                if not self._batch(number, batch):
                    break
            return self._end()
        finally:
            for _ in workers:
                self.tasks.put(None)

    def _batch(self, number: int, batch: tuple[str, ...]) -> bool:
        """One batch of hosts to its end. False: no further batch is to start."""
        walks = [self.walks[name] for name in batch if not self.walks[name].result]
        if walks:
            self.journal.append(self.id, "batch.started", {"number": number, "hosts": list(batch)})
            for walk in walks:
                self.tasks.put(lambda walk=walk: self._begin(walk))  # type: ignore[misc]
            self._wait(walks)
        for walk in walks:
            if walk.begun and not self.stopping:
                self._finish_host(walk)
        return not self.stopping and not self.broken and not self._over_budget()

    def _wait(self, walks: list[Walk]) -> None:
        """Until every walk of the batch has come to rest; looks after keys, cancel and stop meanwhile."""
        while True:
            with self.events:
                resting = all(walk.busy == 0 and (walk.begun or self._no_more()) for walk in walks)
                parked = [walk for walk in walks if walk.parked]
                if (resting and not parked) or self.broken:
                    return
                if resting and self.stopping:
                    return
                if resting and parked and self.asked and not self.wishes.wait and not self.authorised and not self.decision:
                    self.stopping = "waiting"
                    return
                self.events.wait(TICK)
            self._look()

    def _no_more(self) -> bool:
        return bool(self.stopping or self.broken or self._over_budget())

    def _over_budget(self) -> bool:
        failed = sum(1 for walk in self.walks.values() if self._failed(walk))
        return failed > self.plan.tolerated

    def _failed(self, walk: Walk) -> bool:
        return walk.result in ("failed", "held", "undone", "drifted") or (
            not walk.result and any(s == "bad" for s in walk.status.values()) and self._verdict(walk) != ""
        )

    def _look(self) -> None:
        """What other processes have written since: keys, refusals, a wish to cancel."""
        fresh = self.journal.entries(self.id, self.seen)
        if fresh:
            self.seen = fresh[-1].seq
        for entry in fresh:
            if entry.kind == "cancel.asked" and not self.stopping:
                self.cancel_undo = bool(entry.body.get("undo"))
                self.stop("cancelled")
        if self.triggered.is_set() and not self.asked and not self.decision and not self.authorised:
            self._ask()
        elif self.asked and not self.decision and not self.authorised:
            self._judge()

    def stop(self, why: str) -> None:
        """No new step starts; waits inside steps are cut short. `why`: interrupted or cancelled."""
        self.stopping = self.stopping or why
        self.site.stop.set()
        with self.events:
            self.events.notify_all()

    # -- authority ----------------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        said = self.plan.playbook.authority
        rule = authority.Rule(said.mode, said.roles, said.expires)
        if self.site.check or rule.mode == "automatic":
            self._decide(
                "automatic", "the playbook asks nobody" if not self.site.check else "check mode: nothing will be changed", []
            )
            return
        facts = {
            "playbook": self.plan.playbook.name, "strategy": self.plan.playbook.strategy, "hosts": len(self.plan.hosts),
            "now": (self.plan.preview or {}).get("now", {}), "back_to": (self.plan.preview or {}).get("back_to", {}),
            "no_undo": [row["id"] for row in (self.plan.preview or {}).get("steps", []) if row["undo"] == "NONE"],
        }  # fmt: skip
        self.asked = ask(self.site, rule, self.plan.digest, facts)
        self.outbox.event("waiting")

    def _judge(self) -> None:
        if self.asked is None:
            return
        entries = self.journal.entries(self.id, self.asked.seq)
        keys = [entry.body for entry in entries if entry.kind in ("key.given", "key.refused")]
        verdict = judge(self.site, self.asked.body, keys)
        if verdict.state == "waiting":
            if self.wishes.poll:
                self.wishes.poll(self.asked.body)
            return
        self._decide(verdict.state, verdict.why, list(verdict.people))

    def _decide(self, decision: str, why: str, people: list[str]) -> None:
        self.journal.append(self.id, "authority.settled", {"decision": decision, "why": why, "people": people})
        if decision in ("automatic", "approved"):
            self.authorised = True
            self._release()
        else:
            self.decision = decision
            self.stop(decision)

    def _release(self) -> None:
        """Lets the hosts that stand before their execution gate go on."""
        for walk in self.walks.values():
            with walk.lock:
                parked, walk.parked = walk.parked, []
                walk.busy += len(parked)
            for name in parked:
                self.tasks.put(lambda walk=walk, name=name: self._go_on(walk, name))  # type: ignore[misc]

    # -- one host -----------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (task := self.tasks.get()) is not None:
            try:
                task()
            except BaseException as error:  # noqa: BLE001 (a worker must not die silently: the main thread raises it)
                self.broken = self.broken or error
            with self.events:
                self.events.notify_all()

    def _begin(self, walk: Walk) -> None:
        if self._no_more():
            return
        with walk.lock:
            walk.begun = True
            ready = [name for name, left in walk.waiting.items() if left == 0 and name not in walk.status]
            walk.busy += len(ready)
        self._queue(walk, ready)

    def _queue(self, walk: Walk, ready: list[str]) -> None:
        for name in ready[1:]:
            self.tasks.put(lambda name=name: self._go_on(walk, name))  # type: ignore[misc]
        if ready:
            self._go_on(walk, ready[0])

    def _go_on(self, walk: Walk, name: str) -> None:
        """Settles `name` and whatever it makes ready, one after the other on this thread."""
        current: str | None = name
        while current is not None:
            node = self.plan.nodes[current]
            try:
                status = self._visit(walk, node)
            except BaseException:
                with walk.lock:
                    walk.busy -= 1
                raise
            if status is None:
                with walk.lock:
                    walk.busy -= 1
                return
            ready = self._settle(walk, current, status)
            for other in ready[1:]:
                self.tasks.put(lambda other=other: self._go_on(walk, other))  # type: ignore[misc]
            current = ready[0] if ready else None

    def _settle(self, walk: Walk, name: str, status: str) -> list[str]:
        with walk.lock:
            walk.status[name] = status
            ready = []
            for follower in self.plan.followers[name]:
                walk.waiting[follower] -= 1
                if walk.waiting[follower] == 0 and follower not in walk.status:
                    ready.append(follower)
            walk.busy += len(ready) - 1
        return ready

    def _visit(self, walk: Walk, node: Node) -> str | None:
        """The node's status, or None when it is not to be settled now (parked, or the run is stopping)."""
        if self.broken:
            return None
        before = [walk.status[name] for name in node.after]
        match node.kind:
            case "gate":
                return self._gate(walk, node, before)
            case "rescue":
                return "ok" if self._arm_bad(walk, node.id.removesuffix(".rescue"), "block") else "skip"
            case "always":
                return "ok"
            case "end":
                return self._block_end(walk, node.id.removesuffix(".end"))
            case _:
                return self._step(walk, node, before)

    def _gate(self, walk: Walk, node: Node, before: list[str]) -> str | None:
        if node.section == "forensics":
            walk.met["trigger"] = self._holds(walk)
            if self.wishes.if_triggered and not walk.met["trigger"]:
                walk.result = "not_triggered"
                return "blocked"
            self.triggered.set()
            return "ok"
        if any(status in BAD for status in before):
            return "blocked"
        if node.section == "execution":
            if not self.authorised:
                with walk.lock:
                    walk.parked.append(node.id)
                return None
            if self.stopping:
                return None
            self._recheck(walk)
            self.journal.append(self.id, "gate.opened", {}, walk.row.name, node.section)
        return "ok"

    def _holds(self, walk: Walk) -> bool:
        steps = self.plan.playbook.section("trigger")
        said = [walk.met.get(one.id, False) for one in steps]
        return not said or (any(said) if self.plan.playbook.trigger_mode == "any" else all(said))

    def _recheck(self, walk: Walk) -> None:
        """Before the first change: is the world still what the keys were given for? Raises Drifted, exit 7."""
        if not self.site.approved or walk.row.name in self.site.touched:
            return
        for row in preview.on_host(self.site, walk.row, self.plan.nodes, ("execution",), dict(walk.registers)):
            approved = self.site.approved.get((row["host"], row["step"]))
            if approved and approved["grade"] == "exact" and row["change"] != approved["change"]:
                self._drifted(walk, row["step"], approved["change"], row["change"])

    def _drifted(self, walk: Walk, name: str, approved: Json, found: Json) -> None:
        self.journal.append(
            self.id, "step.outcome",
            {
                "outcome": "failed", "module": "", "name": "the live state is what was approved", "reading": None, "change": None, "started": self.site.now(),
                "seconds": 0.0, "attempts": 1, "register": None, "at": str(self.plan.nodes[name].step.place()) if self.plan.nodes[name].step else "",  # type: ignore[union-attr]
                "why": f"moved since the keys were given: approved {_change_words(approved)}, found {_change_words(found)}",
                "hint": "engine plan shows how it is now; a new plan needs new keys",
            },
            walk.row.name, name,
        )  # fmt: skip
        walk.result = "drifted"
        raise _Moved(name)

    def _step(self, walk: Walk, node: Node, before: list[str]) -> str | None:
        one = node.step
        if one is None:
            raise AssertionError(node.id)
        trigger = one.section == "trigger"
        if any(status in BAD for status in before) and not trigger:
            return "blocked"
        if one.arms and one.arms[-1][1] == "rescue" and walk.status.get(f"{one.arms[-1][0]}.rescue") == "skip":
            return "skip"
        if not node.chosen:
            return "skip"
        always = any(arm == "always" for _, arm in one.arms)
        if self.stopping and not (always and self.stopping == "cancelled"):
            return None
        if self.site.check and one.section == "verification":
            return "skip"
        if self.wishes.confirm and one.section == "execution" and not self.wishes.confirm(walk.row.name, one.id):
            self.stop("interrupted")
            return None
        try:
            settled = self._once_for_batch(walk, one) if one.run_once else self._perform(walk, one)
        except Stopped:
            return None
        except Drifted as drift:
            self._drift_of_step(walk, one, drift)
            return "bad"
        if settled is None:
            return None
        if one.register:
            walk.registers[one.register] = settled.registered
        if trigger:
            walk.met[one.id] = settled.good and bool((settled.reading or {}).get("met", True))
            return "ok"
        if self.wishes.until == one.short and not self.stopping:
            self.stop("interrupted")
        if settled.good:
            return "ok"
        if one.on_failure == "continue":
            walk.tolerated = True
            return "recovered"
        return "bad"

    def _drift_of_step(self, walk: Walk, one: Step, drift: Drifted) -> None:
        try:
            self._drifted(walk, one.id, drift.approved, drift.found)
        except _Moved:
            pass

    def _perform(self, walk: Walk, one: Step) -> Settled:
        return step.perform(self.site, one, walk.row, walk.registers, walk.generation, walk.items.get(one.id))

    def _once_for_batch(self, walk: Walk, one: Step) -> Settled | None:
        """`run_once`: the first host of the batch to come here does it, the others take its result."""
        key = (self.batch_of[walk.row.name], one.id)
        with self.events:
            mine = key not in self.shared
            if mine:
                self.shared[key] = None
        if mine:
            settled = self._perform(walk, one)
            with self.events:
                self.shared[key] = settled
                self.events.notify_all()
            return settled
        with self.events:
            while self.shared[key] is None:
                if self.stopping or self.broken:
                    return None
                self.events.wait(TICK)
            return self.shared[key]

    def _arm_bad(self, walk: Walk, block: str, arm: str) -> bool:
        """Whether something in this arm of the block went wrong and was not put right inside it."""
        return any(walk.status.get(node.id) in BAD for node in self._arm(block, arm))

    def _arm(self, block: str, arm: str) -> Iterable[Node]:
        """The nodes that stand directly in the arm: its steps, and the ends of the blocks in it."""
        for node in self.plan.nodes.values():
            if (node.step is not None and node.step.arms and node.step.arms[-1] == (block, arm)) or (
                node.kind == "end" and self.plan.playbook.blocks[node.id.removesuffix(".end")].around[-1:] == ((block, arm),)
            ):
                yield node

    def _block_end(self, walk: Walk, block: str) -> str:
        arms = self.plan.playbook.blocks[block].arms
        failed = self._arm_bad(walk, block, "block")
        saved = failed and "rescue" in arms and not self._arm_bad(walk, block, "rescue")
        if (failed and not saved) or self._arm_bad(walk, block, "always"):
            return "bad"
        if saved or any(walk.status.get(node.id) == "recovered" for node in self._arm(block, "block")):
            walk.tolerated = True
            return "recovered"
        return "ok"

    def _verdict(self, walk: Walk) -> str:
        """Which section of the host went wrong; empty when none did. Steps inside a block count through its end."""
        for section in ("forensics", "execution", "verification"):
            for node in self.plan.nodes.values():
                inside = node.step is not None and bool(node.step.arms)
                if (
                    node.section == section
                    and not inside
                    and node.kind in ("step", "end")
                    and walk.status.get(node.id) == "bad"
                ):
                    nested = node.kind == "end" and self.plan.playbook.blocks[node.id.removesuffix(".end")].around
                    if not nested:
                        return section
        return ""

    def _finish_host(self, walk: Walk) -> None:
        """The host's result, and what its failure asks for: undo, or the next-best candidate."""
        bad = self._verdict(walk)
        if walk.result in ("drifted", "not_triggered"):
            return
        if not bad:
            walk.result = "recovered" if walk.tolerated else "succeeded"
            return
        if bad == "verification" and self.plan.playbook.on_unverified == "next" and self._next(walk):
            return
        walk.result = "held" if bad == "verification" else "failed"
        wants = self.plan.playbook.on_unverified if bad == "verification" else self._on_failure(walk)
        if wants == "undo" and not self.site.check:
            walk.result = "undone" if undo.host(self.site, walk.row) in ("undone", "nothing") else walk.result

    def _on_failure(self, walk: Walk) -> str:
        steps = [node.step for node in self.plan.nodes.values() if node.step and walk.status.get(node.id) == "bad"]
        return "undo" if any(one.on_failure == "undo" for one in steps) else "stop"

    def _next(self, walk: Walk) -> bool:
        """Verification failed and the playbook says `next`: execution and verification again, without that candidate."""
        chosen = [
            walk.registers.get(one.register or "")
            for one in self.plan.playbook.section("execution")
            if one.module == "last_good"
        ]
        version = next((one["version"] for one in chosen if isinstance(one, Mapping) and one.get("version")), None)
        if version is None or version in self.site.excluded.get(walk.row.name, {}):
            return False
        self.site.excluded.setdefault(walk.row.name, {})[version] = "it failed verification in this run"
        self.journal.append(self.id, "candidate.failed", {"version": version}, walk.row.name)
        walk.generation += 1
        again = {node.id for node in self.plan.nodes.values() if node.section in ("execution", "verification")}
        walk.status = {name: status for name, status in walk.status.items() if name not in again}
        for name in again:
            walk.waiting[name] = sum(1 for before in self.plan.nodes[name].after if before not in walk.status)
        walk.items.clear()
        self.site.approved = {key: row for key, row in self.site.approved.items() if key[0] != walk.row.name}
        self.tasks.put(lambda: self._begin(walk))
        walk.begun = False
        self._wait([walk])
        if not self.stopping and walk.begun:
            self._finish_host(walk)
        return True

    # -- the end ------------------------------------------------------------------------------------------------------

    def _end(self) -> Exit:
        if isinstance(self.broken, JournalError):
            raise self.broken
        if self.broken is not None:
            raise self.broken
        if self.stopping in ("interrupted", "waiting"):
            if self.stopping == "interrupted":
                self.journal.append(self.id, "run.interrupted", {"why": "stopped by a person"})
            self.outbox.close()
            return Exit.INTERRUPTED if self.stopping == "interrupted" else Exit.WAITING
        outcome = self._outcome()
        if outcome == "cancelled" and self.cancel_undo:
            for walk in self.walks.values():
                undo.host(self.site, walk.row)
        code = EXITS[outcome]
        self.ended = outcome
        self.journal.append(self.id, "run.ended", {"outcome": outcome, "exit": int(code), "why": self._why(outcome)})
        for name in (outcome, "ended"):
            self.outbox.event(name)
        if outcome in ("drifted",):
            self.outbox.event("failed")
        self.outbox.close()
        return code

    def _outcome(self) -> str:
        if self.stopping in ("rejected", "expired", "cancelled"):
            return self.stopping
        results = [walk.result for walk in self.walks.values()]
        for outcome in ("drifted", "failed", "held", "undone"):
            if outcome in results and (outcome in ("drifted",) or results.count(outcome)):
                if sum(1 for walk in self.walks.values() if self._failed(walk)) <= self.plan.tolerated and all(results):
                    return "recovered"
                return outcome
        if not all(results):
            return "failed"
        if all(result == "not_triggered" for result in results):
            return "not_triggered"
        return "recovered" if "recovered" in results else "succeeded"

    def _why(self, outcome: str) -> str:
        failed = [walk.row.name for walk in self.walks.values() if self._failed(walk)]
        if outcome in ("failed", "held", "undone", "drifted") and len(self.walks) > 1:
            pending = sum(1 for walk in self.walks.values() if not walk.result)
            return f"{len(failed)} of {len(self.walks)} hosts failed, {self.plan.tolerated} tolerated; {pending} not begun"
        return {
            "expired": "nobody gave the missing key in time; no host was changed",
            "rejected": "a person said no; no host was changed",
        }.get(outcome, "")

    # -- resume -------------------------------------------------------------------------------------------------------

    def restore(self, entries: Iterable[Entry]) -> Mapping[str, int]:
        """Takes over what the journal says. Returns how many steps are kept and how many are looked at first."""
        kept, outcomes = 0, {}
        for entry in entries:
            self.seen = entry.seq
            match entry.kind:
                case "step.intent":
                    self.site.unsettled[entry.host, entry.step] = entry.body
                    self.site.touched.add(entry.host)
                case "step.outcome":
                    outcomes[entry.host, entry.step] = entry
                    self.site.unsettled.pop((entry.host, entry.step), None)
                case "authority.settled":
                    self.authorised = self.authorised or entry.body["decision"] in ("automatic", "approved")
                case "key.asked":
                    self.asked = entry
                case "message.queued" | "message.sent":
                    self.outbox.restore(entry)
                case "candidate.failed":
                    walk = self.walks[entry.host]
                    walk.generation += 1
                    self.site.excluded.setdefault(entry.host, {})[entry.body["version"]] = (
                        "it failed verification in this run"
                    )
                    outcomes = {
                        key: kept_
                        for key, kept_ in outcomes.items()
                        if key[0] != entry.host or key[1].partition("/")[0] in ("trigger", "forensics")
                    }
        for (host, name), entry in outcomes.items():
            if host and self._take_over(self.walks[host], name, entry, outcomes):
                kept += 1
        if self.authorised:
            self.asked = None
        return {"kept": kept, "looked": len(self.site.unsettled)}

    def _take_over(self, walk: Walk, name: str, entry: Entry, outcomes: Mapping[tuple[str, str], Entry]) -> bool:
        """One settled step of an earlier attempt: kept if it ended well, or if its remedy has already begun."""
        settled = step.restored(entry.body)
        bare, _, index = name.partition("[")
        node = self.plan.nodes.get(bare)
        if node is None or node.step is None:
            return False
        if index:
            if settled.good:
                walk.items.setdefault(bare, {})[name] = settled
            return False
        one = node.step
        remedied = any(
            (walk.row.name, other.id) in outcomes
            for other in self.plan.playbook.steps
            if one.arms and any(a == (b, "rescue") for a in other.arms for b, arm in one.arms if arm == "block")
        )
        tolerated = one.on_failure == "continue" and not settled.good
        if not settled.good and not remedied and not tolerated:
            return False
        if one.no_log and one.register:
            return False  # its result was kept as a digest only: it is read again
        if one.register:
            walk.registers[one.register] = settled.registered
        if one.section == "trigger":
            walk.met[one.id] = settled.good and bool((settled.reading or {}).get("met", True))
        if one.run_once:
            self.shared[self.batch_of[walk.row.name], one.id] = settled
        walk.tolerated = walk.tolerated or tolerated
        self._settle(walk, bare, "ok" if settled.good else "recovered" if tolerated else "bad")
        walk.busy = 0
        return True


class _Moved(Exception):
    """A host's live state is not what was approved: its walk ends here."""


def ask(site: Site, rule: authority.Rule, digest: str, facts: Mapping[str, Json]) -> Entry:
    """Opens the question for keys in the journal: its last `key.asked` is the one that keys are bound to."""
    shown = site.secrets.scrub(dict(facts))
    body = authority.question(rule, site.run, digest, site.requester, secrets.token_hex(16), shown, site.now())
    return site.journal.append(site.run, "key.asked", body)


def judge(site: Site, request: Mapping[str, Json], keys: list[dict[str, Json]]) -> authority.Verdict:
    """What the keys that are there amount to, every signature checked again."""
    rule = authority.Rule(request["mode"], tuple(request["roles"]))
    people = authority.roster(source.parse(site.plan.roster["text"], site.plan.roster["path"]))
    return authority.judge(rule, people, request, site.requester, keys, site.now())


def _change_words(change: Json) -> str:
    if not change:
        return "nothing to change"
    return ", ".join(
        f"{key} {printable(template.shown(before), 40)} -> {printable(template.shown(after), 40)}"
        for key, before, after in change
    )
