"""`engine cancel`: stop a run at the next safe point, from any terminal."""

from __future__ import annotations

import click

from engine.diagnostics import Exit


@click.command(epilog="Reference: docs/reference/commands.md")
@click.argument("run", required=False)
@click.option("--because", default="", help="Why, for the record.")
@click.option("--undo", "undo_too", is_flag=True, help="Put back what the run has changed.")
@click.option("--as", "by", default=None, help="Who cancels (default: the login name).")
@click.pass_context
def command(context: click.Context, /, run: str | None, because: str, undo_too: bool, by: str | None) -> int:
    """Stop a run at the next safe point: steps under way are finished, clean-up steps run, nothing else begins.

    \b
    engine cancel RB-0007 --because "wrong service"
    engine cancel RB-0007 --undo
    """
    from engine import journal
    from engine.cli import opening, running

    store = running.store(context, must_exist=True)
    run = running.known(store, run)
    entries = store.entries(run)
    last = journal.ending(entries)
    if last:
        click.echo(f"{run} has ended already: {last.body['outcome']}.   next: engine report {run}", err=True)
        return Exit.DONE
    who = opening.requester(by)
    store.append(run, "cancel.asked", {"by": who, "why": because, "undo": undo_too})
    if store.held(run):
        click.echo(f"asked: {run} stops at its next safe point.   next: engine status {run} --follow", err=True)
    else:
        store.append(
            run, "run.ended", {"outcome": "cancelled", "exit": int(Exit.FAILED), "why": because or f"cancelled by {who}"}
        )
        click.echo(
            f"{run} was not being run and is now cancelled.   next: engine undo {run}, or engine report {run}", err=True
        )
    return Exit.DONE
