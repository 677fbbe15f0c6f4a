"""A person's word that a change may be made without a piece of evidence: signed, and held to when the gate is to open.

In: a run's entries, the roster that counts now, what the playbook asks. Out: the signed form of a waiver; or, of one that is
on record, why it does not count. A waiver is looked at again whenever it is used, as the keys of an approval are: who could
write the record could otherwise open the gate. What follows when one does not count is not decided here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine import envelope, seal
from engine.chain import Entry
from engine.diagnostics import printable
from engine.roster import Roster
from engine.sshsig import Refused, Signer

Json = Any
Place = tuple[str, str]

TYPE = "urn:lastgood:waiver:1"
#: How many seconds the clock of who signs may be off.
SKEW = 300.0
_FIELDS = {"run", "person", "because", "at", "steps"}


@dataclass(frozen=True)
class Waived:
    """A capture that was waived: the outcome that says so, the note with its proof (None: there is none), and the outcome
    before it, which was let pass."""

    outcome: Entry
    note: Entry | None
    before: Entry | None


def signed(
    run: str, plan: str, person: str, because: str, at: float, places: Sequence[Place], signer: Signer
) -> dict[str, Json]:
    """What goes on record with a waiver of these captures. `plan`: its digest; `at`: seconds since 1970. Raises Refused."""
    said = {"run": run, "person": person, "because": because, "at": at, "steps": [list(one) for one in places]}
    made = envelope.seal(envelope.statement(TYPE, {"plan": plan}, said), signer, seal.NAMESPACE)
    return {"fingerprint": signer.key.fingerprint, "envelope": made}


def waived(entries: Iterable[Entry]) -> dict[Place, Waived]:
    """The captures that are waived as the record has them last."""
    found: dict[Place, Waived] = {}
    last: dict[Place, Entry] = {}
    notes: dict[Place, Entry] = {}
    for entry in entries:
        place = entry.host, entry.step
        if entry.kind == "note" and "envelope" in entry.body:
            notes[place] = entry
        if entry.kind != "step.outcome" or not entry.step.startswith("forensics/"):
            continue
        if entry.body["outcome"] == "waived":
            found[place] = Waived(entry, notes.get(place), last.get(place))
        else:
            found.pop(place, None)
            last[place] = entry
    return found


def fault(one: Waived, people: Roster, roles: Collection[str], requester: str, plan: str, now: float) -> str:
    """Why this waiver does not count at `now`, in words; empty: it does. `roles`: those of the playbook, of which one is
    asked (any, if none); `plan`: the digest of the run's plan."""
    try:
        _held(one, people, roles, requester, plan, now)
    except Refused as refused:
        return refused.reason
    return ""


def _held(one: Waived, people: Roster, roles: Collection[str], requester: str, plan: str, now: float) -> None:
    if one.note is None or (one.before and one.note.seq < one.before.seq):
        raise Refused("nobody has signed it")
    read = envelope.read(one.note.body["envelope"], 1)
    said = _said(read.data, plan)
    [signature] = read.signers(seal.NAMESPACE)
    if said["run"] != one.outcome.run:
        raise Refused("it is for another run")
    if [one.outcome.host, one.outcome.step] not in said["steps"]:
        raise Refused("it is for another capture")
    if one.before and said["at"] + SKEW < one.before.at:
        raise Refused("it was signed before the capture failed")
    if said["at"] > now + SKEW:
        raise Refused("its time lies in the future")
    told = str(one.outcome.body["why"])
    if told != f"{said['person']}: {said['because']}" and "***" not in told:  # a secret in it was taken out
        raise Refused("its record says something else than was signed")
    _person(said["person"], signature, people, roles, requester, now)


def _said(data: Mapping[str, Json], plan: str) -> Mapping[str, Json]:
    """What a waiver of this plan says. Raises Refused for any other statement."""
    said = data.get("predicate")
    kinds = {"run": str, "person": str, "because": str, "at": int | float, "steps": list}
    if not isinstance(said, dict) or set(said) != _FIELDS or data.get("predicateType") != TYPE:
        raise Refused("what was signed is no waiver")
    if not all(isinstance(said[name], kind) for name, kind in kinds.items()):
        raise Refused("what was signed is no waiver")
    if data != envelope.statement(TYPE, {"plan": plan}, said):
        raise Refused("it is for another plan")
    return said


def _person(name: str, signature: Any, people: Roster, roles: Collection[str], requester: str, now: float) -> None:
    """Raises Refused unless it is the signature of `name`, who may say so by the roster."""
    person = people.person_by_key(signature.key.fingerprint)
    key = person.key(signature.key.fingerprint) if person else None
    if person is None or key is None:
        raise Refused(f"the SSH key of {printable(name, 60)} is not in the roster any more")
    if person.name != name:
        raise Refused(f"it is signed with the SSH key of {person.name}, in the name of {printable(name, 60)}")
    if why := key.fault(signature, now):
        raise Refused(why)
    if roles and not set(roles) & set(person.roles):
        raise Refused(f"{person.name} is not in {' or '.join(roles)}")
    if person.is_called(requester):
        raise Refused("who asks for the run cannot waive its evidence")
