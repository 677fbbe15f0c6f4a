"""SSH keys and SSH signatures: read and write SSHSIG, sign with a key file or through ssh-agent. The door of cryptography.

In: public key lines, private key files, an agent's socket, bytes to sign. Out: a `PublicKey`, a `Signer`, an armoured
signature, or `Refused` with the reason in plain words. It refuses to know who a key belongs to and what is signed.

`ssh-keygen` is not needed at run time: it does not enforce the touch of a security key and takes the time from its
caller, so the signature is read here. Protocols: OpenSSH's PROTOCOL.sshsig, PROTOCOL.key and PROTOCOL.u2f, RFC 4251
(wire types), RFC 5656 and RFC 8709 (ECDSA and Ed25519 keys), draft-ietf-sshm-ssh-agent (the agent).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

ED25519 = "ssh-ed25519"
P256 = "ecdsa-sha2-nistp256"
SK_ED25519 = "sk-ssh-ed25519@openssh.com"
SK_P256 = "sk-ecdsa-sha2-nistp256@openssh.com"
KINDS = (ED25519, P256, SK_ED25519, SK_P256)

_MAGIC = b"SSHSIG"
_HASHES = ("sha256", "sha512")
_BEGIN, _END, _WIDTH = "-----BEGIN SSH SIGNATURE-----\n", "\n-----END SSH SIGNATURE-----\n", 70
_KEY_BEGIN, _KEY_END = "-----BEGIN OPENSSH PRIVATE KEY-----", "-----END OPENSSH PRIVATE KEY-----"
_KEY_MAGIC = b"openssh-key-v1\0"
_TOUCHED, _PIN = 0x01, 0x04  # PROTOCOL.u2f: the user-presence and the user-verification bit of the flags
_LARGEST = 64 << 10  # bytes of any key, signature or answer that we look at

_LIST, _LISTED, _SIGN, _SIGNED = 11, 12, 13, 14  # the agent's message numbers


class Refused(Exception):
    """A key, a signature or an agent that cannot be used: `reason` is plain words, `hint` the one thing to do."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


@dataclass(frozen=True)
class PublicKey:
    """A public key: its SSH type and its wire form. Two are equal when the keys are; the comment does not count."""

    kind: str
    blob: bytes
    comment: str = field(default="", compare=False)

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` prints it: ``SHA256:`` and 43 letters of base64."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    @property
    def line(self) -> str:
        """As it stands in a `.pub` file."""
        return f"{self.kind} {base64.b64encode(self.blob).decode()} {self.comment}".rstrip()

    @property
    def hardware(self) -> bool:
        """Whether the private half lives in a security key that has to be touched."""
        return self.kind in (SK_ED25519, SK_P256)


@dataclass(frozen=True)
class Signature:
    """Who signed, and what a security key says of it: whether it was `touched`, and whether its `pin` was given."""

    key: PublicKey
    touched: bool = False
    pin: bool = False


@dataclass(frozen=True)
class Signer:
    """A private key that can be used now. `source` is ``ssh-agent`` or the file's path, for people."""

    key: PublicKey
    source: str
    _raw: Callable[[bytes], bytes] = field(repr=False, compare=False)

    def sign(self, message: bytes, namespace: str) -> str:
        """The armoured SSHSIG of `message`. Raises Refused; may wait for a passphrase or a touch.

        The result is verified here, so that an untouched security key or a confused agent is found on the signer's side.
        """
        signed = _signed(message, namespace, "sha512")
        parts = (self.key.blob, namespace.encode(), b"", b"sha512", self._raw(signed))
        armoured = armour(_MAGIC + _u32(1) + b"".join(_string(part) for part in parts))
        verify(armoured, message, namespace)
        return armoured


class _Reader:
    """RFC 4251 section 5: bytes, uint32 and string, one after the other, to the last byte."""

    def __init__(self, data: bytes, what: str) -> None:
        self._data, self._at, self._what = data, 0, what

    def take(self, count: int) -> bytes:
        if self._at + count > len(self._data):
            raise Refused(f"{self._what} is cut short")
        self._at += count
        return self._data[self._at - count : self._at]

    def byte(self) -> int:
        return self.take(1)[0]

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        return self.take(self.u32())

    def positive(self) -> int:
        """An mpint greater than zero, in its only form: no sign bit, no needless zero byte."""
        data = self.string()
        if not data or data[0] > 0x7F or (data[0] == 0 and (len(data) == 1 or data[1] < 0x80)):
            raise Refused(f"{self._what} holds a number that is not in its canonical form")
        return int.from_bytes(data, "big")

    def end(self) -> None:
        if self._at != len(self._data):
            raise Refused(f"{self._what} goes on after its end")


def _u32(number: int) -> bytes:
    return number.to_bytes(4, "big")


def _string(data: bytes) -> bytes:
    return _u32(len(data)) + data


def _mpint(number: int) -> bytes:
    return _string(number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _unbase64(text: str, what: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise Refused(f"{what} is not base64") from None
    if base64.b64encode(data).decode() != text:
        raise Refused(f"{what} is base64 with stray bits at its end")
    return data


def public_key(line: str) -> PublicKey:
    """The key of a `.pub` line: type, base64, comment. Raises Refused for another kind, options in front, or damage."""
    kind, _, rest = line.strip().partition(" ")
    text, _, comment = rest.strip().partition(" ")
    if kind not in KINDS:
        raise _unknown_kind(kind)
    key = _public_blob(_unbase64(text, "the key"), comment.strip())
    if key.kind != kind:
        raise Refused(f"the line says {kind}, the key in it is {key.kind}")
    return key


def _public_blob(blob: bytes, comment: str = "") -> PublicKey:
    """The key whose wire form is `blob`, its shape checked. Raises Refused."""
    reader = _Reader(blob, "the key")
    kind = reader.string().decode("ascii", "replace")
    if kind not in KINDS:
        raise _unknown_kind(kind)
    if kind in (P256, SK_P256):
        if reader.string() != b"nistp256":
            raise Refused("the key is not on the curve P-256")
        point = reader.string()
        well_formed = len(point) == 65 and point[0] == 4
    else:
        well_formed = len(reader.string()) == 32
    if not well_formed:
        raise Refused("the key has the wrong length")
    if kind in (SK_ED25519, SK_P256):
        reader.string()  # the application, "ssh:" as a rule; it is part of the key
    reader.end()
    return PublicKey(kind, blob, comment)


def _unknown_kind(kind: str) -> Refused:
    usable = "make one with: ssh-keygen -t ed25519"
    if "-cert-v01@" in kind:
        return Refused("SSH certificates are not accepted: a certificate can stand for any name", "list the key itself")
    if kind.startswith(("ssh-rsa", "rsa-", "ssh-dss")):
        return Refused(f"{kind} keys are not accepted; Ed25519 and ECDSA P-256 are", usable)
    if kind.startswith("ecdsa-"):
        return Refused(f"{kind} keys are not accepted; of the ECDSA curves only P-256 is", usable)
    return Refused(
        "this is no public key line", "it starts with a type such as ssh-ed25519; options in front are not accepted"
    )


def armour(blob: bytes) -> str:
    """`blob` as `ssh-keygen -Y sign` writes it: header, base64 in lines of 70 letters, footer."""
    text = base64.b64encode(blob).decode()
    return _BEGIN + "\n".join(text[i : i + _WIDTH] for i in range(0, len(text), _WIDTH)) + _END


def unarmour(text: str) -> bytes:
    """What `armour` was given. Raises Refused unless `text` is exactly as `armour` writes it: one blob, one text."""
    if len(text) > _LARGEST or not text.startswith(_BEGIN) or not text.endswith(_END):
        raise Refused("this is no SSH signature")
    blob = _unbase64(text[len(_BEGIN) : -len(_END)].replace("\n", ""), "the signature")
    if armour(blob) != text:
        raise Refused("the signature's lines are not broken as ssh-keygen breaks them")
    return blob


def _signed(message: bytes, namespace: str, algorithm: str) -> bytes:
    """The bytes that the key signs (PROTOCOL.sshsig, section 2)."""
    parts = (namespace.encode(), b"", algorithm.encode(), hashlib.new(algorithm, message).digest())
    return _MAGIC + b"".join(_string(part) for part in parts)


def verify(armoured: str, message: bytes, namespace: str) -> PublicKey:
    """The key that signed `message` in `namespace`. Raises Refused with the reason. Whose key it is, the caller decides."""
    return verify_blob(unarmour(armoured), message, namespace).key


def verify_blob(blob: bytes, message: bytes, namespace: str) -> Signature:
    """`verify` for a signature without its armour, and with what a security key says. Raises Refused."""
    if len(blob) > _LARGEST:
        raise Refused("this is no SSH signature")
    reader = _Reader(blob, "the signature")
    if reader.take(len(_MAGIC)) != _MAGIC or reader.u32() != 1:
        raise Refused("this is no SSH signature of version 1")
    key = _public_blob(reader.string())
    if (found := reader.string()) != namespace.encode():
        raise Refused(f"the signature was made for {found.decode('utf-8', 'replace')[:80]!a}, not for {namespace!r}")
    if reader.string():
        raise Refused("the signature's reserved field is in use")
    if (algorithm := reader.string().decode("ascii", "replace")) not in _HASHES:
        raise Refused("the signature's hash is neither sha256 nor sha512")
    signature = reader.string()
    reader.end()
    flags = _verify(key, signature, _signed(message, namespace, algorithm))
    return Signature(key, bool(flags & _TOUCHED), bool(flags & _PIN))


def _verify(key: PublicKey, signature: bytes, signed: bytes) -> int:
    """Checks an SSH signature blob (RFC 8709 section 6, RFC 5656 section 3.1.2, PROTOCOL.u2f) or raises Refused.

    Returns the flags of a security key, 0 for another. A signature without a touch is refused: who has the machine could
    make it without the person.
    """
    reader = _Reader(signature, "the signature")
    if reader.string() != key.kind.encode():
        raise Refused("the signature and its key are of different kinds")
    inner = reader.string()
    fields = _Reader(key.blob, "the key")
    fields.string()
    if key.kind in (P256, SK_P256):
        fields.string()
    point, flags = fields.string(), 0
    if key.hardware:
        flags, counter = reader.byte(), reader.u32()
        if not flags & _TOUCHED:
            raise Refused("the security key was not touched", "sign again and touch it when it blinks")
        application = hashlib.sha256(fields.string()).digest()
        signed = application + bytes([flags]) + _u32(counter) + hashlib.sha256(signed).digest()
    reader.end()
    _check(key.kind, point, inner, signed)
    return flags


def _check(kind: str, point: bytes, signature: bytes, signed: bytes) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils

    try:
        if kind in (ED25519, SK_ED25519):
            ed25519.Ed25519PublicKey.from_public_bytes(point).verify(signature, signed)
        else:
            reader = _Reader(signature, "the signature")
            encoded = utils.encode_dss_signature(reader.positive(), reader.positive())
            reader.end()
            public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
            public.verify(encoded, signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise Refused("the signature does not fit what was signed") from None
    except ValueError:
        raise Refused("the key is not a point of its curve") from None


def key_file(path: Path, passphrase: Callable[[str], str]) -> Signer:
    """The signer of an OpenSSH private key file. Raises Refused.

    Only the public half is read now; `passphrase(path)` is asked when something is signed, and only for an encrypted key.
    """
    text = _read_private(path)
    body = "".join(text.strip().removeprefix(_KEY_BEGIN).removesuffix(_KEY_END).split())
    reader = _Reader(_unbase64(body, f"{path}"), f"{path}")
    if reader.take(len(_KEY_MAGIC)) != _KEY_MAGIC:
        raise Refused(f"{path} is not an OpenSSH private key")
    encrypted = reader.string() != b"none"
    for _ in ("key derivation", "its options"):
        reader.string()
    if reader.u32() != 1:
        raise Refused(f"{path} holds more than one key")
    key = _public_blob(reader.string(), path.name)
    if key.hardware:
        raise Refused(f"{path} is kept in a security key, which signs through ssh-agent", f"ssh-add {path}")
    return Signer(key, str(path), partial(_sign_with_file, text, path, passphrase if encrypted else None))


def _read_private(path: Path) -> str:
    try:
        status = path.stat()
        text = path.read_bytes()[:_LARGEST].decode("ascii", "replace")
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from None
    if text.startswith(("ssh-", "ecdsa-", "sk-")):
        raise Refused(f"{path} is the public half", "name the private key file, or leave it out and let ssh-agent sign")
    if not text.strip().startswith(_KEY_BEGIN):
        raise Refused(f"{path} is not an OpenSSH private key", f"ssh-keygen -p -f {path} rewrites an older format")
    if status.st_uid == os.getuid() and status.st_mode & 0o077:
        raise Refused(f"others can read {path}", f"chmod 600 {path}")
    return text


def _sign_with_file(text: str, path: Path, passphrase: Callable[[str], str] | None, signed: bytes) -> bytes:
    """The SSH signature blob of `signed`; see `_verify` for its form."""
    from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    secret = passphrase(str(path)).encode() if passphrase else None
    try:
        private = load_ssh_private_key(text.encode(), secret)
    except UnsupportedAlgorithm:
        raise Refused(
            f"{path} is encrypted in a way that is not supported here", f"ssh-add {path}, then ssh-agent signs"
        ) from None
    except (ValueError, TypeError, InvalidTag):
        raise Refused(f"the passphrase of {path} is wrong" if passphrase else f"{path} is damaged") from None
    match private:
        case ed25519.Ed25519PrivateKey():
            return _string(ED25519.encode()) + _string(private.sign(signed))
        case ec.EllipticCurvePrivateKey():
            r, s = utils.decode_dss_signature(private.sign(signed, ec.ECDSA(hashes.SHA256())))
            return _string(P256.encode()) + _string(_mpint(r) + _mpint(s))
        case _:
            raise Refused(f"{path} holds another key than it says")


def generate(path: Path, comment: str) -> PublicKey:
    """Makes an Ed25519 key pair without a passphrase: `path`, for its owner alone, and `path`.pub. Raises FileExistsError.

    For the demo and for tests; people make theirs with ssh-keygen, under a passphrase or in a security key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    private = Ed25519PrivateKey.generate()
    line = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    key = public_key(f"{line} {comment}")
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    path.with_name(f"{path.name}.pub").write_text(key.line + "\n")
    return key


def agent(path: str, patience: float = 120.0) -> list[Signer]:
    """The signers that the agent at the socket `path` (``SSH_AUTH_SOCK``) offers; keys of other kinds are left out.

    `patience` is how many seconds a signature may take: a person may have to touch or confirm. Raises Refused.
    """
    answer = _Reader(_ask(path, bytes([_LIST]), _LISTED, 10.0), "the agent's answer")
    signers = []
    for _ in range(answer.u32()):
        blob, comment = answer.string(), answer.string().decode("utf-8", "replace")
        try:
            key = _public_blob(blob, comment)
        except Refused:
            continue
        signers.append(Signer(key, "ssh-agent", partial(_sign_with_agent, path, key, patience)))
    return signers


def _sign_with_agent(path: str, key: PublicKey, patience: float, signed: bytes) -> bytes:
    request = bytes([_SIGN]) + _string(key.blob) + _string(signed) + _u32(0)
    answer = _Reader(_ask(path, request, _SIGNED, patience), "the agent's answer")
    signature = answer.string()
    answer.end()
    return signature


def _ask(path: str, request: bytes, expected: int, patience: float) -> bytes:
    """One question to the agent on a connection of its own; the answer without its number. Raises Refused."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(patience)
            link.connect(path)
            link.sendall(_string(request))
            with link.makefile("rb") as stream:
                length = int.from_bytes(stream.read(4), "big")
                answer = stream.read(length) if 0 < length <= _LARGEST * 4 else b""
    except TimeoutError:
        raise Refused(f"ssh-agent gave no answer within {patience:g} s", "was a touch or a confirmation missed?") from None
    except OSError as error:
        raise Refused(
            f"ssh-agent at {path} does not answer: {error.strerror or error}", 'start one: eval "$(ssh-agent)" && ssh-add'
        ) from None
    if not answer or len(answer) != length:
        raise Refused("ssh-agent broke off its answer")
    if answer[0] != expected:
        raise Refused("ssh-agent refused", "is it locked, or was a confirmation declined?")
    return answer[1:]
