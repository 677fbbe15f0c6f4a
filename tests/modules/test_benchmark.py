"""What benchmark.latency makes of the times of its requests; its world and the laws are in worlds/."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from world import World

from modules.benchmark import latency
from modules.contract import ModuleError, Reply, TimedOut

PARAMS = {"url": "http://svc", "model": "fraud", "probe": [[1.0]], "requests": 20, "warmup": 1, "p99_below": "100ms"}


class TimedWire:
    """Answers each request with the next of `seconds` (a float, or an exception to raise), all from version 1."""

    def __init__(self, seconds: list[Any]) -> None:
        self.seconds, self.lock = list(seconds), threading.Lock()

    def http(self, *_: Any, **__: Any) -> Reply:
        with self.lock:
            took = self.seconds.pop(0)
        if isinstance(took, Exception):
            raise took
        body = {"model_version": "1", "outputs": [{"name": "p", "shape": [1], "data": [0.5]}]}
        return Reply(200, {}, json.dumps(body).encode(), took)


def _read(tmp: Path, seconds: list[Any], **params: Any) -> tuple[dict[str, Any], TimedWire]:
    wire = TimedWire(seconds)
    return latency.read({**PARAMS, **params}, World(tmp, {}).context(wire)), wire


def test_percentiles_are_nearest_rank_without_the_warm_up(tmp_path: Path) -> None:
    """Of twenty times the p95 is the nineteenth, the p99 and the maximum the twentieth; the slow warm-up does not count."""
    state, _ = _read(tmp_path, [9.0, *[n / 100 for n in range(20, 0, -1)]], p50_below="101ms", p99_below="1s")
    assert {"p50": 100.0, "p95": 190.0, "p99": 200.0} == {name: state[f"_{name}_ms"] for name in ("p50", "p95", "p99")}
    assert (True, 200.0, 20) == (state["met"], state["_max_ms"], len(state["_series"]))


def test_a_percentile_at_its_limit_is_not_below_it(tmp_path: Path) -> None:
    """The p99 must be less than its limit, and the sentence names it."""
    state, _ = _read(tmp_path, [0.01, *[0.02] * 19, 0.1])
    assert (False, 100.0, 100.0) == (state["met"], state["_value"], state["_limit"])
    assert state["_why"] == "p99 100 ms over 20 requests is not below 100 ms"


def test_of_several_limits_the_worst_is_named(tmp_path: Path) -> None:
    """Limits that are kept do not hide one that is not."""
    state, _ = _read(tmp_path, [0.02] * 21, p50_below="10ms", p95_below="1s", p99_below="1s")
    assert (False, "p50 20 ms over 20 requests is not below 10 ms") == (state["met"], state["_why"])


def test_one_error_is_enough(tmp_path: Path) -> None:
    """Nineteen fast answers and one failure are not met."""
    state, _ = _read(tmp_path, [0.01] * 5 + [ModuleError("boom")] + [0.01] * 15)
    assert (False, 1) == (state["met"], state["_errors"])
    assert state["_why"] == "1 of 20 requests failed, the first with: boom"


def test_a_server_that_fails_is_left_alone(tmp_path: Path) -> None:
    """After five failures nothing more is sent."""
    state, wire = _read(tmp_path, [ModuleError("boom")] * 21)
    assert (False, 5, 16) == (state["met"], state["_errors"], len(wire.seconds))


def test_another_version_is_a_failed_request(tmp_path: Path) -> None:
    """A fast answer from a version that was not asked for does not count as fast."""
    state, _ = _read(tmp_path, [0.01] * 21, version="2")
    assert not state["met"]
    assert state["_why"].endswith("the first with: version 1 answered, and 2 should have")


def test_the_steps_timeout_stays_one(tmp_path: Path) -> None:
    """A step whose time is over ends as timed out, not as a measurement."""
    with pytest.raises(TimedOut):
        latency.read(PARAMS, World(tmp_path, {}).context(TimedWire([]), seconds=0.0))


def test_a_run_that_is_stopped_sends_no_more(tmp_path: Path) -> None:
    """Stopping the run ends the measurement at once."""
    ctx = World(tmp_path, {}).context(TimedWire([]))
    ctx.stop.set()
    with pytest.raises(ModuleError, match="stopped"):
        latency.read(PARAMS, ctx)


def test_a_long_series_is_thinned(tmp_path: Path) -> None:
    """The curve keeps at most five hundred points, however many requests there were."""
    state, _ = _read(tmp_path, [0.01] * 1201, requests=1200)
    assert (1200, 400) == (state["_requests"], len(state["_series"]))
