"""Files and captures where a world and a case do not reach: races, limits, and what is kept beside a capture."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyrage
import pytest
from world import MARK, MARKED, Served, World

from engine import sshsig
from modules import _disk, _evidence, file
from modules.contract import Change, ModuleError, Reply, diff
from modules.directory import _client as registry
from modules.directory import snapshot
from modules.http import capture


def test_a_file_that_changed_since_it_was_read_is_not_overwritten(tmp_path: Path) -> None:
    """Between reading and writing somebody else wrote: nothing is lost, the step fails and says why."""
    there = World(tmp_path, params={"path": "a.yml", "content": "new"})
    (there.base / "a.yml").write_text("old")
    change = diff(file.read(there.params, there.context()), file.desired(there.params))
    (there.base / "a.yml").write_text("somebody else's")
    with pytest.raises(ModuleError, match="has changed since it was read"):
        file.apply(there.params, change, there.context())
    assert "somebody else's" == (there.base / "a.yml").read_text()


def test_an_answer_past_the_limit_is_not_kept(tmp_path: Path) -> None:
    """A capture that is larger than its limit fails and leaves nothing among the evidence."""
    with Served(lambda request: (200, b"x" * 2048)) as server:
        there = World(tmp_path, params={"url": server.url, "as": "a.bin", "limit": "1KiB"})
        with pytest.raises(ModuleError, match="more than 1024 bytes"):
            capture.apply(there.params, Change({"stored": False}, {"stored": True}), there.context())
        there.wire.close()
    assert not list(there.evidence.iterdir())


def test_what_lies_beside_a_capture_says_where_it_came_from(tmp_path: Path) -> None:
    """The description holds the address with its query, the time in UTC, status, size and digest, and no secret."""
    with Served(lambda request: (200, b"abc")) as server:
        there = World(
            tmp_path, params={"url": f"{server.url}/a?n=5", "as": "a.txt", "headers": {"x": MARKED}}, now=lambda: 0.0
        )
        capture.apply(there.params, Change({"stored": False}, {"stored": True}), there.context())
        there.wire.close()
        text = (there.evidence / "a.txt.about.json").read_text()
        about = json.loads(text)
    assert (f"{server.url}/a?n=5", "1970-01-01T00:00:00.000+00:00", 200, 3) == tuple(
        about[key] for key in ("source", "captured", "status", "size")
    )
    assert MARK not in text


def dated(when: float) -> str:
    return formatdate(when, usegmt=True)


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"date": dated(1_795_000_000)}, {"seconds": 41.0, "within": 2.0, "clock": "h:8080 (Date header)"}),
        ({"date": dated(1_795_000_100)}, {"seconds": -59.0, "within": 2.0, "clock": "h:8080 (Date header)"}),
        ({"date": dated(1_795_000_000), "age": "0"}, {"seconds": 41.0, "within": 2.0, "clock": "h:8080 (Date header)"}),
        ({}, {"seconds": None, "why": "h:8080 answered without a Date header"}),
        ({"date": "yesterday"}, {"seconds": None, "why": "the Date header of h:8080 is no date"}),
        ({"date": "Sun, 99 Foo 2026 99:99:99 GMT"}, {"seconds": None, "why": "the Date header of h:8080 is no date"}),
        (
            {"date": dated(1_795_000_000), "age": "7"},
            {"seconds": None, "why": "a cache answered for h:8080, with the Date of an earlier answer"},
        ),
    ],
)
def test_how_far_our_clock_is_ahead(headers: dict[str, str], told: dict[str, Any], tmp_path: Path) -> None:
    """From the Date header of an answer: our time in the middle of the exchange less theirs in the middle of its second,
    within half the exchange and a second; where the header does not tell, why not. No password is in it."""
    there = World(tmp_path, params={}, now=lambda: 1_795_000_042.5)
    wire = SimpleNamespace(http=lambda *_, **__: Reply(200, headers, b"", 2.0))
    ctx, clock = _evidence.timed(replace(there.context(), wire=wire))
    ctx.http("GET", "http://me:secret@h:8080/a?n=5")
    assert told == clock.offset


def test_the_most_exact_of_several_answers_counts(tmp_path: Path) -> None:
    """Of several answers the quickest tells of the clock; one that tells nothing takes nothing away."""
    answers = [(5.0, 1_795_000_000), (0.5, 1_795_000_000), (3.0, 1_795_000_000), (0.1, None)]
    replies = [Reply(200, {} if date is None else {"date": dated(date)}, b"", took) for took, date in answers]
    wire = SimpleNamespace(http=lambda *_, **__: replies.pop(0))
    ctx, clock = _evidence.timed(replace(World(tmp_path, {}).context(), wire=wire))
    for _ in answers:
        ctx.http("GET", "http://h/")
    assert 1.25 == clock.offset["within"]


def test_a_capture_keeps_how_far_the_clocks_are_apart(tmp_path: Path) -> None:
    """A server on this machine has this machine's clock: the offset is nought, within what is said of it; an engine whose
    clock goes an hour ahead is found an hour ahead."""
    with Served(lambda request: (200, b"abc")) as server:
        for ahead in (0.0, 3600.0):
            there = World(
                tmp_path / str(ahead), {"url": server.url, "as": "a.txt"}, now=lambda ahead=ahead: time.time() + ahead
            )
            capture.apply(there.params, Change({"stored": False}, {"stored": True}), there.context())
            said = capture.read(there.params, there.context())["_clock_offset"]
            there.wire.close()
            assert abs(said["seconds"] - ahead) <= said["within"] < 3.0, said
            assert f"{server.url.removeprefix('http://')} (Date header)" == said["clock"]


ROWS = "".join(json.dumps({"n": n, "card": f"41{n:04}", "at": n}) + "\n" for n in range(1000)).encode()


def test_a_sample_is_the_same_rows_again() -> None:
    """Captured again after a crash, the same part of the rows is kept; about as many as asked for."""
    params = {"sample": "10%"}
    kept, said = _evidence.chosen(params, ROWS, 0.0)
    assert kept == _evidence.chosen(params, ROWS, 9.0)[0]
    count = len(kept.splitlines())
    assert 60 < count < 140
    assert {"left_out": 1000 - count} == said
    assert set(kept.splitlines()) < set(ROWS.splitlines()), "what is kept is as it came"


def test_nothing_that_is_left_out_is_kept() -> None:
    """No value of a field that was named stands in what is kept, however deep, in lists too."""
    body = json.dumps({"card": "4111", "rows": [{"card": ["5555"], "v": 1}, {"in": {"card": {"no": "6666"}}}]}).encode()
    kept, said = _evidence.chosen({"redact": ["card"]}, body, 0.0)
    assert [] == [number for number in (b"4111", b"5555", b"6666") if number in kept]
    assert (3, 1) == (said["redacted"], json.loads(kept)["rows"][0]["v"])


def test_what_is_encrypted_is_read_with_the_key_of_who_it_is_for(tmp_path: Path) -> None:
    """The file holds nothing readable; each of the people opens it with their own SSH key, and nobody else."""
    lines = {name: sshsig.generate(tmp_path / name, name).line for name in ("ana", "ben", "eve")}
    with Served(lambda request: (200, ROWS)) as server:
        there = World(tmp_path, params={"url": f"{server.url}/a", "as": "a.jsonl", "encrypt_for": ["ana", "ben"]})
        asked: list[Any] = []
        ctx = replace(there.context(), recipients=lambda names: asked.append(names) or [lines[name] for name in names])
        capture.apply(there.params, Change({"stored": False}, {"stored": True}), ctx)
        state = capture.read(there.params, ctx)
        there.wire.close()
    sealed = (there.evidence / "a.jsonl.age").read_bytes()
    assert (True, 1000, ["ana", "ben"]) == (state["stored"], state["_rows"], state["_encrypted_for"])
    assert hashlib.sha256(sealed).hexdigest() == state["_sha256"], "what is sealed is the ciphertext"
    assert b"card" not in sealed
    for name in ("ana", "ben"):
        assert ROWS == pyrage.decrypt(sealed, [pyrage.ssh.Identity.from_buffer((tmp_path / name).read_bytes())])
    with pytest.raises(pyrage.DecryptError):
        pyrage.decrypt(sealed, [pyrage.ssh.Identity.from_buffer((tmp_path / "eve").read_bytes())])


def test_a_key_that_can_only_sign_is_named() -> None:
    """For an ECDSA key nothing can be encrypted: it is said which kind, and nothing is kept."""
    line = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBA=="
    with pytest.raises(ModuleError, match="nothing can be encrypted for a key of the kind ecdsa-sha2-nistp256"):
        _evidence.encrypted(b"x", [line])


def test_a_snapshot_that_was_cut_off_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that were copied whole are not copied again; a half one is not trusted; where the JSON file is, everything
    is."""
    there = World(tmp_path, params={"path": "models", "files": "keep"})
    registry.publish(there.base / "models", "v1", {f"part{n}": bytes([n]) * 5000 for n in range(4)}, by="ada")
    registry.point(there.base / "models", "v1")
    real, copied = _disk.copy, list[str]()

    def copy(source: Path, target: Path, between: Any) -> tuple[int, str]:
        if source.name == "part2" and copied.count("part2") == 0:
            copied.append("part2")
            target.write_bytes(b"half")
            raise KeyboardInterrupt
        copied.append(source.name)
        return real(source, target, between)

    monkeypatch.setattr(_disk, "copy", copy)
    change = Change(None, {"stored": True})
    with pytest.raises(KeyboardInterrupt):
        snapshot.apply(there.params, change, there.context())
    assert snapshot.read(there.params, there.context()) is None
    snapshot.apply(there.params, change, there.context())
    state = snapshot.read(there.params, there.context())
    assert state is not None
    assert ["manifest.json", "part0", "part1", "part2", "part2", "part3"] == copied
    for n in range(4):
        assert bytes([n]) * 5000 == (Path(state["_path"]).with_suffix("") / f"part{n}").read_bytes()
