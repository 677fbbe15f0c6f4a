"""A second opinion: 10,000 generated signatures and rosters, judged by us and by ssh-keygen.

Where ssh-keygen refuses we refuse. Where it accepts we accept, except where it is too lax: a wildcard for a name, one key
under two names, a security key that nobody touched, a time that its caller chose. There we refuse.

`make test` looks at every fourth case; LASTGOOD_OPINIONS=1 at all of them.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from signing import NOW, Token, mpint, private_key, public_line, string

from engine import roster, source, sshsig, words
from engine.diagnostics import EngineError
from engine.sshsig import Refused

EVERY = int(os.environ.get("LASTGOOD_OPINIONS", "4"))
CASES, SEED = 10_000, 20261127
OURS, SPACES = "lastgood-approve@1", ["lastgood-approve@1", "lastgood-reject@1", "lastgood-roster@1", "git", "file"]
MESSAGES = [b"", b'{"decision":"approve"}', b"x" * 70_000]
KEYGEN = shutil.which("ssh-keygen") or ""


class Plain:
    """A key in a file, in memory."""

    def __init__(self, kind: str) -> None:
        self.private = private_key(kind)
        self.key = sshsig.public_key(public_line(self.private))

    def raw(self, signed: bytes, _flags: int) -> bytes:
        if self.key.kind == sshsig.ED25519:
            return string(self.key.kind.encode()) + string(self.private.sign(signed))
        r, s = utils.decode_dss_signature(self.private.sign(signed, ec.ECDSA(hashes.SHA256())))
        return string(self.key.kind.encode()) + string(mpint(r) + mpint(s))


@dataclass(frozen=True)
class Case:
    """Who signed what for which namespace, what is claimed, and what the list of keys says."""

    blob: bytes
    message: bytes
    namespace: str
    claimed: str
    allowed: str
    listed: str
    time: float
    lax: str = ""


KEYS: list[Any] = [kind(of) for kind in (Plain, Token) for of in ("ed25519", "ecdsa") for _ in range(2)]


def blob_of(key: Any, message: bytes, namespace: str, algorithm: str, flags: int) -> bytes:
    parts = (namespace.encode(), b"", algorithm.encode())
    signed = b"SSHSIG" + b"".join(string(part) for part in (*parts, hashlib.new(algorithm, message).digest()))
    whole = (key.key.blob, *parts, key.raw(signed, flags))
    return b"SSHSIG" + (1).to_bytes(4, "big") + b"".join(string(part) for part in whole)


def spoilt(chance: random.Random, blob: bytes) -> bytes:
    """The blob, in a third of the cases with a change."""
    kind = chance.choice(["", "", "", "", "bit", "cut", "tail"])
    at = chance.randrange(len(blob))
    if kind == "bit":
        return blob[:at] + bytes([blob[at] ^ 1 << chance.randrange(8)]) + blob[at + 1 :]
    return blob[:at] if kind == "cut" else blob + b"\0" if kind == "tail" else blob


def case(number: int) -> Case:
    """The case of that number: the same on every machine, but for the keys."""
    chance = random.Random(SEED + number)
    key, other = chance.sample(KEYS, 2)
    message = chance.choice(MESSAGES)
    space = chance.choices(SPACES, [8, 1, 1, 1, 1])[0]
    flags = chance.choice([0, 1, 1, 4, 5, 5])
    blob = spoilt(chance, blob_of(key, message, space, chance.choice(["sha256", "sha512"]), flags))
    if chance.random() < 0.05:
        message += b" "
    name, claimed = "ana", chance.choices(["ana", "bo", "an", "ana2"], [9, 1, 1, 1])[0]
    kind = chance.choices(["one", "other key", "wildcard", "two names", "not there"], [12, 1, 2, 2, 1])[0]
    listed = other if kind == "other key" else key
    since, until = chance.choice(
        [(None, None)] * 4 + [(NOW - 60, None), (NOW + 60, None), (None, NOW + 60), (None, NOW - 60)]
    )
    at, lax = NOW, ""
    options = [f'valid-after="{_ssh(since)}"'] if since else []
    options += [f'valid-before="{_ssh(until)}"'] if until else []
    if ((since and since > NOW) or (until and until < NOW)) and chance.random() < 0.5:
        at, lax = (NOW + 7200 if since else NOW - 7200), "a time of the caller's"
    lines = [f"{name} {' '.join([','.join(options)] if options else [])} {_line(listed)}".replace("  ", " ")]
    people = [_person(name, listed, since, until)]
    if kind == "wildcard":
        pattern = chance.choice(["*", "a*", "?na"])
        lines[0], people[0], lax = lines[0].replace("ana", pattern, 1), _person(pattern, listed, since, until), "a wildcard"
    if kind == "two names":
        lines.append(f"bo {_line(listed)}")
        people.append(_person("bo", listed, None, None))
        lax = "one key under two names"
    if kind == "not there":
        lines, people = [f"cy {_line(other)}"], [_person("cy", other, None, None)]
    if key.key.hardware and not flags & 1:
        lax = lax or "an untouched security key"
    return Case(blob, message, OURS, claimed, "\n".join(lines) + "\n", "people:\n" + "".join(people), at, lax)


def _line(key: Any) -> str:
    return " ".join(key.key.line.split()[:2])


def _ssh(at: float) -> str:
    return words.utc(at).translate({ord(char): None for char in "-: Z"}) + "Z"


def _person(name: str, key: Any, since: float | None, until: float | None) -> str:
    limits = [f'{word}: "{words.utc(at).replace(" ", "T")}"' for word, at in (("from", since), ("until", until)) if at]
    key_line = ", ".join([f'key: "{_line(key)}"', *limits])
    return f'  - name: "{name}"\n    roles: [x]\n    keys: [{{{key_line}}}]\n'


def ours(one: Case) -> bool:
    """Whether we take it, at our own time."""
    try:
        people = roster.read(source.parse(one.listed, "roster.yml"))
        signature = sshsig.verify_blob(one.blob, one.message, one.namespace)
    except (EngineError, Refused):
        return False
    person = people.person_by_key(signature.key.fingerprint)
    key = person.key(signature.key.fingerprint) if person else None
    return bool(person and key and person.name == one.claimed and not key.fault(signature, NOW))


def theirs(one: Case, folder: Path) -> bool:
    """Whether `ssh-keygen -Y verify` takes it, at the time that it is told."""
    (folder / "allowed").write_text(one.allowed)
    (folder / "sig").write_text(sshsig.armour(one.blob))
    (folder / "message").write_bytes(one.message)
    argv = [KEYGEN, "-Y", "verify", "-f", f"{folder}/allowed", "-I", one.claimed, "-n", one.namespace,
            "-s", f"{folder}/sig", "-Overify-time=" + _ssh(one.time)]  # fmt: skip
    streams = [
        (os.POSIX_SPAWN_OPEN, 0, f"{folder}/message", os.O_RDONLY, 0),
        *[(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)],
    ]
    process = os.posix_spawn(KEYGEN, argv, {"TZ": "UTC"}, file_actions=streams)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.skipif(not KEYGEN, reason="ssh-keygen is not installed (openssh-client)")
@pytest.mark.parametrize("shard", [0, 1])
def test_ssh_keygen_and_we_agree(shard: int, tmp_path: Path) -> None:
    """We accept nothing that ssh-keygen refuses, and refuse what it accepts only where it is too lax."""
    seen: Counter[str] = Counter()
    for number in range(shard * EVERY, CASES, 2 * EVERY):
        one = case(number)
        we, they = ours(one), theirs(one, tmp_path)
        verdict = "both accept" if we and they else "both refuse" if not we and not they else one.lax if they else "WE ALONE"
        assert verdict not in ("", "WE ALONE"), f"case {number}: ours {we}, theirs {they}: {one}"
        seen[verdict] += 1
    looked = CASES // EVERY // 2
    assert looked == sum(seen.values())
    assert seen["both accept"] > looked // 10
    assert seen["both refuse"] > looked // 10
    for lax in ("a wildcard", "one key under two names", "an untouched security key", "a time of the caller's"):
        assert seen[lax] or looked < 1000, f"{lax}: no case of it"
