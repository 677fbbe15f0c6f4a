"""`engine undo`: put back what a run has changed, last change first, looking before each."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from engine.cli import reopening
from engine.diagnostics import Diagnostic, EngineError, Exit


@click.command(epilog="Reference: docs/reference/commands.md")
@click.argument("run", required=False)
@reopening.options
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
    engine undo RB-0007 --playbook playbooks/fraud.yml -i inventories/production
    """
    from engine import undo, words
    from engine.cli import keeping, opening, running

    store = running.store(context, must_exist=True)
    run = running.known(store, run)
    store.claim(run, running.told)
    entries = store.verified(run)
    # An undo calls the modules of what it puts back and no others, so an update of those does not stand in its way.
    needed = {entry.body["module"] for entry in entries if entry.kind == "step.intent"}
    ready, base, body = reopening.reopened(entries, needed, said["playbook"], said["inventories"])
    who = opening.requester(by)
    site = running.site(ready, store, run, base, who)
    site.started = entries[0].at
    changes = [one for row in ready.plan.hosts for one in undo.pending(e for e in entries if e.host == row.name)]
    lasting = [one for one in changes if ready.plan.undo.get(one.step.partition("[")[0]) is False]
    last = next((e.kind for e in reversed(entries) if e.kind in ("run.ended", "run.resumed", "undo.started")), "")
    seals = running.evidence_after(site, body, running.told)
    if not changes and last == "undo.started":  # cut off after the last change, before the end was written
        _told(site, who)
        with running.shown(store, False, None) as view:
            running.sealed(site, view)
        return running.finished(store, run, Exit.DONE)
    if not changes:
        click.echo(f"{run} has left nothing to put back.   next: engine report {run}", err=True)
        return Exit.DONE
    _shown(changes, lasting)
    for line in reopening.elsewhere(entries, store.folder):
        click.echo(line, err=True)
    if len(lasting) == len(changes):
        click.echo(f"{run} has changed nothing that could be put back.   next: engine report {run}", err=True)
        return Exit.FAILED
    question = f"Put these {len(changes) - len(lasting)} changes back?"
    if not yes and not sys.stdin.isatty():
        raise click.UsageError(f"{question} There is no terminal to ask on: say --yes")
    if not yes and not click.confirm(question, default=False, err=True):
        return Exit.INTERRUPTED
    keeping.roomy(store.folder)
    with running.shown(store, False, None) as view:
        store.lock(run, (row.name for row in ready.plan.hosts), f"undo of {run}", running.told)
        try:
            place = reopening.place(base, body["inventories"], store.folder) | seals
            befores = dict.fromkeys(_before(one) for one in changes if one not in lasting)
            code = Exit.REJECTED  # as long as nothing else has come of it
            try:
                seen = entries[-1].seq  # a cancel that came later than that is one of this undo
                code = _keyed(site, view, said, words.some(befores), seen) or _undone(site, view, who, place, seen)
            finally:
                if code is not Exit.WAITING:  # what an undo writes, also one that was not allowed, is evidence like the run
                    running.sealed(site, view, over=True)
        finally:
            store.unlock(run)
    return running.finished(store, run, code)


def _shown(changes: list[Any], lasting: list[Any]) -> None:
    """What is about to be put back, and what cannot be."""
    lines = [f"  {one.host} {one.step}: back to {_before(one)}" for one in changes if one not in lasting]
    more = [f"  and {len(lines) - 20} more"] if len(lines) > 20 else []
    stays = [f"  {one.host} {one.step}: has no undo and stays as it is" for one in lasting]
    click.echo("\n".join([*lines[:20], *more, *stays]), err=True)


def _before(left: Any) -> str:
    if left.change is None:
        return "what was there, which was not recorded: put it back by hand"
    before = left.change.before
    return "absent" if before is None else ", ".join(f"{key} {value}" for key, value in before.items())


def _keyed(site: Any, view: Any, said: dict[str, Any], back: str, seen: int) -> Exit | None:
    """Waits for the keys of the undo, whose holders are shown what is put `back`; None when they are there. Raises
    EngineError when they do not come, or somebody has cancelled since entry `seen`."""
    import time
    from dataclasses import replace

    from engine import authority, canon, question, runner
    from engine.cli import running

    book = site.plan.playbook.authority
    if book.mode == "automatic":
        return None
    digest = canon.digest({"act": "undo", "run": site.run, "plan": site.plan.digest})
    rule = replace(authority.rule_of(book), glass=None)  # nobody undoes alone: what serves now has been looked at
    facts = {
        "act": f"undo {site.run}: back to {back}",
        "playbook": site.plan.playbook.name,
        "strategy": site.plan.playbook.strategy,
        "hosts": len(site.plan.hosts),
    }
    request = _open(site, digest) or question.ask(site, rule, digest, facts)
    poll = running.prompter(site.journal, site.run, view, tuple(Path(key) for key in said["keys"]))
    while True:
        if by := _cancelled(site, seen):
            body = {"decision": "cancelled", "why": f"cancelled by {by}", "people": [], "of": "undo"}
            site.journal.append(site.run, "authority.settled", body)
            hint = "nothing was put back"
            raise EngineError(Diagnostic("LG091", f"the undo was cancelled by {by}", hint=hint), Exit.REJECTED)
        if changed := question.outdated(site, request):
            request = question.ask(site, rule, digest, facts, changed)
        verdict = question.judge(site, request)
        if verdict.state == "approved":
            settled = {"decision": "approved", "why": verdict.why, "people": list(verdict.people), "of": "undo"}
            used = {"nonce": request.body["nonce"], "keys": [dict(key) for key in verdict.keys]}
            site.journal.append(site.run, "authority.settled", {**settled, **used})
            return None
        if verdict.state in ("rejected", "expired"):
            raise EngineError(
                Diagnostic("LG091", f"the undo was not allowed: {verdict.why}", hint="nothing was put back"), Exit.REJECTED
            )
        if said["no_wait"]:
            return Exit.WAITING
        poll(request.body)
        time.sleep(runner.TICK)


def _open(site: Any, digest: str) -> Any:
    """The question about this undo that is still open; or answered, where the undo that it let begin has not ended. A run
    that went on since has changed more than was asked about."""
    entries = site.journal.entries(site.run)
    asked = [e for e in entries if e.kind == "key.asked" and e.body["digest"] == digest and e.body["expires"] > site.now()]
    if not asked:
        return None
    since = [e for e in entries if e.seq > asked[-1].seq]
    settled = [e.body["decision"] for e in since if e.kind == "authority.settled" and e.body.get("of") == "undo"]
    resumed = any(e.kind == "run.resumed" for e in since)
    used = resumed or "cancelled" in settled or (settled and any(e.kind == "undo.ended" for e in since))
    return None if used else asked[-1]


def _cancelled(site: Any, seen: int) -> str:
    """Who has cancelled since entry `seen`; empty when nobody has."""
    asked = (e.body["by"] for e in site.journal.entries(site.run, seen) if e.kind == "cancel.asked")
    return str(next(asked, ""))


def _undone(site: Any, view: Any, who: str, place: dict[str, Any], seen: int) -> Exit:
    """Every host's changes, hosts side by side. Ctrl-C and a cancel since entry `seen` stop after the change that is being
    put back."""
    import threading
    import time

    from engine import abreast, ending, runner, undo
    from engine.cli import running

    site.journal.append(site.run, "undo.started", {"by": who, **place})
    over, by = threading.Event(), list[str]()

    def look() -> bool:
        if found := _cancelled(site, seen):
            by.append(found)
            site.caller.cut = time.monotonic() + runner.PATIENCE
            site.stop.set()
        return bool(by)

    def watch() -> None:
        while not over.wait(runner.TICK) and not look():
            pass

    if not look():  # before anything is put back: it may have come while a person was asked, or with the last key
        threading.Thread(target=watch, daemon=True).start()
    try:
        with running.stoppable(site.stop.set, view, f"engine undo {site.run}"):
            results = abreast.each(lambda row: undo.host(site, row, site.stop), site.plan.hosts, 64)
    finally:
        over.set()
    outcome = next((word for word in ("stopped", "drifted", "failed") if word in results), "")
    if by and outcome:
        why = f"the undo was cancelled by {by[0]}: {results.count('undone')} of {len(results)} hosts are as they were before"
        alone = ending.glass(site.journal.entries(site.run))
        ended = {"outcome": "cancelled", "exit": int(Exit.FAILED), "why": why, **alone}
        rows = [("undo.ended", {"outcome": "cancelled"}, "", ""), ("run.ended", ended, "", "")]
        site.journal.append_all(site.run, rows)
        return Exit.FAILED
    if outcome == "stopped":
        return Exit.INTERRUPTED
    if outcome:
        site.journal.append(site.run, "undo.ended", {"outcome": outcome})
        return Exit.STALE if outcome == "drifted" else Exit.FAILED
    _told(site, who)
    return Exit.DONE


def _told(site: Any, who: str) -> None:
    """Records that everything is back, and what had no undo."""
    from engine import ending

    entries = site.journal.entries(site.run)
    stays = [f"{e.host} {e.step}" for e in entries if e.kind == "undo.outcome" and e.body["outcome"] == "none"]
    why = f"undone by {who}" + (f"; without an undo, and as the run left them: {', '.join(stays)}" if stays else "")
    ended = {"outcome": "undone", "exit": 0, "why": why, **ending.glass(entries)}
    site.journal.append_all(site.run, [("undo.ended", {"outcome": "undone"}, "", ""), ("run.ended", ended, "", "")])
