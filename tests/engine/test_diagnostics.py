"""diagnostics: what people read when something is wrong: sorted, located, cut, and safe to print."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.diagnostics import SHOWN, Diagnostic, EngineError, Exit, Place, did_you_mean, nearest, printable, render

TEXT = "    prometheus.metric: {qury: x, above: 0.95}"


def test_a_mistake_as_people_see_it() -> None:
    """Code, summary, place, source line, carets, what explains it, why, and the one thing to do."""
    place = Place("book.yml", 12, 25, 4, TEXT)
    context = (Place("book.yml", 9, 5, 7, "  - name: Precision"), "the step")
    found = Diagnostic("LG012", "unknown parameter `qury`", place, "Nobody reads it.", "did you mean `query`?", context)
    assert """error[LG012]: unknown parameter `qury`
  --> book.yml:12:25
 9 |   - name: Precision
   |     ------- the step
12 |     prometheus.metric: {qury: x, above: 0.95}
   |                         ^^^^
  = Nobody reads it.
  = help: did you mean `query`?""" == render([found])


def test_a_mistake_without_a_place() -> None:
    """Where there is no text to point into, the sentence stands alone."""
    assert "warning[LG001]: cannot read it" == render([Diagnostic("LG001", "cannot read it", severity="warning")])


def test_a_context_in_another_file_or_on_the_same_line_is_not_drawn() -> None:
    """Two places are drawn together only where one excerpt can show both."""
    for other in (Place("other.yml", 1, 1, 1, "x"), Place("book.yml", 12, 5, 1, TEXT)):
        shown = render([Diagnostic("LG012", "x", Place("book.yml", 12, 25, 4, TEXT), context=(other, "the step"))])
        assert "the step" not in shown


def test_mistakes_are_told_in_the_order_of_the_text() -> None:
    """Found in any order, shown by file, line and column."""
    places = [Place("b.yml", 1), Place("a.yml", 10, 2), Place("a.yml", 2, 9), Place("a.yml", 10, 1)]
    shown = render([Diagnostic("LG012", "x", place) for place in places])
    assert ["a.yml:2:9", "a.yml:10:1", "a.yml:10:2", "b.yml:1:1"] == [
        line.split()[-1] for line in shown.splitlines() if "-->" in line
    ]


@pytest.mark.parametrize(
    ("count", "last"), [(1, "error[LG012]: 0"), (SHOWN, f"error[LG012]: {SHOWN - 1:03}"), (SHOWN + 7, "and 7 more")]
)
def test_the_first_are_shown_and_the_rest_counted(count: int, last: str) -> None:
    """More than twenty would bury the first ones."""
    shown = render([Diagnostic("LG012", f"{n:03}" if count > 1 else "0") for n in range(count)]).splitlines()
    assert (min(count, SHOWN + 1), last) == (len(shown), shown[-1])


@given(st.text(max_size=400), st.integers(1, 420), st.integers(1, 420))
def test_the_carets_stand_under_the_place(line: str, column: int, length: int) -> None:
    """However long the line and whatever it holds, carets stand under what is meant, and nothing unprintable comes out."""
    line = line.replace("\n", " ")
    shown = render([Diagnostic("LG012", "x", Place("book.yml", 3, column, length, line))]).splitlines()
    assert all(part.isprintable() for part in shown)
    if not line.strip() or column > len(line):
        return
    _, _, excerpt, carets = shown
    start, end = carets.index("^"), len(carets)
    assert "^" * (end - start) == carets[start:]
    meant = "".join(printable(char) for char in line[column - 1 : column - 1 + length])
    assert (meant + " " * len(carets)).startswith(excerpt[start:end].removesuffix("…").rstrip() or " ")


@given(st.text(max_size=300), st.integers(1, 200))
def test_printable_is_printable_and_short(text: str, limit: int) -> None:
    """No control, bidi or invisible character gets through, and no more than `limit` characters do."""
    shown = printable(text, limit)
    assert shown.isprintable()
    assert len(shown) <= limit
    if len(text) <= limit and text.isprintable() and not any(0xE000 <= ord(c) <= 0xF8FF for c in text):
        assert text == shown


@pytest.mark.parametrize("char", ["\x1b", "\u202e", "\u200b", "\u2028", "\ue000", "\U000e0041", "\x00", "\n", "\xad"])
def test_what_could_mislead_a_terminal_is_spelled_out(char: str) -> None:
    """Escape sequences, direction changes and invisible characters are shown as their numbers."""
    assert f"a\\u{ord(char):04x}b" == printable(f"a{char}b")


@pytest.mark.parametrize("char", ["\x1b[2J", "\u202e", "\x9b31m", "\r"])
def test_a_sentence_that_repeats_a_hosts_words_is_quiet(char: str) -> None:
    """Summary, detail and hint may hold what a host or a person said; line breaks of ours stay."""
    said = render([Diagnostic("LG091", f"rejected by bo: {char}ok", None, f"first\nsecond {char}", f"help {char}")])
    assert said.replace("\n", "").isprintable()
    assert ("first\nsecond" in said, 3) == (True, said.count(f"\\u{ord(char[0]):04x}"))


def test_a_text_of_megabytes_is_cut_before_it_is_made_printable() -> None:
    """Only as much as is shown is looked at."""

    class Long(str):
        def __iter__(self):  # type: ignore[no-untyped-def]
            raise AssertionError("walked through all of it")

    assert "x" * 79 + "…" == printable(Long("x" * 1_000_000 + "\n"))


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("qury", "query"),
        ("querry", "query"),
        ("Query", "query"),
        ("QUERY", "query"),
        ("on-failure", "on_failure"),
        ("zzz", None),
        ("", None),
    ],
)
def test_the_likely_spelling(word: str, near: str | None) -> None:
    """A misspelt word finds the one that was meant, in any case and with either dash; nothing is made up."""
    assert near == nearest(word, ["query", "on_failure", "above"])
    assert (f"did you mean `{near}`?" if near else "else") == did_you_mean(word, ["query", "on_failure", "above"], "else")


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1), st.randoms())
def test_the_likely_spelling_does_not_depend_on_the_order(words: list[str], random: object) -> None:
    """The same words in any order give the same hint."""
    other = sorted(words, reverse=True)
    assert nearest(words[0], words) == nearest(words[0], other) == words[0]


def test_an_error_carries_all_mistakes_and_an_exit_code() -> None:
    """One error ends a command with everything that was found; for a playbook that is exit 3."""
    one, two = Diagnostic("LG001", "a"), Diagnostic("LG002", "b")
    assert ((one, two), Exit.INVALID, "LG001: a; LG002: b") == (
        (error := EngineError(iter([one, two]))).diagnostics, error.exit, str(error),
    )  # fmt: skip
    assert ((one,), Exit.LOCKED) == ((error := EngineError(one, Exit.LOCKED)).diagnostics, error.exit)


def test_exit_codes_are_public() -> None:
    """The numbers are a promise: scripts branch on them."""
    assert {
        "DONE": 0, "FAILED": 1, "USAGE": 2, "INVALID": 3, "HELD": 4, "WAITING": 5, "REJECTED": 6, "STALE": 7, "LOCKED": 8,
        "CHANGES": 10, "BUG": 70, "INTERRUPTED": 130,
    } == {code.name: int(code) for code in Exit}  # fmt: skip
