"""The MLflow modules against a stand-in registry: what the laws and cases do not say."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
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


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two key pairs on P-256: signer and other."""
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = tmp_path_factory.mktemp("keys")
    for name in ("signer", "other"):
        private = ec.generate_private_key(ec.SECP256R1())
        form = (s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
        (folder / f"{name}.pem").write_bytes(private.private_bytes(*form))
        public = private.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
        (folder / f"{name}.pub").write_bytes(public)
    return folder


@pytest.fixture(scope="module")
def model_sig(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> bytes:
    """What the OpenSSF's own tool leaves as `model.sig` in the files of version 1."""
    pytest.importorskip("model_signing")
    folder = tmp_path_factory.mktemp("version")
    for name, content in Mlflow().files["1"].items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    argv = [sys.executable, "-m", "model_signing", "sign", "key", str(folder), "--private_key", str(keys / "signer.pem")]
    done = subprocess.run([*argv, "--signature", str(folder / "model.sig")], capture_output=True, text=True, timeout=120)
    assert 0 == done.returncode, done.stderr
    return (folder / "model.sig").read_bytes()


SIGNED: dict[str, tuple[dict[str, bytes | None], str, str]] = {
    "signed, by whom nobody asks": ({}, "", ""),
    "signed by the key that is asked": ({}, "signer.pub", ""),
    "signed by another": ({}, "other.pub", "it was not made with other.pub"),
    "not signed": ({"model.sig": None}, "signer.pub", "model.sig of fraud 1 is not there: the version is not signed"),
    "not signed, and nobody asks": ({"model.sig": None}, "", ""),
    "a file altered": ({"data/model.bin": b"2" * 9}, "signer.pub", "data/model.bin is not what was signed"),
    "a file altered, and nobody asks": ({"data/model.bin": b"2" * 9}, "", "data/model.bin is not what was signed"),
    "a file added": ({"data/evil.pkl": b"x"}, "", "data/evil.pkl was not signed: it was added"),
    "a file removed": ({"data/model.bin": None}, "", "data/model.bin was signed and is not there"),
    "a signature that is none": ({"model.sig": b"{}"}, "", "it is no Sigstore bundle with a signature"),
    "a signature too large": ({"model.sig": b" " * ((16 << 20) + 1)}, "", "it is too large to be one"),
}


@pytest.mark.parametrize("name", SIGNED)
def test_an_alias_moves_to_what_was_signed(
    name: str, tmp_path: Path, registry: tuple[Mlflow, dict[str, Any]], keys: Path, model_sig: bytes
) -> None:
    """A signature that is there holds, or the alias stays; where one is demanded it is there, by the key that is named."""
    stand_in, params = registry
    changed, key, why = SIGNED[name]
    stand_in.files["1"] = {
        path: content
        for path, content in {**stand_in.files["1"], "model.sig": model_sig, **changed}.items()
        if content is not None
    }
    params = {**params, "alias": "champion", "version": "1", **({"signed_by": str(keys / key)} if key else {})}
    ctx = World(tmp_path, {}).context()
    if not why:
        alias.apply(params, CHANGE, ctx)
        assert {"champion": "1"} == stand_in.aliases
        return
    with pytest.raises(ModuleError) as caught:
        alias.apply(params, CHANGE, ctx)
    assert why in caught.value.message
    assert {"champion": "3"} == stand_in.aliases


def test_only_signed_versions_are_candidates(
    tmp_path: Path, registry: tuple[Mlflow, dict[str, Any]], keys: Path, model_sig: bytes
) -> None:
    """Where a signature is demanded, `last_good` is told of each version that has none or another's; no byte of a model is
    fetched for it."""
    stand_in, params = registry
    stand_in.files["1"]["model.sig"] = model_sig
    stand_in.files["3"]["model.sig"] = model_sig
    stand_in.files["3"]["data/more.bin"] = b"x"
    params = {**params, "alias": "champion", "signed_by": str(keys / "signer.pub")}
    told = {one["version"]: (one["artifact"], one["why"]) for one in alias.history(params, World(tmp_path, {}).context())}
    assert ("present", "") == told["1"]
    assert ("differs", "model.sig of fraud 2 is not there: the version is not signed") == told["2"]
    assert ("differs", True) == (told["3"][0], "data/more.bin was not signed" in told["3"][1])


def test_what_nothing_lists_is_not_taken_for_signed(
    tmp_path: Path, registry: tuple[Mlflow, dict[str, Any]], keys: Path
) -> None:
    """Where the server does not list a version's files, a signature that is demanded cannot be seen: the alias stays."""
    _, params = registry
    with pytest.raises(ModuleError, match="whether fraud 1 is signed cannot be told"):
        _client.signed(World(tmp_path, {}).context(), params, "1", None, keys / "signer.pub")
    _client.signed(World(tmp_path, {}).context(), params, "1", None, None)


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
