"""Does a text look like a secret that somebody wrote down? Shapes first, then the name of its key, then disorder.

In: a text and the name under which it stands. Out: what it seems to be, in words that repeat nothing of it, or nothing. It
is a net with holes, like every such: what it finds is stopped, what it does not find is not proven harmless.
"""

from __future__ import annotations

import re
from functools import lru_cache

#: Names that say that their value is a secret, and a value that could be one.
_NAME = re.compile(
    r"(?i)(?:^|[_-])(?:password|passwd|passphrase|secret|token|api_?key|access_?key|private_?key|authorization|credentials?)$"
)
_VALUE = re.compile(r"(?:(?:Bearer|Basic) )?[^\s{}]{6,}")
#: What it is, the letters without which it is not (looked for first: every text of a playbook passes here), its shape.
_SHAPES = tuple(
    (what, mark, re.compile(shape))
    for what, mark, shape in (
        ("a private key", "-----BEGIN", r"-----BEGIN [A-Z ]*PRIVATE KEY"),
        ("an AWS access key", "AKIA", r"\bAKIA[0-9A-Z]{16}\b"),
        ("an AWS access key", "ASIA", r"\bASIA[0-9A-Z]{16}\b"),
        ("a GitHub token", "gh", r"\bgh[pousr]_[A-Za-z0-9]{30,}"),
        ("a GitHub token", "github_pat_", r"\bgithub_pat_\w{22,}"),
        ("a GitLab token", "glpat-", r"\bglpat-[\w-]{20,}"),
        ("a Slack token", "xox", r"\bxox[abeprs]-[\w-]{10,}"),
        ("a Slack address", "hooks.slack", r"hooks\.slack\.com/services/T\w+/B\w+/\w+"),
        ("a Google API key", "AIza", r"\bAIza[\w-]{35}"),
        ("a Hugging Face token", "hf_", r"\bhf_[A-Za-z0-9]{30,}"),
        ("an API key", "sk-", r"\bsk-[\w-]{20,}"),
        ("a JSON web token", "eyJ", r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]*"),
        ("an authorization", "Bearer ", r"^Bearer [\w.~+/=-]{8,}$"),
        ("an authorization", "Basic ", r"^Basic [\w.~+/=-]{8,}$"),
        ("an address with a password", "://", r"[a-z][a-z0-9+.-]*://[^/?#\s:@{}]*:[^/?#\s@{}]+@"),
    )
)
_MARKS = re.compile("|".join(re.escape(mark) for _, mark, _ in _SHAPES))
_GENERATED = re.compile(r"[A-Za-z0-9+/_-]{24,}={0,2}")
_LOWER = re.compile(r"[a-z]+")


def kind(text: str, name: str = "") -> str:
    """What `text`, which stands under the key `name`, seems to be (`an AWS access key`), or nothing."""
    if len(text) < 6 or "{{" in text:
        return ""
    if _MARKS.search(text):
        for what, _, shape in _SHAPES:
            if shape.search(text):
                return what
    if len(text) >= 24 and _GENERATED.fullmatch(text) and _disorderly(text):
        return "a generated key"
    if name and _named(name) and _VALUE.fullmatch(text):
        return f"the value of `{name}`"
    return ""


@lru_cache(maxsize=4096)
def _named(name: str) -> bool:
    return bool(_NAME.search(name))


def _disorderly(text: str) -> bool:
    """Letters of both cases and digits, and small letters in no runs of a word's length. A public SSH key is no secret."""
    runs = _LOWER.findall(text)
    mixed = bool(runs) and re.search(r"[A-Z]", text) and re.search(r"[0-9]", text) and not text.startswith("AAAA")
    return bool(mixed) and sum(map(len, runs)) / len(runs) < 3
