"""How the verbs that look print what they found: in the characters and colours that the stream can show, without secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from engine.diagnostics import Exit

if TYPE_CHECKING:
    from engine.inventory import Host, Inventory
    from engine.look import Style


def result(text: str, style: Style) -> None:
    """Prints a result on standard output. click alone would take the colours out of everything that is no terminal."""
    from engine import look

    click.echo(look.ascii_only(text) if style.ascii else text, nl=not text.endswith("\n"), color=style.colour)


def value(name: str, given: Any) -> str:
    """A variable's value for people: a template as it is written, a secret as ``***``."""
    from engine import report, template, words

    plain = isinstance(given, str) and template.templated(given)
    return words.brief(report.redacted(given, "" if plain else name), 400)


def ending(where: str, width: int) -> str:
    """A place in at most `width` columns: of a path its end says more than its beginning."""
    return where if len(where) <= width else "…" + where[len(where) - max(width - 1, 1) :]


def selected(stock: Inventory, pattern: str, option: str) -> tuple[Host, ...]:
    """The hosts that a pattern of the command line names. Raises EngineError (exit 2)."""
    from engine import inventory
    from engine.diagnostics import EngineError, Place

    try:
        return inventory.select(stock, pattern, Place(option, 1, 1, len(pattern), pattern))
    except EngineError as error:
        raise EngineError(error.diagnostics, Exit.USAGE) from None
