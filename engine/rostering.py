"""Changing a roster without writing it by hand: who comes, who leaves, until when it holds, as the text of the next version.

In: what a roster says, as data, and what is to change. Out: the data of the next version, its text, and what differs.
It signs nothing and decides nothing: a changed roster counts when its signatures say so (`trust`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from engine import roster, sshsig, words
from engine.sshsig import Refused

Json = Any
Data = dict[str, Json]

_HEAD = "# Who may approve. Written by `engine roster`: comments are lost when it is changed by a command.\n"
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9._@-]*")
_DAY = 86400.0
_ORDER = ("version", "environment", "expires", "thresholds", "least", "people")


def first(environment: str, people: Sequence[Data], thresholds: Mapping[str, int], until: float) -> Data:
    """Version 1."""
    return {
        "version": 1, "environment": environment, "expires": _moment(until), "thresholds": dict(thresholds),
        "people": [dict(one) for one in people],
    }  # fmt: skip


def following(data: Data, signed: bool, **changed: Json) -> Data:
    """The data with some of it changed: a version more when this one is `signed`, else the same one, whose work goes on."""
    number = data.get("version")
    raised = {} if number is None else {"version": number + (1 if signed else 0)}
    return {**data, **raised, **changed}


def added(
    people: Sequence[Data], name: str, roles: Sequence[str], lines: Sequence[str], logins: Sequence[str] = (),
    conditions: Mapping[str, Json] | None = None,
) -> list[Data]:  # fmt: skip
    """The people with one more, or with roles, keys and logins added to the one of that name. Raises Refused."""
    for line in lines:
        sshsig.public_key(line)
    keys: list[Json] = [{"key": line, **conditions} if conditions else line for line in lines]
    found = [dict(one) for one in people]
    person = next((one for one in found if one["name"].lower() == name.lower()), None)
    if person is None:
        if not roles or not keys:
            raise Refused(f"{name} is new: a person has a role and a key", "say --role and --key")
        person = {"name": name, "roles": [], "keys": []}
        found.append(person)
    person["roles"] = list(dict.fromkeys([*person["roles"], *roles]))
    person["keys"] = [*person["keys"], *keys]
    if logins or person.get("logins"):
        person["logins"] = list(dict.fromkeys([*person.get("logins", ()), *logins]))
    return found


def removed(people: Sequence[Data], name: str, roles: Sequence[str] = (), fingerprints: Sequence[str] = ()) -> list[Data]:
    """The people without one, or without some roles or keys (``SHA256:…``) of that one. Raises Refused."""
    person = next((one for one in people if one["name"] == name), None)
    if person is None:
        raise Refused(f"nobody in the roster is called {name}", f"there are {', '.join(one['name'] for one in people)}")
    if not roles and not fingerprints:
        return [dict(one) for one in people if one is not person]
    prints = {sshsig.public_key(line_of(key)).fingerprint: key for key in person["keys"]}
    if strange := [*(set(roles) - set(person["roles"])), *(set(fingerprints) - set(prints))]:
        raise Refused(f"{name} has no {sorted(strange)[0]}", f"engine roster shows what {name} has")
    kept_roles = [role for role in person["roles"] if role not in roles]
    kept_keys = [key for mark, key in prints.items() if mark not in fingerprints]
    if not kept_roles or not kept_keys:
        raise Refused(f"{name} would be left without a role or a key", f"engine roster remove {name}")
    changed = {**person, "roles": kept_roles, "keys": kept_keys}
    return [changed if one is person else dict(one) for one in people]


def line_of(key: Json) -> str:
    """The line of a key, which may have conditions beside it."""
    return str(key["key"]) if isinstance(key, dict) else str(key)


def _moment(at: float) -> str:
    return words.utc(at).replace(" ", "T")


def renewed(now: float, days: float) -> str:
    """`expires` for so many days from now."""
    return _moment(now + days * _DAY)


def text(data: Data) -> str:
    """The roster as it is written to roster.yml."""
    lines = [_HEAD]
    for name in _ORDER[:-1]:
        if name in data:
            lines.append(f"{name}: {_inline(data[name])}\n")
    lines.append("people:\n")
    for person in data["people"]:
        lines.append(f"  - name: {_inline(person['name'])}\n    roles: {_inline(person['roles'])}\n")
        if person.get("logins"):
            lines.append(f"    logins: {_inline(person['logins'])}\n")
        lines.append("    keys:\n")
        lines += [f"      - {_inline(key)}\n" for key in person["keys"]]
    return "".join(lines)


def _inline(value: Json) -> str:
    """A value on one line of YAML, quoted unless it can be nothing else than itself."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_inline(key)}: {_inline(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_inline(one) for one in value) + "]"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in ("true", "false", "null"):
        return value
    return json.dumps(value)


def differences(before: Data | None, after: Data) -> list[str]:
    """What a new version changes, one sentence each: what is shown to who signs it."""
    if before is None:
        return [f"it is the first version: {', '.join(one['name'] for one in after['people'])}"]
    found: list[str] = []
    old, new = ({one["name"]: one for one in data["people"]} for data in (before, after))
    for name in sorted({*old, *new}):
        found += _person(name, old.get(name), new.get(name))
    for name in ("thresholds", "least", "expires", "environment"):
        if before.get(name) != after.get(name):
            found.append(f"{name}: {_told(before.get(name))} -> {_told(after.get(name))}")
    return found or ["nothing but the number"]


def _person(name: str, old: Data | None, new: Data | None) -> Iterable[str]:
    if new is None:
        yield f"{name} is not in it any more"
        return
    if old is None:
        yield f"{name} is new, as {', '.join(new['roles'])}, with {words.plural(len(new['keys']), 'key')}"
    roles, keys = (old or {}).get("roles", []), (old or {}).get("keys", [])
    for role in [one for one in new["roles"] if one not in roles] if old else ():
        yield f"{name} gets the role {role}"
    yield from (f"{name} loses the role {role}" for role in roles if role not in new["roles"])
    yield from (f"{name} gets the key {_key(key)}" for key in new["keys"] if key not in keys)
    yield from (f"{name} loses the key {_key(key)}" for key in keys if key not in new["keys"])
    if old and old.get("logins") != new.get("logins"):
        yield f"{name} is known as {', '.join(new.get('logins', ())) or 'nothing else'}"


def _key(key: Json) -> str:
    conditions = {name: value for name, value in key.items() if name != "key"} if isinstance(key, dict) else {}
    more = f" ({', '.join(f'{name} {_told(value)}' for name, value in conditions.items())})" if conditions else ""
    return f"{sshsig.public_key(line_of(key)).fingerprint}{more}"


def _told(value: Json) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{inner} of {name}" for name, inner in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value)


def allowed_signers(people: roster.Roster) -> str:
    """The roster as ssh's and Git's `allowed_signers`: a line for each key, for Lastgood's namespaces alone.

    A convenience for looking at signatures elsewhere. ssh reads it more laxly than we read the roster.
    """
    lines = []
    for person in people.people:
        for key in person.keys:
            options = ['namespaces="lastgood-*"']
            options += [f'valid-after="{_ssh(key.since)}"'] if key.since != float("-inf") else []
            options += [f'valid-before="{_ssh(key.until)}"'] if key.until != float("inf") else []
            kind, blob = key.public.line.split()[:2]
            lines.append(f"{person.name} {','.join(options)} {kind} {blob}\n")
    return "".join(lines)


def _ssh(at: float) -> str:
    return re.sub(r"[-: Z]", "", words.utc(at)) + "Z"
