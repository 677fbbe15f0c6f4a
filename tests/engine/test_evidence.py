"""Nothing is changed before the evidence is sealed; a capture that was bent stops its host; the rest follows."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import threading
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from evidence import Case, examined, held, loaded
from stage import KEEP, TWO_KEYS, Said, Stage, step

from engine import anchor, bag, canon, envelope, proof, reader, seal, source, sshsig
from engine.diagnostics import Diagnostic
from engine.site import Site

#: A module that writes to the evidence of another step, as nobody should.
BEND = '''
"""The evidence is bent."""
SECTIONS = ("forensics",)
SCHEMA = {"type": "object", "additionalProperties": False, "required": ["as"],
          "properties": {"as": {"type": "string", "description": "The file's name."}}}
def read(params, ctx):
    if (ctx.base / "world" / ctx.host / "bent").exists():
        (ctx.base / "world" / ctx.host / "bent").unlink()
        (ctx.evidence / params["as"]).write_bytes(b"bent")
    return {"done": True}
def desired(params):
    return {"done": True}
'''


def staged(folder: Path, hosts: tuple[str, ...] = ("a",), **more: Any) -> Stage:
    forensics = [
        {"name": "Keep it", "id": "keep", "keep": {"as": "requests.jsonl"}},
        {"name": "Look at it", "id": "look_at", "bend": {"as": "requests.jsonl"}},
    ]
    play = {"forensics": forensics, "execution": [step("weight", {"x": 1})], **more}
    stage = Stage(folder, play, hosts)
    (stage.base / "modules/keep.py").write_text(KEEP)
    (stage.base / "modules/bend.py").write_text(BEND)
    for host in hosts:
        (stage.base / "world" / host).mkdir()
    return stage


def bundles(stage: Stage, run: str = "") -> list[Path]:
    place = stage.state / "runs" / (run or stage.latest) / "bundles"
    return sorted(path for path in place.iterdir()) if place.is_dir() else []


def kinds(stage: Stage) -> list[str]:
    return [entry.kind for entry in stage.entries()]


def well(said: Said) -> None:
    assert 0 == said.exit, said.err


def test_sealed_before_the_first_change(tmp_path: Path) -> None:
    """The bundle is made, signed and on record before the gate opens; journal's tail and report are in a second one."""
    stage = staged(tmp_path)
    well(stage.run())
    order = [kind for kind in kinds(stage) if kind in ("evidence.sealed", "gate.opened", "run.ended")]
    assert ["evidence.sealed", "gate.opened", "run.ended", "evidence.sealed"] == order
    first, second = bundles(stage)
    assert [[], []] == [held(first), held(second)]
    assert b"kept of a" == loaded(first)["data/evidence/a/requests.jsonl"]
    assert "data/report.html" in loaded(second)
    assert "gate.opened" not in {entry.kind for entry in examined(first).entries}
    key = (stage.state / "evidence.key.pub").read_text().split()[1]
    assert key in stage.bodies("run.started")[0]["evidence"]
    said = stage.engine(
        "evidence", "verify", str(first.parent), "--signer", f"{stage.state}/evidence.key.pub", "--journal", str(stage.state)
    )
    well(said)
    assert "RB-0001.1: whole." in said.out
    assert "not checked" not in said.err


def test_without_forensics_nothing_is_sealed(tmp_path: Path) -> None:
    """A playbook that keeps no evidence costs no seal, and check mode changes nothing and seals nothing."""
    stage = Stage(tmp_path / "one", {"execution": [step("weight", {"x": 1})]})
    well(stage.run())
    assert [] == bundles(stage)
    assert not (stage.state / "evidence.key").exists()
    stage = staged(tmp_path / "two")
    well(stage.run("--check"))
    assert [] == bundles(stage)


def test_no_change_while_it_cannot_be_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a full disk at the seal nothing is changed and it is said why; a resume seals and goes on."""
    stage = staged(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(bag, "written", full)
        said = stage.run()
    assert 1 == said.exit
    assert "LG078" in said.err
    assert "No space left on device" in said.text
    assert [] == stage.effects()
    assert "gate.opened" not in kinds(stage)
    well(stage.resume())
    assert ['a/weight {"x": 1}'] == stage.effects()
    assert [[], []] == [held(path) for path in bundles(stage)]


def test_a_key_that_cannot_seal(tmp_path: Path) -> None:
    """A key that needs a person is refused before the run begins."""
    stage = staged(tmp_path)
    (tmp_path / "locked").write_text("no key")
    said = stage.run("--evidence-key", str(tmp_path / "locked"))
    assert (1, "") == (said.exit, stage.latest)
    assert "cannot seal evidence" in said.text


def test_sealed_with_a_key_of_ones_own(tmp_path: Path) -> None:
    """An SSH key that is named seals, and is found again by a resume."""
    stage = staged(tmp_path, authority=TWO_KEYS).people()
    assert 5 == stage.run("--no-wait", "--evidence-key", str(tmp_path / "ana")).exit
    stage.approve()
    well(stage.resume())
    found = [examined(path) for path in bundles(stage)]
    assert [(tmp_path / "ana.pub").read_text().split()[1]] * 2 == [one.signer.line.split()[1] for one in found if one.signer]
    assert not (stage.state / "evidence.key").exists()


def test_evidence_that_was_bent_stops_its_host(tmp_path: Path) -> None:
    """A capture that was altered before the seal fails on record and its host is not changed; a resume captures it anew."""
    stage = staged(tmp_path)
    (stage.base / "world/a/bend").touch()
    said = stage.run()
    assert (1, []) == (said.exit, stage.effects())
    assert "failed" == stage.last("keep")["outcome"]
    assert "its evidence requests.jsonl has the sha256" in stage.last("keep")["why"]
    (stage.base / "world/a/again").touch()
    assert 1 == stage.resume().exit  # a module that does not capture it again has failed
    (stage.base / "world/a/again").unlink()
    well(stage.engine("waive", stage.latest, "keep", "--because", "it is the copy that was bent"))
    well(stage.resume())
    assert ['a/weight {"x": 1}'] == stage.effects()
    assert [[] for _ in bundles(stage)] == [held(path) for path in bundles(stage)]


def test_a_capture_that_runs_over_is_waived_on_record(tmp_path: Path) -> None:
    """Without a capture nothing is changed; a person lets it pass with a reason, and the bundle says so for ever."""
    stage = staged(tmp_path)
    (stage.base / "world/a/silent").touch()
    assert (1, []) == (stage.run().exit, stage.effects())
    said = stage.engine("waive", stage.latest, "weight", "--because", "no")
    assert 2 == said.exit
    assert "those that did: a:keep" in said.text
    well(stage.engine("waive", stage.latest, "keep", "--because", "the log server is what failed"))
    well(stage.resume())
    assert ['a/weight {"x": 1}'] == stage.effects()
    log = [json.loads(line) for path in bundles(stage) for line in loaded(path)["data/custody.jsonl"].splitlines()]
    told = [row["why"] for row in log if row["kind"] == "incomplete"]
    assert any("waived" in why and "the log server is what failed" in why for why in told)
    said = stage.engine("evidence", "verify", str(bundles(stage)[0].parent))
    assert "incomplete: a forensics/keep: waived" in said.out


def test_a_waiver_takes_a_key_where_keys_are_asked(tmp_path: Path) -> None:
    """Where the playbook asks for keys a waiver is signed by somebody in its roles, and never by who asked for the run."""
    stage = staged(tmp_path, authority=TWO_KEYS).people()
    (stage.base / "world/a/silent").touch()
    assert 1 == stage.run("--no-wait").exit
    because = ("--because", "no logs for that day")
    assert 6 == stage.engine("waive", stage.latest, "keep", *because).exit
    well(stage.engine("waive", stage.latest, "keep", *because, "--key", str(tmp_path / "ben")))
    assert "ben: no logs for that day" == stage.last("keep")["why"]
    assert stage.bodies("note")[-1]["envelope"]["signatures"]


def test_hosts_that_come_together_share_a_bundle(tmp_path: Path) -> None:
    """Of twelve hosts each one's evidence is sealed before its own change, in no more bundles than there are hosts."""
    hosts = tuple(f"h{number:02}" for number in range(12))
    stage = staged(tmp_path, hosts)
    well(stage.run())
    entries = stage.entries()
    told = seal.sealed(entries)
    for host in hosts:
        sealed = min(entry.seq for entry in entries if entry.kind == "evidence.sealed" and host in entry.body["hosts"])
        opened = next(entry.seq for entry in entries if entry.kind == "gate.opened" and entry.host == host)
        assert sealed < opened
    assert len(told) <= 13
    found = [examined(path) for path in bundles(stage)]
    found.sort(key=lambda one: one.said["bundle"])
    for earlier, later in pairwise(found):
        proof.follows(earlier, later)
    assert [[] for _ in found] == [one.faults for one in found]


def test_batches_are_sealed_as_they_come(tmp_path: Path) -> None:
    """The second batch's evidence is of the time before its own change, and is sealed before that."""
    stage = staged(tmp_path, ("a", "b"), serial=1)
    well(stage.run())
    order = [
        (entry.kind, entry.host or " ".join(entry.body["hosts"]))
        for entry in stage.entries()
        if entry.kind in ("evidence.sealed", "gate.opened")
    ]
    assert [("evidence.sealed", "a"), ("gate.opened", "a"), ("evidence.sealed", "b"), ("gate.opened", "b")] == order[:4]


def test_verify_says_what_is_wrong(tmp_path: Path) -> None:
    """A bent file is named, with exit 1; a folder without a bundle, a journal that is none and a key that is none are not
    taken for a verdict."""
    stage = staged(tmp_path)
    well(stage.run())
    first = bundles(stage)[0]
    (first / "data/evidence/a/requests.jsonl").write_bytes(b"KEPT of a")
    said = stage.engine("evidence", "verify", str(first))
    assert 1 == said.exit
    assert "RB-0001.1: NOT WHOLE" in said.out
    assert "data/evidence/a/requests.jsonl: is not what manifest-sha512.txt says: it was altered" in said.out
    assert 2 == stage.engine("evidence", "verify", str(stage.base)).exit
    assert 2 == stage.engine("evidence", "verify", str(tmp_path / "nothing")).exit
    assert 2 == stage.engine("evidence", "verify", str(first), "--journal", str(stage.base)).exit
    assert 2 == stage.engine("evidence", "verify", str(first), "--signer", str(stage.playbook)).exit


def test_what_is_no_bundle_is_called_by_its_file_and_why_comes_first(tmp_path: Path) -> None:
    """That it cannot be read is the cause; the files that are missing for it follow."""
    (tmp_path / "b.tar").write_bytes(b"junk" * 1000)
    said = staged(tmp_path).engine("evidence", "verify", str(tmp_path / "b.tar"))
    assert 1 == said.exit
    assert re.match(r"b\.tar: NOT WHOLE, \d+ faults\n  b\.tar: cannot be read to its end: ", said.out), said.out


def test_show_and_seal(tmp_path: Path) -> None:
    """What evidence there is can be listed, proved item by item, and sealed again after a note."""
    stage = staged(tmp_path)
    well(stage.run())
    assert "forensics/keep" in stage.engine("evidence", "show").out
    proved = json.loads(stage.engine("evidence", "show", "--proof", "requests.jsonl").out)
    from engine import canon, merkle

    proof_ = [bytes.fromhex(one) for one in proved["proof"]]
    assert merkle.includes(
        bytes.fromhex(proved["root"]), proved["size"], canon.dumps(proved["row"]), proved["index"], proof_
    )
    assert "everything is sealed already" in stage.engine("evidence", "seal").err
    well(stage.engine("note", stage.latest, "customers were told"))
    well(stage.engine("evidence", "seal"))
    assert 3 == len(bundles(stage))
    well(stage.engine("evidence", "verify", str(bundles(stage)[0].parent), "--journal", str(stage.state)))
    rows = stage.engine("evidence", "show", "--json").out.splitlines()
    assert len(rows) == json.loads(rows[-1])["n"]


def test_a_key_that_is_not_the_bundles_breaks_none(tmp_path: Path) -> None:
    """Where the engine's key is lost it makes another, which erases and seals nothing: no such record would count."""
    stage = staged(tmp_path)
    well(stage.run())
    well(stage.engine("note", stage.latest, "customers were told"))
    (stage.state / "evidence.key").unlink()
    (stage.state / "evidence.key.pub").unlink()
    said = stage.engine("evidence", "erase", stage.latest, "requests.jsonl", "--because", "asked for", "-y")
    assert (2, True) == (said.exit, "nothing was erased: RB-0001.1 was sealed with the key" in said.text), said.text
    said = stage.engine("evidence", "seal")
    assert (2, True) == (said.exit, "no bundle by another one would count" in said.text), said.text
    assert 2 == len(bundles(stage))
    well(stage.engine("evidence", "verify", str(bundles(stage)[0].parent)))


def test_a_key_that_hands_over_to_itself(tmp_path: Path) -> None:
    """Anybody can go on where a bundle ends, with a key that their own entry names: that is no bundle of this run, unless a
    key that is trusted, the record or an anchor says so. A time stamp of another bundle does not."""
    with Case(tmp_path) as case:
        first, own = case.seal(), case.signer
        sshsig.generate(tmp_path / "own", "mallory")
        case.signer = sshsig.key_file(tmp_path / "own", lambda _: "")
        case.journal.append(case.run, "run.resumed", {"by": "ana", "evidence": case.signer.key.line})
        place = case.seal().parent
    stage = Stage(tmp_path / "stage", {"execution": [step("a", {"x": 1})]})
    said = stage.engine("evidence", "verify", str(place))
    assert 1 == said.exit
    assert "RB-0001.2: NOT WHOLE, 1 fault attestation.json: was signed by another key than RB-0001.1" in said.text
    assert "and nothing but itself says that the run went on elsewhere" in said.text
    (tmp_path / "first.pub").write_text(own.key.line)
    keys = ["--signer", str(tmp_path / "first.pub"), "--signer", str(tmp_path / "own.pub")]
    assert [1, 0] == [stage.engine("evidence", "verify", str(place), *keys[:count]).exit for count in (2, 4)]
    assert 0 == stage.engine("evidence", "verify", str(place), "--journal", str(tmp_path / "state")).exit
    assert 0 == stage.engine("evidence", "verify", str(first)).exit


def test_a_key_that_the_first_one_vouches_for(tmp_path: Path) -> None:
    """A run that came back seals with its first key again, over the digest of what was sealed elsewhere in between."""
    with Case(tmp_path) as case:
        case.seal()
        own = case.signer
        sshsig.generate(tmp_path / "there", "elsewhere")
        for signer in (sshsig.key_file(tmp_path / "there", lambda _: ""), own):
            case.signer = signer
            case.journal.append(case.run, "run.resumed", {"by": "ana", "evidence": signer.key.line})
            place = case.seal().parent
    stage = Stage(tmp_path / "stage", {"execution": [step("a", {"x": 1})]})
    well(stage.engine("evidence", "verify", str(place)))
    shutil.rmtree(place / "RB-0001.3")
    assert 1 == stage.engine("evidence", "verify", str(place)).exit


def test_two_bundles_of_one_name(tmp_path: Path) -> None:
    """A forged bundle beside the true one is told from it, and an anchor that has the true one does not cover for it."""
    for name in ("true", "forged"):
        with Case(tmp_path / name) as case:
            path = case.seal()
            shutil.copytree(path, tmp_path / "all" / f"{name}.bundle")
            told, key = seal.sealed(case.journal.entries(case.run))[-1], case.signer.key.fingerprint
            (tmp_path / f"{name}.jsonl").write_bytes(anchor.line(path, told, None, key, "2026-11-28"))
    stage = Stage(tmp_path / "stage", {"execution": [step("a", {"x": 1})]})
    said = stage.engine("evidence", "verify", str(tmp_path / "all"))
    assert (1, 2) == (said.exit, said.text.count("is here twice")), said.text
    both = [examined(one) for one in sorted((tmp_path / "all").iterdir())]
    faults = [anchor.Heads.read(tmp_path / f"{name}.jsonl").against(both) for name in ("true", "forged")]
    assert [1, 1] == [len(found) for found in faults], faults


def test_signed_anew_by_somebody_else(tmp_path: Path) -> None:
    """The same manifests under another signature, and another time: neither the record nor the anchor knows that key."""
    with Case(tmp_path) as case:
        case.seal()
        case.journal.append(case.run, "note", {"text": "x", "by": "ana"})
        path, own = case.seal(), case.signer.key.fingerprint
        first, second = seal.sealed(case.journal.entries(case.run))
        lines = anchor.line(path.with_name(first.name), first, None, own, "now")
        lines += anchor.line(path, second, first, own, "now")
        sshsig.generate(tmp_path / "own", "mallory")
        data = envelope.read(json.loads((path / seal.ATTESTATION).read_bytes())).data
        data["predicate"]["sealed"] = "2020-01-01T00:00:00Z"
        signer = sshsig.key_file(tmp_path / "own", lambda _: "")
        (path / seal.ATTESTATION).write_bytes(canon.dumps(envelope.seal(data, signer, seal.NAMESPACE)) + b"\n")
        found = examined(path)
        assert [] == found.faults
        proof.recorded(found, case.journal.entries(case.run))
    assert [f"was sealed with the key {own}, says the store"] == [fault.why for fault in found.faults]
    (tmp_path / "heads").write_bytes(lines)
    faults = anchor.Heads.read(tmp_path / "heads").against([examined(path.with_name(first.name)), examined(path)])
    assert [(second.name, f"was sealed with the key {own}, says heads")] == [(fault.where, fault.why) for fault in faults]


def test_a_bundle_acts_on_no_terminal(tmp_path: Path) -> None:
    """What a stranger has signed may call its run anything: only a plain name is taken, and shown."""
    with Case(tmp_path) as case:
        path = case.seal()
        told = seal.sealed(case.journal.entries(case.run))[-1]
        said = seal.statement(told, "\x1b[2JRB-9", 1, None, 0.0, "0.1")
        (path / seal.ATTESTATION).write_bytes(canon.dumps(envelope.seal(said, case.signer, seal.NAMESPACE)) + b"\n")
    assert "attestation.json: the statement has other fields than one about evidence" in held(path)


def whole(stage: Stage) -> Said:
    """Every bundle of the run, verified offline against the key and the record: nothing is left out."""
    place = bundles(stage)[0].parent
    said = stage.engine(
        "evidence", "verify", str(place), "--signer", f"{stage.state}/evidence.key.pub", "--journal", str(stage.state)
    )
    well(said)
    return said


def sealed_kinds(stage: Stage) -> set[str]:
    """What kinds of entries the bundles hold."""
    return {entry.kind for path in bundles(stage) for entry in examined(path).entries}


def test_an_undo_is_sealed(tmp_path: Path) -> None:
    """What an undo writes goes into a bundle that goes on from the run's; those before it are to the byte what they were."""
    stage = staged(tmp_path)
    well(stage.run())
    before = [loaded(path) for path in bundles(stage)]
    well(stage.undo())
    assert before == [loaded(path) for path in bundles(stage)[:2]]
    assert 3 == len(bundles(stage))
    assert {"undo.started", "undo.outcome", "undo.ended"} <= sealed_kinds(stage)
    assert b"undone by eve" in loaded(bundles(stage)[2])["data/report.html"]
    assert "are in none of these bundles" not in whole(stage).text
    shutil.rmtree(bundles(stage)[2])
    said = stage.engine("evidence", "verify", str(bundles(stage)[0].parent), "--journal", str(stage.state))
    assert re.search(r"RB-0001: entries \d+ to \d+ of the record are in none of these bundles", said.text), said.text


@pytest.mark.parametrize(("trouble", "exit"), [({"undo": "breaks"}, 1), ({"read": "unreadable"}, 1)])
def test_an_undo_that_fails_is_sealed_and_then_the_next(trouble: dict[str, str], exit: int, tmp_path: Path) -> None:
    """However an undo ends, what it wrote is sealed; the next one's is in the bundle after."""
    stage = staged(tmp_path)
    well(stage.run())
    stage.trouble("weight", **trouble)
    assert exit == stage.undo().exit
    assert "undo.outcome" in sealed_kinds(stage)
    assert "are in none of these bundles" not in whole(stage).text
    stage.trouble("weight")
    well(stage.undo())
    assert 4 == len(bundles(stage))
    assert "are in none of these bundles" not in whole(stage).text


def test_an_undo_that_was_cut_off_is_sealed_at_its_end(tmp_path: Path) -> None:
    """Killed after its last change, an undo is ended by the next one, which seals both."""
    stage = staged(tmp_path)
    well(stage.run())
    with stage.store() as store:
        store.append("RB-0001", "undo.started", {"by": "eve"})
        left = next(entry for entry in store.entries("RB-0001") if entry.kind == "step.intent" and "weight" in entry.step)
        body = {"outcome": "undone", "why": "", "module": "thing", "change": None}
        store.append("RB-0001", "undo.outcome", body, left.host, left.step)
    well(stage.undo())
    assert {"undo.outcome", "undo.ended"} <= sealed_kinds(stage)
    assert "are in none of these bundles" not in whole(stage).text


def test_an_undo_that_nobody_allowed_is_sealed(tmp_path: Path) -> None:
    """A no to an undo is evidence, too; a question that is still open is not sealed yet."""
    stage = staged(tmp_path, authority=TWO_KEYS).people()
    assert 5 == stage.run("--no-wait").exit
    stage.approve()
    well(stage.resume())
    count = len(bundles(stage))
    assert 5 == stage.undo("--no-wait").exit
    assert count == len(bundles(stage))
    well(stage.engine("reject", "RB-0001", "--key", str(tmp_path / "ben"), "--because", "no"))
    assert 6 == stage.undo("--no-wait").exit
    assert count + 1 == len(bundles(stage))
    assert "are in none of these bundles" not in whole(stage).text


def test_a_resume_after_a_seal_is_sealed(tmp_path: Path) -> None:
    """A run that failed and was sealed is taken up again: what came then is in a further bundle, and the old ones hold."""
    stage = staged(tmp_path)
    stage.trouble("weight", apply="breaks")
    assert 1 == stage.run().exit
    before = [loaded(path) for path in bundles(stage)]
    stage.trouble("weight")
    well(stage.resume())
    assert before == [loaded(path) for path in bundles(stage)[: len(before)]]
    assert "run.resumed" in sealed_kinds(stage)
    assert "are in none of these bundles" not in whole(stage).text


def test_a_cancel_of_a_run_that_waits_is_sealed(tmp_path: Path) -> None:
    """A run that nobody runs any more is cancelled and sealed; its bundles hold against its record."""
    stage = staged(tmp_path, authority=TWO_KEYS).people()
    assert 5 == stage.run("--no-wait").exit
    well(stage.engine("cancel", "RB-0001", "--because", "not needed"))
    assert {"cancel.asked", "run.ended"} <= sealed_kinds(stage)
    assert "are in none of these bundles" not in whole(stage).text


def test_an_undo_is_not_held_up_by_its_seal(tmp_path: Path) -> None:
    """With a key that cannot seal any more everything is put back, and it is said what is not sealed."""
    stage = staged(tmp_path)
    well(stage.run())
    (stage.state / "evidence.key").write_text("no key")
    said = stage.undo()
    well(said)
    assert stage.thing("weight") is None
    assert "What comes now is not sealed" in said.text


def test_an_undo_on_another_machine_hands_the_seal_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine seals with its own key, and the record says that it took the run up with it."""
    stage = staged(tmp_path)
    well(stage.run())
    mine = [examined(path) for path in bundles(stage)]
    shutil.copytree(bundles(stage)[0].parent, tmp_path / "berlin")
    for name in ("evidence.key", "evidence.key.pub", f"runs/{stage.latest}/bundles"):
        path = stage.state / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    real = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((real[0], "lisbon", *real[2:])))
    well(stage.undo("--playbook", str(stage.playbook), "-i", str(stage.stock)))
    [last] = bundles(stage)
    shutil.copytree(last, tmp_path / "berlin" / last.name)
    there = examined(last)
    assert [] == there.faults
    assert there.signer != mine[-1].signer
    proof.follows(mine[-1], there)
    assert [] == there.faults
    well(stage.engine("evidence", "verify", str(tmp_path / "berlin"), "--journal", str(stage.state)))


def test_the_clocks_that_were_met_are_shown(tmp_path: Path) -> None:
    """What was captured over HTTP is shown, and reported, with how far our clock was from the one that answered; the log's
    other rows say that nobody knows, and why."""
    (tmp_path / "served").mkdir()
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        capture = {"name": "Keep it", "id": "keep", "http.capture": {"url": url, "as": "wrong.json"}}
        stage = Stage(tmp_path, {"forensics": [capture], "execution": [step("weight", {"x": 1})]})
        well(stage.run())
        server.shutdown()
    shown = stage.engine("evidence", "show").out.splitlines()
    met = r"clock [+-]\d\.\d{3} ± [12]\.\d{3} s against 127\.0\.0\.1:\d+ \(Date header\)"
    [captured] = [line for line in shown if "a/wrong.json " in line]
    assert re.search(f"{met}$", captured), captured
    assert "clock offset unknown: no other clock was met: the record is kept on this machine" in shown[2], shown
    assert re.search(met, stage.engine("report", "--format", "md", "--out", "-").out)
    assert [] == [fault for one in bundles(stage) for fault in held(one)]


def test_erased_on_record(tmp_path: Path) -> None:
    """Personal data goes and its digest stays: the bundle holds with the signed record, and with nothing less than that."""
    stage = staged(tmp_path)
    well(stage.run())
    run, first = stage.latest, bundles(stage)[0]
    erase = ("evidence", "erase", run, "requests.jsonl", "--because", "the data subject asked", "--as", "dpo")
    assert 2 == stage.engine(*erase).exit
    well(stage.engine(*erase, "-y"))
    assert not list((stage.state / "runs" / run).rglob("requests.jsonl"))
    said = stage.engine("evidence", "verify", str(first.parent), "--journal", str(stage.state))
    well(said)
    assert "by dpo: the data subject asked" in said.out
    shown = stage.engine("report", run, "--format", "md", "--out", "-").out
    assert "| sealed | engine | RB-0001.1: 3 files, sha256:" in shown
    assert "| erased | dpo | evidence/a/requests.jsonl: the data subject asked |" in shown
    well(stage.engine(*erase, "-y"))
    assert [] == held(first)
    [record] = (first / "erased").iterdir()
    whole = record.read_bytes()
    record.write_bytes(whole[:-3] + b" }\n")
    assert any("erased/" in fault for fault in held(first))
    record.write_bytes(whole)
    (first / "data/evidence/a").mkdir(parents=True)
    (first / "data/evidence/a/requests.jsonl").write_bytes(b"kept of a")
    assert ["data/evidence/a/requests.jsonl: was erased, says erased/1.json, and is here"] == held(first)
    (first / "data/evidence/a/requests.jsonl").unlink()
    (first / "data/evidence/a").rmdir()
    (first / "data/evidence").rmdir()
    record.unlink()
    assert any("it was removed" in fault for fault in held(first))


def test_a_custody_log_that_was_changed_names_nothing_to_erase(tmp_path: Path) -> None:
    """Who can write into a bundle could else have the engine take another file away."""
    stage = staged(tmp_path)
    well(stage.run())
    other = tmp_path / "other"
    other.write_text("x")
    log = bundles(stage)[0] / "data/custody.jsonl"
    log.write_text(log.read_text().replace('"path":"requests.jsonl"', f'"path":"{other}"'))
    said = stage.engine("evidence", "erase", stage.latest, str(other), "--because", "asked for", "-y")
    assert (2, True, True) == (said.exit, "is not the one that was sealed" in said.text, other.exists()), said.text


def test_what_cannot_be_erased(tmp_path: Path) -> None:
    """The journal and the custody log are not erased, nor what is not there, and nothing without a reason."""
    stage = staged(tmp_path)
    well(stage.run())
    for name in ("journal.jsonl", "custody.jsonl", "nothing", "../../state"):
        assert 2 == stage.engine("evidence", "erase", stage.latest, name, "--because", "x", "-y").exit
    assert 2 == stage.engine("evidence", "erase", stage.latest, "requests.jsonl", "--because", " ", "-y").exit
    assert [[], []] == [held(path) for path in bundles(stage)]


def test_a_forged_erasure(tmp_path: Path) -> None:
    """Who removes a file and writes a record of it with a key of their own is told from whoever sealed the bundle."""
    stage = staged(tmp_path)
    well(stage.run())
    first = bundles(stage)[0]
    sshsig.generate(tmp_path / "theirs", "theirs")
    row = next(json.loads(line) for line in loaded(first)["data/custody.jsonl"].splitlines())
    said = {
        "run": "RB-0001",
        "bundle": 1,
        "because": "x",
        "by": "eve",
        "at": "now",
        **{k: row[k] for k in ("item", "size", "sha512")},
    }
    subject = {f"data/{row['item']}": f"sha256:{row['sha256']}"}
    made = envelope.statement(seal.ERASURE, subject, said)
    signed = envelope.seal(made, sshsig.key_file(tmp_path / "theirs", lambda _: ""), seal.NAMESPACE)
    (first / "erased").mkdir()
    (first / "erased/1.json").write_bytes(canon.dumps(signed) + b"\n")
    (first / "data/evidence/a/requests.jsonl").unlink()
    (first / "data/evidence/a").rmdir()
    (first / "data/evidence").rmdir()
    assert "erased/1.json: it was not signed by whoever sealed the bundle" in held(first)
    assert any("it was removed" in fault for fault in held(first))


def test_captures_share_one_box() -> None:
    """Captures without a timeout of their own share two minutes on a host; one that has its own, and other steps, do not."""
    site = object.__new__(Site)
    site._boxes = {}
    text = "name: x\nstrategy: configuration\nhosts: all\nforensics:\n"
    text += "  - {name: one, keep: {as: a}}\n  - {name: two, keep: {as: b}}\n  - {name: own, keep: {as: c}, timeout: 10m}\n"
    text += "execution:\n  - {name: do, thing: {name: x}}\n"
    found: list[Diagnostic] = []
    book = reader.read(lambda name: source.parse(text, name), "book.yml", lambda _: True, found)
    assert book is not None, found
    one, two, own, do = book.steps
    assert (120.0, 120.0, 600.0, 300.0) == (one.timeout, two.timeout, own.timeout, do.timeout)
    assert 1120.0 == site.until(one, "a", 1000.0)
    assert 1120.0 == site.until(two, "a", 1100.0)
    assert 1220.0 == site.until(two, "b", 1100.0)
    assert (1700.0, 1400.0) == (site.until(own, "a", 1100.0), site.until(do, "a", 1100.0))
