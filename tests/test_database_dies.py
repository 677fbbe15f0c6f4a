"""The database is killed with signal 9, all its processes at once or one of them, again and again while runs go on."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from postgres import Server, serving
from stage import Stage, step

from engine.diagnostics import Exit

#: How often it is killed, in all; `make sharing` kills more.
KILLS = int(os.environ.get("LASTGOOD_DATABASE_KILLS", "30"))
HOSTS = ("a", "b", "c")
STEPS = 8


def play(folder: Path, server: Server) -> Stage:
    """A run of several hosts that takes a while: each change takes a moment, and is counted by what is changed."""
    steps = [step(f"s{number}", {"x": number}, thing={"slow": 0.05}) for number in range(1, STEPS + 1)]
    return Stage(folder, {"execution": steps}, HOSTS, state=server.url())


def whole(stage: Stage) -> None:
    """Every effect was made once, every step has one intent and one outcome, and the chain holds."""
    effects = sorted(f'{host}/s{number} {{"x": {number}}}' for host in HOSTS for number in range(1, STEPS + 1))
    assert effects == sorted(stage.effects())
    entries = stage.entries("RB-0001")
    assert ["succeeded"] == [entry.body["outcome"] for entry in entries if entry.kind == "run.ended"][-1:]
    outcomes = [(entry.host, entry.step) for entry in entries if entry.kind == "step.outcome"]
    assert len(set(outcomes)) == len(outcomes) == len(HOSTS) * STEPS


@pytest.mark.slow
def test_a_run_goes_on_by_itself_when_the_database_comes_back(tmp_path: Path) -> None:
    """Thirty kills at random moments: a run that can wait for the database ends well, with every step done once."""
    dice, kills, plays = random.Random(7), 0, 0
    for server in serving():
        while kills < KILLS:
            plays, left = plays + 1, 10
            stage = play(tmp_path / str(plays), server)
            words = ("run", str(stage.playbook), "-i", str(stage.stock), "--as", "eve")
            process = stage.process(*words, env={"LASTGOOD_LEASE": "10m"})
            try:
                while not (stage.base / "world" / "a").exists():
                    assert process.poll() is None, process.communicate()
                    time.sleep(0.01)
                while left and process.poll() is None:
                    if kills % 3:
                        server.crash(dice)
                    else:
                        server.kill()
                        time.sleep(dice.random() * 0.2)
                        server.start()
                    kills, left = kills + 1, left - 1
                    time.sleep(dice.random() * 0.3)
                said = process.communicate(timeout=300)
                assert Exit.DONE == process.returncode, said
            finally:
                process.kill()
                process.communicate()
            whole(stage)
    print(f"{kills} kills in {plays} runs")


def test_a_run_that_cannot_wait_any_longer_says_so_and_is_resumed(postgres: Server, tmp_path: Path) -> None:
    """The database stays away for longer than a lease holds: the run ends with 1, has changed nothing since, and says what
    to do; when it is back, resume finishes, every step done once."""
    stage = play(tmp_path, postgres)
    words = ("run", str(stage.playbook), "-i", str(stage.stock), "--as", "eve")
    process = stage.process(*words, env={"LASTGOOD_LEASE": "3s"})
    while not (stage.base / "world" / "a").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    postgres.kill()
    try:
        before = stage.effects()
        said = process.communicate(timeout=300)[1]
        assert (Exit.FAILED, True, True) == (process.returncode, "LG072" in said, "database can be reached" in said), said
        after = stage.effects()
        assert after[: len(before)] == before
        assert len(after) - len(before) <= len(HOSTS), "at most what was under way"
    finally:
        postgres.start()
    resumed = stage.process("resume", "RB-0001", "-y", env={"LASTGOOD_LEASE": "3s"})
    assert "" == resumed.communicate(timeout=300)[0]
    assert Exit.DONE == resumed.returncode
    whole(stage)
