"""Playbook + inventory + catalog -> Plan: the graph that every host walks, and a digest that keys are bound to.

In: a parsed playbook, the chosen hosts, the catalog of modules. Out: a frozen `Plan`, or every mistake that the three
make together: unknown names, wrong parameters, circles, rules of the strategy. The only door to networkx. It reads no
live state and performs nothing.

A plan is stored as its inputs (texts, host rows, module digests) and made again from them, so there is one way from text
to graph and no second format that could say something else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from engine import canon, playbook, source, template
from engine.diagnostics import Diagnostic, EngineError, Place, did_you_mean, printable
from engine.playbook import BUILT_IN, SECTIONS, WALKED, Playbook, Step
from modules.contract import Json

if TYPE_CHECKING:
    import networkx

FORMAT = "lastgood.plan/1"
#: Tags without which a `data` rollback is not one: purge or restore, train again, gate on the result, deploy.
DATA_TAGS = ("data", "retrain", "gate", "deploy")


class Entry(Protocol):
    """A module of the catalog, as far as the plan knows it."""

    name: str
    digest: str
    origin: str
    module: Any

    @property
    def schema(self) -> dict[str, Json]: ...

    def has(self, word: str) -> bool: ...
    def can_undo(self, params: Json) -> bool: ...


class Catalog(Protocol):
    """The table of modules that floor 7 hands down."""

    def get(self, name: str) -> Any: ...
    def names(self) -> list[str]: ...


@dataclass(frozen=True)
class HostRow:
    """One host as the plan holds it: only the variables that the playbook can reach."""

    name: str
    groups: tuple[str, ...]
    vars: Mapping[str, Json]
    outside: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Node:
    """One point of the graph that each host walks: a step, or a gate (``gate``: a section opens; ``rescue``, ``always``, ``end`` of a block)."""

    id: str
    kind: str
    section: str
    after: tuple[str, ...]
    step: Step | None = None
    chosen: bool = True


@dataclass(frozen=True)
class Options:
    """What the command line adds to a playbook. `extra` are the -e variables: data, never rendered."""

    extra: Mapping[str, Json] = field(default_factory=dict)
    limit: str = ""
    tags: tuple[str, ...] = ()
    skip_tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What will be done, as a value. `digest` covers everything that decides what is done, and no place on a machine."""

    playbook: Playbook
    nodes: Mapping[str, Node]
    hosts: tuple[HostRow, ...]
    groups: Mapping[str, tuple[str, ...]]
    modules: Mapping[str, str]
    options: Options
    undo: Mapping[str, bool] = field(default_factory=dict)
    roster: Json = None
    destinations: Mapping[str, Json] = field(default_factory=dict)
    preview: Json = None

    @cached_property
    def digest(self) -> str:
        """sha256 over the plan's content in canonical form: the same on every machine."""
        content = self.document(digest=False)
        content["roster"] = self.roster and self.roster["text"]
        content["hosts"] = canon.digest(content["hosts"])
        if self.preview:
            content["preview"] = [[row["host"], row["step"], row["grade"], row["change"]] for row in self.preview["changes"]]
        return canon.digest(content)

    def document(self, digest: bool = True) -> dict[str, Json]:
        """The plan as JSON: what `--out` writes and a run's first entry holds."""
        folder = self.playbook.document.path.rpartition("/")[0]
        cut = len(folder) + 1 if folder else 0
        content: dict[str, Json] = {
            "format": FORMAT,
            "name": self.playbook.name,
            "strategy": self.playbook.strategy,
            "playbook": self.playbook.document.path[cut:],
            "texts": {path[cut:]: document.text for path, document in sorted(self.playbook.documents.items())},
            "hosts": [[row.name, list(row.groups), dict(row.vars), sorted(row.outside)] for row in self.hosts],
            "groups": {name: list(members) for name, members in self.groups.items()},
            "modules": dict(sorted(self.modules.items())),
            "options": {
                "extra": dict(self.options.extra), "limit": self.options.limit,
                "tags": list(self.options.tags), "skip_tags": list(self.options.skip_tags),
            },
            "roster": self.roster,
            "destinations": dict(self.destinations),
            "steps": [
                {"id": s.short, "section": s.section, "name": s.name, "module": s.module, "undo": self.undo.get(s.id)}
                for s in self.playbook.steps
                if s.section == "communications" or self.nodes[s.id].chosen
            ],
            "nodes": [[node.id, list(node.after), node.chosen] for node in self.nodes.values()],
        }  # fmt: skip
        if digest:
            content |= {"digest": self.digest, "preview": self.preview, "shown": self.playbook.document.path}
        return content

    @cached_property
    def batches(self) -> tuple[tuple[str, ...], ...]:
        """The hosts, `serial` at a time; the last size is repeated."""
        names = [row.name for row in self.hosts]
        sizes = [max(1, math.floor(part * len(names)) if isinstance(part, float) else part) for part in self.playbook.serial]
        found: list[tuple[str, ...]] = []
        at = 0
        while at < len(names):
            size = sizes[min(len(found), len(sizes) - 1)] if sizes else len(names)
            found.append(tuple(names[at : at + size]))
            at += size
        return tuple(found)

    @property
    def tolerated(self) -> int:
        """How many hosts may fail before the run stops."""
        most = self.playbook.max_failed
        return math.floor(most * len(self.hosts)) if isinstance(most, float) else most

    @cached_property
    def followers(self) -> Mapping[str, tuple[str, ...]]:
        """node -> the nodes that wait for it."""
        found: dict[str, list[str]] = {name: [] for name in self.nodes}
        for node in self.nodes.values():
            for name in node.after:
                found[name].append(node.id)
        return {name: tuple(after) for name, after in found.items()}

    def graph(self) -> networkx.DiGraph[str]:
        """The graph as networkx has it: nodes with `kind`, `section`, `step`; edges point from earlier to later."""
        import networkx

        made: networkx.DiGraph[str] = networkx.DiGraph(name=self.playbook.name)
        for node in self.nodes.values():
            made.add_node(node.id, kind=node.kind, section=node.section, step=node.step)
        made.add_edges_from((before, node.id) for node in self.nodes.values() for before in node.after)
        return made

    def outline(self) -> networkx.DiGraph[str]:
        """The graph without the edges that others imply: what a picture shows."""
        import networkx

        whole = self.graph()
        reduced = networkx.transitive_reduction(whole)
        reduced.add_nodes_from(whole.nodes(data=True))
        return reduced


def expressions(step: Step) -> list[tuple[tuple[str | int, ...], str]]:
    """The bare expressions among the step's own keywords: (key path below the step, text)."""
    found: list[tuple[tuple[str | int, ...], str]] = []
    raw = _raw(step)
    if "when" in raw:
        found.append((("when",), step.when[-1]))
    if step.until is not None:
        found.append((("until",), step.until))
    return found


def _raw(step: Step) -> Mapping[str, Json]:
    value: Json = step.document.data
    for key in step.keys:
        value = value[key]
    found: Mapping[str, Json] = value
    return found


def mentioned(step: Step) -> frozenset[str]:
    """Every name that the step's parameters and keywords mention. Parts that are no expression are passed over here."""
    names: set[str] = set()
    for text in (*step.when, *((step.until,) if step.until else ())):
        names |= _names(text, bare=True)
    for value in (step.params, step.loop, dict(step.vars)):
        names |= _names(value)
    return frozenset(names)


def _names(value: Json, bare: bool = False) -> set[str]:
    try:
        parts = [template.expression(value)] if bare else template.parts(value)
    except template.Fault:
        return set()
    return {name for part in parts for name in part.names}


def compile(  # noqa: A001 (what the field calls it)
    book: Playbook, catalog: Catalog, rows: Sequence[HostRow] = (), groups: Mapping[str, tuple[str, ...]] | None = None,
    options: Options | None = None, roster: Json = None, destinations: Mapping[str, Json] | None = None,
) -> Plan:  # fmt: skip
    """The plan. Raises EngineError with every mistake; without hosts, what only hosts could tell is not checked."""
    found: list[Diagnostic] = []
    plan = check(book, catalog, rows, options or Options(), found)
    if found:
        raise EngineError(found)
    if plan is None:
        raise AssertionError("a playbook without mistakes gives a plan")
    used = {name for step in book.steps for name in mentioned(step)}
    plan = replace(
        plan, groups=dict(groups or {}) if used & {"groups", "hostvars"} else {}, roster=roster,
        destinations={name: value for name, value in sorted((destinations or {}).items()) if name in _destinations(book)},
    )  # fmt: skip
    return replace(plan, hosts=tuple(rows) if "hostvars" in used else tuple(_trimmed(plan, rows)))


def _destinations(book: Playbook) -> set[str]:
    named = {step.params.get("to") for step in book.section("communications") if isinstance(step.params, dict)}
    return {str(name) for one in named for name in (one if isinstance(one, list) else [one])}


def _trimmed(plan: Plan, rows: Sequence[HostRow]) -> Iterable[HostRow]:
    """Each host with the variables that the playbook can reach, through other variables too."""
    reach = {name for step in plan.playbook.steps for name in mentioned(step)}
    for value in plan.playbook.vars.values():
        reach |= _names(value)
    for row in rows:
        wanted: set[str] = set()
        queue = [name for name in reach if name in row.vars]
        while queue:
            name = queue.pop()
            wanted.add(name)
            if name not in row.outside:
                queue += [other for other in _names(row.vars[name]) if other in row.vars and other not in wanted]
        yield HostRow(row.name, row.groups, {name: row.vars[name] for name in sorted(wanted)}, row.outside & wanted)


def check(
    book: Playbook, catalog: Catalog, rows: Sequence[HostRow], options: Options, found: list[Diagnostic]
) -> Plan | None:
    """What `compile` does, with the mistakes collected in `found`. Imports no graph library unless there is a circle."""
    checker = _Checker(book, catalog, rows, options, found)
    checker.steps()
    checker.strategy()
    nodes = _Layout(book, options, found).nodes()
    _circles(nodes, book, found)
    if options.tags or options.skip_tags:
        checker.tags()
    return Plan(book, nodes, tuple(rows), {}, checker.digests, options, checker.undo)


class _Checker:
    """Each step against its module, and every name it mentions against what is known there."""

    def __init__(
        self, book: Playbook, catalog: Catalog, rows: Sequence[HostRow], options: Options, found: list[Diagnostic]
    ) -> None:
        self.book, self.catalog, self.rows, self.options, self.found = book, catalog, rows, options, found
        self.digests: dict[str, str] = {}
        self.undo: dict[str, bool] = {}
        self.shapes: dict[str, source.Shape] = {}
        self.entries: dict[str, Any] = {}
        self.registers: dict[str, Step] = {}
        self.order = {step.id: index for index, step in enumerate(book.steps)}
        everywhere = set.intersection(*(set(row.vars) for row in rows)) if rows else set()
        self.anywhere = set().union(*(row.vars for row in rows)) if rows else set()
        self.names = everywhere | set(book.vars) | set(options.extra) | BUILT_IN

    def steps(self) -> None:
        for step in self.book.steps:
            if step.register:
                first = self.registers.setdefault(step.register, step)
                if first is not step:
                    self._say(
                        "LG038",
                        f"two steps register `{step.register}`",
                        step.place("register"),
                        "choose another name",
                        first.place("register"),
                        "the first",
                    )
        used: set[str] = set()
        for step in self.book.steps:
            self._module(step)
            used |= self._step_names(step)
        self._vars_names(used)
        for name in self.options.extra:
            if name not in used and name not in self.book.vars and not self._takes_to(name):
                self._say(
                    "LG044",
                    f"-e {name}=… is used nowhere in this playbook",
                    self.book.document.place(),
                    did_you_mean(name, used | set(self.book.vars), "leave it out"),
                )

    def _takes_to(self, name: str) -> bool:
        return name == "to" and any(step.module == "last_good" for step in self.book.steps)

    def _say(
        self, code: str, summary: str, place: Place, hint: str = "", other: Place | None = None, label: str = ""
    ) -> None:
        self.found.append(Diagnostic(code, summary, place, hint=hint, context=(other, label) if other else None))

    def _module(self, step: Step) -> None:
        try:
            entry = self.catalog.get(step.module)
        except Exception as error:  # noqa: BLE001 (a module of someone else: whatever it raises, it cannot be used)
            self._say("LG040", str(error), step.place(step.module, key=True), "repair or remove the module")
            return
        if entry is None:
            names = self.catalog.names()
            self._say(
                "LG040",
                f"no module `{step.module}`",
                step.place(step.module, key=True),
                did_you_mean(step.module, names, "engine doc lists the modules"),
            )
            return
        self.entries[step.module] = entry
        self.digests[step.module] = entry.digest
        if entry.has("apply"):
            self.undo[step.id] = isinstance(step.params, dict) and entry.can_undo(step.params)
        allowed = getattr(entry.module, "SECTIONS", None)
        if allowed and step.section not in allowed:
            self._say(
                "LG041",
                f"`{step.module}` belongs in {' or '.join(allowed)}",
                step.place(step.module, key=True),
                f"this is {step.section}",
            )
        if not SECTIONS[step.section].changes and entry.has("apply"):
            self._say(
                "LG041",
                f"`{step.module}` changes things; {step.section} only looks",
                step.place(step.module, key=True),
                "move it to execution",
            )
        if step.retries and entry.crash_class(step.params if isinstance(step.params, dict) else {}) == "D":
            self._say(
                "LG042",
                f"`{step.module}` cannot be read back, so it is never tried twice",
                step.place("retries"),
                "remove `retries`, or use `creates` or `unless`",
            )
        if isinstance(step.params, str) and template.templated(step.params):
            self._say(
                "LG015",
                f"the parameters of {step.module} are a mapping",
                step.place(step.module),
                "write the parameters out",
            )
            return
        shape = self.shapes.setdefault(step.module, source.Shape(entry.schema))
        if shape.problems(step.params):
            self.found.extend(source.validate(step.document, shape, (*step.keys, step.module), step.module))
        elif isinstance(step.params, dict):
            self._formats(step, entry.schema, step.params)

    def _formats(self, step: Step, schema: Mapping[str, Json], params: Mapping[str, Json]) -> None:
        for name, value in params.items():
            form = schema.get("properties", {}).get(name, {}).get("format")
            if not isinstance(value, str) or (template.templated(value) and form != "expression"):
                continue
            place = step.place(step.module, name)
            if form == "version" and (value.lower() == "latest" or "/" in value or ".." in value):
                self._say(
                    "LG045",
                    f"`{printable(value)}` does not name one version",
                    place,
                    "write a version's own name; `latest` moves",
                )
            elif form == "url" and not _address(value):
                self._say(
                    "LG046",
                    f"`{printable(value)}` is not an address that can be called",
                    place,
                    "write http://… or https://…, without a user or # part",
                )
            elif form == "path" and (value.startswith(("~", "file:")) or "\\" in value or "\0" in value):
                self._say(
                    "LG046",
                    f"`{printable(value)}` is not a path",
                    place,
                    "write a path that starts at the playbook's folder, or at /",
                )
            elif form == "name" and (not value or set(value) - _NAME_LETTERS or value.startswith((".", "-"))):
                self._say(
                    "LG046", f"`{printable(value)}` is not a plain name", place, "letters, digits, `.`, `_` and `-` alone"
                )

    def _step_names(self, step: Step) -> set[str]:
        """Checks every expression of the step; returns the names that it mentions."""
        used: set[str] = set()
        if step.section == "communications":
            known_more: set[str] = set()
        else:
            known_more = {"item"} if step.loop is not None else set()
        own = known_more | set(step.vars)
        for keys, text in expressions(step):
            more = {step.register} if keys[0] == "until" and step.register else set()
            used |= self._expression(step, keys, text, own | more)
        entry = self.entries.get(step.module)
        properties = entry.schema.get("properties", {}) if entry else {}
        params = step.params if isinstance(step.params, dict) else {}
        for name, value in params.items():
            if properties.get(name, {}).get("format") == "expression" and isinstance(value, str):
                used |= self._expression(step, (step.module, name), value, own | set(properties[name].get("x-names", ())))
        bare = {name for name in params if properties.get(name, {}).get("format") == "expression"}
        rendered = {name: value for name, value in params.items() if name not in bare}
        for root, value in (((step.module,), rendered), (("loop",), step.loop), (("vars",), dict(step.vars))):
            # a step's own `vars` may not see one another's circle; `item` is not yet there when the loop is made
            here = own - {"item"} if root == ("loop",) else own
            for keys, text in template.texts(value):
                used |= self._text(step, (*root, *keys), text, here)
        if isinstance(step.loop, str):
            if not template.templated(step.loop):
                self._say(
                    "LG015", "`loop` is a list, or an expression that gives one", step.place("loop"), 'write loop: "{{ … }}"'
                )
        return used

    def _text(self, step: Step, keys: tuple[str | int, ...], text: str, own: set[str]) -> set[str]:
        try:
            parts = template.parts(text)
        except template.Fault as fault:
            self.found.append(_fault(fault, step, keys, text))
            return set()
        return {name for part in parts for name in self._part(step, keys, part, own)}

    def _expression(self, step: Step, keys: tuple[str | int, ...], text: str, own: set[str]) -> set[str]:
        try:
            part = template.expression(text)
        except template.Fault as fault:
            self.found.append(_fault(fault, step, keys, text))
            return set()
        return set(self._part(step, keys, part, own))

    def _part(self, step: Step, keys: tuple[str | int, ...], part: template.Part, own: set[str]) -> frozenset[str]:
        for name in sorted(part.names - part.optional - own - {"secret"}):
            registered = self.registers.get(name)
            if registered is not None:
                self._later(step, keys, name, registered, part.text)
            elif name == "item" or (name not in self.names and (self.rows or name in BUILT_IN)):
                self._unknown(step, keys, name, own, part.text)
            elif not self.rows and name not in self.names:
                continue  # without an inventory, any name may be one of its variables
        return part.names

    def _later(self, step: Step, keys: tuple[str | int, ...], name: str, by: Step, text: str) -> None:
        sections = list(SECTIONS)
        if step.section != "communications" and sections.index(by.section) > sections.index(step.section):
            place = _inside(step, keys, name)
            self._say(
                "LG024",
                f"`{name}` is registered later, in {by.section}",
                place,
                "move the step, or use another name",
                by.place("register"),
                "registered here",
            )
        elif by is step and keys[0] != "until":
            self._say(
                "LG024",
                f"`{name}` is registered by this very step",
                _inside(step, keys, name),
                "only `until` may look at the step's own result",
            )

    def _unknown(self, step: Step, keys: tuple[str | int, ...], name: str, own: set[str], text: str) -> None:
        known = self.names | set(self.registers) | own
        if name == "item":
            hint = "`item` is there only where the step has a `loop`"
        elif name in self.anywhere:
            missing = [row.name for row in self.rows if name not in row.vars]
            hint = f"{len(missing)} of {len(self.rows)} hosts do not have it, the first is {missing[0]}"
        else:
            hint = did_you_mean(name, known, "set it in the inventory, under `vars`, or with -e")
        self._say("LG020", f"`{name}` is not defined", _inside(step, keys, name), hint)

    def _vars_names(self, used: set[str]) -> None:
        """The playbook's own variables may mention others."""
        for name, value in self.book.vars.items():
            try:
                parts = template.parts(value)
            except template.Fault as fault:
                self._say(fault.code, fault.message, self.book.document.place(("vars", name)), fault.hint)
                continue
            for part in parts:
                used |= part.names
                for other in sorted(part.names - part.optional - self.names):
                    if self.rows:
                        self._say(
                            "LG020",
                            f"`{other}` is not defined",
                            self.book.document.place(("vars", name)),
                            did_you_mean(other, self.names),
                        )

    def strategy(self) -> None:
        """What makes a playbook one of its strategy (language: the table of strategies)."""
        book, steps = self.book, self.book.section("execution")
        if book.has("execution") and not steps:
            self._say(
                "LG050", "execution has no steps", book.document.place(("execution",), key=True), "say what is to be changed"
            )
            return
        moving = [step for step in steps if book.strategy in getattr(self._module_of(step), "MOVES", ())]
        place = book.document.place(("strategy",))
        if steps and not moving and all(step.module in self.entries for step in steps):
            movers = sorted(n for n in self.catalog.names() if _moves(self.catalog, n, book.strategy))
            self._say(
                "LG050",
                f"no step of execution makes this a `{book.strategy}` rollback",
                place,
                "modules that do: " + ", ".join(movers),
            )
        if book.strategy == "data":
            have = {tag for step in steps for tag in step.tags}
            for tag in DATA_TAGS:
                if tag not in have:
                    self._say(
                        "LG051",
                        f"a data rollback needs an execution step tagged `{tag}`",
                        place,
                        "its four acts are tagged " + ", ".join(DATA_TAGS),
                    )

    def _module_of(self, step: Step) -> Any:
        entry = self.entries.get(step.module)
        return entry.module if entry else None

    def tags(self) -> None:
        known = {tag for step in self.book.steps for tag in step.tags}
        for tag in (*self.options.tags, *self.options.skip_tags):
            if tag not in known and tag not in ("all", "always", "never", "tagged", "untagged"):
                self._say(
                    "LG047",
                    f"no step has the tag `{printable(tag)}`",
                    self.book.document.place(),
                    did_you_mean(tag, known, "tags: " + ", ".join(sorted(known))),
                )


_NAME_LETTERS = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def _address(text: str) -> bool:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(text)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and not parts.fragment
            and parts.username is None
            and parts.port != 0
        )
    except ValueError:
        return False


def _moves(catalog: Catalog, name: str, strategy: str) -> bool:
    try:
        entry = catalog.get(name)
    except Exception:  # noqa: BLE001 (only a hint is being made; the module itself is reported where it is used)
        return False
    return entry is not None and strategy in getattr(entry.module, "MOVES", ())


def _inside(step: Step, keys: tuple[str | int, ...], word: str) -> Place:
    """The place of `word` inside the text at `keys`, if it stands on that line."""
    place = step.place(*keys)
    at = place.text.find(word, place.column - 1)
    return replace(place, column=at + 1, length=len(word)) if at >= 0 and word else place


def _fault(fault: template.Fault, step: Step, keys: tuple[str | int, ...], text: str) -> Diagnostic:
    return Diagnostic(
        fault.code, fault.message, _inside(step, keys, fault.name) if fault.name else step.place(*keys), hint=fault.hint
    )


class _Layout:
    """Lays the steps out as nodes: order of the text, `needs`, mentions, blocks, gates between sections."""

    def __init__(self, book: Playbook, options: Options, found: list[Diagnostic]) -> None:
        self.book, self.options, self.found = book, options, found
        self.made: dict[str, Node] = {}
        self.registers = {step.register: step.id for step in reversed(book.steps) if step.register}
        self.by_short = {step.short: step for step in book.steps}
        self.ends = {block.id.partition("/")[2]: f"{block.id}.end" for block in book.blocks.values()}

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
        """Adds the nodes for `steps`, whose blocks are entered down to `depth`; `entry` is what an arm of a block starts with."""
        free = self.book.trigger_mode == "any"
        at = 0
        while at < len(steps):
            step = steps[at]
            if len(step.arms) == depth:
                section_start = (step.section,) if step.section == "trigger" and free else previous
                self.made[step.id] = Node(
                    step.id, "step", step.section, self._after(step, section_start, entry), step, self._chosen(step)
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
        self.made[end] = Node(end, "end", section, inside() or previous)
        return end

    def _after(self, step: Step, previous: tuple[str, ...], entry: tuple[str, ...]) -> tuple[str, ...]:
        after = list(previous)
        if step.needs is not None:
            after = list(entry)
            for index, name in enumerate(step.needs):
                target = self._need(step, name, step.place("needs", index))
                if target:
                    after.append(target)
        for name in mentioned(step):
            other = self.registers.get(name)
            if other and other != step.id:
                after.append(other)
        return tuple(dict.fromkeys(after))

    def _need(self, step: Step, name: str, place: Place) -> str | None:
        short = name.partition("/")[2] or name
        if short in self.ends:
            return self.ends[short]
        other = self.by_short.get(short)
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
        else:
            return other.id
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


def _circles(nodes: Mapping[str, Node], book: Playbook, found: list[Diagnostic]) -> None:
    """The order of the text is an order of the graph unless an edge points forward: only then is a circle looked for."""
    order = {name: index for index, name in enumerate(nodes)}
    if all(order.get(name, -1) < order[node.id] for node in nodes.values() for name in node.after):
        return
    import networkx

    graph: networkx.DiGraph[str] = networkx.DiGraph([(name, node.id) for node in nodes.values() for name in node.after if name in nodes])
    for group in networkx.strongly_connected_components(graph):
        if len(group) > 1:
            circle = [edge[0] for edge in networkx.find_cycle(graph.subgraph(group))]
            start = circle.index(min(circle, key=lambda name: order[name]))
            circle = [*circle[start:], *circle[:start]]
            step = next(nodes[name].step for name in circle if nodes[name].step)
            if step:
                steps = " -> ".join(name.partition("/")[2] or name for name in [*circle, circle[0]])
                place = step.place("needs") if step.needs else step.place()
                found.append(
                    Diagnostic(
                        "LG049", f"steps wait for each other in a circle: {steps}", place, hint="remove one of the waits"
                    )
                )


def load(document: Mapping[str, Json], catalog: Catalog) -> Plan:
    """The plan that `Plan.document` stored. Raises EngineError when this engine or its modules would make another one of it."""
    if document.get("format") != FORMAT:
        raise EngineError(
            Diagnostic(
                "LG060", f"not a plan of this engine: {printable(str(document.get('format')))}", hint="make a new plan"
            )
        )
    shown = document["shown"].rpartition("/")[0]
    prefix = f"{shown}/" if shown else ""

    def fetch(name: str) -> source.Document:
        if name not in document["texts"]:
            raise EngineError(Diagnostic("LG001", f"{name} is not part of the plan"))
        return source.parse(document["texts"][name], prefix + name)

    found: list[Diagnostic] = []
    book = playbook.read(fetch, document["playbook"], lambda name: _known(catalog, name), found)
    if book is None or found:
        raise EngineError(found)
    said = document["options"]
    rows = [HostRow(name, tuple(groups), values, frozenset(outside)) for name, groups, values, outside in document["hosts"]]
    options = Options(said["extra"], said["limit"], tuple(said["tags"]), tuple(said["skip_tags"]))
    made = check(book, catalog, rows, options, found)
    if made is None or found:
        raise EngineError(found)
    made = replace(
        made, groups={name: tuple(members) for name, members in document["groups"].items()}, roster=document["roster"],
        destinations=document["destinations"], preview=document["preview"],
    )  # fmt: skip
    moved(document, made)
    return made


def moved(document: Mapping[str, Json], made: Plan) -> None:
    """Raises EngineError (exit 7's LG061) naming what is not as it was when the plan was made."""
    names = [name for name, digest in document["modules"].items() if made.modules.get(name) != digest]
    if names:
        raise EngineError(
            [
                Diagnostic(
                    "LG061", f"the module `{name}` is not the one that the plan was made with", hint="make a new plan"
                )
                for name in names
            ]
        )
    if made.digest != document["digest"]:
        raise EngineError(
            Diagnostic("LG061", "this engine makes another graph of the same plan", hint="make a new plan with this engine")
        )


def _known(catalog: Catalog, name: str) -> bool:
    try:
        return catalog.get(name) is not None
    except Exception:  # noqa: BLE001 (it is there and cannot be used: `check` says why)
        return True
