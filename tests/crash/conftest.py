"""The world of the demo, which is reset and looked at from outside the engine; and the process that kills."""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import shutil
import sqlite3
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))

from killer import Killer, killer

from engine import playground
from engine.cli import main
from engine.journal import Entry, Journal
from engine.playground_server import Service
from modules.directory import _client as registry

#: The shipped playbook's times, made short; its steps stay what they are.
SHORTER = {
    "for: 2s": "for: 40ms", "every: 500ms": "every: 20ms", "for: 3s": "for: 80ms", "requests: 200": "requests: 20",
    "p99_below: 250ms": "p99_below: 20s", "delay: 1s": "delay: 100ms", "retries: 10": "retries: 100",
}  # fmt: skip
_MOVED_TO = 0x80


class Moves:
    """How often the kernel saw something renamed to `current` in a folder (inotify(7))."""

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert libc.inotify_add_watch(self.fd, str(folder).encode(), _MOVED_TO) >= 0

    def take(self) -> int:
        """The moves since it was last asked."""
        count = 0
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.fd, 1 << 16):
                while data:
                    length = struct.unpack_from("iIII", data)[3]
                    count += data[16 : 16 + length].rstrip(b"\0") == b"current"
                    data = data[16 + length :]
        return count


class Counting(Service):
    """The demo's service, which counts how often it was made to load."""

    loads = 0

    def load(self, version: str = "") -> str:
        self.loads += 1
        return super().load(version)


class World:
    """The demo's folder with the bad version live. What happens to it is counted by the kernel, the server, the receiver."""

    def __init__(self, folder: Path, service: Counting) -> None:
        self.folder, self.service = folder, service
        self.models = folder / "models" / "fraud"
        self.moves = Moves(self.models)

    @property
    def store(self) -> Path:
        return self.folder / ".lastgood"

    def reset(self) -> None:
        """v2 is live and has got payments wrong; nobody has run anything; nothing is counted."""
        shutil.rmtree(self.store, ignore_errors=True)
        (self.folder / "messages.jsonl").unlink(missing_ok=True)
        registry.point(self.models, "v2")
        self.service.load("v2")
        deadline = time.monotonic() + 30
        while len(self.service.wrong(30)) < 30 and time.monotonic() < deadline:
            time.sleep(0.01)
        self.moves.take()
        self.service.loads = 0

    def keys(self) -> None:
        """Both people give their key if they are asked for it and have not yet."""
        kinds = self._kinds("key.asked", "key.given", "authority.settled")
        if kinds[:1] == ["key.asked"] or "key.asked" in kinds:
            since = kinds[len(kinds) - kinds[::-1].index("key.asked") :]
            for person in playground.people()[len(since) :] if "authority.settled" not in since else ():
                with contextlib.redirect_stderr(io.StringIO()):
                    words = ["approve", "--key", str(self.folder / "keys" / person), "--because", "", "--confirm"]
                    for typed in ("v1", self.run):
                        if main.run(["--state", str(self.store), *words, typed]) == 0:
                            break

    def _kinds(self, *kinds: str) -> list[str]:
        path = self.store / "journal.db"
        if not path.exists():
            return []
        with contextlib.closing(sqlite3.connect(path, timeout=20)) as db, contextlib.suppress(sqlite3.OperationalError):
            marks = ", ".join("?" * len(kinds))
            return [row[0] for row in db.execute(f"SELECT kind FROM entries WHERE kind IN ({marks}) ORDER BY seq", kinds)]
        return []

    @property
    def run(self) -> str:
        """The one run there is."""
        return "RB-0001"

    @property
    def begun(self) -> bool:
        """Whether there is a run."""
        return bool(self._kinds("run.started"))

    def entries(self) -> list[Entry]:
        """The run's entries, after its chain was verified."""
        store = Journal(self.store)
        try:
            return store.verified(self.run)
        finally:
            store.close()

    def messages(self) -> Counter[str]:
        """How often each message arrived, by its dedupe key."""
        path = self.folder / "messages.jsonl"
        return Counter(json.loads(line)["ref"] for line in path.read_text().splitlines()) if path.exists() else Counter()

    def seen(self) -> dict[str, Any]:
        """What is live, and what was done to get there."""
        return {
            "link": registry.serving(self.models), "serves": self.service.version, "moves": self.moves.take(),
            "loads": self.service.loads,
        }  # fmt: skip


@pytest.fixture(scope="session")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory, where there is one: a kill loses nothing there either, and hundreds of runs wait for no disk."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        yield tmp_path_factory.mktemp("memory")
        return
    with tempfile.TemporaryDirectory(prefix="lastgood-", dir=shared) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def demo(memory: Path) -> Iterator[World]:
    """The demo's world. Its service makes payments for as long as it is there, and they cost something."""
    folder = memory / "demo"
    folder.mkdir()
    playground.make(folder)
    text = (folder / playground.PLAYBOOK).read_text()
    for long, short in SHORTER.items():
        assert long in text, long
        text = text.replace(long, short)
    (folder / playground.PLAYBOOK).write_text(text)
    with Counting(folder / "models" / "fraud", rate=2000) as service:
        playground.settle(folder, service.url)
        yield World(folder, service)


@pytest.fixture(scope="session")
def kill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killer]:
    """Runs a command line of the engine in a process of its own, killed where it is told to."""
    with killer(tmp_path_factory.mktemp("killer")) as found:
        yield found
