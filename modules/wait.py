"""A time has passed, a port answers, or an address answers well.

Waiting ends with the step's `timeout`, which says how patient it is; a crash starts it anew.
"""

from __future__ import annotations

from collections.abc import Callable

from modules.contract import Context, Json, ModuleError, Params, State, TimedOut, expect_ok, seconds

SCHEMA: dict[str, Json] = {
    "type": "object",
    "additionalProperties": False,
    "x-says": "a mapping with exactly one of `for`, `port` and `until_url`",
    "oneOf": [{"required": ["for"]}, {"required": ["port"]}, {"required": ["until_url"]}],
    "dependentSchemas": {
        "host": {"required": ["port"]},
        "headers": {"required": ["until_url"]},
        "for": {"not": {"required": ["every"]}, "x-says": "a mapping in which `for` stands without `every`"},
    },
    "properties": {
        "for": {"type": "string", "format": "duration", "description": "How long to wait, whatever happens, like 30s."},
        "port": {
            "type": "integer",
            "minimum": 1,
            "maximum": 65535,
            "description": "The TCP port that is to take a connection.",
        },
        "host": {
            "type": "string",
            "minLength": 1,
            "description": "The name or address of the port's machine; 127.0.0.1 unless given.",
        },
        "until_url": {
            "type": "string",
            "format": "url",
            "minLength": 1,
            "description": "The address that is to answer GET with a status from 200 to 299.",
        },
        "headers": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "Headers sent to `until_url`; a value may be a secret.",
        },
        "every": {
            "type": "string",
            "format": "duration",
            "description": "The pause between two looks; 1s unless given.",
        },
    },
    "examples": [
        {"for": "30s"},
        {"host": "scoring-1.example.org", "port": 8080},
        {"until_url": "http://scoring-1.example.org:8080/v2/health/ready", "every": "2s"},
    ],
}


def read(params: Params, ctx: Context) -> State | None:
    started = ctx.now()
    why = _pass(seconds(params["for"]), ctx) if "for" in params else _until(*_look(params, ctx), params, ctx)
    return {"met": True, "_why": why, "_waited": round(max(0.0, ctx.now() - started), 3)}


def desired(params: Params) -> State | None:
    return {"met": True}


def _pass(length: float, ctx: Context) -> str:
    if length >= ctx.left(length + 1):
        raise ModuleError(
            f"the wait of {length:g} s does not fit into the step's timeout", "give the step a longer `timeout`"
        )
    left = length
    while left > 0:
        ctx.sleep(min(left, 3600.0))  # a single sleep is an hour at most
        left -= 3600.0
    return f"{length:g} s have passed"


def _look(params: Params, ctx: Context) -> tuple[str, Callable[[], object]]:
    """What is waited for, and a function that raises ModuleError while it is not so."""
    if "port" in params:
        host, port = params.get("host", "127.0.0.1"), params["port"]
        return f"{host}:{port}", lambda: ctx.wire.connect(host, port, timeout=ctx.left(5.0))
    shown, url, headers = str(params["until_url"]).split("?")[0], params["until_url"], params.get("headers")
    return shown, lambda: expect_ok(ctx.http("GET", url, headers=headers, timeout=10.0), shown)


def _until(what: str, look: Callable[[], object], params: Params, ctx: Context) -> str:
    pause, looks = seconds(params.get("every", "1s")), 0
    while True:
        looks += 1
        try:
            look()
        except ModuleError as error:
            last = error.message
        else:
            return f"{what} answers, at look {looks}"
        try:
            ctx.sleep(pause)
        except TimedOut:
            raise TimedOut(
                f"{what} did not answer well in time; the last look: {last}", "a longer `timeout` waits longer"
            ) from None
