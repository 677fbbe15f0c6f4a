"""Reads metrics: one series of a Prometheus server over its HTTP API, or one sample of a text exposition page.

In: an address and what to look for. Out: samples, `(unix seconds, value)`, of exactly one series. It refuses to guess:
nothing there, NaN, several series, an error and a stale sample each raise, with their own words.

Protocols: prometheus.io/docs/prometheus/latest/querying/api (instant and range queries) and
prometheus.io/docs/instrumenting/exposition_formats (text format 0.0.4).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from modules.contract import Context, Json, ModuleError, Params, Reply

#: (unix seconds, value)
Sample = tuple[float, float]


class Unusable(ModuleError):
    """There is an answer, or none, from which nothing can be concluded."""


class Missing(Unusable):
    """The server answered, and the metric is not there: no series, NaN, or only an old sample."""


def number(text: object, what: str) -> float:
    """A value as Prometheus writes it. Raises Missing for NaN and for infinities, Unusable for what is no number."""
    word = str(text)
    if re.fullmatch(r"[+-]?nan", word, re.IGNORECASE):
        raise Missing(f"{what} is NaN")
    if re.fullmatch(r"[+-]?inf(inity)?", word, re.IGNORECASE):
        raise Missing(f"{what} is infinite")
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", word) or not math.isfinite(float(word)):
        raise Unusable(f"{what} is {word!r:.40}, which is not a number")
    return float(word)


def fetch(ctx: Context, url: Json, params: Params, what: str, query: Mapping[str, Json] | None = None) -> Reply:
    """GET. Raises Unusable for everything but an answer 2xx; Prometheus' own error text is quoted."""
    address = url + (f"?{urlencode(query)}" if query else "")
    accept = {"accept": "text/plain;version=0.0.4, application/json;q=0.9"}
    try:
        reply = ctx.http("GET", address, headers={**accept, **params.get("headers", {})})
    except ModuleError as error:
        ctx.left()  # the step's own timeout stays one
        raise Unusable(error.message) from None
    if not reply.ok:
        raise Unusable(f"{what} answers with HTTP {reply.status}: {_error(reply)}")
    return reply


def _error(reply: Reply) -> str:
    try:
        return str(reply.json()["error"])[:300]
    except (ModuleError, KeyError, TypeError):
        return " ".join(reply.text(120).split()) or "(empty)"


def clock(when: float) -> str:
    """A moment as people read it."""
    return datetime.fromtimestamp(when, UTC).strftime("%H:%M:%S UTC")


# ------------------------------------------------------------------------------------------------ a Prometheus server
def newest(ctx: Context, params: Params) -> Sample:
    """(the server's time now, the time of the newest raw sample) of the query's one series.

    For an expression other than a plain selector, Prometheus takes its own time for the sample's.
    """
    query = params["query"]
    # The line break ends a comment at the end of the query.
    now, stamp = _one(everything(ctx, params, "query", {"query": f"timestamp(\n{query}\n)"}), "value", query)
    return float(now), number(stamp, f"the time of {query}")


def span(ctx: Context, params: Params, query: str, start: float, end: float, step: float) -> list[Sample]:
    """The query's one series at `start`, `start + step`, … `end` (seconds). Raises Missing for a value that is NaN."""
    asked = {"query": query, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:.3f}"}
    found = _one(everything(ctx, params, "query_range", asked), "values", query)
    return [(float(when), number(value, f"{query} at {clock(float(when))}")) for when, value in found]


def everything(ctx: Context, params: Params, call: str, asked: Mapping[str, Json]) -> list[Any]:
    """Every series that the server answers with. Raises Unusable."""
    server = params["server"]
    url = (server.rstrip("/") if isinstance(server, str) else server) + f"/api/v1/{call}"
    reply = fetch(ctx, url, params, f"Prometheus at {server}", asked)
    try:
        answer = reply.json()
        if answer["status"] != "success":
            raise Unusable(f"Prometheus at {server} says {answer.get('error', 'that it did not succeed')}")
        result = answer["data"]["result"]
    except (KeyError, TypeError, AttributeError):
        result = None
    except Unusable:
        raise
    except ModuleError as error:
        raise Unusable(f"Prometheus at {server}: {error.message}") from None
    if not isinstance(result, list) or not all(isinstance(series, dict) for series in result):
        raise Unusable(f"{server} does not answer like Prometheus: {reply.text(80)!r}")
    return result


def _one(result: list[Any], key: str, query: str) -> list[Any]:
    """What the one series has under `key`."""
    if not result:
        raise Missing(f"{query} gives nothing: no such series, or none that is recent")
    if len(result) > 1:
        which = "; ".join(json.dumps(series.get("metric", {}), sort_keys=True) for series in result[:3])
        raise Unusable(f"{query} gives {len(result)} series, and it should be one: {which:.300}")
    found = result[0].get(key)
    pairs = [found] if key == "value" else found
    if not isinstance(pairs, list) or not pairs or not all(_is_pair(pair) for pair in pairs):
        raise Unusable(f"{query} gives no numbers; of a histogram take histogram_quantile(…) or the like")
    return list(found)


def _is_pair(value: object) -> bool:
    """Whether it is `[unix seconds, value]`."""
    return isinstance(value, list) and len(value) == 2 and type(value[0]) in (int, float) and 0 <= value[0] < 1e11


# ------------------------------------------------------------------------------------------------ a metric page
_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LINE = re.compile(rf"({_NAME})[ \t]*(?:\{{(.*)\}}[ \t]*|[ \t]+)(\S+)(?:[ \t]+(-?\d+))?")
_LABEL = re.compile(r'[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\\n]|\\[\\"n])*)"[ \t]*(,|$)')
_SELECTOR = re.compile(rf"({_NAME})(?:\{{(.*)\}})?")


def selector(text: str) -> tuple[str, dict[str, str]]:
    """`name{label="value"}` as name and labels. Raises ModuleError for anything else: a page knows no expressions."""
    found = _SELECTOR.fullmatch(text.strip())
    labels = _labels(found[2] or "") if found else None
    if found is None or labels is None:
        raise ModuleError(f"`{text}` cannot be asked of a page", 'with `page`, write query as name{label="value"}')
    return found[1], labels


def _labels(text: str) -> dict[str, str] | None:
    """The labels between braces; None where that is not what it is."""
    found: dict[str, str] = {}
    at = 0
    while text[at:].strip():
        label = _LABEL.match(text, at)
        if label is None or label[1] in found:
            return None
        found[label[1]] = re.sub(r"\\(.)", lambda escape: {"n": "\n"}.get(escape[1], escape[1]), label[2])
        at = label.end()
    return found


def sample(ctx: Context, params: Params, oldest: float) -> Sample:
    """The one sample that the query selects. Raises Missing when it is not there, NaN, or older than `oldest` seconds."""
    name, wanted = selector(params["query"])
    page = fetch(ctx, params["page"], params, f"{params['page']}")
    now, found = ctx.now(), []
    try:
        lines = page.body.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise Unusable(f"{params['page']} is not a metric page: it is not UTF-8 text") from None
    for at, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        parts = _LINE.fullmatch(line.strip())
        labels = _labels(parts[2] or "") if parts else None
        if parts is None or labels is None:
            raise Unusable(f"{params['page']} is not a metric page: line {at} is {line!r:.80}")
        if parts[1] == name and all(labels.get(key, "") == value for key, value in wanted.items()):
            found.append((labels, parts[3], parts[4]))
    if len(found) > 1:
        which = "; ".join(json.dumps(labels, sort_keys=True) for labels, _, _ in found[:3])
        raise Unusable(f"{params['query']} selects {len(found)} series of the page, and it should be one: {which:.300}")
    if not found:
        raise Missing(f"{params['query']} is not on the page {params['page']}")
    _, value, stamp = found[0]
    when = int(stamp) / 1000 if stamp else now
    fresh(now - when, oldest, params["query"])
    return when, number(value, params["query"])


def fresh(age: float, oldest: float, query: str) -> None:
    """Raises Missing when a sample's age (seconds) is past `oldest`."""
    if age > oldest:
        raise Missing(f"the newest sample of {query} is {age:.0f} s old, and {oldest:.0f} s is the most")
