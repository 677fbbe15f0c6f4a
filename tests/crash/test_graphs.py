"""Playbooks nobody wrote, killed with signal 9 at the boundaries of their journals, and taken up again.

Every playbook is drawn from a seed: steps in order and side by side, retries, loops, blocks with remedies and clean-up, on
two hosts, against things that count what is done to them. A run that nobody kills says what should come of it; one that is
killed must come to the same, with the same effects, each as often. For steps that nobody can read after a crash (class D) a
person looks and answers.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from killer import Ended, Killer
from stage import Stage, look, step

#: Every boundary, or every n-th with another beginning in each playbook: 1 takes ten times as long.
EVERY = int(os.environ.get("LASTGOOD_CRASH_EVERY", "0"))
POINTS = 36
SEEDS = range(1, 11)


def drawn(seed: int) -> tuple[dict[str, Any], list[str]]:
    """A playbook of 5 to 12 steps, and the names of the things of which every change fails."""
    chance, names, broken = random.Random(seed), list[str](), list[str]()

    def leaf(may_fail: bool) -> dict[str, Any]:
        names.append(f"s{len(names) + 1}")
        name, more = names[-1], dict[str, Any]()
        fields = {"x": len(names), "y": name}
        if may_fail and chance.random() < 0.5:
            broken.append(name)
        elif chance.random() < 0.2:
            more |= {"retries": 2, "delay": "1ms"}
        elif chance.random() < 0.2:
            return step(name, fields, thing={"crash": "D", "lasting": True})
        elif chance.random() < 0.25:
            thing = {"name": f"{name}_{{{{ item }}}}", "fields": fields}
            return {"name": name, "id": name, "loop": ["p", "q"], "register": f"r_{name}", "thing": thing}
        if len(names) > 1 and chance.random() < 0.25:
            more["needs"] = []
        return step(name, fields, register=f"r_{name}", **more)

    def block(depth: int) -> dict[str, Any]:
        names_ = f"B{len(names)}"
        inner: dict[str, Any] = {"name": names_, "block": [leaf(True) for _ in range(chance.randint(1, 2))]}
        if chance.random() < 0.7:
            inner["rescue"] = [leaf(False)]
        if depth and chance.random() < 0.4:
            inner["block"].append(block(depth - 1))
        inner["always"] = [leaf(False)]
        return inner

    count, steps = chance.randint(5, 10), list[Any]()
    while len(names) < count:
        steps.append(block(1) if chance.random() < 0.4 else leaf(False))
    if chance.random() < 0.4:
        steps.append({**leaf(False), "on_failure": chance.choice(["stop", "continue", "undo"])})
        broken.append(names[-1])
    checks = [look(name) for name in chance.sample(names, 2)]
    book = {
        "execution": steps,
        "verification": checks,
        "max_failed": 2,
        "communications": [
            {"name": "Tell", "on": ["started", "ended"], "notify": {"to": "desk", "message": "{{ run.summary }}"}}
        ],
    }
    return book, broken


class Theatre:
    """One drawn playbook, and the world that it is played in, again and again."""

    def __init__(self, folder: Path, seed: int, kill: Killer) -> None:
        book, self.broken = drawn(seed)
        self.stage, self.kill, self.seed = Stage(folder, book, ["a", "b"]), kill, seed
        self.words = ["--state", str(self.stage.state)]

    def reset(self) -> None:
        """Nothing has happened yet."""
        for path in (self.stage.state, self.stage.base / "world"):
            shutil.rmtree(path, ignore_errors=True)
        (self.stage.folder / "messages").unlink(missing_ok=True)
        (self.stage.base / "world").mkdir()
        for name in self.broken:
            for host in "ab":
                self.stage.trouble(name, host, apply="breaks")

    def run(self, at: int = 0, install: str = "") -> Ended:
        words = ["run", str(self.stage.playbook), "-i", str(self.stage.stock)]
        return self.kill(self.stage.folder, *self.words, *words, kill=at, install=install)

    def resume(self, at: int = 0, install: str = "") -> Ended:
        """Takes the run up, and answers for a person who looks what became of steps that nobody can read."""
        if not self.stage.state.exists() or not self.stage.latest:
            return self.run(at, install)
        ended = self.kill(self.stage.folder, *self.words, "resume", "-y", kill=at, install=install)
        if ended.killed or "uncertain" not in ended.said:
            return ended
        for place, answer in self.answers().items():
            words = [
                *self.words,
                "resolve",
                self.stage.latest,
                place,
                "--as",
                answer,
                "--because",
                "the thing was looked at",
            ]
            assert self.kill(self.stage.folder, *words).exit == 0
        return self.kill(self.stage.folder, *self.words, "resume", "-y", install=install)

    def answers(self) -> dict[str, str]:
        """What a person who looks at the things says of each uncertain step."""
        found, done = {}, [line.split()[0].replace("/", ":") for line in self.stage.effects()]
        last = {(entry.host, entry.step): entry.body["outcome"] for entry in self.stage.entries(kind="step.outcome")}
        for (host, name), outcome in last.items():
            if outcome == "uncertain":
                place = f"{host}:{name.partition('/')[2]}"
                found[place] = "done" if place in done else "not-done"
        return found

    def came_to(self) -> dict[str, Any]:
        """What the world is now, what was done to it, what people were told, how the run ended."""
        queued = {f"{self.stage.latest}/{body['key']}" for body in self.stage.bodies("message.queued")}
        return {
            "things": self.stage.things(),
            "effects": sorted(self.stage.effects()),
            "outcome": self.stage.ended.get("outcome"),
            "told": queued == {message["ref"] for message in self.stage.messages()},
        }


def explored(theatre: Theatre, install: str = "") -> int:
    """Kills the playbook at its boundaries, and some of the resumes too. Returns how often; AssertionError at the first that
    comes to something else than the run that nobody killed."""
    theatre.reset()
    whole = theatre.run()
    wanted = theatre.came_to()
    assert wanted["told"]
    count, chance = len(whole.points), random.Random(theatre.seed)
    stride = EVERY or max(1, count // POINTS)
    kills = 0
    for at in range(1 + theatre.seed % stride, count + 1, stride):
        theatre.reset()
        ended = theatre.run(at, install)
        story = [f"seed {theatre.seed}, killed at {at}: {ended.points[-1:]}"]
        again = chance.randint(1, 40) if chance.random() < 0.25 else 0
        while ended.killed:
            kills += 1
            ended = theatre.resume(again, install)
            story.append(f"resumed, {f'killed at {again}' if ended.killed else 'to the end'}\n{ended.said}")
            again = 0
        assert wanted == theatre.came_to(), "\n".join(story)
    return kills


@pytest.mark.parametrize("seed", [pytest.param(n, marks=[] if n == 1 else pytest.mark.slow) for n in SEEDS])
def test_drawn_playbooks(memory: Path, kill: Killer, seed: int) -> None:
    """Killed anywhere, a playbook comes to what it comes to when nobody kills it, each effect as often."""
    assert explored(Theatre(memory / f"drawn-{seed}", seed, kill)) > 10


PLANTED = ["forgets_what_was_cut_off", "intends_after_the_effect", "takes_up_nothing"]


@pytest.mark.slow
@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(memory: Path, kill: Killer, bug: str) -> None:
    """The exploration can fail: with a bug planted in the engine it finds one."""
    found = []
    for seed in SEEDS:
        try:
            explored(Theatre(memory / f"{bug}-{seed}", seed, kill), f"planted:{bug}")
        except AssertionError as error:
            found.append(error)
            break
    assert found
