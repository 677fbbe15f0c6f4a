"""The question for keys: opened in the journal, and judged from it alone.

In: a `Site` and what is asked about. Out: the entry that keys are bound to, and what the keys that are there amount to. Who
waits for the answer, and for how long, is not decided here.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence

from engine import authority, canon, freeze, policy, statement, words
from engine.check import HostRow
from engine.freeze import Window
from engine.journal import Entry
from engine.policy import Policy
from engine.site import Site
from engine.statement import Binding
from modules.contract import Json

#: Names of hosts and readings that a person is shown; the rest are counted.
MOST = 20


def about(site: Site) -> dict[str, Json]:
    """What a person is shown who is asked for a key to the site's plan. It is part of what they sign."""
    plan, seen = site.plan, site.plan.preview or {}
    lasting = [row["id"] for row in seen.get("steps", []) if row["undo"] == "NONE" and row["section"] == "execution"]
    met = [row for row in seen.get("trigger", []) if row["met"]]
    return {
        "playbook": plan.playbook.name, "strategy": plan.playbook.strategy, "hosts": len(plan.hosts),
        "where": [row.name for row in plan.hosts[:MOST]], "now": seen.get("now", {}), "back_to": seen.get("back_to", {}),
        "changes": _changes(seen.get("changes", [])), "next": plan.playbook.on_unverified == "next",
        "because": [f"{row['host']} {row['id']}: {row['why']}" for row in met[:MOST]], "no_undo": lasting,
        "evidence": _evidence(site), "began": site.started,
    }  # fmt: skip


def _changes(rows: Sequence[Mapping[str, Json]]) -> list[str]:
    """What each step of execution would change, in words, and on which hosts: those that differ are told apart."""
    found: dict[str, list[str]] = {}
    for row in rows:
        parts = [f"{key} {words.brief(before)} -> {words.brief(after)}" for key, before, after in row["change"] or ()]
        told = ", ".join(parts) or "known when it runs"
        if row["section"] == "execution" and (row["change"] or row["grade"] in ("known later", "NOT PREVIEWABLE")):
            found.setdefault(f"{row['step'].partition('/')[2]}: {told}", []).append(row["host"])
    texts = [f"{told} on {words.some(hosts, 3)}" for told, hosts in found.items()]
    return [*texts[:MOST], *([f"and {len(texts) - MOST} more"] if len(texts) > MOST else [])]


def _evidence(site: Site) -> dict[str, Json]:
    """How far the evidence has come: steps of all hosts, of how many, and which went wrong."""
    found = {
        (entry.host, entry.step): entry.body["outcome"]
        for entry in site.journal.entries(site.run)
        if entry.kind == "step.outcome" and entry.step.startswith("forensics/") and "[" not in entry.step
    }
    wanted = sum(1 for node in site.plan.nodes.values() if node.step and node.chosen and node.section == "forensics")
    bad = [f"{host} {step}" for (host, step), outcome in found.items() if outcome in ("failed", "uncertain")]
    return {"done": len(found) - len(bad), "of": wanted * len(site.plan.hosts), "failed": bad[:MOST]}


def ask(site: Site, rule: authority.Rule, digest: str, facts: Mapping[str, Json], again: str = "") -> Entry:
    """Opens the question for keys in the journal: its last `key.asked` is the one that keys are bound to.

    `again`: why an earlier question of the run does not do any more.
    """
    now = current(site)
    closed = freeze.shown(now.open_now(site.plan.hosts, site.now()))
    shown = canon.normal(site.secrets.scrub({**facts, **({"freeze": closed} if closed else {})}))
    nonce, bound = secrets.token_hex(16), binding(site, rule, facts, now)
    body = authority.question(rule, site.run, digest, site.requester, nonce, shown, site.now(), bound)
    return site.journal.append(site.run, "key.asked", {**body, "again": again} if again else body)


def binding(site: Site, rule: authority.Rule, facts: Mapping[str, Json], now: Policy) -> Binding:
    """What the question is bound to besides its plan."""
    rows = [[row.name, list(row.groups), dict(row.vars), sorted(row.outside)] for row in site.plan.hosts]
    known = {"from": (facts.get("now") or {}).get("digest"), "to": (facts.get("back_to") or {}).get("digest")}
    subjects = {name: digest for name, digest in known.items() if isinstance(digest, str) and digest.startswith("sha256:")}
    people = {"version": now.roster.version, "digest": now.roster.digest}
    return Binding(now.environment, canon.digest(rows), now.digest(rule), people, subjects)


def current(site: Site) -> Policy:
    """Who may say yes and when nothing may change, as it is now. Raises EngineError when that cannot be known."""
    return site.policy() if site.policy else policy.stored(site.plan.roster)


def outdated(site: Site, asked: Entry) -> str:
    """What has changed since the question was asked, so that it has to be asked anew; empty: nothing.

    A question of an earlier version was bound to less, and stays as it is.
    """
    if not asked.body.get("format"):
        return ""
    now, then = current(site), statement.bound(asked.body)
    if now.environment != then.environment:
        return f"the environment is `{now.environment}` now"
    if (now.roster.version, now.roster.digest) != (then.roster["version"], then.roster["digest"]):
        return (
            f"the roster has changed: it is version {now.roster.version} now"
            if now.roster.version
            else "the roster has changed"
        )
    return "" if now.digest(authority.asked(asked.body)) == then.policy else "the freeze windows have changed"


def frozen(site: Site, rows: Sequence[HostRow] | None = None) -> tuple[Window, ...]:
    """The freeze windows that are open now for these hosts (all of the plan's). Raises EngineError."""
    return current(site).open_now(site.plan.hosts if rows is None else rows, site.now())


def revoked(site: Site, keys: Sequence[Mapping[str, Json]]) -> str:
    """Which of the keys that were counted would count no more, in words; empty: all still do. Raises EngineError."""
    people, now = current(site).roster, site.now()
    for used in keys:
        person = people.person_by_key(used["fingerprint"])
        key = person.key(used["fingerprint"]) if person else None
        if person is None or key is None or person.name != used["person"]:
            return f"the SSH key with which {used['person']} agreed is not in the roster any more"
        if used["role"] not in person.roles:
            return f"{used['person']}, who agreed as {used['role']}, does not have that role any more"
        if not key.since <= now < key.until:
            return f"the SSH key with which {used['person']} agreed has lapsed"
    return ""


def given(entries: Iterable[Entry]) -> list[dict[str, Json]]:
    """The keys among the entries after a question, also those that were refused when they were offered."""
    return [entry.body for entry in entries if entry.kind in ("key.given", "key.refused")]


def judge(site: Site, asked: Entry) -> authority.Verdict:
    """What the keys that are there amount to, every signature checked again."""
    keys, now = given(site.journal.entries(site.run, asked.seq)), current(site)
    closed = [one.name for one in now.open_now(site.plan.hosts, site.now())]
    rule = authority.asked(asked.body)
    return authority.judge(rule, now.roster, asked.body, site.requester, keys, site.now(), closed)
