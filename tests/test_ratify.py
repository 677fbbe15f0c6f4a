"""`engine ratify`: the second key for what one person did alone, who may give it, and the daily word until it is there."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from stage import PEOPLE, TWO_KEYS, Said, Stage, step

from engine import sshsig
from engine.cli import ratify

TELL = {"name": "Tell", "notify": {"to": "desk", "message": "{{ run.event }}"}, "on": ["break_glass", "unratified"]}


def broken(folder: Path, within: str = "2h", also: str = "", fails: bool = False) -> Stage:
    """A run that cid (chief) let through alone; cid has the role `also` as well."""
    authority = {**TWO_KEYS, "break_glass": {"role": "chief", "ratify_within": within}}
    book = {"execution": [step("a", {"x": 1})], "authority": authority, "communications": [TELL]}
    stage = Stage(folder, book).people()
    sshsig.generate(folder / "cid", "cid")
    people: list[dict[str, Any]] = [
        {"name": name, "roles": [role], "keys": [(folder / f"{name}.pub").read_text().strip()]}
        for name, role in {**PEOPLE, "cid": "chief"}.items()
    ]
    people[-1]["roles"] += [also] if also else []
    (stage.stock / "roster.yml").write_text(json.dumps({"people": people}))
    assert 5 == stage.run("--no-wait").exit
    words = ["--key", str(folder / "cid"), "--confirm", "RB-0001", "--because", "nobody answers"]
    assert 0 == stage.engine("approve", "RB-0001", "--break-glass", *words).exit
    if fails:
        stage.trouble("a", apply="breaks")
    assert int(fails) == stage.resume().exit
    return stage


def second(stage: Stage, who: str, *words: str) -> Said:
    given = ["--key", str(stage.folder / who), "--confirm", "RB-0001", "--because", "looked at it"]
    return stage.engine("ratify", "RB-0001", *given, *words)


def test_it_stays_unratified_until_a_second_person_has_looked(tmp_path: Path) -> None:
    """Status, runs and report say UNRATIFIED and until when; the second key ends that, on record."""
    stage = broken(tmp_path)
    for words in (["status"], ["runs"], ["report", "--format", "md", "--out", "-"]):
        assert "UNRATIFIED" in stage.engine(*words).text, words
    assert "next: engine ratify RB-0001" in stage.engine("status").text
    said = second(stage, "ben")
    assert 0 == said.exit, said.err
    assert "ratified by ben as fraud-risk" in said.text
    for words in (["status"], ["runs"], ["report", "--format", "md", "--out", "-"]):
        assert "UNRATIFIED" not in stage.engine(*words).text, words
    assert "ratified by ben as fraud-risk" in stage.engine("status").text
    [key] = stage.bodies("key.ratified")
    assert ("ratify", False) == (key["statement"]["decision"], key["late"])
    assert 2 == second(stage, "ana").exit, "once is enough"


@pytest.mark.parametrize(
    ("who", "also", "why"),
    [
        ("cid", "", "a second person has to look"),
        ("cid", "ml-oncall", "a second person has to look"),
        ("mallory", "", "is not in"),
    ],
)
def test_who_went_alone_does_not_ratify(who: str, also: str, why: str, tmp_path: Path) -> None:
    """Not the one who went alone, whatever their roles, and nobody outside the roster."""
    stage = broken(tmp_path, also=also)
    if who == "mallory":
        sshsig.generate(tmp_path / "mallory", "mallory")
    said = second(stage, who)
    assert (6, True) == (said.exit, why in said.text), said.text
    assert not stage.bodies("key.ratified")


def test_an_approval_does_not_ratify(tmp_path: Path) -> None:
    """A key that was given to approve, put into the record as a second one, changes nothing for the next who looks."""
    from engine import authority, roster, source
    from engine.sshsig import Refused

    stage = broken(tmp_path)
    [request], [settled], [given] = stage.bodies("key.asked"), stage.bodies("authority.settled"), stage.bodies("key.given")
    people = roster.read(source.load(stage.stock / "roster.yml"))
    alone = settled["keys"][0]
    with pytest.raises(Refused, match="does not ratify"):
        authority.ratifier(authority.asked(request), people, request, "eve", given, alone, time.time())


def test_a_run_that_nobody_went_alone_in_is_not_ratified(tmp_path: Path) -> None:
    """There is nothing to ratify where two keys were given."""
    stage = Stage(tmp_path, {"execution": [step("a", {"x": 1})], "authority": TWO_KEYS}).people()
    assert 5 == stage.run("--no-wait").exit
    stage.approve()
    assert 0 == stage.resume().exit
    said = second(stage, "ana")
    assert (2, True) == (said.exit, "let through by nobody alone" in said.text)
    assert 0 == stage.engine("ratify", "--remind").exit


def test_everybody_is_told_again_every_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past its time it is told once a day until it is ratified, which may still be done, and says that it was late."""
    stage = broken(tmp_path, within="1ms")

    def told() -> int:
        said = stage.engine("ratify", "--remind")
        assert "RB-0001 UNRATIFIED: cid went alone" in said.text
        assert 5 == said.exit
        return [one["message"] for one in stage.messages()].count("unratified")

    assert 1 == told()
    assert 1 == told(), "it was told today"
    monkeypatch.setattr(ratify, "_DAILY", 0.0)
    monkeypatch.setattr(ratify.time, "gmtime", lambda *_: time.struct_time((2030, 1, 2, 0, 0, 0, 0, 2, 0)))
    assert 2 == told()
    assert 0 == second(stage, "ana").exit
    assert stage.bodies("key.ratified")[0]["late"]
    assert "after its time" in stage.engine("status").text
    assert 0 == stage.engine("ratify", "--remind").exit
    assert 2 == [one["message"] for one in stage.messages()].count("unratified")


def test_an_undo_does_not_ratify(tmp_path: Path) -> None:
    """What one person let through alone is listed until a second one has looked, also when it was put back since."""
    stage = broken(tmp_path)
    assert 5 == stage.undo("--no-wait").exit
    stage.approve()
    assert 0 == stage.undo().exit
    assert "UNDONE UNRATIFIED" in stage.engine("runs").out
    assert 5 == stage.engine("ratify", "--remind").exit
    assert 0 == second(stage, "ana").exit
    assert 0 == stage.engine("ratify", "--remind").exit


def test_who_goes_on_after_it_was_ratified_asks_for_no_more(tmp_path: Path) -> None:
    """The end of a run that was taken up again says nothing of a glass that a second person has looked at."""
    stage = broken(tmp_path, fails=True)
    assert 0 == second(stage, "ben").exit
    stage.trouble("a")
    assert 0 == stage.resume().exit
    assert "UNRATIFIED" not in stage.engine("runs").out
    assert 0 == stage.engine("ratify", "--remind").exit


def test_a_cancel_does_not_ratify(tmp_path: Path) -> None:
    """Nor does the end that a cancel writes of a run whose process is dead."""
    stage = broken(tmp_path)
    with stage.store() as store:  # it was taken up again, and killed
        store.append("RB-0001", "run.resumed", {"by": "cid"})
    assert 0 == stage.engine("cancel", "RB-0001", "--as", "cid").exit
    assert "CANCELLED UNRATIFIED" in stage.engine("runs").out
    assert 5 == stage.engine("ratify", "--remind").exit


def test_one_run_of_which_nobody_can_be_told_silences_no_other(tmp_path: Path) -> None:
    """Its playbook's folder is gone, or it is being run: that is said, and the others are told of."""
    stage = broken(tmp_path, within="1ms")
    assert 5 == stage.run("--no-wait").exit
    words = ["--key", str(tmp_path / "cid"), "--confirm", "RB-0002", "--because", "nobody answers"]
    assert 0 == stage.engine("approve", "RB-0002", "--break-glass", *words).exit
    assert 0 == stage.resume().exit
    with stage.store() as store:
        store.claim("RB-0001")
        said = stage.engine("ratify", "--remind")
    assert (5, True) == (said.exit, "RB-0001: nobody was told: RB-0001 is being run by" in said.text), said.text
    assert "RB-0002 UNRATIFIED" in said.text
    assert 1 == [one["message"] for one in stage.messages()].count("unratified")


def test_within_its_time_nobody_is_reminded(tmp_path: Path) -> None:
    """Until the second key is due it is listed, and no message is sent."""
    stage = broken(tmp_path)
    assert 5 == stage.engine("ratify", "--remind").exit
    assert ["break_glass"] == [one["message"] for one in stage.messages()]
