"""The canonical form against RFC 8785's own examples, and the laws that a digest rests on."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import canon

# RFC 8785, section 3.2.2 and 3.2.3: input as JSON text -> output.
EXAMPLES = [
    (
        r'{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],'
        r' "string": "\u20ac$\u000F\u000aA\u0027\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}',
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
    ),
    (
        r'{"\u20ac": "Euro Sign", "\r": "Carriage Return", "\ufb33": "Hebrew Letter Dalet With Dagesh", "1": "One",'
        r' "\ud83d\ude00": "Emoji: Grinning Face", "\u0080": "Control", "\u00f6": "Latin Small Letter O With Diaeresis"}',
        '{"\\r":"Carriage Return","1":"One","\u0080":"Control","ö":"Latin Small Letter O With Diaeresis","€":"Euro Sign",'
        '"😀":"Emoji: Grinning Face","\ufb33":"Hebrew Letter Dalet With Dagesh"}',
    ),
]

# RFC 8785, appendix B: the bits of a double -> its text.
DOUBLES = [
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("4340000000000000", "9007199254740992"),
    ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]

WITHOUT_FORM = [
    float("nan"),
    float("inf"),
    2**53,
    -(2**53),
    "\ud800",
    {"\ud800": 1},
    {1: "a"},
    {"a": {None: 1}},
    b"bytes",
    {1, 2},
    ValueError,
]

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)


@pytest.mark.parametrize(("text", "expected"), EXAMPLES)
def test_examples_of_the_rfc(text: str, expected: str) -> None:
    """The RFC's own objects come out as the RFC prints them."""
    assert expected.encode() == canon.dumps(json.loads(text))


@pytest.mark.parametrize(("bits", "expected"), DOUBLES)
def test_doubles_of_the_rfc(bits: str, expected: str) -> None:
    """Every double of the RFC's appendix is written as there."""
    assert expected.encode() == canon.dumps(struct.unpack(">d", bytes.fromhex(bits))[0])


@pytest.mark.parametrize("value", WITHOUT_FORM, ids=repr)
def test_what_has_no_form_is_refused(value: Any) -> None:
    """What JSON cannot say exactly is a ValueError, never a near miss."""
    with pytest.raises(ValueError):
        canon.dumps(value)


def test_deep_nesting_is_refused() -> None:
    """Data nested past the stack is a ValueError, not a crash."""
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValueError, match="nested too deeply"):
        canon.digest(value)


@given(JSON)
def test_reading_back_and_writing_again_changes_nothing(value: Any) -> None:
    """What is written reads back as the same value and is written the same again."""
    text = canon.dumps(value)
    assert value == canon.loads(text)
    assert text == canon.dumps(canon.loads(text))


@pytest.mark.parametrize("value", [float(2**53), -1e17, 1e20, 1.0783751747456186e16, 1e300])
def test_a_double_past_the_integers_stays_a_double(value: float) -> None:
    """A large measurement reads back as what it was, where plain `json` reads an integer that has no form."""
    assert value == canon.loads(canon.dumps(value))
    assert isinstance(canon.loads(canon.dumps(value)), float)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON))
def test_order_of_keys_does_not_matter(value: dict[str, Any]) -> None:
    """Two mappings with the same pairs have the same digest in whatever order they were made."""
    assert canon.digest(value) == canon.digest(dict(reversed(value.items())))


def test_digest_names_its_algorithm() -> None:
    """A digest is sha256 over the canonical bytes, said so in front."""
    of_nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert f"sha256:{of_nothing}" == canon.text_digest(b"")
    assert canon.text_digest(b'{"a":1}') == canon.digest({"a": 1.0})
