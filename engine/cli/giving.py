"""How a person's key is given, on this terminal or another: what would be signed is shown, confirmed, signed, recorded."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from engine import authority, source, words
from engine.diagnostics import Diagnostic, EngineError, Exit, printable
from engine.sshsig import Refused


def give(
    store: Any, run: str, decision: str, keys: Sequence[Path], because: str | None, typed: str | None, person: str | None
) -> int:
    """Shows what would be signed, has it confirmed, signs it and writes it to the journal."""
    request, given, started = _question(store, run)
    roster_text = started.body["plan"]["roster"]
    people = authority.roster(source.parse(roster_text["text"], roster_text["path"]))
    rule = authority.Rule(request["mode"], tuple(request["roles"]))
    requester = request["requester"]
    verdict = authority.judge(rule, people, request, requester, given, time.time())
    if verdict.state != "waiting":
        raise EngineError(
            Diagnostic("LG091", f"{run} takes no keys any more: {verdict.why}", hint=f"engine status {run}"), Exit.REJECTED
        )
    try:
        at_hand = authority.available(people, os.environ.get("SSH_AUTH_SOCK"), keys, _passphrase)
        who, signer = _one(at_hand, person, verdict, rule, people, requester, decision)
        role = authority.role_for(rule, people, verdict, who, requester, decision)
    except Refused as refused:
        raise EngineError(
            Diagnostic("LG092", f"no key was given: {refused.reason}", hint=refused.hint or f"engine status {run}"),
            Exit.REJECTED,
        ) from None
    _show(run, request, verdict, who.name, role, decision)
    version = str((request["facts"].get("back_to") or {}).get("version") or run)
    if decision == "approve":
        _confirmed(version, typed)
    said = authority.statement(
        decision, run, request["digest"], who.name, role, request["nonce"], requester,
        _reason() if because is None else because, request["expires"], time.time(), request["facts"],
    )  # fmt: skip
    try:
        body = authority.sign(said, signer)
    except Refused as refused:
        raise EngineError(
            Diagnostic("LG092", f"no key was given: {refused.reason}", hint=refused.hint), Exit.REJECTED
        ) from None
    store.append(run, "key.given", body)
    after = authority.judge(rule, people, request, requester, [*given, body], time.time())
    word = "key recorded" if decision == "approve" else "refusal recorded, it is final"
    click.echo(
        f"{word} for {who.name} as {role}. {run}: {after.state}, {after.why}.   next: engine status {run} --follow", err=True
    )
    return Exit.DONE


def _question(store: Any, run: str) -> tuple[dict[str, Any], list[dict[str, Any]], Any]:
    entries = store.entries(run)
    asked = next((entry for entry in reversed(entries) if entry.kind == "key.asked"), None)
    if asked is None:
        raise EngineError(Diagnostic("LG091", f"{run} has not asked for a key", hint=f"engine status {run}"), Exit.USAGE)
    since = [entry.kind for entry in entries if entry.seq > asked.seq]
    over = [kind for kind in since if kind in ("run.ended", "run.resumed")][-1:] == ["run.ended"]
    if over or "authority.settled" in since:
        raise EngineError(
            Diagnostic("LG091", f"{run} takes no keys any more: its question was settled", hint=f"engine status {run}"),
            Exit.REJECTED,
        )
    given = [entry.body for entry in entries if entry.seq > asked.seq and entry.kind in ("key.given", "key.refused")]
    return asked.body, given, entries[0]


def _one(at_hand: Any, person: str | None, verdict: Any, rule: Any, people: Any, requester: str, decision: str) -> Any:
    """The one person whose key is used: named, or the only one who can still give one."""
    usable = [(who, signer) for who, signer in at_hand if person in (None, who.name)]
    if not usable:
        reason = f"no SSH key of {person} is at hand" if person else "no SSH key of anybody in the roster is at hand"
        raise Refused(reason, "name a key file with --key, or ssh-add it to the agent")
    able = []
    refusal = None
    for who, signer in usable:
        try:
            authority.role_for(rule, people, verdict, who, requester, decision)
            able.append((who, signer))
        except Refused as refused:
            refusal = refusal or refused
    if not able and refusal:
        raise refusal
    if len({who.name for who, _ in able}) > 1:
        raise Refused(
            "keys of several people are at hand: " + ", ".join(sorted({who.name for who, _ in able})),
            "say as whom with --as",
        )
    return able[0]


def _show(run: str, request: dict[str, Any], verdict: Any, person: str, role: str, decision: str) -> None:
    """The facts that are signed, in a fixed order, with nothing from outside unescaped."""
    facts = request["facts"]
    now, back = (facts.get("now") or {}).get("version"), (facts.get("back_to") or {}).get("version")
    number = sum(1 for _, name in verdict.slots if name) + 1
    key = f"{'Key' if decision == 'approve' else 'No to key'} {number} of {request['keys']}"
    act, strategy = (printable(str(text)) for text in (facts.get("act") or facts.get("playbook"), facts.get("strategy")))
    lines = [
        f"{key} for {run}, as {person} ({role}).   Plan {request['digest'][7:20]}",
        f"  will do   {act} ({strategy}), {words.plural(int(facts.get('hosts') or 0), 'host')}",
    ]
    if now or back:
        lines.append(f"  version   {printable(str(now))} -> {printable(str(back))}")
    if facts.get("no_undo"):
        lines.append(f"  no undo   {', '.join(printable(str(one)) for one in facts['no_undo'])}")
    lines.append(f"  asked by  {printable(request['requester'])}")
    for role_name, name in verdict.slots:
        lines.append(f"  key       {role_name}: {name or 'missing'}")
    click.echo("\n".join(lines), err=True)


def _confirmed(version: str, typed: str | None) -> None:
    if typed is None and sys.stdin.isatty():
        typed = click.prompt(f"Type {version} to give the key", default="", show_default=False, err=True)
    if typed is not None and typed != version:
        raise EngineError(
            Diagnostic("LG092", f"no key was given: `{printable(typed)}` is not {version}", hint="type it exactly"),
            Exit.REJECTED,
        )
    if typed is None:
        raise EngineError(
            Diagnostic(
                "LG092", "no key was given: nobody confirmed it", hint=f"without a terminal, say --confirm {version}"
            ),
            Exit.USAGE,
        )


def _reason() -> str:
    return str(click.prompt("Reason for the record", default="", show_default=False, err=True)) if sys.stdin.isatty() else ""


def _passphrase(path: str) -> str:
    if not sys.stdin.isatty():
        return ""
    return str(click.prompt(f"Passphrase of {path}", hide_input=True, err=True, default="", show_default=False))
