"""What `run`, `resume` and `undo` share: the live view, Ctrl-C, the prompt for a key, the recap and the report."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import click

from engine import __version__, anchor, journal, ledger, live, report, screen, seal, story, trust, words
from engine import evidence as evidences
from engine import look as looks
from engine import site as sites
from engine.cli import giving, keeping, opening
from engine.diagnostics import Diagnostic, EngineError, Exit, did_you_mean, render
from engine.journal import Entry, Journal
from engine.plan import Plan
from engine.runner import Run, Wishes
from engine.site import Site
from modules._wire import Wire
from modules.contract import Json, seconds


def site(
    opened: Any, store: Journal, run: str, base: Path, requester: str, check: bool = False, inventories: Sequence[str] = ()
) -> Site:
    """The site of a run: plan, catalog, journal and the real wire. Who may say yes is read anew from `inventories`."""
    chooses = any(step.module == "last_good" for step in opened.plan.playbook.steps)
    past = ledger.Past(store)
    if chooses:
        past()  # what is wrong with it is said before anything begins
    return Site(
        plan=opened.plan,
        placed=sites.placed(store, opened.plan.playbook.name, run) if chooses else {},
        ledger=past,
        catalog=opened.catalog,
        journal=store,
        run=run,
        wire=Wire(),
        base=base.resolve(),
        requester=requester,
        check=check,
        policy=opening.policy_of(opened.plan.roster, inventories, store.folder),
    )


@contextmanager
def shown(store: Journal, as_json: bool, into: Path | None) -> Iterator[live.View]:
    """The run on the screen as it goes on: people's view on standard error, JSON lines on standard output or in `into`."""
    view = live.view(sys.stderr)
    opened = into.open("w", encoding="utf-8") if into else None
    outs: list[TextIO] = ([sys.stdout] if as_json else []) + ([opened] if opened else [])
    listeners = [view.add]
    for out in outs:
        with suppress(OSError):  # nobody reads it: that is no reason not to run
            listeners.append(report.Events(out, __version__).add)
    store.listeners += listeners
    try:
        with view:
            yield view
    finally:
        store.listeners = [one for one in store.listeners if one not in listeners]
        if opened:
            opened.close()


def evidence(site: Site, key: Path | str | None, anchors: Sequence[str] = (), asked: bool = True) -> dict[str, Json]:
    """Gives the run the key that seals its evidence, if it keeps any; `key`: a file, the engine's own unless given.

    Returns what the record says of it, so that a bundle that was sealed with another is found out."""
    if not asked or site.check or not site.plan.playbook.section("forensics"):
        return {}
    for target in anchors:
        if wrong := anchor.misnamed(target):
            raise click.UsageError(f"--anchor {target}: {wrong}")
    path = Path(key).expanduser().absolute() if key else None
    site.signer, site.anchors = seal.signer(site.journal.folder, path), tuple(anchors)
    return {"evidence": site.signer.key.line, "evidence_key": str(path or ""), "anchors": list(anchors)}


def evidence_again(site: Site, body: Mapping[str, Json]) -> dict[str, Json]:
    """The same for a run that is taken up: as it was begun. One that an engine began which sealed nothing seals nothing."""
    return evidence(site, body.get("evidence_key"), body.get("anchors", ()), "evidence" in body)


def carried_out(run: Run, view: live.View) -> Exit:
    """Runs to the end, with Ctrl-C understood; what was not sealed yet is sealed then."""
    with stoppable(lambda: run.stop("interrupted"), view, f"engine resume {run.id}"):
        code = run.go()
    sealed(run.site, view)
    return code


def evidence_after(site: Site, body: Mapping[str, Json], tell: Callable[[str], object]) -> dict[str, Json]:
    """The same for what only puts back or ends: a key that cannot seal is told of, and holds nothing up."""
    try:
        return evidence_again(site, body)
    except EngineError as error:
        tell(f"{error.diagnostics[0].summary}. What comes now is not sealed; engine evidence seal {site.run} does it later")
        return {}


def sealed(site: Site, view: live.View, over: bool = False) -> None:
    """Seals the rest of a run that has ended (or whose undo is `over`, however that ended): journal and report, in a bundle
    that goes on from those before. It has ended as it has, whatever becomes of that."""
    entries = site.journal.entries(site.run)
    if site.signer is None or not (over or journal.ending(entries)):
        return
    try:
        written(site.journal, story.tell(entries))
        evidences.sealed(site)
    except (EngineError, OSError) as error:
        why = error.diagnostics[0].summary if isinstance(error, EngineError) else error
        view.write(f"{why}. What was sealed before the change still is; engine evidence seal {site.run} tries again")


@contextmanager
def stoppable(stop: Callable[[], object], view: live.View, onward: str) -> Iterator[None]:
    """Ctrl-C: once calls `stop`, and what is under way is finished; twice ends the process at once. `onward` goes on."""
    pressed = 0

    def interrupt(_signal: int, _frame: object) -> None:
        nonlocal pressed
        pressed += 1
        if pressed > 1:
            view.close()
            os.write(2, f"\nstopped now. Nothing is lost: the journal has every step.   next: {onward}\n".encode())
            os._exit(int(Exit.INTERRUPTED))
        view.write(
            "stopping at the next safe point: steps under way are finished, none is begun. Ctrl-C again stops now. "
            f"Then: {onward}"
        )
        stop()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def finished(store: Journal, run: str, code: Exit, as_json: bool = False) -> Exit:
    """Writes the report and prints the recap. Returns the exit code: whatever is wrong with those, it is the run's."""
    told, path = story.tell(store.entries(run)), None
    try:
        ledger.gather(store)  # else whoever looks next does it
        path = written(store, told) if told.ended is not None else None
    except Exception as error:  # noqa: BLE001 (the run has ended, and must not seem to have ended otherwise)
        why = f"{type(error).__name__}: {error}"
        click.echo(
            f"the ledger or the report could not be written ({why}). The record is whole: engine report {run}", err=True
        )
    recap = {"kind": "recap", "run": run, "exit": int(code), "outcome": told.outcome, "report": str(path) if path else None}
    try:
        look = looks.style(sys.stderr)
        click.echo(screen.recap(told, look, str(path) if path else ""), err=True, nl=False, color=look.colour)
        if as_json:
            click.echo(json.dumps(recap))
    except OSError:
        pass  # nobody reads any more; the exit code is still the run's
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # else Python would end with its own exit code
    return code


def written(store: Journal, told: story.Story) -> Path:
    """The report as a page in the run's own folder; `engine report` makes the other forms."""
    path = store.files(told.run) / "report.html"
    path.write_text(report.html(told), "utf-8")
    return path


def prompter(store: Journal, run: str, view: live.View, keys: tuple[Path, ...]) -> Callable[[Mapping[str, Json]], None]:
    """What is done again and again while the run waits: keys that were given elsewhere are shown, and on a terminal a person
    may give or refuse one here. Who takes a question up that was asked earlier is told what is waited for."""
    answers = sys.stdin.isatty() and sys.stderr.isatty()
    asked: list[float] = []
    begun, told = time.time(), False
    own: set[int] = set()
    seen = max((entry.seq for entry in store.entries(run)), default=0)
    store.listeners.append(lambda entry: own.add(entry.seq))

    def poll(request: Mapping[str, Json]) -> None:
        nonlocal seen, told
        since = 0.0 if told else next((e.at for e in reversed(store.entries(run)) if e.kind == "key.asked"), begun)
        if not told and since < begun - 2:
            until = words.utc(float(request["expires"]))
            view.write(f"waiting for the keys asked for at {words.utc(since)}, until {until}.   next: engine approve {run}")
        told = True
        for entry in store.entries(run, seen):
            seen = entry.seq
            if entry.kind in ("key.given", "key.refused") and entry.seq not in own:
                view.add(entry)
        if not answers:
            return
        if not asked:
            asked.append(time.time())
            view.question(f"Give a key here: type approve or reject, then Enter.  Elsewhere: engine approve {run}")
        ready, _, _ = select.select([sys.stdin], [], [], 0)
        if not ready:
            return
        word = sys.stdin.readline().strip().lower()
        if word in ("approve", "reject"):
            with view.paused():
                try:
                    giving.give(store, run, giving.Answer(word, keys))
                except EngineError as error:  # no key was given; the run waits on
                    click.echo(render(error.diagnostics), err=True)
                except click.Abort:
                    click.echo("no key was given", err=True)

    return poll


def differ(view: live.View) -> Callable[[Entry], None]:
    """--diff: every change as before -> after, when it is about to be made or would be."""

    def tell(entry: Entry) -> None:
        change = entry.body.get("change") if entry.kind in ("step.intent", "step.outcome") else None
        would = entry.kind == "step.outcome" and entry.body["outcome"] == "skipped"
        if change and "before" in change and (entry.kind == "step.intent" or would):
            view.write(f"{entry.host} {entry.step}\n{screen.diff_text(change)}")

    return tell


def told(text: str) -> None:
    """Says on standard error what is waited for."""
    click.echo(text, err=True)


def locked(store: Journal, run: str, plan: Plan) -> None:
    """Takes the run's hosts. Raises EngineError (exit 8) naming the holder; the run can be resumed when they are free."""
    try:
        store.lock(run, (row.name for row in plan.hosts), plan.playbook.name, told)
    except EngineError as error:
        why = f"nothing was changed: {error.diagnostics[0].summary}"
        store.append(run, "run.ended", {"outcome": "failed", "exit": int(error.exit), "why": why})
        store.unlock(run)
        raise


def wishes(store: Journal, run: str, view: live.View, wait: bool, keys: tuple[Path, ...] = (), **more: Any) -> Wishes:
    """The run's wishes with the prompt of this terminal."""
    return Wishes(wait=wait, poll=prompter(store, run, view, keys) if wait else None, **more)


def store(context: click.Context, must_exist: bool = False) -> Journal:
    """The journal that --state names: of this folder, or of a database that several machines share."""
    state: str = context.obj["state"]
    if must_exist and not keeping.exists(state):
        hint = "runs are kept in .lastgood of the folder they were started in; or name it with --state"
        raise EngineError(Diagnostic("LG081", f"there are no runs in {state}", hint=hint), Exit.USAGE)
    lease = os.environ.get("LASTGOOD_LEASE")
    try:
        length = seconds(lease) if lease else journal.LEASE
    except ValueError as error:
        raise click.UsageError(f"LASTGOOD_LEASE: {error}") from None
    opened = keeping.opened(state, context.obj["files"], length)
    found = Journal(opened, lease=length, person=opening.requester(None))
    found.memory = (*found.memory, trust.trust().home)
    context.call_on_close(found.close)
    if moved := found.moved:
        told(f"this record was moved to {moved}: here it is shown as it was then.   next: the same with --state {moved}")
    return found


def past(context: click.Context) -> Journal | None:
    """The journal as far as there is one: for those who only look. Raises JournalError where there was one."""
    if keeping.exists(context.obj["state"]):
        return store(context)
    folder = Path(context.obj["state"]).resolve()
    ledger.none((folder, trust.trust().home), str(folder))
    return None


def known(store: Journal, run: str | None) -> str:
    """The id of a run that is there; without one, the newest that was not locked out. Raises EngineError (exit 2)."""
    runs = store.runs()
    names = [first.run for first, _ in runs]
    if run is None and names:
        begun = (first.run for first, last in reversed(runs) if last.body.get("exit") != int(Exit.LOCKED))
        return next(begun, names[-1])
    if run is None or run.upper() not in names:
        hint = did_you_mean((run or "").upper(), names, "engine runs lists them")
        raise EngineError(Diagnostic("LG081", f"no run {run}" if run else "there are no runs yet", hint=hint), Exit.USAGE)
    return run.upper()
