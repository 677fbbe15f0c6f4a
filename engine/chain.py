"""An entry of the record, and the chain that the entries of a run form: each holds the hash of the one before.

In: what an entry says. Out: an `Entry` with its number and hash; or, of entries that somebody hands over, the first that
does not follow from the one before it. It knows no database and no clock, so a copy of a record is checked as the record
is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from modules.contract import Json

#: The columns of an entry, in the order of `row`.
FIELDS = "run, seq, at, kind, host, step, body, hash"


@dataclass(frozen=True)
class Entry:
    """One row. `at`: UTC, in seconds since 1970. `text`: the body as JSON, as it was hashed. `seq` 0: live, not stored."""

    run: str
    seq: int
    at: float
    kind: str
    host: str
    step: str
    text: str
    hash: str = ""

    @cached_property
    def body(self) -> dict[str, Json]:
        """What the entry says."""
        found: dict[str, Json] = json.loads(self.text)
        return found

    @property
    def row(self) -> tuple[Any, ...]:
        """As it is stored: `at` in microseconds."""
        return self.run, self.seq, round(self.at * 1e6), self.kind, self.host, self.step, self.text, self.hash

    @classmethod
    def of(cls, row: Sequence[Any]) -> Entry:
        """The entry that was stored as `row`."""
        run, seq, at, kind, host, step, text, digest = row
        return cls(run, seq, at / 1e6, kind, host, step, text, digest)


def following(head: tuple[int, str], run: str, at: int, kind: str, host: str, step: str, text: str) -> Entry:
    """The entry after `head` (number and hash of the last one; 0 and an empty text before the first). `at`: microseconds."""
    digest = hashed(head[1], run, head[0] + 1, at, kind, host, step, text)
    return Entry(run, head[0] + 1, at / 1e6, kind, host, step, text, digest)


def fault(entries: Iterable[Entry]) -> int:
    """The place (from 1) of the first entry that does not follow from the one before it; 0 when all do."""
    before = ""
    for number, e in enumerate(entries, 1):
        before = hashed(before, e.run, e.seq, round(e.at * 1e6), e.kind, e.host, e.step, e.text)
        if e.seq != number or e.hash != before:
            return number
    return 0


def ending(entries: Sequence[Entry]) -> Entry | None:
    """The `run.ended` that holds: messages may follow it, but no resume and no undo."""
    for entry in reversed(entries):
        if entry.kind == "run.ended":
            return entry
        if entry.kind in ("run.resumed", "undo.started"):
            return None
    return None


def text_of(body: dict[str, Json]) -> str:
    """A body as it is stored and hashed. Raises ValueError for what is no JSON."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # half a character, as a host may send it in JSON, is no text: nobody could write or show it
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def hashed(before: str, run: str, seq: int, at: int, kind: str, host: str, step: str, text: str) -> str:
    """sha256 over the previous hash and this entry's fields, each with its length, so that no two entries read alike."""
    when = f"{len(str(seq))}:{seq}{len(str(at))}:{at}"
    where = f"{len(kind)}:{kind}{len(host)}:{host}{len(step)}:{step}"
    whole = f"{len(before)}:{before}{len(run)}:{run}{when}{where}{len(text)}:{text}"
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()
