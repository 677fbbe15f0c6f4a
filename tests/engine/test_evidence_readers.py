"""Evidence for named people: from a playbook's words to a file that only they can open."""

from __future__ import annotations

from pathlib import Path

import pyrage
import pytest
from stage import Stage, step


def stage(folder: Path, names: list[str]) -> Stage:
    (folder / "scorer.log").write_text("card 4111 declined\n")
    log = {"file": str(folder / "scorer.log"), "as": "scorer.log", "encrypt_for": names}
    keep = {"name": "Keep the log", "id": "keep", "logs.capture": log}
    return Stage(folder, {"forensics": [keep], "execution": [step("a", {"x": 1})]}).people()


@pytest.mark.parametrize("name", ["ana", "ml-oncall"])
def test_a_person_or_a_role_of_the_roster_opens_it(tmp_path: Path, name: str) -> None:
    """Whom the playbook names, by name or by role, reads it with their SSH key, though nobody is asked for a key."""
    made = stage(tmp_path, [name])
    assert 0 == made.run().exit
    [path] = (made.state / "runs" / "RB-0001" / "evidence" / "a").glob("*.age")
    identity = pyrage.ssh.Identity.from_buffer((tmp_path / "ana").read_bytes())
    assert b"card 4111 declined\n" == pyrage.decrypt(path.read_bytes(), [identity])
    assert [] == [one for one in path.parent.rglob("*") if one.is_file() and b"4111" in one.read_bytes()]


def test_somebody_who_is_not_in_the_roster_is_a_mistake_with_its_place(tmp_path: Path) -> None:
    """It is found before anything is contacted, with the likely name."""
    said = stage(tmp_path, ["ml-oncal"]).run()
    assert 3 == said.exit
    assert "LG224" in said.text
    assert "did you mean `ml-oncall`?" in said.text
