"""What an address answers is kept as evidence, once for this step and run.

Beside the body lies `<name>.about.json`: where it came from, when, its size and its sha256. A copy that was altered since is
set aside under a name of its own and captured again, and the second copy says so.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from modules import _disk
from modules.contract import Change, Context, Json, ModuleError, Params, State, expect_ok, size

SECTIONS = ("forensics",)
SCHEMA: dict[str, Json] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["url", "as"],
    "properties": {
        "url": {"type": "string", "format": "url", "minLength": 1, "description": "The address that is asked by GET."},
        "as": {
            "type": "string",
            "pattern": r"^(?!.*\.about\.json$)[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
            "x-says": "a file's name of letters, digits and . _ - (64 at most)",
            "description": "The file's name among the evidence: letters, digits and . _ - (64 at most).",
        },
        "headers": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "Headers of the request; a value may be a secret.",
        },
        "limit": {
            "type": "string",
            "format": "size",
            "description": "The largest answer that is kept, like 16MiB; a larger one fails. 64MiB unless given.",
        },
    },
    "examples": [{"url": "http://scoring-1.example.org:8080/audit?wrong=true&limit=500", "as": "wrong-requests.jsonl"}],
}


def read(params: Params, ctx: Context) -> State | None:
    path = _place(params, ctx)
    about = _about(path)
    if about is None:
        return {"stored": False, "_path": str(path)}
    if about["key"] != ctx.key:
        raise ModuleError(f"the evidence already holds {path.name}, kept by {about['step']}", "choose another name for `as`")
    if not path.is_file() or _disk.sha256(path) != about["sha256"]:
        why = f"{path.name} is not what was captured at {about['captured']}: its digest differs"
        return {"stored": False, "_path": str(path), "_why": why}
    facts = ("sha256", "size", "status", "captured", "rows", "note")
    return {"stored": True, "_path": str(path), **{f"_{name}": about[name] for name in facts if name in about}}


def desired(params: Params) -> State | None:
    return {"stored": True}


def apply(params: Params, change: Change, ctx: Context) -> None:
    path = _place(params, ctx)
    reply = ctx.http("GET", params["url"], headers=params.get("headers"), limit=size(params.get("limit", "64MiB")))
    expect_ok(reply, f"GET {str(params['url']).split('?')[0]}", "nothing was kept")
    about: dict[str, Json] = {
        "url": str(params["url"]),
        "step": ctx.step,
        "key": ctx.key,
        "captured": datetime.fromtimestamp(ctx.now(), UTC).isoformat(timespec="milliseconds"),
        "status": reply.status,
        "size": len(reply.body),
        "sha256": sha256(reply.body).hexdigest(),
    }
    if path.suffix == ".jsonl":
        about["rows"] = sum(bool(line.strip()) for line in reply.body.split(b"\n"))
    if note := _set_aside(path):
        about["note"] = note
    # The body first: what lies there without its `.about.json` counts as never captured.
    _disk.write(path, reply.body)
    _disk.write(_beside(path), json.dumps(about, indent=1, sort_keys=True).encode())


def _place(params: Params, ctx: Context) -> Path:
    return ctx.evidence / str(params["as"])


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".about.json")


def _about(path: Path) -> dict[str, Json] | None:
    """What lies beside the body; None when nothing does."""
    try:
        about: dict[str, Json] = json.loads(_beside(path).read_bytes())
        if {"key", "step", "captured", "sha256"} <= about.keys():
            return about
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError):
        pass  # it is there and it is not ours: said below
    raise ModuleError(f"{_beside(path).name} is damaged", "the evidence was altered; look at it")


def _set_aside(path: Path) -> str:
    """Renames a copy that is not what its `.about.json` says, and says so; an empty text when all is well."""
    about = _about(path)
    if about is None or (path.is_file() and (found := _disk.sha256(path)) == about["sha256"]):
        return ""
    if path.is_file():
        with _disk.told(f"{path.name} cannot be set aside"):
            path.rename(path.with_name(f"{path.name}.altered-{found[:12]}"))
    aside = sorted(other.name for other in path.parent.glob(f"{path.name}.altered-*"))
    found_as = f"; what was found lies aside as {', '.join(aside)}" if aside else ""
    return f"the copy of {about['captured']} (sha256 {about['sha256']}) was altered or removed{found_as}"
