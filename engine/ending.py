"""Why a run stops, what that leaves to be done, and how the run has ended: its word, its exit code, its sentence.

In: what its hosts came to, why it stopped, its deadline. Out: values. It decides nothing while the run goes on.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from engine import words
from engine.diagnostics import Exit
from engine.journal import Entry
from engine.walk import verdict
from modules.contract import Json

#: outcome of a run -> exit code
EXITS = {
    "succeeded": Exit.DONE, "recovered": Exit.DONE, "not_triggered": Exit.DONE, "failed": Exit.FAILED, "held": Exit.HELD,
    "undone": Exit.FAILED, "rejected": Exit.REJECTED, "expired": Exit.REJECTED, "cancelled": Exit.FAILED,
    "drifted": Exit.STALE,
}  # fmt: skip
#: Outcomes after which there is nothing left to resume.
ENDED = frozenset({"succeeded", "recovered", "undone", "rejected", "expired", "cancelled", "not_triggered"})
#: Why a run stops that will be taken up again; any other end is final.
PAUSES = ("interrupted", "waiting")
#: Why a run stops in the middle of its hosts' ways: what had begun is cleaned up, and what has failed is put back.
CLEANS = ("cancelled", "deadline")


def outcome(results: Iterable[str], stopping: str) -> str:
    """The run's word, from its hosts' results. A deadline that cut nobody short changes nothing."""
    found = set(results)
    if stopping == "deadline":
        return "failed" if "" in found else verdict(found)
    return stopping or verdict(found)


def why(results: Iterable[str], stopping: str, word: str, tolerated: int, deadline: float, refused: str = "") -> str:
    """The sentence beside the word; empty where the word says it all. `deadline`: UTC, seconds since 1970; `refused`: why it
    was rejected, where nobody said no."""
    ends = Counter(results)
    count, bad = sum(ends.values()), sum(ends[one] for one in ("drifted", "failed", "held", "undone"))
    back = f"; {ends['undone']} put back, which only a new run begins anew" if ends["undone"] else ""
    if stopping == "deadline" and ends[""]:
        left = f"{ends['']} of {count} hosts are not through" if count > 1 else "the host is not through"
        failed = f", {bad} failed" if bad else ""
        return f"the deadline passed at {words.utc(deadline)}: {left}{failed}{back}"
    if count > 1 and bad:
        return f"{bad} of {count} hosts failed, {tolerated} may; {ends['']} are not through{back}"
    if word in ("expired", "rejected"):
        return "no host was changed: " + (
            "nobody gave the missing key in time" if word == "expired" else refused or "a person of the roles said no"
        )
    return ""


def denied(entries: Iterable[Entry]) -> str:
    """Why a run was rejected, where no person said no."""
    settled = [entry.body for entry in entries if entry.kind == "authority.settled"][-1:]
    return next((str(body.get("why") or "") for body in settled if not body.get("people")), "")


def deadline(entries: Iterable[Entry]) -> float:
    """The moment at which the run ends, whatever it is at (UTC, seconds since 1970): as it began, or as it was extended
    last. Infinite where there is none."""
    found: Json = None
    for entry in entries:
        if entry.kind in ("run.started", "run.resumed"):
            found = entry.body.get("deadline") or found
    return math.inf if found is None else float(found)


def glass(entries: Iterable[Entry]) -> dict[str, Json]:
    """What the end of a run says of one that a person let through alone, and that nobody has ratified; else nothing."""
    found: dict[str, Json] = {}
    for entry in entries:
        if entry.kind == "authority.settled" and entry.body.get("glass"):
            found = {"glass": entry.body["glass"]}
        elif entry.kind == "key.ratified":
            found = {}
    return found


def timed_out(last: Entry | None) -> bool:
    """Whether the run has ended because its deadline passed."""
    return last is not None and last.body.get("cause") == "deadline"
