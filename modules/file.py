"""A file has this content and this mode, or is absent.

The new content is written aside, made durable and renamed. What was there before is kept in the run's evidence under its
sha256, so that `undo` can put it back; it is never compared by anything but its digest.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from modules import _disk
from modules.contract import Change, Context, Json, ModuleError, Params, Secret, State

MOVES = ("configuration",)
_LIMIT = 64 << 20
SCHEMA: dict[str, Json] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["path"],
    "x-says": "a mapping with exactly one of `content`, `from` and `absent`",
    "oneOf": [{"required": ["content"]}, {"required": ["from"]}, {"required": ["absent"]}],
    "properties": {
        "path": {
            "type": "string",
            "format": "path",
            "minLength": 1,
            "description": "The file, no link, in a folder that is there; a relative path starts at the playbook.",
        },
        "content": {
            "type": "string",
            "maxLength": 1 << 20,
            "description": "The whole content, written as UTF-8. Never a secret: what a file held is kept as evidence.",
        },
        "from": {
            "type": "string",
            "format": "path",
            "minLength": 1,
            "description": "Another file whose content is copied, 64 MiB at most (Ansible's `src`).",
        },
        "mode": {
            "type": "string",
            "pattern": "^0[0-7]{3}$",
            "x-says": "a quoted text of four octal digits such as '0644'",
            "description": "The permissions as a quoted text, like '0644'; without it they stay, and a new file gets 0644.",
        },
        "absent": {"const": True, "description": "The file is to be gone (Ansible's `state: absent`)."},
    },
    "dependentSchemas": {
        "absent": {"not": {"required": ["mode"]}, "x-says": "a mapping in which `absent` stands without `mode`"}
    },
    "examples": [
        {"path": "/etc/scoring/threshold.json", "content": '{"threshold": 0.5}\n', "mode": "0644"},
        {"path": "serving/config.yml", "from": "known-good/config.yml"},
        {"path": "serving/override.yml", "absent": True},
    ],
}


def read(params: Params, ctx: Context) -> State | None:
    path = ctx.path(params["path"])
    content = _content(path)
    if content is None:
        return None
    digest = _digest(content)
    same = "from" in params and content == _content(ctx.path(params["from"]))
    return {
        "content": _copy_of(params) if same else digest,
        "mode": _mode(path),
        "_sha256": digest[7:],
        "_size": len(content),
    }


def desired(params: Params) -> State | None:
    if params.get("absent"):
        return None
    # `desired` sees no files, so a copy is described by its source; `read` says the same words when the bytes are equal.
    content = _copy_of(params) if "from" in params else _digest(_inline(params))
    return {"content": content, **({"mode": params["mode"]} if "mode" in params else {})}


def apply(params: Params, change: Change, ctx: Context) -> None:
    path = ctx.path(params["path"])
    now, wanted = _content(path), _wanted(params, ctx)
    if now is not None and now != wanted:
        _keep(now, change, ctx)
    if wanted is None:
        _remove(path)
    else:
        _disk.write(path, wanted, int(params.get("mode") or _mode(path), 8))


def undo(params: Params, change: Change, ctx: Context) -> None:
    path = ctx.path(params["path"])
    if change.before is None:
        _remove(path)
        return
    kept, now = change.before.get("content"), _content(path)
    content = now if kept is None or (now is not None and kept == _digest(now)) else _kept(kept, ctx)
    if content is None:
        raise ModuleError(f"{path} is gone", "put it there by hand; only its mode was to be put back")
    _disk.write(path, content, int(change.before.get("mode") or _mode(path), 8))


def _content(path: Path) -> bytes | None:
    """The file's bytes, or None when it is not there. Raises ModuleError when it is no plain file or too large."""
    with _disk.told(f"{path} cannot be read"):
        if path.is_symlink():
            raise ModuleError(f"{path} is a link", "name the file that it points to")
        if not path.exists():
            return None
        if not path.is_file():
            raise ModuleError(f"{path} is not a file")
        if path.stat().st_size > _LIMIT:
            raise ModuleError(
                f"{path} is larger than 64 MiB", "keep large files as versions of a registry: directory.current"
            )
        return path.read_bytes()


def _mode(path: Path) -> str:
    """The file's permissions as four octal digits; those of a new file when it is not there."""
    return f"{path.stat().st_mode & 0o7777:04o}" if path.exists() else "0644"


def _wanted(params: Params, ctx: Context) -> bytes | None:
    """The bytes that the file should hold; None when it should be gone."""
    if "from" not in params:
        return _inline(params) if "content" in params else None
    content = _content(ctx.path(params["from"]))
    if content is None:
        raise ModuleError(f"{ctx.path(params['from'])} is not there", "check `from`; nothing was written")
    return content


def _inline(params: Params) -> bytes:
    if isinstance(params["content"], Secret):
        raise ModuleError(
            "a file's content cannot be a secret", "evidence keeps what a file held; hand the secret to the service itself"
        )
    return str(params["content"]).encode()


def _copy_of(params: Params) -> str:
    return f"copy of {params['from']}"


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _keep(now: bytes, change: Change, ctx: Context) -> None:
    """Keeps the old content as evidence. Raises ModuleError when it is not the content that was read."""
    if (change.before or {}).get("content") != _digest(now):
        raise ModuleError("the file has changed since it was read", "nothing was written; run again")
    _disk.write(_place(_digest(now), ctx), now)


def _kept(digest: str, ctx: Context) -> bytes:
    content = _content(_place(digest, ctx))
    if content is None or _digest(content) != digest:
        raise ModuleError(f"the kept copy of {digest[:23]} is missing or altered", "the evidence folder of this run held it")
    return content


def _place(digest: str, ctx: Context) -> Path:
    return ctx.evidence / f"file-{digest.removeprefix('sha256:')}"


def _remove(path: Path) -> None:
    with _disk.told(f"{path} cannot be removed"):
        path.unlink(missing_ok=True)
        _disk.sync(path.parent)
