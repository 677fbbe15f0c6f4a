"""What the files of a model are is kept as evidence, without any of them being loaded.

One JSON file with, for every file below `path`, its size and sha256; for safetensors the header, read strictly; for a pickle
what it would import, read as a list of operations and never run. That list is advice: `names nothing odd` does not mean that
a file is safe, and `not looked over to its end` never means that it is clean. Crash class B.
"""

from __future__ import annotations

import json
from pathlib import Path

from modules import _disk, _evidence, _weights
from modules.contract import Change, Context, Json, ModuleError, Params, State

SECTIONS = ("forensics",)
SCHEMA: dict[str, Json] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["path", "as"],
    "properties": {
        "path": {
            "type": "string",
            "format": "path",
            "minLength": 1,
            "description": "A model's file or folder; a relative path starts at the playbook.",
        },
        **_evidence.AS,
    },
    "examples": [{"path": "models/fraud/current", "as": "files.json"}],
}


def read(params: Params, ctx: Context) -> State | None:
    return _evidence.stored(params, ctx)


def desired(params: Params) -> State | None:
    return {"stored": True}


def apply(params: Params, change: Change, ctx: Context) -> None:
    top = ctx.path(params["path"])
    if not top.exists():
        raise ModuleError(f"{top} is not there", "name the model's file or folder")
    rows = [_row(path, top, ctx) for path in _files(top)]
    odd = sum("fault" in row or row.get("verdict", "names nothing odd") != "names nothing odd" for row in rows)
    body = json.dumps({"path": str(top), "files": rows}, indent=1, sort_keys=True).encode() + b"\n"
    _evidence.keep(params, ctx, body, str(top), "model.look", files=len(rows), to_look_at=odd)


def _files(top: Path) -> list[Path]:
    if top.is_file():
        return [top]
    return [path for path in sorted(top.rglob("*")) if path.is_symlink() or not path.is_dir()]


def _row(path: Path, top: Path, ctx: Context) -> dict[str, Json]:
    name = path.name if path == top else path.relative_to(top).as_posix()
    if path.is_symlink() or not path.is_file():
        return {"name": name, "format": "no plain file"}
    with _disk.told(f"{path} cannot be read"):
        return {"name": name, "size": path.stat().st_size, "sha256": _disk.sha256(path, ctx.left), **_weights.look(path)}
