"""The laws that hold for every module: each is a function that fails with a sentence when a module breaks it.

The laws of `PAPER` look at the module alone, those of `WORLDLY` at the module in a fresh world. Written once, run for
every entry of the catalogue by test_laws.py, and shown to fail on planted bugs by test_laws_bite.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import jsonschema
from world import MARK, DeafWire, World, tree

from modules.catalog import Entry
from modules.contract import FORMATS, Change, Context, ModuleError, Secret, State, compared, diff

STRATEGIES = {"version", "checkpoint", "configuration", "data"}
SECTIONS = {"trigger", "forensics", "execution", "verification", "communications"}
#: The formats that a schema may name: the types of the language, and texts that the engine looks at more closely.
KNOWN_FORMATS = {*FORMATS, "expression", "version", "path", "url"}
ARTIFACT = {"present", "missing", "differs", "unknown"}


# ------------------------------------------------------------------------------------------------ on paper
def schema_is_valid_and_closed(entry: Entry) -> None:
    """SCHEMA is a valid, closed Draft 2020-12 schema of an object, and so is every object inside it that has properties."""
    jsonschema.Draft202012Validator.check_schema(entry.schema)
    assert entry.schema.get("type") == "object", "SCHEMA describes an object"
    assert entry.schema.get("additionalProperties") is False, "SCHEMA is open"
    for path, part in _objects(entry.schema):
        assert "additionalProperties" in part, f"{path} is an object that does not say `additionalProperties`"


def every_property_is_described(entry: Entry) -> None:
    """Every property has a description: a text that begins with a capital or a quoted name and ends with a full stop."""
    for path, part in _objects(entry.schema):
        for name, prop in part["properties"].items():
            text = prop.get("description", "")
            assert text, f"{path}.{name} has no description"
            assert text.endswith("."), f"{path}.{name}: the description ends without a full stop: {text!r}"


def formats_are_known(entry: Entry) -> None:
    """A `format` is one that the engine knows, and an expression says which names it may use."""
    for path, part in _objects(entry.schema):
        for name, prop in part["properties"].items():
            if "format" in prop:
                assert prop["format"] in KNOWN_FORMATS, f"{path}.{name} has the unknown format {prop['format']!r}"
            if prop.get("format") == "expression":
                assert prop.get("x-names"), f"{path}.{name} is an expression without `x-names`"


def refusals_are_in_plain_words(entry: Entry) -> None:
    """A `pattern`, a `not`, and a choice between anything but types has `x-says`: what is wanted, in words for people."""
    for path, part in _parts({key: value for key, value in entry.schema.items() if key != "examples"}):
        options = [*part.get("oneOf", ()), *part.get("anyOf", ())]
        if isinstance(part.get("pattern"), str) or "not" in part or any("type" not in option for option in options):
            assert "x-says" in part, f"{path} can refuse a value and has no `x-says`"


def examples_validate(entry: Entry) -> None:
    """SCHEMA carries at least one example, and every example is valid by it, its formats included."""
    examples = entry.schema.get("examples")
    assert examples, "SCHEMA has no examples; the module's page needs one"
    for example in examples:
        valid(entry, example)


def title_is_a_sentence(entry: Entry) -> None:
    """The docstring's first line is one short sentence in the present tense that says what becomes or is true."""
    title = entry.title
    assert title, "the module has no docstring"
    assert re.fullmatch(r"[A-Z].*[^.]\.", title), f"not one sentence with a full stop: {title!r}"
    assert not re.search(r"[.!?] ", title), f"more than one sentence: {title!r}"
    assert len(title) <= 100, f"longer than 100 characters: {title!r}"
    assert not re.search(r"\b(will|would|should|[Tt]his module)\b", title), f"not in the present tense: {title!r}"


def words_are_known(entry: Entry) -> None:
    """MOVES, SECTIONS and the crash class use the language's own words; what observes has no undo and no MOVES."""
    moves, sections = getattr(entry.module, "MOVES", ()), getattr(entry.module, "SECTIONS", ())
    assert set(moves) <= STRATEGIES, f"MOVES names {sorted(set(moves) - STRATEGIES)}"
    assert set(sections) <= SECTIONS, f"SECTIONS names {sorted(set(sections) - SECTIONS)}"
    for word in ("apply", "start", "ended", "abandon", "find", "undo", "history", "crash_class", "can_undo"):
        assert entry.has(word) or not hasattr(entry.module, word), f"`{word}` is not a function"
    if not entry.acts:
        assert not entry.has("undo"), "it observes (no apply) and yet has undo"
        assert not moves, "it observes (no apply) and yet claims to move something"
    assert not (entry.has("apply") and entry.has("start")), "it has both apply and start"
    for word in ("ended", "abandon", "find"):
        assert entry.has("start") or not entry.has(word), f"it has {word} and no start"
    assert entry.has("ended") or not entry.has("start"), "it has start and no ended"
    assert not entry.has("can_undo") or entry.has("undo"), "it has can_undo and no undo"


# ------------------------------------------------------------------------------------------------ in a world
def params_are_valid(entry: Entry, world: World) -> None:
    """The world's params are valid by SCHEMA, and the crash class is one of A, B, C, D."""
    valid(entry, world.params)
    assert entry.crash_class(world.params) in tuple("ABCD"), f"the crash class is {entry.crash_class(world.params)!r}"


def desired_is_pure(entry: Entry, world: World) -> None:
    """`desired` says the same twice, leaves the params and the world alone, and its state survives JSON."""
    seen, params = _all(world), _copied(world.params)
    first, second = entry.module.desired(world.params), entry.module.desired(world.params)
    assert first == second, f"desired said {first}, then {second}"
    assert params == world.params, "desired changed its params"
    assert seen == _all(world), "desired touched the world"
    _survives_json(first)
    assert first is not None or entry.acts, "it observes, and there is nothing to observe about what is absent"
    assert not any(key.startswith("_") for key in first or {}), f"desired holds facts: {first}"


def read_leaves_the_world_alone(entry: Entry, world: World) -> None:
    """Reading, before a change and after it, alters neither the world nor the evidence nor the params."""
    _reads_quietly(entry, world)
    if entry.acts:
        _apply(entry, world)
        _reads_quietly(entry, world)


def states_survive_json(entry: Entry, world: World) -> None:
    """What is read, before a change and after it, is the same after a journey through JSON, and holds no secret."""
    _survives_json(_read(entry, world))
    if entry.acts:
        _survives_json(_apply(entry, world).json())
        _survives_json(_read(entry, world))
        for path in world.evidence.rglob("*"):
            assert not path.is_file() or MARK.encode() not in path.read_bytes(), f"{path.name} holds the secret"


def observing_says_whether_and_why(entry: Entry, world: World) -> None:
    """A module without apply is met in its world; one that asks for `met` says so with a boolean and a sentence."""
    if entry.acts:
        return
    state, wanted = _read(entry, world), entry.module.desired(world.params)
    assert state is not None, "it observes, and says that what it looks at is absent"
    if "met" in (wanted or {}):
        assert isinstance(state.get("met"), bool), f"`met` is {state.get('met')!r}"
        assert state.get("_why"), "it does not say why (`_why`)"
    assert not diff(state, wanted), f"its own world does not meet it: {state}"


def apply_makes_it_so(entry: Entry, world: World) -> None:
    """The params ask for a change; after `apply` the world looks different and reading finds no difference left."""
    if not entry.acts:
        return
    seen = _all(world)
    _apply(entry, world)
    left = diff(_read(entry, world), entry.module.desired(world.params))
    assert not left, f"apply left a difference: {left.json()}"
    assert seen != _all(world), "reading says that it changed, and the world looks as before"


def a_second_run_changes_nothing(entry: Entry, world: World) -> None:
    """A second run finds nothing to do; and a retry of `apply` with the same change leaves what the first one left."""
    if not entry.acts:
        return
    change = _apply(entry, world)
    seen = world.seen()
    again = diff(_read(entry, world), entry.module.desired(world.params))
    assert not again, f"the second run would change {again.json()}"
    if entry.crash_class(world.params) != "D":
        _do(entry, world, change)
        assert seen == world.seen(), "a retry of apply changed the world once more"


def undo_puts_back_what_was(entry: Entry, world: World) -> None:
    """After `undo`, with the change as the journal gives it back, reading equals what was read before; twice is harmless."""
    if not entry.can_undo(world.params):
        return
    before = compared(_read(entry, world))
    change = Change.of(json.loads(json.dumps(_apply(entry, world).json())))
    for time in ("first", "second"):
        _undo(entry, world, change, f"{time} undo")
        after = compared(_read(entry, world))
        assert before == after, f"after the {time} undo it reads {after}, and before the change it read {before}"


def silence_is_no_answer(entry: Entry, world: World) -> None:
    """When nobody answers, reading fails or says that it is not met; it never makes up a state."""
    wire = DeafWire()
    try:
        state = entry.module.read(world.params, world.context(wire, seconds=1.0))
    except ModuleError as error:
        said = f"{error.message} {error.hint}"
    else:
        said = json.dumps(state)
        assert not wire.asked or (state or {}).get("met") is False, f"nobody answered, and it read {state}"
    assert MARK not in said, "it shows the secret"


def history_is_newest_first(entry: Entry, world: World) -> None:
    """`history` gives candidates newest first, each with version, time (UTC), serving and artifact; at most one serves."""
    if not entry.has("history"):
        return
    seen = _all(world)
    candidates = entry.call("history", world.params, world.context())
    assert seen == _all(world), "asking for the history changed the world"
    assert candidates, "its world has no history"
    _survives_json({"history": candidates})
    for candidate in candidates:
        for key in ("version", "created", "by", "tags", "metrics", "digest", "serving", "artifact"):
            assert key in candidate, f"a candidate has no `{key}`: {candidate}"
        assert isinstance(candidate["version"], str), f"a version is a text: {candidate['version']!r}"
        assert candidate["artifact"] in ARTIFACT, f"artifact is {candidate['artifact']!r}"
        assert candidate["artifact"] in ("present", "unknown") or candidate.get("why"), f"it does not say why: {candidate}"
        assert datetime.fromisoformat(candidate["created"]).utcoffset() is not None, f"no time zone: {candidate['created']}"
    times = [datetime.fromisoformat(candidate["created"]) for candidate in candidates]
    assert times == sorted(times, reverse=True), "the history is not newest first"
    assert sum(candidate["serving"] is True for candidate in candidates) <= 1, "more than one version serves"


PAPER: tuple[Callable[[Entry], None], ...] = (
    schema_is_valid_and_closed,
    every_property_is_described,
    formats_are_known,
    refusals_are_in_plain_words,
    examples_validate,
    title_is_a_sentence,
    words_are_known,
)
WORLDLY: tuple[Callable[[Entry, World], None], ...] = (
    params_are_valid,
    desired_is_pure,
    read_leaves_the_world_alone,
    states_survive_json,
    observing_says_whether_and_why,
    apply_makes_it_so,
    a_second_run_changes_nothing,
    undo_puts_back_what_was,
    silence_is_no_answer,
    history_is_newest_first,
)


# ------------------------------------------------------------------------------------------------ what the laws share
def valid(entry: Entry, params: dict[str, Any]) -> None:
    """Fails unless the params are valid by SCHEMA; a secret counts as the text that it stands for."""
    checker = jsonschema.FormatChecker(formats=())
    for name, pattern in FORMATS.items():
        checker.checks(name)(lambda value, pattern=pattern: not isinstance(value, str) or bool(pattern.fullmatch(value)))
    plain = json.loads(json.dumps(params, default=str))
    jsonschema.Draft202012Validator(entry.schema, format_checker=checker).validate(plain)


def _objects(schema: dict[str, Any], path: str = "params") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every part of a schema that has properties of its own, with its path. `if`, `not` and the like only repeat names."""
    if "properties" in schema:
        yield path, schema
        for name, prop in schema["properties"].items():
            yield from _objects(prop, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from _objects(schema[key], f"{path}[]")


def _parts(schema: Any, path: str = "params") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping inside a schema with its path, without what stands below a `not`."""
    if isinstance(schema, dict):
        yield path, schema
        for key, value in schema.items():
            if key != "not":
                yield from _parts(value, f"{path}.{key}")
    elif isinstance(schema, list):
        for value in schema:
            yield from _parts(value, f"{path}[]")


def _all(world: World) -> Any:
    return world.seen(), tree(world.evidence)


def _copied(value: Any) -> Any:
    """A deep copy that leaves secrets as they are (they cannot be copied)."""
    if isinstance(value, dict):
        return {key: _copied(part) for key, part in value.items()}
    return [_copied(part) for part in value] if isinstance(value, list) else value


def _read(entry: Entry, world: World) -> State | None:
    return entry.module.read(world.params, world.context())


def _reads_quietly(entry: Entry, world: World) -> None:
    seen, params = _all(world), _copied(world.params)
    _read(entry, world)
    _read(entry, world)
    assert seen == _all(world), "reading changed the world"
    assert params == world.params, "reading changed the params"


def _apply(entry: Entry, world: World) -> Change:
    """What the engine does: read, compare, apply."""
    change = diff(_read(entry, world), entry.module.desired(world.params))
    assert change, "the world's params need no change; let them ask for one"
    _do(entry, world, change)
    return change


def _do(entry: Entry, world: World, change: Change) -> None:
    """The effect; an operation is waited for until it is over."""
    if entry.has("apply"):
        entry.call("apply", world.params, change, world.context())
        return
    ctx = world.context()
    _wait(entry, world, entry.call("start", world.params, change, ctx), ctx)


def _undo(entry: Entry, world: World, change: Change, key: str) -> None:
    """Undoing it; an operation has a key of its own."""
    ctx = replace(world.context(), key=key) if entry.has("start") else world.context()
    handle = entry.call("undo", world.params, change, ctx)
    if entry.has("start") and handle is not None:
        _wait(entry, world, handle, ctx)


def _wait(entry: Entry, world: World, handle: Any, ctx: Context) -> None:
    _survives_json({"handle": handle})
    while entry.call("ended", world.params, handle, ctx) is not True:
        ctx.sleep(0.01)


def _survives_json(state: Any) -> None:
    _no_secret(state)
    try:
        text = json.dumps(state, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"the state is not JSON: {error}") from None
    # By `repr`, because to Python 1, 1.0 and True are equal.
    assert repr(state) == repr(json.loads(text)), f"JSON changes the state {state}"
    assert MARK not in json.dumps(state), "the state holds the secret"


def _no_secret(value: Any) -> None:
    assert not isinstance(value, Secret), "the state holds a secret"
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _no_secret(part)
