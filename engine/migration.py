"""A whole record, moved from one store to another: every entry as it is, in its chain.

In: two open stores. Out: how much was moved, or `JournalError`. What is no entry (evidence, reports) is not looked at.

First the store that is left is closed, in a transaction of its own, and says from then on where the record is; then all of
it is written into the other one, in a single transaction that ends with every chain verified there. So there is no moment
at which both take entries, whenever a process is killed; in between neither does, and the same command goes on. The other
store is empty, or it is closed and holds the beginning of the same record, which once was moved from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from engine import chain, leases
from engine.chain import FIELDS
from engine.diagnostics import Exit
from engine.store import Broken, JournalError, Rows, Store

_HEADS = (
    "SELECT e.run, e.seq, e.hash FROM entries AS e JOIN (SELECT run, MAX(seq) AS seq FROM entries GROUP BY run) AS last "
    "ON e.run = last.run AND e.seq = last.seq ORDER BY LENGTH(e.run), e.run"
)
#: So many entries are in memory at a time.
_MANY = 2000
#: run -> number and hash of its last entry
Heads = dict[str, tuple[int, str]]


@dataclass(frozen=True)
class Moved:
    """So many runs are in the other store now, and so many entries were written. `before`: it had been moved before."""

    runs: int
    entries: int
    before: bool = False


def moved(source: Store, target: Store) -> Moved:
    """Moves the record. Raises JournalError: a run is being run (exit 8), `target` holds another record, a chain is broken,
    a store cannot be read or written. What was begun is completed by calling it again."""
    try:
        return _moved(source, target)
    except Broken as error:
        said = f"the record was not moved to its end: {error}"
        raise JournalError("LG072", said, "repair that, then the same command again: it goes on") from None


def _moved(source: Store, target: Store) -> Moved:
    heads, pointer = source.look(_heads), source.look(_pointer)
    if pointer not in ("", target.name):
        raise _elsewhere(source, pointer)
    there, closed = target.look(_heads), target.look(_pointer)
    if pointer and heads and closed != source.name and _begins(heads, there, partial(_looked, target)):
        return Moved(0, 0, before=True)
    try:
        _fits(source, heads, target, there, closed)
        source.write(lambda rows: _close(source, rows, target.name), sole=True)
        pointer = target.name
        return target.write(lambda rows: _copied(source, target, rows), sole=True)
    except JournalError:  # refused, and surely not written: the record stays where it was
        if pointer:  # not where another process alone has closed it, and has moved all of it meanwhile
            source.write(lambda rows: rows("UPDATE moves SET target = '' WHERE target = ?", target.name))
        raise


def _heads(rows: Rows) -> Heads:
    return {run: (seq, digest) for run, seq, digest in rows(_HEADS)}


def _pointer(rows: Rows) -> str:
    return str(rows("SELECT target FROM moves")[0][0])


def _close(source: Store, rows: Rows, target: str) -> None:
    """From now on nobody begins or adds anything in `source`. Raises JournalError (exit 8) while somebody holds a run."""
    if (pointer := _pointer(rows)) not in ("", target):
        raise _elsewhere(source, pointer)
    for one in leases.all_of(source, rows):
        if one.live:
            said = f"{one.run} is being run by {one.owner}: a record is moved when nobody acts in it"
            raise JournalError("LG080", said, f"engine status {one.run} --follow shows it", Exit.LOCKED)
    rows("DELETE FROM leases")  # none is live; one that only sleeps finds its own gone
    rows("UPDATE moves SET target = ?", target)


def _copied(source: Store, target: Store, rows: Rows) -> Moved:
    """All that `source` has and `target` has not, verified; and `target` is open. It may be called again when it is done."""
    heads, there, closed = source.look(_heads), _heads(rows), _pointer(rows)
    if heads and not closed and _begins(heads, there, partial(_hash_at, rows)):
        return Moved(0, 0, before=True)  # by another process, or just now: the record may have grown since
    _fits(source, heads, target, there, closed)
    count = 0
    for run, head in heads.items():
        for part in _parts(source, run, there.get(run, (0, ""))[0]):
            rows.many(f"INSERT INTO entries ({FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", part)  # noqa: S608
            count += len(part)
        if _verified(rows, run) != head:
            said = f"{run} did not come to {target.name} as it is in {source.name}"
            raise JournalError("LG084", said, "nothing was moved; keep a copy of both stores")
    number = source.look(lambda other: other("SELECT value FROM numbers WHERE name = 'token'"))[0][0]
    rows("UPDATE numbers SET value = ? WHERE name = 'token' AND value < ?", number, number)
    rows("DELETE FROM leases")
    rows("UPDATE moves SET target = ''")
    return Moved(rows("SELECT COUNT(*) FROM entries WHERE seq = 1 AND kind = 'run.started'")[0][0], count)


def _parts(store: Store, run: str, after: int) -> Iterator[list[tuple[Any, ...]]]:
    """The run's rows above the number `after`, some at a time."""
    while part := store.look(lambda rows, at=after: _part(rows, run, at)):  # type: ignore[misc]
        yield part
        after = part[-1][1]


def _part(rows: Rows, run: str, after: int) -> list[tuple[Any, ...]]:
    return rows(f"SELECT {FIELDS} FROM entries WHERE run = ? AND seq > ? ORDER BY seq LIMIT {_MANY}", run, after)  # noqa: S608


def _verified(rows: Rows, run: str) -> tuple[int, str]:
    """Number and hash of the run's last row, after every hash was computed again. Raises JournalError."""
    seq, before = 0, ""
    while part := _part(rows, run, seq):
        for row in part:
            seq, before = seq + 1, chain.hashed(before, *row[:-1])
            if (row[1], row[-1]) != (seq, before):
                said = f"the journal of {run} was changed: entry {seq} does not follow from the one before it"
                raise JournalError("LG073", said, "nothing was moved; keep a copy of the store")
    return seq, before


def _fits(source: Store, heads: Heads, target: Store, there: Heads, closed: str) -> None:
    """Raises JournalError unless the record fits into `target`: nothing is there, its closed beginning, or all of it."""
    if there and there != heads and not (closed and _begins(there, heads, partial(_looked, source))):
        runs = [name for name in there if name.startswith("RB-")]
        names = ", ".join(runs[:3] or there) + (", …" if len(runs) > 3 else "")
        hint = "name a store in which nothing is; nothing was moved"
        raise JournalError("LG084", f"{target.name} holds a record of its own: {names}", hint)


def _begins(short: Heads, long: Heads, hash_at: Callable[[str, int], str]) -> bool:
    """Whether every run of `short` is in `long` too, with the same entries as far as it goes; `hash_at`: of the long one."""
    return all(long.get(run, (0, ""))[0] >= seq and hash_at(run, seq) == digest for run, (seq, digest) in short.items())


def _hash_at(rows: Rows, run: str, seq: int) -> str:
    return str(rows("SELECT hash FROM entries WHERE run = ? AND seq = ?", run, seq)[0][0])


def _looked(store: Store, run: str, seq: int) -> str:
    return store.look(lambda rows: _hash_at(rows, run, seq))


def _elsewhere(source: Store, pointer: str) -> JournalError:
    said = f"the record in {source.name} was moved to {pointer}"
    return JournalError("LG083", said, f"engine state migrate {pointer} TO moves it on from there", Exit.USAGE)
