"""Who has to say yes, and whether they did: the roster's people, the statement that a key signs, and the verdict.

In: a roster, a rule, the question and the keys as the journal has them, and the time. Out: diagnostics, a statement to
sign, or a `Verdict` that is worked out anew from the journal alone, every signature verified again. It reads no clock,
asks nobody, starts nothing and writes nothing.

What a key is: the SSH signature (`sshsig`) over the canonical JSON of a statement that names run, plan digest, the
question's nonce, decision, person, role, requester, expiry, reason and the facts that were shown. So a key fits one
question about one plan and no other. An SSH key stands for one person, because the roster lists none twice.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import canon, source, sshsig
from engine import roster as form
from engine.diagnostics import Diagnostic, EngineError, Place, did_you_mean, printable
from engine.sshsig import PublicKey, Signer

Json = Any
#: What verifying, signing and looking for keys raise: `reason` in plain words, `hint` the one thing to do.
Refused = sshsig.Refused

TYPE = "urn:lastgood:key:1"
#: One namespace for each decision, so that no signature made for anything else, Git included, is ever a key.
NAMESPACES = {"approve": "lastgood-approve@1", "reject": "lastgood-reject@1"}
#: How many seconds the clock of who signs may be ahead of ours.
SKEW = 300.0
LONGEST_REASON = 1000

_TEXT, _NUMBER = (str,), (int, float)
_FIELDS: dict[str, tuple[type, ...]] = {
    "type": _TEXT,
    "decision": _TEXT,
    "run": _TEXT,
    "digest": _TEXT,
    "nonce": _TEXT,
    "person": _TEXT,
    "role": _TEXT,
    "requester": _TEXT,
    "reason": _TEXT,
    "at": _NUMBER,
    "expires": _NUMBER,
    "facts": (dict,),
}


@dataclass(frozen=True)
class Person:
    """One of the roster's people. `logins` are the names under which the person works on machines."""

    name: str
    roles: tuple[str, ...]
    keys: tuple[PublicKey, ...]
    logins: tuple[str, ...] = ()

    def is_called(self, who: str) -> bool:
        """Whether `who` asked for a run as this person: by name or login, ``login@machine`` too. Capitals do not matter."""
        names = {name.casefold() for name in (self.name, *self.logins)}
        return bool(names & {who.casefold(), who.casefold().partition("@")[0]})


@dataclass(frozen=True)
class Roster:
    """Who may approve: `people` as listed, `path` as the user wrote it, `digest` over the content."""

    people: tuple[Person, ...]
    path: str
    digest: str

    @property
    def roles(self) -> tuple[str, ...]:
        """Every role that somebody has, sorted."""
        return tuple(sorted({role for person in self.people for role in person.roles}))

    def person_by_key(self, fingerprint: str) -> Person | None:
        """Whose key has this fingerprint (``SHA256:…``)."""
        return next((person for person in self.people if any(key.fingerprint == fingerprint for key in person.keys)), None)

    def in_role(self, role: str) -> tuple[Person, ...]:
        """The people in `role`, as listed."""
        return tuple(person for person in self.people if role in person.roles)


def roster(document: source.Document) -> Roster:
    """The roster in `document`. Raises EngineError with every mistake in it (LG110)."""
    if mistakes := form.people_mistakes(document):
        raise EngineError(mistakes)
    people = [
        Person(
            entry["name"],
            tuple(entry["roles"]),
            tuple(sshsig.public_key(line) for line in entry["keys"]),
            tuple(entry.get("logins", ())),
        )
        for entry in document.data["people"]
    ]
    return Roster(tuple(people), document.path, canon.digest(document.data))


@dataclass(frozen=True)
class Rule:
    """What a playbook's `authority` asks for. `mode`: automatic, one-click or two-key; `expires`: seconds to answer in."""

    mode: str
    roles: tuple[str, ...] = ()
    expires: float = 3600.0

    @property
    def slots(self) -> tuple[tuple[str, ...], ...]:
        """For each key that is asked for, the roles that may give it. Two keys: one of each role, or two of the one."""
        if self.mode == "automatic":
            return ()
        if self.mode == "one-click":
            return (self.roles,)
        return tuple((role,) for role in (self.roles * 2 if len(self.roles) == 1 else self.roles))


def check_rule(
    rule: Rule, people: Roster | None, place: Callable[..., Place | None], requester: str = ""
) -> list[Diagnostic]:
    """What makes `rule` impossible to satisfy with this roster: LG201 to LG205.

    `place(*keys)` says where a part of the authority section stands; `place()` is the section. With a `requester`, that
    person is not counted for two keys.
    """
    if rule.mode == "automatic":
        return []
    if rule.mode == "two-key" and len(rule.roles) > 2:
        hint = "name one role for two of its people, or two for one of each"
        return [Diagnostic("LG205", "two keys are asked for, and more than two roles", place("roles"), hint=hint)]
    if people is None:
        detail = "A key counts when the roster says whose it is and what that person may approve."
        hint = "write roster.yml beside the inventory, or set `mode: automatic`"
        return [Diagnostic("LG204", "keys are asked for, but the inventory has no roster", place("mode"), detail, hint)]
    found = []
    for i, role in enumerate(rule.roles):
        if role not in people.roles:
            hint = did_you_mean(role, people.roles, f"roles in it: {', '.join(people.roles)}")
            found.append(
                Diagnostic("LG201", f"`{printable(role)}` is no role of {people.path}", place("roles", i), hint=hint)
            )
        elif not _able(rule, people, role, requester):
            detail = (
                f"Of {people.path}, only who asks for this run has it, and who asks for a run never counts for two keys."
            )
            hint = "give the role to somebody else too, or let somebody else ask"
            found.append(Diagnostic("LG203", f"nobody could give the key of `{role}`", place("roles", i), detail, hint))
    return found or _too_few(rule, people, place, requester)


def _able(rule: Rule, people: Roster, role: str, requester: str) -> tuple[Person, ...]:
    """Who could give a key as `role`."""
    return tuple(p for p in people.in_role(role) if rule.mode != "two-key" or not p.is_called(requester))


def _too_few(rule: Rule, people: Roster, place: Callable[..., Place | None], requester: str) -> list[Diagnostic]:
    """LG202 when each role has somebody and it is the same one person."""
    able = {person.name for role in rule.roles for person in _able(rule, people, role, requester)}
    if rule.mode != "two-key" or len(able) > 1:
        return []
    [name] = able
    held = {person.name for role in rule.roles for person in people.in_role(role)}
    which = "this role" if len(rule.roles) == 1 else "these roles"
    left = " besides who asks for this run" if held != able else ""
    detail = f"{people.path} names one person in {which}{left}: {name}. Two keys come from two different people."
    others = [role for role in people.roles if any(p.name != name for p in _able(rule, people, role, requester))]
    hint = (
        f"add a second role, for example [{rule.roles[0]}, {others[0]}]" if others else "list a second person in the roster"
    )
    context = (at, "asks for two different people") if (at := place("mode")) else None
    summary = "two keys are asked for, but only one person could give them"
    return [Diagnostic("LG202", summary, place("roles"), detail, f"{hint}; who asks for a run never counts", context)]


def question(
    rule: Rule, run: str, digest: str, requester: str, nonce: str, facts: Mapping[str, Json], at: float
) -> dict[str, Json]:
    """The body of ``key.asked``. `nonce`: 128 random bits in hex; `at`: now, in seconds since 1970, UTC."""
    return {
        "mode": rule.mode,
        "roles": list(rule.roles),
        "keys": len(rule.slots),
        "expires": at + rule.expires,
        "run": run,
        "digest": digest,
        "requester": requester,
        "nonce": nonce,
        "facts": dict(facts),
    }


def statement(
    decision: str,
    run: str,
    digest: str,
    person: str,
    role: str,
    nonce: str,
    requester: str,
    reason: str,
    expires: float,
    at: float,
    facts: Mapping[str, Json],
) -> dict[str, Json]:
    """What a key says; its signed bytes are the canonical JSON of this. Times in seconds since 1970, UTC.

    Raises ValueError for a decision other than approve and reject, and for a reason that is too long.
    """
    if decision not in NAMESPACES:
        raise ValueError(f"a key says approve or reject, not {decision!r}")
    reason = unicodedata.normalize("NFC", reason.strip())
    if len(reason) > LONGEST_REASON:
        raise ValueError(f"a reason has at most {LONGEST_REASON} letters; this one has {len(reason)}")
    return {
        "type": TYPE,
        "decision": decision,
        "run": run,
        "digest": digest,
        "nonce": nonce,
        "person": person,
        "role": role,
        "requester": requester,
        "reason": reason,
        "at": at,
        "expires": expires,
        "facts": dict(facts),
    }


def sign(said: Mapping[str, Json], signer: Signer) -> dict[str, Json]:
    """The body of ``key.given``. Raises Refused; may wait for a passphrase or a touch."""
    signature = signer.sign(canon.dumps(dict(said)), NAMESPACES[said["decision"]])
    return {
        "person": said["person"],
        "role": said["role"],
        "fingerprint": signer.key.fingerprint,
        "statement": dict(said),
        "signature": signature,
    }


def verify(said: Json, signature: Json, people: Roster) -> Person:
    """The person whose signature this is. Raises Refused in plain words.

    Whether the person may give the key, and for what, is for `judge`: this says that the statement is theirs.
    """
    if not isinstance(said, dict) or not isinstance(signature, str) or set(said) != set(_FIELDS) or said["type"] != TYPE:
        raise Refused("this is no key that Lastgood knows")
    if wrong := [name for name, kinds in _FIELDS.items() if type(said[name]) not in kinds]:
        raise Refused(f"the key's {wrong[0]} is not of the right kind")
    if said["decision"] not in NAMESPACES:
        raise Refused("the key says neither approve nor reject")
    try:
        message = canon.dumps(said)
    except ValueError:
        raise Refused("the key's statement has no canonical form") from None
    fingerprint = sshsig.verify(signature, message, NAMESPACES[said["decision"]]).fingerprint
    person = people.person_by_key(fingerprint)
    if person is None:
        raise Refused(f"its SSH key {fingerprint} is not in the roster")
    if person.name != said["person"]:
        raise Refused(f"it is signed with the SSH key of {person.name}, in the name of {printable(said['person'])}")
    return person


@dataclass(frozen=True)
class Verdict:
    """Where a question stands. `state`: waiting, approved, rejected or expired; only approved means go.

    `slots`: (role or roles, name of who gave that key or None); `not_counted`: (name, why), in the order given; `people`:
    who decided; `why`: one sentence.
    """

    state: str
    slots: tuple[tuple[str, str | None], ...]
    not_counted: tuple[tuple[str, str], ...]
    people: tuple[str, ...]
    why: str


def judge(
    rule: Rule,
    people: Roster,
    request: Mapping[str, Json],
    requester: str,
    keys: Sequence[Mapping[str, Json]],
    now: float,
) -> Verdict:
    """What the `keys` (bodies of ``key.given`` and ``key.refused``, in order) make of the question `request`, as of `now`.

    `request` is the body of the run's last ``key.asked``, `now` in seconds since 1970, UTC. To check a question that was
    settled, give the time and the keys of then. A rejection by one of the roles' people is final. Past the expiry the
    answer is never approved, whatever was given before.
    """
    given: list[str | None] = [None for _ in rule.slots]
    not_counted: list[tuple[str, str]] = []
    rejected: tuple[str, str] | None = None
    for body in keys:
        if "signature" not in body:  # refused when it was offered; it has its entry and is no key
            continue
        said: Json = body.get("statement")
        try:
            person = verify(said, body["signature"], people)
            _bound(said, request, requester, now)
            if reason := objection(rule, given, person, said["role"], said["decision"], requester):
                raise Refused(reason)
        except Refused as refused:
            not_counted.append((printable(str(body.get("person", "somebody"))), refused.reason))
            continue
        if said["decision"] == "approve":
            given[_open(rule, given, said["role"])] = person.name
        else:
            rejected = rejected or (person.name, said["reason"])
    slots = tuple((" or ".join(roles), name) for roles, name in zip(rule.slots, given, strict=True))
    counted = tuple(name for name in given if name is not None)
    state, who, why = _settled(rule, slots, counted, rejected, now >= _expiry(request) and bool(slots))
    return Verdict(state, slots, tuple(not_counted), who, why)


def _settled(
    rule: Rule,
    slots: tuple[tuple[str, str | None], ...],
    counted: tuple[str, ...],
    rejected: tuple[str, str] | None,
    late: bool,
) -> tuple[str, tuple[str, ...], str]:
    """State, who decided, one sentence."""
    if rule.mode not in ("automatic", "one-click", "two-key") or (rule.mode != "automatic" and not slots):
        return "waiting", (), "the rule names nobody who could give a key"
    if rejected:
        return "rejected", rejected[:1], f"rejected by {rejected[0]}" + (f": {rejected[1]}" if rejected[1] else "")
    if late:
        return "expired", counted, f"{len(counted)} of {len(slots)} keys were given in time, and the question is closed"
    if len(counted) < len(slots):
        roles = [role for role, name in slots if name is None]
        return "waiting", counted, f"key {len(counted) + 1} of {len(slots)} is to come, from {roles[0]}"
    if not slots:
        return "approved", (), "the playbook asks nobody"
    return "approved", counted, " and ".join(f"{name} as {role}" for role, name in slots)


def _expiry(request: Mapping[str, Json]) -> float:
    """When the question closes; a question that does not say is closed."""
    expires: Json = request.get("expires")
    return float(expires) if type(expires) in _NUMBER else float("-inf")


def _bound(said: Mapping[str, Json], request: Mapping[str, Json], requester: str, now: float) -> None:
    """Raises Refused unless the key answers this question about this plan, in time."""
    if said["run"] != request.get("run"):
        raise Refused("it is for another run")
    if said["digest"] != request.get("digest"):
        raise Refused("it is for another plan: the digest differs")
    if said["nonce"] != request.get("nonce"):
        raise Refused("it answers an earlier question of this run")
    if said["requester"] != requester:
        raise Refused("it names another requester")
    if said["expires"] != request.get("expires"):
        raise Refused("it names another expiry")
    if said["at"] >= said["expires"]:
        raise Refused("it was given after the question had expired")
    if said["at"] > now + SKEW:
        raise Refused("its time lies in the future: is the clock of who signed right?")


def objection(rule: Rule, given: Sequence[str | None], person: Person, role: str, decision: str, requester: str) -> str:
    """Why a key of `person` as `role` would not count, or nothing. `given`: for each of the rule's slots, who gave it.

    A rejection is open to everybody in the roles, the requester too: it can only stop the run.
    """
    if not set(rule.roles) & set(person.roles):
        return f"not in {' or '.join(rule.roles) or 'any role that is asked'}"
    if role not in rule.roles:
        return f"no key is asked of {printable(role)}"
    if role not in person.roles:
        return f"not in {role}"
    if decision == "reject":
        return ""
    if rule.mode == "two-key" and person.is_called(requester):
        return "who asks for the run cannot give a key"
    if person.name in given:
        return f"you already gave key {given.index(person.name) + 1}"
    if _open(rule, given, role) < 0:
        number = max(i for i, roles in enumerate(rule.slots) if role in roles)
        return f"key {number + 1} was already given by {given[number]}"
    return ""


def _open(rule: Rule, given: Sequence[str | None], role: str) -> int:
    """The first slot that `role` can still fill, or -1."""
    return next((i for i, roles in enumerate(rule.slots) if role in roles and given[i] is None), -1)


def role_for(rule: Rule, people: Roster, verdict: Verdict, person: Person, requester: str, decision: str = "approve") -> str:
    """The role as which `person` best gives a key now. Raises Refused with the reason when there is none.

    Of two open roles it is the one that fewer others could fill, so that nobody blocks the second key.
    """
    given = [name for _, name in verdict.slots]
    objections = {role: objection(rule, given, person, role, decision, requester) for role in rule.roles}
    possible = [role for role, reason in objections.items() if not reason]
    if not possible:
        mine = [reason for role, reason in objections.items() if role in person.roles]
        raise Refused((mine or list(objections.values()) or ["no key is asked for"])[0])
    return min(possible, key=lambda role: len(_able(rule, people, role, requester)))


def available(
    people: Roster, agent: str | None, files: Sequence[Path], passphrase: Callable[[str], str]
) -> list[tuple[Person, Signer]]:
    """The signing keys at hand that belong to somebody of the roster: those of `files` first, then the agent's.

    `agent` is the path of its socket (``SSH_AUTH_SOCK``) or None. Raises Refused for a file that cannot sign or whose key
    the roster does not know, and for an agent that does not answer when there is nothing else.
    """
    signers = [sshsig.key_file(path, passphrase) for path in files]
    for signer in signers:
        if people.person_by_key(signer.key.fingerprint) is None:
            reason = f"the key of {signer.source} ({signer.key.fingerprint}) is not in {people.path}"
            raise Refused(reason, "name another key file, or have the roster changed")
    if agent:
        try:
            signers += sshsig.agent(agent)
        except Refused:
            if not files:
                raise
    unique: dict[PublicKey, Signer] = {}
    for signer in signers:
        unique.setdefault(signer.key, signer)
    pairs = [(people.person_by_key(key.fingerprint), signer) for key, signer in unique.items()]
    return [(person, signer) for person, signer in pairs if person is not None]
