"""A thing of the rehearsals is as expected. It only observes."""

import json

from modules.contract import ModuleError

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "description": "Which thing."},
        "is": {"type": "object", "description": "Field -> the value expected; without it every look holds."},
        "shared": {"const": True, "description": "One thing for all hosts."},
    },
}


def read(params, ctx):
    folder = ctx.base / "world" / ("shared" if params.get("shared") else ctx.host or "run")
    if (folder / f"{params['name']}.broken").exists():
        raise ModuleError(f"{params['name']} cannot be measured")
    path = folder / params["name"]
    found = (json.loads(path.read_text().splitlines()[-1])["is"] if path.exists() else None) or {}
    wanted = params.get("is", {})
    met = all(found.get(key) == value for key, value in wanted.items())
    return {"met": met, "_value": found, "_why": "as expected" if met else f"it is {json.dumps(found, sort_keys=True)}"}


def desired(params):
    return {"met": True}
