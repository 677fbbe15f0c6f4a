"""The question for keys: opened in the journal, and judged from it alone.

In: a `Site` and what is asked about. Out: the entry that keys are bound to, and what the keys that are there amount to. Who
waits for the answer, and for how long, is not decided here.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from engine import authority, source
from engine.journal import Entry
from engine.site import Site
from modules.contract import Json


def about(site: Site) -> dict[str, Json]:
    """What a person is shown who is asked for a key to the site's plan."""
    plan, seen = site.plan, site.plan.preview or {}
    lasting = [row["id"] for row in seen.get("steps", []) if row["undo"] == "NONE" and row["section"] == "execution"]
    return {
        "playbook": plan.playbook.name, "strategy": plan.playbook.strategy, "hosts": len(plan.hosts),
        "now": seen.get("now", {}), "back_to": seen.get("back_to", {}), "no_undo": lasting,
    }  # fmt: skip


def ask(site: Site, rule: authority.Rule, digest: str, facts: Mapping[str, Json]) -> Entry:
    """Opens the question for keys in the journal: its last `key.asked` is the one that keys are bound to."""
    shown = site.secrets.scrub(dict(facts))
    body = authority.question(rule, site.run, digest, site.requester, secrets.token_hex(16), shown, site.now())
    return site.journal.append(site.run, "key.asked", body)


def judge(site: Site, asked: Entry) -> authority.Verdict:
    """What the keys that are there amount to, every signature checked again."""
    keys = [entry.body for entry in site.journal.entries(site.run, asked.seq) if entry.kind in ("key.given", "key.refused")]
    rule = authority.Rule(asked.body["mode"], tuple(asked.body["roles"]))
    people = authority.roster(source.parse(site.plan.roster["text"], site.plan.roster["path"]))
    return authority.judge(rule, people, asked.body, site.requester, keys, site.now())
