"""What the modules of HTTP addresses share: a request with the step's headers, values at dotted paths, bodies filled in.

In: params and JSON. Out: replies and JSON. It knows no address of its own and decides nothing.
"""

from __future__ import annotations

from typing import Any

from modules.contract import Context, Json, ModuleError, Params, Reply

#: Statuses that mean that nothing is there.
ABSENT = (404, 410)
#: What `pick` gives for a path that leads nowhere; None may be a value.
NOTHING: Any = object()


def ask(method: str, url: str, body: Json, params: Params, ctx: Context, **more: object) -> Reply:
    """One request with the headers of the params, and with `more` of them."""
    given = {**params.get("headers", {}), **more}
    headers = {"accept": "application/json", **{name.lower(): value for name, value in given.items()}}
    return ctx.http(method, url, json=body, headers=headers)


def shown(url: object) -> str:
    """An address as it may be shown: without its query."""
    return str(url).split("?")[0]


def pick(found: Json, path: str) -> Json:
    """The value at a dotted path, where a number also counts in a list; `NOTHING` when it is not there."""
    for part in path.split("."):
        if isinstance(found, dict) and part in found:
            found = found[part]
        elif isinstance(found, list) and part.isdigit() and int(part) < len(found):
            found = found[int(part)]
        else:
            return NOTHING
    return found


def nested(values: dict[str, Json]) -> dict[str, Json]:
    """`{"a.b": 1, "a.c": 2}` as `{"a": {"b": 1, "c": 2}}`. Raises ModuleError when one path ends inside another."""
    body: dict[str, Json] = {}
    for path, value in values.items():
        *outer, last = path.split(".")
        place = body
        for part in outer:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ModuleError(
                    f"the fields do not nest: {path} goes through a value", "name each value once, or give a `body`"
                )
        place[last] = value
    return body


def filled(body: Json, values: dict[str, Json]) -> Json:
    """A body in which every text `$path` is the value of that name. Raises ModuleError for a path that is no field."""
    if isinstance(body, dict):
        return {key: filled(value, values) for key, value in body.items()}
    if isinstance(body, list):
        return [filled(value, values) for value in body]
    if not isinstance(body, str) or not body.startswith("$"):
        return body
    if body[1:] not in values:
        raise ModuleError(
            f"`body` names {body}, which is not one of the fields", f"the fields are {', '.join(sorted(values))}"
        )
    return values[body[1:]]


def mentioned(body: Json) -> set[str]:
    """The paths that a body names."""
    if isinstance(body, dict | list):
        return set().union(*(mentioned(value) for value in (body.values() if isinstance(body, dict) else body)))
    return {body[1:]} if isinstance(body, str) and body.startswith("$") else set()
