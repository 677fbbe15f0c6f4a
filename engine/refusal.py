"""What a schema refuses, in words for people: errors of jsonschema -> one diagnostic for each mistake, at its place.

In: the errors of one part of a document, and where that part stands. Out: diagnostics (LG012 to LG015). One mistake is told
once: a misspelt key is not also reported as missing, and of several alternatives only the one that was meant is looked at.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Protocol

from engine import leak
from engine.diagnostics import Diagnostic, Place, did_you_mean, printable
from modules.contract import Json

Keys = tuple[str | int, ...]

#: More unknown keys of one mapping are not looked at.
MOST = 100

_FORMATS = {
    "duration": ("a duration such as 90s, 5m or 2h", "5m"),
    "percentage": ("a percentage from 0% to 100%", "25%"),
    "size": ("a size such as 64MiB", "64MiB"),
}
_TYPES = {
    "object": "a mapping", "array": "a list", "string": "a text", "integer": "a whole number",
    "number": "a number", "boolean": "true or false", "null": "nothing",
}  # fmt: skip
_LIMITS = {
    "minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most", "exclusiveMaximum": "less than",
}  # fmt: skip
_TEXT = ("string", ["string", "null"])
_EMPTY = ("minItems", "minLength", "minProperties")
_CHOICES = ("anyOf", "oneOf")
#: What jsonschema says of a whole mapping, where a more exact error may stand beside it.
_OF_A_MAPPING = (*_CHOICES, "required", "dependentRequired", "dependentSchemas", "not", "if", "minProperties")
#: Words that YAML 1.1 took for booleans.
_OLD_BOOLEANS = {"yes", "no", "on", "off", "y", "n"}


class Places(Protocol):
    """A document, as far as its places go."""

    def place(self, keys: Keys = (), key: bool = False) -> Place:
        """Where the value at `keys` stands, or its key."""


def tell(errors: Iterable[Any], document: Places, at: Keys, what: str) -> list[Diagnostic]:
    """The diagnostics for `errors` of the part of `document` at `at`; `what` is the module whose parameters they are."""
    exact = [inner for error in errors for inner in _meant(error)]
    unknown: dict[Keys, list[str]] = {}
    for error in exact:
        if error.validator == "additionalProperties":
            unknown.setdefault(tuple(error.absolute_path), []).extend(islice(_extra(error), MOST))
    broken = {tuple(error.absolute_path) for error in exact if error.validator == "type"}
    teller = _Teller(document, at, what)
    found: list[Diagnostic] = []
    told: set[tuple[Keys, str]] = set()
    for error in exact:
        path = tuple(error.absolute_path)
        if error.validator in _OF_A_MAPPING and (path in broken or (path in unknown and error.validator != "required")):
            continue
        for one, key in teller.say(error, path, unknown.get(path, [])):
            if (path, key) not in told:
                told.add((path, key))
                found.append(one)
    return found


def _meant(error: Any) -> Iterator[Any]:
    """The error itself; of a choice between types, the errors of the one branch whose type was written."""
    if error.validator in _CHOICES and any("type" in option for option in error.validator_value):
        branches: dict[int, list[Any]] = {}
        for inner in error.context:
            branches.setdefault(inner.schema_path[0], []).append(inner)
        right = [
            inner for inner in branches.values() if not any(one.validator == "type" and len(one.path) == 0 for one in inner)
        ]
        if len(right) == 1 and not all(one.validator == "format" and len(one.path) == 0 for one in right[0]):
            yield from (deeper for inner in right[0] for deeper in _meant(inner))
            return
    yield error


def _extra(error: Any) -> Iterator[str]:
    return (key for key in error.instance if key not in error.schema.get("properties", {}))


class _Teller:
    def __init__(self, document: Places, at: Keys, what: str) -> None:
        self.document, self.at, self.what = document, at, what

    def say(self, error: Any, path: Keys, unknown: list[str]) -> Iterator[tuple[Diagnostic, str]]:
        """(diagnostic, what it is about): of two errors of one place about the same thing only one is told."""
        keys = (*self.at, *path)
        match error.validator:
            case "additionalProperties":
                yield from ((self._unknown(error, keys, key), key) for key in islice(_extra(error), MOST))
            case "required":
                properties = error.schema.get("properties", {})
                near = {did_you_mean(key, properties) for key in unknown}
                for key in error.validator_value:
                    if key not in error.instance and f"did you mean `{key}`?" not in near:
                        yield self._missing(keys, key, properties), key
            case "dependentRequired":
                for key, others in error.validator_value.items():
                    for other in others:
                        if key in error.instance and other not in error.instance:
                            yield self._mistake("LG013", f"`{key}`{self._of()} needs `{other}` beside it", keys), other
            case _ if error.validator in _CHOICES and (options := _alternatives(error)):
                yield self._alternatives(error, keys, options), "alternatives"
            case _:
                yield self._wrong(error, keys), "value"

    def _of(self) -> str:
        return f" of {self.what}" if self.what else ""

    def _subject(self, keys: Keys) -> str:
        """What stands at `keys`, as a person would call it."""
        if keys == self.at:
            return f"the parameters of {self.what}" if self.what else f"`{keys[-1]}`" if keys else "the document"
        number = f"item {int(keys[-1]) + 1} of " if isinstance(keys[-1], int) else ""
        name = next((key for key in reversed(keys) if isinstance(key, str)), "the document")
        return f"{number}`{name}`{self._of()}"

    def _mistake(self, code: str, summary: str, keys: Keys, hint: str = "") -> Diagnostic:
        return Diagnostic(code, summary, self.document.place(keys, key=True), hint=hint)

    def _unknown(self, error: Any, keys: Keys, key: str) -> Diagnostic:
        known = error.schema.get("properties", {})
        place = self.document.place((*keys, key), key=True)
        kind = "parameter" if self.what else "key"
        hint = did_you_mean(key, known, f"known here: {', '.join(sorted(known))}")
        context = (self.document.place(self.at, key=True), "the module that it is given to") if self.what else None
        return Diagnostic("LG012", f"unknown {kind} `{printable(key)}`{self._of()}", place, hint=hint, context=context)

    def _missing(self, keys: Keys, key: str, properties: dict[str, Any]) -> Diagnostic:
        owner = self.what if self.what and keys == self.at else f"`{keys[-1]}`" if keys and isinstance(keys[-1], str) else ""
        if not self.what and keys == self.at:
            owner = ""
        about = properties.get(key, {}).get("description", "")
        summary = f"{owner} needs `{key}`" if owner else f"`{key}` is missing"
        return self._mistake("LG013", summary, keys, about or f"add `{key}:`")

    def _alternatives(self, error: Any, keys: Keys, options: list[list[str]]) -> Diagnostic:
        """A mapping that must have exactly one (or at least one) of some keys."""
        owner = self.what if self.what and keys == self.at else self._subject(keys)
        there = [names for names in options if all(name in error.instance for name in names)]
        if not there:
            return self._mistake("LG013", f"{owner} needs {_or([_and(names) for names in options])}", keys)
        names = [_and(one) for one in there]
        place = self.document.place((*keys, there[-1][0]), key=True)
        summary = f"{' and '.join(names)}{self._of()} exclude each other"
        context = (self.document.place((*keys, there[0][0]), key=True), "the other")
        return Diagnostic("LG015", summary, place, hint=f"keep {_or(names)}", context=context)

    def _wrong(self, error: Any, keys: Keys) -> Diagnostic:
        place, instance = self.document.place(keys), error.instance
        subject, hint = self._subject(keys), _hint(error)
        form = error.schema.get("format") if isinstance(error.schema, dict) else None
        wants_text = error.validator == "type" and error.validator_value in _TEXT and form not in _FORMATS
        if wants_text and isinstance(instance, bool | int | float):
            written = place.text[place.column - 1 : place.column - 1 + place.length] or json.dumps(instance)
            lost = isinstance(instance, float) and repr(instance) != written
            detail = f"Without quotes {written} is the number {instance!r}, which may be another version." if lost else ""
            return Diagnostic("LG014", f"{subject} is a text: quote it", place, detail, f'write "{written}"')
        if error.validator in _EMPTY and error.validator_value == 1:
            return Diagnostic("LG015", f"{subject} should not be empty", place, hint=hint)
        wanted = _FORMATS[form][0] if error.validator == "type" and form in _FORMATS else _wanted(error)
        return Diagnostic("LG015", f"{subject} should be {wanted}{_not(instance, wanted)}", place, hint=hint)


def _alternatives(error: Any) -> list[list[str]]:
    """The keys of each option of a choice that is about nothing but which keys are there."""
    options = [option.get("required") for option in error.validator_value if set(option) == {"required"}]
    return options if len(options) == len(error.validator_value) and isinstance(error.instance, dict) else []


def _not(instance: Json, wanted: str) -> str:
    """What stands there instead, unless that says nothing."""
    if isinstance(instance, dict | list):
        kind = "a mapping" if isinstance(instance, dict) else "a list"
        return "" if wanted.startswith(kind) else f", not {kind}"
    if isinstance(instance, str) and leak.kind(instance):
        return ""
    return f", not {printable(json.dumps(instance, ensure_ascii=False), 60)}" if instance is not None else ", not nothing"


def _hint(error: Any) -> str:
    """The one thing to do about it; else what the thing is for."""
    instance, wanted = error.instance, error.validator_value
    if error.validator == "enum" and isinstance(instance, str):
        near = did_you_mean(instance, [str(value) for value in wanted])
        if near:
            return near
    if error.validator == "type" and wanted == "boolean" and str(instance).lower() in _OLD_BOOLEANS:
        return f"only true and false are; `{instance}` is a text here"
    if error.validator == "type" and wanted == "integer" and isinstance(instance, str) and instance.isdigit():
        return f"write {int(instance)}: a number with a leading zero is a text here"
    if error.validator == "type" and wanted == "array" and isinstance(instance, str):
        return f"write [{printable(instance, 40)}]" if "\n" not in instance else "write a list"
    if error.validator == "type" and wanted == "array" and isinstance(instance, dict):
        return "begin each entry of the list with `- `"
    form = error.schema.get("format") if isinstance(error.schema, dict) else None
    if form in _FORMATS and error.validator == "type" and isinstance(instance, int | float):
        return f"write it with its unit, for example {_FORMATS[form][1]}"
    return str(error.schema.get("description", "")) if isinstance(error.schema, dict) else ""


def _wanted(error: Any) -> str:
    value = error.validator_value
    match error.validator:
        case "type":
            return _or([_TYPES.get(kind, kind) for kind in ([value] if isinstance(value, str) else value)])
        case "enum":
            return "one of " + ", ".join(str(one) for one in value)
        case "format":
            return _FORMATS[value][0] if value in _FORMATS else f"a {value}"
        case "const":
            return json.dumps(value)
        case "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum":
            return f"{_LIMITS[error.validator]} {value}"
        case "minItems" | "minLength" | "minProperties":
            return f"at least {value} long"
        case "maxItems" | "maxLength":
            return f"at most {value} long"
        case "uniqueItems":
            return str(error.schema.get("x-says", "a list in which nothing stands twice"))
        case "anyOf" | "oneOf":
            kinds = [
                _FORMATS[one["format"]][0] if one.get("format") in _FORMATS else _TYPES.get(one.get("type"), "")
                for one in value
            ]
            return str(
                error.schema.get("x-says")
                or _or([*dict.fromkeys(kind for kind in kinds if kind)])
                or "one of the known forms"
            )
        case _:
            return str(error.schema.get("x-says", f"valid ({printable(error.message)})"))


def _or(words: list[str]) -> str:
    return ", ".join(words[:-1]) + " or " + words[-1] if len(words) > 1 else "".join(words)


def _and(names: Iterable[str]) -> str:
    words = [f"`{name}`" for name in names]
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else "".join(words)
