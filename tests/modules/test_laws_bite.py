"""The laws can fail: one bug at a time is planted into the example of modules/README.md, and the law meant for it finds it.

The example is taken out of the page, so this also shows that what the page tells a newcomer works.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import MappingProxyType

import jsonschema
import pytest
from laws import PAPER, WORLDLY
from player import play
from world import opened, worlds_of

from modules.catalog import Catalog, Entry

PAGE = Path(importlib.util.find_spec("modules").origin).parent / "README.md"
BLOCKS = MappingProxyType(
    dict(re.findall(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL))
)
SOURCE = BLOCKS["modules/traffic/share.py"]
READ = '    return {"canary": route["canary"], "_stable": 100 - route["canary"]}\n'
APPLY = '    ask("PUT", params, ctx, json=change.after)\n'
UNDO = '    ask("PUT", params, ctx, json=change.before)\n'
DESIRED = '    return {"canary": params["canary"]}\n'
TITLE = "A router sends this share of the traffic to the canary."
PUT = '    ask("PUT", params, ctx, json={"canary": %d})\n'
CANARY = '"description": "The canary\'s share in percent."'
CHANGING = SOURCE[SOURCE.index("def apply") : SOURCE.index("def ask")]
HISTORY = """
def history(params, ctx):
    one = {"by": "", "tags": {}, "metrics": {}, "digest": "", "serving": False, "artifact": "present", "why": ""}
    return [one | {"version": "1", "created": "2026-01-01T00:00:00+00:00"}, one | {"version": "2", "created": %r}]
"""

#: What is planted: the law that must find it and a part of what it says, then (old, new) pairs.
PLANTED = {
    "reading writes": (
        ("read_leaves_the_world_alone", "reading changed the world"),
        (READ, '    ask("PUT", params, ctx, json={"seen": 1})\n' + READ),
    ),
    "reading leaves a file": (
        ("read_leaves_the_world_alone", "reading changed the world"),
        (READ, '    (ctx.evidence / "x").write_text("x")\n' + READ),
    ),
    "reading changes its params": (
        ("read_leaves_the_world_alone", "reading changed the params"),
        (READ, '    params["seen"] = True\n' + READ),
    ),
    "a tuple in a state": (
        ("states_survive_json", "JSON changes the state"),
        (READ, '    return {"canary": route["canary"], "_ports": (80, 443)}\n'),
    ),
    "not a number": (
        ("states_survive_json", "not JSON"),
        (READ, '    return {"canary": route["canary"], "_share": float("nan")}\n'),
    ),
    "a secret in a state": (
        ("states_survive_json", "the state holds a secret"),
        (READ, '    return {"canary": route["canary"], "_token": params["token"]}\n'),
    ),
    "a revealed secret in a state": (
        ("states_survive_json", "the state holds the secret"),
        (READ, '    return {"canary": route["canary"], "_token": params["token"].reveal()}\n'),
    ),
    "a secret in the evidence": (
        ("states_survive_json", "holds the secret"),
        (APPLY, '    (ctx.evidence / "sent").write_text(params["token"].reveal())\n' + APPLY),
    ),
    "applying does nothing": (("apply_makes_it_so", "apply left a difference"), (APPLY, "    pass\n")),
    "applying does half": (("apply_makes_it_so", "apply left a difference"), (APPLY, PUT % 5)),
    "applying only remembers": (
        ("apply_makes_it_so", "the world looks as before"),
        (APPLY, "    memory.append(change.after)\n"),
        (READ, "    if memory:\n        return memory[-1]\n" + READ),
        ("def read", "memory = []\n\n\ndef read"),
    ),
    "applying adds up": (
        ("a_second_run_changes_nothing", "a retry of apply"),
        (
            APPLY,
            '    n = ask("GET", params, ctx).json().get("n", 0)\n'
            + APPLY.replace("change.after", '{"canary": 0, "n": n + 1}'),
        ),
    ),
    "undoing does nothing": (("undo_puts_back_what_was", "after the first undo"), (UNDO, "    pass\n")),
    "undoing guesses": (("undo_puts_back_what_was", "after the first undo"), (UNDO, PUT % 50)),
    "undoing twice turns round": (
        ("undo_puts_back_what_was", "after the second undo"),
        (UNDO, '    now = ask("GET", params, ctx).json()["canary"]\n' + PUT.replace("%d", "10 - now")),
    ),
    "desired is never the same": (
        ("desired_is_pure", "desired said"),
        (DESIRED, '    memory.append(1)\n    return {"canary": len(memory)}\n'),
        ("def read", "memory = []\n\n\ndef read"),
    ),
    "desired changes its params": (
        ("desired_is_pure", "desired changed its params"),
        (DESIRED, '    params["extra"] = 1\n' + DESIRED),
    ),
    "desired names facts": (("desired_is_pure", "holds facts"), (DESIRED, '    return {"canary": 0, "_stable": 100}\n')),
    "silence is taken for a state": (
        ("silence_is_no_answer", "nobody answered"),
        (
            "    route = ask",
            "    try:\n        ask('GET', params, ctx)\n    except Exception:\n        return {}\n    route = ask",
        ),
    ),
    "a message shows the secret": (
        ("silence_is_no_answer", "it shows the secret"),
        ("    reply = ctx.http", "    if 1:\n        raise ModuleError(params['token'].reveal())\n    reply = ctx.http"),
        ("import expect_ok", "import ModuleError, expect_ok"),
    ),
    "it observes and can undo": (
        ("words_are_known", "has undo"),
        (SOURCE[SOURCE.index("def apply") : SOURCE.index("def undo")], ""),
    ),
    "it observes and moves": (("words_are_known", "claims to move"), (CHANGING, "")),
    "it observes what is not met": (
        ("observing_says_whether_and_why", "does not meet it"),
        (CHANGING, ""),
        ('MOVES = ("version",)\n', ""),
    ),
    "it observes without a reason": (
        ("observing_says_whether_and_why", "does not say why"),
        (CHANGING, ""),
        (READ, '    return {"met": True}\n'),
        (DESIRED, '    return {"met": True}\n'),
    ),
    "an unknown strategy": (("words_are_known", "MOVES names"), ('("version",)', '("versions",)')),
    "an unknown section": (("words_are_known", "SECTIONS names"), ("MOVES =", 'SECTIONS = ("forensic",)\nMOVES =')),
    "an unknown crash class": (
        ("params_are_valid", "crash class"),
        ("def read", 'def crash_class(params):\n    return "E"\n\n\ndef read'),
    ),
    "a schema that refuses its world": (("params_are_valid", "less than the minimum"), ('"minimum": 0', '"minimum": 1')),
    "a schema that is none": (
        ("schema_is_valid_and_closed", "is not valid under any of the given schemas"),
        ('"type": "integer"', '"type": "int"'),
    ),
    "an open object inside": (
        ("schema_is_valid_and_closed", "additionalProperties"),
        ('"type": "integer"', '"properties": {}'),
    ),
    "no description": (("every_property_is_described", "has no description"), (f", {CANARY}", "")),
    "half a description": (("every_property_is_described", "without a full stop"), ("in percent.", "in percent")),
    "an unknown format": (("formats_are_known", "unknown format"), ('"format": "url"', '"format": "address"')),
    "an expression about nothing": (("formats_are_known", "x-names"), ('"format": "url"', '"format": "expression"')),
    "a pattern alone": (("refusals_are_in_plain_words", "has no `x-says`"), ('"format": "url"', '"pattern": "^http"')),
    "a bad example": (("examples_validate", "is not of type"), ('fraud", "canary": 0}', 'fraud", "canary": "none"}')),
    "no example": (("examples_validate", "no examples"), ('"examples"', '"$comment"')),
    "a title of two sentences": (("title_is_a_sentence", "more than one"), (TITLE, "It sets. It reads.")),
    "a title in the future": (("title_is_a_sentence", "present tense"), (TITLE, "A router will send a share.")),
    "no title": (("title_is_a_sentence", "no docstring"), (f'"""{TITLE}"""', "")),
    "a history oldest first": (
        ("history_is_newest_first", "not newest first"),
        ("def ask", HISTORY % "2026-01-02T00:00:00+00:00" + "\n\ndef ask"),
    ),
    "a history without a time zone": (
        ("history_is_newest_first", "no time zone"),
        ("def ask", HISTORY % "2025-12-31T00:00:00" + "\n\ndef ask"),
    ),
}


def _planted(tmp: Path, source: str = SOURCE) -> Entry:
    for name, text in {**BLOCKS, "modules/traffic/share.py": source}.items():
        (tmp / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp / name).write_text(text)
    entry = Catalog(tmp / "modules").get("traffic.share")
    assert entry is not None
    return entry


def _judge(name: str, entry: Entry, tmp: Path) -> None:
    for law in PAPER:
        if law.__name__ == name:
            return law(entry)
    law = next(law for law in WORLDLY if law.__name__ == name)
    with opened(worlds_of("traffic.share", tmp / "tests/modules/worlds")["world"], tmp / "there") as there:
        return law(entry, there)


@pytest.mark.parametrize("law", [law.__name__ for law in (*PAPER, *WORLDLY)])
def test_the_example_of_the_page_keeps_the_law(law: str, tmp_path: Path) -> None:
    """What the page shows to newcomers keeps every law."""
    _judge(law, _planted(tmp_path), tmp_path)


@pytest.mark.parametrize("name", [name for name in BLOCKS if "/cases/" in name])
def test_the_cases_of_the_page_hold(name: str, tmp_path: Path) -> None:
    """What the page shows as cases holds for its example."""
    _planted(tmp_path)
    play(tmp_path / name, tmp_path / "there", Catalog(tmp_path / "modules"))


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(bug: str, tmp_path: Path) -> None:
    """A module with this one bug breaks the law that is meant to find it, for the reason that is meant."""
    (law, said), *pairs = PLANTED[bug]
    source = SOURCE
    for old, new in pairs:
        assert source.count(old) == 1, f"{old!r} is there {source.count(old)} times"
        source = source.replace(old, new)
    entry = _planted(tmp_path, source)
    with pytest.raises((AssertionError, jsonschema.ValidationError, jsonschema.SchemaError), match=re.escape(said)):
        _judge(law, entry, tmp_path)


def test_every_law_bites() -> None:
    """No law is without a bug that it finds."""
    assert {law.__name__ for law in (*PAPER, *WORLDLY)} == {law for (law, _), *_ in PLANTED.values()}
