"""What an expression may give, and how values become text: one table of conversions for every place of the language.

In: values that are JSON or a `Secret`. Out: the same, converted, or a `Fault` in plain words. It knows neither Jinja nor
where a value came from.

Nothing here shows a secret, and nothing lets a few characters of template grow into more than a process can hold.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from functools import wraps

from engine.diagnostics import printable
from modules.contract import Json, Secret, reveal

#: Characters of one text that a template makes.
MAX_RESULT = 1 << 20
#: Values that one template gives, a long text counting for several: variables that hold each other twice grow without end.
MAX_VALUES = 400_000
_LONG = 64


class Fault(Exception):
    """An expression that cannot be used: a sentence, the way out, and the name it is about, if any."""

    def __init__(self, message: str, hint: str = "", name: str = "", code: str = "LG021") -> None:
        super().__init__(message)
        self.message, self.hint, self.name, self.code = message, hint, name, code


def shown(value: Json) -> str:
    """A value inside a text: the one conversion table (texts as they are, everything else as JSON)."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def joined(values: Iterable[Json]) -> Json:
    """One text of many values: a secret, if one of them is. Raises Fault when it would be longer than `MAX_RESULT`."""
    texts: list[str] = []
    source, length = None, 0
    for value in values:
        if isinstance(value, Secret):
            source = value.source if source is None else source
        texts.append(reveal(value) if isinstance(value, Secret) else shown(value))
        length += len(texts[-1])
        small_enough(length)
    return "".join(texts) if source is None else Secret("".join(texts), source)


def small_enough(length: int) -> None:
    """Raises Fault for a text or a list of more than `MAX_RESULT` characters or values."""
    if length > MAX_RESULT:
        raise Fault(f"the text would be {length} characters long", f"at most {MAX_RESULT} are made")


def plain(value: Json) -> Json:
    """`value` as plain data, itself if it is that already. Raises Fault for what is none, and above `MAX_VALUES`."""
    return _plain(value, [MAX_VALUES])


def _plain(value: Json, left: list[int]) -> Json:
    left[0] -= 1 + (len(value) // _LONG if isinstance(value, str) else 0)
    if left[0] < 0:
        raise Fault("the value would be too large", f"at most {MAX_VALUES:,} values are made")
    if value is None or isinstance(value, (str, int, Secret)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, Mapping):
        made = {key: _plain(inner, left) for key, inner in value.items()}
        return value if all(map(operator.is_, made.values(), value.values())) else made
    if isinstance(value, (list, tuple)):
        parts = [_plain(inner, left) for inner in value]
        return value if type(value) is list and all(map(operator.is_, parts, value)) else parts
    what = printable(str(value), 40)
    raise Fault(
        f"it gives {what}, which is no value", "a value is a text, a finite number, true, false, a list or a mapping"
    )


def filters(theirs: Mapping[str, Callable[..., Json]]) -> dict[str, Callable[..., Json]]:
    """The filters of the language: `theirs`, those of our own, and no work on a secret but joining it."""
    ours: dict[str, Callable[..., Json]] = {
        "bool": _bool, "replace": _replace, "tojson": _tojson, "unique": _listed(theirs["unique"]),
    }  # fmt: skip
    made = {name: _not_of_secrets(of) for name, of in {**theirs, **ours}.items()}
    return {**made, "default": theirs["default"], "join": _join, "string": _string}


def _not_of_secrets(of: Callable[..., Json]) -> Callable[..., Json]:
    @wraps(of)
    def filtered(*args: Json, **options: Json) -> Json:
        if any(isinstance(value, Secret) for value in (*args, *options.values())):
            hint = "give it to the step as it is"
            raise Fault("a secret is joined with text, and nothing else is done with it", hint)
        return of(*args, **options)

    return filtered


def _listed(of: Callable[..., Iterable[Json]]) -> Callable[..., Json]:
    @wraps(of)
    def listed(*args: Json, **options: Json) -> list[Json]:
        return list(of(*args, **options))

    return listed


def _bool(value: Json) -> Json:
    return {"true": True, "false": False}.get(str(value).lower(), value)


def _string(value: Json) -> Json:
    return value if isinstance(value, Secret) else shown(value)


def _tojson(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)  # Jinja's own is for the inside of a web page


def _replace(value: Json, old: Json, new: Json, count: int = -1) -> str:
    text, old, new = shown(value), shown(old), shown(new)
    small_enough(len(text) + text.count(old) * (len(new) - len(old)))
    return text.replace(old, new, count)


def _join(values: Json, between: str = "", attribute: str | None = None) -> Json:
    chosen = values if attribute is None else [value[attribute] for value in values]
    return joined([piece for value in chosen for piece in (between, value)][1:])
