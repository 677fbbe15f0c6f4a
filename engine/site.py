"""What the steps of one run share: the plan, the names that a step may mention, its parameters, and what a module is handed.

In: a step and a host. Out: rendered, checked parameters and a `Context`. It performs nothing.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine import calling, canon, check, source, template
from engine import policy as policies
from engine.check import HostRow
from engine.diagnostics import EngineError, printable
from engine.journal import Journal, ending
from engine.ledger import Ledger
from engine.plan import Plan
from engine.playbook import BOX, Step
from engine.policy import Policy
from engine.secrets import Secrets
from engine.sshsig import Signer
from modules.contract import Change, Completed, Context, Json, ModuleError, Reply, Wire


@dataclass
class Site:
    """What the steps of one run share.

    `unsettled` maps (host, step) to the intent that has no outcome, with its operation's `handle`; `tried` to the change
    that this run has begun and not yet seen done (None: it was not recorded); `spent` to the key of its last operation
    that is over; `approved` to the preview that keys were given for; `ends`: the run stops for good, and leaves nothing
    going on; `excluded` lists, for each host, versions that failed in this run; `placed` the version that an earlier run
    of this playbook went back to, and that run; `alarmed` the hosts whose trigger holds; `ledger` reads what is on record
    of versions, as it is now; `deadline` when the run ends (UTC, seconds since 1970); `policy` reads who
    may say yes and when nothing may change, as it is now; `signer` is the key that seals evidence, `anchors` are
    the places outside that its heads are taken to.
    """

    plan: Plan
    catalog: Any
    journal: Journal
    run: str
    wire: Wire
    base: Path
    requester: str = ""
    check: bool = False
    now: Callable[[], float] = time.time
    stop: threading.Event = field(default_factory=threading.Event)
    unsettled: dict[tuple[str, str], dict[str, Json]] = field(default_factory=dict)
    spent: dict[tuple[str, str], str] = field(default_factory=dict)
    ends: bool = False
    tried: dict[tuple[str, str], Change | None] = field(default_factory=dict)
    approved: dict[tuple[str, str], dict[str, Json]] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    excluded: dict[str, dict[str, str]] = field(default_factory=dict)
    placed: dict[str, tuple[str, str]] = field(default_factory=dict)
    alarmed: set[str] = field(default_factory=set)
    ledger: Callable[[], Ledger] = field(default=lambda: Ledger({}))
    started: float = 0.0
    deadline: float = math.inf
    policy: Callable[[], Policy] | None = None
    trigger: Json = None
    signer: Signer | None = None
    anchors: tuple[str, ...] = ()
    shapes: dict[tuple[str, str], source.Shape] = field(default_factory=dict)
    _mentions: dict[str, frozenset[str]] = field(default_factory=dict)
    _folders: dict[tuple[str, str], Path] = field(default_factory=dict)
    _boxes: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.secrets = Secrets(self.base)
        self.wire = _Leased(self.wire, lambda: self.journal.live(self.run))
        self.caller = calling.Caller(self.stop)

    def fixed(self, row: HostRow | None, registers: Mapping[str, Json]) -> dict[str, Json]:
        """The names that are no variables: built-in ones, what is registered, -e."""
        plan = self.plan
        names: dict[str, Json] = {
            "secret": self.secrets,
            "groups": plan.groups,
            "run": {
                "id": self.run,
                "started": self.started,
                "requester": self.requester,
                "name": plan.playbook.name,
                "digest": plan.digest,
            },
            "trigger": self.trigger,
            **plan.options.extra,
            **registers,
        }
        if row is not None:
            names |= {"inventory_hostname": row.name, "group_names": list(row.groups)}
        if plan.groups:
            names["hostvars"] = {other.name: dict(other.vars) for other in plan.hosts}
        return names

    def names(
        self, step: Step, row: HostRow | None, registers: Mapping[str, Json], more: Mapping[str, Json]
    ) -> Mapping[str, Json]:
        """Everything that the step may mention on this host. Raises template.Fault."""
        fixed = self.fixed(row, registers)
        fixed.update(more)
        raw = {**(row.vars if row else {}), **self.plan.playbook.vars, **step.vars}
        for name in self.plan.options.extra:
            raw.pop(name, None)
        if "to" in self.plan.options.extra:
            raw.pop("to", None)
        return template.resolve(raw, self.wanted(step), fixed, row.outside if row else frozenset())

    def wanted(self, step: Step) -> frozenset[str]:
        """The names that the step needs, those of its bare expressions included."""
        found = self._mentions.get(step.id)
        if found is None:
            found = self._mentions[step.id] = step.mentions | self._expression_names(step)
        return found

    def _expression_names(self, step: Step) -> frozenset[str]:
        entry = self.catalog.get(step.module)
        properties = entry.schema.get("properties", {})
        found: set[str] = set()
        for name, value in (step.params if isinstance(step.params, dict) else {}).items():
            if properties.get(name, {}).get("format") == "expression" and isinstance(value, str):
                found |= template.expression(value).names
        return frozenset(found)

    def params(self, step: Step, names: Mapping[str, Json]) -> dict[str, Json]:
        """The step's parameters, rendered now and checked again. Raises template.Fault or ModuleError with the place."""
        entry = self.catalog.get(step.module)
        properties = entry.schema.get("properties", {})
        found: dict[str, Json] = {}
        for name, value in step.params.items():
            if properties.get(name, {}).get("format") == "expression":
                found[name] = value
                continue
            try:
                found[name] = made = template.render(value, names)
            except template.Fault as fault:
                raise Misplaced(fault, step, name) from None
            if made != value:
                self._checked(step, name, made)
        if step.module == "last_good":
            asked = self.plan.options.extra.get("to")
            if asked is not None:
                found.setdefault("to", asked)
        return found

    def _checked(self, step: Step, name: str, value: Json) -> None:
        """A rendered parameter against its own schema: what was a text while it was checked may be anything now."""
        schema = self.catalog.get(step.module).schema.get("properties", {}).get(name, True)
        shape = self.shapes.get((step.module, name))
        if shape is None:
            shape = self.shapes[step.module, name] = source.Shape(schema)
        problems = shape.problems(self.secrets.scrub(value), rendered=True)
        wrong = check.misformed(schema.get("format"), value) if isinstance(schema, dict) and isinstance(value, str) else None
        if problems or wrong:
            said = wrong[1] if wrong else printable(problems[0].message, 160)
            raise ModuleError(f"{step.place(step.module, name)}: `{name}` after rendering: {said}", "correct the value")

    def until(self, step: Step, host: str, clock: float) -> float:
        """When the time of a step is up that begins at `clock`, as `time.monotonic` counts. Captures without a timeout of
        their own share one box on a host."""
        if step.section != "forensics" or step.timeout != BOX:
            return clock + step.timeout
        return self._boxes.setdefault(host, clock + BOX)

    def context(
        self, step: Step, row: HostRow | None, item_id: str, names: Mapping[str, Json], deadline: float, generation: int
    ) -> Context:
        """What the module is handed. `deadline`: as `time.monotonic` counts; `generation`: which candidate this is."""
        host = row.name if row else ""
        key = canon.text_digest(f"{self.run}\n{host}\n{item_id}\n{generation}".encode())[7:39]

        def test(text: str, more: Mapping[str, Json]) -> bool:
            try:
                return template.decide(text, {**names, **more})
            except template.Fault as fault:
                raise ModuleError(f"{step.place()}: {fault.message}", fault.hint) from None

        def history(module: str, params: Mapping[str, Json]) -> list[dict[str, Json]]:
            entry = self.catalog.get(module)
            if entry is None or not entry.has("history"):
                raise ModuleError(
                    f"`{module}` is no module that keeps a history", "registries do, for example directory.current"
                )
            ctx = self.context(step, row, item_id, names, deadline, generation)
            found: list[dict[str, Json]] = entry.call("history", params, ctx)
            return [self._remembered(host, one) for one in found]

        evidence = self._evidence(host)
        return Context(
            host=host, run=self.run, step=item_id, key=key, base=self.base, evidence=evidence,
            wire=self.wire, deadline=deadline, now=self.now, test=test, history=history, destinations=self._destinations(),
            stop=self.stop_of(step), recipients=self._recipients,
        )  # fmt: skip

    def _recipients(self, names: Sequence[str]) -> list[str]:
        """SSH keys of these people and roles that a file can be encrypted for, as of now. Raises ModuleError for one without
        any, and where the roster cannot be read."""
        try:
            known = self.policy() if self.policy else policies.stored(self.plan.roster)
        except EngineError as error:
            one = error.diagnostics[0]
            raise ModuleError(f"nothing can be encrypted: {one.summary}", one.hint) from None
        people, now = known.roster.people, self.now()
        found: list[str] = []
        for name in names:
            lines = {
                key.public.line
                for one in people
                if name in (one.name, *one.roles)
                for key in one.keys
                if key.public.kind == "ssh-ed25519" and key.since <= now < key.until
            }
            if not lines:
                said = f"nothing can be encrypted for {printable(name, 60)}: no ssh-ed25519 key of theirs counts now"
                raise ModuleError(said, "list one in the roster; other kinds can only sign")
            found += sorted(lines)
        return found

    def _remembered(self, host: str, candidate: dict[str, Json]) -> dict[str, Json]:
        """A registry's candidate with what only the engine knows: it failed in this run, an earlier run went back to it."""
        said = self.ledger().about(host, candidate["version"], candidate.get("digest"))
        if why := self.excluded.get(host, {}).get(candidate["version"]):
            said["excluded"] = why
        version, run = self.placed.get(host, ("", ""))
        if candidate["version"] == version and host not in self.alarmed:
            said["placed"] = run
        return {**candidate, **said}

    def _evidence(self, host: str) -> Path:
        """The host's evidence folder of this run, made when it is first asked for. A preview comes before the run's name."""
        if (self.run, host) not in self._folders:
            folder = self.journal.files(self.run) / "evidence" / (host or "_run")
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._folders[self.run, host] = folder
        return self._folders[self.run, host]

    def stop_of(self, step: Step) -> threading.Event:
        """What ends a wait inside the step early: the stop of the run, but for clean-up, which runs because of it."""
        return threading.Event() if any(arm == "always" for _, arm in step.arms) else self.stop

    def _destinations(self) -> Mapping[str, Json]:
        if not self.plan.destinations:
            return {}
        return {name: template.render(value, {"secret": self.secrets}) for name, value in self.plan.destinations.items()}


@dataclass(frozen=True)
class _Leased:
    """A wire that nothing leaves by once the lease on the run is gone: not in the middle of a step either."""

    wire: Wire
    live: Callable[[], None]

    def http(self, method: str, url: str, **options: Any) -> Reply:
        self.live()
        return self.wire.http(method, url, **options)

    def command(self, argv: Sequence[object], **options: Any) -> Completed:
        self.live()
        return self.wire.command(argv, **options)

    def connect(self, host: str, port: int, *, timeout: float = 5.0) -> None:
        self.live()
        self.wire.connect(host, port, timeout=timeout)


class Misplaced(ModuleError):
    """A template's fault at run time, with its place."""

    def __init__(self, fault: template.Fault, step: Step, *below: str) -> None:
        place = step.place(*((step.module, *below) if below else ()))
        super().__init__(f"{place}: {fault.message}", fault.hint)


def placed(journal: Journal, playbook: str, run: str = "") -> dict[str, tuple[str, str]]:
    """host -> (version, run): what the newest finished run of the playbook chose to go back to, `run` itself left out."""
    found: dict[str, tuple[str, str]] = {}
    settled: set[str] = set()
    for first, _ in reversed(journal.runs()):
        if first.run == run or first.body["name"] != playbook or first.body["check"]:
            continue
        if set(first.body["hosts"]) <= settled:
            continue
        entries = journal.entries(first.run)
        last = ending(entries)
        if last is None or last.body["outcome"] not in ("succeeded", "recovered", "undone"):
            continue
        for entry in entries:
            if entry.host not in settled and entry.kind == "step.outcome" and entry.body["module"] == "last_good":
                version = (entry.body["reading"] or {}).get("version")
                if version and last.body["outcome"] != "undone":
                    found[entry.host] = (version, first.run)
        settled |= set(first.body["hosts"])
    return found
