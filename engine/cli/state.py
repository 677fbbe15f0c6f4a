"""`engine state`: a whole record, from where it is kept to somewhere else."""

from __future__ import annotations

from pathlib import Path

import click

from engine.cli import keeping
from engine.diagnostics import Diagnostic, EngineError, Exit

#: Seconds by which a database's patience is counted here: all of a record is one transaction.
_LONG = 360.0


@click.command(epilog="Reference: docs/reference/commands.md")
@click.argument("act", type=click.Choice(["migrate"]), metavar="migrate")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.pass_context
def command(context: click.Context, /, act: str, source: str, target: str) -> int:  # noqa: ARG001 (there is one act)
    """Move every run from one store to another: a folder of one machine, or a PostgreSQL database that several share.

    \b
    engine state migrate .lastgood postgresql://lastgood@db.example.org/lastgood
    engine state migrate postgresql://lastgood@db.example.org/lastgood .lastgood

    Every entry is moved as it is, and every hash chain is verified on the other side. FROM can be read afterwards, and says
    where its record is now; nothing is added to it any more. Cut off, the same command goes on.
    """
    from engine import migration

    if not keeping.exists(source):
        raise EngineError(Diagnostic("LG081", f"there are no runs in {source}", hint="FROM is where runs are"), Exit.USAGE)
    stores = []
    for place in (source, target):
        state = place if keeping.shared(keeping.typed(place)) else str(Path(place).resolve())  # the other one keeps the name
        stores.append(keeping.opened(state, context.obj["files"], _LONG))
        context.call_on_close(stores[-1].close)
    left, other = stores
    if left.name == other.name:
        raise click.UsageError(f"FROM and TO are both {left.name}.")
    done = migration.moved(left, other)
    if done.before:
        click.echo(
            f"the record in {left.name} had been moved to {other.name} before.   next: engine --state {other.name} runs"
        )
        return Exit.DONE
    click.echo(
        f"{done.runs} runs are in {other.name} now, {done.entries} entries were written, every hash chain is whole there.\n"
        f"{left.name} can still be read; nothing is added to it any more, and it says where the record is.\n"
        f"{_files(left.folder, other.folder)}"
        f"next: engine --state {other.name} runs"
    )
    return Exit.DONE


def _files(left: Path, other: Path) -> str:
    """What becomes of evidence and reports."""
    kept = [path for path in left.glob("runs/*/**/*") if path.is_file() and path.name != "claim"]
    if not kept or left == other:
        return ""
    stays = f"Evidence and reports ({len(kept)} files) stay where they are, in {left / 'runs'}"
    return f"{stays}; new ones go to {other / 'runs'}.\n"
