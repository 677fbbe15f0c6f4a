"""A run's evidence sealed: files, journal and custody log in a bundle that is signed, and whose digest the journal holds.

In: the journal, the run, a signer. Out: a `Sealed`, or an EngineError after which nothing may be changed. Bundles of a run
are numbered and each holds what is new since the one before: its files, the entries since, the whole custody log so far. It
refuses to know what a run does with it.

Order, so that any crash can be taken up: files, then manifests, then the attestation, all durable under another name; then
the entry `evidence.sealed`; then the rename. A bundle that the journal names and that is not yet renamed is whole.
"""

from __future__ import annotations

import json
import os
import re
import stat
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from engine import bag, canon, custody, envelope, sshsig
from engine.chain import Entry
from engine.custody import File, Row
from engine.diagnostics import Diagnostic, EngineError, Exit
from engine.journal import Journal
from engine.sshsig import Refused, Signer
from modules.contract import Json

NAMESPACE = "lastgood-evidence@1"
PREDICATE, ERASURE = "urn:lastgood:evidence:1", "urn:lastgood:erasure:1"
JOURNAL, CUSTODY, REPORT = "journal.jsonl", "custody.jsonl", "report.html"
ATTESTATION = "attestation.json"
#: The folder of a bundle with the records of what was erased from it, each signed as the bundle is.
ERASED = "erased"
FORM = "lastgood.journal/1"
KEY = "evidence.key"
_ODD = re.compile(r"[^A-Za-z0-9._+=@,-]")


@dataclass(frozen=True)
class Sealed:
    """A bundle as the journal tells of it. `digest`: of its tag manifest; `rows`, `root`: the tree over the custody log;
    `last`, `head`: the newest entry in it and that one's hash; `hosts`: those for whose gate it was made; `machine`: where;
    `wrong`: (host, step, why) of altered evidence."""

    number: int
    name: str
    digest: str
    rows: int
    root: str
    last: int
    head: str
    files: int
    size: int
    hosts: tuple[str, ...]
    machine: str
    wrong: tuple[tuple[str, str, str], ...] = ()


def signer(folder: Path, key: Path | None = None) -> Signer:
    """The key that seals: `key`, or the engine's own in the state folder, made when it is first asked for.

    Raises EngineError (LG078) for one that cannot be used without a person.
    """
    path = key or folder / KEY
    try:
        if key is None and not path.exists():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with suppress(FileExistsError):
                sshsig.generate(path, "evidence")
        made = sshsig.key_file(path, lambda _: "")
        made.sign(b"", NAMESPACE)  # a passphrase that is missing is found now, and not before the first change
    except (Refused, OSError) as error:
        hint = "name one without a passphrase with --evidence-key, or leave it out and the engine makes its own"
        raise _failed(f"the key {path} cannot seal evidence: {error}", hint) from None
    return made


def sealed(entries: Sequence[Entry]) -> list[Sealed]:
    """The run's bundles, oldest first."""
    return [_told(entry.body) for entry in entries if entry.kind == "evidence.sealed"]


def _told(body: dict[str, Json]) -> Sealed:
    wrong = tuple((host, step, why) for host, step, why in body.get("wrong", ()))
    return Sealed(**{**{key: body[key] for key in _FIELDS}, "hosts": tuple(body["hosts"]), "wrong": wrong})


#: Entries that are about bundles: they alone are no reason to make another one.
OWN = ("evidence.sealed", "evidence.anchored")
#: The receipt of a message may be put in its place just now: what moves while it is looked at is looked at again, so often
#: and after so many seconds. What a step has captured is held to its digest all the same.
_LOOKS, _PAUSE = 5, 0.1
_FIELDS = ("number", "name", "digest", "rows", "root", "last", "head", "files", "size", "machine")


def folder(journal: Journal, run: str) -> Path:
    """Where the run's bundles lie."""
    return journal.files(run) / "bundles"


def make(
    journal: Journal,
    run: str,
    signer: Signer,
    hosts: Collection[str] | None = None,
    between: Callable[[], object] = lambda: None,
    now: Callable[[], float] = time.time,
) -> Sealed | None:
    """Seals what is new: evidence of `hosts` (all, if None), the journal since the last bundle, the report if there is one.

    None: nothing is new. Raises EngineError (LG078): the disk is full, the evidence cannot be read, or an earlier bundle is
    not what it was.
    """
    place = folder(journal, run)
    for left in reversed(range(_LOOKS)):
        try:
            place.mkdir(exist_ok=True, mode=0o700)
            making = _Making(journal, run, signer, hosts, place, now)
            return making.sealed(between) if making.new else None
        except (OSError, bag.Moved, Refused, ValueError) as error:
            if left and isinstance(error, FileNotFoundError | bag.Moved):
                time.sleep(_PAUSE)
                continue
            raise _failed(f"the evidence of {run} could not be sealed: {error}") from None
    raise AssertionError


class _Making:
    """One bundle on its way: what the journal says, what the bundle before holds, and what is new since."""

    def __init__(
        self,
        journal: Journal,
        run: str,
        signer: Signer,
        hosts: Collection[str] | None,
        place: Path,
        now: Callable[[], float],
    ) -> None:
        self.journal, self.run, self.signer, self.hosts, self.place, self.now = journal, run, signer, hosts, place, now
        entries = journal.entries(run)
        earlier = sealed(entries)
        self.previous = earlier[-1] if earlier else None
        self.number, self.found = len(earlier) + 1, custody.seen(entries)
        self.rows: list[Row] = []
        away = self.previous is not None and _elsewhere(entries, self.previous, journal.folder)
        if self.previous and away and not (place / self.previous.name).exists():
            # It lies there still: the log begins anew, and the statement names the bundle before.
            self.previous = replace(self.previous, rows=0, root=custody.head([]))
        elif self.previous:
            _placed(place, run, self.previous)
            self.rows = rows(place / self.previous.name, self.previous)
        last = self.previous.last if self.previous else 0
        self.fresh = [entry for entry in entries if entry.seq > last]
        known = {(row["host"], row["path"], row["size"], row["modified"]) for row in self.rows if row["kind"] == "file"}
        told = {(row["host"], row["path"]) for row in self.rows if row["kind"] == "left out"}
        self.sources = [
            (host, path, source)
            for host, path, source in self._sources()
            if (host, path, *_size(source)) not in known and (_plain(source) or (host, path) not in told)
        ]
        #: Whether there is anything that no earlier bundle holds, besides what tells of those.
        self.new = bool(self.sources) or any(entry.kind not in OWN for entry in self.fresh)

    def sealed(self, between: Callable[[], object]) -> Sealed:
        """Makes the bundle, names it in the journal, and puts it in its place."""
        before = self.previous.head if self.previous else ""
        with bag.Bag(_aside(self.place, self.run, self.number)) as making:
            files, left = self._files(making, between)
            texts = [making.text(JOURNAL, b"".join(journal_lines(self.run, self.fresh, before)))]
            report = self.journal.files(self.run) / REPORT
            if self.hosts is None and report.is_file():
                texts.append(making.text(REPORT, report.read_bytes()))
            clock = self.journal.clock_offset()
            log = [*self.rows, *custody.rows(self.found, files, left, texts, self.rows, self.number, self.now(), clock)]
            told = self._closed(making, log, custody.altered(self.found, files, self.rows, self.hosts))
            self.journal.append(self.run, "evidence.sealed", {**vars(told), "key": self.signer.key.fingerprint})
            making.place(self.place / told.name)
        return told

    def _files(self, making: bag.Bag, between: Callable[[], object]) -> tuple[list[File], list[tuple[str, str, str]]]:
        """Copies what is not in an earlier bundle as it is now. The second: (host, path, why) of what is no plain file."""
        files: list[File] = []
        left: list[tuple[str, str, str]] = []
        names: set[str] = set()
        for host, path, source in self.sources:
            if _plain(source):
                name = _named(f"evidence/{host or '_run'}/{source.relative_to(self._top(host)).as_posix()}", names)
                files.append(File(making.copy(name, source, between), host, path))
            else:
                left.append((host, path, "it is no plain file"))
        return files, left

    def _top(self, host: str) -> Path:
        return self.journal.files(self.run) / "evidence" / (host or "_run")

    def _sources(self) -> Iterator[tuple[str, str, Path]]:
        """(host, path, source) of everything among the evidence, sorted. No link is followed; what is no text is escaped."""
        evidence = self.journal.files(self.run) / "evidence"
        hosts = ["" if top.name == "_run" else top.name for top in sorted(evidence.iterdir())] if evidence.is_dir() else []
        for host in hosts:
            if host and self.hosts is not None and host not in self.hosts:
                continue
            if self._top(host).is_symlink():
                yield host, ".", self._top(host)
                continue
            for folder, folders, files in os.walk(self._top(host)):
                links = [name for name in folders if (Path(folder) / name).is_symlink()]
                folders[:] = sorted(name for name in folders if name not in links)
                for source in sorted(Path(folder) / name for name in [*files, *links]):
                    path = os.fsencode(source.relative_to(self._top(host))).decode("utf-8", "backslashreplace")
                    yield host, path, source

    def _closed(self, making: bag.Bag, log: list[Row], wrong: list[tuple[str, str, str]]) -> Sealed:
        """Writes the custody log, the manifests and the attestation."""
        lines = custody.lines(log)
        making.text(CUSTODY, b"".join(line + b"\n" for line in lines))
        root, name, at = custody.head(lines), f"{self.run}.{self.number}", self.now()
        info = {
            "Bagging-Date": custody.utc(at)[:10], "Bag-Software-Agent": f"Lastgood {self.found.engine}",
            "External-Identifier": name, "Lastgood-Custody-Head": f"{len(log)} {root}",
        }  # fmt: skip
        closed, last = making.close(info), self.fresh[-1]
        told = Sealed(
            self.number, name, canon.text_digest(closed.tags), len(log), root, last.seq, last.hash, closed.files,
            closed.size, tuple(sorted(self.hosts or ())), os.uname().nodename, tuple(wrong),
        )  # fmt: skip
        said = statement(told, self.run, self.fresh[0].seq, self.previous, at, self.found.engine)
        bag.written(making.folder / ATTESTATION, canon.dumps(envelope.seal(said, self.signer, NAMESPACE)) + b"\n")
        return told


def statement(told: Sealed, run: str, first: int, previous: Sealed | None, at: float, engine: str) -> dict[str, Json]:
    """What is signed: an in-toto statement over the tag manifest."""
    p = previous
    said = {
        "run": run, "bundle": told.number, "sealed": custody.utc(at), "engine": engine,
        "files": told.files, "bytes": told.size,
        "previous": {"name": p.name, "digest": p.digest, "rows": p.rows, "root": p.root} if p else None,
        "custody": {"rows": told.rows, "root": told.root},
        "journal": {"first": first, "last": told.last, "before": p.head if p else "", "head": told.head},
    }  # fmt: skip
    return envelope.statement(PREDICATE, {bag.TAGS: told.digest}, said)


def journal_lines(run: str, entries: Sequence[Entry], before: str) -> Iterator[bytes]:
    """The journal's entries as JSON lines, behind a line that says what they follow."""
    head = {"format": FORM, "run": run, "first": entries[0].seq if entries else 0, "before": before}
    yield canon.dumps(head) + b"\n"
    for entry in entries:
        fields = {"seq": entry.seq, "at": round(entry.at * 1e6), "kind": entry.kind, "host": entry.host, "step": entry.step}
        front = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
        # the body as it was hashed, to the letter
        yield f'{front[:-1]},"body":{entry.text},"hash":"{entry.hash}"}}\n'.encode()


def _plain(source: Path) -> bool:
    return stat.S_ISREG(source.lstat().st_mode)


def _size(source: Path) -> tuple[int, str]:
    status = source.lstat()
    return status.st_size, bag.modified(status)


def _named(path: str, taken: set[str]) -> str:
    """A name for the bundle: odd bytes as ``~HH``, and a number behind one that another differs from in capitals alone."""
    name = "".join(
        char if char == "/" or not _ODD.match(char) else "".join(f"~{byte:02X}" for byte in os.fsencode(char))
        for char in path
    )
    made, number = name, 1
    while made.casefold() in taken:
        number += 1
        made = f"{name}~{number}"
    taken.add(made.casefold())
    return made


def _elsewhere(entries: Sequence[Entry], told: Sealed, here: Path) -> bool:
    """Whether a bundle was sealed on another machine, or by an engine that keeps its files in another folder of this one."""
    kept = [entry.body["files"] for entry in entries if entry.seq <= told.last and {"base", "files"} <= entry.body.keys()]
    return told.machine not in (os.uname().nodename, "") or (bool(kept) and Path(kept[-1]) != here.absolute())


def _aside(place: Path, run: str, number: int) -> Path:
    return place / f".{run}.{number}.partial"


def _placed(place: Path, run: str, told: Sealed) -> None:
    """Renames a bundle that the journal names and a crash left under its other name."""
    aside = _aside(place, run, told.number)
    if not (place / told.name).exists() and (aside / bag.TAGS).is_file():
        if canon.text_digest((aside / bag.TAGS).read_bytes()) != told.digest:
            raise ValueError(f"{aside.name} is not the bundle that the journal names")
        with bag.Bag(aside) as made:
            made.place(place / told.name)


def rows(folder: Path, told: Sealed) -> list[Row]:
    """The custody log of a bundle, which must be the one that was sealed. Raises ValueError."""
    try:
        lines = (folder / bag.DATA / CUSTODY).read_bytes().splitlines()
    except FileNotFoundError:
        raise ValueError(f"{folder} is gone, and its custody log goes on in the next bundle; put it back") from None
    if (len(lines), custody.head(lines)) != (told.rows, told.root):
        raise ValueError(f"the custody log in {folder} is not the one that was sealed")
    return [json.loads(line) for line in lines]


def _failed(summary: str, hint: str = "") -> EngineError:
    hint = hint or "nothing is changed while evidence is not sealed; free the disk or repair it, then engine resume"
    return EngineError(Diagnostic("LG078", summary, hint=hint), Exit.FAILED)
