"""A metric is below or above its limit, over a whole duration where one is asked for.

`met` says whether the condition holds as it is written: in a trigger that the metric is bad, in verification that it is
good. It is asked of a Prometheus server (`server`, any PromQL that gives one series) or read from a metric page (`page`,
with the query as `name{label="value"}`; the page is fetched every `every` for as long as `for` says).

With `for`, every sample of that time must satisfy the condition and none may be missing, as Prometheus itself has it for
alerts. What cannot be judged is never fine, and each has its own words: nothing there, NaN, several series, an error, one
sample where several are needed, an old one. `on_missing: breach` makes a *trigger* hold when the server answers and the
metric is not there (nothing, NaN, too old); a server that does not answer proves nothing, and in verification missing is
never met. It observes and changes nothing.
"""

from __future__ import annotations

import math

from modules.contract import Context, Json, ModuleError, Params, State, seconds
from modules.prometheus import _client

#: How Prometheus is asked over a span, in seconds: rarely coarser than a scrape, never more points than it gives at once.
_COARSE, _FINE, _MOST = 15.0, 0.1, 10_000
#: So many points are enough for a curve.
_POINTS = 240

SCHEMA: dict[str, Json] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["query"],
    "allOf": [
        {
            "oneOf": [{"required": ["server"]}, {"required": ["page"]}],
            "x-says": "a mapping with exactly one of `server` and `page`",
        },
        {
            "oneOf": [{"required": ["below"]}, {"required": ["above"]}],
            "x-says": "a mapping with exactly one of `below` and `above`",
        },
    ],
    "properties": {
        "server": {"type": "string", "format": "url", "minLength": 1, "description": "Address of a Prometheus server."},
        "page": {"type": "string", "format": "url", "minLength": 1, "description": "Address of a text exposition page."},
        "query": {
            "type": "string",
            "minLength": 1,
            "description": 'PromQL for a server, `name{label="value"}` for a page; it must give one series.',
        },
        "below": {"type": "number", "description": "The condition is that the value is less than this."},
        "above": {"type": "number", "description": "The condition is that the value is greater than this."},
        "for": {
            "type": "string",
            "format": "duration",
            "description": "How long it must have been so without a gap; without it, the newest sample decides.",
        },
        "on_missing": {
            "enum": ["hold", "breach"],
            "default": "hold",
            "description": "In a trigger, when the metric is not there: `hold` is not met, `breach` is met.",
        },
        "every": {
            "type": "string",
            "format": "duration",
            "description": "How far apart samples are; by default 1s (page), a sixtieth of `for`, at most 15s (server).",
        },
        "max_age": {
            "type": "string",
            "format": "duration",
            "default": "5m",
            "description": "An older newest sample counts as missing.",
        },
        "window": {
            "type": "string",
            "format": "duration",
            "default": "30m",
            "description": "How far back the curve in the report goes; of a page there is no history.",
        },
        "headers": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "HTTP headers to send, for example an authorization; values may be secrets.",
        },
    },
    "examples": [
        {
            "server": "http://127.0.0.1:9090",
            "query": 'fraud_precision{service="fraud"}',
            "below": 0.9,
            "for": "5m",
            "on_missing": "hold",
        },
        {"page": "http://127.0.0.1:8080/metrics", "query": "fraud_precision", "above": 0.95, "for": "3s"},
    ],
}


def read(params: Params, ctx: Context) -> State:
    side = "below" if "below" in params else "above"
    limit = float(params[side])
    facts: State = {"_query": params["query"], "_limit": limit, f"_{side}": limit, "_series": []}
    try:
        samples, curve = (_of_server if "server" in params else _of_page)(params, ctx)
    except _client.Missing as error:
        # A run by hand and a watcher alike: only a trigger may take silence for a breach.
        breach = params.get("on_missing") == "breach" and ctx.step.startswith("trigger/")
        note = ", which `on_missing: breach` counts as a breach" if breach else ""
        return {"met": breach, **facts, "_value": None, "_why": f"{error.message}{note}"}
    except _client.Unusable as error:
        return {"met": False, **facts, "_value": None, "_why": error.message}
    wrong = [sample for sample in samples if not _holds(params, sample[1])]
    facts |= {
        "_series": [[round(when, 3), value] for when, value in curve],
        "_value": samples[-1][1],
        "_samples": len(samples),
    }
    return {"met": not wrong, **facts, "_why": _why(params, samples, wrong, f"{side} {limit:g}")}


def desired(params: Params) -> State:
    return {"met": True}


def _holds(params: Params, value: float) -> bool:
    return bool(value < params["below"] if "below" in params else value > params["above"])


def _why(params: Params, samples: list[_client.Sample], wrong: list[_client.Sample], side: str) -> str:
    when, last = samples[-1]
    if len(samples) == 1:
        return f"{params['query']} is {last:g}, {'not ' if wrong else ''}{side}"
    if not wrong:
        return f"{params['query']} is {last:g} and was {side} for {params['for']} ({len(samples)} samples)"
    when, value = wrong[-1]
    where = f"the last one {value:g} at {_client.clock(when)}"
    return f"{params['query']}: {len(wrong)} of {len(samples)} samples in {params['for']} not {side}, {where}"


# ------------------------------------------------------------------------------------------------ where samples come from
def _of_server(params: Params, ctx: Context) -> tuple[list[_client.Sample], list[_client.Sample]]:
    """The samples to judge, and those of the longer curve. All moments are the server's own, so that clocks may differ."""
    query, length = params["query"], seconds(params.get("for", "0s"))
    now, stamp = _client.newest(ctx, params)
    _client.fresh(now - stamp, seconds(params.get("max_age", "5m")), query)
    every = seconds(params["every"]) if "every" in params else min(length / 60, _COARSE)
    step = round(max(every, length / _MOST, _FINE), 3)
    count = math.ceil(round(length / step, 6))
    start = now - count * step
    samples = _client.span(ctx, params, query, start, now, step)
    if count:
        if len(samples) <= count:
            raise _client.Unusable(
                f"{query} has only {len(samples)} of {count + 1} samples in {params['for']}: there is a gap"
            )
        # Prometheus repeats a sample for minutes: what counts is that several were taken.
        if len({taken for _, taken in _client.span(ctx, params, f"timestamp(\n{query}\n)", start, now, step)}) < 2:
            raise _client.Unusable(f"{query} has only one sample in {params['for']}, repeated")
    window = seconds(params.get("window", "30m"))
    try:
        curve = (
            _client.span(ctx, params, query, now - window, now, max(_FINE, window / _POINTS)) if window > length else samples
        )
    except _client.Unusable:
        curve = samples  # the picture is shorter; the judgement does not depend on it
    return samples, curve


def _of_page(params: Params, ctx: Context) -> tuple[list[_client.Sample], list[_client.Sample]]:
    """Fetches the page as often as it takes, or until a sample decides the matter; there is no other curve."""
    length, every = seconds(params.get("for", "0s")), seconds(params.get("every", "1s"))
    oldest = seconds(params.get("max_age", "5m"))
    if length > ctx.left(math.inf):
        hint = "give the step a longer `timeout`"
        raise ModuleError(f"watching a page for {params['for']} takes longer than the step may", hint)
    count = max(1, math.ceil(round(length / every, 6))) if length else 0
    samples = [_client.sample(ctx, params, oldest)]
    while len(samples) <= count and _holds(params, samples[-1][1]):
        ctx.sleep(length / count)
        samples.append(_client.sample(ctx, params, oldest))
    return samples, samples
