"""The playground is a real service: a model that learned, a server that speaks V2, metrics that follow what it serves."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import playground
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
    import shutil

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
    settle(service, "fraud_precision", 0.2, 0.7)
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
    import http.client
    import threading

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
