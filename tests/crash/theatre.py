"""A theatre: one drawn playbook and the world it is played in, again and again, by command lines that may be killed.

What was done is counted by the things of the world themselves; what is written down is read from the store after the chain
of its hashes was verified. Where the store lies is the theatre's parameter: a folder, or anything else that `Shelf` can put
back as it was.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from drawn import Drawn
from killer import Ended, Killer
from stage import Stage

from engine.journal import Entry, Journal

RUN = "RB-0001"
#: A point: the name of a boundary, and which time it is come to. Or the number of a boundary, whatever it is.
At = tuple[str, int] | int


class Shelf(Protocol):
    """Where the runs of a theatre are kept: its address as `--state` takes it, and how to make it as it was."""

    address: str

    def clear(self) -> None: ...
    def keep(self, to: Path) -> None: ...
    def bring(self, back: Path) -> None: ...
    def journal(self) -> Journal: ...
    def there(self) -> bool: ...


class Folder:
    """A store in a folder."""

    def __init__(self, path: Path) -> None:
        self.path, self.address = path, str(path)

    def clear(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def keep(self, to: Path) -> None:
        if self.path.exists():
            shutil.copytree(self.path, to)

    def bring(self, back: Path) -> None:
        self.clear()
        if back.exists():
            shutil.copytree(back, self.path)

    def journal(self) -> Journal:
        return Journal(self.path)

    def there(self) -> bool:
        return self.path.exists()


class Theatre:
    """The commands that people type, and what came of them. `install`: the bug that is planted in every process."""

    def __init__(self, folder: Path, play: Drawn, kill: Killer, install: str = "", shelf: Shelf | None = None) -> None:
        self.play, self.kill, self.install = play, kill, install
        self.stage = Stage(folder, play.book, list(play.hosts))
        self.shelf = shelf or Folder(self.stage.state)
        self.world, self.kept = self.stage.base / "world", folder / "kept"
        self.begun, self.was_begun = False, dict[str, bool]()
        self.kept.mkdir()
        for (host, name), fields in play.have.items():
            self.stage.have(name, fields, host)
        for (host, name), trouble in play.trouble.items():
            self.stage.trouble(name, host, **trouble)
        self.keep("new")
        self.before = self.stage.things()

    # -- the world and the store as they were
    def keep(self, name: str) -> None:
        """Remembers how everything is now."""
        to = self.kept / name
        shutil.rmtree(to, ignore_errors=True)
        to.mkdir()
        shutil.copytree(self.world, to / "world")
        self.shelf.keep(to / "state")
        self.was_begun[name] = self.begun
        if (messages := self.stage.folder / "messages").exists():
            shutil.copy(messages, to / "messages")

    def bring(self, name: str = "new") -> None:
        """Makes everything as it was when it was remembered; `new`: nothing has happened yet."""
        back, messages = self.kept / name, self.stage.folder / "messages"
        shutil.rmtree(self.world, ignore_errors=True)
        shutil.copytree(back / "world", self.world)
        self.shelf.bring(back / "state")
        self.begun = self.was_begun[name]
        messages.unlink(missing_ok=True)
        if (back / "messages").exists():
            shutil.copy(back / "messages", messages)

    # -- commands
    def typed(self, *words: str, at: At = 0, aside: tuple[int, list[str]] | None = None) -> Ended:
        """One command line, killed where it is said."""
        state = ["--state", self.shelf.address]
        beside = (aside[0], [*state, *aside[1]]) if aside else None
        read = (str(self.stage.playbook), str(self.stage.stock))
        return self.kill(
            self.stage.folder, *state, *words, kill=at, install=self.install, report=False, read=read, aside=beside
        )

    def run(self, at: At = 0, aside: tuple[int, list[str]] | None = None) -> Ended:
        words = [str(self.stage.playbook), "-i", str(self.stage.stock), "--forks", str(self.play.forks)]
        ended = self.typed("run", *words, at=at, aside=aside)
        self.begun = "after run.started" in ended.points
        return ended

    def resume(self, at: At = 0) -> Ended:
        """Takes the run up, and answers for a person who looks what became of steps that nobody can read. A run that was
        killed before it was written down is begun."""
        if not self.begun:
            return self.run(at)
        ended = self.typed("resume", "-y", "--forks", str(self.play.forks), at=at)
        for _ in range(5):  # what is uncertain may keep the run from coming to what is uncertain too
            if ended.killed or not (answers := self.answers()):
                break
            for place, answer in answers.items():
                words = ["resolve", RUN, place, "--as", answer, "--because", "the thing was looked at"]
                settled = self.typed(*words)
                if settled.exit:
                    return settled
            ended = self.typed("resume", "-y", "--forks", str(self.play.forks))
        return ended

    def undo(self, at: At = 0) -> Ended:
        return self.typed("undo", "-y", at=at)

    def answers(self) -> dict[str, str]:
        """What a person who looks at the things says of each uncertain step: whether its effect was counted."""
        counted = {line["key"] for lines in self.lines().values() for line in lines}
        last, intents = dict[tuple[str, str], str](), dict[tuple[str, str], str]()
        for entry in self.entries():
            place = (entry.host, entry.step)
            if entry.kind == "step.intent":
                intents[place] = entry.body["key"]
            elif entry.kind == "step.outcome":
                last[place] = entry.body["outcome"]
            elif entry.kind in ("undo.outcome", "note"):
                last.pop(place, None)
        return {
            f"{host}:{name.partition('/')[2]}": "done" if intents[host, name] in counted else "not-done"
            for (host, name), outcome in last.items()
            if outcome == "uncertain" and (host, name) in intents  # a loop is as uncertain as its item
        }

    # -- what came of it
    def entries(self) -> list[Entry]:
        """The record of the run."""
        if not self.shelf.there():
            return []
        with closing(self.shelf.journal()) as store:
            return store.verified(RUN)

    def lines(self) -> dict[str, list[dict[str, Any]]]:
        """What each thing has been, by `host/name`, the changes of the run as they were counted."""
        found = {}
        for path in sorted(self.world.glob("*/*")):
            if not path.suffix:
                lines = [json.loads(line) for line in path.read_text().splitlines()]
                found[f"{path.parent.name}/{path.name}"] = [line for line in lines if line["key"]]
        return found

    def told(self) -> set[str]:
        """The keys of the messages that arrived."""
        return {message["ref"] for message in self.stage.messages()}


def bare(fields: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A thing without the fields that are nothing."""
    return None if fields is None else {name: value for name, value in fields.items() if value is not None}
