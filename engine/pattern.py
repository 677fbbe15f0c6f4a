"""Names of hosts: what a range writes (`svc[01:20]`) and what a pattern picks (`fraud:&eu:!canary`, `svc*`, `fraud[0:2]`).

In: a text and the names that exist. Out: host names in inventory order, or an error that points into the text. It knows
names alone, neither variables nor files.

As in Ansible, `:` and `,` add, `&` keeps only, `!` leaves out, whatever the order; a range has both its ends. Stricter
than there: a name that nobody has is a mistake wherever it stands, because `all:!canray` would go to the canaries.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from engine.diagnostics import Diagnostic, EngineError, Place, did_you_mean, printable

Groups = Mapping[str, Sequence[str]]

_RANGE = re.compile(r"\[([^\[\]]*)\]")
_TERM = re.compile(r"(?:\[[^\]]*\]|[^:,])+")
_SUBSCRIPT = re.compile(r"(.+)\[(-?\d{1,6})(?:(:)(-?\d{1,6})?)?\]")


def match(pattern: str, hosts: Sequence[str], groups: Groups, place: Place | None = None) -> list[str]:
    """The hosts that `pattern` names, in the order of `hosts`; `place` is where the pattern stands in a text.

    Raises EngineError: LG103 unknown name or form, LG104 no host is left, LG107 a group without hosts is asked for.
    """
    found: list[Diagnostic] = []
    signs: dict[str, list[set[str]]] = {"": [], "&": [], "!": []}
    for term in _TERM.finditer(pattern):
        text = term[0].strip()
        if not text:
            continue
        at = part(place, pattern, term.start() + term[0].index(text), len(text))
        sign = text[0] if text[0] in "&!" else ""
        try:
            signs[sign].append(_named(text.removeprefix(sign).strip(), hosts, groups, at, leave_out=sign == "!"))
        except EngineError as error:
            found.extend(error.diagnostics)
    if not any(signs.values()) and not found:
        found.append(Diagnostic("LG103", "the pattern is empty", place, hint="write a group, a host or `all`"))
    if found:
        raise EngineError(found)
    chosen = set().union(*signs[""]) if signs[""] else set(hosts)
    chosen = chosen.intersection(*signs["&"]).difference(*signs["!"])
    if not chosen:
        detail = "Each of its names exists, but no host is left when they are taken together."
        hint = "look at who is where: engine inventory"
        raise EngineError(Diagnostic("LG104", f"the pattern `{printable(pattern)}` matches no host", place, detail, hint))
    return [host for host in hosts if host in chosen]


def _named(text: str, hosts: Sequence[str], groups: Groups, place: Place | None, leave_out: bool) -> set[str]:
    """The hosts of one term, its sign taken off."""
    subscript = _SUBSCRIPT.fullmatch(text)
    name = subscript[1] if subscript else text
    if name.startswith("~") or (set(name) & set("[]")):
        summary = f"`{printable(text)}`: regular expressions are not part of patterns"
        hint = "use names, `*`, `?`, and `group[0]` or `group[0:2]`; hosts are counted from 0"
        raise EngineError(Diagnostic("LG103", summary, place, hint=hint))
    if set(name) & set("*?"):
        wanted = [host for group in fnmatch.filter(groups, name) for host in groups[group]]
        wanted += fnmatch.filter(hosts, name)
        if not wanted:
            summary = f"`{printable(name)}` matches no group and no host"
            raise EngineError(Diagnostic("LG104", summary, place, hint="engine inventory lists them"))
    elif name in groups:
        wanted = [*groups[name]]
        if not wanted and not leave_out:
            raise EngineError(empty(name, place, "error"))
    elif name in hosts:
        wanted = [name]
    else:
        raise EngineError(unknown(name, [*groups, *hosts], place))
    return _counted(subscript, [*dict.fromkeys(wanted)], place) if subscript else set(wanted)


def _counted(subscript: re.Match[str], members: list[str], place: Place | None) -> set[str]:
    """`[2]`, `[-1]`, `[0:2]`, `[1:]` of the members, the last one included."""
    count, first, last = len(members), int(subscript[2]), int(subscript[4] or -1)
    if not subscript[3]:
        last = first
    first, last = (n + count if n < 0 else n for n in (first, last))
    if not (0 <= first < count and first <= last):
        summary = f"`{subscript[0]}` matches no host: `{subscript[1]}` has {count}, counted from 0"
        raise EngineError(Diagnostic("LG104", summary, place, hint=f"write a number from 0 to {count - 1}"))
    return set(members[first : last + 1])


class BadRange(ValueError):
    """A range that cannot be used; `start` and `length` tell the part of the name that is wrong."""

    def __init__(self, reason: str, start: int, length: int) -> None:
        super().__init__(reason)
        self.start, self.length = start, length


def expand(name: str, most: int) -> list[str]:
    """`svc[01:03]` -> svc01, svc02, svc03; a name without a range is itself. Raises BadRange, also beyond `most` names."""
    names, end = [""], 0
    for found in [*_RANGE.finditer(name), None]:
        literal = name[end : found.start() if found else len(name)]
        start, stop = found.span() if found else (end, len(name))
        try:
            if "[" in literal or "]" in literal:
                raise ValueError("a bracket is not closed")
            members = _members(found[1], most) if found else [""]
            if len(names) * len(members) > most:
                raise ValueError("these are too many hosts")
        except ValueError as error:
            raise BadRange(str(error), start, stop - start) from None
        names = [begun + literal + member for begun in names for member in members]
        end = stop
    return names


def _members(text: str, most: int) -> list[str]:
    """The members of one range, both ends included. Raises ValueError."""
    begin, end, step = (*text.split(":"), "1")[:3] if text.count(":") in (1, 2) else ("", "", "")
    begin = begin or "0"
    if not (re.fullmatch(r"[0-9]{1,9}", step) and int(step)):
        raise ValueError("a range is [first:last] or [first:last:step]")
    if re.fullmatch(r"[a-z] [a-z]|[A-Z] [A-Z]", f"{begin} {end}"):
        first, last, width = ord(begin), ord(end), 0
    elif re.fullmatch(r"[0-9]{1,9} [0-9]{1,9}", f"{begin} {end}"):
        first, last, width = int(begin), int(end), len(begin) if begin[0] == "0" and len(begin) > 1 else 0
    else:
        raise ValueError("both ends are numbers, or both are letters of the same case")
    if width and len(end) != width:
        raise ValueError("with leading zeros both ends are equally long, as in [01:20]")
    if last < first:
        raise ValueError("the last is before the first")
    numbers = range(first, last + 1, int(step))
    if len(numbers) > most:
        raise ValueError("these are too many hosts")
    return [chr(n) if begin.isalpha() else f"{n:0{width}}" for n in numbers]


def unknown(name: str, known: Iterable[str], place: Place | None = None) -> Diagnostic:
    """LG103: nobody is called that."""
    hint = did_you_mean(name, known, "engine inventory lists the groups and hosts")
    return Diagnostic("LG103", f"no group or host is called `{printable(name)}`", place, hint=hint)


def empty(name: str, place: Place | None, severity: str) -> Diagnostic:
    """LG107: a group without hosts; an error only where it is asked for."""
    hint = f"add hosts to `{name}`, or take it out"
    return Diagnostic("LG107", f"the group `{name}` has no hosts", place, hint=hint, severity=severity)


def part(place: Place | None, text: str, start: int, length: int) -> Place | None:
    """The place of `text[start : start + length]` when `text` stands at `place` plainly or in quotes; else `place`."""
    if place is None:
        return None
    piece = text[start : start + length]
    for quote in (0, 1):
        at = place.column - 1 + quote + start
        if piece and place.text.startswith(piece, at):
            return replace(place, column=at + 1, length=len(piece))
    return place
