"""What an address answers is kept as evidence, once for this step and run.

Requests and replies of a service, most of all: `since` and `sample` choose rows, `redact` leaves fields out, `encrypt_for`
keeps what remains for named people alone. Beside the body lies `<name>.about.json`: where it came from, when, its size and
its sha256. A copy that was altered since is set aside under a name of its own and captured again, and the second copy says
so.
"""

from __future__ import annotations

from modules import _evidence
from modules.contract import Change, Context, Json, Params, State, expect_ok, size

SECTIONS = ("forensics",)
SCHEMA: dict[str, Json] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["url", "as"],
    "properties": {
        "url": {"type": "string", "format": "url", "minLength": 1, "description": "The address that is asked by GET."},
        **_evidence.AS,
        "headers": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "Headers of the request; a value may be a secret.",
        },
        "limit": {
            "type": "string",
            "format": "size",
            "description": "The largest answer that is kept, like 16MiB; a larger one fails. 64MiB unless given.",
        },
        **_evidence.ROWS,
    },
    "examples": [
        {"url": "http://scoring-1.example.org:8080/audit?wrong=true&limit=500", "as": "wrong-requests.jsonl"},
        {
            "url": "http://scoring-1.example.org:8080/audit",
            "as": "requests.jsonl",
            "since": "15m",
            "sample": "10%",
            "redact": ["card_number", "name"],
            "encrypt_for": ["fraud-risk"],
        },
    ],
}


def read(params: Params, ctx: Context) -> State | None:
    return _evidence.stored(params, ctx)


def desired(params: Params) -> State | None:
    return {"stored": True}


def apply(params: Params, change: Change, ctx: Context) -> None:
    where = str(params["url"])
    ctx, clock = _evidence.timed(ctx)
    reply = ctx.http("GET", params["url"], headers=params.get("headers"), limit=size(params.get("limit", "64MiB")))
    expect_ok(reply, f"GET {where.split('?')[0]}", "nothing was kept")
    _evidence.keep(params, ctx, reply.body, where, "GET", status=reply.status, clock_offset=clock.offset)
