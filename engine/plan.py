"""Playbook + inventory + catalog -> Plan: what will be done, as a value with a digest that keys are bound to.

In: a parsed playbook, the chosen hosts, the catalog of modules. Out: a frozen `Plan`, or every mistake that the three make
together. It reads no live state and performs nothing.

A plan is stored as its inputs (texts, host rows, module digests) and made again from them, so there is one way from text
to graph and no second format that could say something else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from engine import budget, canon, layout, reader, source, template
from engine import check as checks
from engine.check import Catalog, HostRow
from engine.diagnostics import Diagnostic, EngineError, Exit, printable
from engine.layout import Node, Options
from engine.playbook import Playbook
from modules.contract import Json

if TYPE_CHECKING:
    import networkx

FORMAT = "lastgood.plan/1"


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
        if kept := self.roster:  # an earlier version kept no environment
            content["roster"] = [kept["environment"], kept["text"]] if "environment" in kept else kept["text"]
        content["hosts"] = canon.digest(content["hosts"])
        if self.preview:
            keys = ("host", "step", "grade", "change", "wanted")
            content["preview"] = [[row.get(key) for key in keys] for row in self.preview["changes"]]
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
                {
                    "id": s.short, "section": s.section, "name": s.name, "module": s.module, "undo": self.undo.get(s.id),
                    "once": s.run_once,
                }
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
        return budget.batches([row.name for row in self.hosts], self.playbook.serial)

    @property
    def tolerated(self) -> int:
        """How many hosts may fail before the run stops."""
        return budget.part(self.playbook.max_failed, len(self.hosts))

    @property
    def budget(self) -> str:
        """How many hosts may fail and how they are taken on, in words; empty for one host."""
        return budget.words(self.playbook.max_failed, len(self.hosts), [len(batch) for batch in self.batches])

    @cached_property
    def followers(self) -> Mapping[str, tuple[str, ...]]:
        """node -> the nodes that wait for it."""
        found: dict[str, list[str]] = {name: [] for name in self.nodes}
        for node in self.nodes.values():
            for name in node.after:
                found[name].append(node.id)
        return {name: tuple(after) for name, after in found.items()}

    def graph(self) -> networkx.DiGraph[str]:
        """The graph as networkx has it."""
        return layout.graph(self.nodes, self.playbook.name)

    def outline(self) -> networkx.DiGraph[str]:
        """The graph without the edges that others imply: what a picture shows."""
        return layout.outline(self.nodes, self.playbook.name)


def compile(  # noqa: A001 (what the field calls it)
    book: Playbook, catalog: Catalog, rows: Sequence[HostRow] = (), groups: Mapping[str, tuple[str, ...]] | None = None,
    options: Options | None = None, roster: Json = None, destinations: Mapping[str, Json] | None = None,
) -> Plan:  # fmt: skip
    """The plan. Raises EngineError with every mistake; without hosts, what only hosts could tell is not checked."""
    found: list[Diagnostic] = []
    plan, names = _checked(book, catalog, rows, options or Options(), found)
    if found:
        raise EngineError(found)
    plan = replace(
        plan, groups=dict(groups or {}) if names & {"groups", "hostvars"} else {}, roster=roster,
        destinations={name: value for name, value in sorted((destinations or {}).items()) if name in _destinations(book)},
    )  # fmt: skip
    return replace(plan, hosts=tuple(rows) if "hostvars" in names else tuple(_trimmed(rows, names)))


def _destinations(book: Playbook) -> set[str]:
    named = {step.params.get("to") for step in book.section("communications") if isinstance(step.params, dict)}
    return {str(name) for one in named for name in (one if isinstance(one, list) else [one])}


def _trimmed(rows: Sequence[HostRow], names: frozenset[str]) -> Iterable[HostRow]:
    """Each host with the variables that the playbook can reach, through other variables too."""
    for row in rows:
        wanted: set[str] = set()
        queue = [name for name in names if name in row.vars]
        while queue:
            name = queue.pop()
            wanted.add(name)
            if name not in row.outside:
                queue += [other for other in template.mentioned(row.vars[name]) if other in row.vars and other not in wanted]
        yield HostRow(row.name, row.groups, {name: row.vars[name] for name in sorted(wanted)}, row.outside & wanted)


def check(book: Playbook, catalog: Catalog, rows: Sequence[HostRow], options: Options, found: list[Diagnostic]) -> Plan:
    """What `compile` does, with the mistakes collected in `found`. Imports no graph library unless there is a circle."""
    return _checked(book, catalog, rows, options, found)[0]


def _checked(
    book: Playbook, catalog: Catalog, rows: Sequence[HostRow], options: Options, found: list[Diagnostic]
) -> tuple[Plan, frozenset[str]]:
    """The plan, and every name that the playbook mentions."""
    modules = checks.steps(book, catalog, rows, options, found)
    nodes = layout.nodes(book, options, found, modules.bare)
    return Plan(book, nodes, tuple(rows), {}, modules.digests, options, modules.undo), modules.names


_TEXT, _TEXTS, _MAPPING = {"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "object"}
_NAMED = {"type": "object", "additionalProperties": _TEXT}
_HOST = {"type": "array", "prefixItems": [_TEXT, _TEXTS, _MAPPING, _TEXTS], "minItems": 4, "maxItems": 4}


def _record(optional: bool = False, **properties: Json) -> dict[str, Json]:
    return {"type": ["object", "null"] if optional else "object", "required": list(properties), "properties": properties}


#: What `load` takes from a stored plan; the digest says whether it is what was stored.
_STORED = source.Shape(
    _record(
        digest=_TEXT, shown=_TEXT, playbook=_TEXT, texts=_NAMED, modules=_NAMED, destinations=_MAPPING,
        hosts={"type": "array", "items": _HOST},
        groups={"type": "object", "additionalProperties": _TEXTS},
        options=_record(extra=_MAPPING, limit=_TEXT, tags=_TEXTS, skip_tags=_TEXTS),
        roster=_record(optional=True, path=_TEXT, text=_TEXT),
        preview=_record(optional=True, changes={"type": "array", "items": _MAPPING}),
    )
)  # fmt: skip


def load(document: Mapping[str, Json], catalog: Catalog, needed: Collection[str] | None = None) -> Plan:
    """The plan that `Plan.document` stored. Raises EngineError when this engine or its modules would make another of it.

    `needed`: the modules that will be called, where not all will be; the others may have changed.
    """
    if document.get("format") != FORMAT:
        said = printable(str(document.get("format")))
        raise EngineError(Diagnostic("LG060", f"not a plan of this engine: {said}", hint="make a new plan"))
    if _STORED.problems(document, rendered=True):
        raise EngineError(Diagnostic("LG060", "the plan is damaged", hint="make a new plan"))
    shown = document["shown"].rpartition("/")[0]
    prefix = f"{shown}/" if shown else ""

    def fetch(name: str) -> source.Document:
        if name not in document["texts"]:
            raise EngineError(Diagnostic("LG001", f"{name} is not part of the plan", hint="make a new plan"))
        return source.parse(document["texts"][name], prefix + name)

    found: list[Diagnostic] = []
    book = reader.read(fetch, document["playbook"], lambda name: _known(catalog, name), found)
    if book is None or found:
        raise EngineError(found)
    said = document["options"]
    rows = [HostRow(name, tuple(groups), values, frozenset(outside)) for name, groups, values, outside in document["hosts"]]
    options = Options(said["extra"], said["limit"], tuple(said["tags"]), tuple(said["skip_tags"]))
    made = check(book, catalog, rows, options, found)
    if found:
        raise EngineError(found)
    made = replace(
        made, groups={name: tuple(members) for name, members in document["groups"].items()}, roster=document["roster"],
        destinations=document["destinations"], preview=document["preview"],
    )  # fmt: skip
    moved(document, made, needed)
    return replace(made, modules=document["modules"])


def moved(document: Mapping[str, Json], made: Plan, needed: Collection[str] | None = None) -> None:
    """Raises EngineError (exit 7's LG061) naming what is not as it was when the plan was made."""
    names = [
        name
        for name, digest in document["modules"].items()
        if made.modules.get(name) != digest and (needed is None or name in needed)
    ]
    if names:
        raise EngineError(
            [
                Diagnostic(
                    "LG061",
                    f"the module `{name}` is not the one that the plan was made with",
                    hint="install the version that it was made with, or make a new plan",
                )
                for name in names
            ],
            Exit.STALE,
        )
    if replace(made, modules=document["modules"]).digest != document["digest"]:
        raise EngineError(
            Diagnostic("LG061", "this engine makes another graph of the same plan", hint="make a new plan with this engine"),
            Exit.STALE,
        )


def _known(catalog: Catalog, name: str) -> bool:
    try:
        return catalog.get(name) is not None
    except Exception:  # noqa: BLE001 (it is there and cannot be used: `check` says why)
        return True
