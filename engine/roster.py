"""The people of an environment and where they are told: what `roster.yml` and `destinations.yml` must be.

In: a `Document`. Out: every mistake in it (LG110, LG111). It checks the form alone: who may approve what is decided, and
signatures are verified, by `authority`.

The roster is read more strictly than ssh reads such files, because there one signing key could count as two people, and
a wildcard as anybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from engine import source, sshsig
from engine.diagnostics import Diagnostic, Place

_TEMPLATE = "{{"


def people_mistakes(document: source.Document) -> list[Diagnostic]:
    """What is wrong with a roster, LG110 each."""
    mistakes = [replace(d, code="LG110") for d in source.validate(document, source.schema("roster"))]
    for number, line in enumerate(document.text.split("\n"), 1):
        if _TEMPLATE in line:  # the schema passes over templates, and nobody renders these
            place = Place(document.path, number, line.index(_TEMPLATE) + 1, 2, line)
            hint = "write the name, role or key itself"
            mistakes.append(Diagnostic("LG110", "a roster holds no templates", place, hint=hint))
    return mistakes or [*_bad_keys(document), *_twice(document)]


def _bad_keys(document: source.Document) -> Iterator[Diagnostic]:
    for number, person in enumerate(document.data["people"]):
        for i, key in enumerate(person["keys"]):
            place = document.place(("people", number, "keys", i))
            try:
                sshsig.public_key(key)
            except sshsig.Refused as error:
                hint = error.hint or "write the line of the .pub file: ssh-ed25519 AAAA… comment"
                yield Diagnostic("LG110", f"a key of `{person['name']}` cannot be used: {error.reason}", place, hint=hint)


def _twice(document: source.Document) -> Iterator[Diagnostic]:
    """Names, logins and keys that would make one person two, or two people one."""
    seen: dict[tuple[str, str], tuple[str, Place]] = {}
    for number, person in enumerate(document.data["people"]):
        at: source.Keys = ("people", number)
        marks: list[tuple[str, str, source.Keys]] = [("name", person["name"].lower(), (*at, "name"))]
        marks += [("login", login, (*at, "logins", i)) for i, login in enumerate(person.get("logins", ()))]
        marks += [("key", " ".join(key.split()[:2]), (*at, "keys", i)) for i, key in enumerate(person["keys"])]
        for kind, value, keys in marks:
            place, name = document.place(keys), person["name"]
            other, first = seen.setdefault((kind, value), (name, place))
            if first != place:
                whose = f"of `{other}` and of `{name}`" if other != name else f"of `{name}` stands twice"
                detail = "Two keys must mean two people, so names, logins and signing keys are counted once each."
                hint = "give every person an own one, and list it once"
                yield Diagnostic("LG110", f"the same {kind} {whose}", place, detail, hint, (first, "first here"))


def destination_mistakes(document: source.Document) -> list[Diagnostic]:
    """What is wrong with destinations, LG111 each. An address may hold a token, so none is repeated."""
    hint = "write for example `incident-channel: mailtos://…`, slack://…, or file:PATH"
    summary = "a destination is a plain name with an address or a list of addresses"
    problems = source.validate(document, source.schema("destinations"))
    mistakes = [Diagnostic("LG111", summary, _covered(problem.place), hint=hint) for problem in problems]
    if mistakes or not isinstance(document.data, dict):  # a template is no mapping, though the schema lets it pass
        return mistakes or [Diagnostic("LG111", summary, _covered(document.place()), hint=hint)]
    for name, value in document.data.items():
        for i, address in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(address, str) and not re.match(r"[a-z][a-z0-9+.-]*://.|file:.|.*\{\{", address, re.IGNORECASE):
                place = document.place((name, i) if isinstance(value, list) else (name,))
                mistakes.append(Diagnostic("LG111", f"`{name}` has no address that can be used", _covered(place), hint=hint))
    return mistakes


def _covered(place: Place | None) -> Place | None:
    """The place without what stands there."""
    return place and replace(place, text=place.text[: place.column - 1] + "…", length=1)
