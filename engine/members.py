"""What lies in a folder or an archive, one member after the other; nothing is ever unpacked, followed or run.

In: a path. Out: plain files with names of one form, as streams of bytes; everything else is a `Fault` with its reason. It
refuses to know what the files are. Archives are tar (also with gzip) and zip (APPNOTE 6.3): a member's data is checked to
its last byte, because two readers that disagree about an archive can be shown two contents.
"""

from __future__ import annotations

import gzip
import os
import re
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

#: Members of one bundle, bytes of one name, and how much larger than itself an archive may be inside (1 GiB always may).
MOST, LONGEST, RATIO, SMALL = 65_535, 512, 100, 1 << 30
PIECE = 1 << 20
#: Of zips: the extra fields that hold large sizes and a name in Unicode, and the number that stands for a large size.
_ZIP64, _SECOND_NAME, _MOST_32 = 0x1, 0x7075, 0xFFFFFFFF
_PLAIN = re.compile(r"[A-Za-z0-9._+=@,~ -]+")
_KINDS = {
    stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe (FIFO)", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket", stat.S_IFDIR: "", stat.S_IFREG: "",
}  # fmt: skip
_TAR_KINDS = {
    tarfile.SYMTYPE: "a link", tarfile.LNKTYPE: "a hard link", tarfile.FIFOTYPE: "a pipe (FIFO)",
    tarfile.CHRTYPE: "a device", tarfile.BLKTYPE: "a device", tarfile.GNUTYPE_SPARSE: "a file with holes",
}  # fmt: skip


@dataclass(frozen=True, order=True)
class Fault:
    """One thing that is wrong: where, and what. Both come from outside and are escaped before they are shown."""

    where: str
    why: str


class Damaged(Exception):
    """A member's bytes cannot be read to their end, or are not as many as was said."""


@dataclass(frozen=True)
class Member:
    """A file: its name below the root, its size in bytes, and its bytes, to be taken before the next member is."""

    name: str
    size: int
    pieces: Callable[[], Iterator[bytes]]


@dataclass(frozen=True)
class _Raw:
    """A member as it was found. `kind`: what it is, if it is neither file nor folder; `why`: what else is wrong with it."""

    name: str
    size: int
    folder: bool
    kind: str
    pieces: Callable[[], Iterator[bytes]]
    why: str = ""


def of(path: Path, faults: list[Fault], most: int = MOST) -> Iterator[Member]:
    """The files at `path`, a folder or an archive, in the order in which they are found. What is wrong goes to `faults`."""
    try:
        if path.is_dir():
            yield from plain(_folder(path), faults, most)
        elif path.exists() and not path.is_file():
            faults.append(Fault(path.name, "is neither a file nor a folder, and is not opened"))
        else:
            with path.open("rb") as file:
                yield from plain(_archive(file), faults, most, rooted=True)
    except (OSError, EOFError, Damaged, tarfile.TarError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        faults.append(Fault(path.name, f"cannot be read to its end: {error}"))
    except RecursionError:
        faults.append(Fault(path.name, "cannot be read to its end: it has folders in folders, hundreds deep"))


def in_memory(files: Iterable[tuple[str, bytes]], faults: list[Fault]) -> Iterator[Member]:
    """The same for files that are at hand as bytes."""
    found = (_Raw(name, len(data), False, "", lambda data=data: iter((data,))) for name, data in files)  # type: ignore[misc]
    return plain(found, faults)


def plain(found: Iterable[_Raw], faults: list[Fault], most: int = MOST, rooted: bool = False) -> Iterator[Member]:
    """Those of `found` that are plain files with a plain name of their own. `rooted`: all may lie in one folder."""
    seen = _Seen({}, {}, {})
    root: str | None = None if rooted else ""
    for count, raw in enumerate(found):
        if count >= most:
            faults.append(Fault(raw.name, f"is more than there may be: a bundle has {most} members at most"))
            return
        name = raw.name.removesuffix("/") if raw.folder else raw.name
        wrong, below = misnamed(name), ""
        if not wrong:
            root = _root(name, raw.folder) if root is None else root
            first, _, below = name.partition("/") if root else ("", "", name)
            wrong = f"lies beside the bundle, which is in {root}" if first != root else ""
        wrong = wrong or (
            below
            and (seen.clash(below, raw.folder) or (f"is {raw.kind}; a bundle holds plain files" if raw.kind else raw.why))
        )
        if wrong:
            faults.append(Fault(raw.name, wrong))
        elif below and not raw.folder:
            yield Member(below, raw.size, raw.pieces)
    empty = [name for name in seen.folders.values() if name not in seen.filled]
    faults += [Fault(name, "is an empty folder, which nobody sealed") for name in empty]


@dataclass(frozen=True)
class _Seen:
    """The names so far, by their spelling without capitals; folders that hold a file."""

    files: dict[str, str]
    folders: dict[str, str]
    filled: dict[str, None]

    def clash(self, name: str, folder: bool) -> str:
        """How the name clashes with an earlier one; empty when it does not."""
        parts = name.split("/")
        above = ["/".join(parts[:i]) for i in range(1, len(parts))]
        if folder:
            above.append(name)
        else:
            self.filled.update(dict.fromkeys(above))
        for one in above:
            if (earlier := self.folders.setdefault(one.casefold(), one)) != one:
                return f"differs from {earlier} in capitals alone"
        whole = name.casefold()
        if (not folder and whole in self.folders) or any(one.casefold() in self.files for one in above):
            return "is a file and a folder at once"
        if folder:
            return ""
        if (there := self.files.get(whole)) is not None:
            return "is there twice" if there == name else f"differs from {there} in capitals alone"
        self.files[whole] = name
        return ""


def _root(name: str, folder: bool) -> str:
    """The folder that an archive's first member shows everything to lie in; empty when there is none."""
    first, slash, _ = name.partition("/")
    return first if (slash or folder) and first != "data" else ""


def misnamed(name: str) -> str:
    """What is wrong with a member's name; empty when it is one of a bundle."""
    parts = name.split("/")
    if not name or len(name.encode("utf-8", "replace")) > LONGEST:
        return "has no name" if not name else f"has a name of more than {LONGEST} bytes"
    if any(ord(char) < 32 or ord(char) == 127 for char in name):
        return "has a control character in its name"
    if "\\" in name:
        return "has a backslash in its name, which is a folder on some systems"
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "has an absolute name"
    if ".." in parts:
        return "leads out of the bundle (`..`)"
    if "" in parts or "." in parts:
        return "has a name that is not written in its one form"
    if not unicodedata.is_normalized("NFC", name):
        return "has a name that is not in Unicode's form NFC"
    if not all(_PLAIN.fullmatch(part) for part in parts):
        return "has characters in its name that no bundle has"
    return ""


# ------------------------------------------------------------------------------------------------- folders
def _folder(path: Path, below: str = "") -> Iterator[_Raw]:
    """What lies in a folder, sorted; no link is followed, nothing but plain files is opened."""
    with os.scandir(path) as listed:
        entries = sorted(listed, key=lambda entry: entry.name)
    for entry in entries:
        status = entry.stat(follow_symlinks=False)
        name, kind = below + entry.name, stat.S_IFMT(status.st_mode)
        folder, said = kind == stat.S_IFDIR, _KINDS.get(kind, "neither file nor folder")
        if kind == stat.S_IFREG and status.st_nlink > 1:
            said = "a hard link: the same file has another name, by which it can be changed"
        here = Path(entry.path)
        yield _Raw(name, status.st_size, folder, said, lambda here=here, size=status.st_size: _file(here, size))  # type: ignore[misc]
        if folder:
            yield from _folder(here, name + "/")


def _file(path: Path, size: int) -> Iterator[bytes]:
    """The bytes of a plain file. Raises Damaged when it is none any more, or of another size."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise Damaged(f"cannot be read: {error.strerror}") from None
    with os.fdopen(handle, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise Damaged("is no plain file any more")
        yield from _counted(file.read, size)


def _counted(read: Callable[[int], bytes | None], size: int) -> Iterator[bytes]:
    """What `read` gives, to its end. Raises Damaged unless that is `size` bytes."""
    total = 0
    while piece := read(PIECE):
        total += len(piece)
        yield piece
    if total != size:
        raise Damaged(f"has {total} bytes, where {size} are said")


# ------------------------------------------------------------------------------------------------- archives
def _archive(file: BinaryIO) -> Iterator[_Raw]:
    size = os.fstat(file.fileno()).st_size
    begin = file.read(4)
    file.seek(0)
    found = _zip(file) if begin[:2] == b"PK" else _tar(gzip.open(file) if begin[:2] == b"\x1f\x8b" else file)  # type: ignore[arg-type]  # noqa: SIM115
    most, total = max(SMALL, RATIO * size), 0
    for raw in found:
        total += raw.size
        if raw.size < 0 or total > most:
            raise Damaged(f"it holds more than {RATIO} times its own size: a bomb, or not made by us")
        yield raw


def _tar(file: BinaryIO) -> Iterator[_Raw]:
    with tarfile.open(fileobj=file, mode="r:") as tar:
        while (info := tar.next()) is not None:
            kind = _TAR_KINDS.get(
                info.type, "" if info.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE) else "odd"
            )
            if info.issparse():
                kind = _TAR_KINDS[tarfile.GNUTYPE_SPARSE]
            yield _Raw(info.name, info.size, info.isdir(), kind, lambda info=info: _tar_file(tar, info))  # type: ignore[misc]
        # The reader takes a header that is damaged for the end, and what follows for nothing: so would not every reader.
        file.seek(tar.offset)
        while piece := file.read(PIECE):
            if piece.strip(b"\0"):
                raise Damaged("it goes on after its end, or a header in it is damaged")


def _tar_file(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Iterator[bytes]:
    file = tar.extractfile(info)
    if file is None:
        raise Damaged("holds no bytes")
    try:
        yield from _counted(file.read, info.size)
    except (tarfile.ReadError, EOFError, OSError, zlib.error) as error:
        raise Damaged(f"is cut short: {error}") from None


def _zip(file: BinaryIO) -> Iterator[_Raw]:
    with zipfile.ZipFile(file) as listed:
        infos = listed.infolist()
        end = listed.start_dir
        if listed.comment:
            raise Damaged("something lies behind its directory")
    gaps: dict[int, int] = {}
    ordered = sorted(infos, key=lambda info: info.header_offset)
    if ordered and ordered[0].header_offset:
        raise Damaged("something lies before its first member")
    for one, following in zip(ordered, [*ordered[1:], None], strict=True):
        file.seek(one.header_offset + 26)
        own = 30 + sum(int.from_bytes(file.read(2), "little") for _ in range(2)) + one.compress_size
        behind = (following.header_offset if following else end) - one.header_offset - own
        if behind < 0:
            raise Damaged(f"{one.filename!a:.80} reaches into what follows it")
        # A member may have a descriptor behind it. Anything else there only those would see who read from front to back.
        if behind and not (one.flag_bits & 0x8 and behind in (12, 16, 20, 24)):
            raise Damaged(f"behind {one.filename!a:.80} lies something that its directory does not list")
        gaps[one.header_offset] = behind
    for info in infos:
        mode = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0
        why = ""
        if info.orig_filename != info.filename:
            why = "is listed under one name and shown under another"
        elif info.flag_bits & 0x1:
            why = "is encrypted"
        elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            why = "is compressed in a way that is not read here"
        said = _KINDS.get(mode, "neither file nor folder") if mode else ""
        name = info.orig_filename
        behind = gaps[info.header_offset]
        yield _Raw(
            name, info.file_size, name.endswith("/"), said,
            lambda info=info, behind=behind: _zip_file(file, info, behind), why,  # type: ignore[misc]
        )  # fmt: skip


def _zip_file(file: BinaryIO, info: zipfile.ZipInfo, behind: int) -> Iterator[bytes]:
    """The bytes of a zip's member, whose own header must say what the directory says, and the `behind` bytes after it too.
    Raises Damaged."""
    file.seek(info.header_offset)
    header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\3\4":
        raise Damaged("has no header of its own")
    named, more = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:30], "little")
    own = file.read(named)
    extra = file.read(more)
    if own != info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437", "replace"):
        raise Damaged("has another name in its own header than in the directory")
    if int.from_bytes(header[8:10], "little") != info.compress_type:
        raise Damaged("is compressed in another way than the directory says")
    check, total, left = 0, 0, info.compress_size
    unpack = zlib.decompressobj(-15) if info.compress_type == zipfile.ZIP_DEFLATED else None
    while left > 0 or (unpack and unpack.unconsumed_tail):
        raw = unpack.unconsumed_tail if unpack and unpack.unconsumed_tail else file.read(min(PIECE, left))
        if not raw:
            raise Damaged("is cut short")
        left -= 0 if unpack and unpack.unconsumed_tail else len(raw)
        piece = unpack.decompress(raw, PIECE) if unpack else raw
        check, total = zlib.crc32(piece, check), total + len(piece)
        if total > info.file_size:
            raise Damaged(f"has more than the {info.file_size} bytes that are said")
        yield piece
    if unpack and (piece := unpack.flush()):
        check, total = zlib.crc32(piece, check), total + len(piece)
        yield piece
    if total != info.file_size or check != info.CRC or (unpack and (not unpack.eof or unpack.unused_data)):
        raise Damaged(f"is not what the archive says it is: {total} bytes of {info.file_size}, or other ones")
    if why := _otherwise(info, header, _extras(extra), file.read(behind)):
        raise Damaged(f"{why}: who reads it from front to back would see something else")


def _otherwise(info: zipfile.ZipInfo, header: bytes, extras: dict[int, bytes], behind: bytes) -> str:
    """What a member's own header, or the descriptor behind it, says otherwise than the directory; empty: nothing."""
    if _SECOND_NAME in (extras | _extras(info.extra)):
        return "has a second name behind its own"
    check, sizes = info.CRC.to_bytes(4, "little"), (info.compress_size, info.file_size)
    wide = [size.to_bytes(8, "little") for size in sizes]
    narrow = [size.to_bytes(4, "little") for size in sizes] if max(sizes) < _MOST_32 else wide
    known, large = {check + b"".join(narrow)}, extras.get(_ZIP64)
    if large == wide[1] + wide[0]:
        known.add(check + bytes([255] * 8))
    if info.flag_bits & 0x8:
        known |= {bytes(12)} | ({bytes(4) + bytes([255] * 8)} if large in (bytes(16), wide[1] + wide[0]) else set())
        if behind.removeprefix(b"PK\7\10") not in (check + b"".join(narrow), check + b"".join(wide)):
            return "has a descriptor behind it that says otherwise than the directory"
    return "" if header[14:26] in known else "has another size or checksum in its own header than in the directory"


def _extras(data: bytes) -> dict[int, bytes]:
    """The fields of a member's extra data, by their number."""
    found: dict[int, bytes] = {}
    while len(data) >= 4:
        size = int.from_bytes(data[2:4], "little")
        found[int.from_bytes(data[:2], "little")] = data[4 : 4 + size]
        data = data[4 + size :]
    return found
