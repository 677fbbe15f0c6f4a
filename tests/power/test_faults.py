"""A failing disk: no effect without its intent on the disk, a clear end, and a resume that comes to the same."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "crash")]

from failing import Fault
from killer import Ended, Killer, killer
from stage import Stage, look, step

from engine.journal import Journal

#: "all": every error at every operation, once and for good. Else so many operations, one error at each.
FAULTS = os.environ.get("LASTGOOD_POWER_FAULTS", "304")
ALL, POINTS = FAULTS == "all", 0 if FAULTS == "all" else int(FAULTS)
KINDS = ("EIO", "ENOSPC", "EROFS", "EMFILE")
BOOK = {
    "execution": [step("weight", {"x": 2}), step("label", {"y": "stable"})],
    "verification": [look("weight", {"x": 2})],
    "communications": [{"name": "Tell", "on": ["ended"], "notify": {"to": "desk", "message": "{{ run.summary }}"}}],
}


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killer]:
    """Runs command lines in processes of their own, which find `failing`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
        with killer(tmp_path_factory.mktemp("launcher")) as found:
            yield found


class Scene:
    """A playbook, its world and its store, played again and again from the beginning."""

    def __init__(self, folder: Path, book: dict[str, Any], launcher: Killer) -> None:
        self.stage, self.launcher = Stage(folder, book, ["a", "b"]), launcher
        self.trace = folder / "trace"

    def reset(self) -> None:
        """Nothing has happened."""
        for path in (self.stage.state, self.stage.base / "world"):
            shutil.rmtree(path, ignore_errors=True)
        (self.stage.folder / "messages").unlink(missing_ok=True)
        (self.stage.base / "world").mkdir()

    def engine(self, *words: str, fault: Fault | None = None) -> Ended:
        """One command line, on a disk with the fault. No heartbeat of a lease falls into the time that it takes."""
        self.launcher.env.update(replace(fault or Fault(), trace=str(self.trace)).env(), LASTGOOD_LEASE="600s")
        install = "failing:install" if fault else ""
        return self.launcher(self.stage.folder, "--state", str(self.stage.state), *words, install=install)

    def run(self, fault: Fault | None = None, forks: int = 1) -> Ended:
        words = ["run", str(self.stage.playbook), "-i", str(self.stage.stock), "--forks", str(forks)]
        return self.engine(*words, fault=fault)

    def onward(self) -> Ended:
        """What a person does when the disk is well again."""
        run = self.stage.latest if self.stage.state.exists() else ""
        return self.engine("resume", "-y", run) if run else self.run()

    def asked(self) -> list[str]:
        """What the engine's SQLite asked of the disk, in order."""
        return [line for line in self.trace.read_text().splitlines() if not line.startswith("failed")]

    def effects(self) -> list[dict[str, Any]]:
        """What the things themselves counted."""
        paths = [path for path in (self.stage.base / "world").glob("*/*") if not path.suffix]
        lines = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
        return [line for line in lines if line["key"]]

    def after_the_failure(self) -> int:
        """Effects after the database had first said no."""
        failed = [int(line.split()[1]) for line in self.trace.read_text().splitlines() if line.startswith("failed")]
        return sum(line["at"] > failed[0] for line in self.effects()) if failed else 0

    def without_intent(self) -> int:
        """Effects whose intent is not in the record, once the disk is well again."""
        begun = self.stage.state.exists() and self.stage.latest
        intents = {entry.body["key"] for entry in self.stage.entries() if entry.kind.endswith(".intent")} if begun else set()
        return sum(line["key"] not in intents for line in self.effects())

    def left(self) -> Any:
        """Everything that a resume could go by, without times; the store itself is only looked at in a copy."""
        if not self.stage.state.exists():
            return ()
        copy, files = self.stage.folder / "copy", sorted(path.name for path in self.stage.state.iterdir())
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.stage.state, copy)
        journal = Journal(copy)
        try:
            rows = [(e.kind, e.host, e.step) for run, _ in journal.runs() for e in journal.verified(run.run)]
            held = journal.store.look(lambda rows: rows("SELECT name FROM leases ORDER BY name"))
        finally:
            journal.close()
        return tuple(files), tuple(rows), tuple(held), tuple(self.stage.effects()), len(self.stage.messages())

    def came_to(self) -> dict[str, Any]:
        """What the world is, what was done to it, what people were told, how the run ended."""
        return {
            "things": self.stage.things(),
            "effects": sorted(self.stage.effects()),
            "outcome": self.stage.ended.get("outcome"),
            "told": {message["ref"] for message in self.stage.messages()},
        }


def faults(operations: int) -> list[Fault]:
    """The operations of an undisturbed run, each failing once or for good, with one of the errors; or all, in every way."""
    if ALL:
        return [Fault(at, kind, good) for at in range(1, operations + 1) for good in (False, True) for kind in KINDS]
    every = [Fault(at, KINDS[at // 2 % len(KINDS)], at % 2 == 0) for at in range(1, operations + 1)]
    return sorted(random.Random(1).sample(every, min(POINTS, len(every))), key=lambda one: one.at)


@pytest.mark.slow
def test_no_effect_without_its_intent_and_a_resume_comes_to_the_same(memory: Path, launcher: Killer) -> None:
    """Whatever operation of the journal fails, once or for good: nothing is done to a host after the first failed commit,
    the command ends with 1 and says what to do, and the resume ends as an undisturbed run does, no effect doubled."""
    scene, seen, known = Scene(memory / "scene", BOOK, launcher), Counter[str](), set[Any]()
    scene.reset()
    assert 0 == scene.run(Fault()).exit
    wanted, operations = scene.came_to(), len(scene.asked())
    for fault in faults(operations):
        scene.reset()
        ended = scene.run(fault)
        where = f"{fault}: {scene.asked()[fault.at - 1 : fault.at]}\n{ended.said}"
        assert (0, 0) == (scene.after_the_failure(), 0 if ended.exit else scene.without_intent()), where
        seen["fault points"] += 1
        seen["ended with 1"] += ended.exit == 1
        if ended.exit:
            assert (1, True) == (ended.exit, "LG072" in ended.said or "LG070" in ended.said), where
            assert "cannot be opened" in ended.said or "nothing more was changed" in ended.said, where
            left = scene.left()
            if left in known:
                continue  # a resume from exactly there was seen to end well
            known.add(left)
            onward = scene.onward()
            seen["resumed"] += 1
            assert 0 == onward.exit, f"{where}\n{onward.said}"
            assert 0 == scene.without_intent(), where
        assert wanted == scene.came_to(), where
    print(f"failing disk, {operations} operations: {dict(seen)}, 0 effects let through, 0 doubled")
    assert seen["fault points"] >= min(POINTS, operations)
    assert seen["ended with 1"] > seen["fault points"] / 2


def test_hosts_side_by_side_do_nothing_without_an_intent(memory: Path, launcher: Killer) -> None:
    """Where several hosts share a commit that fails, none of them acts; one that was already acting had its own intent."""
    scene = Scene(memory / "scene", BOOK, launcher)
    scene.reset()
    assert 0 == scene.run(Fault(), forks=8).exit
    wanted, operations = scene.came_to(), len(scene.asked())
    for fault in [Fault(at, "EIO", at % 2 == 0) for at in range(40, operations, operations // 12)]:
        scene.reset()
        ended = scene.run(fault, forks=8)
        if ended.exit:
            assert (1, 0) == (ended.exit, scene.onward().exit), f"{fault}\n{ended.said}"
        assert (0, wanted) == (scene.without_intent(), scene.came_to()), f"{fault}\n{ended.said}"
