"""ledger: which version served where and when, what it passed, and that a bad one does not come back."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from stage import Stage, look, step

from engine import ledger, memory
from engine.journal import Journal
from engine.ledger import Ledger

CHOOSE = {
    "name": "Choose",
    "id": "choose",
    "register": "target",
    "last_good": {"of": "thing", "with": {"name": "model", "fields": {}}},
}
BOOK = {
    "trigger": [look("alarm", {"on": True})],
    "execution": [CHOOSE, step("model", {"version": "{{ target.version }}"})],
    "verification": [look("model", {"version": "v2"}), look("other", {"ok": True})],
}


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """A service on v3 with an alarm; v2 would be verified."""
    made = Stage(tmp_path, BOOK)
    made.have("model", {"version": "v3"})
    made.have("alarm", {"on": True})
    made.have("other", {"ok": True})
    return made


def known(stage: Stage) -> Ledger:
    with stage.store() as store:
        return ledger.of(store)


def rows(stage: Stage, host: str = "a") -> list[tuple[str, str, bool]]:
    """What served: version, how it is known, whether it is proven."""
    return [(one.version, one.how, one.proven) for one in known(stage).served.get(host, ())]


def test_a_run_is_on_record_with_what_it_passed(stage: Stage) -> None:
    """What it put there serves from its change on; what served before is on record up to then, and marked bad."""
    assert 0 == stage.run().exit
    found = known(stage)
    before, now = found.served["a"]
    assert ("v3", "observed", "v2", "run", None) == (before.version, before.how, now.version, now.how, now.until)
    assert before.until == now.since
    assert (("see_model", "see_other"), (), "eve", "RB-0001") == (now.passed, now.unmet, now.by, now.run)
    mark = found.bad("a", "v3")
    assert mark is not None
    assert "RB-0001 went back from it to v2" in mark.why
    assert found.bad("a", "v2") is None


def test_a_run_without_an_alarm_marks_nothing(stage: Stage) -> None:
    """A rollback that nothing called for says nothing about the version that it leaves."""
    stage.have("alarm", {"on": False})
    assert 0 == stage.run().exit
    assert ([("v3", "observed", False), ("v2", "run", True)], ()) == (rows(stage), known(stage).marks)


def test_what_is_not_verified_is_not_proven(stage: Stage) -> None:
    """A held run has put its version there, and that is all; what it left is not marked either."""
    stage.have("other", {"ok": False})
    assert 4 == stage.run().exit
    assert [("v3", "observed", False), ("v2", "run", False)] == rows(stage)
    assert ("see_other",) == known(stage).served["a"][-1].unmet
    assert () == known(stage).marks


def test_an_undone_run_leaves_what_served_before(stage: Stage) -> None:
    """After an undo the old version serves again, and the mark that the run made of it stays."""
    assert (0, 0) == (stage.run().exit, stage.undo().exit)
    assert ["v3", "v2", "v3"] == [version for version, _, _ in rows(stage)]
    assert known(stage).bad("a", "v3")


def test_check_mode_is_not_on_record(stage: Stage) -> None:
    """What would have been changed did not serve."""
    assert 0 == stage.run("--check").exit
    assert {} == known(stage).served


def test_a_bad_version_does_not_come_back(stage: Stage) -> None:
    """Neither chosen nor asked for by name: each says why, and that it was marked and by whom."""
    assert 0 == stage.run().exit
    stage.have("model", {"version": "v1"})
    assert 0 == stage.engine("ledger", "mark", "a", "v2", "--because", "it leaks", "--as", "ana").exit
    said = stage.run()
    assert 1 == said.exit
    assert "v2: is marked bad in the ledger by ana: it leaks" in said.text
    said = stage.run("-e", "to=v3")
    assert 1 == said.exit
    assert "v3 may not be gone back to: is marked bad in the ledger by RB-0001" in said.text
    assert 1 == len(stage.effects()), "nothing was changed"


MEANWHILE = '''"""Somebody marks a version while the run is under way."""
from pathlib import Path
from engine import ledger
from engine.journal import Journal
SECTIONS = ("forensics",)
SCHEMA = {"type": "object", "additionalProperties": False, "required": ["state"],
          "properties": {"state": {"type": "string", "description": "The state folder."}}}
def read(params, ctx):
    store = Journal(Path(params["state"]))
    ledger.marked(store, "a", "v2", "", True, "it leaks", "ana", 1.0)
    store.close()
    return {}
def desired(params):
    return {}
'''


def test_a_version_is_put_there_by_name_no_more_than_by_choice(stage: Stage) -> None:
    """A playbook that writes the version down, or is told it, does not go round the ledger."""
    assert 0 == stage.engine("ledger", "mark", "a", "v1", "--because", "it leaks").exit
    for version, words in (("v1", []), ("{{ to }}", ["-e", "to=v1"])):
        stage.write({"execution": [step("model", {"version": version})]})
        said = stage.run(*words)
        assert (1, True) == (said.exit, "v1 may not be put there: is marked bad in the ledger by" in said.text), said.text
    assert [] == stage.effects()
    assert 0 == stage.engine("ledger", "clear", "a", "v1", "--because", "it does not").exit
    assert 0 == stage.run("-e", "to=v1").exit


def test_a_mark_that_comes_while_a_run_waits_counts(stage: Stage) -> None:
    """What is known of versions is read again when it is used: a run may have waited hours for its keys."""
    (stage.base / "modules/meanwhile.py").write_text(MEANWHILE)
    forensics = [{"name": "Meanwhile", "id": "meanwhile", "meanwhile": {"state": str(stage.state)}}]
    stage.write({**BOOK, "forensics": forensics})
    stage.run()
    assert {"version": "v1"} == stage.thing("model")


def test_a_mark_is_taken_back_with_a_reason(stage: Stage) -> None:
    """What is cleared may come back; both stay on record."""
    assert 0 == stage.run().exit
    assert 1 == stage.engine("ledger", "check", "a", "v3").exit
    assert 0 == stage.engine("ledger", "clear", "a", "v3", "--because", "false alarm").exit
    assert 0 == stage.engine("ledger", "check", "a", "v3").exit
    assert [True, False] == [mark.bad for mark in known(stage).marks]
    said = stage.engine("ledger", "clear", "a", "v3", "--because", "again")
    assert (0, True) == (said.exit, "nothing to clear" in said.text)


def test_a_digest_is_bad_wherever_it_is(tmp_path: Path) -> None:
    """A mark with a digest holds on every host and under every name; without one it holds for that name on that host."""
    store = Journal(tmp_path)
    ledger.marked(store, "a", "v3", "sha256:bad", True, "poisoned", "ana", 1.0)
    ledger.marked(store, "a", "v9", "", True, "typo", "ana", 2.0)
    found = ledger.of(store)
    asked = [
        ("b", "v7", "sha256:bad"),
        ("a", "v3", "sha256:good"),
        ("a", "v9", "sha256:x"),
        ("b", "v9", None),
        ("a", "v3", None),
    ]
    assert [True, False, True, False, True] == [found.bad(*one) is not None for one in asked]
    store.close()


def test_another_content_under_a_known_name_is_refused(tmp_path: Path) -> None:
    """What served as v2 had another digest: v2 is not what it was."""
    store = Journal(tmp_path)
    assert ledger.observed(store, "a", "v2", "sha256:one", "directory.current", "ana", 1.0)
    assert not ledger.observed(store, "a", "v2", "sha256:one", "directory.current", "ana", 2.0)
    assert not ledger.observed(store, "a", "v2", "", "v2.model", "ana", 3.0), "who knows no digest does not contradict"
    found = ledger.of(store)
    assert "is not what served under this name" in found.about("a", "v2", "sha256:two")["excluded"]
    assert {"served": 1.0} == found.about("a", "v2", "sha256:one")
    assert {} == found.about("b", "v2", "sha256:two")
    store.close()


def test_a_run_that_nobody_entered_is_on_record_all_the_same(stage: Stage) -> None:
    """Killed between its end and the ledger, a run is read from its own record; entered by several, it stands there once."""
    assert 0 == stage.run().exit
    with stage.store() as store:
        store.store.write(lambda rows: rows("DELETE FROM entries WHERE run = 'LEDGER'"))
        (store.folder / memory.FILE).unlink()
        without = ledger.of(store)
    stores = [Journal(stage.state) for _ in range(4)]
    threads = [threading.Thread(target=ledger.gather, args=(one,)) for one in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in stores:
        ledger.gather(one)
        one.close()
    assert without.served == known(stage).served
    assert 2 == len(without.served["a"])


def test_only_what_was_proven_may_be_asked_for(stage: Stage) -> None:
    """With `proven` a version counts once a run has put it in place and verified it."""
    choose = {**CHOOSE, "last_good": {**CHOOSE["last_good"], "proven": "30d"}}  # type: ignore[dict-item]
    stage.write({**BOOK, "execution": [choose, BOOK["execution"][1]]})
    said = stage.run()
    assert 1 == said.exit
    assert "v2: has never been put in place and verified by a run" in said.text
    stage.write(BOOK)
    assert 0 == stage.run().exit
    assert 0 == stage.engine("ledger", "clear", "a", "v3", "--because", "x").exit
    stage.have("model", {"version": "v3"})
    stage.write({**BOOK, "execution": [choose, BOOK["execution"][1]]})
    assert 0 == stage.run().exit


def test_observe_puts_on_record_what_serves(stage: Stage) -> None:
    """The registry and what answers are asked; nothing is changed; the same again is no news."""
    words = ["observe", str(stage.playbook), "-i", str(stage.stock)]
    said = stage.engine(*words)
    assert (0, "a: v3 serves (thing)\n") == (said.exit, said.out)
    assert "as is on record" in stage.engine(*words).out
    assert ([("v3", "observed", False)], []) == (rows(stage), stage.effects())
    stage.have("model", {"version": "v1"})
    assert 0 == stage.engine(*words).exit
    assert ["v3", "v1"] == [version for version, _, _ in rows(stage)]
    stage.write({"execution": [step("model", {"version": "v2"})]})
    stage.have("model", {"version": "\u202e9v\x9b2J"})
    assert r"a: \u202e9v\u009b2J serves (thing)" in stage.engine(*words).out


def test_the_ribbon(stage: Stage) -> None:
    """What serves, since when, by whom, what it passed; the bad one with its reason; as JSON lines too."""
    assert 2 == stage.engine("ledger").exit, "there is no store yet"
    assert 0 == stage.run().exit
    said = stage.engine("ledger")
    assert 0 == said.exit
    for words in (
        "a v2 serves",
        "proven v2",
        "RB-0001, asked for by eve",
        "2 checks met",
        "bad v3",
        "went back from it to v2",
    ):
        assert words in said.text, words
    lines: list[dict[str, Any]] = [json.loads(line) for line in stage.engine("ledger", "--json").out.splitlines()]
    assert {"format": "lastgood.ledger/1", "hosts": 1} == lines[0]
    assert [("v3", False), ("v2", True)] == [(line["version"], line["proven"]) for line in lines[1:]]
    assert 2 == stage.engine("ledger", "-h", "nobody").exit


def test_a_reason_is_told_without_what_acts_on_a_terminal(stage: Stage) -> None:
    """`check` runs in pipelines, and the reason was written by somebody else."""
    assert 0 == stage.run().exit
    assert 0 == stage.engine("ledger", "mark", "a", "v1", "--because", "it\u202edrifts\u009b2J").exit
    said = stage.engine("ledger", "check", "a", "v1")
    assert 1 == said.exit
    assert r"it\u202edrifts\u009b2J" in said.text


def test_a_mark_on_a_host_that_nobody_knows_says_so(stage: Stage) -> None:
    """A misspelt host leaves the version free to come back where it serves."""
    assert 0 == stage.run().exit
    said = stage.engine("ledger", "mark", "a2", "v1", "--because", "drifts")
    assert 0 == said.exit
    assert "nothing is on record of a2 yet; did you mean `a`?" in said.text
    assert "on record" not in stage.engine("ledger", "mark", "a", "v1", "--because", "drifts").text


def test_what_a_newer_engine_wrote_is_not_passed_over(stage: Stage) -> None:
    """An entry of a kind that is not known here may forbid a version: nothing is chosen without it."""
    assert 0 == stage.run().exit
    with stage.store() as store:
        store.append(ledger.CHAIN, "ledger.tomorrow", {}, "a")
    said = stage.run()
    assert (1, True, 1) == (said.exit, "LG066" in said.text, len(stage.effects()))


def test_a_ledger_that_grows_while_it_is_read_is_no_older_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process adds after the entries were read is remembered by then; nobody has cut anything."""
    one, other, verified = Journal(tmp_path), Journal(tmp_path), Journal.verified

    def meanwhile(self: Journal, run: str) -> Any:
        found = verified(self, run)
        ledger.marked(other, "a", "v3", "", True, "poisoned", "ana", 1.0)
        return found

    ledger.marked(other, "a", "v2", "", True, "poisoned", "ana", 1.0)
    monkeypatch.setattr(Journal, "verified", meanwhile)
    try:
        assert ledger.of(one).bad("a", "v2")
    finally:
        one.close()
        other.close()


def test_the_chain_of_the_ledger_is_no_run(stage: Stage) -> None:
    """It is not listed, not the newest, and takes no run's number."""
    assert 0 == stage.run().exit
    with stage.store() as store:
        assert store.verified(ledger.CHAIN)
        assert ("RB-0001", ["RB-0001"]) == (store.latest(), [first.run for first, _ in store.runs()])
    assert 0 == stage.run("--check").exit
    assert "RB-0002" == stage.latest


def test_a_digest_is_one_however_it_is_written(stage: Stage) -> None:
    """A pipeline that writes a digest in capitals, or without its prefix, is told the same; what is none is refused."""
    bad = "41ab" * 16
    assert 0 == stage.engine("ledger", "mark", "a", "v3", "--because", "poisoned", "--digest", f"SHA256:{bad.upper()}").exit
    for written in (f"sha256:{bad}", bad, bad.upper(), f"sha256:{bad.upper()}"):
        assert 1 == stage.engine("ledger", "check", "b", "v7", "--digest", written).exit, written
    for verb in (("check", "a", "v3"), ("mark", "a", "v3", "--because", "x"), ("clear", "a", "v3", "--because", "x")):
        said = stage.engine("ledger", *verb, "--digest", "41ab")
        assert (2, True) == (said.exit, "is no digest" in said.text), said.text
