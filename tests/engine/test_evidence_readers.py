"""Evidence for named people: from a playbook's words to a file that only they can open."""

from __future__ import annotations

import json
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


def test_a_key_that_has_lapsed_opens_nothing(tmp_path: Path) -> None:
    """Nothing is kept for a key that does not count any more: it may be somebody else's by now."""
    made = stage(tmp_path, ["ana"])
    people = json.loads((made.stock / "roster.yml").read_text())["people"]
    people[0]["keys"] = [{"key": people[0]["keys"][0], "until": "2026-01-01"}]
    (made.stock / "roster.yml").write_text(json.dumps({"people": people}))
    said = made.run()
    assert (1, True) == (said.exit, "nothing can be encrypted for ana" in said.text), said.text
    assert not [*(made.state / "runs" / "RB-0001").rglob("*.age")]


def test_who_has_left_since_the_plan_opens_nothing(tmp_path: Path) -> None:
    """Whom a role names is read from the roster when something is kept, and not from that of the plan."""
    made, plan = stage(tmp_path, ["ml-oncall"]), tmp_path / "plan.json"
    people = json.loads((made.stock / "roster.yml").read_text())["people"]
    for one in people:
        one["roles"] = ["ml-oncall"]
    (made.stock / "roster.yml").write_text(json.dumps({"people": people}))
    assert 0 == made.engine("plan", str(made.playbook), "-i", str(made.stock), "--out", str(plan)).exit
    (made.stock / "roster.yml").write_text(json.dumps({"people": people[:1]}))
    assert 0 == made.run(what=plan).exit
    [path] = (made.state / "runs" / "RB-0001" / "evidence" / "a").glob("*.age")
    ana, ben = (pyrage.ssh.Identity.from_buffer((tmp_path / name).read_bytes()) for name in ("ana", "ben"))
    assert b"card 4111 declined\n" == pyrage.decrypt(path.read_bytes(), [ana])
    with pytest.raises(pyrage.DecryptError):
        pyrage.decrypt(path.read_bytes(), [ben])
