"""`engine resume`: keep what is done, look at what was cut off, run the rest. Refuses by name what is not as it was."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import click

from engine.diagnostics import Diagnostic, EngineError, Exit


@click.command(epilog="Reference: docs/reference/commands.md")
@click.argument("run", required=False)
@click.option("--no-wait", is_flag=True, help="Do not wait for keys: end with exit 5.")
@click.option("--forks", default=256, show_default=True, type=click.IntRange(1, 1024), help="Hosts side by side.")
@click.option(
    "--key", "keys", multiple=True, type=click.Path(path_type=Path), help="An SSH key file for keys given on this terminal."
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask before going on.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line on standard output.")
@click.option("--json-into", type=click.Path(path_type=Path), default=None, help="The same into a file.")
@click.pass_context
def command(context: click.Context, /, run: str | None, yes: bool, **said: Any) -> int:
    """Go on with a run (the newest, if none is named) after a crash, a failure, Ctrl-C or a wait.

    \b
    engine resume RB-0007
    engine resume
    """
    import gc

    from engine import journal, runner
    from engine.cli import opening, running

    gc.disable()  # a long record makes hundreds of thousands of objects and no circle: collecting would be most of the time
    store = running.store(context, must_exist=True)
    run = running.known(store, run)
    store.claim(run)
    entries = store.verified(run)
    who, last = opening.requester(None), journal.ending(entries)
    if last and last.body["outcome"] in runner.ENDED and not _undelivered(entries):
        click.echo(f"{run} has ended: {last.body['outcome']}. There is nothing to do.   next: engine report {run}", err=True)
        return Exit.DONE
    ready, base, body = reopened(entries)
    site = running.site(ready, store, run, base, body["requester"], body["check"])
    site.started = entries[0].at
    site.approved = {(row["host"], row["step"]): row for row in (ready.plan.preview or {}).get("changes", [])}
    if last is None or last.body["outcome"] not in runner.ENDED:
        entries = _decided(site, entries, who) if not yes and sys.stdin.isatty() else entries
    with running.shown(store, said["as_json"], said["json_into"]) as view:
        hopes = running.wishes(
            store,
            run,
            view,
            not said["no_wait"],
            said["keys"],
            forks=said["forks"],
            if_triggered=body.get("if_triggered", False),
        )
        view.recall(entries)
        one = runner.Run(site, hopes)
        counts = one.restore(entries)
        gc.freeze()
        gc.enable()
        if last and last.body["outcome"] in runner.ENDED:
            view.write(f"{run} has ended: {last.body['outcome']}. Its last messages were still on their way")
            one.deliver()
            return Exit.DONE
        keep, look = f"keep {counts['keep']} steps that ended", f"look first at {counts['look']} that were cut off"
        view.write(f"{run}: journal whole to entry {entries[-1].seq}; {keep}, {look}, run the rest")
        if not yes and sys.stdin.isatty():
            with view.paused():
                if not click.confirm("Continue?", default=False, err=True):
                    return Exit.INTERRUPTED
        store.lock(run, (row.name for row in site.plan.hosts), site.plan.playbook.name)
        try:
            store.append(run, "run.resumed", {"by": who, **counts})
            code = running.carried_out(one, view)
        finally:
            store.unlock(run)
    return running.finished(store, run, code, said["as_json"])


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


def reopened(entries: list[Any], needed: Collection[str] | None = None) -> tuple[Any, Path, dict[str, Any]]:
    """The run's stored plan, if playbook, modules (those `needed`, or all) and inventory are still what they were. Raises
    EngineError (exit 7) that names what is not."""
    from engine import inventory, plan
    from engine.cli import opening

    body = entries[0].body
    document, base = body["plan"], Path(body["base"])
    found = []
    for name, text in document["texts"].items():
        path = base / name
        if not path.is_file() or path.read_text("utf-8") != text:
            found.append(Diagnostic("LG061", f"the playbook {path} is not what it was when the run began"))
    modules = opening.catalog(base / document["playbook"])
    try:
        made = plan.load(document, modules, needed)
    except EngineError as error:
        found += error.diagnostics
    if body["inventories"] and not found:
        try:
            stock = inventory.load(body["inventories"])
        except EngineError as error:
            found += error.diagnostics
        else:
            for row in made.hosts:
                host = stock.hosts.get(row.name)
                if host is None:
                    found.append(Diagnostic("LG061", f"the host {row.name} is no longer in the inventory"))
                    continue
                names = [name for name, value in row.vars.items() if host.vars.get(name) != value or name not in host.vars]
                found += [
                    Diagnostic(
                        "LG061", f"the inventory variable `{name}` of {row.name} is not what it was when the run began"
                    )
                    for name in names
                ]
    if found:
        hint = "put it back as it was, or start a new run; engine undo takes back what this one changed"
        raise EngineError([Diagnostic(d.code, d.summary, d.place, d.detail, d.hint or hint) for d in found], Exit.STALE)
    return opening.Opened(made, modules, None), base, body
