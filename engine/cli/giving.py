"""How a person's key is given, on this terminal or another: what would be signed is shown, confirmed, signed, recorded."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from engine import authority, canon, policy, question, statement, words
from engine.check import HostRow
from engine.cli import opening
from engine.diagnostics import Diagnostic, EngineError, Exit, printable
from engine.freeze import Window
from engine.policy import Policy
from engine.sshsig import Refused

_SETTLED = "takes no keys any more: its question was settled"
_NEXT = ", and to the next best where its checks are not met"
#: So many of the newest runs are looked at for one that waits.
_NEWEST = 20


@dataclass(frozen=True)
class Answer:
    """What a person said on the command line: the decision, and what goes with it."""

    decision: str
    keys: Sequence[Path] = ()
    because: str | None = None
    typed: str | None = None
    person: str | None = None
    ticket: str = ""
    overrides: Sequence[str] = ()


def give(store: Any, run: str, answer: Answer) -> int:
    """Shows what would be signed, has it confirmed, signs it and writes it to the journal."""
    request, given, entries = _question(store, run)
    current, closed = now(store, entries)
    people = current.roster
    _same_roster(run, request, people)
    rule, requester, decision = authority.asked(request), request["requester"], answer.decision
    verdict = authority.judge(rule, people, request, requester, given, time.time(), [one.name for one in closed])
    if verdict.state != "waiting":
        raise EngineError(
            Diagnostic("LG091", f"{run} takes no keys any more: {verdict.why}", hint=f"engine status {run}"), Exit.REJECTED
        )
    try:
        at_hand = authority.available(people, os.environ.get("SSH_AUTH_SOCK"), answer.keys, passphrase)
        who, signer = _one(at_hand, answer.person, verdict, rule, people, requester, decision)
        role = authority.role_for(rule, people, verdict, who, requester, decision)
        _overridden(run, decision, answer.overrides, closed)

        def stated(because: str) -> dict[str, Any]:
            at = time.time()
            return statement.make(request, decision, who.name, role, because, at, answer.ticket, answer.overrides)

        said = stated(answer.because or "")
        _show(canon.dumps(said), verdict)
        if decision != "reject":
            confirmed(str((request["facts"].get("back_to") or {}).get("version") or run), answer.typed)
        if answer.because is None and (because := _reason()):
            said = stated(because)
        body = statement.sign(said, signer)
    except (Refused, ValueError) as refused:
        reason, hint = (refused.reason, refused.hint) if isinstance(refused, Refused) else (str(refused), "")
        raise EngineError(
            Diagnostic("LG092", f"no key was given: {reason}", hint=hint or f"engine status {run}"), Exit.REJECTED
        ) from None
    store.append(run, "key.given", body)
    after = authority.judge(rule, people, request, requester, [*given, body], time.time(), [one.name for one in closed])
    word = {"approve": "key recorded", "reject": "refusal recorded, it is final"}.get(decision, "the glass is broken")
    stands = f"{run}: {after.state}, {printable(after.why, 400)}"
    click.echo(f"{word} for {who.name} as {role}. {stands}.   next: engine status {run} --follow", err=True)
    return Exit.DONE


def _question(store: Any, run: str) -> tuple[dict[str, Any], list[dict[str, Any]], Any]:
    entries = store.entries(run)
    asked, is_open = _asked(entries)
    if asked is None or not is_open:
        why, code = ("has not asked for a key", Exit.USAGE) if asked is None else (_SETTLED, Exit.REJECTED)
        raise EngineError(Diagnostic("LG091", f"{run} {why}", hint=_others(store) or f"engine status {run}"), code)
    return asked.body, question.given(entry for entry in entries if entry.seq > asked.seq), entries


def _asked(entries: Sequence[Any]) -> tuple[Any, bool]:
    """The last question of a run, and whether it is open."""
    asked = next((entry for entry in reversed(entries) if entry.kind == "key.asked"), None)
    since = [entry.kind for entry in entries if asked and entry.seq > asked.seq]
    over = [kind for kind in since if kind in ("run.ended", "run.resumed")][-1:] == ["run.ended"]
    return asked, not over and "authority.settled" not in since


def _others(store: Any) -> str:
    """Which of the newest runs do wait for a key: without a name the newest run is meant, and that may be another one."""
    runs = []
    for first, _ in list(reversed(store.runs()))[:_NEWEST]:
        entries = store.entries(first.run)
        asked, is_open = _asked(entries)
        given = question.given(entry for entry in entries if asked and entry.seq > asked.seq)
        refused = any((body.get("statement") or {}).get("decision") == "reject" for body in given)
        if asked and is_open and not refused and asked.body["expires"] > time.time():
            runs.append(first.run)
    return f"{words.some(runs)} {'waits' if len(runs) == 1 else 'wait'} for a key" if runs else ""


def now(store: Any, entries: Sequence[Any]) -> tuple[Policy, tuple[Window, ...]]:
    """Who may say yes now, and the freeze windows that are open for the run's hosts.

    Where the inventory is on another machine it goes by what the run keeps: the engine that runs it judges every key anew.
    """
    kept, plan = entries[0].body["plan"]["roster"], entries[0].body["plan"]
    known: list[str] = next((e.body["inventories"] for e in reversed(entries) if e.body.get("inventories")), [])
    paths = [path for path in known if Path(path).exists()]
    there = paths or Path(kept.get("folder", "/nowhere")).is_dir()
    read = opening.policy_of(kept, paths, store.folder) if there else None
    found = read() if read else policy.stored(kept)
    rows = [HostRow(name, tuple(groups), {}) for name, groups, *_ in plan["hosts"]]
    return found, found.open_now(rows, time.time())


def _same_roster(run: str, request: dict[str, Any], people: Any) -> None:
    """Raises EngineError when the question was asked under another roster: it is about to be asked anew."""
    asked = statement.bound(request).roster
    if request.get("format") and asked["digest"] != people.digest:
        summary = f"the roster has changed since {run} asked: it asks anew as soon as it is carried on"
        hint = f"engine status {run} shows the new question; engine resume {run} where nobody runs it"
        raise EngineError(Diagnostic("LG091", summary, hint=hint), Exit.REJECTED)


def _overridden(run: str, decision: str, named: Sequence[str], closed: Sequence[Window]) -> None:
    """Raises Refused for a yes that does not name a freeze window that is open, or names one that is not."""
    if decision == "reject":
        return
    for one in closed:
        if one.name not in named:
            until, reason = words.utc(one.until), printable(one.reason)
            raise Refused(
                f"the freeze window `{one.name}` is open until {until} ({reason}), and a key has to name it",
                f"engine approve {run} --override-freeze {one.name}",
            )
    if strange := [name for name in named if name not in {one.name for one in closed}]:
        raise Refused(f"no freeze window `{printable(strange[0])}` is open now", "leave --override-freeze out")


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


def _show(signed: bytes, verdict: Any) -> None:
    """What the bytes say that are about to be signed, in a fixed order, with nothing from outside unescaped.

    Nothing but those bytes is read, and the keys that are there: what is shown is what is signed.
    """
    lines = shown(canon.loads(signed))
    lines += [f"  key       {printable(role)}: {printable(name or 'missing')}" for role, name in verdict.slots]
    click.echo("\n".join(lines), err=True)


def shown(said: dict[str, Any]) -> list[str]:
    """A key's statement as people read it: what, where, from and to, why, what has no undo, the evidence so far, the cost of
    waiting, who asks."""
    key, facts = said["predicate"], said["predicate"]["facts"]
    plan = next(one["digest"]["sha256"] for one in said["subject"] if one["name"] == "plan")
    subjects = [one for one in said["subject"] if one["name"] != "plan"]
    now, back = (facts.get("now") or {}).get("version"), (facts.get("back_to") or {}).get("version")
    hosts, act = int(facts.get("hosts") or 0), facts.get("act") or facts.get("playbook")
    where = _some(facts.get("where") or [], hosts)
    rows = [
        ("will do", f"{_safe(act)} ({_safe(facts.get('strategy'))})"),
        ("where", f"{_safe(key['environment'])}: " * bool(key["environment"]) + (where or words.plural(hosts, "host"))),
        ("version", f"{_safe(now)} -> {_safe(back)}{_NEXT if facts.get('next') else ''}" if now or back else ""),
        *[("changes", _safe(one)) for one in facts.get("changes") or []],
        *[(f"{_safe(one['name'])} is", f"sha256:{one['digest']['sha256'][:16]}") for one in subjects],
        ("because", _some(facts.get("because") or [])),
        ("no undo", _some(facts.get("no_undo") or [])),
        ("freeze", _some([f"{one['name']} ({one['reason']})" for one in facts.get("freeze") or []])),
        ("overrides", _some(key["freeze_override"])),
        ("evidence", _evidence(facts.get("evidence"))),
        ("waiting", _waiting(now, hosts, facts, key)),
        ("asked by", _safe(key["requester"])),
        ("your word", _safe(key["reason"])),
        ("ticket", _safe(key["ticket"])),
    ]
    what = {"approve": "Key", "reject": "No", "break-glass": "BREAKING THE GLASS, alone,"}.get(key["decision"], "Second key")
    head = f"{what} for {_safe(key['run'])}, as {_safe(key['person'])} ({_safe(key['role'])}).   Plan {plan[:13]}"
    return [head, *(f"  {name:9} {text}" for name, text in rows if text)]


def _safe(text: Any) -> str:
    return printable(str(text if text is not None else ""), 200)


def _some(names: Sequence[Any], count: int = 0) -> str:
    """The first five names, each at most 80 characters, and how many more there are."""
    listed = ", ".join(printable(str(name)) for name in names[:5])
    more = max(count, len(names)) - min(len(names), 5)
    return f"{listed} and {more} more" if listed and more > 0 else listed


def _evidence(found: Any) -> str:
    if not isinstance(found, dict) or not found.get("of"):
        return ""
    bad = f"; failed: {_some(found.get('failed') or [])}" if found.get("failed") else ""
    return f"{found['done']} of {found['of']} pieces are kept; nothing is changed before all of them are" + bad


def _waiting(now: Any, hosts: int, facts: dict[str, Any], key: dict[str, Any]) -> str:
    """What goes on until somebody answers, and what then."""
    serves = f"{_safe(now)} goes on serving on {words.plural(hosts, 'host')}" if now else "everything stays as it is"
    began = facts.get("began")
    since = f", {words.span(key['at'] - began)} since the run began" if isinstance(began, int | float) and began else ""
    return f"{serves}{since}; at {words.utc(key['expires'], date=False)} it lapses, which means no"


def confirmed(version: str, typed: str | None) -> None:
    """Has the version typed, on the terminal or with --confirm. Raises EngineError (LG092)."""
    if typed is None and sys.stdin.isatty():
        typed = click.prompt(f"Type {printable(version)} to give the key", default="", show_default=False, err=True)
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


def passphrase(path: str) -> str:
    """Asked on the terminal; nothing where there is none."""
    if not sys.stdin.isatty():
        return ""
    return str(click.prompt(f"Passphrase of {path}", hide_input=True, err=True, default="", show_default=False))
