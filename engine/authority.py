"""Who has to say yes, and whether they did: the rule of a playbook, and the verdict on the keys that were given.

In: a roster, a rule, the question and the keys as the journal has them, and the time. Out: diagnostics, or a `Verdict` that
is worked out anew from the journal alone, every signature verified again. It reads no clock, asks nobody, starts nothing and
writes nothing. What a key says and who signed it is read by `statement`.

Two keys are two people and two SSH keys. An SSH key stands for one person, because the roster lists none twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine import playbook, sshsig, statement
from engine.diagnostics import Diagnostic, Place, did_you_mean, printable
from engine.roster import Person, Roster
from engine.sshsig import PublicKey, Refused, Signer
from engine.statement import Binding, Said

Json = Any

#: How many seconds the clock of who signs may be ahead of ours.
SKEW = 300.0
#: Seconds for which a broken glass lets a run go on, and the longest time in which it has to be ratified.
GLASS, RATIFY = 1800.0, 86400.0

_NUMBER = (int, float)


@dataclass(frozen=True)
class Glass:
    """Who may go alone in an emergency: one person of `role`; a second key has to follow within `ratify` seconds."""

    role: str
    ratify: float = RATIFY


@dataclass(frozen=True)
class Rule:
    """What a playbook's `authority` asks for. `mode`: automatic, one-click or two-key; `expires`: seconds to answer in;
    `glass`: who may go alone, where the playbook names somebody."""

    mode: str
    roles: tuple[str, ...] = ()
    expires: float = 3600.0
    glass: Glass | None = None

    @property
    def slots(self) -> tuple[tuple[str, ...], ...]:
        """For each key that is asked for, the roles that may give it. Two keys: one of each role, or two of the one."""
        if self.mode == "automatic":
            return ()
        if self.mode == "one-click":
            return (self.roles,)
        return tuple((role,) for role in (self.roles * 2 if len(self.roles) == 1 else self.roles))


#: The modes of authority, the weakest first.
MODES = ("automatic", "one-click", "two-key")


def weaker(rule: Rule, people: Roster) -> str:
    """Why the rule asks for too little where this roster holds, or nothing."""
    if rule.mode not in MODES or MODES.index(rule.mode) >= MODES.index(people.least):
        return ""
    return f"the roster of `{people.environment}` asks for `{people.least}` at least, and the playbook for `{rule.mode}`"


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
    rule: Rule,
    run: str,
    digest: str,
    requester: str,
    nonce: str,
    facts: Mapping[str, Json],
    at: float,
    binding: Binding | None = None,
) -> dict[str, Json]:
    """The body of ``key.asked``. `nonce`: 128 random bits in hex; `at`: now, in seconds since 1970, UTC."""
    glass = {"role": rule.glass.role, "ratify_within": rule.glass.ratify} if rule.glass else None
    return {
        "format": statement.FORMAT,
        "mode": rule.mode,
        "roles": list(rule.roles),
        "keys": len(rule.slots),
        "not_before": at,
        "expires": at + min(rule.expires, statement.LONGEST),
        "run": run,
        "digest": digest,
        "requester": requester,
        "nonce": nonce,
        "facts": dict(facts),
        "break_glass": glass,
        **(binding or Binding()).body(),
    }


def rule_of(said: playbook.Authority) -> Rule:
    """The rule that a playbook's `authority` writes down."""
    glass: Json = said.break_glass
    return Rule(said.mode, said.roles, said.expires, Glass(glass["role"], glass["ratify_within"]) if glass else None)


def asked(request: Mapping[str, Json]) -> Rule:
    """The rule that the question in `request` was asked under."""
    glass: Json = request.get("break_glass")
    open_for = float(request["expires"]) - float(request["not_before"]) if "not_before" in request else 3600.0
    within = Glass(glass["role"], float(glass["ratify_within"])) if glass else None
    return Rule(request["mode"], tuple(request["roles"]), open_for, within)


@dataclass(frozen=True)
class Verdict:
    """Where a question stands. `state`: waiting, approved, rejected or expired; only approved means go.

    `slots`: (role or roles, name of who gave that key or None); `not_counted`: (name, why), in the order given; `people`:
    who decided; `why`: one sentence; `keys`: those that count (person, role, fingerprint, digest, when); `glass`: one person
    went alone; `overrides`: the freeze windows that all of them name.
    """

    state: str
    slots: tuple[tuple[str, str | None], ...]
    not_counted: tuple[tuple[str, str], ...]
    people: tuple[str, ...]
    why: str
    keys: tuple[Mapping[str, Json], ...] = ()
    glass: bool = False
    overrides: tuple[str, ...] = ()


@dataclass
class _Count:
    """The keys of a question as they come."""

    given: list[Said | None]
    rejected: Said | None = None
    broken: Said | None = None
    not_counted: list[tuple[str, str]] = field(default_factory=list)

    @property
    def names(self) -> list[str | None]:
        return [said.person.name if said else None for said in self.given]


def judge(
    rule: Rule,
    people: Roster,
    request: Mapping[str, Json],
    requester: str,
    keys: Sequence[Mapping[str, Json]],
    now: float,
    frozen: Collection[str] = (),
) -> Verdict:
    """What the `keys` (bodies of ``key.given`` and ``key.refused``, in order) make of the question `request`, as of `now`.

    `request` is the body of the run's last ``key.asked``, `now` in seconds since 1970, UTC; `frozen` are the windows in
    which nothing may change unless every key names them. To check a question that was settled, give the time and the keys of
    then. A rejection by one of the roles' people is final. Past the expiry the answer is never approved, whatever was given
    before.
    """
    count = _Count([None for _ in rule.slots])
    for body in keys:
        if "envelope" not in body and "signature" not in body:  # refused when it was offered; it has its entry and is no key
            continue
        try:
            _count(rule, people, request, requester, body, now, frozen, count)
        except Refused as refused:
            count.not_counted.append((printable(str(body.get("person", "somebody"))), refused.reason))
    slots = tuple((" or ".join(roles), name) for roles, name in zip(rule.slots, count.names, strict=True))
    late = now >= _expiry(request) and bool(slots)
    counted = [said for said in count.given if said]
    glass = bool(count.broken and not count.rejected and not late and len(counted) < len(slots))
    if glass and count.broken:
        counted, who = [count.broken], count.broken.person.name
        why = f"{who} as {count.broken['role']} alone, by breaking the glass: {count.broken['reason']}"
        state: tuple[str, tuple[str, ...], str] = ("approved", (who,), why)
    else:
        state = _settled(rule, slots, tuple(said.person.name for said in counted), count.rejected, late)
    used = tuple(
        {"person": said.person.name, "role": said["role"], "fingerprint": said.fingerprint, "digest": said.digest,
         "at": said["at"]}
        for said in counted
    )  # fmt: skip
    named = [set(said["freeze_override"]) for said in counted]
    overrides = tuple(sorted(set.intersection(*named))) if named else ()
    return Verdict(state[0], slots, tuple(count.not_counted), state[1], state[2], used, glass, overrides)


def _count(
    rule: Rule,
    people: Roster,
    request: Mapping[str, Json],
    requester: str,
    body: Mapping[str, Json],
    now: float,
    frozen: Collection[str],
    count: _Count,
) -> None:
    """Takes one key into the count. Raises Refused with why it does not count."""
    said = statement.verify(body, people, now)
    _bound(said, request, requester, now)
    decision, names = said["decision"], count.names
    if reason := objection(rule, names, said.person, said["role"], decision, requester):
        raise Refused(reason)
    if decision == "reject":
        count.rejected = count.rejected or said
        return
    if missing := sorted(set(frozen) - set(said["freeze_override"])):
        raise Refused(f"it does not name the freeze window `{printable(missing[0])}`")
    if decision == "break-glass":
        if now >= said["at"] + GLASS:
            raise Refused("the glass was broken more than 30 minutes ago")
        count.broken = count.broken or said
        return
    if any(other and other.fingerprint == said.fingerprint for other in count.given):
        raise Refused("its SSH key has given a key already")
    count.given[_open(rule, names, said["role"])] = said


def ratifier(
    rule: Rule,
    people: Roster,
    request: Mapping[str, Json],
    requester: str,
    body: Mapping[str, Json],
    alone: Mapping[str, Json],
    now: float,
) -> Said:
    """Who ratifies with the key in `body` what the key `alone` (person, fingerprint) let through. Raises Refused.

    It is another person with another SSH key, of a role that the question asks. When it is given decides nothing here.
    """
    said = statement.verify(body, people, now)
    _bound(said, request, requester, now)
    if said["decision"] != "ratify":
        raise Refused("it does not ratify anything")
    if said.person.name == alone["person"] or said.fingerprint == alone["fingerprint"]:
        raise Refused("who went alone cannot ratify it: a second person has to look")
    if reason := objection(rule, [None for _ in rule.slots], said.person, said["role"], "approve", requester):
        raise Refused(reason)
    return said


def _settled(
    rule: Rule,
    slots: tuple[tuple[str, str | None], ...],
    counted: tuple[str, ...],
    rejected: Said | None,
    late: bool,
) -> tuple[str, tuple[str, ...], str]:
    """State, who decided, one sentence."""
    if rule.mode not in ("automatic", "one-click", "two-key") or (rule.mode != "automatic" and not slots):
        return "waiting", (), "the rule names nobody who could give a key"
    if rejected:
        name, reason = rejected.person.name, rejected["reason"]
        return "rejected", (name,), f"rejected by {name}" + (f": {reason}" if reason else "")
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


def _bound(said: Said, request: Mapping[str, Json], requester: str, now: float) -> None:
    """Raises Refused unless the key answers this question about this plan, in time."""
    binding = statement.bound(request)
    if said.fields.get("first") and request.get("format"):
        raise Refused("it is a key of an earlier version, which only a question of that version takes")
    if said["run"] != request.get("run"):
        raise Refused("it is for another run")
    if said.subjects.get("plan") != request.get("digest"):
        raise Refused("it is for another plan: the digest differs")
    if {name: digest for name, digest in said.subjects.items() if name != "plan"} != binding.subjects:
        raise Refused("it is for other versions: their digests differ")
    if said["nonce"] != request.get("nonce"):
        raise Refused("it answers an earlier question of this run")
    if said["requester"] != requester:
        raise Refused("it names another requester")
    for name in ("environment", "inventory", "policy", "roster"):
        if said[name] != getattr(binding, name):
            raise Refused(f"it is for another {name}")
    if said["expires"] != request.get("expires"):
        raise Refused("it names another expiry")
    if said["not_before"] != request.get("not_before", 0) or now + SKEW < said["not_before"]:
        raise Refused("it does not count yet")
    if said["facts"] != request.get("facts") and not said.fields.get("first"):
        raise Refused("who signed it was shown other facts")
    if said["at"] >= said["expires"] and said["decision"] != "ratify":  # that comes when everything is over
        raise Refused("it was given after the question had expired")
    if said["at"] > now + SKEW:
        raise Refused("its time lies in the future: is the clock of who signs right?")


def objection(rule: Rule, given: Sequence[str | None], person: Person, role: str, decision: str, requester: str) -> str:
    """Why a key of `person` as `role` would not count, or nothing. `given`: for each of the rule's slots, who gave it.

    A rejection is open to everybody in the roles, the requester too: it can only stop the run. So is breaking the glass to
    who has its role: the one exception to two people is for the one who is there.
    """
    if decision == "break-glass":
        if rule.glass is None:
            return "the playbook lets nobody go alone"
        return "" if role == rule.glass.role and role in person.roles else f"not in {rule.glass.role}"
    if decision not in ("approve", "reject"):
        return "it is no answer to a question"
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
    roles = ((rule.glass.role if rule.glass else ""),) if decision == "break-glass" else rule.roles
    objections = {role: objection(rule, given, person, role, decision, requester) for role in roles}
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
