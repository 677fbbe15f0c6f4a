"""`engine cancel`: stop a run at the next safe point, from any terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from engine.diagnostics import Exit

if TYPE_CHECKING:
    from engine.journal import Entry


@click.command(epilog="Reference: docs/reference/commands.md")
@click.argument("run", required=False)
@click.option("--because", default="", help="Why, for the record.")
@click.option("--undo", "undo_too", is_flag=True, help="Put back what the run has changed.")
@click.option("--as", "by", default=None, help="Who cancels (default: the login name).")
@click.pass_context
def command(context: click.Context, /, run: str | None, because: str, undo_too: bool, by: str | None) -> int:
    """Stop a run at the next safe point: steps under way are finished, operations of a platform are stopped, clean-up
    steps run, nothing else begins.

    \b
    engine cancel RB-0007 --because "wrong service"
    engine cancel RB-0007 --undo
    """
    from engine import journal, story
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
    open_ = ("cleans up", _cleans_up(entries)), ("puts back what was changed", undo_too)
    going = [step.operation for step in story.tell(entries).steps.values() if step.operation]
    left = [word for word, there in ((f"stops operation {', '.join(going)}", going), *open_) if there]
    if not store.held(run) and left:
        click.echo(f"asked: {run} is not being run.   next: engine resume {run} {' and '.join(left)}, and ends it", err=True)
    elif store.held(run):
        click.echo(f"asked: {run} stops at its next safe point.   next: engine status {run} --follow", err=True)
    else:
        store.append(
            run, "run.ended", {"outcome": "cancelled", "exit": int(Exit.FAILED), "why": because or f"cancelled by {who}"}
        )
        click.echo(
            f"{run} was not being run and is now cancelled.   next: engine undo {run}, or engine report {run}", err=True
        )
    return Exit.DONE


def _cleans_up(entries: list[Entry]) -> bool:
    """Whether the run stopped in a section that has clean-up steps: some of them may have to run."""
    begun = {entry.step.partition("/")[0] for entry in entries if entry.kind in ("step.intent", "step.outcome")}
    nodes = entries[0].body["plan"]["nodes"]
    return any(name.endswith(".always") and name.partition("/")[0] in begun for name, *_ in nodes)
