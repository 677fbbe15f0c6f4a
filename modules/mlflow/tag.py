"""A tag of a model version in MLflow has this value.

For marks such as `quarantine: "true"`. `undo` gives the tag its old value, or deletes it where there was none. MLflow's
tags are texts, and the call sets the whole value: crash class B.
"""

from __future__ import annotations

from modules.contract import Change, Context, Json, Params, State
from modules.mlflow import _client

SCHEMA: dict[str, Json] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["server", "model", "version", "key", "value"],
    "properties": {
        **_client.SERVER,
        "version": {
            "type": "string",
            "format": "version",
            "pattern": "^[0-9]+$",
            "x-says": "a version's number as MLflow counts them, as a text",
            "description": "The number of the version to mark, in quotes.",
        },
        "key": {"type": "string", "minLength": 1, "maxLength": 250, "description": "The tag's name."},
        "value": {"type": "string", "maxLength": 5000, "description": "The tag's value, a text."},
    },
    "examples": [
        {"server": "http://127.0.0.1:5000", "model": "fraud", "version": "8", "key": "validation", "value": "failed"}
    ],
}


def read(params: Params, ctx: Context) -> State | None:
    found = _client.tags(_client.version(ctx, params, params["version"]))
    return {"value": found[params["key"]], "_tags": found} if params["key"] in found else None


def desired(params: Params) -> State:
    return {"value": params["value"]}


def apply(params: Params, change: Change, ctx: Context) -> None:
    _set(params, ctx, params["value"])


def undo(params: Params, change: Change, ctx: Context) -> None:
    if change.before is not None:
        _set(params, ctx, change.before["value"])
    else:
        where = {"name": params["model"], "version": params["version"], "key": params["key"]}
        _client.call(ctx, params, "DELETE", "mlflow/model-versions/delete-tag", where)


def _set(params: Params, ctx: Context, value: str) -> None:
    where = {"name": params["model"], "version": params["version"], "key": params["key"], "value": value}
    _client.call(ctx, params, "POST", "mlflow/model-versions/set-tag", where)
