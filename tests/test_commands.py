"""`run`, `plan`, `approve`, `resume`, `undo` and `cancel` as they are typed: every exit code, and what is said beside it."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import terminal
from stage import TWO_KEYS, Said, Stage, look, step

from engine import leases
from engine.diagnostics import EngineError, Exit
from engine.sqlite_store import SqliteStore

PATIENCE = 60.0


def play(tmp: Path, *steps: dict[str, Any], hosts: tuple[str, ...] = ("a",), **more: Any) -> Stage:
    return Stage(tmp, {"execution": list(steps or [step("w", {"x": 1})]), **more}, hosts)


def wait(holds: Callable[[], Any], what: str = "it") -> None:
    """Until it holds; a test that waits in vain says for what."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(EngineError, sqlite3.Error):
            if holds():
                return
        time.sleep(0.02)
    raise AssertionError(f"waited in vain for {what}")


def intent(stage: Stage, name: str, run: str = "RB-0001") -> Callable[[], bool]:
    return lambda: (
        stage.state.exists() and any(entry.step.endswith(f"/{name}") for entry in stage.entries(run, "step.intent"))
    )


@contextlib.contextmanager
def going(stage: Stage, *words: str, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """`engine run` of the stage in another process, which does not outlive the block."""
    process = stage.process(*(words or ("run", str(stage.playbook), "-i", str(stage.stock))), **more)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        with contextlib.suppress(ValueError):
            process.communicate(timeout=PATIENCE)


# -- every exit code
def test_0_done(tmp_path: Path) -> None:
    """0: everything was done, or there was nothing to do."""
    stage = play(tmp_path)
    assert Exit.DONE == stage.run().exit
    assert Exit.DONE == stage.run().exit


def test_1_failed(tmp_path: Path) -> None:
    """1: a step failed; the last line says how to go on."""
    stage = play(tmp_path)
    stage.trouble("w", apply="breaks")
    said = stage.run()
    assert Exit.FAILED == said.exit
    assert said.err.rstrip().endswith("next: engine resume RB-0001")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run"], "Missing argument"),
        (["run", "{playbook}", "--no-such-option"], "No such option"),
        (["run", "{playbook}", "-i", "{stock}", "-e", "novalue"], "not a variable"),
        (["run", "{playbook}", "-i", "{stock}", "-e", "run=1"], "the engine's own"),
        (["run", "{playbook}", "-i", "{stock}", "--until", "wieght"], "did you mean `weight`?"),
        (["run", "{playbook}", "-i", "{stock}", "--forks", "0"], "--forks"),
        (["resume"], "there are no runs"),
        (["resume", "RB-0007"], "there are no runs"),
        (["undo", "-y"], "there are no runs"),
        (["cancel"], "there are no runs"),
        (["approve"], "there are no runs"),
        (["rsume"], "did you mean `resume`?"),
    ],
)
def test_2_usage(tmp_path: Path, words: list[str], says: str) -> None:
    """2: the command line is wrong; nothing is begun, and a likely spelling is offered."""
    stage = play(tmp_path, step("weight", {"x": 1}, tags=["first"]))
    said = stage.engine(*(word.format(playbook=stage.playbook, stock=stage.stock) for word in words))
    assert Exit.USAGE == said.exit
    assert says in said.text
    assert not stage.effects()


def test_2_no_such_run(tmp_path: Path) -> None:
    """2: a run that is not there, with the one that was probably meant."""
    stage = play(tmp_path)
    stage.run()
    for verb in ("resume", "undo", "cancel", "approve"):
        said = stage.engine(verb, "RB-0002")
        assert Exit.USAGE == said.exit
        assert "no run RB-0002" in said.text


def test_2_nobody_confirms(tmp_path: Path) -> None:
    """2: a key is not given without anybody to confirm it."""
    stage = play(tmp_path, authority=TWO_KEYS).people()
    stage.run("--no-wait")
    said = stage.engine("approve", "RB-0001", "--key", str(tmp_path / "ana"))
    assert Exit.USAGE == said.exit
    assert "--confirm RB-0001" in said.text


@pytest.mark.parametrize("what", ["playbook", "inventory", "module", "limit", "tag", "no inventory"])
def test_3_invalid(tmp_path: Path, what: str) -> None:
    """3: the playbook, the inventory or a module is wrong; nobody is contacted, no run is begun."""
    stage = play(tmp_path)
    words = [str(stage.playbook), "-i", str(stage.stock)]
    if what == "playbook":
        stage.playbook.write_text(stage.playbook.read_text().replace('"x": 1', '"x": {{'))
    elif what == "inventory":
        (stage.stock / "hosts.yml").write_text("all: {hosts: [}")
    elif what == "module":
        (stage.base / "modules" / "thing.py").write_text("import nothing_that_exists")
    elif what == "limit":
        words += ["--limit", "nobody"]
    elif what == "no inventory":
        words = words[:1]
    said = stage.engine("run", *words, *(["--tags", "fist"] if what == "tag" else []))
    assert Exit.INVALID == said.exit, said.err
    assert "Traceback" not in said.text
    assert not stage.effects()
    assert not stage.state.exists()


def test_4_held(tmp_path: Path) -> None:
    """4: it was done, and is not verified."""
    stage = play(tmp_path, verification=[look("w", {"x": 2})])
    assert Exit.HELD == stage.run().exit


def test_5_waiting(tmp_path: Path) -> None:
    """5: a key is waited for, and --no-wait does not."""
    stage = play(tmp_path, authority=TWO_KEYS).people()
    said = stage.run("--no-wait")
    assert Exit.WAITING == said.exit
    assert "next: engine approve RB-0001" in said.text


def test_6_rejected(tmp_path: Path) -> None:
    """6: somebody said no, or a key is not taken."""
    stage = play(tmp_path, authority=TWO_KEYS).people()
    stage.run("--no-wait")
    wrong = stage.engine("approve", "RB-0001", "--key", str(tmp_path / "ana"), "--confirm", "v9")
    assert Exit.REJECTED == wrong.exit
    assert "`v9` is not RB-0001" in wrong.text
    assert Exit.DONE == stage.engine("reject", "RB-0001", "--key", str(tmp_path / "ben"), "--because", "no").exit
    late = stage.engine("approve", "RB-0001", "--key", str(tmp_path / "ana"), "--confirm", "RB-0001")
    assert Exit.REJECTED == late.exit
    assert Exit.REJECTED == stage.resume().exit


def test_a_key_for_the_newest_run_names_the_one_that_waits(tmp_path: Path) -> None:
    """Without a name the newest run is meant, and that one may have ended while another is being waited for."""
    stage = play(tmp_path, authority=TWO_KEYS).people()
    assert [Exit.WAITING] * 2 == [stage.run("--no-wait").exit for _ in range(2)]
    assert Exit.DONE == stage.engine("reject", "RB-0002", "--key", str(tmp_path / "ben"), "--because", "no").exit
    assert Exit.REJECTED == stage.resume("RB-0002").exit
    said = stage.engine("approve", "--key", str(tmp_path / "ana"), "--confirm", "RB-0001")
    assert "RB-0002 takes no keys any more" in said.text
    assert "RB-0001 waits for a key" in said.text
    assert Exit.DONE == stage.engine("reject", "RB-0001", "--key", str(tmp_path / "ben"), "--because", "no").exit
    assert "waits for a key" not in stage.engine("approve", "--key", str(tmp_path / "ana")).text


def test_6_one_person_is_not_two(tmp_path: Path) -> None:
    """6: a person gives one key, not two."""
    stage = play(tmp_path, authority=TWO_KEYS).people()
    assert Exit.WAITING == stage.run("--no-wait").exit
    stage.approve("ana")
    said = stage.engine("approve", "RB-0001", "--key", str(tmp_path / "ana"), "--confirm", "RB-0001")
    assert Exit.REJECTED == said.exit
    assert "no key was given" in said.text
    assert 1 == len(stage.entries(kind="key.given"))


def test_7_stale(tmp_path: Path) -> None:
    """7: the world is not what the keys were given for."""
    stage = play(tmp_path, authority=TWO_KEYS).people()
    stage.run("--no-wait")
    stage.approve()
    stage.have("w", {"x": 5})
    assert Exit.STALE == stage.resume().exit


def test_8_locked(tmp_path: Path) -> None:
    """8: another run holds the host: it is named, with what it does; the second run can be taken up when it is through."""
    stage = play(tmp_path, step("w", {"x": 1}, thing={"slow": 600}, timeout="1h"), hosts=("a", "b"))
    with going(stage) as first:
        wait(intent(stage, "w"), "the first run")
        second = stage.run("--limit", "a")
        assert Exit.LOCKED == second.exit
        assert "a is held by RB-0001 (A play)" in second.text
        assert "engine status RB-0001 --follow" in second.text
        assert Exit.LOCKED == stage.resume("RB-0001").exit
        assert Exit.LOCKED == stage.undo("RB-0001").exit
        assert ("failed", 8) == (stage.ended["outcome"], stage.ended["exit"])
        first.kill()
        first.wait(PATIENCE)
    stage.playbook.write_text(stage.playbook.read_text().replace("600", "0"))
    assert Exit.STALE == stage.resume("RB-0002").exit, "it is the playbook of then that is run"
    stage.playbook.write_text(stage.playbook.read_text().replace('"slow": 0', '"slow": 600'))
    stage.have("w", {"x": 1})
    assert Exit.DONE == stage.resume("RB-0002").exit, "a dead holder holds nothing"


def test_130_interrupted(tmp_path: Path) -> None:
    """130: stopped by a person, with everything on record."""
    stage = play(tmp_path, step("w", {"x": 1}), step("v", {"x": 1}))
    assert Exit.INTERRUPTED == stage.run("--until", "w").exit


def test_70_a_mistake_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """70: our own mistake leaves a report without data, and no traceback."""
    stage = play(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("engine.runner.Run.go", lambda _self: 1 / 0)
    said = stage.run()
    assert Exit.BUG == said.exit
    assert "this is our mistake, not yours" in said.text
    assert "Traceback" not in said.text
    report = (tmp_path / ".lastgood-bug.txt").read_text()
    assert "ZeroDivisionError" in report
    assert str(tmp_path) not in report


# -- signals
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_in_a_process_of_its_own(tmp_path: Path, times: int) -> None:
    """Ctrl-C once ends at the next safe point, twice at once; both with 130, and resume goes on."""
    slow = {"slow": 600} if times == 1 else {}
    stage = play(tmp_path, step("a", {"x": 1}), step("w", {"x": 1}, timeout="1h", thing=slow), step("v", {"x": 1}))
    if times == 2:
        stage.trouble("w", apply="stuck")  # a module that does not look whether the run is being stopped
    with going(stage) as process:
        wait(intent(stage, "w"), "the step")
        began = time.monotonic()
        for _ in range(times):
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)
        _, err = process.communicate(timeout=30)
        assert time.monotonic() - began < 20
    assert Exit.INTERRUPTED == process.returncode, err
    assert "engine resume RB-0001" in err
    assert ("stopped now. Nothing is lost" in err) == (times == 2)
    assert ["a/a"] == [line.split()[0] for line in stage.effects()]
    stage.trouble("w")
    if times == 2:
        assert Exit.DONE == stage.resume().exit
        assert ["a/a", "a/w", "a/v"] == [line.split()[0] for line in stage.effects()]


@pytest.mark.parametrize("verb", ["plan", "run"])
def test_ctrl_c_while_a_host_does_not_answer(tmp_path: Path, verb: str) -> None:
    """While the plan is only being looked at, one Ctrl-C ends the command at once, whatever a host does."""
    stage = play(tmp_path, authority=TWO_KEYS).people()
    stage.trouble("w", read="stuck")
    with going(stage, verb, str(stage.playbook), "-i", str(stage.stock)) as process:
        wait(stage.beside("w.stuck").exists, "the reading")
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=50)
        assert time.monotonic() - began < 20
    assert Exit.INTERRUPTED == process.returncode
    assert "interrupted before anything was changed" in err


def test_ctrl_c_in_an_undo(tmp_path: Path) -> None:
    """An undo that is stopped says how to go on, and goes on where it was."""
    stage = play(tmp_path, step("a", {"x": 1}), step("b", {"x": 1}), step("c", {"x": 1}))
    assert Exit.DONE == stage.run().exit
    stage.trouble("b", undo="waits")
    with going(stage, "undo", "RB-0001", "-y") as process:
        wait(lambda: len(stage.bodies("undo.intent")) == 2, "the undo of the second step")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=50)
    assert Exit.INTERRUPTED == process.returncode, err
    assert "engine undo RB-0001" in err
    assert (None, {"x": 1}) == (stage.thing("c"), stage.thing("a"))
    stage.trouble("b")
    assert Exit.DONE == stage.undo().exit
    assert 6 == len(stage.effects())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_process_that_dies(tmp_path: Path, number: signal.Signals) -> None:
    """However the process ends, the run can be taken up and does what is left."""
    stage = play(tmp_path, step("a", {"x": 1}), step("w", {"x": 1}), step("v", {"x": 1}))
    stage.trouble("w", apply="stuck")
    with going(stage) as process:
        wait(intent(stage, "w"), "the step")
        process.send_signal(number)
        process.communicate(timeout=30)
    stage.trouble("w")
    said = stage.resume()
    assert Exit.DONE == said.exit
    assert "look first at 1 that were cut off" in said.text
    assert ["a/a", "a/w", "a/v"] == [line.split()[0] for line in stage.effects()]


def test_cancel_from_another_process(tmp_path: Path) -> None:
    """`engine cancel` stops a run in another process at its next safe point; the record says who and why."""
    stage = play(tmp_path, step("a", {"x": 1}), step("w", {"x": 1}, thing={"slow": 600}, timeout="1h"))
    with going(stage) as process:
        wait(intent(stage, "w"), "the step")
        said = stage.engine("cancel", "--because", "wrong service", "--as", "ana")
        assert Exit.DONE == said.exit
        assert "RB-0001 is cancelled. next: engine report RB-0001, or engine undo RB-0001" in said.text
        process.communicate(timeout=30)
    assert Exit.FAILED == process.returncode
    assert "cancelled" == stage.ended["outcome"]
    assert [{"by": "ana", "why": "wrong service", "undo": False}] == stage.bodies("cancel.asked")
    again = stage.engine("cancel")
    assert Exit.DONE == again.exit
    assert "has ended already: cancelled" in again.text
    assert "exit 1: cancelled; the run is over" in stage.engine("status").text


def test_cancel_of_a_run_that_nobody_runs(tmp_path: Path) -> None:
    """A run that stopped is cancelled on the spot, and is not taken up again."""
    stage = play(tmp_path, step("a", {"x": 1}), step("w", {"x": 1}))
    assert Exit.INTERRUPTED == stage.run("--until", "a").exit
    said = stage.engine("cancel", "--because", "no longer needed")
    assert Exit.DONE == said.exit
    assert "is now cancelled" in said.text
    assert "cancelled" == stage.ended["outcome"]
    assert Exit.DONE == stage.resume().exit
    assert stage.thing("w") is None


def test_a_cancel_leaves_no_clean_up_behind(tmp_path: Path) -> None:
    """A run that stopped inside a block with a clean-up is not ended over its head: the cancel runs it, and nothing else."""
    block = {"name": "B", "block": [step("freeze", {"x": 1}), step("w", {"x": 1})], "always": [step("thaw", {"x": 1})]}
    stage = play(tmp_path, block)
    assert Exit.INTERRUPTED == stage.run("--until", "freeze").exit
    said = stage.engine("cancel")
    assert Exit.DONE == said.exit
    assert "RB-0001 is not being run: its clean-up is done by this command" in said.text
    assert ["a/freeze", "a/thaw"] == [line.split()[0] for line in stage.effects()]
    assert "cancelled" == stage.ended["outcome"]


def test_cancel_and_undo_of_a_run_that_nobody_runs(tmp_path: Path) -> None:
    """A cancel with --undo of a run that stopped puts back what was changed, at once."""
    stage = play(tmp_path, step("a", {"x": 1}), step("w", {"x": 1}))
    stage.have("a", {"x": 0})
    assert Exit.INTERRUPTED == stage.run("--until", "a").exit
    said = stage.engine("cancel", "--undo")
    assert Exit.DONE == said.exit
    assert "RB-0001 is not being run: the undo is done by this command" in said.text
    assert ({"x": 0}, None) == (stage.thing("a"), stage.thing("w"))
    assert "cancelled" == stage.ended["outcome"]


# -- options
def test_limit(tmp_path: Path) -> None:
    """--limit runs only some of the playbook's hosts."""
    stage = play(tmp_path, hosts=("a", "b", "c"))
    assert Exit.DONE == stage.run("--limit", "b,c:!c").exit
    assert ["b/w"] == [line.split()[0] for line in stage.effects()]


def test_extra_variables(tmp_path: Path) -> None:
    """-e takes texts, JSON and files, and is stronger than everything else; it is remembered on resume."""
    (tmp_path / "more.yml").write_text("third: [3]\n")
    stage = play(tmp_path, step("w", {"a": "{{ first }}", "b": "{{ second }}", "c": "{{ third }}"}), vars={"first": "play"})
    stage.trouble("w", apply="breaks")
    assert Exit.FAILED == stage.run("-e", "first=1", "-e", '{"second": 2}', "-e", f"@{tmp_path}/more.yml").exit
    stage.trouble("w")
    assert Exit.DONE == stage.resume().exit
    assert {"a": "1", "b": 2, "c": [3]} == stage.thing("w")


def test_diff(tmp_path: Path) -> None:
    """--diff prints each change as before and after."""
    stage = play(tmp_path)
    stage.have("w", {"x": 0})
    said = stage.run("--diff")
    assert "a execution/w" in said.err
    assert "x" in said.err
    assert "0" in said.err


def test_json(tmp_path: Path) -> None:
    """--json prints one object a line, the format first, the recap last; people's view stays on standard error."""
    stage = play(tmp_path, step("w", {"x": 1}))
    said = stage.run("--json", "--json-into", str(tmp_path / "events"))
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert "format" in json.dumps(lines[0])
    recap = lines[-1]
    assert ("recap", "RB-0001", 0, "succeeded") == tuple(recap[key] for key in ("kind", "run", "exit", "outcome"))
    assert Path(recap["report"]).is_file()
    into = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert lines[:-1] == into
    assert "RECAP" in said.err
    assert "RECAP" not in said.out


# -- streams that are closed
@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_nobody_reads_any_more(tmp_path: Path, closed: str) -> None:
    """A reader that goes away ends neither the run nor its exit code: `engine run … --json | head -1` is safe."""
    stage = play(tmp_path, *(step(f"s{number}", {"x": 1}) for number in range(5)), verification=[look("s1", {"x": 2})])
    words = ["run", str(stage.playbook), "-i", str(stage.stock), "--json"]
    with going(stage, *words) as process:
        stream = getattr(process, closed)
        stream.close()
        other = process.stderr if closed == "stdout" else process.stdout
        assert other is not None
        other.read()
        assert Exit.HELD == process.wait(PATIENCE)
    assert 5 == len(stage.effects())
    assert "held" == stage.ended["outcome"]


def test_the_report_does_not_decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the report cannot be written the run has ended as it has, and that is said."""
    stage = play(tmp_path)

    def broken(*_: Any, **__: Any) -> str:
        raise ValueError("a mistake in the report")

    monkeypatch.setattr("engine.report.html", broken)
    said = stage.run()
    assert Exit.DONE == said.exit
    assert "the report could not be written" in said.text


# -- a journal that cannot be written
class Faulty:
    """A connection of which one statement fails, and every later one: a disk that is full, or gone."""

    def __init__(self, real: sqlite3.Connection, word: str, at: int, late: bool) -> None:
        self.real, self.word, self.at, self.late = real, word, at, late
        self.count = 0

    def _do(self, act: Callable[..., Any], sql: str, *values: Any) -> Any:
        if sql.lstrip().upper().startswith(self.word):
            self.count += 1
            if self.count >= self.at:
                if self.late and self.count == self.at:
                    act(sql, *values)
                raise sqlite3.OperationalError("disk I/O error")
        return act(sql, *values)

    def execute(self, sql: str, *values: Any) -> Any:
        return self._do(self.real.execute, sql, *values)

    def executemany(self, sql: str, *values: Any) -> Any:
        return self._do(self.real.executemany, sql, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@contextlib.contextmanager
def faulty(word: str, at: int, late: bool = False) -> Iterator[list[Faulty]]:
    """Every journal that is opened in the block fails at its `at`-th statement that begins with `word`."""
    made: list[Faulty] = []
    with pytest.MonkeyPatch.context() as patch:
        real = SqliteStore._open

        def opened(self: SqliteStore, connect: Any) -> Any:
            made.append(Faulty(real(self, connect), word, at, late))
            return made[-1]

        patch.setattr(SqliteStore, "_open", opened)
        # What it holds it cannot give back. Here the process goes on, so it runs under the number of one that has ended.
        me = leases.Owner.me()
        patch.setattr(leases.Owner, "me", lambda person="": replace(me, began=me.began - 1))
        yield made


def was_through(said: Said) -> bool:
    """Whether the run was through, and only what follows its end could not be written."""
    return "the ledger or the report could not be written" in said.text


@pytest.mark.parametrize(
    ("word", "late"),
    [
        pytest.param("COMMIT", False, id="commit"),
        pytest.param("COMMIT", True, id="commit-that-was-one", marks=pytest.mark.slow),
        pytest.param("INSERT", False, id="insert", marks=pytest.mark.slow),
        pytest.param("BEGIN", False, id="begin", marks=pytest.mark.slow),
    ],
)
def test_the_record_cannot_be_written(tmp_path: Path, word: str, late: bool) -> None:
    """Whichever write fails first: no effect follows an intent that is not on record, it is said, and resume goes on."""
    steps = [step("a", {"x": 1}), step("b", {"x": 1}, retries=1, delay="1ms"), step("c", {"x": 1}, needs=[])]
    for at in range(1, 60):
        stage = play(tmp_path / str(at), *steps, hosts=("h1", "h2"), verification=[look("a", {"x": 1})])
        with faulty(word, at, late) as made:
            said = stage.run()
        if made[0].count < at or was_through(said):
            assert Exit.DONE == said.exit
            assert at > 10
            return
        assert Exit.FAILED == said.exit, f"{at}: {said.err}"
        assert "the journal cannot be written: disk I/O error" in said.text, f"{at}: {said.err}"
        assert "Traceback" not in said.text
        begun = bool(stage.latest)
        intents = {(entry.host, entry.step) for entry in stage.entries(kind="step.intent")} if begun else set()
        effects = {tuple(line.split()[0].split("/")) for line in stage.effects()}
        assert {(host, f"execution/{name}") for host, name in effects} <= intents, f"{at}: an effect without its intent"
        last = stage.resume() if begun else stage.run()
        assert Exit.DONE == last.exit, f"{at}: {last.err}"
        assert 6 == len(stage.effects()), f"{at}: each effect once"
    raise AssertionError("it never came to its end")


def test_the_record_cannot_be_read(tmp_path: Path) -> None:
    """A read that fails ends the run in words, like a write."""
    stage = play(tmp_path)
    with faulty("SELECT RUN, SEQ", 3):
        said = stage.run()
    assert Exit.FAILED == said.exit
    assert "disk I/O error" in said.text
    assert "Traceback" not in said.text


def test_a_store_that_cannot_be_opened(tmp_path: Path) -> None:
    """A store that is no store is refused in words, before anything is contacted."""
    stage = play(tmp_path)
    stage.state.mkdir(0o700)
    (stage.state / "journal.db").write_bytes(b"this is no database, and has never been one" * 50)
    (stage.state / "journal.db").chmod(0o600)
    said = stage.run()
    assert Exit.FAILED == said.exit
    assert "is no database" in said.text
    assert not stage.effects()


def test_a_record_that_was_changed(tmp_path: Path) -> None:
    """A journal that was edited is not continued, and says from where on."""
    stage = play(tmp_path)
    stage.trouble("w", apply="breaks")
    stage.run()
    with contextlib.closing(sqlite3.connect(stage.state / "journal.db")) as db, db:
        db.execute("UPDATE entries SET body = replace(body, 'failed', 'changed') WHERE kind = 'step.outcome'")
    for said in (stage.resume(), stage.undo()):
        assert Exit.FAILED == said.exit
        assert "does not follow from the one before it" in said.text
    assert not stage.effects()


# -- people on a terminal
class Terminal(io.StringIO):
    """A standard input that is a terminal, as far as the engine can see."""

    def isatty(self) -> bool:
        return True


def test_resume_asks_before_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal resume says what it would do and asks; no leaves everything as it is."""
    stage = play(tmp_path)
    stage.trouble("w", apply="breaks")
    stage.run()
    stage.trouble("w")
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("click.confirm", lambda *_a, **_k: False)
    said = stage.engine("resume")
    assert Exit.INTERRUPTED == said.exit
    assert "keep 0 steps that ended" in said.text
    assert not stage.effects()
    assert Exit.INTERRUPTED == stage.engine("undo").exit
    monkeypatch.setattr("click.confirm", lambda *_a, **_k: True)
    assert Exit.DONE == stage.engine("resume").exit


@pytest.mark.parametrize("answer", ["done", "not-done", "later"])
def test_resume_asks_what_only_a_person_can_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    """On a terminal resume asks what became of a step that nothing can show, and takes `later` for an answer."""
    stage = play(tmp_path, step("w", {"x": 1}, thing={"crash": "D"}))
    stage.trouble("w", apply="blinds")
    assert Exit.FAILED == stage.run().exit
    stage.trouble("w")
    for receipt in stage.state.rglob("thing-*"):
        receipt.unlink()
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("click.confirm", lambda *_a, **_k: True)
    asked: list[str] = []
    monkeypatch.setattr("click.prompt", lambda text, **_k: asked.append(text) or answer)
    said = stage.engine("resume")
    assert "a: execution/w is uncertain" in said.text
    assert ["You have looked: was it done?", *(["How do you know?"] if answer != "later" else [])] == asked
    assert {"done": (0, 1), "not-done": (0, 2), "later": (1, 1)}[answer] == (said.exit, len(stage.effects()))


def test_a_key_that_is_not_taken_does_not_end_the_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake while a key is given on the run's own terminal is said, and the run waits on."""
    from engine.cli import running

    stage = play(tmp_path, authority=TWO_KEYS).people()
    monkeypatch.setattr("engine.cli.running.select.select", lambda *_: ([True], [], []))

    class View:
        def __init__(self) -> None:
            self.said: list[str] = []

        def write(self, text: str) -> None:
            self.said.append(text)

        question = write

        def add(self, _entry: Any) -> None:
            pass

        @contextlib.contextmanager
        def paused(self) -> Iterator[None]:
            yield

    assert Exit.WAITING == stage.run("--no-wait").exit
    monkeypatch.setattr("sys.stdin", Terminal("approve\n" * 3))
    monkeypatch.setattr("click.prompt", lambda *_a, **_k: "not the version")
    with contextlib.redirect_stderr(Terminal()) as err, stage.store() as store:
        poll = running.prompter(store, "RB-0001", View(), (tmp_path / "ana",))  # type: ignore[arg-type]
        poll(stage.bodies("key.asked")[0])
    assert "`not the version` is not RB-0001" in err.getvalue()
    assert not stage.entries(kind="key.given")


# -- two at once
def test_two_hosts_two_runs(tmp_path: Path) -> None:
    """Runs of different hosts do not disturb each other, in one store and at one time."""
    stage = play(tmp_path, *(step(f"s{number}", {"x": 1}) for number in range(10)), hosts=("a", "b"))
    words = ["run", str(stage.playbook), "-i", str(stage.stock), "--limit"]
    with going(stage, *words, "a") as first, going(stage, *words, "b") as second:
        assert [0, 0] == [one.wait(PATIENCE) for one in (first, second)]
    assert 20 == len(stage.effects())
    for run in ("RB-0001", "RB-0002"):
        assert "succeeded" == stage.entries(run, "run.ended")[0].body["outcome"]


def test_one_plan_twice_at_once(tmp_path: Path) -> None:
    """Of two people who run the same saved plan at the same time one does, and the other is told."""
    stage = play(tmp_path, step("w", {"x": 1}, thing={"slow": 1.0}))
    path = tmp_path / "rb.plan"
    assert Exit.DONE == stage.plan("--out", str(path)).exit
    with going(stage, "run", str(path)) as first, going(stage, "run", str(path)) as second:
        codes = sorted(one.wait(PATIENCE) for one in (first, second))
    assert codes[0] == Exit.DONE
    assert codes[1] in (Exit.LOCKED, Exit.STALE)
    assert 1 == len(stage.effects())


def test_a_resume_that_nobody_confirms_says_that_it_did_nothing(tmp_path: Path) -> None:
    """Enter alone means no."""
    stage = Stage(tmp_path, {"execution": [step("w", {"x": 1})]})
    stage.trouble("w", apply="breaks")
    assert 1 == stage.run().exit
    with terminal.Terminal(stage, "resume") as asked:
        asked.shows("Continue? [y/N]:")
        asked.types("")
        assert Exit.INTERRUPTED == asked.ends()
        assert "Nothing was done: RB-0001 stays as it is." in asked.text


@pytest.mark.parametrize("verb", ["resume", "undo"])
def test_who_waits_for_keys_that_were_asked_for_earlier_says_so(tmp_path: Path, verb: str) -> None:
    """A log that nobody follows by hand would else stand still without a word."""
    stage = Stage(tmp_path, {"execution": [step("w", {"x": 1})], "authority": TWO_KEYS}).people()
    assert 5 == stage.run("--no-wait").exit
    if verb == "undo":
        stage.approve()
        assert 0 == stage.resume().exit
        assert 5 == stage.undo("--no-wait").exit
    time.sleep(2.1)
    process = stage.process(verb, "RB-0001", "-y")
    assert process.stderr is not None
    try:
        assert any("waiting for the keys asked for at" in line for line in process.stderr)
    finally:
        process.kill()
        process.communicate()


def test_keys_that_race(tmp_path: Path) -> None:
    """Many answers at once count each person once."""
    stage = play(tmp_path, authority=TWO_KEYS).people()
    stage.run("--no-wait")
    words = ["approve", "RB-0001", "--confirm", "RB-0001", "--because", "", "--key"]
    processes = [stage.process(*words, str(tmp_path / person)) for person in ("ana", "ben") * 3]
    for process in processes:
        process.communicate(timeout=PATIENCE)
    assert Exit.DONE == stage.resume().exit
    assert 1 == len(stage.effects())
    (settled,) = stage.bodies("authority.settled")
    assert ["ana", "ben"] == sorted(settled["people"])


def test_no_thread_and_no_file_is_left(tmp_path: Path) -> None:
    """A command leaves no thread running and no file open in its process."""
    stage = play(
        tmp_path, hosts=("a", "b"), communications=[{"name": "t", "on": ["ended"], "notify": {"to": "desk", "message": "x"}}]
    )
    stage.run()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        assert Exit.DONE == stage.run().exit
    wait(lambda: len(list(Path("/proc/self/fd").iterdir())) <= before, "files to be closed")
    names = [thread.name for thread in threading.enumerate()]
    assert "screen" not in names
