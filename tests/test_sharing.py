"""Several machines on one record: runs, locks and keys are shared; who died is followed, who slept too long is refused.

A machine is a process with process and network namespaces of its own, which sees the database through a socket in the file
system and no process of the others. Effects are counted by the things that they were done to.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from places import Places
from postgres import Server
from stage import KEEP, TWO_KEYS, Stage, look, step

from engine.diagnostics import Exit

LEASE = "4s"
STEPS = [step("one", {"x": 1}), step("two", {"x": 2}), step("three", {"x": 3})]
EFFECTS = ['a/one {"x": 1}', 'a/two {"x": 2}', 'a/three {"x": 3}']
#: Without namespaces: processes whose numbers say nothing to each other.
STRANGER = "import os; from engine import leases; leases._place = lambda: ('boot', str(os.getpid()))\n"
#: Stops the process where it was told to, once, with its wall clock off by so many seconds.
STOPS = """
import os, signal, threading, time
real = time.time
time.time = lambda: real() + {off}
def stop():  # to this thread itself: one sent to the process lets it run on until another thread has heard of it
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
from engine.journal import Journal
append = Journal.append_all
def stopping(journal, run, rows):
    hit = any(kind == "{kind}" and step.endswith("/two") for kind, _, _, step in rows)
    if hit and "{when}" == "before": stop()
    made = append(journal, run, rows)
    if hit and "{when}" == "after": stop()
    return made
Journal.append_all = stopping
"""


@cache
def apart() -> tuple[str, ...]:
    """The program that starts another with its own process numbers and no network; none where the system forbids it."""
    for more in ((), ("--user", "--map-root-user")):
        words = ("unshare", *more, "--pid", "--net", "--fork", "--kill-child", "--mount-proc")
        try:
            if subprocess.run([*words, "true"], capture_output=True, timeout=60, check=False).returncode == 0:
                return words
        except FileNotFoundError:
            break
    return ()


class Machine:
    """Runs commands on the stage's store as if from a machine of its own."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.stage = stage
        self.files = stage.folder / f"files of {name}"
        self.more: dict[str, Any] = {"within": apart()} if apart() else {"before": STRANGER}

    def start(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        env = {"LASTGOOD_LEASE": LEASE, "LASTGOOD_FILES": str(self.files)}
        return self.stage.process(*words, env=env, start_new_session=True, **{**self.more, **more})

    def __call__(self, *words: str) -> tuple[int, str]:
        process = self.start(*words)
        out, err = process.communicate(timeout=300)
        return process.returncode, " ".join((out + err).split())

    def run(self, *words: str) -> subprocess.Popen[str]:
        return self.start("run", str(self.stage.playbook), "-i", str(self.stage.stock), "--as", "eve", *words)


def until(what: Callable[[], Any], process: subprocess.Popen[str] | None = None) -> Any:
    """What it gives, as soon as it gives something."""
    deadline = time.monotonic() + 300
    while not (found := what()):
        if process and process.poll() is not None:
            raise AssertionError(process.communicate())
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def end(process: subprocess.Popen[str]) -> None:
    """Whatever is left of it."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_where_evidence_was_sealed_elsewhere_the_run_goes_on(postgres: Server, tmp_path: Path) -> None:
    """Two folders for files on one database: the second is told where the first one's evidence lies, seals its own, and the
    bundles of both hold together."""
    forensics = [{"name": "Keep it", "id": "keep", "keep": {"as": "requests.jsonl"}}]
    stage = Stage(tmp_path, {"forensics": forensics, "execution": STEPS}, state=postgres.url())
    (stage.base / "modules/keep.py").write_text(KEEP)
    stage.trouble("two", apply="breaks")
    first, second = Machine(stage, "first"), Machine(stage, "second")
    process = first.run()
    assert Exit.FAILED == process.wait(300), process.communicate()
    process.communicate()
    stage.trouble("two")
    code, said = second("resume", "-y")
    assert (Exit.DONE, EFFECTS) == (code, stage.effects()), said
    assert f"in {first.files}/runs/RB-0001" in said
    for one in (first, second):
        shutil.copytree(one.files / "runs/RB-0001/bundles", tmp_path / "together", dirs_exist_ok=True)
    code, said = second("evidence", "verify", str(tmp_path / "together"), "--journal", stage.state)
    assert (Exit.DONE, 3) == (code, said.count(": whole.")), said


def test_another_machine_gives_the_keys_and_takes_the_run_over(postgres: Server, tmp_path: Path) -> None:
    """One machine asks for two keys, another gives them; the first dies in mid-step; the second is told who holds what while
    it lives, waits until its lease lapses, says so, and finishes: every effect once."""
    book = {"authority": TWO_KEYS, "execution": STEPS, "verification": [look("three", {"x": 3})]}
    stage = Stage(tmp_path, book, state=postgres.url()).people()
    first, second = Machine(stage, "first"), Machine(stage, "second")
    stage.have("two", {"x": 0})
    process = first.run()
    try:
        until(lambda: stage.latest and stage.entries(kind="key.asked"), process)
        stage.trouble("two", apply="stuck")
        for person in ("ana", "ben"):
            said = second("approve", "RB-0001", "--key", str(tmp_path / person), "--confirm", "RB-0001")
            assert 0 == said[0], said[1]
        until(lambda: [e for e in stage.entries(kind="step.intent") if e.step.endswith("/two")], process)
        code, said = second("run", str(stage.playbook), "-i", str(stage.stock), "--as", "eve")
        assert (Exit.LOCKED, True) == (code, "a is held by RB-0001 (A play)" in said), said
        code, said = second("resume", "RB-0001", "-y")
        assert (Exit.LOCKED, True) == (code, "RB-0001 is being run by" in said), said
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        stage.trouble("two")
        code, said = second("resume", "RB-0001", "-y")
        assert (Exit.DONE, True) == (code, "it is not heard from, waiting" in said), said
    finally:
        end(process)
    assert EFFECTS == stage.effects()
    assert ["succeeded"] == [entry.body["outcome"] for entry in stage.entries("RB-0001", "run.ended")]
    assert [] == [one for one in stage.entries("RB-0002") if one.kind == "step.intent"]


@pytest.mark.parametrize(
    ("store", "kind", "when", "off"),
    [
        ("sqlite", "step.intent", "after", 3600),
        ("sqlite", "step.outcome", "before", -3600),
        ("postgres", "step.intent", "after", -3600),
        ("postgres", "step.outcome", "before", 3600),
    ],
)
def test_who_slept_past_its_lease_does_and_writes_nothing_more(
    request: pytest.FixtureRequest, tmp_path: Path, store: str, kind: str, when: str, off: int
) -> None:
    """A process is stopped in mid-step. Another waits for its lease to lapse, takes the run over and finishes it. The first
    goes on: it is refused (exit 8), adds no entry and no effect. Leases do not depend on its wall clock."""
    server = request.getfixturevalue("postgres") if store == "postgres" else None
    state = Places(tmp_path, server).new().state
    stage = Stage(tmp_path / "stage", {"execution": STEPS}, state=state)
    env = {"LASTGOOD_LEASE": LEASE, "LASTGOOD_FILES": str(stage.files)}
    words = ["run", str(stage.playbook), "-i", str(stage.stock), "--as", "eve"]
    sleeper = stage.process(*words, env=env, before=STOPS.format(kind=kind, when=when, off=off))
    try:
        assert os.WIFSTOPPED(os.waitpid(sleeper.pid, os.WUNTRACED)[1])
        other = stage.process("resume", "RB-0001", "-y", env=env)
        said = other.communicate(timeout=300)
        assert (Exit.DONE, True) == (other.returncode, "it is not heard from, waiting" in said[1]), said
        before = stage.entries("RB-0001")
        os.kill(sleeper.pid, signal.SIGCONT)
        out, err = sleeper.communicate(timeout=300)
        assert (Exit.LOCKED, True) == (sleeper.returncode, "LG082" in err), out + err
    finally:
        sleeper.kill()
        sleeper.communicate()
    assert before == stage.entries("RB-0001")
    assert EFFECTS == stage.effects()
    tokens = [entry.body["token"] for entry in before if entry.kind == "step.intent"]
    assert (True, 2) == (tokens == sorted(tokens), len(set(tokens)))


def test_the_address_is_told_without_its_password(postgres: Server, tmp_path: Path) -> None:
    """A run, its record, its report and its screens over a database that asks for a password: it stands in none of them."""
    from postgres import PASSWORD

    stage = Stage(tmp_path, {"execution": STEPS}, state=postgres.url(password=PASSWORD))
    secret = stage.state.split("@")[0].split(":")[-1]
    env = {"LASTGOOD_STATE": stage.state}
    said = []
    for words in (
        ["run", str(stage.playbook), "-i", str(stage.stock), "--as", "eve", "--json"],
        ["status"],
        ["runs"],
        ["report"],
    ):
        process = stage.process(*words, env=env)
        said += [*process.communicate(timeout=300), process.returncode]
    assert [0, 0, 0, 0] == said[2::3]
    with stage.store() as store:
        texts = [str(text) for text in said] + [entry.text for entry in store.entries("RB-0001")]
    texts += [
        path.read_text("utf-8", "replace") for path in tmp_path.rglob("*") if path.is_file() and "world" not in path.parts
    ]
    assert [] == [text for text in texts if PASSWORD in text or secret in text or re.search(r"s3cr\S*rd", text)]
