"""`engine run`: a playbook or a saved plan, from trigger to report."""

from __future__ import annotations

import math
import select
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from engine.diagnostics import Diagnostic, EngineError, Exit

GOOD_FOR = 1800.0


@click.command(epilog="Reference: docs/reference/commands.md")
@click.argument("playbook", type=click.Path(path_type=Path))
@click.option("-i", "--inventory", "inventories", multiple=True, help="A folder, file or executable; several are merged.")
@click.option(
    "-e",
    "--extra-vars",
    "extra",
    multiple=True,
    help="name=text, {json} or @file. `-e to=1.3.2` names the version to go back to.",
)
@click.option("-l", "--limit", default="", help="Only these of the playbook's hosts (a pattern).")
@click.option("-t", "--tags", default="", help="Only steps with one of these tags (evidence is always kept).")
@click.option("--skip-tags", default="", help="Not the steps with one of these tags.")
@click.option("--check", is_flag=True, help="Walk the whole path without changing anything.")
@click.option("--diff", is_flag=True, help="Print each change as before -> after.")
@click.option("--step", "one_by_one", is_flag=True, help="Ask before every step of execution.")
@click.option("--until", default="", help="Stop after this step.")
@click.option("--if-triggered", is_flag=True, help="Do nothing where the trigger does not hold.")
@click.option("--no-wait", is_flag=True, help="Do not wait for keys: end with exit 5; engine resume goes on.")
@click.option("--forks", default=256, show_default=True, type=click.IntRange(1, 1024), help="Hosts side by side.")
@click.option("--as", "requester", default=None, help="Who asks for this run (default: the login name).")
@click.option(
    "--key", "keys", multiple=True, type=click.Path(path_type=Path), help="An SSH key file for keys given on this terminal."
)
@click.option(
    "--evidence-key", type=click.Path(path_type=Path), default=None, envvar="LASTGOOD_EVIDENCE_KEY",
    help="An SSH key file that seals the evidence. Default: the engine's own key in the state folder.",
)  # fmt: skip
@click.option(
    "--anchor", "anchors", multiple=True, envvar="LASTGOOD_ANCHOR",
    help="Keep the evidence's heads outside too: file:PATH, git:REPOSITORY#BRANCH, or a time stamping service's address.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line on standard output.")
@click.option("--json-into", type=click.Path(path_type=Path), default=None, help="The same into a file.")
@click.pass_context
def command(context: click.Context, /, playbook: Path, inventories: tuple[str, ...], check: bool, **said: Any) -> int:
    """Run a playbook, or exactly what a saved plan says.

    \b
    engine run playbooks/fraud.yml -i inventories/production
    engine run playbooks/fraud.yml -i inventories/production -e to=1.3.2 --check --diff
    """
    from engine import __version__, plan
    from engine.cli import keeping, opening, reopening, running
    from engine.runner import Run
    from engine.site import Site

    who = opening.requester(said["requester"])
    saved = opening.stored(playbook) if opening.is_plan(playbook) else None
    if saved is not None:
        _alone(inventories, said)
        folder = Path(saved["shown"]).parent
        modules = opening.catalog(Path(saved["shown"]))
        _current(saved)
        inventories = tuple(saved["inventories"])  # what is frozen, and who may say yes, is read there
        ready = opening.Opened(plan.load(saved, modules), modules, None)
    else:
        folder = playbook.parent
        ready = opening.opened(playbook, inventories, _options(said), who)
    _known_steps(ready.plan, said)
    store = running.store(context)
    if not check:
        keeping.roomy(store.folder)
    if saved is not None:
        _once((first for first, _ in store.runs()), saved)  # now, so that nothing is looked at in vain
    site: Site = running.site(ready, store, "", folder, who, check, inventories)
    site.started = site.now()
    site.deadline = site.started + (site.plan.playbook.deadline or math.inf)
    if saved is not None or (ready.plan.playbook.authority.mode != "automatic" and not check):
        site.plan, site.approved = _previewed(site, saved, said["forks"])
    document, batches = site.plan.document(), [list(batch) for batch in site.plan.batches]
    body = {
        "plan": document, "digest": site.plan.digest, "playbook": document["shown"], "name": site.plan.playbook.name,
        "strategy": site.plan.playbook.strategy, "requester": who, "hosts": [row.name for row in site.plan.hosts],
        "batches": batches, "budget": site.plan.budget, "options": document["options"], "check": check,
        "engine": __version__, "from_plan": saved is not None, "if_triggered": said["if_triggered"],
        "deadline": site.deadline if site.plan.playbook.deadline else None,
        **reopening.place(site.base, inventories, store.folder),
        **running.evidence(site, said["evidence_key"], said["anchors"]),
    }  # fmt: skip
    with running.shown(store, said["as_json"], said["json_into"]) as view:
        site.run = run_id = store.start(body, (lambda begun: _once(begun, saved)) if saved else None)
        running.locked(store, run_id, site.plan)
        try:
            hopes = running.wishes(
                store, run_id, view, not said["no_wait"], said["keys"], if_triggered=said["if_triggered"],
                forks=said["forks"], until=said["until"], confirm=_confirm(view, site.stop) if said["one_by_one"] else None,
            )  # fmt: skip
            if said["diff"]:
                store.listeners.append(running.differ(view))
            code = running.carried_out(Run(site, hopes), view)
        finally:
            store.unlock(run_id)
    return running.finished(store, run_id, code, said["as_json"])


def _options(said: dict[str, Any]) -> Any:
    from engine import layout
    from engine.cli import opening

    extra = opening.extra(said["extra"])
    return layout.Options(extra, said["limit"], _words(said["tags"]), _words(said["skip_tags"]))


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _alone(inventories: tuple[str, ...], said: dict[str, Any]) -> None:
    """Refuses options that a saved plan has settled already: they would be passed over in silence."""
    names = {"extra": "-e", "limit": "--limit", "tags": "--tags", "skip_tags": "--skip-tags"}
    given = ["-i"] * bool(inventories) + [option for name, option in names.items() if said[name]]
    if given:
        raise click.UsageError(
            f"a saved plan is run as it is: {', '.join(given)} would change nothing; make a new plan with it"
        )


def _known_steps(plan: Any, said: dict[str, Any]) -> None:
    """Refuses a step that the playbook does not have: the run would not stop there."""
    from engine.diagnostics import did_you_mean

    steps = plan.playbook.steps
    until, shorts = said["until"], [one.short for one in steps]
    if until and until not in (*shorts, *(one.id for one in steps)):
        raise click.UsageError(
            f"--until {until}: no such step. {did_you_mean(until, shorts, 'engine graph shows the steps')}"
        )


def _confirm(view: Any, stop: threading.Event) -> Any:
    """Asks on the terminal, until the run stops: a cancel and a deadline do not wait for an answer."""

    def confirm(host: str, step: str) -> bool:
        with view.paused():
            click.echo(f"{host}: {step}? [y/N]: ", nl=False, err=True)
            while sys.stdin.isatty() and not select.select([sys.stdin], [], [], 0.2)[0]:
                if stop.is_set():
                    click.echo(err=True)
                    return False
            try:
                return bool(click.confirm("", default=False, err=True, prompt_suffix="", show_default=False))
            except click.Abort:  # nobody is there to answer
                return False

    return confirm


def _current(saved: dict[str, Any]) -> None:
    """Refuses a plan that has lapsed, or whose playbook was edited since."""
    from engine.cli import reopening

    age = time.time() - saved["preview"]["at"]
    if age > GOOD_FOR:
        raise EngineError(
            Diagnostic(
                "LG062",
                f"the plan is {age / 60:.0f} min old; it was good for {GOOD_FOR / 60:.0f}",
                hint="engine plan makes a new one",
            ),
            Exit.STALE,
        )
    folder = Path(saved["shown"]).parent
    if missing := next((one for one in saved["inventories"] if not Path(one).exists()), ""):
        said, hint = f"the inventory {missing} of the plan is not here", "engine plan makes a new one"
        raise EngineError(Diagnostic("LG061", said, hint=hint), Exit.STALE)
    moved = [name for name, text in saved["texts"].items() if not reopening.same(folder / name, text)]
    if moved:
        raise EngineError(
            [
                Diagnostic(
                    "LG061", f"{folder / name} is not what it was when the plan was made", hint="engine plan makes a new one"
                )
                for name in moved
            ],
            Exit.STALE,
        )


def _once(begun: Iterable[Any], saved: dict[str, Any]) -> None:
    """A plan is used once: refuses it where one of these first entries of runs has used it."""
    for first in begun:
        if first.body.get("from_plan") and first.body["digest"] == saved["digest"] and not first.body["check"]:
            raise EngineError(
                Diagnostic(
                    "LG063", f"this plan was used by {first.run}", hint=f"engine resume {first.run}, or make a new plan"
                ),
                Exit.STALE,
            )


def _previewed(site: Any, saved: dict[str, Any] | None, forks: int) -> tuple[Any, dict[tuple[str, str], Any]]:
    """The plan with what it would change now, which is what people are shown: a saved plan's file may say anything. Raises
    EngineError (exit 7) where that says otherwise."""
    from dataclasses import replace

    from engine import preview

    now = preview.made(site, forks)
    if saved is not None:
        moved = preview.moved(saved["preview"]["changes"], now["changes"])
        if moved:
            raise EngineError(
                [Diagnostic("LG064", text, hint="engine plan shows how it is now; nothing was changed") for text in moved],
                Exit.STALE,
            )
        now["changes"] = saved["preview"]["changes"]  # the plan's digest is over these
    return replace(site.plan, preview=now), {(row["host"], row["step"]): row for row in now["changes"]}
