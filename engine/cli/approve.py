"""`engine approve` and `engine reject`: a signed answer to the question that a run asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command(epilog="Reference: docs/reference/commands.md")
@click.argument("run", required=False)
@click.option(
    "--key",
    "keys",
    multiple=True,
    type=click.Path(path_type=Path),
    help="An SSH private key file (default: the ssh-agent's keys).",
)
@click.option("--because", default=None, help="Why, for the record.")
@click.option(
    "--confirm", "typed", default=None, help="The version to go back to, or the run's id: what would be typed on a terminal."
)
@click.option("--ticket", default="", help="The number of the incident or change, for the record.")
@click.option("--as", "person", default=None, help="As whom, where several people's keys are at hand.")
@click.option(
    "--override-freeze", "overrides", multiple=True, metavar="NAME", help="A freeze window that is open: go on in it."
)
@click.option("--break-glass", "alone", is_flag=True, help="Go alone, in an emergency, where the playbook names your role.")
@click.pass_context
def command(context: click.Context, /, run: str | None, **said: Any) -> int:
    """Give a key: sign the plan's digest with an SSH key of the roster.

    \b
    engine approve RB-0007
    engine approve RB-0007 --key ~/.ssh/id_ed25519 --because "customers confirm it" --confirm v46
    engine approve RB-0007 --break-glass --because "nobody else answers, customers are hit"
    """
    if said.pop("alone"):
        if not (said["because"] or "").strip():
            raise click.UsageError("--break-glass needs --because: everybody is told, and the reason is what they read.")
        return _answer(context, run, "break-glass", **said)
    return _answer(context, run, "approve", **said)


@click.command(epilog="Reference: docs/reference/commands.md")
@click.argument("run", required=False)
@click.option(
    "--key",
    "keys",
    multiple=True,
    type=click.Path(path_type=Path),
    help="An SSH private key file (default: the ssh-agent's keys).",
)
@click.option("--because", default=None, help="Why, for the record.")
@click.option("--as", "person", default=None, help="As whom, where several people's keys are at hand.")
@click.pass_context
def reject(context: click.Context, /, run: str | None, **said: Any) -> int:
    """Say no: one signed refusal by a person of the roles is final.

    \b
    engine reject RB-0007 --because "v46 is worse"
    engine reject
    """
    return _answer(context, run, "reject", **said)


def _answer(context: click.Context, run: str | None, decision: str, **said: Any) -> int:
    from engine.cli import giving, running

    store = running.store(context, must_exist=True)
    return giving.give(store, running.known(store, run), giving.Answer(decision, **said))
