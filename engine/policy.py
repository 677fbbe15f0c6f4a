"""What holds where a run changes something: whose environment it is, who may say yes there, when nothing may change.

In: what the run keeps of its roster. Out: a `Policy` as it is now, and its digest, which every key is bound to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine import authority, canon, roster, source
from engine.roster import Roster

Json = Any


@dataclass(frozen=True)
class Policy:
    """Who may say yes in an `environment`."""

    roster: Roster
    environment: str = ""

    def digest(self, rule: authority.Rule) -> str:
        """The fingerprint of everything that decides who has to agree, and when."""
        glass = rule.glass and [rule.glass.role, rule.glass.ratify]
        return canon.digest({"mode": rule.mode, "roles": list(rule.roles), "expires": rule.expires, "break_glass": glass})


def stored(kept: Mapping[str, Json]) -> Policy:
    """The policy by what a plan keeps: the roster's text. Raises EngineError (LG110)."""
    people = roster.read(source.parse(kept["text"], kept["path"]))
    return Policy(people, people.environment or str(kept.get("environment", "")))
