"""source: the gate refuses what hides or bursts, the reader gives plain data, and every part of it has its place."""

from __future__ import annotations

import gc
import json
import re
import socket
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from engine import gate, source
from engine.diagnostics import Diagnostic, EngineError

Keys = tuple[str | int, ...]


def mistakes(content: bytes | str) -> tuple[Diagnostic, ...]:
    """What is wrong with the text. It must be wrong."""
    with pytest.raises(EngineError) as caught:
        source.parse(content, "book.yml")
    assert caught.value.exit == 3
    return caught.value.diagnostics


def mistake(content: bytes | str) -> tuple[str, int, int]:
    """The one mistake in the text: its code, line and column."""
    (found,) = mistakes(content)
    assert found.place is not None
    assert found.hint, found
    return found.code, found.place.line, found.place.column


def walk(value: Any, at: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Every part of the value with its key path."""
    yield at, value
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from walk(inner, (*at, key))


# -- the byte gate


HIDDEN = [
    "\0", "\x07", "\x0b", "\x0c", "\r", "\x1b", "\x7f", "\u0085", "\u009b", "\u00ad", "\u061c", "\u180e", "\u200b", "\u200e",
    "\u200f", "\u2028", "\u2029", "\u202a", "\u202e", "\u2060", "\u2066", "\u2069", "\u3164", "\ufeff", "\ufff9", "\ufffe",
    "\U000e0041", "\U000e0001",
]  # fmt: skip


@pytest.mark.parametrize("char", HIDDEN, ids=[f"U+{ord(char):04X}" for char in HIDDEN])
@pytest.mark.parametrize(
    ("text", "line", "column"), [("name: a{}b\n", 1, 8), ("a: 1\n# {}\nb: 2\n", 2, 3), ("ab{}c: 1\n", 1, 3)]
)
def test_hidden_characters_are_refused_where_they_stand(char: str, text: str, line: int, column: int) -> None:
    """What an editor does not show, or shows as something else, stops the reading, in comments and keys too."""
    assert ("LG004", line, column) == mistake(text.format(char))


ESCAPED = ["\\0", "\\a", "\\e", "\\x7f", "\\N", "\\L", "\\P", "\\u200b", "\\u202e", "\\uFEFF", "\\u061c"]


@pytest.mark.parametrize("escape", ESCAPED)
@pytest.mark.parametrize("text", ['name: "a{}b"\n', '"a{}b": 1\n', '- "a{}b"\n', '{{"x": ["a{}b"]}}\n'])
def test_escapes_bring_no_hidden_characters(escape: str, text: str) -> None:
    """A character that may not stand in the text may not be written as an escape either: in a value, in a key, in a list."""
    assert {"LG004"} == {d.code for d in mistakes(text.format(escape))}


def test_a_decomposed_key_has_no_twin() -> None:
    """Two spellings of one name cannot stand side by side: decomposed text is refused, raw or written as an escape."""
    assert ("LG004", 2, 1) == mistake("\u00e9: 1\ne\u0301: 2\n")
    assert ("LG004", 2, 1) == mistake('"\u00e9": 1\n"e\\u0301": 2\n')


@pytest.mark.parametrize("key", ["p\u0430th", "\u0440ath", "n\u03bfnce"])
def test_look_alikes_are_refused(key: str) -> None:
    """A word of two alphabets is refused where it stands: `pаth` with a Cyrillic letter is not `path`."""
    assert ("LG004", 1, 1) == mistake(f"{key}: 1\n")
    assert ("LG004", 1, 4) == mistake(f"a: {key}\n")


@pytest.mark.parametrize(
    "text", ["name: précision über alles\n", "имя: модель\n", "name: 模型 модель model\n", "name: € → 🙂\n"]
)
def test_languages_of_people_are_welcome(text: str) -> None:
    """Accents, other alphabets, signs and emoji pass the gate."""
    assert source.parse(text, "book.yml").text == text


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (b"name: \xff\n", 1),
        (b"a: 1\nb: \xc3(\n", 2),
        (b"a: 1\n\nb: \xed\xa0\x80\n", 3),  # half a surrogate pair
        (b"b: \xc0\xaf\n", 1),  # an overlong slash
        ("name: a\n".encode("utf-16"), 1),
        ("name: a\n".encode("utf-16-be"), 1),
        ("name: a\n".encode("utf-16-le"), 1),
        ("name: ä\n".encode("latin-1"), 1),
    ],
)
def test_bytes_that_are_not_utf8(raw: bytes, line: int) -> None:
    """Other encodings are refused at the line of the first byte that is none of UTF-8."""
    (found,) = mistakes(raw)
    assert ("LG002", line) == (found.code, found.place and found.place.line)


def test_a_byte_order_mark_is_refused() -> None:
    """A file begins with its first character."""
    assert ("LG004", 1, 1) == mistake(b"\xef\xbb\xbfname: a\n")


def test_half_a_surrogate_pair_in_a_text_is_refused() -> None:
    """A str that has no UTF-8 is refused like bytes that are none."""
    assert "LG002" == mistakes("name: \ud800\n")[0].code


# -- caps


def padded(size: int) -> bytes:
    line = b"# " + b"x" * 97 + b"\n"
    text = b"name: a\n" + line * (size // len(line) + 1)
    return text[: size - 1] + b"\n"


def test_the_cap_on_bytes_is_exact(tmp_path: Path) -> None:
    """A file of the largest size is read, one byte more is refused, from disk and from memory."""
    file = tmp_path / "book.yml"
    file.write_bytes(padded(gate.MAX_BYTES))
    assert {"name": "a"} == source.load(file).data == source.parse(file.read_bytes(), "book.yml").data
    file.write_bytes(padded(gate.MAX_BYTES + 1))
    assert ("LG003", 1, 1) == mistake(file.read_bytes())
    with pytest.raises(EngineError) as caught:
        source.load(file)
    assert "LG003" == caught.value.diagnostics[0].code


def test_a_device_without_an_end_is_not_read_to_its_end() -> None:
    """Reading stops at the cap, whatever the file says of its size."""
    with pytest.raises(EngineError) as caught:
        source.load(Path("/dev/zero"))
    assert "LG003" == caught.value.diagnostics[0].code


@pytest.mark.parametrize("path", ["nothing.yml", ".", "a/b/c.yml"])
def test_a_file_that_cannot_be_read(path: str, tmp_path: Path) -> None:
    """What is not there, or is a folder, is named with the system's reason."""
    with pytest.raises(EngineError) as caught:
        source.load(tmp_path / path, "shown.yml")
    assert "LG001" == caught.value.diagnostics[0].code
    assert "shown.yml" in caught.value.diagnostics[0].summary


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "[{a: "], ids=["flow list", "flow map", "block list", "mixed"])
@pytest.mark.parametrize("depth", [65, 3_000, 200_000])
def test_nesting_is_capped_and_never_ends_the_process(opening: str, depth: int) -> None:
    """Brackets as deep as anybody likes are refused at the 65th level, at once: 50,000 of them end PyYAML's own loader."""
    started = time.process_time()
    assert "LG003" == mistakes(opening * depth)[0].code
    assert time.process_time() - started < 2


def test_the_deepest_nesting_that_is_read() -> None:
    """64 levels are read, the 65th is refused."""
    assert source.parse("[" * 64 + "]" * 64, "book.yml")
    assert ("LG003", 1, 65) == mistake("[" * 65 + "]" * 65)


def test_the_cap_on_one_text_is_exact() -> None:
    """A text of 64 KiB is read, one character more is refused at the text's place."""
    assert {"a": "x" * source.MAX_SCALAR} == source.parse(f"a: {'x' * source.MAX_SCALAR}\n", "book.yml").data
    assert ("LG003", 2, 4) == mistake(f"b: 1\na: {'x' * (source.MAX_SCALAR + 1)}\n")
    assert ("LG003", 1, 1) == mistake(f"{'x' * (source.MAX_SCALAR + 1)}: 1\n"), "a key is a text too"


LAUGHS = "a: &a [lol,lol,lol,lol,lol,lol,lol,lol,lol]\n" + "".join(
    f"{chr(letter)}: &{chr(letter)} [{','.join([f'*{chr(letter - 1)}'] * 9)}]\n" for letter in range(ord("b"), ord("j"))
)
BOMBS = {
    "50 MB scalar": lambda: "a: " + "x" * 50_000_000,
    "50 MB of keys": lambda: "".join(f"key{n}: {n}\n" for n in range(3_000_000)),
    "8 MB scalar": lambda: "a: " + "x" * 8_000_000,
    "8 MB quoted": lambda: 'a: "' + "x" * 8_000_000 + '"',
    "unclosed quote": lambda: 'a: "' + "x\n" * 4_000_000,
    "only spaces": lambda: " " * 8_000_000,
    "only lines": lambda: "\n" * 8_000_000,
    "tabs": lambda: "\t" * 8_000_000,
    "billion laughs": lambda: LAUGHS,
    "anchor of itself": lambda: "a: &a [*a]\n",
    "question marks": lambda: "? " * 100_000,
    "colons": lambda: "a: " * 100_000,
    "commas": lambda: "[" + "," * 100_000,
    "quotes": lambda: "- '" * 100_000,
    "documents": lambda: "---\n" * 100_000,
    "directives": lambda: "%YAML 1.2\n" * 100_000,
    "tags": lambda: "- !a x\n" * 100_000,
    "anchors": lambda: "".join(f"- &a{n} x\n" for n in range(100_000)),
    "long number": lambda: "a: " + "9" * 60_000,
    "many long numbers": lambda: ("- " + "9" * 60_000 + "\n") * 100,
    "merge keys": lambda: "<<: {a: 1}\n" * 50_000,
    "equal keys": lambda: "a: 1\n" * 200_000,
}
LIMITED = """
import re, sys, time
from engine import gate, source
from engine.diagnostics import EngineError, render
text = sys.stdin.buffer.read()
started = time.process_time()
try:
    source.parse(text, "book.yml")
    print("read")
except EngineError as error:
    shown = render(error.diagnostics)
    print(error.diagnostics[0].code, len(shown))
print(time.process_time() - started, int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) // 1024)
"""


def limited(text: str) -> tuple[list[str], float, int]:
    """The text read in a process of its own: what came of it, seconds of work, MiB at the most."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED], input=text.encode(), capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    said, cost = done.stdout.decode().splitlines()
    seconds, memory = cost.split()
    return said.split(), float(seconds), int(memory)


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_cheaply(name: str) -> None:
    """Every bomb ends as one short text of diagnostics, within 2 s of work and 256 MiB beside the input."""
    text = BOMBS[name]()
    (code, shown), seconds, memory = limited(text)
    assert re.fullmatch(r"LG0(03|05|06|07|08|09|10)", code)
    assert int(shown) < 20_000
    assert seconds < 2
    assert memory - len(text) // 2**20 < 256


def test_as_many_keys_as_are_allowed_are_read() -> None:
    """A large mapping is no bomb: it is read whole, in seconds and 256 MiB."""
    (said,), seconds, memory = limited("".join(f"key_{n}: {n}\n" for n in range(source.MAX_NODES // 2 - 1)))
    assert "read" == said
    assert seconds < 4  # half of that on a machine of one's own
    assert memory < 256


def test_the_cap_on_values_is_exact() -> None:
    """As many values as are allowed are read, and the first one too many is refused where it stands."""
    most = source.MAX_NODES - 1  # the list is a value too
    assert most == len(source.parse("- 1\n" * most, "book.yml").data)
    assert ("LG003", most + 1, 3) == mistake("- 1\n" * (most + 1))


def test_values_are_counted_before_anything_is_made_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text with too many values is refused without one of them being read, and at the place where reading would stop."""
    made: list[str] = []
    monkeypatch.setattr(source, "_resolve", lambda text: made.append(text) or text)
    text = "- [1, 1]\n" * source.MAX_NODES
    assert ("LG003", source.MAX_NODES // 3 + 1, 3) == mistake(text)
    assert [] == made


@pytest.mark.parametrize("wrong", ["- &a 1\n", "- !a 1\n", "- *a\n", "- " * 65 + "1\n", "- @b\n", "---\n"])
def test_counting_hides_no_other_mistake(wrong: str) -> None:
    """What ends the reading of a small text ends it in one that is counted first, together with what stands before it."""
    before = "- {a: 1, a: 2}\n"
    small = [(d.code, d.place and d.place.line) for d in mistakes(before + wrong)]
    assert ["LG009"] == [code for code, _ in small][:1]
    assert small == [(d.code, d.place and d.place.line) for d in mistakes(before + wrong + "#,,,\n" * source.MAX_NODES)]


# -- what is not part of the language


@pytest.mark.parametrize(
    ("text", "code", "line", "column"),
    [
        ("a:\n\t- b\n", "LG005", 2, 1),
        ("a: 1\n\tb: 2\n", "LG005", 2, 1),
        ("a: [1, 2\n", "LG005", 2, 1),
        ("a: 'b\n", "LG005", 2, 1),
        ("a: b: c\n", "LG005", 1, 5),
        ("a: @b\n", "LG005", 1, 4),
        ("a: 1\n---\nb: 2\n", "LG006", 2, 1),
        ("", "LG006", 1, 1),
        ("# nothing\n", "LG006", 1, 1),
        ("null\n", "LG006", 1, 1),
        ("---\n...\n", "LG006", 1, 1),
        ("1: a\n", "LG007", 1, 1),
        ("a:\n  true: b\n", "LG007", 2, 3),
        ("~: a\n", "LG007", 1, 1),
        ("null: a\n", "LG007", 1, 1),
        ("1.5: a\n", "LG007", 1, 1),
        ("? [a, b]\n: c\n", "LG007", 1, 3),
        ("? {a: b}\n: c\n", "LG007", 1, 3),
        ("{{a}}: b\n", "LG007", 1, 1),
        ("a: {{b}}\n", "LG007", 1, 4),
        ("a: &x 1\n", "LG008", 1, 4),
        ("a: *x\n", "LG008", 1, 4),
        ("a: !!python/object/apply:os.system [ls]\n", "LG008", 1, 4),
        ("a: !vault x\n", "LG008", 1, 4),
        ("a: !!str 1\n", "LG008", 1, 4),
        ("a: ! 1\n", "LG008", 1, 4),
        ("a: !!binary aGk=\n", "LG008", 1, 4),
        ("!!set {a, b}\n", "LG008", 1, 1),
        ("<<: {a: 1}\n", "LG008", 1, 1),
        ("a: 1\nb: 2\na: 3\n", "LG009", 3, 1),
        ("a: {b: 1, 'b': 2}\n", "LG009", 1, 11),
        ("- {a: 1}\n- {b: 1, c: {d: 1, \"d\": 2}}\n", "LG009", 2, 20),
        ("a: .inf\n", "LG010", 1, 4),
        ("a: -.INF\n", "LG010", 1, 4),
        ("a: .NaN\n", "LG010", 1, 4),
        ("a: 1e999\n", "LG010", 1, 4),
        ("a: -1e999\n", "LG010", 1, 4),
        ("a: 9007199254740992\n", "LG010", 1, 4),
        ("a: -9007199254740992\n", "LG010", 1, 4),
        (f"a: {'1' * 19}\n", "LG010", 1, 4),
        (f"a: {'1' * 5_000}\n", "LG010", 1, 4),
    ],
)  # fmt: skip
def test_what_is_refused_and_where(text: str, code: str, line: int, column: int) -> None:
    """Each thing that makes a reviewer read something else than the engine is refused at its place."""
    assert (code, line, column) == mistake(text)


def test_all_mistakes_at_once() -> None:
    """What can be passed over is collected, each with its own place."""
    text = "a: 1\n1: b\na: .inf\nc: {<<: 2, d: 1, d: 2}\n"
    found = sorted((d.code, d.place.line, d.place.column) for d in mistakes(text) if d.place)
    assert [("LG007", 2, 1), ("LG008", 4, 5), ("LG009", 3, 1), ("LG009", 4, 18), ("LG010", 3, 4)] == found


def test_reading_stops_when_there_are_too_many() -> None:
    """After a thousand mistakes no more are collected: twenty are shown."""
    assert source.MAX_MISTAKES < len(mistakes("a: 1\n" * 5_000)) <= source.MAX_MISTAKES + 2


def test_the_other_place_of_a_doubled_key() -> None:
    """Whoever wrote a key twice is shown both places."""
    (found,) = mistakes("first: 1\nsecond: 2\nfirst: 3\n")
    assert found.context is not None
    assert (1, 1, 5) == (found.context[0].line, found.context[0].column, found.context[0].length)


def test_the_collector_is_left_as_it_was() -> None:
    """Reading stops the garbage collector for a moment and starts it again, after a mistake too."""
    assert gc.isenabled()
    source.parse("a: 1\n", "book.yml")
    mistakes("a: [\n")
    assert gc.isenabled()


# -- the values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True), ("True", True), ("TRUE", True), ("false", False), ("tRUE", "tRUE"), ("yes", "yes"), ("NO", "NO"),
        ("on", "on"), ("y", "y"), ("null", None), ("~", None), ("Null", None), ("", None), ("nULL", "nULL"), ("0", 0),
        ("-0", 0), ("12", 12), ("+12", 12), ("-12", -12), ("012", "012"), ("0644", "0644"), ("0o17", "0o17"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"), ("12:30:45", "12:30:45"), ("1.5", 1.5), ("1.", 1.0), (".5", 0.5), ("1e3", 1000.0), ("1.10", 1.1),
        ("-1.5e-3", -0.0015), ("1.3.2", "1.3.2"), ("2024-02-30", "2024-02-30"), ("1e", "1e"), ("+", "+"), (".", "."),
        ("-.5", -0.5), ("١٢", "١٢"), ("１２", "１２"), ("1٢", "1٢"), ("²", "²"), ("'1'", "1"),
        ('"true"', "true"), ("'~'", "~"), ("=", "="), ("9007199254740991", 9007199254740991), ("5m", "5m"), ("90%", "90%"),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    """YAML 1.2's core schema and nothing of 1.1: NO is a text, 0644 is not 420, other scripts' digits are no numbers."""
    got = source.parse(f"- {text}\n- x\n", "book.yml").data[0]
    assert (type(value), value) == (type(got), got)


def test_block_texts_keep_their_lines() -> None:
    """The forms of a text over several lines give what YAML says, and stand where they begin."""
    text = "a: |\n  one\n  two\nb: >-\n  one\n  two\nc: 'one\n\n  two'\n"
    document = source.parse(text, "book.yml")
    assert {"a": "one\ntwo\n", "b": "one two", "c": "one\ntwo"} == document.data
    assert [(1, 4), (4, 4), (7, 4)] == [(document.place((k,)).line, document.place((k,)).column) for k in "abc"]


# -- places

PLAIN = st.characters(codec="utf-8", exclude_categories=("Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"))
WORDS = st.text(PLAIN, max_size=12).map(lambda text: unicodedata.normalize("NFC", text))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=20,
)
ROOTS = st.lists(JSON, min_size=1, max_size=4) | st.dictionaries(WORDS, JSON, min_size=1, max_size=4)


def readable(text: str) -> source.Document:
    """The document, unless the text is refused for what it holds (alphabets mixed, a key that looks like a secret)."""
    try:
        return source.parse(text, "book.yml")
    except EngineError as error:
        if {d.code for d in error.diagnostics} <= {"LG004", "LG027"}:
            reject()
        raise


def excerpt(document: source.Document, keys: Keys, key: bool = False) -> str:
    """What stands at the place of a value, or of its key: as long as the place says."""
    place = document.place(keys, key)
    line = document.text.split("\n")[place.line - 1]
    assert line == place.text
    return line[place.column - 1 : place.column - 1 + place.length]


@given(ROOTS, st.sampled_from([None, 1, 2, 7]))
def test_every_place_points_at_its_value_in_json(data: Any, indent: int | None) -> None:
    """Written as JSON, each value and each key is found, to the character, at the place that the document gives."""
    document = readable(json.dumps(data, ensure_ascii=False, indent=indent))
    assert data == document.data
    for keys, value in walk(data):
        shown = excerpt(document, keys)
        assert shown == (
            "{" if isinstance(value, dict) else "[" if isinstance(value, list) else json.dumps(value, ensure_ascii=False)
        )
        if keys and isinstance(keys[-1], str):
            assert json.dumps(keys[-1], ensure_ascii=False) == excerpt(document, keys, key=True)


@given(ROOTS)
def test_every_place_points_at_its_value_in_blocks(data: Any) -> None:
    """In YAML's block style, each scalar and key reads back from its place; a container begins with its first part."""
    text = yaml.safe_dump(data, default_flow_style=False, allow_unicode=True, sort_keys=False, width=10**9)
    assume("? " not in text and "!!" not in text and "\\" not in text and "\n\n" not in text)
    assume(not re.search(r"(?m)^[ -]*[-+.]?\d[\d.eE+-]*:", text))  # PyYAML writes `0E0` bare, and by YAML 1.2 it is a number
    document = readable(text)
    for keys, value in walk(document.data):
        shown = excerpt(document, keys)
        if isinstance(value, (dict, list)):
            first = next(iter(walk(value, keys)), None) and next((k for k, _ in list(walk(value, keys))[1:]), None)
            if first is None:
                assert shown in "{["
            elif isinstance(value, dict):
                assert document.place(keys).line == document.place(first, key=True).line
                assert document.place(keys).column == document.place(first, key=True).column
            else:
                assert "-" == shown
        else:
            assert [value] == source.parse(f"- {shown}\n- x\n", "again.yml").data[:1]
        if keys and isinstance(keys[-1], str):
            assert {keys[-1]: 1} == source.parse(f"{excerpt(document, keys, key=True)}: 1\n", "again.yml").data


def test_places_on_a_very_long_line() -> None:
    """A file of one line has places too, however far to the right they are."""
    data = {f"key_{n}": n for n in range(100_000)}
    text = json.dumps(data)
    assert len(text) > 2**20
    document = source.parse(text, "book.yml")
    for key in ("key_0", "key_9999", "key_99999"):
        assert (1, text.index(f'"{key}"') + 1) == (
            document.place((key,), key=True).line,
            document.place((key,), key=True).column,
        )
        assert str(data[key]) == excerpt(document, (key,))


def test_the_place_of_what_is_not_there_is_its_parents() -> None:
    """Asked for a part that is missing, the document gives the nearest part around it."""
    document = source.parse("a:\n  b: [1, 2]\n", "book.yml")
    assert document.place(("a", "b")) == document.place(("a", "b", 7, "x"))
    assert document.place(("a", "b")) == document.place(("a", "b", "x"), key=True)
    assert document.place(()) == document.place(("nothing",))


@settings(max_examples=300)
@given(st.text(st.sampled_from(" \n\t-:?,[]{}#&*!|>'\"%@`ab01~.<=\\é{}"), max_size=60) | st.binary(max_size=60))
def test_whatever_is_read_ends_as_data_or_as_diagnostics(text: str | bytes) -> None:
    """No text ends in anything but plain data, or an error whose every mistake has a place in the text."""
    try:
        document = source.parse(text, "book.yml")
    except EngineError as error:
        lines = (text if isinstance(text, str) else text.decode("utf-8", "replace")).count("\n") + 1
        for d in error.diagnostics:
            assert d.place is not None
            assert d.hint
            assert 1 <= d.place.line <= lines + 1
            assert "\n" not in d.summary
    else:
        json.dumps(document.data, allow_nan=False)
        assert all(document.place(keys).line >= 1 for keys, _ in walk(document.data))


# -- JSON from outside


@pytest.mark.parametrize(
    "text",
    ['{"a": 1, "a": 2}', '[{"a": {"b": 1, "b": 1}}]', "[NaN]", "[Infinity]", "[-Infinity]", "", "[", "[1,]", "{'a': 1}",
     "[" * 100_000,
     b"\xff", b"[\"\xed\xa0\x80\"]", "9" * 5_000, "9007199254740992",
     "-9007199254740992", "[1e999]", "-1e999", r'["\ud800"]', r'{"\udfff": 1}'],
)  # fmt: skip
def test_json_from_outside_is_strict(text: str | bytes) -> None:
    """Doubled keys, numbers that are none, broken text and bottomless nesting are refused with a place."""
    with pytest.raises(EngineError) as caught:
        source.strict_json(text, "answer")
    (found,) = caught.value.diagnostics
    assert ("LG011", "answer") == (found.code, found.place and found.place.path)


@given(JSON)
def test_json_from_outside_is_read(data: Any) -> None:
    """What is JSON is given back as it is."""
    assert data == source.strict_json(json.dumps(data), "answer")


# -- schemas

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "wait": {"type": "string", "format": "duration"},
        "share": {"type": "string", "format": "percentage"},
        "inner": {"type": "object", "additionalProperties": False, "properties": {"count": {"type": "integer"}}},
    },
}


def test_differences_from_a_schema_have_places() -> None:
    """Every difference is told, at the key that is unknown or the value that is wrong."""
    document = source.parse("nam: a\nwait: soon\nshare: 200%\ninner:\n  count: many\n  other: 1\n", "book.yml")
    found = sorted((d.code, d.place.line, d.place.column) for d in source.validate(document, SCHEMA) if d.place)
    assert [("LG012", 1, 1), ("LG012", 6, 3), ("LG015", 2, 7), ("LG015", 3, 8), ("LG015", 5, 10)] == found


@pytest.mark.parametrize("wait", ["{{ patience }}", "{{ a }}{{ b }}", "5m", "80ms"])
def test_templates_are_checked_after_rendering(wait: str) -> None:
    """A text with a template in it has no form yet."""
    assert [] == source.validate(source.parse(f"name: a\nwait: '{wait}'\n", "book.yml"), SCHEMA)


def test_a_part_of_a_document_is_checked_at_its_place() -> None:
    """`at` names the part that the schema is about; the places stay those of the whole text."""
    document = source.parse("steps:\n  - name: a\n  - name: 1\n", "book.yml")
    assert [] == source.validate(document, SCHEMA, ("steps", 0))
    (found,) = source.validate(document, SCHEMA, ("steps", 1))
    assert ("LG014", 3, 11) == (found.code, found.place and found.place.line, found.place and found.place.column)


def test_schemas_do_not_fetch_what_they_refer_to() -> None:
    """A reference to an address is not followed: nobody is called to check a value."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        shape = source.Shape({"$ref": f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"})
        with pytest.raises(Exception, match="127"):
            shape.problems({})
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize("name", ["playbook", "inventory", "roster", "destinations"])
def test_our_schemas_are_schemas(name: str) -> None:
    """Every shipped schema is valid by its own rules and describes each of its keys."""
    from jsonschema import Draft202012Validator

    schema = source.schema(name)
    Draft202012Validator.check_schema(schema)
    bare = [
        keys
        for keys, value in walk(schema)
        if keys[-2:-1] == ("properties",) and not isinstance(value, (bool, str)) and not value
    ]
    assert [] == bare
