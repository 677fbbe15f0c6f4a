"""A bundle being made: files copied and hashed in one pass, each safe on the disk before a manifest names it.

In: sources and texts, each with its name. Out: a folder in the form of BagIt 1.0 (RFC 8493) with sha-512 manifests, and the
digest of its tag manifest, over which everything hangs. It refuses to know what the files are evidence of.

The folder is made under another name and renamed when it is whole. A bundle that was cut off is taken up again: a file that
was finished (its line in `.progress` follows its fsync) is not copied again, and one that was not is begun anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

DECLARATION = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
BAGIT, INFO, MANIFEST, TAGS, DATA = "bagit.txt", "bag-info.txt", "manifest-sha512.txt", "tagmanifest-sha512.txt", "data/"
_PROGRESS = ".progress"
#: Bytes that are read at a time: while they are written and hashed the next are not yet asked for, so memory is bounded.
PIECE = 4 << 20
#: A pass over a file makes its next pieces durable while it goes on, so that the end of a large file does not stall.
_SYNC_EVERY = 256 << 20


@dataclass(frozen=True)
class Item:
    """A file in the bundle: its name below `data/`, its size, its digests in hex, and when the source was last modified
    (seconds since 1970 as text: JSON's numbers do not hold nanoseconds)."""

    name: str
    size: int
    sha512: str
    sha256: str
    modified: str


@dataclass(frozen=True)
class Closed:
    """A whole bundle, still under its other name: the text of its tag manifest, files and bytes of its payload."""

    tags: bytes
    files: int
    size: int


class Moved(Exception):
    """The source was changed while it was copied, or is no plain file."""


class Bag:
    """A bundle that is being made in `folder`, or taken up again there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / DATA).mkdir(parents=True, exist_ok=True, mode=0o700)
        self.items: dict[str, Item] = {}
        self._known = self._progress()
        self._log = (folder / _PROGRESS).open("a", encoding="utf-8")

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, *_: object) -> None:
        self._log.close()

    def _progress(self) -> dict[tuple[str, str], Item]:
        """(name, the source as it was) -> what had been finished; a line that was cut off counts for nothing."""
        found: dict[tuple[str, str], Item] = {}
        with suppress(FileNotFoundError):
            for line in (self.folder / _PROGRESS).read_text("utf-8", "replace").splitlines():
                with suppress(ValueError, TypeError, KeyError):
                    row = json.loads(line)
                    item = Item(**row["item"])
                    if (self.folder / DATA / item.name).lstat().st_size == item.size:
                        found[item.name, row["source"]] = item
        return found

    def copy(self, name: str, source: Path, between: Callable[[], object] = lambda: None) -> Item:
        """Takes in a file, reading it once. Calls `between` after each piece, which may raise to stop.

        Raises Moved, and OSError.
        """
        handle = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb", buffering=0) as file:
            before = os.fstat(handle)
            if not stat.S_ISREG(before.st_mode):
                raise Moved(f"{source.name} is no plain file")
            mark = _mark(before)
            known = self._known.get((name, mark))
            if known is None:
                known = self._copied(name, file, before, between)
                if _mark(os.fstat(handle)) != mark:
                    raise Moved(f"{source.name} was changed while it was copied")
                self._log.write(json.dumps({"source": mark, "item": asdict(known)}) + "\n")
                self._log.flush()
        self.items[name] = known
        return known

    def _copied(self, name: str, file: BinaryIO, status: os.stat_result, between: Callable[[], object]) -> Item:
        target = self.folder / DATA / name
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(FileNotFoundError):
            target.unlink()  # of an attempt that was cut off: never trusted
        one, two, total = hashlib.sha512(), hashlib.sha256(), 0
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb", buffering=0) as out, ThreadPoolExecutor(2) as hands:
            while piece := file.read(PIECE):
                # Both digests on other threads, the writing on this one: on two cores a pass costs about its dearest part.
                hashed = (hands.submit(one.update, piece), hands.submit(two.update, piece))
                _write(out, piece)
                for done in hashed:
                    done.result()
                total += len(piece)
                if total > status.st_size:
                    raise Moved(f"{name} was written to while it was copied")
                if total % _SYNC_EVERY < len(piece) and total >= _SYNC_EVERY:
                    os.fdatasync(handle)
                between()
            os.fsync(handle)
        return Item(name, total, one.hexdigest(), two.hexdigest(), modified(status))

    def text(self, name: str, content: bytes) -> Item:
        """Takes in a file that is at hand as bytes. Raises OSError."""
        written(self.folder / DATA / name, content)
        item = Item(name, len(content), hashlib.sha512(content).hexdigest(), hashlib.sha256(content).hexdigest(), "")
        self.items[name] = item
        return item

    def close(self, info: Mapping[str, str]) -> Closed:
        """Writes the tag files: from here on nothing may be added. Raises OSError."""
        self._log.close()
        size = sum(item.size for item in self.items.values())
        self._strays()
        told = {**info, "Payload-Oxum": f"{size}.{len(self.items)}"}
        tags = {
            BAGIT: DECLARATION,
            INFO: "".join(f"{key}: {value}\n" for key, value in told.items()).encode(),
            MANIFEST: manifest({DATA + item.name: item.sha512 for item in self.items.values()}),
        }
        for folder in sorted({(self.folder / DATA / name).parent for name in self.items}):
            sync(folder)
        for name, content in tags.items():
            written(self.folder / name, content)
        closed = manifest({name: hashlib.sha512(content).hexdigest() for name, content in tags.items()})
        written(self.folder / TAGS, closed)
        return Closed(closed, len(self.items), size)

    def _strays(self) -> None:
        """Removes what an earlier attempt left and this one does not hold."""
        for path in sorted((self.folder / DATA).rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                with suppress(OSError):
                    path.rmdir()  # only an empty one goes
            elif path.relative_to(self.folder / DATA).as_posix() not in self.items:
                path.unlink()

    def place(self, target: Path) -> None:
        """Gives the bundle its name, for good. Raises OSError."""
        (self.folder / _PROGRESS).unlink(missing_ok=True)
        sync(self.folder)
        self.folder.rename(target)
        sync(target.parent)


def modified(status: os.stat_result) -> str:
    """When a file was last written to, as `Item.modified` has it."""
    return f"{status.st_mtime_ns // 10**9}.{status.st_mtime_ns % 10**9:09d}"


def manifest(digests: Mapping[str, str]) -> bytes:
    """A manifest's text (RFC 8493, 2.1.3): a line a file, sorted."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())).encode()


def written(path: Path, content: bytes) -> None:
    """Puts a small file there, durable, in the place of what was there. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with suppress(FileNotFoundError):
        path.unlink()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync(folder: Path) -> None:
    """Makes a folder's entries durable. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(out: BinaryIO, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[out.write(view) :]


def _mark(status: os.stat_result) -> str:
    """What a source file is known by: another file, or the same one written to since, has another mark."""
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
