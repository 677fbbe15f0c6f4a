"""The end of a log is kept as evidence, once for this step and run.

The log is a `file`, or what a `command` prints, like `kubectl logs` or `journalctl`, which runs without a shell and must not
change anything. Its last `lines` are kept, of at most `limit`. For a log behind an address there is `http.capture`.
"""

from __future__ import annotations

import os
from pathlib import Path

from modules import _disk, _evidence
from modules.contract import Change, Context, Json, ModuleError, Params, State, size

SECTIONS = ("forensics",)
SCHEMA: dict[str, Json] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["as"],
    "oneOf": [{"required": ["file"]}, {"required": ["command"]}],
    "x-says": "a mapping with exactly one of `file` and `command`",
    "properties": {
        "file": {
            "type": "string",
            "format": "path",
            "minLength": 1,
            "description": "The log's path; a relative one starts at the playbook.",
        },
        "command": {
            "type": "array",
            "items": {"type": "string"},
            "minItems": 1,
            "description": "A command that prints the log, word by word: it runs without a shell.",
        },
        **_evidence.AS,
        "lines": {
            "type": "integer",
            "minimum": 1,
            "description": "How many lines are kept, from the end; all unless given.",
        },
        "limit": {
            "type": "string",
            "format": "size",
            "description": "How much is kept at most, from the end, like 16MiB. 64MiB unless given.",
        },
        **_evidence.ROWS,
    },
    "examples": [
        {"file": "/var/log/scorer/scorer.log", "as": "scorer.log", "lines": 10000},
        {"command": ["kubectl", "logs", "deploy/fraud-scorer", "--since=1h"], "as": "pods.log"},
    ],
}


def read(params: Params, ctx: Context) -> State | None:
    return _evidence.stored(params, ctx)


def desired(params: Params) -> State | None:
    return {"stored": True}


def apply(params: Params, change: Change, ctx: Context) -> None:
    most = size(params.get("limit", "64MiB"))
    body, source, tool, whole = _printed(params, ctx, most) if "command" in params else _end(ctx.path(params["file"]), most)
    if "lines" in params:
        lines = body.splitlines(keepends=True)
        body, whole = b"".join(lines[-params["lines"] :]), whole and len(lines) <= params["lines"]
    _evidence.keep(params, ctx, body, source, tool, whole=whole)


def _printed(params: Params, ctx: Context, most: int) -> tuple[bytes, str, str, bool]:
    words = [str(word) for word in params["command"]]
    done = ctx.command(params["command"])
    if done.code:
        raise ModuleError(f"{words[0]} ended with exit code {done.code}: {done.err.strip()[:300]}", "nothing was kept")
    body = done.out.encode()
    return body[-most:], " ".join(words), words[0], len(body) <= most


def _end(path: Path, most: int) -> tuple[bytes, str, str, bool]:
    """The last bytes of a file, from the beginning of a line on. Raises ModuleError."""
    with _disk.told(f"the log {path} cannot be read"), path.open("rb") as log:
        length = log.seek(0, os.SEEK_END)
        log.seek(max(0, length - most))
        body = log.read(most)
    if length > most:
        body = body.partition(b"\n")[2]
    return body, str(path), "file", length <= most
