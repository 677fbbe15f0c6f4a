"""`engine explain`: every value that a variable is given for a host, and which of them wins."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.diagnostics import Exit, did_you_mean

if TYPE_CHECKING:
    from engine.inventory import Host, Inventory
    from engine.look import Style
    from engine.playbook import Playbook


@dataclass(frozen=True)
class _Given:
    """A value that somebody gives: where that stands, and whose it is; `only`: for one step alone."""

    value: Any
    where: str
    only: str = ""


@click.command(epilog="Reference: docs/reference/commands.md", context_settings={"help_option_names": ["--help"]})
@click.argument("variable")
@click.argument("playbook", required=False, type=click.Path(path_type=Path))
@click.option("-i", "--inventory", "inventories", multiple=True, help="A folder, file or executable; several are merged.")
@click.option("-h", "--host", "name", required=True, help="The host.")
@click.option("-e", "--extra-vars", "given", multiple=True, help="name=text, {json} or @file, as for run.")
def command(variable: str, playbook: Path | None, inventories: tuple[str, ...], name: str, given: tuple[str, ...]) -> int:
    """Show every value that a variable is given for a host, the strongest first, with file and line.

    \b
    engine explain scoring_url -h fraud-eu-01 -i inventories/production
    engine explain alias playbooks/fraud.yml -h fraud-eu-01 -i inventories/production -e alias=challenger
    """
    from engine import inventory, look
    from engine.cli import opening, showing
    from engine.diagnostics import Diagnostic, EngineError

    if not inventories:
        raise click.UsageError("No inventory is given. Name one: -i inventories/production")
    stock = inventory.load(list(inventories))
    host = stock.hosts.get(name) or showing.selected(stock, name, "--host")[0]
    mistakes: list[Diagnostic] = []
    book = opening.read(playbook, opening.catalog(playbook), mistakes) if playbook else None
    if mistakes:
        raise EngineError(mistakes)
    extra = opening.extra(given)
    found = _values(stock, host, book, extra, variable)
    style = look.style(sys.stdout)
    lines = _lines(variable, host, found, style) if found else _unset(variable, host, book, style)
    if found:
        lines += look.field("becomes", _becomes(host, book, extra, variable), style)
    again = " ".join(f"-i {one}" for one in inventories)
    text = "\n".join([*lines, style.paint(f"next: engine inventory {again} --host {host.name}", "bold")])
    showing.result(text, style)
    return Exit.DONE


def _values(stock: Inventory, host: Host, book: Playbook | None, extra: dict[str, Any], variable: str) -> list[_Given]:
    """Every value, the strongest first. A step's own `vars` are stronger than the playbook's, for that step."""
    found = [_Given(extra[variable], "-e")] if variable in extra else []
    if book is not None:
        for step in book.steps:
            if variable in step.vars:
                found.append(_Given(step.vars[variable], f"{step.place('vars', variable)} (the step {step.id})", step.id))
        if variable in book.vars:
            found.append(_Given(book.vars[variable], f"{book.document.place(('vars', variable))} (the playbook's vars)"))
    return found + [_Given(value, where) for value, where in stock.explain(host.name, variable)]


def _lines(variable: str, host: Host, found: Sequence[_Given], style: Style) -> list[str]:
    from engine.cli.showing import ending, value
    from engine.look import cut

    winner = next((one for one in found if not one.only), None)
    lines = [style.paint(cut(f"{variable} on {host.name}", style.width), "bold")]
    for one in found:
        word = "wins" if one is winner else "wins there" if one.only and found[0].where != "-e" else "beaten"
        sign = ("✔ " if word != "beaten" else "– ") if style.glyphs else ""
        tone = "good" if word != "beaten" else "quiet"
        lines.append(style.paint(cut(f" {sign}{word:10}  {value(variable, one.value)}", style.width), tone))
        lines.append(style.paint(f"     {ending(one.where, style.width - 5)}", "quiet"))
    return lines


def _becomes(host: Host, book: Playbook | None, extra: dict[str, Any], variable: str) -> str:
    """The value with its templates filled in, as a step outside any loop would see it; secrets are not looked up."""
    from engine import template
    from engine.cli import showing
    from modules.contract import Secret

    fixed = {
        "inventory_hostname": host.name,
        "group_names": list(host.groups),
        "secret": lambda source: Secret("", source),
        **extra,
    }
    raw = {name: value for name, value in {**host.vars, **(book.vars if book else {})}.items() if name not in extra}
    try:
        value = template.resolve(raw, [variable], fixed, host.outside)[variable]
    except template.Fault as fault:
        return f"nothing yet: {fault.message}. {fault.hint}".rstrip()
    except KeyError:
        return "nothing outside that step"
    return showing.value(variable, value)


def _unset(variable: str, host: Host, book: Playbook | None, style: Style) -> list[str]:
    """What a name is that no variable has: the engine's own, a step's result, or nothing. Raises UsageError."""
    from engine.look import cut
    from engine.playbook import BUILT_IN

    if variable in BUILT_IN:
        return [cut(f"{variable} is the engine's own name; nobody can set it", style.width)]
    for step in book.steps if book else ():
        if step.register == variable:
            return [
                cut(f"{variable} is what the step {step.id} registers while the run goes on", style.width),
                f"   {step.place('register')}",
            ]
    known = {*host.vars, *(book.vars if book else {})}
    hint = did_you_mean(variable, known, f"engine inventory --host {host.name} lists the variables.")
    raise click.UsageError(f"Nobody gives `{variable}` a value for {host.name}; {hint}")
