"""SSH signatures: against ssh-keygen and a real ssh-agent both ways, and every damage that must be refused."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils
from signing import Token, mpint, no_passphrase, private_key, string

from engine import sshsig
from engine.sshsig import PublicKey, Refused, Signer

NAMESPACE = "lastgood-approve@1"
MESSAGE = b'{"decision":"approve","run":"RB-0142"}'
KINDS = ["ed25519", "ecdsa"]
SEED = 20261123

real = pytest.mark.real
needs_keygen = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="ssh-keygen is not installed (openssh-client)")
needs_agent = pytest.mark.skipif(not shutil.which("ssh-agent"), reason="ssh-agent is not installed (openssh-client)")


def write_key(path: Path, private: Any, passphrase: bytes = b"", mode: int = 0o600) -> Path:
    how = form.BestAvailableEncryption(passphrase) if passphrase else form.NoEncryption()
    path.write_bytes(private.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, how))
    path.chmod(mode)
    path.with_suffix(".pub").write_bytes(private.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH))
    return path


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return sshsig.key_file(write_key(tmp_path / "id", private_key("ed25519")), no_passphrase)


def keygen(*words: str | Path, stdin: bytes = b"") -> bytes:
    return subprocess.run(["ssh-keygen", *map(str, words)], input=stdin, capture_output=True, check=True).stdout


def accepts(folder: Path, key: PublicKey, armoured: str, message: bytes, namespace: str) -> bool:
    """What `ssh-keygen -Y verify` says of a signature."""
    (folder / "allowed").write_text(f"ana {key.line}\n")
    (folder / "message.sig").write_text(armoured)
    words = ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "ana", "-n", namespace, "-s", "message.sig"]
    return subprocess.run(words, input=message, capture_output=True, cwd=folder).returncode == 0


def messages(count: int) -> Iterator[bytes]:
    chance = random.Random(SEED)
    yield b""
    for _ in range(count - 1):
        yield chance.randbytes(chance.choice([1, 63, 64, 65, 1000, 70_000]))


# --- the second opinion: ssh-keygen


@real
@needs_keygen
@pytest.mark.parametrize("kind", KINDS)
def test_ssh_keygen_accepts_ours(kind: str, tmp_path: Path) -> None:
    """What we sign with a key file, ssh-keygen verifies; with another message or namespace it does not."""
    ours = sshsig.key_file(write_key(tmp_path / "id", private_key(kind)), no_passphrase)
    for message in messages(40):
        armoured = ours.sign(message, NAMESPACE)
        assert accepts(tmp_path, ours.key, armoured, message, NAMESPACE)
    assert not accepts(tmp_path, ours.key, armoured, message + b".", NAMESPACE)
    assert not accepts(tmp_path, ours.key, armoured, message, "git")


@real
@needs_keygen
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_we_accept_ssh_keygen(kind: str, algorithm: str, tmp_path: Path) -> None:
    """What `ssh-keygen -Y sign` makes with its own keys, we verify, and the fingerprint is the one it prints."""
    keygen("-q", "-t", kind, "-N", "", "-C", "ana@laptop", "-f", tmp_path / "id")
    key = sshsig.public_key((tmp_path / "id.pub").read_text())
    assert key.fingerprint in keygen("-l", "-f", tmp_path / "id.pub").decode().split()
    assert key.comment == "ana@laptop"
    for message in messages(20):
        made = keygen("-Y", "sign", "-n", NAMESPACE, "-O", f"hashalg={algorithm}", "-f", tmp_path / "id", stdin=message)
        assert key == sshsig.verify(made.decode(), message, NAMESPACE)
        with pytest.raises(Refused):
            sshsig.verify(made.decode(), message + b".", NAMESPACE)


@real
@needs_keygen
@pytest.mark.parametrize("kind", KINDS)
def test_key_files_of_ssh_keygen(kind: str, tmp_path: Path) -> None:
    """A key file that ssh-keygen made signs, with its passphrase when it has one."""
    for name, passphrase in [("plain", ""), ("locked", "correct horse")]:
        keygen("-q", "-t", kind, "-a", "2", "-N", passphrase, "-f", tmp_path / name)
        ours = sshsig.key_file(tmp_path / name, (lambda path: "correct horse") if passphrase else no_passphrase)
        assert accepts(tmp_path, ours.key, ours.sign(MESSAGE, NAMESPACE), MESSAGE, NAMESPACE)


# --- a real agent


@pytest.fixture
def agent_socket(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()  # it prints its address once it listens
        yield path
    finally:
        process.terminate()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


def add(agent: Path, key: Path) -> None:
    subprocess.run(
        ["ssh-add", "-q", str(key)], env={**os.environ, "SSH_AUTH_SOCK": str(agent)}, capture_output=True, check=True
    )


@real
@needs_agent
def test_a_real_agent_signs(agent_socket: Path, tmp_path: Path) -> None:
    """The agent's Ed25519 and P-256 keys sign, its RSA key is left out, and ssh-keygen agrees with the result."""
    assert [] == sshsig.agent(str(agent_socket))
    for kind in ["ed25519", "ecdsa", "rsa"]:
        keygen("-q", "-t", kind, "-N", "", "-C", f"ana's {kind}", "-f", tmp_path / kind)
        add(agent_socket, tmp_path / kind)
    signers = sshsig.agent(str(agent_socket))
    assert ["ana's ed25519", "ana's ecdsa"] == [signer.key.comment for signer in signers]
    for ours in signers:
        for message in messages(10):
            armoured = ours.sign(message, NAMESPACE)
            assert accepts(tmp_path, ours.key, armoured, message, NAMESPACE)


@real
@needs_agent
def test_we_accept_ssh_keygen_with_the_agent(agent_socket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ssh-keygen makes through the agent, we verify."""
    keygen("-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "id")
    add(agent_socket, tmp_path / "id")
    (tmp_path / "id").unlink()
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent_socket))
    made = keygen("-Y", "sign", "-n", NAMESPACE, "-f", tmp_path / "id.pub", stdin=MESSAGE).decode()
    assert sshsig.agent(str(agent_socket))[0].key == sshsig.verify(made, MESSAGE, NAMESPACE)


@real
@needs_agent
def test_a_key_taken_out_of_the_agent_is_refused(agent_socket: Path, tmp_path: Path) -> None:
    """An agent that no longer has the key says no, and so do we."""
    add(agent_socket, write_key(tmp_path / "id", private_key("ed25519")))
    [ours] = sshsig.agent(str(agent_socket))
    subprocess.run(
        ["ssh-add", "-q", "-D"], env={**os.environ, "SSH_AUTH_SOCK": str(agent_socket)}, capture_output=True, check=True
    )
    with pytest.raises(Refused, match="ssh-agent refused"):
        ours.sign(MESSAGE, NAMESPACE)


def answering(path: Path, answer: bytes | None) -> threading.Thread:
    """A socket that accepts one question and answers with these bytes; with None it says nothing until the asker leaves."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        with listener, listener.accept()[0] as link:
            link.recv(4096)
            if answer is None:
                link.recv(4096)
            else:
                link.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "broke off"),
        (b"\0\0\0\5\5", "broke off"),
        (b"\0\0\0\1\5", "ssh-agent refused"),
        (b"\xff\xff\xff\xff\x0c", "broke off"),
        (b"\0\0\0\5\x0c\0\0\0\1", "cut short"),
        (b"\0\0\0\x09\x0c\0\0\0\1\xff\xff\xff\xff", "cut short"),
    ],
)
def test_a_confused_agent_is_refused(answer: bytes, reason: str, tmp_path: Path) -> None:
    """Whatever a broken agent says ends as one plain sentence."""
    thread = answering(tmp_path / "agent", answer)
    with pytest.raises(Refused, match=reason):
        sshsig.agent(str(tmp_path / "agent"))
    thread.join(30)


def test_an_agent_that_says_nothing_is_left(tmp_path: Path, signer: Signer) -> None:
    """A signature that does not come within the patience ends as a sentence that names the likely cause."""
    blob = signer.key.blob
    listing = b"\x0c\0\0\0\1" + b"".join(len(part).to_bytes(4, "big") + part for part in (blob, b"ana"))
    thread = answering(tmp_path / "agent", len(listing).to_bytes(4, "big") + listing)
    [ours] = sshsig.agent(str(tmp_path / "agent"), patience=0.2)
    thread.join(30)
    (tmp_path / "agent").unlink()
    thread = answering(tmp_path / "agent", None)
    with pytest.raises(Refused, match=r"no answer within 0\.2 s") as caught:
        ours.sign(MESSAGE, NAMESPACE)
    thread.join(30)
    assert "touch" in caught.value.hint


@pytest.mark.parametrize("name", ["absent", "x" * 200])
def test_no_agent_is_refused(name: str, tmp_path: Path) -> None:
    """A socket that is not there, or cannot be, is named and the remedy given."""
    with pytest.raises(Refused, match="does not answer") as caught:
        sshsig.agent(str(tmp_path / name))
    assert "ssh-add" in caught.value.hint


# --- security keys, made in software


def signature(made_by: PublicKey, raw: Callable[[bytes], bytes], **changed: bytes) -> str:
    """An armoured SSHSIG built by hand, any part of it `changed`."""
    hashed = {b"sha256": hashlib.sha256, b"sha1": hashlib.sha1}.get(changed.get("algorithm", b""), hashlib.sha512)(MESSAGE)
    parts = {"namespace": NAMESPACE.encode(), "reserved": b"", "algorithm": b"sha512"} | {
        name: value for name, value in changed.items() if name in ("namespace", "reserved", "algorithm")
    }
    signed = b"SSHSIG" + b"".join(string(part) for part in (*parts.values(), hashed.digest()))
    fields = [changed.get("key", made_by.blob), *parts.values(), raw(signed)]
    start = changed.get("magic", b"SSHSIG") + changed.get("version", (1).to_bytes(4, "big"))
    return sshsig.armour(start + b"".join(string(part) for part in fields) + changed.get("tail", b""))


@pytest.mark.parametrize("kind", KINDS)
def test_a_touched_security_key_is_accepted(kind: str) -> None:
    """A signature with the presence bit set is good, with the PIN bit or without."""
    token = Token(kind)
    assert token.key.hardware
    for flags in (1, 5):
        assert token.key == sshsig.verify(signature(token.key, lambda data, f=flags: token.raw(data, f)), MESSAGE, NAMESPACE)


@real
@needs_keygen
@pytest.mark.parametrize("kind", KINDS)
def test_ssh_keygen_reads_our_token(kind: str, tmp_path: Path) -> None:
    """The token of these tests speaks as a real one: ssh-keygen accepts its signature, even the untouched one."""
    token = Token(kind)
    for flags in (1, 0):
        armoured = signature(token.key, lambda data, f=flags: token.raw(data, f))
        assert accepts(tmp_path, token.key, armoured, MESSAGE, NAMESPACE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flags", [0, 4, 0xFE])
def test_an_untouched_security_key_is_refused(kind: str, flags: int) -> None:
    """Without the presence bit a signature counts for nothing, though ssh-keygen would take it."""
    token = Token(kind)
    with pytest.raises(Refused, match="not touched"):
        sshsig.verify(signature(token.key, lambda data: token.raw(data, flags)), MESSAGE, NAMESPACE)


@pytest.mark.parametrize("kind", KINDS)
def test_flags_of_a_security_key_cannot_be_changed(kind: str) -> None:
    """Setting the presence bit afterwards, or the counter, breaks the signature."""
    token = Token(kind)
    for flags, at, value in [(0, -5, 1), (1, -5, 5), (1, -1, 8)]:

        def forged(data: bytes, flags: int = flags, at: int = at, value: int = value) -> bytes:
            raw = bytearray(token.raw(data, flags))
            raw[at] = value
            return bytes(raw)

        with pytest.raises(Refused, match="does not fit"):
            sshsig.verify(signature(token.key, forged), MESSAGE, NAMESPACE)


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_after_a_security_key_signature_are_refused(kind: str) -> None:
    """Nothing may follow the counter."""
    token = Token(kind)
    with pytest.raises(Refused, match="goes on after"):
        sshsig.verify(signature(token.key, lambda data: token.raw(data, 1, b"\0")), MESSAGE, NAMESPACE)


# --- damage


def test_every_flipped_bit_is_refused(signer: Signer) -> None:
    """Each of the 1,504 single-bit changes of an Ed25519 signature is refused, or names a key that did not sign."""
    blob = sshsig.unarmour(signer.sign(MESSAGE, NAMESPACE))
    assert 1504 == len(blob) * 8
    assert signer.key == sshsig.verify(sshsig.armour(blob), MESSAGE, NAMESPACE)
    for bit in range(len(blob) * 8):
        flipped = bytearray(blob)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Refused):
            sshsig.verify(sshsig.armour(bytes(flipped)), MESSAGE, NAMESPACE)


def test_every_cut_is_refused(signer: Signer) -> None:
    """A signature that ends early is refused wherever it ends."""
    blob = sshsig.unarmour(signer.sign(MESSAGE, NAMESPACE))
    for length in range(len(blob)):
        with pytest.raises(Refused):
            sshsig.verify(sshsig.armour(blob[:length]), MESSAGE, NAMESPACE)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"magic": b"SSHSIH"}, "version 1"),
        ({"version": b"\0\0\0\2"}, "version 1"),
        ({"namespace": b"git"}, "made for 'git'"),
        ({"namespace": b""}, "made for ''"),
        ({"namespace": b"lastgood-approve@1\0"}, "made for"),
        ({"namespace": b"lastgood-reject@1"}, "made for 'lastgood-reject@1'"),
        ({"reserved": b"x"}, "reserved"),
        ({"algorithm": b"sha1"}, "neither sha256 nor sha512"),
        ({"algorithm": b"SHA512"}, "neither sha256 nor sha512"),
        ({"tail": b"\0"}, "goes on after"),
        ({"key": string(b"ssh-ed25519") + string(b"k" * 31)}, "wrong length"),
        ({"key": string(b"ssh-ed25519") + string(b"k" * 32) + b"x"}, "goes on after"),
        ({"key": string(b"ssh-ed25519") + string(b"k" * 32)}, "does not fit"),
        ({"key": string(b"ssh-rsa") + string(b"\1\0\1") + string(b"n" * 256)}, "ssh-rsa keys are not accepted"),
        ({"key": string(b"ssh-ed25519-cert-v01@openssh.com") + string(b"k" * 32)}, "certificates are not accepted"),
        ({"key": string(sshsig.P256.encode()) + string(b"nistp256") + string(b"\4" * 65)}, "different kinds"),
        ({"key": string(sshsig.P256.encode()) + string(b"nistp384") + string(b"\4" * 65)}, "not on the curve"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_changed_part_is_refused(changed: dict[str, bytes], reason: str, tmp_path: Path) -> None:
    """Every part of a signature that is not as it must be is refused by its own reason, though the rest is right."""
    private = private_key("ed25519")
    key = sshsig.key_file(write_key(tmp_path / "id", private), no_passphrase).key

    def raw(data: bytes) -> bytes:
        return string(b"ssh-ed25519") + string(private.sign(data))

    assert key == sshsig.verify(signature(key, raw), MESSAGE, NAMESPACE)
    with pytest.raises(Refused, match=reason):
        sshsig.verify(signature(key, raw, **changed), MESSAGE, NAMESPACE)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        (lambda r, s: mpint(r) + mpint(s), ""),
        (lambda r, s: mpint(r) + mpint(s) + b"\0", "goes on after"),
        (lambda r, s: string(b"\0" + (1 << 255).to_bytes(33, "big")) + mpint(s), "canonical form"),
        (lambda r, s: string(b"\x80" * 32) + mpint(s), "canonical form"),
        (lambda r, s: string(b"") + mpint(s), "canonical form"),
        (lambda r, s: string(b"\0") + mpint(s), "canonical form"),
        (lambda r, s: mpint(s) + mpint(r), "does not fit"),
        (lambda r, s: mpint(r), "cut short"),
    ],
)
def test_the_numbers_of_a_p256_signature(shape: Callable[[int, int], bytes], reason: str, tmp_path: Path) -> None:
    """The two numbers are read in their one canonical form, with nothing after them."""
    private = private_key("ecdsa")
    key = sshsig.key_file(write_key(tmp_path / "id", private), no_passphrase).key

    def raw(data: bytes) -> bytes:
        r, s = utils.decode_dss_signature(private.sign(data, ec.ECDSA(hashes.SHA256())))
        return string(sshsig.P256.encode()) + string(shape(r, s))

    if not reason:
        assert key == sshsig.verify(signature(key, raw), MESSAGE, NAMESPACE)
    else:
        with pytest.raises(Refused, match=reason):
            sshsig.verify(signature(key, raw), MESSAGE, NAMESPACE)


def test_a_point_that_is_on_no_curve_is_refused() -> None:
    """A key whose point is not on P-256 is refused in words when it is used."""
    key = PublicKey(sshsig.P256, string(sshsig.P256.encode()) + string(b"nistp256") + string(b"\4" + b"\1" * 64))
    with pytest.raises(Refused, match="not a point"):
        sshsig.verify(
            signature(key, lambda data: string(sshsig.P256.encode()) + string(mpint(1) + mpint(1))), MESSAGE, NAMESPACE
        )


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.rstrip("\n"),
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("SIGNATURE-----\n", "SIGNATURE-----\n\n", 1),
        lambda text: text.replace("SIGNATURE-----\n", "SIGNATURE-----\nComment: hello\n", 1),
        lambda text: text[:60] + "\n" + text[60:],
        lambda text: text[:60] + " " + text[60:],
        lambda text: text[:60] + "-" + text[61:],
        lambda text: text.replace("SSH SIGNATURE", "PGP SIGNATURE"),
        lambda text: text + text,
        lambda text: "-----BEGIN SSH SIGNATURE-----\n" + "A" * 100_000 + "\n-----END SSH SIGNATURE-----\n",
        lambda text: text.replace("==\n", "=\n") if "==\n" in text else text.replace("\n-----END", "=\n-----END"),
        lambda text: "",
    ],
)
def test_armour_has_one_form(change: Callable[[str], str], signer: Signer) -> None:
    """A signature is one text: any other line break, blank, letter or frame around the same bytes is refused."""
    with pytest.raises(Refused):
        sshsig.verify(change(signer.sign(MESSAGE, NAMESPACE)), MESSAGE, NAMESPACE)


def test_stray_bits_of_base64_are_refused() -> None:
    """The unused bits of the last letter must be zero: two texts for one blob would be two names for one signature."""
    assert sshsig.unarmour(sshsig.armour(b"a" * 10)) == b"a" * 10
    text = sshsig.armour(b"a" * 10)
    assert "YQ==" in text
    with pytest.raises(Refused, match="stray bits"):
        sshsig.unarmour(text.replace("YQ==", "YR=="))


# --- public key lines


def rsa_line() -> str:
    public = rsa.generate_private_key(65537, 2048).public_key()
    return public.public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH).decode()


def line(kind: str, *parts: bytes) -> str:
    return f"{kind} " + base64.b64encode(string(kind.encode()) + b"".join(map(string, parts))).decode()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no public key line"),
        ("ana", "no public key line"),
        (rsa_line(), "ssh-rsa keys are not accepted"),
        ("ssh-dss AAAA", "ssh-dss keys are not accepted"),
        (line("ecdsa-sha2-nistp521", b"nistp521", b"\4" * 133), "only P-256"),
        (line("ssh-ed25519-cert-v01@openssh.com", b"k" * 32), "certificates are not accepted"),
        ('command="x" ' + line("ssh-ed25519", b"k" * 32), "no public key line"),
        ("cert-authority " + line("ssh-ed25519", b"k" * 32), "no public key line"),
        ("* " + line("ssh-ed25519", b"k" * 32), "no public key line"),
        ("ssh-ed25519", "cut short"),
        ("ssh-ed25519 !!!!", "not base64"),
        (line("ssh-ed25519", b"k" * 31), "wrong length"),
        (line("ssh-ed25519", b"k" * 32, b"more"), "goes on after"),
        (line("ssh-ed25519", b"k" * 32)[:-4], "cut short"),
        (line(sshsig.P256, b"nistp256", b"\2" * 33), "wrong length"),
        (line(sshsig.P256, b"nistp384", b"\4" * 65), "not on the curve"),
        (line(sshsig.SK_ED25519, b"k" * 32), "cut short"),
        (line("ssh-ed25519", b"k" * 32).replace("ssh-ed25519", sshsig.P256), "the line says"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_line_that_is_no_usable_key_is_refused(text: str, reason: str) -> None:
    """Kinds that are not accepted, certificates, options in front and damage each have their own words."""
    with pytest.raises(Refused, match=reason):
        sshsig.public_key(text)


def test_a_line_keeps_its_comment_and_comes_back() -> None:
    """A key line reads and writes back; two keys are the same whatever their comments."""
    text = line("ssh-ed25519", b"k" * 32)
    assert f"{text} ana on her laptop" == sshsig.public_key(f"  {text}  ana on her laptop \n").line
    assert sshsig.public_key(text) == sshsig.public_key(f"{text} other")
    assert not sshsig.public_key(text).hardware


# --- key files


@pytest.mark.parametrize("kind", KINDS)
def test_a_passphrase_is_asked_for_when_it_is_needed(kind: str, tmp_path: Path) -> None:
    """An encrypted file shows whose key it is without its passphrase, which is asked for once, to sign."""
    private = private_key(kind)
    asked = []

    def passphrase(path: str) -> str:
        asked.append(path)
        return "correct horse"

    ours = sshsig.key_file(write_key(tmp_path / "id", private, b"correct horse"), passphrase)
    assert sshsig.public_key((tmp_path / "id.pub").read_text()) == ours.key
    assert [] == asked
    assert ours.key == sshsig.verify(ours.sign(MESSAGE, NAMESPACE), MESSAGE, NAMESPACE)
    assert [str(tmp_path / "id")] == asked


@pytest.mark.parametrize("given", ["", "wrong"])
def test_a_wrong_passphrase_is_refused(given: str, tmp_path: Path) -> None:
    """A wrong passphrase is said to be wrong."""
    ours = sshsig.key_file(write_key(tmp_path / "id", private_key("ed25519"), b"correct horse"), lambda path: given)
    with pytest.raises(Refused, match=r"the passphrase of .*id is wrong"):
        ours.sign(MESSAGE, NAMESPACE)


def hardware_file() -> str:
    blob = string(b"none") * 2 + string(b"") + (1).to_bytes(4, "big") + string(Token("ed25519").key.blob) + string(b"p" * 64)
    text = base64.b64encode(b"openssh-key-v1\0" + blob).decode()
    return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{text}\n-----END OPENSSH PRIVATE KEY-----\n"


def pem() -> str:
    how = (form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    return str(private_key("ecdsa").private_bytes(*how).decode())


def damaged() -> str:
    private = private_key("ed25519")
    blob = private.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption()).decode().splitlines()
    raw = bytearray(base64.b64decode("".join(blob[1:-1])))
    raw[-60] ^= 1
    return f"{blob[0]}\n{base64.b64encode(bytes(raw)).decode()}\n{blob[-1]}\n"


@pytest.mark.parametrize(
    ("text", "mode", "reason", "hint"),
    [
        (None, 0o600, "cannot be read: No such file", ""),
        (lambda: "", 0o600, "not an OpenSSH private key", "ssh-keygen -p"),
        (lambda: line("ssh-ed25519", b"k" * 32), 0o644, "public half", "ssh-agent"),
        (pem, 0o600, "not an OpenSSH private key", "ssh-keygen -p"),
        (hardware_file, 0o600, "security key", "ssh-add"),
        (lambda: hardware_file().replace("b3BlbnNzaC1rZXktdjE", "b3BlbnNzaC1rZXktdjI"), 0o600, "not an OpenSSH", ""),
        (lambda: hardware_file()[:90] + hardware_file()[-36:], 0o600, "cut short|not base64|stray", ""),
    ],
)
def test_a_file_that_cannot_sign_is_refused(
    text: Callable[[], str] | None, mode: int, reason: str, hint: str, tmp_path: Path
) -> None:
    """Each file that is not a usable private key is refused with its path, its reason and the remedy."""
    path = tmp_path / "id"
    if text is not None:
        path.write_text(text())
        path.chmod(mode)
    with pytest.raises(Refused, match=reason) as caught:
        sshsig.key_file(path, no_passphrase)
    assert str(path) in caught.value.reason
    assert hint in caught.value.hint


def test_a_damaged_file_is_refused_when_it_signs(tmp_path: Path) -> None:
    """A private half that is broken is found before anything leaves."""
    (tmp_path / "id").write_text(damaged())
    (tmp_path / "id").chmod(0o600)
    ours = sshsig.key_file(tmp_path / "id", no_passphrase)
    with pytest.raises(Refused):
        ours.sign(MESSAGE, NAMESPACE)


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """A private key that others can read is not used, as ssh itself would not."""
    with pytest.raises(Refused, match="others can read") as caught:
        sshsig.key_file(write_key(tmp_path / "id", private_key("ed25519"), mode=0o640), no_passphrase)
    assert "chmod 600" in caught.value.hint


def test_a_signer_checks_its_own_signature(signer: Signer) -> None:
    """A signer whose key does not fit what signs is found when it signs, not when it is judged."""
    other = Signer(PublicKey(signer.key.kind, string(b"ssh-ed25519") + string(b"k" * 32)), "confused", signer._raw)
    with pytest.raises(Refused, match="does not fit"):
        other.sign(MESSAGE, NAMESPACE)
