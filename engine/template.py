"""Expressions and `{{ }}` texts: strict, sandboxed, one pass. The only door to Jinja.

In: a value from a document and the names that are known. Out: the rendered value, or the names that it mentions, or a
`Fault` in plain words. It knows neither places nor steps.

Before anything is compiled, an expression's syntax tree must consist of a closed list of harmless nodes: no call but
`secret('…')`, no power, no text repetition, no name with a leading underscore. Data from outside is placed as a value
and never rendered again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from engine import values
from engine.diagnostics import did_you_mean, printable
from engine.values import Fault as Fault
from engine.values import shown as shown
from modules.contract import Json

MAX_TEXT = 4096
MAX_DEPTH = 100
FILTERS = frozenset({
    "abs", "bool", "default", "first", "float", "int", "join", "last", "length", "lower", "max", "min", "replace",
    "round", "sort", "string", "sum", "tojson", "trim", "unique", "upper",
})  # fmt: skip
TESTS = frozenset({
    "boolean", "defined", "eq", "equalto", "even", "false", "ge", "gt", "in", "le", "lt", "mapping", "ne", "none",
    "number", "odd", "sequence", "string", "true", "undefined",
})  # fmt: skip
_NODES = frozenset({
    "Name", "Const", "TemplateData", "Getattr", "Getitem", "Compare", "Operand", "And", "Or", "Not", "List", "Dict",
    "Pair", "Tuple", "Add", "Sub", "Neg", "Pos", "Filter", "Test", "CondExpr", "Keyword", "Call",
})  # fmt: skip
#: Expressions that are never true or false, and filters that may be.
_VALUES = frozenset(["TemplateData", "List", "Dict", "Tuple", "Add", "Sub", "Neg", "Pos"])
_OPEN = frozenset(["bool", "default", "first", "last", "max", "min"])
_SUGGEST = {
    "Mul": "`*` is not part of the language",
    "Div": "`/` is not part of the language",
    "Pow": "`**` is not part of the language",
    "Mod": "`%` is not part of the language",
    "FloorDiv": "`//` is not part of the language",
    "Concat": '`~` is not part of the language; texts join as "{{ a }}{{ b }}"',
    "Slice": "slices are not part of the language",
}


@lru_cache(maxsize=1)
def _environment() -> Any:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Environment(ImmutableSandboxedEnvironment):
        # A dot reads a mapping's key and nothing else: by default `x.items` finds the method before the key.
        def getattr(self, obj: Any, attribute: str) -> Any:
            return self.getitem(obj, attribute)

        def getitem(self, obj: Any, argument: Any) -> Any:
            if isinstance(obj, Mapping) and argument in obj:
                return obj[argument]
            if isinstance(obj, (list, tuple)) and type(argument) is int and -len(obj) <= argument < len(obj):
                return obj[argument]
            return self.undefined(obj=obj, name=argument)

        intercepted_binops = frozenset("+")

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            values.small_enough(sum(len(side) for side in (left, right) if isinstance(side, (str, list))))
            return super().call_binop(context, operator, left, right)

    made = Environment(
        undefined=StrictUndefined, autoescape=False, optimized=False, cache_size=0, keep_trailing_newline=True
    )
    made.globals.clear()
    made.filters = values.filters({name: made.filters[name] for name in FILTERS if name in made.filters})
    made.tests = {name: made.tests[name] for name in TESTS}
    return made


@dataclass(frozen=True)
class Part:
    """One expression, checked: its text, the names it needs, and the attributes it reads of them (`target.version`)."""

    text: str
    names: frozenset[str]
    optional: frozenset[str]
    reads: frozenset[tuple[str, str]]
    secrets: frozenset[str]
    #: Whether it may give true or false at all: `1`, `[a]` or `a + b` never do.
    decides: bool = True

    def value(self, names: Mapping[str, Json]) -> Json:
        """The expression's value. Raises Fault for an unknown name or a value that cannot be computed."""
        given = {name: names[name] for name in self.names if name in names}
        from jinja2 import TemplateError, Undefined

        try:
            result = _compiled(self.text)(given)
            if isinstance(result, Undefined):
                str(result)  # raises with the library's own words about what is undefined
            return values.plain(result)
        except Fault:
            raise
        except TemplateError as error:
            raise self._undefined(error, names) from None
        except (TypeError, ValueError, ArithmeticError, AttributeError, LookupError) as error:
            raise Fault(f"`{printable(self.text)}` cannot be computed: {printable(str(error))}") from None

    def _undefined(self, error: Exception, names: Mapping[str, Json]) -> Fault:
        for name in sorted(self.names):
            if name not in names:
                hint = did_you_mean(name, names, "known are: " + ", ".join(sorted(names)[:12]))
                return Fault(f"`{name}` is not defined", hint, name, "LG020")
        for name, key in sorted(self.reads):
            value = names.get(name)
            if isinstance(value, Mapping) and key not in value:
                hint = did_you_mean(key, [str(k) for k in value], "it has: " + ", ".join(sorted(map(str, value))[:12]))
                return Fault(f"`{name}` has no `{key}`", hint, name, "LG020")
        return Fault(f"`{printable(self.text)}`: {printable(str(error))}", code="LG020")


@lru_cache(maxsize=8192)
def _compiled(text: str) -> Callable[[Mapping[str, Json]], Json]:
    made: Callable[[Mapping[str, Json]], Json] = _environment().compile_expression(text, undefined_to_none=False)
    return made


@lru_cache(maxsize=65536)
def expression(text: str) -> Part:
    """A bare expression, checked. Raises Fault when it is not one, or holds what the language does not have."""
    from jinja2 import TemplateSyntaxError

    if len(text) > MAX_TEXT:
        raise Fault(f"an expression of {len(text)} characters", f"at most {MAX_TEXT} are read")
    if text.lstrip().startswith(("{{", "{%")):
        raise Fault("a bare expression stands here, without {{ }}", "write only what is between the braces")
    try:
        tree = _environment().parse("{{ " + text + " }}")
    except TemplateSyntaxError as error:
        raise _unreadable(error.message or "", text) from None
    except RecursionError:
        raise Fault("an expression nested too deeply", f"at most {MAX_DEPTH} levels are read") from None
    outputs = tree.body
    if len(outputs) != 1 or type(outputs[0]).__name__ != "Output" or len(outputs[0].nodes) != 1:
        raise Fault("not one expression", "write one expression that gives a value")
    names: set[str] = set()
    optional: set[str] = set()
    reads: set[tuple[str, str]] = set()
    secrets: set[str] = set()
    root = outputs[0].nodes[0]
    _allow(root, names, optional, reads, secrets)
    kind = type(root).__name__
    decides = (
        kind not in _VALUES and (kind != "Const" or type(root.value) is bool) and (kind != "Filter" or root.name in _OPEN)
    )
    return Part(text, frozenset(names), frozenset(optional), frozenset(reads), frozenset(secrets), decides)


def _unreadable(message: str, text: str) -> Fault:
    """Jinja's words for what it could not read, in ours."""
    if not text.strip():
        return Fault("an expression is missing here", "write a name or a comparison")
    if message.startswith("unexpected char") and text.count("'") % 2 + text.count('"') % 2:
        return Fault("a quote in this expression is not closed", "close it")
    if message.endswith("got '='"):
        return Fault("`=` does not compare", "write `==`")
    if message.startswith("Expected an expression"):
        return Fault("the expression ends too early", "write what it is compared with, or close the bracket")
    got = message.rpartition("got ")[2].strip("'") if "got " in message else message
    return Fault(f"not an expression: {printable(got)} cannot stand here", "check quotes, brackets and operators")


def _allow(
    node: Any, names: set[str], optional: set[str], reads: set[tuple[str, str]], secrets: set[str], depth: int = 0
) -> None:
    kind = type(node).__name__
    if depth > MAX_DEPTH:
        raise Fault("an expression nested too deeply", f"at most {MAX_DEPTH} levels are read")
    if kind not in _NODES:
        raise Fault(
            _SUGGEST.get(kind, f"{kind.lower()} is not part of the language"), "engine doc expressions lists what is"
        )
    name = str(getattr(node, "name", None) or getattr(node, "attr", None) or "")
    if kind in ("Name", "Getattr") and not name.isascii():
        raise Fault(
            f"`{printable(name)}` is not a name", "write letters from a to z, digits and `_`: others may only look alike"
        )
    if kind in ("Name", "Getattr") and name.startswith("_"):
        raise Fault(f"`{name}`: names that begin with an underscore cannot be read", "use another name", name)
    if kind == "Name" and name == "self":
        raise Fault("`self` is not a name here: it would be the template itself", "use another name", name)
    if kind == "Const" and isinstance(node.value, float) and not math.isfinite(node.value):
        raise Fault("this number is too large", "write a number that a computer can hold")
    if kind == "Name":
        names.add(name)
    elif kind == "Getitem" and isinstance(getattr(node.arg, "value", None), str) and node.arg.value.startswith("_"):
        raise Fault(f"`{node.arg.value}`: names that begin with an underscore cannot be read", "use another name")
    elif kind == "Getattr" and type(node.node).__name__ == "Name":
        reads.add((node.node.name, name))
    elif kind == "Filter" and name not in FILTERS:
        raise Fault(f"no filter `{name}`", did_you_mean(name, FILTERS, "filters: " + ", ".join(sorted(FILTERS))), name)
    elif kind == "Test" and name not in TESTS:
        raise Fault(f"no test `{name}`", did_you_mean(name, TESTS, "tests: " + ", ".join(sorted(TESTS))), name)
    elif kind == "Call":
        args = [getattr(arg, "value", None) for arg in node.args]
        if getattr(node.node, "name", "") != "secret" or len(args) != 1 or not isinstance(args[0], str) or node.kwargs:
            raise Fault(
                "calls are not part of the language, except secret('env:NAME')", "engine doc expressions lists what is"
            )
        secrets.add(args[0])
    inner: set[str] = set()
    for child in node.iter_child_nodes():
        _allow(child, inner, optional, reads, secrets, depth + 1)
    # `x | default(…)` and `x is defined` may name what is not there.
    if (kind == "Filter" and name == "default") or (kind == "Test" and name in ("defined", "undefined")):
        optional |= inner
    names |= inner


@lru_cache(maxsize=65536)
def _split(text: str) -> tuple[str | Part, ...]:
    """A text's literal pieces and expressions, in order. Raises Fault."""
    from jinja2 import TemplateSyntaxError

    pieces: list[str | Part] = []
    inside: list[str] | None = None
    if len(text) > 16 * MAX_TEXT:
        raise Fault(f"a text of {len(text)} characters with templates in it", f"at most {16 * MAX_TEXT} are read")
    try:
        for _, kind, value in _environment().lex(text):
            if kind in ("block_begin", "comment_begin", "raw_begin"):
                raise Fault(f"`{value.strip()}` is not part of the language", "only {{ expressions }} are")
            if kind == "variable_begin":
                inside = []
            elif kind == "variable_end":
                pieces.append(expression("".join(inside or []).strip()))
                inside = None
            elif inside is not None:
                inside.append(value)
            else:
                pieces.append(value)
        if inside is not None:
            raise Fault("`{{` without `}}`", "close the braces")
    except TemplateSyntaxError:
        raise Fault(
            "the braces of this template do not fit together", "write {{ before an expression and }} after it"
        ) from None
    return tuple(pieces)


def templated(text: str) -> bool:
    """Whether the text holds anything to render."""
    return "{{" in text or "{%" in text or "{#" in text


def parts(value: Json) -> list[Part]:
    """Every expression in `value`, at any depth. Raises Fault at the first that is none."""
    return [part for _, text in texts(value) for part in _split(text) if isinstance(part, Part)]


def mentioned(value: Json, bare: bool = False) -> frozenset[str]:
    """The names that `value` mentions (`bare`: as one expression). What is no expression is passed over here."""
    try:
        found = [expression(value)] if bare else parts(value)
    except Fault:
        return frozenset()
    return frozenset(name for part in found for name in part.names)


def texts(value: Json, at: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yields (key path, text) for every templated text in `value`."""
    if isinstance(value, str):
        if templated(value):
            yield at, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from texts(inner, (*at, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from texts(inner, (*at, index))


def render(value: Json, names: Mapping[str, Json]) -> Json:
    """`value` with every template replaced; a text that is one whole expression keeps its type. Raises Fault.

    A Fault carries no place: callers that have places render parameter by parameter.
    """
    made = _rendered(value, names)
    return made if made is value or isinstance(made, str) else values.plain(made)


def _rendered(value: Json, names: Mapping[str, Json]) -> Json:
    if isinstance(value, str):
        return _text(value, names) if templated(value) else value
    if isinstance(value, dict):
        return {key: _rendered(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rendered(inner, names) for inner in value]
    return value


def _text(text: str, names: Mapping[str, Json]) -> Json:
    pieces = _split(text)
    if len(pieces) == 1 and isinstance(pieces[0], Part):
        return pieces[0].value(names)
    return values.joined(piece if isinstance(piece, str) else piece.value(names) for piece in pieces)


def decide(text: str, names: Mapping[str, Json]) -> bool:
    """A bare expression that must be true or false. Raises Fault when it is anything else."""
    result = expression(text).value(names)
    if type(result) is not bool:
        raise Fault(
            f"`{printable(text)}` gave {printable(shown(result), 40)}, not true or false",
            "compare it with something, for example `x == 'yes'` or `x is defined`",
            code="LG022",
        )
    return result


def resolve(
    raw: Mapping[str, Json], wanted: Iterable[str], fixed: Mapping[str, Json], outside: frozenset[str] = frozenset()
) -> dict[str, Json]:
    """The variables `wanted` of `raw`, each rendered with the others and `fixed`. Those `outside` are data and stay so.

    Raises Fault for a name that is not there or a circle of variables.
    """
    done: dict[str, Json] = dict(fixed)
    open_: list[str] = []

    def one(name: str) -> None:
        if name in done or name not in raw:
            return
        if name in open_:
            raise Fault(
                "variables in a circle: " + " -> ".join([*open_[open_.index(name) :], name]),
                "give one of them a plain value",
                name,
                "LG023",
            )
        open_.append(name)
        value = raw[name]
        if name not in outside:
            for part in parts(value):
                for needed in part.names:
                    one(needed)
            value = render(value, done)
        done[name] = value
        open_.pop()

    for name in wanted:
        one(name)
    return done
