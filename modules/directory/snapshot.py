"""What a registry folder holds of a version is kept as evidence of this run.

One JSON file: the version's manifest with its lineage, its marks, which version `current` points to, and for every file its
size and a sha256 of our own beside the one that the manifest says. With `files: keep` the files are copied beside it, each
in one pass, in memory that does not grow with them; a copy that was cut off is made again, one that is there is read again.
The JSON file is written last, so that where it is, everything is. Nothing is ever loaded or unpickled. Evidence is not
unmade: there is no undo. Crash class B.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path

from modules import _disk
from modules.contract import Change, Context, Json, ModuleError, Params, State
from modules.directory import _client

SECTIONS = ("forensics",)
SCHEMA: dict[str, Json] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["path"],
    "properties": {
        "path": {
            "type": "string",
            "format": "path",
            "minLength": 1,
            "description": "The registry's folder, with `versions/` and `current`; a relative path starts at the playbook.",
        },
        "version": {
            "type": "string",
            "format": "version",
            "pattern": _client.PATTERN,
            "x-says": "a version's own name: letters, digits and . _ + - (64 at most), and not `latest` or `current`",
            "description": "The version to keep; the one that serves unless given.",
        },
        "files": {
            "enum": ["digests", "keep"],
            "default": "digests",
            "description": "`keep` also copies the version's files; `digests` keeps only what identifies them.",
        },
    },
    "examples": [{"path": "models/fraud"}, {"path": "models/fraud", "version": "1.4.0", "files": "keep"}],
}


def read(params: Params, ctx: Context) -> State | None:
    path = _place(ctx)
    try:
        raw = path.read_bytes()
        kept = json.loads(raw)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModuleError(f"the evidence {path} is damaged: {error}") from None
    facts: State = {"_path": str(path), "_sha256": hashlib.sha256(raw).hexdigest(), "_size": len(raw)}
    facts |= {"_source": kept["registry"], "_tool": "directory.snapshot", "_files": len(kept["files"])}
    return {"stored": True, **facts, **{f"_{key}": kept[key] for key in ("version", "digest", "taken", "faults")}}


def desired(params: Params) -> State:
    return {"stored": True}


def apply(params: Params, change: Change, ctx: Context) -> None:
    registry = ctx.path(params["path"])
    serving = _client.serving(registry)
    version = params.get("version") or serving
    if version is None:
        raise ModuleError(f"no version serves in {registry}: there is no `current`", "name the version that is to be kept")
    about: dict[str, Json] = {
        "registry": str(registry), "version": version, "serving": serving, "marks": _client.marks(registry, version),
        "taken": datetime.fromtimestamp(ctx.now(), UTC).isoformat(), "faults": [], "manifest": None, "digest": None,
    }  # fmt: skip
    try:
        about["manifest"] = _client.manifest(registry, version)
        about["digest"] = _client.digest(about["manifest"])
    except ModuleError as error:
        about["faults"].append(error.message)  # what is broken is evidence, too
    about["files"] = [_kept(params, ctx, registry / "versions" / version, path) for path in _files(registry, version)]
    said = (about["manifest"] or {}).get("files", {})
    seen = {file["path"]: file["sha256"] for file in about["files"]}
    about["faults"] += [f"{name} is missing" for name in said if name not in seen]
    about["faults"] += [
        f"{name} differs from its manifest" for name in said if seen.get(name, said[name]["sha256"]) != said[name]["sha256"]
    ]
    _disk.write(_place(ctx), json.dumps(about, indent=1, sort_keys=True).encode() + b"\n")


def _place(ctx: Context) -> Path:
    """The evidence file of this step; another step of the run has another."""
    return ctx.evidence / f"{re.sub(r'[^A-Za-z0-9_.-]', '-', ctx.step)}.registry.json"


def _files(registry: Path, version: str) -> list[Path]:
    """The version's files; links are named by nobody and followed by nobody."""
    found = sorted((registry / "versions" / version).rglob("*"))
    return [path for path in found if path.is_file() and not path.is_symlink()]


def _kept(params: Params, ctx: Context, folder: Path, path: Path) -> dict[str, Json]:
    name = path.relative_to(folder).as_posix()
    target = _place(ctx).with_suffix("") / name
    if params.get("files") != "keep":
        with _disk.told(f"{path} cannot be read"):
            return {"path": name, "size": path.stat().st_size, "sha256": _disk.sha256(path, ctx.left)}
    if target.is_file() and target.stat().st_size == path.stat().st_size:
        digest = _disk.sha256(path, ctx.left)
        if digest == _disk.sha256(target, ctx.left):  # an attempt that was cut off has come so far
            return {"path": name, "size": target.stat().st_size, "sha256": digest}
    with _disk.told(f"{target.parent} cannot be made"):
        target.parent.mkdir(parents=True, exist_ok=True)
    size, digest = _disk.copy(path, target, ctx.left)
    return {"path": name, "size": size, "sha256": digest}
