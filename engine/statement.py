"""What a key says: one statement about one question, what it is bound to, and the signed form of it.

In: a question (the body of ``key.asked``), a person's decision, a signer. Out: the body of ``key.given``; or, of such a
body, the person and what was signed, or `Refused` in plain words. It reads no clock and no file. Whether a key may be given,
and what the keys together come to, is for `authority`.

A key is a DSSE envelope with an in-toto statement. Everything that a person was shown is in the signed bytes, and everything
that the question was bound to: so a key fits one question about one plan in one environment, and no other.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine import canon, envelope, sshsig
from engine.diagnostics import printable
from engine.roster import Person, Roster
from engine.sshsig import Refused, Signer

Json = Any

TYPE = "urn:lastgood:key:2"
#: The form of the questions that are asked now. One without it was asked by an earlier version.
FORMAT = 2
#: One namespace for each thing that is ever signed, so that no signature made for anything else, Git included, counts here.
NAMESPACES = {
    "approve": "lastgood-approve@1", "reject": "lastgood-reject@1", "break-glass": "lastgood-break-glass@1",
    "ratify": "lastgood-ratify@1", "roster": "lastgood-roster@1", "evidence": "lastgood-evidence@1",
}  # fmt: skip
#: What a key can say.
DECISIONS = ("approve", "reject", "break-glass", "ratify")
LONGEST_REASON, LONGEST_TICKET = 1000, 200
#: Seconds for which a question may stay open.
LONGEST = 8 * 3600.0

_TEXT, _NUMBER = (str,), (int, float)
FIELDS: dict[str, tuple[type, ...]] = {
    "decision": _TEXT, "environment": _TEXT, "inventory": _TEXT, "run": _TEXT, "nonce": _TEXT, "person": _TEXT,
    "role": _TEXT, "requester": _TEXT, "reason": _TEXT, "ticket": _TEXT, "policy": _TEXT, "roster": (dict,), "at": _NUMBER,
    "not_before": _NUMBER, "expires": _NUMBER, "break_glass": (bool,), "freeze_override": (list,), "facts": (dict,),
}  # fmt: skip
_FIRST_TYPE = "urn:lastgood:key:1"
_FIRST_FIELDS = {
    "type": _TEXT, "decision": _TEXT, "run": _TEXT, "digest": _TEXT, "nonce": _TEXT, "person": _TEXT, "role": _TEXT,
    "requester": _TEXT, "reason": _TEXT, "at": _NUMBER, "expires": _NUMBER, "facts": (dict,),
}  # fmt: skip


@dataclass(frozen=True)
class Binding:
    """What a question is bound to besides its run and plan; a change of any of it asks anew.

    `environment` and the digest of its hosts, the digest of the `policy` (who must agree, when nothing may change), the
    roster's version and digest, and `subjects`: the digests of the versions, ``from`` and ``to``, where they are known.
    """

    environment: str = ""
    inventory: str = ""
    policy: str = ""
    roster: Mapping[str, Json] = field(default_factory=lambda: {"version": 0, "digest": ""})
    subjects: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Json]:
        """As it stands in a question."""
        return {
            "environment": self.environment, "inventory": self.inventory, "policy": self.policy,
            "roster": dict(self.roster), "subjects": dict(self.subjects),
        }  # fmt: skip


def bound(request: Mapping[str, Json]) -> Binding:
    """The binding of a question; that of an earlier version was bound to less."""
    empty = Binding()
    return Binding(*(request.get(name, getattr(empty, name)) for name in empty.body()))


def make(
    request: Mapping[str, Json],
    decision: str,
    person: str,
    role: str,
    reason: str,
    at: float,
    ticket: str = "",
    freeze_override: Sequence[str] = (),
) -> dict[str, Json]:
    """The statement that answers the question `request`. `at`: now, in seconds since 1970, UTC.

    Raises ValueError for a decision that is none, a reason or ticket that is too long, a break-glass without a reason.
    """
    if decision not in DECISIONS:
        raise ValueError(f"a key says {', '.join(DECISIONS[:-1])} or {DECISIONS[-1]}, not {decision!r}")
    reason, ticket = (unicodedata.normalize("NFC", text.strip()) for text in (reason, ticket))
    for name, text, most in (("reason", reason, LONGEST_REASON), ("ticket", ticket, LONGEST_TICKET)):
        if len(text) > most:
            raise ValueError(f"a {name} has at most {most} letters; this one has {len(text)}")
    if decision == "break-glass" and not reason:
        raise ValueError("breaking the glass needs a reason")
    binding = bound(request)
    said = {
        **{name: request[name] for name in ("run", "nonce", "requester", "expires", "facts")},
        **{name: getattr(binding, name) for name in ("environment", "inventory", "policy", "roster")},
        "decision": decision, "person": person, "role": role, "reason": reason, "ticket": ticket, "at": at,
        "not_before": request.get("not_before", 0), "break_glass": decision == "break-glass",
        "freeze_override": list(freeze_override),
    }  # fmt: skip
    return envelope.statement(TYPE, {"plan": request["digest"], **binding.subjects}, said)


def sign(statement: Mapping[str, Json], signer: Signer) -> dict[str, Json]:
    """The body of ``key.given``. Raises Refused; may wait for a passphrase or a touch.

    `statement` in it is for readers of the record: a key counts only when it is what the envelope holds.
    """
    said = statement["predicate"]
    return {
        "person": said["person"],
        "role": said["role"],
        "fingerprint": signer.key.fingerprint,
        "statement": dict(said),
        "envelope": envelope.seal(statement, signer, NAMESPACES[said["decision"]]),
    }


@dataclass(frozen=True)
class Said:
    """What a key says, after its signature was found good: the `person` whose it is, and what was signed."""

    person: Person
    fingerprint: str
    digest: str
    subjects: Mapping[str, str]
    fields: Mapping[str, Json]

    def __getitem__(self, name: str) -> Json:
        return self.fields[name]


def verify(body: Mapping[str, Json], people: Roster, now: float) -> Said:
    """Whose key the ``key.given`` in `body` is, and what it says. Raises Refused in plain words.

    `now`: by the engine's clock, never by the caller's word. Whether the person may give the key, and for what, is for
    `authority`: this says that the statement is theirs.
    """
    if "envelope" not in body:
        return _first(body, people, now)
    signed = envelope.read(body["envelope"], most=1)
    statement = signed.data
    if set(statement) != {"_type", "subject", "predicateType", "predicate"} or statement["_type"] != envelope.STATEMENT:
        raise Refused("this is no statement that Lastgood knows")
    if statement["predicateType"] != TYPE:
        raise Refused(f"it is a statement about something else: {printable(str(statement['predicateType']))}")
    said, subjects = _fields(statement["predicate"], FIELDS), _subjects(statement["subject"])
    if said["decision"] not in DECISIONS:
        raise Refused("the key says nothing that a key can say")
    if said["break_glass"] != (said["decision"] == "break-glass"):
        raise Refused("the key contradicts itself: it breaks the glass, or it does not")
    if canon.normal(body.get("statement")) != said:
        raise Refused("what the record shows of it is not what was signed")
    [signature] = signed.signers(NAMESPACES[said["decision"]])
    return _owned(said, signature, people, now, signed.digest, subjects)


def _fields(said: Json, known: Mapping[str, tuple[type, ...]]) -> dict[str, Json]:
    if not isinstance(said, dict) or set(said) != set(known):
        raise Refused("this is no key that Lastgood knows")
    if wrong := [name for name, kinds in known.items() if type(said[name]) not in kinds]:
        raise Refused(f"the key's {wrong[0]} is not of the right kind")
    if not all(isinstance(name, str) for name in said.get("freeze_override", ())):
        raise Refused("the key's freeze_override is not of the right kind")
    return said


def _subjects(listed: Json) -> dict[str, str]:
    """name -> ``sha256:<hex>``. Raises Refused for another shape, and for two of one name."""
    found: dict[str, str] = {}
    for one in listed if isinstance(listed, list) else ():
        digest = one.get("digest") if isinstance(one, dict) and set(one) == {"name", "digest"} else None
        if (
            not isinstance(digest, dict)
            or set(digest) != {"sha256"}
            or not isinstance(one["name"], str)
            or one["name"] in found
        ):
            break
        found[one["name"]] = f"sha256:{digest['sha256']}"
    if not found or len(found) != len(listed):
        raise Refused("the statement does not say clearly what it is about")
    return found


def _owned(
    said: dict[str, Json], signature: sshsig.Signature, people: Roster, now: float, digest: str, subjects: dict[str, str]
) -> Said:
    """The statement with the person whose key signed it. Raises Refused."""
    fingerprint = signature.key.fingerprint
    person = people.person_by_key(fingerprint)
    key = person.key(fingerprint) if person else None
    if person is None or key is None:
        raise Refused(f"its SSH key {fingerprint} is not in the roster")
    if person.name != said["person"]:
        raise Refused(f"it is signed with the SSH key of {person.name}, in the name of {printable(said['person'])}")
    if why := key.fault(signature, now):
        raise Refused(why)
    return Said(person, fingerprint, digest, subjects, said)


def _first(body: Mapping[str, Json], people: Roster, now: float) -> Said:
    """A key of the first form, which earlier versions wrote: the signature stood over the canonical JSON itself.

    Only a question of an earlier version takes it. What that form did not say is filled in as empty.
    """
    said, signature = _fields(body.get("statement"), _FIRST_FIELDS), body.get("signature")
    if said["type"] != _FIRST_TYPE or said["decision"] not in ("approve", "reject") or not isinstance(signature, str):
        raise Refused("this is no key that Lastgood knows")
    try:
        message = canon.dumps(said)
    except ValueError:
        raise Refused("the key's statement has no canonical form") from None
    found = sshsig.verify_blob(sshsig.unarmour(signature), message, NAMESPACES[said["decision"]])
    fields = {
        **Binding().body(), "ticket": "", "not_before": 0, "break_glass": False, "freeze_override": [], **said,
        "first": True,
    }  # fmt: skip
    subjects = {"plan": fields.pop("digest")}
    return _owned(fields, found, people, now, canon.text_digest(message), subjects)
