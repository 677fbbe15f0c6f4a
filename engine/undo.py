"""Undo: walk back what a run changed on a host, last change first, each time looking before putting anything back.

In: the journal's intents. Out: `undo.intent` and `undo.outcome` entries. It puts back what the *first* intent of a step
recorded, because after a crash the outcome may say that nothing was left to do; and it stops where the world no longer
shows what this run left there, because then somebody else has changed it since.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from engine import step, template
from engine.check import HostRow
from engine.journal import Entry
from engine.site import Site
from engine.step import guarded
from modules.contract import Change, Json, ModuleError, State, compared, diff


def host(site: Site, row: HostRow) -> str:
    """Undoes the run's changes on one host. Returns undone, nothing, drifted or failed; repeating it does no harm."""
    entries = [entry for entry in site.journal.entries(site.run) if entry.host == row.name]
    result = "nothing"
    registers = registered(entries)
    for intent in pending(entries):
        outcome = _one(site, row, intent, registers)
        if outcome in ("drifted", "failed"):
            return outcome
        result = "undone" if outcome in ("undone", "unchanged") else result
    return result


def registered(entries: list[Entry]) -> dict[str, Json]:
    """What the run's steps had registered on this host."""
    found: dict[str, Json] = {}
    for entry in entries:
        if entry.kind == "step.outcome" and entry.body.get("register") and "[" not in entry.step:
            found[entry.body["register"]] = step.restored(entry.body).registered
    return found


def pending(entries: list[Entry]) -> list[Entry]:
    """The first intent of every change that is not yet undone, newest first."""
    first: dict[str, Entry] = {}
    for entry in entries:
        if entry.kind == "step.intent" and not entry.step.startswith("forensics/"):  # evidence is not unmade
            first.setdefault(entry.step, entry)
        elif entry.kind == "undo.outcome" and entry.body["outcome"] in ("undone", "unchanged", "none"):
            first.pop(entry.step, None)
    return sorted(first.values(), key=lambda entry: -entry.seq)


def _one(site: Site, row: HostRow, intent: Entry, registers: Mapping[str, Json]) -> str:
    bare, _, index = intent.step.partition("[")
    node = site.plan.nodes[bare]
    one = node.step
    if one is None:
        raise AssertionError(bare)
    entry = site.catalog.get(one.module)
    try:
        more: dict[str, Json] = {}
        names = site.names(one, row, registers, more)
        if index:
            items = one.loop if isinstance(one.loop, list) else template.render(one.loop, names)
            names = site.names(one, row, registers, {"item": items[int(index[:-1])]})
        params = site.params(one, names)
    except (template.Fault, ModuleError) as error:
        return _say(site, row, intent, one.module, "failed", error.message)
    if not entry.can_undo(params):
        return _say(site, row, intent, one.module, "none", "this step has no undo")
    ctx = site.context(one, row, intent.step, names, time.monotonic() + one.timeout, 1)
    try:
        change = _change(intent)
        now = guarded(lambda: entry.module.read(params, ctx))
        if _shows(now, change.before):
            return _say(site, row, intent, one.module, "unchanged", "it is already as it was before")
        if not (_shows(now, change.after) or _partly(now, change)):
            found = diff(now, change.after)
            return _say(
                site,
                row,
                intent,
                one.module,
                "drifted",
                f"somebody has changed it since: {step.says(found)} was expected to be in place",
            )
        site.journal.append(
            site.run, "undo.intent", {"change": change.json(), "module": one.module, "key": ctx.key}, row.name, intent.step
        )
        guarded(lambda: entry.call("undo", params, change, ctx))
        after = guarded(lambda: entry.module.read(params, ctx))
    except ModuleError as error:
        return _say(site, row, intent, one.module, "failed", error.message)
    if not _shows(after, change.before):
        return _say(
            site, row, intent, one.module, "failed", "after the undo, the second reading does not show what was there before"
        )
    return _say(site, row, intent, one.module, "undone", "", Change(change.after, change.before))


def _change(intent: Entry) -> Change:
    stored = intent.body["change"]
    if "before" not in stored:
        raise ModuleError(
            "the step has `no_log`: what was there before was not recorded, so it cannot be put back", "put it back by hand"
        )
    return Change.of(stored)


def _shows(now: State | None, wanted: State | None) -> bool:
    """Whether the world shows `wanted`."""
    if now is None or wanted is None:
        return now is None and (wanted is None or all(value is None for value in wanted.values()))
    seen = compared(now) or {}
    return all(seen.get(key) == value for key, value in wanted.items())


def _partly(now: State | None, change: Change) -> bool:
    """Whether the change was made in part: each of its values is as it was before or as the run wanted it, and no other."""
    seen = compared(now)
    if seen is None or change.before is None or change.after is None:
        return False
    return all(seen.get(key) in (before, after) for key, before, after in change)


def _say(site: Site, row: HostRow, intent: Entry, module: str, outcome: str, why: str, change: Change | None = None) -> str:
    body = {"outcome": outcome, "why": why, "module": module, "change": change.json() if change else None}
    site.journal.append(site.run, "undo.outcome", body, row.name, intent.step)
    return outcome
