"""`engine runs`: every run of this folder, newest first, with what became of it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from engine.diagnostics import Exit

if TYPE_CHECKING:
    from engine.journal import Entry, Journal
    from engine.look import Style

_WIDE = 72
_TONES = {"SUCCEEDED": "good", "NOTHING TO DO": "good", "CHECKED": "good", "RUNNING": "bold"}


@click.command(epilog="Reference: docs/reference/commands.md")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=1), help="At most so many, the newest.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, the first naming the format.")
@click.pass_context
def command(context: click.Context, /, limit: int, as_json: bool) -> int:
    """List the runs of this folder, newest first.

    \b
    engine runs
    engine runs --limit 100 --json
    """
    from engine import look
    from engine.cli import running, showing

    store = running.store(context, must_exist=True)
    ends = store.runs()
    rows = [_row(store, first, last) for first, last in reversed(ends[-limit:])]
    if as_json:
        for line in ({"format": "lastgood.runs/1", "runs": len(ends)}, *rows):
            click.echo(json.dumps(line, sort_keys=True))
        return Exit.DONE
    style = look.style(sys.stdout)
    lines = _table(rows, style) if rows else ["no runs yet"]
    if len(ends) > len(rows):
        lines.append(f"and {len(ends) - len(rows)} older ones: --limit {len(ends)} shows them")
    after = f"engine status {rows[0]['run']}" if rows else "engine run PLAYBOOK -i INVENTORY"
    text = "\n".join([*lines, style.paint(f"next: {after}", "bold")])
    showing.result(text, style)
    return Exit.DONE


def _row(store: Journal, first: Entry, last: Entry) -> dict[str, Any]:
    """One run. Only of one whose last entry is not its end is the whole journal read."""
    from engine import standing, story

    alive = store.held(first.run)
    ended = last.kind == "run.ended"
    told = story.tell([first, last] if ended else store.entries(first.run))
    stand = standing.of(told, alive)
    word, undoing = stand.word, told.undo_outcome in ("running", "failed", "drifted")
    if told.ended is not None and not undoing:  # without the entries between, nothing is known of which step it was
        word = {"succeeded": "CHECKED" if told.check else "SUCCEEDED", "not_triggered": "NOTHING TO DO"}.get(
            told.outcome, ""
        )
        word = word or ("LOCKED" if told.exit == 8 else told.outcome.upper())
        word += " UNRATIFIED" if told.glass and not told.ratified else ""
    elif not alive and not undoing and stand.exit == 130 and not told.interrupted:
        word = "DEAD"  # nobody said that it was to stop
    until = told.ended if told.ended is not None else time.time() if alive else told.last
    return {
        "run": told.run, "started": told.started, "name": told.name, "playbook": told.playbook, "requester": told.requester,
        "hosts": len(told.hosts), "word": word, "outcome": told.outcome or None, "alive": alive,
        "seconds": round(until - (told.started or until), 3), "next": stand.next,
    }  # fmt: skip


def _table(rows: Sequence[Mapping[str, Any]], style: Style) -> list[str]:
    """A run a line; on a narrow screen two: what it is below how it stands."""
    from engine import words
    from engine.look import cut, pad

    tones = {
        row["run"]: _TONES.get(row["word"], "warn" if row["word"].startswith(("WAIT", "RECOV", "UNDO")) else "bad")
        for row in rows
    }
    head = ("RUN", "WHEN", "OUTCOME", "TOOK", "HOSTS", "ASKED BY", "WHAT")
    cells = []
    for row in rows:
        when, took = words.utc(row["started"] or 0), words.span(row["seconds"])
        cells.append((row["run"], when, row["word"], took, str(row["hosts"]), cut(row["requester"], 16), row["name"]))
    if style.width < _WIDE:
        lines = []
        for run, when, word, took, _, _, name in cells:
            lines += [cut(f"{run} {word} {took}", style.width), cut(f"  {when} {name}", style.width)]
        return lines
    most = [max(len(row[i]) for row in (head, *cells)) for i in range(6)]
    lines = []
    for line in (head, *cells):
        fixed = "  ".join(pad(cut(text, most[i]), most[i]) for i, text in enumerate(line[:6]))
        told, word = cut(f"{fixed}  {line[6]}", style.width), pad(line[2], most[2])
        painted = style.paint(told, "quiet") if line is head else told.replace(word, style.paint(word, tones[line[0]]), 1)
        lines.append(painted)
    return lines
