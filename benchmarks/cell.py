"""A cell holds a value.

The cheapest state there is, a small file that is not synced: what a run costs beyond it is the engine's own cost.
"""

from pathlib import Path

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["path", "value"],
    "properties": {
        "path": {"type": "string", "format": "path", "description": "The cell's file."},
        "value": {"type": "string", "description": "What it holds."},
    },
}
MOVES = ("version", "checkpoint", "configuration", "data")


def read(params, ctx):
    path = Path(ctx.path(params["path"]))
    return {"value": path.read_text()} if path.exists() else None


def desired(params):
    return {"value": params["value"]}


def apply(params, change, ctx):
    Path(ctx.path(params["path"])).write_text(params["value"])


def undo(params, change, ctx):
    path = Path(ctx.path(params["path"]))
    if change.before is None:
        path.unlink()
    else:
        path.write_text(change.before["value"])
