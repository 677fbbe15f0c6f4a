"""What one inventory folder says: its groups, its hosts, and which text gives them which variables.

In: hosts files, answers of executables, `group_vars/` and `host_vars/`. Out: an `Environment` that resolves each host to
its groups and layers of variables. It renders nothing, runs nothing, and knows no other folder.

Precedence, strongest first: a host's file, the host's own lines, then group by group from the deepest to `all` (equally
deep ones: the alphabet's later), in each group its file before its own lines. A later text wins over an earlier one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

from engine import pattern as patterns
from engine import source
from engine.diagnostics import Diagnostic, EngineError, Place, did_you_mean, printable
from modules.contract import Json

#: A place in a text, or for an executable what was run.
Where = Place | str

SUFFIXES = (".yml", ".yaml", ".json")
MAX_HOSTS = 100_000
#: Names that the engine gives to expressions, words that Jinja keeps, and one of Ansible's that would change precedence.
RESERVED = frozenset(
    ["inventory_hostname", "group_names", "groups", "hostvars", "run", "item", "trigger", "secret", "ansible_group_priority",
     "and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False", "None"]
)  # fmt: skip
# A host's name becomes a folder of evidence and part of messages and addresses: a closed alphabet, never a path.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")
_VARIABLE = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True, eq=False)
class Layer:
    """What one text says of one group or host; every host that it reaches shares it."""

    values: Mapping[str, Json]
    origin: Mapping[str, Where]
    whose: str
    outside: bool = False


@dataclass
class Node:
    """A group or a host while it is read: children and members (groups only), then its variables, weakest first."""

    where: Where | None
    children: dict[str, Where] = field(default_factory=dict)
    members: dict[str, None] = field(default_factory=dict)
    inline: list[Layer] = field(default_factory=list)
    files: list[Layer] = field(default_factory=list)


class Environment:
    """What the texts of one folder say; every mistake goes to `found`, reading goes on."""

    def __init__(self, folder: Path, found: list[Diagnostic]) -> None:
        self.folder, self.found = folder, found
        self.groups: dict[str, Node] = {"all": Node(None)}
        self.hosts: dict[str, Node] = {}
        self.order = ["all"]
        self.files: dict[str, str] = {}

    def read(self, file: Path) -> None:
        """Takes in a hosts file."""
        document = self._load(file)
        if document is None:
            return
        if mistakes := source.validate(document, source.schema("inventory")):
            self.found.extend(replace(mistake, code="LG102") for mistake in mistakes)
            return
        for name in self._mapping(document, (), document.data):
            self._group(document, (name,))

    def answer(self, answer: Json, where: str) -> None:
        """Takes in what an executable answered; `where` says what was run."""
        if wrong := [*_shape(answer)]:
            self.found.extend(Diagnostic("LG108", f"{where}: {sentence}", place_of(where)) for sentence in wrong)
            return
        known = answer["_meta"]["hostvars"]
        for name, body in answer.items():
            if name == "_meta":
                continue
            group: dict[str, Json] = {"hosts": body} if isinstance(body, list) else body
            node = self._named(self.groups, name, where)
            if group.get("vars"):
                node.inline.append(self._outside(group["vars"], where, f"group {name}"))
            for child in group.get("children") or ():
                self._named(self.groups, child, where)
                node.children.setdefault(child, where)
            for host in group.get("hosts") or ():
                node.members[host] = None
                one = self._named(self.hosts, host, where)
                if known.get(host) and not any(layer.values is known[host] for layer in one.inline):
                    one.inline.append(self._outside(known[host], where, f"host {host}"))

    def finish(self) -> None:
        """Takes in what lies beside the hosts files."""
        grouped = {host for name, node in self.groups.items() if name not in ("all", "ungrouped") for host in node.members}
        alone = {host: None for host in self.hosts if host not in grouped}
        if alone or "ungrouped" in self.groups:  # Ansible's own group: the hosts that are in no other
            self.groups.setdefault("ungrouped", Node(None)).members = alone
        self.order = self._sorted()
        self._beside("group_vars", "group", self.groups)
        self._beside("host_vars", "host", self.hosts)

    def resolved(self) -> Iterator[tuple[str, tuple[str, ...], tuple[Layer, ...]]]:
        """Each host with its groups and its layers, weakest first."""
        above: dict[str, set[str]] = {name: {"all", name} for name in self.groups}
        depth = {name: int(name != "all") for name in self.groups}
        for name in self.order:
            for child in self.groups[name].children:
                above[child] |= above[name]
                depth[child] = max(depth[child], depth[name] + 1)
        direct: dict[str, list[str]] = {name: [] for name in self.hosts}
        for group, node in self.groups.items():
            for host in node.members:
                direct[host].append(group)
        shared: dict[tuple[str, ...], tuple[tuple[str, ...], tuple[Layer, ...]]] = {}
        for host, node in self.hosts.items():
            key = tuple(direct[host])
            if key not in shared:
                names = {"all"}.union(*(above[group] for group in key))
                order = sorted(names, key=lambda name: (depth[name], name))
                layers = tuple(layer for name in order for layer in (*self.groups[name].inline, *self.groups[name].files))
                shared[key] = tuple(sorted(names - {"all"})), layers
            groups, layers = shared[key]
            yield host, groups, (*layers, *node.inline, *node.files) if node.inline or node.files else layers

    def members(self) -> dict[str, list[str]]:
        """The hosts of each group in the order of its text: its own, then those of its children."""
        found: dict[str, list[str]] = {}
        for name in reversed(self.order):
            node = self.groups[name]
            own = [*node.members, *(host for child in node.children for host in found[child])]
            found[name] = [*dict.fromkeys(own)] if name != "all" else [*self.hosts]
        return {name: found[name] for name in self.groups}

    def _sorted(self) -> list[str]:
        """The groups, parents before their children; what would be a circle is reported and left out."""
        parents: dict[str, list[str]] = {name: ["all"] if name != "all" else [] for name in self.groups}
        for name, node in self.groups.items():
            for child in node.children:
                parents[child].append(name)
        while True:
            try:
                return [*TopologicalSorter(parents).static_order()]
            except CycleError as error:
                cycle: list[str] = error.args[1]
                said = [(upper, lower) for upper, lower in pairwise(cycle) if lower in self.groups[upper].children]
                upper, lower = max(said, key=lambda pair: place_of(self.groups[pair[0]].children[pair[1]]) or Place(""))
                at = cycle.index(lower)
                way = " > ".join(f"`{name}`" for name in (*cycle[at:-1], *cycle[:at], lower))
                hint = f"take `{lower}` out of the children of `{upper}`"
                self._mistake("LG109", f"groups contain each other: {way}", self.groups[upper].children.pop(lower), hint)
                parents[lower] = [parent for parent in parents[lower] if parent != upper]

    def _group(self, document: source.Document, at: source.Keys) -> None:
        name, body = str(at[-1]), document.data
        for key in at:
            body = body[key]
        node = self._named(self.groups, name, document.place(at, key=True))
        for section, content in self._mapping(document, at, body).items():
            inside = (*at, section)
            entries = self._mapping(document, inside, content)
            if section == "vars":
                node.inline.append(self._layer(document, inside, entries, f"group {name}"))
                continue
            for entry, own in entries.items():
                place = document.place((*inside, entry), key=True)
                if section == "children":
                    node.children.setdefault(entry, place)
                    self._group(document, (*inside, entry))
                    continue
                values = self._mapping(document, (*inside, entry), own)
                layer = self._layer(document, (*inside, entry), values, f"host {entry}") if values else None
                for host in self._expanded(entry, place):
                    node.members[host] = None
                    self.hosts.setdefault(host, Node(place)).inline.extend([layer] if layer else [])

    def _mapping(self, document: source.Document, at: source.Keys, value: Json) -> dict[str, Json]:
        """A mapping or nothing; the schema lets a template stand for one, which nobody would render here."""
        if value is None or isinstance(value, dict):
            return value or {}
        name = at[-1] if at else document.path
        self._mistake("LG102", f"`{name}` should be a mapping", document.place(at), "write `name: value` lines")
        return {}

    def _named(self, nodes: dict[str, Node], name: str, where: Where) -> Node:
        """The node of that name, made if need be; its name is checked once."""
        if name not in nodes:
            nodes[name] = Node(where)
            self._check_name(name, where, name)
        return nodes[name]

    def _check_name(self, name: str, where: Where, written: str) -> bool:
        """Whether `name`, which comes from the text `written`, can be the name of a host or group."""
        if _NAME.fullmatch(name):
            return True
        bad = next((char for char in name if not re.match(r"[A-Za-z0-9_.-]", char)), name[:1])
        what = "1 to 253 characters are possible"
        if name and len(name) < 254:
            first = bad == name[0] and re.match(r"[.-]", bad)
            what = f"it begins with `{bad}`" if first else "it holds " + ("a blank" if bad == " " else f"`{printable(bad)}`")
        at = patterns.part(place_of(where), written, written.find(bad), 1)
        detail = "It becomes part of folders, addresses and messages, where a character with a meaning of its own is a trap."
        hint = "write letters, digits, `_`, `.` and `-`, beginning with a letter or digit"
        self.found.append(Diagnostic("LG106", f"`{printable(name)}` cannot be a name: {what}", at, detail, hint))
        return False

    def _expanded(self, written: str, place: Place) -> list[str]:
        """The hosts that `written`, a name or a range of names, stands for; none when it cannot be used."""
        try:
            names = patterns.expand(written, MAX_HOSTS - len(self.hosts))
        except patterns.BadRange as error:
            at = patterns.part(place, written, error.start, error.length)
            self._mistake("LG105", f"`{printable(written)}`: {error}", at, "write for example svc[01:20]")
            return []
        return names if self._check_name(names[0], place, written) else []

    def _layer(self, document: source.Document, at: source.Keys, values: dict[str, Json], whose: str) -> Layer:
        origin = {name: document.place((*at, name), key=True) for name in values}
        for name, place in origin.items():
            self._check_variable(name, place)
        return Layer(values, origin, whose)

    def _check_variable(self, name: str, where: Where) -> None:
        if name in RESERVED:
            self._mistake("LG113", f"the variable name `{name}` is reserved", where, f"rename it, say `my_{name.lower()}`")
        elif not _VARIABLE.fullmatch(name):
            better = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_0123456789")
            hint = f"write `{better}`" if better else "use letters"
            summary = f"`{printable(name)}` is not a name: letters, digits and `_`, a letter first"
            self._mistake("LG113", summary, where, hint)

    def _outside(self, values: dict[str, Json], where: str, whose: str) -> Layer:
        for name in values:
            self._check_variable(name, where)
        return Layer(values, dict.fromkeys(values, where), whose, outside=True)

    def _beside(self, folder: str, kind: str, nodes: dict[str, Node]) -> None:
        """Adds `group_vars/` or `host_vars/`: NAME.yml, or a folder NAME/ of such files."""
        root = self.folder / folder
        entries: dict[str, list[Path]] = {}
        for entry in sorted(root.iterdir()) if root.is_dir() else ():
            name = entry.stem if entry.suffix in SUFFIXES and not entry.is_dir() else entry.name
            if not entry.name.startswith(".") and (name in nodes or entry.is_dir() or entry.suffix in SUFFIXES):
                entries.setdefault(name, []).append(entry)
        for name, files in entries.items():
            first = Place(shown(files[0]))
            if name not in nodes:
                summary = f"no {kind} is called `{printable(name)}`: {first.path} is not used"
                self.found.append(Diagnostic("LG103", summary, first, hint=did_you_mean(name, nodes), severity="warning"))
            elif len(files) > 1:
                both = " and ".join(shown(file) for file in files)
                summary = f"the variables of {kind} `{name}` are in two places: {both}"
                self._mistake("LG102", summary, first, "keep one of them")
            else:
                for document in filter(None, map(self._load, _parts(files[0]))):
                    values = self._mapping(document, (), document.data)
                    nodes[name].files.append(self._layer(document, (), values, f"{kind} {name}"))

    def document(self, name: str) -> source.Document | None:
        """`name`.yml of the folder, if it is there and can be read."""
        files = (self.folder / (name + suffix) for suffix in (".yml", ".yaml"))
        return next((self._load(file) for file in files if file.is_file()), None)

    def _load(self, file: Path) -> source.Document | None:
        """The document, noted among the files, or None when it cannot be read."""
        try:
            document = source.load(file, shown(file))
        except EngineError as error:
            self.found.extend(error.diagnostics)
            return None
        self.files[document.path] = document.digest
        return document

    def _mistake(self, code: str, summary: str, where: Where | None, hint: str) -> None:
        self.found.append(Diagnostic(code, summary, place_of(where), hint=hint))


def _parts(entry: Path) -> list[Path]:
    """A file itself, or the files of a folder and the folders in it, by name."""
    if not entry.is_dir():
        return [entry]
    return sorted(file for file in entry.rglob("*") if file.suffix in SUFFIXES and file.name[0] != "." and file.is_file())


def place_of(where: Where | None) -> Place | None:
    """The place, for an executable that of its answer's first line."""
    return Place(where) if isinstance(where, str) else where


def _shape(answer: Json) -> Iterator[str]:
    """What is wrong with an executable's answer, one sentence each."""
    if not isinstance(answer, dict):
        yield "the answer should be a JSON object of groups"
        return
    known = answer.get("_meta", {}).get("hostvars") if isinstance(answer.get("_meta", {}), dict) else None
    if not isinstance(known, dict) or not all(isinstance(values, dict) for values in known.values()):
        yield '`_meta.hostvars` should map each host to its variables: {"_meta": {"hostvars": {"svc01": {}}}}'
    for name, body in answer.items():
        if name == "_meta":
            continue
        group = {"hosts": body} if isinstance(body, list) else body
        if not isinstance(group, dict):
            yield f"the group `{printable(name)}` should be an object"
            continue
        for section, value in group.items():
            if section == "vars" and isinstance(value, dict | None):
                continue
            names = section in ("hosts", "children") and isinstance(value, list | None)
            if not names or not all(isinstance(entry, str) for entry in value or ()):
                which = f"`{printable(name)}.{printable(section)}`"
                yield f"{which}: a group has `hosts` and `children`, lists of names, and `vars`, an object"


def shown(path: Path) -> str:
    """The path as people wrote it, or relative to the working folder when it lies in it."""
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    return str(path)
