"""`engine candidates`: the versions that a playbook could go back to, each with the reason for or against it."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.diagnostics import Exit

if TYPE_CHECKING:
    from engine.check import HostRow
    from engine.journal import Journal
    from engine.look import Style
    from engine.playbook import Step
    from engine.site import Site


@click.command(epilog="Reference: docs/reference/commands.md", context_settings={"help_option_names": ["--help"]})
@click.argument("playbook", type=click.Path(path_type=Path))
@click.option("-i", "--inventory", "inventories", multiple=True, help="A folder, file or executable; several are merged.")
@click.option("-h", "--host", "host", default="", help="The host, or a pattern (default: every host of the playbook).")
@click.option(
    "-e", "--extra-vars", "given", multiple=True, help="name=text, {json} or @file. `-e to=1.3.2` asks for a version."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, the first naming the format.")
@click.pass_context
def command(
    context: click.Context, /, playbook: Path, inventories: tuple[str, ...], host: str, given: tuple[str, ...], as_json: bool
) -> int:
    """Show every version that could be gone back to, and why or why not. Reads the registry and changes nothing.

    \b
    engine candidates playbooks/fraud.yml -i inventories/production -h fraud-eu-01
    engine candidates playbooks/fraud.yml -i inventories/production -h fraud-eu-01 -e to=1.3.2
    """
    from engine import look
    from engine.cli import opening, running, showing
    from engine.journal import Journal
    from engine.layout import Options

    who = opening.requester(None)
    variables = opening.extra(given)
    ready = opening.opened(playbook, inventories, Options(variables, host), who)
    steps = [step for step in ready.plan.playbook.steps if step.module == "last_good"]
    if not steps:
        raise click.UsageError(f"{playbook} chooses no version: it has no last_good step. engine graph shows its steps.")
    with tempfile.TemporaryDirectory() as scratch:  # looking leaves nothing behind
        site = running.site(ready, Journal(Path(scratch)), "LOOK", playbook.parent, who)
        _remember(site, running.past(context))
        tables = [_table(site, step, row) for row in ready.plan.hosts for step in steps]
        site.journal.close()
    if as_json:
        click.echo(json.dumps({"format": "lastgood.candidates/1", "playbook": str(playbook)}))
        for table in tables:
            click.echo(json.dumps(table, sort_keys=True))
    else:
        style = look.style(sys.stdout)
        shown = [line for table in tables for line in [*_shown(table, style), ""]]
        again = f"engine plan {playbook} " + " ".join(f"-i {one}" for one in inventories)
        text = "\n".join([*shown, style.paint(f"next: {again.strip()}", "bold")])
        showing.result(text, style)
    return Exit.FAILED if any(table["failed"] for table in tables) else Exit.DONE


def _remember(site: Site, past: Journal | None) -> None:
    """What earlier runs have put in place stays good until the alarm comes back: a run looks at that, and so does this."""
    from engine import ledger, preview
    from engine import site as sites

    if past is None:
        return
    site.placed, site.ledger = sites.placed(past, site.plan.playbook.name), ledger.Past(past)
    for row in site.plan.hosts:
        if row.name in site.placed:
            preview.on_host(site, row, ("trigger",), {})


def _table(site: Site, step: Step, row: HostRow) -> dict[str, Any]:
    """What the step would say on this host: its candidates, the one it would choose, or what keeps it from looking."""
    from engine import template
    from engine.calling import guarded
    from modules.contract import ModuleError

    found: dict[str, Any] = {
        "host": row.name,
        "step": step.id,
        "at": str(step.place()),
        "chosen": None,
        "why": "",
        "failed": False,
    }
    entry = site.catalog.get(step.module)
    try:
        names = site.names(step, row, {}, {})
        params = site.params(step, names)
        ctx = site.context(step, row, step.id, names, time.monotonic() + step.timeout, 1)
        with guarded():
            candidates = entry.call("judged", params, ctx)
    except (template.Fault, ModuleError) as error:
        why = f"{error.message}. {error.hint}" if error.hint else error.message
        return {**found, "why": site.secrets.scrub(why), "candidates": [], "failed": True}
    try:
        with guarded():
            found["chosen"] = entry.call("choose", params, candidates)["version"]
    except ModuleError as error:
        found["why"] = f"{error.message if params.get('to') else 'no version may be gone back to'}; {error.hint}"
    return {**found, "candidates": site.secrets.scrub(candidates)}


def _shown(table: Mapping[str, Any], style: Style) -> list[str]:
    """The candidates, newest first: a line each with what speaks against it, and below what else is known of it."""
    from engine import words
    from engine.look import cells, cut, field, pad

    lines = [style.paint(cut(f"{table['host']}  {table['step']}", style.width), "bold")]
    widest = max([7, *(cells(one["version"]) for one in table["candidates"])])
    for one in table["candidates"]:
        chosen = one["version"] == table["chosen"]
        word, tone = ("chosen", "good") if chosen else ("eligible", "") if not one["why"] else ("no", "quiet")
        sign = ("✔ " if chosen else "· " if not one["why"] else "– ") if style.glyphs else ""
        against = [part for part in one["why"].split("; ") if part and part != "serves now"]
        reason = "; ".join([*(["serves now"] if one["serving"] else []), *against])
        head = f" {sign}{word:8}  {pad(one['version'], widest)}  {_day(one['created'])}"
        room = style.width - cells(head) - 2
        beside, below = (reason, []) if cells(reason) <= room else ("", field("", reason, style)) if reason else ("", [])
        lines += [style.paint(cut(f"{head}  {beside}".rstrip(), style.width), tone), *below]
        known = [
            *_facts("metrics", one["metrics"]),
            *_facts("tags", one["tags"]),
            f"digest {words.brief(one['digest'] or 'not known')}",
        ]
        lines += field("", "   ".join(known), style, "quiet")
    serving = next((one["version"] for one in table["candidates"] if one["serving"]), None)
    if table["chosen"]:
        stays = table["chosen"] == serving
        lines += field(
            "would go", "nowhere: it serves already" if stays else f"from {serving} back to {table['chosen']}", style
        )
    else:
        lines += field("none", table["why"], style, "bad")
    return lines


def _facts(name: str, values: Mapping[str, Any]) -> list[str]:
    from engine import words

    pairs = ", ".join(f"{key} {words.brief(value)}" for key, value in values.items())
    return [f"{name} {pairs}"] if pairs else []


def _day(created: str) -> str:
    from datetime import datetime

    from engine import words

    return words.utc(datetime.fromisoformat(created).timestamp())
