"""Who holds a run or a host, for how long, and who does not any more.

In: a transaction of a store. Out: `Lease` values, a token, or who stands in the way. A lease is held by a process for a
stretch of the store's own clock, and is renewed while the process lives. Its token is higher than every token before it;
what is written under a lease is written in a transaction that has looked whether that token still holds (Gray and Cheriton's
leases, with the fencing tokens that Chubby calls sequencers). It starts no thread and waits for nobody.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.store import Rows, Store

_COLUMNS = "name, run, token, owner, purpose, since, until, era"
#: How the names of the two kinds of lease begin.
RUN, HOST = "run ", "host "


@dataclass(frozen=True)
class Owner:
    """A process: its number, when it began (in ticks since the machine started), and the boot and namespace of that number.
    `person` and `machine` are for people."""

    machine: str
    person: str
    pid: int
    began: int
    boot: str
    space: str

    @classmethod
    def me(cls, person: str = "") -> Owner:
        """This process."""
        boot, space = _place()
        return cls(socket.gethostname(), person, os.getpid(), _stat(os.getpid())[1], boot, space)

    def gone(self) -> bool:
        """Whether the process is surely dead. Only of the processes of this machine can that be known: not of those of a
        machine that does not say which one it is, nor of those that another user is not shown."""
        if not self.boot or (self.boot, self.space) != _place():
            return False
        state, began = _stat(self.pid)
        return began != self.began and state != "?"

    def awake(self) -> bool:
        """Whether the process is surely alive and not stopped."""
        if (self.boot, self.space) != _place():
            return False
        state, began = _stat(self.pid)
        return began == self.began and state not in "Tt"

    def __str__(self) -> str:
        person = f"{self.person}@" if self.person else ""
        return f"{person}{self.machine}, process {self.pid}"


@dataclass(frozen=True)
class Lease:
    """One row. `since`: UTC, in seconds since 1970; `left`: seconds until it lapses, at most 0 when it has."""

    name: str
    run: str
    token: int
    owner: Owner
    purpose: str
    since: float
    until: int
    left: float

    @property
    def live(self) -> bool:
        """Whether it still keeps others away."""
        return self.left > 0 and not self.owner.gone()


def all_of(store: Store, rows: Rows) -> list[Lease]:
    """Every lease there is, live or not, in the order of their names."""
    now, found = store.clock(rows), []
    for name, run, token, owner, purpose, since, until, era in rows(f"SELECT {_COLUMNS} FROM leases ORDER BY name"):  # noqa: S608
        left = (until - now) / 1e6 if era == store.era else 0.0
        found.append(Lease(name, run, token, Owner(**json.loads(owner)), purpose, since / 1e6, until, left))
    return found


def in_the_way(store: Store, rows: Rows, names: Iterable[str], run: str, token: int) -> Lease | None:
    """The first live lease of these names that is not ours: another run's, or another process's of the same run."""
    wanted = set(names)
    for one in all_of(store, rows):
        if one.name in wanted and one.token != token and one.live and (one.run != run or one.name.startswith(RUN)):
            return one
    return None


def next_token(rows: Rows) -> int:
    """A number that is higher than every one before it."""
    rows("UPDATE numbers SET value = value + 1 WHERE name = 'token'")
    found: int = rows("SELECT value FROM numbers WHERE name = 'token'")[0][0]
    return found


def put(
    store: Store, rows: Rows, names: Sequence[str], run: str, token: int, owner: Owner, purpose: str, seconds: float
) -> None:
    """Writes leases of these names that begin now."""
    until, said = store.clock(rows) + int(seconds * 1e6), json.dumps(asdict(owner))
    rows.many("DELETE FROM leases WHERE name = ?", [(name,) for name in names])
    since = int(time.time() * 1e6)
    made = [(name, run, token, said, purpose, since, until, store.era) for name in names]
    rows.many(f"INSERT INTO leases ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", made)  # noqa: S608


def renew(store: Store, rows: Rows, run: str, token: int, seconds: float) -> bool:
    """Prolongs everything that is held under the token. False: it had lapsed, or was broken, and stays so."""
    if not holds(store, rows, run, token):
        return False
    rows("UPDATE leases SET until = ? WHERE token = ?", store.clock(rows) + int(seconds * 1e6), token)
    return True


def holds(store: Store, rows: Rows, run: str, token: int) -> bool:
    """Whether the run is still held under this token; until the transaction's end nobody can take it."""
    found = rows(f"SELECT token, until, era FROM leases WHERE name = ?{store.locking}", RUN + run)  # noqa: S608
    return bool(found) and (found[0][0], found[0][2]) == (token, store.era) and found[0][1] > store.clock(rows)


def give_back(rows: Rows, token: int) -> None:
    """Ends everything that is held under the token."""
    rows("DELETE FROM leases WHERE token = ?", token)


def moment() -> float:
    """Seconds on a clock of this machine that nobody sets and that goes on while it sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _place() -> tuple[str, str]:
    """The boot and the process namespace in which a process number means something."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return boot, str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return "", ""


def _stat(pid: int) -> tuple[str, int]:
    """State and start of a process (proc(5), fields 3 and 22); ("", 0) when there is none, or only its remains; ("?", 0)
    when it is not shown, as where /proc is mounted with hidepid."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return ("?" if _there(pid) else ""), 0
    state, *rest = text.rpartition(")")[2].split()
    return ("", 0) if state in "ZX" else (state, int(rest[18]))


def _there(pid: int) -> bool:
    """Whether there is a process with this number, as signals know it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
