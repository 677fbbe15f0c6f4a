"""`engine observe`: asks registries and endpoints what serves now, and puts it on record."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.diagnostics import Exit, printable

if TYPE_CHECKING:
    from engine.check import HostRow
    from engine.site import Site

#: source, version, digest
Seen = tuple[str, str, str]


@click.command(epilog="Reference: docs/reference/commands.md")
@click.argument("playbook", type=click.Path(path_type=Path))
@click.option("-i", "--inventory", "inventories", multiple=True, help="A folder, file or executable; several are merged.")
@click.option("-l", "--limit", default="", help="Only these of the playbook's hosts (a pattern).")
@click.option("-e", "--extra-vars", "extra", multiple=True, help="name=text, {json} or @file.")
@click.pass_context
def command(context: click.Context, playbook: Path, inventories: tuple[str, ...], limit: str, extra: tuple[str, ...]) -> int:
    """Put on record which version serves on each host of a playbook, as its registry and its endpoint say. Changes no host.

    \b
    engine observe playbooks/fraud.yml -i inventories/production
    engine observe playbooks/fraud.yml -i inventories/production -l fraud-eu
    """
    from engine import ledger
    from engine.cli import opening, running
    from engine.journal import Journal
    from engine.layout import Options

    who = opening.requester(None)
    ready = opening.opened(playbook, inventories, Options(opening.extra(extra), limit), who)
    store = running.store(context)
    ledger.gather(store)
    odd = 0
    with tempfile.TemporaryDirectory() as scratch:
        site = running.site(ready, Journal(Path(scratch)), "LOOK", playbook.parent, who)
        for row in ready.plan.hosts:
            seen, faults = list[Seen](), list[str]()
            for one in _seen(site, row, faults):
                seen.append(one)
            for fault in faults:
                click.echo(f"{row.name}: {printable(fault, 400)}", err=True)
            versions = {version for _, version, _ in seen}
            odd += not seen or len(versions) > 1
            if not seen:
                click.echo(f"{row.name}: nothing says which version serves", err=True)
                continue
            if len(versions) > 1:
                told = printable(", ".join(f"{source} says {version}" for source, version, _ in seen), 400)
                click.echo(f"{row.name}: they do not agree: {told}; what answers requests is taken", err=True)
            source, version, digest = seen[-1]  # the endpoint comes after the registry, as in the playbook
            digest = next((one for _, other, one in reversed(seen) if other == version and one), digest)
            new = ledger.observed(store, row.name, version, digest, source, f"{who}, {source}", time.time())
            click.echo(f"{row.name}: {printable(version)} serves ({source}){'' if new else ', as is on record'}")
        site.journal.close()
    click.echo("next: engine ledger", err=True)
    return Exit.FAILED if odd else Exit.DONE


def _seen(site: Site, row: HostRow, faults: list[str]) -> Iterator[Seen]:
    """What each step of execution reads as the version that serves; what could not be read goes to `faults`."""
    from engine import template
    from modules.contract import ModuleError

    registers: dict[str, object] = {}
    for step in site.plan.playbook.section("execution"):
        entry = site.catalog.get(step.module)
        try:
            names = site.names(step, row, registers, {})
            params = site.params(step, names)
            ctx = site.context(step, row, step.id, names, time.monotonic() + step.timeout, 1)
            if step.module == "last_good":
                history = ctx.history(params["of"], params["with"])
                serving = next((one for one in history if one["serving"]), None)
                if serving:
                    yield params["of"], serving["version"], serving["digest"] or ""
                    registers[step.register or ""] = serving  # the steps below only look, at what serves
            else:
                before, _ = site.caller.compare(entry, params, ctx)
                if before and before.get("version") is not None and entry.acts:
                    yield step.module, str(before["version"]), str(before.get("_digest") or "")
        except template.Fault as fault:
            faults.append(f"{step.id} cannot be asked: {fault.message}")
        except ModuleError as error:
            faults.append(f"{step.id}: {site.secrets.scrub(error.message)}")
