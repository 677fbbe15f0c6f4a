"""A cancel is always honoured: at every moment of a run, what it asks for is done, and counted at the target."""

from __future__ import annotations

import contextlib
import io
import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fleet import Fleet, check, thing
from stage import TWO_KEYS, Said, Stage, step, until
from terminal import Terminal

from engine.cli import main
from engine.diagnostics import EngineError, Exit
from engine.journal import Journal


def ask(fleet: Fleet, undo: bool = False, by: str = "ana") -> None:
    """Somebody cancels, from another process: a connection of its own to the same store."""
    store = Journal(fleet.folder / "state")
    store.append(fleet.run_id, "cancel.asked", {"by": by, "why": "", "undo": undo})
    store.close()


def at(word: str, number: int, act: Callable[[Any], None]) -> Callable[[str, Any], None]:
    """A trouble: `act` is done at the n-th call of `word`."""
    count = itertools.count(1)

    def trouble(called: str, ctx: Any) -> None:
        if called == word and next(count) == number:
            act(ctx)

    return trouble


def raises(_ctx: Any) -> None:
    raise ZeroDivisionError


BLOCK = {"name": "B", "block": [thing("drain"), thing("w")], "rescue": [thing("mend")], "always": [thing("open")]}


class Moment:
    """One moment of a run on three hosts, one at a time: where the cancel falls, and what must be left of it.

    `effects` and `left`: changes on each host, and steps of them that stand when a cancel did not ask for an undo.
    """

    def __init__(
        self, place: tuple[str, str], trouble: Callable[[Callable[[], None]], Any], effects: dict[str, int],
        step: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.place, self.trouble, self.effects, self.step = place, trouble, effects, step or {}


def _retrying(ask: Callable[[], None]) -> Any:
    def act(ctx: Any) -> None:
        ask()
        raises(ctx)

    return at("apply", 1, act)


def _sleeping(ask: Callable[[], None]) -> Any:
    return at("apply", 1, lambda ctx: (ask(), ctx.sleep(120)))


def _hung(ask: Callable[[], None]) -> Any:
    return at("apply", 1, lambda ctx: (ask(), time.sleep(20)))


def _reading(ask: Callable[[], None]) -> Any:
    return at("read", 1, lambda ctx: (ask(), time.sleep(20)))


def _just_done(ask: Callable[[], None]) -> Any:
    return at("read", 2, lambda ctx: ask())


MOMENTS = {
    "between two tries": Moment(("h001", "w"), _retrying, {"h000": 4, "h001": 2}, {"retries": 5, "delay": "1m"}),
    "inside a wait": Moment(("h001", "w"), _sleeping, {"h000": 4, "h001": 2}, {"timeout": "1h"}),
    "inside a hung change": Moment(("h001", "w"), _hung, {"h000": 4, "h001": 2}, {"timeout": "1h"}),
    "inside a hung reading": Moment(("h001", "w"), _reading, {"h000": 4, "h001": 2}, {"timeout": "1h"}),
    "with the first step of a block cut off": Moment(("h001", "drain"), _sleeping, {"h000": 4, "h001": 1}),
    "as a batch comes to its end": Moment(("h001", "see"), _just_done, {"h000": 4, "h001": 4}),
    "inside the very first reading": Moment(("h000", "drain"), _reading, {"h000": 1}),
}


@pytest.mark.parametrize("undo", [False, True])
@pytest.mark.parametrize("name", MOMENTS)
def test_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, undo: bool) -> None:
    """Wherever it falls, a cancel ends the run soon: clean-up runs where a block had begun, no other host begins, and with
    --undo everything that was changed is back."""
    monkeypatch.setattr("engine.runner.PATIENCE", 0.2)
    monkeypatch.setattr("engine.calling.LATE", 0.2)
    one = MOMENTS[name]
    block = [{**inner, **one.step} if inner["id"] == "w" else inner for inner in BLOCK["block"]]
    sections = {"execution": [{**BLOCK, "block": block}, thing("after")], "verification": [check("after", id="see")]}
    fleet = Fleet(tmp_path, {**sections, "serial": 1}, 3)
    host, place = one.place
    if place == "see":  # the check reads the thing that the step before it has set
        fleet.things.trouble[host, "after"] = at("read", 3, lambda _: ask(fleet, undo))
    else:
        fleet.things.trouble[host, place] = one.trouble(lambda: ask(fleet, undo))
    began = time.monotonic()
    assert Exit.FAILED == fleet.run()
    assert time.monotonic() - began < 60
    assert "cancelled" == fleet.ended["outcome"]
    assert one.effects == dict(fleet.things.effects)
    assert {} == {name: count for name, count in fleet.things.reads.items() if name > host}, "no other host is even read"
    assert "mend" not in {entry.step for entry in fleet.entries("step.outcome")}, "a cancel is no failure"
    left = {place: value for place, value in fleet.things.is_.items() if value}
    assert (undo and {} == left) or (not undo and sum(one.effects.values()) == len(left))


def test_while_a_remedy_puts_back(tmp_path: Path) -> None:
    """A cancel while the playbook's own undo is under way lets it finish, and no other host begins."""
    sections = {"execution": [thing("a"), thing("b"), thing("w", on_failure="undo")], "serial": 1, "max_failed": 2}
    fleet = Fleet(tmp_path, sections, 3)
    fleet.things.trouble["h000", "w"] = at("apply", 1, raises)
    fleet.things.trouble["h000", "b"] = at("undo", 1, lambda _: ask(fleet))
    assert Exit.FAILED == fleet.run()
    assert "cancelled" == fleet.ended["outcome"]
    assert {"h000": 2} == dict(fleet.things.undone)
    assert {"h000": 2} == dict(fleet.things.effects)


def test_a_remedy_that_was_cut_off_is_finished(tmp_path: Path) -> None:
    """The process died while the playbook put a host back: a cancel does the rest, as it would have let that one do it."""
    steps = [step("a", {"x": 1}), step("b", {"x": 1}), step("w", {"x": 1}, on_failure="undo")]
    stage = Stage(tmp_path, {"execution": steps})
    for name in "abw":
        stage.have(name, {"x": 0})
    stage.trouble("w", apply="breaks")
    stage.trouble("b", undo="dies_after")
    stage.process("run", str(stage.playbook), "-i", str(stage.stock)).communicate(timeout=60)
    stage.trouble("b")
    said = stage.engine("cancel")
    assert (0, True) == (said.exit, "the undo is done by this command" in said.text)
    assert ("cancelled", [{"x": 0}] * 3) == (stage.ended["outcome"], [stage.thing(name) for name in "abw"])


def test_an_undo_may_be_asked_for_later(tmp_path: Path) -> None:
    """Whoever asks for an undo after a plain cancel gets it, as long as the run has not ended."""
    fleet = Fleet(tmp_path, {"execution": [thing("a"), thing("w", timeout="1h")]})

    def twice(ctx: Any) -> None:
        ask(fleet)
        ask(fleet, undo=True, by="ben")
        ctx.sleep(60)

    fleet.things.trouble["h000", "w"] = at("apply", 1, twice)
    assert Exit.FAILED == fleet.run()
    assert {"h000": 1} == dict(fleet.things.undone)


def test_ctrl_c_and_a_cancel(tmp_path: Path) -> None:
    """A cancel that comes after Ctrl-C, before the process has ended, is carried out by it: nobody else may ever come."""
    fleet = Fleet(tmp_path, {"execution": [BLOCK, thing("after")], "serial": 1}, 2)

    def both(ctx: Any) -> None:
        run.stop("interrupted")
        ask(fleet)
        ctx.sleep(60)

    fleet.things.trouble["h000", "w"] = at("apply", 1, both)
    fleet.begin()
    run = fleet.made(1)
    assert Exit.FAILED == run.go()
    assert "cancelled" == fleet.ended["outcome"]
    assert {"h000": 2} == dict(fleet.things.effects), "drained, and opened again"
    assert [] == fleet.entries("run.interrupted")


def test_while_a_person_is_asked_about_a_step(tmp_path: Path) -> None:
    """A yes to a step (--step) that comes after a cancel does nothing any more."""
    fleet = Fleet(tmp_path, {"execution": [thing("w"), thing("after")]})
    fleet.begin()
    run = fleet.made(1)

    def asked(_host: str, step: str) -> bool:
        if step == "execution/after":
            ask(fleet)
            until(lambda: run.cancelled)
        return True

    run.wishes = replace(run.wishes, confirm=asked)
    assert Exit.FAILED == run.go()
    assert "cancelled" == fleet.ended["outcome"]
    assert {"h000": 1} == dict(fleet.things.effects)


# -- as it is typed
def test_a_question_about_a_step_does_not_hold_a_cancel_up(tmp_path: Path) -> None:
    """Nobody answers at the terminal: the run is cancelled from elsewhere all the same."""
    stage = Stage(tmp_path, {"execution": [step("w", {"x": 1})]})
    with Terminal(stage, "run", str(stage.playbook), "-i", str(stage.stock), "--step") as asked:
        asked.shows("execution/w? [y/N]:")
        stage.engine("cancel", "--as", "ana")
        assert Exit.FAILED == asked.ends()
    assert "cancelled" == stage.ended["outcome"]
    assert [] == stage.effects()


def during(stage: Stage, when: Callable[[], bool], *words: str) -> tuple[int, str, Said]:
    """A command in a process of its own, and a cancel by ana as soon as `when` holds: the command's exit code and text, and
    what the cancel has answered."""
    with stage.process(*words) as process:
        until(when)
        said = stage.engine("cancel", "--as", "ana")
        out, err = process.communicate(timeout=60)
    return process.returncode, out + err, said


def seen(stage: Stage, kind: str, step: str = "") -> Callable[[], bool]:
    def holds() -> bool:
        try:
            return any(e.kind == kind and e.step.endswith(step) for e in stage.entries())
        except EngineError:  # the store is only just being made
            return False

    return holds


def test_what_it_says_while_everything_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancel with --undo waits for the end of it, and does not take its beginning for the end of an undo."""
    monkeypatch.setattr("engine.cli.cancel.PATIENCE", 60.0)
    steps = [step("w", {"x": 1}), step("v", {"x": 1}, thing={"slow": 60}, timeout="2m")]
    stage = Stage(tmp_path, {"execution": steps}, "ab")
    with stage.process("run", str(stage.playbook), "-i", str(stage.stock)) as process:
        until(seen(stage, "step.intent", "/v"))
        said = stage.engine("cancel", "--undo")
        process.communicate(timeout=60)
    assert "RB-0001 is cancelled.   next: engine report RB-0001\n" == said.err
    assert [None] * 2 == [stage.thing("w", host) for host in "ab"]


def test_while_it_waits_for_keys(tmp_path: Path) -> None:
    """A run that waits for keys ends as cancelled; a key that comes afterwards opens nothing."""
    stage = Stage(tmp_path, {"execution": [step("w", {"x": 1})], "authority": TWO_KEYS}).people()
    code, _, said = during(stage, seen(stage, "key.asked"), "run", str(stage.playbook), "-i", str(stage.stock))
    assert (1, 0) == (code, said.exit)
    assert "RB-0001 is cancelled. next: engine report RB-0001" in said.text
    assert "cancelled" == stage.ended["outcome"]
    late = stage.engine("approve", "RB-0001", "--key", str(tmp_path / "ana"), "--confirm", "RB-0001")
    assert 6 == late.exit
    assert 0 == stage.resume().exit
    assert [] == stage.effects()


@pytest.mark.parametrize("first", ["cancel", "expiry", "approval"])
def test_one_winner(tmp_path: Path, first: str) -> None:
    """Cancel, lapse and last key in one instant: a cancel before the end wins, and a restart comes to the same."""
    stage = Stage(tmp_path, {"execution": [step("w", {"x": 1})], "authority": TWO_KEYS}).people()
    assert 5 == stage.run("--no-wait").exit
    with stage.store() as store:
        if first == "expiry":  # decided and written down, and killed before the end was
            store.append("RB-0001", "authority.settled", {"decision": "expired", "why": "", "people": []})
    if first == "approval":
        stage.approve()
    with stage.store() as store:
        store.append("RB-0001", "cancel.asked", {"by": "ana", "why": "", "undo": False})
    if first == "cancel":
        stage.approve()
    assert 1 == stage.resume().exit
    assert "cancelled" == stage.ended["outcome"]
    assert [] == stage.effects()
    assert 0 == stage.resume().exit
    assert [] == stage.effects()


def test_a_question_that_lapsed_stays_lapsed(tmp_path: Path) -> None:
    """That a question has lapsed is decided once: a run that was killed right after it ends so, though keys were given."""
    stage = Stage(tmp_path, {"execution": [step("w", {"x": 1})], "authority": TWO_KEYS}).people()
    assert 5 == stage.run("--no-wait").exit
    stage.approve()
    with stage.store() as store:
        store.append("RB-0001", "authority.settled", {"decision": "expired", "why": "", "people": []})
    assert 6 == stage.resume().exit
    assert "expired" == stage.ended["outcome"]
    assert [] == stage.effects()


def typed(fleet: Fleet, *words: str) -> tuple[int, str]:
    """A command line in this process on the fleet's store: exit code and what was said."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = main.run(["--state", str(fleet.folder / "state"), *words])
    return code, " ".join(out.getvalue().split())


def test_twice_and_after_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking again changes nothing and says who has asked; after the end there is nothing to stop, and that is said."""
    monkeypatch.setattr("engine.cli.cancel.PATIENCE", 0.1)
    monkeypatch.setattr("engine.runner.PATIENCE", 0.2)
    monkeypatch.setattr("engine.calling.LATE", 0.2)
    fleet, said = Fleet(tmp_path, {"execution": [thing("w", timeout="1h")]}), list[tuple[int, str]]()

    def twice(_ctx: Any) -> None:
        said.extend(typed(fleet, "cancel", "--as", who) for who in ("ana", "ben"))
        time.sleep(20)

    fleet.things.trouble["h000", "w"] = at("apply", 1, twice)
    assert Exit.FAILED == fleet.run()
    assert [0, 0] == [code for code, _ in said]
    assert "asked: RB-0001 stops at its next safe point" in said[0][1]
    assert "ana has asked for this" in said[1][1]
    assert "asking again changes nothing" in said[1][1]
    assert 1 == len(fleet.entries("cancel.asked"))
    code, text = typed(fleet, "cancel", "--undo")
    assert 0 == code
    assert "RB-0001 has ended already: cancelled. Nothing is left to stop. next: engine undo RB-0001" in text
    assert 1 == len(fleet.entries("cancel.asked"))


def test_an_undo_stops_after_the_change_that_it_is_at(tmp_path: Path) -> None:
    """A cancel during `engine undo` stops it; what is back stays back, and the undo can be asked for again."""
    stage = Stage(tmp_path, {"execution": [step(name, {"x": 1}) for name in "abc"]})
    for name in "abc":
        stage.have(name, {"x": 0})
    assert 0 == stage.run().exit
    stage.trouble("b", undo="waits")
    code, _, said = during(stage, seen(stage, "undo.intent", "/b"), "undo", "-y")
    assert (1, 0) == (code, said.exit)
    assert "the undo was cancelled by ana" in stage.ended["why"]
    assert [{"x": 1}, {"x": 1}, {"x": 0}] == [stage.thing(name) for name in "abc"]
    stage.trouble("b")
    assert 0 == stage.undo().exit
    assert [{"x": 0}] * 3 == [stage.thing(name) for name in "abc"]


def test_a_cancel_while_an_undo_asks_whether_to_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever says yes to an undo after somebody has cancelled it puts nothing back."""
    monkeypatch.setattr("engine.cli.cancel.PATIENCE", 0.1)
    stage = Stage(tmp_path, {"execution": [step("w", {"x": 1}), step("v", {"x": 1})]})
    stage.trouble("v", apply="dies")
    stage.process("run", str(stage.playbook), "-i", str(stage.stock)).communicate(timeout=60)
    with Terminal(stage, "undo", "RB-0001") as asked:
        asked.shows("changes back?")
        assert "asked: RB-0001 stops at its next safe point" in stage.engine("cancel", "--as", "ana").text
        asked.types("y")
        assert Exit.FAILED == asked.ends()
    assert "the undo was cancelled by ana: 0 of 1 hosts are as they were before" == stage.ended["why"]
    assert {"x": 1} == stage.thing("w")


def test_an_undo_that_waits_for_keys(tmp_path: Path) -> None:
    """A cancel while an undo waits for its keys ends the wait and leaves the run as it had ended."""
    stage = Stage(tmp_path, {"execution": [step("w", {"x": 1}), step("v", {"x": 1})], "authority": TWO_KEYS}).people()
    assert 5 == stage.run("--no-wait").exit
    stage.approve()
    stage.trouble("v", apply="breaks")
    assert 1 == stage.resume().exit
    asked = len(stage.entries(kind="key.asked"))
    waits = lambda: len(stage.entries(kind="key.asked")) > asked  # noqa: E731
    code, text, said = during(stage, waits, "undo", "-y")
    assert (6, 0) == (code, said.exit)
    assert "the undo was cancelled by ana" in text
    assert "the undo of RB-0001 is cancelled; nothing was put back" in said.text
    assert "failed" == stage.ended["outcome"]
    stage.trouble("v")
    assert 0 == stage.resume().exit, "the run itself was not cancelled"
    assert ["a/w", "a/v"] == [line.split()[0] for line in stage.effects()]


def test_a_run_that_ended_just_now_is_not_ended_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look and the taking another process may have come to its end: that end holds."""
    stage = Stage(tmp_path, {"execution": [step("a", {"x": 1}), step("b", {"x": 1})]})
    assert 130 == stage.run("--until", "a").exit
    claim = Journal.claim

    def late(self: Journal, run: str, tell: Any) -> None:
        monkeypatch.setattr(Journal, "claim", claim)
        with stage.store() as store:
            store.append(run, "run.ended", {"outcome": "succeeded", "exit": 0, "why": ""})
        claim(self, run, tell)

    monkeypatch.setattr(Journal, "claim", late)
    said = stage.engine("cancel")
    assert (0, True) == (said.exit, "RB-0001 has ended already: succeeded" in said.text), said.text
    assert "succeeded" == stage.ended["outcome"]


def test_a_cancel_that_came_too_late_does_not_stop_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written just after the run's end it has nothing to stop, and who takes the run up later goes on."""
    stage = Stage(tmp_path, {"execution": [step("a", {"x": 1}), step("b", {"x": 1})]})
    assert 130 == stage.run("--until", "a").exit

    def late(_entries: Any) -> None:
        with stage.store() as store:
            store.append("RB-0001", "run.ended", {"outcome": "failed", "exit": 1, "why": ""})

    monkeypatch.setattr("engine.cli.cancel._asked", late)
    assert "RB-0001 has ended already: failed" in stage.engine("cancel").text
    assert 0 == stage.resume().exit
    assert ("succeeded", {"x": 1}) == (stage.ended["outcome"], stage.thing("b"))


def keyed(tmp_path: Path, *steps: dict[str, Any]) -> Stage:
    """A run of these steps for which ana and ben have given their keys; it waits to be taken up."""
    stage = Stage(tmp_path, {"execution": list(steps), "authority": TWO_KEYS}).people()
    for name in ("a", "w"):
        stage.have(name, {"x": 0})
    assert 5 == stage.run("--no-wait").exit
    stage.approve()
    return stage


def test_to_stop_takes_no_key_and_to_put_back_does(tmp_path: Path) -> None:
    """`cancel --undo` of a run that took keys stops it at once, puts nothing back, and asks what `engine undo` asks."""
    stage = keyed(tmp_path, step("a", {"x": 1}), step("w", {"x": 1}, thing={"slow": 600}, timeout="1h"))
    with stage.process("resume", "-y") as process:
        until(seen(stage, "step.intent", "/w"))
        began = time.monotonic()
        said = stage.engine("cancel", "--undo", "--as", "eve")
        assert time.monotonic() - began < 20
        process.communicate(timeout=60)
    assert (1, 5) == (process.returncode, said.exit)
    assert "RB-0001 is cancelled (what was changed is not put back yet: that takes keys)" in said.text
    assert "a execution/a: back to x 0" in said.text
    assert "cancelled" == stage.ended["outcome"]
    assert {"x": 1} == stage.thing("a"), "one person alone brings nothing back"
    assert "undo RB-0001: back to x 0" == stage.entries(kind="key.asked")[-1].body["facts"]["act"]
    stage.approve()
    assert 0 == stage.undo().exit
    assert ({"x": 0}, {"x": 0}) == (stage.thing("a"), stage.thing("w"))


def test_to_put_back_takes_keys_where_nobody_runs_it_too(tmp_path: Path) -> None:
    """The same where a later resume carries the cancel out; and a refusal of the undo is obeyed."""
    stage = keyed(tmp_path, step("a", {"x": 1}), step("w", {"x": 1}))
    stage.trouble("w", apply="breaks")
    assert 1 == stage.resume("--forks", "1").exit
    with stage.store() as store:  # killed after the cancel was asked for: nobody but a resume will see it
        store.append("RB-0001", "run.resumed", {"by": "eve"})
        store.append("RB-0001", "cancel.asked", {"by": "eve", "why": "", "undo": True})
    assert 1 == stage.resume().exit
    assert ("cancelled", {"x": 1}) == (stage.ended["outcome"], stage.thing("a"))
    assert 5 == stage.engine("undo", "-y", "--as", "eve", "--no-wait").exit
    assert 0 == stage.engine("reject", "RB-0001", "--key", str(tmp_path / "ben"), "--because", "it serves well").exit
    assert 6 == stage.undo().exit
    assert {"x": 1} == stage.thing("a")


def cut_off_in_its_undo(stage: Stage) -> None:
    """ana and ben let an undo begin, and its process is killed in it: w is as it was before the run, a is not."""
    assert 0 == stage.resume().exit
    assert 5 == stage.undo("--no-wait").exit
    stage.approve()
    stage.trouble("a", undo="waits")
    with stage.process("undo", "-y", "--as", "eve") as process:
        until(seen(stage, "undo.intent", "/a"))
        process.kill()
        process.communicate()
    stage.trouble("a")
    assert ({"x": 1}, {"x": 0}) == (stage.thing("a"), stage.thing("w"))


def test_an_undo_that_was_cut_off_is_told(tmp_path: Path) -> None:
    """Half of it is back: that is no run that has succeeded, and the undo is what goes on. One that went on has made it."""
    stage = keyed(tmp_path, step("a", {"x": 1}), step("w", {"x": 1}))
    cut_off_in_its_undo(stage)
    assert "UNDO INTERRUPTED in" in stage.engine("status").text
    assert "next: engine undo RB-0001" in stage.engine("status").text
    assert "UNDO INTERRUPTED" in stage.engine("runs").out
    stage.have("a", {"x": 7})
    said = stage.undo()
    assert (7, True) == (said.exit, "UNDO DRIFTED in" in said.text), said.text
    stage.have("a", {"x": 1})
    with stage.store() as store:  # as an earlier version let it go on
        store.append("RB-0001", "run.resumed", {"by": "eve"})
    said = stage.resume()
    assert (0, True) == (said.exit, "✔ changed a execution/w" in said.text), said.text
    assert "RECAP RB-0001 SUCCEEDED" in said.text


def test_nobody_turns_an_undo_round_alone(tmp_path: Path) -> None:
    """The keys of the run let nobody go forth again once an undo was allowed and has begun; the undo itself goes on."""
    stage = keyed(tmp_path, step("a", {"x": 1}), step("w", {"x": 1}))
    cut_off_in_its_undo(stage)
    said = stage.resume()
    assert 6 == said.exit
    assert "an undo of RB-0001 was allowed and has begun" in said.text
    assert {"x": 0} == stage.thing("w")
    assert 0 == stage.undo().exit
    assert ({"x": 0}, {"x": 0}) == (stage.thing("a"), stage.thing("w"))


def test_a_run_that_went_on_asks_anew_before_it_is_undone(tmp_path: Path) -> None:
    """Keys for an undo are for what had been changed by then, and for once."""
    stage = keyed(tmp_path, step("a", {"x": 1}), step("w", {"x": 1}))
    cut_off_in_its_undo(stage)
    with stage.store() as store:  # as an earlier version let it go on
        store.append("RB-0001", "run.resumed", {"by": "eve"})
    assert 0 == stage.resume().exit
    assert {"x": 1} == stage.thing("w")
    assert 5 == stage.undo("--no-wait").exit
    assert {"x": 1} == stage.thing("w")


def test_nothing_is_asked_where_nothing_was_changed(tmp_path: Path) -> None:
    """`cancel --undo` of a run that waits for its own keys ends it, and asks nobody for anything."""
    stage = Stage(tmp_path, {"execution": [step("w", {"x": 1})], "authority": TWO_KEYS}).people()
    assert 5 == stage.run("--no-wait").exit
    said = stage.engine("cancel", "--undo", "--as", "eve")
    assert 0 == said.exit
    assert "RB-0001 has left nothing to put back" in said.text
    assert ("cancelled", 1) == (stage.ended["outcome"], len(stage.entries(kind="key.asked")))


def test_what_the_playbook_itself_puts_back_takes_no_further_key(tmp_path: Path) -> None:
    """`on_failure: undo` is part of what the keys were given for: it is carried out without a question."""
    stage = keyed(tmp_path, step("a", {"x": 1}), step("w", {"x": 1}, on_failure="undo"))
    stage.trouble("w", apply="breaks")
    assert 1 == stage.resume().exit
    assert ("undone", {"x": 0}) == (stage.ended["outcome"], stage.thing("a"))
    assert 1 == len(stage.entries(kind="key.asked"))
