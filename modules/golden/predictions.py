"""A model's answers on golden data reach a floor.

Every row of the file is sent to the live server and its answer compared with the one that is known to be right. What cannot
be measured is never good: too few rows, another number of answers, NaN, an error, an undefined metric or an answer from
another version each end as *not met*, with its own words. An answer that comes from two versions is not met either.

With `positive` as P: precision = right P / all answered P, recall = right P / all P in the file, f1 = their harmonic mean,
accuracy = right / all; agreement = share of the answers that equal what was recorded, numbers within `tolerance`. It
observes and changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from modules.contract import Context, Json, ModuleError, Params, State, fraction
from modules.v2 import _client

SCHEMA: dict[str, Json] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["url", "data", "metric", "at_least"],
    **_client.MODEL_IF_V2,
    "properties": {
        **_client.ASKING,
        "data": {
            "type": "string",
            "format": "path",
            "minLength": 1,
            "description": 'JSON Lines file; each line is {"input": [numbers], "expect": label or number}.',
        },
        "metric": {"enum": ["precision", "recall", "f1", "accuracy", "agreement"], "description": "What is measured."},
        "positive": {
            "type": ["string", "number", "boolean"],
            "default": 1,
            "description": "The label that precision, recall, f1 and `threshold` are about.",
        },
        "at_least": {
            "type": ["number", "string"],
            "format": "percentage",
            "exclusiveMinimum": 0,
            "maximum": 1,
            "description": "The floor: a number from 0 to 1, or a percentage.",
        },
        "version": _client.VERSION,
        "threshold": {
            "type": "number",
            "description": "Where the answers are scores: from this one up they mean `positive`, below it another label.",
        },
        "tolerance": {
            "type": "number",
            "minimum": 0,
            "default": 0.000001,
            "description": "How far numbers may be apart and still agree; used by `agreement` alone.",
        },
        "batch": {"type": "integer", "minimum": 1, "maximum": 10000, "default": 100, "description": "Rows in one request."},
        "min_rows": {"type": "integer", "minimum": 1, "default": 10, "description": "Fewer rows than this prove nothing."},
    },
    "examples": [
        {
            "url": "http://127.0.0.1:8080",
            "model": "fraud",
            "data": "golden/fraud.jsonl",
            "metric": "precision",
            "positive": "fraud",
            "at_least": "97%",
            "version": "1.3.2",
        }
    ],
}


def read(params: Params, ctx: Context) -> State:
    lines, digest = _client.records(ctx.path(params["data"]), params["data"])
    limit = fraction(params["at_least"])
    facts: State = {"_metric": params["metric"], "_limit": limit, "_rows": len(lines), "_data_sha256": digest}
    rows = [_client.row(line, params["data"], number) for number, line in enumerate(lines, 1)]
    expected = [_expect(line, params["data"], number) for number, line in enumerate(lines, 1)]
    try:
        if len(rows) < (least := params.get("min_rows", 10)):
            raise ModuleError(f"{params['data']} has {len(rows)} rows, and fewer than {least} prove nothing")
        answers, facts["_version"] = _answers(params, ctx, rows)
        value, facts["_counts"] = _measure(params, answers, expected)
    except ModuleError as error:
        ctx.left()  # the step's own timeout stays one
        return {"met": False, **facts, "_why": error.message}
    verb = "reaches" if value >= limit else "is under"
    why = f"{params['metric']} {value:.4g} over {len(rows)} rows {verb} the floor of {limit:.4g}"
    return {"met": value >= limit, **facts, "_value": value, "_why": why}


def desired(params: Params) -> State:
    return {"met": True}


def _expect(line: dict[str, Json], shown: object, number: int) -> Json:
    if isinstance(line.get("expect"), str | int | float):
        return line["expect"]
    raise ModuleError(f"{shown}: record {number} has no `expect` that is a label or a number")


def _answers(params: Params, ctx: Context, rows: Sequence[_client.Row]) -> tuple[list[Json], str | None]:
    """One answer per row, and the version that gave them all."""
    answers: list[Json] = []
    versions: set[str | None] = set()
    size = params.get("batch", 100)
    for start in range(0, len(rows), size):
        ctx.sleep(0)  # a run that is being stopped asks no more
        answer = _client.expect_version(params, _client.ask(ctx, params, rows[start : start + size]))
        answers += answer.predictions
        versions.add(answer.version)
    if len(versions) > 1:
        raise ModuleError(f"the answers came from several versions: {', '.join(sorted(map(str, versions)))}")
    return answers, versions.pop()


def _measure(params: Params, answers: list[Json], expected: list[Json]) -> tuple[float, dict[str, int]]:
    """The metric from 0 to 1, and the counts that it is made of. Raises ModuleError where it is not defined."""
    metric, positive = params["metric"], params.get("positive", 1)
    if "threshold" in params:
        if not all(isinstance(answer, int | float) for answer in answers):
            raise ModuleError("`threshold` needs scores, and the answers are labels")
        answers = [answer >= params["threshold"] for answer in answers]
        expected, positive = [value == positive for value in expected], True
    if metric in ("accuracy", "agreement"):
        reach = params.get("tolerance", 1e-6) if metric == "agreement" else 0.0
        same = sum(_same(answer, value, reach) for answer, value in zip(answers, expected, strict=True))
        return same / len(expected), {"right": same, "wrong": len(expected) - same}
    seen = Counter((answer == positive, value == positive) for answer, value in zip(answers, expected, strict=True))
    hit, alarm, missed = seen[True, True], seen[True, False], seen[False, True]
    below = {"precision": hit + alarm, "recall": hit + missed, "f1": 2 * hit + alarm + missed}[metric]
    if not below:
        none = {"precision": "no answer is", "recall": "no row of the file is", "f1": "no answer and no row of the file is"}
        raise ModuleError(f"{metric} is not defined: {none[metric]} {positive!r}")
    counts = {"hit": hit, "false_alarm": alarm, "missed": missed, "rest": seen[False, False]}
    return (2 * hit if metric == "f1" else hit) / below, counts


def _same(one: Json, other: Json, reach: float) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other) <= reach
    return bool(one == other)
