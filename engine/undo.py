"""Undo: walk back what a run changed on a host, last change first, each time looking before putting anything back.

In: the journal's intents. Out: `undo.intent` and `undo.outcome` entries. It goes by what was *intended*, because after a
crash the outcome may say that nothing was left to do: what was there before the first intent of a step comes back. It
stops where the world shows what neither was there before nor was put there by this run: somebody else was there since.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from engine import effect, step, template
from engine.calling import StillOut
from engine.check import HostRow
from engine.journal import Entry
from engine.operation import Going, Operation, fresh
from engine.site import Site
from modules.contract import Change, Context, Json, ModuleError, Over, State, Stopped, compared

#: Outcomes after which a change needs no more undoing.
DONE = ("undone", "unchanged", "none")
#: Outcomes that no reading has shown.
UNSEEN = ("uncertain", "waived")


@dataclass(frozen=True)
class Left:
    """A change that the run made or began on a host, over all its tries: `seq` and `last` are the first intent's number and
    the last one's; `open`: it was not seen how the last one ended. `change` None: only its digest was kept. `begun` and
    `undoing`: the key of the last intent and of the last try to undo it, with the `handle` of an operation."""

    host: str
    step: str
    module: str
    change: Change | None
    seq: int
    last: int
    open: bool = True
    begun: Mapping[str, Json] = field(default_factory=dict)
    undoing: Mapping[str, Json] = field(default_factory=dict)


def host(site: Site, row: HostRow, halt: threading.Event | None = None) -> str:
    """Undoes the run's changes on one host. Returns undone, nothing, drifted, failed or stopped (`halt` was set); repeating
    it does no harm."""
    entries = site.journal.entries(site.run)
    told = _told(site, row.name, entries)
    halt, result = halt or threading.Event(), "nothing"
    for left in pending(entry for entry in entries if entry.host == row.name):
        if halt.is_set():
            return "stopped"
        outcome = _one(site, row, left, registered(entry for entry in told if entry.seq < left.last), halt)
        if outcome in ("drifted", "failed", "stopped"):
            return outcome
        result = "undone" if outcome in ("undone", "unchanged") else result
    return result


def _told(site: Site, name: str, entries: Iterable[Entry]) -> list[Entry]:
    """The entries of this host, and of the steps that one host of its batch has done for all (`run_once`)."""
    batch = next((batch for batch in site.plan.batches if name in batch), (name,))
    once = {one.id for one in site.plan.playbook.steps if one.run_once}
    return [entry for entry in entries if entry.host == name or (entry.step in once and entry.host in batch)]


def registered(entries: Iterable[Entry]) -> dict[str, Json]:
    """What the run's steps had registered by then, in the entries of one host and of those that did something for it."""
    found: dict[str, Json] = {}
    for entry in entries:
        if entry.kind == "step.outcome" and entry.body.get("register") and "[" not in entry.step:
            found[entry.body["register"]] = step.restored(entry.body).registered
    return found


def pending(entries: Iterable[Entry]) -> list[Left]:
    """Every change of one host that is not yet undone, newest first. Evidence is not unmade."""
    found: dict[str, Left] = {}
    blind: set[str] = set()
    for entry in entries:
        if entry.kind == "step.intent" and not entry.step.startswith("forensics/"):
            blind |= {entry.step} if entry.body.get("crash") == "D" else set()
            change, earlier = effect.intended(entry.body), found.get(entry.step)
            if earlier is not None:
                joined = _joined(earlier.change, change)
                found[entry.step] = replace(earlier, change=joined, last=entry.seq, open=True, begun=entry.body)
            else:
                made = Left(entry.host, entry.step, entry.body["module"], change, entry.seq, entry.seq, begun=entry.body)
                found[entry.step] = made
        elif entry.kind == "note" and entry.body.get("decision") == "again" and entry.step in blind:
            found.pop(entry.step, None)  # a person says that it was not done, and no reading could say more
        elif entry.kind == "step.outcome" and entry.step in found:
            found[entry.step] = replace(found[entry.step], open=entry.body["outcome"] in UNSEEN)
        elif entry.kind == "step.handle" and entry.step in found:
            found[entry.step] = replace(found[entry.step], begun=entry.body)
        elif entry.kind in ("undo.intent", "undo.handle") and entry.step in found:
            found[entry.step] = replace(found[entry.step], undoing=entry.body)
        elif entry.kind == "undo.outcome" and entry.body["outcome"] in DONE:
            found.pop(entry.step, None)
        elif entry.kind == "undo.outcome" and entry.step in found and not entry.body.get("going"):
            found[entry.step] = replace(found[entry.step], undoing={**found[entry.step].undoing, "over": True})
    return sorted(found.values(), key=lambda left: -left.seq)


def _joined(first: Change | None, later: Change | None) -> Change | None:
    """Two intents of one step as one: from what was there before the first to what the later one left."""
    if first is None or later is None:
        return None
    before = None if first.before is None else {**(later.before or {}), **first.before}
    after = None if later.after is None else {**(first.after or {}), **later.after}
    return Change(before, after)


def _one(site: Site, row: HostRow, left: Left, registers: Mapping[str, Json], halt: threading.Event) -> str:
    bare, _, index = left.step.partition("[")
    one = site.plan.nodes[bare].step
    if one is None:
        raise AssertionError(bare)
    entry = site.catalog.get(one.module)
    unclear = bool(left.undoing) and not left.undoing.get("over")  # whether an undo has begun of which nobody knows the end
    try:
        names = site.names(one, row, registers, {})
        if index:
            items = one.loop if isinstance(one.loop, list) else template.render(one.loop, names)
            raw = items[int(index[:-1])]
            names = site.names(one, row, registers, {"item": template.render(raw, names) if items is one.loop else raw})
        params = site.params(one, names)
        if not entry.can_undo(params):
            return _say(site, left, "none", "this step has no undo")
        if left.open and entry.crash_class(params) == "D" and "handle" not in left.begun:
            return _say(site, left, "none", "nothing shows whether it was done: look at the host, and put it back by hand")
        if left.change is None:
            why = "what was there before was not recorded (`no_log`, or a secret), so it cannot be put back"
            raise ModuleError(why, "put it back by hand")
        ctx = site.context(one, row, left.step, names, time.monotonic() + one.timeout, 1)
        ctx, change = replace(ctx, stop=halt), left.change
        operation = Operation(site, entry, params, (left.host, left.step), "undo") if entry.has("start") else None
        # Without one: the key under which it was done. Of a later candidate it is another, and so is a receipt by that key.
        ctx = _halted(operation, left, ctx) if operation else replace(ctx, key=left.begun.get("key", ctx.key))
        unclear = unclear and ctx.key == left.undoing.get("key")  # under another key: what an earlier undo began is over
        now = site.caller.read(entry, params, ctx)
        if _shows(now, change.before):
            return _say(site, left, "unchanged", "it is already as it was before")
        if foreign := _foreign(now, change):
            return _say(site, left, "drifted", f"somebody has changed it since: {foreign}")
        if unclear and not (operation.repeatable if operation else entry.crash_class(params) != "D"):
            return _say(site, left, "none", "nothing shows whether it was put back: look at the host, and do it by hand")
        body = {"change": change.json(), "module": left.module, "key": ctx.key, "token": site.journal.token(site.run)}
        site.journal.append(site.run, "undo.intent", body, left.host, left.step)
        site.journal.live(site.run)
        out, unclear = "", True
        try:
            if operation is None:
                site.caller.call(ctx, entry.call, "undo", params, change, ctx)
            else:
                operation.begun("undo", change, ctx).waited(ctx)
                unclear = False
        except StillOut as error:
            out = f"{error.message}, and may still take effect; "
        except ModuleError as error:
            unclear = not error.nothing_done
            raise
        after = site.caller.read(entry, params, _patient(ctx))
    except Stopped:
        return "stopped"  # the next undo looks first
    except (template.Fault, ModuleError) as error:
        return _say(site, left, "failed", str(site.secrets.scrub(error.message)), going=unclear or isinstance(error, Going))
    if not _shows(after, change.before):
        why = f"{out}after the undo, the second reading does not show what was there before"
        return _say(site, left, "failed", why, going=unclear)
    return _say(site, left, "undone", "", Change(change.after, change.before))


def _halted(operation: Operation, left: Left, ctx: Context) -> Context:
    """Stops what the step has under way, and waits for what an earlier undo of it has: after that a reading tells. Returns
    the context with the key for undoing it, which is that of the earlier undo where nothing shows that it has begun. Raises
    Going when it does not come to its end."""
    last = left.undoing.get("key")
    if last is None:
        if left.open:
            before = replace(ctx, key=left.begun["key"])
            if forward := replace(operation, kind="step").taken_up(left.begun, before):
                with suppress(Over):
                    forward.given_up(before, Over("it is being undone"))
        return replace(ctx, key=fresh(f"{ctx.key}\nundo {left.seq}"))
    mine = replace(ctx, key=last)
    if left.undoing.get("over"):
        return replace(ctx, key=fresh(last))
    begun = operation.taken_up(left.undoing, mine)
    if begun is None:
        return mine
    with suppress(Over):
        begun.waited(mine)
    return replace(ctx, key=fresh(last))


def _patient(ctx: Context) -> Context:
    """With time for the second reading, where the undo has used its own up."""
    return replace(ctx, deadline=max(ctx.deadline, time.monotonic() + effect.GRACE))


def _foreign(now: State | None, change: Change) -> str:
    """What is there that this run cannot have left, in words: it did `change` wholly, or a part of it, as after a crash."""
    if _shows(now, change.after) or (now is None and change.before is None):
        return ""
    seen, before, after = compared(now) or {}, change.before or {}, change.after or {}
    if now is None or change.after is None:
        return "it is gone" if now is None else "it is there again"
    strange = [key for key in after if seen.get(key) not in (before.get(key), after[key])]
    says = (f"{key} is {effect.short(seen.get(key))}, not {effect.short(after[key])} as this run left it" for key in strange)
    return ", ".join(says)


def _shows(now: State | None, wanted: State | None) -> bool:
    """Whether the world shows `wanted`."""
    if now is None or wanted is None:
        return now is None and (wanted is None or all(value is None for value in wanted.values()))
    seen = compared(now) or {}
    return all(seen.get(key) == value for key, value in wanted.items())


def _say(site: Site, left: Left, outcome: str, why: str, change: Change | None = None, going: bool = False) -> str:
    body: dict[str, Json] = {
        "outcome": outcome,
        "why": why,
        "module": left.module,
        "change": change.json() if change else None,
    }
    body |= {"going": True} if going else {}
    site.journal.append(site.run, "undo.outcome", body, left.host, left.step)
    return outcome
