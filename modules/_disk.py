"""Our one way to put bytes on a disk: whole or not at all, and still there after a power cut.

In: a path and bytes. Out: nothing, or a ModuleError in plain words. It refuses to know what the bytes mean.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from modules.contract import ModuleError

_CHUNK = 1 << 20


@contextmanager
def told(what: str) -> Iterator[None]:
    """Turns the operating system's errors into a ModuleError that begins with `what`."""
    try:
        yield
    except OSError as error:
        raise ModuleError(f"{what}: {error.strerror or error}") from None


def sync(folder: Path) -> None:
    """Makes a folder's entries durable: without it a rename may be undone by a power cut. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Puts `content` at `path` with exactly this mode: written aside, made durable, then renamed. A file that was there
    keeps its owner. Raises ModuleError."""
    with told(f"{path} cannot be written"):
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:64]}.")
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(content)
                out.flush()
                if path.exists():
                    os.fchown(out.fileno(), path.stat().st_uid, path.stat().st_gid)
                os.fchmod(out.fileno(), mode)
                os.fsync(out.fileno())
            Path(aside).replace(path)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise
        sync(path.parent)


def copy(source: Path, target: Path, between: Callable[[], object] = lambda: None) -> tuple[int, str]:
    """Copies a file, read once for both: its bytes go to `target` and into the digest. Returns its size and sha256 in hex.

    `target` is there whole and durable, or not at all; memory does not grow with the file. Calls `between` after each MiB,
    which may raise to stop. Raises ModuleError.
    """
    total, length, aside = hashlib.sha256(), 0, target.with_name(f".{target.name[:64]}.part")
    with told(f"{source} cannot be copied to {target}"), source.open("rb", buffering=0) as read, aside.open("wb") as out:
        os.fchmod(out.fileno(), 0o600)
        buffer = memoryview(bytearray(_CHUNK))
        while got := read.readinto(buffer):
            out.write(buffer[:got])
            total.update(buffer[:got])
            length += got
            between()
        out.flush()
        os.fsync(out.fileno())
        aside.replace(target)
        sync(target.parent)
    return length, total.hexdigest()


def sha256(path: Path, between: Callable[[], object] = lambda: None) -> str:
    """The digest of a file in hex. Calls `between` after each MiB, which may raise to stop. Raises OSError."""
    total = hashlib.sha256()
    with path.open("rb") as source:
        while part := source.read(_CHUNK):
            total.update(part)
            between()
    return total.hexdigest()
