"""prometheus.metric over a span of time, against a stand-in server and a page; single answers are cases."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standins import prometheus
from world import ScriptedWire, Served, World

from modules.contract import Context, ModuleError, Reply, TimedOut
from modules.prometheus import _client, metric

NOW = 1_767_225_600.0
PARAMS = {"query": "precision", "below": 0.9, "for": "5m"}


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return World(tmp_path, {}, now=lambda: NOW).context()


def _trigger(ctx: Context) -> Context:
    return dataclasses.replace(ctx, step="trigger/precision")


def test_every_sample_satisfies(ctx: Context) -> None:
    """Five minutes below the limit without a gap are met, and the curve reaches further back."""
    with prometheus(lambda when: 0.874 if when >= NOW - 400 else 0.99) as (_, url):
        state = metric.read({**PARAMS, "server": url, "window": "20m"}, ctx)
    assert (True, 61, 0.874, 0.9) == (state["met"], state["_samples"], state["_value"], state["_below"])
    assert "precision is 0.874 and was below 0.9 for 5m (61 samples)" == state["_why"]
    assert (NOW - 1200, 0.99) == tuple(state["_series"][0])
    assert [NOW, 0.874] == state["_series"][-1]


def test_one_sample_that_does_not_is_enough(ctx: Context) -> None:
    """Back at the limit for a moment in the middle is not met, and the moment is named."""
    with prometheus(lambda when: 0.95 if when == NOW - 60 else 0.874) as (_, url):
        state = metric.read({**PARAMS, "server": url}, ctx)
    assert not state["met"]
    assert "precision: 1 of 61 samples in 5m not below 0.9, the last one 0.95 at 23:59:00 UTC" == state["_why"]


def test_a_gap_is_not_fine(ctx: Context) -> None:
    """A series that began a minute ago, or was away for a moment, is not met over five minutes."""
    for there in (lambda when: when >= NOW - 60, lambda when: when != NOW - 100):
        with prometheus(lambda when, there=there: 0.874 if there(when) else None) as (_, url):
            state = metric.read({**PARAMS, "server": url}, ctx)
        assert not state["met"]
        assert state["_why"].endswith("of 61 samples in 5m: there is a gap")


def test_one_sample_repeated_is_not_several(ctx: Context) -> None:
    """Prometheus repeats a sample for five minutes: one that was taken once is not met over three."""
    with prometheus(lambda when: 0.874) as (server, url):
        server.raw = lambda when: NOW - 200
        state = metric.read({**PARAMS, "server": url, "for": "3m"}, ctx)
    assert (False, "precision has only one sample in 3m, repeated") == (state["met"], state["_why"])


def test_missing_is_a_breach_only_in_a_trigger_that_says_so(ctx: Context) -> None:
    """`on_missing: breach` makes a trigger hold when the metric is not there; the default holds still."""
    with prometheus(lambda when: None) as (_, url):
        params = {**PARAMS, "server": url}
        breach = metric.read({**params, "on_missing": "breach"}, _trigger(ctx))
        assert (True, None) == (breach["met"], breach["_value"])
        assert breach["_why"].endswith("which `on_missing: breach` counts as a breach")
        assert not metric.read({**params, "on_missing": "breach"}, ctx)["met"]
        assert not metric.read({**params, "on_missing": "hold"}, _trigger(ctx))["met"]


def test_a_server_that_is_down_is_no_breach(ctx: Context) -> None:
    """Nobody rolls back because the monitoring is away: `on_missing: breach` is about the metric, not about Prometheus."""
    wire = ScriptedWire([{"request": _instant("http://prom"), "reply": {"status": 503, "text": "starting"}}], {})
    state = metric.read({**PARAMS, "server": "http://prom", "on_missing": "breach"}, _with(_trigger(ctx), wire))
    assert (False, "Prometheus at http://prom answers with HTTP 503: starting") == (state["met"], state["_why"])


def _instant(server: str) -> str:
    return f"GET {server}/api/v1/query?query=timestamp%28%0Aprecision%0A%29"


def _with(ctx: Context, wire: Any) -> Context:
    return dataclasses.replace(ctx, wire=wire)


def test_the_servers_clock_counts(ctx: Context) -> None:
    """A Prometheus whose clock is an hour ahead is asked about its own last five minutes."""
    with prometheus(lambda when: 0.874 if when > NOW + 3000 else None) as (server, url):
        server.now = NOW + 3600
        assert metric.read({**PARAMS, "server": url}, ctx)["met"]


def test_a_shorter_curve_does_not_matter(ctx: Context) -> None:
    """When the longer history cannot be drawn, the samples that were judged are the curve."""
    with prometheus(lambda when: "NaN" if when < NOW - 600 else 0.874) as (_, url):
        state = metric.read({**PARAMS, "server": url}, ctx)
    assert (True, 61) == (state["met"], len(state["_series"]))


def test_a_comment_at_the_end_of_a_query(ctx: Context) -> None:
    """A comment in PromQL does not swallow what is put behind the query."""
    with prometheus(lambda when: 0.874) as (server, url):
        assert metric.read({**PARAMS, "server": url, "query": "precision # of fraud"}, ctx)["met"]
    assert "timestamp(\nprecision # of fraud\n)" == server.asked[0]


@pytest.mark.parametrize("length", ["100ms", "1s", "7s", "59s", "61m", "2d"])
def test_a_span_has_every_sample_and_not_too_many(ctx: Context, length: str) -> None:
    """However long the span, the samples cover it whole and stay below Prometheus' own limit of 11,000."""
    with prometheus(lambda when: 0.874) as (_, url):
        state = metric.read({**PARAMS, "server": url, "for": length}, ctx)
    assert state["met"], state["_why"]
    assert 2 <= state["_samples"] < 11_000


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.floats(), st.sampled_from(["NaN", "1", "x", "success"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["value", "values", "metric"]), inner)
    ),
    max_leaves=6,
)
SERIES = st.dictionaries(st.sampled_from(["value", "values", "metric", "histogram"]), JSON, max_size=3)
ANSWER = st.one_of(
    JSON,
    st.fixed_dictionaries(
        {
            "status": st.sampled_from(["success", "error"]),
            "data": st.one_of(JSON, st.fixed_dictionaries({"result": st.lists(SERIES)})),
        }
    ),
)


@given(replies=st.lists(ANSWER, min_size=1, max_size=4), status=st.sampled_from([200, 200, 200, 400, 500]))
def test_no_answer_breaks_the_reading(tmp_path_factory: pytest.TempPathFactory, replies: list[Any], status: int) -> None:
    """Whatever a server says, there is a verdict with a reason, and nothing that JSON cannot hold."""
    queue = [Reply(status, {}, json.dumps(reply).encode(), 0.01) for reply in replies]

    class Wire:
        def http(self, *_: Any, **__: Any) -> Reply:
            return queue.pop(0) if len(queue) > 1 else queue[0]

    ctx = World(tmp_path_factory.mktemp("p"), {}).context(Wire())
    state = metric.read({**PARAMS, "server": "http://prom"}, ctx)
    assert state["_why"]
    json.dumps(state, allow_nan=False)


# ------------------------------------------------------------------------------------------------ a page
@pytest.fixture
def page() -> Iterator[tuple[list[str], Served]]:
    """A page that says the next of a list's values, the last one for ever."""
    values = ["0.99"]
    with Served(lambda _: (200, f"precision {values.pop(0) if len(values) > 1 else values[0]}\n".encode())) as server:
        yield values, server


def _page(server: Served, **more: Any) -> dict[str, Any]:
    return {"page": server.url, "query": "precision", "above": 0.95, "for": "60ms", "every": "20ms", **more}


def test_a_page_is_watched(ctx: Context, page: tuple[list[str], Served]) -> None:
    """The page is fetched until the span is over; every sample counts, and they are the curve."""
    values, server = page
    values[:0] = ["0.96", "0.97", "0.98"]
    state = metric.read(_page(server), ctx)
    assert (True, [0.96, 0.97, 0.98, 0.99]) == (state["met"], [value for _, value in state["_series"]])


def test_a_page_is_left_when_the_matter_is_decided(ctx: Context, page: tuple[list[str], Served]) -> None:
    """The first sample that does not satisfy ends the watching."""
    values, server = page
    values[:0] = ["0.96", "0.5"]
    state = metric.read(_page(server, **{"for": "30s", "every": "10ms"}), ctx)
    assert (False, 2, 2) == (state["met"], state["_samples"], len(server.requests))


def test_a_page_is_fetched_at_least_twice(ctx: Context, page: tuple[list[str], Served]) -> None:
    """A span shorter than the distance of two samples still takes two."""
    state = metric.read(_page(page[1], **{"for": "10ms", "every": "1m"}), ctx)
    assert (True, 2) == (state["met"], state["_samples"])


def test_a_metric_that_leaves_the_page_is_missing(ctx: Context) -> None:
    """Gone in the middle of the span is missing, whatever was seen before."""
    pages = [b"precision 0.99\n", b"up 1\n"]
    with Served(lambda _: (200, pages.pop(0))) as server:
        state = metric.read(_page(server), ctx)
    assert (False, f"precision is not on the page {server.url}") == (state["met"], state["_why"])


def test_a_run_that_is_stopped_stops_watching(ctx: Context, page: tuple[list[str], Served]) -> None:
    """Stopping the run ends the watching at once, and is no verdict."""
    ctx.stop.set()
    with pytest.raises(ModuleError, match="stopped"):
        metric.read(_page(page[1], **{"for": "30s", "every": "10s"}), ctx)


def test_the_steps_timeout_stays_one(tmp_path: Path, page: tuple[list[str], Served]) -> None:
    """A step whose time is over ends as timed out, not as a verdict."""
    with pytest.raises(TimedOut):
        metric.read(_page(page[1]), World(tmp_path, {}).context(seconds=0.0))


# ------------------------------------------------------------------------------------------------ the text format
def _sample(text: str, query: str, folder: Path) -> _client.Sample:
    wire = ScriptedWire([], {"GET http://p": {"text": text}})
    return _client.sample(World(folder, {}, now=lambda: NOW).context(wire), {"page": "http://p", "query": query}, 300.0)


LABELS = st.dictionaries(st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,4}", fullmatch=True), st.text(max_size=6), max_size=3)


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


@given(labels=LABELS, value=st.floats(allow_nan=False, allow_infinity=False))
def test_what_is_written_by_the_rules_is_read(
    tmp_path_factory: pytest.TempPathFactory, labels: dict[str, str], value: float
) -> None:
    """Any labels, escaped as the format says, and any finite value are found again by the same selector."""
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    found = _sample(f"m{{{inside}}} {value!r}\n", f"m{{{inside}}}", tmp_path_factory.mktemp("p"))
    assert (NOW, value) == found


@given(st.text(max_size=40))
def test_no_page_breaks_the_parser(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Whatever a page holds, there is a sample or a plain refusal."""
    with contextlib.suppress(_client.Unusable):
        assert _sample(f"{text}\nm 1\n", "m", tmp_path_factory.mktemp("p"))[1] == 1.0


@pytest.mark.parametrize(
    "query", ["", "m{", 'm{a="1}', "m{a=~'x'}", 'm{a!="1"}', 'm{a="1",a="2"}', "sum(m)", "m[5m]", "m > 1", "1m"]
)
def test_a_selector_is_exact(query: str) -> None:
    """Everything but name and equal labels is refused: a page knows no PromQL."""
    with pytest.raises(ModuleError, match="cannot be asked of a page"):
        _client.selector(query)
