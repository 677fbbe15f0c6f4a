"""What a disk may hold when power is cut: every file's synced bytes, and any part of what was not synced yet.

Of the writes since a file's last sync each 512-byte sector may have arrived or not, in any order; the file may be as long as
before, as long as it was to become, or cut at any sector between; what a longer file got and nobody wrote is zeros, or what
lay there before. Of the creations and deletions since the directory was last synced, for each name any first part has
arrived: a deleted file can be there again, a new one can be gone. Bytes of a sector beside those that were written do not
suffer (SQLite's "powersafe overwrite", which it takes for granted on Unix, too).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any

from recording import Event

SECTOR = 512
#: So many images are drawn at a cut at least, that not all of them are the outermost cases; else the cut is left out.
_AT_ONCE = 8
Image = dict[str, bytes]


@dataclass
class Held:
    """One file: the bytes that a sync has brought to the disk, and what was asked for since."""

    safe: bytes = b""
    since: list[Event] = field(default_factory=list)


class Model:
    """The disk after some events. `play` takes the next one; `images` draws what may be left if power goes now."""

    def __init__(self) -> None:
        self.files: dict[int, Held] = {}
        self.names: dict[str, int] = {}  # as the directory was last synced
        self.moves: dict[str, list[int]] = {}  # what became of a name since: a file's number, or 0 for none

    def play(self, event: Event) -> None:
        """The disk is asked for this, and power is still there."""
        if event.what == "create":
            self.files[event.file] = Held(event.data)
            self.moves.setdefault(event.name, []).append(event.file)
        elif event.what == "delete":
            self.moves.setdefault(event.name, []).append(0)
        elif event.what in ("write", "truncate"):
            self.files[event.file].since.append(event)
        elif event.what == "sync":
            held = self.files[event.file]
            self.files[event.file] = Held(whole(held))
        elif event.what == "dirsync":
            self.names.update({name: moves[-1] for name, moves in self.moves.items()})
            self.moves.clear()

    def directories(self) -> list[dict[str, int]]:
        """Every directory that may be left: for each name what it was, or any of what became of it."""
        moved = list(self.moves)
        ways = [[self.names.get(name, 0), *self.moves[name][-3:]] for name in moved]
        found = [{**self.names, **dict(zip(moved, way, strict=True))} for way in product(*map(dict.fromkeys, ways))]
        return [{name: file for name, file in names.items() if file} for names in found]

    def images(self, chance: random.Random, draws: int) -> Iterator[Image]:
        """For every directory: all has arrived, nothing has. Then `draws` others: one write alone is missing, one alone has
        arrived, or any sectors of any."""
        directories = self.directories()
        for names in directories:
            for kept in (whole, _nothing):
                yield self._image(names, dict.fromkeys(names.values(), kept))
        for _ in range(draws):
            names = chance.choice(directories)
            waiting = [file for file in names.values() if self.files[file].since]
            if not waiting:
                continue
            kept, way = dict.fromkeys(waiting, partial(_torn, chance=chance)), chance.random()
            if way < 0.3:
                file = chance.choice(waiting)
                at = chance.randrange(len(self.files[file].since))
                rest, one = (whole, partial(_without, at=at)) if way < 0.15 else (_nothing, partial(_only, at=at))
                kept = {**dict.fromkeys(waiting, rest), file: one}
            yield self._image(names, kept)

    def _image(self, names: dict[str, int], kept: dict[int, Any]) -> Image:
        return {name: kept.get(file, whole)(self.files[file]) for name, file in names.items()}


def _put(data: bytearray, event: Event) -> None:
    if event.what == "truncate":
        del data[event.offset :]
        return
    if len(data) < event.offset:
        data.extend(bytes(event.offset - len(data)))
    data[event.offset : event.offset + len(event.data)] = event.data


def _of(safe: bytes, events: Sequence[Event]) -> bytes:
    data = bytearray(safe)
    for event in events:
        _put(data, event)
    return bytes(data)


def whole(held: Held) -> bytes:
    """Everything has arrived."""
    return _of(held.safe, held.since) if held.since else held.safe


def _nothing(held: Held) -> bytes:
    return held.safe


def _without(held: Held, at: int) -> bytes:
    return _of(held.safe, [*held.since[:at], *held.since[at + 1 :]])


def _only(held: Held, at: int) -> bytes:
    return _of(held.safe, [held.since[at]])


def _torn(held: Held, chance: random.Random) -> bytes:
    if not held.since:
        return held.safe
    likely = chance.choice((0.1, 0.5, 0.9))
    data, length = bytearray(held.safe), 0  # the length that its writes would give it
    stale = chance.random() < 0.3
    for event in held.since:
        if event.what == "truncate":
            if chance.random() < likely:
                del data[event.offset :]
            continue
        length = max(length, event.offset + len(event.data))
        for part in sectors(event):
            if chance.random() < likely:
                if stale and len(data) < part.offset:
                    data.extend(chance.randbytes(part.offset - len(data)))
                _put(data, part)
    if chance.random() < 0.3 and length > len(data):  # longer, and nobody wrote there
        data.extend(chance.randbytes(length - len(data)) if stale else bytes(length - len(data)))
    if chance.random() < 0.3 and len(data) > len(held.safe):
        first, last = -(-len(held.safe) // SECTOR), len(data) // SECTOR
        del data[max(len(held.safe), SECTOR * chance.randint(first, max(first, last))) :]
    return bytes(data)


def sectors(event: Event) -> Iterator[Event]:
    """A write, cut where the disk's sectors end."""
    at, end = event.offset, event.offset + len(event.data)
    while at < end:
        stop = min(end, (at // SECTOR + 1) * SECTOR)
        yield Event("write", event.file, event.name, at, event.data[at - event.offset : stop - event.offset])
        at = stop


@dataclass(frozen=True)
class Cut:
    """Power went after so many events: what had been marked until then, and one image of what the disk may hold."""

    at: int
    marks: tuple[Any, ...]
    image: Image


def cuts(events: Sequence[Event], wanted: int, seed: int = 0) -> Iterator[Cut]:
    """About `wanted` cuts, spread over the whole course, no two with the same marks and the same image."""
    chance, seen = random.Random(seed), set[int]()
    model, marks = Model(), list[Any]()
    for at, event in enumerate(events, 1):
        model.play(event)
        if event.what == "mark":
            marks.append(event.mark)
        due = wanted * at // len(events) - len(seen)  # what earlier cuts could not give is made up for by later ones
        if due < _AT_ONCE and at < len(events):
            continue
        for image in model.images(chance, 3 * due):
            key = hash((len(marks), *sorted(image.items())))
            if key not in seen:
                seen.add(key)
                due -= 1
                yield Cut(at, tuple(marks), image)
            if due <= 0:
                break
