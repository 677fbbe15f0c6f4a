"""What a host's end asks for: nothing, an undo, or another candidate.

In: a host that has come to rest. Out: its result. The undo is done here; that a host is to be walked once more for another
candidate is said, and done by whoever walks it.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine import abreast, undo
from engine.playbook import Playbook
from engine.site import Site
from engine.walk import Walk

NEXT = "next"
CANCEL = "cancel"


def of(site: Site, walk: Walk, stopping: str) -> str:
    """The host's result: succeeded, recovered, failed, held, undone; `next`: another candidate; empty: it is not through."""
    if walk.undoing:  # as it had begun to be before a crash
        return "" if walk.undoing == CANCEL else _put_back(site, walk)
    wrong, book = walk.went_wrong(), site.plan.playbook
    bad = [node.step for node in walk.ways.nodes.values() if node.step and walk.status.get(node.id) == "bad"]
    if wrong and not bad:
        return ""  # only cut short
    if not wrong:
        return "" if stopping and not walk.through() else "recovered" if walk.tolerated else "succeeded"
    unverified = wrong == "verification"
    if unverified and book.on_unverified == NEXT and not stopping and candidate(site, walk, book):
        return NEXT
    wanted = (unverified and book.on_unverified == "undo") or any(one.on_failure == "undo" for one in bad)
    may = wanted and not site.check and not walk.unsure  # where nobody knows what was done, a person looks first
    if may:
        begin(site, [walk], wrong)
        return _put_back(site, walk)
    return "held" if unverified else "failed"


def begin(site: Site, walks: Sequence[Walk], why: str) -> None:
    """Records that these hosts are put back from now on, so that nobody who takes the run up walks them forth once more."""
    hosts = [walk for walk in walks if walk.row.name in site.touched]
    if hosts:
        site.journal.append_all(site.run, [("host.undoing", {"of": why}, walk.row.name, "") for walk in hosts])
    for walk in walks:
        walk.undoing = why


def _put_back(site: Site, walk: Walk) -> str:
    if undo.host(site, walk.row) in ("undone", "nothing"):
        site.journal.append(site.run, "host.undone", {}, walk.row.name)
        return "undone"
    return "held" if walk.undoing == "verification" else "failed"


def cancelled(site: Site, walks: Sequence[Walk]) -> str:
    """Puts back what a run has changed whose cancel asks for that; returns what is not back, as a sentence, or nothing.

    Where the playbook asks for keys nothing is put back here. Those that were given let the replaced version go; that it
    comes back was not part of them, as it is where a step's own `on_failure` says so, and one person could cancel a run at
    its very end. To stop takes no key, so the run ends here, and `engine undo` asks for them.
    """
    if site.plan.playbook.authority.mode != "automatic":
        return "what was changed is not put back yet: that takes keys" if site.touched else ""
    begin(site, [walk for walk in walks if not walk.undoing], CANCEL)
    undone = abreast.each(lambda row: (row.name, undo.host(site, row)), site.plan.hosts, 64)
    left = ", ".join(f"{name} ({how})" for name, how in undone if how in ("drifted", "failed"))
    return f"not put back: {left}" if left else ""


def candidate(site: Site, walk: Walk, book: Playbook) -> str:
    """The version that was chosen on this host in this run; empty when none was, or when it has been left already."""
    for one in book.section("execution"):
        chosen = walk.registers.get(one.register or "") if one.module == "last_good" else None
        if chosen and chosen.get("version"):
            version = str(chosen["version"])
            return "" if version in site.excluded.get(walk.row.name, {}) else version
    return ""
