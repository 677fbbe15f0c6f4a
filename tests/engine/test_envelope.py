"""Signed statements: the encoding that is signed, one reading of every envelope, and ssh-keygen as a second opinion."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signing import Token, soft

from engine import canon, envelope, sshsig
from engine.sshsig import Refused

NAMESPACE = "lastgood-approve@1"
DATA = envelope.statement("urn:lastgood:key:2", {"plan": "sha256:" + "7f" * 32}, {"reason": "ok", "at": 1.5})
ANA, BO = soft("ed25519", "ana"), soft("ecdsa", "bo")

Envelope = dict[str, Any]


def sealed() -> Envelope:
    return envelope.seal(DATA, ANA, NAMESPACE)


def encoded(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def test_the_encoding_is_that_of_dsse() -> None:
    """The specification's own example gives the specification's own bytes."""
    assert b"DSSEv1 29 http://example.com/HelloWorld 11 hello world" == envelope.pae(
        "http://example.com/HelloWorld", b"hello world"
    )


def test_two_payloads_never_share_an_encoding() -> None:
    """The lengths keep type and payload apart, wherever the border between them is moved."""
    assert envelope.pae("a b", b"c") != envelope.pae("a", b"b c")
    assert envelope.pae("a", b"1 b") != envelope.pae("a 3", b"b")


def test_what_was_sealed_is_read_again() -> None:
    """An envelope gives back its data, its signers in order and a digest that is the same for the same payload."""
    made = envelope.add(sealed(), BO, "lastgood-approve@1")
    found = envelope.read(json.loads(json.dumps(made)))
    assert DATA == found.data
    assert [ANA.key, BO.key] == [one.key for one in found.signers(NAMESPACE)]
    assert found.digest == envelope.read(sealed()).digest
    assert made == envelope.add(made, ANA, NAMESPACE) | {"signatures": made["signatures"]}


@pytest.mark.real
@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="ssh-keygen is not installed (openssh-client)")
@pytest.mark.parametrize("signer", [ANA, BO, Token("ed25519").signer(5), Token("ecdsa").signer(5)], ids=lambda s: s.key.kind)
def test_ssh_keygen_accepts_ours(signer: sshsig.Signer, tmp_path: Path) -> None:
    """`ssh-keygen -Y verify` accepts the signature of an envelope over its encoding, and nothing that differs by a byte."""
    made = envelope.seal(DATA, signer, NAMESPACE)
    (tmp_path / "allowed").write_text(f"ana {signer.key.line}\n")
    (tmp_path / "sig").write_text(sshsig.armour(base64.b64decode(made["signatures"][0]["sig"])))
    message = envelope.pae(envelope.IN_TOTO, base64.b64decode(made["payload"]))
    words = ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "ana", "-n", NAMESPACE, "-s", "sig"]
    codes = [
        subprocess.run(words, input=text, capture_output=True, cwd=tmp_path).returncode for text in (message, message + b" ")
    ]
    assert [0, 255] == codes


def other(payload: str | bytes) -> Callable[[Envelope], Any]:
    return lambda it: it | {"payload": encoded(payload)}


def signature(change: Callable[[dict[str, Any]], Any]) -> Callable[[Envelope], Any]:
    return lambda it: it | {"signatures": [change(it["signatures"][0])]}


TEXT = canon.dumps(DATA).decode()
URL_SAFE = str.maketrans("+/", "-_")

BAD: list[tuple[str, Callable[[Envelope], Any], str]] = [
    ("nothing", lambda it: None, "no signed statement"),
    ("a list", lambda it: [it], "no signed statement"),
    ("a text", lambda it: json.dumps(it), "no signed statement"),
    ("one field more", lambda it: it | {"note": "x"}, "no signed statement"),
    ("one field less", lambda it: {k: v for k, v in it.items() if k != "payloadType"}, "no signed statement"),
    ("another type", lambda it: it | {"payloadType": "text/plain"}, "something else than a statement"),
    ("a type in capitals", lambda it: it | {"payloadType": envelope.IN_TOTO.upper()}, "something else"),
    ("no signature", lambda it: it | {"signatures": []}, "is not signed"),
    ("signatures as a mapping", lambda it: it | {"signatures": {}}, "is not signed"),
    ("33 of them", lambda it: it | {"signatures": it["signatures"] * 33}, "33 signatures"),
    ("the same signature twice", lambda it: it | {"signatures": it["signatures"] * 2}, "has signed twice"),
    ("a stranger's word too", lambda it: it | {"signatures": [*it["signatures"], {"keyid": "x", "sig": "AAAA"}]}, "short"),
    ("a signature with a field more", signature(lambda one: one | {"cert": "x"}), "not of the known shape"),
    ("a signature without its key", signature(lambda one: {"sig": one["sig"]}), "not of the known shape"),
    ("a key that is a number", signature(lambda one: one | {"keyid": 7}), "not of the known shape"),
    ("another key's name", signature(lambda one: one | {"keyid": BO.key.fingerprint}), "names another key"),
    ("an empty signature", signature(lambda one: one | {"sig": ""}), "cut short"),
    ("a signature in armour", signature(lambda one: one | {"sig": f"-----BEGIN SSH SIGNATURE-----{one['sig']}"}), "base64"),
    ("blanks in base64", signature(lambda one: one | {"sig": one["sig"][:8] + " " + one["sig"][8:]}), "not base64"),
    ("a line break in base64", signature(lambda one: one | {"sig": one["sig"] + "\n"}), "not base64"),
    ("base64 without padding", lambda it: it | {"payload": "e30"}, "not base64"),
    ("stray bits", lambda it: it | {"payload": "e31="}, "stray bits"),
    ("two alphabets", lambda it: it | {"payload": "+-+-"}, "two alphabets"),
    ("a payload of bytes", lambda it: it | {"payload": b"e30="}, "not base64"),
    ("an empty payload", lambda it: it | {"payload": ""}, "canonical form"),
    ("a payload that is no JSON", other("{"), "canonical form"),
    ("a payload that is a list", other("[]"), "canonical form"),
    ("a payload that is no text", other(b"\xff\xfe{}"), "canonical form"),
    ("a byte order mark", other("\ufeff{}"), "canonical form"),
    ("blanks in the payload", other('{"a": 1}'), "canonical form"),
    ("keys out of order", other('{"b":1,"a":1}'), "canonical form"),
    ("a key twice", other('{"a":1,"a":1}'), "canonical form"),
    ("a number written otherwise", other('{"a":1.0}'), "canonical form"),
    ("no number", other('{"a":NaN}'), "canonical form"),
    ("nested without end", other('{"a":' + "[" * 100_000 + "]" * 100_000 + "}"), "canonical form"),
    ("letters that only look the same", other('{"a":"cafe\u0301"}'), "look the same"),
    ("too large", lambda it: it | {"payload": encoded("x" * (envelope.LARGEST + 1))}, "larger than 1 MiB"),
    ("other data", other(canon.dumps(DATA | {"predicate": {}})), "does not fit"),
    ("one byte more", other(TEXT.replace("ok", "ok ")), "does not fit"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "reason"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_what_could_be_read_in_two_ways_is_refused(change: Callable[[Envelope], Any], reason: str) -> None:
    """Every other shape, spelling and signature of an envelope is refused by its own reason."""
    with pytest.raises(Refused) as caught:
        envelope.read(change(sealed())).signers(NAMESPACE)
    assert any(words in caught.value.reason for words in reason.split("|")), caught.value.reason


def test_both_alphabets_of_base64_are_one() -> None:
    """DSSE leaves the alphabet open: a whole envelope in the URL-safe one is the same envelope."""
    made = sealed()
    safe = {
        "payloadType": made["payloadType"],
        "payload": made["payload"].translate(URL_SAFE),
        "signatures": [{**one, "sig": one["sig"].translate(URL_SAFE)} for one in made["signatures"]],
    }
    assert envelope.read(made) == envelope.read(safe)


@pytest.mark.parametrize("namespace", ["lastgood-reject@1", "lastgood-roster@1", "git", "file", "lastgood-approve@2", ""])
def test_an_envelope_for_something_else_is_refused(namespace: str) -> None:
    """The namespace is part of what is signed: a signature made for one purpose serves no other."""
    with pytest.raises(Refused, match="was made for"):
        envelope.read(sealed()).signers(namespace)


def test_data_without_a_canonical_form_is_not_sealed() -> None:
    """What could not be read again is refused before anybody signs it; texts are brought into one form."""
    with pytest.raises(ValueError, match="two keys"):
        envelope.statement("t", {}, {"caf\u00e9": 1, "cafe\u0301": 2})
    assert "caf\u00e9" == envelope.statement("t", {}, {"a": "cafe\u0301"})["predicate"]["a"]
    for bad in (float("nan"), 2**53, "\ud800"):
        with pytest.raises(ValueError, match=r".+"):
            envelope.seal({"a": bad}, ANA, NAMESPACE)
    with pytest.raises(Refused, match="look the same"):
        envelope.seal({"a": "cafe\u0301"}, ANA, NAMESPACE)


JSON = st.recursive(st.none() | st.integers(-9, 9) | st.text(max_size=9), st.lists, max_leaves=9)


@given(JSON)
@settings(max_examples=50)
def test_whatever_is_json_comes_back(value: Any) -> None:
    """Any data that has a canonical form is read as it was sealed, in NFC."""
    made = envelope.statement("t", {}, {"value": value})
    whole = {**sealed(), "payload": encoded(canon.dumps(made))}
    assert made == envelope.read(whole).data
