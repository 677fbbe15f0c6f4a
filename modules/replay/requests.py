"""Requests that were kept once are answered as expected now.

The file holds one JSON object a line: `{"input": [numbers], …}`, or the body of an inference request for one row, with its
`inputs`. Each is sent by itself, and `expect` is asked about the answer: `reply` has `label` (the prediction), `score` (the
output called `score`, else the prediction where it is a number, else null), `version`, and `outputs` (every output by
name); `request` is the record as it was kept. A file without records is *not met*: what was never asked proves nothing. It
observes and changes nothing.
"""

from __future__ import annotations

from typing import Any

from modules.contract import Context, Json, ModuleError, Params, State, fraction
from modules.v2 import _client

SCHEMA: dict[str, Json] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["from", "url", "expect", "at_least"],
    **_client.MODEL_IF_V2,
    "properties": {
        **_client.ASKING,
        "from": {
            "type": "string",
            "format": "path",
            "minLength": 1,
            "description": "The JSON Lines file of requests, for example the `path` that http.capture registered.",
        },
        "expect": {
            "type": "string",
            "format": "expression",
            "x-names": ["reply", "request"],
            "description": "What should be true of each answer, as a bare expression over `reply` and `request`.",
        },
        "at_least": {
            "type": ["number", "string"],
            "format": "percentage",
            "exclusiveMinimum": 0,
            "maximum": 1,
            "description": "The share of the requests for which it must be true: a percentage, or a number from 0 to 1.",
        },
        "version": _client.VERSION,
    },
    "examples": [
        {
            "from": "evidence/wrong-requests.jsonl",
            "url": "http://127.0.0.1:8080",
            "model": "fraud",
            "expect": "reply.label == 'legitimate'",
            "at_least": "95%",
        }
    ],
}


def read(params: Params, ctx: Context) -> State:
    shown = params["from"]
    requests, digest = _client.records(ctx.path(shown), shown)
    limit = fraction(params["at_least"])
    facts: State = {"_limit": limit, "_requests": len(requests), "_data_sha256": digest}
    if not requests:
        return {"met": False, **facts, "_why": f"{shown} holds no requests, and what was never asked proves nothing"}
    failed: list[int] = []
    versions: set[str] = set()
    for number, request in enumerate(requests, 1):
        ctx.sleep(0)  # a run that is being stopped asks no more
        try:
            reply = _reply(params, ctx, request, number)
        except ModuleError as error:
            ctx.left()  # the step's own timeout stays one
            return {"met": False, **facts, "_why": f"request {number} of {len(requests)}: {error.message}"}
        versions |= {reply["version"]} - {None}
        if not ctx.test(params["expect"], {"reply": reply, "request": request}):
            failed.append(number)
    kept = len(requests) - len(failed)
    value = kept / len(requests)
    facts |= {
        "_value": value,
        "_as_expected": kept,
        "_otherwise": failed[:20],
        "_versions": sorted(versions),
    }
    why = f"{kept} of {len(requests)} answers are as expected, {value:.4g} where at least {limit:.4g} is asked for"
    return {"met": value >= limit, **facts, "_why": why}


def desired(params: Params) -> State:
    return {"met": True}


def _reply(params: Params, ctx: Context, request: dict[str, Json], number: int) -> dict[str, Any]:
    """The answer to one kept request, in the words of `expect`."""
    if "inputs" in request and params.get("protocol", "v2") == "v2":
        answer = _client.infer(ctx, params, {"inputs": request["inputs"]}, 1)
    else:
        answer = _client.ask(ctx, params, [_client.row(request, params["from"], number)])
    label = _client.expect_version(params, answer).predictions[0]
    number_or_none = label if isinstance(label, int | float) else None
    outputs = {name: values[0] for name, values in answer.outputs.items()}
    return {"label": label, "score": outputs.get("score", number_or_none), "version": answer.version, "outputs": outputs}
