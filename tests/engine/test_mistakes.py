"""Each wrong playbook of tests/mistakes beside the exact text that it must print.

A case is NAME.txt: the command, what it prints, the exit code. What it is about lies in NAME.yml or in the folder NAME/. After a
wanted change write them anew with LASTGOOD_WRITE=1, and read every one of them as somebody would at three in the morning.
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
from pathlib import Path

import pytest

from engine.cli import main

MISTAKES = Path(__file__).parents[1] / "mistakes"
CASES = sorted(path.stem for path in MISTAKES.glob("*.txt"))


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be contacted and nothing started: whoever tries ends as our own bug (exit 70)."""

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a mistake was looked for outside the texts")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(subprocess, "Popen", refused)
    monkeypatch.setattr(os, "posix_spawn", refused)


def _transcript(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.chdir(folder)
    code = main.run(shlex.split(command)[1:])
    out, err = capsys.readouterr()
    return f"$ {command}\n{out}{err}exit {int(code)}\n"


@pytest.mark.parametrize("name", CASES)
def test_the_mistake_is_told_word_for_word(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command prints exactly the text that lies beside the mistake, and ends with exit 3."""
    file, folder = MISTAKES / f"{name}.txt", MISTAKES / name
    expected = file.read_text("utf-8")
    command = expected.split("\n", 1)[0].removeprefix("$ ")
    told = _transcript(command, folder if folder.is_dir() else MISTAKES, monkeypatch, capsys)
    if os.environ.get("LASTGOOD_WRITE"):
        file.write_text(told, "utf-8")
    else:
        assert expected == told
    assert told.endswith("\nexit 3\n")
