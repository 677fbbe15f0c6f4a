"""The embedded registry: publishing is all or nothing, the link moves at once, and files are compared when it does."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from world import World

from modules.contract import Change, ModuleError, diff
from modules.directory import _client, current

FILES = {"model.json": b"weights", "tokenizer/vocab.txt": b"a b"}


def test_what_is_published_can_be_read_and_is_sound(tmp_path: Path) -> None:
    """A published version has its files, a manifest in UTC and a digest of its content alone, and serves nobody yet."""
    when = datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    digest = _client.publish(tmp_path, "1.0", FILES, by="ada", created=when, lineage={"parent": None}, tags={"a": "b"})
    again = _client.publish(tmp_path, "1.1", dict(reversed(FILES.items())), by="bob")
    other = _client.publish(tmp_path, "1.2", {**FILES, "model.json": b"other"}, by="bob")
    found = _client.manifest(tmp_path, "1.0")
    assert (digest, digest, "2026-01-01T00:00:00+00:00") == (again, _client.digest(found), found["created"])
    assert digest != other
    assert ("", "") == _client.fault(tmp_path, found)
    assert (["1.0", "1.1", "1.2"], None) == (_client.names(tmp_path), _client.serving(tmp_path))


def test_a_version_is_never_rewritten(tmp_path: Path) -> None:
    """Publishing under a name that exists is refused and leaves the first one as it was."""
    _client.publish(tmp_path, "1.0", FILES, by="ada")
    with pytest.raises(ModuleError, match=r"1\.0 exists already"):
        _client.publish(tmp_path, "1.0", {"model.json": b"other"}, by="bob")
    assert (["1.0"], b"weights") == (_client.names(tmp_path), (tmp_path / "versions/1.0/model.json").read_bytes())
    assert ["1.0"] == [path.name for path in (tmp_path / "versions").iterdir()]


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a//b", "a/../b", ".hidden", "manifest.json", "", "a\nb", "a/"])
def test_a_file_cannot_be_published_outside_its_version(name: str, tmp_path: Path) -> None:
    """A file's name that leads elsewhere is refused before anything is written."""
    with pytest.raises(ModuleError, match="is not a file's name"):
        _client.publish(tmp_path / "registry", "1.0", {name: b"x"}, by="ada")
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "version", ["latest", "Latest", "current", "../1.0", "1/0", ".1", "1..0", "", "1.0\n", "x" * 65, None, 1.0]
)
def test_a_name_that_moves_or_leads_elsewhere_is_no_version(version: object, tmp_path: Path) -> None:
    """The code refuses what the schema refuses, for callers that come without it."""
    _client.publish(tmp_path, "1.0", FILES, by="ada")
    there = World(tmp_path / "w", params={"path": str(tmp_path), "version": version})
    with pytest.raises(ModuleError, match="is not the name of a version"):
        current.apply(there.params, Change(None, {"version": version}), there.context())
    assert not (tmp_path / "current").is_symlink()


def test_a_publication_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full in the middle, no half version can be seen or is left over."""
    real, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 3:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModuleError, match="No space left on device"):
        _client.publish(tmp_path, "1.0", FILES, by="ada")
    assert not list((tmp_path / "versions").iterdir())


def test_whoever_follows_the_link_always_finds_a_version(tmp_path: Path) -> None:
    """While the link moves to and fro, every reader finds a whole version: the old one or the new one, never neither."""
    for version in ("1", "2"):
        _client.publish(tmp_path, version, {"model.json": version.encode()}, by="ada")
    _client.point(tmp_path, "1")
    over, found = threading.Event(), set()

    def move() -> None:
        for turn in range(200):
            _client.point(tmp_path, "12"[turn % 2])
        over.set()

    mover = threading.Thread(target=move)
    mover.start()
    while not over.is_set():
        found.add((tmp_path / "current/model.json").read_bytes())
    mover.join()
    assert found <= {b"1", b"2"}
    assert {"versions", "current"} == {path.name for path in tmp_path.iterdir()}


def test_a_file_that_is_altered_after_it_was_judged_is_still_found(tmp_path: Path) -> None:
    """Files are compared at the moment of the move, not at the moment of choosing."""
    for day, version in enumerate(("1", "2"), 1):
        _client.publish(tmp_path, version, FILES, by="ada", created=datetime(2026, 1, day, tzinfo=UTC))
    _client.point(tmp_path, "2")
    there = World(tmp_path / "w", params={"path": str(tmp_path), "version": "1"})
    assert ["present", "present"] == [one["artifact"] for one in current.history(there.params, there.context())]
    (tmp_path / "versions/1/model.json").write_bytes(b"swapped")
    change = diff(current.read(there.params, there.context()), current.desired(there.params))
    with pytest.raises(ModuleError, match="digest differs"):
        current.apply(there.params, change, there.context())
    assert "2" == _client.serving(tmp_path)


def test_comparing_a_large_version_keeps_to_the_steps_timeout(tmp_path: Path) -> None:
    """Reading every byte stops when the step's time is over."""
    _client.publish(tmp_path, "1", {"model.bin": b"x" * (1 << 20)}, by="ada")
    there = World(tmp_path / "w", params={"path": str(tmp_path), "version": "1"})
    with pytest.raises(ModuleError) as caught:
        current.history(there.params, there.context(seconds=0.0))
    assert "timed_out" == caught.value.outcome
