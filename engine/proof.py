"""Whether a bundle is what was sealed: everything that is wrong with it, by name, from the bundle alone.

In: the members of a bundle as they lie in a folder, an archive or memory, and what the reader knows from elsewhere: a key,
an anchor, a journal. Out: a `Found` with every fault. It believes nothing that it has not worked out, and needs no network.

What a bundle alone proves is that all of it was signed together, by the key that is named. Whose key that is, and that
nothing newer was taken away, only something from outside can show: `signer`, an anchor, or the journal.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from engine import bag, canon, chain, custody, envelope, seal
from engine.chain import Entry
from engine.members import Damaged, Fault, Member
from engine.sshsig import PublicKey, Refused
from modules.contract import Json

#: Bytes of a tag file, of the journal or of the custody log that are looked at.
LARGEST = 256 << 20
_JOURNAL, _CUSTODY = bag.DATA + seal.JOURNAL, bag.DATA + seal.CUSTODY
_TAGS = (bag.BAGIT, bag.INFO, bag.MANIFEST)
_WHOLE = (*_TAGS, bag.TAGS, seal.ATTESTATION)
_READ = frozenset((*_WHOLE, _JOURNAL, _CUSTODY))
_RECORD = re.compile(rf"{seal.ERASED}/\d{{1,9}}\.json")
_RUN = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LINE = re.compile(r"([0-9a-f]{128})  (\S.*)")


@dataclass
class Found:
    """What a bundle says, as far as it holds, and every fault. `signer` None: the signature is not good; `rows`: the lines
    of its custody log; `key`: the public key line that the run's first entry names, if it is in this bundle; `file`: what
    was read."""

    faults: list[Fault] = field(default_factory=list)
    said: dict[str, Any] = field(default_factory=dict)
    digest: str = ""
    attestation: bytes = b""
    signer: PublicKey | None = None
    rows: list[bytes] = field(default_factory=list)
    log: list[dict[str, Json]] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    key: str = ""
    erased: list[dict[str, Json]] = field(default_factory=list)
    file: str = ""

    @property
    def name(self) -> str:
        """As the run's journal names it: ``RB-0007.1``; of what does not say so, the file."""
        if not self.said and self.file:
            return self.file
        return f"{self.said.get('run', '?')}.{self.said.get('bundle', '?')}"

    def wrong(self, where: str, why: str) -> None:
        """Adds a fault."""
        self.faults.append(Fault(where, why))


def examine(members: Iterable[Member], faults: list[Fault]) -> Found:
    """Reads a bundle once, member by member, and holds every part against every other. `faults`: those of the reading, which
    `members` goes on filling."""
    found = Found(faults)
    digests: dict[str, tuple[int, str]] = {}
    texts: dict[str, bytes] = {}
    for member in members:
        whole, total, kept = hashlib.sha512(), 0, []
        try:
            for piece in member.pieces():
                whole.update(piece)
                total += len(piece)
                if member.name in _READ or _RECORD.fullmatch(member.name):
                    kept.append(piece)
                    if total > LARGEST:
                        raise Damaged(f"is larger than {LARGEST >> 20} MiB")
        except Damaged as damage:
            found.wrong(member.name, str(damage))
        digests[member.name] = (total, whole.hexdigest())
        texts[member.name] = b"".join(kept)
    _shape(found, digests, texts)
    manifest = _manifest(found, bag.MANIFEST, texts.get(bag.MANIFEST, b""))
    _signed(found, texts)
    digests |= _erased(found, texts, digests, manifest)
    _held(found, bag.MANIFEST, manifest, {name: one for name, one in digests.items() if name.startswith(bag.DATA)})
    _custody(found, texts.get(_CUSTODY, b""), digests)
    _journal(found, texts.get(_JOURNAL, b""))
    _oxum(found, texts.get(bag.INFO, b""), digests)
    return found


def _shape(found: Found, digests: Mapping[str, Any], texts: Mapping[str, bytes]) -> None:
    """The files that there must be, and none besides."""
    for name in (*_WHOLE, _JOURNAL, _CUSTODY):
        if name not in digests:
            found.wrong(name, "is missing")
    for name in digests:
        if name.startswith(bag.DATA) or name in _WHOLE or _RECORD.fullmatch(name):
            continue
        why = "is none of a bundle's files"
        if name == "fetch.txt":
            why = "would have files fetched from elsewhere; a bundle holds all of its files"
        elif re.fullmatch(r"(tag)?manifest-\w+\.txt", name):
            why = "is a manifest of another kind; only sha512 counts"
        found.wrong(name, why)
    if texts.get(bag.BAGIT, bag.DECLARATION) != bag.DECLARATION:
        found.wrong(bag.BAGIT, "does not declare BagIt 1.0 in UTF-8 as a bundle does")
    tags = _manifest(found, bag.TAGS, texts.get(bag.TAGS, b""))
    _held(found, bag.TAGS, tags, {name: digests[name] for name in _TAGS if name in digests})


def _manifest(found: Found, where: str, text: bytes) -> dict[str, str]:
    """name -> digest, of a manifest that is written in its one form."""
    listed: dict[str, str] = {}
    try:
        lines = text.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        found.wrong(where, "is not UTF-8")
        return listed
    if "\r" in text.decode():
        found.wrong(where, "has line ends of another kind (CR)")
        return listed
    if lines[-1]:
        found.wrong(where, "is cut off in its last line")
    for number, line in enumerate(lines[:-1], 1):
        if (match := _LINE.fullmatch(line)) is None:
            found.wrong(where, f"line {number} is not a sha512 digest, two blanks and a name")
        elif match[2] in listed:
            found.wrong(where, f"names {match[2]} twice")
        else:
            listed[match[2]] = match[1]
    if list(listed) != sorted(listed):
        found.wrong(where, "is not in order")
    return listed


def _held(found: Found, where: str, listed: Mapping[str, str], there: Mapping[str, tuple[int, str]]) -> None:
    """Every file is listed, every listed one is there, and the digests agree."""
    for name, (_, digest) in there.items():
        if name not in listed:
            found.wrong(name, f"is not in {where}: it was added")
        elif listed[name] != digest:
            found.wrong(name, f"is not what {where} says: it was altered")
    for name in listed:
        if name not in there:
            found.wrong(name, f"is in {where} and not in the bundle: it was removed, or never belonged to it")


def _signed(found: Found, texts: Mapping[str, bytes]) -> None:
    """The attestation: an envelope in its one form, one good signature, a statement about this tag manifest."""
    text, tags = texts.get(seal.ATTESTATION, b""), texts.get(bag.TAGS, b"")
    found.digest, found.attestation = canon.text_digest(tags), text
    if seal.ATTESTATION not in texts:
        return
    try:
        read = envelope.read(json.loads(text), 1)
        if _spelled(read) != text:
            raise Refused("the envelope is not written in its one form")
        found.said = _said(read.data)
        found.signer = read.signers(seal.NAMESPACE)[0].key
    except (Refused, ValueError, RecursionError) as error:
        found.wrong(seal.ATTESTATION, getattr(error, "reason", None) or "is not JSON")
        return
    subject = read.data["subject"]
    if subject != [{"name": bag.TAGS, "digest": {"sha256": found.digest.removeprefix("sha256:")}}]:
        found.wrong(bag.TAGS, "is not the one that was signed: the manifests were written anew, or are another bundle's")


def _erased(
    found: Found, texts: Mapping[str, bytes], digests: Mapping[str, Any], manifest: Mapping[str, str]
) -> dict[str, tuple[int, str]]:
    """What is not there any more, on record: (size, digest) of each, as whoever sealed the bundle has signed it."""
    gone: dict[str, tuple[int, str]] = {}
    for where in sorted(name for name in texts if _RECORD.fullmatch(name)):
        try:
            read = envelope.read(json.loads(texts[where]), 1)
            said, name = read.data.get("predicate", {}), ""
            if read.data.get("predicateType") != seal.ERASURE or set(said) != _ERASURE or _spelled(read) != texts[where]:
                raise Refused("it is not a record of an erasure, as one is written")
            if found.signer is None or read.signers(seal.NAMESPACE)[0].key != found.signer:
                raise Refused("it was not signed by whoever sealed the bundle")
            name = bag.DATA + str(said["item"])
            if (said["run"], said["bundle"], manifest.get(name)) != (
                found.said["run"],
                found.said["bundle"],
                said["sha512"],
            ):
                raise Refused("it tells of something that this bundle never held")
            size = int(said["size"])
        except (Refused, ValueError, RecursionError, AttributeError, TypeError) as error:
            found.wrong(where, getattr(error, "reason", None) or "is not JSON")
            continue
        if name in digests:
            found.wrong(name, f"was erased, says {where}, and is here")
        gone[name] = size, str(said["sha512"])
        found.erased.append(said)
    return gone


def _spelled(read: envelope.Envelope) -> bytes:
    """An envelope as `seal` writes it: base64 has two alphabets, JSON blanks; one text alone is ours."""
    signatures = [{"keyid": key, "sig": base64.b64encode(blob).decode()} for key, blob in read.signatures]
    payload = base64.b64encode(read.payload).decode()
    return canon.dumps({"payloadType": envelope.IN_TOTO, "payload": payload, "signatures": signatures}) + b"\n"


_ERASURE = {"run", "bundle", "item", "size", "sha512", "because", "by", "at"}
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "run": str, "bundle": int, "sealed": str, "engine": str, "files": int, "bytes": int, "previous": (dict, type(None)),
    "custody": dict, "journal": dict,
}  # fmt: skip
_INNER: dict[str, dict[str, type]] = {
    "previous": {"name": str, "digest": str, "rows": int, "root": str},
    "custody": {"rows": int, "root": str},
    "journal": {"first": int, "last": int, "before": str, "head": str},
}


def _said(data: dict[str, Json]) -> dict[str, Any]:
    """The predicate of a statement of ours. Raises Refused for any other, or one with a field more or less."""
    if set(data) != {"_type", "subject", "predicateType", "predicate"} or data["_type"] != envelope.STATEMENT:
        raise Refused("the envelope holds no in-toto statement of version 1")
    if data["predicateType"] != seal.PREDICATE:
        raise Refused("the statement is about something else than evidence")
    said = data["predicate"]
    wrong = not isinstance(said, dict) or _misfit(said, _FIELDS) or not _RUN.fullmatch(said["run"])
    if wrong or any(said[key] is not None and _misfit(said[key], inner) for key, inner in _INNER.items()):
        raise Refused("the statement has other fields than one about evidence")
    return dict(said)


def _misfit(said: Mapping[str, Json], fields: Mapping[str, Any]) -> bool:
    return set(said) != set(fields) or not all(isinstance(said[key], kind) for key, kind in fields.items())


def _custody(found: Found, text: bytes, digests: Mapping[str, tuple[int, str]]) -> None:
    """The custody log: its tree is the signed one, and a row for each file of this bundle says what lies there."""
    found.rows = text.split(b"\n")[:-1]
    if not text or not text.endswith(b"\n"):
        found.wrong(_CUSTODY, "is cut off" if text else "is empty")
    for number, line in enumerate(found.rows, 1):
        try:
            row = json.loads(line)
            good = isinstance(row, dict) and set(row) == set(custody.FIELDS)
            good = good and isinstance(row["item"], str | None)
        except (ValueError, RecursionError):
            good, row = False, {}
        if not good or row["n"] != number:
            found.wrong(
                _CUSTODY, f"row {number} is not a row of a custody log" if not good else f"row {number} is not in its place"
            )
            return
        found.log.append(row)
    signed = found.said.get("custody")
    if signed and (signed["rows"], signed["root"]) != (len(found.rows), custody.head(found.rows)):
        found.wrong(_CUSTODY, f"is not the log of {signed['rows']} rows whose head was signed")
    before = found.said.get("previous")
    if before and custody.head(found.rows[: before["rows"]]) != before["root"]:
        found.wrong(_CUSTODY, f"does not begin with the log of {before['name']}")
    _rows(found, digests)


def _rows(found: Found, digests: Mapping[str, tuple[int, str]]) -> None:
    number = found.said.get("bundle", found.log[-1]["bundle"] if found.log else 1)
    own = {row["item"]: row for row in found.log if row["bundle"] == number and row["item"]}
    for name, (size, digest) in digests.items():
        item = name.removeprefix(bag.DATA)
        if not name.startswith(bag.DATA) or name == _CUSTODY:
            continue
        row = own.pop(item, None)
        if row is None:
            found.wrong(name, "has no row in the custody log")
        elif (row["size"], row["sha512"]) != (size, digest):
            found.wrong(name, f"is not what row {row['n']} of the custody log says")
    for item, row in own.items():
        found.wrong(bag.DATA + str(item), f"is missing; row {row['n']} of the custody log tells of it")


def _journal(found: Found, text: bytes) -> None:
    """The journal: every hash follows from the one before, and it is the part that was signed."""
    lines = text.split(b"\n")
    if lines[-1] or len(lines) < 2:
        found.wrong(_JOURNAL, "is cut off" if text else "is empty")
    at = 1
    try:
        head = json.loads(lines[0])
        if (
            set(head) != {"format", "run", "first", "before"}
            or head["format"] != seal.FORM
            or not isinstance(head["run"], str)
            or not isinstance(head["first"], int)
        ):
            raise ValueError
        before = str(head["before"])
        for number, line in enumerate(lines[1:-1]):
            at = number + 2
            entry = _entry(str(head["run"]), line)
            if entry.seq != head["first"] + number or entry.hash != _hashed(before, entry):
                found.wrong(
                    _JOURNAL, f"entry {head['first'] + number} does not follow from the one before: altered, cut or forked"
                )
                return
            before = entry.hash
            found.entries.append(entry)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        found.wrong(_JOURNAL, f"line {at} is not one of a journal")
        return
    signed = found.said.get("journal")
    last = found.entries[-1].seq if found.entries else head["first"] - 1
    if signed and signed != {"first": head["first"], "last": last, "before": head["before"], "head": before}:
        found.wrong(_JOURNAL, f"is not the part from entry {signed['first']} to {signed['last']} that was signed")
    if found.said and head["run"] != found.said["run"]:
        found.wrong(_JOURNAL, f"is that of {head['run']}")
    if found.entries and found.entries[0].kind == "run.started":
        found.key = str(found.entries[0].body.get("evidence") or "")
        if found.key and found.signer and found.signer.line.split()[:2] != found.key.split()[:2]:
            found.wrong(seal.ATTESTATION, "was signed by another key than the one with which the run began")


def _entry(run: str, line: bytes) -> Entry:
    """The entry of a line. Its body is spelled as it was hashed: the journal has one spelling for it. Raises ValueError."""
    row = json.loads(line)
    if not isinstance(row["body"], dict):
        raise ValueError
    text = json.dumps(row["body"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return Entry(run, row["seq"], row["at"] / 1e6, row["kind"], row["host"], row["step"], text, row["hash"])


def _hashed(before: str, e: Entry) -> str:
    return chain.hashed(before, e.run, e.seq, round(e.at * 1e6), e.kind, e.host, e.step, e.text)


def _oxum(found: Found, text: bytes, digests: Mapping[str, tuple[int, str]]) -> None:
    """What bag-info says of size and count (RFC 8493, 2.2.2), and the statement too."""
    payload = [size for name, (size, _) in digests.items() if name.startswith(bag.DATA)]
    if f"\nPayload-Oxum: {sum(payload)}.{len(payload)}\n".encode() not in text:
        found.wrong(bag.INFO, f"does not say that there are {len(payload)} files of {sum(payload)} bytes, which there are")
    if found.said and (found.said["files"], found.said["bytes"]) != (len(payload), sum(payload)):
        found.wrong(seal.ATTESTATION, f"tells of {found.said['files']} files of {found.said['bytes']} bytes")


# ------------------------------------------------------------------------------------------------- against the outside
def signed_by(found: Found, keys: Sequence[PublicKey]) -> None:
    """Holds the signer against the keys that the reader trusts."""
    if found.signer and found.signer not in keys:
        known = ", ".join(key.fingerprint for key in keys)
        found.wrong(seal.ATTESTATION, f"was signed by {found.signer.fingerprint}, which is not {known}")


def recorded(found: Found, entries: Sequence[Entry]) -> None:
    """Holds the bundle against the journal: the entries are its entries, and it has this bundle on record."""
    theirs = {entry.seq: entry.hash for entry in entries}
    for entry in found.entries:
        if theirs.get(entry.seq) != entry.hash:
            found.wrong(_JOURNAL, f"entry {entry.seq} is not the one in the store: two histories")
            break
    told = next((one for one in seal.sealed(entries) if one.name == found.name), None)
    if told is None:
        found.wrong(seal.ATTESTATION, f"the store has no {found.name} on record")
    elif told.digest != found.digest:
        found.wrong(bag.TAGS, f"is not that of {found.name} in the store's record")
    keys = [entry.body["key"] for entry in entries if entry.kind == "evidence.sealed" and entry.body["name"] == found.name]
    if found.signer and keys and found.signer.fingerprint not in keys:
        found.wrong(seal.ATTESTATION, f"was sealed with the key {keys[0]}, says the store")


def vouched(found: Sequence[Found]) -> None:
    """Holds the bundles of one run, in order, against the key of the first. Another one counts where a bundle by a key that
    counts names it, or goes on from what it has signed: what a bundle says of its own key is nobody's word but its own."""
    known, named = [found[0].signer], _named(found[0])
    waiting: list[tuple[Found, Found]] = []
    for earlier, later in pairwise(found):
        if later.signer in known or _mark(later.signer) in named:
            known += [later.signer, *(one.signer for _, one in waiting)]
            waiting = []
            named += _named(later)
        else:
            waiting.append((earlier, later))
    for earlier, later in waiting:
        later.wrong(
            seal.ATTESTATION,
            f"was signed by another key than {earlier.name}, and nothing but itself says that the run went on elsewhere: "
            "name that key too (--signer), or hold it against the record (--journal) or its heads (--anchor)",
        )


def twice(found: Sequence[Found]) -> None:
    """Two bundles of one name cannot both be the one that the run has sealed."""
    for one, other in pairwise(found):
        if one.said and one.name == other.name:
            for each in (one, other):
                each.wrong(each.file, f"{each.name} is here twice, and only one of them can be the run's")


def _named(found: Found) -> list[list[str]]:
    """The keys with which the run was taken up, as a bundle's journal has it."""
    taken_up = (entry.body.get("evidence") for entry in found.entries if entry.kind in ("run.resumed", "undo.started"))
    return [str(key).split()[:2] for key in taken_up if key]


def _mark(key: PublicKey | None) -> list[str]:
    """A key without its comment."""
    return key.line.split()[:2] if key else []


def _handed_over(earlier: Found, later: Found) -> bool:
    """Whether the run went on elsewhere in between, with the key that signed the later bundle."""
    return _mark(later.signer) in [*_named(earlier), *_named(later)]


def unsealed(found: Sequence[Found], entries: Sequence[Entry]) -> tuple[int, int] | None:
    """The first and the last entry of a run's record that came after what these bundles hold; None: there are none but those
    that tell of bundles. `found`: the run's."""
    last = max((entry.seq for one in found for entry in one.entries), default=0)
    left = [entry.seq for entry in entries if entry.seq > last and entry.kind not in seal.OWN]
    return (left[0], entries[-1].seq) if left else None


def follows(earlier: Found, later: Found) -> None:
    """Holds a bundle against the one before it."""
    before = later.said.get("previous")
    if before is None or before["name"] != earlier.name or before["digest"] != earlier.digest:
        later.wrong(seal.ATTESTATION, f"does not go on from {earlier.name} as it lies here")
    elif earlier.signer != later.signer and not _handed_over(earlier, later):
        later.wrong(seal.ATTESTATION, f"was signed by another key than {earlier.name}")
    elif (later.said["journal"]["before"], later.said["journal"]["first"]) != (
        earlier.said["journal"]["head"],
        earlier.said["journal"]["last"] + 1,
    ):
        later.wrong(_JOURNAL, f"does not go on where {earlier.name} ends")
