"""People with keys, a roster of theirs, questions and answers: what the tests of keys share.

Keys are made once for each process, because making and signing is what such tests spend their time on. `Token` is a
security key in software, so that a test can choose the flags that a real one would not give.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils

from engine import authority, roster, source, sshsig, statement
from engine.authority import Glass, Rule
from engine.roster import Roster
from engine.sshsig import PublicKey, Signer
from engine.statement import Binding

RUN, DIGEST, NONCE = "RB-0142", "sha256:" + "7f" * 32, "0123456789abcdef" * 2
NOW = 1_795_000_000.0
ROSTER = "inventories/production/roster.yml"
ROLES = {
    "ana": ["ml-oncall"],
    "bo": ["fraud-risk"],
    "cy": ["ml-oncall", "fraud-risk"],
    "dee": ["ml-oncall"],
    "eve": ["finance"],
}
RULES = {
    "auto": Rule("automatic"),
    "one": Rule("one-click", ("ml-oncall", "fraud-risk"), 1800.0),
    "two": Rule("two-key", ("ml-oncall", "fraud-risk"), 1800.0),
    "same": Rule("two-key", ("ml-oncall",), 1800.0),
    "glass": Rule("two-key", ("ml-oncall", "fraud-risk"), 3600.0, Glass("finance")),
}
BINDING = Binding(
    "production", "sha256:" + "11" * 32, "sha256:" + "22" * 32, {"version": 3, "digest": "sha256:" + "33" * 32},
    {"to": "sha256:" + "46" * 32},
)  # fmt: skip
FACTS = {"model": "fraud", "from": "47", "to": "46"}


def no_passphrase(path: str) -> str:
    raise AssertionError(f"asked for the passphrase of {path}")


def string(data: bytes) -> bytes:
    """RFC 4251."""
    return len(data).to_bytes(4, "big") + data


def mpint(number: int) -> bytes:
    return string(number.to_bytes(number.bit_length() // 8 + 1, "big"))


def private_key(kind: str) -> Any:
    return ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(ec.SECP256R1())


def public_line(private: Any) -> str:
    return str(private.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH).decode())


def write_key(path: Path, private: Any) -> Path:
    path.write_bytes(private.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption()))
    path.chmod(0o600)
    return path


def soft(kind: str = "ed25519", name: str = "soft") -> Signer:
    """A signer that needs no file."""
    private = private_key(kind)
    key = sshsig.public_key(f"{public_line(private)} {name}")

    def raw(signed: bytes) -> bytes:
        if kind == "ed25519":
            return string(key.kind.encode()) + string(private.sign(signed))
        r, s = utils.decode_dss_signature(private.sign(signed, ec.ECDSA(hashes.SHA256())))
        return string(key.kind.encode()) + string(mpint(r) + mpint(s))

    return Signer(key, name, raw)


class Token:
    """A security key in software (PROTOCOL.u2f)."""

    def __init__(self, kind: str) -> None:
        self.private = private_key(kind)
        public = self.private.public_key()
        if kind == "ed25519":
            self.kind = sshsig.SK_ED25519
            point = string(public.public_bytes(form.Encoding.Raw, form.PublicFormat.Raw))
        else:
            self.kind = sshsig.SK_P256
            point = string(b"nistp256") + string(
                public.public_bytes(form.Encoding.X962, form.PublicFormat.UncompressedPoint)
            )
        self.key = PublicKey(self.kind, string(self.kind.encode()) + point + string(b"ssh:"))

    def raw(self, signed: bytes, flags: int = 1, tail: bytes = b"") -> bytes:
        state = bytes([flags]) + (7).to_bytes(4, "big")
        data = hashlib.sha256(b"ssh:").digest() + state + hashlib.sha256(signed).digest()
        if self.kind == sshsig.SK_ED25519:
            inner = self.private.sign(data)
        else:
            r, s = utils.decode_dss_signature(self.private.sign(data, ec.ECDSA(hashes.SHA256())))
            inner = mpint(r) + mpint(s)
        return string(self.kind.encode()) + string(inner) + state + tail

    def signer(self, flags: int = 1) -> Signer:
        """As the agent would offer it, whatever the flags: a real one gives none that was not touched."""
        return Signer(self.key, "token", lambda signed: self.raw(signed, flags))


def written(keys: Mapping[str, str], roles: Mapping[str, list[str]] = ROLES, head: str = "") -> str:
    """A roster file. `keys`: name, or ``name's other``, -> the line of a key or a flow mapping with conditions.

    Each person's login is the name with ``-at-work``.
    """
    text = f"{head}people:\n"
    for name, their in roles.items():
        mine = [keys[key] for key in (name, f"{name}'s other") if key in keys]
        text += f"  - name: {name}\n    roles: [{', '.join(their)}]\n    logins: [{name}-at-work]\n    keys:\n"
        text += "".join(f"      - {key}\n" for key in mine)
    return text


def lines(signers: Mapping[str, Signer]) -> dict[str, str]:
    return {name: signer.key.line for name, signer in signers.items()}


def parsed(text: str) -> Roster:
    return roster.read(source.parse(text, ROSTER))


def asked(rule: Rule, **changed: Any) -> dict[str, Any]:
    """The body of a question, some of it `changed`."""
    return {**authority.question(rule, RUN, DIGEST, "zoe", NONCE, FACTS, NOW, BINDING), **changed}


def said(
    rule: Rule, person: str, role: str, decision: str = "approve", reason: str = "customers confirm", at: float = NOW + 60,
    freeze_override: tuple[str, ...] = (), **changed: Any,
) -> dict[str, Any]:  # fmt: skip
    """The statement of a key that answers the question, some of the question `changed`."""
    return statement.make(asked(rule, **changed), decision, person, role, reason, at, "INC-7", freeze_override)


def body(signers: Mapping[str, Signer], rule: Rule, who: str, role: str, decision: str, **changed: Any) -> dict[str, Any]:
    """The body of a key. `who`: whose signer it is; ``ana's other`` signs as ana."""
    return statement.sign(said(rule, who.partition("'")[0], role, decision, **changed), signers[who])
