"""What comes after a golden scene, as `end.txt` says it: what is typed, and what must come of it.

    # words for people
    @ then, @ late             the command lines are typed a minute, or two hours, after the scene's last entry
    = HOST THING JSON          somebody makes the thing so
    $ VERB WORDS               `engine VERB WORDS`: then its exit code, and what was done to the things

The notation is that of the rehearsals. Command lines only: whatever carries them out is judged by what it does to the world.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import goldens
import pytest

from engine.cli import main

ROOT = Path(__file__).parents[2]
SIGNS = "#@=$"
#: A command line of the engine, whose clock is so many seconds late, on a machine that is nobody's.
_LATE = """
import os, socket, time
clock, here = time.time, os.uname()
time.time = lambda: clock() - {late}
os.uname = lambda: os.uname_result((here[0], "golden", *here[2:]))
socket.gethostname = lambda: "golden"
from engine.cli.main import main
main()
"""

#: What carries out a command line: words -> exit code.
Types = Callable[[Sequence[str]], int]


def engine(folder: Path, words: Sequence[str], late: float = 0.0) -> subprocess.CompletedProcess[str]:
    """A command line as a process of its own, in the folder of a scene."""
    env = {**os.environ, "LASTGOOD_USER": "eve", "SSH_AUTH_SOCK": "", "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-c", _LATE.format(late=late), "--state", str(folder / "state"), *words]
    return subprocess.run(
        argv, cwd=folder, env=env, text=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=300, check=False
    )


def here(folder: Path, words: Sequence[str]) -> tuple[int, str]:
    """The same in this process: exit code, and what was said on both streams with runs of blanks as one."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(said):
        patch.setenv("LASTGOOD_USER", "eve")
        patch.setenv("SSH_AUTH_SOCK", "")
        patch.chdir(folder)
        code = main.run(["--state", str(folder / "state"), *words])
    return code, " ".join(said.getvalue().split())


def today(folder: Path, script: Sequence[str]) -> Types:
    """What carries out a script's command lines with this engine and in this folder, which is not the one of the run."""
    clocks = {"@ then": 60, "@ late": 7200}
    after = next((clocks[line] for line in script if line in clocks), None)
    late = time.time() - goldens.written(folder) - after if after else 0.0

    def one(words: Sequence[str]) -> int:
        return engine(folder, words, late).returncode if late else here(folder, words)[0]

    def types(words: Sequence[str]) -> int:
        return one([*words, *(elsewhere(folder) if words[0] in ("resume", "undo", "resolve") else ())])

    return types


def elsewhere(folder: Path) -> list[str]:
    """The options that name playbook and inventory of the scene where it is restored."""
    return ["--playbook", str(folder / "playbooks" / "play.yml"), "-i", str(folder / "inventory")]


def played(folder: Path, script: Sequence[str], types: Types) -> str:
    """Does what the script says to the scene in `folder`; returns the transcript."""
    lines = []
    for line in script:
        lines.append(line)
        sign, _, rest = line.partition(" ")
        if sign == "=":
            host, name, fields = rest.split(" ", 2)
            goldens.have(folder, host, name, json.loads(fields))
        elif sign == "$":
            before = goldens.effects(folder)
            lines.append(f"    exit {types(spelled(folder, rest.split()))}")
            lines += [f"    -> {text.partition(': ')[2]}" for text in goldens.effects(folder, before)]
    return "\n".join(lines) + "\n"


def spelled(folder: Path, words: Sequence[str]) -> list[str]:
    """`approve ANA` in full: with her key, and the word that she has to confirm."""
    if words[0] != "approve":
        return list(words)
    name = words[1]
    goldens.person(name, folder)
    return ["approve", "RB-0001", "--key", str(folder / name), "--because", "", "--confirm", "RB-0001"]


def inputs(text: str) -> list[str]:
    """The lines of an `end.txt` that say what is done."""
    return [line for line in text.splitlines() if line[:1] in SIGNS]
