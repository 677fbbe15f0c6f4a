"""A run taken up on another machine: in another folder, under another name, with the same playbook in a checkout there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from stage import Stage, step

BOOK = {"execution": [step("first", {"x": 1}), step("second", {"x": 2}), step("third", {"x": 3})]}
Machine = Callable[[str], None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """From now on the engine runs on the machine of this name."""
    real = os.uname()

    def named(name: str) -> None:
        monkeypatch.setattr(os, "uname", lambda: os.uname_result((real[0], name, *real[2:])))

    named("berlin")
    return named


def moved(stage: Stage, to: Path) -> Stage:
    """The stage on another machine: store, playbook, inventory and world are there, and nothing is in the old place."""
    shutil.move(stage.folder, to)
    stage.folder = to
    stage.base, stage.stock, stage.state = to / "playbooks", to / "inventory", to / "state"
    stage.playbook = stage.base / "play.yml"
    return stage


def there(stage: Stage) -> list[str]:
    return ["--playbook", str(stage.playbook), "-i", str(stage.stock)]


@pytest.fixture
def failed(tmp_path: Path, machine: Machine) -> Stage:
    """A run of which the second step has failed, on berlin; it is looked at on lisbon, where it has another place."""
    stage = Stage(tmp_path / "berlin", BOOK)
    stage.trouble("second", apply=["breaks", 1])
    assert 1 == stage.run().exit
    machine("lisbon")
    return moved(stage, tmp_path / "lisbon")


def test_the_folder_and_the_machine_of_the_run_are_named(failed: Stage, tmp_path: Path) -> None:
    """Without a word of where the playbook is here, nothing is done, and the one command that goes on is shown."""
    for verb, said in (("resume", failed.resume()), ("undo", failed.undo())):
        assert 7 == said.exit, said.text
        assert "LG065" in said.text
        assert f"on berlin, with {tmp_path / 'berlin' / 'playbooks'}: this machine, lisbon, has no such path" in said.text
        assert f"help: engine {verb} RB-0001 --playbook {tmp_path / 'berlin/playbooks/play.yml'} -i INVENTORY" in said.text
    assert 1 == len(failed.effects())


def test_a_checkout_elsewhere_will_do(failed: Stage, tmp_path: Path) -> None:
    """The run goes on where it is told the playbook is; what was done stays done; what was kept is said to be elsewhere."""
    said = failed.resume(*there(failed))
    assert 0 == said.exit, said.text
    assert ['a/first {"x": 1}', 'a/second {"x": 2}', 'a/third {"x": 3}'] == failed.effects()
    kept = tmp_path / "berlin" / "state" / "runs" / "RB-0001"
    assert f"carried out on berlin: the evidence and the reports of that time are there, in {kept}" in said.text


def test_where_a_run_goes_on_is_recorded(failed: Stage) -> None:
    """Each entry that takes it up names the machine, the folder, the inventories and where evidence is kept from then on."""
    failed.trouble("third", apply="breaks")
    assert 1 == failed.resume(*there(failed)).exit
    (body,) = failed.bodies("run.resumed")
    assert {
        "machine": "lisbon", "base": str(failed.base), "inventories": [str(failed.stock)], "files": str(failed.state),
    }.items() <= body.items()  # fmt: skip
    assert "berlin" == failed.bodies("run.started")[0]["machine"]


def test_once_told_a_machine_needs_no_telling(failed: Stage) -> None:
    """The next resume on the same machine, and the undo, find playbook and inventory where the last one had them."""
    failed.trouble("third", apply=["breaks", 1])
    assert 1 == failed.resume(*there(failed)).exit
    assert 0 == failed.resume().exit
    assert 0 == failed.undo().exit
    assert {"a/first": None, "a/second": None, "a/third": None} == failed.things()


def test_an_undo_elsewhere(failed: Stage) -> None:
    """What one machine has changed another puts back, and records that it did."""
    said = failed.undo(*there(failed))
    assert 0 == said.exit, said.text
    assert "carried out on berlin" in said.text
    assert {"a/first": None} == failed.things()
    assert "lisbon" == failed.bodies("undo.started")[0]["machine"]


@pytest.mark.parametrize(
    ("name", "word"),
    [("playbooks/play.yml", "the playbook"), ("playbooks/modules/thing.py", "the module `thing`")],
)
def test_another_checkout_is_refused(failed: Stage, name: str, word: str) -> None:
    """A playbook or module here that is not the run's is named, however it came to be different."""
    with (failed.folder / name).open("a") as file:
        file.write("\n# a word more\n")
    for said in (failed.resume(*there(failed)), failed.undo(*there(failed))):
        assert (7, True, True) == (said.exit, "LG061" in said.text, word in said.text), said.text
    assert 1 == len(failed.effects())


def test_a_playbook_that_is_no_text_any_more(failed: Stage) -> None:
    """An editor that saved it in another encoding has changed it; that is said as of any other change."""
    failed.playbook.write_bytes(b"# caf\xe9\n" + failed.playbook.read_bytes())
    for said in (failed.resume(*there(failed)), failed.undo(*there(failed))):
        assert (7, True) == (said.exit, "is not what it was when the run began" in said.text), said.text


def test_a_playbook_that_is_not_there(failed: Stage, tmp_path: Path) -> None:
    """A misspelt path is said to be missing, not to be different."""
    said = failed.resume("--playbook", str(tmp_path / "nowhere.yml"))
    assert (7, True) == (said.exit, f"there is no playbook {tmp_path / 'nowhere.yml'}" in said.text), said.text


def test_an_inventory_that_is_not_there(failed: Stage, tmp_path: Path) -> None:
    """The playbook is found and the inventory is not: that one is named, with the command that names it."""
    said = failed.resume("--playbook", str(failed.playbook))
    assert 7 == said.exit
    assert f"on berlin, with {tmp_path / 'berlin' / 'inventory'}: this machine, lisbon" in said.text
    assert f"engine resume RB-0001 --playbook {failed.playbook} -i INVENTORY" in said.text


def test_a_playbook_under_another_name_with_the_same_text(failed: Stage) -> None:
    """What counts is what it says."""
    failed.playbook = failed.playbook.rename(failed.base / "fraud.yml")
    assert 0 == failed.resume(*there(failed)).exit


def test_variables_of_another_inventory_are_refused(tmp_path: Path, machine: Machine) -> None:
    """A variable that the plan uses and that has another value there is named, with its host."""
    book = {"execution": [step("first", {"x": "{{ wish }}"})]}
    stage = Stage(tmp_path / "berlin", book, wish=1)
    stage.trouble("first", apply=["breaks", 1])
    assert 1 == stage.run().exit
    machine("lisbon")
    moved(stage, tmp_path / "lisbon").inventory({"wish": 2})
    said = stage.resume(*there(stage))
    assert (7, True) == (said.exit, "the inventory variable `wish` of a" in said.text), said.text
    assert [] == stage.effects()


def test_back_on_the_first_machine(failed: Stage, machine: Machine, tmp_path: Path) -> None:
    """A machine that had the run before finds its own place again, whoever had it meanwhile."""
    failed.trouble("third", apply=["breaks", 1])
    assert 1 == failed.resume(*there(failed)).exit
    machine("berlin")
    stage = moved(failed, tmp_path / "berlin")
    said = stage.resume()
    assert 0 == said.exit, said.text
    assert f"carried out on lisbon: the evidence and the reports of that time are there, in {tmp_path}/lisbon" in said.text
