"""The test's side of `launch.py`: start it, give it orders, read how each child ended."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LAUNCH = Path(__file__).parent / "launch.py"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    """How a child ended: its exit code (-9: killed), the boundaries it came to, what it printed."""

    exit: int
    points: list[str]
    said: str

    @property
    def killed(self) -> bool:
        return self.exit == -9


class Killer:
    """A warm process from which every command line is forked."""

    def __init__(self, scratch: Path, **env: str) -> None:
        self.scratch, self.env = scratch, {"SSH_AUTH_SOCK": "", "LASTGOOD_USER": "eve", **env}
        self.scratch.mkdir(parents=True, exist_ok=True)
        self.complaints = self.scratch / "complaints"
        with self.complaints.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(LAUNCH)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the launcher has gone away: {self.process.wait(30)}\n{self.complaints.read_text()}"
        found: dict[str, Any] = json.loads(line)
        return found

    def __call__(
        self,
        folder: Path,
        *argv: str,
        kill: int | tuple[str, int] = 0,
        install: str = "",
        report: bool = True,
        read: tuple[str, str] | None = None,
        aside: tuple[int, list[str]] | None = None,
        beside: Callable[[], None] | None = None,
    ) -> Ended:
        """Runs `engine ARGV` in `folder`, killed at its `kill`-th boundary, or at one that is named, the n-th time.

        `aside`: another command line that somebody types at the boundary of that number. `beside` is called again and again
        meanwhile. `report`: whether the page at the end is written. `read`: a playbook and its inventory that are read
        before the process begins.
        """
        assert self.process.stdin is not None
        out, trace = self.scratch / "out", self.scratch / "trace"
        out.write_text("")
        trace.unlink(missing_ok=True)
        order = {"argv": argv, "cwd": str(folder), "kill": kill, "out": str(out), "trace": str(trace), "env": self.env}
        more = {"install": install, "report": report, "read": read, "beside": aside}
        self.process.stdin.write(json.dumps({**order, **more}) + "\n")
        self.process.stdin.flush()
        self._read()
        ended = threading.Event()
        thread = threading.Thread(target=_repeat, args=(beside, ended)) if beside else None
        if thread:
            thread.start()
        try:
            answer = self._read()
        finally:
            ended.set()
            if thread:
                thread.join()
        return Ended(answer["exit"], answer["points"], out.read_text())

    def close(self) -> None:
        """Ends the launcher by closing its input."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()


def _repeat(act: Callable[[], None], ended: threading.Event) -> None:
    while not ended.wait(0.02):
        act()


@contextmanager
def killer(scratch: Path, **env: str) -> Iterator[Killer]:
    """A launcher that ends with the block."""
    found = Killer(scratch, **env)
    try:
        yield found
    finally:
        found.close()
