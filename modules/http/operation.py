"""Something behind an HTTP address has these values, after an operation that takes its time.

The change is asked for by one request, under an idempotency key where the platform honours one; the answer names the
operation, which is then looked at until it is over. What it came to is read at the address itself: a platform that says it
succeeded and serves the old values is found out. What a killed run has begun is taken up again, never begun twice.

The step's `timeout` is the time that the operation has; then it is stopped by `cancel_url`, and what is there is read.
Without `key_header` and `pending` a lost answer cannot be made good: the step is uncertain, and a person looks.
"""

from __future__ import annotations

from urllib.parse import quote, urljoin, urlsplit

from modules.contract import Change, Context, Json, ModuleError, Over, Params, Reply, Secret, State, expect_ok
from modules.http import _client

MOVES = ("version", "checkpoint", "configuration", "data")
_PATH = {"type": "string", "pattern": r"^[^.]+(\.[^.]+)*$", "x-says": "a dotted path such as operation.id"}
SCHEMA: dict[str, Json] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["url", "fields", "done_when"],
    "properties": {
        "url": {
            "type": "string",
            "format": "url",
            "minLength": 1,
            "description": "The address that GET reads as JSON; 404 or 410 mean that nothing is there.",
        },
        "fields": {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": r"^[^.]+(\.[^.]+)*$", "x-says": "dotted paths such as deployment.version"},
            "description": "Dotted path in the answer -> the value wanted; only these are compared and put back.",
        },
        "start_url": {
            "type": "string",
            "format": "url",
            "minLength": 1,
            "description": "The address that the change is asked of, where it is another one.",
        },
        "method": {"enum": ["POST", "PATCH", "PUT"], "description": "How it is asked for; POST unless given."},
        "body": {
            "description": "What is sent as JSON instead of the nested fields; a text `$path` stands for the value there.",
        },
        "headers": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "Headers of every request; a value may be a secret.",
        },
        "key_header": {
            "type": "string",
            "minLength": 1,
            "description": "The header in which the platform takes, and honours, an idempotency key.",
        },
        "handle": {
            **_PATH,
            "description": "Dotted path of the operation's name in the answer; the Location header unless given.",
        },
        "status_url": {
            "type": "string",
            "minLength": 1,
            "description": "The address that tells of it, `$handle` for its name; the handle itself unless given.",
        },
        "done_when": {
            "type": "string",
            "format": "expression",
            "x-names": ["reply"],
            "description": "When the operation is over and has succeeded, said of `reply`, what `status_url` answers.",
        },
        "failed_when": {
            "type": "string",
            "format": "expression",
            "x-names": ["reply"],
            "description": "When it is over and has failed, was stopped or took itself back, said of `reply`.",
        },
        "says": {**_PATH, "description": "Dotted path in `reply` of words for people: how far it is, why it failed."},
        "pending": {
            **_PATH,
            "description": "Dotted path, in what `url` answers, of the name of an operation under way; nothing: none is.",
        },
        "cancel_url": {
            "type": "string",
            "minLength": 1,
            "description": "The address that stops the operation, `$handle` for its name; without it nothing stops it.",
        },
        "cancel_method": {"enum": ["DELETE", "POST"], "description": "How it is stopped; DELETE unless given."},
    },
    "examples": [
        {
            "url": "http://platform.example.org/endpoints/fraud",
            "fields": {"deployment.version": "1.3.2"},
            "start_url": "http://platform.example.org/endpoints/fraud/update",
            "body": {"version": "$deployment.version"},
            "key_header": "Idempotency-Key",
            "handle": "operation.id",
            "status_url": "http://platform.example.org/operations/$handle",
            "done_when": "reply.state == 'Succeeded'",
            "failed_when": "reply.state in ['Failed', 'RolledBack', 'Cancelled']",
            "says": "message",
            "cancel_url": "http://platform.example.org/operations/$handle",
        },
        {
            "url": "http://platform.example.org/endpoints/fraud",
            "fields": {"version": "1.3.2"},
            "method": "PUT",
            "pending": "update.id",
            "status_url": "http://platform.example.org/updates/$handle",
            "handle": "update.id",
            "done_when": "reply.finished",
        },
    ],
}


def read(params: Params, ctx: Context) -> State | None:
    if any(isinstance(value, Secret) for value in params["fields"].values()):
        raise ModuleError("a field's value cannot be a secret: it is compared and recorded", "send secrets by `headers`")
    found = _here(params, ctx)
    if found is None:
        return None
    return {name: value for name in params["fields"] if (value := _client.pick(found, name)) is not _client.NOTHING}


def desired(params: Params) -> State | None:
    return dict(params["fields"])


def start(params: Params, change: Change, ctx: Context) -> Json:
    return _asked(params["fields"], params, ctx)


def undo(params: Params, change: Change, ctx: Context) -> Json:
    if change.before is None:
        raise ModuleError("nothing was there before, and what is there now has no way to be removed", "remove it by hand")
    return _asked({**params["fields"], **change.before}, params, ctx)


def can_undo(params: Params) -> bool:
    """A body without a field cannot carry its old value."""
    return "body" not in params or set(params["fields"]) <= _client.mentioned(params["body"])


def crash_class(params: Params) -> str:
    """C: the platform honours the key; B: it says what is under way; D: neither, so that a lost answer is for a person."""
    return "C" if "key_header" in params else "B" if "pending" in params else "D"


def ended(params: Params, handle: Json, ctx: Context) -> bool | str:
    url = _about(params.get("status_url", "$handle"), handle)
    reply = expect_ok(_client.ask("GET", url, None, params, ctx), f"GET {_client.shown(url)}").json()
    said = _client.pick(reply, params["says"]) if "says" in params else ""
    words = "" if said in (_client.NOTHING, None) else str(said)
    if "failed_when" in params and ctx.test(params["failed_when"], {"reply": reply}):
        raise Over(f"the operation {handle} came to nothing" + (f": {words}" if words else ""), "its platform may say more")
    return ctx.test(params["done_when"], {"reply": reply}) or words


def abandon(params: Params, handle: Json, ctx: Context) -> None:
    if "cancel_url" not in params:
        raise ModuleError("there is no `cancel_url`", "stop it at its platform")
    method, url = params.get("cancel_method", "DELETE"), _about(params["cancel_url"], handle)
    reply = _client.ask(method, url, None, params, ctx)
    if reply.status not in _client.ABSENT:
        expect_ok(reply, f"{method} {_client.shown(url)}")


def find(params: Params, ctx: Context) -> Json:
    found = _client.pick(_here(params, ctx), params["pending"]) if "pending" in params else None
    return None if found is _client.NOTHING else found


def _here(params: Params, ctx: Context) -> Json:
    """What `url` answers; None for nothing."""
    reply = _client.ask("GET", params["url"], None, params, ctx)
    if reply.status in _client.ABSENT:
        return None
    return expect_ok(reply, f"GET {_client.shown(params['url'])}").json()


def _asked(values: dict[str, Json], params: Params, ctx: Context) -> Json:
    """Asks for these values; returns the operation's name."""
    method, url = params.get("method", "POST"), params.get("start_url", params["url"])
    body = _client.filled(params["body"], values) if "body" in params else _client.nested(values)
    key = {params["key_header"]: ctx.key} if "key_header" in params else {}
    reply = expect_ok(_client.ask(method, url, body, params, ctx, **key), f"{method} {_client.shown(url)}")
    handle = _client.pick(reply.json(), params["handle"]) if "handle" in params else _location(reply, url)
    if handle is _client.NOTHING:
        raise ModuleError(f"the answer of {_client.shown(url)} has no {params['handle']}", "correct `handle`")
    return handle


def _location(reply: Reply, url: str) -> str:
    """The Location header as an address of the same server: the headers that go there may hold secrets."""
    found = urljoin(str(url), reply.headers.get("location", ""))
    if "location" not in reply.headers or urlsplit(found)[:2] != urlsplit(str(url))[:2]:
        raise ModuleError(f"the answer of {_client.shown(url)} names no operation on the same server", "give `handle`")
    return found


def _about(template: str, handle: Json) -> str:
    return str(handle) if template == "$handle" else template.replace("$handle", quote(str(handle), safe=""))
