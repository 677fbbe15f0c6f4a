"""The MLflow modules against a stand-in registry: what the laws and cases do not say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standins import Mlflow, mlflow
from world import MARKED, World

from modules.contract import Change, ModuleError, diff
from modules.mlflow import _client, alias, snapshot

CHANGE = Change({"version": "3"}, {"version": "1"})


@pytest.fixture
def registry() -> Iterator[tuple[Mlflow, dict[str, Any]]]:
    with mlflow() as (stand_in, url):
        yield stand_in, {"server": url, "token": MARKED, "model": "fraud"}


def test_an_alias_is_its_exact_name(tmp_path: Path, registry: tuple[Mlflow, dict[str, Any]]) -> None:
    """Aliases are case-sensitive: `Champion` is absent where `champion` is set."""
    _, params = registry
    assert alias.read({**params, "alias": "Champion"}, World(tmp_path, {}).context()) is None


def test_an_alias_does_not_move_to_missing_files(tmp_path: Path, registry: tuple[Mlflow, dict[str, Any]]) -> None:
    """Listed but not there: a version whose MLmodel cannot be fetched is refused, and the alias stays."""
    stand_in, params = registry
    listed = stand_in.files["1"]
    stand_in.files["1"] = _Forgetful(listed)
    with pytest.raises(ModuleError, match="No such artifact: 'MLmodel'"):
        alias.apply({**params, "alias": "champion", "version": "1"}, CHANGE, World(tmp_path, {}).context())
    assert {"champion": "3"} == stand_in.aliases


class _Forgetful(dict[str, bytes]):
    """Lists its files and has none."""

    def get(self, *_: Any) -> None:
        return None


def test_undo_to_a_version_that_is_gone_says_so(tmp_path: Path, registry: tuple[Mlflow, dict[str, Any]]) -> None:
    """When the version from before was deleted meanwhile, undo fails with MLflow's words and changes nothing."""
    stand_in, params = registry
    ctx, params = World(tmp_path, {}).context(), {**params, "alias": "champion", "version": "1"}
    alias.apply(params, CHANGE, ctx)
    del stand_in.tags["3"]
    with pytest.raises(ModuleError, match=r"version=3.* not found"):
        alias.undo(params, CHANGE, ctx)
    assert {"champion": "1"} == stand_in.aliases


def test_history_stops_at_the_newest_asked_for(tmp_path: Path, registry: tuple[Mlflow, dict[str, Any]]) -> None:
    """`newest: 2` gives two candidates and asks for no more pages than it needs."""
    stand_in, params = registry
    found = alias.history({**params, "alias": "champion", "newest": 2}, World(tmp_path, {}).context())
    assert ["3", "2"] == [candidate["version"] for candidate in found]
    assert 1 == stand_in.asked.count("model-versions/search")


def test_history_names_a_run_that_is_gone(tmp_path: Path, registry: tuple[Mlflow, dict[str, Any]]) -> None:
    """A version whose run was deleted is a candidate without metrics, and its lineage says why."""
    stand_in, params = registry
    stand_in._run = lambda *_: (404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Run with id=run3 not found"})
    found = alias.history({**params, "alias": "champion", "newest": 1}, World(tmp_path, {}).context())
    assert ({}, "present") == (found[0]["metrics"], found[0]["artifact"])
    assert found[0]["lineage"]["gone"].endswith("Run with id=run3 not found")


def test_a_digest_names_content_not_place(tmp_path: Path, registry: tuple[Mlflow, dict[str, Any]]) -> None:
    """Equal files give equal digests in two versions; one changed byte gives another."""
    stand_in, params = registry
    stand_in.files["1"] = dict(stand_in.files["2"])
    found = alias.history({**params, "alias": "champion", "digests": True}, World(tmp_path, {}).context())
    digests = {candidate["version"]: candidate["digest"] for candidate in found}
    assert digests["1"] == digests["2"] != digests["3"]


def test_a_digest_is_held_against_the_tag(tmp_path: Path, registry: tuple[Mlflow, dict[str, Any]]) -> None:
    """A version whose files are not those that its tag names differs; one without the tag is taken as it is."""
    stand_in, params = registry
    params = {**params, "alias": "champion", "digests": True}
    first = {one["version"]: one for one in alias.history(params, World(tmp_path, {}).context())}
    assert {"present"} == {one["artifact"] for one in first.values()}
    stand_in.tags["1"]["digest"] = first["1"]["digest"]
    stand_in.tags["2"]["digest"] = first["1"]["digest"]
    after = {one["version"]: one for one in alias.history(params, World(tmp_path, {}).context())}
    assert {"1": "present", "2": "differs", "3": "present"} == {number: one["artifact"] for number, one in after.items()}
    assert f"its files have the digest {first['2']['digest'][:19]}…" in after["2"]["why"]
    unasked = alias.history({**params, "digests": False}, World(tmp_path, {}).context())
    assert {"present"} == {one["artifact"] for one in unasked}


def test_a_large_file_comes_in_pieces(
    tmp_path: Path, registry: tuple[Mlflow, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file longer than a piece is asked for by range, and its digest is that of the whole."""
    stand_in, params = registry
    content = bytes(range(256)) * 5
    stand_in.files["1"]["data/model.bin"] = content
    monkeypatch.setattr(_client, "PIECE", 100)
    ctx, file = World(tmp_path, {}).context(), _client.File("data/model.bin", len(content))
    assert [100] * 12 + [80] == [len(piece) for piece in _client.pieces(ctx, params, "1", file)]
    assert hashlib.sha256(content).hexdigest() == _client.sha256(ctx, params, "1", file)


def test_a_file_that_is_cut_is_refused(tmp_path: Path, registry: tuple[Mlflow, dict[str, Any]]) -> None:
    """Fewer bytes than the listing says are an error, not a digest."""
    _, params = registry
    with pytest.raises(ModuleError, match="has 9 bytes, and is listed with 10"):
        _client.sha256(World(tmp_path, {}).context(), params, "1", _client.File("data/model.bin", 10))


def test_a_snapshot_holds_what_the_registry_holds(tmp_path: Path, registry: tuple[Mlflow, dict[str, Any]]) -> None:
    """The evidence names all versions over all pages, the run with its inputs, MLmodel's text and every file's sha256."""
    stand_in, params = registry
    world = World(tmp_path, {})
    params |= {"alias": "champion", "files": "keep"}
    snapshot.apply(params, diff(None, {"stored": True}), world.context())
    state = snapshot.read(params, world.context())
    assert "(Date header)" in state["_clock_offset"]["clock"]
    kept = json.loads(Path(state["_path"]).read_text())
    assert ["3", "2", "1"] == [version["version"] for version in kept["versions"]]
    assert "d1g3st" == kept["run"]["inputs"]["dataset_inputs"][0]["dataset"]["digest"]
    assert "flavors: {}\n" == kept["MLmodel"]
    wanted = {path: hashlib.sha256(content).hexdigest() for path, content in stand_in.files["3"].items()}
    assert wanted == {file["path"]: file["sha256"] for file in kept["files"]}
    folder = Path(state["_path"]).with_suffix("")
    assert stand_in.files["3"] == {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert ("3", 2, []) == (state["_version"], state["_files"], state["_missing"])
    assert hashlib.sha256(Path(state["_path"]).read_bytes()).hexdigest() == state["_sha256"]


def test_a_snapshot_names_what_is_gone(tmp_path: Path, registry: tuple[Mlflow, dict[str, Any]]) -> None:
    """A version without files is kept all the same, and the evidence says that its files are missing."""
    stand_in, params = registry
    stand_in.files["3"] = {}
    world, params = World(tmp_path, {}), {**params, "version": "3"}
    snapshot.apply(params, diff(None, {"stored": True}), world.context())
    assert ["the files of fraud 3"] == snapshot.read(params, world.context())["_missing"]


def test_a_snapshot_that_breaks_off_is_not_there(tmp_path: Path, registry: tuple[Mlflow, dict[str, Any]]) -> None:
    """When a file cannot be fetched, reading still says that nothing is stored."""
    stand_in, params = registry
    stand_in.files["3"] = _Forgetful(stand_in.files["3"])
    world, params = World(tmp_path, {}), {**params, "version": "3", "files": "keep"}
    with pytest.raises(ModuleError):
        snapshot.apply(params, diff(None, {"stored": True}), world.context())
    assert snapshot.read(params, world.context()) is None


def test_damaged_evidence_is_no_evidence(tmp_path: Path, registry: tuple[Mlflow, dict[str, Any]]) -> None:
    """A snapshot that is no JSON is an error, not a reason to go on."""
    world, params = World(tmp_path, {}), {**registry[1], "version": "3"}
    (world.evidence / "execution-step.mlflow.json").write_text("{")
    with pytest.raises(ModuleError, match="damaged"):
        snapshot.read(params, world.context())
