"""Speaks to an MLflow server: registered models, aliases, versions, runs and the files of a version, over plain HTTP.

In: the params that name a server. Out: MLflow's own JSON, and files as pieces of bytes. It refuses to know what a rollback
is, and it never unpickles anything.

Protocol: MLflow's REST API 2.0, section "REST API" of its documentation; seen with MLflow 3.17. What is not said there: a
missing alias is answered like a bad request, so an alias is looked up among all of the model's; and a version whose files
are gone is listed like any other, so only listing and fetching tells.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlencode

from modules import _signature
from modules.contract import Context, Json, ModuleError, Params, Reply, expect_ok

#: One piece of a file; a longer file is fetched in several, so that memory stays small.
PIECE = 32 << 20
#: More files than this in one version are taken for a mistake.
_MOST_FILES = 5000
#: Where OpenSSF's tool puts a signature: into the folder that it signs.
_SIGNATURE = "model.sig"
#: What the SDK adds when it downloads, and the registry does not hold everywhere.
_NOT_OURS = "registered_model_meta"

SERVER: dict[str, Json] = {
    "server": {
        "type": "string",
        "format": "url",
        "minLength": 1,
        "description": "Address of the MLflow server, for example `http://127.0.0.1:5000`.",
    },
    "token": {"type": "string", "minLength": 1, "description": "Sent as `Authorization: Bearer …`; a secret."},
    "headers": {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "description": "HTTP headers to send; values may be secrets.",
    },
    "model": {"type": "string", "minLength": 1, "description": "Name of the registered model."},
}


class Absent(ModuleError):
    """The server answers, and does not have what was asked for."""


class Unlisted(ModuleError):
    """The files of a version are in a place whose contents the server does not list."""


@dataclass(frozen=True)
class File:
    """One file of a version: its path inside the version and its size in bytes, -1 where the store does not say."""

    path: str
    size: int


def call(ctx: Context, params: Params, method: str, path: str, fields: Mapping[str, Json], key: str = "") -> dict[str, Any]:
    """One call of the API, `fields` as query (GET) or JSON body: its answer, or what the answer has under `key`.

    Raises Absent for what is not there, else ModuleError.
    """
    query = f"?{urlencode(fields)}" if method == "GET" and fields else ""
    body = None if method == "GET" else dict(fields)
    reply = ctx.http(method, at(params, f"/api/2.0/{path}{query}"), json=body, headers=_headers(params))
    answer = _checked(reply, f"MLflow at {params['server']} says").json()
    found = answer.get(key) if key and isinstance(answer, dict) else answer
    if not isinstance(found, dict):
        raise ModuleError(f"{params['server']} does not answer like MLflow: {reply.text(80)!r}")
    return found


def at(params: Params, path: str) -> str:
    """The address of `path` on the server; a secret address stays one."""
    server = params["server"]
    return cast(str, (server.rstrip("/") if isinstance(server, str) else server) + path)


def _headers(params: Params) -> dict[str, Json]:
    bearer = {"authorization": "Bearer " + params["token"]} if "token" in params else {}
    return {**bearer, **params.get("headers", {})}


def _checked(reply: Reply, what: str) -> Reply:
    """The reply if it is a good one. Raises with MLflow's own words, Absent where its error code says so."""
    if reply.ok:
        return reply
    try:
        said = reply.json()
        code, message = said["error_code"], str(said["message"])[:300]
    except (ModuleError, KeyError, TypeError):
        return expect_ok(reply, what)
    kind = Absent if code == "RESOURCE_DOES_NOT_EXIST" else ModuleError
    raise kind(f"{what} HTTP {reply.status}: {message}")


# ------------------------------------------------------------------------------------------------ the registry
def model(ctx: Context, params: Params) -> dict[str, Any]:
    """The registered model. Raises Absent when there is none."""
    return call(ctx, params, "GET", "mlflow/registered-models/get", {"name": params["model"]}, "registered_model")


def aliases(registered: dict[str, Any]) -> dict[str, str]:
    """alias -> version, of a registered model."""
    return {entry["alias"]: str(entry["version"]) for entry in registered.get("aliases", [])}


def version(ctx: Context, params: Params, number: str) -> dict[str, Any]:
    """One version of the model. Raises Absent when there is none."""
    which = {"name": params["model"], "version": number}
    return call(ctx, params, "GET", "mlflow/model-versions/get", which, "model_version")


def versions(ctx: Context, params: Params, most: int = 1 << 30) -> list[dict[str, Any]]:
    """The newest `most` versions, newest first."""
    name = params["model"].replace("'", "''")
    asked: dict[str, Json] = {"filter": f"name='{name}'", "order_by": "version_number DESC", "max_results": min(most, 200)}
    found: list[dict[str, Any]] = []
    while len(found) < most:
        page = call(ctx, params, "GET", "mlflow/model-versions/search", asked)
        found += page.get("model_versions", [])
        if not page.get("next_page_token"):
            break
        asked["page_token"] = page["next_page_token"]
    return found[:most]


def tags(entry: dict[str, Any]) -> dict[str, str]:
    """key -> value of the tags that something has."""
    return {tag["key"]: tag.get("value", "") for tag in entry.get("tags", [])}


def metrics(data: dict[str, Any]) -> dict[str, float]:
    """key -> value of a run's (or logged model's) metrics; those that are not finite are left out."""
    found = {metric["key"]: metric.get("value") for metric in data.get("metrics", [])}
    return {key: value for key, value in found.items() if isinstance(value, int | float) and math.isfinite(value)}


def run(ctx: Context, params: Params, run_id: str) -> dict[str, Any]:
    """A run with its params, metrics, tags and inputs. Raises Absent when it is gone."""
    return call(ctx, params, "GET", "mlflow/runs/get", {"run_id": run_id}, "run")


def logged_model(ctx: Context, params: Params, found: dict[str, Any]) -> dict[str, Any] | None:
    """The logged model (MLflow 3) behind a version, None where the version has none."""
    model_id = _model_id(found)
    if model_id is None:
        return None
    return call(ctx, params, "GET", f"mlflow/logged-models/{quote(model_id, safe='')}", {}, "model")


def _model_id(found: dict[str, Any]) -> str | None:
    source = str(found.get("source", ""))
    return source.removeprefix("models:/") if source.startswith("models:/m-") else None


# ------------------------------------------------------------------------------------------------ the files of a version
def files(ctx: Context, params: Params, found: dict[str, Any]) -> list[File]:
    """Every file of a version, sorted by path. Empty when they are gone. Raises ModuleError where nothing can list them."""
    listed = list(_walk(ctx, params, *_place(ctx, params, found)))
    return sorted((file for file in listed if file.path.split("/")[0] != _NOT_OURS), key=lambda file: file.path)


def _place(ctx: Context, params: Params, found: dict[str, Any]) -> tuple[str, dict[str, str], str, str]:
    """How the files are listed: the call, its fixed fields, the field for a folder, and the version's own folder."""
    model_id, number = _model_id(found), found["version"]
    if model_id:
        return f"mlflow/logged-models/{quote(model_id, safe='')}/artifacts/directories", {}, "artifact_directory_path", ""
    asked = {"name": params["model"], "version": number}
    uri = str(call(ctx, params, "GET", "mlflow/model-versions/get-download-uri", asked)["artifact_uri"]).rstrip("/")
    if served := re.fullmatch(r"mlflow-artifacts:(?://[^/]*)?/(.*)", uri):
        return "mlflow-artifacts/artifacts", {}, "path", served[1]
    if run_id := found.get("run_id"):
        root = str(run(ctx, params, run_id)["info"]["artifact_uri"]).rstrip("/")
        if uri == root or uri.startswith(root + "/"):
            return "mlflow/artifacts/list", {"run_id": run_id}, "path", uri[len(root) + 1 :]
    where = uri.split("?")[0]
    raise Unlisted(f"nothing lists the files of {params['model']} {number}: they are outside any run, at {where}")


def _walk(ctx: Context, params: Params, path: str, fixed: dict[str, str], field: str, root: str) -> Iterator[File]:
    """The files below `root`. Names from the server are checked before anyone makes a path of them."""
    folders, count = [""], 0
    while folders:
        folder = folders.pop()
        here = "/".join(part for part in (root, folder) if part)
        listed = call(ctx, params, "GET", path, {**fixed, **({field: here} if here else {})})
        for entry in listed.get("files", []):
            name = str(entry["path"]).rsplit("/", 1)[-1]
            if name in ("", ".", "..") or not name.isprintable() or "\\" in name:
                raise ModuleError(f"the version has a file with the name {name!r:.80}, which is none")
            inside = f"{folder}/{name}" if folder else name
            count += 1
            if count > _MOST_FILES:
                raise ModuleError(f"the version has more than {_MOST_FILES} files")
            if entry.get("is_dir"):
                folders.append(inside)
            else:
                yield File(inside, int(entry.get("file_size", -1)))


def pieces(ctx: Context, params: Params, number: str, file: File) -> Iterator[bytes]:
    """The bytes of one file, in pieces of at most `PIECE`. Raises Absent when it is gone, ModuleError when it is cut."""
    query = urlencode({"name": params["model"], "version": number, "path": file.path})
    url, got = at(params, f"/model-versions/get-artifact?{query}"), 0
    while True:
        headers = {**_headers(params), "range": f"bytes={got}-{got + PIECE - 1}"} if file.size > PIECE else _headers(params)
        reply = ctx.http("GET", url, headers=headers, timeout=600.0, limit=1 << 30)
        _checked(reply, f"{params['model']} {number}: {file.path}:")
        got += len(reply.body)
        yield reply.body
        if reply.status != 206 or not reply.body or got >= file.size:
            break
    if file.size not in (-1, got):
        raise ModuleError(f"{params['model']} {number}: {file.path} has {got} bytes, and is listed with {file.size}")


def sha256(ctx: Context, params: Params, number: str, file: File) -> str:
    """The digest (hex) of one file, without keeping it."""
    total = hashlib.sha256()
    for piece in pieces(ctx, params, number, file):
        total.update(piece)
    return total.hexdigest()


def digest(digests: dict[str, str]) -> str:
    """The identity of a version's content: over its files' names and sha256s, as the embedded registry has it."""
    return "sha256:" + hashlib.sha256(json.dumps(digests, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def looked(ctx: Context, params: Params, found: dict[str, Any]) -> tuple[str, list[File] | None]:
    """Why a version cannot be served, or an empty text: it is ready, its files are listed, one can be fetched.

    And its files; None where nothing lists them.
    """
    name, listed = f"{params['model']} {found['version']}", list[File]()
    if found.get("status", "READY") != "READY":
        return f"{name} is {found['status']} {found.get('status_message', '')}".rstrip(), listed
    try:
        try:
            listed = files(ctx, params, found)
            there = True
        except Unlisted:
            listed, there = [File("MLmodel", -1)], False
        if not listed:
            return f"the files of {name} are gone", listed
        for _ in pieces(ctx, params, found["version"], min(listed, key=lambda file: (file.path != "MLmodel", file.size))):
            pass
    except Absent as error:
        return error.message, listed
    return "", listed if there else None


def signed(
    ctx: Context, params: Params, number: str, listed: list[File] | None, key: Path | None, whole: bool = True
) -> None:
    """Raises ModuleError where the version's signature, `model.sig` among its files, does not hold, or there is none and a
    `key` demands one. `listed`: as `looked` gives it; `whole`: every byte is fetched and held against what was signed."""
    name = f"{params['model']} {number}"
    if listed is None:
        if key:
            why = f"whether {name} is signed cannot be told: nothing lists its files"
            raise ModuleError(why, "serve its artifacts through MLflow, or leave out `signed_by`")
        return
    found = next((file for file in listed if file.path == _SIGNATURE), None)
    if found is None:
        if key:
            raise _signature.unsigned(f"{_SIGNATURE} of {name}")
        return
    text = b""
    for piece in pieces(ctx, params, number, found):
        text += piece
        if len(text) > _signature.LARGEST:
            raise ModuleError(f"the signature {_SIGNATURE} of {name} does not hold: it is too large to be one", "look at it")
    others = {file.path: file for file in listed if file is not found}
    digest = (lambda path: sha256(ctx, params, number, others[path])) if whole else None
    _signature.held(f"{_SIGNATURE} of {name}", text, key, list(others), digest)
