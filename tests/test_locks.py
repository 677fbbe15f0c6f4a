"""`engine locks`: what is held is shown; one that is broken stops before its next effect, and others may go on."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import Places
from stage import Stage, step
from terminal import Terminal

from engine.diagnostics import Exit
from engine.store import JournalError

STEPS = [step("one", {"x": 1}), step("two", {"x": 2}, thing={"slow": 5}), step("three", {"x": 3})]


@pytest.fixture(params=["sqlite", "postgres"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Stage:
    server = request.getfixturevalue("postgres") if request.param == "postgres" else None
    return Stage(tmp_path / "stage", {"execution": STEPS}, ["a", "b"], state=Places(tmp_path, server).new().state)


@pytest.fixture
def running(stage: Stage) -> Iterator[subprocess.Popen[str]]:
    """A run that is in the middle of its second step."""
    words = ("run", str(stage.playbook), "-i", str(stage.stock), "--as", "eve")
    process = stage.process(*words, env={"LASTGOOD_LEASE": "3s"})
    try:
        while not (stage.base / "world/a/one").exists() or len(stage.entries(kind="step.intent")) < 4:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.communicate()


def test_what_is_held_is_listed(stage: Stage, running: subprocess.Popen[str]) -> None:
    """Run, purpose, hosts, whose process, since when, when it lapses; the same as JSON, one line for each lease."""
    said = stage.engine("locks").text
    for part in (
        "RB-0001 A play",
        f"process {running.pid}",
        "token ",
        "hosts a, b",
        "lapses in",
        "if it is not heard again",
    ):
        assert part in said, said
    head, *rows = [json.loads(line) for line in stage.engine("locks", "--json").out.splitlines()]
    assert {"format": "lastgood.locks/1", "locks": 3} == head
    assert {("run", "RB-0001"), ("host", "a"), ("host", "b")} == {(row["what"], row["name"]) for row in rows}
    assert {("RB-0001", running.pid)} == {(row["run"], row["owner"]["pid"]) for row in rows}
    assert all(0 < row["lapses"] <= 3 for row in rows)


def test_a_broken_lock_stops_a_run_before_its_next_effect(stage: Stage, running: subprocess.Popen[str]) -> None:
    """It is recorded with who and why, the run ends with 8 and does nothing more; resume does the rest, each effect once."""
    said = stage.engine("locks", "break", "a", "--because", "it hangs", "--yes", "--as", "ben")
    assert (0, True) == (said.exit, "RB-0001 stops before its next effect" in said.text), said
    out, err = running.communicate(timeout=300)
    assert (Exit.LOCKED, True) == (running.returncode, "LG082" in err), out + err
    assert [] == [effect for effect in stage.effects() if "three" in effect], "what was under way may have been done"
    (entry,) = stage.entries(kind="lock.broken")
    assert ("a", "ben", "it hangs", "A play") == (entry.host, *(entry.body[key] for key in ("by", "why", "purpose")))
    assert "its lock was broken by ben: it hangs" in stage.engine("status", "RB-0001").text
    assert "lock broken" in stage.engine("report", "RB-0001", "--format", "md", "--out", "-").text
    assert "nobody holds a" in stage.engine("locks", "break", "a", "--because", "again", "--yes").text
    assert Exit.DONE == stage.resume("RB-0001").exit
    wanted = [f'{host}/{one["id"]} {{"x": {number}}}' for host in "ab" for number, one in enumerate(STEPS, 1)]
    assert sorted(wanted) == sorted(stage.effects())
    assert "broken by" not in stage.engine("status", "RB-0001").text


def test_a_lock_that_has_changed_hands_is_not_broken(stage: Stage, running: subprocess.Popen[str]) -> None:
    """Who looked before another process took it over breaks nothing: the token is not the one that was shown."""
    rows = [json.loads(line) for line in stage.engine("locks", "--json").out.splitlines()[1:]]
    token = rows[0]["token"]
    said = stage.engine("locks", "break", "RB-0001", "--because", "x", "--yes", "--token", str(token + 1))
    assert (Exit.LOCKED, True) == (said.exit, f"token {token}" in said.text), said
    assert [] == stage.entries(kind="lock.broken")
    assert 0 == stage.engine("locks", "break", "rb-0001", "--because", "x", "--yes", "--token", str(token)).exit


def test_on_a_terminal_the_run_is_typed(stage: Stage) -> None:
    """On a terminal it shows what it stops and wants that run's name, typed; anything else, or Ctrl-C, breaks nothing."""
    with stage.store() as store:
        run = store.start({"name": "A drill"})
        store.lock(run, ["a", "b"], "a drill")
        for typed in ("yes", "a", "RB-0002"):
            with Terminal(stage, "locks", "break", "a") as asked:
                asked.shows("Why do you break it?:")
                assert "RB-0001 a drill" in asked.text
                assert f"process {os.getpid()}" in asked.text
                assert "hosts a, b" in asked.text
                asked.types("it hangs")
                asked.shows("It stops RB-0001. Type RB-0001 to break it:")
                asked.types(typed)
                assert Exit.USAGE == asked.ends()
                assert f"'{typed}' is not RB-0001: nothing was broken." in asked.text
        with Terminal(stage, "locks", "break", "RB-0001", "--because", "it hangs") as asked:
            asked.shows("to break it:")
            assert "Why do you break it?" not in asked.text
            asked.types("\x03")
            assert Exit.INTERRUPTED == asked.ends()
        assert store.held(run)
        assert [] == store.entries(run, 1)
        with Terminal(stage, "locks", "break", "a", "--as", "ben") as asked:
            asked.shows("Why do you break it?:")
            asked.types("it hangs")
            asked.shows("to break it:")
            asked.types(" rb-0001 ")
            assert Exit.DONE == asked.ends()
            assert "broken: RB-0001 stops before its next effect" in asked.text
        (entry,) = [entry for entry in store.entries(run) if entry.kind == "lock.broken"]
        assert ("a", "ben", "it hangs") == (entry.host, entry.body["by"], entry.body["why"])
        with pytest.raises(JournalError, match="LG082"):
            store.append(run, "step.intent", {}, "a", "execution/one")


def test_nothing_is_broken_by_the_way(stage: Stage) -> None:
    """Without a terminal it wants --yes and a reason; what nobody holds is not broken; an empty store holds nothing."""
    assert "nothing is held" in stage.engine("locks").text
    stage.run("--check")
    assert Exit.DONE == stage.engine("locks", "break", "a", "--because", "x", "--yes").exit
    with stage.store() as store:
        run = store.start({})
        store.lock(run, ["a"], "a drill")
        assert Exit.USAGE == stage.engine("locks", "break", "a", "--because", "x").exit
        assert Exit.USAGE == stage.engine("locks", "break", "a", "--yes").exit
        assert Exit.USAGE == stage.engine("locks", "break", "a", "--yes", "--because", " ").exit
        assert store.held(run)
