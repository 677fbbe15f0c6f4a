"""`engine validate`: schema, names, graph; every mistake at once; nobody is contacted."""

from __future__ import annotations

from pathlib import Path

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
    from engine import layout, plan
    from engine.cli import opening

    options = layout.Options(opening.extra(extra))
    found: dict[Path, list[Diagnostic]] = {}
    for file in files:
        mistakes = found.setdefault(file, [])
        if inventories:
            try:
                opening.opened(file, inventories, options)
            except EngineError as error:
                mistakes += error.diagnostics
            continue
        modules = opening.catalog(file)
        book = opening.read(file, modules, mistakes)
        if book is not None:
            plan.check(book, modules, (), options, mistakes)
    total = sum(len(mistakes) for mistakes in found.values())
    for mistakes in found.values():
        if mistakes:
            click.echo(render(mistakes), err=True)
    if not total:
        click.echo(
            f"{len(files)} playbook{'s' * (len(files) > 1)} valid. No host was contacted.   next: engine plan {files[0]} -i INVENTORY"
        )
        return Exit.DONE
    bad = sum(1 for mistakes in found.values() if mistakes)
    first = min((d.code for mistakes in found.values() for d in mistakes), default="")
    click.echo(
        f"{total} mistake{'s' * (total > 1)} in {bad} file{'s' * (bad > 1)}. No host was contacted.   next: engine doc {first}",
        err=True,
    )
    return Exit.INVALID
