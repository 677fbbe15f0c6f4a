"""Stores that earlier versions wrote: this one takes them up and comes to the same end, or refuses them by name."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import endings
import goldens
import pytest
import scenes

from engine import store

HERE = Path(__file__).parent


def _name(scene: Path) -> str:
    return f"{scene.parent.name}/{scene.name}"


def test_every_version_has_its_scenes() -> None:
    """The scenes that there are have been made, and each says what comes after it."""
    assert {scene.name for scene in scenes.SCENES} <= {path.name for path in goldens.scenes()}
    assert all("\n$ " in (scene / "end.txt").read_text() for scene in goldens.scenes())


def test_every_format_has_its_scenes() -> None:
    """Of every form that the tables of a store have had there are stores, among them the one that is written today."""
    texts = [(scene / "journal.sql").read_text() for scene in goldens.scenes()]
    assert [*range(1, store.FORMAT + 1)] == sorted({int(text.split(";")[0].partition("=")[2]) for text in texts})


@pytest.mark.parametrize("scene", goldens.scenes(), ids=_name)
def test_an_old_run_can_be_looked_at(tmp_path: Path, scene: Path) -> None:
    """The record of a run is shown whole by this version, every hash of its chain computed again."""
    folder = goldens.restored(scene, tmp_path / "scene")
    code, said = endings.here(folder, ["report", "RB-0001", "--format", "json", "--out", "report.json"])
    assert 0 == code, said
    assert "whose chain is whole" in said
    assert "RB-0001" == json.loads((folder / "report.json").read_text())["run"]


@pytest.mark.parametrize("scene", goldens.scenes(), ids=_name)
def test_an_old_run_comes_to_its_end(tmp_path: Path, scene: Path) -> None:
    """Taken up by this version, in another folder, it does what is left and nothing twice, as its own version did."""
    folder, expected = goldens.restored(scene, tmp_path / "scene"), (scene / "end.txt").read_text()
    script = endings.inputs(expected)
    assert expected == endings.played(folder, script, endings.today(folder, script))
    code, said = endings.here(folder, ["report", "RB-0001"])
    assert (0, True) == (code, "whose chain is whole" in said), said


def test_the_scenes_can_be_made(tmp_path: Path) -> None:
    """The maker plays a scene with the engine of today, and what it keeps is what it kept in its own version."""
    maker = _maker()
    shutil.copytree(maker.MODULES, tmp_path / "version" / "modules")
    (loop,) = (scene for scene in scenes.SCENES if scene.name == "loop")
    made = maker.make(loop, tmp_path / "place", tmp_path / "version")
    assert (goldens.JOURNALS / "0.1.0" / "loop" / "end.txt").read_text() == (made / "end.txt").read_text()


# ------------------------------------------------------------------------------------------------- refused by name
CUT = goldens.JOURNALS / "0.1.0" / "killed-before-the-effect"


def _edited(path: str, text: str = "\n# a word more\n") -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        with (folder / path).open("a", encoding="utf-8") as file:
            file.write(text)

    return edit


def _rewritten(change: Callable[[list[dict[str, Any]]], None]) -> Callable[[Path], None]:
    return lambda folder: goldens.rewritten(folder, change)


def _of_tomorrow(entries: list[dict[str, Any]]) -> None:
    entries.append({**entries[-1], "kind": "step.handed_over", "body": "{}"})


def _planned_tomorrow(entries: list[dict[str, Any]]) -> None:
    entries[0]["body"] = entries[0]["body"].replace("lastgood.plan/1", "lastgood.plan/99")


def _altered(folder: Path) -> None:
    with contextlib.closing(sqlite3.connect(folder / "state" / "journal.db")) as db, db:
        db.execute("UPDATE entries SET body = REPLACE(body, 'freeze', 'thaw') WHERE seq = 5")


def _numbered(folder: Path) -> None:
    with contextlib.closing(sqlite3.connect(folder / "state" / "journal.db")) as db:
        db.execute("PRAGMA user_version=99")


@pytest.mark.parametrize(
    ("change", "exit", "words"),
    [
        (_edited("playbooks/modules/thing.py"), 7, "LG061 the module `thing`"),
        (_edited("playbooks/play.yml"), 7, "LG061 the playbook play.yml"),
        (lambda folder: (folder / "inventory/hosts.yml").write_text("all: {hosts: {b: {}}}"), 7, "LG061 the host a"),
        (_rewritten(_of_tomorrow), 7, "LG066 RB-0001 step.handed_over"),
        (_rewritten(_planned_tomorrow), 7, "LG060 lastgood.plan/99"),
        (_numbered, 1, "LG071 format 99"),
        (_altered, 1, "LG073 RB-0001 entry 5"),
    ],
    ids=["module", "playbook", "inventory", "kind-of-entry", "plan", "format", "altered"],
)
def test_what_is_not_as_it_was_is_refused_by_name(
    tmp_path: Path, change: Callable[[Path], object], exit: int, words: str
) -> None:
    """Neither resumed nor put back, and never taken for something else: the message says what it is, nothing is done."""
    folder = goldens.restored(CUT, tmp_path / "scene")
    before = goldens.effects(folder)
    change(folder)
    for verb in ("resume", "undo"):
        code, said = endings.here(folder, [verb, "-y", *endings.elsewhere(folder)])
        assert (exit, []) == (code, [word for word in words.split() if word not in said]), said
    assert [] == goldens.effects(folder, before)


def test_put_back_as_it_was_the_run_goes_on(tmp_path: Path) -> None:
    """A refusal changes nothing, in the record neither: the run comes to the same end afterwards."""
    folder = goldens.restored(CUT, tmp_path / "scene")
    play = folder / "playbooks" / "play.yml"
    _edited("playbooks/play.yml")(folder)
    assert 7 == endings.here(folder, ["resume", "-y", *endings.elsewhere(folder)])[0]
    play.write_bytes((CUT / "play.yml").read_bytes())
    script = endings.inputs(expected := (CUT / "end.txt").read_text())
    assert expected == endings.played(folder, script, endings.today(folder, script))


@pytest.mark.parametrize("words", [["resume", "-y"], ["run", "playbooks/play.yml", "-i", "inventory"], ["undo", "-y"]])
def test_an_older_engine_that_still_runs_is_not_pushed_aside(tmp_path: Path, words: list[str]) -> None:
    """It holds its run by a lock on a file: until it ends, nothing is begun in its store, and who asks is told which run."""
    folder = goldens.restored(CUT, tmp_path / "scene")
    claim, before = folder / "state" / "runs" / "RB-0001" / "claim", goldens.effects(folder)
    claim.parent.mkdir(parents=True)
    more = endings.elsewhere(folder) if words[0] != "run" else []
    with claim.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        code, said = endings.here(folder, [*words, *more])
        assert (8, True) == (code, "RB-0001" in said), said
        assert [] == goldens.effects(folder, before)
    script = endings.inputs(expected := (CUT / "end.txt").read_text())
    if words[0] == "resume":
        assert expected == endings.played(folder, script, endings.today(folder, script))


def test_runs_are_counted_on(tmp_path: Path) -> None:
    """A new run in an old store gets the next number, and the old one stays what it was."""
    folder = goldens.restored(goldens.JOURNALS / "0.1.0" / "succeeded", tmp_path / "scene")
    code, said = endings.here(folder, ["run", "playbooks/play.yml", "-i", "inventory"])
    assert 0 == code, said
    assert "RB-0002" in said
    code, said = endings.here(folder, ["runs"])
    assert ["RB-0001", "RB-0002"] == sorted(set(re.findall(r"RB-\d+", said))), said


def _maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_maker", HERE / "make.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found
