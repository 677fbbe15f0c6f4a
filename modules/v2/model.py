"""A scoring server answers with the wanted version of a model.

The version is the one that an *inference reply* names (`model_version`), asked for without a version in the address: that
is what callers get. The repository's index is never asked, because it reads the settings file and not the process. A
version is still only what the server declares: hash the artifact, and let a `golden.predictions` step look at the answers.

`apply` asks the server to load (`POST /v2/repository/models/MODEL/load`) and then asks it for predictions until the wanted
version answers or `within` is over; a server that says yes and goes on with the old version leaves a difference. With
`settings` and `uri` (MLServer) the model's settings file is rewritten first, and counts as part of what is: it is what a
restart would load. A load that is refused, or said to be done and is not, gets the old file back; so does `undo`, byte for
byte, from the run's evidence. Without them the load request carries `{"parameters": {"version": …}}`, an extension that a
server is free to ignore: one that serves what a moved link or alias points to needs no more than the load. A model that was
not loaded before is unloaded by `undo`. Crash class B: the wanted version is absolute, and a reading decides.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

from modules import _disk
from modules.contract import Change, Context, Json, ModuleError, Params, State, TimedOut, Unreachable, seconds
from modules.v2 import _client

MOVES = ("version", "checkpoint")
SCHEMA: dict[str, Json] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["url", "model", "version", "probe"],
    "dependentRequired": {"settings": ["uri"], "uri": ["settings"]},
    "properties": {
        **_client.ADDRESS,
        "version": {"type": "string", "format": "version", "minLength": 1, "description": "The version that should answer."},
        "probe": {
            **_client.ROWS,
            "description": "Rows of numbers to ask for predictions with; the version is read from the reply.",
        },
        "settings": {
            "type": "string",
            "format": "path",
            "minLength": 1,
            "description": "The model-settings.json to rewrite, where the server's folder can be reached as a path.",
        },
        "uri": {
            "type": "string",
            "minLength": 1,
            "description": "What `parameters.uri` becomes in the settings: where the artifact of that version is.",
        },
        "within": {
            "type": "string",
            "format": "duration",
            "default": "30s",
            "description": "How long the server may take, after it accepted the load, to answer as the wanted version.",
        },
    },
    "examples": [
        {"url": "http://127.0.0.1:8080", "model": "fraud", "version": "1.3.2", "probe": [[12.5, 14, 3.1, 0.2, 900, 1]]},
        {
            "url": "http://127.0.0.1:8080",
            "model": "fraud",
            "version": "1",
            "probe": [[5.1, 3.5, 1.4, 0.2]],
            "settings": "/srv/mlserver/fraud/model-settings.json",
            "uri": "/srv/models/fraud/1",
            "within": "2m",
        },
    ],
}


def read(params: Params, ctx: Context) -> State | None:
    try:
        answer = _client.ask(ctx, params, params["probe"])
    except _client.NotLoaded:
        return None
    if answer.version is None:
        hint = "the protocol leaves `model_version` to the server; use http.resource on an address that tells the version"
        raise ModuleError(f"{params['url']} answers for {params['model']} without naming a version", hint)
    state: State = {"version": answer.version}
    if "settings" in params:
        named = _settings(params, ctx)[1]["parameters"]
        state["settings"] = _artifact(named.get("version"), named.get("uri"))
    return {**state, "_predictions": answer.predictions[:10], "_server": _client.server_name(ctx, params)}


def desired(params: Params) -> State:
    state: State = {"version": params["version"]}
    if "settings" in params:
        state["settings"] = _artifact(params["version"], params["uri"])
    return state


def apply(params: Params, change: Change, ctx: Context) -> None:
    version = params["version"]
    if "settings" not in params:
        _client.load(ctx, params, parameters={"version": version})
        _await(params, ctx, version)
        return
    _rewrite(params, ctx)
    try:
        _client.load(ctx, params)
    except TimedOut:
        raise  # it may be loading still: a later reading tells
    except ModuleError as error:
        # an answer that got lost says nothing, so the model itself is asked
        if error.nothing_done or not _await(params, ctx, version):
            _put_back(params, ctx)  # a restart must not find what could not be loaded
        raise
    if not _await(params, ctx, version):
        _put_back(params, ctx)
        why = f"{params['url']} says that it has loaded {params['model']}, and version {version} does not answer"
        raise ModuleError(why, "its settings are as they were before; its log may say more")


def undo(params: Params, change: Change, ctx: Context) -> None:
    if "settings" in params:
        _put_back(params, ctx)
    if change.before is None:
        _client.load(ctx, params, "unload")
        return
    version = {"version": params["version"], **change.before}["version"]
    if "settings" in params and _settings(params, ctx)[1]["parameters"].get("version") != version:
        return  # what answered before was not what the settings say, so a load would not bring it back
    _client.load(ctx, params, parameters=None if "settings" in params else {"version": version})
    _await(params, ctx, version)


def _await(params: Params, ctx: Context, version: str) -> bool:
    """Asks until `version` answers, and says whether it does; returns before the step's time is over, which leaves some for
    the reading that decides."""
    left = ctx.left(math.inf)
    until, pause = left - min(seconds(params.get("within", "30s")), left * 0.8), 0.05
    while True:
        try:
            if _client.ask(ctx, params, params["probe"]).version == version:
                return True
        except (_client.NotLoaded, Unreachable, TimedOut):
            pass  # it is busy loading; the reading after us says what is wrong if it stays so
        if ctx.left(math.inf) - pause <= until:
            return False
        ctx.sleep(pause)
        pause = min(pause * 2, 2.0)


# ------------------------------------------------------------------------------------------------ the settings file
def _kept(ctx: Context) -> Path:
    """Where the settings as they were before this step are kept."""
    return ctx.evidence / f"{re.sub(r'[^A-Za-z0-9_.-]', '-', ctx.step)}.model-settings.json"


def _settings(params: Params, ctx: Context) -> tuple[bytes, dict[str, Json]]:
    """The settings file: its bytes and what they say. Raises ModuleError where it is not a model's settings."""
    shown = params["settings"]
    with _disk.told(f"{shown} cannot be read"):
        raw = ctx.path(shown).read_bytes()
    try:
        said = json.loads(raw)
    except ValueError as error:
        raise ModuleError(f"{shown} is not JSON: {error}") from None
    if not isinstance(said, dict) or not isinstance(said.setdefault("parameters", {}), dict):
        raise ModuleError(f"{shown} is not a model's settings: `parameters` is no mapping")
    return raw, said


def _artifact(version: Json, uri: Json) -> str:
    """What settings name, in one line with the version first: long addresses are cut where they are shown."""
    return f"{version} at {uri}"


def _rewrite(params: Params, ctx: Context) -> None:
    before, settings = _settings(params, ctx)
    path = ctx.path(params["settings"]).resolve()  # a link stays one
    if not _kept(ctx).exists():  # a retry finds our own text in the file, and the first one is what counts
        _kept(ctx).parent.mkdir(parents=True, exist_ok=True)
        _disk.write(_kept(ctx), before)
    settings["parameters"].update(uri=params["uri"], version=params["version"])
    _disk.write(path, json.dumps(settings, indent=2).encode() + b"\n", path.stat().st_mode & 0o7777)


def _put_back(params: Params, ctx: Context) -> None:
    path = ctx.path(params["settings"]).resolve()
    try:
        before, mode = _kept(ctx).read_bytes(), path.stat().st_mode & 0o7777
    except OSError as error:
        hint = "put its old text back by hand, then load the model"
        raise ModuleError(
            f"what {params['settings']} held before this run cannot be found: {error.strerror}", hint
        ) from None
    _disk.write(path, before, mode)
