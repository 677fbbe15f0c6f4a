"""A scoring server answers within the latency limits.

Sends `requests` requests of one row each, after `warmup` others that do not count, and compares percentiles of the time
from sending to the last byte with the limits. Percentiles are nearest-rank: the p99 of 200 requests is the 198th smallest
time. One failed request is enough for *not met*: a fast error is no fast answer. It observes and changes nothing; the
server sees the load.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from modules.contract import Context, Json, ModuleError, Params, State, seconds
from modules.v2 import _client

#: After so many failed requests the answer is known, and the server has enough to do.
_ENOUGH = 5
#: So many points are enough for a curve.
_POINTS = 500
_LIMITS = {"p50_below": 0.50, "p95_below": 0.95, "p99_below": 0.99}

SCHEMA: dict[str, Json] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["url"],
    **_client.MODEL_IF_V2,
    "allOf": [
        {
            "anyOf": [{"required": [name]} for name in _LIMITS],
            "x-says": "a mapping with a limit: `p50_below`, `p95_below` or `p99_below`",
        },
        {
            "oneOf": [{"required": ["probe"]}, {"required": ["data"]}],
            "x-says": "a mapping with exactly one of `probe` and `data`",
        },
    ],
    "properties": {
        **_client.ASKING,
        "probe": {**_client.ROWS, "description": "Rows of numbers to send, one a request, over and over."},
        "data": {
            "type": "string",
            "format": "path",
            "minLength": 1,
            "description": 'JSON Lines file whose lines have an "input"; sent one a request, over and over.',
        },
        "requests": {
            "type": "integer",
            "minimum": 20,
            "maximum": 100000,
            "default": 200,
            "description": "Requests that count.",
        },
        "warmup": {
            "type": "integer",
            "minimum": 0,
            "maximum": 10000,
            "default": 10,
            "description": "Requests before them that do not.",
        },
        "concurrency": {
            "type": "integer",
            "minimum": 1,
            "maximum": 64,
            "default": 1,
            "description": "Requests under way at once.",
        },
        "p50_below": {"type": "string", "format": "duration", "description": "Half of the requests are faster than this."},
        "p95_below": {"type": "string", "format": "duration", "description": "95 of 100 requests are faster than this."},
        "p99_below": {"type": "string", "format": "duration", "description": "99 of 100 requests are faster than this."},
        "version": _client.VERSION,
    },
    "examples": [
        {
            "url": "http://127.0.0.1:8080",
            "model": "fraud",
            "data": "golden/fraud.jsonl",
            "requests": 200,
            "p99_below": "80ms",
        }
    ],
}


def read(params: Params, ctx: Context) -> State:
    rows = _rows(params, ctx)
    count, warmup = params.get("requests", 200), params.get("warmup", 10)
    points, errors = _run(params, ctx, rows, warmup, count)
    facts: State = {"_requests": len(points), "_errors": len(errors), "_concurrency": params.get("concurrency", 1)}
    if errors:
        ctx.left()  # the step's own timeout stays one
        why = f"{len(errors)} of {len(points) + len(errors)} requests failed, the first with: {errors[0]}"
        return {"met": False, **facts, "_why": why}
    times = sorted(ms for _, ms in points)
    facts |= {f"_{name[:3]}_ms": _rank(times, share) for name, share in _LIMITS.items()}
    facts |= {"_max_ms": times[-1], "_series": points[:: math.ceil(len(points) / _POINTS)]}
    limits = {name: seconds(params[name]) * 1000 for name in _LIMITS if name in params}
    worst = max(limits, key=lambda name: facts[f"_{name[:3]}_ms"] / (limits[name] or 1e-9))
    value, limit = facts[f"_{worst[:3]}_ms"], limits[worst]
    verb = "is below" if value < limit else "is not below"
    why = f"{worst[:3]} {value:.4g} ms over {len(points)} requests {verb} {limit:.4g} ms"
    return {"met": value < limit, **facts, "_value": value, "_limit": limit, "_below": limit, "_why": why}


def desired(params: Params) -> State:
    return {"met": True}


def _rows(params: Params, ctx: Context) -> list[_client.Row]:
    if "probe" in params:
        return list(params["probe"])
    lines, _ = _client.records(ctx.path(params["data"]), params["data"])
    if not lines:
        raise ModuleError(f"{params['data']} has no rows to send")
    return [_client.row(line, params["data"], number) for number, line in enumerate(lines, 1)]


def _run(
    params: Params, ctx: Context, rows: Sequence[_client.Row], warmup: int, count: int
) -> tuple[list[list[float]], list[str]]:
    """[when, milliseconds] of each request that counts, in their order, and what the failed ones said."""
    errors: list[str] = []

    def one(number: int) -> list[float] | None:
        if len(errors) >= _ENOUGH:
            return None
        ctx.sleep(0)  # a run that is being stopped sends no more; a step whose time is over neither
        try:
            answer = _client.expect_version(params, _client.ask(ctx, params, [rows[number % len(rows)]]))
        except ModuleError as error:
            errors.append(error.message)
            return None
        return [round(ctx.now(), 3), round(answer.seconds * 1000, 3)]

    with ThreadPoolExecutor(params.get("concurrency", 1)) as pool:
        points = list(pool.map(one, range(warmup + count)))
    return [point for point in points[warmup:] if point], errors


def _rank(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: the smallest value that at least `share` of all values do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)]
