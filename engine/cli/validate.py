"""`engine validate`: schema, names, graph; every mistake at once; nobody is contacted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from engine.diagnostics import Diagnostic, EngineError, Exit, render


@click.command(epilog="Reference: docs/reference/commands.md")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-i", "--inventory", "inventories", multiple=True, help="Check the names against this inventory too.")
@click.option("-e", "--extra-vars", "extra", multiple=True, help="A variable, as for run.")
def command(files: tuple[Path, ...], inventories: tuple[str, ...], extra: tuple[str, ...]) -> int:
    """Check playbooks: schema, modules, names, graph. Shows every mistake at once and contacts nobody.

    \b
    engine validate playbooks/fraud.yml
    engine validate playbooks/*.yml -i inventories/production
    """
    from engine import layout
    from engine.cli import opening

    options = layout.Options(opening.extra(extra))
    found: dict[Path, list[Diagnostic]] = {file: _mistakes(file, inventories, options) for file in files}
    for said in found.values():
        if said:
            click.echo(render(said), err=True)
    errors = {file: [d for d in said if d.severity == "error"] for file, said in found.items()}
    total = sum(len(mistakes) for mistakes in errors.values())
    if not total:
        given = " ".join(f"-i {one}" for one in inventories) or "-i INVENTORY"
        click.echo(f"{_count(len(files), 'playbook')} valid. No host was contacted.   next: engine plan {files[0]} {given}")
        return Exit.DONE
    bad = sum(1 for mistakes in errors.values() if mistakes)
    first = min(d.code for mistakes in errors.values() for d in mistakes)
    where = f" in {bad} of {len(files)} playbooks" if len(files) > 1 else ""
    click.echo(f"{_count(total, 'mistake')}{where}. No host was contacted.   next: engine doc {first}", err=True)
    return Exit.INVALID


def _mistakes(file: Path, inventories: tuple[str, ...], options: Any) -> list[Diagnostic]:
    """What is wrong with one playbook, and what the inventory has to remark."""
    from engine import plan
    from engine.cli import opening

    if inventories:
        try:
            ready = opening.opened(file, inventories, options)
        except EngineError as error:
            return list(error.diagnostics)
        return list(ready.inventory.warnings) if ready.inventory else []
    found: list[Diagnostic] = []
    modules = opening.catalog(file)
    book = opening.read(file, modules, found)
    if book is not None:
        plan.check(book, modules, (), options, found)
    return found


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' * (number != 1)}"
