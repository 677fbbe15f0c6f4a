"""The people of an environment and where they are told: what `roster.yml` and `destinations.yml` must be.

In: a `Document`. Out: a `Roster` of people with their roles and signing keys, or every mistake (LG110, LG111). It checks the
form alone: whether a roster counts is decided by `trust`, who may approve what by `authority`.

The roster is read more strictly than ssh reads such files, because there one signing key could count as two people, and
a wildcard as anybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from engine import canon, source, sshsig
from engine.diagnostics import Diagnostic, EngineError, Place
from engine.sshsig import PublicKey, Signature

_TEMPLATE = "{{"
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d)?Z)?")


@dataclass(frozen=True)
class SigningKey:
    """A public key of a person. `demand`: what a security key has to show (touch, pin); it counts from `since` until before
    `until`, in seconds since 1970, UTC."""

    public: PublicKey
    demand: tuple[str, ...] = ()
    since: float = float("-inf")
    until: float = float("inf")

    def fault(self, signature: Signature, now: float) -> str:
        """Why a good signature by this key does not count at `now`, or nothing."""
        if now < self.since:
            return "its SSH key does not count yet"
        if now >= self.until:
            return "its SSH key has lapsed"
        if "touch" in self.demand and not signature.touched:
            return "the security key was not touched"
        if "pin" in self.demand and not signature.pin:
            return "the security key's PIN was not given, which the roster demands"
        return ""


@dataclass(frozen=True)
class Person:
    """One of the roster's people. `logins` are the names under which the person works on machines."""

    name: str
    roles: tuple[str, ...]
    keys: tuple[SigningKey, ...]
    logins: tuple[str, ...] = ()

    def is_called(self, who: str) -> bool:
        """Whether `who` asked for a run as this person: by name or login, ``login@machine`` too. Capitals do not matter."""
        names = {name.casefold() for name in (self.name, *self.logins)}
        return bool(names & {who.casefold(), who.casefold().partition("@")[0]})

    def key(self, fingerprint: str) -> SigningKey | None:
        """The person's key with this fingerprint (``SHA256:…``)."""
        return next((key for key in self.keys if key.public.fingerprint == fingerprint), None)


@dataclass(frozen=True)
class Roster:
    """Who may approve: `people` as listed, `path` as the user wrote it, `digest` over the content.

    `version` 0: nobody has to sign it. Else it is that of `environment`, lapses at `expires` (seconds since 1970, UTC), and
    its successor has to be signed by as many people of each role as `thresholds` says. `least`: the weakest mode of
    authority that a playbook may ask for.
    """

    people: tuple[Person, ...]
    path: str
    digest: str
    version: int = 0
    environment: str = ""
    expires: float = float("inf")
    thresholds: Mapping[str, int] = field(default_factory=dict)
    least: str = "automatic"

    @property
    def roles(self) -> tuple[str, ...]:
        """Every role that somebody has, sorted."""
        return tuple(sorted({role for person in self.people for role in person.roles}))

    def person_by_key(self, fingerprint: str) -> Person | None:
        """Whose key has this fingerprint (``SHA256:…``)."""
        return next((person for person in self.people if person.key(fingerprint)), None)

    def in_role(self, role: str) -> tuple[Person, ...]:
        """The people in `role`, as listed."""
        return tuple(person for person in self.people if role in person.roles)


def read(document: source.Document) -> Roster:
    """The roster in `document`. Raises EngineError with every mistake in it (LG110)."""
    if mistakes := people_mistakes(document):
        raise EngineError(mistakes)
    data = document.data
    people = tuple(
        Person(
            entry["name"],
            tuple(entry["roles"]),
            tuple(_signing_key(key) for key in entry["keys"]),
            tuple(entry.get("logins", ())),
        )
        for entry in data["people"]
    )
    found = Roster(people, document.path, canon.digest(data))
    if "version" not in data:
        return found
    return replace(
        found,
        version=data["version"],
        environment=data["environment"],
        expires=moment(data["expires"]),
        thresholds=data["thresholds"],
        least=data.get("least", "automatic"),
    )


def _signing_key(said: Any) -> SigningKey:
    if isinstance(said, str):
        return SigningKey(sshsig.public_key(said))
    since, until = (moment(said[name]) if name in said else None for name in ("from", "until"))
    public = sshsig.public_key(said["key"])
    bounds = (float("-inf") if since is None else since, float("inf") if until is None else until)
    return SigningKey(public, tuple(said.get("demand", ())), *bounds)


def moment(text: str) -> float:
    """``2027-06-30T12:00:00Z`` or ``2027-06-30`` (its first second) in seconds since 1970, UTC. Raises ValueError."""
    if not _MOMENT.fullmatch(text):
        raise ValueError(f"{text!r} is no time such as 2027-06-30T12:00:00Z")
    return datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=UTC).timestamp()


def people_mistakes(document: source.Document) -> list[Diagnostic]:
    """What is wrong with a roster, LG110 each."""
    mistakes = [replace(d, code="LG110") for d in source.validate(document, source.schema("roster"))]
    for number, line in enumerate(document.text.split("\n"), 1):
        if _TEMPLATE in line:  # the schema passes over templates, and nobody renders these
            place = Place(document.path, number, line.index(_TEMPLATE) + 1, 2, line)
            hint = "write the name, role or key itself"
            mistakes.append(Diagnostic("LG110", "a roster holds no templates", place, hint=hint))
    return mistakes or [*_bad_times(document), *_bad_keys(document), *_twice(document), *_unreachable(document)]


def _bad_times(document: source.Document) -> Iterator[Diagnostic]:
    at: list[source.Keys] = [("expires",)] if "expires" in document.data else []
    for number, person in enumerate(document.data["people"]):
        for i, key in enumerate(person["keys"]):
            there = [name for name in ("from", "until") if isinstance(key, dict) and name in key]
            at += [("people", number, "keys", i, name) for name in there]
    for keys in at:
        text = document.data
        for name in keys:
            text = text[name]
        try:
            moment(text)
        except ValueError:
            hint = "write it in UTC, for example 2027-06-30T12:00:00Z"
            yield Diagnostic("LG110", f"`{keys[-1]}` should be a time", document.place(keys), hint=hint)


def _bad_keys(document: source.Document) -> Iterator[Diagnostic]:
    for number, person in enumerate(document.data["people"]):
        for i, key in enumerate(person["keys"]):
            at: source.Keys = ("people", number, "keys", i)
            try:
                public = sshsig.public_key(_line(key))
            except sshsig.Refused as error:
                hint = error.hint or "write the line of the .pub file: ssh-ed25519 AAAA… comment"
                summary = f"a key of `{person['name']}` cannot be used: {error.reason}"
                yield Diagnostic("LG110", summary, document.place((*at, "key") if isinstance(key, dict) else at), hint=hint)
                continue
            if isinstance(key, dict) and "demand" in key and not public.hardware:
                summary = f"a key of `{person['name']}` lies in a file: it cannot be touched and has no PIN of its own"
                hint = "make one in a security key: ssh-keygen -t ed25519-sk -O verify-required"
                yield Diagnostic("LG110", summary, document.place((*at, "demand")), hint=hint)


def _line(key: Any) -> str:
    """The line of a key, which may have conditions beside it."""
    return str(key["key"]) if isinstance(key, dict) else str(key)


def _unreachable(document: source.Document) -> Iterator[Diagnostic]:
    """Thresholds that nobody could meet."""
    for role, wanted in document.data.get("thresholds", {}).items():
        there = sum(role in person["roles"] for person in document.data["people"])
        if there < wanted:
            summary = f"{wanted} people of `{role}` have to sign a change, and {there} {'has' if there == 1 else 'have'} it"
            place, hint = document.place(("thresholds", role)), "name a role that enough people have"
            yield Diagnostic("LG110", summary, place, hint=hint)


def _twice(document: source.Document) -> Iterator[Diagnostic]:
    """Names, logins and keys that would make one person two, or two people one."""
    seen: dict[tuple[str, str], tuple[str, Place]] = {}
    for number, person in enumerate(document.data["people"]):
        at: source.Keys = ("people", number)
        marks: list[tuple[str, str, source.Keys]] = [("name", person["name"].lower(), (*at, "name"))]
        marks += [("login", login, (*at, "logins", i)) for i, login in enumerate(person.get("logins", ()))]
        marks += [("key", " ".join(_line(key).split()[:2]), (*at, "keys", i)) for i, key in enumerate(person["keys"])]
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
