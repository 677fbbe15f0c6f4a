"""A playbook held against a profile: what its rules say, and comments that excuse a place from one of them.

In: a `Plan` made without hosts, the catalog, a profile's name. Out: diagnostics, errors and warnings, each with its place.
Nothing is contacted and no inventory is needed. A profile asks for all that the one before it asks for.

``# lint: ignore LG303 why`` excuses the line that it stands on or above; on or above the first line of a step, all of the
step. Without a reason, with a code that is none, or where there is nothing to excuse, such a comment is itself an error:
otherwise nobody would notice that it has stopped meaning anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from engine import rules, source
from engine.check import Catalog
from engine.diagnostics import Diagnostic, EngineError, Place, did_you_mean, printable
from engine.plan import Plan
from engine.rules import Case, Finding
from engine.source import Document

PROFILES = rules.PROFILES
_COMMENT = re.compile(r"(?:^|(?<=\s))#\s*lint\b:?(?P<rest>.*)$")
_IGNORE = re.compile(r"\s*ignore\s+(?P<codes>LG\d+(?:\s*,\s*LG\d+)*)(?P<reason>.*)$")


@dataclass(frozen=True)
class Review:
    """What was found, and what comments excuse, each with the reason that is written there."""

    diagnostics: tuple[Diagnostic, ...]
    excused: tuple[tuple[Diagnostic, str], ...]


@dataclass(frozen=True)
class _Excuse:
    """A comment that excuses `code` on the line `line` of the document `path`."""

    code: str
    path: str
    line: int
    reason: str
    place: Place


def lint(plan: Plan, catalog: Catalog, profile: str) -> Review:
    """Everything the profile has to say of the playbook, in the order of the text."""
    case, found, excused = Case(plan, catalog), list[Diagnostic](), list[tuple[Diagnostic, str]]()
    excuses = list(_excuses(plan.playbook.documents, found))
    used: set[_Excuse] = set()
    for rule in rules.RULES:
        severity = rule.severity(profile)
        for finding in rule.look(case):
            excuse = next((one for one in excuses if one.code == rule.code and _covers(one, finding)), None)
            used |= {excuse} if excuse else set()
            if severity:
                said = Diagnostic(rule.code, finding.summary, finding.place, hint=finding.hint, severity=severity)
                excused += [(said, excuse.reason)] if excuse else []
                found += [] if excuse else [said]
    for excuse in excuses:
        if excuse not in used:
            summary = f"there is nothing here that {excuse.code} could say"
            found.append(Diagnostic("LG392", summary, excuse.place, hint="remove the comment, or move it to its place"))
    return Review(tuple(sorted(found, key=_where)), tuple(sorted(excused, key=lambda pair: _where(pair[0]))))


def _where(diagnostic: Diagnostic) -> tuple[Place, str]:
    return diagnostic.place or Place(""), diagnostic.code


def _covers(excuse: _Excuse, finding: Finding) -> bool:
    places = [finding.place, *([finding.step.place()] if finding.step else [])]
    return any((excuse.path, excuse.line) == (place.path, place.line) for place in places)


def _excuses(documents: Mapping[str, Document], found: list[Diagnostic]) -> Iterator[_Excuse]:
    """The comments in these texts; what is wrong with them goes to `found`."""
    codes = {rule.code for rule in rules.RULES}
    for document in documents.values():
        lines = document.text.split("\n")
        for number, line in enumerate(lines):
            comment = _COMMENT.search(line)
            if not comment or not _is_comment(document, lines, number, comment.start()):
                continue
            place = Place(document.path, number + 1, comment.start() + 1, len(line) - comment.start(), line)
            said = _IGNORE.match(comment["rest"])
            if not said:
                hint = "write # lint: ignore LG303 and the reason"
                found.append(Diagnostic("LG391", "this comment cannot be understood", place, hint=hint))
                continue
            reason = said["reason"].strip(" :,.-–—")
            if not reason:
                summary, hint = f"why {said['codes']} is to be ignored here is not said", "write the reason behind the code"
                found.append(Diagnostic("LG390", summary, place, hint=hint))
            for code in re.split(r"\s*,\s*", said["codes"]):
                if code in codes:
                    yield _Excuse(code, document.path, _target(lines, number, comment.start()), reason, place)
                else:
                    hint = did_you_mean(code, codes, "engine doc lists the codes; only lint's own can be ignored")
                    found.append(Diagnostic("LG391", f"{printable(code)} is no rule of lint", place, hint=hint))


def _is_comment(document: Document, lines: list[str], number: int, start: int) -> bool:
    """Whether it is one: without it the text says the same, which is not so of a part of a string."""
    without = [*lines[:number], lines[number][:start].rstrip(), *lines[number + 1 :]]
    try:
        return bool(source.parse("\n".join(without), document.path).data == document.data)
    except EngineError:
        return False


def _target(lines: list[str], number: int, start: int) -> int:
    """The line (from 1) that a comment is about: its own, or the next one with something on it."""
    if lines[number][:start].strip():
        return number + 1
    rest = range(number + 1, len(lines))
    return next((i + 1 for i in rest if lines[i].strip() and not lines[i].lstrip().startswith("#")), number + 1)
