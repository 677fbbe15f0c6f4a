"""`engine status`: where a run stands, now, as it goes on (--follow), as it went (--replay), or entry by entry (--raw)."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from engine.diagnostics import Exit

if TYPE_CHECKING:
    from engine.journal import Entry, Journal
    from engine.story import Story

POLL = 0.2
#: Seconds without a process that holds the run until it counts as gone: a run that begins is held a moment later.
GONE = 1.0
#: A replay never waits longer than this (seconds) for the next thing to happen.
LONGEST = 10.0


class _Speed(click.ParamType):  # type: ignore[type-arg] # generic only in newer clicks
    """How many times as fast as it went: `10x`, `0.5x`, `10`."""

    name = "speed"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            speed = float(str(value).removesuffix("x"))
        except ValueError:
            speed = 0.0
        if not 0.01 <= speed <= 10000:
            self.fail(f"{value} is no speed. Write for example --replay 10x (from 0.01x to 10000x).", param, ctx)
        return speed


@click.command(epilog="Reference: docs/reference/commands.md")
@click.argument("run", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on showing it until it ends, whoever runs it.")
@click.option("--replay", type=_Speed(), default=None, help="Play it again as it went, at this speed: 10x.")
@click.option("--raw", is_flag=True, help="The journal's entries as they are, one JSON object a line, with their hashes.")
@click.option("--json", "as_json", is_flag=True, help="Where it stands, as one JSON object.")
@click.pass_context
def command(context: click.Context, /, run: str | None, follow: bool, replay: float | None, raw: bool, as_json: bool) -> int:
    """Show where a run stands (the newest, if none is named): is it safe, what does it wait for, what is next.

    \b
    engine status
    engine status RB-0007 --follow
    """
    from engine.cli import running

    chosen = [name for name, on in (("--replay", replay), ("--raw", raw), ("--json", as_json)) if on]
    if len(chosen) > 1 or (replay and follow):
        raise click.UsageError(
            f"{' and '.join([*chosen, *(['--follow'] if replay and follow else [])])} do not go together."
        )
    store = running.store(context, must_exist=True)
    run = running.known(store, run)
    try:
        if raw:
            _raw(store, run, follow)
        elif replay:
            _replayed(store, run, replay)
        elif follow and not as_json:
            _followed(store, run)
        else:
            if follow:
                _until_over(store, run, lambda _: None)
            _shown(store, run, as_json)
    except KeyboardInterrupt:
        click.echo(f"\nstopped looking; this changed nothing for {run}.   next: engine status {run}", err=True)
        return Exit.INTERRUPTED
    return Exit.DONE


def _told(store: Journal, run: str) -> tuple[Story, bool]:
    """The run's story with what goes on in it now, and whether a process holds the run."""
    from engine import story, underway

    alive = store.held(run)
    told = story.tell(store.entries(run))
    for entry in underway.steps(told) if alive else ():
        told.add(entry)
    return told, alive


def _shown(store: Journal, run: str, as_json: bool) -> None:
    from engine import look, screen
    from engine.cli import showing

    told, alive = _told(store, run)
    if as_json:
        click.echo(json.dumps(_json(told, alive, time.time()), sort_keys=True))
        return
    page = store.files(run) / "report.html"
    style = look.style(sys.stdout)
    text = screen.status(told, time.time(), style, alive, str(page) if page.is_file() else "")
    showing.result(text, style)


def _json(told: Story, alive: bool, now: float) -> dict[str, Any]:
    from engine import report, standing

    stand = standing.of(told, alive, now)
    going = standing.under_way(told, now) if alive else []
    steps = [
        {"host": s.host, "step": s.key, "outcome": s.word, "seconds": s.seconds, "started": s.started, "why": s.why}
        for s in sorted(told.steps.values(), key=lambda s: (s.started or 0.0, s.seq))
    ]
    run = {
        name: getattr(told, name)
        for name in ("run", "name", "playbook", "requester", "check", "started", "ended", "outcome")
    }
    stood = {name: getattr(stand, name) for name in ("word", "exit", "safe", "waiting", "nothing", "next")}
    keys = {"given": len(told.counted()), "needed": told.needed}
    more = {"format": "lastgood.status/1", "hosts": list(told.hosts), "alive": alive, "keys": keys, "steps": steps}
    more["waiting_on"] = [{"host": s.host, "step": s.key, "seconds": round(took, 3), "why": s.why} for s, took in going]
    more |= {"budget": told.budget, "deadline": told.deadline}
    found: dict[str, Any] = report.redacted({**run, **stood, **more})
    return found


# ------------------------------------------------------------------------------------------------- as it goes on, as it went
def _until_over(store: Journal, run: str, take: Callable[[list[Entry]], None]) -> None:
    """Hands over the run's entries, old ones and new ones, until it has ended or nobody holds it any more."""
    seen, ended, held_at = 0, False, time.monotonic()
    while True:
        held = store.held(run)  # before the entries are read: what its process wrote last is read once more
        if entries := store.entries(run, seen):
            seen, ended = entries[-1].seq, any(entry.kind == "run.ended" for entry in entries)
            take(entries)
        if held:
            held_at = time.monotonic()
        elif ended or time.monotonic() - held_at > GONE:
            return
        time.sleep(POLL)


def _followed(store: Journal, run: str) -> None:
    from engine import live, story, underway

    told, begun = story.Story(), set[tuple[str, str]]()
    with live.view(sys.stdout, stop="Ctrl-C: stop looking; the run goes on") as view:

        def take(entries: list[Entry]) -> None:
            for entry in entries:
                told.add(entry)
                view.add(entry)
            fresh = [entry for entry in underway.steps(told) if (entry.host, entry.step) not in begun]
            begun.update((entry.host, entry.step) for entry in fresh)
            for entry in fresh:
                view.add(entry)

        _until_over(store, run, take)
    if told.ended is None:
        click.echo(f"no process runs {run} any more")
        _shown(store, run, False)
    else:
        _recap(store, told)


def _replayed(store: Journal, run: str, speed: float) -> None:
    from engine import live, look, story, underway

    entries = store.entries(run)
    shift, begun, first = 0.0, time.monotonic(), entries[0].at

    def now() -> float:
        return first + (time.monotonic() - begun) * speed + shift

    style = look.style(sys.stdout)
    view = (live.Live if style.live else live.Lines)(sys.stdout, style, now)
    view.stop = "Ctrl-C: stop the replay"
    with view:
        for entry in underway.replayed(entries):
            shift += max(entry.at - now() - LONGEST * speed, 0.0)
            time.sleep(max(entry.at - now(), 0.0) / speed)
            view.add(entry)
    _recap(store, story.tell(entries))


def _recap(store: Journal, told: Story) -> None:
    from engine import look, screen
    from engine.cli import showing

    style, page = look.style(sys.stdout), store.files(told.run) / "report.html"
    text = screen.recap(told, style, str(page) if page.is_file() else "")
    showing.result(text, style)


def _raw(store: Journal, run: str, follow: bool) -> None:
    """Entries as they are. ASCII, so that nothing in them acts on a terminal."""

    def take(entries: list[Entry]) -> None:
        for e in entries:
            row = {
                "run": e.run,
                "seq": e.seq,
                "at": e.at,
                "kind": e.kind,
                "host": e.host,
                "step": e.step,
                "body": e.body,
                "hash": e.hash,
            }
            click.echo(json.dumps(row, sort_keys=True))

    _until_over(store, run, take) if follow else take(store.entries(run))
    click.echo(f"next: engine status {run}", err=True)
