"""What a person sees who is about to sign: read from the signed bytes, in one order, with nothing hostile left alive."""

from __future__ import annotations

import json
from typing import Any

import pytest
from signing import NOW, RULES, said

from engine import canon
from engine.cli import giving

FACTS: dict[str, Any] = {
    "playbook": "Roll back fraud-scorer", "strategy": "version", "hosts": 7, "where": [f"fraud{i}" for i in range(1, 8)],
    "now": {"version": "47"}, "back_to": {"version": "46", "digest": "sha256:" + "46" * 32},
    "because": ["fraud1 fp_rate: 4.3 % over 2.5 %"], "no_undo": ["purge_cache"],
    "evidence": {"done": 12, "of": 14, "failed": ["fraud2 forensics/logs"]}, "began": NOW - 130,
}  # fmt: skip


def shown(**changed: Any) -> str:
    """The lines, made from the canonical bytes that would be signed."""
    signed = canon.dumps(said(RULES["two"], "ana", "ml-oncall", **{"facts": FACTS, **changed}))
    return "\n".join(giving.shown(canon.loads(signed)))


def test_the_lines_stand_in_one_order() -> None:
    """What, where, from and to, why, what has no undo, the evidence so far, the cost of waiting, who asks."""
    assert (
        "Key for RB-0142, as ana (ml-oncall).   Plan 7f7f7f7f7f7f7\n"
        "  will do   Roll back fraud-scorer (version)\n"
        "  where     production: fraud1, fraud2, fraud3, fraud4, fraud5 and 2 more\n"
        "  version   47 -> 46\n"
        "  to is     sha256:4646464646464646\n"
        "  because   fraud1 fp_rate: 4.3 % over 2.5 %\n"
        "  no undo   purge_cache\n"
        "  evidence  12 of 14 pieces are kept; nothing is changed before all of them are; failed: fraud2 forensics/logs\n"
        "  waiting   47 goes on serving on 7 hosts, 3m10s since the run began; at 11:36:40Z it lapses, which means no\n"
        "  asked by  zoe\n"
        "  your word customers confirm\n"
        "  ticket    INC-7"
    ) == shown()


HOSTILE = {
    "ANSI": ("\x1b[2J\x1b[1;32mall is well\x1b[0m", "\\u001b[2J\\u001b[1;32mall is well\\u001b[0m"),
    "a line of its own": ("46\n  evidence  all kept", "46\\u000a  evidence  all kept"),
    "carriage return": ("47\rsafe", "47\\u000dsafe"),
    "bidi": ("46\u202e74", "46\\u202e74"),
    "zero width": ("4\u200b6", "4\\u200b6"),
    "line separator": ("46\u2028yes", "46\\u2028yes"),
    "delete and C1": ("46\x7f\x9b31m", "46\\u007f\\u009b31m"),
    "private use": ("46\ue000", "46\\ue000"),
    "10 kB": ("x" * 10_000, "x" * 79 + "…"),
}
PLACES = ["playbook", "strategy", "where", "now", "back_to", "because", "no_undo", "evidence", "requester", "environment"]


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("place", PLACES)
def test_hostile_names_are_escaped(hostile: str, place: str) -> None:
    """No name from outside moves the cursor, adds a line, turns the text round or fills the screen."""
    bad, good = HOSTILE[hostile]
    new: Any = {
        "where": [bad], "now": {"version": bad}, "back_to": {"version": bad}, "because": [bad], "no_undo": [bad],
        "evidence": {"done": 0, "of": 1, "failed": [bad]},
    }.get(place, bad)  # fmt: skip
    changed = {place: new} if place in ("requester", "environment") else {"facts": {**FACTS, place: new}}
    text = shown(**changed)
    assert 12 == len(text.splitlines())
    assert text.replace("\n", "").isprintable()
    assert good[:70] in text
    assert max(map(len, text.splitlines())) < 330


def test_a_fact_of_another_shape_does_not_stop_the_reading() -> None:
    """Facts of an earlier version, or of an undo, are shown as far as they go."""
    assert "undo RB-0007" in shown(facts={"act": "undo RB-0007", "playbook": "x", "strategy": "version", "hosts": 1})
    assert "3 hosts" in shown(facts={"playbook": "x", "hosts": 3})
    assert json.dumps(FACTS["where"][0])[1:-1] in shown()
