"""One step on one host: whether it is wanted, its retries, its loop; and how it ended, on record.

In: a step, the host's names. Out: a `Settled`, journaled. It decides nothing about other steps, and leaves to `effect` what
one try of it does.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import replace

from engine import effect, template
from engine.check import HostRow
from engine.diagnostics import Diagnostic, printable
from engine.effect import Doing, Settled
from engine.playbook import Step
from engine.site import Misplaced, Site
from modules.contract import Change, Json, ModuleError, Stopped

LONGEST_DELAY = 60.0


def perform(
    site: Site,
    step: Step,
    row: HostRow | None,
    registers: Mapping[str, Json],
    generation: int = 1,
    done: Mapping[str, Settled] | None = None,
) -> Settled:
    """Runs one step on one host (`row` None: once for the whole run) and journals its outcome. Raises Stopped.

    `done` holds the loop items that an earlier attempt has settled.
    """
    started, clock = site.now(), time.monotonic()
    host = row.name if row else ""
    doing = Doing(site, step, row, registers, generation, site.until(step, host, clock), step.id)
    site.journal.announce(site.run, "step.started", {"module": step.module, "name": step.name}, host, step.id)
    try:
        whole = step.loop is None and (_skipped(doing) or _tried(doing))
        settled = whole or _looped(doing, done or {})
    except template.Fault as fault:
        settled = effect.failed(Misplaced(fault, step))
    settled = _open(doing, replace(settled, started=started, seconds=round(time.monotonic() - clock, 6)))
    record(site, step, host, step.id, settled, step.register)
    site.unsettled.pop((host, step.id), None)
    return settled


def _looped(whole: Doing, done: Mapping[str, Settled]) -> Settled:
    """The step once for each item, in order; an item that ended badly is the last, unless failures are to be passed over."""
    step, names = whole.step, whole.names()
    items = step.loop if isinstance(step.loop, list) else template.render(step.loop, names)
    if not isinstance(items, list):
        why = f"{step.place('loop')}: the loop gave {printable(template.shown(items), 40)}, not a list"
        return Settled("failed", why, "a loop goes over a list")
    results: list[Settled] = []
    for index, raw in enumerate(items):
        item = f"{step.id}[{index}]"
        settled, started, clock = done.get(item), whole.site.now(), time.monotonic()
        if settled is None:
            more = {"item": template.render(raw, names) if isinstance(step.loop, list) else raw}
            doing = replace(whole, id=item, more=more)
            settled = _skipped(doing) or _tried(doing)
            settled = _open(doing, replace(settled, started=started, seconds=round(time.monotonic() - clock, 6)))
            record(whole.site, step, doing.place[0], item, settled, None)
        results.append(settled)
        if not settled.good and step.on_failure != "continue":
            break
    return _together(results)


def _open(doing: Doing, settled: Settled) -> Settled:
    """A step that was cut off and could not be looked at since is still uncertain, whatever went wrong in looking; unless a
    reading tells all at any time."""
    intent = doing.site.unsettled.get(doing.place)
    if settled.good or intent is None:
        return settled
    entry = doing.site.catalog.get(doing.step.module)
    if intent.get("crash") != "D" and not entry.has("start"):
        return settled
    why = f"{effect.CUT_OFF}, and it could not be looked at: {settled.why}"
    return replace(settled, outcome="uncertain", why=why, hint="engine resume looks again")


def _together(results: list[Settled]) -> Settled:
    """A loop's outcome: the first bad one, else changed if any item changed anything."""
    registered = {
        "results": [one.registered for one in results],
        "changed": any(one.outcome == "changed" for one in results),
    }
    bad = next((one for one in results if not one.good), None)
    if bad:
        return replace(bad, registered=registered, why=f"item {results.index(bad)}: {bad.why}", change=None)
    outcomes = {one.outcome for one in results}
    outcome = "changed" if "changed" in outcomes else "unchanged" if "unchanged" in outcomes or not results else "skipped"
    return Settled(
        outcome,
        f"{len(results)} items",
        registered={**registered, "outcome": outcome},
        attempts=sum(one.attempts for one in results) or 1,
    )


def _skipped(doing: Doing) -> Settled | None:
    """The step where it is not wanted. What was begun was wanted then, and is looked at, whatever its condition says now."""
    if doing.place in doing.site.unsettled:
        return None
    names = doing.names()
    for text in doing.step.when:
        if not template.decide(text, names):
            why = f"`{text}` is false"
            return Settled("skipped", why, registered={"changed": False, "outcome": "skipped", "why": why})
    return None


def _tried(doing: Doing) -> Settled:
    """The step with its retries and `until`. A wait that the stop of the run cuts short raises Stopped."""
    site, step, delay = doing.site, doing.step, doing.step.delay
    for attempt in range(1, step.retries + 2):
        try:
            settled = effect.settle(doing, attempt)
        except Stopped:
            raise
        except ModuleError as error:
            settled = effect.failed(error)
        if settled.good and step.until is not None and not site.check:
            own = {step.register: settled.registered} if step.register else {}
            if not template.decide(step.until, doing.names({**doing.registers, **own})):
                hint = "raise `retries`, or look why it does not come true"
                settled = replace(settled, outcome="failed", why=f"`{step.until}` does not hold yet", hint=hint)
        settled = replace(settled, attempts=attempt)
        over = time.monotonic() + delay >= doing.deadline
        if settled.good:
            site.tried.pop(doing.place, None)
        if settled.good or settled.outcome == "uncertain" or attempt > step.retries or over:
            return settled
        why = f"{effect.told(site, step, settled.why)}; try {attempt + 1} of {step.retries + 1}"
        site.journal.announce(site.run, "step.waiting", {"why": why}, *doing.place)
        if site.stop_of(step).wait(delay * random.uniform(0.75, 1.25)):  # noqa: S311 (jitter)
            raise Stopped("stopped between two tries")
        delay = min(delay * 2, LONGEST_DELAY)
    raise AssertionError("the last attempt returns")


def restored(body: Mapping[str, Json]) -> Settled:
    """The `Settled` that an outcome's entry tells of."""
    change = body.get("change")
    registered = body.get("registered") or effect.register(
        body["reading"] or {}, body["outcome"] == "changed", body["outcome"]
    )
    made = Change.of(change) if change and "before" in change else None
    return Settled(
        body["outcome"],
        body["why"],
        body["hint"],
        body["reading"],
        made,
        registered,
        body["started"],
        body["seconds"],
        body["attempts"],
    )


def record(site: Site, step: Step, host: str, item_id: str, settled: Settled, publishes: str | None = None) -> None:
    """Journals how a step, or one item of its loop, ended."""
    scrub = site.secrets.scrub
    body = {
        "outcome": settled.outcome, "module": step.module, "name": step.name,
        "reading": effect.kept(step, scrub(settled.reading)) if settled.reading is not None else None,
        "change": effect.kept(step, scrub(settled.change.json())) if settled.change else None,
        "started": settled.started, "seconds": settled.seconds, "attempts": settled.attempts,
        "why": scrub(settled.why) if _ours(settled) else effect.told(site, step, settled.why),
        "hint": scrub(settled.hint) if settled.outcome == "uncertain" or not step.no_log else "",
        "register": publishes, "at": str(step.place()),
    }  # fmt: skip
    if publishes and settled.reading is None and not step.no_log:
        body["registered"] = scrub(settled.registered)  # of a loop or a skip; elsewhere the reading says it
    site.journal.append(site.run, "step.outcome", body, host, item_id)


def _ours(settled: Settled) -> bool:
    """Whether the reason is the engine's own or a person's, so that it says nothing of what `no_log` hides."""
    return settled.outcome == "waived" or (settled.outcome == "skipped" and not settled.change)


def problem(settled: Settled, step: Step) -> Diagnostic:
    """A failed step as a diagnostic with its place in the playbook."""
    return Diagnostic("LG090", f"{step.id} {settled.outcome}: {settled.why}", step.place(), hint=settled.hint)
