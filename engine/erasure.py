"""Personal data taken out of sealed evidence, so that nothing else is touched: the digest stays in the tree, the bytes go.

In: a run, an item, a reason, who says so. Out: a signed record in each bundle that held the item, and an entry in the
journal; then the bytes are unlinked, in the bundles and among the evidence. Copies of a bundle elsewhere, backups, and what
a disk keeps of unlinked files are not reached: what is to be erased everywhere is captured with `encrypt_for`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine import bag, canon, custody, envelope, seal
from engine.journal import Journal
from engine.seal import Sealed
from engine.sshsig import Signer


@dataclass(frozen=True)
class Erased:
    """What was erased: the bundle, the item in it, and whether its bytes were still there."""

    bundle: str
    item: str
    there: bool


def erase(
    journal: Journal, run: str, named: str, because: str, by: str, signer: Signer, now: Callable[[], float]
) -> list[Erased]:
    """Erases every sealed item of this name (as the bundle or as the evidence folder has it).

    Raises ValueError for a name that nothing has, for a bundle that another key has sealed or whose custody log was changed
    since, and for what cannot be erased: journal and custody log are what everything is held against.
    """
    entries = journal.entries(run)
    told = seal.sealed(entries)
    sealer = {entry.body["name"]: entry.body["key"] for entry in entries if entry.kind == "evidence.sealed"}
    place = seal.folder(journal, run)
    found = [
        (one, row)
        for one in told
        for row in seal.rows(place / one.name, one)
        if row["bundle"] == one.number and row["kind"] == "file" and named in (row["item"], row["path"])
    ]
    if not found:
        raise ValueError(f"no file of {run} is called {named}; journal, custody log and report cannot be erased")
    for one, _ in found:  # a record by another key would count for nothing, and the bundle be broken for good
        if sealer[one.name] != signer.key.fingerprint:
            why = f"{one.name} was sealed with the key {sealer[one.name]}, and the one here is {signer.key.fingerprint}"
            raise ValueError(f"nothing was erased: {why}; put that key back")
    done = []
    for one, row in found:
        at = custody.utc(now())
        said = {
            "run": run, "bundle": one.number, "item": row["item"], "size": row["size"], "sha512": row["sha512"],
            "because": because, "by": by, "at": at,
        }  # fmt: skip
        subject = {bag.DATA + str(row["item"]): f"sha256:{row['sha256']}"}
        signed = envelope.seal(envelope.statement(seal.ERASURE, subject, said), signer, seal.NAMESPACE)
        journal.append(run, "evidence.erased", {**said, "envelope": signed})
        done.append(_gone(journal, run, one, row, canon.dumps(signed) + b"\n"))
    return done


def _gone(journal: Journal, run: str, one: Sealed, row: custody.Row, signed: bytes) -> Erased:
    """The record first, then the bytes: cut off in between, the same command goes on."""
    folder = seal.folder(journal, run) / one.name
    record = folder / seal.ERASED / f"{row['n']}.json"
    bag.written(record, signed)
    bag.sync(record.parent)
    bag.sync(folder)
    source = journal.files(run) / "evidence" / (row["host"] or "_run") / str(row["path"])
    there = False
    for path in (folder / bag.DATA / str(row["item"]), source):
        there = path.is_file() or there
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            bag.sync(path.parent)
    empty = (folder / bag.DATA / str(row["item"])).parent
    while empty != folder and empty.is_dir() and not any(empty.iterdir()):  # an empty folder is none of a bundle's
        empty.rmdir()
        empty = empty.parent
    return Erased(one.name, str(row["item"]), there)
