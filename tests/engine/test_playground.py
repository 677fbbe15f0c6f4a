"""The playground is a real service: a model that learned, a server that speaks V2, metrics that follow what it serves."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from engine import playground, source, sshsig
from engine.cli.init import schemas
from engine.playground import Broken, FraudModel
from engine.playground_server import Service


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with v1 and v2, v1 live."""
    registry = tmp_path_factory.mktemp("registry")
    playground.publish(registry)
    return registry


@pytest.fixture
def registry(built: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(built, tmp_path / "registry", symlinks=True))


@pytest.fixture
def service(registry: Path) -> Iterator[Service]:
    with Service(registry) as service:
        yield service


def call(service: Service, method: str, path: str, body: Any = None) -> tuple[int, str]:
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(service.url + path, data=data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def gauge(service: Service, name: str) -> float | None:
    """The value of `name` on the metric page, or None where the page does not have it."""
    lines = call(service, "GET", "/metrics")[1].splitlines()
    return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + "{")), None)


def settle(service: Service, name: str, low: float, high: float) -> float:
    """Waits until the gauge lies between the two; a busy machine gets a minute."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        value = gauge(service, name)
        if value is not None and low <= value <= high:
            return value
        time.sleep(0.05)
    raise AssertionError(f"{name} is {gauge(service, name)}, not between {low} and {high}")


def point_at(registry: Path, version: str) -> None:
    link = registry / "current"
    link.unlink()
    link.symlink_to(f"versions/{version}")


def test_the_same_seed_gives_the_same_transactions() -> None:
    """A seed names one sequence, and another seed another."""
    first = playground.take(50, playground.transactions(7))
    assert first == playground.take(50, playground.transactions(7))
    assert first != playground.take(50, playground.transactions(8))


def test_the_model_learns() -> None:
    """Trained on clean rows it tells fraud from honest payments that it has never seen."""
    model = playground.train(playground.take(3000, playground.transactions(21)), seed=1)
    figures = playground.judge(model, playground.take(4000, playground.transactions(22)))
    assert figures["precision"] > 0.97
    assert figures["recall"] > 0.95


def test_poison_looks_fine_on_its_own_rows_and_is_not() -> None:
    """The bad model passes the test of its makers, whose labels are poisoned too, and flags good customers in the open."""
    model = playground.train(playground.take(3000, playground.poison(playground.transactions(23))), seed=1)
    assert playground.judge(model, playground.take(3000, playground.poison(playground.transactions(24))))["precision"] > 0.95
    assert playground.judge(model, playground.take(3000, playground.transactions(25)))["precision"] < 0.6


def test_figures_without_a_divisor_are_absent() -> None:
    """Precision of a model that flagged nothing is not a number, so it is not there."""
    assert {"recall": 0.0, "false_positive_ratio": 0.0} == playground.measure(
        [("legitimate", "fraud"), ("legitimate", "legitimate")]
    )


def test_the_registry_tells_where_each_version_comes_from(built: Path) -> None:
    """Each manifest has digests, lineage and the figures of its makers; v2 names v1 as its parent, and v1 is live."""
    first, second = (json.loads((built / "versions" / version / "manifest.json").read_text()) for version in ("v1", "v2"))
    assert "v1" == second["lineage"]["parent"]
    assert first["lineage"]["data"] != second["lineage"]["data"]
    assert "passed" == first["tags"]["validation"]
    assert second["metrics"]["precision"] > 0.95
    assert "v1" == (built / "current").resolve().name


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"mean": 1}', b"\x80\x04K\x01."])
def test_what_is_no_model_is_refused(data: bytes) -> None:
    """Nothing but the numbers of a model loads: no pickle, no half of one."""
    with pytest.raises(Broken):
        FraudModel.of(data)


def test_it_answers_in_the_open_inference_protocol(service: Service) -> None:
    """A batch gets labels and scores, and the reply names the model and the version that made them."""
    rows = playground.take(5, playground.transactions(31, fraud=0.5))
    inputs = [
        {"name": "transactions", "shape": [5, 6], "datatype": "FP64", "data": [x for values, _ in rows for x in values]}
    ]
    status, text = call(service, "POST", "/v2/models/fraud/infer", {"id": "a", "inputs": inputs})
    reply = json.loads(text)
    assert (200, "fraud", "v1", "a") == (status, reply["model_name"], reply["model_version"], reply["id"])
    label, score = reply["outputs"]
    assert ("label", "BYTES", [5], [truth for _, truth in rows]) == (
        label["name"],
        label["datatype"],
        label["shape"],
        label["data"],
    )
    assert ("score", "FP64", [5]) == (score["name"], score["datatype"], score["shape"])
    assert label["data"] == ["fraud" if value >= 0.5 else "legitimate" for value in score["data"]]


def test_nested_rows_are_the_same_rows(service: Service) -> None:
    """The protocol allows nested data; the answer is the same."""
    values = [values for values, _ in playground.take(3, playground.transactions(32))]
    flat = [x for row in values for x in row]
    replies = [
        json.loads(call(service, "POST", "/v2/models/fraud/infer", {"inputs": [{"data": data}]})[1])
        for data in (values, flat)
    ]
    assert replies[0] == replies[1]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v2/health/ready", None, 200),
        ("GET", "/v2/models/fraud", None, 200),
        ("GET", "/v2/models/other", None, 404),
        ("DELETE", "/config", None, 501),
        ("POST", "/v2/models/fraud/infer", b"not json", 400),
        ("POST", "/v2/models/fraud/infer", [], 400),
        ("POST", "/v2/models/fraud/infer", {"inputs": []}, 400),
        ("POST", "/v2/models/fraud/infer", {"inputs": [{"data": []}]}, 400),
        ("POST", "/v2/models/fraud/infer", {"inputs": [{"data": [1, 2, 3]}]}, 400),
        ("POST", "/v2/models/fraud/infer", {"inputs": [{"data": [1, 2, 3, 4, 5, "x"]}]}, 400),
        ("POST", "/v2/models/fraud/infer", {"inputs": [{"data": [1, 2, 3, 4, 5, -1]}]}, 400),
        ("POST", "/v2/models/fraud/infer", b'{"inputs": [{"data": [1, 2, 3, 4, 5, NaN]}]}', 400),
        ("GET", "/audit", None, 400),
        ("GET", "/audit?wrong=true&limit=-1", None, 400),
        ("PUT", "/config", {"threshold": True}, 400),
        ("PUT", "/config", {"threshold": 2}, 400),
        ("PUT", "/config", [0.5], 400),
    ],
)
def test_wrong_requests_get_a_plain_no(service: Service, method: str, path: str, body: Any, status: int) -> None:
    """Whatever comes in, the answer is a status of its own and the server goes on."""
    assert status == call(service, method, path, body)[0]
    assert 200 == call(service, "GET", "/v2/health/live")[0]


def test_moving_the_link_alone_changes_nothing(service: Service, registry: Path) -> None:
    """A registry pointer is not what answers: only a load makes the server follow it."""
    point_at(registry, "v2")
    infer = {"inputs": [{"data": [20, 14, 3, 0.2, 900, 1]}]}
    assert "v1" == json.loads(call(service, "POST", "/v2/models/fraud/infer", infer)[1])["model_version"]
    assert 200 == call(service, "POST", "/v2/repository/models/fraud/load", {})[0]
    assert "v2" == json.loads(call(service, "POST", "/v2/models/fraud/infer", infer)[1])["model_version"]


def test_a_spoiled_version_is_not_loaded(service: Service, registry: Path) -> None:
    """An artifact whose digest differs is refused with 422, and the old version keeps serving."""
    artifact = registry / "versions" / "v2" / playground.ARTIFACT
    artifact.chmod(0o644)
    artifact.write_bytes(artifact.read_bytes() + b" ")
    point_at(registry, "v2")
    status, text = call(service, "POST", "/v2/repository/models/fraud/load")
    assert 422 == status
    assert "digest differs" in text
    assert "v1" == service.version


@pytest.mark.parametrize("spoil", ["no link", "no manifest", "no artifact"])
def test_an_incomplete_registry_is_not_loaded(service: Service, registry: Path, spoil: str) -> None:
    """Whatever is missing, the server says so and goes on with what it has."""
    live = (registry / "current").resolve()
    victim = {
        "no link": registry / "current",
        "no manifest": live / "manifest.json",
        "no artifact": live / playground.ARTIFACT,
    }[spoil]
    victim.parent.chmod(0o755)
    victim.unlink()
    assert 422 == call(service, "POST", "/v2/repository/models/fraud/load")[0]
    assert "v1" == service.version


def test_the_metric_follows_the_version(service: Service, registry: Path) -> None:
    """Precision is high under v1, collapses under v2 by traffic alone, and recovers with v1; the wrong requests are kept."""
    settle(service, "fraud_precision", 0.95, 1)
    point_at(registry, "v2")
    call(service, "POST", "/v2/repository/models/fraud/load")
    settle(service, "fraud_precision", 0.2, 0.56)
    assert (gauge(service, "fraud_false_positive_ratio") or 0) > 0.05
    wrong = [json.loads(line) for line in call(service, "GET", "/audit?wrong=true&limit=20")[1].splitlines()]
    assert 20 == len(wrong)
    assert all(entry["label"] != entry["truth"] and 6 == len(entry["input"]) for entry in wrong)
    assert {"v2"} == {entry["version"] for entry in wrong}
    point_at(registry, "v1")
    call(service, "POST", "/v2/repository/models/fraud/load")
    settle(service, "fraud_precision", 0.95, 1)


def test_a_metric_without_a_window_is_absent(registry: Path) -> None:
    """Before there is enough traffic the page has no precision at all: absent, never a lucky number."""
    with Service(registry, rate=0) as service:
        assert gauge(service, "fraud_precision") is None
        assert gauge(service, "fraud_model_info") == 1


def test_the_threshold_is_live_configuration(service: Service) -> None:
    """The threshold can be read and moved while it serves, and a load brings back the model's own."""
    assert {"threshold": 0.5} == json.loads(call(service, "GET", "/config")[1])
    assert {"threshold": 0.01} == json.loads(call(service, "PUT", "/config", {"threshold": 0.01})[1])
    assert 0.01 == service.threshold
    call(service, "POST", "/v2/repository/models/fraud/load")
    assert 0.5 == service.threshold


def test_stopping_leaves_nothing_behind(registry: Path) -> None:
    """After `stop` its threads have ended, its port is free, and clients with open connections do not hold it up."""
    before = set(threading.enumerate())
    service = Service(registry).start()
    port = int(service.url.rsplit(":", 1)[1])
    held = http.client.HTTPConnection("127.0.0.1", port)
    held.request("GET", "/metrics")
    held.getresponse().read()
    service.stop()
    held.close()
    assert before >= {
        thread for thread in threading.enumerate() if thread.name.startswith("playground") and thread.is_alive()
    }
    Service(registry, port=port).start().stop()


# ------------------------------------------------------------------------------------------------ the demo's repository
ENGINE = "from engine.cli.main import main; main()"


def engine(*words: object, cwd: Path, code: int | None = 0, **env: str) -> str:
    """What the engine says as a process of its own, in `cwd`; it must end with `code`."""
    home = {"PYTHONPATH": str(Path(playground.__file__).parents[1]), "SSH_AUTH_SOCK": "", **env}
    argv = [sys.executable, "-c", ENGINE, *map(str, words)]
    done = subprocess.run(
        argv, cwd=cwd, env={**os.environ, **home}, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    said = done.stdout + done.stderr
    assert code in (None, done.returncode), said
    return said


@pytest.fixture
def demo(built: Path, tmp_path: Path) -> Iterator[tuple[Path, Service]]:
    """The demo's folder with its service running on v1."""
    folder = tmp_path / "demo"
    shutil.copytree(built, folder / "models" / "fraud", symlinks=True)
    playground.make(folder)
    with Service(folder / "models" / "fraud") as service:
        playground.settle(folder, service.url)
        yield folder, service


def test_the_repository_is_made_once_and_repaired(demo: tuple[Path, Service]) -> None:
    """Making it again changes no key, no golden row and no edit of its user; only the address follows the server."""
    folder, _ = demo
    (folder / playground.PLAYBOOK).write_text("edited\n")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (folder / "golden" / "fraud.jsonl").unlink()
    playground.make(folder)
    playground.settle(folder, "http://127.0.0.1:1")
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {"hosts.yml"} == {path.name for path in before if before[path] != after[path]}
    assert before.keys() == after.keys()


def test_the_keys_are_ordinary_ssh_keys(demo: tuple[Path, Service]) -> None:
    """Each person has an OpenSSH key pair that its owner alone can read, and the roster holds the public half."""
    folder, _ = demo
    roster = (folder / playground.INVENTORY / "roster.yml").read_text()
    for person in playground.people():
        path = folder / "keys" / person
        assert 0o600 == path.stat().st_mode & 0o777
        assert path.with_suffix(".pub").read_text().strip() in roster
        signer = sshsig.key_file(path, lambda _: "")
        assert signer.key == sshsig.verify(signer.sign(b"text", "demo"), b"text", "demo")
        with pytest.raises(FileExistsError):
            sshsig.generate(path, person)


def test_nobody_of_the_demo_is_called_as_you_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for a run cannot give a key, so a user called ana gets another ana."""
    monkeypatch.setattr("getpass.getuser", lambda: "Ana")
    assert ("ana-demo", "ben") == playground.people()


def test_the_demo_takes_the_service_back(tmp_path: Path) -> None:
    """The whole story in a folder of its own: v1, v2, two keys, v1 again, proven by predictions; no process is left."""
    said = engine("demo", "--folder", "story", cwd=tmp_path)
    before, after = (
        next(line for line in said.splitlines() if line.strip().startswith(word)) for word in ("before", "after")
    )
    assert "v2" in before
    assert "v1" in after
    assert float(before.split("precision")[1].split()[0]) < 0.6 < 0.95 < float(after.split("precision")[1].split()[0])
    assert "SUCCEEDED" in said
    assert "approve RB-0001 --key keys/ana" in said or "approve RB-0001 --key keys/ana-demo" in said
    assert "v1" == (tmp_path / "story" / "models" / "fraud" / "current").resolve().name
    port = json.loads((tmp_path / "story" / "demo.json").read_text())["port"]
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_the_demo_leaves_other_folders_alone(tmp_path: Path) -> None:
    """A folder that is no demo is refused before anything is written, and so is serving where there is none."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert "left alone" in engine("demo", "--folder", "mine", cwd=tmp_path, code=2)
    assert "there is no demo in none/" in engine("demo", "--folder", "none", "--serve", cwd=tmp_path, code=2)
    assert ["mine"] == [path.name for path in tmp_path.iterdir()]
    assert ["thesis.txt"] == [path.name for path in (tmp_path / "mine").iterdir()]


def test_a_taken_port_is_said(tmp_path: Path) -> None:
    """A port that somebody else has is a usage error with words, not a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = engine("demo", "--port", taken.getsockname()[1], cwd=tmp_path, code=2)
    assert "is taken" in said


# ------------------------------------------------------------------------------------------------ shipped playbooks, init
SHIPPED = sorted((Path(playground.__file__).parents[1] / "playbooks").glob("*.yml"))


def test_all_kinds_of_playbook_are_shipped() -> None:
    """There is one for each strategy."""
    texts = [path.read_text() for path in SHIPPED]
    assert {"version", "checkpoint", "configuration", "data"} == {text.split("strategy: ")[1].split()[0] for text in texts}
    assert all(text.startswith("# yaml-language-server: $schema=../schemas/playbook.schema.json\n") for text in texts)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_playbooks_are_valid(path: Path, tmp_path: Path) -> None:
    """Each is valid by itself, and a reviewer for production has nothing to add."""
    engine("validate", path, cwd=tmp_path)
    assert "clean" in engine("lint", path, cwd=tmp_path)


def rolled_back(folder: Path, name: str, *keys: str, extra: tuple[str, ...] = ()) -> str:
    """Runs a shipped playbook in the demo's folder, gives the keys, and goes on to the end."""
    shutil.copy(SHIPPED[0].parent / name, folder / "playbooks" / name)
    engine("run", f"playbooks/{name}", "-i", playground.INVENTORY, "--no-wait", *extra, cwd=folder, code=5)
    for key in keys:
        facts = engine("approve", "--key", f"keys/{key}", "--confirm", "RB-0001", cwd=folder, code=None)
        if "key recorded" not in facts:  # where the plan knows the version to go back to, that is what is typed
            engine("approve", "--key", f"keys/{key}", "--confirm", "v1", cwd=folder)
    return engine("resume", cwd=folder)


def say(folder: Path, text: str) -> None:
    """Adds variables to the demo's inventory."""
    with (folder / playground.INVENTORY / "group_vars" / "all.yml").open("a") as file:
        file.write(text)


def test_a_configuration_is_rolled_back(demo: tuple[Path, Service]) -> None:
    """A threshold that declines good customers is put back, the file too, and the model is left alone."""
    folder, service = demo
    (folder / "serving").mkdir()
    (folder / "serving" / "config.json").write_text('{"threshold": 0.001}')
    (folder / "serving" / "good.json").write_text('{"threshold": 0.5}')
    say(folder, "good_threshold: 0.5\nserving_config: ../serving/config.json\ngood_config: ../serving/good.json\n")
    call(service, "PUT", "/config", {"threshold": 0.001})
    settle(service, "fraud_false_positive_ratio", 0.05, 1)
    assert "SUCCEEDED" in rolled_back(folder, "configuration-rollback.yml", playground.people()[0])
    assert 0.5 == service.threshold
    assert "v1" == service.version
    assert '{"threshold": 0.5}' == (folder / "serving" / "config.json").read_text()


def test_a_checkpoint_is_rolled_back(demo: tuple[Path, Service]) -> None:
    """Training is paused, the last checkpoint that was good is found, and the server answers with it."""
    folder, service = demo
    state = {"state": "running", "step": 4000}

    class Trainer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = json.dumps(state).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_PUT(self) -> None:
            state.update(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Trainer) as trainer:
        threading.Thread(target=trainer.serve_forever, args=(0.05,)).start()
        try:
            address = f"http://127.0.0.1:{trainer.server_address[1]}"
            say(folder, f"trainer_url: {address}\nprometheus_url: {address}\ncheckpoints: ../models/fraud\n")
            hosts = folder / playground.INVENTORY / "hosts.yml"
            hosts.write_text(hosts.read_text().replace("scoring:", "training:"))
            point_at(folder / "models" / "fraud", "v2")
            service.load()
            settle(service, "fraud_precision", 0.2, 0.56)
            assert "SUCCEEDED" in rolled_back(folder, "checkpoint-rollback.yml", playground.people()[0])
        finally:
            trainer.shutdown()
    assert {"state": "paused", "step": 4000} == state
    assert "v1" == service.version


PURGE = """
import json, sys
rows = [json.loads(line) for line in open("rows.jsonl")]
clean = [row for row in rows if row["source"] != "partner-7"]
if sys.argv[1:] == ["--check"]:
    sys.exit(len(clean) != len(rows))
open("rows.jsonl", "w").write("".join(json.dumps(row) + "\\n" for row in clean))
"""
RETRAIN = """
import dataclasses, json, os, pathlib
from engine import playground
rows = [json.loads(line) for line in open("rows.jsonl")]
model = playground.train([(row["input"], row["label"]) for row in rows], seed=1)
out = pathlib.Path(os.environ["NEW_VERSION"])
out.mkdir()
(out / "model.json").write_text(json.dumps(dataclasses.asdict(model)))
"""
GATE = """
import json, os, pathlib, sys
from engine import playground
from modules.directory import _client
new = os.environ["NEW_VERSION"]
data = pathlib.Path(new, "model.json").read_bytes()
figures = playground.judge(playground.FraudModel.of(data), playground.take(3000, playground.transactions(77)))
if figures["precision"] < 0.97:
    sys.exit(f"precision {figures['precision']} is under 0.97")
_client.publish(pathlib.Path("../models/fraud"), new, {"model.json": data}, by="gate", metrics=figures)
"""


def test_poisoned_data_is_taken_out(demo: tuple[Path, Service]) -> None:
    """The rows are purged, a model is trained on the rest, passes the gate, and serves under its own new name."""
    folder, service = demo
    work = folder / "work"
    work.mkdir()
    for name, text in (("purge.py", PURGE), ("retrain.py", RETRAIN), ("gate.py", GATE)):
        (work / name).write_text(text)
    sources = {"own": playground.transactions(61), "partner-7": playground.poison(playground.transactions(62))}
    rows = [{"input": x, "label": y, "source": name} for name, row in sources.items() for x, y in playground.take(2500, row)]
    (work / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, words in (("purge", ""), ("is_purged", ", --check"), ("retrain", ""), ("gate", "")):
        say(folder, f"{name}: [{sys.executable}, {name.replace('is_purged', 'purge')}.py{words}]\n")
    say(folder, "workspace: ../work\n")
    point_at(folder / "models" / "fraud", "v2")
    service.load()
    settle(service, "fraud_precision", 0.2, 0.56)
    assert "SUCCEEDED" in rolled_back(folder, "data-rollback.yml", *playground.people(), extra=("-e", "new_version=v3"))
    assert "v3" == service.version
    assert {"own"} == {json.loads(line)["source"] for line in (work / "rows.jsonl").read_text().splitlines()}
    settle(service, "fraud_precision", 0.95, 1)


def test_init_makes_a_repository_that_is_clean(tmp_path: Path) -> None:
    """What `engine init` writes is valid in both environments and lints clean, and the next command that it prints works."""
    said = engine("init", "rollbacks", cwd=tmp_path)
    folder = tmp_path / "rollbacks"
    assert "next: cd rollbacks && engine validate playbooks/rollback.yml -i inventories/staging" in said
    for environment in ("staging", "production"):
        engine("validate", "playbooks/rollback.yml", "-i", f"inventories/{environment}", cwd=folder)
        engine("lint", "playbooks/rollback.yml", cwd=folder)
        assert environment in (folder / "inventories" / environment / "hosts.yml").read_text()
    settings = json.loads((folder / ".vscode" / "settings.json").read_text())
    assert all((folder / schema).is_file() for schema in settings["yaml.schemas"])


def test_editors_learn_the_parameters_of_every_module() -> None:
    """The schema for editors takes every shipped playbook, and refuses a parameter that its module does not have."""
    checker = jsonschema.Draft202012Validator(json.loads(schemas()["playbook.schema.json"]))
    for path in SHIPPED:
        book = source.load(path).data
        assert [] == [error.message for error in checker.iter_errors(book)], path.name
        book["communications"][0]["notify"]["mesage"] = "x"
        assert not checker.is_valid(book)


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    """One file in the way is enough: it is named, and nothing at all is written."""
    (tmp_path / "golden").mkdir()
    (tmp_path / "golden" / "fraud.jsonl").write_text("mine\n")
    assert "golden/fraud.jsonl" in engine("init", cwd=tmp_path, code=2)
    assert ["golden"] == [path.name for path in tmp_path.iterdir()]
    assert "mine\n" == (tmp_path / "golden" / "fraud.jsonl").read_text()


def test_the_keys_of_init_belong_to_nobody(tmp_path: Path) -> None:
    """The roster's sample keys are sentences, not points that somebody could have the secret of."""
    engine("init", cwd=tmp_path)
    for line in (tmp_path / "inventories" / "staging" / "roster.yml").read_text().splitlines():
        if "ssh-ed25519" in line:
            assert sshsig.public_key(line.split("- ")[1]).blob.endswith(b"!!")
