"""Undo: last change first, looking before each, stopping where somebody else has been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stage import TWO_KEYS, Stage, look, step

from engine import walk


def played(tmp: Path, *steps: dict[str, Any], before: dict[str, Any] | None = None, **more: Any) -> Stage:
    """A stage on which these steps have been run; `before`: what the things were."""
    stage = Stage(tmp, {"execution": list(steps), **more})
    for name, fields in (before or {}).items():
        stage.have(name, fields)
    assert 0 == stage.run().exit
    return stage


def undone(stage: Stage) -> list[str]:
    """What became of each step, in the order in which it was put back: `b undone`."""
    return [f"{entry.step.partition('/')[2]} {entry.body['outcome']}" for entry in stage.entries("RB-0001", "undo.outcome")]


def test_last_change_first(tmp_path: Path) -> None:
    """Changes are put back in reverse order, each read again, and the run is undone."""
    stage = played(
        tmp_path, step("a", {"x": 1}), step("b", {"x": 1}), step("c", None), before={"b": {"x": 0}, "c": {"y": 2}}
    )
    said = stage.undo()
    assert 0 == said.exit
    assert ["c undone", "b undone", "a undone"] == undone(stage)
    assert (None, {"x": 0}, {"y": 2}) == (stage.thing("a"), stage.thing("b"), stage.thing("c"))
    assert "undone" == stage.ended["outcome"]
    assert "a execution/b: back to x 0" in said.text


def test_again_does_no_harm(tmp_path: Path) -> None:
    """A second undo finds nothing to put back, and an undone run is not taken up again."""
    stage = played(tmp_path, step("a", {"x": 1}), before={"a": {"x": 0}})
    assert 0 == stage.undo().exit
    said = stage.undo()
    assert 0 == said.exit
    assert "has left nothing to put back" in said.text
    assert 0 == stage.resume().exit
    assert {"x": 0} == stage.thing("a")
    assert 2 == len(stage.effects())


def test_what_is_back_already(tmp_path: Path) -> None:
    """What somebody has put back is left alone and said to be unchanged."""
    stage = played(tmp_path, step("a", {"x": 1}), before={"a": {"x": 0}})
    stage.have("a", {"x": 0})
    assert 0 == stage.undo().exit
    assert ["a unchanged"] == undone(stage)
    assert 1 == len(stage.effects())


@pytest.mark.parametrize("now", [{"x": 5}, {"x": 1, "y": 9}, None])
def test_somebody_else_was_there(tmp_path: Path, now: Any) -> None:
    """Where the world shows neither what was nor what this run left, undo stops with exit 7 and names it."""
    stage = played(tmp_path, step("first", {"x": 1}), step("a", {"x": 1, "y": 1}), before={"a": {"x": 0, "y": 0}})
    stage.have("a", now)
    said = stage.undo()
    assert 7 == said.exit
    assert ["a drifted"] == undone(stage)
    assert "somebody has changed it since" in said.text
    assert ("it is gone" if now is None else "as this run left it") in said.text
    assert now == stage.thing("a")
    assert {"x": 1} == stage.thing("first"), "what was done before it stays until somebody has looked"
    stage.have("a", {"x": 1, "y": 1})
    assert 0 == stage.undo().exit, "put right, it goes on"
    assert ["a drifted", "a undone", "first undone"] == undone(stage)


def test_a_field_that_is_not_ours(tmp_path: Path) -> None:
    """What somebody else changed beside our fields is none of undo's business, and stays."""
    stage = played(tmp_path, step("a", {"x": 1}), before={"a": {"x": 0, "theirs": 1}})
    stage.have("a", {"x": 1, "theirs": 2})
    assert 0 == stage.undo().exit
    assert {"x": 0, "theirs": 2} == stage.thing("a")


def test_a_part_of_our_own_change(tmp_path: Path) -> None:
    """What a step left half done is ours, and is put back as a whole."""
    stage = Stage(tmp_path, {"execution": [step("a", {"x": 1, "y": 1})]})
    stage.have("a", {"x": 0, "y": 0})
    stage.trouble("a", apply="half")
    assert 1 == stage.run().exit
    assert {"x": 1, "y": 0} == stage.thing("a")
    stage.trouble("a")
    assert 0 == stage.undo().exit
    assert {"x": 0, "y": 0} == stage.thing("a")


def test_over_all_tries(tmp_path: Path) -> None:
    """Undo goes back to before the first try, however many there were."""
    stage = Stage(tmp_path, {"execution": [step("a", {"x": 1, "y": 1}, retries=2, delay="1ms")]})
    stage.have("a", {"x": 0, "y": 0})
    stage.trouble("a", apply=["half", 2])
    assert 0 == stage.run().exit
    assert 0 == stage.undo().exit
    assert {"x": 0, "y": 0} == stage.thing("a")


def test_set_and_reset(tmp_path: Path) -> None:
    """Two changes of one thing are walked back one after the other."""
    steps = step("off", {"w": 0}, thing={"name": "gate"}), step("on", {"w": 50}, thing={"name": "gate"})
    stage = played(tmp_path, *steps, before={"gate": {"w": 100}})
    assert 0 == stage.undo().exit
    assert ["0", "50", "0", "100"] == [line.rpartition(" ")[2][:-1] for line in stage.effects()]


def test_a_loop(tmp_path: Path) -> None:
    """Items are put back one by one, the last first, with the parameters of their item."""
    each = {"name": "Each", "id": "each", "loop": "{{ names }}", "thing": {"name": "{{ item }}", "fields": {"x": 1}}}
    stage = Stage(tmp_path, {"execution": [each], "vars": {"names": ["p", "q"]}})
    assert 0 == stage.run().exit
    assert 0 == stage.undo().exit
    assert ["each[1] undone", "each[0] undone"] == undone(stage)
    assert (None, None) == (stage.thing("p"), stage.thing("q"))


def test_with_the_results_of_then(tmp_path: Path) -> None:
    """A step is undone with the results that it was done with."""
    stage = played(
        tmp_path, {**look("wish"), "register": "wish"}, step("a", {"x": "{{ wish.value.x }}"}), before={"wish": {"x": 3}}
    )
    stage.have("wish", {"x": 4})
    assert 0 == stage.undo().exit
    assert stage.thing("a") is None


def test_evidence_stays(tmp_path: Path) -> None:
    """Evidence is not unmade."""
    stage = played(tmp_path, step("a", {"x": 1}), forensics=[step("keep", {"x": 1})])
    assert 0 == stage.undo().exit
    assert {"x": 1} == stage.thing("keep")
    assert stage.thing("a") is None


def test_what_has_no_undo_is_named(tmp_path: Path) -> None:
    """Steps without an undo are named before and after, and do not keep the others from being put back."""
    stage = played(tmp_path, step("a", {"x": 1}), step("mail", {"x": 1}, thing={"lasting": True}))
    said = stage.undo()
    assert 0 == said.exit
    assert "a execution/mail: has no undo and stays as it is" in said.text
    assert "undone by eve; without an undo, and as the run left them: a execution/mail" == stage.ended["why"]
    assert (None, {"x": 1}) == (stage.thing("a"), stage.thing("mail"))


def test_nothing_can_be_put_back(tmp_path: Path) -> None:
    """Where no change has an undo, undo says so with exit 1 and calls nothing undone."""
    stage = played(tmp_path, step("mail", {"x": 1}, thing={"lasting": True}))
    said = stage.undo()
    assert 1 == said.exit
    assert "has changed nothing that could be put back" in said.text
    assert "succeeded" == stage.ended["outcome"]


def test_no_log(tmp_path: Path) -> None:
    """What was kept as a digest cannot be put back, and the person who has to do it is told."""
    stage = played(tmp_path, step("a", {"x": 1}, no_log=True), before={"a": {"x": 0}})
    said = stage.undo()
    assert 1 == said.exit
    assert "put it back by hand" in said.text
    assert "cannot be put back" in said.text


@pytest.mark.parametrize("trouble", [{"undo": "breaks"}, {"read": "unreadable"}])
def test_an_undo_that_fails(tmp_path: Path, trouble: dict[str, Any]) -> None:
    """An undo that does not work is failed with its reason, and can be repeated."""
    stage = played(tmp_path, step("first", {"x": 1}), step("a", {"x": 1}), before={"a": {"x": 0}})
    stage.trouble("a", **trouble)
    said = stage.undo()
    assert 1 == said.exit
    assert ["a failed"] == undone(stage)
    assert ("it would not go back" if "undo" in trouble else "a cannot be read") in said.text
    stage.trouble("a")
    assert 0 == stage.undo().exit
    assert ({"x": 0}, None) == (stage.thing("a"), stage.thing("first"))


@pytest.mark.parametrize(("how", "code", "times"), [("kill -9 $PPID", 0, 1), ("kill -9 $$", 0, 1), ("exit 3", 0, 2)])
def test_what_nobody_can_read_is_not_put_back_twice(tmp_path: Path, how: str, code: int, times: int) -> None:
    """An undo of class D that was cut off, or whose end nobody knows, is left to a person; one that was refused is not."""
    marks = tmp_path / "marks"
    argv, undo = ["sh", "-c", "true"], ["sh", "-c", f"echo back >> {marks}; test $(wc -l < {marks}) -gt 1 || {how}"]
    blind = {"name": "Blind", "id": "blind", "command": {"argv": argv, "once": True, "undo": undo}}
    stage = played(tmp_path / "stage", step("first", {"x": 1}), blind)
    stage.process("undo", "-y", "RB-0001").communicate(timeout=60)
    said = stage.undo("RB-0001")
    assert (code, "back\n" * times) == (said.exit, marks.read_text())
    if times == 1:
        assert ({"blind none", "first undone"}, None) == (set(undone(stage)[-2:]), stage.thing("first"))
        assert "put back execution/blind on a by hand: nothing shows whether it was put back" in said.text


def test_a_run_does_not_go_on_where_nobody_knows_what_its_undo_did(tmp_path: Path) -> None:
    """An undo was cut off in a step that nobody can read: it may be back, and may not. A person has to look."""
    marks = tmp_path / "marks"
    argv, undo = ["sh", "-c", f"echo forth >> {marks}"], ["sh", "-c", f"echo back >> {marks}; kill -9 $PPID"]
    blind = {"name": "Blind", "id": "blind", "command": {"argv": argv, "once": True, "undo": undo}}
    stage = Stage(tmp_path / "stage", {"execution": [step("first", {"x": 1}), blind, step("last", {"x": 1})]})
    stage.trouble("last", apply="breaks")
    assert 1 == stage.run().exit
    stage.process("undo", "-y", "RB-0001").communicate(timeout=60)
    stage.trouble("last")
    said = stage.resume()
    assert 6 == said.exit
    assert "an undo of RB-0001 was cut off in execution/blind on a, and nothing shows whether that is back" in said.text
    assert 0 == stage.undo().exit  # puts back the rest
    assert ("forth\nback\n", None) == (marks.read_text(), stage.thing("first"))


def test_what_was_never_done(tmp_path: Path) -> None:
    """A step that failed without changing anything is unchanged in the undo."""
    stage = Stage(tmp_path, {"execution": [step("first", {"x": 1}), step("a", {"x": 1})]})
    stage.have("a", {"x": 0})
    stage.trouble("a", apply="breaks")
    assert 1 == stage.run().exit
    assert 0 == stage.undo().exit
    assert ["a unchanged", "first undone"] == undone(stage)


def test_nobody_knows_whether_it_was_done(tmp_path: Path) -> None:
    """What nothing can show after a crash is not called unchanged: it is named, and a person looks."""
    stage = Stage(tmp_path, {"execution": [step("first", {"x": 1}), step("a", {"x": 1}, thing={"crash": "D"})]})
    stage.trouble("a", apply="blinds")
    assert 1 == stage.run().exit
    stage.trouble("a")
    said = stage.undo()
    assert ["a none", "first undone"] == undone(stage)
    assert "nothing shows whether it was done" in said.text
    assert "execution/a" in stage.ended["why"]


def test_on_the_way_forward_again(tmp_path: Path) -> None:
    """A resume after an undo that stopped half-way does again what had been put back, and verifies again."""
    steps = step("first", {"x": 1}), step("a", {"x": 1})
    stage = Stage(tmp_path, {"execution": list(steps), "verification": [look("a", {"x": 1}), look("flag", {"on": True})]})
    assert 4 == stage.run().exit
    stage.have("flag", {"on": True})
    stage.trouble("first", undo="breaks")
    assert 1 == stage.undo().exit
    assert ["a undone", "first failed"] == undone(stage)
    assert stage.thing("a") is None
    assert 0 == stage.resume().exit
    assert {"x": 1} == stage.thing("a"), "it does not count as done"
    assert 2 == sum(entry.step.endswith("see_a") for entry in stage.entries(kind="step.outcome")), "nor as verified"


def test_keys(tmp_path: Path) -> None:
    """Undo asks for the keys that the run needed, because it brings back what was replaced; once for one undo."""
    stage = Stage(tmp_path, {"execution": [step("a", {"x": 1})], "authority": TWO_KEYS}).people()
    assert 5 == stage.run("--no-wait").exit
    stage.approve()
    assert 0 == stage.resume().exit
    assert 5 == stage.undo("--no-wait").exit
    assert {"x": 1} == stage.thing("a")
    stage.approve("ana")
    assert 5 == stage.undo("--no-wait").exit
    stage.approve("ben")
    assert 0 == stage.undo("--no-wait").exit
    assert stage.thing("a") is None
    assert 2 == len(stage.entries(kind="key.asked"))


def test_keys_refused(tmp_path: Path) -> None:
    """A no to the undo leaves everything as it is, with exit 6."""
    stage = Stage(tmp_path, {"execution": [step("a", {"x": 1})], "authority": TWO_KEYS}).people()
    assert 5 == stage.run("--no-wait").exit
    stage.approve()
    assert 0 == stage.resume().exit
    assert 5 == stage.undo("--no-wait").exit
    assert 0 == stage.engine("reject", "RB-0001", "--key", str(tmp_path / "ana"), "--because", "no").exit
    assert 6 == stage.undo("--no-wait").exit
    assert {"x": 1} == stage.thing("a")


def test_the_keys_of_the_run_do_not_undo_it(tmp_path: Path) -> None:
    """Keys are given for one act: those of the run say nothing about its undo."""
    stage = Stage(tmp_path, {"execution": [step("a", {"x": 1})], "authority": TWO_KEYS}).people()
    assert 5 == stage.run("--no-wait").exit
    stage.approve()
    assert 0 == stage.resume().exit
    with stage.store() as store:
        for entry in stage.entries(kind="key.given"):
            store.append("RB-0001", "key.given", entry.body)
    assert 5 == stage.undo("--no-wait").exit
    with stage.store() as store:
        for entry in stage.entries(kind="key.given")[:2]:
            store.append("RB-0001", "key.given", entry.body)
    assert 5 == stage.undo("--no-wait").exit
    assert {"x": 1} == stage.thing("a")


def test_a_host_that_was_put_back_is_through(tmp_path: Path) -> None:
    """A resume for other hosts does not begin a host anew that the playbook's own remedy has put back."""
    steps = [step("a", {"x": 1}), step("b", {"x": 1}, on_failure="undo")]
    stage = Stage(tmp_path, {"execution": steps, "max_failed": 2}, ["h1", "h2"])
    stage.trouble("b", "h1", apply="breaks")
    stage.trouble("a", "h2", apply="breaks")
    assert 1 == stage.run().exit
    assert stage.thing("a", "h1") is None
    stage.trouble("b", "h1")
    stage.trouble("a", "h2")
    count = len(stage.effects("h1"))
    assert 1 == stage.resume().exit, "a run of which a part was undone has not succeeded"
    assert count == len(stage.effects("h1"))
    assert {"x": 1} == stage.thing("b", "h2")


def test_the_record_of_an_undo(tmp_path: Path) -> None:
    """Undo journals its own intent before each effect, and the change that it made."""
    stage = played(tmp_path, step("a", {"x": 1}), before={"a": {"x": 0}})
    stage.undo()
    kinds = [entry.kind for entry in stage.entries() if entry.kind.startswith("undo.")]
    assert ["undo.started", "undo.intent", "undo.outcome", "undo.ended"] == kinds
    (outcome,) = stage.bodies("undo.outcome")
    assert {"before": {"x": 1}, "after": {"x": 0}} == outcome["change"]
    assert {"before": {"x": 0}, "after": {"x": 1}} == stage.bodies("undo.intent")[0]["change"]


def test_what_a_later_candidate_did_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that leaves a receipt was done under the key of its own candidate, and is undone under that."""
    told = ["sh", "-c"]
    command = {"argv": [*told, "echo done >> said"], "once": True, "undo": [*told, "echo undone >> said"]}
    stage = Stage(tmp_path, {"execution": [{"name": "Say", "id": "say", "command": command}]})
    monkeypatch.setattr(walk.Walk, "__init__", _second(walk.Walk.__init__))
    assert 0 == stage.run().exit
    assert 0 == stage.undo().exit
    assert ["done", "undone"] == (stage.base / "said").read_text().split()


def _second(make: Any) -> Any:
    """Makes hosts that are at their second candidate."""

    def made(self: walk.Walk, *given: Any) -> None:
        make(self, *given)
        self.generation = 2

    return made


def test_what_one_host_did_for_all_is_known_to_the_others(tmp_path: Path) -> None:
    """A step that mentions the result of a `run_once` step is put back where another host did that."""
    once = step("one", {"x": 1}, thing={"shared": True}, run_once=True, register="r")
    stage = Stage(tmp_path, {"execution": [once, step("two", {"x": "{{ r.x }}"})]}, ("a", "b", "c"))
    assert 0 == stage.run().exit
    assert {"shared/one", "a/two", "b/two", "c/two"} == {place for place, is_ in stage.things().items() if is_}
    said = stage.undo()
    assert 0 == said.exit, said.err
    assert [] == [place for place, is_ in stage.things().items() if is_]
