"""What the record says of a run that is taken up again: what is kept, what was cut off, what has been decided.

In: a run's entries and its plan. Out: a `Recalled`. It looks at nothing but the record and performs nothing, so what a
resume would do can be known, and tested, without doing it.

What a step did stands for ever; that it failed stands until the run has ended: a failure for which the playbook has a remedy
is remedied by whoever takes the run up, as it would have been without the crash, and one of a run that has ended is tried
again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from engine import effect, step
from engine.diagnostics import Diagnostic, printable
from engine.effect import Settled
from engine.journal import Entry
from engine.plan import Plan
from engine.site import Site
from modules.contract import Json

#: host, step
Place = tuple[str, str]
#: Every kind of entry that a record may hold: of each it is known here what it means for a run that is taken up.
KINDS = frozenset(
    {
        "authority.settled", "batch.started", "cancel.asked", "candidate.failed", "evidence.anchored",
        "evidence.erased", "evidence.sealed", "gate.opened", "glass.broken", "host.undoing",
        "host.undone", "key.asked", "key.given", "key.ratified", "key.refused", "lock.broken", "message.failed",
        "message.queued", "message.sent", "note", "run.ended", "run.interrupted", "run.resumed", "run.started",
        "step.handle", "step.intent", "step.outcome", "undo.ended", "undo.handle", "undo.intent", "undo.outcome",
        "undo.started",
    }
)  # fmt: skip


@dataclass
class Recalled:
    """What a run has behind it.

    `cut`: the intents without an outcome; `tried`: those of steps that were tried and failed; `again`: steps that ended well
    and of which too little was recorded; `firm`: steps and items that were done and are not to be done twice, whatever is
    done anew before them, because nobody could read that they were, or a person has said it; `spent`: the keys of operations
    that are over, whose steps need another; `opened`: hosts whose gate to execution was; `undone`: those that a remedy of
    the playbook put back; `undoing`: those that it, or a cancel, had begun to put back, and for what; `failed`: (host,
    version) of the candidates that failed; `lives`: how often the run has ended; `uncertain`: those of `cut` that only a
    person can settle; `begun`: every step that left an entry and is not undone; `doers`: of a step with `run_once`, for each
    host of the batch, the one that has begun it; `refused`: rejected or expired, once that was decided.
    """

    seen: int = 0
    ended: dict[str, Json] = field(default_factory=dict)
    lives: int = 0
    asked: Entry | None = None
    settled: dict[str, Json] = field(default_factory=dict)
    cancel: dict[str, Json] | None = None
    refused: str = ""
    begun: set[Place] = field(default_factory=set)
    doers: dict[Place, str] = field(default_factory=dict)
    kept: dict[Place, Settled] = field(default_factory=dict)
    items: dict[Place, dict[str, Settled]] = field(default_factory=dict)
    cut: dict[Place, dict[str, Json]] = field(default_factory=dict)
    tried: dict[Place, dict[str, Json]] = field(default_factory=dict)
    again: set[Place] = field(default_factory=set)
    firm: set[Place] = field(default_factory=set)
    spent: dict[Place, str] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    opened: set[str] = field(default_factory=set)
    undone: set[str] = field(default_factory=set)
    undoing: dict[str, str] = field(default_factory=dict)
    failed: list[tuple[str, str]] = field(default_factory=list)
    messages: list[Entry] = field(default_factory=list)
    uncertain: dict[Place, dict[str, Json]] = field(default_factory=dict)


def strange(entries: Collection[Entry]) -> list[Diagnostic]:
    """A mistake (LG066) for each kind of entry that is not known here: what it says of the run nobody here can tell."""
    found = []
    for kind in sorted({entry.kind for entry in entries} - KINDS):
        first = next(entry for entry in entries if entry.kind == kind)
        summary = f"entry {first.seq} of {first.run} is a `{printable(kind, 60)}`: this engine does not know what that means"
        detail = (
            "A newer engine has written it. Going on without it could do again what was done, or leave out what was not."
        )
        found.append(Diagnostic("LG066", summary, detail=detail, hint="go on with the engine that wrote it, or a newer one"))
    return found


def of(plan: Plan, entries: Iterable[Entry]) -> Recalled:
    """Folds the entries of a run of `plan`."""
    fold = _Fold(plan)
    for entry in entries:
        fold.add(entry)
    return fold.result()


def decide(site: Site, place: Place, intent: Mapping[str, Json], answer: str, because: str, who: str) -> None:
    """Records what a person says of a step that is uncertain: it was `done`, or it was `not-done` and is to be done."""
    host, name = place
    one = site.plan.nodes[name.partition("[")[0]].step
    if one is None:
        raise AssertionError(name)
    if answer == "done":
        registered = {"changed": True, "outcome": "waived"}
        why = f"{who} has looked and says that it was done: {because}"
        waived = Settled("waived", why, change=effect.intended(intent), registered=registered, started=site.now())
        step.record(site, one, host, name, waived, None if "[" in name else one.register)
    else:
        text = site.secrets.scrub(f"{name} was not done: {because}")
        site.journal.append(site.run, "note", {"text": text, "by": who, "decision": "again"}, host, name)


class _Fold:
    def __init__(self, plan: Plan) -> None:
        self.plan, self.found = plan, Recalled()
        self.outcomes: dict[Place, Entry] = {}
        # Entries, not bodies: nearly all are settled by an outcome, and reading them would be half the time of a resume.
        self.intents: dict[Place, Entry] = {}
        self.cut: dict[Place, Entry] = {}
        self.tried: dict[Place, Entry] = {}
        self.handles: dict[Place, Entry] = {}  # of operations, by the intent that began them
        self.undone: list[Place] = []  # by the playbook's own remedy, which is not through
        self.by_hand = False
        self.since = 0  # the entry with which the run last ended

    def add(self, entry: Entry) -> None:
        found, place = self.found, (entry.host, entry.step)
        found.seen = entry.seq
        if entry.kind == "step.intent":
            self.intents[place] = self.cut[place] = entry
            if earlier := self.handles.pop(place, None):
                found.spent[place] = earlier.body["key"]
            found.touched.add(entry.host)
            return
        body = entry.body
        match entry.kind:
            case "step.outcome":
                self._outcome(entry, place)
            case "step.handle":
                self.handles[place] = entry
            case "undo.intent" | "undo.outcome":
                self._undone(entry, place)
            case "undo.started":
                self.by_hand = True
            case "candidate.failed":
                self._another(entry)
            case "gate.opened":
                found.opened.add(entry.host)
            case "host.undoing":
                found.undoing[entry.host] = body["of"]
            case "host.undone":
                found.undone.add(entry.host)
            case "key.asked" if body["digest"] == self.plan.digest:
                found.asked = entry
            case "authority.settled" if body.get("of") != "undo":
                if body["decision"] in ("automatic", "approved"):
                    found.settled, found.refused = body, ""
                else:
                    found.refused = body["decision"]
            case "authority.settled" if body["decision"] == "cancelled":
                found.cancel = None  # the cancel was of the undo, and is done with
            case "cancel.asked" if not found.ended or self.by_hand:  # else it came too late for what it was to stop
                found.cancel = {**body, "undo": body.get("undo") or (found.cancel or {}).get("undo", False)}
            case "note" if body.get("decision") == "again":
                self.cut.pop(place, None)  # a person says that it was not done
            case "message.queued" | "message.sent":
                found.messages.append(entry)
            case "run.ended":
                found.ended, found.cancel, found.refused, self.since = body, None, "", entry.seq
                found.lives += 1
                for one in self.undone:
                    self._forget(one)
                self.undone, found.undoing = [], {}
            case "run.resumed":
                found.ended, self.by_hand = {}, False

    def _outcome(self, entry: Entry, place: Place) -> None:
        outcome = entry.body["outcome"]
        self.outcomes[place] = entry
        if outcome == "uncertain":
            return
        self.cut.pop(place, None)
        if outcome in effect.GOOD:
            self.tried.pop(place, None)
        elif place in self.intents:
            self.tried[place] = self.intents[place]

    def _undone(self, entry: Entry, place: Place) -> None:
        """A step that is put back, or may be: the undo was cut off in it. It is not done any more."""
        if entry.kind == "undo.outcome" and entry.body["outcome"] not in ("undone", "unchanged"):
            return
        if self.by_hand:
            self._forget(place)
        else:
            self.undone.append(place)

    def _forget(self, place: Place) -> None:
        """Nothing is known of the step any more, as if it had never run. An item's loop goes with it."""
        host, name = place
        for known in (self.outcomes, self.intents, self.cut, self.tried):
            known.pop(place, None)
        self.outcomes.pop((host, name.partition("[")[0]), None)

    def _another(self, entry: Entry) -> None:
        """The host goes on with another candidate: its execution and verification begin anew."""
        self.found.failed.append((entry.host, entry.body["version"]))
        for known in (self.outcomes, self.intents, self.cut, self.tried, self.handles):
            for host, name in list(known):
                if host == entry.host and name.partition("/")[0] in ("execution", "verification"):
                    del known[host, name]

    def result(self) -> Recalled:
        self.found.cut = {place: intent.body for place, intent in self.cut.items()}
        for place, begun in self.handles.items():
            if place in self.cut:
                self.found.cut[place] = {**self.found.cut[place], **begun.body}
            else:
                self.found.spent[place] = begun.body["key"]
        self.found.tried = {place: intent.body for place, intent in self.tried.items()}
        self.found.begun = {(host, name.partition("[")[0]) for host, name in {*self.outcomes, *self.intents} if host}
        self._once()
        for place, intent in self.found.cut.items():
            if place in self.outcomes and self.outcomes[place].body["outcome"] == "uncertain":
                self.found.uncertain[place] = intent
        for (host, name), entry in self.outcomes.items():
            if host:
                self._keep(host, name, entry)
        self._for_all()
        return self.found

    def _once(self) -> None:
        """What was begun once for a batch goes on in the name of the host that began it, whichever comes there first: its
        intents, its items, its keys are on record there. Of several the one that was cut off. A host that has gone on to
        another candidate has nothing of that."""
        cut, once = set(self.found.cut), {one.id for one in self.plan.playbook.steps if one.run_once}
        batches, lives = self.plan.batches if once else (), Counter(host for host, _ in self.found.failed)
        cut |= {(host, name.partition("[")[0]) for host, name in cut}
        for host, name in sorted((one for one in self.found.begun if one[1] in once), key=lambda one: (one in cut, one)):
            others = next((batch for batch in batches if host in batch), ())
            self.found.doers |= {(other, name): host for other in others if lives[other] == lives[host]}

    def _for_all(self) -> None:
        """What one host has done for its batch is kept for all of it: else what comes after it would be done anew by those
        who had only taken its result."""
        for place, host in self.found.doers.items():
            done = (host, place[1])
            if done in self.found.kept:
                self.found.kept.setdefault(place, self.found.kept[done])
            for known in (self.found.firm, self.found.again):
                if done in known:
                    known.add(place)

    def _keep(self, host: str, name: str, entry: Entry) -> None:
        settled = step.restored(entry.body)
        bare, _, item = name.partition("[")
        node = self.plan.nodes.get(bare)
        if node is None or node.step is None:
            return
        one = node.step
        if settled.outcome == "waived" or (settled.outcome in ("changed", "unchanged") and self._unreadable(host, name)):
            self.found.firm.add((host, name))
        if item:
            if settled.good:
                self.found.items.setdefault((host, bare), {})[name] = settled
        elif settled.good and one.no_log and one.register:
            # Kept as a digest only, so it is read again. If it acted, it is looked at like one that was cut off.
            self.found.again.add((host, bare))
            if settled.outcome == "changed" and (host, bare) in self.intents:
                self.found.cut[host, bare] = self.intents[host, bare].body
        elif settled.good or self._stands(host, bare, entry, settled):
            self.found.kept[host, bare] = settled

    def _unreadable(self, host: str, name: str) -> bool:
        """Whether the step acted, and is of the class of which no reading shows whether it did."""
        intent = self.intents.get((host, name))
        return intent is not None and intent.body["crash"] == "D"

    def _stands(self, host: str, name: str, entry: Entry, settled: Settled) -> bool:
        """Whether a failure is not to be tried again: it is tolerated, or its remedy comes next or has begun."""
        book, node = self.plan.playbook, self.plan.nodes[name]
        if node.step is None or settled.outcome == "uncertain":
            return False
        if node.step.on_failure == "continue":
            return True
        rescued = {block for block, arm in node.around if arm == "block" and "rescue" in book.blocks[block].arms}
        if any(
            where == host and (inner := self.plan.nodes.get(other.partition("[")[0])) and rescued & _rescues(inner.around)
            for where, other in self.outcomes
        ):
            return True
        unverified = node.section == "verification" and book.on_unverified in ("undo", "next")
        return entry.seq > self.since and bool(rescued or node.step.on_failure == "undo" or unverified)


def _rescues(around: tuple[tuple[str, str], ...]) -> set[str]:
    return {block for block, arm in around if arm == "rescue"}
