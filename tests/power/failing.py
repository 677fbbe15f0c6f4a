"""A disk that fails: the n-th thing that SQLite asks of it is answered with an error of the system, once or from then on.

`install` puts it under the engine in a child of the launcher (`tests/crash/launch.py`), as LASTGOOD_FAULT says.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import apsw
from recording import Connection, Disk, Log

from engine import sqlite_store

#: What SQLite's Unix layer makes of an error of the system, by what was asked for (its `unixWrite`, `unixSync` and so on).
_CODES = {
    "write": apsw.SQLITE_IOERR_WRITE, "sync": apsw.SQLITE_IOERR_FSYNC, "truncate": apsw.SQLITE_IOERR_TRUNCATE,
    "delete": apsw.SQLITE_IOERR_DELETE,
}  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """Which operation fails (0: none), how, and whether all after it do, too. What happened is written to `trace`: a line
    for each operation, and `failed AT` when the engine was told of an error, on the clock of the target's effects."""

    at: int = 0
    kind: str = "EIO"
    good: bool = False
    trace: str = ""

    def env(self) -> dict[str, str]:
        """The environment in which `install` finds it."""
        return {"LASTGOOD_FAULT": json.dumps(asdict(self))}

    def __str__(self) -> str:
        return f"{self.kind} at operation {self.at}{' and all after it' if self.good else ''}"


class _Trouble:
    """Counts operations over all threads, and answers as the fault says."""

    def __init__(self, fault: Fault) -> None:
        self.fault, self.count, self.lock = fault, 0, threading.Lock()
        self.layer: Disk | None = None  # it lives as long as somebody holds it
        self.trace = os.open(fault.trace, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def write(self, line: str) -> None:
        os.write(self.trace, f"{line}\n".encode())

    def before(self, what: str, name: str) -> None:
        if what == "open" and self.fault.kind != "EMFILE":
            return  # what is there can be opened on a full disk
        with self.lock:
            self.count += 1
            now = self.count
        self.write(f"{what} {name}")
        if self.fault.at and (now == self.fault.at or (self.fault.good and now > self.fault.at)):
            raise _answer(what, self.fault.kind)


def _answer(what: str, kind: str) -> Exception:
    said = f"{os.strerror(getattr(errno, kind))} at {what}"
    if kind == "ENOSPC" and what in ("write", "create"):
        return apsw.FullError(said)
    if what in ("open", "create"):
        return apsw.CantOpenError(said)
    error = apsw.IOError(said)
    error.extendedresult = _CODES[what]
    return error


class _Watched(Connection):
    """A connection that notes when it first had to say no."""

    def __init__(self, path: Path, trouble: _Trouble, **more: Any) -> None:
        self.trouble = trouble
        super().__init__(path, **more)

    def _said(self, work: Callable[[], Any]) -> Any:
        try:
            return super()._said(work)
        except BaseException:
            self.trouble.write(f"failed {time.monotonic_ns()}")
            raise


def install() -> None:
    """From now on every store of this process lies on a disk with the fault."""
    if plant := os.environ.get("LASTGOOD_PLANT"):  # this suite has to catch a fault in the engine, which lives in here
        module, _, function = plant.partition(":")
        getattr(importlib.import_module(module), function)()
    trouble = _Trouble(Fault(**json.loads(os.environ["LASTGOOD_FAULT"])))
    trouble.layer = Disk("failing", Log(deaf=("write",)), trouble.before)
    connect = partial(_Watched, trouble=trouble, vfs="failing")
    sqlite_store.SqliteStore = partial(sqlite_store.SqliteStore, connect=connect)  # type: ignore[misc, assignment]
