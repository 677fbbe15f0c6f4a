"""Something behind an HTTP address has these values, or is absent.

It is read by GET, compared by the fields named, and set by the method given. A server that answers 200 and changes nothing
is found out: the engine reads again.
"""

from __future__ import annotations

from modules.contract import Change, Context, Json, ModuleError, Params, Secret, State, expect_ok
from modules.http import _client

MOVES = ("version", "checkpoint", "configuration", "data")
SCHEMA: dict[str, Json] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["url"],
    "x-says": "a mapping with exactly one of `fields` and `absent`",
    "oneOf": [{"required": ["fields"]}, {"required": ["absent"]}],
    "dependentSchemas": {
        "absent": {
            "not": {"anyOf": [{"required": ["body"]}, {"required": ["method"]}]},
            "x-says": "a mapping in which `absent` stands without `body` and `method`",
        }
    },
    "properties": {
        "url": {
            "type": "string",
            "format": "url",
            "minLength": 1,
            "description": "The address that GET reads as JSON; 404 or 410 mean that nothing is there.",
        },
        "set_url": {
            "type": "string",
            "format": "url",
            "minLength": 1,
            "description": "The address that is written to, where it is another one.",
        },
        "method": {
            "enum": ["PATCH", "PUT", "POST"],
            "description": "How it is set; PATCH unless given.",
        },
        "fields": {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": r"^[^.]+(\.[^.]+)*$", "x-says": "dotted paths such as weights.canary"},
            "description": "Dotted path in the answer -> the value wanted; only these are compared and put back.",
        },
        "body": {
            "description": "What is sent as JSON instead of the nested fields; a text `$path` stands for the value there.",
        },
        "headers": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "Headers of every request; a value may be a secret.",
        },
        "ok": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "integer", "minimum": 100, "maximum": 599},
            "description": "The statuses that mean that the write was taken; 200 to 299 unless given.",
        },
        "absent": {"const": True, "description": "Nothing is to be there: it is removed by DELETE, which has no undo."},
    },
    "examples": [
        {"url": "http://router.example.org/routes/fraud", "fields": {"weights.stable": 100, "weights.canary": 0}},
        {
            "url": "http://features.example.org/v1/flags/fraud-model",
            "set_url": "http://features.example.org/v1/flags/fraud-model/set",
            "method": "POST",
            "fields": {"value.version": "1.3.2"},
            "body": {"new_value": "$value.version", "reason": "rollback"},
        },
        {"url": "http://router.example.org/routes/fraud-canary", "absent": True},
    ],
}


def read(params: Params, ctx: Context) -> State | None:
    fields = params.get("fields", {})
    if any(isinstance(value, Secret) for value in fields.values()):
        raise ModuleError("a field's value cannot be a secret: it is compared and recorded", "send secrets by `headers`")
    reply = _client.ask("GET", params["url"], None, params, ctx)
    if reply.status in _client.ABSENT:
        return None
    found = expect_ok(reply, f"GET {_client.shown(params['url'])}").json()
    if params.get("absent"):
        return {"present": True}
    return {name: value for name in fields if (value := _client.pick(found, name)) is not _client.NOTHING}


def desired(params: Params) -> State | None:
    return None if params.get("absent") else dict(params["fields"])


def apply(params: Params, change: Change, ctx: Context) -> None:
    if params.get("absent"):
        _write("DELETE", None, params, ctx, *_client.ABSENT)
    else:
        _set(params["fields"], params, ctx)


def undo(params: Params, change: Change, ctx: Context) -> None:
    if change.before is None:
        # It was not there. DELETE goes to where it is read: `set_url` may be the place where things are only made.
        _write("DELETE", None, {**params, "set_url": params["url"]}, ctx, *_client.ABSENT)
    else:
        _set({**params["fields"], **change.before}, params, ctx)


def can_undo(params: Params) -> bool:
    """What was removed cannot be made again from fields, and a body without a field cannot carry its old value."""
    return not params.get("absent") and ("body" not in params or set(params["fields"]) <= _client.mentioned(params["body"]))


def _set(values: dict[str, Json], params: Params, ctx: Context) -> None:
    body = _client.filled(params["body"], values) if "body" in params else _client.nested(values)
    _write(params.get("method", "PATCH"), body, params, ctx)


def _write(method: str, body: Json, params: Params, ctx: Context, *also: int) -> None:
    url = params.get("set_url", params["url"])
    reply = _client.ask(method, url, body, params, ctx)
    if reply.status not in also and not (reply.status in params["ok"] if "ok" in params else reply.ok):
        expect_ok(reply, f"{method} {_client.shown(url)}")
        raise ModuleError(f"{method} {_client.shown(url)}: HTTP {reply.status} is not one of {params['ok']}")
