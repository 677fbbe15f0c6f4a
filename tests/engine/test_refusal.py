"""refusal: one mistake is told once, at its place, and of a choice only the branch that was meant."""

from __future__ import annotations

from typing import Any

import pytest

from engine import source

SHARE = [{"type": "integer", "minimum": 1}, {"type": "string", "format": "percentage"}]
CLOSED = {"type": "object", "additionalProperties": False}


def told(schema: dict[str, Any], text: str, what: str = "m") -> list[tuple[str, str, str]]:
    """(code, line:column, summary) for the text held against the schema, as a module's parameters."""
    document = source.parse(f"m: {text}\n", "p.yml")
    found = source.validate(document, schema, ("m",), what)
    return [(one.code, f"{one.place.line}:{one.place.column}", one.summary) for one in found if one.place]


@pytest.mark.parametrize(
    ("schema", "text", "expected"),
    [
        (
            {"properties": {"model": {}}, "required": ["model"]},
            "{mdoel: a}",
            [("LG012", "1:5", "unknown parameter `mdoel` of m")],
        ),
        (
            {"properties": {"model": {}, "version": {}}, "required": ["model", "version"]},
            "{mdoel: a}",
            [("LG013", "1:1", "m needs `version`"), ("LG012", "1:5", "unknown parameter `mdoel` of m")],
        ),
        (
            {"properties": {"a": {}, "b": {}}, "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
            "{a: 1, b: 2}",
            [("LG015", "1:11", "`a` and `b` of m exclude each other")],
        ),
        (
            {"properties": {"a": {}, "b": {}}, "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
            "{}",
            [("LG013", "1:1", "m needs `a` or `b`")],
        ),
        (
            {"properties": {"a": {}, "b": {}}, "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
            "{c: 1}",
            [("LG012", "1:5", "unknown parameter `c` of m")],
        ),
        (
            {"properties": {"a": {"anyOf": SHARE}}},
            "{a: 0}",
            [("LG015", "1:8", "`a` of m should be at least 1, not 0")],
        ),
        (
            {"properties": {"a": {"anyOf": SHARE}}},
            "{a: lots}",
            [("LG015", "1:8", '`a` of m should be a whole number or a percentage from 0% to 100%, not "lots"')],
        ),
        ({"properties": {"a": {"type": "string", "format": "duration"}}}, "{a: 90}", [
            ("LG015", "1:8", "`a` of m should be a duration such as 90s, 5m or 2h, not 90"),
        ]),
        ({"properties": {"a": {"type": "string"}}}, "{a: 1.10}", [("LG014", "1:8", "`a` of m is a text: quote it")]),
        ({"properties": {"a": {"type": "array", "items": {"enum": ["x", "y"]}}}}, "{a: [x, z]}", [
            ("LG015", "1:12", 'item 2 of `a` of m should be one of x, y, not "z"'),
        ]),
        ({"properties": {"a": {}, "b": {}}, "dependentRequired": {"a": ["b"]}}, "{a: 1}", [
            ("LG013", "1:1", "`a` of m needs `b` beside it"),
        ]),
        ({"properties": {"a": {"type": "integer"}}}, '{a: "{{ x }}"}', []),
        ({"properties": {}}, "30s", [("LG015", "1:4", 'the parameters of m should be a mapping, not "30s"')]),
    ],
)  # fmt: skip
def test_each_mistake_is_told_once_in_plain_words(
    schema: dict[str, Any], text: str, expected: list[tuple[str, str, str]]
) -> None:
    """Code, place and sentence, and nothing that only follows from the same mistake."""
    assert sorted(expected) == sorted(told({**CLOSED, **schema}, text))


def test_a_mapping_of_thousands_of_unknown_keys_is_not_told_whole() -> None:
    """A hundred are enough: looking for likely spellings of each takes longer than anybody waits."""
    text = "{" + ", ".join(f"k{number}: 1" for number in range(5000)) + "}"
    assert 100 == len(told({**CLOSED, "properties": {"key": {}}}, text))


def test_what_looks_like_a_secret_is_not_repeated() -> None:
    """A value of the wrong kind is quoted in the message, unless it should not be seen."""
    document = source.Document("p.yml", {"m": {"a": "ghp_" + "x7Kq2mZ9" * 5}}, "m: {a: …}", {})
    (one,) = source.validate(document, {**CLOSED, "properties": {"a": {"type": "integer"}}}, ("m",), "m")
    assert "ghp_" not in one.summary
