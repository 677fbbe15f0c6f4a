"""What holds where a run changes something: whose environment it is, who may say yes there, when nothing may change.

In: the folder of the inventory, what the run keeps of its roster, and what lies outside the repository. Out: a `Policy` as
it is now, and its digest, which every key is bound to. It is read again whenever it matters: before a question, while it is
open, and before what cannot be taken back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import authority, canon, freeze, roster, source, trust
from engine.check import HostRow
from engine.diagnostics import Diagnostic, EngineError
from engine.freeze import Window
from engine.roster import Roster
from engine.trust import Trust

Json = Any


NOBODY = Roster((), "", "")


@dataclass(frozen=True)
class Policy:
    """Who may say yes in an `environment` (a roster of nobody, where nobody is asked), and when nothing may change there."""

    roster: Roster = NOBODY
    environment: str = ""
    windows: tuple[Window, ...] = ()
    frozen: str = ""

    def digest(self, rule: authority.Rule) -> str:
        """The fingerprint of everything that decides who has to agree, and when nothing may change."""
        glass = rule.glass and [rule.glass.role, rule.glass.ratify]
        said = {"mode": rule.mode, "roles": list(rule.roles), "break_glass": glass, "freeze": self.frozen}
        return canon.digest(said)

    def open_now(self, rows: Sequence[HostRow], now: float) -> tuple[Window, ...]:
        """The freeze windows that are open at `now` for any of these hosts."""
        return freeze.open_now(self.windows, [(row.name, row.groups) for row in rows], now)


def read(folders: Sequence[Path], kept: Mapping[str, Json] | None, outside: Trust, now: float) -> Policy:
    """The policy of the environment in `folders` as it is now. Raises EngineError for what is wrong or not there any more.

    `kept`: what the plan keeps of the roster; None where it asks nobody. Where the roster is pinned it is read all the same:
    it may say that somebody has to be asked.
    """
    people, environment = NOBODY, str((kept or {}).get("environment", "")) or (folders[0].name if folders else "")
    if kept is not None or outside.demands(environment):
        path = _beside(sorted(folders, key=lambda one: one.name != environment), "roster")
        if path is None:
            where = ", ".join(map(str, folders)) or "the inventory"
            summary = f"the roster is not in {where} any more: who may still say yes, nobody can tell"
            raise EngineError(Diagnostic("LG204", summary, hint="put roster.yml back"))
        people = trust.current(source.load(path, str(path)), environment, outside, now)
    windows: list[Window] = []
    found: list[str] = []
    for folder in dict.fromkeys(folders):  # of every one: no other folder beside it takes a window away
        if path := _beside([folder], "freeze"):
            document = source.load(path, str(path))
            if mistakes := freeze.mistakes(document):
                raise EngineError(mistakes)
            windows += freeze.windows(document)
            found.append(canon.digest(document.data))
    frozen = "".join(found) if len(found) < 2 else canon.digest(found)
    return Policy(people, environment, tuple(windows), frozen)


def _beside(folders: Sequence[Path], name: str) -> Path | None:
    files = (folder / f"{name}{suffix}" for folder in folders for suffix in (".yml", ".yaml"))
    return next((file for file in files if file.is_file()), None)


def stored(kept: Mapping[str, Json] | None) -> Policy:
    """The policy by what a plan keeps: the roster's text, unsigned. Raises EngineError (LG110)."""
    if kept is None:
        return Policy()
    people = roster.read(source.parse(kept["text"], kept["path"]))
    return Policy(people, str(kept.get("environment", "")))
