"""What a key says: not one bit, field or purpose of it can be changed, and a security key shows what the roster demands."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from signing import BINDING, DIGEST, NONCE, NOW, RULES, Token, asked, body, lines, parsed, said, soft, string, written

from engine import authority, canon, envelope, statement
from engine.roster import Roster
from engine.sshsig import Refused, Signer

ONCALL, RISK = "ml-oncall", "fraud-risk"
SIGNERS: dict[str, Signer] = {
    "ana": soft("ed25519"), "bo": soft("ecdsa"), "cy": Token("ed25519").signer(), "dee": Token("ecdsa").signer(),
    "mallory": soft(),
}  # fmt: skip
PEOPLE: Roster = parsed(written(lines({name: signer for name, signer in SIGNERS.items() if name != "mallory"}), {
    "ana": [ONCALL], "bo": [RISK], "cy": [ONCALL, RISK], "dee": [ONCALL],
}))  # fmt: skip
ROLE = {"ana": ONCALL, "bo": RISK, "cy": RISK, "dee": ONCALL}


def key(who: str = "ana", decision: str = "approve", **changed: Any) -> dict[str, Any]:
    return body(SIGNERS, RULES["two"], who, ROLE[who], decision, **changed)


def sealed(changed: dict[str, Any] | None = None, who: str = "ana", **top: Any) -> dict[str, Any]:
    """A key whose good signature stands over a statement with other fields in it."""
    made = said(RULES["two"], who, ROLE[who])
    made = {**made, "predicate": {**made["predicate"], **(changed or {})}, **top}
    namespace = statement.NAMESPACES.get(str(made["predicate"].get("decision")), "lastgood-approve@1")
    return {"statement": made["predicate"], "envelope": envelope.seal(made, SIGNERS[who], namespace)}


def test_a_statement_says_what_was_asked() -> None:
    """An in-toto statement about plan and versions that says what the question was bound to, and what the person said."""
    made = said(RULES["two"], "ana", ONCALL, reason="  cafe\u0301 ")
    assert "https://in-toto.io/Statement/v1" == made["_type"]
    assert "urn:lastgood:key:2" == made["predicateType"]
    assert [
        {"name": "plan", "digest": {"sha256": "7f" * 32}}, {"name": "to", "digest": {"sha256": "46" * 32}},
    ] == made["subject"]  # fmt: skip
    assert {
        "decision": "approve", "environment": "production", "inventory": BINDING.inventory, "run": "RB-0142", "nonce": NONCE,
        "person": "ana", "role": ONCALL, "requester": "zoe", "reason": "café", "ticket": "INC-7", "policy": BINDING.policy,
        "roster": {"version": 3, "digest": "sha256:" + "33" * 32}, "at": NOW + 60, "not_before": NOW,
        "expires": NOW + 1800, "break_glass": False, "freeze_override": [],
        "facts": {"model": "fraud", "from": "47", "to": "46"},
    } == made["predicate"]  # fmt: skip
    assert set(statement.FIELDS) == set(made["predicate"])
    assert made == canon.loads(canon.dumps(made))


def test_what_nobody_should_sign_is_not_made() -> None:
    """A reason or ticket without end, a decision that is none, and a broken glass without a reason are refused."""
    for changed, words in [
        ({"reason": "x" * 1001}, "at most 1000 letters"),
        ({"decision": "maybe"}, "approve, reject, break-glass or ratify"),
        ({"decision": "break-glass", "reason": " "}, "needs a reason"),
    ]:
        with pytest.raises(ValueError, match=words):
            said(RULES["two"], "ana", ONCALL, **changed)
    with pytest.raises(ValueError, match="at most 200"):
        statement.make(asked(RULES["two"]), "approve", "ana", ONCALL, "", NOW, "x" * 201)


def test_the_question_says_until_when_and_what_it_is_bound_to() -> None:
    """The question carries its keys, the moment at which it closes (8 hours at most) and its binding."""
    assert {
        "format": 2, "mode": "two-key", "roles": [ONCALL], "keys": 2, "not_before": NOW, "expires": NOW + 1800,
        "run": "RB-0142", "digest": DIGEST, "requester": "zoe", "nonce": NONCE, "break_glass": None,
        "facts": {"model": "fraud", "from": "47", "to": "46"}, **BINDING.body(),
    } == asked(RULES["same"])  # fmt: skip
    assert [0, 1, 2] == [asked(RULES[name])["keys"] for name in ("auto", "one", "two")]
    assert NOW + 8 * 3600 == asked(replace(RULES["two"], expires=1e6))["expires"]
    for rule in RULES.values():
        assert rule == authority.asked(asked(rule))


@pytest.mark.parametrize("who", ["ana", "bo", "cy", "dee"])
def test_every_flipped_bit_of_a_signature_is_refused(who: str) -> None:
    """Each single-bit change of a signature by a key of any kind is refused: 1,504 of them for Ed25519."""
    good = key(who)
    assert who == statement.verify(good, PEOPLE, NOW).person.name
    blob = base64.b64decode(good["envelope"]["signatures"][0]["sig"])
    bits = len(blob) * 8
    assert bits == 1504 if who == "ana" else bits > 1504
    for bit in range(bits):
        flipped = bytearray(blob)
        flipped[bit // 8] ^= 1 << bit % 8
        one = {**good["envelope"]["signatures"][0], "sig": base64.b64encode(bytes(flipped)).decode()}
        with pytest.raises(Refused):
            statement.verify({**good, "envelope": {**good["envelope"], "signatures": [one]}}, PEOPLE, NOW)


def test_every_flipped_bit_of_a_statement_is_refused() -> None:
    """Each single-bit change of the signed bytes is refused, whatever the record shows beside them."""
    good = key()
    payload = base64.b64decode(good["envelope"]["payload"])
    for bit in range(len(payload) * 8):
        flipped = bytearray(payload)
        flipped[bit // 8] ^= 1 << bit % 8
        changed = {**good["envelope"], "payload": base64.b64encode(bytes(flipped)).decode()}
        try:
            shown = canon.loads(bytes(flipped)).get("predicate")
        except ValueError:
            shown = None
        with pytest.raises(Refused):
            statement.verify({"envelope": changed, "statement": shown}, PEOPLE, NOW)


SHAPES: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("one field more", {"waived": True}, {}, "no key that Lastgood knows"),
    ("true for a time", {"at": True}, {}, "at is not of the right kind"),
    ("a text for a time", {"at": "now"}, {}, "at is not of the right kind"),
    ("a number for the role", {"role": 7}, {}, "role is not of the right kind"),
    ("a list for the facts", {"facts": []}, {}, "facts is not of the right kind"),
    ("a number among the windows", {"freeze_override": [7]}, {}, "freeze_override is not of the right kind"),
    ("another decision", {"decision": "maybe"}, {}, "nothing that a key can say"),
    ("an approval that breaks the glass", {"break_glass": True}, {}, "contradicts itself"),
    ("a broken glass that does not", {"decision": "break-glass"}, {}, "contradicts itself"),
    ("another type", {}, {"predicateType": "urn:lastgood:key:3"}, "about something else"),
    ("another kind of statement", {}, {"_type": "https://in-toto.io/Statement/v0.1"}, "no statement that Lastgood knows"),
    ("a part more", {}, {"more": 1}, "no statement that Lastgood knows"),
    ("about nothing", {}, {"subject": []}, "clearly what it is about"),
    ("about something unnamed", {}, {"subject": [{"digest": {"sha256": "7f" * 32}}]}, "clearly what it is about"),
    ("by another digest", {}, {"subject": [{"name": "plan", "digest": {"md5": "7f"}}]}, "clearly what it is about"),
    ("by two digests", {}, {"subject": [{"name": "plan", "digest": {"sha256": "7f", "md5": "7f"}}]}, "clearly"),
    ("about two plans", {}, {"subject": [{"name": "plan", "digest": {"sha256": "7f"}}] * 2}, "clearly what it is about"),
    ("in another's name", {"person": "bo"}, {}, "SSH key of ana, in the name of bo"),
]


@pytest.mark.parametrize(("changed", "top", "reason"), [row[1:] for row in SHAPES], ids=[row[0] for row in SHAPES])
def test_a_good_signature_does_not_help_another_shape(changed: dict[str, Any], top: dict[str, Any], reason: str) -> None:
    """A statement that is not exactly of the known shape is refused, though it is signed."""
    assert "ana" == statement.verify(sealed(), PEOPLE, NOW).person.name
    with pytest.raises(Refused, match=reason):
        statement.verify(sealed(changed, **top), PEOPLE, NOW)


@pytest.mark.parametrize("name", statement.FIELDS)
def test_no_field_may_be_absent_or_nothing(name: str) -> None:
    """Each field is needed, and none may be null."""
    made = said(RULES["two"], "ana", ONCALL)
    for fields in ({**made["predicate"], name: None}, {k: v for k, v in made["predicate"].items() if k != name}):
        whole = {**made, "predicate": fields}
        signed = envelope.seal(whole, SIGNERS["ana"], "lastgood-approve@1")
        with pytest.raises(Refused):
            statement.verify({"statement": fields, "envelope": signed}, PEOPLE, NOW)


@pytest.mark.parametrize("decision", statement.DECISIONS)
def test_each_decision_has_a_namespace_of_its_own(decision: str) -> None:
    """What was signed to say one thing can never be taken for another by anybody who looks at the signature alone."""
    made = key(decision=decision)
    assert decision == statement.verify(made, PEOPLE, NOW)["decision"]
    signed = envelope.read(made["envelope"])
    assert [SIGNERS["ana"].key] == [one.key for one in signed.signers(f"lastgood-{decision}@1")]
    for other in statement.NAMESPACES.values():
        if other != f"lastgood-{decision}@1":
            with pytest.raises(Refused, match="was made for"):
                signed.signers(other)


def test_there_are_six_namespaces() -> None:
    """Approve, reject, break-glass, ratify, roster and evidence: each its own, none of them Git's."""
    assert 6 == len(set(statement.NAMESPACES.values()))
    assert all(name.startswith("lastgood-") for name in statement.NAMESPACES.values())


@pytest.mark.parametrize("found", [None, "", 7, [], {}, {"a": 1}], ids=repr)
def test_what_is_no_envelope_is_refused(found: Any) -> None:
    """Anything in the place of an envelope that is none is refused in words."""
    with pytest.raises(Refused):
        statement.verify({**key(), "envelope": found}, PEOPLE, NOW)
    with pytest.raises(Refused):
        statement.verify({"statement": key()["statement"], "signature": found}, PEOPLE, NOW)


def test_a_second_signature_is_refused() -> None:
    """A key is one person's word: an envelope with anybody's signature beside it is none."""
    good = key()
    both = envelope.add(good["envelope"], SIGNERS["mallory"], "lastgood-approve@1")
    with pytest.raises(Refused, match="2 signatures, where 1 can count"):
        statement.verify({**good, "envelope": both}, PEOPLE, NOW)


SHOWN: list[Callable[[dict[str, Any]], Any]] = [
    lambda it: it | {"reason": "another"}, lambda it: it | {"person": "bo"}, lambda it: it | {"decision": "reject"},
    lambda it: it | {"facts": {}}, lambda it: {}, lambda it: None,
]  # fmt: skip


@pytest.mark.parametrize("change", SHOWN)
def test_the_record_cannot_show_something_else(change: Callable[[dict[str, Any]], Any]) -> None:
    """The copy that readers of the record see is what was signed, or the key does not count."""
    good = key()
    with pytest.raises(Refused, match="not what was signed"):
        statement.verify({**good, "statement": change(good["statement"])}, PEOPLE, NOW)


# --- security keys

DEMANDS: list[tuple[str, int, str]] = [
    ("", 0, "not touched"), ("", 1, ""), ("", 4, "not touched"), ("", 5, ""),
    ("touch", 0, "not touched"), ("touch", 1, ""), ("touch", 5, ""),
    ("pin", 0, "not touched"), ("pin", 1, "PIN was not given"), ("pin", 4, "not touched"), ("pin", 5, ""),
    ("touch, pin", 1, "PIN was not given"), ("touch, pin", 5, ""),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
@pytest.mark.parametrize(("demand", "flags", "reason"), DEMANDS)
def test_a_security_key_shows_what_the_roster_demands(kind: str, demand: str, flags: int, reason: str) -> None:
    """The touch is always demanded, the PIN where the roster says so: we read the flags, which ssh-keygen does not."""
    token = Token(kind)
    entry = f'{{key: "{token.key.line}", demand: [{demand}]}}' if demand else token.key.line
    people = parsed(written({"ana": entry}, {"ana": [ONCALL]}))
    made = said(RULES["two"], "ana", ONCALL)
    signed = said_by(token, made, flags)
    if reason:
        with pytest.raises(Refused, match=reason):
            statement.verify(signed, people, NOW)
    else:
        assert "ana" == statement.verify(signed, people, NOW).person.name


def said_by(token: Token, made: dict[str, Any], flags: int) -> dict[str, Any]:
    """A key as software makes it that has stolen the token's secret: it never refuses to sign."""
    payload = canon.dumps(made)
    blob = blob_of(token, envelope.pae(envelope.IN_TOTO, payload), flags)
    one = {"keyid": token.key.fingerprint, "sig": base64.b64encode(blob).decode()}
    whole = {"payloadType": envelope.IN_TOTO, "payload": base64.b64encode(payload).decode(), "signatures": [one]}
    return {"statement": made["predicate"], "envelope": whole}


def blob_of(token: Token, message: bytes, flags: int) -> bytes:
    parts = (b"lastgood-approve@1", b"", b"sha512")
    signed = b"SSHSIG" + b"".join(string(part) for part in (*parts, hashlib.sha512(message).digest()))
    whole = (token.key.blob, *parts, token.raw(signed, flags))
    return b"SSHSIG" + (1).to_bytes(4, "big") + b"".join(string(part) for part in whole)


# --- keys of an earlier version


def first(who: str = "ana", decision: str = "approve", **changed: Any) -> dict[str, Any]:
    """A key as the version before wrote it."""
    text = {
        "type": "urn:lastgood:key:1", "decision": decision, "run": "RB-0142", "digest": DIGEST, "nonce": NONCE,
        "person": who, "role": ROLE[who], "requester": "zoe", "reason": "", "at": NOW + 60, "expires": NOW + 1800,
        "facts": {"to": "46"}, **changed,
    }  # fmt: skip
    signature = SIGNERS[who].sign(canon.dumps(text), f"lastgood-{decision}@1")
    return {"person": who, "role": ROLE[who], "fingerprint": "", "statement": text, "signature": signature}


EARLIER = {
    "mode": "two-key", "roles": [ONCALL, RISK], "keys": 2, "expires": NOW + 1800, "run": "RB-0142", "digest": DIGEST,
    "requester": "zoe", "nonce": NONCE, "facts": {"to": "46"},
}  # fmt: skip


def test_a_question_of_an_earlier_version_takes_its_keys_and_ours() -> None:
    """A run that an earlier version left waiting for its second key goes on: the first key counts as it did."""
    now = statement.sign(statement.make(EARLIER, "approve", "bo", RISK, "", NOW + 70), SIGNERS["bo"])
    rule = authority.asked(EARLIER)
    for keys, state in (([first()], "waiting"), ([first(), now], "approved"), ([first("bo", "reject")], "rejected")):
        assert state == authority.judge(rule, PEOPLE, EARLIER, "zoe", keys, NOW + 80).state


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"run": "RB-0143"}, "another run"),
        ({"digest": "sha256:00"}, "another plan"),
        ({"nonce": "0"}, "earlier question"),
        ({"expires": NOW + 9000}, "another expiry"),
        ({"type": "urn:lastgood:key:2"}, "no key that Lastgood knows"),
        ({"waived": True}, "no key that Lastgood knows"),
        ({"at": "now"}, "not of the right kind"),
        ({"person": "bo"}, "SSH key of ana, in the name of bo"),
    ],
)
def test_a_key_of_an_earlier_version_is_bound_as_it_was(changed: dict[str, Any], reason: str) -> None:
    """Its replays are refused as that version refused them."""
    verdict = authority.judge(authority.asked(EARLIER), PEOPLE, EARLIER, "zoe", [first(**changed)], NOW + 80)
    assert reason in verdict.not_counted[0][1]


def test_a_question_of_this_version_takes_no_earlier_key() -> None:
    """Nobody can answer today's question with yesterday's weaker key."""
    rule = RULES["two"]
    verdict = authority.judge(rule, PEOPLE, asked(rule), "zoe", [first(facts=asked(rule)["facts"])], NOW + 80)
    assert "a key of an earlier version" in verdict.not_counted[0][1]
