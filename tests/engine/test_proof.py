"""No bundle that was altered passes, and what was altered is named: ten thousand tamperings, each drawn from a seed."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import bagit
import pytest
from evidence import Case, clock, examined, faults_of, held, loaded

from engine import bag, canon, chain, custody, envelope, members, merkle, proof, seal, sshsig
from engine.members import Fault
from engine.proof import Found

TAMPERINGS = 10_000
Files = dict[str, bytes]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Files, Files, Files]:
    """The first and the second bundle of a run, and the first one of another run by the same engine."""
    with Case(tmp_path_factory.mktemp("one")) as case:
        first = loaded(case.seal(["a", "b"]))
        case.journal.append(case.run, "gate.opened", {}, "a", "execution")
        case.capture("a", "late.txt", b"after the change")
        case.journal.append(case.run, "run.ended", {"outcome": "succeeded", "exit": 0})
        second = loaded(case.seal())
        case.run = case.journal.start({"requester": "ben", "engine": "0.1", "evidence": case.signer.key.line})
        case.capture("a", "wrong.jsonl", b'{"id": 3}\n')
        return first, second, loaded(case.seal())


# ------------------------------------------------------------------------------------------------- the tamperings
def flip(files: Files, other: Files, rng: random.Random) -> str:
    name = some(files, rng)
    data = bytearray(files[name])
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    files[name] = bytes(data)
    return name


def scribble(files: Files, other: Files, rng: random.Random) -> str:
    name = some(files, rng)
    at = rng.randrange(len(files[name]))
    files[name] = files[name][:at] + rng.randbytes(rng.randint(1, 9)) + files[name][at + rng.randint(0, 9) :]
    return name


def cut(files: Files, other: Files, rng: random.Random) -> str:
    name = some(files, rng)
    files[name] = files[name][: rng.randrange(len(files[name]))]
    return name


def delete(files: Files, other: Files, rng: random.Random) -> str:
    name = some(files, rng)
    del files[name]
    return name


def add(files: Files, other: Files, rng: random.Random) -> str:
    folder = rng.choice(["", "data/", "data/evidence/a/", "data/evidence/c/", "meta/"])
    name = folder + rng.choice(["x", "fetch.txt", "manifest-sha1.txt", "manifest-md5.txt", "Notes.txt", "attestation2.json"])
    files[name] = rng.choice([b"", b"x", rng.randbytes(30)])
    return name


def rename(files: Files, other: Files, rng: random.Random) -> str:
    name = some(files, rng)
    files[rng.choice([name + "x", name.upper(), "data/" + name, name[:-1] or "x"])] = files.pop(name)
    return name


def swap(files: Files, other: Files, rng: random.Random) -> str:
    one, two = rng.sample(sorted(files), 2)
    files[one], files[two] = files[two], files[one]
    return one


def foreign(files: Files, other: Files, rng: random.Random) -> str:
    """A part of another bundle by the same key, in the place of this one's."""
    shared = [name for name in files if name in other and files[name] != other[name]]
    names = rng.sample(shared, rng.randint(1, len(shared) - 1))
    files.update({name: other[name] for name in names})
    return names[0] if len(names) == 1 else ""


def rewritten(files: Files, other: Files, rng: random.Random) -> str:
    """Any of the above, and then every manifest anew."""
    rng.choice([flip_payload, drop_payload, grow_payload])(files, rng)
    remade(files)
    return ""


def shortened(files: Files, other: Files, rng: random.Random) -> str:
    """The journal's tail is cut, cleanly, and everything that tells of it is made to agree, but for the signature."""
    lines = files["data/journal.jsonl"].splitlines(keepends=True)
    files["data/journal.jsonl"] = b"".join(lines[: rng.randrange(2, len(lines))])
    recounted(files)
    return "data/journal.jsonl"


def reordered(files: Files, other: Files, rng: random.Random) -> str:
    """Two rows of the custody log change places, with their numbers or without."""
    rows = [json.loads(line) for line in files["data/custody.jsonl"].splitlines()]
    one, two = rng.sample(range(len(rows)), 2)
    rows[one], rows[two] = rows[two], rows[one]
    if rng.random() < 0.5:
        rows[one]["n"], rows[two]["n"] = one + 1, two + 1
    files["data/custody.jsonl"] = b"".join(line + b"\n" for line in custody.lines(rows))
    if rng.random() < 0.5:
        remade(files)
    return "data/custody.jsonl"


def retold(files: Files, other: Files, rng: random.Random) -> str:
    """A row of the custody log says something else, and everything is made to agree, but for the signature."""
    rows = [json.loads(line) for line in files["data/custody.jsonl"].splitlines()]
    row = rng.choice(rows)
    row[rng.choice(["by", "at", "source", "tool", "phase", "why", "host", "step"])] = "something else"
    files["data/custody.jsonl"] = b"".join(line + b"\n" for line in custody.lines(rows))
    remade(files)
    return "data/custody.jsonl"


def listed(files: Files, other: Files, rng: random.Random) -> str:
    """A manifest's lines are written in another way."""
    name = rng.choice([bag.MANIFEST, bag.TAGS])
    lines = files[name].splitlines(keepends=True)
    line = rng.randrange(len(lines))
    how = rng.randrange(5)
    if how == 0:
        lines.append(lines[line])
    elif how == 1:
        lines[line] = lines[line].replace(b"\n", b"\r\n")
    elif how == 2:
        lines[line] = lines[line].replace(b"  ", b" *")
    elif how == 3:
        del lines[line]
    else:
        lines[line] = lines[line][:8].upper() + b"F" + lines[line][9:]
    files[name] = b"".join(lines)
    return name if how in (1, 2, 4) else ""


def signed_anew(files: Files, other: Files, rng: random.Random) -> str:
    """The envelope around the same statement is written otherwise: a signature more, none, a foreign one, other base64."""
    box = json.loads(files[seal.ATTESTATION])
    how = rng.randrange(6)
    if how == 0:
        box["signatures"].append(box["signatures"][0])
    elif how == 1:
        box["signatures"] = []
    elif how == 2:
        box["signatures"] = json.loads(other[seal.ATTESTATION])["signatures"]
    elif how == 3:
        box["payloadType"] = "application/json"
    elif how == 4:
        box["signatures"][0]["sig"] = box["signatures"][0]["sig"].translate(str.maketrans("+/", "-_")).rstrip("=")
    else:
        box["signatures"][0]["keyid"] = "SHA256:" + "A" * 43
    files[seal.ATTESTATION] = canon.dumps(box) + b"\n"
    return seal.ATTESTATION


KINDS: dict[Callable[[Files, Files, random.Random], str], int] = {
    flip: 26, scribble: 10, cut: 10, delete: 6, add: 8, rename: 6, swap: 7, foreign: 5, rewritten: 8, shortened: 3,
    reordered: 3, retold: 3, listed: 3, signed_anew: 2,
}  # fmt: skip


def some(files: Files, rng: random.Random) -> str:
    return rng.choice([name for name, data in sorted(files.items()) if data])


def payload(files: Files, rng: random.Random) -> str:
    return rng.choice([name for name in sorted(files) if name.startswith(bag.DATA)])


def flip_payload(files: Files, rng: random.Random) -> None:
    name = payload(files, rng)
    files[name] = bytes([files[name][0] ^ 1]) + files[name][1:]


def drop_payload(files: Files, rng: random.Random) -> None:
    del files[payload(files, rng)]


def grow_payload(files: Files, rng: random.Random) -> None:
    files[f"data/evidence/a/{rng.randrange(99)}.txt"] = b"forged"


def remade(files: Files) -> None:
    """Every manifest written anew, as who forges a bag would."""
    held = {name: data for name, data in files.items() if name.startswith(bag.DATA)}
    files[bag.MANIFEST] = bag.manifest({name: hashlib.sha512(data).hexdigest() for name, data in held.items()})
    oxum = f"Payload-Oxum: {sum(map(len, held.values()))}.{len(held)}\n"
    files[bag.INFO] = files[bag.INFO].rpartition(b"Payload-Oxum")[0] + oxum.encode()
    tags = (bag.BAGIT, bag.INFO, bag.MANIFEST)
    files[bag.TAGS] = bag.manifest({name: hashlib.sha512(files[name]).hexdigest() for name in tags})


def recounted(files: Files) -> None:
    """The custody log tells of the journal as it is now."""
    rows = [json.loads(line) for line in files["data/custody.jsonl"].splitlines()]
    for row in rows:
        if row["item"] == "journal.jsonl":
            data = files["data/journal.jsonl"]
            row |= {
                "size": len(data),
                "sha512": hashlib.sha512(data).hexdigest(),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
    files["data/custody.jsonl"] = b"".join(line + b"\n" for line in custody.lines(rows))
    remade(files)


def tampered(whole: Files, other: Files, seed: int) -> tuple[str, Files, str]:
    """(kind, the tampered bundle, the file that has to be named); the same for the same seed."""
    rng = random.Random(seed)
    while True:
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        files = dict(whole)
        name = kind(files, other, rng)
        if files != whole:
            return kind.__name__, files, name


# ------------------------------------------------------------------------------------------------- the tests
def test_the_good_ones_hold(bundles: tuple[Files, Files, Files]) -> None:
    """What is tampered with below holds before it is."""
    assert [[], [], []] == [faults_of(files.items()) for files in bundles]


@pytest.mark.slow
def test_ten_thousand_tamperings_are_all_found(bundles: tuple[Files, Files, Files]) -> None:
    """Flipped, cut, added, renamed, swapped, rewritten with new manifests: each is found, and the file is named."""
    first, second, other = bundles
    tried: Counter[str] = Counter()
    for seed in range(TAMPERINGS):
        whole = first if seed % 3 else second
        kind, files, name = tampered(whole, other, seed)
        faults = faults_of(files.items())
        tried[kind] += 1
        assert faults, f"seed {seed}: {kind} of {name or 'several files'} was not found"
        told = " ".join(f"{fault.where} {fault.why}" for fault in faults)
        assert name in told, f"seed {seed}: {kind} of {name} was found, and not named: {told}"
    print(dict(tried))
    assert set(tried) == {kind.__name__ for kind in KINDS}


def test_tampered_on_the_disk_too(bundles: tuple[Files, Files, Files], tmp_path: Path) -> None:
    """A folder is read as the same bytes in memory are: the same faults, in the same words."""
    first, _, other = bundles
    for seed in range(60):
        _, files, _ = tampered(first, other, seed)
        folder = tmp_path / str(seed)
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        assert {(fault.where, fault.why) for fault in faults_of(files.items())} == {
            (fault.where, fault.why) for fault in examined(folder).faults
        }


def test_other_tools_accept_it(tmp_path: Path) -> None:
    """Bundles are bags to `bagit`, and their attestation is a signature to `ssh-keygen`; one that was altered is neither."""
    with Case(tmp_path) as case:
        path = case.seal(["a", "b"])
    bagit.Bag(str(path)).validate()
    box = json.loads((path / seal.ATTESTATION).read_bytes())
    read = envelope.read(box)
    (tmp_path / "signature").write_text(sshsig.armour(read.signatures[0][1]))
    (tmp_path / "who").write_text(f"engine {case.signer.key.line}\n")
    argv = ["ssh-keygen", "-Y", "verify", "-f", str(tmp_path / "who"), "-I", "engine", "-n", seal.NAMESPACE]
    argv += ["-s", str(tmp_path / "signature")]
    signed = envelope.pae(envelope.IN_TOTO, read.payload)
    assert subprocess.run(argv, input=signed, capture_output=True).returncode == 0
    assert subprocess.run(argv, input=signed + b" ", capture_output=True).returncode != 0
    (path / "data/evidence/b/log.txt").write_bytes(b"no\n")
    with pytest.raises(bagit.BagValidationError):
        bagit.Bag(str(path)).validate()
    assert ["data/evidence/b/log.txt: is not what manifest-sha512.txt says: it was altered"] == held(path)[:1]


def test_signed_by_another_engine(tmp_path: Path) -> None:
    """A bundle that somebody signed anew with a key of theirs is told from the run's own, and from a key that is pinned."""
    with Case(tmp_path) as case:
        files = loaded(case.seal(["a", "b"]))
    sshsig.generate(tmp_path / "theirs", "theirs")
    theirs = sshsig.key_file(tmp_path / "theirs", lambda _: "")
    payload = envelope.read(json.loads(files[seal.ATTESTATION])).data
    files[seal.ATTESTATION] = canon.dumps(envelope.seal(payload, theirs, seal.NAMESPACE)) + b"\n"
    wrong = [Fault(seal.ATTESTATION, "was signed by another key than the one with which the run began")]
    assert wrong == faults_of(files.items())
    found = in_memory(files)
    proof.signed_by(found, [case.signer.key])
    assert f"is not {case.signer.key.fingerprint}" in found.faults[-1].why


def test_a_signature_for_something_else(tmp_path: Path) -> None:
    """The right key's signature over the right bytes does not count when it was made for another purpose, such as Git."""
    with Case(tmp_path) as case:
        files = loaded(case.seal())
    said = envelope.read(json.loads(files[seal.ATTESTATION])).data
    for namespace in ("git", "file", "lastgood-approve@1", ""):
        files[seal.ATTESTATION] = canon.dumps(envelope.seal(said, case.signer, namespace)) + b"\n"
        assert any("was made for" in fault.why for fault in faults_of(files.items())), namespace


def test_two_bundles_of_a_run_belong_together(bundles: tuple[Files, Files, Files]) -> None:
    """The second goes on from the first, by digest, key and journal, and not from another run's first bundle."""
    first, second, other = (in_memory(files) for files in bundles)
    proof.follows(first, second)
    assert [] == second.faults
    size, root = first.said["custody"]["rows"], first.said["custody"]["root"]
    leaves = [merkle.leaf(row) for row in second.rows]
    new = bytes.fromhex(second.said["custody"]["root"])
    assert merkle.extends(bytes.fromhex(root), size, new, len(leaves), merkle.consistency(leaves, size))
    proof.follows(other, second)
    assert "attestation.json: does not go on from RB-0002.1 as it lies here" in words(second)


def test_against_the_store(tmp_path: Path) -> None:
    """The journal in a bundle is held against the store's: another history, or a bundle it never made, is found."""
    with Case(tmp_path / "one") as case:
        found = examined(case.seal())
        entries = case.journal.entries(case.run)
    proof.recorded(found, entries)
    assert [] == found.faults
    proof.recorded(found, [entry for entry in entries if entry.kind != "evidence.sealed"])
    assert ["attestation.json: the store has no RB-0001.1 on record"] == words(found)
    with Case(tmp_path / "two") as fork:
        proof.recorded(found, fork.journal.entries(fork.run))
    assert "data/journal.jsonl: entry 1 is not the one in the store: two histories" in words(found)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"[]", b"{}", b"null", b"\xff", b"{" * 5000, b'{"payload":1}',
        b'{"payloadType":1,"payload":"","signatures":[]}',
        b'{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[{"keyid":"","sig":"AAAA"}]}',
        b'{"payloadType":"application/vnd.in-toto+json","payload":"e3 0=","signatures":[{"keyid":"","sig":"AAAA"}]}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", [seal.ATTESTATION, "data/custody.jsonl", "data/journal.jsonl", bag.MANIFEST, bag.TAGS])
def test_nonsense_is_refused_and_breaks_nothing(bundles: tuple[Files, Files, Files], name: str, text: bytes) -> None:
    """Anything at all in the place of a part is a fault of that part."""
    faults = faults_of({**bundles[0], name: text}.items())
    assert name in {fault.where for fault in faults}


def lines_of(files: Files, name: str) -> list[bytes]:
    return files[name].splitlines(keepends=True)


def journal_of(files: Files, change: Callable[[list[bytes]], object]) -> Files:
    """The bundle with other lines of journal."""
    lines = lines_of(files, "data/journal.jsonl")
    change(lines)
    return {**files, "data/journal.jsonl": b"".join(lines)}


def without(files: Files, name: str) -> Files:
    return {key: data for key, data in files.items() if key != name}


def empty_entry() -> bytes:
    """The first entry of a run, with a list where its body should be."""
    digest = chain.hashed("", "RB-0001", 1, 1, "run.started", "", "", "[]")
    row = {"seq": 1, "at": 1, "kind": "run.started", "host": "", "step": "", "body": [], "hash": digest}
    return json.dumps(row).encode() + b"\n"


RECORD, LOG = "data/journal.jsonl", "data/evidence/b/log.txt"
#: What was done to a bundle -> (how, where the fault is told, its reason).
BENT: dict[str, tuple[Callable[[Files], Files], str, str]] = {
    "a file more": (lambda f: {**f, "data/evidence/a/x": b""}, "data/evidence/a/x", "is not in manifest-sha512.txt"),
    "a file less": (lambda f: without(f, LOG), LOG, "is in manifest-sha512.txt and"),
    "a file beside": (lambda f: {**f, "notes.txt": b""}, "notes.txt", "is none of a bundle's files"),
    "files to fetch": (lambda f: {**f, "fetch.txt": b"http://x 1 data/x\n"}, "fetch.txt", "would have files fetched"),
    "sha-1 as well": (lambda f: {**f, "manifest-sha1.txt": b""}, "manifest-sha1.txt", "is a manifest of another kind"),
    "sha-1 alone": (
        lambda f: {**without(f, bag.MANIFEST), "manifest-sha1.txt": f[bag.MANIFEST]}, bag.MANIFEST, "is missing",
    ),
    "no attestation": (lambda f: without(f, seal.ATTESTATION), seal.ATTESTATION, "is missing"),
    "no tag manifest": (lambda f: without(f, bag.TAGS), bag.TAGS, "is missing"),
    "no declaration": (lambda f: without(f, bag.BAGIT), bag.BAGIT, "is missing"),
    "another version of BagIt": (
        lambda f: {**f, bag.BAGIT: f[bag.BAGIT].replace(b"1.0", b"0.97")}, bag.BAGIT, "does not declare BagIt 1.0",
    ),
    "two lines for a path": (lambda f: {**f, bag.MANIFEST: f[bag.MANIFEST] * 2}, bag.MANIFEST, "twice"),
    "line ends of another system": (
        lambda f: {**f, bag.MANIFEST: f[bag.MANIFEST].replace(b"\n", b"\r\n")}, bag.MANIFEST, "has line ends of another",
    ),
    "a manifest that is cut": (lambda f: {**f, bag.MANIFEST: f[bag.MANIFEST][:-9]}, bag.MANIFEST, "is cut off in its"),
    "a manifest out of order": (
        lambda f: {**f, bag.MANIFEST: b"".join(reversed(lines_of(f, bag.MANIFEST)))}, bag.MANIFEST, "is not in order",
    ),
    "a manifest that is no text": (lambda f: {**f, bag.MANIFEST: b"\xff\n"}, bag.MANIFEST, "is not UTF-8"),
    "digests in capitals": (
        lambda f: {**f, bag.MANIFEST: f[bag.MANIFEST].upper()}, bag.MANIFEST, "line 1 is not a sha512 digest",
    ),
    "a name that leads out": (lambda f: {**f, "data/../x": b""}, "data/../x", "leads out of the bundle"),
    "capitals alone": (
        lambda f: {**f, "data/evidence/b/LOG.txt": b""}, "data/evidence/b/LOG.txt", f"differs from {LOG} in capitals",
    ),
    "a journal that is cut": (lambda f: journal_of(f, lambda rows: rows.pop()), RECORD, "is not the part from entry"),
    "a journal cut in a line": (
        lambda f: {**f, RECORD: f[RECORD][:-5]}, RECORD, "is cut off",
    ),
    "an entry taken out": (lambda f: journal_of(f, lambda rows: rows.pop(2)), RECORD, "entry 2 does not follow"),
    "an entry twice": (lambda f: journal_of(f, lambda rows: rows.insert(2, rows[1])), RECORD, "does not follow"),
    "entries that changed places": (
        lambda f: journal_of(f, lambda rows: rows.insert(2, rows.pop(3))), RECORD, "entry 2 does not follow",
    ),
    "an entry of another time": (
        lambda f: journal_of(f, lambda rows: rows.__setitem__(2, rows[2].replace(b'"at":1', b'"at":2'))),
        RECORD, "altered, cut or forked",
    ),
    "a journal of no form": (
        lambda f: journal_of(f, lambda rows: rows.__setitem__(0, rows[0].replace(b"journal/1", b"journal/9"))),
        RECORD, "line 1 is not one of a journal",
    ),
    "a journal of one line that counts from nowhere": (
        lambda f: {**f, RECORD: lines_of(f, RECORD)[0].replace(b'"first":1', b'"first":"1"')}, RECORD, "line 1 is not one",
    ),
    "an entry of no time at all": (
        lambda f: journal_of(f, lambda rows: rows.__setitem__(1, rows[1].replace(b'"at":1', b'"at":1' + b"0" * 400))),
        RECORD, "line 2 is not one",
    ),
    "an entry that says nothing, with the right hash": (
        lambda f: {**f, RECORD: lines_of(f, RECORD)[0] + empty_entry()}, RECORD, "line 2 is not one",
    ),
    "a journal without its head": (lambda f: journal_of(f, lambda rows: rows.pop(0)), RECORD, "line 1 is not one"),
}  # fmt: skip


@pytest.mark.parametrize("case", BENT)
def test_each_fault_has_its_reason(bundles: tuple[Files, Files, Files], case: str) -> None:
    """What is wrong with a bundle is told where it is, in words of its own."""
    how, where, why = BENT[case]
    told = [f"{fault.where}: {fault.why}" for fault in faults_of(how(dict(bundles[0])).items())]
    assert any(one.startswith(f"{where}: ") and why in one for one in told), told


def test_a_forked_journal_is_found_from_outside(tmp_path: Path) -> None:
    """Two histories under one name, each whole and signed by the same key: the store tells which is its own."""
    with Case(tmp_path / "one") as case:
        for entry in range(3):
            case.journal.append(case.run, "note", {"text": f"so it was {entry}", "by": "ana"})
        ours = examined(case.seal())
        entries = case.journal.entries(case.run)
    with Case(tmp_path / "two") as fork:
        fork.signer = case.signer
        fork.journal.append(fork.run, "note", {"text": "so it was not", "by": "ana"})
        theirs = examined(fork.seal())
    proof.recorded(ours, entries)
    assert [] == ours.faults
    proof.recorded(theirs, entries)
    assert any("two histories" in one for one in words(theirs))


def in_memory(files: Files) -> Found:
    faults: list[Fault] = []
    return proof.examine(members.in_memory(files.items(), faults), faults)


def words(found: Found) -> list[str]:
    return [f"{fault.where}: {fault.why}" for fault in found.faults]


def test_the_clock_of_the_tests_goes_on() -> None:
    """Times in a bundle are those of the engine's clock, in UTC."""
    tick = clock(0.0)
    assert ("1970-01-01T00:00:00.000000Z", "1970-01-01T00:00:01.000000Z") == (custody.utc(tick()), custody.utc(tick()))
