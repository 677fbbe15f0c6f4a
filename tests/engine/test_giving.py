"""What a person sees who is about to sign: read from the signed bytes, in one order, with nothing hostile left alive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from signing import NOW, RULES, said
from stage import TWO_KEYS, Stage, look, step

from engine import canon
from engine.cli import giving

FACTS: dict[str, Any] = {
    "playbook": "Roll back fraud-scorer", "strategy": "version", "hosts": 7, "where": [f"fraud{i}" for i in range(1, 8)],
    "now": {"version": "47"}, "back_to": {"version": "46", "digest": "sha256:" + "46" * 32},
    "because": ["fraud1 fp_rate: 4.3 % over 2.5 %"], "no_undo": ["purge_cache"],
    "evidence": {"done": 12, "of": 14, "failed": ["fraud2 forensics/logs"]}, "began": NOW - 130,
}  # fmt: skip


def shown(**changed: Any) -> str:
    """The lines, made from the canonical bytes that would be signed."""
    signed = canon.dumps(said(RULES["two"], "ana", "ml-oncall", **{"facts": FACTS, **changed}))
    return "\n".join(giving.shown(canon.loads(signed)))


def test_the_lines_stand_in_one_order() -> None:
    """What, where, from and to, why, what has no undo, the evidence so far, the cost of waiting, who asks."""
    assert (
        "Key for RB-0142, as ana (ml-oncall).   Plan 7f7f7f7f7f7f7\n"
        "  will do   Roll back fraud-scorer (version)\n"
        "  where     production: fraud1, fraud2, fraud3, fraud4, fraud5 and 2 more\n"
        "  version   47 -> 46\n"
        "  to is     sha256:4646464646464646\n"
        "  because   fraud1 fp_rate: 4.3 % over 2.5 %\n"
        "  no undo   purge_cache\n"
        "  evidence  12 of 14 pieces are kept; nothing is changed before all of them are; failed: fraud2 forensics/logs\n"
        "  waiting   47 goes on serving on 7 hosts, 3m10s since the run began; at 11:36:40Z it lapses, which means no\n"
        "  asked by  zoe\n"
        "  your word customers confirm\n"
        "  ticket    INC-7"
    ) == shown()


CHOOSE = {"name": "Choose", "id": "choose", "register": "target", "last_good": {"of": "thing", "with": {"name": "model"}}}

HOSTILE = {
    "ANSI": ("\x1b[2J\x1b[1;32mall is well\x1b[0m", "\\u001b[2J\\u001b[1;32mall is well\\u001b[0m"),
    "a line of its own": ("46\n  evidence  all kept", "46\\u000a  evidence  all kept"),
    "carriage return": ("47\rsafe", "47\\u000dsafe"),
    "bidi": ("46\u202e74", "46\\u202e74"),
    "zero width": ("4\u200b6", "4\\u200b6"),
    "line separator": ("46\u2028yes", "46\\u2028yes"),
    "delete and C1": ("46\x7f\x9b31m", "46\\u007f\\u009b31m"),
    "private use": ("46\ue000", "46\\ue000"),
    "10 kB": ("x" * 10_000, "x" * 79 + "…"),
}
PLACES = [
    "playbook",
    "strategy",
    "where",
    "now",
    "back_to",
    "changes",
    "because",
    "no_undo",
    "evidence",
    "requester",
    "environment",
]


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("place", PLACES)
def test_hostile_names_are_escaped(hostile: str, place: str) -> None:
    """No name from outside moves the cursor, adds a line, turns the text round or fills the screen."""
    bad, good = HOSTILE[hostile]
    new: Any = {
        "where": [bad], "changes": [bad], "now": {"version": bad}, "back_to": {"version": bad}, "because": [bad],
        "no_undo": [bad], "evidence": {"done": 0, "of": 1, "failed": [bad]},
    }.get(place, bad)  # fmt: skip
    changed = {place: new} if place in ("requester", "environment") else {"facts": {**FACTS, place: new}}
    text = shown(**changed)
    assert 12 + (place == "changes") == len(text.splitlines())
    assert text.replace("\n", "").isprintable()
    assert good[:70] in text
    assert max(map(len, text.splitlines())) < 330


def test_a_fact_of_another_shape_does_not_stop_the_reading() -> None:
    """Facts of an earlier version, or of an undo, are shown as far as they go."""
    assert "undo RB-0007" in shown(facts={"act": "undo RB-0007", "playbook": "x", "strategy": "version", "hosts": 1})
    assert "3 hosts" in shown(facts={"playbook": "x", "hosts": 3})
    assert json.dumps(FACTS["where"][0])[1:-1] in shown()


def screen(stage: Stage) -> str:
    """What ben is shown who is about to give a key to the newest run."""
    assert 5 == stage.run("--no-wait").exit
    return stage.engine("approve", "--key", str(stage.folder / "ben"), "--confirm", "nothing").text


def test_what_is_about_to_change_is_shown_of_every_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A playbook that chooses no version says what it changes all the same; hosts that differ are told apart."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    play = {
        "execution": [step("model", {"version": "v2"}), step("later", {"x": 1}, when="model.changed")],
        "authority": TWO_KEYS,
    }
    play["execution"][0]["register"] = "model"  # type: ignore[index]
    stage = Stage(tmp_path, play, ("a", "b", "c")).people()
    for host, version in (("a", "v3"), ("b", "v3"), ("c", "v1")):
        stage.have("model", {"version": version}, host)
    text = screen(stage)
    for told in ("model: version v3 -> v2 on a, b", "model: version v1 -> v2 on c", "later: x nothing -> 1 on a, b, c"):
        assert f"changes {told} " in text, text


def test_that_another_version_may_follow_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the playbook goes to the next best version when the checks are not met, the key lets that happen too."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    execution = [CHOOSE, step("model", {"version": "{{ target.version }}"})]
    checks = {"on_failure": "next", "steps": [look("model", {"version": "v2"})]}
    stage = Stage(tmp_path, {"execution": execution, "verification": checks, "authority": TWO_KEYS}).people()
    stage.have("model", {"version": "v3"})
    assert "version v3 -> v2, and to the next best where its checks are not met" in screen(stage)


def test_a_saved_plan_does_not_say_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks may write anything into the file: what a person is shown was read when the run began."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    execution = [CHOOSE, step("model", {"version": "{{ target.version }}"}, thing={"lasting": True})]
    stage = Stage(tmp_path, {"execution": execution, "authority": TWO_KEYS}).people()
    stage.have("model", {"version": "v3"})
    assert 0 == stage.engine("plan", str(stage.playbook), "-i", str(stage.stock), "--out", str(tmp_path / "plan.json")).exit
    plan = json.loads((tmp_path / "plan.json").read_text())
    plan["preview"] |= {"now": {"version": "v9"}, "back_to": {"version": "v8"}, "steps": []}
    plan["preview"]["trigger"] = [{"id": "t", "met": True, "why": "everybody is hit", "host": "a"}]
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    assert 5 == stage.run("--no-wait", what=tmp_path / "plan.json").exit, "what is shown is no part of the digest"
    text = stage.engine("approve", "--key", str(stage.folder / "ben"), "--confirm", "nothing").text
    assert "version v3 -> v2 changes model: version v3 -> v2 on a no undo model" in text, text
    assert "everybody is hit" not in text
