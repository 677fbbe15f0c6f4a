"""`engine waive`: a person lets a capture pass that failed, and says why; with a key, where the playbook asks for keys."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from engine.cli import reopening
from engine.diagnostics import Diagnostic, EngineError, Exit


@click.command(epilog="Reference: docs/reference/commands.md")
@click.argument("run")
@click.argument("step")
@reopening.options
@click.option("--because", required=True, help="Why the change may be made without this evidence, for the record.")
@click.option("-h", "--host", "hosts", multiple=True, metavar="HOST", help="On this host alone.")
@click.option(
    "--key", "keys", multiple=True, type=click.Path(path_type=Path), help="Your SSH key file; ssh-agent is asked too."
)
@click.pass_context
def command(
    context: click.Context, /, run: str, step: str, because: str, hosts: tuple[str, ...], keys: tuple[Path, ...], **said: Any
) -> int:
    """Let a step of forensics pass that failed or ran over its time: the run goes on without that evidence, on record.

    Where the playbook asks for keys it takes the key of a person in one of its roles who did not ask for the run.

    \b
    engine waive RB-0007 keep-logs --because "the log server is what has failed"
    engine waive RB-0007 keep-logs -h fraud-eu --because "its disk is full" --key ~/.ssh/id_ed25519
    """
    from engine import step as steps
    from engine.cli import opening, running
    from engine.effect import Settled

    if not because.strip():
        raise click.UsageError("--because says why; without it nobody could tell later.")
    store = running.store(context, must_exist=True)
    run = running.known(store, run)
    store.claim(run)
    entries = store.verified(run)
    ready, base, body = reopening.reopened(entries, None, said["playbook"], said["inventories"])
    site = running.site(ready, store, run, base, body["requester"], body["check"], body["inventories"])
    places = _chosen(entries, run, step, hosts)
    who = opening.requester(None)
    proof: dict[str, Any] = {}
    if site.plan.playbook.authority.mode != "automatic":
        who, proof = _signed(entries[0].body, site, run, places, because.strip(), keys)
    for host, name in places:
        one = site.plan.nodes[name.partition("[")[0]].step
        if one is None:
            raise AssertionError(name)
        if proof:
            store.append(run, "note", {"text": f"{name} is waived: {because.strip()}", "by": who, **proof}, host, name)
        registered = {"changed": False, "outcome": "waived"}
        waived = Settled("waived", f"{who}: {because.strip()}", registered=registered, started=site.now())
        steps.record(site, one, host, name, waived, None if "[" in name else one.register)
    on = ", ".join(f"{host} {name}" for host, name in places)
    click.echo(f"{run}: {on} is waived by {who}.   next: engine resume {run}", err=True)
    return Exit.DONE


def _chosen(entries: Sequence[Any], run: str, step: str, hosts: Sequence[str]) -> list[tuple[str, str]]:
    """The captures that are meant and did not end well. Raises UsageError, naming those that are."""
    from engine import custody

    failed = sorted(place for place, entry in custody.seen(entries).incomplete.items() if entry.body["outcome"] != "waived")
    found = [
        (host, name)
        for host, name in failed
        if step in (name, name.partition("/")[2], f"{host}:{name.partition('/')[2]}") and (not hosts or host in hosts)
    ]
    if not found:
        known = ", ".join(f"{host}:{name.partition('/')[2]}" for host, name in failed) or "none"
        raise click.UsageError(f"{step} is no step of forensics of {run} that failed; those that did: {known}")
    return found


def _signed(
    first: dict[str, Any], site: Any, run: str, places: list[tuple[str, str]], because: str, keys: Sequence[Path]
) -> tuple[str, dict[str, Any]]:
    """The person and the signed waiver. Raises EngineError (exit 6) where nobody's key may say so."""
    from engine import authority, question, waiver
    from engine.cli import giving
    from engine.sshsig import Refused

    people = question.current(site).roster
    roles = site.plan.playbook.authority.roles
    try:
        at_hand = authority.available(people, os.environ.get("SSH_AUTH_SOCK"), keys, giving.passphrase)
        able = [
            (who, signer)
            for who, signer in at_hand
            if (not roles or set(roles) & set(who.roles)) and not who.is_called(first["requester"])
        ]
        if not able:
            raise Refused(
                f"no key at hand is that of somebody in {', '.join(roles) or 'the roster'} who did not ask for the run",
                "name a key file with --key, or ssh-add it to the agent",
            )
        who, signer = able[0]
        proof = waiver.signed(run, site.plan.digest, who.name, because, site.now(), places, signer)
    except Refused as refused:
        raise EngineError(
            Diagnostic("LG092", f"nothing is waived: {refused.reason}", hint=refused.hint), Exit.REJECTED
        ) from None
    return who.name, proof
