"""`engine graph`: a playbook as a picture."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from engine.diagnostics import EngineError, Exit

_SUFFIXES = {".svg": "svg", ".dot": "dot", ".gv": "dot", ".mmd": "mermaid", ".mermaid": "mermaid", ".txt": "text"}


@click.command(epilog="Reference: docs/reference/commands.md")
@click.argument("playbook", type=click.Path(path_type=Path))
@click.option("-i", "--inventory", "inventories", multiple=True, help="Check against this inventory and name its hosts.")
@click.option("-e", "--extra-vars", "given", multiple=True, help="A variable, as for run.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "dot", "mermaid", "svg"]),
    default=None,
    help="Default: text, or as FILE ends.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=None, help="Write it to this file.")
def command(playbook: Path, inventories: tuple[str, ...], given: tuple[str, ...], form: str | None, out: Path | None) -> int:
    """Draw a playbook: which step waits for which, section by section. Contacts nobody.

    \b
    engine graph playbooks/fraud.yml
    engine graph playbooks/fraud.yml --out fraud.svg
    """
    from engine import drawing, look, plan
    from engine.cli import opening, showing
    from engine.diagnostics import Diagnostic
    from engine.layout import Options

    options = Options(opening.extra(given))
    if inventories:
        made = opening.opened(playbook, inventories, options).plan
    else:
        mistakes: list[Diagnostic] = []
        modules = opening.catalog(playbook)
        book = opening.read(playbook, modules, mistakes)
        made_ = plan.check(book, modules, (), options, mistakes) if book is not None else None
        if made_ is None or mistakes:
            raise EngineError(mistakes)
        made = made_
    form = form or (_SUFFIXES.get(out.suffix.lower()) if out else None) or "text"
    style = look.style(sys.stdout) if not out else look.PLAIN
    text = (
        drawing.text(made, style)
        if form == "text"
        else {"dot": drawing.dot, "mermaid": drawing.mermaid, "svg": drawing.svg}[form](made)
    )
    if out:
        try:
            out.write_text(text, "utf-8")
        except OSError as error:
            raise click.UsageError(
                f"The picture cannot be written to {out}: {error.strerror}. Name another file with --out."
            ) from None
        click.echo(f"{out}: {form}, {len(text.encode())} bytes")
    elif form == "text":
        showing.result(text, style)
    else:
        click.echo(text, nl=False)
    after = f"next: engine plan {playbook} " + (" ".join(f"-i {one}" for one in inventories) or "-i INVENTORY")
    click.echo(after, err=form != "text" and not out)
    return Exit.DONE
