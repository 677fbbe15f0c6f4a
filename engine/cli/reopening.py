"""A run opened again by another process, perhaps on another machine: its stored plan, if all is still what it was.

In: the entries of a run, and where playbook and inventory are now. Out: the plan, its catalog, and the facts of the run with
the place in which it goes on. What is not as it was is refused by name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.diagnostics import Diagnostic, EngineError, Exit

if TYPE_CHECKING:
    from engine.journal import Entry
    from engine.plan import Plan
    from modules.contract import Json

#: The entries that say where a run is carried out from then on. Those of 0.1.0 name no machine.
_PLACED = ("run.started", "run.resumed", "undo.started")


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of verbs that take up a run: where its playbook and its inventory are on this machine."""
    inventories = click.option(
        "-i", "--inventory", "inventories", multiple=True, help="The run's inventory, where it is at another path here."
    )
    playbook = click.option(
        "--playbook", type=click.Path(path_type=Path), default=None,
        help="The run's playbook, where it is at another path here: in a checkout on another machine.",
    )  # fmt: skip
    return playbook(inventories(command))


def place(base: Path | str, inventories: Sequence[str], files: Path) -> dict[str, Json]:
    """What a run records of where it is carried out: the machine, its playbook's folder, its inventories, and the folder in
    which evidence and reports are kept."""
    return {
        "machine": os.uname().nodename, "base": str(base), "inventories": [str(Path(one).resolve()) for one in inventories],
        "files": str(files),
    }  # fmt: skip


def reopened(
    entries: Sequence[Entry], needed: Collection[str] | None = None, playbook: Path | None = None,
    inventories: Sequence[str] = (),
) -> tuple[Any, Path, dict[str, Json]]:  # fmt: skip
    """The run's stored plan, if playbook, modules (those `needed`, or all) and inventory are still what they were; the
    playbook's folder; what the first entry says, with the inventories of here. Raises EngineError (exit 7) that names what
    is not as it was."""
    from engine import plan, recall
    from engine.cli import opening

    if strange := recall.strange(entries):
        raise EngineError(strange, Exit.STALE)
    body, known = entries[0].body, _known(entries)
    document, stock = body["plan"], list(inventories or known["inventories"])
    base = playbook.absolute().parent if playbook else Path(known["base"])
    if away := _away(entries[0], known, playbook, () if inventories else stock):
        raise EngineError(away, Exit.STALE)
    found = []
    for name, text in document["texts"].items():
        path = playbook if playbook and name == document["playbook"] else base / name
        if not same(path, text):
            found.append(Diagnostic("LG061", f"the playbook {path} is not what it was when the run began"))
    modules = opening.catalog(base / document["playbook"])
    try:
        made = plan.load(document, modules, needed)
    except EngineError as error:
        found += error.diagnostics
    if stock and not found:
        found = _moved(made, stock)
    if found:
        hint = "put it back as it was, or start a new run; engine undo takes back what this one changed"
        raise EngineError([Diagnostic(d.code, d.summary, d.place, d.detail, d.hint or hint) for d in found], Exit.STALE)
    return opening.Opened(made, modules, None), base, {**body, "inventories": stock}


def same(path: Path, text: str) -> bool:
    """Whether the file is there, can be read and says exactly this."""
    try:
        return path.is_file() and path.read_text("utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False


def elsewhere(entries: Sequence[Entry], folder: Path) -> list[str]:
    """What has to be said of the other machines, and the other folders than `folder`, in which the run was carried out: what
    it kept is there."""
    here, run = os.uname().nodename, entries[0].run
    places = dict.fromkeys((e.body.get("machine", here), e.body.get("files", "")) for e in entries if e.kind in _PLACED)
    return [
        f"{run} was carried out on {machine}: the evidence and the reports of that time are there, in {files}/runs/{run}"
        for machine, files in places
        if machine != here or (files and Path(files) != folder.absolute())
    ]


def _known(entries: Sequence[Entry]) -> dict[str, Json]:
    """Where the run was carried out last on this machine; where it was last, if it never was here."""
    here = os.uname().nodename
    known = [e.body for e in reversed(entries) if e.kind in _PLACED and "base" in e.body]
    return next((body for body in known if body.get("machine", here) == here), known[0])


def _away(first: Entry, known: dict[str, Json], playbook: Path | None, inventories: Sequence[str]) -> Diagnostic | None:
    """What is not on this machine: the playbook, or the recorded `inventories`. Says where it was, and what to type."""
    if playbook and not playbook.is_file():
        return Diagnostic("LG065", f"there is no playbook {playbook}", hint="name the run's playbook in a checkout here")
    if not playbook and not Path(known["base"]).is_dir():
        missing = known["base"]
    else:
        missing = next((path for path in inventories if not Path(path).exists()), "")
    if not missing:
        return None
    here, there = os.uname().nodename, known.get("machine")
    where = f"on {there}" if there else "on a machine that its record does not name"
    summary = f"{first.run} was carried out {where}, with {missing}: this machine, {here}, has no such path"
    detail = "What lies in a checkout here will do, if it is what the run has recorded: texts, modules, hosts are compared."
    verb = (context.info_name if (context := click.get_current_context(silent=True)) else "") or "resume"
    stock = " -i INVENTORY" if known["inventories"] else ""
    hint = f"engine {verb} {first.run} --playbook {playbook or first.body['playbook']}{stock}"
    return Diagnostic("LG065", summary, detail=detail, hint=hint)


def _moved(made: Plan, inventories: Sequence[str]) -> list[Diagnostic]:
    """What the inventory says otherwise than the plan."""
    from engine import inventory

    found: list[Diagnostic] = []
    try:
        stock = inventory.load(inventories)
    except EngineError as error:
        return list(error.diagnostics)
    for row in made.hosts:
        host = stock.hosts.get(row.name)
        if host is None:
            found.append(Diagnostic("LG061", f"the host {row.name} is no longer in the inventory"))
            continue
        names = [name for name, value in row.vars.items() if host.vars.get(name) != value or name not in host.vars]
        said = "the inventory variable `{}` of {} is not what it was when the run began"
        found += [Diagnostic("LG061", said.format(name, row.name)) for name in names]
    return found
