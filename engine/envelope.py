"""Signed statements: a DSSE envelope around canonical JSON, signed with SSH keys.

In: plain data, signers, a namespace. Out: an envelope as JSON, or, of one that is read, its data and who signed; `Refused`
in plain words for anything that could be read in two ways. Whose keys they are, and whether that is enough, it leaves open.

Protocols: DSSE (the pre-authentication encoding and the envelope), RFC 8785 for the payload, SSHSIG for the signatures. The
signature covers the encoding, never the JSON around it, so `ssh-keygen -Y verify` accepts it when it is given `pae`.
"""

from __future__ import annotations

import base64
import binascii
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from engine import canon, sshsig
from engine.sshsig import Refused, Signature, Signer

Json = Any

IN_TOTO = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
#: Bytes of a payload, and signatures of one envelope, that are looked at.
LARGEST, MOST = 1 << 20, 32


@dataclass(frozen=True)
class Envelope:
    """An envelope that was read: its payload, and each signature with the key that it names. Nothing is verified yet."""

    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]

    @cached_property
    def data(self) -> dict[str, Json]:
        """What the payload says; it is the only text that canonical JSON has for it."""
        found: dict[str, Json] = canon.loads(self.payload)
        return found

    @cached_property
    def digest(self) -> str:
        """The fingerprint of what was signed."""
        return canon.text_digest(pae(IN_TOTO, self.payload))

    def signers(self, namespace: str) -> tuple[Signature, ...]:
        """Who signed, in the order of the signatures. Raises Refused unless each is good and by a key of its own."""
        found: list[Signature] = []
        for named, blob in self.signatures:
            signature = sshsig.verify_blob(blob, pae(IN_TOTO, self.payload), namespace)
            if signature.key.fingerprint != named:
                raise Refused("the envelope names another key than the one that signed")
            if any(signature.key == other.key for other in found):
                raise Refused(f"the key {named} has signed twice")
            found.append(signature)
        return tuple(found)


def pae(kind: str, payload: bytes) -> bytes:
    """The bytes that are signed: DSSE's pre-authentication encoding of a payload and its type."""
    return b"DSSEv1 %d %s %d %s" % (len(kind.encode()), kind.encode(), len(payload), payload)


def statement(predicate: str, subjects: Mapping[str, str], said: Mapping[str, Json]) -> dict[str, Json]:
    """An in-toto statement of the type `predicate`. `subjects`: name -> ``sha256:<hex>``. Texts become NFC.

    Raises ValueError for what has no canonical form.
    """
    named = [{"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}} for name, digest in subjects.items()]
    return canon.normal({"_type": STATEMENT, "subject": named, "predicateType": predicate, "predicate": dict(said)})  # type: ignore[no-any-return]


def seal(data: Mapping[str, Json], signer: Signer, namespace: str) -> dict[str, Json]:
    """The envelope of `data` with one signature. Raises Refused, and ValueError for data that has no canonical form."""
    payload = canon.dumps(dict(data))
    _form(payload)
    return {
        "payloadType": IN_TOTO,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [_signature(payload, signer, namespace)],
    }


def add(envelope: Json, signer: Signer, namespace: str) -> dict[str, Json]:
    """The same envelope with one signature more, or in the place of an earlier one by the same key. Raises Refused."""
    made = _signature(read(envelope).payload, signer, namespace)
    others = [one for one in envelope["signatures"] if one["keyid"] != made["keyid"]]
    return {**envelope, "signatures": [*others, made]}


def _signature(payload: bytes, signer: Signer, namespace: str) -> dict[str, Json]:
    blob = sshsig.unarmour(signer.sign(pae(IN_TOTO, payload), namespace))
    return {"keyid": signer.key.fingerprint, "sig": base64.b64encode(blob).decode()}


def read(envelope: Json, most: int = MOST) -> Envelope:
    """The envelope in `envelope`, its shape checked to the last field. Raises Refused."""
    if not isinstance(envelope, dict) or set(envelope) != {"payloadType", "payload", "signatures"}:
        raise Refused("this is no signed statement")
    if envelope["payloadType"] != IN_TOTO:
        raise Refused("the envelope holds something else than a statement")
    listed = envelope["signatures"]
    if not isinstance(listed, list) or not listed:
        raise Refused("the envelope is not signed")
    if len(listed) > most:
        raise Refused(f"the envelope has {len(listed)} signatures, where {most} can count")
    if not all(isinstance(one, dict) and set(one) == {"keyid", "sig"} and isinstance(one["keyid"], str) for one in listed):
        raise Refused("a signature of the envelope is not of the known shape")
    payload = _bytes(envelope["payload"], "the payload")
    _form(payload)
    return Envelope(payload, tuple((one["keyid"], _bytes(one["sig"], "the signature")) for one in listed))


def _form(payload: bytes) -> None:
    """Raises Refused unless `payload` is an object in canonical form, and its text in NFC."""
    if len(payload) > LARGEST:
        raise Refused(f"the statement is larger than {LARGEST >> 20} MiB")
    try:
        text = payload.decode("utf-8")
        data = canon.loads(payload)
        same = canon.dumps(data) == payload
    except (ValueError, RecursionError):
        raise Refused("the statement is not JSON in its canonical form") from None
    if not same or not isinstance(data, dict):
        raise Refused("the statement is not JSON in its canonical form")
    if not unicodedata.is_normalized("NFC", text):
        raise Refused("the statement holds letters that look the same and are not (it is not in Unicode's form NFC)")


def _bytes(text: Json, what: str) -> bytes:
    """Base64 in one of its two alphabets (DSSE leaves both open), whole and without stray bits. Raises Refused."""
    if not isinstance(text, str) or len(text) > 2 * LARGEST:
        raise Refused(f"{what} is not base64")
    standard = text.translate(str.maketrans("-_", "+/"))
    if standard != text and ("+" in text or "/" in text):
        raise Refused(f"{what} mixes two alphabets of base64")
    try:
        data = base64.b64decode(standard, validate=True)
    except (ValueError, binascii.Error):
        raise Refused(f"{what} is not base64") from None
    if base64.b64encode(data).decode() != standard:
        raise Refused(f"{what} is base64 with stray bits at its end")
    return data
