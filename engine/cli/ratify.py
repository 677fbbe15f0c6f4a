"""`engine ratify`: the second key for what one person did alone; and the daily word about what nobody has ratified."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.diagnostics import Diagnostic, EngineError, Exit

if TYPE_CHECKING:
    from engine.journal import Entry, Journal
    from engine.story import Story

#: Seconds between two reminders of one run; a little less than a day, for a cron job that comes at the same minute.
_DAILY = 23.5 * 3600


@click.command(epilog="Reference: docs/reference/commands.md")
@click.argument("run", required=False)
@click.option(
    "--key", "keys", multiple=True, type=click.Path(path_type=Path), help="An SSH private key file (else ssh-agent)."
)
@click.option("--because", default=None, help="What you have looked at, for the record.")
@click.option("--confirm", "typed", default=None, help="The version gone back to, or the run's id: else it is typed.")
@click.option("--ticket", default="", help="The number of the incident or change, for the record.")
@click.option("--as", "person", default=None, help="As whom, where several people's keys are at hand.")
@click.option("--remind", is_flag=True, help="Tell again, once a day, of every run that is not ratified. For cron.")
@click.pass_context
def command(context: click.Context, /, run: str | None, remind: bool, **said: Any) -> int:
    """Give the second key for a run that one person let through by breaking the glass.

    \b
    engine ratify RB-0007 --because "looked at it with cid: customers were hit"
    engine ratify --remind

    The second one is for a cron job; it ends with exit 5 while something is not ratified.
    """
    from engine.cli import giving, running

    store = running.store(context, must_exist=True)
    if remind:
        return _reminded(store)
    return _ratified(store, running.known(store, run), giving.Answer("ratify", **said))


def _ratified(store: Journal, run: str, answer: Any) -> int:
    from engine import authority, canon, statement, story
    from engine.cli import giving
    from engine.sshsig import Refused

    entries = store.verified(run)
    told = story.tell(entries)
    glass, request = told.glass, told.asked
    if not glass or told.ratified:
        why = "has been ratified already" if told.ratified else "was let through by nobody alone"
        raise EngineError(Diagnostic("LG091", f"{run} {why}", hint=f"engine status {run}"), Exit.USAGE)
    now, _ = giving.now(store, entries)
    alone, rule = told.decision["keys"][0], authority.asked(request)
    try:
        at_hand = authority.available(now.roster, os.environ.get("SSH_AUTH_SOCK"), answer.keys, giving.passphrase)
        usable = [(who, signer) for who, signer in at_hand if answer.person in (None, who.name)]
        if not usable:
            raise Refused("no SSH key of anybody in the roster is at hand", "name a key file with --key")
        who, signer = next(((w, s) for w, s in usable if w.name != alone["person"]), usable[0])
        role = next((one for one in rule.roles if one in who.roles), rule.roles[0])
        made = statement.make(request, "ratify", who.name, role, answer.because or "", time.time(), answer.ticket)
        click.echo("\n".join(giving.shown(canon.loads(canon.dumps(made)))), err=True)
        giving.confirmed(str((request["facts"].get("back_to") or {}).get("version") or run), answer.typed)
        body = statement.sign(made, signer)
        authority.ratifier(rule, now.roster, request, request["requester"], body, alone, time.time())
    except (Refused, ValueError) as refused:
        reason, hint = (refused.reason, refused.hint) if isinstance(refused, Refused) else (str(refused), "")
        hint = hint or f"engine status {run}"
        raise EngineError(Diagnostic("LG092", f"no key was given: {reason}", hint=hint), Exit.REJECTED) from None
    late = time.time() > glass["ratify_by"]
    store.append(run, "key.ratified", {**body, "late": late})
    click.echo(
        f"ratified by {who.name} as {role}{', after its time' if late else ''}.   next: engine report {run}", err=True
    )
    return Exit.DONE


def _reminded(store: Journal) -> int:
    """Tells of each run that nobody has ratified, unless it was told within a day."""
    left = []
    for first, last in store.runs():
        if not last.body.get("glass") and last.kind == "run.ended":
            continue
        entries = store.entries(first.run)
        told = _open(entries)
        if told is None:
            continue
        left.append(first.run)
        before = [entry.at for entry in entries if entry.kind == "message.queued" and entry.body["event"] == "unratified"]
        if time.time() - max(before, default=0.0) >= _DAILY and time.time() >= told.glass["ratify_by"]:
            try:
                _tell(store, first.run, entries)
            except EngineError as error:  # of this run nobody can be told now; of the others all the same
                click.echo(f"{first.run}: nobody was told: {error.diagnostics[0].summary}", err=True)
        due = f"since {time.strftime('%Y-%m-%d %H:%MZ', time.gmtime(told.glass['ratify_by']))}"
        click.echo(f"{first.run} UNRATIFIED: {told.glass['person']} went alone; a second key is due {due}", err=True)
    if left:
        click.echo(f"next: engine ratify {left[0]}", err=True)
    return Exit.WAITING if left else Exit.DONE


def _open(entries: list[Entry]) -> Story | None:
    """The run's story, if one person let it through and nobody has ratified it."""
    from engine import story

    if not any(entry.kind == "glass.broken" for entry in entries):
        return None
    told = story.tell(entries)
    return told if told.glass and not told.ratified else None


def _tell(store: Journal, run: str, entries: list[Entry]) -> None:
    """Sends the messages of communications that wait for `unratified`, in the run's own record."""
    from engine import outbox, plan
    from engine.cli import opening, running

    body = entries[0].body
    base = Path(next((e.body["base"] for e in reversed(entries) if "base" in e.body), body["base"]))
    modules = opening.catalog(base / body["plan"]["playbook"])
    needed = {step["module"] for step in body["plan"]["steps"] if step["section"] == "communications"}
    ready = opening.Opened(plan.load(body["plan"], modules, needed), modules, None)
    store.claim(run, running.told)
    site = running.site(ready, store, run, base, body["requester"])
    site.started = entries[0].at
    box = outbox.Outbox(site, dict)
    box.restore([entry for entry in entries if entry.kind in ("message.queued", "message.sent")], 0)
    box.start()
    box.event("unratified", turn=time.strftime("%Y-%m-%d", time.gmtime()))
    box.close()
