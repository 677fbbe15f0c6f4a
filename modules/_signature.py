"""Whether the files of a model are those that somebody signed: OpenSSF model signatures, made with a key.

In: a folder, a signature file, a public key (PEM). Out: nothing, or a ModuleError that names what is wrong. The signature is
a Sigstore bundle with a DSSE envelope around an in-toto statement, whose resources are the files with their sha256
(model_signing/signature/v1.0). Nothing of a model is loaded.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modules import _disk
from modules.contract import ModuleError

LARGEST = 16 << 20
_TYPE, _PREDICATE = "application/vnd.in-toto+json", "https://model_signing/signature/v1.0"


def check(folder: Path, signature: Path, key: Path | None, between: Callable[[], object] = lambda: None) -> None:
    """Raises ModuleError unless `signature` was made with `key` over exactly the files in `folder`, links excluded.

    Without a key it is only held against the files: whose it is, nobody has said. `between` is called as the files are read
    and may raise to stop.
    """
    said = _statement(signature, key)
    listed = _resources(said, signature)
    found = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or not path.is_dir()
    }
    for name, path in found.items():
        if path.is_symlink() or not path.is_file():
            raise _wrong(signature, f"{name} is no plain file")
        if name not in listed:
            raise _wrong(signature, f"{name} was not signed: it was added")
        with _disk.told(f"{path} cannot be read"):
            if _disk.sha256(path, between) != listed[name]:
                raise _wrong(signature, f"{name} is not what was signed")
    for name in listed:
        if name not in found:
            raise _wrong(signature, f"{name} was signed and is not there")


def _statement(path: Path, key: Path | None) -> dict[str, Any]:
    """What was signed, after its one signature was found good, where there is a key to tell."""
    try:
        with path.open("rb") as file:
            box = json.loads(file.read(LARGEST))["dsseEnvelope"]
        kind, listed = box["payloadType"], box["signatures"]
        payload = base64.b64decode(box["payload"], validate=True)
        signed = base64.b64decode(listed[0]["sig"], validate=True)
        if kind != _TYPE:
            raise _wrong(path, f"it holds {str(kind)[:60]!a}, no statement")
        if len(listed) != 1:
            raise _wrong(path, f"it has {len(listed)} signatures, where one is expected")
        if key is not None:
            _verify(path, key, b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload), signed)
        said: dict[str, Any] = json.loads(payload)
    except FileNotFoundError:
        raise ModuleError(f"{path} is not there: the version is not signed", "sign it, or leave out `signed_by`") from None
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise _wrong(path, "it is no Sigstore bundle with a signature") from None
    return said


def _verify(path: Path, key: Path, message: bytes, signature: bytes) -> None:
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
        raise _wrong(path, f"it was not made with {key.name}, or was altered") from None


def _resources(said: dict[str, Any], path: Path) -> dict[str, str]:
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
        raise _wrong(path, "its statement is not one about a model's files by sha256")
    return listed


def _wrong(path: Path, why: str) -> ModuleError:
    return ModuleError(f"the signature {path.name} does not hold: {why}", "do not restore it; find out who changed what")
