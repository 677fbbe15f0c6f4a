"""Messages: one for each event, under one key, retried, reported, and never in the way."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from stage import TWO_KEYS, Stage, step

from engine import outbox


def tell(*on: str, to: str = "desk", **more: Any) -> dict[str, Any]:
    return {
        "name": "Tell",
        "id": "tell",
        "on": list(on),
        "notify": {"to": to, "message": "{{ run.event }}: {{ run.summary }}"},
        **more,
    }


def play(tmp: Path, *messages: dict[str, Any], hosts: tuple[str, ...] = ("a",), **more: Any) -> Stage:
    return Stage(tmp, {"execution": [step("w", {"x": 1})], "communications": list(messages), **more}, hosts)


def words(stage: Stage) -> list[str]:
    return [message["message"] for message in stage.messages()]


def test_one_message_for_each_event(tmp_path: Path) -> None:
    """Every event that a step waits for is told once, with what was so when it happened."""
    stage = play(tmp_path, tell("started", "succeeded", "failed", "ended"))
    assert 0 == stage.run().exit
    assert ["started: A play: running", "succeeded: A play: succeeded", "ended: A play: succeeded"] == words(stage)
    assert 3 == len({message["ref"] for message in stage.messages()})


@pytest.mark.parametrize(
    ("trouble", "event"), [({"apply": "breaks"}, "failed"), ({"apply": "gone"}, "failed"), ({}, "succeeded")]
)
def test_every_end_tells_people(tmp_path: Path, trouble: dict[str, Any], event: str) -> None:
    """A host that cannot be reached is told like any other failure."""
    stage = play(tmp_path, tell("succeeded", "failed"))
    stage.trouble("w", **trouble)
    stage.run()
    assert [event] == [text.partition(":")[0] for text in words(stage)]


def test_drift_is_a_failure_too(tmp_path: Path) -> None:
    """Who waits for `failed` hears of a run that stopped because the world had moved."""
    stage = play(tmp_path, tell("failed", "waiting", "rejected"), authority=TWO_KEYS).people()
    assert 5 == stage.run("--no-wait").exit
    stage.approve()
    stage.have("w", {"x": 7})
    assert 7 == stage.resume().exit
    assert ["waiting", "failed"] == [text.partition(":")[0] for text in words(stage)]


def test_waiting_and_rejected(tmp_path: Path) -> None:
    """People hear that keys are waited for, once, and that somebody said no."""
    stage = play(tmp_path, tell("waiting", "rejected", "expired"), authority=TWO_KEYS).people()
    assert 5 == stage.run("--no-wait").exit
    assert 5 == stage.resume("--no-wait").exit
    assert 0 == stage.engine("reject", "RB-0001", "--key", str(tmp_path / "ana"), "--because", "no").exit
    assert 6 == stage.resume().exit
    assert ["waiting: A play: waiting", "rejected: A play: rejected"] == words(stage)


def test_a_second_end_is_news(tmp_path: Path) -> None:
    """A run that fails, is taken up and fails again tells it again, as something new."""
    stage = play(tmp_path, tell("started", "failed"))
    stage.trouble("w", apply="breaks")
    assert 1 == stage.run().exit
    assert 1 == stage.resume().exit
    assert ["started", "failed", "failed"] == [text.partition(":")[0] for text in words(stage)]
    assert 3 == len({message["ref"] for message in stage.messages()})


def test_check_tells_nobody(tmp_path: Path) -> None:
    """Nothing is sent in check mode."""
    stage = play(tmp_path, tell("started", "ended", "succeeded"))
    assert 0 == stage.run("--check").exit
    assert not words(stage)


def test_when(tmp_path: Path) -> None:
    """A message whose condition is false is not sent, and that is on record."""
    stage = play(tmp_path, tell("succeeded", when="loud"), vars={"loud": False})
    assert 0 == stage.run().exit
    assert not words(stage)
    assert [True] == [body.get("skipped") for body in stage.bodies("message.sent")]


def test_what_a_message_may_mention(tmp_path: Path) -> None:
    """With one host a message may mention its results; with several only what is the same on all of them."""
    message = {"to": "desk", "message": "{{ it.x }} {{ region }} {{ run.outcome }} {{ run.counts.changed }} {{ run.id }}"}
    book = {
        "execution": [step("w", {"x": 1}, register="it")],
        "communications": [{"name": "t", "on": ["succeeded"], "notify": message}],
    }
    stage = Stage(tmp_path, book, region="eu")
    assert 0 == stage.run().exit
    assert ["1 eu succeeded 1 RB-0001"] == words(stage)
    book["communications"][0]["notify"] = {"to": "desk", "message": "{{ region }} {{ run.counts.changed }}"}
    stage = Stage(tmp_path / "two", book, ["a", "b"], region="eu")
    assert 0 == stage.run().exit
    assert ["eu 2"] == words(stage)


def test_a_message_that_cannot_be_delivered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again, reported, and changes nothing in how the run ends; a later resume of the run delivers it."""
    monkeypatch.setattr(outbox, "TRIES", 2)
    stage = play(tmp_path, tell("succeeded"))
    (tmp_path / "messages").mkdir()  # the destination is no file
    said = stage.run()
    assert 0 == said.exit
    assert [1, 2] == [body["attempt"] for body in stage.bodies("message.failed")]
    assert "not delivered" in said.text
    (tmp_path / "messages").rmdir()
    said = stage.resume()
    assert 0 == said.exit
    assert "Its last messages were still on their way" in said.text
    assert ["succeeded: A play: succeeded"] == words(stage)
    assert 1 == len(stage.bodies("run.ended")), "nothing else is done"
    assert "There is nothing to do" in stage.resume().text


def test_a_broken_message_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in one message is reported as its own; the next one is sent."""
    monkeypatch.setattr(outbox, "TRIES", 1)
    bad = {"name": "Bad", "id": "bad", "on": ["started"], "notify": {"to": "desk", "message": "{{ run.summary.nothing }}"}}
    stage = play(tmp_path, bad, tell("started", "succeeded"))
    assert 0 == stage.run().exit
    assert ["started", "succeeded"] == [text.partition(":")[0] for text in words(stage)]
    assert ["communications/bad"] == [entry.step for entry in stage.entries(kind="message.failed")]


def test_whatever_breaks_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody thought of does not end the relay in silence."""
    from modules import notify

    real, calls = notify.apply, iter(range(9))

    def apply(*given: Any) -> None:
        if next(calls) == 0:
            raise ZeroDivisionError("who would have thought")
        real(*given)

    monkeypatch.setattr(notify, "apply", apply)
    stage = play(tmp_path, tell("started"))
    assert 0 == stage.run().exit
    assert ["the module broke: ZeroDivisionError: who would have thought"] == [
        body["why"] for body in stage.bodies("message.failed")
    ]
    assert 1 == len(words(stage))


def test_nothing_waits_for_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps go on while a message is stuck, and a stop does not wait for it."""
    from modules import notify

    monkeypatch.setattr(notify, "apply", lambda _params, _change, ctx: ctx.sleep(20))
    stage = play(tmp_path, tell("started"))
    began = time.monotonic()
    assert 130 == stage.run("--until", "w").exit
    assert time.monotonic() - began < 10
    assert {"x": 1} == stage.thing("w")


def test_end_and_message_are_one(tmp_path: Path) -> None:
    """The entry that an event is about and its messages are written together: there is no end that nobody will hear of."""
    stage = play(tmp_path, tell("succeeded", "ended"))
    assert 0 == stage.run().exit
    kinds = [entry.kind for entry in stage.entries()]
    at = kinds.index("run.ended")
    assert ["run.ended", "message.queued", "message.queued"] == kinds[at : at + 3]
    first = stage.entries()[at]
    assert {round(first.at, 2)} == {round(entry.at, 2) for entry in stage.entries()[at : at + 3]}


def test_the_summary() -> None:
    """What is said of a run: its outcome, and which versions moved, when they are few."""

    class Entry:
        def __init__(self, kind: str, host: str = "", step: str = "", **body: Any) -> None:
            self.kind, self.host, self.step, self.body = kind, host, step, body

    change = {"before": {"version": "v2"}, "after": {"version": "v1"}}
    entries: list[Any] = [
        Entry("run.started", name="Roll back"),
        Entry("step.outcome", "a", "execution/w", outcome="changed", change=change),
        Entry("step.outcome", "a", "execution/v", outcome="unchanged", change=None),
    ]
    assert {
        "summary": "Roll back: running (a v2 -> v1)",
        "outcome": "running",
        "counts": {"changed": 1, "unchanged": 1},
    } == (outbox.summarise(entries))
    entries.append(Entry("run.ended", outcome="failed"))
    assert "failed" == outbox.summarise(entries)["outcome"]
    entries.append(Entry("run.resumed"))
    assert "running" == outbox.summarise(entries)["outcome"]
    assert json.dumps(outbox.summarise(entries))
