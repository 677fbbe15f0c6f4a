"""Which version served where and when, who put it there, what it passed, and what must never come back.

In: the journal. Out: a `Ledger`, folded from one chain of entries of its own. Runs are entered into it when they have ended
(`gather`), what people and registries say when they say it (`observed`, `marked`). It contacts nobody and decides nothing: a
candidate is told what is on record of it, and the module that chooses gives the reasons.

A ledger that is shorter than this machine has seen it would let a bad version come back: it is refused by name (LG068).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine import memory
from engine.diagnostics import printable
from engine.journal import Entry, Journal, JournalError, ending
from modules.contract import Json

#: The chain that the ledger's entries form, beside those of the runs.
CHAIN = "LEDGER"
#: Every kind of entry of the chain. What a newer engine wrote there may forbid a version, so it is not passed over.
KINDS = frozenset({"ledger.served", "ledger.observed", "ledger.marked"})
_WELL = frozenset({"succeeded", "recovered"})


@dataclass(frozen=True)
class Served:
    """A version on a host from `since` on (seconds since 1970, UTC); `until` None: it serves still, as far as is known.

    `how`: run or observed; `by`: who; `passed` and `unmet`: the checks of the run that put it there. `began` False: it
    was seen then, and served earlier already.
    """

    host: str
    version: str
    digest: str
    since: float
    until: float | None
    how: str
    by: str
    run: str
    passed: tuple[str, ...] = ()
    unmet: tuple[str, ...] = ()
    began: bool = True

    @property
    def proven(self) -> bool:
        """Whether a run put it there and every check was met."""
        return self.how == "run" and bool(self.passed) and not self.unmet


@dataclass(frozen=True)
class Mark:
    """A version that is bad, or is so no more: said of a host's version, and of its digest wherever that is."""

    host: str
    version: str
    digest: str
    bad: bool
    why: str
    by: str
    at: float


@dataclass(frozen=True)
class Ledger:
    """The record of versions: `served` by host, oldest first; `marks` in the order in which they were made."""

    served: Mapping[str, tuple[Served, ...]]
    marks: tuple[Mark, ...] = ()

    def bad(self, host: str, version: str, digest: str | None = None) -> Mark | None:
        """The mark that keeps this version from coming back: of this digest anywhere, or of this version here."""
        found = None
        for mark in self.marks:
            same = digest == mark.digest if digest and mark.digest else (host, version) == (mark.host, mark.version)
            found = mark if same else found
        return found if found and found.bad else None

    def now(self, host: str) -> Served | None:
        """What serves on the host, as far as is known."""
        rows = self.served.get(host, ())
        return rows[-1] if rows else None

    def about(self, host: str, version: str, digest: str | None) -> dict[str, Json]:
        """What is on record of a candidate: `excluded` (why it may not come back), `served` and `proven` (when last)."""
        said: dict[str, Json] = {}
        mine = [row for row in self.served.get(host, ()) if row.version == version]
        known = next((row.digest for row in reversed(mine) if row.digest), "")
        if mark := self.bad(host, version, digest):
            said["excluded"] = f"is marked bad in the ledger by {mark.by}: {mark.why}"
        elif digest and known and digest != known:
            said["excluded"] = f"is not what served under this name: its digest is {digest:.19}…, then it was {known:.19}…"
        if mine:
            said["served"] = mine[-1].since
        if proven := [
            row for rows in self.served.values() for row in rows if row.proven and _same(row, host, version, digest)
        ]:
            said["proven"] = max(row.since for row in proven)
        return said


def _same(row: Served, host: str, version: str, digest: str | None) -> bool:
    return digest == row.digest if digest and row.digest else (host, version) == (row.host, row.version)


def of(journal: Journal) -> Ledger:
    """The ledger as of now, runs that ended since it was last written included. Writes nothing. Raises JournalError."""
    known = _known(journal.memory, journal.known_as)  # before the entries: another process may just be adding some
    entries = journal.verified(CHAIN)
    _grown(known, journal.known_as, entries)
    _remember(journal, entries)
    if strange := next((entry.kind for entry in entries if entry.kind not in KINDS), ""):
        said = f"the ledger holds a `{printable(strange, 60)}`: this engine does not know what that means"
        raise JournalError("LG066", said, "go on with the engine that wrote it, or a newer one")
    return _folded([*((entry.kind, entry.host, entry.body) for entry in entries), *_ungathered(journal, entries)])


class Past:
    """The ledger as it is now: read when it is first asked for, and again whenever it has grown. A run may wait for hours
    before it uses what it knows."""

    def __init__(self, journal: Journal) -> None:
        self._journal, self._turn = journal, threading.Lock()
        self._seen, self._found = 0, None  # type: int, Ledger | None

    def __call__(self) -> Ledger:
        """Raises JournalError."""
        with self._turn:
            fresh = self._journal.entries(CHAIN, self._seen)
            if self._found is None or fresh:
                self._found, self._seen = of(self._journal), fresh[-1].seq if fresh else self._seen
            return self._found


def gather(journal: Journal) -> None:
    """Enters what ended runs have put in place. Doing it again, or in two processes, does no harm. Raises JournalError."""
    rows = _ungathered(journal, journal.entries(CHAIN))
    if rows:
        _remember(journal, journal.append_all(CHAIN, [(kind, body, host, "") for kind, host, body in rows]))


def observed(journal: Journal, host: str, version: str, digest: str, source: str, by: str, at: float) -> bool:
    """Enters what a registry or an endpoint says that it serves. False: that is on record already."""
    now = of(journal).now(host)
    if now and (now.version, now.digest or digest) == (version, digest or now.digest):
        return False
    body = {"version": version, "digest": digest, "at": at, "by": by, "source": source}
    _remember(journal, [journal.append(CHAIN, "ledger.observed", body, host)])
    return True


def marked(journal: Journal, host: str, version: str, digest: str, bad: bool, why: str, by: str, at: float) -> None:
    """Enters that a version is bad, or is so no more."""
    body = {"version": version, "digest": digest, "bad": bad, "why": why, "by": by, "at": at}
    _remember(journal, [journal.append(CHAIN, "ledger.marked", body, host)])


def none(folders: Sequence[Path], name: str) -> None:
    """For where no record is: raises JournalError if this machine has seen a ledger there."""
    _grown(_known(folders, name), name, [])


_HINT = "put the newest copy of the record back; engine doc LG068 says what to do where it is lost"


def _known(folders: Sequence[Path], name: str) -> list[memory.Seen]:
    """What every place remembers of the ledger. Raises JournalError (LG068) for one that cannot be read."""
    try:
        return memory.seen(folders, name)
    except ValueError as error:
        raise JournalError("LG068", f"how far the ledger in {name} had grown cannot be told: {error}", "repair it") from None


def _grown(known: Sequence[memory.Seen], name: str, entries: Sequence[Entry]) -> None:
    """Raises JournalError (LG068) unless the ledger goes on from what every place remembered of it."""
    for one in known:
        if len(entries) < one.count:
            said = f"the ledger in {name} has {len(entries)} entries, and {one.place} remembers {one.count}"
            raise JournalError("LG068", f"{said}: it was cut, or is an older one", _HINT)
        if entries[one.count - 1].hash != one.hash:
            said = f"entry {one.count} of the ledger in {name} is not the one that {one.place} remembers"
            raise JournalError("LG068", f"{said}: it is another history", _HINT)


def _remember(journal: Journal, entries: Sequence[Entry]) -> None:
    if entries:
        memory.remember(journal.memory, journal.known_as, entries[-1].seq, entries[-1].hash)


_Row = tuple[str, str, dict[str, Json]]


def _ungathered(journal: Journal, entries: Sequence[Entry]) -> list[_Row]:
    """What ended runs say that is not entered yet, in the order in which they ended."""
    done: dict[str, int] = {}
    for entry in entries:
        if entry.kind == "ledger.served":
            done[entry.body["run"]] = max(done.get(entry.body["run"], 0), entry.body["seq"])
    found: list[tuple[float, list[_Row]]] = []
    for first, last in journal.runs():
        seen = done.get(first.run, 0)
        if last.seq == seen or first.body.get("check"):
            continue
        if any(entry.kind == "run.ended" for entry in journal.entries(first.run, seen)):
            whole = journal.entries(first.run)
            end = ending(whole)
            found += [(end.at, list(_told(whole, end)))] if end else []
    return [row for _, rows in sorted(found, key=lambda pair: pair[0]) for row in rows]


def _told(entries: Sequence[Entry], end: Entry) -> Iterable[_Row]:
    """What one run says of each host: the version that serves after it, and the mark of the one that it went back from."""
    first, outcome = entries[0], str(end.body["outcome"])
    hosts = {host: _Host() for host in first.body["hosts"]}
    for entry in entries:
        if entry.host in hosts:
            hosts[entry.host].add(entry)
    for host, one in hosts.items():
        body = one.served(outcome, first.at, end.at)
        yield "ledger.served", host, {**body, "run": first.run, "seq": end.seq, "by": first.body["requester"]}
        if one.alarmed and outcome in _WELL and one.was and body["version"] not in ("", one.was):
            why = f"{first.run} went back from it to {body['version']}" + (f": {one.why}" if one.why else "")
            mark = {"version": one.was, "digest": one.digests.get(one.was, ""), "bad": True, "why": why}
            yield "ledger.marked", host, {**mark, "by": first.run, "at": end.at}


class _Host:
    """One host of a run: the version that its pointers were moved from and to, the checks, whether the alarm was true."""

    def __init__(self) -> None:
        self.version, self.was, self.why = "", "", ""
        self.at = 0.0
        self.alarmed = False
        self.checks: dict[str, bool] = {}
        self.digests: dict[str, str] = {}

    def add(self, entry: Entry) -> None:
        body = entry.body
        if entry.kind == "undo.outcome" and body["outcome"] in ("undone", "unchanged"):
            self.version, self.at = self.was, entry.at
        if entry.kind != "step.outcome":
            return
        section, reading = entry.step.partition("/")[0], body.get("reading") or {}
        if section == "trigger" and reading.get("met"):
            self.alarmed, self.why = True, str(reading.get("_why") or self.why)
        elif section == "verification" and "[" not in entry.step and body["outcome"] != "skipped":
            self.checks[entry.step.partition("/")[2]] = body["outcome"] == "unchanged"
        elif section == "execution" and body["module"] == "last_good" and reading.get("version"):
            self.digests[str(reading["version"])] = str(reading.get("_digest") or "")
            self.digests[str(reading.get("_now"))] = str(reading.get("_now_digest") or "")
        elif section == "execution" and body["outcome"] == "changed":
            change = body.get("change") or {}
            before, after = (change.get("before") or {}).get("version"), (change.get("after") or {}).get("version")
            if after is not None:
                self.was, self.version, self.at = self.was or str(before or ""), str(after), entry.at

    def served(self, outcome: str, began: float, ended: float) -> dict[str, Json]:
        return {
            "version": self.version, "digest": self.digests.get(self.version, ""), "was": self.was, "at": self.at or ended,
            "was_digest": self.digests.get(self.was, ""), "was_at": began, "outcome": outcome,
            "passed": sorted(name for name, met in self.checks.items() if met),
            "unmet": sorted(name for name, met in self.checks.items() if not met),
        }  # fmt: skip


def _folded(rows: Iterable[_Row]) -> Ledger:
    served: dict[str, list[Served]] = {}
    marks: list[Mark] = []
    for kind, host, body in rows:
        mine = served.setdefault(host, [])
        if kind == "ledger.marked":
            digest = body["digest"] or next((row.digest for row in reversed(mine) if row.version == body["version"]), "")
            marks.append(Mark(host, body["version"], digest, body["bad"], body["why"], body["by"], body["at"]))
        elif kind == "ledger.observed":
            seen = Served(host, body["version"], body["digest"], body["at"], None, "observed", body["by"], "", began=False)
            _follow(mine, seen)
        elif kind == "ledger.served" and body["version"]:
            if body["was"] and not mine:  # what served before was not on record: it is now, up to here
                mine.append(
                    Served(host, body["was"], body["was_digest"], body["at"], None, "observed", body["run"], "", began=False)
                )
            checks = tuple(body["passed"]), tuple(body["unmet"])
            made = Served(host, body["version"], body["digest"], body["at"], None, "run", body["by"], body["run"], *checks)
            _follow(mine, made)
    return Ledger({host: tuple(rows) for host, rows in served.items() if rows}, tuple(marks))


def _follow(mine: list[Served], new: Served) -> None:
    """`new` serves from its time on. The same version again is the same stretch, with what is known of it added."""
    if not mine:
        mine.append(new)
        return
    last = mine[-1]
    if last.version == new.version and (last.digest or new.digest) == (new.digest or last.digest):
        checks = (new.passed, new.unmet) if new.how == "run" and new.passed else (last.passed, last.unmet)
        mine[-1] = replace(last, digest=last.digest or new.digest, passed=checks[0], unmet=checks[1])
        return
    mine[-1] = replace(last, until=new.since)
    mine.append(new)
