"""Whether the files of a model are those that somebody signed: OpenSSF model signatures, made with a key.

In: a folder, or names and digests of files; a signature; a public key (PEM). Out: nothing, or a ModuleError that names what
is wrong. The signature is a Sigstore bundle with a DSSE envelope around an in-toto statement, whose resources are the files
with their sha256 (model_signing/signature/v1.0). Nothing of a model is loaded.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from modules import _disk
from modules.contract import ModuleError

LARGEST = 16 << 20
_NONE = "it is no Sigstore bundle with a signature"
_TYPE, _PREDICATE = "application/vnd.in-toto+json", "https://model_signing/signature/v1.0"


def check(folder: Path, signature: Path, key: Path | None, between: Callable[[], object] = lambda: None) -> None:
    """Raises ModuleError unless `signature` was made with `key` over exactly the files in `folder`, links excluded.

    Without a key it is only held against the files: whose it is, nobody has said. `between` is called as the files are read
    and may raise to stop.
    """
    found = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or not path.is_dir()
    }

    def digest(name: str) -> str:
        with _disk.told(f"{found[name]} cannot be read"):
            return _disk.sha256(found[name], between)

    try:
        with signature.open("rb") as file:
            text = file.read(LARGEST)
    except FileNotFoundError:
        raise unsigned(str(signature)) from None
    except OSError:
        raise _wrong(signature.name, _NONE) from None
    if odd := next((name for name, path in found.items() if path.is_symlink() or not path.is_file()), ""):
        raise _wrong(signature.name, f"{odd} is no plain file")
    held(signature.name, text, key, list(found), digest)


def held(shown: str, text: bytes, key: Path | None, names: Sequence[str], digest: Callable[[str], str] | None) -> None:
    """Raises ModuleError unless the signature in `text` was made with `key` over exactly the files `names`.

    `shown`: what the signature is called; `digest` gives the sha256 of a file in hex. Without it the names alone are held
    against what was signed: enough to leave a version out, not enough to let it serve.
    """
    listed = _resources(_statement(shown, text, key), shown)
    for name in names:
        if name not in listed:
            raise _wrong(shown, f"{name} was not signed: it was added")
        if digest and digest(name) != listed[name]:
            raise _wrong(shown, f"{name} is not what was signed")
    for name in listed:
        if name not in names:
            raise _wrong(shown, f"{name} was signed and is not there")


def unsigned(shown: str) -> ModuleError:
    """What is said where a signature is asked for and there is none."""
    return ModuleError(f"{shown} is not there: the version is not signed", "sign it, or leave out `signed_by`")


def _statement(shown: str, text: bytes, key: Path | None) -> dict[str, Any]:
    """What was signed, after its one signature was found good, where there is a key to tell."""
    try:
        box = json.loads(text)["dsseEnvelope"]
        kind, listed = box["payloadType"], box["signatures"]
        payload = base64.b64decode(box["payload"], validate=True)
        signed = base64.b64decode(listed[0]["sig"], validate=True)
        if kind != _TYPE:
            raise _wrong(shown, f"it holds {str(kind)[:60]!a}, no statement")
        if len(listed) != 1:
            raise _wrong(shown, f"it has {len(listed)} signatures, where one is expected")
        if key is not None:
            _verify(shown, key, b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload), signed)
        said: dict[str, Any] = json.loads(payload)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise _wrong(shown, _NONE) from None
    return said


def _verify(shown: str, key: Path, message: bytes, signature: bytes) -> None:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        public = load_pem_public_key(key.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm):
        raise ModuleError(f"{key} is no public key", "name the PEM file of the key that signs models") from None
    sizes = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
    if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.key_size not in sizes:
        raise ModuleError(f"{key} is no elliptic curve key", "model signatures are made with P-256, P-384 or P-521")
    try:
        public.verify(signature, message, ec.ECDSA(sizes[public.curve.key_size]))
    except InvalidSignature:
        raise _wrong(shown, f"it was not made with {key.name}, or was altered") from None


def _resources(said: dict[str, Any], shown: str) -> dict[str, str]:
    """name -> sha256 of the signed files, held against the digest of all of them that is the statement's subject."""
    try:
        how, rows = said["predicate"]["serialization"], said["predicate"]["resources"]
        listed = {str(row["name"]): str(row["digest"]) for row in rows if row["algorithm"] == "sha256"}
        root = hashlib.sha256(b"".join(bytes.fromhex(row["digest"]) for row in rows)).hexdigest()
        good = said["predicateType"] == _PREDICATE and how["method"] == "files" and len(listed) == len(rows)
        good = good and [one["digest"]["sha256"] for one in said["subject"]] == [root]
    except (ValueError, TypeError, KeyError, AttributeError):
        good, listed = False, {}
    if not good:
        raise _wrong(shown, "its statement is not one about a model's files by sha256")
    return listed


def _wrong(shown: str, why: str) -> ModuleError:
    return ModuleError(f"the signature {shown} does not hold: {why}", "do not restore it; find out who changed what")
