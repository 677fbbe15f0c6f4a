"""The golden scenes: a playbook, a world in which something goes wrong, what is typed, and what is typed later.

`make.py` plays them with the engine of its day and keeps what is left on the disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

KILLED = -9


@dataclass(frozen=True)
class Scene:
    """`things`, `troubles`: (host, name) -> what it is, what goes wrong with it. `typed`: command lines, each with its exit
    code. `then`: the inputs of `end.txt`, which say what comes after it."""

    name: str
    about: str
    book: str
    typed: Sequence[tuple[str, int]]
    then: Sequence[str]
    hosts: Sequence[str] = ("a",)
    things: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    troubles: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)


RUN = "run --as eve"
RESUME = "$ resume -y"
UNDO = "$ undo -y --as eve"

THREE = """\
name: Give the old version its traffic back
strategy: configuration
hosts: all
execution:
  - name: Freeze deployments
    id: freeze
    thing: {name: freeze, fields: {"on": true}}
    register: frozen
  - name: Move the traffic
    id: weight
    thing: {name: weight, fields: {old: 100, new: 0}}
  - name: Note it
    id: note
    thing: {name: note, fields: {frozen: "{{ frozen.changed }}"}}
verification:
  - name: The old version serves
    id: serves
    look: {name: weight, is: {old: 100}}
"""
PUTS_BACK = THREE.replace("verification:", "    on_failure: undo\nverification:")
WEIGHT = {("a", "weight"): {"old": 0, "new": 100}}

TWO_KEYS = """\
name: Take the model back with two keys
strategy: configuration
hosts: all
authority:
  mode: two-key
  roles: [ml-oncall, fraud-risk]
  expires: 30m
forensics:
  - name: Keep what serves
    id: keep
    thing: {name: evidence, fields: {kept: true}}
execution:
  - name: Move the traffic
    id: weight
    thing: {name: weight, fields: {old: 100, new: 0}}
"""

COMMAND = """\
name: Purge what cannot be read back
strategy: configuration
hosts: all
execution:
  - name: Freeze deployments
    id: freeze
    thing: {name: freeze, fields: {"on": true}}
  - name: Purge the rows
    id: purge
    thing: {name: rows, fields: {poisoned: 0}, crash: D, lasting: true}
  - name: Note it
    id: note
    thing: {name: note, fields: {done: true}}
"""

FLEET = """\
name: A fleet, one first and then three at a time
strategy: configuration
hosts: all
serial: [1, 3]
max_failed: 1
execution:
  - name: Choose once
    id: once
    run_once: true
    look: {name: wish, shared: true}
    register: wish
  - name: Set it
    id: config
    thing: {name: config, fields: {colour: "{{ wish.value.colour }}"}, slow: 0.3}
  - name: Note it
    id: note
    thing: {name: note, fields: {done: true}}
verification:
  - name: It is set
    id: is_set
    look: {name: config, is: {colour: green}}
"""

LOOP = """\
name: Take shards back one by one
strategy: configuration
hosts: all
execution:
  - name: Take the shards back
    id: shards
    loop: [p, q, r]
    thing: {name: "shard_{{ item }}", fields: {version: v1}}
    register: shards
  - name: Note it
    id: note
    thing: {name: note, fields: {first: "{{ shards.results[0].changed }}"}}
"""

RESCUE = """\
name: Move the traffic while deployments are frozen
strategy: configuration
hosts: all
execution:
  - name: Move the traffic
    block:
      - name: Freeze deployments
        id: freeze
        thing: {name: freeze, fields: {"on": true}}
      - name: Drain the old version
        id: drain
        thing: {name: drain, fields: {started: true}}
    rescue:
      - name: Give the old version its traffic back
        id: give_back
        thing: {name: weight, fields: {old: 100, new: 0}}
    always:
      - name: Thaw deployments
        id: thaw
        thing: {name: freeze, fields: {"on": false}}
  - name: Note what serves
    id: note
    thing: {name: note, fields: {done: true}}
"""

HELD = THREE.replace("look: {name: weight, is: {old: 100}}", "look: {name: precision, is: {good: true}}")

SCENES = (
    Scene(
        "killed-before-the-effect", "Killed in the middle of a step, before its effect: an intent without an outcome.",
        THREE, [(RUN, KILLED)], [RESUME, RESUME], things=WEIGHT, troubles={("a", "weight"): {"apply": ["dies", 1]}},
    ),
    Scene(
        "killed-after-the-effect", "Killed in the middle of a step, after its effect: an intent without an outcome.",
        THREE, [(RUN, KILLED)], [RESUME, RESUME], things=WEIGHT, troubles={("a", "weight"): {"apply": ["dies_after", 1]}},
    ),
    Scene(
        "between-two-steps", "Killed when a step was done and the next one not begun.",
        THREE, [(RUN, KILLED)], [RESUME, RESUME], things=WEIGHT, troubles={("a", "weight"): {"read": ["dies", 1]}},
    ),
    Scene(
        "second-key", "One key is given, the second one is waited for.",
        TWO_KEYS, [(f"{RUN} --no-wait", 5), ("approve ana", 0)],
        ["@ then", "$ resume -y --no-wait", "$ approve ben", RESUME],
        things=WEIGHT,
    ),
    Scene(
        "key-came-late", "One key is given, and nobody gave the second one in time.",
        TWO_KEYS, [(f"{RUN} --no-wait", 5), ("approve ana", 0)], ["@ late", "$ resume -y --no-wait", RESUME], things=WEIGHT,
    ),
    Scene(
        "killed-in-a-command", "Killed in a step that nobody can read back (class D), after its effect.",
        COMMAND, [(RUN, KILLED)], [RESUME, RESUME, "$ resolve RB-0001 purge --as done --because seen", RESUME],
        troubles={("a", "rows"): {"apply": ["dies_after", 1]}},
    ),
    Scene(
        "uncertain", "A resume has already found that only a person can say what became of a step (class D).",
        COMMAND, [(RUN, KILLED), ("resume -y", 1)], [RESUME, "$ resolve RB-0001 purge --as not-done --because seen", RESUME],
        troubles={("a", "rows"): {"apply": ["dies", 1]}},
    ),
    Scene(
        "failed", "A step has failed, and the run has ended; now it would work.",
        THREE, [(RUN, 1)], [RESUME, RESUME], things=WEIGHT, troubles={("a", "weight"): {"apply": ["breaks", 1]}},
    ),
    Scene(
        "held", "All was done, and verification is not met; then it is.",
        HELD, [(RUN, 4)], [RESUME, '= a precision {"good": true}', RESUME], things=WEIGHT,
    ),
    Scene(
        "succeeded", "A run that has ended well. There is nothing to do, and it can be put back.",
        THREE, [(RUN, 0)], [RESUME, UNDO, UNDO], things=WEIGHT,
    ),
    Scene(
        "undone-half-way", "An undo was killed in its second change, after its effect.",
        THREE, [(RUN, 0), ("undo -y --as eve", KILLED)], [UNDO, UNDO], things=WEIGHT,
        troubles={("a", "weight"): {"undo": ["dies_after", 1]}},
    ),
    Scene(
        "fleet", "Several hosts, killed in the middle: one is through, one is done, one is before its effect, one after it.",
        FLEET, [(RUN, KILLED)], [RESUME, RESUME], hosts=["h1", "h2", "h3", "h4", "h5"],
        things={("shared", "wish"): {"colour": "green"}},
        troubles={("h3", "config"): {"apply": ["stuck", 1]}, ("h4", "config"): {"apply": ["dies_after", 1]}},
    ),
    Scene(
        "loop", "Killed between two items of a loop.",
        LOOP, [(RUN, KILLED)], [RESUME, RESUME], troubles={("a", "shard_q"): {"read": ["dies", 1]}},
    ),
    Scene(
        "rescue", "A step of a block has failed; killed in the remedy of the block, after its effect.",
        RESCUE, [(RUN, KILLED)], [RESUME, RESUME], things=WEIGHT,
        troubles={("a", "drain"): {"apply": "breaks"}, ("a", "weight"): {"apply": ["dies_after", 1]}},
    ),
    Scene(
        "cancel-asked", "Killed in the middle of a step; then somebody asked for a cancel that puts everything back.",
        THREE, [(RUN, KILLED), ("cancel --undo --as eve", 0)], [RESUME, RESUME], things=WEIGHT,
        troubles={("a", "weight"): {"apply": ["dies_after", 1]}},
    ),
    Scene(
        "put-back-half-way", "A step that asks for an undo has failed; killed in the second change that was put back.",
        PUTS_BACK, [(RUN, KILLED)], [RESUME, RESUME, UNDO], things=WEIGHT,
        troubles={("a", "note"): {"apply": "breaks"}, ("a", "freeze"): {"undo": ["dies_after", 1]}},
    ),
)  # fmt: skip
