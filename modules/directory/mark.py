"""A version of a registry folder carries this mark.

For marks such as `bad: "poisoned data"`: `last_good` drops a version that is marked bad, and so can the pipeline that
deploys. A version's own folder is never written to again, so its marks lie beside it, in `marks/`, and count over the
manifest's tags. `undo` puts the old mark back, or takes the new one away. The whole mark is set at once: crash class B.
"""

from __future__ import annotations

from modules.contract import Change, Context, Json, Params, State
from modules.directory import _client

SCHEMA: dict[str, Json] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["path", "version", "key", "value"],
    "properties": {
        "path": {
            "type": "string",
            "format": "path",
            "minLength": 1,
            "description": "The registry's folder, with `versions/`; a relative path starts at the playbook.",
        },
        "version": {
            "type": "string",
            "format": "version",
            "pattern": _client.PATTERN,
            "x-says": "a version's own name: letters, digits and . _ + - (64 at most), and not `latest` or `current`",
            "description": "The version to mark: a folder's name in `versions/`.",
        },
        "key": {"type": "string", "minLength": 1, "maxLength": 250, "description": "The mark's name, like `bad`."},
        "value": {"type": "string", "maxLength": 5000, "description": "What it says, a text."},
    },
    "examples": [{"path": "models/fraud", "version": "1.4.0", "key": "bad", "value": "trained on poisoned data"}],
}


def read(params: Params, ctx: Context) -> State | None:
    registry = ctx.path(params["path"])
    _client.manifest(registry, params["version"])
    found = _client.marks(registry, params["version"])
    return {"value": found[params["key"]], "_marks": found} if params["key"] in found else None


def desired(params: Params) -> State:
    return {"value": params["value"]}


def apply(params: Params, change: Change, ctx: Context) -> None:
    _client.mark(ctx.path(params["path"]), params["version"], params["key"], params["value"])


def undo(params: Params, change: Change, ctx: Context) -> None:
    before = change.before["value"] if change.before else None
    _client.mark(ctx.path(params["path"]), params["version"], params["key"], before)
