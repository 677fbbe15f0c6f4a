"""Which model services there are, what each of them is called with, and who and where people are.

In: the paths given with `-i`. Out: an `Inventory` of frozen hosts whose variables know their origin, the roster and the
destinations; or one `EngineError` with every mistake. It refuses to know playbooks, and it renders nothing.

The format is Ansible's (hosts.yml, `group_vars/`, `host_vars/`, executables that answer `--list`), with one difference:
*a folder is an environment*. Groups and variables of one folder never reach the hosts of another, and a host belongs to
one folder. Several `-i` of the same folder are merged in order. Only a file named with `-i` is ever executed.
"""

from __future__ import annotations

import glob
import hashlib
import os
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine import environment, freeze, roster, source
from engine import pattern as patterns
from engine.diagnostics import Diagnostic, EngineError, Place, did_you_mean, printable
from engine.environment import Environment, Layer, Where
from modules.contract import Json

HOSTS_FILES = ("hosts.yml", "hosts.yaml", "inventory.yml", "inventory.yaml")
MAX_ANSWER = 64 << 20
EXECUTABLE_SECONDS = 30.0


@dataclass(frozen=True)
class Host:
    """One model service. `groups` are sorted and hold the parents but not `all`; `origin` says where each variable's
    value stands; `outside` names those that an executable answered: data, never rendered as a template."""

    name: str
    groups: tuple[str, ...]
    vars: Mapping[str, Json]
    origin: Mapping[str, Where]
    outside: frozenset[str]


@dataclass(frozen=True)
class Inventory:
    """All hosts in the order of the texts, the hosts of each group (`all` too), and what lies beside them.

    `files` maps the path of each file that was read, as shown to people, to its sha256. `warnings` are for the reviewer.
    """

    hosts: Mapping[str, Host]
    groups: Mapping[str, tuple[str, ...]]
    roster: source.Document | None
    destinations: Mapping[str, Json]
    files: Mapping[str, str]
    warnings: tuple[Diagnostic, ...] = ()
    #: host -> its environment: the folder, as shown to people.
    environments: Mapping[str, str] = field(default_factory=dict)
    #: environment -> the roster in its folder, which says nothing about the hosts of another.
    rosters: Mapping[str, source.Document] = field(default_factory=dict)
    #: group -> the groups and the hosts that stand in it directly.
    tree: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict)
    _layers: Mapping[str, tuple[Layer, ...]] = field(default_factory=dict, repr=False)

    def explain(self, host: str, variable: str) -> list[tuple[Json, str]]:
        """Every value that `variable` is given for `host`, with its origin; the first won. Raises EngineError (LG103)."""
        if host not in self._layers:
            raise EngineError(patterns.unknown(host, self._layers))
        layers = [layer for layer in reversed(self._layers[host]) if variable in layer.values]
        return [(layer.values[variable], f"{layer.origin[variable]} ({layer.whose})") for layer in layers]


def select(inventory: Inventory, pattern: str, place: Place | None = None) -> tuple[Host, ...]:
    """The hosts that `pattern` names, in inventory order; `place` is where the pattern stands.

    Raises EngineError: LG103 a name or form that is not known, LG104 no host is left, LG107 a group without hosts."""
    return tuple(inventory.hosts[name] for name in patterns.match(pattern, [*inventory.hosts], inventory.groups, place))


def rows(inventory: Inventory, hosts: Iterable[str]) -> dict[str, Json]:
    """The given hosts as plain JSON for the plan: name -> groups, vars and the names of the vars from outside."""
    chosen = (inventory.hosts[name] for name in hosts)
    return {h.name: {"groups": [*h.groups], "vars": dict(h.vars), "outside": sorted(h.outside)} for h in chosen}


def load(paths: Sequence[str | Path]) -> Inventory:
    """The inventory in `paths`, in order. Raises EngineError with every mistake in it (LG1xx, and LG0xx for bad YAML)."""
    found: list[Diagnostic] = []
    folders: dict[Path, Environment] = {}
    read: set[Path] = set()
    if not paths:
        found.append(Diagnostic("LG101", "no inventory is given", hint="name its folder: -i inventories/production"))
    for path in map(Path, paths):
        try:
            file = _hosts_file(path)
            folder = file.parent.resolve()
            one = folders.setdefault(folder, Environment(file.parent, found))
            if folder / file.name not in read:
                read.add(folder / file.name)
                _read(file, one)
        except EngineError as error:
            found.extend(error.diagnostics)
        except OSError as error:
            found.append(_unreadable(error))
    for one in folders.values():
        try:
            one.finish()
        except OSError as error:
            found.append(_unreadable(error))
    inventory = _joined([*folders.values()], found)
    errors = [d for d in found if d.severity == "error"]
    if errors:
        raise EngineError(errors)
    return inventory


def _unreadable(error: OSError) -> Diagnostic:
    summary = f"cannot read {printable(str(error.filename), 200)}: {error.strerror}"
    return Diagnostic("LG101", summary, hint="check the path and its permissions")


def _hosts_file(path: Path) -> Path:
    """The file to read for one `-i`. Raises EngineError (LG101)."""
    shown = printable(environment.shown(path), 200)

    def refused(summary: str, hint: str) -> EngineError:
        return EngineError(Diagnostic("LG101", summary, hint=hint))

    if path.is_dir():
        there = [path / name for name in HOSTS_FILES if (path / name).is_file()]
        if len(there) > 1:
            names = " and ".join(file.name for file in there)
            raise refused(f"{shown} holds {names}: only one of them can be the inventory", "keep one, or name it with -i")
        if not there:
            below = sorted(environment.shown(file.parent) for name in HOSTS_FILES for file in path.glob(f"*/{name}"))
            hint = f"did you mean `{below[0]}`?" if below else f"write {shown}/hosts.yml"
            raise refused(f"the folder {shown} has no hosts.yml", hint)
        return there[0]
    if not path.is_file():
        below = sorted(
            {
                environment.shown(file.parent)
                for name in HOSTS_FILES
                for file in Path().glob(f"*/{glob.escape(path.name)}/{name}")
            }
        )
        beside = [environment.shown(other) for other in path.parent.iterdir()] if path.parent.is_dir() else []
        near = f"did you mean `{below[0]}`?" if below else did_you_mean(shown, beside, "check the path")
        raise refused(f"there is no inventory {shown}", near)
    if path.suffix not in environment.SUFFIXES and not os.access(path, os.X_OK):
        hint = f"convert it: ansible-inventory -i {shown} --list --yaml > hosts.yml; a program needs its executable bit"
        raise refused(f"{shown} is neither YAML (.yml) nor executable", hint)
    return path


def _read(file: Path, one: Environment) -> None:
    if file.suffix in environment.SUFFIXES:
        one.read(file)
        return
    shown = environment.shown(file)
    one.answer(_execute(file), f"{shown} --list")
    one.files[shown] = hashlib.sha256(file.read_bytes()).hexdigest()


def _execute(file: Path) -> Json:
    """What `file --list` answers. Raises EngineError (LG108)."""
    shown = f"{environment.shown(file)} --list"

    def failed(why: str, err: bytes = b"", hint: str = "run it by hand and look at what it writes") -> EngineError:
        lines = [printable(line.strip(), 200) for line in err.decode("utf-8", "replace").splitlines() if line.strip()]
        said = f"It wrote on standard error: {' / '.join(lines[-5:])}" if lines else ""
        return EngineError(Diagnostic("LG108", f"{shown} {why}", Place(shown), said, hint))

    try:
        process = subprocess.Popen(
            [str(file.absolute()), "--list"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        hint = "its first line names its interpreter: #!/usr/bin/env python3"
        raise failed(f"cannot be started: {error.strerror}", hint=hint) from None
    with process:
        try:
            out, err = process.communicate(timeout=EXECUTABLE_SECONDS)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)  # the whole group: a child of it would hold the pipes open
            if isinstance(error, subprocess.TimeoutExpired):
                raise failed(f"did not end within {EXECUTABLE_SECONDS:g} s", error.stderr or b"") from None
            raise
    if process.returncode:
        raise failed(f"failed with exit code {process.returncode}", err)
    if len(out) > MAX_ANSWER:
        raise failed(f"answered more than {MAX_ANSWER >> 20} MiB")
    try:
        return source.strict_json(out, shown)
    except EngineError as error:
        raise EngineError([replace(d, code="LG108") for d in error.diagnostics]) from None


def _joined(folders: list[Environment], found: list[Diagnostic]) -> Inventory:
    hosts: dict[str, Host] = {}
    layers: dict[str, tuple[Layer, ...]] = {}
    homes: dict[str, Environment] = {}
    merged: dict[tuple[Layer, ...], _Merged] = {}
    clashes: dict[tuple[Path, Path], list[tuple[str, str]]] = {}
    for one in folders:
        for name, groups, own in one.resolved():
            home = homes.setdefault(name, one)
            if own not in merged:
                merged[own] = _merged(own)
            if home is not one:
                if why := _clash(hosts[name], home.hosts[name].where, one.hosts[name].where, merged[own][0]):
                    clashes.setdefault((home.folder, one.folder), []).append((name, why))
                groups, own = tuple(sorted({*hosts[name].groups, *groups})), layers[name] + own
                merged[own] = _merged(own)
            layers[name] = own
            hosts[name] = Host(name, groups, *merged[own])
    groups_of: dict[str, tuple[str, ...]] = {}
    for one in folders:
        for name, members in one.members().items():
            groups_of[name] = tuple(dict.fromkeys((*groups_of.get(name, ()), *members)))
    for pair, names in clashes.items():
        second = next(one for one in folders if one.folder == pair[1])
        found.append(_two_environments(pair, names, environment.place_of(second.hosts[names[0][0]].where)))
    for name in sorted(groups_of.keys() & hosts.keys()):
        at = environment.place_of(homes[name].hosts[name].where)
        found.append(Diagnostic("LG106", f"`{name}` is the name of a group and of a host", at, hint="rename one of the two"))
    for one in folders:
        empty = (name for name in one.groups if not groups_of[name] and name != "ungrouped")
        found.extend(patterns.empty(name, environment.place_of(one.groups[name].where), "warning") for name in empty)
    rosters, destinations = _beside(folders, found)
    return Inventory(
        hosts,
        groups_of,
        next(iter(rosters.values()), None),
        destinations,
        {path: digest for one in folders for path, digest in one.files.items()},
        tuple(d for d in found if d.severity == "warning"),
        {name: environment.shown(home.folder) for name, home in homes.items()},
        rosters,
        _tree(folders, groups_of),
        layers,
    )


def _tree(folders: list[Environment], groups: Iterable[str]) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """What stands in each group directly; what stands in none is in `all`."""
    found: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
    for name in groups:
        nodes = [one.groups[name] for one in folders if name in one.groups]
        children = dict.fromkeys(child for node in nodes for child in node.children)
        found[name] = tuple(children), tuple(dict.fromkeys(host for node in nodes for host in node.members))
    inner = {child for children, _ in found.values() for child in children}
    top = dict.fromkeys((*found.get("all", ((), ()))[0], *(name for name in found if name not in inner and name != "all")))
    return found | {"all": (tuple(top), ())}


_Merged = tuple[dict[str, Json], dict[str, Where], frozenset[str]]


def _merged(layers: tuple[Layer, ...]) -> _Merged:
    """The values of the layers, where each stands, and which of them came from outside."""
    values: dict[str, Json] = {}
    origin: dict[str, Where] = {}
    outside: set[str] = set()
    for layer in layers:
        values |= layer.values
        origin |= layer.origin
        outside = outside | layer.values.keys() if layer.outside else outside - layer.values.keys()
    return values, origin, frozenset(outside)


def _clash(host: Host, first: Where | None, second: Where | None, values: Mapping[str, Json]) -> str:
    """Why `host` may not be in a second folder as well, or nothing: an executable elsewhere may add, not contradict."""
    if isinstance(first, Place) and isinstance(second, Place):
        return f"It is written in {first} and in {second}."
    other = next((name for name in sorted(values) if name in host.vars and host.vars[name] != values[name]), None)
    return f"`{other}` has one value from {first} and another from {second}." if other else ""


def _two_environments(pair: tuple[Path, Path], names: list[tuple[str, str]], at: Place | None) -> Diagnostic:
    """One LG112 for two folders, however many hosts they share."""
    first, second = map(environment.shown, pair)
    name, why = names[0]
    more = f" So do {len(names) - 1} more hosts." if len(names) > 1 else ""
    detail = f"{why}{more} A run could not say which environment it changes, and the order of -i would decide."
    hint = "keep it in one of the two folders; a one-off value is given with -e name=value"
    return Diagnostic("LG112", f"the host `{name}` is in two environments, {first} and {second}", at, detail, hint)


def _beside(folders: list[Environment], found: list[Diagnostic]) -> tuple[dict[str, source.Document], dict[str, Json]]:
    """The rosters by environment, and the destinations, checked."""
    rosters: dict[str, source.Document] = {}
    destinations: dict[str, Json] = {}
    for one in folders:
        if listed := one.document("roster"):
            found.extend(roster.people_mistakes(listed))
            people = next(iter(rosters.values()), listed)
            if people.digest != listed.digest:
                detail = f"{people.path} and {listed.path} differ; who may approve must not depend on the order of -i."
                hint = "run one environment at a time"
                found.append(Diagnostic("LG110", "two rosters are given", listed.place(), detail, hint))
            rosters[environment.shown(one.folder)] = listed
        if closed := one.document("freeze"):
            found.extend(freeze.mistakes(closed))
        if named := one.document("destinations"):
            mistakes = roster.destination_mistakes(named)
            found.extend(mistakes)
            destinations |= {} if mistakes else named.data
    return rosters, destinations
