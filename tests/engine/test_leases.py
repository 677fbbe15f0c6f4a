"""leases: who holds what; a process that is late, dead, stopped, of another boot; nothing is written under an old token."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from engine import leases
from engine.diagnostics import Exit
from engine.journal import Journal, JournalError
from engine.leases import Owner

SHORT = 1.5


@pytest.fixture
def journals(tmp_path: Path) -> Iterator[list[Journal]]:
    """Two open journals of one store, with short leases."""
    made = [Journal(tmp_path, lease=SHORT, person=name) for name in ("ana", "ben")]
    yield made
    for one in made:
        one.close()


def elsewhere(journal: Journal, **more: Any) -> None:
    """What the journal holds, it holds on another machine now: nobody here can see whether its process lives."""
    owner = replace(Owner.me("eve"), machine="far", boot="another", **more)
    journal.store.write(lambda rows: rows("UPDATE leases SET owner = ?", json.dumps(asdict(owner))))


def silent(journal: Journal) -> None:
    """Its heart stops, as that of a process that was stopped or cut off from the store."""
    journal._closed.set()
    if journal._heart:
        journal._heart.join()


def refused(call: Any, code: str) -> str:
    with pytest.raises(JournalError) as caught:
        call()
    assert (code, Exit.LOCKED) == (caught.value.diagnostics[0].code, caught.value.exit)
    return caught.value.diagnostics[0].summary


def test_a_lease_is_renewed_while_its_process_lives(journals: list[Journal]) -> None:
    """Long past its length, the run is still held, and its process writes."""
    one, other = journals
    run = one.start({})
    time.sleep(SHORT * 2)
    one.live(run)
    one.append(run, "note", {})
    assert other.held(run)
    assert "ana@" in refused(lambda: other.claim(run), "LG080")


def test_what_a_late_process_writes_is_refused_though_nobody_has_taken_the_run(journals: list[Journal]) -> None:
    """A lease that lapsed is over: its process neither acts nor writes, and finds that out by itself."""
    one, _ = journals
    run = one.start({})
    one.lock(run, ["a"], "x")
    silent(one)
    time.sleep(SHORT * 1.2)
    refused(lambda: one.live(run), "LG082")
    refused(lambda: one.append(run, "step.intent", {}), "LG082")
    assert ["run.started"] == [entry.kind for entry in one.entries(run)]


def test_a_late_process_does_not_write_after_another_has_gone_on(journals: list[Journal]) -> None:
    """Whoever takes the run over gets a higher token; an entry under the old one is refused, and so is one of a run that
    nobody took once its lease is over."""
    one, other = journals
    run, own = one.start({}), one.start({})
    elsewhere(one)
    silent(one)
    said: list[str] = []
    other.claim(run, said.append)
    assert "not heard from" in said[0]
    assert other.token(run) > one.token(run)
    other.append(run, "run.resumed", {})
    refused(lambda: one.append(run, "step.outcome", {}), "LG082")
    refused(lambda: one.live(run), "LG082")
    assert ["run.started", "run.resumed"] == [entry.kind for entry in other.verified(run)]
    time.sleep(SHORT)  # the heart may have beaten once between the two
    refused(lambda: one.append(own, "note", {}), "LG082")


def test_a_holder_elsewhere_that_is_heard_from_keeps_its_run(journals: list[Journal]) -> None:
    """Who waits for the lease of a machine that cannot be looked at gives up as soon as it is renewed."""
    one, other = journals
    run = one.start({})
    elsewhere(one)
    assert "eve@far" in refused(lambda: other.claim(run), "LG080")


def test_a_dead_process_of_this_machine_holds_nothing(journals: list[Journal]) -> None:
    """Its run can be taken at once, whatever is left of its lease; so can that of a number that somebody else has now."""
    one, other = journals
    run = one.start({})
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    for dead in (replace(Owner.me(), pid=child.pid), replace(Owner.me(), began=1)):
        one.store.write(lambda rows, dead=dead: rows("UPDATE leases SET owner = ?", json.dumps(asdict(dead))))
        assert (True, False) == (dead.gone(), other.held(run))
    other.claim(run)
    assert other.held(run)


def test_a_stopped_process_is_alive_and_not_awake() -> None:
    """One that was stopped may go on at any moment: it is not gone, and not waited for either once its lease has lapsed."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        owner = replace(Owner.me(), pid=child.pid, began=leases._stat(child.pid)[1])
        assert (False, True) == (owner.gone(), owner.awake())
        os.kill(child.pid, signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        assert (False, False) == (owner.gone(), owner.awake())
    finally:
        child.kill()
        child.wait()
    assert (True, False) == (owner.gone(), owner.awake())


def test_a_process_of_a_machine_that_names_no_boot_is_not_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines that both hide theirs would else look like one, on which the other's process is not to be found."""
    monkeypatch.setattr(leases, "_place", lambda: ("", ""))
    assert not replace(Owner.me(), began=1).gone()


def test_a_process_that_is_not_shown_is_not_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where /proc is mounted with hidepid, a user is told nothing of another's process but that there is one."""
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()  # from now on there is nothing in /proc
    owner = replace(Owner.me(), pid=child.pid)

    def of_somebody_else(_pid: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr("os.kill", of_somebody_else)
    assert (False, False) == (owner.gone(), owner.awake()), "it is waited for until its lease lapses"


@pytest.mark.parametrize("broken", [True, False], ids=["it was broken", "it was given back"])
def test_what_is_still_under_way_after_the_run_was_given_back_begins_nothing(journals: list[Journal], broken: bool) -> None:
    """A verb that ends with an error gives its run back while other hosts' steps may still be on their way."""
    one, other = journals
    run = one.start({})
    if broken:
        other.break_lock(run, "ben", "it hangs")
        refused(lambda: one.append(run, "step.intent", {}), "LG082")
    one.unlock(run)
    refused(lambda: one.live(run), "LG082")
    refused(lambda: one.append(run, "step.intent", {}), "LG082")
    one.claim(run)
    one.live(run)
    one.append(run, "step.intent", {})


def test_a_lease_of_another_boot_is_over(journals: list[Journal]) -> None:
    """The clock that it was written by has begun anew."""
    one, other = journals
    run = one.start({})
    one.store.write(lambda rows: rows("UPDATE leases SET era = 'before'"))
    assert not other.held(run)
    other.claim(run)


def test_tokens_only_grow(journals: list[Journal]) -> None:
    """No token is given twice, whoever asks and whatever was given back."""
    one, other = journals
    tokens = []
    for journal in (one, other) * 5:
        run = journal.start({})
        tokens.append(journal.token(run))
        journal.unlock(run)
    assert sorted(set(tokens)) == tokens


def test_a_broken_lock_stops_the_run_that_held_it(journals: list[Journal]) -> None:
    """Breaking one host's lock takes the run from its process: it is recorded there, with who, why and whose it was."""
    one, other = journals
    run = one.start({})
    one.lock(run, ["a", "b"], "x")
    broken = other.break_lock("a", "ben", "it hangs")
    assert broken is not None
    assert (run, "x", 0) == (broken.run, broken.purpose, len(other.leases()))
    entry = other.entries(run)[-1]
    assert ("lock.broken", "a", "ben", "it hangs") == (entry.kind, entry.host, entry.body["by"], entry.body["why"])
    refused(lambda: one.append(run, "step.intent", {}), "LG082")
    assert other.break_lock("a", "ben", "again") is None
    other.lock(other.start({}), ["a", "b"], "y")


def test_who_takes_one_more_host_holds_the_run_and_the_others_as_long(journals: list[Journal]) -> None:
    """What a process believes of its lease is true of all it holds: the newest host says nothing of the run and the
    older ones, unless they are prolonged with it."""
    one, _ = journals
    run = one.start({})
    one.lock(run, ["a"], "x")
    silent(one)
    time.sleep(SHORT * 0.6)
    one.lock(run, ["b"], "x")
    time.sleep(SHORT * 0.5)
    one.live(run)
    assert {"run RB-0001", "host a", "host b"} == {lease.name for lease in one.leases() if lease.left > 0}


def test_hosts_are_taken_all_or_none(journals: list[Journal]) -> None:
    """One host in the way, and none is taken; the others stay free."""
    one, other = journals
    one.lock(one.start({}), ["b"], "x")
    run = other.start({})
    assert "b is held by RB-0001 (x)" in refused(lambda: other.lock(run, ["a", "b", "c"], "y"), "LG080")
    one.lock(one.start({}), ["a", "c"], "z")


def test_a_busy_run_keeps_its_lease_by_its_entries(tmp_path: Path) -> None:
    """Where entries come so fast that the heartbeat does not get its turn, they prolong the lease themselves."""
    memory = Path("/dev/shm")  # a slow disk is no part of this
    folder = memory / f"lease-{os.getpid()}" if memory.is_dir() else tmp_path
    journal = Journal(folder, lease=4.0)
    run = journal.start({})
    journal._closed.set()  # the heartbeat ends
    until = time.monotonic() + 6
    while time.monotonic() < until:
        journal.append(run, "note", {"text": "", "by": "me"})
        time.sleep(0.05)
    journal.live(run)
    assert journal.held(run)
    journal.close()
    shutil.rmtree(folder)
