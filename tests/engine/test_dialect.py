"""dialect: what Ansible's readers write out of habit gets the hint that helps them."""

from __future__ import annotations

import re

import pytest

from engine import dialect, reference
from engine.diagnostics import Diagnostic
from modules.catalog import OURS

#: Of these we have too, and mean something else: under authority, in a roster.
OURS_TOO = {"roles", "environment"}


@pytest.mark.parametrize("word", sorted(dialect.WORDS.keys() - OURS_TOO))
def test_a_word_of_ansible_is_none_of_ours(word: str) -> None:
    """A hint to write something else would be wrong for a keyword or module that is there."""
    assert word not in reference.keywords()
    assert word not in OURS


def test_only_unknown_keys_get_the_hint() -> None:
    """Another mistake that quotes such a word keeps its own hint."""
    unknown = Diagnostic("LG012", "unknown key `become`", hint="known here: …")
    other = Diagnostic("LG020", "`become` is not defined", hint="set it")
    assert [dialect.WORDS["become"], "set it"] == [one.hint for one in dialect.hinted([unknown, other])]


def test_what_a_hint_says_to_write_is_there() -> None:
    """Every `word:` in a hint is a keyword, a section, or the parameter of a module."""
    named = {word for hint in dialect.WORDS.values() for word in re.findall(r"`-? ?(\w+):", hint)}
    assert set() == named - set(reference.keywords())
