"""Operations that a platform accepts at once and does later: each begun once, whatever happens to the process that waits.

The platform is a server process of its own (tests/modules/slow_platform.py) and counts what was really begun there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from killer import Killer
from stage import Stage

from engine.diagnostics import Exit
from engine.operation import Operation
from modules._wire import Wire

HERE = Path(__file__).parent
MODULES = HERE.parent / "modules"


class Remote:
    """The platform as its operator sees it."""

    def __init__(self, url: str) -> None:
        self.url, self.wire = url, Wire()

    def set(self, **more: Any) -> dict[str, Any]:
        """Sets what becomes of operations; returns what the platform counted."""
        found: dict[str, Any] = self.wire.http("POST", f"{self.url}/admin", json=more).json()
        return found

    @property
    def operations(self) -> list[str]:
        """The states of all that was ever begun."""
        found: list[str] = self.set()["operations"]
        return found

    @property
    def version(self) -> str:
        return str(self.set()["now"]["version"])


@pytest.fixture(scope="module")
def process() -> Iterator[str]:
    """One platform for all tests of this file: its address."""
    path = [str(MODULES), str(HERE.parent), str(HERE.parents[1])]
    argv = [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}; import slow_platform; slow_platform.main()"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        assert server.stdin
        yield json.loads(server.stdout.readline())["url"]
        server.stdin.close()


@pytest.fixture
def platform(process: str) -> Remote:
    """The platform as new: version 2 serves, nothing was ever begun."""
    remote = Remote(process)
    remote.set(operations=[], asked=0, now={"version": "2", "replicas": 2}, seconds=None, keyed=True, ends="well")
    remote.set(loses=[], stubborn=False, looks=None)
    return remote


KINDS = ("keyed", "pending", "blind")


def stage(tmp: Path, platform: Remote, kind: str = "keyed", **more: Any) -> Stage:
    """A playbook that takes the endpoint back to version 1. `kind`: the platform honours keys, says what goes on, or not."""
    about = {
        "url": f"{platform.url}/endpoints/fraud",
        "start_url": f"{platform.url}/endpoints/fraud/update",
        "fields": {"deployment.version": "1"},
        "body": {"version": "$deployment.version"},
        "handle": "operation.id",
        "status_url": f"{platform.url}/operations/$handle",
        "done_when": "reply.state == 'Succeeded'",
        "failed_when": "reply.state in ['Failed', 'RolledBack', 'Cancelled']",
        "says": "message",
        "cancel_url": f"{platform.url}/operations/$handle",
        **{"keyed": {"key_header": "Idempotency-Key"}, "pending": {"pending": "operation.id"}, "blind": {}}[kind],
        **more.pop("params", {}),
    }
    if kind != "keyed":
        platform.set(keyed=False)
    deadline = {"deadline": more.pop("deadline")} if "deadline" in more else {}
    step = {"name": "Go back", "id": "back", "http.operation": about, **more}
    return Stage(tmp, {"execution": [step], **deadline})


def until(condition: Callable[[], Any], what: str) -> None:
    """Waits for a condition, as long as a busy machine may need."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, f"not within 60 s: {what}"
        time.sleep(0.02)


def started(play: Stage, *words: str) -> subprocess.Popen[str]:
    """The run in a process of its own, which waits for its operation by now."""
    process = play.process(*(words or ("run", str(play.playbook), "-i", str(play.stock))))
    before = 1 if words else 0
    until(lambda: (play.state / "journal.db").exists(), "the record is there")
    until(lambda: len(_handles(play)) > before or process.poll() is not None, "the operation has begun")
    assert process.poll() is None, process.communicate()
    return process


def _handles(play: Stage) -> list[Any]:
    with play.store() as store:
        return [e for e in store.entries("RB-0001") if e.kind in ("step.handle", "undo.handle")]


def ended(process: subprocess.Popen[str], number: signal.Signals) -> str:
    process.send_signal(number)
    return " ".join("".join(process.communicate(timeout=60)).split())


# -- the wait
def test_begun_once_and_waited_for(tmp_path: Path, platform: Remote) -> None:
    """The handle is on record before the wait, the wait is for the end, and the second reading says changed."""
    play = stage(tmp_path, platform)
    platform.set(seconds=0.3)
    assert Exit.DONE == play.run().exit
    assert (["Succeeded"], "1") == (platform.operations, platform.version)
    kinds = [entry.kind for entry in play.entries() if entry.kind.startswith("step.")]
    assert ["step.intent", "step.handle", "step.outcome"] == kinds
    assert "op-1" == play.bodies("step.handle")[0]["handle"]
    assert {"before": {"deployment.version": "2"}, "after": {"deployment.version": "1"}} == play.last("back")["change"]
    assert Exit.DONE == play.run().exit
    assert 1 == len(platform.operations), "a second run finds nothing to do"


@pytest.mark.parametrize(
    ("ends", "says", "version"),
    [
        ("half", "came to nothing: no capacity; part of it was changed", "1"),
        ("back", "came to nothing: unhealthy, rolled back; nothing was changed", "2"),
        ("lies", "reported no error, yet the second reading says deployment.version 2 -> 1 is still to do", "2"),
    ],
)
def test_what_it_comes_to_is_read(tmp_path: Path, platform: Remote, ends: str, says: str, version: str) -> None:
    """An operation that fails half-way, takes itself back or only says that it has succeeded ends the step as failed."""
    fields = {"deployment.version": "1", "deployment.replicas": 5}
    body = {"version": "$deployment.version", "replicas": "$deployment.replicas"}
    play = stage(tmp_path, platform, params={"fields": fields, "body": body} if ends == "half" else {})
    platform.set(seconds=0.0, ends=ends)
    said = play.run()
    assert Exit.FAILED == said.exit
    assert "failed" == play.outcomes()["back"]
    assert play.last("back")["why"].endswith(says)
    assert version == platform.version


def test_a_try_after_a_failure_is_another_operation(tmp_path: Path, platform: Remote) -> None:
    """What has failed for good is not asked for under its old key, which would only bring the old failure back."""
    play = stage(tmp_path, platform, retries=1, delay="10ms")
    platform.set(seconds=0.0, ends="back")
    assert Exit.FAILED == play.run().exit
    assert ["RolledBack", "RolledBack"] == platform.operations
    platform.set(ends="well")
    assert Exit.DONE == play.resume().exit
    assert ["RolledBack", "RolledBack", "Succeeded"] == platform.operations
    assert 3 == len(set(platform.set()["keys"]))


def test_refused_while_another_goes_on(tmp_path: Path, platform: Remote) -> None:
    """Somebody else's update is left alone: the platform says no, and nothing was changed."""
    platform.wire.http("POST", f"{platform.url}/endpoints/fraud/update", json={"version": "7"})
    play = stage(tmp_path, platform)
    assert Exit.FAILED == play.run().exit
    assert "HTTP 409" in play.last("back")["why"]
    assert play.last("back")["why"].endswith("; nothing was changed")
    assert ["Running"] == platform.operations


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_to_the_request_gets_lost(tmp_path: Path, platform: Remote, kind: str) -> None:
    """The platform has begun and answers 503: it is found, asked again under its key, or a person is asked."""
    play = stage(tmp_path, platform, kind)
    platform.set(loses=["503"], seconds=0.3)
    said = play.run()
    assert 1 == len(platform.operations)
    if kind != "blind":
        assert Exit.DONE == said.exit
        return
    assert "uncertain" == play.outcomes()["back"]
    assert "next: engine resolve RB-0001 a:back" in said.text
    until(lambda: platform.version == "1", "the operation ends")
    assert Exit.DONE == play.resume().exit, "its end can be read"
    assert 1 == len(platform.operations)


def test_the_answer_to_the_request_comes_too_late(tmp_path: Path, platform: Remote) -> None:
    """The step's time is up before the answer comes: the operation is asked for under its key, found, and stopped."""
    play = stage(tmp_path, platform, timeout="1s")
    platform.set(loses=["late"])
    assert Exit.FAILED == play.run().exit
    assert ("timed_out", ["Cancelled"]) == (play.outcomes()["back"], platform.operations)


# -- the process that waits is gone
@pytest.mark.parametrize("kind", KINDS)
def test_killed_while_waiting(tmp_path: Path, platform: Remote, kind: str) -> None:
    """A resume takes the same operation up, from its handle, whatever the platform can tell."""
    play = stage(tmp_path, platform, kind)
    ended(started(play), signal.SIGKILL)
    assert "look after operation op-1" not in play.engine("status", "RB-0001").text
    assert "goes on: operation op-1 for execution/back on a" in play.engine("status", "RB-0001").text
    platform.set(looks=2)
    assert Exit.DONE == play.resume().exit
    assert (["Succeeded"], "1") == (platform.operations, platform.version)
    assert "changed" == play.outcomes()["back"]
    assert 1 == platform.set()["asked"], "it was asked for once"


@pytest.mark.parametrize(("kind", "stride"), [("keyed", 1), ("pending", 3), ("blind", 2)])
def test_killed_at_every_boundary(memory: Path, kill: Killer, platform: Remote, kind: str, stride: int) -> None:
    """Killed before or after any entry from the intent on, a resume comes to one operation and the version wanted."""
    play = stage(memory / f"operation-{kind}", platform, kind)
    words = ["--state", str(play.state)]
    run = [*words, "run", str(play.playbook), "-i", str(play.stock)]
    platform.set(seconds=0.05)
    points = kill(play.folder, *run).points
    first = next(number for number, point in enumerate(points, 1) if point.startswith("before step.intent"))
    for at in range(first, len(points) + 1, stride):
        for path in play.state.glob("*"):
            _gone(path)
        platform.set(operations=[], asked=0, now={"version": "2", "replicas": 2})
        story = f"killed at {points[at - 1]}"
        assert kill(play.folder, *run, kill=at).killed, story
        last = kill(play.folder, *words, "resume", "-y")
        if "uncertain" in last.said:
            assert kind == "blind", story
            answer = "done" if platform.operations else "not-done"
            told = kill(play.folder, *words, "resolve", "RB-0001", "back", "--as", answer, "--because", "its list says so")
            assert 0 == told.exit, f"{story}\n{told.said}"
            last = kill(play.folder, *words, "resume", "-y")
        assert 0 == last.exit, f"{story}\n{last.said}"
        until(lambda: platform.version == "1", story)
        assert ["Succeeded"] == platform.operations, story


def _gone(path: Path) -> None:
    import shutil

    shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_a_resume_that_begins_anew_is_found_out(tmp_path: Path, platform: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests can fail: with a resume that forgets what is under way, the one above does."""
    monkeypatch.setattr("engine.operation.Operation.taken_up", lambda *_: None)
    with pytest.raises(AssertionError):
        test_killed_while_waiting(tmp_path, platform, "pending")


# -- it is stopped
def test_ctrl_c_leaves_it_under_way(tmp_path: Path, platform: Remote) -> None:
    """Ctrl-C ends the wait and not the operation, says so, and a resume waits for it again."""
    play = stage(tmp_path, platform)
    said = ended(started(play), signal.SIGINT)
    assert "look after operation op-1 of execution/back on a: it may still be under way" in said
    assert ["Running"] == platform.operations
    platform.set(finish=True)
    assert Exit.DONE == play.resume().exit
    assert (["Succeeded"], "1") == (platform.operations, platform.version)


@pytest.mark.parametrize(("alive", "once"), [(True, False), (False, False), (False, True)])
def test_a_cancel_reaches_it(tmp_path: Path, platform: Remote, alive: bool, once: bool) -> None:
    """`engine cancel` stops the operation at its platform, in the process that waits, or itself where there is none."""
    play = stage(tmp_path, platform, run_once=once)
    process = started(play)
    if not alive:
        ended(process, signal.SIGKILL)
    said = play.engine("cancel", "RB-0001")
    assert Exit.DONE == said.exit
    if alive:
        process.communicate(timeout=60)
    else:
        assert "RB-0001 is not being run: the stop of operation op-1 is done by this command" in said.text
    assert (["Cancelled"], "2") == (platform.operations, platform.version)
    assert "cancelled" == play.ended["outcome"]
    assert "the run is being ended" in play.last("back")["why"]


def test_a_cancel_after_ctrl_c_reaches_it(tmp_path: Path, platform: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C has left the operation under way when somebody cancels the run, whose process has not ended yet."""
    play = stage(tmp_path, platform)
    tell = Operation._tell

    def told(self: Operation, text: str) -> None:
        tell(self, text)
        if text.startswith("left under way"):
            with play.store() as store:
                store.append("RB-0001", "cancel.asked", {"by": "ana", "why": "", "undo": False})
        elif not self.site.stop.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Operation, "_tell", told)
    assert Exit.FAILED == play.run().exit
    assert (["Cancelled"], "cancelled") == (platform.operations, play.ended["outcome"])


def test_a_cancel_reaches_an_item_of_a_loop(tmp_path: Path, platform: Remote) -> None:
    """The operation of one item is stopped too, and no other item begins."""
    play = stage(tmp_path, platform, loop=["p", "q"])
    ended(started(play), signal.SIGKILL)
    assert Exit.DONE == play.engine("cancel", "RB-0001").exit
    play.resume()
    assert (["Cancelled"], "cancelled") == (platform.operations, play.ended["outcome"])


def test_the_step_s_time_reaches_it(tmp_path: Path, platform: Remote) -> None:
    """When the step's time is up, the operation is stopped, and what is there is read."""
    play = stage(tmp_path, platform, timeout="1s")
    assert Exit.FAILED == play.run().exit
    assert ("timed_out", ["Cancelled"]) == (play.outcomes()["back"], platform.operations)
    assert play.last("back")["why"].endswith("; nothing was changed")


def test_the_run_s_deadline_reaches_it(tmp_path: Path, platform: Remote) -> None:
    """When the whole run's time is up, the operation is stopped too."""
    play = stage(tmp_path, platform, deadline="2s")
    assert Exit.FAILED == play.run().exit
    assert ["Cancelled"] == platform.operations
    assert "the run is being ended" in play.last("back")["why"]


def test_one_that_will_not_stop(tmp_path: Path, platform: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes on after it was asked to stop is uncertain and named in the report; a resume waits for it again."""
    monkeypatch.setattr("engine.operation.GRACE", 0.3)
    play = stage(tmp_path, platform, timeout="1s")
    platform.set(stubborn=True)
    said = play.run()
    assert (Exit.FAILED, "uncertain") == (said.exit, play.outcomes()["back"])
    assert "it was asked to stop, and is still under way" in play.last("back")["why"]
    assert "operation op-1 of execution/back on a" in play.engine("report", "RB-0001", "--format", "md", "--out", "-").out
    platform.set(finish=True)
    assert Exit.DONE == play.resume().exit
    assert ["Succeeded"] == platform.operations


# -- undo
def test_an_undo_is_an_operation_of_its_own(tmp_path: Path, platform: Remote) -> None:
    """What was done is put back by another operation, under another key; killed while it waits, it is taken up again."""
    play = stage(tmp_path, platform)
    platform.set(seconds=0.0)
    assert Exit.DONE == play.run().exit
    platform.set(seconds=None)
    ended(started(play, "undo", "-y", "RB-0001"), signal.SIGKILL)
    assert ["Succeeded", "Running"] == platform.operations
    platform.set(finish=True)
    assert Exit.DONE == play.undo().exit
    assert (["Succeeded", "Succeeded"], "2") == (platform.operations, platform.version)
    assert 2 == len(set(platform.set()["keys"]))


def test_an_undo_that_was_lost_is_asked_for_again_under_its_key(tmp_path: Path, platform: Remote) -> None:
    """The platform has begun it and its answers got lost: the next undo finds that one, and begins no second."""
    play = stage(tmp_path, platform)
    platform.set(seconds=0.0)
    assert Exit.DONE == play.run().exit
    platform.set(seconds=None, loses=["503", "503"])
    assert Exit.FAILED == play.undo().exit
    process = started(play, "undo", "-y", "RB-0001")
    platform.set(finish=True)
    process.communicate(timeout=60)
    assert Exit.DONE == process.returncode
    assert (["Succeeded", "Succeeded"], "2") == (platform.operations, platform.version)


def test_an_undo_stops_what_is_under_way_first(tmp_path: Path, platform: Remote) -> None:
    """The operation of a step that was cut off is stopped before anything is put back; then there is nothing to put back."""
    play = stage(tmp_path, platform)
    ended(started(play), signal.SIGKILL)
    assert Exit.DONE == play.undo().exit
    assert (["Cancelled"], "2") == (platform.operations, platform.version)


def test_what_may_be_somebody_else_s_is_not_stopped(
    tmp_path: Path, platform: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the platform knows no keys, what is found under way is waited for, and left alone when the time is up."""
    monkeypatch.setattr("engine.operation.GRACE", 0.3)
    play = stage(tmp_path, platform, "pending", timeout="1s")
    platform.set(loses=["503"])
    assert Exit.FAILED == play.run().exit
    assert ("uncertain", ["Running"]) == (play.outcomes()["back"], platform.operations)
    assert "it may be somebody else's and was not stopped" in play.last("back")["why"]
    platform.set(finish=True)
    assert Exit.DONE == play.resume().exit
    assert 1 == platform.set()["asked"]
