"""`engine cancel`: stop a run at the next safe point, from any terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from engine.diagnostics import EngineError, Exit

if TYPE_CHECKING:
    from engine.journal import Entry, Journal

#: Seconds that the command looks whether the run has stopped, before it leaves it at having asked.
PATIENCE = 5.0


@click.command(epilog="Reference: docs/reference/commands.md")
@click.argument("run", required=False)
@click.option("--because", default="", help="Why, for the record.")
@click.option(
    "--undo", "undo_too", is_flag=True, help="Put back what the run has changed; where it took keys, that does too."
)
@click.option("--as", "by", default=None, help="Who cancels (default: the login name).")
@click.pass_context
def command(context: click.Context, /, run: str | None, because: str, undo_too: bool, by: str | None) -> int:
    """Stop a run at the next safe point: steps under way are finished, operations of a platform are stopped, clean-up
    steps run, nothing else begins.

    \b
    engine cancel RB-0007 --because "wrong service"
    engine cancel RB-0007 --undo

    A run that no process holds is cleaned up, and put back where that is asked for, by this command. An undo stops after the
    change that it is putting back.

    To stop takes no key. To put back takes those that engine undo asks for: the run is stopped at once, the question is
    asked, and this command ends with exit 5 instead of waiting for the answer.
    """
    from engine import journal, words
    from engine.cli import opening, running

    store = running.store(context, must_exist=True)
    run = running.known(store, run)
    entries = store.entries(run)
    last, earlier = journal.ending(entries), _asked(entries)
    if last and not (_undo_asks(entries) and store.held(run)):
        click.echo(_over(run, last, undo_too), err=True)
        return Exit.DONE
    if earlier and (earlier.body.get("undo") or not undo_too):
        ago = words.span(max(time.time() - earlier.at, 0.0))
        click.echo(f"{earlier.body['by']} has asked for this {ago} ago; asking again changes nothing", err=True)
    else:
        body = {"by": opening.requester(by), "why": because, "undo": undo_too}
        earlier = store.append(run, "cancel.asked", body)
    code = _honoured(context, store, run, earlier)
    return _keyed(context, store, run, by) or code if earlier.body.get("undo") else code


def _keyed(context: click.Context, store: Journal, run: str, by: str | None) -> int:
    """Begins `engine undo` of a run that took keys and is now cancelled: its question is asked, and not waited for."""
    from engine import journal
    from engine.cli import undo

    if not _took_keys(store.entries(run)):
        return Exit.DONE
    until = time.monotonic() + PATIENCE
    while store.held(run) and time.monotonic() < until:  # it has ended, and still writes its report
        time.sleep(0.1)
    last = journal.ending(store.entries(run))
    if last is None or store.held(run):
        click.echo(f"To put back takes keys: once it has stopped, engine undo {run} asks for them", err=True)
        return Exit.WAITING
    if last.body["outcome"] != "cancelled":
        return Exit.DONE
    said = {"playbook": None, "inventories": (), "keys": (), "no_wait": True}
    code: int = context.invoke(undo.command, run=run, yes=True, by=by, **said)
    return code


def _took_keys(entries: Sequence[Entry]) -> bool:
    """Whether people were asked for keys before the run could change anything."""
    return any(entry.kind == "key.asked" for entry in entries)


def _over(run: str, last: Entry, undo_too: bool) -> str:
    back = undo_too and last.body["outcome"] != "undone"
    return f"{run} has ended already: {last.body['outcome']}. Nothing is left to stop.   next: engine " + (
        f"undo {run} puts back what it changed" if back else f"report {run}"
    )


def _asked(entries: Sequence[Entry]) -> Entry | None:
    """The cancel that was asked for and not carried out yet."""
    found = None
    for entry in entries:
        if entry.kind == "cancel.asked":
            found = entry
        elif entry.kind in ("run.ended", "undo.ended") or (entry.kind == "authority.settled" and entry.body.get("of")):
            found = None
    return found


def _undo_asks(entries: Sequence[Entry]) -> bool:
    """Whether an undo waits for keys."""
    for entry in reversed(entries):
        if entry.kind == "key.asked":
            return bool((entry.body.get("facts") or {}).get("act"))
        if entry.kind == "run.ended" or (entry.kind == "authority.settled" and entry.body.get("of")):
            return False
    return False


def _undo_cancelled(entry: Entry) -> bool:
    """Whether an undo that had asked for keys says here that it was cancelled."""
    return entry.kind == "authority.settled" and (entry.body.get("of"), entry.body["decision"]) == ("undo", "cancelled")


def _honoured(context: click.Context, store: Journal, run: str, asked: Entry) -> int:
    """Looks how the run takes it, for a moment; does what is left where no process holds the run."""
    from engine import standing, story

    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        held = store.held(run)  # before the entries are read: what its process wrote last is read as well
        ends = (one for one in store.entries(run, asked.seq) if one.kind == "run.ended" or _undo_cancelled(one))
        end = next(ends, None)
        if end and end.kind == "run.ended":
            click.echo(_ended(run, end, bool(asked.body.get("undo"))), err=True)
            return Exit.DONE
        if end:
            click.echo(f"the undo of {run} is cancelled; nothing was put back.   next: engine status {run}", err=True)
            return Exit.DONE
        if not held:
            return _left(context, store, run, asked)
        time.sleep(0.1)
    waits = standing.of(story.tell(store.entries(run)), True).waiting
    told = f"asked: {run} stops at its next safe point. It waits for {waits}"
    click.echo(f"{told}.   next: engine status {run} --follow", err=True)
    return Exit.DONE


def _ended(run: str, end: Entry, undo_too: bool) -> str:
    if end.body["outcome"] == "cancelled":
        why = f" ({end.body['why']})" if end.body.get("why") else ""
        return f"{run} is cancelled{why}.   next: engine report {run}" + ("" if undo_too else f", or engine undo {run}")
    return (
        f"{run} came to its end before this could stop it: {end.body['outcome']}. Nothing was cut short.   "
        f"next: engine undo {run} puts back what it changed"
    )


def _left(context: click.Context, store: Journal, run: str, asked: Entry) -> int:
    """What a cancel asks for of a run that no process holds: done here and now, then the run has ended."""
    from engine import ending, journal, story
    from engine.cli import resume, running

    entries = store.entries(run)
    going = ", ".join(step.operation for step in story.tell(entries).steps.values() if step.operation)
    undo = _goes_back(entries) or (bool(asked.body.get("undo")) and not _took_keys(entries))
    open_ = (f"the stop of operation {going}", going), ("its clean-up", _cleans_up(entries)), ("the undo", undo)
    works = [word for word, there in open_ if there]
    last = next((e.kind for e in reversed(entries) if e.kind in ("run.ended", "run.resumed", "undo.started")), "")
    if works and last != "undo.started":
        click.echo(f"{run} is not being run: {' and '.join(works)} is done by this command", err=True)
        context.invoke(resume.command, run=run, yes=True)
        end = journal.ending(store.entries(run))
        return Exit.DONE if end and end.body["outcome"] == "cancelled" else Exit.FAILED
    store.claim(run, running.told)
    try:
        entries = store.entries(run)  # another process may have come to its end since
        if over := journal.ending(entries):
            click.echo(_over(run, over, bool(asked.body.get("undo"))), err=True)
            return Exit.DONE
        why = asked.body.get("why") or f"cancelled by {asked.body['by']}"
        ended = {"outcome": "cancelled", "exit": int(Exit.FAILED), "why": why, **ending.glass(entries)}
        store.append(run, "run.ended", ended)
        _seal(store, run, entries)
    finally:
        store.unlock(run)
    told = f"{run} was not being run and is now cancelled"
    click.echo(f"{told}.   next: engine undo {run}, or engine report {run}", err=True)
    return Exit.DONE


def _seal(store: Journal, run: str, entries: Sequence[Entry]) -> None:
    """Seals what a run that kept evidence has written since its last bundle. It is cancelled, whatever becomes of that."""
    from pathlib import Path

    from engine import seal

    said = next((entry.body for entry in reversed(entries) if entry.body.get("evidence")), None)
    if said is None:
        return
    try:
        signer = seal.signer(store.folder, Path(said["evidence_key"]) if said.get("evidence_key") else None)
        if signer.key.line == said["evidence"]:  # else it was another machine's, and nothing on record hands it over to ours
            seal.make(store, run, signer)
    except EngineError as error:
        click.echo(f"{error.diagnostics[0].summary}.   next: engine evidence seal {run}", err=True)


def _goes_back(entries: Sequence[Entry]) -> bool:
    """Whether the playbook's own remedy has begun to put a host back, and was cut off in it."""
    hosts: set[str] = set()
    for entry in entries:
        if entry.kind == "host.undoing":
            hosts.add(entry.host)
        elif entry.kind == "host.undone":
            hosts.discard(entry.host)
        elif entry.kind == "run.ended":
            hosts.clear()
    return bool(hosts)


def _cleans_up(entries: Sequence[Entry]) -> bool:
    """Whether the run stopped in a section that has clean-up steps: some of them may have to run."""
    begun = {entry.step.partition("/")[0] for entry in entries if entry.kind in ("step.intent", "step.outcome")}
    nodes = entries[0].body["plan"]["nodes"]
    return any(name.endswith(".always") and name.partition("/")[0] in begun for name, *_ in nodes)
