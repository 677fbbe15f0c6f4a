"""`engine note`: a line of a person in a run's record."""

from __future__ import annotations

import click

from engine.diagnostics import Exit

_MOST = 4000


@click.command(epilog="Reference: docs/reference/commands.md")
@click.argument("run")
@click.argument("text")
@click.option("--as", "by", default=None, help="Who says it (default: the login name).")
@click.pass_context
def command(context: click.Context, /, run: str, text: str, by: str | None) -> int:
    """Add a line to a run's record: it stands in the report's timeline, and nobody can take it out again.

    \b
    engine note RB-0007 "payments confirm that good customers were hit"
    engine note RB-0007 "v47 is quarantined" --as ana
    """
    from engine.cli import opening, running

    said = text.strip()
    if not said:
        raise click.UsageError('There is nothing to note. Write it in quotes: engine note RB-0007 "what you saw".')
    if len(said) > _MOST:
        raise click.UsageError(f"{len(said)} characters are too long for a note; {_MOST} are kept.")
    store = running.store(context, must_exist=True)
    run = running.known(store, run)
    who = opening.requester(by)
    entry = store.append(run, "note", {"text": said, "by": who})
    click.echo(f"noted as entry {entry.seq} of {run}, by {who}.   next: engine report {run}", err=True)
    return Exit.DONE
