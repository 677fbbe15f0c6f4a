"""What goes on in a run just now, worked out by somebody who has only its journal.

In: a `Story` that keeps its entries. Out: entries as the run itself would announce them. That a step has begun is announced
inside the process of the run and not written down; but a step begins when all that it waits for has ended, and the plan in
the first entry says what that is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from engine.journal import Entry
from engine.story import Step, Story

_Graph = Mapping[str, Sequence[str]]


def steps(story: Story) -> list[Entry]:
    """A live `step.started` entry for each step that has begun on some host and left no entry yet. Ask only while a process
    holds the run: nothing goes on in one that nobody runs."""
    if story.ended is not None or story.interrupted or story.cancel:
        return []
    rows = story.plan.get("nodes") or ()
    after = {str(row[0]): [str(name) for name in row[1]] for row in rows}
    left_out = {str(row[0]) for row in rows if not row[2]}
    opened = {entry.host for entry in story.entries if entry.kind == "gate.opened"}
    mine: dict[str, dict[str, Step]] = {}
    for (host, key), step in story.steps.items():
        mine.setdefault(host, {})[key] = step
    # A step with `run_once` is done on whichever host of the batch comes to it first, and the others say nothing of it.
    once = {f"{row['section']}/{row['id']}" for row in story.plan.get("steps") or () if row.get("once")}
    batch = story.batches[story.batch - 1] if story.batch else ()
    taken = {name for name in once if any(name in mine.get(host, {}) for host in batch)}
    found = []
    for host in batch:
        seen = mine.get(host, {})
        ends = [(step.started or 0.0) + step.seconds for step in seen.values() if step.ended]
        at = max([*ends, story.decided_at if host in opened else 0.0], default=0.0) or story.last
        going = [name for name in _going(after, left_out, seen, host in opened) if name not in taken]
        taken |= once.intersection(going)
        found += [Entry(story.run, 0, at, "step.started", host, name, "{}") for name in going]
    return found


def replayed(entries: Sequence[Entry]) -> list[Entry]:
    """The entries of a run with a live `step.started` before each step's first own entry, in the order of time."""
    begun = [
        Entry(one.run, 0, min(float(one.body["started"]), one.at), "step.started", one.host, one.step, "{}")
        for one in entries
        if one.kind == "step.outcome" and one.body.get("started") is not None
    ]
    return sorted([*entries, *begun], key=lambda one: (one.at, one.seq))


def _going(after: _Graph, left_out: set[str], seen: Mapping[str, Step], opened: bool) -> Iterator[str]:
    """The steps of one host that have begun and said nothing yet. `opened`: whether its execution has begun."""
    over = {name for name, step in seen.items() if step.ended} | ({"execution"} if opened else set())
    passed = over | set(seen)
    for name in reversed(list(after)):  # what something seen has waited for is over, whether or not it left an entry
        passed |= {*after[name]} if name in passed else set()
    over |= {name for name in passed if name not in seen}
    stuck = {name for name, step in seen.items() if step.ended and step.bad and step.section != "trigger"}
    rescue = _rescue(after)
    for name, before in after.items():
        if name in over or name in seen or name == "execution" or not over.union(stuck).issuperset(before):
            continue
        failed = not stuck.isdisjoint(before)
        block, _, arm = name.rpartition(".")
        if arm in ("rescue", "always") or (arm == "end" and f"{block}.rescue" in after):
            over.add(name)
        elif failed:
            stuck.add(name)
        elif "/" not in name or block or name in left_out or (name in rescue and stuck.isdisjoint(after[rescue[name]])):
            over.add(name)
        else:
            yield name


def _rescue(after: _Graph) -> dict[str, str]:
    """The steps of every remedy, and the gate that it hangs on."""
    found: dict[str, str] = {}
    for name, before in after.items():
        gates = [one if one.endswith(".rescue") else found.get(one) for one in before]
        gate = next((one for one in gates if one), None)
        if gate and "." not in name:
            found[name] = gate
    return found
