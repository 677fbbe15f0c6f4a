"""A disk that is full: a real one, of one megabyte, under the whole command line."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from stage import Said, Stage, look, step

STEPS = {"execution": [step("weight", {"x": 2}), step("label", {"y": "stable"})], "verification": [look("weight", {"x": 2})]}


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, where one may be mounted."""
    folder = tmp_path / "small"
    folder.mkdir(mode=0o700)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.xfail("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def command(stage: Stage, *words: str, reserve: str = "0") -> Said:
    """One command line as a process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LASTGOOD_RESERVE", reserve)
        process = stage.process(*words)
    out, err = process.communicate(timeout=120)
    return Said(process.returncode, out, err)


def filled(folder: Path, left: int) -> Path:
    """Takes all room but so many bytes (whole pages)."""
    disk = os.statvfs(folder)
    ballast = folder / "ballast"
    ballast.write_bytes(b"x" * (disk.f_bavail * disk.f_frsize - left))
    return ballast


@pytest.mark.slow
def test_a_full_disk_stops_the_run_before_the_next_effect_and_a_resume_goes_on(tmp_path: Path, small: Path) -> None:
    """However little room is left: exit 1 with words and without a traceback, no effect without its intent, and when room
    has been made the run, or a new one, ends as if nothing had been."""
    stage = Stage(tmp_path / "stage", STEPS, ["a", "b"])
    stage.state = small / "state"
    words, ends = ["run", str(stage.playbook), "-i", str(stage.stock)], set()
    for left in (0, 8, 24, 32, 48, 400):
        shutil.rmtree(stage.base / "world")
        (stage.base / "world").mkdir()
        shutil.rmtree(stage.state, ignore_errors=True)
        ballast = filled(small, left << 10)
        said = command(stage, *words)
        ballast.unlink()
        where = f"{left} KiB left: {said.text}"
        ends.add(said.exit)
        assert "Traceback" not in said.text, where
        if said.exit:
            assert 1 == said.exit, where
            assert "full" in said.text or "No space" in said.text or "cannot be opened" in said.text, where
            begun = (stage.state / "journal.db").exists() and stage.latest
            again = command(stage, "resume", "-y", stage.latest) if begun else command(stage, *words)
            assert 0 == again.exit, f"{where}\n{again.text}"
        assert ({"x": 2}, 4) == (stage.thing("weight"), len(stage.effects())), where
        intents = {entry.body["key"] for entry in stage.entries(kind="step.intent")}
        assert 4 == len(intents), where
    assert {0, 1} == ends, "some had room, some had not"


def test_evidence_that_does_not_fit_keeps_execution_shut(tmp_path: Path, small: Path) -> None:
    """The journal has room, what forensics wants to keep has not: the step fails, nothing is changed, resume goes on."""
    copy = {"name": "Keep a copy", "id": "copy", "file": {"path": str(small / "copy"), "content": "x" * 60_000}}
    stage = Stage(tmp_path / "stage", {"forensics": [copy], **STEPS}, ["a"])
    ballast = filled(small, 16 << 10)
    said = command(stage, "run", str(stage.playbook), "-i", str(stage.stock))
    assert (1, [], True) == (said.exit, stage.effects(), "No space left on device" in said.text), said.text
    ballast.unlink()
    again = command(stage, "resume", "-y")
    assert (0, 2) == (again.exit, len(stage.effects())), again.text


def test_no_run_begins_on_a_disk_that_is_nearly_full(tmp_path: Path, small: Path) -> None:
    """With less than the reserve free, nothing is begun and it is said what to do; 0 goes on, and so does making room."""
    stage = Stage(tmp_path / "stage", STEPS, ["a"])
    stage.state = small / "state"
    words = ["run", str(stage.playbook), "-i", str(stage.stock)]
    said = command(stage, *words, reserve="64")
    assert (1, []) == (said.exit, stage.effects())
    assert "error[LG077]: only 0 MiB are free" in said.text or "error[LG077]: only 1 MiB are free" in said.text
    assert "nothing was changed; free the disk, then try again (LASTGOOD_RESERVE=0 goes on without)" in said.text
    assert 0 == command(stage, *words, "--check", reserve="64").exit
    assert 2 == command(stage, *words, reserve="much").exit
    assert 0 == command(stage, *words, reserve="0").exit
    assert 1 == command(stage, "undo", "-y", reserve="64").exit
    assert 2 == len(stage.effects())
    assert 0 == command(stage, "undo", "-y", reserve="0").exit
