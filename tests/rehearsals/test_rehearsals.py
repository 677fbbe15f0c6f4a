"""Whole playbooks as their authors write them, rehearsed against a small world: what is journaled, line by line.

`NAME.yml` is a playbook; the comment after `hosts:` lists its hosts. `NAME.txt` is the rehearsal: what somebody does to the
world and what is typed, each followed by what must come of it.

    = HOST THING JSON       somebody makes the thing so
    ! HOST THING JSON       from now on this goes wrong with it (see modules/thing.py)
    $ VERB WORDS            `engine VERB WORDS`: then its exit code, the new entries of the journal, what was really changed

A new rehearsal needs the inputs only: with LASTGOOD_REWRITE=1 the rest is written, and then it is to be read.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from stage import PEOPLE, Stage

HERE = Path(__file__).parent
REWRITE = os.environ.get("LASTGOOD_REWRITE") == "1"


class Rehearsal:
    """One playbook, played by its script; `lines` is the transcript."""

    def __init__(self, tmp: Path, name: str) -> None:
        text = (HERE / f"{name}.yml").read_text()
        hosts = re.findall(r"^hosts: all # (.*)$", text, re.MULTILINE)[0].split(", ")
        self.stage = Stage(tmp, text, hosts).people()
        self.lines: list[str] = []
        self.seen: dict[str, int] = {}
        self.effects = self.told = 0

    def play(self, script: list[str]) -> str:
        """Does what the lines of the script say; returns the transcript."""
        for line in script:
            self.lines.append(line)
            sign, _, rest = line.partition(" ")
            if sign == "$":
                self._type(rest.split())
                continue
            host, name, fields = rest.split(" ", 2)
            if sign == "=":
                self.stage.have(name, json.loads(fields), host)
            else:
                self.stage.trouble(name, host, **json.loads(fields))
        return "\n".join(self.lines) + "\n"

    def _type(self, words: list[str]) -> None:
        verb, *rest = words
        forks = ["--forks", "1"] if verb in ("run", "resume") else []
        if verb == "approve":  # people, and the word that they have to confirm, if it is not the run's id
            people = [word for word in rest if word in PEOPLE]
            said = self.stage.approve(*people, confirm="".join(word for word in rest if word not in PEOPLE))
        else:
            said = getattr(self.stage, verb)(*forks, *rest)
        self.lines.append(f"    exit {said.exit}")
        run = self.stage.latest
        entries = [entry for entry in self.stage.entries(run) if entry.seq > self.seen.get(run, 0)]
        self.seen[run] = entries[-1].seq if entries else self.seen.get(run, 0)
        for host in ["", *sorted({entry.host for entry in entries} - {""})]:
            for entry in entries:
                if entry.host == host and (told := _told(entry)):
                    self.lines.append(f"    {told}")
        for effect in self.stage.effects()[self.effects :]:
            self.effects += 1
            self.lines.append(f"    -> {effect}")
        for message in self.stage.messages()[self.told :]:
            self.told += 1
            self.lines.append(f"    => {message['message']}")


def _told(entry: Any) -> str:
    """An entry in one line, without what differs from run to run; empty for what threads may order as they like."""
    body, where = entry.body, f"{entry.host} {entry.step}".strip()
    match entry.kind:
        case "message.sent" | "evidence.sealed":
            return ""
        case "step.outcome" | "undo.outcome":
            change = body["change"] or {}
            moved = f" {json.dumps(change['before'])} -> {json.dumps(change['after'])}" if change else ""
            return f"{entry.kind} {where} {body['outcome']}{moved}" + (f"   {body['why']}" if body["why"] else "")
        case "step.intent" | "undo.intent" | "gate.opened":
            return f"{entry.kind} {where}"
        case "run.started":
            return f"{entry.kind} {entry.run} {body['name']}"
        case "run.ended" | "undo.ended":
            return f"{entry.kind} {body['outcome']}" + (f"   {body['why']}" if body.get("why") else "")
        case "key.given":
            return f"{entry.kind} {body['person']} as {body['role']}"
        case "authority.settled":
            return f"{entry.kind} {body['decision']}"
        case "batch.started":
            return f"{entry.kind} {body['number']}: {', '.join(body['hosts'])}"
        case "message.queued":
            return f"{entry.kind} {body['event']}"
        case "candidate.failed":
            return f"{entry.kind} {where} {body['version']}"
        case "run.resumed":
            return f"{entry.kind} keep {body['keep']}, look {body['look']}, run {body['run']}"
    return f"{entry.kind} {where}".strip()


def names() -> list[str]:
    """Every rehearsal that there is."""
    return sorted(path.stem for path in HERE.glob("*.yml"))


@pytest.mark.parametrize("name", names())
def test_rehearsal(tmp_path: Path, name: str) -> None:
    """The playbook does exactly what its rehearsal says: no entry more or less, no effect more or less."""
    path = HERE / f"{name}.txt"
    expected = path.read_text()
    script = [line for line in expected.splitlines() if line[:1] in ("=", "!", "$")]
    found = Rehearsal(tmp_path, name).play(script)
    if REWRITE:
        path.write_text(found)
    assert expected == found


def test_every_script_has_its_playbook() -> None:
    """No rehearsal is left without its playbook, nor without anything that is typed."""
    assert {path.stem for path in HERE.glob("*.txt")} == set(names())
    assert all("\n$ " in path.read_text() for path in HERE.glob("*.txt"))
