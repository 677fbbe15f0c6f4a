"""A course of the real journal over the recording layer, and a judge who opens what a power cut may have left of it."""

from __future__ import annotations

import contextlib
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from images import Cut, Image, cuts
from recording import Connection, Disk, Event, Log

from engine.journal import Journal, JournalError
from engine.sqlite_store import SqliteStore
from engine.store import Broken

#: So small that checkpoints come every few commits.
CHECKPOINT = "wal_autocheckpoint=6"
Connect = Callable[[Path], Any]


@dataclass(frozen=True)
class Course:
    """What a course asked of the disk, with marks where something had been acknowledged; how it came out; which entries of a
    run were one commit (their first and last number)."""

    events: Sequence[Event]
    chains: dict[str, list[str]]
    together: list[tuple[str, int, int]]
    commits: int


class Waiting(Connection):
    """The connection, which takes its time to commit, as a disk does: other threads' entries share the next commit."""

    def execute(self, sql: str, values: Sequence[Any] = ()) -> Any:
        if sql == "COMMIT":
            threading.Event().wait(0.002)
        return super().execute(sql, values)


def lived(
    folder: Path, mode: str = "delete", seed: int = 0, connect: type[Connection] = Waiting, deaf: Sequence[str] = ()
) -> Course:
    """Three runs at once in each of two journals, one after the other: entries alone and together, leases on hosts."""
    if mode == "wal":
        SqliteStore(folder).close()
        Connection(folder / "journal.db", pragmas=("journal_mode=wal",)).close()
    log = Log(deaf)
    disk = Disk(f"power-{folder.parent.name}-{folder.name}", log)
    at = partial(connect, vfs=disk.name, pragmas=(CHECKPOINT,))
    together: list[tuple[str, int, int]] = []
    commits = 0
    for number in range(2):
        journal = Journal(SqliteStore(folder, at))
        journal.listeners.append(lambda entry: log.mark(("entry", entry.run, entry.seq)))
        threads = [
            threading.Thread(target=_live, args=(journal, log, together, 10 * seed + 3 * number + one)) for one in range(3)
        ]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        chains = {first.run: [entry.hash for entry in journal.verified(first.run)] for first, _ in journal.runs()}
        commits += journal.commits
        journal.close()
    disk.unregister()
    return Course(tuple(log.events), chains, together, commits)


def _live(journal: Journal, log: Log, together: list[tuple[str, int, int]], seed: int) -> None:
    """One run: it takes a host, writes, gives it back."""
    chance = random.Random(seed)
    run = journal.start({"n": seed})
    host = f"host-{seed}"
    journal.lock(run, [host], "a drill")
    log.mark(("held", run, host))
    for number in range(chance.randint(4, 7)):
        body = {"number": number, "text": "x" * chance.randint(0, 700)}
        if chance.random() < 0.4:
            made = journal.append_all(
                run, [("note", {**body, "part": part}, host, "a") for part in range(chance.randint(2, 4))]
            )
            together.append((run, made[0].seq, made[-1].seq))
        else:
            made = [journal.append(run, "note", body, host, "a")]
        log.mark(("entry", run, made[-1].seq))
    log.mark(("freed", run, host))
    journal.unlock(run)


@dataclass
class Judge:
    """Opens images as the engine would, with a SQLite of its own choice, and says what is wrong with them.

    What a SQLite leaves after it has recovered an image is judged once: the same bytes are the same record.
    """

    folder: Path
    course: Course
    connect: Connect | None = None
    known: dict[Any, str | tuple[Counter[str], set[str]]] = field(default_factory=dict)
    laid: dict[int, Any] = field(default_factory=dict)

    def opened(self) -> Journal:
        """The journal of the image, as a process after the power cut opens it."""
        return Journal(SqliteStore(self.folder, *([self.connect] if self.connect else [])))

    def wrong(self, cut: Cut) -> str:
        """What is wrong with what the disk held; empty when all is well. `lost …` for what had been acknowledged."""
        image = hash(tuple(sorted(cut.image.items())))
        if image not in self.laid:
            self.laid[image] = self._recovered(cut.image)
        found = self.laid[image]
        return found if isinstance(found, str) else _missing(cut.marks, *found)

    def _recovered(self, image: Image) -> str | tuple[Counter[str], set[str]]:
        lay(self.folder, image)
        try:
            self.opened().close()
        except JournalError as error:
            return f"refused: {error}"
        # a journal that had not begun to count may lie there still; the next commit writes over it
        left = (self.folder / "journal.db").read_bytes(), *sorted(path.name for path in self.folder.glob("journal.db-*"))
        if left not in self.known:
            self.known[left] = self._looked_into()
        return self.known[left]

    def _looked_into(self) -> str | tuple[Counter[str], set[str]]:
        """How many entries of each run there are, and which hosts are held; or what is wrong with them."""
        journal = self.opened()
        try:
            if journal.store.look(lambda rows: rows("PRAGMA integrity_check")) != [("ok",)]:
                return "damaged"
            runs, whole = Counter[str](), self.course.chains
            for first, _ in journal.runs():
                hashes = [entry.hash for entry in journal.verified(first.run)]
                if hashes != whole[first.run][: len(hashes)]:
                    return f"another record of {first.run}"
                runs[first.run] = len(hashes)
            for run, start, end in self.course.together:
                if start <= runs[run] < end:
                    return f"half a commit: {run} ends with {runs[run]} of {start} to {end}"
            hosts = {row[0] for row in journal.store.look(lambda rows: rows("SELECT name FROM leases"))}
            for run in runs:
                if journal.append(run, "note", {}).seq != runs[run] + 1 or len(journal.verified(run)) != runs[run] + 1:
                    return f"{run} cannot be gone on with"
            new = journal.start({})
            return f"the number {new} twice" if new in runs else (runs, hosts)
        except (JournalError, Broken) as error:
            return f"unreadable: {error}"
        finally:
            with contextlib.suppress(JournalError, Broken):
                journal.close()


def _missing(marks: Sequence[tuple[Any, ...]], runs: Counter[str], hosts: set[str]) -> str:
    for what, run, which in marks:
        if what == "entry" and runs[run] < which:
            return f"lost entry {which} of {run}"
        if what == "held" and f"host {which}" not in hosts and ("freed", run, which) not in marks:
            return f"lost the lease of {run} on {which}"
    return ""


def lay(folder: Path, image: Image) -> None:
    """Makes the folder what the disk held: a store of its owner alone."""
    for path in folder.glob("journal.db*"):
        path.unlink()
    for name, data in image.items():
        path = folder / name
        path.write_bytes(data)
        path.chmod(0o600)


def tried(judge: Judge, wanted: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Judges about so many images. Returns how many there were, were lost, were otherwise wrong; and the first few texts."""
    seen, said = Counter[str](), list[str]()
    for cut in cuts(judge.course.events, wanted, seed):
        wrong = judge.wrong(cut)
        seen["images"] += 1
        if wrong:
            seen["lost" if wrong.startswith("lost") else "corrupt"] += 1
            said.append(f"after {cut.at} of {len(judge.course.events)} events: {wrong}")
    return seen, said[:5]


def courses(folder: Path, mode: str, count: int, **more: Any) -> Iterator[Course]:
    """So many courses, each of another seed."""
    for seed in range(count):
        place = folder / f"{mode}-{seed}"
        place.mkdir(mode=0o700)
        yield lived(place, mode, seed, **more)
