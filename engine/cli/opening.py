"""From arguments to a plan and a site: what every verb does before its own work. The catalog is made here, and only here."""

from __future__ import annotations

import getpass
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click

from engine import authority, inventory, plan, playbook, policy, reader, roster, source, trust
from engine.check import HostRow
from engine.cli import keeping
from engine.diagnostics import Diagnostic, EngineError, Place, did_you_mean, printable
from engine.inventory import Host, Inventory
from engine.layout import Options
from engine.plan import Plan
from engine.playbook import Playbook, Step
from engine.policy import Policy
from engine.roster import Roster
from modules.catalog import Catalog
from modules.contract import Json


@dataclass(frozen=True)
class Opened:
    """A playbook that holds together with its inventory."""

    plan: Plan
    catalog: Catalog
    inventory: Inventory | None


def catalog(path: Path) -> Catalog:
    """The modules that a playbook at `path` may name: ours, installed ones, those of the folder beside it."""
    folder = path.parent / "modules"
    return Catalog(folder if folder.is_dir() else None)


def read(path: Path, modules: Catalog, found: list[Diagnostic]) -> Playbook | None:
    """The playbook, with its mistakes in `found`."""

    @cache  # a name that is not there is looked for in every installed package
    def known(name: str) -> bool:
        try:
            return modules.get(name) is not None
        except Exception:  # noqa: BLE001 (it is there; the plan says why it cannot be used)
            return True

    return reader.load(path, str(path), known, found)


def opened(path: Path, inventories: Sequence[str], options: Options | None = None, requester: str = "") -> Opened:
    """Reads and compiles. Raises EngineError with every mistake of playbook, inventory and both together."""
    options, modules, found = options or Options(), catalog(path), []  # type: ignore[var-annotated]
    book = read(path, modules, found)
    stock: Inventory | None = None
    try:
        stock = inventory.load(list(inventories)) if inventories else None
    except EngineError as error:
        found += error.diagnostics
    if book is None or stock is None:
        if book is not None:
            plan.check(book, modules, (), options, found)
        if not found:
            found.append(Diagnostic("LG100", "no inventory is given", hint="name one: -i inventories/production"))
        raise EngineError(found)
    rows: list[HostRow] = []
    try:
        rows = _chosen(book, stock, options) if book.hosts else []
    except EngineError as error:
        found += error.diagnostics
    people = stock.rosters.get(stock.environments[rows[0].name]) if rows else stock.roster
    rule = authority.rule_of(book.authority)
    listed: Roster | None = None
    demanded = False
    try:
        listed, demanded = _listed(people, stock, rows, rule)
        found += authority.check_rule(rule, listed, _authority_place(book), requester) + _untold(book)
        if listed and (why := authority.weaker(rule, listed)):
            place, hint = (
                book.document.place(("authority", "mode")),
                "ask for as much; or have the roster changed and signed",
            )
            found.append(Diagnostic("LG207", why, place, hint=hint))
    except EngineError as error:
        found += error.diagnostics
    found += _unknown_destinations(book, stock)
    secret = [step for step in book.steps if isinstance(step.params, dict) and "encrypt_for" in step.params]
    found += [] if people and listed is None else _unknown_readers(secret, listed)
    if found:
        plan.check(book, modules, rows, options, found)
        raise EngineError(list(dict.fromkeys(found)))
    groups = {name: tuple(members) for name, members in stock.groups.items()}
    kept = _kept(people, stock, rows) if people and (rule.mode != "automatic" or secret or demanded) else None
    return Opened(plan.compile(book, modules, rows, groups, options, kept, stock.destinations), modules, stock)


def _listed(
    people: source.Document | None, stock: Inventory, rows: Sequence[HostRow], rule: authority.Rule
) -> tuple[Roster | None, bool]:
    """The roster, and whether this machine wants a signed one; where it does, or somebody is asked, it has to count, too.
    Raises EngineError."""
    folder = keeping.here(click.get_current_context(silent=True))
    outside, environment = trust.trust(folder), _home(people, stock, rows)
    demanded = bool(people or rows) and outside.demands(environment)
    if people is None and demanded:
        summary = f"this machine keeps pins, and `{environment}` has no roster: nobody can tell who has to be asked there"
        pins = outside.home / trust.PINS
        hint = f"put roster.yml back, with its roster.sig/; or write `{environment} 0 unsigned` into {pins}"
        raise EngineError(Diagnostic("LG210", summary, hint=hint))
    if people is None or (rule.mode == "automatic" and not demanded):
        return (roster.read(people) if people else None), demanded
    return trust.current(people, environment, outside, time.time()), demanded


def _home(people: source.Document | None, stock: Inventory, rows: Sequence[HostRow]) -> str:
    """The environment of the hosts: the name of the folder that they are in."""
    homes = [Path(stock.environments[row.name]).resolve().name for row in rows[:1]]
    return homes[0] if homes else Path(people.path).resolve().parent.name if people else ""


def _untold(book: Playbook) -> list[Diagnostic]:
    """LG206 for a glass that could be broken without anybody being told."""
    if not book.authority.break_glass or any("break_glass" in step.on for step in book.section("communications")):
        return []
    summary = "one person may go alone, and nobody would be told"
    detail = "Before anything is changed by a broken glass, a message about it has to have arrived somewhere."
    hint = "add a step to communications with `on: [break_glass, unratified]`"
    return [Diagnostic("LG206", summary, book.document.place(("authority", "break_glass"), key=True), detail, hint)]


def _kept(people: source.Document, stock: Inventory, rows: Sequence[HostRow]) -> dict[str, Json]:
    """What a plan keeps of the people: their text, whose environment it is, and where its folder lies."""
    folder = str(Path(people.path).resolve().parent)
    return {"path": people.path, "text": people.text, "environment": _home(people, stock, rows), "folder": folder}


def policy_of(kept: Mapping[str, Json] | None, inventories: Sequence[str], folder: Path) -> Callable[[], Policy] | None:
    """What reads who may say yes and when nothing may change, as it is now; None where nobody says where that lies."""
    paths = [path if path.is_dir() else path.parent for path in (Path(one).resolve() for one in inventories)]
    if not paths and kept and "folder" in kept:
        paths = [Path(kept["folder"])]
    return (lambda: policy.read(paths, kept, trust.trust(folder), time.time())) if paths else None


def _chosen(book: Playbook, stock: Inventory, options: Options) -> list[HostRow]:
    hosts = inventory.select(stock, book.hosts, book.document.place(("hosts",)))
    if options.limit:
        wanted = {
            host.name
            for host in inventory.select(stock, options.limit, Place("--limit", 1, 1, len(options.limit), options.limit))
        }
        hosts = tuple(host for host in hosts if host.name in wanted)
        if not hosts:
            raise EngineError(
                Diagnostic(
                    "LG104",
                    f"--limit {options.limit} leaves no host of `{book.hosts}`",
                    hint="engine inventory lists the hosts",
                )
            )
    _one_environment(book, stock, hosts)
    return [HostRow(host.name, host.groups, host.vars, host.outside) for host in hosts]


def _one_environment(book: Playbook, stock: Inventory, hosts: Sequence[Host]) -> None:
    """Raises EngineError (LG114) for hosts of several environments: a run changes one, by leave of that one's people."""
    homes = {stock.environments[host.name]: host.name for host in reversed(hosts)}
    if len(homes) > 1:
        members = ", ".join(f"{host} in {home}" for home, host in sorted(homes.items()))
        summary = f"`{printable(book.hosts)}` names hosts of {len(homes)} environments"
        detail = f"Among them {members}. A key is given for one environment, by the people of its roster."
        hint = "give the folder of one environment with -i"
        raise EngineError(Diagnostic("LG114", summary, book.document.place(("hosts",)), detail, hint))


def _authority_place(book: Playbook) -> Any:
    return lambda *keys: book.document.place(("authority", *keys))


def _unknown_destinations(book: Playbook, stock: Inventory) -> list[Diagnostic]:
    found = []
    for step in book.section("communications"):
        names = step.params.get("to") if isinstance(step.params, dict) else None
        for name in names if isinstance(names, list) else [names]:
            if step.module == "notify" and isinstance(name, str) and "{{" not in name and name not in stock.destinations:
                hint = did_you_mean(name, stock.destinations, "list it in destinations.yml beside the inventory")
                found.append(Diagnostic("LG052", f"no destination `{name}`", step.place(step.module, "to"), hint=hint))
    return found


def _unknown_readers(steps: Sequence[Step], people: Roster | None) -> list[Diagnostic]:
    """A mistake (LG224) for each name of `encrypt_for` that the roster does not know."""
    known = [*people.roles, *(person.name for person in people.people)] if people else []
    found = []
    for step in steps:
        names = step.params["encrypt_for"]
        for i, name in enumerate(names if isinstance(names, list) else []):
            if isinstance(name, str) and "{{" not in name and name not in known:
                hint = did_you_mean(name, known, "name a person or a role of roster.yml beside the inventory")
                where = step.place(step.module, "encrypt_for", i)
                found.append(Diagnostic("LG224", f"`{printable(name)}` is nobody whom the roster names", where, hint=hint))
    return found


def extra(pairs: Sequence[str]) -> dict[str, Json]:
    """-e: `name=text` is a text, always; `@file.yml` and `{"name": 3}` keep their types. Raises EngineError (exit 2)."""
    from engine.diagnostics import Exit

    found: dict[str, Json] = {}
    for pair in pairs:
        if pair.startswith("@"):
            value = source.load(Path(pair[1:])).data
        elif pair.startswith("{"):
            value = source.strict_json(pair, "-e")
        else:
            name, equals, text = pair.partition("=")
            value = {name: text} if equals and name else None
        if not isinstance(value, dict):
            raise EngineError(
                Diagnostic(
                    "LG053", f"-e {pair}: not a variable", hint="write -e name=value, -e '{\"name\": 3}' or -e @file.yml"
                ),
                Exit.USAGE,
            )
        for name in value:
            if name in playbook.BUILT_IN:
                raise EngineError(
                    Diagnostic("LG034", f"-e {name}: this name is the engine's own", hint="choose another"), Exit.USAGE
                )
        found |= value
    return found


def requester(given: str | None) -> str:
    """Who asks: --as, or LASTGOOD_USER, or the login name."""
    return given or os.environ.get("LASTGOOD_USER") or getpass.getuser()


def stored(path: Path) -> dict[str, Json]:
    """A plan that `engine plan --out` saved. Raises EngineError."""
    found = source.strict_json(path.read_bytes(), str(path))
    kept = found.get("inventories") if isinstance(found, dict) and found.get("format") == plan.FORMAT else None
    if not isinstance(found, dict) or not isinstance(kept, list) or not all(isinstance(one, str) for one in kept):
        raise EngineError(
            Diagnostic(
                "LG060", f"{path} is no plan of this engine", hint="engine plan PLAYBOOK -i INVENTORY --out FILE makes one"
            )
        )
    return found


def is_plan(path: Path) -> bool:
    """Whether the file is a saved plan rather than a playbook."""
    try:
        with path.open("rb") as file:
            return file.read(1) == b"{" and b'"lastgood.plan/' in path.read_bytes()
    except OSError:
        return False


def dump(document: Json) -> str:
    """A plan as the text that is saved."""
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
