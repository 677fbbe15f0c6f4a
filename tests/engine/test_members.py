"""Folders and archives that are not what they seem: each refused with its own reason, and nothing outside is touched."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import socket
import stat
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import members
from engine.members import Damaged, Fault

Build = Callable[[Path], None]


def told(path: Path, most: int = members.MOST) -> tuple[dict[str, bytes], list[str]]:
    """What is read, and the faults in words; a member's own damage is one of them."""
    faults: list[Fault] = []
    found: dict[str, bytes] = {}
    for member in members.of(path, faults, most):
        try:
            found[member.name] = b"".join(member.pieces())
        except Damaged as damage:
            faults.append(Fault(member.name, str(damage)))
    return found, [f"{fault.where}: {fault.why}" for fault in faults]


def snapshot(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Everything below a folder: mode, size, digest."""
    return {
        str(path): (
            path.lstat().st_mode,
            path.lstat().st_size,
            "" if not path.is_file() else hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in sorted(folder.rglob("*"))
    }


# ------------------------------------------------------------------------------------------------- tar
def tar(*rows: tuple[str, bytes] | tarfile.TarInfo, form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as made:
        for row in rows:
            if isinstance(row, tarfile.TarInfo):
                made.addfile(row, io.BytesIO(b"x" * row.size) if row.isreg() else None)
            else:
                info = tarfile.TarInfo(row[0])
                info.size = len(row[1])
                made.addfile(info, io.BytesIO(row[1]))
    return out.getvalue()


def odd(name: str, kind: bytes, target: str = "", **more: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    for key, value in more.items():
        setattr(info, key, value)
    return info


def patched(data: bytes, at: int, new: bytes) -> bytes:
    """A tar with bytes of its first header replaced and the header's sum made right."""
    header = bytearray(data[:512])
    header[at : at + len(new)] = new
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data[512:]


GOOD = ("RB-0001.1/bagit.txt", b"good")
TARS: dict[str, tuple[bytes, str]] = {
    "up and out": (tar(GOOD, ("RB-0001.1/../../evil", b"x")), "leads out of the bundle"),
    "up at the front": (tar(("../evil", b"x")), "leads out of the bundle"),
    "up at the end": (tar(GOOD, ("RB-0001.1/data/..", b"x")), "leads out of the bundle"),
    "absolute": (tar(("/etc/evil", b"x")), "has an absolute name"),
    "two slashes at the front": (tar(("//etc/evil", b"x")), "has an absolute name"),
    "a drive": (tar(("C:/evil", b"x")), "has an absolute name"),
    "a drive without a slash": (tar(("c:evil", b"x")), "has an absolute name"),
    "a backslash": (tar(("a\\..\\evil", b"x")), "has a backslash in its name"),
    "a dot": (tar(("./data/x", b"x")), "not written in its one form"),
    "two slashes": (tar(("data//x", b"x")), "not written in its one form"),
    "a line break in a name": (tar(("data/a\nb", b"x")), "has a control character in its name"),
    "an escape in a name": (tar(("data/\x1b[2J", b"x")), "has a control character in its name"),
    "a name that shows backwards": (tar(("data/\u202egpj.exe", b"x")), "has characters in its name that no bundle has"),
    "a name of combining letters": (tar(("data/e\u0301", b"x")), "not in Unicode's form NFC"),
    "a name of another alphabet": (tar(("data/\u0430", b"x")), "has characters in its name that no bundle has"),
    "a name of 600 bytes": (tar(("data/" + "n" * 600, b"x")), "has a name of more than 512 bytes"),
    "a name of blanks alone is a name": (tar(("data/\u00a0", b"x")), "has characters in its name that no bundle has"),
    "a link": (tar(GOOD, odd("RB-0001.1/data", tarfile.SYMTYPE, "/etc")), "is a link; a bundle holds plain files"),
    "a link, then a file through it": (
        tar(odd("b/data", tarfile.SYMTYPE, "/tmp"), ("b/data/evil", b"x")), "is a link; a bundle holds plain files",
    ),
    "a link to a member": (tar(GOOD, odd("RB-0001.1/x", tarfile.SYMTYPE, "bagit.txt")), "is a link"),
    "a link whose target is outside": (tar(GOOD, odd("RB-0001.1/x", tarfile.SYMTYPE, "../../../etc/passwd")), "is a link"),
    "a hard link": (tar(GOOD, odd("RB-0001.1/x", tarfile.LNKTYPE, "RB-0001.1/bagit.txt")), "is a hard link"),
    "a hard link to the outside": (tar(GOOD, odd("RB-0001.1/x", tarfile.LNKTYPE, "/etc/passwd")), "is a hard link"),
    "a pipe": (tar(GOOD, odd("RB-0001.1/x", tarfile.FIFOTYPE)), "is a pipe (FIFO)"),
    "a character device": (tar(GOOD, odd("RB-0001.1/x", tarfile.CHRTYPE, devmajor=1, devminor=3)), "is a device"),
    "a block device": (tar(GOOD, odd("RB-0001.1/x", tarfile.BLKTYPE, devmajor=8, devminor=0)), "is a device"),
    "a kind that nobody knows": (tar(GOOD, odd("RB-0001.1/x", b"Z")), "is odd"),
    "a file with holes": (patched(tar(("data/x", b"x")), 156, b"S"), "is a file with holes"),
    "the same name twice": (tar(GOOD, GOOD), "is there twice"),
    "the same name twice, other content": (tar(GOOD, ("RB-0001.1/bagit.txt", b"other")), "is there twice"),
    "capitals alone": (tar(GOOD, ("RB-0001.1/BAGIT.txt", b"x")), "differs from bagit.txt in capitals alone"),
    "capitals of a folder": (tar(("b/data/x", b"x"), ("b/DATA/y", b"y")), "differs from data in capitals alone"),
    "capitals beyond ASCII are no names": (tar(("b/\u00df", b"x")), "has characters in its name that no bundle has"),
    "file and folder": (tar(("b/data", b"x"), ("b/data/x", b"x")), "is a file and a folder at once"),
    "folder and file": (tar(("b/data/x", b"x"), ("b/data", b"x")), "is a file and a folder at once"),
    "an empty folder": (tar(GOOD, odd("RB-0001.1/data", tarfile.DIRTYPE)), "is an empty folder"),
    "two bundles at once": (tar(GOOD, ("RB-0002.1/bagit.txt", b"x")), "lies beside the bundle, which is in RB-0001.1"),
    "a file beside it": (tar(GOOD, ("README", b"x")), "lies beside the bundle"),
    "cut in a file": (tar(("data/x", b"x" * 2000))[:1500], "is cut short"),
    "cut in a header": (tar(GOOD, ("RB-0001.1/x", b"y"))[:1300], "cannot be read to its end"),
    "a header that is damaged": (
        (lambda data: data[:1024] + b"?" * 512 + data[1536:])(tar(GOOD, ("RB-0001.1/x", b"y"))), "a header in it is damaged",
    ),
    "more behind the end": (tar(GOOD) + tar(("evil", b"x")), "it goes on after its end"),
    "a size that is a lie": (patched(tar(("data/x", b"x")), 124, b"%011o\0" % (1 << 30)), "is cut short"),
    "a size below nothing": (patched(tar(("data/x", b"x")), 124, b"\xff" * 12), "cannot be read to its end"),
    "a size of eight billion": (patched(tar(("data/x", b"x")), 124, b"77777777777\0"), "holds more than 100 times its own"),
    "no archive": (b"not an archive at all" * 100, "cannot be read to its end"),
    "nothing": (b"", "cannot be read to its end"),
    "gzip of no archive": (gzip.compress(b"no"), "cannot be read to its end"),
    "gzip that is cut": (gzip.compress(tar(("data/x", os.urandom(4000))))[:2000], "cannot be read to its end"),
    "gzip with a wrong sum": (
        (lambda data: data[:-8] + b"\0\0\0\0" + data[-4:])(gzip.compress(tar(("data/x", b"x")))),
        "cannot be read to its end",
    ),
}  # fmt: skip


# ------------------------------------------------------------------------------------------------- zip
def zipped(*rows: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as made:
        for name, content in rows:
            made.writestr(name, content)
    return out.getvalue()


def moded(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def named(name: str, number: int) -> zipfile.ZipInfo:
    """A member with an extra field: 0x7075 holds a name that some readers prefer."""
    info = zipfile.ZipInfo(name)
    info.extra = struct.pack("<HHBL", number, 11, 1, zlib.crc32(name.encode())) + b"data/y"
    return info


class Pipe(io.RawIOBase):
    """What can only be written to: a zip then has its sizes behind its members."""

    def __init__(self) -> None:
        self.data = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.data += bytes(data)
        return len(data)


def streamed(*files: tuple[str, bytes]) -> bytes:
    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:  # type: ignore[call-overload]
        for name, data in files:
            archive.writestr(name, data)
    return pipe.data


def directory(data: bytes, at: int, new: bytes, number: int = 0) -> bytes:
    """A zip with bytes of an entry in its directory replaced."""
    start = -1
    for _ in range(number + 1):
        start = data.index(b"PK\1\2", start + 1)
    return data[: start + at] + new + data[start + at + len(new) :]


def own(data: bytes, at: int, new: bytes) -> bytes:
    """A zip with bytes of its first member's own header replaced."""
    return data[:at] + new + data[at + len(new) :]


def hidden(data: bytes, more: bytes) -> bytes:
    """A zip with `more` before its directory, which does not list it."""
    at, end = struct.unpack_from("<L", data, data.rindex(b"PK\5\6") + 16)[0], data.rindex(b"PK\5\6")
    return data[:at] + more + data[at : end + 16] + struct.pack("<L", at + len(more)) + data[end + 20 :]


TWO = zipped(("data/x", b"x" * 500), ("data/y", b"y" * 500), method=zipfile.ZIP_STORED)
ONE = zipped(("data/x", b"x" * 5000))
CHECK = zlib.crc32(b"x" * 50).to_bytes(4, "little")
STREAMED = streamed(("data/x", b"x" * 50))
ZIPS: dict[str, tuple[bytes, str]] = {
    "a member that is not listed": (
        hidden(zipped(("data/x", b"x")), zipped(("data/x", b"another"))[:45]), "its directory does not list",
    ),
    "something before it": (b"PK: look here\n" + zipped(("data/x", b"x")), "something lies before its first member"),
    "up and out": (zipped(("../evil", b"x")), "leads out of the bundle"),
    "up in the middle": (zipped(("data/../../evil", b"x")), "leads out of the bundle"),
    "absolute": (zipped(("/etc/evil", b"x")), "has an absolute name"),
    "a drive": (zipped(("C:/evil", b"x")), "has an absolute name"),
    "a backslash": (zipped(("..\\evil", b"x")), "has a backslash in its name"),
    "a name that ends early": (
        directory(own(zipped(("data/x0y", b"x")), 36, b"\0"), 52, b"\0"), "has a control character in its name",
    ),
    "a link": (zipped((moded("data/x", stat.S_IFLNK | 0o777), b"/etc/passwd")), "is a link"),
    "a pipe": (zipped((moded("data/x", stat.S_IFIFO | 0o600), b"")), "is a pipe (FIFO)"),
    "a device": (zipped((moded("data/x", stat.S_IFBLK | 0o600), b"")), "is a device"),
    "a socket": (zipped((moded("data/x", stat.S_IFSOCK | 0o600), b"")), "is a socket"),
    "capitals alone": (zipped(("data/x", b"x"), ("data/X", b"y")), "differs from data/x in capitals alone"),
    "file and folder": (zipped(("data", b"x"), ("data/x", b"y")), "is a file and a folder at once"),
    "an empty folder": (zipped(("data/", b""), ("bagit.txt", b"y")), "is an empty folder"),
    "encrypted": (directory(ONE, 8, b"\1\0"), "is encrypted"),
    "an odd compression": (zipped(("data/x", b"x" * 99), method=zipfile.ZIP_BZIP2), "compressed in a way that is not read"),
    "another compression in its own header": (own(ONE, 8, b"\0\0"), "is compressed in another way than the directory says"),
    "another name in its own header": (own(ONE, 30, b"data/z"), "has another name in its own header"),
    "no header of its own": (own(ONE, 0, b"PK\3\5"), "has no header of its own"),
    "a size that is too small": (directory(ONE, 24, struct.pack("<I", 10)), "has more than the 10 bytes that are said"),
    "a size that is too large": (directory(ONE, 24, struct.pack("<I", 5001)), "is not what the archive says it is"),
    "other bytes": (directory(ONE, 16, b"\0\0\0\0"), "is not what the archive says it is"),
    "bytes behind the packed ones": (
        directory(own(ONE, 0, b"PK\3\4"), 20, struct.pack("<I", len(zlib.compress(b"x" * 5000)) + 40)), "reaches into",
    ),
    "two members in one place": (directory(TWO, 42, b"\0\0\0\0", 1), "reaches into what follows it"),
    "another size in its own header": (own(ONE, 22, b"\1"), "has another size or checksum in its own header"),
    "another packed size in its own header": (own(TWO, 18, b"\1"), "has another size or checksum in its own header"),
    "another checksum in its own header": (own(ONE, 14, b"\1\1\1"), "has another size or checksum in its own header"),
    "a descriptor that lies": (
        STREAMED.replace(b"PK\7\10" + CHECK, b"PK\7\10" + bytes(4)), "has a descriptor behind it that says otherwise",
    ),
    "a second name": (zipped((named("data/x", 0x7075), b"x")), "has a second name behind its own"),
    "a comment": (zipped(("data/x", b"x"))[:-2] + b"\3\0PK!", "something lies behind its directory"),
    "a bomb": (directory(ONE, 24, struct.pack("<I", 2**32 - 2)), "holds more than 100 times its own size"),
    "cut": (ONE[:60], "cannot be read to its end"),
    "only the beginning": (b"PK\3\4", "cannot be read to its end"),
}  # fmt: skip


@pytest.mark.parametrize("case", TARS)
def test_tars_that_are_refused(tmp_path: Path, case: str) -> None:
    """A tar with a member that a bundle cannot have is refused for that, and nothing is written."""
    refused(tmp_path, *TARS[case], "x.tar")


@pytest.mark.parametrize("case", ZIPS)
def test_zips_that_are_refused(tmp_path: Path, case: str) -> None:
    """A zip with a member that a bundle cannot have is refused for that, and nothing is written."""
    refused(tmp_path, *ZIPS[case], "x.zip")


def refused(folder: Path, data: bytes, why: str, name: str) -> None:
    path = folder / "root" / name
    path.parent.mkdir()
    path.write_bytes(data)
    before = snapshot(folder)
    _, faults = told(path)
    assert any(why in fault for fault in faults), faults
    assert before == snapshot(folder)


def test_two_equal_members_of_a_zip(tmp_path: Path) -> None:
    """A zip may hold a name twice, and readers differ about which one counts: neither does."""
    with pytest.warns(UserWarning, match="Duplicate name"):
        (tmp_path / "x.zip").write_bytes(zipped(("data/x", b"one"), ("data/x", b"two")))
    assert ["data/x: is there twice"] == told(tmp_path / "x.zip")[1]


def test_zips_of_other_tools_are_read(tmp_path: Path) -> None:
    """A zip that was written to a pipe, one with fields for large sizes, and what the system's zip makes."""
    files = {"bagit.txt": b"bag", "data/x": b"x" * 5000}
    (tmp_path / "streamed.zip").write_bytes(streamed(*files.items()))
    for name, data in files.items():
        (tmp_path / "b" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "b" / name).write_bytes(data)
        with zipfile.ZipFile(tmp_path / "large.zip", "a") as archive, archive.open(name, "w", force_zip64=True) as member:
            member.write(data)
    made = ["streamed.zip", "large.zip"]
    if shutil.which("zip"):
        subprocess.run(["zip", "-qrD", "../system.zip", "."], cwd=tmp_path / "b", check=True)
        made.append("system.zip")
    assert [(files, [])] * len(made) == [told(tmp_path / name) for name in made]


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.zip", "stored.zip"])
def test_what_is_good_is_read(tmp_path: Path, name: str) -> None:
    """The same files come out of a tar, a packed tar and a zip, whether they lie in one folder or in none."""
    files = {"bagit.txt": b"bag", "data/a/b.bin": os.urandom(3 << 20), "data/empty": b"", "data/long": b"0" * 900_000}
    for root in ("RB-0001.1/", ""):
        rows = [(root + key, value) for key, value in files.items()]
        if "zip" in name:
            made = zipped(*rows, method=zipfile.ZIP_STORED if name.startswith("stored") else zipfile.ZIP_DEFLATED)
        else:
            made = gzip.compress(tar(*rows)) if name.endswith("gz") else tar(*rows)
        (tmp_path / name).write_bytes(made)
        assert (files, []) == told(tmp_path / name)


def test_tar_of_the_system(tmp_path: Path) -> None:
    """What the system's own tar makes of a folder is read, its folders and the dot in front of none of them included."""
    (tmp_path / "b/data").mkdir(parents=True)
    (tmp_path / "b/data/x").write_bytes(b"x")
    (tmp_path / "b/bagit.txt").write_bytes(b"bag")
    assert 0 == os.spawnlp(os.P_WAIT, "tar", "tar", "-C", str(tmp_path), "-cf", str(tmp_path / "b.tar"), "b")
    assert ({"data/x": b"x", "bagit.txt": b"bag"}, []) == told(tmp_path / "b.tar")


def test_too_many_members(tmp_path: Path) -> None:
    """A bundle has 65,535 members at most; of one with more nothing past them is looked at."""
    assert 65_535 == members.MOST
    rows = [(f"data/{number}", b"") for number in range(5)]
    (tmp_path / "x.tar").write_bytes(tar(*rows, ("../evil", b"")))
    found, faults = told(tmp_path / "x.tar", most=4)
    assert (4, ["data/4: is more than there may be: a bundle has 4 members at most"]) == (len(found), faults)
    (tmp_path / "large.tar").write_bytes(
        b"".join(tar((f"data/{number}", b""))[:512] for number in range(9)) * 1 + b"\0" * 1024
    )
    assert 9 == len(told(tmp_path / "large.tar")[0])


FOLDERS: dict[str, tuple[Build, str]] = {
    "a link": (lambda f: (f / "x").symlink_to("/etc/passwd"), "x: is a link"),
    "a link to a folder": (lambda f: (f / "data").symlink_to("/etc"), "data: is a link"),
    "a link to itself": (lambda f: (f / "x").symlink_to("x"), "x: is a link"),
    "a pipe": (lambda f: os.mkfifo(f / "x"), "x: is a pipe (FIFO)"),
    "a hard link": (lambda f: [(f / "x").write_bytes(b"x"), os.link(f / "x", f.parent / "other")], "x: is a hard link"),
    "an empty folder": (lambda f: (f / "data/deep").mkdir(parents=True), "data/deep: is an empty folder"),
    "a name of another alphabet": (lambda f: (f / "\u0430").write_bytes(b""), "has characters in its name"),
    "a name that is no text": (lambda f: (f / os.fsdecode(b"\xff")).write_bytes(b""), "has characters in its name"),
    "a line break in a name": (lambda f: (f / "a\nb").write_bytes(b""), "has a control character in its name"),
    "capitals alone": (lambda f: [(f / "x").write_bytes(b""), (f / "X").write_bytes(b"")], "in capitals alone"),
    "a file that nobody may read": (lambda f: (f / "gone").write_bytes(b"x"), "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("case", FOLDERS)
def test_folders_that_are_refused(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with anything but plain files of plain names is refused for that, and nothing is followed or waited for."""
    folder = tmp_path / "root"
    folder.mkdir()
    build, why = FOLDERS[case]
    build(folder)
    if case == "a file that nobody may read":
        real = os.open

        def denied(path: os.PathLike[str], *more: int) -> int:
            if Path(path).name == "gone":
                raise PermissionError(13, "Permission denied")
            return real(path, *more)

        monkeypatch.setattr(os, "open", denied)
    _, faults = told(folder)
    assert any(why in fault for fault in faults), faults


DEEP = 1100


def test_folders_in_folders_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too deep to be walked is a fault of the folder, and not of the reader."""
    monkeypatch.chdir(tmp_path)
    for _ in range(DEEP):
        Path("d").mkdir()
        os.chdir("d")
    try:
        assert any("folders in folders" in one for one in told(tmp_path)[1])
    finally:
        for _ in range(DEEP):
            os.chdir("..")
            Path("d").rmdir()


def test_a_socket_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket is no file, and is not opened."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f").mkdir()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("f/x")
        assert ["x: is a socket; a bundle holds plain files"] == told(tmp_path / "f")[1]


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """Named on the command line, it would be opened, and that lasts until somebody writes."""
    os.mkfifo(tmp_path / "b.tar")
    assert ["b.tar: is neither a file nor a folder, and is not opened"] == told(tmp_path / "b.tar")[1]


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    """A file that grew, or became a link, after the folder was listed is not read as what it was."""
    (tmp_path / "x").write_bytes(b"x")
    faults: list[Fault] = []
    member = next(members.of(tmp_path, faults))
    (tmp_path / "x").write_bytes(b"xx")
    with pytest.raises(Damaged, match="has 2 bytes, where 1 are said"):
        list(member.pieces())
    (tmp_path / "x").unlink()
    (tmp_path / "x").symlink_to("/etc/passwd")
    with pytest.raises(Damaged, match="cannot be read"):
        list(member.pieces())


def test_nothing_there(tmp_path: Path) -> None:
    """A path that is not there is a fault like any other."""
    assert ["gone: cannot be read to its end: [Errno 2] No such file or directory: "] == [
        fault.split("'")[0] for fault in told(tmp_path / "gone")[1]
    ]


def test_the_table_is_long_enough() -> None:
    """Sixty archives at least, each with a reason of its own kind."""
    assert 60 <= len(TARS) + len(ZIPS)
