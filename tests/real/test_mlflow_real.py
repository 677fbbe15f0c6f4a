"""playbooks/mlflow-rollback.yml against a real MLflow server and a real MLServer, with models that scikit-learn trained.

Version 2 is live and was trained on poisoned data; version 1 is good. The engine is the real command line as processes of
their own, and what the models answer is asked by this file itself, not by the engine's modules.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric import ec
from servers import Server, free_port, script
from standins import Prometheus
from world import Request, Served, World

from engine import sshsig
from engine.journal import Journal
from modules.contract import Change, ModuleError
from modules.mlflow import alias

MISSING = [name for name in ("mlflow", "mlserver", "mlserver_sklearn", "sklearn") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (pip install 'lastgood[test]')"),
]
PLAYBOOK = Path(__file__).parents[2] / "playbooks" / "mlflow-rollback.yml"
MODEL = "tumours"
PEOPLE = {"ana": "ml-oncall", "ben": "fraud-risk"}


def call(method: str, url: str, body: Any = None, timeout: float = 60.0) -> tuple[int, Any]:
    """One HTTP request with JSON both ways: status and answer, whatever the status."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as reply:
            status, content = reply.status, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            status, content = error.code, error.read()
    return status, json.loads(content) if content else None


def sha256s(folder: Path) -> dict[str, str]:
    """path -> digest of every file below a folder, by another program than the engine's."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    said = subprocess.run(["sha256sum", "--", *names], cwd=folder, capture_output=True, text=True, check=True).stdout
    return {line[66:]: line[:64] for line in said.splitlines()}


class Scene:
    """The two servers, a stand-in for Prometheus that shows the accuracy last measured, and the files they live on."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.accuracy = folder, 0.0
        port, self.ports = free_port(), [free_port() for _ in range(3)]
        self.mlflow_url, self.url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{self.ports[0]}"
        argv = ["server", "--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
        argv += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/artifacts"]
        self.mlflow = Server(folder, [script("mlflow"), *argv], f"{self.mlflow_url}/health")
        self.mlserver = Server(folder, [script("mlserver"), "start", str(folder / "serving")], f"{self.url}/v2/health/live")
        self.metric = Served(Prometheus(lambda _: self.accuracy).answer)
        self.settings = folder / "serving" / MODEL / "model-settings.json"

    def __enter__(self) -> Scene:
        self.metric.__enter__()
        self.settings.parent.mkdir(parents=True)
        http, grpc, metrics = self.ports
        settings = {"host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics}
        settings |= {"parallel_workers": 0, "load_models_at_startup": False}
        (self.folder / "serving" / "settings.json").write_text(json.dumps(settings))
        self.mlflow.start()
        self.mlserver.start()
        train = [sys.executable, str(Path(__file__).with_name("train_mlflow.py")), self.mlflow_url, MODEL, str(self.folder)]
        done = subprocess.run(train, env=self.mlflow.env, capture_output=True, text=True, timeout=600)
        assert 0 == done.returncode, done.stderr
        self.golden = [json.loads(line) for line in (self.folder / "golden.jsonl").read_text().splitlines()]
        self._inventory()
        (self.folder / "store").mkdir()
        self.deploy("1")
        return self

    def __exit__(self, *_: object) -> None:
        self.mlserver.stop()
        self.mlflow.stop()
        self.metric.__exit__()

    def _inventory(self) -> None:
        stock = self.folder / "inventory"
        probe, out = [self.golden[0]["input"]], f"file:{self.folder}/messages.jsonl"
        about = {
            "mlflow_url": self.mlflow_url, "prometheus_url": self.metric.url, "model": MODEL, "alias": "champion",
            "scoring_url": self.url, "probe": probe, "model_settings": str(self.settings),
            "model_store": str(self.folder / "store"), "golden": str(self.folder / "golden.jsonl"),
        }  # fmt: skip
        for name in PEOPLE:
            sshsig.generate(self.folder / name, f"{name}@example.org")
        keys = {name: (self.folder / f"{name}.pub").read_text().strip() for name in PEOPLE}
        people = [{"name": name, "roles": [role], "keys": [keys[name]]} for name, role in PEOPLE.items()]
        stock.mkdir()
        for name, content in (
            ("hosts", {"all": {"children": {"mlflow": {"hosts": {MODEL: about}}}}}),
            ("roster", {"people": people}),
            ("destinations", {"incident-channel": out}),
        ):
            (stock / f"{name}.yml").write_text(json.dumps(content, indent=1))  # JSON is YAML

    # -- what a deployment does, and what anybody can see -----------------------------------------------------------------
    def deploy(self, version: str) -> None:
        """Makes `version` the one that is registered, configured and served, with tags as training left them."""
        for server in (self.mlflow, self.mlserver):
            server.start()
        for server in (self.mlflow, self.mlserver):
            server.wait()
        for number in ("1", "2"):
            link = self.folder / "store" / number
            link.unlink(missing_ok=True)
            link.symlink_to(self.artifact(number))
            for key in set(self.tags(number)) - {"validation"}:
                self.registry("DELETE", "model-versions/delete-tag", name=MODEL, version=number, key=key)
        self.registry("POST", "registered-models/alias", name=MODEL, alias="champion", version=version)
        parameters = {"uri": str(self.folder / "store" / version), "version": version}
        about = {"name": MODEL, "implementation": "mlserver_sklearn.SKLearnModel", "parameters": parameters}
        self.settings.write_text(json.dumps(about))
        assert 200 == self.load()
        assert version == self.measure()[0]

    def load(self) -> int:
        """Has MLServer load what its settings say. The status."""
        return call("POST", f"{self.url}/v2/repository/models/{MODEL}/load", {})[0]

    def measure(self) -> tuple[str, float]:
        """The version that an inference reply names, and the share of golden rows that it answers right."""
        rows = [row["input"] for row in self.golden]
        tensor = {"name": "x", "shape": [len(rows), len(rows[0])], "datatype": "FP64", "data": rows}
        status, reply = call("POST", f"{self.url}/v2/models/{MODEL}/infer", {"inputs": [tensor]})
        assert 200 == status, reply
        answers = reply["outputs"][0]["data"]
        right = sum(answer == row["expect"] for answer, row in zip(answers, self.golden, strict=True))
        self.accuracy = right / len(rows)
        return reply["model_version"], self.accuracy

    def invoke(self, url: str) -> float:
        """The share of golden rows that an `mlflow models serve` answers right."""
        status, reply = call("POST", f"{url}/invocations", {"inputs": [r["input"] for r in self.golden]})
        assert 200 == status, reply
        rows = zip(reply["predictions"], self.golden, strict=True)
        return sum(answer == row["expect"] for answer, row in rows) / len(self.golden)

    def registry(self, method: str, path: str, **fields: str) -> Any:
        """One call of MLflow's API that must be answered with 200."""
        query = "?" + urllib.parse.urlencode(fields) if method == "GET" else ""
        url = f"{self.mlflow_url}/api/2.0/mlflow/{path}{query}"
        status, answer = call(method, url, None if method == "GET" else fields)
        assert 200 == status, answer
        return answer

    def version(self, number: str) -> Any:
        return self.registry("GET", "model-versions/get", name=MODEL, version=number)["model_version"]

    def tags(self, number: str) -> dict[str, str]:
        return {tag["key"]: tag["value"] for tag in self.version(number).get("tags", [])}

    def artifact(self, number: str) -> Path:
        """Where MLflow has the files of a version on this disk."""
        (found,) = (self.folder / "artifacts").glob(f"*/models/{self.version(number)['source'].removeprefix('models:/')}")
        return found / "artifacts"

    @property
    def alias(self) -> str:
        """The version that the alias points to."""
        (found,) = self.registry("GET", "registered-models/get", name=MODEL)["registered_model"]["aliases"]
        assert "champion" == found["alias"]
        return str(found["version"])

    def seen(self) -> tuple[str, str, str, dict[str, str]]:
        """All that a rollback moves: registered version, served version, settings file, tags of version 2."""
        return self.alias, self.measure()[0], self.settings.read_text(), self.tags("2")


class Desk:
    """The working folder of somebody who uses the engine there."""

    def __init__(self, scene: Scene, folder: Path) -> None:
        self.scene, self.folder = scene, folder
        env = {name: value for name, value in os.environ.items() if not name.startswith("LASTGOOD")}
        self.env = {**env, "SSH_AUTH_SOCK": "", "LASTGOOD_USER": "eve"}

    def begin(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [script("engine"), *words], cwd=self.folder, env=self.env, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def engine(self, *words: str, code: int = 0) -> str:
        """What `engine …` says; it must end with `code`."""
        process = self.begin(*words)
        try:
            said = process.communicate(timeout=300)[0]
        finally:
            process.kill()
        assert code == process.returncode, said
        return said

    def run(self, *words: str, code: int) -> str:
        """`engine run` of the shipped playbook, with patience for a busy machine."""
        return self.engine(*self.words(*words), code=code)

    def words(self, *words: str) -> list[str]:
        return ["run", str(PLAYBOOK), "-i", str(self.scene.folder / "inventory"), "-e", "p99_below=60s", *words]

    def approve(self, confirm: str = "1") -> None:
        """Both people give their keys."""
        for person in PEOPLE:
            self.engine("approve", "--key", str(self.scene.folder / person), "--confirm", confirm)

    def run_with_keys(self, *words: str, code: int, confirm: str = "1") -> str:
        """The run with its two keys, to its end."""
        self.run("--no-wait", *words, code=5)
        self.approve(confirm)
        return self.engine("resume", code=code)

    def entries(self) -> list[Any]:
        store = Journal(self.folder / ".lastgood")
        try:
            return store.entries(store.latest() or "")
        finally:
            store.close()

    def outcome(self, step: str) -> Any:
        """The body of the step's last outcome."""
        return next(e.body for e in reversed(self.entries()) if e.kind == "step.outcome" and e.step == step)

    def outcomes(self, section: str = "execution") -> dict[str, str]:
        """step -> outcome, of one section of the newest run."""
        found = [entry for entry in self.entries() if entry.kind == "step.outcome" and entry.step.startswith(f"{section}/")]
        return {entry.step.partition("/")[2]: entry.body["outcome"] for entry in found}

    def ended(self) -> str:
        return str(next(entry.body["outcome"] for entry in reversed(self.entries()) if entry.kind == "run.ended"))


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    scene = Scene(tmp_path_factory.mktemp("mlflow"))
    try:
        yield scene.__enter__()
    finally:
        scene.__exit__()


@pytest.fixture
def scene(servers: Scene) -> Scene:
    """The bad version 2 is live everywhere."""
    servers.deploy("2")
    return servers


@pytest.fixture
def desk(scene: Scene, tmp_path: Path) -> Desk:
    return Desk(scene, tmp_path)


CHOOSE, ALIAS = "choose_the_version_to_go_back_to", "point_the_alias_at_it"
LOAD, MARK = "make_the_server_load_it", "mark_the_version_that_failed"
SNAPSHOT, SERVER = "keep_the_compromised_version_itself", "keep_what_the_model_server_says_of_itself"
GOLDEN = "the_golden_set_is_answered_as_it_was"


@contextmanager
def moved_away(path: Path) -> Iterator[None]:
    """While this lasts, nothing is at `path`."""
    aside = path.with_name(f"{path.name}.aside")
    path.rename(aside)
    try:
        yield
    finally:
        aside.rename(path)


# ------------------------------------------------------------------------------------------------ signed models
def test_the_alias_moves_to_what_was_signed_only(scene: Scene, tmp_path: Path) -> None:
    """Version 1 is signed by the OpenSSF's tool where MLflow keeps its files; the real server hands out what was signed, or
    the alias stays: a file that was altered there, one that was added, another key, and version 2, which nobody signed."""
    pytest.importorskip("model_signing")
    for name in ("signer", "other"):
        private = ec.generate_private_key(ec.SECP256R1())
        form = (pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption())
        (tmp_path / f"{name}.pem").write_bytes(private.private_bytes(*form))
        public = private.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo)
        (tmp_path / f"{name}.pub").write_bytes(public)
    files = scene.artifact("1")
    argv = [sys.executable, "-m", "model_signing", "sign", "key", str(files), "--private_key", str(tmp_path / "signer.pem")]
    done = subprocess.run([*argv, "--signature", str(files / "model.sig")], capture_output=True, text=True, timeout=300)
    assert 0 == done.returncode, done.stderr
    there = World(tmp_path / "world", {})
    params = {"server": scene.mlflow_url, "model": MODEL, "alias": "champion", "version": "1"}

    def said(**more: str) -> str:
        """What keeps the alias where it is; empty: it moved."""
        scene.registry("POST", "registered-models/alias", name=MODEL, alias="champion", version="2")
        try:
            alias.apply({**params, **more}, Change({"version": "2"}, {"version": "1"}), there.context())
        except ModuleError as error:
            assert "2" == scene.alias
            return error.message
        return ""

    signer = str(tmp_path / "signer.pub")
    try:
        assert ["", ""] == [said(), said(signed_by=signer)]
        assert "it was not made with other.pub" in said(signed_by=str(tmp_path / "other.pub"))
        assert "model.sig of tumours 2 is not there" in said(version="2", signed_by=signer)
        told = {one["version"]: one["why"] for one in alias.history({**params, "signed_by": signer}, there.context())}
        assert ("", True) == (told["1"], "is not signed" in told["2"])
        (files / "added.pkl").write_bytes(b"x")
        assert "added.pkl was not signed" in said()
        (files / "added.pkl").unlink()
        good = (files / "model.pkl").read_bytes()
        (files / "model.pkl").write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        assert ["model.pkl is not what was signed"] * 2 == [
            text.rpartition(": ")[2] for text in (said(), said(signed_by=signer))
        ]
        (files / "model.pkl").write_bytes(good)
        assert "" == said(signed_by=signer)
    finally:
        (files / "model.sig").unlink()
        there.wire.close()


# ------------------------------------------------------------------------------------------------ the way back and forth
def test_rollback(scene: Scene, desk: Desk) -> None:
    """The metric falls, two people give keys, and predictions prove that version 1 serves; the evidence is exact."""
    assert "2" == scene.measure()[0]
    assert scene.accuracy < 0.8
    running = desk.begin(*desk.words("--if-triggered"))
    try:
        until = time.monotonic() + 120
        while not (desk.folder / ".lastgood").exists() or not any(e.kind == "key.asked" for e in desk.entries()):
            assert running.poll() is None, running.communicate()
            assert time.monotonic() < until
            time.sleep(0.1)
        desk.approve()
        said = running.communicate(timeout=300)[0]
    finally:
        running.kill()
    assert (0, "succeeded") == (running.returncode, desk.ended()), said
    assert "1" == scene.measure()[0]
    assert scene.accuracy > 0.95
    assert "1" == scene.alias
    parameters = {"uri": str(scene.folder / "store" / "1"), "version": "1"}
    assert parameters == json.loads(scene.settings.read_text())["parameters"]
    assert {"validation": "passed"} == scene.tags("1")
    assert {"validation": "passed", "status": "quarantined"} == scene.tags("2")
    assert {CHOOSE: "unchanged", ALIAS: "changed", LOAD: "changed", MARK: "changed"} == desk.outcomes()
    assert {"ana", "ben"} == {entry.body["person"] for entry in desk.entries() if entry.kind == "key.given"}
    assert 3 == len([entry for entry in desk.entries() if entry.kind == "message.sent"])

    path = Path(desk.outcome(f"forensics/{SNAPSHOT}")["reading"]["_path"])
    kept, artifact = json.loads(path.read_text()), scene.artifact("2")
    assert sha256s(artifact) == {file["path"]: file["sha256"] for file in kept["files"]} == sha256s(path.with_suffix(""))
    assert {"MLmodel", "model.pkl"} < set(sha256s(artifact))
    assert ("2", (artifact / "MLmodel").read_text(), []) == (kept["version"], kept["MLmodel"], kept["missing"])
    data, inputs = kept["run"]["data"], kept["run"]["inputs"]["dataset_inputs"]
    assert {"C": "0.5"} == {param["key"]: param["value"] for param in data["params"]}
    assert ["accuracy"] == [metric["key"] for metric in data["metrics"]]
    assert "c0ffee2" in [tag["value"] for tag in data["tags"]]
    assert [("breast-cancer", "training")] == [(i["dataset"]["name"], i["tags"][0]["value"]) for i in inputs]
    assert inputs[0]["dataset"]["digest"]
    about = json.loads((path.parent / "server.json").read_text())
    assert ("mlserver", "1.7.1") == (about["name"], about["version"])


def test_a_second_run_changes_nothing(scene: Scene, desk: Desk) -> None:
    """Where the version that is asked for serves already, every step of execution finds nothing to do."""
    scene.deploy("1")
    before = scene.seen()
    assert "nothing that serves was changed" in desk.run_with_keys("-e", "to=1", code=0)
    assert {CHOOSE: "unchanged", ALIAS: "unchanged", LOAD: "unchanged", MARK: "skipped"} == desk.outcomes()
    assert {"forensics"} == {e.step.partition("/")[0] for e in desk.entries() if e.kind == "step.intent"}
    assert before == scene.seen()
    assert "no trigger held" in desk.run("--if-triggered", code=0)


def test_undo_brings_version_2_back(scene: Scene, desk: Desk) -> None:
    """With two more keys everything is as it was before the run: alias, answers, settings byte for byte, tags."""
    before = scene.seen()
    desk.run_with_keys(code=0)
    assert before != scene.seen()
    desk.engine("undo", "--yes", "--no-wait", code=5)
    assert "1" == scene.measure()[0]
    desk.approve("RB-0001")
    desk.engine("undo", "--yes")
    assert before == scene.seen()
    assert scene.accuracy < 0.8
    assert "undone" == desk.ended()


def test_a_named_version_is_still_verified(scene: Scene, desk: Desk) -> None:
    """`-e to=2` goes forward to version 2, whose answers are no better for that: held, and nothing is put back."""
    scene.deploy("1")
    said = desk.run_with_keys("-e", "to=2", code=4, confirm="2")
    assert f"accuracy {scene.measure()[1]:.4g} over 143 rows is under the floor of 0.95" in " ".join(said.split())
    assert ("held", "2", "2") == (desk.ended(), scene.alias, scene.measure()[0])


# ------------------------------------------------------------------------------------------------ a registry that is wrong
def test_a_version_that_does_not_exist(scene: Scene, desk: Desk) -> None:
    """`-e to=9` names the versions that there are; nothing is moved."""
    before = scene.seen()
    said = desk.run_with_keys("-e", "to=9", code=1, confirm="RB-0001")
    assert "there is no version 9" in said
    assert "there are, newest first: 2, 1" in said
    assert ({CHOOSE: "failed"}, before) == (desk.outcomes(), scene.seen())


@pytest.mark.parametrize("words", [[], ["-e", "to=1"]], ids=["chosen", "named"])
def test_the_files_of_the_version_are_gone(scene: Scene, desk: Desk, words: list[str]) -> None:
    """MLflow would let the alias point to a version without files; the run ends before it is asked to."""
    before = scene.seen()
    with moved_away(scene.artifact("1")):
        said = desk.run_with_keys(*words, code=1, confirm="RB-0001")
    assert "the files of tumours 1 are gone" in said
    assert ({CHOOSE: "failed"}, before) == (desk.outcomes(), scene.seen())


def test_the_files_of_the_version_were_altered(scene: Scene, desk: Desk) -> None:
    """Files that are not those which the tag names may not be gone back to; once they are again, the same run goes on."""
    path = scene.artifact("1") / "model.pkl"
    digests = json.dumps(sha256s(scene.artifact("1")), sort_keys=True, separators=(",", ":"))
    digest, content = f"sha256:{hashlib.sha256(digests.encode()).hexdigest()}", path.read_bytes()
    scene.registry("POST", "model-versions/set-tag", name=MODEL, version="1", key="digest", value=digest)
    before = scene.seen()
    try:
        path.write_bytes(content + b"\0")
        said = desk.run_with_keys(code=1, confirm="RB-0001")
    finally:
        path.write_bytes(content)
    assert f"and its tag says {digest[:19]}" in " ".join(said.split())
    assert ({CHOOSE: "failed"}, before) == (desk.outcomes(), scene.seen())
    desk.engine("resume")
    assert ("1", "1") == scene.seen()[:2]


# ------------------------------------------------------------------------------------------------ a server that is wrong
def test_a_load_that_is_refused(scene: Scene, desk: Desk) -> None:
    """MLServer answers 422 and serves on: the alias was moved, the settings are as before; once repaired, resume ends it."""
    alias, version, settings, tags = scene.seen()
    with moved_away(scene.folder / "store" / "1"):
        said = desk.run_with_keys(code=1)
        assert "HTTP 422" in said
        assert ("1", version, settings, tags) == scene.seen()
        assert {CHOOSE: "unchanged", ALIAS: "changed", LOAD: "failed"} == desk.outcomes()
    assert "2" == alias
    desk.engine("resume")
    assert ("succeeded", "1", "1") == (desk.ended(), *scene.seen()[:2])


def test_the_index_is_not_believed(scene: Scene, desk: Desk) -> None:
    """After a load that failed MLServer lists version 1 as ready and serves 2; the run asks for answers and is right."""
    by_hand = json.loads(scene.settings.read_text())
    by_hand["parameters"] = {"uri": str(scene.folder / "store" / "1"), "version": "1"}
    scene.settings.write_text(json.dumps(by_hand))
    with moved_away(scene.folder / "store" / "1"):
        assert 422 == scene.load()
    listed = call("POST", f"{scene.url}/v2/repository/index", {})[1]
    assert [("1", "READY", "2")] == [(entry["version"], entry["state"], scene.measure()[0]) for entry in listed]
    desk.run_with_keys(code=0)
    assert ("changed", "1") == (desk.outcomes()[LOAD], scene.measure()[0])


def test_a_server_that_says_yes_and_serves_the_old_version(scene: Scene, desk: Desk) -> None:
    """Before a proxy that answers a load with 200 and does nothing, the answers tell; undo then takes the alias back."""

    def deaf(request: Request) -> Any:
        if request.path.endswith("/load"):
            return 200
        return call(request.method, scene.url + request.path, request.json() if request.body else None)

    before = scene.seen()
    with Served(deaf) as proxy:
        said = desk.run_with_keys("-e", f"scoring_url={proxy.url}", "-e", "load_within=1s", code=1)
        assert "says that it has loaded tumours, and version 1 does not answer" in " ".join(said.split())
        assert {CHOOSE: "unchanged", ALIAS: "changed", LOAD: "failed"} == desk.outcomes()
        assert ("1", *before[1:]) == scene.seen()
        desk.engine("undo", "--yes", "--no-wait", code=5)
        desk.approve("RB-0001")
        desk.engine("undo", "--yes")
    assert before == scene.seen()


def test_a_label_is_not_believed(scene: Scene, desk: Desk) -> None:
    """Where the files of version 2 lie in the place of version 1, MLServer calls them 1, and only the golden set tells."""
    link = scene.folder / "store" / "1"
    link.unlink()
    link.symlink_to(scene.artifact("2"))
    desk.run_with_keys(code=4)
    assert ("held", "1") == (desk.ended(), scene.measure()[0])
    assert scene.accuracy < 0.8
    assert "failed" == desk.outcomes("verification")[GOLDEN]


# ------------------------------------------------------------------------------------------------ another kind of server
SERVE = """
name: Move the alias and restart the scoring server on the number
strategy: version
hosts: mlflow
vars: {registry: {server: "{{ mlflow_url }}", model: "{{ model }}", alias: "{{ alias }}"}}
execution:
  - name: Choose
    last_good: {of: mlflow.alias, with: "{{ registry }}"}
    register: target
  - name: Move
    mlflow.alias: {server: "{{ mlflow_url }}", model: "{{ model }}", alias: "{{ alias }}", version: "{{ target.version }}"}
  - name: Restart
    command:
      argv: ["{{ python }}", "{{ script }}", "models:/{{ model }}/{{ target.version }}"]
      unless: ["{{ python }}", "{{ script }}", "models:/{{ model }}/{{ target.version }}", --check]
    timeout: 10m
verification:
  - name: Golden
    golden.predictions: {url: "{{ url }}", protocol: mlflow, data: "{{ golden }}", metric: accuracy, at_least: 0.95}
authority: {mode: automatic}
"""


def test_a_scoring_server_that_must_be_restarted(scene: Scene, desk: Desk) -> None:
    """`mlflow models serve` goes on with what it has loaded, whatever the alias says; a restart on the number ends that."""
    port, script_ = free_port(), str(Path(__file__).with_name("serve_mlflow.py"))
    (desk.folder / "serve.json").write_text(json.dumps({"url": scene.mlflow_url, "port": port}))
    (desk.folder / "serve.yml").write_text(SERVE)
    url, about = f"http://127.0.0.1:{port}", {"python": sys.executable, "script": script_}
    words = ["run", "serve.yml", "-i", str(scene.folder / "inventory"), "-e", json.dumps({**about, "url": url})]
    try:
        subprocess.run([sys.executable, script_, f"models:/{MODEL}@champion"], cwd=desk.folder, check=True)
        before = scene.invoke(url)
        assert before < 0.8
        desk.engine(*words, "--until", "move", code=130)
        assert ("1", before) == (scene.alias, scene.invoke(url))
        desk.engine("resume")
        assert {"choose": "unchanged", "move": "changed", "restart": "changed"} == desk.outcomes()
        assert scene.invoke(url) > 0.95
        desk.engine(*words, "-e", "to=1")
        assert {"choose": "unchanged", "move": "unchanged", "restart": "unchanged"} == desk.outcomes()
    finally:
        subprocess.run([sys.executable, script_, "--stop"], cwd=desk.folder, check=True)


# ------------------------------------------------------------------------------------------------ nobody answers
def test_the_model_server_is_down(scene: Scene, desk: Desk) -> None:
    """The run ends in forensics, before anybody's key is of use: the registry is as it was."""
    before = scene.seen()
    scene.mlserver.stop()
    said = desk.run("--no-wait", code=1)
    assert f"{scene.url}/v2 does not answer" in said
    assert "unreachable" == desk.outcomes("forensics")[SERVER]
    assert ({}, "2", before[3]) == (desk.outcomes(), scene.alias, scene.tags("2"))
    assert before[2] == scene.settings.read_text()


def test_the_registry_is_down(scene: Scene, desk: Desk) -> None:
    """Without evidence nothing is done; when the registry is back, the same run goes on to the end."""
    before = scene.measure(), scene.settings.read_text()
    scene.mlflow.stop()
    said = desk.run("--no-wait", code=1)
    assert f"{scene.mlflow_url}/api/2.0/mlflow/registered-models/get does not answer" in " ".join(said.split())
    assert ("unreachable", {}) == (desk.outcomes("forensics")[SNAPSHOT], desk.outcomes())
    assert before == (scene.measure(), scene.settings.read_text())
    scene.mlflow.start()
    scene.mlflow.wait()
    desk.engine("resume", "--no-wait", code=5)
    desk.approve("RB-0001")
    desk.engine("resume")
    assert ("succeeded", "1", "1") == (desk.ended(), *scene.seen()[:2])
