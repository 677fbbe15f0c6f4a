"""Asks a scoring server, by the Open Inference Protocol (V2) or by MLflow's `/invocations`, over plain HTTP.

In: an address, a model, rows of numbers. Out: an `Answer` with one prediction for each row and the version that the reply
itself names. It refuses every reply that is not whole: another number of predictions, a gap, NaN, another model's name.
Rows come from files of one JSON object a line; `records` reads them as strictly.

Protocol: github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md; load and unload are the model
repository extension that Triton and MLServer share; `/invocations` is what MLflow's own model server answers to.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import quote

from modules.contract import Context, Json, ModuleError, Params, Reply, expect_ok

Row = Sequence[float]

ROWS: dict[str, Json] = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "array", "minItems": 1, "items": {"type": "number"}},
}
#: Parameters of every module that speaks V2.
ADDRESS: dict[str, Json] = {
    "url": {
        "type": "string",
        "format": "url",
        "minLength": 1,
        "description": "Address of the scoring server, without `/v2`.",
    },
    "model": {"type": "string", "minLength": 1, "description": "Name of the model on that server."},
    "input_name": {
        "type": "string",
        "minLength": 1,
        "default": "input-0",
        "description": "Name of the one input tensor, which is sent as FP64.",
    },
    "headers": {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "description": "HTTP headers to send, for example an authorization; values may be secrets.",
    },
}
#: Parameters of every module that judges answers.
ASKING: dict[str, Json] = {
    **ADDRESS,
    "protocol": {
        "enum": ["v2", "mlflow"],
        "default": "v2",
        "description": "`v2`: Open Inference Protocol. `mlflow`: POST /invocations, which names neither model nor version.",
    },
    "output": {
        "type": "string",
        "minLength": 1,
        "description": "The output that is the prediction; by default the only one, or the one called `label` or `predict`.",
    },
    "column": {
        "type": "integer",
        "minimum": 0,
        "description": "Which value to take, counted from 0, where that output has several for each row.",
    },
}
VERSION: dict[str, Json] = {
    "type": "string",
    "format": "version",
    "minLength": 1,
    "description": "The version that must have answered.",
}
#: V2 puts the model's name into the address.
MODEL_IF_V2: dict[str, Json] = {
    "if": {"required": ["protocol"], "properties": {"protocol": {"const": "mlflow"}}},
    "else": {"required": ["model"]},
}


class NotLoaded(ModuleError):
    """The server answers, and says that it does not have this model."""


@dataclass(frozen=True)
class Answer:
    """What a server said: `predictions` has one value per row, `outputs` does so for every output by name (V2 only).

    `version` is the one that the reply names, None where it names none. `seconds` is how long the whole exchange took.
    """

    predictions: list[Json]
    outputs: dict[str, list[Json]]
    version: str | None
    seconds: float


def ask(ctx: Context, params: Params, rows: Sequence[Row]) -> Answer:
    """The server's predictions for `rows`, by the protocol that the params name. Raises ModuleError."""
    if params.get("protocol", "v2") == "mlflow":
        return _invoke(ctx, params, rows)
    width = len(rows[0])
    if any(len(row) != width for row in rows):
        raise ModuleError(f"the rows are not equally long: {sorted({len(row) for row in rows})} values")
    data = [value for row in rows for value in row]
    tensor = {"name": params.get("input_name", "input-0"), "shape": [len(rows), width], "datatype": "FP64", "data": data}
    return infer(ctx, params, {"inputs": [tensor]}, len(rows))


def expect_version(params: Params, answer: Answer) -> Answer:
    """The answer itself. Raises ModuleError when the params name a version and another one answered."""
    if "version" in params and answer.version != params["version"]:
        raise ModuleError(f"version {answer.version or '(not named)'} answered, and {params['version']} should have")
    return answer


def infer(ctx: Context, params: Params, body: Json, count: int) -> Answer:
    """The answer to an inference request `body` of `count` rows. Raises NotLoaded, or ModuleError if it is not whole."""
    model = params["model"]
    url = at(params, f"/v2/models/{quote(model, safe='')}/infer")
    reply = ctx.http("POST", url, json=body, headers=params.get("headers"))
    if reply.status in (400, 404) and _says_not_found(reply, model):
        raise NotLoaded(f"{params['url']} does not have `{model}` loaded: HTTP {reply.status} {reply.text(200).strip()}")
    answer = expect_ok(reply, f"{model} at {params['url']}").json()
    where = f"{model} at {params['url']}"
    found = answer.get("outputs") if isinstance(answer, dict) else None
    if not isinstance(found, list) or not found or not all(isinstance(output, dict) for output in found):
        raise ModuleError(f"{where}: the reply has no `outputs`: {reply.text(120)!r}")
    if answer.get("model_name", model) != model:
        raise ModuleError(f"{where}: the reply comes from the model `{answer['model_name']}`")
    outputs = {str(output.get("name")): _values(output, count, where) for output in found}
    version = answer.get("model_version")
    predictions = _column(_chosen(outputs, params.get("output"), where), params.get("column"), where)
    return Answer(predictions, outputs, None if version in (None, "") else str(version), reply.seconds)


def load(ctx: Context, params: Params, verb: str = "load", parameters: Mapping[str, Json] | None = None) -> None:
    """`load` or `unload` of the model repository extension; returns when the server has answered 2xx. Raises ModuleError."""
    model = params["model"]
    url = at(params, f"/v2/repository/models/{quote(model, safe='')}/{verb}")
    body = {"parameters": dict(parameters)} if parameters else {}
    reply = ctx.http("POST", url, json=body, headers=params.get("headers"), timeout=600.0)
    expect_ok(reply, f"{params['url']} refuses to {verb} {model}", "what it had before keeps serving; its log says more")


def server_name(ctx: Context, params: Params) -> str:
    """What the server calls itself (`mlserver 1.7.1`), or an empty text: a fact for the record, never a reason to fail."""
    try:
        said = ctx.http("GET", at(params, "/v2"), headers=params.get("headers"), timeout=5.0)
        about = said.json() if said.ok else {}
    except ModuleError:
        return ""
    return f"{about.get('name', '')} {about.get('version', '')}".strip() if isinstance(about, dict) else ""


def at(params: Params, path: str) -> str:
    """The address of `path` on the server; a secret address stays one."""
    url = params["url"]
    return cast(str, (url.rstrip("/") if isinstance(url, str) else url) + path)


def _says_not_found(reply: Reply, model: str) -> bool:
    """MLServer answers 404, Triton 400, and both name the model; a plain 404 is a wrong address."""
    try:
        error = str(reply.json()["error"])
    except (ModuleError, KeyError, TypeError):
        return False
    return model in error and "not found" in error.lower()


def _invoke(ctx: Context, params: Params, rows: Sequence[Row]) -> Answer:
    where = f"{at(params, '/invocations')}"
    inputs = {"inputs": [list(row) for row in rows]}
    reply = expect_ok(ctx.http("POST", at(params, "/invocations"), json=inputs, headers=params.get("headers")), where)
    answer = reply.json()
    predictions = answer.get("predictions") if isinstance(answer, dict) else None
    if not isinstance(predictions, list):
        raise ModuleError(f"{where}: the reply has no `predictions`: {reply.text(120)!r}")
    if len(predictions) != len(rows):
        raise ModuleError(f"{where}: {len(predictions)} predictions for {len(rows)} rows")
    flat = [value for part in predictions for value in (part if isinstance(part, list) else [part])]
    _whole(flat, where)
    return Answer(_column(predictions, params.get("column"), where), {}, None, reply.seconds)


def _values(output: Json, count: int, where: str) -> list[Json]:
    """The values of one output tensor, one entry per row: the value itself, or a list where a row has several."""
    name, shape = output.get("name"), output.get("shape")
    flat = _flat(output.get("data"))
    sizes = isinstance(shape, list) and all(isinstance(size, int) for size in shape)
    if not sizes or not shape or not flat or math.prod(shape) != len(flat):
        raise ModuleError(f"{where}: output `{name}` has {len(flat)} values and says that its shape is {shape}")
    if shape[0] != count:
        raise ModuleError(f"{where}: {shape[0]} predictions in `{name}` for {count} rows")
    _whole(flat, f"{where}: output `{name}`")
    width = len(flat) // count
    return flat if width == 1 else [flat[i : i + width] for i in range(0, len(flat), width)]


def _flat(data: Json, deep: int = 8) -> list[Json]:
    """Tensor data may come nested or flat, in row-major order; what is nested deeper than `deep` is no tensor."""
    return [value for part in data for value in _flat(part, deep - 1)] if isinstance(data, list) and deep else [data]


def _whole(values: Sequence[Json], where: str) -> None:
    """Raises ModuleError unless every value is a text, a boolean or a finite number."""
    for value in values:
        if not isinstance(value, str | int | float):
            raise ModuleError(f"{where}: {json.dumps(value)[:40]} among the predictions")
        if isinstance(value, float) and not math.isfinite(value):
            raise ModuleError(f"{where}: {'NaN' if math.isnan(value) else 'infinity'} among the predictions")


def _chosen(outputs: Mapping[str, list[Json]], wanted: str | None, where: str) -> list[Json]:
    if wanted is None and len(outputs) == 1:
        return next(iter(outputs.values()))
    for name in [wanted] if wanted else ["label", "predict"]:
        if name in outputs:
            return outputs[name]
    raise ModuleError(f"{where}: which output is the prediction? there are {', '.join(outputs)}", "name it with `output:`")


def _column(values: list[Json], column: int | None, where: str) -> list[Json]:
    several = [value for value in values if isinstance(value, list)]
    if not several:
        return values
    if column is None or any(not isinstance(value, list) or column >= len(value) for value in values):
        raise ModuleError(f"{where}: each row has {len(several[0])} values", "say which one counts with `column:`, from 0")
    return [value[column] for value in values]


def records(path: Path, shown: object) -> tuple[list[dict[str, Json]], str]:
    """The JSON objects of a file, one a line, and the file's sha256 (hex). Blank lines are passed over.

    `shown` is the path as the playbook writes it. Raises ModuleError with the line for what is no JSON object, NaN included.
    """
    try:
        raw = path.read_bytes()
        lines = raw.decode("utf-8").split("\n")
    except OSError as error:
        raise ModuleError(
            f"{shown} cannot be read: {error.strerror}", "relative paths start at the playbook's folder"
        ) from None
    except UnicodeDecodeError:
        raise ModuleError(f"{shown} is not UTF-8 text") from None
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, parse_constant=_refused)
        except (ValueError, RecursionError) as error:
            raise ModuleError(f"{shown}:{number} is not JSON: {error}") from None
        if not isinstance(record, dict):
            raise ModuleError(f"{shown}:{number} is not a JSON object")
        found.append(record)
    return found, hashlib.sha256(raw).hexdigest()


def _refused(word: str) -> float:
    raise ValueError(f"{word} is not a number that JSON knows")


def row(record: Mapping[str, Json], shown: object, number: int) -> list[float]:
    """The `input` of a record: a list of finite numbers. Raises ModuleError naming the `number`th record."""
    values = record.get("input")
    if isinstance(values, list) and values and all(type(value) in (int, float) and math.isfinite(value) for value in values):
        return values
    raise ModuleError(f"{shown}: record {number} has no `input` that is a list of numbers")
