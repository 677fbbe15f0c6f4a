"""Steps -> nodes: the graph that every host walks. The only door to networkx.

In: a playbook and the tags that were asked for. Out: nodes by id, each with the nodes that it waits for, in an order in
which they can be walked; circles and unknown needs as diagnostics. It knows no modules and no hosts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from engine.diagnostics import Diagnostic, Place, did_you_mean, printable
from engine.playbook import WALKED, Playbook, Step
from modules.contract import Json

if TYPE_CHECKING:
    import networkx


@dataclass(frozen=True)
class Node:
    """One point of the graph that each host walks.

    `kind`: step, gate (a section opens), or one of a block's own: rescue, always, end. `around`: the (block, arm) pairs in
    which it stands, outermost first; `chosen`: whether the tags asked for it.
    """

    id: str
    kind: str
    section: str
    after: tuple[str, ...]
    step: Step | None = None
    chosen: bool = True
    around: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Options:
    """What the command line adds to a playbook. `extra` are the -e variables: data, never rendered."""

    extra: Mapping[str, Json] = field(default_factory=dict)
    limit: str = ""
    tags: tuple[str, ...] = ()
    skip_tags: tuple[str, ...] = ()


def nodes(
    book: Playbook, options: Options, found: list[Diagnostic], bare: Mapping[str, frozenset[str]] | None = None
) -> dict[str, Node]:
    """The nodes of one host's walk; what is wrong with their order goes to `found`.

    `bare`: the names that a step mentions in parameters which are expressions; only its module knows which those are.
    """
    made = _Layout(book, options, found, bare or {}).nodes()
    _circles(made, found)
    return made


def graph(nodes: Mapping[str, Node], name: str = "") -> networkx.DiGraph[str]:
    """The nodes as networkx has them: with `kind`, `section`, `step`; edges point from earlier to later."""
    import networkx

    made: networkx.DiGraph[str] = networkx.DiGraph(name=name)
    for node in nodes.values():
        made.add_node(node.id, kind=node.kind, section=node.section, step=node.step)
    made.add_edges_from((before, node.id) for node in nodes.values() for before in node.after)
    return made


def outline(nodes: Mapping[str, Node], name: str = "") -> networkx.DiGraph[str]:
    """The graph without the edges that others imply."""
    import networkx

    whole = graph(nodes, name)
    reduced = networkx.transitive_reduction(whole)
    reduced.add_nodes_from(whole.nodes(data=True))
    return reduced


class _Layout:
    """Lays the steps out as nodes: order of the text, `needs`, mentions, blocks, gates between sections."""

    def __init__(
        self, book: Playbook, options: Options, found: list[Diagnostic], bare: Mapping[str, frozenset[str]]
    ) -> None:
        self.book, self.options, self.found, self.bare = book, options, found, bare
        self.made: dict[str, Node] = {}
        self.registers = {step.register: step.id for step in reversed(book.steps) if step.register}
        self.by_short = {step.short: step for step in book.steps}
        self.blocks = {block.id.partition("/")[2]: block for block in book.blocks.values()}
        self.filled = {block for step in book.steps for block, _ in step.arms}

    def nodes(self) -> dict[str, Node]:
        before: tuple[str, ...] = ()
        for section in WALKED:
            gate = Node(section, "gate", section, before)
            self.made[section] = gate
            steps = list(self.book.section(section))
            first = len(self.made)
            self._lay(steps, 0, (section,), (section,))
            inside = list(self.made.values())[first:]
            waited = {name for node in inside for name in node.after}
            before = tuple(node.id for node in inside if node.id not in waited) or (section,)
        return self.made

    def _lay(self, steps: list[Step], depth: int, previous: tuple[str, ...], entry: tuple[str, ...]) -> None:
        """Adds the nodes for `steps`, whose blocks are entered down to `depth`; `entry` is what their arm starts with."""
        free = self.book.trigger_mode == "any"
        at = 0
        while at < len(steps):
            step = steps[at]
            if len(step.arms) == depth:
                section_start = (step.section,) if step.section == "trigger" and free else previous
                self.made[step.id] = Node(
                    step.id,
                    "step",
                    step.section,
                    self._after(step, section_start, entry),
                    step,
                    self._chosen(step),
                    step.arms,
                )
                previous, at = (step.id,), at + 1
                continue
            block = step.arms[depth][0]
            end = at
            while end < len(steps) and len(steps[end].arms) > depth and steps[end].arms[depth][0] == block:
                end += 1
            previous = (self._block(block, steps[at:end], depth, previous),)
            at = end

    def _block(self, block: str, steps: list[Step], depth: int, previous: tuple[str, ...]) -> str:
        section = steps[0].section
        first = len(self.made)

        def inside() -> tuple[str, ...]:
            return tuple(list(self.made)[first:])

        for arm in ("block", "rescue", "always"):
            members = [step for step in steps if step.arms[depth][1] == arm]
            if not members:
                continue
            start = previous
            if arm != "block":
                gate = f"{block}.{arm}"
                self.made[gate] = Node(gate, arm, section, inside() or previous)
                start = (gate,)
            self._lay(members, depth + 1, start, start)
        end = f"{block}.end"
        self.made[end] = Node(end, "end", section, inside() or previous, around=steps[0].arms[:depth])
        return end

    def _after(self, step: Step, previous: tuple[str, ...], entry: tuple[str, ...]) -> tuple[str, ...]:
        after = list(previous)
        if step.needs is not None:
            after = list(entry)
            for index, name in enumerate(step.needs):
                target = self._need(step, name, step.place("needs", index))
                if target:
                    after.append(target)
        mentions = step.mentions | self.bare.get(step.id, frozenset())
        for name in sorted(mentions):  # the order of a set differs from process to process
            other = self.registers.get(name)
            # what a later section registers is not known yet: `check` says so, at its place
            if other and other != step.id and not _later(other.partition("/")[0], step.section):
                after.append(other)
        return tuple(dict.fromkeys(after))

    def _need(self, step: Step, name: str, place: Place) -> str | None:
        short = name.partition("/")[2] or name
        other = self.blocks.get(short) or self.by_short.get(short)
        if other is None:
            hint = did_you_mean(short, [s.short for s in self.book.section(step.section)], "engine graph shows the steps")
            self.found.append(Diagnostic("LG048", f"no step `{printable(short)}`", place, hint=hint))
        elif other is step:
            self.found.append(Diagnostic("LG049", f"`{short}` needs itself", place, hint="remove it"))
        elif other.section != step.section:
            hint = "sections follow each other by themselves; `needs` orders the steps of one section"
            self.found.append(
                Diagnostic("LG048", f"`{short}` is a step of {other.section}, not of {step.section}", place, hint=hint)
            )
        elif isinstance(other, Step):
            return other.id
        elif other.id in self.filled:  # a block may hold nothing but imports of nothing
            return f"{other.id}.end"
        return None

    def _chosen(self, step: Step) -> bool:
        """--tags and --skip-tags, as in Ansible; evidence is never chosen away."""
        if step.section == "forensics":
            return True
        tags, want, leave = step.tags, set(self.options.tags), set(self.options.skip_tags)
        if leave & tags or ("tagged" in leave and tags) or ("untagged" in leave and not tags):
            return False
        if "never" in tags and not (want & tags):
            return False
        if not want or "all" in want or "always" in tags:
            return True
        return bool(want & tags) or ("tagged" in want and bool(tags)) or ("untagged" in want and not tags)


def _later(section: str, than: str) -> bool:
    """Whether hosts come to `section` after `than`."""
    return section in WALKED and than in WALKED and WALKED.index(section) > WALKED.index(than)


def _circles(nodes: Mapping[str, Node], found: list[Diagnostic]) -> None:
    """The order of the text is an order of the graph unless an edge points forward: only then is a circle looked for."""
    order = {name: index for index, name in enumerate(nodes)}
    if all(order.get(name, -1) < order[node.id] for node in nodes.values() for name in node.after):
        return
    import networkx

    graph: networkx.DiGraph[str] = networkx.DiGraph(
        [(name, node.id) for node in nodes.values() for name in node.after if name in nodes]
    )
    for group in networkx.strongly_connected_components(graph):
        if len(group) > 1:
            circle = [edge[0] for edge in networkx.find_cycle(graph.subgraph(group))]
            start = circle.index(min(circle, key=lambda name: order[name]))
            circle = [*circle[start:], *circle[:start]]
            found.append(_circle(nodes, [*circle, circle[0]]))


def _circle(nodes: Mapping[str, Node], circle: list[str]) -> Diagnostic:
    """What to say of steps that wait for each other: each of `circle` waits for the one before; it ends where it begins."""
    way = " -> ".join(name.partition("/")[2] or name for name in circle)
    for earlier, name in pairwise(circle):
        step, by = nodes[name].step, nodes[earlier].step
        if step and by and by.register in step.mentions:
            short = by.id.partition("/")[2]
            summary = f"`{by.register}` is not there yet: `{short}`, which registers it, waits for this step"
            return Diagnostic(
                "LG049", summary, step.mention(by.register), f"The circle: {way}.", f"put `{short}` before this step",
                (by.place("register"), "registered here"),
            )  # fmt: skip
    place = next((step.place("needs") for name in circle if (step := nodes[name].step) and step.needs), None)
    return Diagnostic("LG049", f"steps wait for each other in a circle: {way}", place, hint="take one of the waits out")
