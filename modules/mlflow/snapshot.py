"""What MLflow holds of a model version is kept as evidence of this run.

One JSON file: the registry's entry, all versions, the version's run with params, metrics, tags and inputs, its logged
model, the text of MLmodel, and a sha256 of our own for every file of the version; MLflow itself keeps no digests. With
`files: keep` the files are kept beside it. The JSON file is written last and whole, so that where it is, everything is;
what MLflow no longer has is named in it. Nothing is ever loaded or unpickled. Evidence is not unmade: there is no undo.
Crash class B.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modules import _disk, _evidence
from modules.contract import Change, Context, Json, ModuleError, Params, State
from modules.mlflow import _client

SECTIONS = ("forensics",)
SCHEMA: dict[str, Json] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["server", "model"],
    "oneOf": [{"required": ["alias"]}, {"required": ["version"]}],
    "x-says": "a mapping with exactly one of `alias` and `version`",
    "properties": {
        **_client.SERVER,
        "alias": {"type": "string", "minLength": 1, "description": "The version that this alias points to is kept."},
        "version": {
            "type": "string",
            "format": "version",
            "pattern": "^[0-9]+$",
            "x-says": "a version's number as MLflow counts them, as a text",
            "description": "The number of the version to keep, in quotes.",
        },
        "files": {
            "enum": ["digests", "keep"],
            "default": "digests",
            "description": "`keep` also stores the version's files; `digests` only what identifies them.",
        },
    },
    "examples": [
        {"server": "http://127.0.0.1:5000", "model": "fraud", "alias": "champion"},
        {"server": "http://127.0.0.1:5000", "model": "fraud", "version": "8", "files": "keep"},
    ],
}


def read(params: Params, ctx: Context) -> State | None:
    path = _path(ctx)
    try:
        raw = path.read_bytes()
        kept = json.loads(raw)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModuleError(f"the evidence {path} is damaged: {error}") from None
    facts: State = {"_path": str(path), "_sha256": hashlib.sha256(raw).hexdigest(), "_files": len(kept["files"])}
    facts |= {"_clock_offset": kept["clock_offset"]} if "clock_offset" in kept else {}  # those of earlier versions have none
    return {"stored": True, **facts, **{f"_{key}": kept[key] for key in ("version", "digest", "taken", "missing")}}


def desired(params: Params) -> State:
    return {"stored": True}


def apply(params: Params, change: Change, ctx: Context) -> None:
    ctx, clock = _evidence.timed(ctx)
    registered = _client.model(ctx, params)
    number = params.get("version") or _client.aliases(registered).get(params["alias"])
    if number is None:
        raise ModuleError(f"{params['model']} has no alias {params['alias']}", "name the version instead")
    found = _client.version(ctx, params, number)
    about: dict[str, Any] = {"model": params["model"], "version": number, "missing": [], "run": None, "logged_model": None}
    about |= {"taken": datetime.fromtimestamp(ctx.now(), UTC).isoformat(), "registered_model": registered}
    about |= {"model_version": found, "versions": _client.versions(ctx, params)}
    try:
        about["logged_model"] = _client.logged_model(ctx, params, found)
        about["run"] = _client.run(ctx, params, found["run_id"]) if found.get("run_id") else None
    except _client.Absent as error:
        about["missing"].append(error.message)
    about["files"], about["MLmodel"] = _files(params, ctx, found)
    about["digest"] = _client.digest({file["path"]: file["sha256"] for file in about["files"]}) if about["files"] else None
    if not about["files"]:
        about["missing"].append(f"the files of {params['model']} {number}")
    about["clock_offset"] = clock.offset
    _path(ctx).parent.mkdir(parents=True, exist_ok=True)
    _disk.write(_path(ctx), json.dumps(about, indent=1, sort_keys=True).encode() + b"\n")


def _path(ctx: Context) -> Path:
    """The evidence file of this step; another step of the run has another."""
    return ctx.evidence / f"{re.sub(r'[^A-Za-z0-9_.-]', '-', ctx.step)}.mlflow.json"


def _files(params: Params, ctx: Context, found: dict[str, Any]) -> tuple[list[dict[str, Json]], str | None]:
    """Path, size and sha256 of every file, and the text of `MLmodel`."""
    listed, text = [], None
    for file in _client.files(ctx, params, found):
        total, size, beginning = hashlib.sha256(), 0, b""
        for piece in _kept(params, ctx, found["version"], file):
            total.update(piece)
            size += len(piece)
            beginning = beginning or piece
        listed.append({"path": file.path, "size": size, "sha256": total.hexdigest()})
        if file.path == "MLmodel":
            text = beginning.decode("utf-8", "replace")
    return listed, text


def _kept(params: Params, ctx: Context, number: str, file: _client.File) -> Iterator[bytes]:
    """The pieces of a file, stored as they pass where the params say so."""
    pieces = _client.pieces(ctx, params, number, file)
    if params.get("files") != "keep":
        yield from pieces
        return
    path = _path(ctx).with_suffix("") / file.path
    with _disk.told(f"{path} cannot be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as out:
            for piece in pieces:
                out.write(piece)
                yield piece
