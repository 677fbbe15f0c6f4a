"""Stores that earlier versions wrote: this one takes them up and comes to the same end, or refuses them by name."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType

import endings
import goldens
import pytest
import scenes

HERE = Path(__file__).parent


def _name(scene: Path) -> str:
    return f"{scene.parent.name}/{scene.name}"


def test_every_version_has_its_scenes() -> None:
    """The scenes that there are have been made, and each says what comes after it."""
    assert {scene.name for scene in scenes.SCENES} <= {path.name for path in goldens.scenes()}
    assert all("\n$ " in (scene / "end.txt").read_text() for scene in goldens.scenes())


@pytest.mark.parametrize("scene", goldens.scenes(), ids=_name)
def test_an_old_run_can_be_looked_at(tmp_path: Path, scene: Path) -> None:
    """The record of a run is shown whole by this version, every hash of its chain computed again."""
    folder = goldens.restored(scene, tmp_path / "scene")
    code, said = endings.here(folder, ["report", "RB-0001", "--format", "json", "--out", "report.json"])
    assert 0 == code, said
    assert "whose chain is whole" in said
    assert "RB-0001" == json.loads((folder / "report.json").read_text())["run"]


def test_the_scenes_can_be_made(tmp_path: Path) -> None:
    """The maker plays a scene with the engine of today, and what it keeps is what it kept in its own version."""
    maker = _maker()
    shutil.copytree(maker.MODULES, tmp_path / "version" / "modules")
    (loop,) = (scene for scene in scenes.SCENES if scene.name == "loop")
    made = maker.make(loop, tmp_path / "place", tmp_path / "version")
    assert (goldens.JOURNALS / "0.1.0" / "loop" / "end.txt").read_text() == (made / "end.txt").read_text()


def _maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_maker", HERE / "make.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found
