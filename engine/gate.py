"""Bytes -> text in which nothing is hidden: the gate before any parser.

In: what was read of a file, which may be hostile. Out: a text, or an EngineError with the place of what is wrong. It knows
nothing of YAML: a character that an editor does not show can hide a key from a reviewer whatever the language is.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from engine.diagnostics import Diagnostic, EngineError, Place, printable

MAX_BYTES = 8 << 20

# Line breaks that an editor does not show as such (a key can hide behind them), bidi and invisible characters.
FORBIDDEN = re.compile(
    "[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f]"
)
#: What has no name in Unicode, or one that helps nobody.
_NAMES = {"\0": "NULL", "\x1b": "ESCAPE", "\r": "CARRIAGE RETURN", "\u0085": "NEXT LINE"}
_ALPHABETS = {"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE"}


def stop(code: str, summary: str, place: Place, hint: str = "", detail: str = "") -> EngineError:
    """The end of reading: one mistake after which nothing more can be said of the text."""
    return EngineError(Diagnostic(code, summary, place, detail, hint))


def text_of(content: bytes | str, path: str) -> str:
    """Bytes -> text that has no hidden characters, or EngineError."""
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    if len(raw) > MAX_BYTES:
        raise stop("LG003", f"the file is larger than {MAX_BYTES >> 20} MiB", Place(path), "split it; steps can be imported")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        what = "this is UTF-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else f"not UTF-8: byte 0x{raw[error.start]:02x}"
        raise stop("LG002", what, Place(path, line), "save the file as UTF-8 without a byte order mark") from None
    if raw[1:2] == b"\0" or raw[:1] == b"\0":
        raise stop("LG002", "this is UTF-16", Place(path), "save the file as UTF-8 without a byte order mark")
    if text[:1] == "\ufeff":
        raise stop("LG004", "the file begins with a byte order mark", Place(path), "save it as UTF-8 without one")
    if found := FORBIDDEN.search(text):
        before = text[: found.start()]
        line, column = before.count("\n"), len(before) - (before.rfind("\n") + 1)
        place = Place(path, line + 1, column + 1, 1, text.split("\n")[line])
        name = _NAMES.get(found[0]) or unicodedata.name(found[0], "a control character")
        summary = f"a character that does not show: {name} (U+{ord(found[0]):04X})"
        hint = "delete it"
        if found[0] in "\r\u0085\u2028\u2029":
            hint = "save the file with line ends of LF alone, not CRLF" if "\r\n" in text else "end lines with LF alone"
        why = "It can hide a key or turn text around: then a reviewer sees something else than the engine."
        raise stop("LG004", summary, place, hint, why)
    if not unicodedata.is_normalized("NFC", text):
        line = next(i for i, part in enumerate(text.split("\n")) if not unicodedata.is_normalized("NFC", part))
        raise stop(
            "LG004", "a character is written in its decomposed form", Place(path, line + 1, 1, 1, text.split("\n")[line]),
            "save the file in Unicode form NFC: two spellings of one name would look the same",
        )  # fmt: skip
    return text


def look_alike(kind: str, text: str, place: Place) -> Diagnostic:
    """LG004 for a text in which `one_script` does not hold; `kind` says what it is (a key, a text)."""
    word = next(word for word in text.split() if not one_script(word))
    scripts = [_script(char) for char in word]
    odd = min((char for char in word if _script(char) in _ALPHABETS), key=lambda char: scripts.count(_script(char)))
    detail = f"`{odd}` is {unicodedata.name(odd)}: the word looks like another one, and is not equal to it."
    summary = f"the {kind} `{printable(text)}` mixes two alphabets in a word"
    return Diagnostic("LG004", summary, place, detail, "type the word anew")


def one_script(text: str) -> bool:
    """Whether no word of the text mixes alphabets that have letters of the same looks. Prose may hold words of several."""
    return text.isascii() or _of_one(text) or all(map(_of_one, text.split()))


def _of_one(text: str) -> bool:
    return len(_ALPHABETS.intersection(map(_script, set(text)))) <= 1


@lru_cache(maxsize=4096)
def _script(char: str) -> str:
    return unicodedata.name(char, "?").partition(" ")[0] if char.isalpha() else ""
