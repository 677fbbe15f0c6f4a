"""A command on a terminal of its own: a pair of pseudo-terminals, at one end of which a test types and reads."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from types import TracebackType
from typing import Any, Self

from stage import Stage

#: Makes standard input the terminal whose Ctrl-C reaches the process.
_OWN = "import fcntl, os, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
#: What moves the cursor, or changes how letters look.
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|\r")


class Terminal:
    """A command line of a stage on a terminal of 40 lines and 120 columns; `more` as for `Stage.process`."""

    def __init__(self, stage: Stage, *words: str, **more: Any) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        env = {"TERM": "xterm", "NO_COLOR": "1", **more.pop("env", {})}
        before = _OWN + more.pop("before", "")
        self.process = stage.process(*words, stdin=theirs, stdout=theirs, stderr=theirs, env=env, before=before, **more)
        os.close(theirs)
        self._raw = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    @property
    def text(self) -> str:
        """All that was shown so far, as text; runs of blanks as one."""
        return " ".join(_CONTROLS.sub("", self._raw.decode("utf-8", "replace")).split())

    def shows(self, wanted: str) -> None:
        """Waits until it shows this, for as long as a busy machine may need."""
        end = time.monotonic() + 60
        while wanted not in self.text and time.monotonic() < end and self._read():
            pass
        assert wanted in self.text, self.text

    def types(self, text: str) -> None:
        """Somebody types this, and Enter."""
        os.write(self._ours, text.encode() + b"\n")

    def ends(self) -> int:
        """Waits for its end; returns its exit code."""
        end = time.monotonic() + 60
        while time.monotonic() < end and self._read():
            pass
        return self.process.wait(timeout=60)

    def _read(self) -> bool:
        """Reads on for a moment; False once nobody writes any more."""
        if not select.select([self._ours], [], [], 0.1)[0]:
            return self.process.poll() is None
        try:
            self._raw += (found := os.read(self._ours, 1 << 16))
        except OSError:  # Linux says so when the other end is closed
            return False
        return bool(found)
