"""What is sealed, what its custody log says of it, and that a seal can be cut off anywhere."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from evidence import Case, clock, examined, held, loaded

from engine import bag, proof, seal
from engine.diagnostics import EngineError


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "data/custody.jsonl").read_bytes().splitlines()]


def row(path: Path, name: str) -> dict[str, Any]:
    return next(one for one in rows(path) if one["path"] == name or one["item"] == name)


def test_custody_of_a_captured_file(tmp_path: Path) -> None:
    """For a file that a step kept: who, when, from where, with what, how large, which digests, before or after a change."""
    with Case(tmp_path) as case:
        case.capture(
            "a", "x.json", b"{}", _captured="2026-09-21T14:00:00+00:00", _source="audit", _tool="curl", _clock_offset=-1.5
        )
        first = case.seal(["a", "b"])
        plain, told = row(first, "wrong.jsonl"), row(first, "x.json")
        case.journal.append(case.run, "gate.opened", {}, "a", "execution")
        case.capture("a", "late.txt", b"late")
        late = row(case.seal(), "late.txt")
    assert ("http.capture", "http://a.example.org/wrong.jsonl") == (plain["tool"], plain["source"])
    assert ("sha256:" + "0" * 64, "engine 0.1 for ana") == (plain["version"], plain["by"])
    assert (20, plain["sha256"], 3) == (plain["size"], plain["captured_sha256"], plain["entry"])
    said = {"seconds": -1.5, "within": None, "clock": "what the step says"}
    assert ("curl", "audit", "2026-09-21T14:00:00.000000Z", said) == tuple(
        told[key] for key in ("tool", "source", "at", "clock_offset")
    )
    assert ("before change", "after change") == (plain["phase"], late["phase"])


@pytest.mark.parametrize("what", ["gone", "written to"])
def test_what_is_put_in_its_place_meanwhile_holds_no_seal_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The receipt of a message is written aside and renamed, perhaps just as the evidence is looked at: that is done again.
    Where nothing comes to rest the seal fails, as it must."""
    real, moves = bag.Bag.copy, 1
    with Case(tmp_path) as case:
        aside = case.journal.files(case.run) / "evidence" / "_run" / ".message.json.x1y2z3"
        aside.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text("{}")

        def copy(self: bag.Bag, name: str, source: Path, *more: Any) -> bag.Item:
            nonlocal moves
            if source.name.startswith(".message") and moves:
                moves -= 1
                if what == "written to":
                    raise bag.Moved(f"{source.name} was changed while it was copied")
                source.rename(source.with_name("message.json"))
            return real(self, name, source, *more)

        monkeypatch.setattr(bag.Bag, "copy", copy)
        sealed = case.seal(["a"])
        assert [] == held(sealed)
        assert ("message.json" if what == "gone" else aside.name) in {one["path"] for one in rows(sealed)}
        case.capture("a", "late.txt", b"late")
        aside.write_text("{ }")
        monkeypatch.setattr(bag.Bag, "copy", lambda *_: (_ for _ in ()).throw(bag.Moved("it moves")))
        monkeypatch.setattr(seal, "_PAUSE", 0)
        with pytest.raises(EngineError, match="it moves"):
            case.seal()


def test_the_clock_of_each_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row says how far its clock was ahead of the one that its capture met, else of the one that the seal met; where
    there was none it says that nobody knows, and why."""
    met = {"seconds": 0.25, "within": 1.01, "clock": "scoring-1 (Date header)"}
    nobody = {"seconds": None, "why": "scoring-1 answered without a Date header"}
    with Case(tmp_path) as case:
        case.capture("a", "met.json", b"{}", _clock_offset=met)
        case.capture("a", "not-met.json", b"{}", _clock_offset=nobody)
        alone = case.seal(["a"])
        database = {"seconds": -61.5, "within": 0.004, "clock": "the record's database"}
        monkeypatch.setattr(case.journal, "clock_offset", lambda: database)
        shared = case.seal()
    kept_here = "no other clock was met: the record is kept on this machine"
    assert met == row(alone, "met.json")["clock_offset"]
    assert {"seconds": None, "why": f"{nobody['why']}; {kept_here}"} == row(alone, "not-met.json")["clock_offset"]
    assert {"seconds": None, "why": kept_here} == row(alone, "journal.jsonl")["clock_offset"]
    told = next(one for one in rows(shared) if one["host"] == "b")["clock_offset"]
    assert {**database, "clock": "the record's database, at the seal"} == told
    assert [] == held(alone) + held(shared)


def test_each_bundle_holds_what_is_new(tmp_path: Path) -> None:
    """A second bundle has the files, the entries and the rows since the first, and its log begins with the first one's."""
    with Case(tmp_path) as case:
        first = case.seal(["a"])
        assert "data/evidence/a/wrong.jsonl" in loaded(first)
        assert "data/evidence/b/log.txt" not in loaded(first)
        second = case.seal()
        assert ["data/evidence/b/log.txt"] == [name for name in loaded(second) if name.startswith("data/evidence")]
        assert rows(first) == rows(second)[: len(rows(first))]
        assert [] == held(first) + held(second)
        assert examined(first).entries[-1].seq + 1 == examined(second).entries[0].seq
        assert seal.make(case.journal, case.run, case.signer) is None
        (case.evidence / "b/log.txt").write_bytes(b"changed since")
        case.journal.append(case.run, "note", {"text": "look again", "by": "ana"})
        assert b"changed since" == loaded(case.seal())["data/evidence/b/log.txt"]
        assert ["RB-0001.1", "RB-0001.2", "RB-0001.3"] == [one.name for one in seal.sealed(case.journal.entries(case.run))]


def test_captures_that_failed_are_on_record(tmp_path: Path) -> None:
    """A capture that failed or ran over its time is a row of its own; one that then succeeded is none."""
    with Case(tmp_path) as case:
        case.outcome("a", "forensics/logs", "timed_out", why="the step's timeout has passed")
        case.outcome("a", "forensics/metrics", "failed", why="no answer")
        case.outcome("a", "forensics/metrics", "unchanged")
        case.outcome("a", "execution/point", "failed", why="not evidence")
        first = case.seal(["a"])
        case.outcome("a", "forensics/logs", "waived", why="ben: no logs for that day")
        second = case.seal()
    assert [("forensics/logs", "timed_out: the step's timeout has passed")] == incomplete(first)
    assert [*incomplete(first), ("forensics/logs", "waived: ben: no logs for that day")] == incomplete(second)


def incomplete(path: Path) -> list[tuple[str, str]]:
    return [(one["step"], one["why"]) for one in rows(path) if one["kind"] == "incomplete"]


def test_what_lies_there_besides(tmp_path: Path) -> None:
    """Files of which no step tells are sealed and said to be so; links and pipes are not taken, and that is said."""
    with Case(tmp_path, {"a": {"m.json": b"{}"}}) as case:
        (case.evidence / "a/m").mkdir()
        (case.evidence / "a/m/weights").write_bytes(b"w")
        (case.evidence / "a/m.json.about.json").write_bytes(b"{}")
        (case.evidence / "a/stray").write_bytes(b"?")
        (case.evidence / "a/link").symlink_to("/etc/passwd")
        (case.evidence / "a/folder").symlink_to("/etc")
        os.mkfifo(case.evidence / "a/pipe")
        path = case.seal()
    assert [] == held(path)
    assert ("forensics/keep-m.json", "part of m.json") == (row(path, "m/weights")["step"], row(path, "m/weights")["why"])
    assert "part of m.json" == row(path, "m.json.about.json")["why"]
    assert "it lay among the evidence; no step says that it kept it" == row(path, "stray")["why"]
    assert ["folder", "link", "pipe"] == [one["path"] for one in rows(path) if one["kind"] == "left out"]


def test_a_host_whose_folder_is_a_link(tmp_path: Path) -> None:
    """What lies behind the link is none of the evidence; where it leads is not read, and that it was there is on record."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/secret").write_text("of the machine")
    with Case(tmp_path) as case:
        (case.evidence / "c").symlink_to(tmp_path / "elsewhere")
        path = case.seal()
        assert seal.make(case.journal, case.run, case.signer) is None, "it is told once"
    assert [] == held(path)
    assert not [name for name in loaded(path) if "secret" in name]
    assert [("c", ".")] == [(one["host"], one["path"]) for one in rows(path) if one["kind"] == "left out"]


def test_names_that_are_hard_to_carry(tmp_path: Path) -> None:
    """Names with line breaks, blanks, other alphabets or capitals alone come out as names that every system can hold."""
    odd = ["a b", "line\nbreak", "\u202efdp.exe", "same", "SAME", "tilde~", "100%", "n" * 200, os.fsdecode(b"\xff")]
    with Case(tmp_path, {}) as case:
        (case.evidence / "a").mkdir(parents=True)
        for number, name in enumerate(odd):
            (case.evidence / "a" / name).write_bytes(b"%d" % number)
        path = case.seal()
    assert [] == held(path)
    names = [name for name in loaded(path) if name.startswith("data/evidence")]
    assert len(odd) == len({name.casefold() for name in names})
    assert {"data/evidence/a/a~20b", "data/evidence/a/line~0Abreak", "data/evidence/a/same~2"} <= set(names)
    assert "line\nbreak" == row(path, "evidence/a/line~0Abreak")["path"]


def test_evidence_that_was_altered_before_the_seal(tmp_path: Path) -> None:
    """A file that is not what was captured, or is gone, is named with its host and step; a person may let it pass."""
    with Case(tmp_path) as case:
        (case.evidence / "a/wrong.jsonl").write_bytes(b"bent")
        (case.evidence / "b/log.txt").unlink()
        told = seal.make(case.journal, case.run, case.signer, ["a"])
        assert told
        assert [("a", "forensics/keep-wrong.jsonl")] == [(host, step) for host, step, _ in told.wrong]
        case.outcome("a", "forensics/keep-wrong.jsonl", "waived", why="ben has looked")
        told = seal.make(case.journal, case.run, case.signer, ["a", "b"])
        assert told
        assert [("b", "forensics/keep-log.txt", "its evidence log.txt is gone")] == list(told.wrong)
        path = seal.folder(case.journal, case.run) / "RB-0001.1"
    assert "it was altered between its capture and the seal" == row(path, "wrong.jsonl")["why"]


@pytest.mark.parametrize("where", ["copy", "manifest", "attestation", "entry", "rename"])
def test_cut_off_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Cut off at any point, the next seal ends with whole bundles that the journal names, none lost and none doubled."""
    with Case(tmp_path) as case:
        with monkeypatch.context() as patch:
            patch.setattr(*broken(where, case))
            with pytest.raises(KeyboardInterrupt):
                seal.make(case.journal, case.run, case.signer, now=clock())
        case.journal.append(case.run, "note", {"text": "went on", "by": "ana"})
        case.seal()
        told = seal.sealed(case.journal.entries(case.run))
        place = seal.folder(case.journal, case.run)
        assert [one.name for one in told] == sorted(path.name for path in place.iterdir())
        found = [examined(place / one.name) for one in told]
        for earlier, later in pairwise(found):
            proof.follows(earlier, later)
        for one in found:
            proof.recorded(one, case.journal.entries(case.run))
        assert [[] for _ in told] == [one.faults for one in found]
    assert (2 if where == "rename" else 1) == len(told)


def broken(where: str, case: Case) -> tuple[object, str, Callable[..., Any]]:
    """What to put in whose place, so that the process seems to be killed there."""

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def second(real: Callable[..., Any]) -> Callable[..., Any]:
        calls: list[int] = []

        def run(*given: Any, **more: Any) -> Any:
            calls.append(1)
            return real(*given, **more) if len(calls) < 2 else stop()

        return run

    return {
        "copy": (bag.Bag, "_copied", second(bag.Bag._copied)),
        "manifest": (bag, "manifest", stop),
        "attestation": (seal.envelope, "seal", stop),
        "entry": (case.journal, "append", stop),
        "rename": (bag.Bag, "place", stop),
    }[where]


@pytest.mark.parametrize("kind", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: int) -> None:
    """When the evidence cannot be written, that is said with what to do, and no entry claims a bundle."""
    with Case(tmp_path) as case:

        def fails(_handle: int) -> None:
            raise OSError(kind, os.strerror(kind))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fails)
            with pytest.raises(EngineError, match=os.strerror(kind)) as raised:
                seal.make(case.journal, case.run, case.signer)
        assert "LG078" == raised.value.diagnostics[0].code
        assert "engine resume" in raised.value.diagnostics[0].hint
        assert [] == seal.sealed(case.journal.entries(case.run))
        assert [] == held(case.seal())


def test_an_earlier_bundle_that_is_not_what_it_was(tmp_path: Path) -> None:
    """A custody log goes on only from one that is as it was sealed; a bundle that was moved away is named."""
    with Case(tmp_path) as case:
        first = case.seal()
        case.journal.append(case.run, "note", {"text": "more", "by": "ana"})
        log = first / "data/custody.jsonl"
        whole = log.read_bytes()
        log.write_bytes(whole.replace(b"ana", b"eve"))
        with pytest.raises(EngineError, match="is not the one that was sealed"):
            seal.make(case.journal, case.run, case.signer)
        log.write_bytes(whole)
        first.rename(tmp_path / "elsewhere")
        with pytest.raises(EngineError, match="put it back"):
            seal.make(case.journal, case.run, case.signer)


def test_the_engines_own_key(tmp_path: Path) -> None:
    """The key is made once, for its owner alone, and is used from then on; one that others can read is refused."""
    key = seal.signer(tmp_path / "state").key
    path = tmp_path / "state/evidence.key"
    assert (key, 0o600) == (seal.signer(tmp_path / "state").key, path.stat().st_mode & 0o777)
    path.chmod(0o644)
    with pytest.raises(EngineError, match="others can read"):
        seal.signer(tmp_path / "state")


def test_the_report_is_in_the_last_one(tmp_path: Path) -> None:
    """The report of a run that has ended is sealed with the rest of its journal."""
    with Case(tmp_path) as case:
        case.seal(["a", "b"])
        (case.journal.files(case.run) / "report.html").write_text("<p>all well")
        case.journal.append(case.run, "run.ended", {"outcome": "succeeded", "exit": 0})
        path = case.seal()
    assert b"<p>all well" == loaded(path)["data/report.html"]
    assert "report" == row(path, "report.html")["kind"]
