"""`engine resume`: keep what is done, look at what was cut off, run the rest. Refuses by name what is not as it was."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import click

from engine import words
from engine.cli import reopening
from engine.diagnostics import Diagnostic, EngineError, Exit
from modules.contract import seconds


@click.command(epilog="Reference: docs/reference/commands.md")
@click.argument("run", required=False)
@reopening.options
@click.option("--no-wait", is_flag=True, help="Do not wait for keys: end with exit 5.")
@click.option("--forks", default=256, show_default=True, type=click.IntRange(1, 1024), help="Hosts side by side.")
@click.option(
    "--key", "keys", multiple=True, type=click.Path(path_type=Path), help="An SSH key file for keys given on this terminal."
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask before going on.")
@click.option("--extend", default="", metavar="TIME", help="Give the run so much time from now, instead of its deadline.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line on standard output.")
@click.option("--json-into", type=click.Path(path_type=Path), default=None, help="The same into a file.")
@click.pass_context
def command(context: click.Context, /, run: str | None, yes: bool, **said: Any) -> int:
    """Go on with a run (the newest, if none is named) after a crash, a failure, Ctrl-C or a wait.

    \b
    engine resume RB-0007
    engine resume
    engine resume RB-0007 --playbook playbooks/fraud.yml -i inventories/production

    It goes on on any machine that has the record: --playbook and -i name the same playbook and inventory there.
    """
    import gc

    from engine import ending, journal, runner
    from engine.cli import keeping, opening, running

    gc.disable()  # a long record makes hundreds of thousands of objects and no circle: collecting would be most of the time
    context.call_on_close(gc.enable)  # however this ends
    store = running.store(context, must_exist=True)
    run = running.known(store, run)
    store.claim(run, running.told)
    entries = store.verified(run)
    who, last = opening.requester(None), journal.ending(entries)
    if last and last.body["outcome"] in ending.ENDED and not _undelivered(entries):
        click.echo(f"{run} has ended: {last.body['outcome']}. There is nothing to do.   next: engine report {run}", err=True)
        return Exit.DONE
    ready, base, body = reopening.reopened(entries, None, said["playbook"], said["inventories"])
    _not_turned_round(run, entries, ready.plan.playbook.authority.mode)
    site = running.site(ready, store, run, base, body["requester"], body["check"], body["inventories"])
    site.started = entries[0].at
    site.approved = {(row["host"], row["step"]): row for row in (ready.plan.preview or {}).get("changes", [])}
    if last is None or last.body["outcome"] not in ending.ENDED:
        entries = _decided(site, entries, who) if not yes and sys.stdin.isatty() else entries
    extended = _deadline(site, entries, last, said["extend"]) | running.evidence_again(site, body)
    keeping.roomy(store.folder)
    with running.shown(store, said["as_json"], said["json_into"]) as view:
        more = {"forks": said["forks"], "if_triggered": body.get("if_triggered", False)}
        hopes = running.wishes(store, run, view, not said["no_wait"], said["keys"], **more)
        view.recall(entries)
        one = runner.Run(site, hopes)
        counts = _restored(run, one, entries, last)
        gc.freeze()
        gc.enable()
        if last and last.body["outcome"] in ending.ENDED:
            return _delivered(one, view, last.body["outcome"])
        if not _wanted(run, view, counts, entries, store, ask=not yes and sys.stdin.isatty()):
            return Exit.INTERRUPTED
        store.lock(run, (row.name for row in site.plan.hosts), site.plan.playbook.name, running.told)
        try:
            place = reopening.place(base, body["inventories"], store.folder)
            store.append(run, "run.resumed", {"by": who, **counts, **place, **extended})
            code = running.carried_out(one, view)
        finally:
            store.unlock(run)
    return running.finished(store, run, code, said["as_json"])


def _wanted(run: str, view: Any, counts: Any, entries: list[Any], store: Any, ask: bool) -> bool:
    """Says what is kept and what is looked at first; whether it goes on, where a person is to be asked."""
    keep, look = f"keep {counts['keep']} steps that ended", f"look first at {counts['look']} that were cut off"
    view.write(f"{run}: journal whole to entry {entries[-1].seq}; {keep}, {look}, run the rest")
    for line in reopening.elsewhere(entries, store.folder):
        view.write(line)
    if not ask:
        return True
    with view.paused():
        if click.confirm("Continue?", default=False, err=True):
            return True
        click.echo(f"Nothing was done: {run} stays as it is.   next: engine resume {run}", err=True)
        return False


def _restored(run: str, one: Any, entries: list[Any], last: Any) -> Any:
    """Takes over what the record says; counts of it. Raises EngineError (LG091) where that is that the run was let through,
    and the keys in it say otherwise."""
    from engine import ending

    counts = one.restore(entries)
    over = last and last.body["outcome"] in ending.ENDED  # only its last messages are sent
    if not over and (why := one.leave.unproven(entries)):
        summary = f"the record of {run} says that it was let through, and its keys do not: {why}"
        hint = "find out who has written that; a new run asks anew"
        raise EngineError(Diagnostic("LG091", summary, hint=hint), Exit.REJECTED)
    return counts


def _not_turned_round(run: str, entries: list[Any], mode: str) -> None:
    """Raises EngineError (LG091) where people have let an undo begin: nobody goes forth again alone. And where an undo was
    cut off in a step that nobody can read: whether it is to be done again, nobody knows."""
    last = next((e.kind for e in reversed(entries) if e.kind in ("run.ended", "run.resumed", "undo.started")), "")
    said, hint = "", f"engine undo {run} goes on with it; a new run asks for new keys"
    if mode != "automatic" and last == "undo.started":
        said = f"an undo of {run} was allowed and has begun: the run's own keys do not turn it round"
    elif unclear := _unclear(entries):
        said = f"an undo of {run} was cut off in {words.some(unclear)}, and nothing shows whether that is back"
        hint = f"engine undo {run} puts back the rest; look at that yourself, then begin a new run"
    if said:
        raise EngineError(Diagnostic("LG091", said, hint=hint), Exit.REJECTED)


def _unclear(entries: list[Any]) -> list[str]:
    """The steps that nobody can read (class D) of which an undo has begun, and has not surely ended."""
    blind, found = set[tuple[str, str]](), dict[tuple[str, str], str]()
    for entry in entries:
        place = (entry.host, entry.step)
        if entry.kind == "step.intent":
            found.pop(place, None)
            (blind.add if entry.body.get("crash") == "D" else blind.discard)(place)
        elif entry.kind == "undo.intent" and place in blind:
            found[place] = f"{entry.step} on {entry.host}"
        elif entry.kind == "undo.outcome" and entry.body["outcome"] != "none" and "going" not in entry.body:
            found.pop(place, None)
    return list(found.values())


def _delivered(run: Any, view: Any, outcome: str) -> Exit:
    """Sends what a run that has ended had still to say; what became of that is sealed like the rest."""
    from engine.cli import running

    view.write(f"{run.id} has ended: {outcome}. Its last messages were still on their way")
    run.deliver()
    running.sealed(run.site, view)
    return Exit.DONE


def _deadline(site: Any, entries: list[Any], last: Any, extend: str) -> dict[str, Any]:
    """Sets the run's deadline, as it was or as it is extended now; returns what is to be recorded of that.

    Raises EngineError (LG093) for a run that has ended at its deadline, and for an extension that one person cannot give.
    """
    from engine import ending, words

    run, now, until = site.run, site.now(), ending.deadline(entries)
    keyed = site.plan.playbook.authority.mode != "automatic"
    if extend:
        try:
            more = seconds(extend)
        except ValueError as error:
            raise click.UsageError(f"--extend: {error}") from None
        if until == math.inf:
            raise click.UsageError(f"--extend: {run} has no deadline; its steps have their own times")
        if not keyed:
            site.deadline = now + more
            return {"deadline": site.deadline}
    site.deadline = until
    if not extend and not (ending.timed_out(last) and now >= until):
        return {}
    anew = f"engine run {entries[0].body['playbook']} -e to=VERSION asks for new keys"
    hint = anew if keyed else f"engine resume {run} --extend 30m gives it more time"
    summary = f"the deadline of {run}, {words.utc(until)}, " + (
        "was part of what the keys were given for, and is not extended" if extend else "has passed, and the run has ended"
    )
    hint = f"{hint}; engine undo {run} puts back what it changed"
    raise EngineError(Diagnostic("LG093", summary, hint=hint), Exit.FAILED)


def _undelivered(entries: list[Any]) -> set[str]:
    """The keys of messages that were queued and not sent."""
    keys: dict[str, set[str]] = {"message.queued": set(), "message.sent": set()}
    for entry in entries:
        if entry.kind in keys:
            keys[entry.kind].add(entry.body["key"])
    return keys["message.queued"] - keys["message.sent"]


def _decided(site: Any, entries: list[Any], who: str) -> list[Any]:
    """Asks what only a person can know of uncertain steps, as `engine resolve` does. Returns the entries with it."""
    from engine import recall
    from engine.cli import settling

    if not any('"outcome":"uncertain"' in entry.text for entry in entries):
        return entries
    for (host, name), intent in recall.of(site.plan, entries).uncertain.items():
        told = f"{host}: {name} is uncertain. {settling.last_words(entries, (host, name))}"
        answer, because = settling.asked(told, None, None, later=True)
        if answer != "later":
            recall.decide(site, (host, name), intent, answer, because, who)
    return [*entries, *site.journal.entries(site.run, entries[-1].seq)]
