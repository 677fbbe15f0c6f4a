"""The head of a bundle kept outside: in a file elsewhere, on a branch of a Git repository, by a time stamping service.

In: a sealed bundle, targets as they are written, the wire. Out: what became of each, and `Heads` that a bundle is held
against later. Whoever alters or takes away bundles would have to alter the outside too. The door of rfc3161_client.

A line of a file or a branch is canonical JSON: run, bundle, digest of its tag manifest, size and head of its custody log,
and the proof that this log begins with the one before (RFC 9162). A time stamp (RFC 3161) is over the attestation's bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import bag, canon, merkle, proof, seal
from engine.members import Fault
from engine.seal import Sealed
from modules.contract import Json, ModuleError, Wire

#: The file on a branch that holds the lines, and the seconds that one target may take: a change waits behind it.
LINES, PATIENCE = "evidence.jsonl", 10.0
STAMP = "application/timestamp-query"
#: Git without anything of the repository's or the user's that could run or change something.
_GIT = ("git", "-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0", "-c", "commit.gpgSign=false")
_ENV = {
    "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "lastgood",
    "GIT_AUTHOR_EMAIL": "engine@lastgood.invalid", "GIT_COMMITTER_NAME": "lastgood",
    "GIT_COMMITTER_EMAIL": "engine@lastgood.invalid", "PATH": os.environ.get("PATH", os.defpath),
}  # fmt: skip


@dataclass(frozen=True)
class Anchored:
    """What became of a target: `why` is empty when it holds the head. `where`: a file, a commit, a stamp's file. `offset`:
    how many seconds our clock is ahead of the service's, where it says."""

    target: str
    where: str = ""
    why: str = ""
    offset: float | None = None


def misnamed(target: str) -> str:
    """What is wrong with a target as it is written; empty when nothing is."""
    kind, _, rest = target.partition(":")
    if kind == "git":
        repository, _, branch = rest.partition("#")
        good = bool(repository) and bool(branch) and not branch.startswith("-") and ".." not in branch
        return "" if good else "a branch is written git:REPOSITORY#BRANCH"
    if kind in ("http", "https"):
        return ""
    return (
        ""
        if kind == "file" and rest
        else "write file:PATH, git:REPOSITORY#BRANCH, or the http address of a time stamping service"
    )


def body(told: Sealed, one: Anchored) -> dict[str, Json]:
    """What the record says of it."""
    return {"bundle": told.name, "target": one.target, "where": one.where, "why": one.why, "clock_offset": one.offset}


def line(folder: Path, told: Sealed, before: Sealed | None, signer: str, at: str) -> bytes:
    """What is kept outside of a bundle. `folder`: where it lies; `before`: the bundle before it."""
    leaves = [merkle.leaf(one) for one in (folder / bag.DATA / seal.CUSTODY).read_bytes().splitlines()]
    grown = before is not None and before.rows > 0 and before.machine == told.machine
    # A log that began anew, because the run went on elsewhere, does not begin with the one before.
    was = (
        {"bundle": before.name, "digest": before.digest, "rows": before.rows, "root": before.root}
        if before and grown
        else None
    )
    said = {
        "bundle": told.name, "digest": told.digest, "rows": told.rows, "root": told.root, "signer": signer, "at": at,
        "previous": was,
        "consistency": [one.hex() for one in merkle.consistency(leaves, before.rows)] if before and grown else [],
    }  # fmt: skip
    return canon.dumps(said) + b"\n"


def anchor(target: str, text: bytes, folder: Path, wire: Wire, now: float) -> Anchored:
    """Takes a bundle's head to `target`. What goes wrong is said, never raised: an anchor that is down holds nothing up."""
    kind, _, rest = target.partition(":")
    try:
        if kind == "file":
            return Anchored(target, _file(Path(rest), text))
        if kind == "git":
            return Anchored(target, _branch(rest.partition("#")[0], rest.partition("#")[2], text, wire))
        return _stamped(target, folder, wire, now)
    except (OSError, ModuleError, ValueError) as error:
        return Anchored(target, why=str(error) or type(error).__name__)


def _file(path: Path, text: bytes) -> str:
    handle = os.open(path.expanduser(), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, text)
        os.fsync(handle)
    finally:
        os.close(handle)
    return str(path)


def _branch(repository: str, branch: str, text: bytes, wire: Wire) -> str:
    """Adds a commit with one line more to the branch; no working tree is touched, nothing of the repository is run."""

    def git(*words: str, given: bytes = b"") -> str:
        argv = [*_GIT, "-C", repository, *words]
        done = wire.command(argv, stdin=given, env=_ENV, timeout=PATIENCE)
        if done.code:
            raise ModuleError(f"git {words[0]}: {done.err.strip()[:200] or done.code}")
        return done.out.strip()

    ref = f"refs/heads/{branch}"
    tip = git("for-each-ref", "--format=%(objectname)", ref)
    earlier = b""
    if tip and git("ls-tree", tip, LINES):
        earlier = git("cat-file", "blob", f"{tip}:{LINES}").encode() + b"\n"
    blob = git("hash-object", "-w", "--stdin", given=earlier + text)
    others = [one for one in git("ls-tree", tip).splitlines() if one.partition("\t")[2] != LINES] if tip else []
    tree = git("mktree", given="".join(f"{one}\n" for one in [*others, f"100644 blob {blob}\t{LINES}"]).encode())
    name = json.loads(text)["bundle"]
    commit = git("commit-tree", tree, *(("-p", tip) if tip else ()), "-m", f"Evidence {name}")
    git("update-ref", ref, commit, tip or "0" * 40)  # refused when somebody else was there in between
    return commit


def _stamped(target: str, folder: Path, wire: Wire, now: float) -> Anchored:
    from rfc3161_client import HashAlgorithm, TimestampRequestBuilder, decode_timestamp_response

    signed = (folder / seal.ATTESTATION).read_bytes()
    asked = TimestampRequestBuilder().data(signed).hash_algorithm(HashAlgorithm.SHA512).build()
    reply = wire.http(
        "POST", target, body=asked.as_bytes(), headers={"content-type": STAMP}, timeout=PATIENCE, limit=1 << 20
    )
    if not reply.ok:
        raise ModuleError(f"the service answered {reply.status}")
    answer = decode_timestamp_response(reply.body)
    if answer.status not in (0, 1):
        raise ModuleError(f"the service refused (status {answer.status})")
    if answer.tst_info.nonce != asked.nonce or answer.tst_info.message_imprint.message != asked.message_imprint.message:
        raise ModuleError("the service stamped something else")
    number, path = 1, folder.with_name(f"{folder.name}.tsr")
    while path.exists():
        number += 1
        path = folder.with_name(f"{folder.name}.{number}.tsr")
    bag.written(path, reply.body)
    return Anchored(target, str(path), offset=round(now - answer.tst_info.gen_time.timestamp(), 3))


# ------------------------------------------------------------------------------------------------- what an anchor shows
@dataclass(frozen=True)
class Heads:
    """The lines of an anchor's file, oldest first."""

    path: str
    lines: tuple[dict[str, Any], ...]

    @classmethod
    def read(cls, path: Path) -> Heads:
        """Raises ValueError for a file with a line that is none, or whose logs do not grow out of one another."""
        found: list[dict[str, Any]] = []
        for number, text in enumerate(path.read_bytes().splitlines(), 1):
            said = json.loads(text)
            if not isinstance(said, dict) or not _formed(said) or canon.dumps(said) != text:
                raise ValueError(f"line {number} is not a bundle's head")
            earlier = next((one for one in found if said["previous"] and one["bundle"] == said["previous"]["bundle"]), None)
            if not _grown(said) or (earlier and said["previous"] != {key: earlier[key] for key in said["previous"]}):
                raise ValueError(f"line {number}: its custody log does not begin with the one before")
            found.append(said)
        return cls(path.name, tuple(found))

    def against(self, found: Sequence[proof.Found]) -> list[Fault]:
        """What does not fit: a bundle that is another than was anchored, and one that was anchored and is not here."""
        here = [one.name for one in found]
        runs = {str(one.said.get("run")) for one in found}
        faults = []
        for said in self.lines:
            if said["bundle"] not in here and said["bundle"].rpartition(".")[0] in runs:
                faults.append(Fault(said["bundle"], f"is in {self.path} and not here: it was taken away"))
            head = said["digest"], {"rows": said["rows"], "root": said["root"]}
            for one in (one for one in found if one.name == said["bundle"]):
                if (one.digest, one.said.get("custody")) != head:
                    faults.append(Fault(one.name, f"is another one than {self.path} has: {said['digest']}"))
                elif one.signer and one.signer.fingerprint != said["signer"]:
                    faults.append(Fault(one.name, f"was sealed with the key {said['signer']}, says {self.path}"))
        known = {said["bundle"] for said in self.lines}
        faults += [Fault(name, f"is not in {self.path}") for name in sorted(set(here) - known)]
        return faults


_HEAD: dict[str, type] = {"bundle": str, "digest": str, "rows": int, "root": str}
_FIELDS = {**_HEAD, "signer": str, "at": str, "consistency": list}


def _formed(said: dict[str, Json]) -> bool:
    """Whether the line has the fields of a bundle's head, each of its kind."""
    before = said.get("previous", 0)
    good = set(said) == {*_FIELDS, "previous"} and all(isinstance(said[name], kind) for name, kind in _FIELDS.items())
    if not good or before is None:
        return good
    known = isinstance(before, dict) and set(before) == set(_HEAD)
    return known and all(isinstance(before[name], kind) for name, kind in _HEAD.items())


def _grown(said: dict[str, Json]) -> bool:
    """Whether the line's log begins with the log before, as its proof shows."""
    before = said["previous"]
    if before is None:
        return not said["consistency"]
    steps = [bytes.fromhex(str(one)) for one in said["consistency"]]
    old, new = bytes.fromhex(before["root"]), bytes.fromhex(said["root"])
    grown: bool = merkle.extends(old, int(before["rows"]), new, int(said["rows"]), steps)
    return grown


def stamped(path: Path, authority: Path, found: Sequence[proof.Found]) -> tuple[str, list[Fault]]:
    """When the service says that a bundle was there, and what is wrong with that. `authority`: the service's root, PEM."""
    from cryptography.x509 import load_pem_x509_certificate
    from rfc3161_client import VerificationError, VerifierBuilder, decode_timestamp_response

    try:
        answer = decode_timestamp_response(path.read_bytes())
        verifier = VerifierBuilder().add_root_certificate(load_pem_x509_certificate(authority.read_bytes())).build()
    except (ValueError, OSError) as error:
        return "", [Fault(path.name, f"cannot be read: {error}")]
    for one in found:
        try:
            if verifier.verify_message(answer, one.attestation):
                return f"{one.name} was there at {answer.tst_info.gen_time.isoformat()}", []
        except (VerificationError, ValueError):
            continue
    return "", [Fault(path.name, "is a stamp of none of these bundles, or not one of this authority")]
