"""Playbooks as data: written as JSON (which is YAML), read without a disk, made at random for the laws of order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from engine import reader, source
from engine.diagnostics import Diagnostic, EngineError
from engine.playbook import Playbook

Data = dict[str, Any]
SECTIONS = ("trigger", "forensics", "execution", "verification")


def book(**sections: Any) -> Data:
    """A playbook with these sections; what a playbook cannot be without is filled in."""
    return {"name": "a book", "strategy": "configuration", "hosts": "all", "execution": [step("act")], **sections}


def step(name: str, **more: Any) -> Data:
    """A step, by default with the module `file`; a word of Python's is written with an underscore behind it."""
    params = {} if {"file", "wait", "command"} & more.keys() else {"file": {"path": f"/{name}", "content": "x"}}
    return {"name": name, **params, **more}


def read(data: Data, imports: Mapping[str, Any] | None = None, found: list[Diagnostic] | None = None) -> Playbook:
    """The playbook; it must have no mistake, unless they are asked for with `found`."""
    files = {"book.yml": data, **(imports or {})}

    def fetch(name: str) -> source.Document:
        if name not in files:
            raise EngineError(Diagnostic("LG001", f"cannot read {name}: No such file"))
        return source.parse(json.dumps(files[name], indent=1), name)

    mistakes: list[Diagnostic] = [] if found is None else found
    made = reader.read(fetch, "book.yml", {"file", "wait", "command", "last_good"}.__contains__, mistakes)
    if found is None:
        assert [] == mistakes, mistakes
    assert made is not None
    return made


@st.composite
def entries(draw: st.DrawFn, prefix: str, depth: int = 2) -> list[Data]:
    """A list of steps and blocks with ids that begin with `prefix`."""
    made: list[Data] = []
    for number in range(draw(st.integers(1, 4))):
        name = f"{prefix}{number}"
        if depth and draw(st.integers(0, 3)) == 0:
            made.append({"id": f"{name}_b", "block": draw(entries(f"{name}x", depth - 1))})
            for arm, letter in (("rescue", "y"), ("always", "z")):
                if draw(st.booleans()):
                    made[-1][arm] = draw(entries(f"{name}{letter}", depth - 1))
        else:
            made.append(step(name, id=name))
    return made


def flat(listed: Sequence[Data]) -> list[Data]:
    """The steps, blocks opened, in the order of the text."""
    opened: list[Data] = []
    for entry in listed:
        if "block" in entry:
            opened += [one for arm in ("block", "rescue", "always") for one in flat(entry.get(arm, ()))]
        else:
            opened.append(entry)
    return opened


@st.composite
def books(draw: st.DrawFn, forward: bool = False) -> Data:
    """A playbook with several sections; `needs` point back in the text, or (`forward`) anywhere."""
    data = book()
    registered: list[str] = []
    for section in SECTIONS:
        if section != "execution" and draw(st.booleans()):
            continue
        listed = data[section] = draw(entries(section[0]))
        steps = flat(listed)
        for index, one in enumerate(steps):
            others = [other["id"] for other in (steps if forward else steps[:index]) if other is not one]
            if draw(st.integers(0, 2)) == 0:
                one["needs"] = draw(st.lists(st.sampled_from(others), unique=True, max_size=3)) if others else []
            if registered and draw(st.integers(0, 2)) == 0:
                one["file"]["content"] = f"{{{{ {draw(st.sampled_from(registered))}.x }}}}"
            if draw(st.booleans()):
                one["register"] = f"r_{one['id']}"
                registered.append(one["register"])
    return data
