"""A run with evidence, written by hand into a journal, and its bundles: what tests of sealing and verifying begin with."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path

from engine import members, proof, seal
from engine.journal import Journal
from engine.members import Fault

FILES = {
    "a": {"wrong.jsonl": b'{"id": 1}\n{"id": 2}\n', "deep/er/model.bin": bytes(range(256)) * 5},
    "b": {"log.txt": b"ok\n"},
}


def clock(start: float = 1_790_000_000.0) -> Callable[[], float]:
    """A clock that goes on by a second each time it is read."""
    ticks = itertools.count()
    return lambda: start + next(ticks)


class Case:
    """A journal with one run of the hosts a and b, whose forensics ended well, and its signer."""

    def __init__(self, folder: Path, files: dict[str, dict[str, bytes]] | None = None) -> None:
        self.journal = Journal(folder / "state", clock())
        self.signer = seal.signer(self.journal.folder)
        plan = {"modules": {"http.capture": "sha256:" + "0" * 64}}
        body = {"plan": plan, "requester": "ana", "engine": "0.1", "hosts": ["a", "b"], "evidence": self.signer.key.line}
        self.run = self.journal.start(body)
        for host, kept in (FILES if files is None else files).items():
            for path, content in kept.items():
                self.capture(host, path, content)

    def __enter__(self) -> Case:
        return self

    def __exit__(self, *_: object) -> None:
        self.journal.close()

    @property
    def evidence(self) -> Path:
        """The run's evidence folder."""
        return self.journal.files(self.run) / "evidence"

    def capture(self, host: str, path: str, content: bytes, **said: object) -> None:
        """A step that kept a file and says so."""
        target = self.evidence / host / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        step = f"forensics/keep-{path.replace('/', '-')}"
        params = {"url": f"http://{host}.example.org/{path}", "as": path}
        self.journal.append(self.run, "step.intent", {"module": "http.capture", "params": params}, host, step)
        reading = {
            "stored": True,
            "_path": str(target),
            "_sha256": hashlib.sha256(content).hexdigest(),
            "_size": len(content),
            **said,
        }
        self.outcome(host, step, "changed", reading=reading)

    def outcome(self, host: str, step: str, outcome: str, **more: object) -> None:
        """How a step ended."""
        self.journal.append(self.run, "step.outcome", {"outcome": outcome, "reading": None, "why": "", **more}, host, step)

    def seal(self, hosts: Iterable[str] | None = None) -> Path:
        """Seals what is new; the bundle's folder."""
        told = seal.make(self.journal, self.run, self.signer, None if hosts is None else list(hosts), now=clock())
        assert told
        return seal.folder(self.journal, self.run) / told.name


def examined(path: Path) -> proof.Found:
    """A bundle on the disk, verified."""
    faults: list[Fault] = []
    return proof.examine(members.of(path, faults), faults)


def held(path: Path) -> list[str]:
    """The faults of a bundle on the disk, in words."""
    return [f"{fault.where}: {fault.why}" for fault in examined(path).faults]


def loaded(path: Path) -> dict[str, bytes]:
    """A bundle as names and bytes."""
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def faults_of(files: Iterable[tuple[str, bytes]]) -> list[Fault]:
    """The faults of a bundle in memory."""
    faults: list[Fault] = []
    return proof.examine(members.in_memory(files, faults), faults).faults
