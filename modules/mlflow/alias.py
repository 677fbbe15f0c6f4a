"""An alias of a registered model in MLflow points to this version.

It moves the registry's pointer only: a server that has already loaded a model goes on serving it, so let a step follow that
loads or restarts, and one that asks the server. Before the alias moves, the version must be there, its files listed, and
one of them fetched, because MLflow itself lets an alias point to a version whose files are gone. MLflow keeps no digests
either: give a version the tag `digest` when it is found good (`mlflow.snapshot` tells it), and `digests: true` finds out
whether its files are still those. Where a version has an OpenSSF signature (`model.sig` among its files, where the tool
leaves it), every byte is fetched and held against it before the alias moves; `signed_by` demands one, by that key. `undo`
sets the alias to what it was, or deletes it where there was none.

MLflow keeps no record of alias moves and has no guard against a second writer, so a gap between reading and writing stays:
crash class B.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modules.contract import Change, Context, Json, ModuleError, Params, State
from modules.mlflow import _client

MOVES = ("version", "checkpoint")
SCHEMA: dict[str, Json] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["server", "model", "alias", "version"],
    "properties": {
        **_client.SERVER,
        "alias": {
            "type": "string",
            "pattern": "^(?![Ll][Aa][Tt][Ee][Ss][Tt]$|[vV][0-9]+$).",
            "x-says": "an alias; MLflow keeps `latest` and v1, v2, … for itself",
            "description": "The alias, for example `champion`; case matters.",
        },
        "version": {
            "type": "string",
            "format": "version",
            "pattern": "^[0-9]+$",
            "x-says": "a version's number as MLflow counts them, as a text",
            "description": "The number of the version that it should point to, in quotes.",
        },
        "newest": {
            "type": "integer",
            "minimum": 1,
            "maximum": 10000,
            "default": 50,
            "description": "How many versions, from the newest, `last_good` gets to see.",
        },
        "signed_by": {
            "type": "string",
            "format": "path",
            "minLength": 1,
            "description": "A public key (PEM): only versions that it signed (OpenSSF, `model.sig` among their "
            "files) may serve.",
        },
        "digests": {
            "type": "boolean",
            "default": False,
            "description": "Whether `last_good` gets a digest of each version's files, for which every byte is fetched; a "
            "version whose tag `digest` names another is dropped.",
        },
    },
    "examples": [{"server": "http://127.0.0.1:5000", "model": "fraud", "alias": "champion", "version": "7"}],
}


def read(params: Params, ctx: Context) -> State | None:
    found = _client.aliases(_client.model(ctx, params))
    if params["alias"] not in found:
        return None
    return {"version": found[params["alias"]], "_aliases": found}


def desired(params: Params) -> State:
    return {"version": params["version"]}


def apply(params: Params, change: Change, ctx: Context) -> None:
    try:
        why, listed = _client.looked(ctx, params, _client.version(ctx, params, params["version"]))
    except _client.Absent:
        why, listed = f"{params['model']} has no version {params['version']}", None
    if why:
        raise ModuleError(why, f"the alias {params['alias']} was not moved; choose another version")
    _client.signed(ctx, params, params["version"], listed, _key(params, ctx))
    _set(params, ctx, params["version"])


def _key(params: Params, ctx: Context) -> Path | None:
    return ctx.path(params["signed_by"]) if "signed_by" in params else None


def undo(params: Params, change: Change, ctx: Context) -> None:
    if change.before is not None:
        _set(params, ctx, change.before["version"])
    else:
        where = {"name": params["model"], "alias": params["alias"]}
        _client.call(ctx, params, "DELETE", "mlflow/registered-models/alias", where)


def _set(params: Params, ctx: Context, version: str) -> None:
    where = {"name": params["model"], "alias": params["alias"], "version": str(version)}
    _client.call(ctx, params, "POST", "mlflow/registered-models/alias", where)


def history(params: Params, ctx: Context) -> list[dict[str, Json]]:
    """The newest versions, newest first; `serving` is the one that the alias points to, which is what the registry knows."""
    serving = _client.aliases(_client.model(ctx, params)).get(params["alias"])
    found = _client.versions(ctx, params, params.get("newest", 50))
    candidates = [_candidate(params, ctx, version) | {"serving": version["version"] == serving} for version in found]
    return sorted(candidates, key=lambda candidate: (candidate["created"], int(candidate["version"])), reverse=True)


def _candidate(params: Params, ctx: Context, found: dict[str, Any]) -> dict[str, Json]:
    ctx.left()
    number, lineage = found["version"], {"run_id": found.get("run_id", ""), "source": found.get("source", "")}
    try:
        origin = (
            _client.run(ctx, params, found["run_id"]) if found.get("run_id") else _client.logged_model(ctx, params, found)
        )
    except _client.Absent as error:
        origin, lineage["gone"] = None, error.message
    data = (origin or {}).get("data", {})
    if commit := _client.tags(data).get("mlflow.source.git.commit"):
        lineage["commit"] = commit
    tags, artifact = _client.tags(found), "present"
    (why, listed), digest = _client.looked(ctx, params, found), None
    if not why and (key := _key(params, ctx)):
        try:  # not each byte of each version: that is done with the one that is chosen, before the alias moves
            _client.signed(ctx, params, number, listed, key, whole=False)
        except ModuleError as error:
            if error.outcome == "timed_out":
                raise
            artifact, why = "differs", error.message
    if why:
        artifact = artifact if artifact == "differs" else "missing"
    elif params.get("digests"):
        digest = _client.digest({f.path: _client.sha256(ctx, params, number, f) for f in _client.files(ctx, params, found)})
        if tags.get("digest", digest) != digest:
            artifact, why = "differs", f"its files have the digest {digest:.19}…, and its tag says {tags['digest']:.19}…"
    return {
        "version": number,
        "created": datetime.fromtimestamp(int(found["creation_timestamp"]) / 1000, UTC).isoformat(),
        "by": found.get("user_id", ""),
        "tags": tags,
        "metrics": _client.metrics(data),
        "lineage": lineage,
        "digest": digest,
        "artifact": artifact,
        "why": why,
    }
