"""A waiver of evidence is held to its signature whenever it opens a gate: forged, edited or revoked ones open nothing."""

from __future__ import annotations

import base64
import copy
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from stage import PEOPLE, TWO_KEYS, Stage, step

from engine import envelope, roster, seal, source, sshsig, statement, waiver

LOGS = {"name": "Keep the logs", "id": "keep", "logs.capture": {"file": "no-such.log", "as": "a.log"}}
Body = dict[str, Any]


@dataclass
class Case:
    """A run whose capture failed, and what a good waiver of it by ben put on record."""

    stage: Stage
    note: Body
    outcome: Body
    copy: Path

    def people(self, **roles: Any) -> None:
        """Writes the roster anew: name=role, or the whole of a person's entry; None: not in it any more."""
        listed = []
        for name, role in {**PEOPLE, **roles}.items():
            entry = {"name": name, "roles": [role], "keys": [(self.stage.folder / f"{name}.pub").read_text().strip()]}
            listed += [] if role is None else [{**entry, **role} if isinstance(role, dict) else entry]
        (self.stage.stock / "roster.yml").write_text(json.dumps({"people": listed}))

    def signed(self, by: Any, namespace: str = seal.NAMESPACE, plan: str = "", **said: Any) -> Body:
        """The note with a statement that says something else, signed by whom."""
        data = self.said
        data["predicate"] |= said
        if plan:
            data["subject"][0]["digest"]["sha256"] = plan
        return {**self.note, "envelope": envelope.seal(data, by, namespace)}

    @property
    def said(self) -> Body:
        """What ben signed."""
        return copy.deepcopy(envelope.read(self.note["envelope"]).data)

    def key(self, name: str) -> Any:
        return sshsig.key_file(self.stage.folder / name, lambda _: "")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("waiver")
    stage = Stage(folder, {"forensics": [LOGS], "execution": [step("weight", {"x": 1})], "authority": TWO_KEYS}).people()
    assert 1 == stage.run("--no-wait").exit
    sshsig.generate(folder / "mallory", "mallory")
    sshsig.generate(folder / "eve", "eve")
    shutil.copytree(stage.state, folder / "copy")
    said = stage.engine("waive", "RB-0001", "keep", "--because", "the disk is gone", "--key", str(folder / "ben"))
    assert 0 == said.exit, said.err
    return Case(stage, stage.bodies("note")[-1], stage.last("keep"), folder / "copy")


def again(case: Case, note: Body | None, outcome: Body, place: str = "forensics/keep") -> str:
    """The run as it failed, with this note and this outcome put into its record, and resumed."""
    stage = case.stage
    shutil.rmtree(stage.state)
    shutil.copytree(case.copy, stage.state)
    with stage.store() as store:
        if note is not None:
            store.append("RB-0001", "note", note, "a", place)
        store.append("RB-0001", "step.outcome", outcome, "a", "forensics/keep")
    said = stage.resume("--no-wait")
    assert [] == stage.effects()
    return f"{said.exit} {stage.last('keep')['outcome']} {stage.last('keep')['why']}"


GOOD = "5 waived ben: the disk is gone"


def test_a_good_waiver_opens_the_gate(case: Case) -> None:
    """Signed by somebody of the roles, it lets the run go on to its keys; the capture stays waived on record."""
    case.people()
    assert GOOD == again(case, case.note, case.outcome)


TRIES: dict[str, tuple[Callable[[Case], tuple[Body | None, Body]], str]] = {
    "nobody signed it": (lambda c: (None, c.outcome), "nobody has signed it"),
    "a note without a signature": (
        lambda c: ({k: v for k, v in c.note.items() if k != "envelope"}, c.outcome), "nobody has signed it",
    ),
    "no envelope": (lambda c: ({**c.note, "envelope": {}}, c.outcome), "this is no signed statement"),
    "another reason on record": (
        lambda c: (c.note, {**c.outcome, "why": "ben: it is fine"}), "says something else than was signed",
    ),
    "another person on record": (
        lambda c: (c.note, {**c.outcome, "why": "ana: the disk is gone"}), "says something else than was signed",
    ),
    "another statement under the signature": (
        lambda c: (
            {**c.note, "envelope": {
                **c.signed(c.key("ben"), because="x")["envelope"], "signatures": c.note["envelope"]["signatures"]}},
            {**c.outcome, "why": "ben: x"},
        ),
        "signature",
    ),
    "a stranger in ben's name": (lambda c: (c.signed(c.key("mallory")), c.outcome), "is not in the roster any more"),
    "ana in ben's name": (lambda c: (c.signed(c.key("ana")), c.outcome), "with the SSH key of ana, in the name of ben"),
    "another run's": (lambda c: (c.signed(c.key("ben"), run="RB-0002"), c.outcome), "it is for another run"),
    "another plan's": (lambda c: (c.signed(c.key("ben"), plan="00" * 32), c.outcome), "it is for another plan"),
    "another capture's": (
        lambda c: (c.signed(c.key("ben"), steps=[["a", "forensics/other"]]), c.outcome), "it is for another capture",
    ),
    "another host's": (lambda c: (c.signed(c.key("ben"), steps=[["b", "forensics/keep"]]), c.outcome), "another capture"),
    "of before the failure": (
        lambda c: (c.signed(c.key("ben"), at=time.time() - 86400), c.outcome), "it was signed before the capture failed",
    ),
    "of tomorrow": (lambda c: (c.signed(c.key("ben"), at=time.time() + 86400), c.outcome), "its time lies in the future"),
    "a time that is none": (lambda c: (c.signed(c.key("ben"), at="now"), c.outcome), "is no waiver"),
    "more than a waiver": (lambda c: (c.signed(c.key("ben"), more=1), c.outcome), "is no waiver"),
    "in another namespace": (
        lambda c: (c.signed(c.key("ben"), statement.NAMESPACES["approve"]), c.outcome), "signature",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRIES)
def test_a_forged_waiver_opens_nothing(case: Case, name: str) -> None:
    """Whatever was put into the record, the capture has failed on record, with the reason, and nothing is changed."""
    make, words = TRIES[name]
    case.people()
    found = again(case, *make(case))
    assert found.startswith("1 failed its waiver does not count: "), found
    assert words in found, found


@pytest.mark.parametrize(
    ("ben", "words"),
    [
        (None, "the SSH key of ben is not in the roster any more"),
        ("finance", "ben is not in ml-oncall or fraud-risk"),
        ({"logins": ["eve"]}, "who asks for the run cannot waive its evidence"),
        ("lapsed", "its SSH key has lapsed"),
        ("another", "the SSH key of ben is not in the roster any more"),
    ],
)
def test_a_revoked_waiver_opens_nothing(case: Case, ben: Any, words: str) -> None:
    """The roster that is in force when the gate opens decides, not that of when it was signed."""
    line = (case.stage.folder / "ben.pub").read_text().strip()
    other = (case.stage.folder / "mallory.pub").read_text().strip()
    changed = {"lapsed": {"keys": [{"key": line, "until": "2026-01-01"}]}, "another": {"keys": [other]}}
    entry = changed.get(ben, ben) if isinstance(ben, str) else ben
    if isinstance(entry, dict):
        entry = {"roles": [PEOPLE["ben"]], **entry}
    case.people(ben=entry)
    found = again(case, case.note, case.outcome)
    assert found.startswith("1 failed its waiver does not count: "), found
    assert words in found, found


def test_without_a_roster_no_waiver_counts(case: Case) -> None:
    """Who may still waive nobody can tell, so the gate stays shut; with the roster back it opens."""
    case.people()
    (case.stage.stock / "roster.yml").unlink()
    assert "3 waived ben: the disk is gone" == again(case, case.note, case.outcome)
    assert "gate.opened" not in {entry.kind for entry in case.stage.entries()}
    case.people()
    assert GOOD == again(case, case.note, case.outcome)


def test_a_capture_that_fails_again_needs_another_waiver(case: Case) -> None:
    """A waiver lets pass the failure before it, and no later one."""
    case.people()
    again(case, case.note, case.outcome)
    with case.stage.store() as store:
        failed = {**case.outcome, "outcome": "failed", "why": "no such file"}
        store.append("RB-0001", "step.outcome", failed, "a", "forensics/keep")
        store.append("RB-0001", "step.outcome", case.outcome, "a", "forensics/keep")
    case.stage.resume("--no-wait")
    assert "its waiver does not count: nobody has signed it" == case.stage.last("keep")["why"]


def test_where_nobody_is_asked_a_waiver_needs_no_key(tmp_path: Path) -> None:
    """A playbook that asks for no keys takes a person's word, as it takes everybody's run."""
    stage = Stage(tmp_path, {"forensics": [LOGS], "execution": [step("weight", {"x": 1})]})
    assert 1 == stage.run().exit
    assert 0 == stage.engine("waive", "RB-0001", "keep", "--because", "gone").exit
    assert 0 == stage.resume().exit
    assert ['a/weight {"x": 1}'] == stage.effects()


def test_every_flipped_bit_of_a_waiver_is_refused(case: Case) -> None:
    """No bit of its signature can be changed."""
    case.people()
    people = roster.read(source.load(case.stage.stock / "roster.yml"))
    again(case, case.note, case.outcome)
    entries = case.stage.entries()
    [one] = waiver.waived(entries).values()
    plan, now = entries[0].body["digest"], time.time()
    assert one.note is not None
    assert "" == waiver.fault(one, people, (), "eve", plan, now)
    blob = bytearray(envelope.read(case.note["envelope"]).signatures[0][1])
    for bit in range(8 * len(blob)):
        bent = bytearray(blob)
        bent[bit // 8] ^= 1 << bit % 8
        body = copy.deepcopy(case.note)
        body["envelope"]["signatures"][0]["sig"] = base64.b64encode(bytes(bent)).decode()
        assert waiver.fault(replace(one, note=replace(one.note, text=json.dumps(body))), people, (), "eve", plan, now)
