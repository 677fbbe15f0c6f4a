"""Who may approve what: a truth table, a table of replays, and laws over every order in which keys can come."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from signing import (
    BINDING,
    NOW,
    ROLES,
    RULES,
    asked,
    body,
    lines,
    no_passphrase,
    parsed,
    private_key,
    public_line,
    said,
    write_key,
)  # fmt: skip
from signing import written as listed

from engine import authority, diagnostics, source, sshsig, statement, words
from engine.authority import Refused, Rule, Verdict
from engine.roster import Roster
from engine.sshsig import Signer


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Signer]:
    """A signing key for each person, a second one for ana, and one for mallory, who is in no roster."""
    folder = tmp_path_factory.mktemp("keys")
    kinds = {name: private_key("ecdsa" if name == "bo" else "ed25519") for name in [*ROLES, "ana's other", "mallory"]}
    return {
        name: sshsig.key_file(write_key(folder / name.replace("'s ", "-"), key), no_passphrase)
        for name, key in kinds.items()
    }


def written(signers: Mapping[str, Signer], roles: Mapping[str, list[str]] = ROLES) -> str:
    return listed(lines(signers), roles)


@pytest.fixture(scope="module")
def people(signers: dict[str, Signer]) -> Roster:
    return parsed(written(signers))


# --- the truth table

RISK, ONCALL = "fraud-risk", "ml-oncall"
NOT_TWICE = "you already gave key 1"
NOT_REQUESTER = "who asks for the run cannot give a key"
NOT_IN = "not in ml-oncall or fraud-risk"
UNKNOWN = "is not in the roster"

Given = tuple[str, str, str]
ANA, ANA_2, BO, DEE = (("ana", ONCALL), ("ana's other", ONCALL), ("bo", RISK), ("dee", ONCALL))
CY_1, CY_2, EVE, MALLORY = (("cy", ONCALL), ("cy", RISK), ("eve", "finance"), ("mallory", ONCALL))


def yes(*who: tuple[str, str]) -> list[Given]:
    return [(name, role, "approve") for name, role in who]


def no(*who: tuple[str, str]) -> list[Given]:
    return [(name, role, "reject") for name, role in who]


def alone(*who: tuple[str, str]) -> list[Given]:
    return [(name, role, "break-glass") for name, role in who]


# rule, requester, keys, seconds after the question -> state, who gave which slot, why the others do not count
TABLE: list[tuple[str, str, list[Given], float, str, list[str | None], list[str]]] = [
    # automatic asks nobody, and nobody can stop it with a key
    ("auto", "zoe", [], 60, "approved", [], []),
    ("auto", "zoe", [], 9999, "approved", [], []),
    ("auto", "zoe", no(ANA), 60, "approved", [], ["not in any role that is asked"]),
    # one-click: any one person of the roles, the requester too
    ("one", "zoe", [], 60, "waiting", [None], []),
    ("one", "zoe", yes(ANA), 60, "approved", ["ana"], []),
    ("one", "zoe", yes(BO), 60, "approved", ["bo"], []),
    ("one", "zoe", yes(CY_2), 60, "approved", ["cy"], []),
    ("one", "ana", yes(ANA), 60, "approved", ["ana"], []),
    ("one", "zoe", yes(ANA, BO), 60, "approved", ["ana"], ["key 1 was already given by ana"]),
    ("one", "zoe", yes(EVE), 60, "waiting", [None], [NOT_IN]),
    ("one", "zoe", yes(("eve", ONCALL)), 60, "waiting", [None], [NOT_IN]),
    ("one", "zoe", yes(("ana", RISK)), 60, "waiting", [None], ["not in fraud-risk"]),
    ("one", "zoe", yes(("cy", "finance")), 60, "waiting", [None], ["no key is asked of finance"]),
    ("one", "zoe", yes(MALLORY), 60, "waiting", [None], [UNKNOWN]),
    ("one", "zoe", no(BO), 60, "rejected", [None], []),
    ("one", "zoe", no(EVE), 60, "waiting", [None], [NOT_IN]),
    ("one", "zoe", yes(ANA), 1799.9, "approved", ["ana"], []),
    ("one", "zoe", yes(ANA), 1800, "expired", ["ana"], []),
    ("one", "zoe", [], 1800, "expired", [None], []),
    # two-key with two roles: one of each, two people
    ("two", "zoe", [], 60, "waiting", [None, None], []),
    ("two", "zoe", yes(ANA), 60, "waiting", ["ana", None], []),
    ("two", "zoe", yes(BO), 60, "waiting", [None, "bo"], []),
    ("two", "zoe", yes(ANA, BO), 60, "approved", ["ana", "bo"], []),
    ("two", "zoe", yes(BO, ANA), 60, "approved", ["ana", "bo"], []),
    ("two", "zoe", yes(CY_2, ANA), 60, "approved", ["ana", "cy"], []),
    ("two", "zoe", yes(CY_1, CY_2), 60, "waiting", ["cy", None], [NOT_TWICE]),
    ("two", "zoe", yes(ANA, ANA), 60, "waiting", ["ana", None], [NOT_TWICE]),
    ("two", "zoe", yes(ANA, ANA_2), 60, "waiting", ["ana", None], [NOT_TWICE]),
    ("two", "zoe", yes(BO, BO), 60, "waiting", [None, "bo"], ["you already gave key 2"]),
    ("two", "zoe", yes(ANA, ("ana", RISK)), 60, "waiting", ["ana", None], ["not in fraud-risk"]),
    ("two", "zoe", yes(ANA, DEE), 60, "waiting", ["ana", None], ["key 1 was already given by ana"]),
    ("two", "zoe", yes(ANA, BO, CY_2), 60, "approved", ["ana", "bo"], ["key 2 was already given by bo"]),
    ("two", "zoe", yes(EVE, BO), 60, "waiting", [None, "bo"], [NOT_IN]),
    ("two", "zoe", yes(MALLORY, BO), 60, "waiting", [None, "bo"], [UNKNOWN]),
    # the requester gives neither of two keys, by whatever name
    ("two", "ana", yes(ANA, BO), 60, "waiting", [None, "bo"], [NOT_REQUESTER]),
    ("two", "ANA", yes(ANA), 60, "waiting", [None, None], [NOT_REQUESTER]),
    ("two", "ana-at-work", yes(ANA), 60, "waiting", [None, None], [NOT_REQUESTER]),
    ("two", "ana-at-work@laptop", yes(ANA_2), 60, "waiting", [None, None], [NOT_REQUESTER]),
    ("two", "bo", yes(ANA, BO), 60, "waiting", ["ana", None], [NOT_REQUESTER]),
    ("two", "ana", yes(DEE, BO), 60, "approved", ["dee", "bo"], []),
    ("two", "anabel", yes(ANA, BO), 60, "approved", ["ana", "bo"], []),
    # a rejection is final, whoever of the roles gives it and whatever comes before or after
    ("two", "zoe", no(BO), 60, "rejected", [None, None], []),
    ("two", "zoe", yes(ANA) + no(BO), 60, "rejected", ["ana", None], []),
    ("two", "zoe", yes(ANA) + no(ANA), 60, "rejected", ["ana", None], []),
    ("two", "zoe", no(CY_2) + yes(ANA, BO), 60, "rejected", ["ana", "bo"], []),
    ("two", "zoe", yes(ANA, BO) + no(DEE), 60, "rejected", ["ana", "bo"], []),
    ("two", "bo", no(BO), 60, "rejected", [None, None], []),
    ("two", "zoe", no(BO), 9999, "rejected", [None, None], []),
    ("two", "zoe", no(EVE), 60, "waiting", [None, None], [NOT_IN]),
    ("two", "zoe", no(MALLORY), 60, "waiting", [None, None], [UNKNOWN]),
    # expiry never means go
    ("two", "zoe", [], 1800, "expired", [None, None], []),
    ("two", "zoe", yes(ANA), 1800, "expired", ["ana", None], []),
    ("two", "zoe", yes(ANA, BO), 1800, "expired", ["ana", "bo"], []),
    # two-key with one role: two people of it
    ("same", "zoe", yes(ANA), 60, "waiting", ["ana", None], []),
    ("same", "zoe", yes(ANA, DEE), 60, "approved", ["ana", "dee"], []),
    ("same", "zoe", yes(ANA, ANA_2), 60, "waiting", ["ana", None], [NOT_TWICE]),
    ("same", "zoe", yes(ANA, BO), 60, "waiting", ["ana", None], ["not in ml-oncall"]),
    ("same", "zoe", yes(ANA, DEE, CY_1), 60, "approved", ["ana", "dee"], ["key 2 was already given by dee"]),
    ("same", "ana", yes(ANA, DEE), 60, "waiting", ["dee", None], [NOT_REQUESTER]),
    # break-glass: one person of its role, alone, where the playbook names the role; the requester too
    ("glass", "zoe", alone(EVE), 60, "approved", [None, None], []),
    ("glass", "eve", alone(EVE), 60, "approved", [None, None], []),
    ("glass", "eve-at-work", alone(EVE), 60, "approved", [None, None], []),
    ("glass", "zoe", alone(ANA), 60, "waiting", [None, None], ["not in finance"]),
    ("glass", "zoe", alone(("ana", "finance")), 60, "waiting", [None, None], ["not in finance"]),
    ("glass", "zoe", alone(("eve", ONCALL)), 60, "waiting", [None, None], ["not in finance"]),
    ("glass", "zoe", alone(("mallory", "finance")), 60, "waiting", [None, None], [UNKNOWN]),
    ("glass", "zoe", alone(EVE) + no(BO), 60, "rejected", [None, None], []),
    ("glass", "zoe", no(BO) + alone(EVE), 60, "rejected", [None, None], []),
    ("glass", "zoe", alone(EVE), 60 + 1799, "approved", [None, None], []),
    ("glass", "zoe", alone(EVE), 60 + 1800, "waiting", [None, None], ["more than 30 minutes ago"]),
    ("glass", "zoe", alone(EVE), 3600, "expired", [None, None], ["more than 30 minutes ago"]),
    ("glass", "zoe", yes(ANA, BO), 60, "approved", ["ana", "bo"], []),
    ("glass", "zoe", yes(EVE), 60, "waiting", [None, None], [NOT_IN]),
    ("two", "zoe", alone(EVE), 60, "waiting", [None, None], ["lets nobody go alone"]),
    ("two", "zoe", alone(ANA), 60, "waiting", [None, None], ["lets nobody go alone"]),
    ("one", "zoe", alone(ANA), 60, "waiting", [None], ["lets nobody go alone"]),
    # ratifying is no answer to a question
    ("glass", "zoe", [("ana", ONCALL, "ratify")], 60, "waiting", [None, None], ["no answer to a question"]),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0]}-{row[1]}-{len(row[2])}-{row[4]}")
def test_truth_table(row: Any, signers: dict[str, Signer], people: Roster) -> None:
    """Who may approve what, row by row: the state, the slots, and why a key does not count."""
    name, requester, given_keys, later, state, slots, reasons = row
    rule = RULES[name]
    keys = [body(signers, rule, who, role, decision, requester=requester) for who, role, decision in given_keys]
    verdict = authority.judge(rule, people, asked(rule), requester, keys, NOW + later)
    assert state == verdict.state
    assert slots == [person for _, person in verdict.slots]
    assert len(reasons) == len(verdict.not_counted)
    for reason, (_, why) in zip(reasons, verdict.not_counted, strict=True):
        assert reason in why


def test_the_table_has_every_state() -> None:
    """The table holds at least thirty rows and each state of each mode that asks."""
    assert len(TABLE) >= 30
    for name in ("one", "two", "same"):
        wanted = {"waiting", "approved"} if name == "same" else {"waiting", "approved", "rejected", "expired"}
        assert wanted <= {row[4] for row in TABLE if row[0] == name}


def test_the_verdict_says_who_and_what_is_missing(signers: dict[str, Signer], people: Roster) -> None:
    """A verdict names its slots by role, who decided, and one sentence that a screen can show."""
    rule, ana = RULES["two"], body(signers, RULES["two"], "ana", ONCALL, "approve")
    verdict = authority.judge(rule, people, asked(rule), "zoe", [ana], NOW + 60)
    assert ((ONCALL, "ana"), (RISK, None)) == verdict.slots
    assert verdict.why == "key 2 of 2 is to come, from fraud-risk"
    both = authority.judge(rule, people, asked(rule), "zoe", [ana, body(signers, rule, "bo", RISK, "approve")], NOW + 60)
    assert ("ana", "bo") == both.people
    assert both.why == "ana as ml-oncall and bo as fraud-risk"
    no = body(signers, rule, "cy", RISK, "reject", reason="the alert is wrong")
    rejected = authority.judge(rule, people, asked(rule), "zoe", [ana, no], NOW + 60)
    assert (("cy",), "rejected by cy: the alert is wrong") == (rejected.people, rejected.why)
    late = authority.judge(rule, people, asked(rule), "zoe", [ana], NOW + 1800)
    assert late.why == "1 of 2 keys were given in time, and the question is closed"


def test_entries_of_refused_keys_are_passed_over(signers: dict[str, Signer], people: Roster) -> None:
    """What the journal keeps of a key that was refused when it was offered is no key."""
    rule = RULES["one"]
    verdict = authority.judge(rule, people, asked(rule), "zoe", [{"person": "eve", "why": "not in ml-oncall"}], NOW)
    assert ("waiting", ()) == (verdict.state, verdict.not_counted)


@pytest.mark.parametrize("rule", [Rule("none"), Rule("two-key"), Rule("one-click"), Rule("Automatic", (ONCALL,))], ids=str)
def test_a_rule_that_is_none_never_approves(rule: Rule, signers: dict[str, Signer], people: Roster) -> None:
    """A mode that is not known, or roles that name nobody, wait for ever: nothing falls open."""
    keys = [body(signers, rule, who, role, "approve") for who, role in [("ana", ONCALL), ("bo", RISK), ("dee", ONCALL)]]
    assert authority.judge(rule, people, asked(rule), "zoe", keys, NOW + 60).state == "waiting"


def test_a_question_without_expiry_is_closed(signers: dict[str, Signer], people: Roster) -> None:
    """A question that does not say until when it is open is closed."""
    rule = RULES["one"]
    request = {**asked(rule), "expires": None}
    keys = [body(signers, rule, "ana", ONCALL, "approve")]
    assert authority.judge(rule, people, request, "zoe", keys, NOW).state == "expired"


# --- replays: a good key in another place

REPLAYS: list[tuple[str, dict[str, Any], str]] = [
    ("as it was given", {}, ""),
    ("another run", {"run": "RB-0143"}, "for another run"),
    ("another plan", {"digest": "sha256:" + "00" * 32}, "another plan"),
    ("no digest", {"digest": None}, "another plan"),
    ("another question", {"nonce": "f" * 32}, "an earlier question"),
    ("no nonce", {"nonce": None}, "an earlier question"),
    ("another requester", {"requester": "yan"}, "another requester"),
    ("a longer expiry", {"expires": NOW + 9000}, "another expiry"),
    ("after the expiry", {"now": NOW + 1800}, "expired"),
    ("long after the expiry", {"now": NOW + 86400}, "expired"),
    ("before it was signed, clocks a little apart", {"now": NOW + 60 - 300}, ""),
    ("before it was signed, clocks far apart", {"now": NOW + 60 - 301}, "in the future"),
    ("after a rejection", {"rejected": True}, "rejected"),
    ("person no longer in the roster", {"roles": {name: ROLES[name] for name in ("bo", "cy")}}, "not in the roster"),
    ("person no longer in the role", {"roles": {**ROLES, "ana": ["finance"]}}, "not in ml-oncall or fraud-risk"),
    ("another environment", {"environment": "staging"}, "another environment"),
    ("no environment", {"environment": ""}, "another environment"),
    ("another inventory", {"inventory": "sha256:" + "00" * 32}, "another inventory"),
    ("another policy", {"policy": "sha256:" + "00" * 32}, "another policy"),
    ("another roster", {"roster": {"version": 4, "digest": "sha256:" + "44" * 32}}, "another roster"),
    ("the roster before", {"roster": {"version": 2, "digest": "sha256:" + "33" * 32}}, "another roster"),
    ("another version to go back to", {"subjects": {"to": "sha256:" + "45" * 32}}, "other versions"),
    ("a version more", {"subjects": {**BINDING.subjects, "from": "sha256:" + "47" * 32}}, "other versions"),
    ("no versions", {"subjects": {}}, "other versions"),
    ("other facts", {"facts": {"model": "fraud", "from": "47", "to": "45"}}, "other facts"),
    ("a later beginning", {"not_before": NOW + 1}, "does not count yet"),
    ("long before the question", {"now": NOW - 301}, "does not count yet"),
    ("an SSH key that has lapsed", {"line": "{{key: {}, until: {}}}", "time": NOW + 61}, "has lapsed"),
    ("an SSH key about to lapse", {"line": "{{key: {}, until: {}}}", "time": NOW + 62}, ""),
    ("an SSH key that does not count yet", {"line": "{{key: {}, from: {}}}", "time": NOW + 62}, "does not count yet"),
    ("an SSH key that just counts", {"line": "{{key: {}, from: {}}}", "time": NOW + 61}, ""),
    ("another mode with other roles", {"rule": Rule("one-click", ("finance",), 1800.0)}, "not in finance"),
]


@pytest.mark.parametrize(("_", "changed", "reason"), REPLAYS, ids=[row[0] for row in REPLAYS])
def test_replays(_: str, changed: dict[str, Any], reason: str, signers: dict[str, Signer], people: Roster) -> None:
    """A key that was good for one question is good for no other run, plan, question, requester, time or roster."""
    rule = RULES["one"]
    key = body(signers, rule, "ana", ONCALL, "approve")
    keys = [body(signers, rule, "bo", RISK, "reject"), key] if changed.get("rejected") else [key]
    request = asked(rule) | {name: value for name, value in changed.items() if name in asked(rule) and name != "requester"}
    roster = parsed(written(signers, changed["roles"])) if "roles" in changed else people
    if "line" in changed:
        line = changed["line"].format(f'"{signers["ana"].key.line}"', f'"{words.utc(changed["time"]).replace(" ", "T")}"')
        roster = parsed(listed({**lines(signers), "ana": line}))
    judged = authority.judge(
        changed.get("rule", rule), roster, request,
        changed.get("requester", "zoe"), keys, changed.get("now", NOW + 61),
    )  # fmt: skip
    if not reason:
        assert judged.state == "approved"
    elif reason in ("expired", "rejected"):
        assert reason == judged.state
    else:
        assert judged.state == "waiting"
        assert reason in judged.not_counted[0][1]


def test_a_key_signed_after_the_expiry_does_not_count(signers: dict[str, Signer], people: Roster) -> None:
    """A key that says itself that it came too late does not count, whatever the time of judging."""
    rule = RULES["one"]
    for late in (1800.0, 1801.0):
        key = body(signers, rule, "ana", ONCALL, "approve", at=NOW + late)
        verdict = authority.judge(rule, people, asked(rule), "zoe", [key], NOW + 1700)
        assert "after the question had expired" in verdict.not_counted[0][1]
    rejection = body(signers, rule, "ana", ONCALL, "reject", at=NOW + 1800)
    assert authority.judge(rule, people, asked(rule), "zoe", [rejection], NOW + 1900).state == "expired"


# --- laws


# --- a broken glass and a freeze


def test_a_broken_glass_is_told_from_two_keys(signers: dict[str, Signer], people: Roster) -> None:
    """The verdict says that one person went alone, who and why; with both keys there the glass is whole again."""
    rule = RULES["glass"]
    broken = body(signers, rule, "eve", "finance", "break-glass", reason="nobody answers")
    verdict = authority.judge(rule, people, asked(rule), "zoe", [broken], NOW + 60)
    assert (True, ("eve",)) == (verdict.glass, verdict.people)
    assert verdict.why == "eve as finance alone, by breaking the glass: nobody answers"
    keys = [broken, *(body(signers, rule, *one, "approve") for one in (ANA, BO))]
    both = authority.judge(rule, people, asked(rule), "zoe", keys, NOW + 60)
    assert (False, ("ana", "bo")) == (both.glass, both.people)
    assert 2 == len(both.keys) == len({key["digest"] for key in both.keys})


# windows that are open, windows that each key names -> why the first key does not count
FREEZES: list[tuple[list[str], list[tuple[str, ...]], str]] = [
    ([], [(), ()], ""),
    ([], [("year-end",), ()], ""),
    (["year-end"], [("year-end",), ("year-end",)], ""),
    (["year-end"], [("year-end", "audit"), ("year-end",)], ""),
    (["year-end"], [(), ("year-end",)], "does not name the freeze window `year-end`"),
    (["year-end"], [("year-ende",), ("year-end",)], "does not name the freeze window `year-end`"),
    (["year-end", "audit"], [("year-end",), ("year-end", "audit")], "does not name the freeze window `audit`"),
]


@pytest.mark.parametrize(("open_now", "named", "why"), FREEZES)
def test_in_a_freeze_every_key_names_the_window(
    open_now: list[str], named: list[tuple[str, ...]], why: str, signers: dict[str, Signer], people: Roster
) -> None:
    """While a window is open a key counts only when it names it; a no needs to name nothing."""
    rule = RULES["two"]
    keys = [body(signers, rule, *who, "approve", freeze_override=names) for who, names in zip((ANA, BO), named, strict=True)]
    verdict = authority.judge(rule, people, asked(rule), "zoe", keys, NOW + 60, open_now)
    assert ("waiting" if why else "approved") == verdict.state
    assert not why or why in verdict.not_counted[0][1]
    no = body(signers, rule, *BO, "reject")
    assert authority.judge(rule, people, asked(rule), "zoe", [no], NOW + 60, open_now).state == "rejected"


@dataclass
class Made:
    """Keys by (who, role, decision, requester), signed once: signing is what these tests spend their time on."""

    signers: dict[str, Signer]
    keys: dict[Any, dict[str, Any]]

    def get(self, rule: str, who: str, role: str, decision: str, requester: str) -> dict[str, Any]:
        at = (rule, who, role, decision, requester)
        if at not in self.keys:
            self.keys[at] = body(self.signers, RULES[rule], who, role, decision, requester=requester)
        return self.keys[at]


@pytest.fixture(scope="module")
def made(signers: dict[str, Signer]) -> Made:
    return Made(signers, {})


events = st.lists(
    st.tuples(
        st.sampled_from([*ROLES, "ana's other", "mallory"]),
        st.sampled_from([ONCALL, RISK, "finance"]),
        st.sampled_from(["approve", "approve", "approve", "reject"]),
    ),
    max_size=6,
)


@given(st.sampled_from(["one", "two", "same"]), st.sampled_from(["zoe", "ana", "cy-at-work"]), events, st.booleans())
def test_laws_of_a_verdict(
    made: Made, people: Roster, name: str, requester: str, sequence: list[tuple[str, str, str]], late: bool
) -> None:
    """Approved means: in time, nobody of the roles said no, each slot has its own person, of that role, who did not ask."""
    rule = RULES[name]
    keys = [made.get(name, *event, requester) for event in sequence]
    verdict = authority.judge(rule, people, asked(rule), requester, keys, NOW + (1800 if late else 100))
    names = [person for _, person in verdict.slots if person]
    assert len(names) == len(set(names))
    for (roles, person), allowed in zip(verdict.slots, rule.slots, strict=True):
        assert " or ".join(allowed) == roles
        assert person is None or set(ROLES[person]) & set(allowed)
    if rule.mode == "two-key":
        assert requester.removesuffix("-at-work") not in names
    said_no = any(
        decision == "reject" and role in rule.roles and role in ROLES.get(who.partition("'")[0], []) and who != "mallory"
        for who, role, decision in sequence
    )
    assert said_no == (verdict.state == "rejected")
    assert (verdict.state == "approved") == (not said_no and not late and len(names) == len(rule.slots))
    assert (verdict.state == "expired") == (late and not said_no)


@given(events)
def test_more_keys_never_undo_an_approval_unless_they_reject(
    made: Made, people: Roster, sequence: list[tuple[str, str, str]]
) -> None:
    """A key that is given can be neither taken nor replaced by another; only a rejection changes the answer."""
    rule = RULES["two"]
    before: Verdict | None = None
    for count in range(len(sequence) + 1):
        keys = [made.get("two", *event, "zoe") for event in sequence[:count]]
        verdict = authority.judge(rule, people, asked(rule), "zoe", keys, NOW + 100)
        if before is not None:
            assert all(old in (None, new) for (_, old), (_, new) in zip(before.slots, verdict.slots, strict=True))
            assert before.state != "rejected" or verdict.state == "rejected"
        before = verdict


# --- giving a key


@pytest.mark.parametrize(
    ("rule", "requester", "given_by", "person", "expected"),
    [
        ("one", "zoe", [], "ana", ONCALL),
        ("one", "zoe", [], "bo", RISK),
        ("two", "zoe", [], "ana", ONCALL),
        ("two", "zoe", [], "cy", RISK),
        ("two", "bo", [], "cy", RISK),
        ("two", "zoe", [("bo", RISK)], "cy", ONCALL),
        ("two", "zoe", [("ana", ONCALL)], "cy", RISK),
        ("same", "zoe", [("ana", ONCALL)], "dee", ONCALL),
        ("two", "zoe", [("ana", ONCALL)], "ana", NOT_TWICE),
        ("two", "zoe", [("ana", ONCALL)], "dee", "key 1 was already given by ana"),
        ("two", "ana", [], "ana", NOT_REQUESTER),
        ("two", "zoe", [], "eve", "not in ml-oncall or fraud-risk"),
        ("auto", "zoe", [], "ana", "no key is asked for"),
    ],
)
def test_the_role_as_which_a_person_gives_a_key(
    rule: str, requester: str, given_by: list[tuple[str, str]], person: str, expected: str, made: Made, people: Roster
) -> None:
    """A person gives the key that fewer others could give, and is told beforehand why a key would not count."""
    keys = [made.get(rule, who, role, "approve", requester) for who, role in given_by]
    verdict = authority.judge(RULES[rule], people, asked(RULES[rule]), requester, keys, NOW + 60)
    who = next(one for one in people.people if one.name == person)
    if expected in (ONCALL, RISK):
        assert expected == authority.role_for(RULES[rule], people, verdict, who, requester)
    else:
        with pytest.raises(Refused, match=expected):
            authority.role_for(RULES[rule], people, verdict, who, requester)


def test_the_requester_may_say_no(made: Made, people: Roster) -> None:
    """Who asks for a run cannot approve it, and can stop it."""
    verdict = authority.judge(RULES["two"], people, asked(RULES["two"]), "ana", [], NOW + 60)
    ana = people.people[0]
    assert ONCALL == authority.role_for(RULES["two"], people, verdict, ana, "ana", "reject")


def test_keys_at_hand(signers: dict[str, Signer], people: Roster) -> None:
    """A key file is matched with its person; one that the roster does not know is refused by its fingerprint."""
    files = [Path(signers[name].source) for name in ("bo", "ana's other")]
    found = authority.available(people, None, files, no_passphrase)
    assert ["bo", "ana"] == [person.name for person, _ in found]
    assert [signers["bo"].key, signers["ana's other"].key] == [signer.key for _, signer in found]
    with pytest.raises(Refused, match=r"SHA256:\S+\) is not in inventories/production/roster.yml"):
        authority.available(people, None, [Path(signers["mallory"].source)], no_passphrase)
    assert [] == authority.available(people, None, [], no_passphrase)


def test_an_agent_that_is_gone_matters_only_without_a_file(
    signers: dict[str, Signer], people: Roster, tmp_path: Path
) -> None:
    """A stale SSH_AUTH_SOCK does not keep a named file from signing, and is said when it was the only hope."""
    gone = str(tmp_path / "gone")
    assert len(authority.available(people, gone, [Path(signers["bo"].source)], no_passphrase)) == 1
    with pytest.raises(Refused, match="does not answer"):
        authority.available(people, gone, [], no_passphrase)


@pytest.fixture
def agent_socket(tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "agent")
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()  # it prints its address once it listens
        yield path
    finally:
        process.terminate()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.real
@pytest.mark.skipif(not shutil.which("ssh-agent"), reason="ssh-agent is not installed (openssh-client)")
def test_two_keys_through_a_real_agent(agent_socket: str, signers: dict[str, Signer], people: Roster) -> None:
    """Two people's keys in a real agent approve a run; a stranger's key in it is not offered, and a file comes first."""
    for name in ("ana", "bo", "mallory"):
        add = ["ssh-add", "-q", signers[name].source]
        subprocess.run(add, env={**os.environ, "SSH_AUTH_SOCK": agent_socket}, capture_output=True, check=True)
    found = authority.available(people, agent_socket, [Path(signers["bo"].source)], no_passphrase)
    assert [("bo", signers["bo"].source), ("ana", "ssh-agent")] == [(person.name, signer.source) for person, signer in found]
    found = authority.available(people, agent_socket, [], no_passphrase)
    assert ["ana", "bo"] == [person.name for person, _ in found]
    rule = RULES["two"]
    keys = [statement.sign(said(rule, p.name, role), s) for (p, s), role in zip(found, (ONCALL, RISK), strict=True)]
    assert authority.judge(rule, people, asked(rule), "zoe", keys, NOW + 60).state == "approved"


# --- the roster


def test_the_roster_knows_its_people(signers: dict[str, Signer], people: Roster) -> None:
    """People are found by key and by role; the digest is that of the content, not of its layout."""
    assert people.person_by_key(signers["ana's other"].key.fingerprint) == people.people[0]
    assert people.person_by_key(signers["mallory"].key.fingerprint) is None
    assert ["ana", "cy", "dee"] == [person.name for person in people.in_role(ONCALL)]
    assert ("finance", RISK, ONCALL) == people.roles
    assert people.digest == parsed("# who may approve\n" + written(signers)).digest
    assert people.digest != parsed(written(signers, {**ROLES, "eve": [RISK]})).digest


def test_a_roster_that_is_none_is_refused(signers: dict[str, Signer]) -> None:
    """A roster of the wrong form, with a key that cannot sign, or with one key of two people, is refused at its place."""
    fay = "  - name: fay\n    roles: [finance]\n    keys: [{}]\n"
    strong = public_line(rsa.generate_private_key(65537, 3072))
    texts = [
        "people: []",
        "people: {ana: {}}",
        written(signers) + fay.format(strong),
        written(signers) + fay.format(signers["ana"].key.line),
        written(signers) + fay.format("ssh-ed25519 AAAA"),
    ]
    for text in texts:
        with pytest.raises(diagnostics.EngineError) as caught:
            parsed(text)
        [found] = caught.value.diagnostics
        assert found.place is not None
        assert found.place.line == (text.count("\n") if "fay" in text else 1)


# --- rules that cannot be satisfied


def section(rule: Rule) -> source.Document:
    roles = f"  roles: [{', '.join(rule.roles)}]\n" if rule.roles else ""
    return source.parse(f"authority:\n  mode: {rule.mode}\n{roles}", "playbooks/fraud.yml")


def mistakes(rule: Rule, people: Roster | None, requester: str = "") -> list[diagnostics.Diagnostic]:
    document = section(rule)
    return authority.check_rule(rule, people, lambda *keys: document.place(("authority", *keys)), requester)


LEAD = {**ROLES, "gus": ["lead", "lead-2"]}

# rule, requester -> code, words of the summary, words of the hint
RULE_TABLE: list[tuple[Rule, str, str, str, str]] = [
    (RULES["auto"], "", "", "", ""),
    (RULES["one"], "ana", "", "", ""),
    (RULES["two"], "zoe", "", "", ""),
    (RULES["same"], "", "", "", ""),
    (RULES["same"], "ana", "", "", ""),
    (Rule("one-click", ("lead",)), "gus", "", "", ""),
    (Rule("one-click", ("ml-oncal",)), "", "LG201", "`ml-oncal` is no role", "did you mean `ml-oncall`?"),
    (Rule("one-click", ("ML-Oncall",)), "", "LG201", "`ML-Oncall` is no role", "did you mean `ml-oncall`?"),
    (
        Rule("one-click", ("pilots",)),
        "",
        "LG201",
        "`pilots` is no role",
        "roles in it: finance, fraud-risk, lead, lead-2, ml-oncall",
    ),
    (
        Rule("two-key", ("lead",)),
        "",
        "LG202",
        "only one person could give them",
        "[lead, finance]; who asks for a run never counts",
    ),
    (Rule("two-key", ("lead", "lead-2")), "", "LG202", "only one person", "for example [lead, finance]"),
    (Rule("two-key", ("fraud-risk",)), "bo", "LG202", "only one person", "for example [fraud-risk, finance]"),
    (Rule("two-key", ("lead", "fraud-risk")), "gus", "LG203", "nobody could give the key of `lead`", "somebody else"),
    (
        Rule("two-key", ("finance", "ml-oncall")),
        "eve-at-work",
        "LG203",
        "nobody could give the key of `finance`",
        "somebody else",
    ),
    (Rule("two-key", ("ml-oncall", "fraud-risk", "lead")), "", "LG205", "more than two roles", "two for one of each"),
]


@pytest.mark.parametrize(("rule", "requester", "code", "summary", "hint"), RULE_TABLE)
def test_rules_that_cannot_be_satisfied(
    rule: Rule, requester: str, code: str, summary: str, hint: str, signers: dict[str, Signer]
) -> None:
    """A rule that nobody could satisfy is found before the run, with its code, its place and what to do."""
    found = mistakes(rule, parsed(written({**signers, "gus": signers["mallory"]}, LEAD)), requester)
    assert [code] * bool(code) == [one.code for one in found]
    for one in found:
        assert summary in one.summary
        assert hint in one.hint
        assert one.place is not None
        assert one.place.line == 3


def test_keys_without_a_roster() -> None:
    """Keys that nobody could check are a mistake of the inventory; automatic needs no roster."""
    [found] = mistakes(RULES["two"], None)
    assert ("LG204", 2) == (found.code, found.place and found.place.line)
    assert [] == mistakes(RULES["auto"], None)


def test_every_role_is_looked_at(people: Roster) -> None:
    """Both roles are named when both are wrong."""
    assert ["LG201", "LG201"] == [one.code for one in mistakes(Rule("two-key", ("a", "b")), people)]


def test_one_person_for_two_keys_is_shown_with_both_places(signers: dict[str, Signer]) -> None:
    """The message shows the roles, the mode that asks for two, who there is, and the remedy."""
    people = parsed(written(signers, {"ana": ["fraud-lead"], "bo": ["ml-oncall"]}))
    text = diagnostics.render(mistakes(Rule("two-key", ("fraud-lead",)), people))
    assert text == (
        "error[LG202]: two keys are asked for, but only one person could give them\n"
        "  --> playbooks/fraud.yml:3:10\n"
        "2 |   mode: two-key\n"
        "  |         ------- asks for two different people\n"
        "3 |   roles: [fraud-lead]\n"
        "  |          ^\n"
        "  = inventories/production/roster.yml names one person in this role: ana. "
        "Two keys come from two different people.\n"
        "  = help: add a second role, for example [fraud-lead, ml-oncall]; who asks for a run never counts"
    ), text


@given(
    st.dictionaries(st.sampled_from(list(ROLES)), st.sets(st.sampled_from([ONCALL, RISK]), min_size=1), min_size=1),
    st.sampled_from(["one", "two", "same"]),
    st.sampled_from(["zoe", "ana"]),
)
def test_a_rule_without_mistakes_can_be_satisfied(made: Made, roles: dict[str, set[str]], name: str, requester: str) -> None:
    """`check_rule` is right: where it says nothing some two people can approve, and where it speaks nobody can."""
    rule = RULES[name]
    people = parsed(written(made.signers, {who: sorted(their) for who, their in roles.items()}))
    could = False
    for first in roles:
        for second in roles:
            pairs = [(first, rule.slots[0][0]), (second, rule.slots[-1][-1])]
            keys = [made.get(name, who, role, "approve", requester) for who, role in pairs]
            verdict = authority.judge(rule, people, asked(rule), requester, keys, NOW + 60)
            could = could or verdict.state == "approved"
    unknown = name == "one" and not {ONCALL, RISK} <= set(people.roles)
    assert (mistakes(rule, people, requester) == []) == (could and not unknown)


# --- the pages of the diagnostics

PAGES = Path(__file__).parents[2] / "schemas" / "diagnostics.d" / "authority.yml"


def example(files: Mapping[str, str], requester: str) -> list[str]:
    """The codes that the files of an example give."""
    book = source.parse(files["playbooks/fraud.yml"], "playbooks/fraud.yml")
    listed = files.get("inventories/production/roster.yml")
    data = book.data["authority"]
    rule = Rule(data["mode"], tuple(data["roles"]))
    found = authority.check_rule(
        rule, parsed(listed) if listed else None, lambda *keys: book.place(("authority", *keys)), requester
    )
    return [one.code for one in found]


@pytest.mark.parametrize("code", [f"LG20{i}" for i in range(1, 6)])
def test_the_page_of_each_code_has_true_examples(code: str) -> None:
    """Each code's bad example gives that code, its good example gives none."""
    page = source.load(PAGES).data[code]
    assert {"title", "exit", "why", "bad", "good"} == set(page)
    assert page["exit"] == 3
    requester = "ana" if code == "LG203" else ""
    assert [code] == example(page["bad"], requester)
    assert [] == example(page["good"], requester)


def test_a_key_of_another_kind_is_not_equal(signers: dict[str, Signer]) -> None:
    """A person is found by the whole key: the same comment, or a cut key, is another."""
    key = signers["ana"].key
    assert key == replace(key, comment="other")
    assert key != replace(key, blob=key.blob[:-1])
