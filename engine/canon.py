"""One spelling for every JSON value, and its fingerprint: what the plan, the journal and a key agree about.

In: plain data or bytes. Out: canonical bytes (RFC 8785) and ``sha256:<hex>``. The one door of rfc8785.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from typing import Any


def dumps(value: Any) -> bytes:
    """`value` as canonical JSON: sorted keys, no blanks, numbers as ECMAScript writes them, UTF-8 (RFC 8785).

    Raises ValueError for what has no such form: NaN, infinity, an integer beyond 2^53 - 1, a lone surrogate, a key that is
    no text, another type, or data that is nested too deeply. Text is taken as it is: the form does not normalise (NFC).
    """
    import rfc8785

    try:
        return rfc8785.dumps(value)
    except RecursionError:
        raise ValueError("the value is nested too deeply to have a digest") from None


def loads(text: str | bytes) -> Any:
    """Reads canonical JSON so that `dumps` gives the same bytes again. Raises ValueError.

    A double past 2^53 is written without a point or exponent (1e17 as 100000000000000000); plain `json` would read an
    integer there, one that has no canonical form. Here it is the double that it was.
    """
    return json.loads(text, parse_int=_number)


def _number(text: str) -> int | float:
    value = int(text) if len(text) < 18 else float(text)
    return value if abs(value) < 2**53 else float(text)


def normal(value: Any) -> Any:
    """`value` with every text in it, keys too, in Unicode's form NFC, which the canonical form leaves to its caller.

    Two texts that look the same are then the same bytes. Raises ValueError when two keys of one mapping become one.
    """
    match value:
        case str():
            return unicodedata.normalize("NFC", value)
        case dict():
            made = {unicodedata.normalize("NFC", key): normal(inner) for key, inner in value.items()}
            if len(made) != len(value):
                raise ValueError("two keys of one mapping look the same")
            return made
        case list() | tuple():
            return [normal(inner) for inner in value]
        case _:
            return value


def digest(value: Any) -> str:
    """The fingerprint of a JSON value, ``sha256:<64 hex>``. Raises ValueError as `dumps` does."""
    return text_digest(dumps(value))


def text_digest(data: bytes) -> str:
    """The fingerprint of bytes as they are, ``sha256:<64 hex>``."""
    return "sha256:" + hashlib.sha256(data).hexdigest()
