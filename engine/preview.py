"""A plan against the live state: what would change on each host, read now, and nothing changed.

In: a `Site`. Out: rows of (host, step, grade, change, undo, why) and their overview: what `engine plan` prints, what keys
are bound to, and what is compared again before the first change.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from engine import canon, step, template
from engine.check import HostRow
from engine.layout import Node
from engine.playbook import Step
from engine.step import Site
from modules.contract import Json, ModuleError, diff


def on_host(
    site: Site, row: HostRow, nodes: Mapping[str, Node], sections: tuple[str, ...], registers: dict[str, Json]
) -> list[dict[str, Json]]:
    """What each step would do on this host, read now: rows of (host, step, grade, change, undo, why). Changes nothing."""
    rows: list[dict[str, Json]] = []
    fuzzy: set[str] = set()  # registered names that are only foreseen
    seen: list[tuple[str, Json]] = []
    for node in nodes.values():
        one = node.step
        if one is None or node.section not in sections or not node.chosen:
            continue
        entry = site.catalog.get(one.module)
        row_ = {
            "host": row.name,
            "section": one.section,
            "step": one.id,
            "module": one.module,
            "grade": "read-only",
            "change": None,
            "undo": "-",
            "why": "",
        }
        rows.append(row_)
        if entry.has("apply"):
            params = one.params if isinstance(one.params, dict) else {}
            row_["undo"] = "automatic" if entry.can_undo(params) else "NONE"
        if one.section == "verification":
            continue
        _foresee(site, one, row, registers, entry, row_, fuzzy, seen)
    return rows


def _foresee(
    site: Site,
    one: Step,
    row: HostRow,
    registers: dict[str, Json],
    entry: Any,
    found: dict[str, Json],
    fuzzy: set[str],
    seen: list[tuple[str, Json]],
) -> None:
    mentions = site.wanted(one)
    foreseen = bool(mentions & fuzzy)
    if foreseen and one.register:
        fuzzy.add(one.register)
    if one.loop is not None or any(
        name not in registers and name in {s.register for s in site.plan.playbook.steps} for name in mentions
    ):
        found["grade"] = "known later"
        found["why"] = (
            "a loop is unrolled at run time" if one.loop is not None else "needs the result of a step that has not run"
        )
        if one.register:
            fuzzy.add(one.register)
        return
    try:
        names = site.names(one, row, registers, {})
        if not all(template.decide(text, names) for text in one.when):
            found["grade"], found["why"] = (
                "exact",
                "skipped: " + " and ".join(f"`{text}`" for text in one.when) + " is false",
            )
            if one.register:
                registers[one.register] = {"changed": False, "outcome": "skipped"}
            return
        params = site.params(one, names)
        ctx = site.context(one, row, one.id, names, time.monotonic() + min(one.timeout, 60.0), 1)
        before = step.guarded(lambda: entry.module.read(params, ctx))
        change = diff(before, step.guarded(lambda: entry.module.desired(params)))
    except template.Fault as fault:
        found["grade"], found["why"] = "NOT PREVIEWABLE", fault.message
        return
    except ModuleError as error:
        found["grade"], found["why"] = "NOT PREVIEWABLE", error.message
        if one.register:
            fuzzy.add(one.register)
        return
    found["why"] = str((before or {}).get("_why", ""))
    if entry.has("apply"):
        twin = change and any(module == one.module and reading == before for module, reading in seen)
        seen.append((one.module, before))
        found["grade"] = "estimate" if foreseen or twin else "exact"
        found["change"] = site.secrets.scrub([[key, was, will] for key, was, will in change])
        if one.no_log:
            found["change"] = [["_digest", None, canon.digest(found["change"])]] if change else []
    if one.module == "last_good":
        found["reading"] = before
    if one.register:
        registers[one.register] = step.register(
            {**(before or {}), **(change.after or {})} if entry.has("apply") else before, bool(change), "foreseen"
        )
        if change and entry.has("apply"):
            fuzzy.add(one.register)
    elif one.section == "trigger":
        found["met"] = not change


def made(site: Site, forks: int) -> dict[str, Json]:
    """The whole plan against the live state: what `engine plan` shows and keys are bound to. Changes nothing."""
    from concurrent.futures import ThreadPoolExecutor

    def one(row: HostRow) -> list[dict[str, Json]]:
        return on_host(site, row, site.plan.nodes, ("trigger", "forensics", "execution", "verification"), {})

    with ThreadPoolExecutor(max(1, min(forks, len(site.plan.hosts)))) as pool:
        rows = [found for batch in pool.map(one, site.plan.hosts) for found in batch]
    return {"at": site.now(), "changes": rows, **_overview(site, rows)}


def _overview(site: Site, rows: list[dict[str, Json]]) -> dict[str, Json]:
    """The preview step by step over all hosts, and now against back-to where a step chose a version."""
    book = site.plan.playbook
    steps, trigger = [], []
    for one in book.steps:
        mine = [row for row in rows if row["step"] == one.id]
        if one.section == "trigger":
            trigger += [
                {"id": one.short, "met": row.get("met", False), "why": row["why"], "host": row["host"]} for row in mine
            ]
        elif mine:
            first = next((row for row in mine if row["change"]), mine[0])
            grades = sorted({row["grade"] for row in mine})
            entry = site.catalog.get(one.module)
            steps.append(
                {
                    "section": one.section, "id": one.id, "name": one.name, "module": one.module, "undo": first["undo"],
                    "grade": grades[0] if len(grades) == 1 else "estimate", "change": first["change"] or [], "why": first["why"],
                    "hosts": sum(1 for row in mine if row["change"]), "acts": entry.has("apply"),
                }
            )  # fmt: skip
    chosen = next((row["reading"] for row in rows if row.get("reading")), None)
    now = {"version": chosen.get("_now")} if chosen else {}
    back = {key.lstrip("_"): value for key, value in chosen.items() if not isinstance(value, list)} if chosen else {}
    return {"steps": steps, "trigger": trigger, "now": now, "back_to": back}


def moved(before: list[dict[str, Json]], now: list[dict[str, Json]]) -> list[str]:
    """What each step would do now that it would not have done before, in words: why a plan is stale."""
    was = {(row["host"], row["step"]): row for row in before if row["section"] == "execution"}
    found = []
    for row in now:
        earlier = was.get((row["host"], row["step"]))
        if earlier is not None and (row["grade"], row["change"]) != (earlier["grade"], earlier["change"]):
            found.append(f"{row['host']} {row['step']} has moved: the plan says {words(earlier)}, now it is {words(row)}")
    return found


def words(row: Mapping[str, Json]) -> str:
    """A row's change in words."""
    if row["change"] is None:
        return str(row["why"] or row["grade"])
    return ", ".join(f"{key} {step.short(a)} -> {step.short(b)}" for key, a, b in row["change"]) or "nothing to change"
