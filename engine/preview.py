"""A plan against the live state: what would change on each host, read now, and nothing changed.

In: a `Site`. Out: rows of (host, step, grade, change, undo, why) and their overview: what `engine plan` prints, what keys
are bound to, and what is compared again before the first change.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from engine import abreast, effect, template
from engine.check import HostRow
from engine.playbook import Step
from engine.site import Site
from modules.contract import Json, ModuleError, State, diff

Row = dict[str, Json]
#: Seconds that a preview's reading may take.
PATIENCE = 60.0


def on_host(
    site: Site, row: HostRow, sections: tuple[str, ...], registers: dict[str, Json], without: Collection[str] = ()
) -> list[Row]:
    """What each step of `sections` would do on this host, in order; `registers` is filled with what is foreseen. `without`:
    steps that need no look."""
    look = _Look(site, row, registers)
    chosen = [node for node in site.plan.nodes.values() if node.step and node.chosen and node.section in sections]
    nodes = [node for node in chosen if node.id not in without]
    rows = [look.at(node.step) for node in nodes if node.step and node.section == "trigger"]
    mode = any if site.plan.playbook.trigger_mode == "any" else all
    if rows and mode(found.get("met", False) for found in rows):
        site.alarmed.add(row.name)
    return rows + [look.at(node.step) for node in nodes if node.step and node.section != "trigger"]


class _Look:
    """One host's steps, looked at in order. A name registered by a step that would change something is `foreseen`."""

    def __init__(self, site: Site, row: HostRow, registers: dict[str, Json]) -> None:
        self.site, self.row, self.registers = site, row, registers
        self.foreseen: set[str] = set()
        self.readings: list[tuple[str, State | None]] = []
        self.published = {one.register for one in site.plan.playbook.steps if one.register}

    def at(self, one: Step) -> Row:
        entry = self.site.catalog.get(one.module)
        found: Row = {
            "host": self.row.name, "section": one.section, "step": one.id, "module": one.module, "grade": "read-only",
            "change": None, "undo": "-", "why": "",
        }  # fmt: skip
        if entry.acts and one.section != "forensics":
            found["undo"] = "automatic" if self.site.plan.undo.get(one.id) else "NONE"
        looks = entry.acts or one.section == "trigger" or one.register
        if one.section != "verification" and looks:
            self._foresee(one, entry, found)
        return found

    def _foresee(self, one: Step, entry: Any, found: Row) -> None:
        mentions = self.site.wanted(one)
        later = mentions & self.published - set(self.registers)
        if one.loop is not None or later:
            found["grade"] = "known later"
            found["why"] = "needs the result of a step that has not run" if later else "a loop is unrolled when it runs"
            return
        hazy = bool(mentions & self.foreseen)
        if hazy and one.register:
            self.foreseen.add(one.register)
        try:
            names = self.site.names(one, self.row, self.registers, {})
            if not all(template.decide(text, names) for text in one.when):
                found["grade"] = "estimate" if hazy else "exact"
                found["why"] = "skipped: " + " and ".join(f"`{text}`" for text in one.when) + " is false"
                if one.register:
                    self.registers[one.register] = {"changed": False, "outcome": "skipped"}
                return
            params = self.site.params(one, names)
            ctx = self.site.context(one, self.row, one.id, names, time.monotonic() + min(one.timeout, PATIENCE), 1)
            before, wanted = self.site.caller.compare(entry, params, ctx)
            change = diff(before, wanted)
        except (template.Fault, ModuleError) as error:
            found["grade"], found["why"] = "known later" if hazy else "NOT PREVIEWABLE", error.message
            found["outcome"] = error.outcome if isinstance(error, ModuleError) else "failed"
            return
        found["why"] = str((before or {}).get("_why", ""))
        if one.section == "trigger":
            found["met"] = not change
        if one.module == "last_good":
            found["reading"] = before
        after = before
        if entry.acts:
            # Two steps of one module that read the same now probably speak of one thing: the second will find it changed.
            # Two things that are both absent are no reason to think so.
            twin = (one.module, before) in self.readings
            if change and before is not None:
                self.readings.append((one.module, before))
            found["grade"] = "estimate" if hazy or twin else "exact"
            found["change"] = effect.approvable(self.site, one, change)
            found["wanted"] = None if hazy else effect.fingerprint(self.site, wanted)
            after = {**(before or {}), **(change.after or {})}
        if one.register:
            self.registers[one.register] = effect.register(after, bool(change), "foreseen")
            if change and entry.acts:
                self.foreseen.add(one.register)


def made(site: Site, forks: int) -> Row:
    """The whole plan against the live state: ``{at, changes, steps, trigger, now, back_to}``. Changes nothing."""
    sections = ("trigger", "forensics", "execution", "verification")
    batches = abreast.each(lambda row: on_host(site, row, sections, {}), site.plan.hosts, forks)
    rows = [found for batch in batches for found in batch]
    return {"at": site.now(), "changes": rows, **_overview(site, rows)}


def _overview(site: Site, rows: list[Row]) -> Row:
    """The preview step by step over all hosts, and now against back-to where a step chose a version."""
    by_step: dict[str, list[Row]] = {}
    for row in rows:
        by_step.setdefault(row["step"], []).append(row)
    steps, trigger = [], []
    for one in site.plan.playbook.steps:
        mine = by_step.get(one.id, [])
        if one.section == "trigger":
            trigger += [
                {"id": one.short, "met": row.get("met", False), "why": row["why"], "host": row["host"]} for row in mine
            ]
        elif mine:
            first = next((row for row in mine if row["change"]), mine[0])
            grades = {row["grade"] for row in mine}
            steps.append(
                {
                    "section": one.section, "id": one.short, "name": one.name, "module": one.module, "undo": first["undo"],
                    "grade": first["grade"] if len(grades) == 1 else "estimate", "change": first["change"] or [],
                    "why": first["why"], "hosts": sum(1 for row in mine if row["change"]),
                    "acts": site.catalog.get(one.module).acts,
                }
            )  # fmt: skip
    chosen = next((row["reading"] for row in rows if row.get("reading")), None) or {}
    sides = {"version": chosen.get("_now"), "digest": chosen.get("_now_digest")}
    now = {name: value for name, value in sides.items() if value} if chosen.get("_now") else {}
    back = {
        key.lstrip("_"): value
        for key, value in chosen.items()
        if not isinstance(value, (list, dict)) and key not in ("_now", "_now_digest", "_why")
    }
    return {"steps": steps, "trigger": trigger, "now": now, "back_to": back}


def moved_since(
    site: Site, row: HostRow, registers: dict[str, Json], without: Collection[str]
) -> tuple[str, effect.Settled, bool] | None:
    """Before a host's first change: the first step that would not do what was approved, how that is to be recorded, and
    whether it has moved (False: it cannot be read any more, so nobody knows).

    Where several hosts share a thing, one of this run may have made it so already: then nothing is left to do, and no harm.
    """
    for found in on_host(site, row, ("forensics", "execution"), registers, without):
        approved = site.approved.get((found["host"], found["step"]))
        if approved is None or approved["grade"] != "exact" or found["section"] != "execution":
            continue
        if found["grade"] == "known later" or (found["change"] == [] and site.touched):
            continue  # the step itself compares again
        if found["change"] != approved["change"]:
            moved = "outcome" not in found
            told = found_moved(approved["change"], found["change"], site.now())
            return (
                found["step"],
                told if moved else effect.Settled(found["outcome"], found["why"], started=site.now()),
                moved,
            )
    return None


def found_moved(approved: Json, found: Json, now: float) -> effect.Settled:
    """How a step is recorded that is not done, because it would now do something else than what was approved."""
    why = f"moved since the keys were given: approved {words(approved)}, now {words(found)}"
    return effect.Settled("failed", why, "engine plan shows how it is now; a new plan needs new keys", started=now)


def moved(before: list[Row], now: list[Row]) -> list[str]:
    """What each step would do now that it would not have done before, in words: why a plan is stale."""
    was = {(row["host"], row["step"]): row for row in before if row["section"] == "execution"}
    found = []
    for row in (row for row in now if row["section"] == "execution"):
        earlier = was.pop((row["host"], row["step"]), None)
        if earlier is None:
            found.append(f"{row['host']} {row['step']} is not in the plan")
        elif any(row.get(key) != earlier.get(key) for key in ("grade", "change", "wanted")):
            found.append(f"{row['host']} {row['step']} has moved: the plan says {_told(earlier)}, now it is {_told(row)}")
    return [*found, *(f"{host} {step} is in the plan alone" for host, step in was)]


def words(change: Json) -> str:
    """A preview's change in words."""
    return (
        ", ".join(f"{key} {effect.short(before)} -> {effect.short(after)}" for key, before, after in change or ())
        or "nothing to change"
    )


def _told(row: Row) -> str:
    return words(row["change"]) if row["change"] is not None else str(row["why"] or row["grade"])
