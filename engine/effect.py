"""The effect of a step: render, read, compare, journal the intent, apply, read again; what came of it.

In: a step on a host, what the journal says of an attempt that was cut short. Out: a `Settled`, not yet on record. No other
room does what a step asks for; check mode is this room not opening the door to `apply`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from engine import canon, template, words
from engine.calling import StillOut
from engine.check import HostRow
from engine.diagnostics import printable
from engine.operation import Going, Lost, Operation
from engine.playbook import SECTIONS, Step
from engine.site import Site
from modules.contract import Change, Context, Json, ModuleError, State, Stopped, compared, diff

GOOD = frozenset({"unchanged", "changed", "skipped", "waived"})
#: Seconds that the second reading may take when the step's own time is used up: without it nobody knows what was done.
GRACE = 15.0
CUT_OFF = "the run was cut off inside this step"


@dataclass(frozen=True)
class Settled:
    """How a step ended. `registered` is what later steps see; `change` is what was, or would be, changed."""

    outcome: str
    why: str = ""
    hint: str = ""
    reading: State | None = None
    change: Change | None = None
    registered: Json = None
    started: float = 0.0
    seconds: float = 0.0
    attempts: int = 1

    @property
    def good(self) -> bool:
        """Whether later steps may build on it."""
        return self.outcome in GOOD


@dataclass(frozen=True)
class Drifted(Exception):
    """What is about to be changed is not what was approved."""

    approved: Json
    found: Json


@dataclass(frozen=True)
class Doing:
    """One step on one host, or one item of its loop: what it is to be done with, and until when."""

    site: Site
    step: Step
    row: HostRow | None
    registers: Mapping[str, Json]
    generation: int
    deadline: float
    id: str
    more: Mapping[str, Json] = field(default_factory=dict)

    @property
    def place(self) -> tuple[str, str]:
        """Host and step, as the journal has them."""
        return self.row.name if self.row else "", self.id

    def names(self, registers: Mapping[str, Json] | None = None) -> Mapping[str, Json]:
        """What the step may mention, with other `registers` than its own if given."""
        return self.site.names(self.step, self.row, self.registers if registers is None else registers, self.more)


def settle(doing: Doing, attempt: int) -> Settled:
    """Render, read, compare; then the intent and the effect, if there is anything to change. Raises ModuleError."""
    site, step, place = doing.site, doing.step, doing.place
    entry, host, names = site.catalog.get(step.module), doing.place[0], doing.names()
    params = site.params(step, names)
    ctx = site.context(step, doing.row, doing.id, names, doing.deadline, doing.generation)
    before, wanted = site.caller.compare(entry, params, ctx)
    change = diff(before, wanted)
    operation = Operation(site, entry, params, place) if entry.has("start") else None
    intent = site.unsettled.get(place)
    if operation:
        ctx = replace(ctx, key=intent["key"] if intent else operation.anew(ctx.key))
    if intent is not None and entry.acts:
        mine = operation.taken_up(intent, ctx) if operation else None
        del site.unsettled[place]
        if mine:
            return _concluded(doing, entry, params, intended(intent) or change, before, ctx, partial(mine.waited, ctx))
        verdict = _after_crash(doing, entry, params, change, intent, before, operation)
        if verdict is not None:
            return verdict
    if not change:
        if place in site.tried:
            return _result("changed", before, site.tried[place], "found done: an earlier try of this run changed it")
        why = "a check that holds" if not entry.acts else ""
        return _result("unchanged", before, why=str((before or {}).get("_why", "")) or why if before else why)
    if not entry.acts:
        return _not_met(step, before, change)
    if why := _barred(doing, params, wanted, ctx):
        return _result("failed", before, None, why, "name another version; engine ledger says what is on record of this one")
    approved = site.approved.get(place)
    if approved is not None:
        _compare_with_approved(site, step, approved, change, wanted, host in site.touched)
    if site.check:
        return replace(
            _result("skipped", before, change, f"check mode, would change {says(change)}"),
            registered=register(before, True, "skipped"),
        )
    site.journal.append(
        site.run, "step.intent",
        {
            "change": _undoable(site, step, change), "params": kept(step, site.secrets.scrub(params)),
            "attempt": attempt, "key": ctx.key, "module": step.module, "crash": entry.crash_class(params),
            "token": site.journal.token(site.run),
        },
        *place,
    )  # fmt: skip
    site.touched.add(host)
    site.tried[place] = change
    site.journal.live(site.run)  # the last look before the effect: this process may have slept since the intent
    return _applied(doing, entry, params, change, before, ctx)


def _barred(doing: Doing, params: dict[str, Json], wanted: State | None, ctx: Context) -> str:
    """Why the wanted version may not be put there, by the ledger; empty: it may, or nothing speaks of versions here. One
    that a playbook names is held to it like one that was chosen."""
    version, past, module = (wanted or {}).get("version"), doing.site.ledger, doing.step.module
    if version is None or not doing.site.catalog.get(module).has("history") or not past().marks:
        return ""
    chosen = [one for one in doing.registers.values() if isinstance(one, dict) and {"candidates", "digest"} <= one.keys()]
    found = [one for one in chosen if one["version"] == version]  # by `last_good`: its files need not be read again
    if found:
        known = [past().about(doing.place[0], version, found[0]["digest"])]
    else:
        known = [one for one in ctx.history(module, params) if one["version"] == version]
    why = next((str(one["excluded"]) for one in known if one.get("excluded")), "")
    return f"{printable(str(version))} may not be put there: {why}" if why else ""


def _after_crash(
    doing: Doing,
    entry: Any,
    params: dict[str, Json],
    change: Change,
    intent: dict[str, Json],
    before: State | None,
    operation: Operation | None,
) -> Settled | None:
    """An intent without outcome is looked at before anything is done: done, not done or half done by us (then None), or
    nobody can tell."""
    meant = intended(intent)
    if not change:
        return replace(
            _result("changed", before, meant, "found done: the run was cut off after the change"),
            registered=register(before, True, "changed"),
        )
    if entry.crash_class(params) == "D" or (operation and not operation.repeatable):
        why = f"{CUT_OFF}, and it cannot be read whether it was done"
        return _result("uncertain", before, meant, why, _look(doing))
    if meant is not None and not all(one in list(meant) for one in change):  # a part may be done
        why = f"{CUT_OFF}; now it would change {says(change)}, then it was {says(meant)}"
        return _result("uncertain", before, meant, why, f"find out who changed it; {_look(doing)}")
    return None


def _look(doing: Doing) -> str:
    """What a person is asked to do about a step of which nobody can tell whether it was done."""
    command = words.resolving(doing.site.run, *doing.place)
    return f"look at the host, then say what you found: `{command}` (--as done or --as not-done, and --because)"


def _applied(
    doing: Doing, entry: Any, params: dict[str, Json], change: Change, before: State | None, ctx: Context
) -> Settled:
    """The effect: the one place where a step enters its module to change something."""

    def work() -> None:
        if entry.has("apply"):
            doing.site.caller.call(ctx, entry.module.apply, params, change, ctx)
            return
        Operation(doing.site, entry, params, doing.place).begun("start", change, ctx).waited(ctx)

    return _concluded(doing, entry, params, change, before, ctx, work)


def _concluded(
    doing: Doing,
    entry: Any,
    params: dict[str, Json],
    change: Change,
    before: State | None,
    ctx: Context,
    work: Callable[[], None],
) -> Settled:
    """Does the work, and has the second reading say whether it worked."""
    problem: ModuleError | None = None
    calls = doing.site.caller
    try:
        work()
    except ModuleError as error:
        problem = error
    if isinstance(problem, Going):
        return _result("uncertain", before, change, problem.message, problem.hint)
    if isinstance(problem, Stopped) and entry.has("start"):
        raise problem  # it goes on at the platform, so what a reading shows would not last
    patient = replace(ctx, deadline=max(ctx.deadline, time.monotonic() + GRACE), stop=threading.Event())
    try:
        after, wanted = calls.compare(entry, params, patient)
    except ModuleError as error:
        said = f"{problem.message}; " if problem else ""
        return _result(
            "uncertain",
            before,
            change,
            f"{said}then it could not be read what was done: {error.message}",
            "engine resume looks again",
        )
    left = diff(after, wanted)
    if not left:
        late = f"the reply was lost ({problem.message}), and the second reading shows it done" if problem else ""
        return _result("changed", after, change, late)
    if isinstance(problem, StillOut):
        why = f"{problem.message}, and may still take effect; {says(left)} is not done so far"
        return _result("uncertain", after, change, why, f"{problem.hint}; engine resume looks again")
    if isinstance(problem, Stopped):
        raise problem  # not done, or not wholly: whoever takes the run up looks first, and goes on
    blind = isinstance(problem, Lost) or (entry.crash_class(params) == "D" and entry.has("apply"))
    if blind and not (problem and problem.nothing_done):
        why = f"{problem.message if problem else 'it was asked for'}, and it cannot be read whether it was done"
        hint = problem.hint if isinstance(problem, Lost) else ""
        return _result("uncertain", after, change, why, hint or _look(doing))
    if problem is None:
        why = f"the module reported no error, yet the second reading says {says(left)} is still to do"
        return _result("failed", after, change, why, "the host accepted the request and did not do it: look at the host")
    nothing = "nothing was changed" if problem.nothing_done else "nothing was changed so far"
    done = nothing if compared(after) == compared(before) else "part of it was changed"
    return _result(
        problem.outcome,
        after,
        change,
        f"{problem.message}; {done}",
        problem.hint,
    )


def _compare_with_approved(
    site: Site, step: Step, approved: Mapping[str, Json], change: Change, wanted: State | None, touched: bool
) -> None:
    """The wanted state must be the approved one; the state before too, until this run has changed something on the host."""
    now = approvable(site, step, change)
    moved = approved["grade"] == "exact" and not touched and now != approved["change"]
    if moved or approved.get("wanted") not in (None, fingerprint(site, wanted)):
        raise Drifted(approved["change"], now)


def approvable(site: Site, step: Step, change: Change) -> list[Json]:
    """A change as people approve it and as it is compared later: rows of key, before, after, with nothing secret in them."""
    said: list[Json] = site.secrets.scrub([[key, before, after] for key, before, after in change])
    return [["_digest", None, canon.digest(said)]] if said and step.no_log else said


def fingerprint(site: Site, wanted: State | None) -> str:
    """The wanted state as it is approved: its digest."""
    return canon.digest(site.secrets.scrub(compared(wanted)))


def _not_met(step: Step, before: State | None, change: Change) -> Settled:
    why = str((before or {}).get("_why", "")) or says(change)
    if SECTIONS[step.section].remains == "noted":
        return replace(_result("unchanged", before, why=f"does not hold: {why}"))
    return _result("failed", before, why=why, hint="engine report shows the measurement")


def _result(outcome: str, reading: State | None, change: Change | None = None, why: str = "", hint: str = "") -> Settled:
    return Settled(outcome, why, hint, reading, change, register(reading, outcome == "changed", outcome))


def register(reading: State | None, changed: bool, outcome: str) -> dict[str, Json]:
    """What `register` publishes: the last reading, facts without their underscore, and how it ended."""
    return {**{key.lstrip("_"): value for key, value in (reading or {}).items()}, "changed": changed, "outcome": outcome}


def says(change: Change) -> str:
    """A change in words: `version 2 -> 1`."""
    if change.after is None:
        return "that it is there"
    return ", ".join(f"{key} {short(before)} -> {short(after)}" for key, before, after in change)


def intended(intent: Mapping[str, Json]) -> Change | None:
    """The change that an intent's entry tells of; None where only its digest was kept."""
    change = intent["change"]
    return Change.of(change) if "before" in change else None


def short(value: Json) -> str:
    """A value in a sentence."""
    return "absent" if value is None else printable(template.shown(value), 60)


def kept(step: Step, value: Json) -> Json:
    """What is recorded of parameters and results: with `no_log` the digest alone."""
    return {"_digest": canon.digest(value)} if step.no_log else value


def told(site: Site, step: Step, why: str) -> str:
    """A reason as it may be shown and recorded: a module's words may repeat what `no_log` hides."""
    return "(not recorded: the step has `no_log`)" if step.no_log and why else str(site.secrets.scrub(why))


def _undoable(site: Site, step: Step, change: Change) -> Json:
    """A change as an intent keeps it. With a secret in it only the digest: an undo must not put `***` back."""
    said = change.json()
    clean = site.secrets.scrub(said)
    return kept(step, said) if json.dumps(clean) == json.dumps(said) else {"_digest": canon.digest(clean)}


def failed(error: ModuleError) -> Settled:
    """What an error makes of a step that has changed nothing."""
    registered = {"changed": False, "outcome": error.outcome, "why": error.message}
    return Settled(error.outcome, error.message, error.hint, registered=registered)
