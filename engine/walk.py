"""One host's way through the graph: what has settled, what that makes ready, and what a block makes of its steps.

In: nodes, statuses as they come. Out: names that may begin now, and the verdict at the end. No input or output of any
kind, so it can be tested with nothing but a graph.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

from engine.check import HostRow
from engine.layout import Node
from modules.contract import Json

# A status is ok, skip (not needed or not chosen), recovered (went wrong and was put right, or is tolerated), bad (went
# wrong), stopped (cut short by a cancel) or blocked (never begun, because something before it went wrong).
BAD = frozenset({"bad", "stopped", "blocked"})
#: The sections whose failure is the host's failure, in order.
COUNTED = ("forensics", "execution", "verification")


@dataclass(frozen=True)
class Ways:
    """What all hosts of a plan share: the nodes, who waits for whom, what stands directly in each arm of a block, and what
    stands in no block, by section."""

    nodes: Mapping[str, Node]
    followers: Mapping[str, list[str]]
    arms: Mapping[tuple[str, str], list[str]]
    top: Mapping[str, list[str]]

    @classmethod
    def of(cls, nodes: Mapping[str, Node]) -> Ways:
        """Worked out once for a plan."""
        followers: dict[str, list[str]] = {name: [] for name in nodes}
        arms: dict[tuple[str, str], list[str]] = {}
        top: dict[str, list[str]] = {}
        for node in nodes.values():
            for name in node.after:
                followers[name].append(node.id)
            if node.kind in ("step", "end"):
                (arms.setdefault(node.around[-1], []) if node.around else top.setdefault(node.section, [])).append(node.id)
        return cls(nodes, followers, arms, top)

    @cached_property
    def paths(self) -> int:
        """At most so many steps of one host go on at once: the paths of which each takes up where another node was the
        last."""
        ended: set[str] = set()
        paths = 0
        for node in self.nodes.values():
            before = next((name for name in node.after if name not in ended), None)
            if before is None:
                paths += 1
            else:
                ended.add(before)
        return paths


class Walk:
    """One host on its way. Its methods are called under `lock` by whoever works for the host at that moment.

    `kept`: how steps ended in an earlier attempt; `again`: those that ended well and are read again all the same; `firm`:
    those that are not done twice, whatever is done anew before them; `opened`: whether the gate to execution was; `begun`:
    whether anything was, in this attempt, or (`begun_earlier`) in one before; `unsure`: steps that are uncertain; `undoing`:
    the section for whose failure the host is being put back, or `cancel`: then it is not walked any more.
    """

    def __init__(self, ways: Ways, row: HostRow) -> None:
        self.ways, self.row = ways, row
        self.lock = threading.Lock()
        self.status: dict[str, str] = {}
        self.waiting = {node.id: len(node.after) for node in ways.nodes.values()}
        self.registers: dict[str, Json] = {}
        self.met: dict[str, bool] = {}
        self.generation = 1
        self.busy = 0
        self.kept: dict[str, Json] = {}
        self.again: set[str] = set()
        self.firm: set[str] = set()
        self.fresh: set[str] = set()
        self.begun = self.begun_earlier = self.tolerated = self.opened = False
        self.unsure: list[str] = []
        self.parked: list[str] = []
        self.undoing = self.result = ""

    def ready(self) -> list[str]:
        """What may begin: everything it waits for has settled."""
        return [name for name, left in self.waiting.items() if left <= 0 and name not in self.status]

    def settle(self, name: str, status: str) -> list[str]:
        """Records how `name` ended; returns what that made ready."""
        self.status[name] = status
        if self.fresh and self.renewed(self.ways.nodes[name]):
            self.fresh.add(name)
        made = []
        for follower in self.ways.followers[name]:
            self.waiting[follower] -= 1
            if self.waiting[follower] == 0 and follower not in self.status:
                made.append(follower)
        return made

    def acts(self, node: Node) -> None:
        """Notes that the step is done in this attempt: what follows it is done again. Triggers are only looked at."""
        if self.kept and node.section != "trigger" and node.id not in self.again:
            self.fresh.add(node.id)

    def renewed(self, node: Node) -> bool:
        """Whether something that `node` waits for was done anew in this attempt."""
        return not self.fresh.isdisjoint(node.after)

    def holds(self, node: Node) -> bool:
        """Whether the step ended in an earlier attempt and that still counts: nothing before it was done anew since, or it
        is one that is not done twice."""
        return node.id in self.kept and (node.id in self.firm or not self.renewed(node))

    def put_back(self, why: str) -> None:
        """Notes that an earlier attempt had begun to put the host back: only what its steps had registered still counts."""
        self.undoing = why
        for name, settled in self.kept.items():
            step = self.ways.nodes[name].step
            if step and step.register:
                self.registers[step.register] = settled.registered

    def blocked(self, node: Node) -> bool:
        """Whether something that `node` waits for went wrong."""
        return any(self.status[name] in BAD for name in node.after)

    def unneeded(self, node: Node) -> bool:
        """Whether the node is part of a remedy that is not needed."""
        return any(arm == "rescue" and self.status.get(f"{block}.rescue") == "skip" for block, arm in node.around)

    def arm_bad(self, block: str, arm: str) -> bool:
        """Whether something in this arm of the block went wrong and was not put right inside it."""
        return any(self.status.get(name) in BAD for name in self.ways.arms.get((block, arm), ()))

    def point(self, node: Node) -> str:
        """The status of a block's own node: does the remedy begin, does the clean-up, how did the block end?"""
        block = node.id.rpartition(".")[0]
        body = self.ways.arms.get((block, "block"), [])
        if all(self.status.get(name) in ("blocked", None) for name in body):
            # it never began, because something before it went wrong: there is nothing to remedy and nothing to clean up
            return "blocked"
        failed = self.arm_bad(block, "block")
        if node.kind == "rescue":  # of a failure: what nobody knows to have failed is looked at by a person first
            unsure = any((block, "block") in self.ways.nodes[name].around for name in self.unsure)
            return "blocked" if unsure else "ok" if failed else "skip"
        if node.kind == "always":
            return "ok"
        saved = failed and (block, "rescue") in self.ways.arms and not self.arm_bad(block, "rescue")
        if (failed and not saved) or self.arm_bad(block, "always"):
            return "bad"
        if saved or any(self.status.get(name) == "recovered" for name in body):
            self.tolerated = True
            return "recovered"
        return "ok"

    def went_wrong(self) -> str:
        """The section in which the host went wrong; empty when none did. Steps of a block count through its end."""
        if self.undoing in COUNTED:
            return self.undoing
        for section in COUNTED:
            if any(self.status.get(name) == "bad" for name in self.ways.top.get(section, ())):
                return section
        return ""

    def through(self) -> bool:
        """Whether the host has come to its end by itself: nothing was cut short, and nothing kept it from beginning."""
        return len(self.status) == len(self.ways.nodes) and not {"stopped", "blocked"} & set(self.status.values())

    def anew(self, sections: tuple[str, ...]) -> None:
        """Forgets how the nodes of these sections ended: they are walked once more."""
        self.kept = {name: settled for name, settled in self.kept.items() if self.ways.nodes[name].section not in sections}
        self.status = {name: status for name, status in self.status.items() if self.ways.nodes[name].section not in sections}
        for node in self.ways.nodes.values():
            if node.section in sections:
                self.waiting[node.id] = sum(1 for name in node.after if name not in self.status)
        self.generation += 1
        self.begun = False


def verdict(results: Collection[str]) -> str:
    """The outcome of a run from its hosts' results, the worst first; empty: a host that is not through. A failure that the
    budget allows lets the others go on, and is a failure all the same."""
    if "drifted" in results:
        return "drifted"
    if "failed" in results or ("undone" in results and len(results) > 1):
        return "failed"
    if "held" not in results and "" in results:
        return "failed"
    for word in ("held", "undone", "recovered", "succeeded"):
        if word in results:
            return word
    return "not_triggered"
