"""The custody log: for every piece of evidence who or what took it, when, from where, with which tool, and its digests.

In: a run's journal entries and the files that are sealed now. Out: rows, one a file and one for every capture that did not
end well, and what is wrong with the files. A row is one line of canonical JSON, and a leaf of the bundle's tree; the log of
a run only grows, so a later bundle's log begins with an earlier one's. It opens no file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from engine import canon, merkle
from engine.bag import Item
from engine.chain import Entry
from modules.contract import Json

#: How a capture ended that is evidence of nothing, and is on record as incomplete.
INCOMPLETE = ("failed", "timed_out", "unreachable", "uncertain", "waived")
FIELDS = (
    "n", "kind", "bundle", "item", "path", "phase", "host", "step", "entry", "by", "at", "clock_offset", "source", "tool",
    "version", "command", "size", "sha512", "sha256", "captured_sha256", "modified", "why",
)  # fmt: skip
Row = dict[str, Json]


@dataclass(frozen=True)
class File:
    """A file that is being sealed: its item, its host, and its path below the host's evidence folder."""

    item: Item
    host: str
    path: str


@dataclass(frozen=True)
class Capture:
    """What a step's reading says of a file that it keeps: path below the evidence folder, digest, and where it is from."""

    host: str
    step: str
    path: str
    sha256: str
    at: float
    entry: int
    said: Mapping[str, Json]


@dataclass
class Seen:
    """What the journal says about evidence: captures by (host, path), captures that did not end well, the first change on
    each host, and the parameters with which a step was begun."""

    run: str = ""
    by: str = ""
    modules: Mapping[str, Json] = field(default_factory=dict)
    engine: str = ""
    captures: dict[tuple[str, str], Capture] = field(default_factory=dict)
    incomplete: dict[tuple[str, str], Entry] = field(default_factory=dict)
    opened: dict[str, int] = field(default_factory=dict)
    params: dict[tuple[str, str], tuple[str, Mapping[str, Json]]] = field(default_factory=dict)

    def of(self, file: File) -> Capture | None:
        """The capture that a file belongs to: by its path, as what lies beside it, or in its folder."""
        exact = self.captures.get((file.host, file.path))
        if exact:
            return exact
        for (host, path), one in self.captures.items():
            stem = path.rsplit(".", 1)[0]
            if host == file.host and (file.path == f"{path}.about.json" or file.path.startswith(f"{stem}/")):
                return one
        return None


def seen(entries: Iterable[Entry]) -> Seen:
    """Folds a run's entries."""
    found = Seen()
    for entry in entries:
        if entry.kind == "run.started":
            body = entry.body
            found.run, found.by, found.engine = entry.run, str(body.get("requester", "")), str(body.get("engine", ""))
            found.modules = (body.get("plan") or {}).get("modules") or {}
        elif entry.kind == "gate.opened":
            found.opened.setdefault(entry.host, entry.seq)
        elif entry.kind == "step.intent":
            body = entry.body
            found.params[entry.host, entry.step] = str(body["module"]), body.get("params") or {}
        elif entry.kind == "step.outcome":
            _outcome(found, entry)
    return found


def _outcome(found: Seen, entry: Entry) -> None:
    body, place = entry.body, (entry.host, entry.step)
    if entry.step.startswith("forensics/"):
        found.incomplete.pop(place, None)
        if body["outcome"] in INCOMPLETE:
            found.incomplete[place] = entry
    for said in _kept(body.get("reading")):
        # wherever the state folder lay when it was written
        host, _, path = str(said["path"]).partition(f"/{entry.run}/evidence/")[2].partition("/")
        if path:
            at = float(body.get("started") or entry.at)
            capture = Capture(entry.host, entry.step, path, str(said["sha256"]), at, entry.seq, said)
            found.captures["" if host == "_run" else host, path] = capture


def _kept(reading: Json) -> Iterator[Mapping[str, Json]]:
    """Every file that a reading tells of, its facts without their underscore."""
    if isinstance(reading, list):
        for one in reading:
            yield from _kept(one)
    if isinstance(reading, Mapping):
        facts = {str(key).lstrip("_"): value for key, value in reading.items()}
        if isinstance(facts.get("path"), str) and isinstance(facts.get("sha256"), str):
            yield facts
        for one in reading.values():
            if isinstance(one, list | Mapping):
                yield from _kept(one)


def rows(
    found: Seen,
    files: Sequence[File],
    left: Sequence[tuple[str, str, str]],
    texts: Sequence[Item],
    before: Sequence[Row],
    bundle: int,
    at: float,
    clock: Mapping[str, Json],
) -> list[Row]:
    """The rows that `bundle` adds to those `before`. `left`: (host, path, why) of what is no file; `at`: of the seal, and
    `clock` how far that is ahead of another clock: it stands for everything whose capture has met none."""
    told = {(row["host"], row["step"], row["why"]) for row in before if row["kind"] == "incomplete"}
    made = [_file(found, file, bundle, at) for file in files]
    for (host, step), entry in sorted(found.incomplete.items()):
        why = f"{entry.body['outcome']}: {entry.body.get('why') or 'no reason given'}"
        if (host, step, why) not in told:
            made.append(_row(found, "incomplete", bundle, host, step, entry.seq, entry.at, why=why))
    made += [_row(found, "left out", bundle, host, "", 0, at, path=path, why=why) for host, path, why in left]
    for item in texts:
        kind = item.name.partition(".")[0]
        said = {"source": f"run {found.run}", "tool": "engine", "version": found.engine}
        made.append(_row(found, kind, bundle, "", "", 0, at, **said, **_digests(item)))
    return [
        {**row, "n": len(before) + n, "clock_offset": _offset(row["clock_offset"], clock)} for n, row in enumerate(made, 1)
    ]


def _offset(said: Json, sealed: Mapping[str, Json]) -> dict[str, Json]:
    """How far the clock of a row's `at` is ahead of another: as its capture says, else as it was found at the seal."""
    if isinstance(said, int | float):  # a module's own figure, which says no more
        return {"seconds": said, "within": None, "clock": "what the step says"}
    if isinstance(said, Mapping) and isinstance(said.get("seconds"), int | float):
        return {"seconds": said["seconds"], "within": said.get("within"), "clock": str(said.get("clock") or "")}
    if sealed.get("seconds") is not None:
        return {**sealed, "clock": f"{sealed['clock']}, at the seal"}
    why = [str(said["why"])] if isinstance(said, Mapping) and said.get("why") else []
    return {"seconds": None, "why": "; ".join([*why, str(sealed["why"])])}


def _file(found: Seen, file: File, bundle: int, at: float) -> Row:
    capture = found.of(file)
    if capture is None:
        why = "it lay among the evidence; no step says that it kept it"
        return _row(found, "file", bundle, file.host, "", 0, at, why=why, path=file.path, **_digests(file.item))
    exact = capture.path == file.path
    module, params = found.params.get((capture.host, capture.step), ("", {}))
    said, digest = capture.said if exact else {}, file.item.sha256
    altered = exact and capture.sha256 != digest
    return _row(
        found, "file", bundle, file.host, capture.step, capture.entry, _when(said) or capture.at,
        path=file.path, source=str(said.get("source") or _source(params) or file.path),
        tool=str(said.get("tool") or module), version=str(said.get("version") or found.modules.get(module) or ""),
        command=said.get("command"), clock_offset=said.get("clock_offset"),
        captured_sha256=capture.sha256 if exact else None,
        why="it was altered between its capture and the seal" if altered else "" if exact else f"part of {capture.path}",
        **_digests(file.item),
    )  # fmt: skip


def _row(found: Seen, kind: str, bundle: int, host: str, step: str, entry: int, at: float, **more: Json) -> Row:
    empty: Row = dict.fromkeys(FIELDS)
    by = f"engine {found.engine} for {found.by or 'nobody'}"
    told = {"kind": kind, "bundle": bundle, "host": host, "step": step, "entry": entry, "by": by, "at": utc(at), "why": ""}
    return {**empty, **told, "phase": _phase(found, host, entry), **more}


def _digests(item: Item) -> Row:
    return {
        "item": item.name, "size": item.size, "sha512": item.sha512, "sha256": item.sha256,
        "modified": item.modified or None,
    }  # fmt: skip


def _phase(found: Seen, host: str, entry: int) -> str:
    """Whether it was taken before anything was changed on its host, or anywhere if it is of no host."""
    first = found.opened.get(host) if host else min(found.opened.values(), default=None)
    return "before change" if first is None or (0 < entry < first) else "after change"


def _source(params: Mapping[str, Json]) -> str:
    """Where a step took its evidence from, as far as its parameters say it."""
    named = [str(params[key]) for key in ("url", "server", "path", "query", "model", "version", "alias") if params.get(key)]
    return " ".join(named)


def _when(said: Mapping[str, Json]) -> float | None:
    text = said.get("captured") or said.get("taken")
    try:
        return datetime.fromisoformat(str(text)).timestamp() if text else None
    except ValueError:
        return None


def utc(at: float) -> str:
    """A moment in UTC to the microsecond (ISO 8601)."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def altered(
    found: Seen, files: Iterable[File], before: Iterable[Row], hosts: Collection[str] | None
) -> list[tuple[str, str, str]]:
    """(host, step, why) for every file of `hosts` (all, if None) that is not what was captured, or is gone; what a person
    waived is let pass."""
    there = {(row["host"], row["path"]): row["sha256"] for row in before if row["kind"] == "file"}
    there |= {(file.host, file.path): file.item.sha256 for file in files}
    wrong = []
    for (host, path), capture in found.captures.items():
        digest, step = there.get((host, path)), (capture.host, capture.step)
        waived = step in found.incomplete and found.incomplete[step].body["outcome"] == "waived"
        if digest != capture.sha256 and not waived and (hosts is None or host in hosts):
            how = (
                "is gone" if digest is None else f"has the sha256 {digest[:16]}…, where {capture.sha256[:16]}… was captured"
            )
            wrong.append((*step, f"its evidence {path} {how}"))
    return wrong


def lines(log: Sequence[Row]) -> list[bytes]:
    """The rows as canonical JSON: what is written, and the leaves of the tree. Raises ValueError as `canon.dumps` does."""
    return [canon.dumps(row) for row in log]


def head(log: Sequence[bytes]) -> str:
    """The tree's head over these lines, in hex."""
    return merkle.head([merkle.leaf(line) for line in log]).hex()
