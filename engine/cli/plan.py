"""`engine plan`: what a playbook would change, read from the live state. Changes nothing."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from engine.diagnostics import Exit


@click.command(epilog="Reference: docs/reference/commands.md")
@click.argument("playbook", type=click.Path(path_type=Path))
@click.option("-i", "--inventory", "inventories", multiple=True, help="A folder, file or executable; several are merged.")
@click.option("-e", "--extra-vars", "extra", multiple=True, help="name=text, {json} or @file.")
@click.option("-l", "--limit", default="", help="Only these of the playbook's hosts (a pattern).")
@click.option("-t", "--tags", default="", help="Only steps with one of these tags (evidence is always kept).")
@click.option("--skip-tags", default="", help="Not the steps with one of these tags.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=None,
    help="Save the plan: engine run FILE does exactly it, once, within 30 min.",
)
@click.option("--detailed-exitcode", is_flag=True, help="Exit 10 when something would change.")
@click.option("--full", is_flag=True, help="Every host and every value.")
@click.option("--json", "as_json", is_flag=True, help="The plan as one JSON object on standard output.")
@click.option("--as", "requester", default=None, help="Who asks for this plan (default: the login name).")
@click.option("--forks", default=256, show_default=True, type=click.IntRange(1, 1024), help="Hosts side by side.")
@click.pass_context
def command(context: click.Context, /, playbook: Path, inventories: tuple[str, ...], out: Path | None, **said: Any) -> int:
    """Read the live state and show what a run would change, with its undo and how sure the preview is.

    \b
    engine plan playbooks/fraud.yml -i inventories/production
    engine plan playbooks/fraud.yml -i inventories/production --out rb.plan && engine run rb.plan
    """
    from engine import ledger, look, preview, screen
    from engine import site as sites
    from engine.cli import opening, running
    from engine.journal import Journal
    from engine.layout import Options

    words = {name: tuple(w.strip() for w in said[name].split(",") if w.strip()) for name in ("tags", "skip_tags")}
    options = Options(opening.extra(said["extra"]), said["limit"], words["tags"], words["skip_tags"])
    who = opening.requester(said["requester"])
    ready = opening.opened(playbook, inventories, options, who)
    with tempfile.TemporaryDirectory() as scratch:  # a plan leaves nothing behind, not even an empty store
        store = Journal(Path(scratch))
        site = running.site(ready, store, "PLAN", playbook.parent, who)
        if past := running.past(context):
            site.placed, site.ledger = sites.placed(past, ready.plan.playbook.name), ledger.Past(past)
        found = preview.made(site, said["forks"])
        store.close()
    plan = replace(ready.plan, preview=found)
    changes = any(row["change"] and row["section"] == "execution" for row in found["changes"])
    document = plan.document() | {"inventories": [str(Path(one).resolve()) for one in inventories]}
    if out:
        out.write_text(opening.dump(document), "utf-8")
    if said["as_json"]:
        click.echo(json.dumps(document, sort_keys=True))
    follow = f"engine run {out}" if out else f"engine run {playbook} " + " ".join(f"-i {one}" for one in inventories)
    book = plan.playbook
    shown = {
        **found, "digest": plan.digest, "name": book.name, "strategy": book.strategy,
        "hosts": [row.name for row in plan.hosts],
        "authority": {"mode": book.authority.mode, "roles": list(book.authority.roles),
                      "keys": {"one-click": 1, "two-key": 2}.get(book.authority.mode, 0), "expires": book.authority.expires},
        "batches": [list(batch) for batch in plan.batches], "budget": plan.budget,
        "deadline": book.deadline,
    }  # fmt: skip
    click.echo(screen.plan_text(shown, said["full"], look.style(sys.stderr), follow), err=True, nl=False)
    return Exit.CHANGES if changes and said["detailed_exitcode"] else Exit.DONE
