"""`engine undo`: put back what a run has changed, last change first, looking before each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from engine.diagnostics import Diagnostic, EngineError, Exit


@click.command(epilog="Reference: docs/reference/commands.md")
@click.argument("run", required=False)
@click.option("-y", "--yes", is_flag=True, help="Do not ask on the terminal before anything is put back.")
@click.option("--as", "by", default=None, help="Who asks for the undo (default: the login name).")
@click.option(
    "--key", "keys", multiple=True, type=click.Path(path_type=Path), help="An SSH key file for keys given on this terminal."
)
@click.option("--no-wait", is_flag=True, help="Do not wait for keys: end with exit 5; the same command goes on.")
@click.pass_context
def command(context: click.Context, /, run: str | None, yes: bool, by: str | None, **said: Any) -> int:
    """Put back what a run has changed. Asks for the same keys as the run did, because it brings the replaced version back.

    \b
    engine undo RB-0007
    engine undo RB-0007 --no-wait
    """
    import sys

    from engine import undo
    from engine.cli import opening, running
    from engine.cli.resume import reopened

    store = running.store(context, must_exist=True)
    run = running.known(store, run)
    store.claim(run)
    entries = store.verified(run)
    ready, base, _ = reopened(entries)
    who = opening.requester(by)
    site = running.site(ready, store, run, base, who)
    site.started = entries[0].at
    pending = {row.name: undo.pending([e for e in entries if e.host == row.name]) for row in ready.plan.hosts}
    changes = [intent for found in pending.values() for intent in found]
    if not changes:
        store.unlock(run)
        click.echo(f"{run} has left nothing to put back.   next: engine report {run}", err=True)
        return Exit.DONE
    click.echo("\n".join(f"  {e.host} {e.step}: back to {_before(e)}" for e in changes[:20]), err=True)
    if (
        not yes
        and sys.stdin.isatty()
        and not click.confirm(f"Put these {len(changes)} changes back?", default=False, err=True)
    ):
        store.unlock(run)
        return Exit.INTERRUPTED
    with running.shown(store, False, None) as view:
        store.lock(run, (row.name for row in ready.plan.hosts), f"undo of {run}")
        try:
            code = _keyed(site, view, said) or _undone(site, who)
        finally:
            store.unlock(run)
    return running.finished(store, run, code)


def _before(intent: Any) -> str:
    before = intent.body["change"].get("before")
    return "absent" if before is None else ", ".join(f"{key} {value}" for key, value in before.items())


def _keyed(site: Any, view: Any, said: dict[str, Any]) -> Exit | None:
    """Waits for the keys of the undo; None when they are there."""
    import time

    from engine import authority, canon, question, runner
    from engine.cli import running

    book = site.plan.playbook.authority
    if book.mode == "automatic":
        return None
    digest = canon.digest({"act": "undo", "run": site.run, "plan": site.plan.digest})
    asked = [
        e
        for e in site.journal.entries(site.run)
        if e.kind == "key.asked" and e.body["digest"] == digest and e.body["expires"] > site.now()
    ]
    rule = authority.Rule(book.mode, book.roles, book.expires)
    facts = {
        "act": f"undo {site.run}",
        "playbook": site.plan.playbook.name,
        "strategy": site.plan.playbook.strategy,
        "hosts": len(site.plan.hosts),
    }
    request = asked[-1] if asked else question.ask(site, rule, digest, facts)
    poll = running.prompter(site.journal, site.run, view, tuple(Path(key) for key in said["keys"]))
    while True:
        verdict = question.judge(site, request)
        if verdict.state == "approved":
            site.journal.append(
                site.run,
                "authority.settled",
                {"decision": "approved", "why": verdict.why, "people": list(verdict.people), "of": "undo"},
            )
            return None
        if verdict.state in ("rejected", "expired"):
            raise EngineError(
                Diagnostic("LG091", f"the undo was not allowed: {verdict.why}", hint="nothing was put back"), Exit.REJECTED
            )
        if said["no_wait"]:
            return Exit.WAITING
        if poll:
            poll(request.body)
        time.sleep(runner.TICK)


def _undone(site: Any, who: str) -> Exit:
    """Every host's changes, hosts side by side."""
    from concurrent.futures import ThreadPoolExecutor

    from engine import undo

    site.journal.append(site.run, "undo.started", {"by": who})
    with ThreadPoolExecutor(max(1, min(64, len(site.plan.hosts)))) as pool:
        results = list(pool.map(lambda row: undo.host(site, row), site.plan.hosts))
    outcome = next((word for word in ("drifted", "failed") if word in results), "undone")
    site.journal.append(site.run, "undo.ended", {"outcome": outcome})
    if outcome != "undone":
        return Exit.STALE if outcome == "drifted" else Exit.FAILED
    site.journal.append(site.run, "run.ended", {"outcome": "undone", "exit": 0, "why": f"undone by {who}"})
    return Exit.DONE
