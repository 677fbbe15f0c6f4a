"""prometheus.metric against a real Prometheus server, which scrapes a page that the test serves."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from world import Served, World

from modules.prometheus import metric

PROMETHEUS = shutil.which("prometheus")
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(PROMETHEUS is None, reason="the Prometheus server is not installed (apt-get install prometheus)"),
]
CONFIG = """
global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}
scrape_configs: [{{job_name: fraud, static_configs: [{{targets: ["{target}"]}}]}}]
"""


def _free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


def _eventually(read: Callable[[], dict[str, Any]], wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Reads until the state is as wanted; fails with the last one after a minute."""
    until = time.monotonic() + 60
    while not wanted(state := read()):
        assert time.monotonic() < until, state
        time.sleep(0.1)
    return state


class Scene:
    """A running Prometheus at `url`, and the page that it scrapes: `lines`, or an error when it is None."""

    def __init__(self, folder: Path) -> None:
        self.lines: str | None = ""
        self.folder = folder
        self.page = Served(
            lambda _: 500 if self.lines is None else (200, self.lines.encode(), {"content-type": "text/plain"})
        )
        self.url = f"http://127.0.0.1:{_free_port()}"

    def __enter__(self) -> Scene:
        self.page.__enter__()
        config = self.folder / "prometheus.yml"
        config.write_text(CONFIG.format(target=self.page.url.removeprefix("http://")))
        listen = self.url.removeprefix("http://")
        argv = [str(PROMETHEUS), f"--config.file={config}", f"--storage.tsdb.path={self.folder / 'data'}"]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen([*argv, f"--web.listen-address={listen}"], stdout=log, stderr=log)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.page.__exit__()

    def stop(self) -> None:
        """Ends the server, as an outage of the monitoring would."""
        self.process.terminate()
        self.process.wait(30)

    def read(self, query: str = "fraud_precision", **params: Any) -> dict[str, Any]:
        """What the module makes of it now."""
        world = World(self.folder / "world", {})
        return metric.read({"server": self.url, "query": query, **params}, world.context())


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Scene(tmp_path_factory.mktemp("prometheus")) as running:
        running.lines = 'fraud_precision{service="fraud"} 0.874\n'
        _eventually(lambda: running.read(below=0.9), lambda state: state["met"])
        yield running


@pytest.fixture
def bad(scene: Scene) -> Scene:
    """The page says 0.874, and Prometheus knows."""
    scene.lines = 'fraud_precision{service="fraud"} 0.874\n'
    _eventually(lambda: scene.read(below=0.9), lambda state: state["met"])
    return scene


def test_met_over_a_span_with_its_curve(bad: Scene) -> None:
    """Two seconds below the limit are met once Prometheus has them, with value, limit and curve for the report."""
    state = _eventually(lambda: bad.read(below=0.9, **{"for": "2s"}), lambda state: state["met"])
    assert (0.874, 0.9) == (state["_value"], state["_below"])
    assert "fraud_precision is 0.874 and was below 0.9 for 2s (21 samples)" == state["_why"]
    when, value = state["_series"][-1]
    assert 0.874 == value
    assert abs(when - time.time()) < 30


def test_not_met_after_a_change(bad: Scene) -> None:
    """Right after the value came back, the newest sample is fine and the span is not."""
    bad.lines = 'fraud_precision{service="fraud"} 0.99\n'
    _eventually(lambda: bad.read(above=0.95), lambda state: state["met"])
    span = bad.read(above=0.95, **{"for": "1m"})
    assert not span["met"]
    assert not bad.read(below=0.9)["met"]
    _eventually(lambda: bad.read(above=0.95, **{"for": "2s"}), lambda state: state["met"])


def test_an_expression(bad: Scene) -> None:
    """PromQL may compute, as long as one series comes out."""
    state = _eventually(lambda: bad.read("1 - avg(fraud_precision)", above=0.1, **{"for": "1s"}), lambda state: state["met"])
    assert abs(state["_value"] - 0.126) < 1e-9


def test_a_metric_that_was_never_there(bad: Scene) -> None:
    """A name that nobody exports is missing, and not fine on either side of a limit."""
    for side in ("below", "above"):
        state = bad.read("fraud_recall", **{side: 0.9})
        assert (False, None) == (state["met"], state["_value"])
        assert "fraud_recall gives nothing: no such series, or none that is recent" == state["_why"]


def test_a_page_that_is_down_is_missing(bad: Scene) -> None:
    """When the scrape fails, the series ends, and what was last seen does not count as now."""
    bad.lines = None
    state = _eventually(lambda: bad.read(below=0.9), lambda state: not state["met"])
    assert "gives nothing" in state["_why"]
    assert bad.read("up", below=0.5)["met"]


def test_several_series(bad: Scene) -> None:
    """Two services under one name are not judged until the query says which."""
    bad.lines = 'fraud_precision{service="eu"} 0.5\nfraud_precision{service="us"} 0.5\n'
    state = _eventually(lambda: bad.read(below=0.9), lambda state: "2 series" in state["_why"])
    assert not state["met"]
    assert bad.read('fraud_precision{service="eu"}', below=0.9)["met"]


def test_nan(bad: Scene) -> None:
    """A precision of nothing divided by nothing is not fine."""
    bad.lines = "fraud_ratio NaN\n"
    state = _eventually(lambda: bad.read("fraud_ratio", below=0.9), lambda state: "NaN" in state["_why"])
    assert not state["met"]


def test_a_sample_with_an_old_time_stamp(bad: Scene) -> None:
    """An exporter that repeats an old sample with its time stamp is found out by `max_age`."""
    bad.lines = f"fraud_batch 0.5 {round((time.time() - 60) * 1000)}\n"
    params: dict[str, Any] = {"query": "fraud_batch", "below": 0.9}
    _eventually(lambda: bad.read(**params), lambda state: state["met"])
    state = bad.read(**params, max_age="30s")
    assert not state["met"]
    assert "s old, and 30 s is the most" in state["_why"]
    once = bad.read(**params, **{"for": "20s"})
    assert not once["met"]
    assert "fraud_batch has only one sample in 20s, repeated" == once["_why"]


def test_promql_that_is_none(bad: Scene) -> None:
    """A query that Prometheus does not understand is not met, in its own words."""
    state = bad.read("sum(", below=0.9)
    assert not state["met"]
    assert state["_why"].startswith(f"Prometheus at {bad.url} answers with HTTP 400: ")
    assert "parse error" in state["_why"]


def test_prometheus_is_down(tmp_path: Path) -> None:
    """No monitoring is no evidence: neither met nor an error that stops a run by hand."""
    with Scene(tmp_path) as scene:
        scene.stop()
        state = scene.read(below=0.9, on_missing="breach")
    assert not state["met"]
    assert f"{scene.url}/api/v1/query does not answer" in state["_why"]
