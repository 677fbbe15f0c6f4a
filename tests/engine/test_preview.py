"""A plan against the live state: what would change, how sure that is, and that nothing is changed by looking."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from stage import TWO_KEYS, Stage, look, step

from engine.cli import running


def previewed(stage: Stage, *words: str) -> dict[str, dict[str, Any]]:
    """Step -> its row of `engine plan --json` on the first host."""
    said = stage.plan("--json", *words)
    assert 0 == said.exit, said.err
    assert not stage.effects(), "a plan changes nothing"
    assert not stage.state.exists(), "and leaves no store behind"
    rows = json.loads(said.out)["preview"]["changes"]
    return {row["step"].partition("/")[2]: row for row in rows if row["host"] == rows[0]["host"]}


def play(tmp: Path, *steps: dict[str, Any], **more: Any) -> Stage:
    return Stage(tmp, {"execution": list(steps), **more})


def test_each_change_as_before_and_after(tmp_path: Path) -> None:
    """Every step that acts shows its change key by key, and whether it can be undone."""
    stage = play(
        tmp_path, step("w", {"x": 1, "y": 2}), step("m", {"x": 1}, thing={"lasting": True}), verification=[look("w")]
    )
    stage.have("w", {"x": 0, "y": 2})
    rows = previewed(stage)
    assert [["x", 0, 1]] == rows["w"]["change"]
    assert ("exact", "automatic") == (rows["w"]["grade"], rows["w"]["undo"])
    assert ([["x", None, 1]], "NONE") == (rows["m"]["change"], rows["m"]["undo"])
    assert ("read-only", None) == (rows["see_w"]["grade"], rows["see_w"]["change"])


@pytest.mark.parametrize(
    ("steps", "grades"),
    [
        ([step("w", {"x": 1}), step("v", {"x": 1})], "exact exact"),
        ([step("w", {"x": 1}), step("v", {"x": 2}, thing={"name": "w"})], "exact estimate"),
        ([step("w", {"x": 1}), step("v", {"x": 0}, thing={"name": "w"})], "exact estimate"),
        ([step("w", {"x": 1}, register="it"), step("v", {"x": "{{ it.x }}"})], "exact estimate"),
        ([{**look("w"), "register": "it"}, step("v", {"x": "{{ it.met }}"})], "read-only exact"),
        ([step("w", {"x": 1}), step("v", {"x": 1}, loop=["p"])], "exact known later"),
        ([step("w", {"x": 1}), step("v", {"x": 1}, when="false")], "exact exact"),
        ([step("w", {"x": 1}, register="it"), step("v", {"x": 1}, when="not it.changed")], "exact estimate"),
    ],
)
def test_how_sure_a_preview_is(tmp_path: Path, steps: list[dict[str, Any]], grades: str) -> None:
    """Exact, an estimate where an earlier change may matter, known later where it cannot be said."""
    stage = play(tmp_path, *steps)
    stage.have("w", {"x": 0})
    rows = previewed(stage)
    assert grades == " ".join(row["grade"] for row in rows.values())


def test_what_cannot_be_read(tmp_path: Path) -> None:
    """A step that cannot be read says so; it is never called unchanged."""
    stage = play(tmp_path, step("w", {"x": 1}), step("v", {"x": 1}))
    stage.trouble("w", read="unreachable")
    rows = previewed(stage)
    assert ("NOT PREVIEWABLE", "w does not answer") == (rows["w"]["grade"], rows["w"]["why"])
    assert "exact" == rows["v"]["grade"]


def test_a_result_that_is_foreseen(tmp_path: Path) -> None:
    """What a step would register is foreseen, so that later steps can be previewed with it."""
    stage = play(tmp_path, step("w", {"x": 7}, register="it"), step("v", {"x": "{{ it.x }}", "c": "{{ it.changed }}"}))
    assert [["c", None, True], ["x", None, 7]] == previewed(stage)["v"]["change"]


def test_the_trigger_is_looked_at(tmp_path: Path) -> None:
    """A plan shows what the trigger says, and why."""
    stage = play(tmp_path, step("w", {"x": 1}), trigger={"any": [look("one", {"on": 1})]})
    rows = previewed(stage)
    assert (False, "it is {}") == (rows["see_one"]["met"], rows["see_one"]["why"])
    stage.have("one", {"on": 1})
    assert previewed(stage)["see_one"]["met"]


def test_exit_codes(tmp_path: Path) -> None:
    """--detailed-exitcode tells a plan with changes from one without."""
    stage = play(tmp_path, step("w", {"x": 1}))
    assert 0 == stage.plan().exit
    assert 10 == stage.plan("--detailed-exitcode").exit
    stage.have("w", {"x": 1})
    assert 0 == stage.plan("--detailed-exitcode").exit


def test_a_plan_after_a_run_is_empty(tmp_path: Path) -> None:
    """On an unchanged world nothing is left to change."""
    stage = play(tmp_path, step("w", {"x": 1}), step("v", {"y": 1}))
    assert 0 == stage.run().exit
    said = stage.plan("--detailed-exitcode", "--json")
    assert 0 == said.exit
    assert [[], []] == [row["change"] for row in json.loads(said.out)["preview"]["changes"]]


def test_digest(tmp_path: Path) -> None:
    """The same playbook, inventory and world give the same digest anywhere; each of the three changes it."""
    book = {"execution": [step("w", {"x": "{{ colour }}"})]}
    digests = []
    for name, variables, fields in (("a", "red", 0), ("b", "red", 0), ("c", "blue", 0), ("d", "red", 1)):
        stage = Stage(tmp_path / name, book, colour=variables)
        stage.have("w", {"x": fields})
        digests.append(json.loads(stage.plan("--json").out)["digest"])
    assert digests[0] == digests[1]
    assert 3 == len(set(digests))


# -- a plan that was saved
def saved(tmp_path: Path, *steps: dict[str, Any], **more: Any) -> tuple[Stage, Path]:
    stage = play(tmp_path, *(steps or (step("w", {"x": 1}), step("v", {"x": 1}))), **more)
    path = tmp_path / "rb.plan"
    assert 0 == stage.plan("--out", str(path)).exit
    return stage, path


def test_a_saved_plan(tmp_path: Path) -> None:
    """A saved plan is done exactly, once."""
    stage, path = saved(tmp_path)
    assert 0 == stage.run(what=path).exit
    said = stage.run(what=path)
    assert 7 == said.exit
    assert "this plan was used by RB-0001" in said.text
    assert 2 == len(stage.effects())


def test_two_at_once_use_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else uses the plan after everything was looked at and before the run begins: it is refused all the same."""
    stage, path = saved(tmp_path)
    evidence, others = running.evidence, list[int]()

    def meanwhile(*words: Any) -> Any:
        if not others:
            others.append(-1)
            others[0] = stage.run(what=path).exit
        return evidence(*words)

    monkeypatch.setattr(running, "evidence", meanwhile)
    said = stage.run(what=path)
    assert ([0], 7) == (others, said.exit)
    assert "this plan was used by RB-0001" in said.text
    assert 2 == len(stage.effects())


def test_a_check_does_not_use_it_up(tmp_path: Path) -> None:
    """A plan that was only walked in check mode can still be run."""
    stage, path = saved(tmp_path)
    assert 0 == stage.run("--check", what=path).exit
    assert 0 == stage.run(what=path).exit


@pytest.mark.parametrize("move", ["other", "already there", "gone"])
def test_the_world_has_moved(tmp_path: Path, move: str) -> None:
    """A saved plan is refused with exit 7, naming what moved, and nothing is changed."""
    stage = play(tmp_path, step("first", {"x": 1}), step("w", {"x": 1}))
    stage.have("w", {"x": 0})
    path = tmp_path / "rb.plan"
    assert 0 == stage.plan("--out", str(path)).exit
    stage.have("w", {"other": {"x": 7}, "already there": {"x": 1}, "gone": None}[move])
    said = stage.run(what=path)
    assert 7 == said.exit
    assert "a execution/w has moved: the plan says x 0 -> 1" in said.text
    assert "nothing was changed" in said.text
    assert not stage.effects()


def test_it_lapses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan is good for half an hour."""
    stage, path = saved(tmp_path)
    monkeypatch.setattr("engine.cli.run.GOOD_FOR", -1.0)
    said = stage.run(what=path)
    assert 7 == said.exit
    assert "engine plan makes a new one" in said.text


@pytest.mark.parametrize(
    ("what", "named"), [("playbook", "play.yml"), ("module", "the module `thing`"), ("removed", "play.yml")]
)
def test_what_it_was_made_of_has_changed(tmp_path: Path, what: str, named: str) -> None:
    """A plan whose playbook or module was edited is refused by name with exit 7."""
    stage, path = saved(tmp_path)
    if what == "playbook":
        stage.playbook.write_text(stage.playbook.read_text() + "\n# edited")
    elif what == "removed":
        stage.playbook.unlink()
    else:
        module = stage.base / "modules" / "thing.py"
        module.write_text(module.read_text() + "\n# edited")
    said = stage.run(what=path)
    assert 7 == said.exit
    assert named in said.text
    assert not stage.effects()


@pytest.mark.parametrize("edit", ["digest", "change", "text", "wanted"])
def test_it_cannot_be_edited(tmp_path: Path, edit: str) -> None:
    """A plan that was edited by hand is refused: its digest is over all that decides what is done."""
    stage, path = saved(tmp_path)
    document = json.loads(path.read_text())
    if edit == "digest":
        document["digest"] = "sha256:" + "0" * 64
    elif edit == "text":
        document["texts"]["play.yml"] = document["texts"]["play.yml"].replace('"x": 1', '"x": 2')
    elif edit == "wanted":
        document["preview"]["changes"][0]["wanted"] = None
    else:
        document["preview"]["changes"][0]["change"] = []
    path.write_text(json.dumps(document))
    said = stage.run(what=path)
    assert said.exit in (3, 7)
    assert not stage.effects()


@pytest.mark.parametrize("words", [["-e", "x=1"], ["--limit", "a"], ["--tags", "t"], ["--skip-tags", "t"], ["-i", "there"]])
def test_options_that_would_be_in_vain(tmp_path: Path, words: list[str]) -> None:
    """What a saved plan has settled already is refused beside it, instead of being passed over."""
    stage, path = saved(tmp_path)
    said = stage.run(*words, what=path)
    assert 2 == said.exit
    assert "a saved plan is run as it is" in said.text


def test_keys_are_for_what_was_seen(tmp_path: Path) -> None:
    """Keys are bound to the plan with its preview: another world is another plan."""
    stage = play(tmp_path, step("w", {"x": 1}), authority=TWO_KEYS).people()
    assert 5 == stage.run("--no-wait").exit
    stage.have("w", {"x": 5})
    assert 5 == stage.run("--no-wait").exit
    first, second = (stage.entries(run, "key.asked")[0].body["digest"] for run in ("RB-0001", "RB-0002"))
    assert first != second


def test_not_a_plan(tmp_path: Path) -> None:
    """Another JSON file is no plan, and neither is an old one of another format."""
    stage, path = saved(tmp_path)
    path.write_text(path.read_text().replace("lastgood.plan/1", "lastgood.plan/0"))
    said = stage.run(what=path)
    assert said.exit in (3, 7)
    assert "plan of this engine" in said.text
