"""`engine ledger`: which version served where and when, what it passed, and which must never come back."""

from __future__ import annotations

import json
import re
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from engine.diagnostics import Diagnostic, EngineError, Exit, did_you_mean, printable

if TYPE_CHECKING:
    from engine.ledger import Ledger, Mark, Served
    from engine.look import Style

_HEX = re.compile(r"[0-9A-Fa-f]{64}")


@click.group(invoke_without_command=True, epilog="Reference: docs/reference/commands.md")
@click.option("-h", "--host", "hosts", multiple=True, help="Only this host; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, the first naming the format.")
@click.pass_context
def command(context: click.Context, /, hosts: tuple[str, ...], as_json: bool) -> int | None:
    """Show the ribbon of versions of every service: since when, who put it there, what it passed.

    \b
    engine ledger
    engine ledger mark fraud-eu v47 --because "trained on poisoned data"
    """
    if context.invoked_subcommand:
        return None
    from engine import ledger, look
    from engine.cli import running, showing

    store = running.store(context, must_exist=True)
    found = ledger.of(store)
    names = [name for name in found.served if not hosts or name in hosts]
    if missing := [name for name in hosts if name not in found.served]:
        hint = f"on record: {', '.join(found.served) or 'none yet'}; engine observe asks registries and endpoints"
        raise EngineError(Diagnostic("LG081", f"nothing is on record of {', '.join(missing)}", hint=hint), Exit.USAGE)
    if as_json:
        click.echo(json.dumps({"format": "lastgood.ledger/1", "hosts": len(names)}))
        for name in names:
            for one in found.served[name]:
                click.echo(json.dumps(_json(one, found.bad(name, one.version, one.digest)), sort_keys=True))
        return Exit.DONE
    style = look.style(sys.stdout)
    lines = [line for name in names for line in [*_host(found, name, style), ""]]
    after = "engine ledger mark HOST VERSION --because …" if names else "engine observe PLAYBOOK -i INVENTORY"
    text = [*(lines or ["nothing is on record yet: no run has ended, and nothing was observed"])]
    showing.result("\n".join([*text, style.paint(f"next: {after}", "bold")]), style)
    return Exit.DONE


def _json(one: Served, mark: Mark | None) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(one), "proven": one.proven, "bad": mark.why if mark else None}


def _host(found: Ledger, name: str, style: Style) -> list[str]:
    """One host: what serves now, its ribbon, and a row for each stretch, newest first."""
    from engine import words
    from engine.look import cut, field

    rows, now = found.served[name], time.time()
    last = rows[-1]
    lines = [
        style.paint(
            cut(f"{name}  {last.version} serves, for {words.span(now - last.since)} as far as is known", style.width), "bold"
        ),
        *([_ribbon(rows, now, style)] if len(rows) > 1 else []),
    ]
    for one in reversed(rows):
        mark = found.bad(name, one.version, one.digest)
        lasted = words.span((one.until or now) - one.since)
        when = f"{'since' if one.began else 'seen '} {words.utc(one.since)}"
        word, tone = (
            ("bad", "bad") if mark else ("proven", "good") if one.proven else ("unmet", "warn") if one.unmet else ("", "")
        )
        lines.append(style.paint(cut(f" {word:7} {one.version:12} {when}  {lasted}", style.width), tone))
        checks = [f"{words.plural(len(one.passed), 'check')} met"] if one.passed else []
        checks += [f"NOT met: {words.some(one.unmet)}"] if one.unmet else []
        source = f"{one.run}, asked for by {one.by}" if one.how == "run" else f"seen by {one.by}"
        about = [source, *checks, f"digest {words.brief(one.digest or 'not known')}"]
        lines += field("", "   ".join(about), style, "quiet")
        if mark:
            lines += field("bad", f"{mark.why} ({mark.by}, {words.utc(mark.at)})", style, "bad")
    return lines


def _ribbon(rows: tuple[Served, ...], now: float, style: Style) -> str:
    """The stretches on one line, each as long as it lasted, and as its version's name at least."""
    from engine.look import cut

    line, end = ("━", "▶") if style.glyphs else ("-", ">")
    whole = max(now - rows[0].since, 1.0)
    room = style.width - 3 - sum(len(one.version) + 2 for one in rows)
    parts = []
    for one in rows:
        parts.append(f"{one.version} " + line * max(1, round(room * ((one.until or now) - one.since) / whole)))
    return cut(" " + " ".join(parts) + end, style.width)


def _digest(_context: click.Context, _option: click.Parameter, said: str) -> str:
    """A digest in the one form in which modules give it: another spelling of the same would be another one."""
    kind, _, text = said.rpartition(":")
    if kind.lower() not in ("", "sha256"):
        return said
    if text and not _HEX.fullmatch(text):
        raise click.BadParameter(f"{printable(said)} is no digest: write sha256: and 64 hexadecimal digits")
    return f"sha256:{text.lower()}" if text else ""


@command.command("mark")
@click.argument("host")
@click.argument("version")
@click.option("--because", required=True, help="Why it must not come back, for the record.")
@click.option("--digest", default="", callback=_digest, help="Its digest: then it is bad on every host.")
@click.option("--as", "by", default=None, help="Who says it (default: the login name).")
@click.pass_context
def mark(context: click.Context, host: str, version: str, because: str, digest: str, by: str | None) -> int:
    """Mark a version as bad: no rollback chooses it any more, and `engine ledger check` refuses it.

    \b
    engine ledger mark fraud-eu v47 --because "trained on poisoned data"
    """
    return _mark(context, host, version, digest, True, because, by)


@command.command("clear")
@click.argument("host")
@click.argument("version")
@click.option("--because", required=True, help="Why it may come back, for the record.")
@click.option("--digest", default="", callback=_digest, help="The digest under which it was marked, where no host says it.")
@click.option("--as", "by", default=None, help="Who says it (default: the login name).")
@click.pass_context
def clear(context: click.Context, host: str, version: str, because: str, digest: str, by: str | None) -> int:
    """Take back that a version is bad. The mark, and that it was taken back, stay on record.

    \b
    engine ledger clear fraud-eu v47 --because "the alarm was false"
    """
    return _mark(context, host, version, digest, False, because, by)


def _mark(context: click.Context, host: str, version: str, digest: str, bad: bool, why: str, by: str | None) -> int:
    from engine import ledger
    from engine.cli import opening, running

    why = why.strip()
    if not why:
        raise click.UsageError("--because is empty: who looks at the record in a year needs the reason")
    store = running.store(context)
    ledger.gather(store)
    found = ledger.of(store)
    known = next((one.digest for one in reversed(found.served.get(host, ())) if one.version == version and one.digest), "")
    mark = found.bad(host, version, digest or known)
    if not bad and mark is None:
        told = f"{printable(version)} on {printable(host)} is not marked bad: there is nothing to clear"
        click.echo(f"{told}.   next: engine ledger", err=True)
        return Exit.DONE
    ledger.marked(store, host, version, digest or known, bad, why, opening.requester(by), time.time())
    name, shown = printable(host), printable(version)
    where = "wherever its digest is found" if digest or known else f"on {name}"
    said = f"{shown} is marked bad, {where}: no rollback goes to it" if bad else f"{shown} may come back, {where}"
    if host in found.served:
        click.echo(f"{said}.   next: engine ledger -h {name}", err=True)
        return Exit.DONE
    meant = did_you_mean(name, [printable(one) for one in found.served], "")
    told = f"nothing is on record of {name} yet{f'; {meant}' if meant else '.'}"
    click.echo(f"{said}.\n{told}   next: engine ledger", err=True)
    return Exit.DONE


@command.command("check")
@click.argument("host")
@click.argument("version")
@click.option("--digest", default="", callback=_digest, help="Its digest, if it is known.")
@click.pass_context
def check(context: click.Context, host: str, version: str, digest: str) -> int:
    """For pipelines, before they deploy: may this version go live on this host? Exit code 1 and the reason when not.

    \b
    engine ledger check fraud-eu v48 --digest sha256:41ab… && ./deploy.sh
    """
    from engine import ledger
    from engine.cli import running

    past = running.past(context)
    said = ledger.of(past).about(host, version, digest) if past else {}
    if why := said.get("excluded"):
        told = f"no: {printable(version)} {printable(why, 400)}"
        click.echo(f"{told}.   next: engine ledger -h {printable(host)}", err=True)
        return Exit.FAILED
    click.echo(f"nothing on record speaks against {printable(version)} on {printable(host)}", err=True)
    return Exit.DONE
