"""A record is moved from one store to another: whole, once, and at no moment open in both."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from stage import Said, Stage, step

from engine import ledger, migration
from engine.cli import keeping
from engine.diagnostics import Exit
from engine.journal import Journal, JournalError

BOOK = {"execution": [step("first", {"x": 1}), step("second", {"x": 2}), step("third", {"x": 3})]}


class Place:
    """A store that a record is in, or is moved to. `name`: how the engine calls it."""

    def __init__(self, stage: Stage, where: str) -> None:
        self.stage, self.where = stage, where
        self.files = stage.folder / "files"
        self.name = where
        if "://" in where:
            with contextlib.closing(self.journal()) as found:
                self.name = found.store.name

    @property
    def folder(self) -> str:
        """Where its evidence lies."""
        return str(self.files) if "://" in self.where else self.where

    def engine(self, *words: str) -> Said:
        return self.stage.engine("--state", self.where, "--files", str(self.files), *words)

    def journal(self, lease: float = 30) -> Journal:
        return Journal(keeping.opened(self.where, self.files, lease), lease=lease)

    def record(self) -> dict[str, list[Any]]:
        """Every run's entries and those of the ledger, after each chain was verified."""
        with contextlib.closing(self.journal()) as found:
            names = [first.run for first, _ in found.runs()]
            return {name: found.verified(name) for name in (*names, ledger.CHAIN)}

    @property
    def moved(self) -> str:
        with contextlib.closing(self.journal()) as found:
            return found.moved


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """Three runs: one that ended well, one that failed and can go on, one in check mode."""
    stage = Stage(tmp_path, BOOK)
    assert 0 == stage.run().exit
    stage.have("first", {"x": 0})
    stage.trouble("first", apply=["breaks", 1])
    assert 1 == stage.run().exit
    assert 0 == stage.run("--check").exit
    return stage


@pytest.fixture
def left(stage: Stage) -> Place:
    return Place(stage, str(stage.state))


@pytest.fixture(params=["folder", pytest.param("postgresql", marks=pytest.mark.real)])
def other(stage: Stage, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    """Where it is moved to: another folder, and a database."""
    if request.param == "folder":
        return Place(stage, str(tmp_path / "other"))
    return Place(stage, request.getfixturevalue("postgres").url())


#: For what does not depend on where the record goes.
TO_A_FOLDER = pytest.mark.parametrize("other", ["folder"], indirect=True)


def moved(stage: Stage, source: Place, target: Place) -> Said:
    return stage.engine("--files", str(source.files), "state", "migrate", source.where, target.where)


def test_all_of_it_is_there_afterwards(stage: Stage, left: Place, other: Place) -> None:
    """Every entry as it was, in its chain; what was done is said, what comes next too."""
    before = left.record()
    said = moved(stage, left, other)
    assert 0 == said.exit, said.text
    assert ["RB-0001", "RB-0002", "RB-0003", ledger.CHAIN] == list(before)
    assert before == other.record()
    count = sum(map(len, before.values()))
    assert f"3 runs are in {other.name} now, {count} entries were written, every hash chain is whole there" in said.text
    assert f"next: engine --state {other.name} runs" in said.text
    kept = [path for path in (stage.state / "runs").rglob("*") if path.is_file()]
    assert kept
    assert f"({len(kept)} files) stay where they are, in {left.where}/runs; new ones go to {other.folder}/runs" in said.text


def test_a_run_goes_on_where_its_record_is_now(stage: Stage, left: Place, other: Place) -> None:
    """Taken up there it does what is left, once; the next run has the next number."""
    done = len(stage.effects())
    moved(stage, left, other)
    said = other.engine("resume", "RB-0002", "-y")
    assert 0 == said.exit, said.text
    assert ['a/first {"x": 1}'] == stage.effects()[done:]
    assert "RB-0004" in other.engine("run", str(stage.playbook), "-i", str(stage.stock)).text


@pytest.mark.parametrize(
    "words",
    ["resume RB-0002 -y", "undo RB-0001 -y", "note RB-0001 hello", "run PLAY -i STOCK"],
)
def test_nobody_goes_on_where_it_was(stage: Stage, left: Place, other: Place, words: str) -> None:
    """What would add to the old store is refused, and told where the record is; the world is left alone."""
    moved(stage, left, other)
    before, effects = left.record(), stage.effects()
    said = left.engine(*words.replace("PLAY", str(stage.playbook)).replace("STOCK", str(stage.stock)).split())
    assert f"moved to {other.name}" in said.text
    assert 2 == said.exit, said.text
    assert (before, effects) == (left.record(), stage.effects())


@TO_A_FOLDER
@pytest.mark.parametrize("words", ["status RB-0002", "report RB-0001", "runs", "status RB-0001 --raw"])
def test_what_was_left_can_be_read(stage: Stage, left: Place, other: Place, words: str) -> None:
    """The old store shows what it knows, and says that it is old."""
    moved(stage, left, other)
    said = left.engine(*words.split())
    assert (0, True) == (said.exit, f"this record was moved to {other.name}" in said.text), said.text


def test_back_again(stage: Stage, left: Place, other: Place) -> None:
    """What was added elsewhere comes back with it; the other store is the one that is closed then."""
    moved(stage, left, other)
    assert 0 == other.engine("resume", "RB-0002", "-y").exit
    assert 0 == other.engine("run", str(stage.playbook), "-i", str(stage.stock)).exit
    record = other.record()
    said = moved(stage, other, left)
    assert 0 == said.exit, said.text
    assert record == left.record()
    assert ("", left.where) == (left.moved, other.moved)
    assert 2 == other.engine("undo", "RB-0001", "-y").exit
    assert 0 == left.engine("undo", "RB-0004", "-y").exit


@TO_A_FOLDER
def test_back_again_unchanged(stage: Stage, left: Place, other: Place) -> None:
    """A record to which nothing was added elsewhere comes back as well."""
    moved(stage, left, other)
    assert 0 == moved(stage, other, left).exit
    assert ("", left.where) == (left.moved, other.moved)


@TO_A_FOLDER
def test_around(stage: Stage, left: Place, other: Place, tmp_path: Path) -> None:
    """From one to the next to a third, and from there to the first: one of them is open, whoever is asked."""
    third = Place(stage, str(tmp_path / "third"))
    assert [0, 0] == [moved(stage, left, other).exit, moved(stage, other, third).exit]
    again = moved(stage, left, other)
    assert (0, True) == (again.exit, "had been moved" in again.text), again.text
    assert [other.name, third.where, ""] == [left.moved, other.moved, third.moved]
    assert 2 == moved(stage, left, third).exit
    assert 0 == moved(stage, third, left).exit
    assert ["", third.where, left.where] == [left.moved, other.moved, third.moved]


def test_twice_is_once(stage: Stage, left: Place, other: Place) -> None:
    """The same command again does nothing and says so, even if the record has grown meanwhile."""
    moved(stage, left, other)
    other.engine("note", "RB-0001", "hello")
    record = other.record()
    said = moved(stage, left, other)
    assert (0, True) == (said.exit, "had been moved" in said.text), said.text
    assert (record, other.name, "") == (other.record(), left.moved, other.moved)


def test_not_while_a_run_is_run(tmp_path: Path) -> None:
    """Who runs it is named, and nothing is moved; the run comes to its end."""
    stage = Stage(tmp_path, {"execution": [step("slow", {"x": 1}, thing={"slow": 2.0})]})
    left, other = Place(stage, str(stage.state)), Place(stage, str(tmp_path / "other"))
    with stage.process("run", str(stage.playbook), "-i", str(stage.stock), stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not ((stage.state / "journal.db").exists() and stage.entries(kind="step.intent")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        said = moved(stage, left, other)
        process.communicate()
    assert (8, True) == (said.exit, "RB-0001 is being run by eve@" in said.text), said.text
    assert (0, "", {"LEDGER": []}) == (process.returncode, left.moved, other.record())
    assert ['a/slow {"x": 1}'] == stage.effects()


def test_two_records_are_not_joined(stage: Stage, left: Place, other: Place) -> None:
    """A store with runs of its own is refused, and the record stays where it is, and open."""
    assert 0 == other.engine("run", str(stage.playbook), "-i", str(stage.stock)).exit
    record = other.record()
    said = moved(stage, left, other)
    assert (1, True) == (said.exit, f"{other.name} holds a record of its own: RB-0001" in said.text), said.text
    assert ("", "", record) == (left.moved, other.moved, other.record())
    assert 0 == left.engine("resume", "RB-0002", "-y").exit


def test_a_copy_of_it_is_no_other_record(stage: Stage, left: Place, tmp_path: Path) -> None:
    """Where exactly the same entries are already, they are not written again."""
    copy = Place(stage, str(tmp_path / "copy"))
    shutil.copytree(left.where, copy.where)
    said = moved(stage, left, copy)
    assert 0 == said.exit, said.text
    assert (copy.where, "") == (left.moved, copy.moved)


@TO_A_FOLDER
def test_an_altered_record_is_not_moved(stage: Stage, left: Place, other: Place) -> None:
    """The run whose chain does not hold is named; nothing is moved."""
    with contextlib.closing(sqlite3.connect(stage.state / "journal.db")) as db, db:
        db.execute("UPDATE entries SET host = 'b' WHERE run = 'RB-0002' AND seq = 4")
    said = moved(stage, left, other)
    assert (1, True) == (said.exit, "LG073" in said.text and "RB-0002" in said.text), said.text
    assert ("", {"LEDGER": []}) == (left.moved, other.record())


def test_the_same_place_twice(stage: Stage, left: Place) -> None:
    """A record is not moved to where it is, however the place is written."""
    said = stage.engine("state", "migrate", left.where, f"{left.where}/../state")
    assert (2, "") == (said.exit, left.moved)


@TO_A_FOLDER
def test_no_record(stage: Stage, other: Place, tmp_path: Path) -> None:
    """A misspelt folder is not taken for an empty record."""
    said = stage.engine("state", "migrate", str(tmp_path / "nowhere"), other.where)
    assert (2, True, False) == (said.exit, "LG081" in said.text, (tmp_path / "nowhere").exists()), said.text


def test_a_process_that_had_it_open(stage: Stage, left: Place, other: Place) -> None:
    """Who opened the store before the move cannot add to it afterwards: neither a person's line nor a run."""
    with contextlib.closing(left.journal()) as late:
        assert 0 == moved(stage, left, other).exit
        for act in (
            lambda: late.append("RB-0001", "note", {"text": "late", "by": "eve"}),
            lambda: late.start({}),
            lambda: late.claim("RB-0002"),
        ):
            with pytest.raises(JournalError) as caught:
                act()
            assert ("LG083", Exit.USAGE) == (caught.value.diagnostics[0].code, caught.value.exit)


@TO_A_FOLDER
def test_a_holder_that_slept(stage: Stage, left: Place, other: Place) -> None:
    """A process that was not heard from does not keep the record, and its own entries are refused when it wakes up."""
    with contextlib.closing(left.journal(lease=0.3)) as asleep:
        asleep._beat = lambda: None  # type: ignore[method-assign]
        asleep.claim("RB-0002")
        time.sleep(0.5)
        assert 0 == moved(stage, left, other).exit
        with pytest.raises(JournalError) as caught:
            asleep.append("RB-0002", "note", {"text": "late", "by": "eve"})
        assert "LG082" == caught.value.diagnostics[0].code


@TO_A_FOLDER
def test_fencing_tokens_go_on(stage: Stage, left: Place, other: Place) -> None:
    """A token that is given in the new place is higher than all that were given in the old one."""
    with contextlib.closing(left.journal()) as found:
        found.claim("RB-0001")
        last = found.token("RB-0001")
    moved(stage, left, other)
    with contextlib.closing(other.journal()) as found:
        found.claim("RB-0001")
        assert last < found.token("RB-0001")


# ------------------------------------------------------------------------------------------------- killed
#: Moves a record again and again, killed before each n-th statement and after commits; then the same command to its end.
KILLED = """
import json, os, shutil, signal, sqlite3, sys
import psycopg
from engine import migration, postgres_store
from engine.cli import main, state
connect, execute = sqlite3.connect, psycopg.Connection.execute
left, other, back, files, stride = sys.argv[1:]
count = at = 0
def step():
    global count
    count += 1
    if count == at:
        os.kill(os.getpid(), signal.SIGKILL)
def stepped(real):
    def around(self, sql, *given, **more):
        step()
        found = real(self, sql, *given, **more)
        if sql == "COMMIT":
            step()
        return found
    return around
class Dying(sqlite3.Connection):
    execute = stepped(sqlite3.Connection.execute)
    executemany = stepped(sqlite3.Connection.executemany)
def child(dies):
    global at
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    at = dies
    sqlite3.connect = lambda *given, **more: connect(*given, **more, factory=Dying)
    psycopg.Connection.execute = stepped(psycopg.Connection.execute)
    psycopg.Cursor.executemany = stepped(psycopg.Cursor.executemany)
    code = main.run(["--files", files, "state", "migrate", left, other])
    os._exit(code if count < at or at == 0 else 99)
def reset(place, name):
    if "://" not in place:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(back + "/" + name, place)
        return
    with psycopg.connect(place, autocommit=True) as db:
        db.execute("UPDATE moves SET target = ''" if name == "left" else "DROP TABLE entries, leases, numbers, moves")
def seen(place):
    try:
        db = connect(place + "/journal.db") if "://" not in place else psycopg.connect(place, autocommit=True)
        target, = db.execute("SELECT target FROM moves").fetchone()
        entries, = db.execute("SELECT COUNT(*) FROM entries").fetchone()
        return target, entries
    except (sqlite3.OperationalError, psycopg.errors.UndefinedTable):
        return "", 0
    finally:
        db.close()
for dies in range(1, 1000, int(stride)):
    reset(left, "left")
    reset(other, "other")
    first = child(dies)
    between = seen(left), seen(other)
    second = child(0)
    print(json.dumps([first, between, second, (seen(left), seen(other))]), flush=True)
    if first == 0:
        break
"""


@pytest.mark.parametrize("way", ["there", "back"])
def test_killed_anywhere(stage: Stage, left: Place, other: Place, tmp_path: Path, way: str) -> None:
    """Killed at any statement or commit, never both stores take entries, and the same command completes the move."""
    source, target = left, other
    if way == "back":
        moved(stage, left, other)
        other.engine("note", "RB-0001", "hello")
        source, target = other, left
    record, count = source.record(), sum(map(len, source.record().values()))
    target.record()
    for place, name in ((source, "left"), (target, "other")):
        if "://" not in place.where:
            shutil.copytree(place.where, tmp_path / "before" / name)
    stride = 1 if (way, other.name) == ("there", other.where) else 4
    words = [source.where, target.where, str(tmp_path / "before"), str(other.files), str(stride)]
    argv = [sys.executable, "-c", KILLED, *words]
    done = subprocess.run(argv, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=600, check=False)
    kills = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(kills) > 40 / stride, done.stderr
    assert [-9] * (len(kills) - 1) + [0] == [first for first, *_ in kills], done.stderr
    states = set()
    for first, ((gone, _), (closed, entries)), second, after in kills:
        states.add((not gone, not closed and entries == count))
        assert (0, [[target.name, count], ["", count]]) == (second, after), (first, gone, closed, entries, done.stderr)
    assert (True, True) not in states
    assert {(True, False), (False, True)} <= states
    assert record == target.record()


def test_between_the_two_somebody_begins_another(stage: Stage, left: Place, other: Place) -> None:
    """The old store is closed and the new one empty when somebody runs something there: the record stays, and opens."""
    left.journal().close()
    with contextlib.closing(sqlite3.connect(stage.state / "journal.db")) as db, db:
        db.execute("UPDATE moves SET target = ?", (other.name,))  # as a killed process leaves it
    assert 0 == other.engine("run", str(stage.playbook), "-i", str(stage.stock)).exit
    said = moved(stage, left, other)
    assert (1, True) == (said.exit, "holds a record of its own" in said.text), said.text
    assert ("", "") == (left.moved, other.moved)
    assert 0 == left.engine("resume", "RB-0002", "-y").exit


@TO_A_FOLDER
@pytest.mark.parametrize("begins", [False, True])
def test_two_at_once(stage: Stage, left: Place, other: Place, monkeypatch: pytest.MonkeyPatch, begins: bool) -> None:
    """Whoever comes late, and finds that a run was begun over there meanwhile, does not open the old store again."""
    source, target = left.journal(), other.journal()

    look, theirs = source.store.look, list[Said]()

    def looked(work: Any) -> Any:
        """After the first look at where the record is, another process moves all of it, and a run may begin there."""
        found = look(work)
        if work is migration._pointer and not theirs:
            theirs.append(moved(stage, left, other))
            if begins:
                theirs.append(other.engine("run", str(stage.playbook), "-i", str(stage.stock)))
        return found

    monkeypatch.setattr(source.store, "look", looked)
    with contextlib.closing(source), contextlib.closing(target), contextlib.suppress(JournalError):
        migration.moved(source.store, target.store)
    assert {0} == {said.exit for said in theirs}
    assert (other.name, "") == (left.moved, other.moved)
