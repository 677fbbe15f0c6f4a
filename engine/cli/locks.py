"""`engine locks`: what is held, by which run and process; `break` takes it from one that hangs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from engine.diagnostics import Exit

if TYPE_CHECKING:
    from engine.journal import Journal
    from engine.leases import Lease
    from engine.look import Style


@click.group(invoke_without_command=True, epilog="Reference: docs/reference/commands.md")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, the first naming the format.")
@click.pass_context
def command(context: click.Context, /, as_json: bool) -> int | None:
    """List what is held now: which run has which hosts, whose process it is, and when its hold lapses by itself.

    \b
    engine locks
    engine locks break fraud-eu --because "its machine is gone, and 15 s are too long"
    """
    if context.invoked_subcommand:
        return None
    from engine import look
    from engine.cli import running, showing

    store = running.past(context)
    found = store.leases() if store else []
    if as_json:
        click.echo(json.dumps({"format": "lastgood.locks/1", "locks": len(found)}))
        for one in found:
            click.echo(json.dumps(_json(one, store), sort_keys=True))
        return Exit.DONE
    style = look.style(sys.stdout)
    lines = [line for held in _by_run(found) for line in _run(held, store, style)] or ["nothing is held"]
    after = f"engine status {found[0].run} --follow" if found else "engine runs"
    showing.result("\n".join([*lines, style.paint(f"next: {after}", "bold")]), style)
    return Exit.DONE


def _json(one: Lease, store: Journal | None) -> dict[str, Any]:
    from dataclasses import asdict

    what, _, name = one.name.partition(" ")
    times = {"since": round(one.since, 3), "heard": _heard(one, store), "lapses": round(max(0.0, one.left), 1)}
    more = {"owner": asdict(one.owner), "purpose": one.purpose, "token": one.token}
    return {"what": what, "name": name, "run": one.run, **times, **more}


def _heard(one: Lease, store: Journal | None) -> float:
    """Seconds since its process last renewed it, if it gives its leases the same length as this one."""
    return round(max(0.0, store.lease - one.left), 1) if store else 0.0


def _by_run(found: list[Lease]) -> list[list[Lease]]:
    """The leases of each token together, the run's own first."""
    from engine.leases import RUN

    tokens = dict.fromkeys(one.token for one in sorted(found, key=lambda one: one.since))
    ordered = sorted(found, key=lambda one: not one.name.startswith(RUN))
    return [[one for one in ordered if one.token == token] for token in tokens]


def _run(held: list[Lease], store: Journal | None, style: Style) -> list[str]:
    """One run: what it is, who has it, its hosts."""
    from engine import words
    from engine.leases import HOST
    from engine.look import cut, field

    one = held[0]
    purpose = next((lease.purpose for lease in held if lease.purpose), "")
    hosts = [lease.name[len(HOST) :] for lease in held if lease.name.startswith(HOST)]
    times = f"since {words.utc(one.since)}   heard {words.span(_heard(one, store))} ago"
    return [
        style.paint(cut(f"{one.run}  {purpose}".rstrip(), style.width), "bold"),
        *field("by", f"{one.owner}   token {one.token}", style),
        *field("held", f"{times}   lapses in {words.span(max(0.0, one.left))} if it is not heard again", style),
        *field("hosts", words.some(hosts, 12) if hosts else "none yet", style),
    ]


@command.command("break")
@click.argument("name", metavar="HOST|RUN")
@click.option("--because", default=None, help="Why, for the record of the run that held it.")
@click.option(
    "--token", default=0, type=click.IntRange(min=0), help="Only while this token holds it (`engine locks` shows it)."
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask for the run's name.")
@click.option("--as", "by", default=None, help="Who breaks it (default: the login name).")
@click.pass_context
def break_(context: click.Context, name: str, because: str | None, token: int, yes: bool, by: str | None) -> int:
    """Take a host or a run from a process that hangs. Its whole run stops before its next effect, and can be resumed.

    What is under way at this moment is not called back. A process that is dead needs no breaking: its hold lapses.

    \b
    engine locks break fraud-eu --because "the engine's machine is gone"
    engine locks break RB-0007 --token 12 --because "hangs since noon" --yes
    """
    from engine import leases, look
    from engine.cli import opening, running

    store = running.store(context, must_exist=True)
    asks = sys.stdin.isatty() and sys.stderr.isatty()
    names = {leases.HOST + name, leases.RUN + name.upper()}
    held = [one for one in store.leases() if one.name in names]
    if not held:
        click.echo(f"nobody holds {name}: there is nothing to break.   next: engine locks", err=True)
        return Exit.DONE
    one = held[0]
    if not asks and not yes:
        raise click.UsageError("There is no terminal to ask on: say --yes, and --because why.")
    if asks and not yes:
        whole = _by_run([other for other in store.leases() if other.token == one.token]) or [[one]]
        click.echo("\n".join(_run(whole[0], store, look.style(sys.stderr))), err=True)
    if because is None and asks:
        because = str(click.prompt("Why do you break it?", err=True))
    if not (because or "").strip():
        raise click.UsageError("--because says why; who looks at the record in a year needs the reason.")
    if not yes:
        typed = str(click.prompt(f"It stops {one.run}. Type {one.run} to break it", err=True))
        if typed.strip().upper() != one.run:
            raise click.UsageError(f"{typed!r} is not {one.run}: nothing was broken.")
    known, who = one.name.partition(" ")[2], opening.requester(by)
    broken = store.break_lock(known, who, str(because).strip(), token or one.token)
    if broken is None:
        click.echo(f"nobody holds {known} any more: there was nothing to break.   next: engine locks", err=True)
        return Exit.DONE
    grace = "what it does at this moment may still happen"
    click.echo(f"broken: {broken.run} stops before its next effect; {grace}.   next: engine resume {broken.run}", err=True)
    return Exit.DONE
