"""How a bundle is made: one pass, durable before it is named, and taken up where a kill left it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import bagit
import pytest

from engine import bag

INFO = {"Bagging-Date": "2026-11-27"}


def source(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


class Bags:
    """Bags that are closed when the test ends."""

    def __init__(self) -> None:
        self.opened = contextlib.ExitStack()

    def __call__(self, folder: Path) -> bag.Bag:
        return self.opened.enter_context(bag.Bag(folder))


@pytest.fixture
def bags() -> Iterator[Bags]:
    made = Bags()
    with made.opened:
        yield made


def test_a_bag_that_others_accept(bags: Bags, tmp_path: Path) -> None:
    """What is made is a bag of BagIt 1.0 with sha512 manifests and nothing to fetch."""
    made = bags(tmp_path / ".aside")
    content = os.urandom(9 << 20)
    item = made.copy("evidence/a/model.bin", source(tmp_path, "model.bin", content))
    made.text("notes.txt", b"two\n")
    closed = made.close(INFO)
    made.place(tmp_path / "bag")
    assert (hashlib.sha512(content).hexdigest(), hashlib.sha256(content).hexdigest()) == (item.sha512, item.sha256)
    assert (2, len(content) + 4, len(content)) == (closed.files, closed.size, item.size)
    opened = bagit.Bag(str(tmp_path / "bag"))
    opened.validate()
    assert ["sha512"] == opened.algorithms
    assert f"{len(content) + 4}.2" == opened.info["Payload-Oxum"]
    assert {"bagit.txt", "bag-info.txt", "manifest-sha512.txt", "tagmanifest-sha512.txt", "data"} == {
        path.name for path in (tmp_path / "bag").iterdir()
    }
    assert closed.tags == (tmp_path / "bag/tagmanifest-sha512.txt").read_bytes()


def test_for_its_owner_alone(bags: Bags, tmp_path: Path) -> None:
    """Whatever the source's mode was, evidence is readable for its owner alone."""
    path = source(tmp_path, "x", b"x")
    path.chmod(0o666)
    made = bags(tmp_path / "b")
    made.copy("x", path)
    made.close(INFO)
    assert {0o600} == {
        file.stat().st_mode & 0o777 for file in (tmp_path / "b").rglob("*") if file.name != ".progress" and file.is_file()
    }


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_only_plain_files_are_taken_in(bags: Bags, tmp_path: Path, kind: str) -> None:
    """A link is not followed, and a pipe is not waited for."""
    odd = tmp_path / "odd"
    {"link": lambda: odd.symlink_to("/etc/passwd"), "pipe": lambda: os.mkfifo(odd), "folder": odd.mkdir}[kind]()
    with pytest.raises((bag.Moved, OSError)):
        bags(tmp_path / "b").copy("x", odd)


def test_a_source_that_is_written_to_meanwhile(bags: Bags, tmp_path: Path) -> None:
    """A file that changes while it is copied is not evidence of anything, and is refused."""
    path = source(tmp_path, "x", b"x" * (bag.PIECE + 1))

    def meddle() -> None:
        with path.open("ab") as file:
            file.write(b"more")

    with pytest.raises(bag.Moved, match="was written to while it was copied"):
        bags(tmp_path / "b").copy("x", path, meddle)


def test_memory_is_bounded(bags: Bags, tmp_path: Path) -> None:
    """A file of many pieces takes no more memory than a few of them."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(40 * bag.PIECE)
    tracemalloc.start()
    try:
        bags(tmp_path / "b").copy("x", path)
        assert tracemalloc.get_traced_memory()[1] < 6 * bag.PIECE
    finally:
        tracemalloc.stop()


def test_taken_up_after_kill(bags: Bags, tmp_path: Path) -> None:
    """After kill -9 inside the third file the first two are not read again, and the third is copied from its beginning."""
    for number in range(4):
        source(tmp_path, f"s{number}", bytes([65 + number]) * (bag.PIECE * 2))
    program = f"""
        import os, signal
        from pathlib import Path
        from engine import bag
        folder = Path({str(tmp_path)!r})
        made = bag.Bag(folder / "b")
        for number in range(4):
            kill = lambda: number < 2 or os.kill(os.getpid(), signal.SIGKILL)
            made.copy(f"evidence/s{{number}}", folder / f"s{{number}}", kill)
    """
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env={**os.environ, "PYTHONPATH": str(Path.cwd())}
    )
    assert -signal.SIGKILL == killed.returncode
    partial = tmp_path / "b/data/evidence/s2"
    assert bag.PIECE == partial.stat().st_size
    partial.write_bytes(b"?" * bag.PIECE)  # whatever lies there is not believed
    times = {number: (tmp_path / f"b/data/evidence/s{number}").stat().st_mtime_ns for number in range(2)}
    read: list[int] = []
    made = bags(tmp_path / "b")
    for number in range(4):
        made.copy(f"evidence/s{number}", tmp_path / f"s{number}", lambda number=number: read.append(number))  # type: ignore[misc]
    made.close(INFO)
    assert [2, 2, 3, 3] == read
    assert times == {number: (tmp_path / f"b/data/evidence/s{number}").stat().st_mtime_ns for number in range(2)}
    made.place(tmp_path / "bag")
    bagit.Bag(str(tmp_path / "bag")).validate()


@pytest.mark.parametrize("how", ["source written to", "copy cut", "progress cut", "progress forged"])
def test_what_is_not_believed_on_taking_up(bags: Bags, tmp_path: Path, how: str) -> None:
    """A finished copy counts only while its source is as it was, it has its size, and its line is whole."""
    path = source(tmp_path, "x", b"before")
    made = bags(tmp_path / "b")
    made.copy("x", path)
    progress = tmp_path / "b/.progress"
    if how == "source written to":
        path.write_bytes(b"after!")
        os.utime(path, ns=(1, 1))
    elif how == "copy cut":
        (tmp_path / "b/data/x").write_bytes(b"befo")
    elif how == "progress cut":
        progress.write_text(progress.read_text()[:-20])
    else:
        progress.write_text('{"source": 1, "item": {"name": "x"}}\nnull\n[]\n\xff\n')
    read: list[int] = []
    made = bags(tmp_path / "b")
    item = made.copy("x", path, lambda: read.append(1))
    assert [1] == read
    assert hashlib.sha512(path.read_bytes()).hexdigest() == item.sha512
    assert path.read_bytes() == (tmp_path / "b/data/x").read_bytes()


def test_leftovers_do_not_stay(bags: Bags, tmp_path: Path) -> None:
    """What an earlier attempt had taken in and this one has not is not in the bundle."""
    made = bags(tmp_path / "b")
    made.copy("evidence/old/x", source(tmp_path, "x", b"x"))
    made = bags(tmp_path / "b")
    made.text("new", b"y")
    made.close(INFO)
    assert ["b/data", "b/data/new"] == [
        str(p.relative_to(tmp_path))
        for p in sorted((tmp_path / "b").rglob("data*")) + sorted((tmp_path / "b/data").rglob("*"))
    ]


def test_durable_before_it_is_named(bags: Bags, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every payload file is synced before the manifest is written, and the manifest before the bundle has its name."""
    done: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def synced(handle: int) -> None:
        done.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        fsync(handle)

    def renamed(path: Path, target: Path) -> Path:
        done.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    made = bags(tmp_path / ".aside")
    made.copy("x", source(tmp_path, "x", b"x"))
    made.close(INFO)
    made.place(tmp_path / "bag")
    assert [
        "x",
        "data",
        "bagit.txt",
        "bag-info.txt",
        "manifest-sha512.txt",
        "tagmanifest-sha512.txt",
        ".aside",
        "rename",
    ] == done[:8]
