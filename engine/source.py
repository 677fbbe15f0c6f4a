"""Text -> Document: plain data and a side table of places. YAML and JSON Schema live here and nowhere else.

In: a file or a text that may be hostile. Out: a `Document` whose data is plain JSON, or an `EngineError` with every
mistake that was found. It refuses to know what a playbook is.

The byte gate comes before the parser, and the parser is read as events: the composing loaders of PyYAML recurse (50,000
brackets end the process), resolve as YAML 1.1 (`NO` is false, `012` is 10) and keep the last of two equal keys.
"""

from __future__ import annotations

import difflib
import gc
import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from engine import gate, leak, refusal
from engine.diagnostics import Diagnostic, EngineError, Place, printable
from modules.contract import FORMATS, Json

Keys = tuple[str | int, ...]

MAX_DEPTH = 64
MAX_NODES = 250_000
MAX_SCALAR = 64 << 10
#: A larger one is not the same in every program that reads JSON (RFC 8785, RFC 7493).
MAX_INTEGER = 2**53 - 1
#: More mistakes than this are not collected: reading stops.
MAX_MISTAKES = 1000

# YAML 1.2 core schema, https://yaml.org/spec/1.2.2/#103-core-schema
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_WORDS: dict[str, Json] = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NULLS = {"", "~", "null", "Null", "NULL"}
_SIGNS = ("+", "-", ".")


@dataclass(frozen=True)
class Document:
    """A parsed text: `data` is plain JSON; `place` says where each part of it stands; `digest` is the text's sha256."""

    path: str
    data: Json
    text: str
    marks: dict[Keys, tuple[int, int, int, int, int]] = field(repr=False, compare=False)

    @property
    def digest(self) -> str:
        """sha256 (hex) of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def place(self, keys: Sequence[str | int] = (), key: bool = False) -> Place:
        """Where the value at `keys` stands, or with `key` its key. The nearest parent's place when it has none itself."""
        at = tuple(keys)
        while at not in self.marks and at:
            at, key = at[:-1], False
        key_at, line, column, length, key_length = self.marks.get(at, (-1, 0, 0, 1, 1))
        if key and key_at >= 0:
            line, column, length = key_at >> 32, key_at & 0xFFFFFFFF, key_length
        return Place(self.path, line + 1, column + 1, max(length, 1), self._line(line))

    def _line(self, number: int) -> str:
        lines = _split(self.text)
        return lines[number] if number < len(lines) else ""

    def keys(self, at: Keys) -> Iterator[str]:
        """The keys of the mapping at `at`."""
        value = self.data
        for key in at:
            value = value[key]
        yield from value


@cache
def _split(text: str) -> list[str]:
    return text.split("\n")


def load(path: Path, shown: str | None = None) -> Document:
    """The document in the file at `path`; `shown` is the path to print. Raises EngineError (LG001 to LG011)."""
    name = shown if shown is not None else str(path)
    try:
        with path.open("rb") as file:
            content = file.read(gate.MAX_BYTES + 1)  # it may be a device without an end
    except OSError as error:
        reason = error.strerror or str(error)
        hint = _elsewhere(path) if isinstance(error, FileNotFoundError) else "check the path and its permissions"
        raise EngineError(Diagnostic("LG001", f"cannot read {name}: {reason}", hint=hint)) from None
    return parse(content, name)


def _elsewhere(path: Path) -> str:
    """Where a file that is not at `path` may be: spelt a little differently, or one folder further down."""
    try:
        below = [] if path.is_absolute() else [str(file) for file in Path().glob("*/*.y*ml")]
        beside = [str(file) for file in path.parent.glob("*.y*ml")]
    except OSError:
        below = beside = []
    same = sorted(file for file in below if Path(file).name == path.name)
    near = same[:1] or difflib.get_close_matches(str(path), [*beside, *below], 1, 0.85)
    return f"did you mean `{printable(near[0], 200)}`?" if near else "check the path and its permissions"


def parse(content: bytes | str, path: str) -> Document:
    """The document in `content`. Raises EngineError with one diagnostic for what stops reading, or all that do not."""
    text = gate.text_of(content, path)
    reader = _Reader(path, text)
    collecting = gc.isenabled()
    gc.disable()  # a large file makes hundreds of thousands of objects and no cycle: collecting doubles the time
    try:
        data = reader.read()
    except EngineError as stopped:  # what was found before is told too
        reader.found += stopped.diagnostics
    finally:
        if collecting:
            gc.enable()
    if reader.found:
        raise EngineError([_covered(d, reader.secrets) for d in reader.found])
    return Document(path, data, text, reader.marks)


def _covered(d: Diagnostic, secrets: dict[int, int]) -> Diagnostic:
    """The diagnostic, with nothing of a line from where a secret begins in it (line -> column, from 0)."""

    def cover(place: Place) -> Place:
        begin = secrets.get(place.line - 1)
        if begin is None or place.column + place.length - 1 <= begin:
            return place if begin is None else replace(place, text=place.text[:begin] + "…")
        return replace(place, text=place.text[:begin] + "…" if place.column - 1 == begin else "", length=1)

    place = d.place and cover(d.place)
    return replace(d, place=place, context=d.context and (cover(d.context[0]), d.context[1]))


def _written_down(what: str, place: Place) -> Diagnostic:
    detail = "Whoever can read this file, or its history, has it. It is not repeated here."
    hint = (
        "write {{ secret('env:NAME') }} or {{ secret('file:PATH') }}, and have this one replaced: it is no secret any more"
    )
    return Diagnostic("LG027", f"{what} is written down here", place, detail, hint)


class _Reader:
    """Walks the parser's events, builds plain data and the places, and collects what can be passed over."""

    def __init__(self, path: str, text: str) -> None:
        self.path, self.text = path, text
        self.found: list[Diagnostic] = []
        # keys -> key position (line << 32 | column, or -1), value line, value column, value length, key length
        self.marks: dict[Keys, tuple[int, int, int, int, int]] = {}
        self.nodes = 0
        self.secrets: dict[int, int] = {}

    def read(self) -> Json:
        import yaml

        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            # A text that may hold too many values is counted first: that takes a fourth of the time that reading takes.
            if sum(map(self.text.count, "\n,:")) > MAX_NODES:
                with suppress(yaml.YAMLError):
                    self._count(yaml.parse(self.text, Loader=loader))
            return self._document(yaml.parse(self.text, Loader=loader))
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = self._at(mark.line, mark.column, 1) if mark else Place(self.path)
            raise gate.stop("LG005", *self._unreadable(error.problem or error.context or "", place)) from None
        except yaml.YAMLError as error:
            raise gate.stop("LG005", f"not YAML: {printable(str(error))}", Place(self.path)) from None

    def _unreadable(self, problem: str, place: Place) -> tuple[str, Place, str]:
        """What libyaml could not read: said for people, where it is, what to do."""
        if "\t" in place.text[: place.column]:
            return "a tab indents this line", place, "indent with spaces"
        if problem.startswith("mapping values are not allowed"):
            return "a second `:` stands in this line", place, "put the text after the first one in quotes"
        if problem.startswith("found character that cannot start"):
            return f"a text cannot begin with `{printable(place.text[place.column - 1 :][:1])}`", place, "put it in quotes"
        lines = _split(self.text)[: place.line]
        for number, line in enumerate(lines):
            if line.replace('\\"', "").count('"') % 2 and "'" not in line:
                open_at = self._at(number, line.rfind('"'), 1)
                return "this quote is not closed", open_at, 'close it with "'
        said = printable(problem) or "it cannot be read"
        return f"not YAML: {said}", place, "check brackets, quotes and the indentation here and in the lines above"

    def _count(self, events: Iterator[Any]) -> None:
        """Refuses too many values before anything is made of them. What is refused for another reason is left to `_node`."""
        import yaml

        scalar, begins, ends = yaml.ScalarEvent, yaml.CollectionStartEvent, yaml.CollectionEndEvent
        depth = nodes = 0
        for event in events:
            if isinstance(event, scalar):
                nodes += 1
            elif isinstance(event, begins):
                nodes, depth = nodes + 1, depth + 1
            elif isinstance(event, ends):
                depth -= 1
            elif nodes:  # the document is at its end, or an alias stands in it
                return
            if depth > MAX_DEPTH:
                return
            if nodes > MAX_NODES:
                raise self._too_many(event.start_mark)

    def _too_many(self, mark: Any) -> EngineError:
        place = self._at(mark.line, mark.column, 1)
        return gate.stop("LG003", f"more than {MAX_NODES:,} values", place, "split the file")

    def _document(self, events: Iterator[Any]) -> Json:
        import yaml

        data: Json = None
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    line = event.start_mark.line if event.start_mark else 0
                    raise gate.stop(
                        "LG006", "a second document starts here", self._at(line, 0, 3), "one file holds one document"
                    )
            elif isinstance(event, yaml.NodeEvent):
                data = self._node(event, events)
        if documents == 0 or data is None:
            raise gate.stop(
                "LG006", "the file is empty", Place(self.path), "engine init makes a first playbook to start from"
            )
        return data

    def _node(self, event: Any, events: Iterator[Any]) -> Json:
        """One node and all below it. Iterative: depth is capped by us, never by the interpreter's stack.

        A hostile text passes here a quarter of a million times within its 2 s: what is done for every value is written out,
        and what only a mistake needs (places above all) is made where the mistake is.
        """
        import yaml

        scalar, mapping, ends = yaml.ScalarEvent, yaml.MappingStartEvent, (yaml.SequenceEndEvent, yaml.MappingEndEvent)
        root: list[Json] = []
        # The open container, its path, the key that waits for its value (mappings only) and that key's position and length.
        container: Json = root
        path: Keys = ()
        key: str | None = None
        key_at, key_length = -1, 1
        above: list[tuple[Json, Keys]] = []
        while True:
            kind = type(event)
            if kind in ends:
                container, path = above.pop()
            else:
                self.nodes += 1
                if self.nodes > MAX_NODES or event.anchor is not None or event.tag is not None:
                    raise self._refused(event)
                mark = event.start_mark
                line, column = mark.line, mark.column
                if key is None and type(container) is dict:
                    if kind is not scalar:
                        raise self._no_key(mark)
                    key_at, key_length = line << 32 | column, max(event.end_mark.column - column, 1)
                    key = self._key(event, container, path, key_length)
                else:
                    at = (*path, key) if key is not None else (*path, len(container)) if above else path
                    if kind is scalar:
                        end = event.end_mark
                        length = end.column - column if end.line == line else len(event.value)
                        self.marks[at] = (key_at, line, column, length, key_length)
                        value = self._scalar(event, at)
                    else:
                        self.marks[at] = (key_at, line, column, 1, key_length)
                        value = {} if kind is mapping else []
                    if key is not None:
                        container[key] = value
                    else:
                        container.append(value)
                    key, key_at, key_length = None, -1, 1
                    if kind is not scalar:
                        above.append((container, path))
                        container, path = value, at
                        if len(above) > MAX_DEPTH:
                            what = f"nested deeper than {MAX_DEPTH} levels"
                            raise gate.stop("LG003", what, self._at(line, column, 1), "write it flatter")
            if not above:
                return root[0]
            event = next(events)

    def _no_key(self, mark: Any) -> EngineError:
        """A key that is a list or a mapping: nearly always a template without its quotes."""
        place = self._at(mark.line, mark.column, 1)
        start = mark.column - 1
        if place.text[start : start + 2] == "{{":
            end = place.text.find("}}", start) + 2
            place = self._at(mark.line, start, max(end - start, 2))
            return gate.stop("LG007", "a template needs quotes around it", place, f'write "{place.text[start:end]}"')
        return gate.stop("LG007", "a key must be a text", place, "write the key as plain text")

    def _refused(self, event: Any) -> EngineError:
        """One value too many; or an anchor, an alias, a tag: each can make a reviewer read something else than what runs."""
        mark = event.start_mark
        if self.nodes > MAX_NODES:
            return self._too_many(mark)
        if event.anchor is not None:
            what = "an alias (*)" if type(event).__name__ == "AliasEvent" else "an anchor (&)"
            return gate.stop(
                "LG008", f"{what} is not part of the language", self._at(mark.line, mark.column, len(event.anchor) + 1),
                "write the value where it is used, or name it under `vars`",
            )  # fmt: skip
        tag = event.tag.replace("tag:yaml.org,2002:", "!!")
        place = self._at(mark.line, mark.column, len(tag))
        hint = "remove it; a secret is written {{ secret('env:NAME') }}"
        return gate.stop("LG008", f"the tag {printable(tag)} is not part of the language", place, hint)

    def _note(self, code: str, summary: str, place: Place, hint: str, context: tuple[Place, str] | None = None) -> None:
        """A mistake after which reading goes on, unless there are too many."""
        self._add(Diagnostic(code, summary, place, hint=hint, context=context))

    def _add(self, mistake: Diagnostic) -> None:
        self.found.append(mistake)
        if len(self.found) > MAX_MISTAKES:
            raise EngineError(())

    def _key(self, event: Any, container: dict[str, Json], path: Keys, length: int) -> str:
        key: str = event.value
        plain = event.implicit[0]
        fits = len(key) <= MAX_SCALAR
        if plain and fits and key not in container and key.isascii() and key != "<<" and type(_resolve(key)) is str:
            return key
        place = self._at(event.start_mark.line, event.start_mark.column, length)
        if not fits:
            raise gate.stop("LG003", f"a key longer than {MAX_SCALAR >> 10} KiB", place, "write a shorter one")
        if plain and key == "<<":
            self._note("LG008", "a merge key (<<) is not part of the language", place, "write the keys out")
        elif plain and not isinstance(_resolve(key), str):
            self._note("LG007", f"the key `{printable(key)}` is not a text", place, f'quote it: "{printable(key)}"')
        elif key in container:
            first = self.marks[(*path, key)][0]
            context = (self._at(first >> 32, first & 0xFFFFFFFF, length), "first here")
            self._note("LG009", f"the key `{printable(key)}` stands twice", place, "keep one of the two", context)
        elif not gate.one_script(key):
            self._add(gate.look_alike("key", key, place))
        if not plain:
            self._escaped(key, place)
        return key

    def _scalar(self, event: Any, at: Keys) -> Json:
        text: str = event.value
        if len(text) > MAX_SCALAR:
            what, hint = f"a text longer than {MAX_SCALAR >> 10} KiB", "keep large data in a file of its own"
            raise gate.stop("LG003", what, self._value(at), hint)
        if not text.isascii() and not gate.one_script(text):
            self._add(gate.look_alike("text", text, self._value(at)))
        name = at[-1] if at else ""
        if what := leak.kind(text, name if type(name) is str else ""):
            for line in range(event.start_mark.line, event.end_mark.line + 1):
                begin = event.start_mark.column if line == event.start_mark.line else 0
                self.secrets[line] = min(begin, self.secrets.get(line, begin))
            self._add(_written_down(what, self._value(at)))
        if not event.implicit[0]:
            if not (text.isascii() and text.isprintable()):
                self._escaped(text, self._value(at))
            return text
        value = _resolve(text)
        if type(value) is int and abs(value) > MAX_INTEGER:
            self._note("LG010", f"a number of {len(text)} digits", self._value(at), "quote it if it is a name or a version")
            return 0
        if type(value) is float or (value == text and text.startswith(_SIGNS)):
            vanished = value == 0 and bool(re.match(r"[^eE]*[1-9]", text))
            if vanished or _SPECIAL.fullmatch(text) or value in (math.inf, -math.inf):
                what = "too small a number" if vanished else "not a finite number"
                hint = "write a number that a computer can hold"
                self._note("LG010", f"`{printable(text)}` is {what}", self._value(at), hint)
                return 0
        return value

    def _escaped(self, text: str, place: Place) -> None:
        """What may not stand in the text may not be written as an escape either."""
        if gate.FORBIDDEN.search(text):
            self._note("LG004", "an escaped control or invisible character", place, "delete it")
        elif not unicodedata.is_normalized("NFC", text):
            hint = "write the composed form: two spellings of one name would look the same"
            self._note("LG004", "a character is escaped in its decomposed form", place, hint)

    def _at(self, line: int, column: int, length: int) -> Place:
        lines = _split(self.text)
        return Place(self.path, line + 1, column + 1, max(length, 1), lines[line] if line < len(lines) else "")

    def _value(self, at: Keys) -> Place:
        _, line, column, length, _ = self.marks[at]
        return self._at(line, column, length)


def _resolve(text: str) -> Json:
    """A plain scalar's value by YAML 1.2's core schema."""
    first = text[:1]
    if first.isalpha() or not text:
        if text in _NULLS:
            return None
        return _WORDS.get(text, text)
    if first.isdigit() or first in "+-.":
        if _INT.fullmatch(text):
            digits = text.lstrip("+-")
            # 0644 would be 420 to one reader and 644 to another: it stays a text, and a number is wanted elsewhere.
            return text if digits[0] == "0" and len(digits) > 1 else int(text[:20])
        if _FLOAT.fullmatch(text):
            return float(text)
    return None if text in _NULLS else text


def strict_json(text: str | bytes, path: str) -> Json:
    """JSON from outside. Raises EngineError (LG011), for doubled keys, half surrogates and numbers it does not hold too."""

    def pairs(items: list[tuple[str, Json]]) -> dict[str, Json]:
        found = dict(items)
        if len(found) != len(items):
            raise ValueError("a key stands twice")
        return found

    def number(word: str) -> Json:
        value = int(word[:20]) if word.lstrip("-").isdigit() else float(word)
        if not math.isfinite(value) or (type(value) is int and abs(value) > MAX_INTEGER):
            raise ValueError(f"it cannot hold the number {word[:40]}")
        return value

    try:
        text = text if isinstance(text, str) else text.decode()  # json itself lets half a surrogate pair pass
        found = json.loads(text, object_pairs_hook=pairs, parse_constant=number, parse_int=number, parse_float=number)
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        if isinstance(error, UnicodeEncodeError):
            error = ValueError("it cannot hold half a surrogate pair")
        line = getattr(error, "lineno", 1)
        place = Place(path, line, getattr(error, "colno", 1))
        raise gate.stop("LG011", f"not JSON: {printable(str(error))}", place) from None
    return found


@cache
def schema(name: str) -> dict[str, Json]:
    """`schemas/<name>.schema.json`, as installed."""
    found: dict[str, Json] = json.loads((resources.files("schemas") / f"{name}.schema.json").read_text("utf-8"))
    return found


class Shape:
    """A JSON Schema, ready to check values. Made once for each schema: jsonschema prepares it on first use."""

    def __init__(self, of: dict[str, Json]) -> None:
        self.of = of
        self._validator: Any = None

    def problems(self, value: Json, rendered: bool = False) -> list[Any]:
        """jsonschema's errors for `value`; until it is `rendered`, texts that hold a template are passed over."""
        if self._validator is None:
            from jsonschema import Draft202012Validator, FormatChecker
            from referencing import Registry

            checker = FormatChecker(formats=())
            for name, pattern in FORMATS.items():
                checker.checks(name)(
                    lambda text, pattern=pattern: not isinstance(text, str) or bool(pattern.fullmatch(text))
                )
            # An empty registry: the default one opens the addresses that it finds in `$ref`.
            self._validator = Draft202012Validator(self.of, registry=Registry(), format_checker=checker)
        return [error for error in self._validator.iter_errors(value) if rendered or not _templated(error)]


def validate(
    document: Document, of: Shape | dict[str, Json], at: Keys = (), what: str = "", but: Collection[str] = ()
) -> list[Diagnostic]:
    """Every way in which the part of `document` at `at` differs from the schema `of`, one diagnostic for each mistake.

    `what` names the module whose parameters they are; the keys `but` are left out, somebody else checks them. A text that
    holds a template is checked after rendering.
    """
    value = document.data
    for key in at:
        value = value[key]
    value = {key: inner for key, inner in value.items() if key not in but} if but else value
    shape = of if isinstance(of, Shape) else Shape(of)
    return refusal.tell(shape.problems(value), document, at, what)


def _templated(error: Any) -> bool:
    return isinstance(error.instance, str) and "{{" in error.instance
