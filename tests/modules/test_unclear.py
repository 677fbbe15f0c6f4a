"""Every acting module, and every way in which the answer to its effect can get lost: nothing is guessed, nothing done twice.

New modules come in by themselves, through the catalogue and their worlds; what the faults are stands in unclear.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from unclear import FAULTS, Trial, acting, trial

from engine import effect
from modules.contract import ModuleError


@pytest.mark.parametrize(("module", "world"), list(acting()))
def test_an_answer_that_gets_lost(module: str, world: str, tmp_path: Path) -> None:
    """A lost answer ends settled by reading again, or uncertain with a person asked; a blind step is never sent again."""
    with trial(module, world, tmp_path / "whole") as whole:
        code, said = whole.run()
        assert code == 0, said
        wanted, effects = whole.seen()[0], list(whole.wire.effects)
    # a message is never taken up by a reading: the outbox sends it again, and tests/crash kills it there
    for fault in FAULTS[:-1] if whole.told else FAULTS:
        for at in effects or [0]:
            with trial(module, world, tmp_path / f"{fault}-{at}", fault, at) as one:
                judged(one, wanted, len(effects))


def judged(one: Trial, wanted: object, effects: int) -> None:
    """Fails unless what became of the step is what may: `wanted` is how the world looks when all was done, with so many
    effects."""
    code, said = one.run()
    if one.told:
        assert 1 == len(one.bodies("message.sent")), "a message is delivered, again where it must be, under one key"
        return
    if one.blind and one.outcome != "changed":
        stays_uncertain(one, said)
    else:
        assert (0, "changed") == (code, one.outcome), said
        assert one.fault == "late" or effects == len(one.wire.effects), f"sent again: {one.wire.effects}"
    assert wanted == one.seen()[0], f"{one.fault}: {said}"
    assert 1 == one.applies or not one.blind, "what nobody can read back was asked for again"


def stays_uncertain(one: Trial, said: str) -> None:
    """Nobody can tell, and nobody guesses: not the run, not a resume. A person's word lets it pass."""
    assert "uncertain" == one.outcome, said
    assert "engine resolve RB-0001 svc-1:do" in said
    ended, said = one.engine("resume", "-y")
    if one.outcome == "changed":  # what came late has left a trace
        assert ended == 0, said
        return
    assert (1, "uncertain") == (ended, one.outcome)
    code, said = one.engine("resolve", "RB-0001", "do", "--as", "done", "--because", "it was seen")
    assert code == 0, said
    assert 0 == one.engine("resume", "-y")[0]


def sends_again(real: Callable[..., Any]) -> Callable[..., Any]:
    """An engine that asks once more when no answer came, whatever it is that it asks for."""

    def apply(doing: Any, entry: Any, params: Any, change: Any, before: Any, ctx: Any) -> Any:
        settled = real(doing, entry, params, change, before, ctx)
        return settled if settled.good else real(doing, entry, params, change, before, ctx)

    return apply


def trusts_the_reply(_: Callable[..., Any]) -> Callable[..., Any]:
    """An engine that takes an answer for the truth, and no answer for a failure."""

    def apply(doing: Any, entry: Any, params: Any, change: Any, before: Any, ctx: Any) -> Any:
        try:
            entry.module.apply(params, change, ctx)
        except ModuleError as error:
            return effect.Settled(error.outcome, error.message, change=change)
        return effect.Settled("changed", reading=before, change=change)

    return apply


def takes_silence_for_a_no(real: Callable[..., Any]) -> Callable[..., Any]:
    """An engine that believes that nothing was done when the answer got lost."""

    def apply(*given: Any) -> Any:
        settled = real(*given)
        return replace(settled, outcome="failed") if settled.outcome == "uncertain" else settled

    return apply


@pytest.mark.parametrize("bug", [sends_again, trusts_the_reply, takes_silence_for_a_no])
def test_the_matrix_finds_a_planted_bug(bug: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that guesses is found out by one of two modules, one that can be read back and one that cannot."""
    monkeypatch.setattr(effect, "_applied", bug(effect._applied))
    found = []
    for number, (module, world) in enumerate((("command", "world_once"), ("http.resource", "world"))):
        try:
            test_an_answer_that_gets_lost(module, world, tmp_path / str(number))
        except AssertionError as error:
            found.append(error)
    assert found
