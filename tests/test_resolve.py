"""`engine resolve`: what a person says of a step that nobody can read, on record, and what it makes of the run."""

from __future__ import annotations

import io
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from stage import Said, Stage, step

from engine.diagnostics import Exit


def unsure(tmp: Path, *more: dict[str, Any], hosts: Sequence[str] = ("a",), **given: Any) -> Stage:
    """A run whose step `w` was done, and nobody can tell: the host fell silent after the effect, and the receipt is lost."""
    stage = Stage(tmp, {"execution": [step("w", {"x": 1}, thing={"crash": "D"}, **given), *more], "max_failed": 9}, hosts)
    for host in hosts:
        stage.trouble("w", host, apply="blinds")
    assert Exit.FAILED == stage.run().exit
    for host in hosts:
        stage.trouble("w", host)
    for receipt in stage.state.rglob("thing-*"):
        receipt.unlink()
    said = stage.resume()
    assert "look at the host, then say what you found: `engine resolve RB-0001 " in said.text
    return stage


def resolve(stage: Stage, place: str, answer: str = "done", because: str = "its log says so", *more: str) -> Said:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LASTGOOD_USER", "eve")
        return stage.engine("resolve", "RB-0001", place, "--as", answer, "--because", because, *more)


def test_done_is_waived_with_who_and_why(tmp_path: Path) -> None:
    """`done` lets the step pass: the record says who looked, how they know, and what had been intended."""
    stage = unsure(tmp_path, step("v", {"x": 1}))
    assert Exit.DONE == resolve(stage, "w").exit
    assert "waived" == stage.outcomes()["w"]
    assert "eve has looked and says that it was done: its log says so" == stage.last("w")["why"]
    assert {"before": {"done": False}, "after": {"done": True}} == stage.last("w")["change"]
    assert Exit.DONE == stage.resume().exit
    assert ['a/w {"x": 1}', 'a/v {"x": 1}'] == stage.effects()


def test_not_done_is_done_by_the_resume(tmp_path: Path) -> None:
    """`not-done` is a note with who and why, and the next resume does the step under the same key."""
    stage = unsure(tmp_path)
    assert Exit.DONE == resolve(stage, "execution/w", "not-done").exit
    (note,) = stage.bodies("note")
    assert {"by": "eve", "decision": "again", "text": "execution/w was not done: its log says so"} == note
    assert Exit.DONE == stage.resume().exit
    assert 2 == len(stage.effects())
    assert 1 == len({body["key"] for body in stage.bodies("step.intent")})


def test_only_what_is_uncertain(tmp_path: Path) -> None:
    """Any other step is refused by name, with those that are uncertain; nothing is written."""
    stage = unsure(tmp_path, step("v", {"x": 1}))
    before = stage.entries()
    for name in ("v", "a:v", "nothing", "b:w"):
        said = resolve(stage, name)
        assert Exit.USAGE == said.exit
        assert f"{name} is not an uncertain step of RB-0001; those that are: a:w" in said.text
    assert "w on b is not" in resolve(stage, "w", "done", "why", "-h", "b").text
    assert before == stage.entries()
    assert Exit.DONE == resolve(stage, "w").exit
    assert "those that are: none" in resolve(stage, "w").text, "what is settled is not uncertain"


@pytest.mark.parametrize("words", [["--as", "done"], ["--because", "seen"], ["--as", "done", "--because", " "], []])
def test_nobody_can_be_asked(tmp_path: Path, words: list[str]) -> None:
    """Without a terminal both answers must stand on the command line, and the reason must say something."""
    stage = unsure(tmp_path)
    before = stage.entries()
    said = stage.engine("resolve", "RB-0001", "w", *words)
    assert Exit.USAGE == said.exit
    assert "--because" in said.text
    assert before == stage.entries()


def test_a_terminal_asks_for_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command as the recap names it shows why nobody can tell, and asks for the answer and for the reason."""
    stage = unsure(tmp_path)
    command = stage.engine("status", "RB-0001").text.rpartition("next: engine ")[2]
    assert "resolve RB-0001 a:w" == command
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", terminal)
    answers = iter(["not-done", "the host has no trace of it"])
    monkeypatch.setattr("click.prompt", lambda *_a, **_k: next(answers))
    said = stage.engine(*command.split())
    assert Exit.DONE == said.exit
    assert "the run was cut off inside this step" in said.text
    assert "the host has no trace of it" in stage.bodies("note")[-1]["text"]


def test_several_hosts_are_looked_at_one_by_one(tmp_path: Path) -> None:
    """A step that is uncertain on several hosts is settled on those that are named, and the next command names another."""
    stage = unsure(tmp_path, hosts=["a", "b", "c"])
    said = resolve(stage, "w")
    assert Exit.USAGE == said.exit
    assert "w is uncertain on a, b, c: look at each, then name it: -h a" in said.text
    said = resolve(stage, "w", "done", "seen", "-h", "a", "-h", "c")
    assert "next: engine resolve RB-0001 b:w" in said.text
    assert ["waived", "uncertain", "waived"] == [stage.outcomes(host)["w"] for host in "abc"]
    assert "next: engine resume RB-0001" in resolve(stage, "b:w", "not-done").text
    assert Exit.DONE == stage.resume().exit
    assert (1, 2, 1) == tuple(len(stage.effects(host)) for host in "abc")


def test_an_item_of_a_loop(tmp_path: Path) -> None:
    """One item is settled, under the name that the recap gives it, quoted for a shell; the others are done."""
    each = {"name": "Each", "id": "each", "loop": ["p", "q"]}
    each |= {"thing": {"name": "{{ item }}", "fields": {"x": 1}, "crash": "D"}}
    stage = Stage(tmp_path, {"execution": [each]})
    stage.trouble("p", apply="blinds")
    stage.run()
    stage.trouble("p")
    for receipt in stage.state.rglob("thing-*"):
        receipt.unlink()
    command = stage.resume().text.rpartition("next: engine ")[2]
    assert "resolve RB-0001 'a:each[0]'" == command
    assert Exit.DONE == stage.engine(*shlex.split(command), "--as", "done", "--because", "seen").exit
    assert Exit.DONE == stage.resume().exit
    assert ['a/p {"x": 1}', 'a/q {"x": 1}'] == stage.effects()


def test_what_an_undo_makes_of_it(tmp_path: Path) -> None:
    """An undo leaves to a person what was only said to be done; what was not done it does not mention."""
    stage = unsure(tmp_path / "done")
    resolve(stage, "w", "done")
    assert "put it back by hand" in stage.undo().text
    assert ["none"] == [body["outcome"] for body in stage.bodies("undo.outcome")]
    stage = unsure(tmp_path / "not-done")
    resolve(stage, "w", "not-done")
    assert "has left nothing to put back" in stage.undo().text
    assert 1 == len(stage.effects())


def test_no_log_hides_no_reason(tmp_path: Path) -> None:
    """A step with `no_log` still says which command settles it, and keeps the person's reason."""
    stage = unsure(tmp_path, no_log=True)
    assert stage.last("w")["why"].startswith("(not recorded")
    assert Exit.DONE == resolve(stage, "w").exit
    assert "its log says so" in stage.last("w")["why"]


def test_a_run_that_goes_on_is_left_alone(tmp_path: Path) -> None:
    """While a process runs the run nobody settles its steps: exit 8 names the process, and nothing is written."""
    stage = unsure(tmp_path)
    before = stage.entries()
    with stage.store() as store:
        store.claim("RB-0001")
        said = resolve(stage, "w")
    assert Exit.LOCKED == said.exit
    assert before == stage.entries()


def test_the_report_tells_it(tmp_path: Path) -> None:
    """The report's timeline has the person's words."""
    stage = unsure(tmp_path)
    resolve(stage, "w", "done", "the mail is in the archive")
    assert "the mail is in the archive" in stage.engine("report", "RB-0001", "--format", "md", "--out", "-").out
