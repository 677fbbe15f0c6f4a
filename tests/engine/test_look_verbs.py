"""The verbs that look: status, runs, note, report, candidates, explain, inventory. Real runs, through the command line."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest

from engine import inventory, look, underway
from engine.cli import main, status
from engine.journal import Journal
from modules.directory import _client

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
ENGINE = [sys.executable, "-c", "from engine.cli.main import main; main()"]
#: For a busy machine; nothing here is timed against it.
PATIENCE = 60.0
HOSTS = "all:\n  children:\n    scoring:\n      hosts:\n        eu: {threshold: '0.5'}\n        us: {threshold: '0.7'}\n"
PLAYBOOK = """\
name: Set the threshold back
strategy: configuration
hosts: scoring
execution:
  - name: Write it
    file: {path: "{{ inventory_hostname }}.conf", content: "{{ threshold }}"}
verification:
  - name: Somebody takes calls
    wait: {port: PORT, every: 50ms}
    timeout: 10m
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A playbook's folder with an inventory, and the working folder."""
    (tmp_path / "inv").mkdir()
    (tmp_path / "inv" / "hosts.yml").write_text(HOSTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LASTGOOD_USER", "ana")
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("NO_COLOR", "FORCE_COLOR", "ACCESSIBLE", "LASTGOOD_STATE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


class Door:
    """A TCP port at which nobody takes calls until it is opened: what the runs of these tests wait for."""

    def __init__(self) -> None:
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]

    def open(self) -> None:
        self.socket.listen()


@pytest.fixture
def door() -> Iterator[Door]:
    made = Door()
    yield made
    made.socket.close()


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are ended with the test, whatever becomes of it."""
    made: list[subprocess.Popen[str]] = []
    yield made
    for child in made:
        if child.poll() is None:
            child.kill()
        child.communicate()


def _start(children: list[subprocess.Popen[str]], *words: str) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    child = subprocess.Popen(
        [*ENGINE, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    )
    children.append(child)
    return child


def _until(look_: Callable[[], T]) -> T:
    """What `look_` gives as soon as that is something."""
    deadline = time.monotonic() + PATIENCE
    while not (found := look_()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)
    return found


def _said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """What the command prints on standard output."""
    assert code == main.run([*words]), capsys.readouterr()
    return capsys.readouterr().out


def _run(capsys: pytest.CaptureFixture[str], text: str = PLAYBOOK, *words: str, code: int = 0) -> None:
    Path("p.yml").write_text(text)
    _said(capsys, "run", "p.yml", "-i", "inv", *words, code=code)


QUICK = PLAYBOOK[: PLAYBOOK.index("verification")]
BROKEN = QUICK.replace(".conf", "/nowhere/x.conf")


# ------------------------------------------------------------------------------------------------- status
def test_a_follower_in_another_process_sees_the_run_to_its_end(
    folder: Path, door: Door, children: list[subprocess.Popen[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """It tells what happened before it came, what happens while it looks, and the recap; then it ends by itself."""
    (folder / "p.yml").write_text(PLAYBOOK.replace("PORT", str(door.port)))
    run = _start(children, "run", "p.yml", "-i", "inv")
    _until(lambda: (folder / ".lastgood/journal.db").is_file())
    follower = _start(children, "status", "--follow") if _until(lambda: Journal(folder / ".lastgood").latest()) else None
    assert follower is not None

    def going() -> list[str]:
        found = json.loads(_said(capsys, "status", "--json"))
        return [step["host"] for step in found["steps"] if step["outcome"] == "running"] if found["alive"] else []

    assert ["eu", "us"] == sorted(_until(lambda: going() if len(going()) == 2 else []))
    shown = _said(capsys, "status")
    assert "RUNNING" in shown
    assert re.search(r"▶ running +(verification/)?somebody_takes_calls", shown)
    assert "next: engine status RB-0001 --follow" == shown.splitlines()[-1]
    assert "RUNNING" in _said(capsys, "runs")
    assert follower.poll() is None
    door.open()
    out, err = follower.communicate(timeout=PATIENCE)
    assert 0 == follower.returncode
    assert 0 == run.wait(timeout=PATIENCE)
    for line in (
        "started     ana",
        "changed     eu execution/write_it",
        "met         us verification/",
        "succeeded   engine",
    ):
        assert line in out
    assert "RECAP RB-0001   SUCCEEDED" in out
    assert "next: engine report RB-0001" == out.splitlines()[-1]
    assert "" == err


def test_steps_of_one_host_that_wait_for_nothing_go_on_side_by_side(
    folder: Path, door: Door, children: list[subprocess.Popen[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """One step waits for the other's effect, which stands below it."""
    steps = f"  - {{name: a, wait: {{port: {door.port}, every: 50ms}}}}\n"
    steps += f"  - {{name: b, wait: {{port: {door.port}, every: 50ms}}, needs: []}}\n"
    steps += "  - {name: c, file: {path: c.txt, content: x}, needs: []}\n"
    (folder / "p.yml").write_text(f"name: n\nstrategy: configuration\nhosts: eu\nexecution:\n{steps}")
    run = _start(children, "run", "p.yml", "-i", "inv")

    def running() -> list[str]:
        found = json.loads(_said(capsys, "status", "--json"))
        return sorted(one["step"] for one in found["steps"] if one["outcome"] == "running")

    _until(lambda: (folder / "c.txt").is_file() and ["execution/a", "execution/b"] == running())
    door.open()
    assert 0 == run.wait(timeout=PATIENCE)


def test_a_run_whose_process_was_killed_is_said_to_be_dead(
    folder: Path, door: Door, children: list[subprocess.Popen[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """The follower does not wait for ever, and names the command that goes on."""
    (folder / "p.yml").write_text(PLAYBOOK.replace("PORT", str(door.port)))
    run = _start(children, "run", "p.yml", "-i", "inv")
    _until(lambda: (folder / "eu.conf").is_file())
    follower = _start(children, "status", "RB-0001", "--follow")
    raw = _start(children, "status", "--follow", "--raw")
    _until(lambda: follower.stdout is not None and follower.stdout.readline())
    run.send_signal(signal.SIGKILL)
    out, _ = follower.communicate(timeout=PATIENCE)
    assert 0 == follower.returncode
    assert "no process runs RB-0001 any more" in out
    assert "next: engine resume RB-0001" == out.splitlines()[-1]
    assert "run.started" == json.loads(raw.communicate(timeout=PATIENCE)[0].splitlines()[0])["kind"]
    assert re.search(r"^RB-0001 .* DEAD ", _said(capsys, "runs"), re.MULTILINE)
    assert "INTERRUPTED" in _said(capsys, "status")
    door.open()
    assert 0 == main.run(["resume", "-y"])
    assert re.search(r"^RB-0001 .* SUCCEEDED ", _said(capsys, "runs"), re.MULTILINE)


def test_a_run_that_waits_for_a_key_is_shown_as_waiting(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By status and by runs, with what to do; a follower says that nobody runs it."""
    shutil.copy(ROOT / "inventories" / "example" / "roster.yml", folder / "inv" / "roster.yml")
    _run(capsys, QUICK + "authority: {mode: one-click, roles: [ml-oncall]}\n", "--no-wait", code=5)
    shown = _said(capsys, "status")
    assert "WAITING for key 1 of 1" in shown
    assert "next: engine approve RB-0001" == shown.splitlines()[-1]
    assert "WAITING for key 1 of 1" in _said(capsys, "runs")
    assert "no process runs RB-0001" in _said(capsys, "status", "--follow")
    assert {"given": 0, "needed": 1} == json.loads(_said(capsys, "status", "--json"))["keys"]


def test_status_of_a_run_that_ended_is_its_recap(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The newest run is meant; a failure says where it is written and what to do."""
    _run(capsys, QUICK)
    _run(capsys, BROKEN, code=1)
    shown = _said(capsys, "status")
    assert "RECAP RB-0002" in shown
    assert "p.yml:5:5" in shown
    assert "next: engine resume RB-0002" == shown.splitlines()[-1]
    assert "RECAP RB-0001   SUCCEEDED" in _said(capsys, "status", "rb-0001")


@pytest.mark.parametrize("width", [120, 80, 40])
def test_status_and_runs_keep_to_the_screen(
    folder: Path, width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line is wider, but for paths and commands that would not work if they were cut."""
    _run(capsys, QUICK.replace("Set the threshold back", "Set the threshold back to where it was " * 3))
    monkeypatch.setenv("COLUMNS", str(width))
    lines = (_said(capsys, "status") + _said(capsys, "runs")).splitlines()
    assert max(look.cells(line) for line in lines if not line.startswith("next:")) <= width
    assert not [line for line in lines if "\x1b" in line]


def test_raw_gives_every_entry_as_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One JSON object a line with number, body and hash: what the chain is computed from."""
    _run(capsys, QUICK)
    rows = [json.loads(line) for line in _said(capsys, "status", "--raw").splitlines()]
    entries = Journal(folder / ".lastgood").verified("RB-0001")
    assert [(e.seq, e.at, e.kind, e.host, e.step, e.body, e.hash) for e in entries] == [
        tuple(row[name] for name in ("seq", "at", "kind", "host", "step", "body", "hash")) for row in rows
    ]


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, list[float]()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_a_replay_takes_as_long_as_its_speed_says_and_never_waits_long(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of ten seconds and a night in between: at 4x, a quarter of the ten seconds and one long wait."""
    at = [1000.0]
    store = Journal(folder / ".lastgood", now=lambda: at[0])
    body = {
        "name": "n",
        "playbook": "p.yml",
        "hosts": ["eu"],
        "batches": [["eu"]],
        "requester": "ana",
        "digest": "",
        "check": False,
    }
    store.start({**body, "plan": {"nodes": [], "steps": []}})
    for wait, kind, more in (
        (4.0, "note", {"text": "first", "by": "ana"}),
        (4.0, "step.outcome", {"outcome": "changed", "started": 1005.0, "seconds": 3.0, "attempts": 1}),
        (30000.0, "note", {"text": "next morning", "by": "ana"}),
        (2.0, "run.ended", {"outcome": "succeeded", "exit": 0}),
    ):
        at[0] += wait
        store.append("RB-0001", kind, more, *(("eu", "execution/a") if kind == "step.outcome" else ()))
    store.close()
    clock = Clock()
    monkeypatch.setattr(status, "time", clock)
    out = _said(capsys, "status", "--replay", "4x")
    assert 10.0 / 4 + status.LONGEST == pytest.approx(sum(clock.slept))
    assert status.LONGEST >= max(clock.slept)
    said = [line for line in ("first", "changed", "next morning", "succeeded", "RECAP") if line in out]
    assert sorted(said, key=out.index) == said == ["first", "changed", "next morning", "succeeded", "RECAP"]


def test_a_replay_of_a_real_run_tells_what_the_run_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same lines, from the journal alone."""
    Path("p.yml").write_text(QUICK)
    assert 0 == main.run(["run", "p.yml", "-i", "inv"])
    live = capsys.readouterr().err.splitlines()
    assert live == _said(capsys, "status", "--replay", "1000x").splitlines()
    assert underway.replayed(Journal(folder / ".lastgood").entries("RB-0001"))


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("status", "--replay", "fast"), "no speed"),
        (("status", "--replay", "0x"), "no speed"),
        (("status", "--replay", "2x", "--follow"), "do not go together"),
        (("status", "--raw", "--json"), "do not go together"),
        (("status", "RB-0011"), "did you mean `RB-0001`?"),
        (("status", "--folow"), "--follow"),
        (("runs", "--limit", "0"), "--limit"),
        (("note", "RB-0001", "  "), "nothing to note"),
        (("note", "RB-0001", "x" * 5000), "too long"),
        (("note", "RB-0010", "hello"), "did you mean `RB-0001`?"),
        (("report", "RB-7"), "engine runs"),
        (("report", "--format", "pdf"), "html"),
        (("report", "--format", "md", "--open"), "--open"),
        (("report", "--out", "nowhere/at/all.html"), "another file"),
        (("inventory",), "-i inventories/production"),
        (("inventory", "-i", "inv", "scorin"), "did you mean `scoring`?"),
        (("inventory", "-i", "inv", "--host", "euu"), "did you mean `eu`?"),
        (("inventory", "-i", "inv", "--graph", "--list"), "do not go together"),
        (("explain", "treshold", "-i", "inv", "-h", "eu"), "did you mean `threshold`?"),
        (("explain", "threshold", "-i", "inv", "-h", "euu"), "did you mean `eu`?"),
        (("explain", "threshold", "-i", "inv"), "--host"),
        (("candidates", "p.yml", "-i", "inv"), "no last_good step"),
    ],
)
def test_a_mistake_in_using_a_verb_ends_with_exit_2_and_the_way_out(
    folder: Path, words: tuple[str, ...], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The likely spelling, or what would be right."""
    _run(capsys, QUICK)
    assert 2 == main.run([*words])
    captured = capsys.readouterr()
    assert "" == captured.out
    assert hint in captured.err


def test_where_no_run_was_ever_made_the_verbs_say_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And make no store by looking."""
    for words in (["status"], ["runs"], ["report"], ["note", "RB-0001", "x"]):
        assert 2 == main.run(words)
        assert "there are no runs" in capsys.readouterr().err
    assert not (folder / ".lastgood").exists()


# ------------------------------------------------------------------------------------------------- runs, note
def test_runs_lists_the_newest_first_with_how_each_ended(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also as JSON lines, the first naming the format; --limit says how many older ones there are."""
    _run(capsys, QUICK)
    _run(capsys, BROKEN, "--as", "bo", code=1)
    _run(capsys, QUICK, "--check")
    head, *lines = _said(capsys, "runs").splitlines()
    assert ["RUN", "WHEN", "OUTCOME", "TOOK", "HOSTS", "ASKED", "BY", "WHAT"] == head.split()
    assert [("RB-0003", "CHECKED"), ("RB-0002", "FAILED"), ("RB-0001", "SUCCEEDED")] == [
        (line.split()[0], line.split()[3]) for line in lines[:3]
    ]
    assert " bo " in lines[1]
    assert "next: engine status RB-0003" == lines[-1]
    assert "and 2 older ones: --limit 3 shows them" in _said(capsys, "runs", "--limit", "1")
    first, *rows = [json.loads(line) for line in _said(capsys, "runs", "--json").splitlines()]
    assert {"format": "lastgood.runs/1", "runs": 3} == first
    assert [("RB-0003", "succeeded"), ("RB-0002", "failed"), ("RB-0001", "succeeded")] == [
        (row["run"], row["outcome"]) for row in rows
    ]


def test_a_note_is_part_of_the_record_and_of_the_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who, when, what; a run that has ended takes notes too, and still counts as ended."""
    _run(capsys, QUICK)
    assert 0 == main.run(["note", "RB-0001", "payments <b>confirm</b> it", "--as", "bo"])
    assert "noted as entry" in capsys.readouterr().err
    entry = Journal(folder / ".lastgood").verified("RB-0001")[-1]
    assert ("note", {"text": "payments <b>confirm</b> it", "by": "bo"}) == (entry.kind, entry.body)
    page = _said(capsys, "report", "--out", "-")
    assert "payments" in page
    assert "<b>confirm" not in page
    assert "SUCCEEDED" in _said(capsys, "runs")


# ------------------------------------------------------------------------------------------------- report
def test_a_report_is_made_from_the_journal_alone_and_the_same_every_time(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a copy of the journal in another place, later, without playbook and inventory: byte for byte."""
    _run(capsys, QUICK)
    forms = {form: _said(capsys, "report", "--format", form, "--out", "-") for form in ("html", "md", "json")}
    away = folder / "away"
    (away / "store").mkdir(parents=True)
    shutil.copy(folder / ".lastgood" / "journal.db", away / "store")
    monkeypatch.chdir(away)
    for form, text in forms.items():
        assert text == _said(capsys, "--state", "store", "report", "RB-0001", "--format", form, "--out", "-")
    assert forms["html"].startswith("<!doctype html>")
    assert "RB-0001" in forms["md"]
    assert "RB-0001" == json.loads(forms["json"])["run"]


def test_a_report_goes_where_it_is_asked_to(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into the run's folder, into a file whose ending names the form, into the browser."""
    _run(capsys, QUICK)
    page = folder / ".lastgood/runs/RB-0001/report.html"
    by_run = page.read_bytes()
    page.unlink()
    shown = _said(capsys, "report")
    assert by_run == page.read_bytes()
    assert str(page.relative_to(folder)) in shown
    assert "next: engine report RB-0001 --open" == shown.splitlines()[-1]
    _said(capsys, "report", "--out", "r.md")
    assert Path("r.md").read_text().startswith("# Set the threshold back")
    seen: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: bool(seen.append(url)) or False)
    assert 0 == main.run(["report", "--open"])
    assert [page.as_uri()] == seen
    assert "open the file by hand" in capsys.readouterr().err


def test_a_journal_that_was_changed_gives_no_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The chain is computed again first, and the place where it breaks is named."""
    _run(capsys, QUICK)
    db = sqlite3.connect(folder / ".lastgood/journal.db")
    db.execute("UPDATE entries SET body = replace(body, 'ana', 'bob') WHERE seq = 1")
    db.commit()
    db.close()
    assert 1 == main.run(["report"])
    captured = capsys.readouterr()
    assert "" == captured.out
    assert "LG073" in captured.err
    assert "entry 1" in captured.err


# ------------------------------------------------------------------------------------------------- candidates
def _registry(folder: Path) -> Path:
    """Five versions: an old one, a good one, one without validation, a bad one, and the one that serves."""
    registry = folder / "models"
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for day, (version, tags) in enumerate(
        [
            ("1.0", {"validation": "passed"}),
            ("1.1", {"validation": "passed"}),
            ("1.2", {"validation": "skipped"}),
            ("1.3", {"validation": "passed", "bad": "poisoned"}),
            ("1.4", {"validation": "passed"}),
        ]
    ):
        made = start + timedelta(days=day)
        metrics = {"precision": 0.9 + day / 100}
        _client.publish(
            registry, version, {"model.json": version.encode()}, by="t", created=made, tags=tags, metrics=metrics
        )
    _client.point(registry, "1.4")
    return registry


CHOOSING = """\
name: n
strategy: version
hosts: eu
execution:
  - name: Choose
    last_good: {of: directory.current, with: {path: models}, where: candidate.tags.validation == 'passed', floor: "1.1"}
    register: target
  - name: Point
    directory.current: {path: models, version: "{{ target.version }}"}
"""


def test_candidates_shows_every_version_with_its_reason(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Which serves, which would be chosen, which not and why, with metrics, tags and digest; nothing is left behind."""
    _registry(folder)
    Path("p.yml").write_text(CHOOSING)
    before = sorted(folder.rglob("*"))
    shown = _said(capsys, "candidates", "p.yml", "-i", "inv", "-h", "eu")
    assert before == sorted(folder.rglob("*"))
    rows = [line.split(None, 3) for line in shown.splitlines() if re.match(r" [✔·–] ", line)]
    assert [("–", "1.4"), ("–", "1.3"), ("–", "1.2"), ("✔", "1.1"), ("–", "1.0")] == [(row[0], row[2]) for row in rows]
    assert "serves now" in shown
    assert "is marked bad (poisoned)" in shown
    assert "does not fulfil: candidate.tags.validation == 'passed'" in shown
    assert "is under the floor 1.1" in shown
    assert "precision 0.91" in shown
    assert "validation passed" in shown
    assert "from 1.4 back to 1.1" in shown
    assert "2026-01-02 00:00:00Z" in shown
    assert "next: engine plan p.yml -i inv" == shown.splitlines()[-1]
    head, table = [json.loads(line) for line in _said(capsys, "candidates", "p.yml", "-i", "inv", "--json").splitlines()]
    assert "lastgood.candidates/1" == head["format"]
    assert ("eu", "1.1") == (table["host"], table["chosen"])
    assert all(one["digest"].startswith("sha256:") for one in table["candidates"])


def test_candidates_says_why_no_version_would_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table is there all the same; a version that is asked for and is none is answered with those there are."""
    _registry(folder)
    Path("p.yml").write_text(CHOOSING.replace("'passed'", "'blessed'"))
    shown = _said(capsys, "candidates", "p.yml", "-i", "inv")
    assert "no version may be gone back to" in shown
    assert 5 == len(re.findall(r"^ – no ", shown, re.MULTILINE))
    Path("p.yml").write_text(CHOOSING)
    assert "there is no version 9" in _said(capsys, "candidates", "p.yml", "-i", "inv", "-e", "to=9")
    assert "from 1.4 back to 1.1" in _said(capsys, "candidates", "p.yml", "-i", "inv", "-e", "to=1.1")


def test_candidates_of_a_registry_that_cannot_be_read_ends_with_exit_1(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong with it stands where the table would be."""
    Path("p.yml").write_text(CHOOSING)
    shown = _said(capsys, "candidates", "p.yml", "-i", "inv", code=1)
    assert "is not a registry" in " ".join(shown.split())


# ------------------------------------------------------------------------------------------------- explain, inventory
def _environment(folder: Path) -> None:
    (folder / "inv" / "group_vars").mkdir()
    (folder / "inv" / "group_vars" / "all.yml").write_text(
        "threshold: '0.1'\nurl: \"http://{{ inventory_hostname }}.example\"\n"
        "token: \"{{ secret('env:NOT_SET') }}\"\n"
        'loop: "{{ url }}/{{ missing }}"\n'
    )


def test_explain_lists_every_value_the_strongest_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Inventory, playbook, step, command line, each with its place; the one that wins is marked, and what it becomes."""
    _environment(folder)
    text = QUICK.replace("execution:", "vars: {threshold: '0.3'}\nexecution:").rstrip() + "\n    vars: {threshold: '0.9'}\n"
    Path("p.yml").write_text(text)
    shown = _said(capsys, "explain", "threshold", "-h", "eu", "-i", "inv")
    assert re.search(
        r"✔ wins +0\.5\n +inv/hosts\.yml:5:\d+ \(host eu\)\n – beaten +0\.1\n +inv/group_vars/all\.yml:1:1", shown
    )
    shown = _said(capsys, "explain", "threshold", "p.yml", "-h", "eu", "-i", "inv")
    assert re.search(r"wins there +0\.9\n +p\.yml:8:\d+ .*✔ wins +0\.3\n +p\.yml:4:\d+ .*beaten +0\.5", shown, re.DOTALL)
    shown = _said(capsys, "explain", "threshold", "p.yml", "-h", "eu", "-i", "inv", "-e", "threshold=7")
    assert re.search(r"✔ wins +7\n +-e\n – beaten +0\.9", shown)
    assert "becomes   7" in shown
    assert "becomes   http://eu.example" in _said(capsys, "explain", "url", "-h", "eu", "-i", "inv")
    assert "`missing` is not defined" in _said(capsys, "explain", "loop", "-h", "eu", "-i", "inv")
    assert "the engine's own" in _said(capsys, "explain", "run", "-h", "eu", "-i", "inv")


def test_secrets_are_not_shown(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by name, nor inside an address, nor looked up; the template that names one is."""
    _environment(folder)
    told = {"db_password": "hunter2", "address": "postgres://ana:hunter2@db.example/x", "nested": {"api_key": "hunter2"}}
    answer = json.dumps({"_meta": {"hostvars": {"eu": told}}, "scoring": {"hosts": ["eu"]}})
    script = folder / "inv" / "cmdb.sh"
    script.write_text(f"#!/bin/sh\necho '{answer}'\n")
    script.chmod(0o755)
    monkeypatch.setenv("NOT_SET", "hunter3")
    both = ("-i", "inv", "-i", "inv/cmdb.sh")
    shown = _said(capsys, "inventory", *both, "--host", "eu")
    for name in (*told, "token"):
        shown += _said(capsys, "explain", name, "-h", "eu", *both)
    assert "hunter" not in shown
    assert "***" in shown
    assert "{{ secret('env:NOT_SET') }}" in shown


def test_inventory_lists_hosts_groups_and_where_values_stand(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All hosts, those of a pattern, one with its variables, the tree."""
    shown = _said(capsys, "inventory", "-i", "inv")
    assert ["eu", "us"] == [line.split()[0] for line in shown.splitlines()[:2]]
    assert "next: engine inventory -i inv --host eu" == shown.splitlines()[-1]
    assert "us" == _said(capsys, "inventory", "-i", "inv", "scoring:!eu").split()[0]
    assert re.search(r"threshold +0\.7 +inv/hosts\.yml:6:\d+", _said(capsys, "inventory", "-i", "inv", "--host", "us"))
    tree = _said(capsys, "inventory", "-i", "inv", "--graph").splitlines()[:-1]
    assert ["@all:", "  |--@scoring:", "  |  |--eu", "  |  |--us"] == tree
    assert {"threshold": "0.7"} == json.loads(_said(capsys, "inventory", "-i", "inv", "--host", "us", "--json"))


@pytest.mark.parametrize("pattern", ["all", "fraud:!canary"])
def test_the_list_of_an_inventory_is_an_inventory_again(
    pattern: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An executable that answers it gives the same hosts, variables and groups."""
    example = str(ROOT / "inventories" / "example")
    answer = _said(capsys, "inventory", "-i", example, pattern, "--list")
    script = folder / "again" / "cmdb.sh"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\n")
    script.chmod(0o755)
    first, again = inventory.load([example]), inventory.load([script])
    chosen = {host.name for host in inventory.select(first, pattern)}
    assert {name: dict(first.hosts[name].vars) for name in chosen} == {n: dict(h.vars) for n, h in again.hosts.items()}
    assert {name: first.hosts[name].groups for name in chosen} == {name: host.groups for name, host in again.hosts.items()}


# ------------------------------------------------------------------------------------------------- all of them
LOOKS = ("status", "runs", "note", "report", "graph", "candidates", "explain", "inventory", "lint")


@pytest.mark.parametrize("verb", LOOKS)
def test_the_help_of_every_verb_begins_with_two_examples(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Then the options; it names its page."""
    shown = _said(capsys, verb, "--help")
    assert re.findall(rf"^  engine {verb}\b", shown, re.MULTILINE)[:2] == [f"  engine {verb}"] * 2
    assert shown.index(f"  engine {verb}") < shown.index("Options:")
    assert "docs/reference/commands.md" in shown


def test_words_stand_in_for_glyphs_and_colours(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """ACCESSIBLE=1: no glyph; FORCE_COLOR: colours even here; NO_COLOR beats it."""
    _registry(folder)
    _run(capsys, CHOOSING)
    commands = (
        ("status",),
        ("runs",),
        ("graph", "p.yml"),
        ("candidates", "p.yml", "-i", "inv"),
        ("explain", "threshold", "-i", "inv", "-h", "eu"),
    )
    monkeypatch.setenv("ACCESSIBLE", "1")
    assert not set("✔✘▶◷–●○│├") & set("".join(_said(capsys, *words) for words in commands))
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert all("\x1b[" in _said(capsys, *words) for words in commands)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not any("\x1b[" in _said(capsys, *words) for words in commands)


def test_looking_at_a_run_never_stops_it_from_being_taken(folder: Path) -> None:
    """However often others ask whether it is held, a claim succeeds; and while nobody holds it, nobody sees it held."""
    store, others = Journal(folder / ".lastgood"), [Journal(folder / ".lastgood") for _ in range(2)]
    over, seen = threading.Event(), list[bool]()

    def look_on(other: Journal) -> None:
        while not over.is_set():
            seen.append(other.held("RB-0007"))

    threads = [threading.Thread(target=look_on, args=(other,)) for other in others]
    for thread in threads:
        thread.start()
    try:
        _until(lambda: len(seen) > 200)
        assert not any(seen)
        for _ in range(20):
            store.claim("RB-0007")
            store.unlock("RB-0007")
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_a_run_that_was_kept_out_is_not_the_one_that_is_meant(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a name, the newest run is meant, but not one that another had kept out: the other is the one to look at."""
    store = Journal(folder / ".lastgood")
    body = {"name": "fraud", "playbook": "p.yml", "hosts": ["eu"], "requester": "ana", "plan": {"nodes": [], "steps": []}}
    assert ["RB-0001", "RB-0002"] == [store.start(body) for _ in range(2)]
    store.append("RB-0002", "run.ended", {"outcome": "failed", "exit": 8, "why": "eu is held by RB-0001"})
    store.close()
    assert _said(capsys, "status").startswith("RB-0001")
    assert "LOCKED" in _said(capsys, "status", "RB-0002")
    assert "LOCKED" in _said(capsys, "runs")
