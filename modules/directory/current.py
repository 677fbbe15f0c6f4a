"""The link `current` of a registry folder points to this version.

Before the link moves, every file of the version is read and compared with the digest in its manifest. The move is one
rename: whoever follows the link finds the old version or the new one, never neither. A signature that lies beside a version
(OpenSSF, `versions/VERSION.sig`) is held against its files; whose it is, is only known with `signed_by`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from modules import _signature
from modules.contract import Change, Context, Json, ModuleError, Params, State
from modules.directory import _client

MOVES = ("version", "checkpoint")
SCHEMA: dict[str, Json] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["path", "version"],
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
            "description": "The version that is to serve: a folder's name in `versions/`, never a moving one like `latest`.",
        },
        "signed_by": {
            "type": "string",
            "format": "path",
            "minLength": 1,
            "description": "A public key (PEM): only versions that it signed (OpenSSF, in versions/VERSION.sig) may serve.",
        },
    },
    "examples": [{"path": "models/fraud", "version": "1.3.2"}],
}


def read(params: Params, ctx: Context) -> State | None:
    registry = ctx.path(params["path"])
    _client.names(registry)
    version = _client.serving(registry)
    if version is None:
        return None
    facts: State = {"version": version, "_path": str(registry / "versions" / version)}
    try:
        found = _client.manifest(registry, version)
    except ModuleError as error:
        # What serves may be broken: that is a reason to go back, not a reason to stop.
        return {**facts, "_digest": None, "_fault": error.message}
    wanted = ("created", "by", "tags", "metrics", "lineage")
    return {**facts, "_digest": _client.digest(found), **{f"_{key}": found[key] for key in wanted}}


def desired(params: Params) -> State | None:
    return {"version": params["version"]}


def apply(params: Params, change: Change, ctx: Context) -> None:
    registry = ctx.path(params["path"])
    found = _client.manifest(registry, params["version"])
    _, why = _client.fault(registry, found, ctx.left)
    if why:
        raise ModuleError(why, "`current` was not moved; publish the version again under a new name, or choose another")
    _signed(params, registry, params["version"], ctx)
    _client.point(registry, params["version"])


def _signed(params: Params, registry: Path, version: str, ctx: Context) -> None:
    """Raises ModuleError for a signature that does not hold, and for none where one is demanded."""
    folder = registry / "versions" / version
    signature, key = folder.with_name(f"{version}.sig"), ctx.path(params["signed_by"]) if "signed_by" in params else None
    if key or signature.is_file():
        _signature.check(folder, signature, key, ctx.left)


def undo(params: Params, change: Change, ctx: Context) -> None:
    registry = ctx.path(params["path"])
    before = change.before["version"] if change.before else None
    # It served before, so its files are not judged again: being there is enough.
    if before is not None and not (registry / "versions" / _client.checked(before)).is_dir():
        raise ModuleError(f"{before} served before and is no longer in {registry}", "`current` was not moved")
    _client.point(registry, before)


def history(params: Params, ctx: Context) -> list[dict[str, Json]]:
    """Every version, newest first, each with all its files read and compared. A damaged manifest has no time of its own:
    its folder's time stands in."""
    registry = ctx.path(params["path"])
    now = _client.serving(registry)
    found = [_candidate(params, registry, name, ctx) | {"serving": name == now} for name in _client.names(registry)]
    return sorted(
        found, key=lambda candidate: (datetime.fromisoformat(candidate["created"]), candidate["version"]), reverse=True
    )


def _candidate(params: Params, registry: Path, name: str, ctx: Context) -> dict[str, Json]:
    try:
        about = _client.manifest(registry, name)
        artifact, why = _client.fault(registry, about, ctx.left)
    except ModuleError as error:
        if error.outcome == "timed_out":
            raise
        when = datetime.fromtimestamp((registry / "versions" / name).stat().st_mtime, UTC).isoformat()
        empty: dict[str, Json] = {"created": when, "by": "", "tags": {}, "metrics": {}, "lineage": {}, "digest": None}
        return {"version": name, **empty, "artifact": "missing", "why": error.message}
    if not artifact:
        try:
            _signed(params, registry, name, ctx)
        except ModuleError as error:
            if error.outcome == "timed_out":
                raise
            artifact, why = "differs", error.message
    kept = {key: about[key] for key in ("version", "created", "by", "metrics", "lineage")}
    tags = {**about["tags"], **_client.marks(registry, name)}
    return {**kept, "tags": tags, "digest": _client.digest(about), "artifact": artifact or "present", "why": why}
