"""template, values: a small closed language, one pass, types kept, nothing that reaches out, hangs or bursts."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engine import template, values
from modules.contract import Secret

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def fault(call: Callable[[], Any]) -> template.Fault:
    """What is wrong with it: it must be wrong, in one line, with a way out."""
    with pytest.raises(template.Fault) as caught:
        call()
    assert caught.value.message
    assert "\n" not in caught.value.message
    return caught.value


# -- what is not part of the language

#: The published ones first (CVE-2016-10745, 2019-10906, 2024-56201, 2024-56326, 2025-27516), then our own.
ESCAPES = [
    "'{0.__class__}'.format(1)",
    "'{x.__globals__}'.format_map({'x': run})",
    "''.format",
    "(''|attr('format'))(run)",
    "run|attr('__class__')",
    "('%s'|format)(1)",
    "'a'|map('attr', '__class__')|list",
    "[run]|map(attribute='__class__')|list",
    "['']|map('format')|list",
    "{}|xmlattr",
    "self._TemplateReference__context",
    "self",
    "self.x",
    "''.__class__",
    "''['__class__']",
    "''['__cla' + 'ss__']",
    "run['__init__']",
    "[].__class__.__base__.__subclasses__()",
    "x.__init__.__globals__['os'].popen('id').read()",
    "cycler.__init__.__globals__.os",
    "lipsum.__globals__",
    "joiner()",
    "namespace()",
    "namespace(a=1).a",
    "range(9)",
    "dict(a=1)",
    "get_flashed_messages()",
    "config.items()",
    "request",
    "x()",
    "x.y()",
    "run.id.upper()",
    "'a'.join(['b'])",
    "[1].append(2)",
    "x.append(1)",
    "secret",
    "secret()",
    "secret(x)",
    "secret('env:A', 'b')",
    "secret(name='env:A')",
    "secret('env:' + x)",
    "secret(*['env:A'])",
    "secret(**{'source': 'env:A'})",
    "secret.reveal()",
    "secret('env:A').reveal()",
    "secret('env:A')._text",
    "secret('env:A').source",
    "secret._known",
    "secret._base",
    "secret['_known']",
    "9 ** 9",
    "9 ** 9 ** 9",
    "'a' * 9",
    "[0] * 9",
    "9 * 9",
    "9 / 3",
    "9 // 2",
    "9 % 2",
    "'%s' % 'a'",
    "'a' ~ 'b'",
    "x[1:2]",
    "x[::2]",
    "'a'[0:1]",
    "x if",
    "x;y",
    "x = 1",
    "x := 1",
    "lambda: 1",
    "[i for i in x]",
    "(x for x in y)",
    "{i: 1 for i in x}",
    "x is callable",
    "x is sameas y",
    "x is filter",
    "x is escaped",
    "x is undefined_test",
    "x|attr('y')",
    "x|map('upper')",
    "x|select",
    "x|list",
    "x|e",
    "x|safe",
    "x|pprint",
    "x|format(1)",
    "x|random",
    "x|center(999999999)",
    "x|indent(999999999)",
    "x|wordwrap(1)",
    "x|filesizeformat",
    "x|batch(1)",
    "x|slice(1)",
    "x|groupby('y')",
    "x|dictsort",
    "x|urlize",
    "x|xmlattr",
    "x|items",
    "_",
    "_x",
    "__builtins__",
    "x._y",
    "x.__y__",
    "x['_y']",
    "x|default(_y)",
    "x if _y else 1",
    "import os",
    "{% if x %}1{% endif %}",
    "{{ x }}",
    "{# x #}",
    "x }}{% set a = 1 %}{{ y",
    "}}",
    "",
    "   ",
    "(",
    "[",
    "x +",
    "x ==",
    "'x",
    "x y",
    "ｘ",
    "рath",
    "x\u200b",
]


class Touched:
    """No data: whatever is done with it is a step out of the language."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"an expression reached {name}")


SECRET = 'hunter2-"ünlock"'


def reads_secret(source: str) -> Secret:
    return Secret(SECRET, source)


@pytest.mark.parametrize("text", ESCAPES)
def test_no_way_out_of_the_language(text: str) -> None:
    """What reaches for Python, calls, repeats or is no expression is refused before anything is evaluated,
    bare or in a text."""

    names = {"x": {"y": 1}, "y": 1, "run": Touched(), "config": Touched(), "request": Touched(), "secret": reads_secret}
    fault(lambda: template.decide(text, names))
    fault(lambda: template.render("{{ " + text + " }}", names))


@pytest.mark.parametrize("text", ["x }} {{ y", "x }}", "{{ x }}", "{{ x == 1 }}", " {{ x", "x }} == {{ 1"])
def test_a_bare_expression_has_no_braces(text: str) -> None:
    """Where an expression stands alone, braces are refused: they would be taken for a template."""
    fault(lambda: template.decide(text, {"x": True, "y": True}))


@pytest.mark.parametrize(
    "text",
    ["{% set x = 1 %}", "{% for i in x %}{% endfor %}", "{% include 'x' %}", "{% import 'os' as os %}",
     "{% raw %}{{ x }}{% endraw %}",
     "{# a comment #}", "{%- if x -%}", "a {% b", "{{ x", "{{ x }", "{{", "a {{ b {{ c }}", "{{ }}", "{{}}",
     "{{ x }} {{", "{%"],
)  # fmt: skip
def test_texts_hold_expressions_and_nothing_else(text: str) -> None:
    """Statements, comments and braces that do not fit together are refused."""
    fault(lambda: template.render(text, {"x": 1, "b": 1, "c": 1}))
    fault(lambda: template.parts(text))


NAMES: dict[str, Any] = {
    "a": 1, "b": 2.5, "t": "text", "yes": True, "no": False, "none_": None, "list": [1, 2, 3], "empty": [],
    "m": {"k": "v", "items": "an item", "keys": 1, "n": {"deep": [10, 20]}}, "hostile": "{{ a }} {% x %} {# y #}",
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a", 1), ("a + 1", 2), ("a - 3", -2), ("-a", -1), ("+a", 1), ("a == 1", True), ("a != 1", False),
        ("a < 2 <= 2", True),
        ("a in list", True), ("a not in [2]", True), ("not yes", False), ("yes and no", False), ("no or yes", True),
        ("m.k", "v"), ("m['k']", "v"), ("m.items", "an item"), ("m.keys", 1), ("m.n.deep[1]", 20), ("list[-1]", 3),
        ("1 if yes else 2", 1), ("[a, b]", [1, 2.5]), ("{'x': a}", {"x": 1}), ("(1, 2)", [1, 2]), ("[(1, 2)]", [[1, 2]]),
        ("a in (1, 2)", True), ("missing | default(7)", 7), ("m.missing | default('x')", "x"), ("m.a.b | default(0)", 0),
        ("none_ | default(7, true)", 7), ("missing is defined", False), ("m.k is defined", True), ("t is string", True),
        ("list | length", 3), ("list | sum", 6), ("list | max", 3), ("list | min", 1), ("list | first", 1),
        ("list | last", 3),
        ("[3, 1, 2] | sort", [1, 2, 3]), ("[1, 1, 2] | unique", [1, 2]), ("t | upper", "TEXT"),
        ("t | replace('t', 'T')", "TexT"),
        ("t | replace('t', 'T', 1)", "Text"), ("'' | replace('', 'x')", "x"), ("list | join('-')", "1-2-3"),
        ("[] | join", ""),
        ("[true, none, 1.5] | join(' ')", "true null 1.5"), ("[{'v': 1}, {'v': 2}] | join(',', 'v')", "1,2"),
        ("yes | string", "true"), ("none_ | string", "null"), ("b | string", "2.5"), ("list | string", "[1, 2, 3]"),
        ("{'a': '<&>'} | tojson", '{"a": "<&>"}'), ("('<' | tojson) + '<'", '"<"<'), ("'true' | bool", True),
        ("'False' | bool", False), ("'2' | int + 1", 3), ("'x' | int", 0), ("'1.5' | float", 1.5), ("1.55 | round(1)", 1.6),
        ("-2 | abs", 2), ("' x ' | trim", "x"), ("'{{'", "{{"), ("'a' + 'b'", "ab"), ("[1] + [2]", [1, 2]), ("true", True),
        ("none", None), ("'a\\nb'", "a\nb"), ("t == 'text' and m.n.deep[0] > 9", True),
    ],
)  # fmt: skip
def test_what_the_language_says(text: str, value: Any) -> None:
    """Each thing that the language has gives the value that a reader expects, with its type."""
    got = template.expression(text).value(NAMES)
    assert (value, type(value)) == (got, type(got))
    json.dumps(got, allow_nan=False)


@pytest.mark.parametrize(
    "text",
    ["missing", "m.missing", "m.k.x", "list[3]", "list['a']", "list.append", "t.upper", "t.k", "a.real",
     "m.n.deep.x", "none_.x",
     "a + t", "t + a", "-t", "t - t", "a < t", "a in a", "list | sort(attribute='x')", "[1, 'a'] | sort",
     "[1, 'a'] | max", "t | abs",
     "a | length", "m.k | join('-', 'v')", "[1] | join('-', 'v')", "t | sum", "t | round", "1e308 + 1e308",
     "'inf' | float", "'nan' | float",
     "1e999", "[1e999]", "empty | first", "empty | max", "t | replace", "t | round(1, 2, 3)", "m | sort(5, 6, 7, 8)"],
)  # fmt: skip
def test_what_cannot_be_computed_is_a_fault(text: str) -> None:
    """A wrong type, a name that is not there, a number that is none: each is a fault in plain words, never a traceback."""
    if text in ("empty | max", "empty | first"):
        with pytest.raises(template.Fault):
            template.expression(f"({text}) + 1").value(NAMES)
        return
    found = fault(lambda: template.expression(text).value(NAMES))
    assert "object at 0x" not in found.message


@pytest.mark.parametrize(
    ("text", "name", "hint"),
    [
        ("targt.version", "targt", "did you mean `target`?"),
        ("target.versoin", "target", "did you mean `version`?"),
        ("zzz", "zzz", "known are: target"),
    ],
)
def test_a_name_that_is_not_there_is_named(text: str, name: str, hint: str) -> None:
    """An unknown name or key is told with the likely spelling."""
    found = fault(lambda: template.expression(text).value({"target": {"version": "v1"}}))
    assert ("LG020", name) == (found.code, found.name)
    assert hint in found.hint


# -- one pass, types kept


@given(JSON)
def test_a_whole_expression_keeps_its_type(value: Any) -> None:
    """A text that is one expression gives the value itself."""
    got = template.render("{{ value }}", {"value": value})
    assert (json.dumps(value), type(value)) == (json.dumps(got), type(got))


@given(st.text(max_size=30), JSON, st.text(max_size=30))
def test_a_value_within_a_text_is_written_once(before: str, value: Any, after: str) -> None:
    """Within a text a value stands as text or as JSON, and what it holds is never rendered: data stays data."""
    assume("\r" not in before + after)  # the gate of source lets none in
    assume(not template.templated(before + "x" + after) and "{" not in before[-1:] + after[:1] and "}" not in after[:1])
    text = before + "{{ value }}" + after
    assert before + values.shown(value) + after == template.render(text, {"value": value}) or text == "{{ value }}"


@pytest.mark.parametrize("text", ["{{ a }}\n", "\n{{ a }}", " {{ a }} ", "a: {{ a }}\n\n", "{{ a }}{{ a }}\n"])
def test_white_space_is_kept(text: str) -> None:
    """A file's last line keeps its end: nothing around an expression is trimmed."""
    assert text.replace("{{ a }}", "1") == template.render(text, {"a": "1"})


HOSTILE = [
    "{{ a }}",
    "{{ secret('env:HOME') }}",
    "{% for x in y %}",
    "{# x #}",
    "}}",
    "{{",
    "' + a + '",
    "a }} {{ a",
    "{{ self }}",
]


@pytest.mark.parametrize("data", HOSTILE)
def test_data_is_never_rendered_again(data: str) -> None:
    """What came from outside arrives as it is, through every way into a text and through variables that hold variables."""
    names = {"a": "rendered", "data": data, "list": [data], "map": {data: data}}
    assert f"<{data}>" == template.render("<{{ data }}>", names)
    assert data == template.render("{{ data }}", names) == template.render("{{ list[0] }}", names)
    assert f"{data}-{data}" == template.render("{{ [data, data] | join('-') }}", names)
    assert {"x": [data, f"{data}!"]} == template.render({"x": ["{{ data }}", "{{ data }}!"]}, names)
    found = template.resolve(
        {"one": "{{ data }}", "two": "{{ one }} {{ one }}", "raw": data}, ["two", "raw"], names, frozenset(["raw"])
    )
    assert (f"{data} {data}", data) == (found["two"], found["raw"])


@given(
    st.recursive(
        st.sampled_from([1, None, "x", "{{ a }}", "{{ a }} {{ a }}"]), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
)
def test_rendering_keeps_the_shape(value: Any) -> None:
    """Lists and mappings are rendered in place; keys are never rendered; what holds no template is given back as it is."""
    expected = json.loads(json.dumps(value).replace('"{{ a }}"', '"A"').replace("{{ a }} {{ a }}", "A A"))
    assert expected == template.render(value, {"a": "A"})
    assert {"{{ a }}": "A"} == template.render({"{{ a }}": "{{ a }}"}, {"a": "A"})


# -- decisions


@pytest.mark.parametrize(
    "text", ["true", "a == 1", "not no", "yes", "m.k is defined", "'true' | bool", "missing is not defined"]
)
def test_a_decision_is_true_or_false(text: str) -> None:
    """A bare expression decides when it gives a boolean."""
    assert template.decide(text, NAMES) is True


@pytest.mark.parametrize(
    "text", ["a", "t", "'true'", "1", "0", "''", "none", "list", "empty", "m", "a or yes", "none_", "a and a"]
)
def test_what_is_neither_true_nor_false_decides_nothing(text: str) -> None:
    """Truthiness decides nothing: only true and false do."""
    found = fault(lambda: template.decide(text, NAMES))
    assert "LG022" == found.code


# -- names


@pytest.mark.parametrize(
    ("text", "names", "optional"),
    [
        ("a", {"a"}, set()), ("a.b.c", {"a"}, set()), ("a + b - c", {"a", "b", "c"}, set()), ("a if b else c", {"a",
        "b", "c"}, set()),
        ("a | default(b)", {"a", "b"}, {"a", "b"}), ("a is defined and a.b", {"a"}, {"a"}), ("secret('env:X')",
        {"secret"}, set()),
        ("[a, {'b': c}]", {"a", "c"}, set()), ("'a'", set(), set()), ("x[y]", {"x", "y"}, set()), ("none", set(), set()),
    ],
)  # fmt: skip
def test_names_that_an_expression_mentions(text: str, names: set[str], optional: set[str]) -> None:
    """An expression knows which names it needs, and which of them may be missing."""
    part = template.expression(text)
    assert (names, optional) == (part.names, part.optional)
    assert names == template.mentioned("<{{ " + text + " }}>") == template.mentioned(text, bare=True)


def test_variables_may_mention_each_other_but_not_in_a_circle() -> None:
    """Variables are resolved as they are needed, and only those; a circle is told as the way round it."""
    raw = {
        "a": "{{ b }}!",
        "b": "{{ c }}{{ c }}",
        "c": "x",
        "unused": "{{ nowhere }}",
        "p": "{{ q }}",
        "q": ["{{ r }}"],
        "r": {"k": "{{ p }}"},
    }
    assert {"a": "xx!", "b": "xx", "c": "x"} == template.resolve(raw, ["a"], {})
    assert "p -> q -> r -> p" in fault(lambda: template.resolve(raw, ["p"], {})).message
    assert "s -> s" in fault(lambda: template.resolve({"s": "{{ s }}"}, ["s"], {})).message
    assert {"c": "given", "a": "givengiven!", "b": "givengiven"} == template.resolve(raw, ["a"], {"c": "given"})


# -- bombs

DOUBLED = {f"v{n}": [f"{{{{ v{n - 1} }}}}"] * 2 for n in range(1, 60)} | {"v0": "lol"}
BOMBS: dict[str, Callable[[], Any]] = {
    "replace": lambda: template.render("{{ 'a'" + "|replace('a', 'aaaaaaaaaa')" * 100 + " }}", {}),
    "replace of nothing": lambda: template.render("{{ x" + "|replace('', x)" * 50 + " }}", {"x": "a" * 1000}),
    "join": lambda: template.render("{{ x | join(t) }}", {"x": [1] * 100_000, "t": "a" * 100_000}),
    "plus": lambda: template.render("{{ " + " + ".join(["x"] * 90) + " }}", {"x": "a" * 1_000_000}),
    "plus of lists": lambda: template.render("{{ " + " + ".join(["x"] * 90) + " }}", {"x": [0] * 1_000_000}),
    "tojson": lambda: template.render("{{ x | tojson(indent=1000000000) }}", {"x": [1]}),
    "round": lambda: template.render("{{ 1.5 | round(1000000000) | string }}{{ x }}", {}),
    "a long text": lambda: template.render("{{ x }}" * 5_000, {"x": "a" * 1_000}),
    "a long text of lists": lambda: template.render("{{ x }}" * 5_000, {"x": [["a" * 100] * 100] * 100}),
    "doubled texts": lambda: template.resolve(
        {f"v{n}": f"{{{{ v{n - 1} }}}}" * 2 for n in range(1, 60)} | {"v0": "lol"}, ["v59"], {}
    ),
    "doubled lists": lambda: template.resolve(DOUBLED, ["v59"], {}),
    "doubled mappings": lambda: template.resolve(
        {f"v{n}": {"a": f"{{{{ v{n - 1} }}}}", "b": f"{{{{ v{n - 1} }}}}"} for n in range(1, 60)} | {"v0": "lol"},
        ["v59"],
        {},
    ),
    "an expression too long": lambda: template.expression("a" + " + a" * 2_000),
    "a name too long": lambda: template.expression("a" * 5_000),
    "brackets": lambda: template.expression("(" * 2_000),
    "lists in lists": lambda: template.expression("[" * 2_000 + "]" * 2_000),
    "nots": lambda: template.expression("not " * 1_000 + "a"),
    "minuses": lambda: template.expression("- " * 2_000 + "1"),
    "dots": lambda: template.expression("a" + ".a" * 2_000),
    "filters": lambda: template.expression("a" + "|abs" * 1_000),
    "ands": lambda: template.expression("a" + " and a" * 600),
    "ifs": lambda: template.expression("a if a else " * 300 + "a"),
    "a text too long": lambda: template.parts("{{ a }}" + "x" * 100_000),
    "digits": lambda: template.render("{{ " + "9" * 4_000 + " + 1 }} {{ x }}", {}),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_at_once(name: str) -> None:
    """What would grow without end, or nest without end, is refused in a moment."""
    started = time.process_time()
    fault(BOMBS[name])
    assert time.process_time() - started < 4


@given(st.text(st.sampled_from("ab01'\".,:|()[]{}+-*=<>!~% \n_{}"), max_size=40))
def test_whatever_is_written_ends_as_a_value_or_a_fault(text: str) -> None:
    """No expression and no template ends in anything but data or a fault."""
    names = {"a": 1, "b": {"a": [True, "x"]}}
    for whole in (text, "{{" + text + "}}"):
        with contextlib.suppress(template.Fault):
            json.dumps(template.render(whole, names), allow_nan=False)
    with contextlib.suppress(template.Fault):
        assert type(template.decide(text, names)) is bool


# -- secrets


@pytest.mark.parametrize(
    "text",
    [
        "{{ s }}", "Bearer {{ s }}", "{{ s }}{{ s }}", "{{ s + 'x' }}", "{{ 'x' + s }}", "{{ s | string }}",
        "{{ [s] | first }}",
        "{{ s | default('x') }}", "{{ [s, s] | join('-') }}", "{{ ['x', s] | join }}", "{{ [s, 'x'] | last }}",
        "{{ {'k': s}.k }}",
        "{{ s if true else 1 }}", "{{ s or 1 }}", "{{ missing | default(s) }}", "{{ [s] | unique | first }}", "{{ s + s }}",
        "{{ secret('env:X') }}", "a {{ secret('env:X') }} b", "{{ [s] | sum }}", "{{ ['a', 'b'] | join(s) }}",
    ],
)  # fmt: skip
def test_a_secret_stays_one_however_it_is_joined(text: str) -> None:
    """What a secret goes into is a secret: it shows as stars, whatever prints it."""
    got = template.render(text, {"s": Secret(SECRET, "env:X"), "secret": reads_secret})
    if text != "{{ [s, 'x'] | last }}":
        assert isinstance(got, Secret)
        assert SECRET in got.reveal()
    for said in (
        str(got),
        repr(got),
        f"{got}",
        f"{got:>40}",
        json.dumps(got, default=str),
        str([got]),
        str({"k": got}),
    ):
        assert "hunter2" not in said


@pytest.mark.parametrize(
    "text",
    ["s | upper", "s | lower", "s | length", "s | tojson", "[s] | tojson", "{'k': s} | tojson", "s | replace('h', 'x')",
     "'a' | replace('a', s)",
     "s | trim", "s | first", "s | last", "s | int", "s | float", "s | bool", "s | abs", "s | round", "s | sort",
     "s | max", "s | min", "s | sum",
     "s | unique", "s | join", "s | join('-')", "s[0]", "s.source", "s.reveal", "s < 'x'", "'h' in s", "[s, z] | sort",
     "[s, z] | max", "-s",
     "s - 'x'", "s + 1 - 1", "[1] | sum(start=s)", "1 | default(1) | round(s)"],
)  # fmt: skip
def test_nothing_else_is_done_with_a_secret(text: str) -> None:
    """Filters and operators would work on the stars, or tell something of the text: they are refused, and repeat nothing."""
    found = fault(lambda: template.render("{{ " + text + " }}", {"s": Secret(SECRET, "env:X"), "z": Secret("zzz")}))
    assert "hunter2" not in found.message + found.hint
    assert "ünlock" not in found.message + found.hint


@pytest.mark.parametrize("text", ["{{ [s] }}!", "{{ {'k': s} }}!", "{{ [s] | string }}"])
def test_a_secret_within_a_value_is_stars_in_a_text(text: str) -> None:
    """A list that holds a secret, written into a text, holds stars there."""
    assert "hunter2" not in template.render(text, {"s": Secret(SECRET)})
    assert "***" in template.render(text, {"s": Secret(SECRET)})


@given(st.dictionaries(st.sampled_from(["a", "b"]), JSON))
def test_the_same_names_give_the_same(names: Mapping[str, Any]) -> None:
    """Rendering changes nothing of what it is given, and twice gives the same."""
    before = json.dumps(names, sort_keys=True)
    first = template.render(["{{ a | default(1) }}", "{{ b | default(2) }}x"], names)
    assert first == template.render(["{{ a | default(1) }}", "{{ b | default(2) }}x"], names)
    assert before == json.dumps(names, sort_keys=True)
