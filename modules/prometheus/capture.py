"""Metrics of a span of time are kept as evidence, as Prometheus gives them.

The answer of a range query, with every series, is kept whole, so that a curve can be drawn and judged again years later,
when the server has long forgotten it. Where there is one series, the report draws it.
"""

from __future__ import annotations

import json

from modules import _evidence
from modules.contract import Change, Context, Json, ModuleError, Params, State, seconds
from modules.prometheus import _client

SECTIONS = ("forensics",)
#: Prometheus gives so many points of a series at once.
_MOST = 11_000
_POINTS = 240
SCHEMA: dict[str, Json] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["server", "query", "as"],
    "properties": {
        "server": {"type": "string", "format": "url", "minLength": 1, "description": "Address of a Prometheus server."},
        "query": {"type": "string", "minLength": 1, "description": "PromQL; every series that it gives is kept."},
        **_evidence.AS,
        "window": {
            "type": "string",
            "format": "duration",
            "default": "6h",
            "description": "How far back the samples go.",
        },
        "every": {
            "type": "string",
            "format": "duration",
            "default": "15s",
            "description": "How far apart samples are; wider where Prometheus would give too many.",
        },
        "headers": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "HTTP headers to send, for example an authorization; values may be secrets.",
        },
    },
    "examples": [
        {"server": "http://127.0.0.1:9090", "query": "fraud_precision", "as": "precision.json", "window": "6h"},
    ],
}


def read(params: Params, ctx: Context) -> State | None:
    found = _evidence.stored(params, ctx)
    if found["stored"] and "encrypt_for" not in params:
        series = json.loads(_evidence.place(params, ctx).read_bytes())["result"]
        if len(series) == 1:
            points = [[when, float(value)] for when, value in series[0]["values"] if value not in ("NaN", "+Inf", "-Inf")]
            found |= {"_query": params["query"], "_series": points[:: max(1, len(points) // _POINTS)]}
    return found


def desired(params: Params) -> State | None:
    return {"stored": True}


def apply(params: Params, change: Change, ctx: Context) -> None:
    ctx, clock = _evidence.timed(ctx)
    window = seconds(params.get("window", "6h"))
    step, end = max(seconds(params.get("every", "15s")), window / _MOST, 0.001), ctx.now()
    asked = {"query": params["query"], "start": f"{end - window:.3f}", "end": f"{end:.3f}", "step": f"{step:.3f}"}
    result = _client.everything(ctx, params, "query_range", asked)
    if not result:
        raise ModuleError(
            f"{params['query']} gives nothing in {params.get('window', '6h')}", "nothing was kept; check the query"
        )
    body = json.dumps({**asked, "server": str(params["server"]), "result": result}, indent=None, sort_keys=True).encode()
    told: dict[str, Json] = {"series": len(result), "clock_offset": clock.offset}
    _evidence.keep(params, ctx, body, str(params["server"]), "query_range", **told)
