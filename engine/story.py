"""What happened: the entries of one run folded into one `Story`, which every view tells in its own way.

In: journal entries in order, a whole run or one at a time while it goes on. Out: steps, keys, changes, curves, and the
sentence that says where things stand. It reads no clock, no file and no database, and knows nothing of screens or pages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath

from engine import curve, words
from engine.curve import Series
from engine.journal import Entry
from modules.contract import Json

BAD = ("failed", "timed_out", "unreachable", "uncertain")
ENDED = ("changed", "unchanged", "skipped", "waived", *BAD, "undone")


@dataclass(frozen=True)
class Planned:
    """A step of the plan: its key is ``section/id``; `undo`: can the engine put it back? None: not said."""

    key: str
    section: str
    id: str
    name: str = ""
    module: str = ""
    undo: bool | None = None


@dataclass
class Step:
    """A step on one host, as far as it has come. `seconds` is how long it took; `at` is where the playbook says it."""

    host: str
    key: str
    outcome: str = "next"
    name: str = ""
    module: str = ""
    started: float | None = None
    seconds: float = 0.0
    attempts: int = 0
    why: str = ""
    hint: str = ""
    at: str = ""
    change: Mapping[str, Json] | None = None
    reading: Mapping[str, Json] = field(default_factory=dict)
    seq: int = 0
    #: An intent without an outcome: the effect may or may not have happened.
    open: bool = False
    #: This run has begun to change it, whatever was read afterwards: found done on resume, it was still we who did it.
    intended: bool = False
    undone: str = ""
    #: What its platform calls the operation that may still be under way there.
    operation: str = ""
    #: Earlier endings of this step in this run: (when, outcome, why).
    earlier: list[tuple[float, str, str]] = field(default_factory=list)

    @property
    def section(self) -> str:
        """The part before the slash."""
        return self.key.partition("/")[0]

    @property
    def id(self) -> str:
        """The part after the slash, with the item's number where it has one."""
        return self.key.partition("/")[2]

    @property
    def word(self) -> str:
        """The outcome as it stands now: a change that was put back is ``undone``."""
        return "undone" if self.undone == "undone" else self.outcome

    @property
    def ended(self) -> bool:
        """Whether it has come to an outcome."""
        return self.outcome in ENDED

    @property
    def said(self) -> str:
        """The word for people: a trigger holds or it does not, and a check is met, where the outcome is `unchanged`."""
        if self.section == "trigger" and self.ended and self.met is not None:
            return "holds" if self.met else "no alarm"
        if self.section == "verification" and self.outcome == "unchanged" and self.met:
            return "met"
        return self.word

    @property
    def made(self) -> bool:
        """Whether this run made a change here; one that was put back since was made, too."""
        return self.word in ("changed", "undone") or (self.word == "unchanged" and self.intended)

    @property
    def bad(self) -> bool:
        """Whether it went wrong. A trigger that does not hold has not gone wrong: it has answered no."""
        return self.word in BAD and not (self.section == "trigger" and self.met is False)

    @property
    def met(self) -> bool | None:
        """What an observing module found; None for steps that observe nothing."""
        met = self.reading.get("met")
        return met if isinstance(met, bool) else None

    @property
    def fact(self) -> str:
        """The one thing worth knowing about it, in a line."""
        if self.why and (self.word in BAD or self.word in ("skipped", "waived", "waiting")):
            return self.why
        why, change = self.reading.get("_why"), words.told(self.change)
        if "_sha256" in self.reading and self.word in ("changed", "unchanged"):
            return words.kept(self.reading)
        # What was made says less by its fields than by its module's own sentence.
        if change and not (why and self.change and self.change.get("before") is None):
            return change
        if why:
            return words.brief(why, 200)
        facts = [(key, value) for key, value in self.reading.items() if key != "met" and not key.startswith("_")]
        return self.why or ", ".join(f"{key} {words.brief(value)}" for key, value in facts[:2])


@dataclass
class Key:
    """A key that was offered: who, as what, when (UTC seconds), and why it does not count, if it does not."""

    at: float
    seq: int
    person: str
    role: str = ""
    fingerprint: str = ""
    statement: Mapping[str, Json] = field(default_factory=dict)
    refused: str = ""


@dataclass
class Message:
    """A message on its way: `key` is its idempotency key, `skipped`: its `when` said that it is not to be sent."""

    key: str
    step: str
    event: str
    queued: float
    sent: float | None = None
    skipped: bool = False
    failures: list[tuple[float, str]] = field(default_factory=list)


def _as_typed(body: Mapping[str, Json]) -> tuple[str, ...]:
    """The run's inventories, seen from the folder in which the playbook was named."""
    playbook = PurePath(str(body.get("playbook", "")))
    folder = PurePath(str(body.get("base", "")))
    for part in reversed(playbook.parent.parts):
        folder = folder.parent if folder.name == part else PurePath()
    paths = [PurePath(str(path)) for path in body.get("inventories") or ()]
    return tuple(str(path.relative_to(folder) if folder.parts and path.is_relative_to(folder) else path) for path in paths)


class Story:
    """A run as far as it is told. `add` takes the next entry; everything else may be read at any time in between.

    `keep`: whether the entries themselves are kept, for a timeline; a view of a large run that goes on does without.
    """

    def __init__(self, keep: bool = True) -> None:
        self._keep = keep
        self.run = self.name = self.playbook = self.strategy = self.requester = self.digest = self.engine = ""
        self.plan: Mapping[str, Json] = {}
        self.inventories: tuple[str, ...] = ()
        self.check = False
        self.hosts: tuple[str, ...] = ()
        self.batches: tuple[tuple[str, ...], ...] = ()
        #: How many hosts may fail and how they are taken on, in words; empty for one host.
        self.budget = ""
        #: When the run ends, whatever it is at (UTC seconds); `cause`: what has ended it, where the word does not say.
        self.deadline: float | None = None
        self.cause = ""
        self.batch = 0
        self.planned: dict[str, Planned] = {}
        self.started: float | None = None
        self.ended: float | None = None
        self.last = self.asked_at = self.decided_at = self.undo_from = self.undo_to = 0.0
        self.outcome = self.why = ""
        self.exit: int | None = None
        self.steps: dict[tuple[str, str], Step] = {}
        self.asked: Mapping[str, Json] = {}
        #: The undo's own question for keys, the keys that were given for it, and how it was settled.
        self.undo_asked: Mapping[str, Json] = {}
        self.undo_keys: list[Key] = []
        self.undo_settled = False
        self.keys: list[Key] = []
        self.decision: Mapping[str, Json] = {}
        #: Who went alone and until when that has to be ratified; who has ratified it.
        self.glass: Mapping[str, Json] = {}
        self.ratified: Mapping[str, Json] = {}
        self.pauses: list[tuple[float, str, str]] = []
        self.messages: dict[str, Message] = {}
        self.undo_steps: list[Step] = []
        self.undo_by = self.undo_outcome = self.cancel = self.broken = ""
        self.cancel_undo = False
        self.series: dict[tuple[str, str], Series] = {}
        #: Every stored entry, in order: the timeline.
        self.entries: list[Entry] = []

    def add(self, entry: Entry) -> None:
        """Takes in one entry. A kind that is not known (a newer engine's) is kept in the timeline and changes nothing."""
        if self._keep and entry.seq:
            self.entries.append(entry)
        self.last = max(self.last, entry.at)
        take = getattr(self, "_on_" + entry.kind.replace(".", "_"), None)
        if take:
            take(entry, entry.body)

    def _on_run_started(self, entry: Entry, body: Mapping[str, Json]) -> None:
        self.run, self.started = entry.run, entry.at
        self.name, self.playbook = str(body.get("name", "")), str(body.get("playbook", ""))
        self.strategy, self.requester = str(body.get("strategy", "")), str(body.get("requester", ""))
        self.digest, self.engine = str(body.get("digest", "")), str(body.get("engine", ""))
        self.check, self.inventories = bool(body.get("check")), _as_typed(body)
        self.hosts = tuple(body.get("hosts") or ())
        self.batches = tuple(tuple(batch) for batch in body.get("batches") or ())
        self.budget, self.deadline = str(body.get("budget") or ""), body.get("deadline")
        self.plan = body.get("plan") or {}
        for row in (*(self.plan.get("steps") or ()), *((self.plan.get("preview") or {}).get("steps") or ())):
            self._plan(row)

    def _plan(self, row: Json) -> None:
        """A step as the plan has it: ``[section/id, after, chosen]`` among its gates, or in full as the preview shows it."""
        if not isinstance(row, Mapping):
            if "/" in row[0] and "." not in row[0] and row[2]:
                self.planned[row[0]] = Planned(row[0], *row[0].split("/", 1))
            return
        section, ident = str(row["section"]), str(row["id"]).rpartition("/")[2]
        undo = {"automatic": True, "NONE": False}.get(str(row.get("undo")))
        plan = Planned(f"{section}/{ident}", section, ident, str(row.get("name", "")), str(row.get("module", "")), undo)
        self.planned[plan.key] = plan

    def _on_run_resumed(self, entry: Entry, body: Mapping[str, Json]) -> None:
        self.pauses.append((entry.at, "resumed", str(body.get("by", ""))))
        self.ended = self.exit = None
        self.outcome = self.why = self.cancel = self.cause = self.broken = self.undo_outcome = ""
        self.deadline = body.get("deadline") or self.deadline

    def _on_run_interrupted(self, entry: Entry, body: Mapping[str, Json]) -> None:
        self.pauses.append((entry.at, "interrupted", str(body.get("why", ""))))

    def _on_run_ended(self, entry: Entry, body: Mapping[str, Json]) -> None:
        self.ended, self.outcome = entry.at, str(body.get("outcome", ""))
        self.exit, self.why, self.cause = body.get("exit"), str(body.get("why") or ""), str(body.get("cause") or "")
        self.glass = self.glass or body.get("glass") or {}

    def _on_key_ratified(self, entry: Entry, body: Mapping[str, Json]) -> None:
        self.ratified = {**body, "when": entry.at}

    def _on_batch_started(self, _: Entry, body: Mapping[str, Json]) -> None:
        self.batch = int(body.get("number") or 0)

    def _step(self, entry: Entry) -> Step:
        step = self.steps.get((entry.host, entry.step))
        if step is None:
            step = self.steps[entry.host, entry.step] = Step(entry.host, entry.step)
        elif step.ended and entry.kind != "step.outcome":
            step.earlier.append((entry.at, step.outcome, step.why))
        return step

    def _on_step_started(self, entry: Entry, body: Mapping[str, Json]) -> None:
        step = self._step(entry)
        step.outcome, step.started, step.why = "running", entry.at, ""
        step.module, step.name = str(body.get("module") or step.module), str(body.get("name") or step.name)

    def _on_step_waiting(self, entry: Entry, body: Mapping[str, Json]) -> None:
        step = self._step(entry)
        step.outcome, step.why, step.started = "waiting", str(body.get("why", "")), step.started or entry.at

    def _on_step_intent(self, entry: Entry, body: Mapping[str, Json]) -> None:
        step = self._step(entry)
        step.outcome, step.open, step.intended, step.seq = "running", True, True, entry.seq
        # After a crash the first intent's change is the one that tells what was there before.
        step.change = step.change or body.get("change")
        step.attempts, step.module = int(body.get("attempt") or 1), str(body.get("module") or step.module)
        step.started = step.started if step.started is not None and not step.earlier else entry.at

    def _on_step_handle(self, entry: Entry, body: Mapping[str, Json]) -> None:
        self._step(entry).operation = str(body.get("handle"))

    def _on_step_outcome(self, entry: Entry, body: Mapping[str, Json]) -> None:
        step = self._step(entry)
        if step.ended and step.seq != entry.seq:
            step.earlier.append((entry.at, step.outcome, step.why))
        step.outcome, step.open, step.seq, step.undone = str(body.get("outcome", "")), False, entry.seq, ""
        step.operation = step.operation if step.outcome == "uncertain" else ""
        step.reading, step.change = body.get("reading") or {}, body.get("change") or step.change
        step.seconds = float(body.get("seconds") or 0.0)
        step.started = body["started"] if body.get("started") is not None else entry.at - step.seconds
        step.attempts = int(body.get("attempts") or 0)
        step.why, step.hint = str(body.get("why") or ""), str(body.get("hint") or "")
        step.at, step.name = str(body.get("at") or step.at), str(body.get("name") or step.name)
        step.module = str(body.get("module") or step.module)
        if step.reading.get("_query") and isinstance(step.reading.get("_series"), list):
            curve.add(self.series, step.host, step.key, step.reading)

    def _on_key_asked(self, entry: Entry, body: Mapping[str, Json]) -> None:
        if (body.get("facts") or {}).get("act"):
            self.undo_asked, self.undo_keys, self.undo_settled = body, [], False
            return
        self.undo_asked = {}
        if self.asked and self.asked.get("nonce") != body.get("nonce"):
            for key in self.keys:
                key.refused = key.refused or "given for an earlier question"
        self.asked, self.asked_at, self.decision = body, entry.at, {}

    def _on_key_given(self, entry: Entry, body: Mapping[str, Json]) -> None:
        said = body.get("statement") or {}
        person, role, fingerprint = (str(body.get(name, "")) for name in ("person", "role", "fingerprint"))
        key = Key(entry.at, entry.seq, person, role, fingerprint, said)
        keys = self.undo_keys if self.undo_asked else self.keys
        if any(other.person == key.person for other in keys if not other.refused):
            key.refused = "this person has already given a key"
        if said.get("decision") == "reject":
            key.refused = "it says no"
        keys.append(key)

    def _on_key_refused(self, entry: Entry, body: Mapping[str, Json]) -> None:
        refused = str(body.get("why") or "not counted")
        keys = self.undo_keys if self.undo_asked else self.keys
        keys.append(Key(entry.at, entry.seq, str(body.get("person", "")), refused=refused))

    def _on_authority_settled(self, entry: Entry, body: Mapping[str, Json]) -> None:
        if body.get("of") == "undo":
            self.undo_settled = True
            return
        self.decision, self.decided_at, self.glass = body, entry.at, body.get("glass") or {}
        if body.get("decision") == "approved":
            for key in self.counted():
                # The engine has checked every signature; what it did not count is not shown as counted.
                key.refused = (
                    "" if key.person in (body.get("people") or ()) else "it was not counted when the question was settled"
                )

    def _on_cancel_asked(self, _: Entry, body: Mapping[str, Json]) -> None:
        self.cancel, self.cancel_undo = str(body.get("by") or "somebody"), bool(body.get("undo"))

    def _on_lock_broken(self, _: Entry, body: Mapping[str, Json]) -> None:
        self.broken = f"{body.get('by') or 'somebody'}: {body.get('why') or ''}"

    def _on_message_queued(self, entry: Entry, body: Mapping[str, Json]) -> None:
        key = str(body.get("key", entry.seq))
        self.messages.setdefault(
            key, Message(key, str(body.get("step") or entry.step), str(body.get("event", "")), entry.at)
        )

    def _on_message_sent(self, entry: Entry, body: Mapping[str, Json]) -> None:
        if message := self.messages.get(str(body.get("key"))):
            message.sent, message.skipped = entry.at, bool(body.get("skipped"))

    def _on_message_failed(self, entry: Entry, body: Mapping[str, Json]) -> None:
        if message := self.messages.get(str(body.get("key"))):
            message.failures.append((entry.at, str(body.get("why", ""))))

    def _on_undo_started(self, entry: Entry, body: Mapping[str, Json]) -> None:
        self.undo_by, self.undo_outcome = str(body.get("by") or "the playbook"), "running"
        self.undo_from = self.undo_from or entry.at

    def _on_undo_outcome(self, entry: Entry, body: Mapping[str, Json]) -> None:
        word, why = str(body.get("outcome", "")), str(body.get("why") or "")
        done = Step(entry.host, entry.step, word, module=str(body.get("module") or ""), why=why, seq=entry.seq)
        done.change, done.started = body.get("change"), entry.at
        self.undo_steps.append(done)
        self.undo_from, self.undo_to = self.undo_from or entry.at, entry.at
        if step := self.steps.get((entry.host, entry.step)):
            step.undone = word

    def _on_undo_ended(self, _: Entry, body: Mapping[str, Json]) -> None:
        self.undo_outcome = str(body.get("outcome", ""))

    def rows(self) -> list[Planned]:
        """Every step once, in the plan's order; items of a loop stand where their step stands."""
        seen: dict[str, list[str]] = {}
        for _, key in self.steps:
            keys = seen.setdefault(key.partition("[")[0], [])
            if key not in keys:
                keys.append(key)
        rows = []
        for base in [*self.planned, *(key for key in seen if key not in self.planned)]:
            section, _, ident = base.partition("/")
            plan = self.planned.get(base) or Planned(base, section, ident)
            rows += [
                Planned(key, section, key.partition("/")[2], plan.name, plan.module, plan.undo)
                for key in seen.get(base, [base])
            ]
        return rows

    def of(self, key: str) -> list[Step]:
        """What became of one step on every host that has come to it."""
        return [step for (_, name), step in self.steps.items() if name == key]

    def by_step(self) -> dict[str, list[Step]]:
        """The same for all steps at once."""
        grouped: dict[str, list[Step]] = {}
        for (_, key), step in self.steps.items():
            grouped.setdefault(key, []).append(step)
        return grouped

    def counts(self, host: str | None = None) -> Counter[str]:
        """How many steps ended in which way, on one host or on all. Evidence counts as `kept`: it changed nothing."""
        ended = (step for step in self.steps.values() if step.ended and host in (None, step.host))
        return Counter("kept" if step.section == "forensics" and step.word == "changed" else step.word for step in ended)

    def troubles(self) -> list[Step]:
        """Steps that went wrong, the first one first."""
        return sorted((step for step in self.steps.values() if step.bad), key=lambda step: step.seq)

    def culprit(self) -> Step | None:
        """The step to name when the run did not end well."""
        troubles = self.troubles()
        if self.outcome == "held":
            troubles = [step for step in troubles if step.section == "verification"] or troubles
        named = [step for step in troubles if step.key in self.why]
        return next(iter(named or troubles), None)

    def changed(self, section: str = "execution") -> list[Step]:
        """Steps of a section that have changed something that still stands, in order."""
        made = (step for step in self.steps.values() if step.section == section and step.made and step.word != "undone")
        return sorted(made, key=lambda step: step.seq)

    def counted(self) -> list[Key]:
        """The keys that count."""
        return [key for key in self.keys if not key.refused]

    @property
    def needed(self) -> int:
        """How many keys the open question asks for."""
        return int(self.asked.get("keys") or 0)

    @property
    def fingerprint(self) -> str:
        """The plan's digest, short enough to read aloud."""
        return words.short(self.digest)

    @property
    def seconds(self) -> float:
        """From the first entry to the end, or to the latest entry."""
        return (self.ended if self.ended is not None else self.last) - (self.started or 0.0)

    @property
    def interrupted(self) -> bool:
        """Whether the last thing the run said of itself is that it stops."""
        return self.ended is None and bool(self.pauses) and self.pauses[-1][1] == "interrupted"

    def hosts_in(self, word: str) -> list[str]:
        """Hosts on which some step ended so, in the inventory's order."""
        found = {step.host for step in self.steps.values() if step.word == word and (step.bad or word not in BAD)}
        return [host for host in self.hosts if host in found]


def tell(entries: Iterable[Entry]) -> Story:
    """The whole story of one run."""
    story = Story()
    for entry in entries:
        story.add(entry)
    return story
