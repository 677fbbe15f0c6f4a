"""Plays one case file: params and a world lead to the change, the calls and the files, or to the exact error.

README.md lists the keys of a case.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from laws import valid
from world import MARK, MARKED, ScriptedWire, World, no_history

from modules.catalog import Catalog, Entry
from modules.contract import Change, Context, ModuleError, diff

KEYS = {"does", "params", "files", "links", "evidence", "wire", "answers", "history", "destinations", "now", "do", "given"}
KEYS |= {"change", "state", "candidates", "error", "hint", "outcome", "invalid", "left", "left_links", "seconds"}


def play(path: Path, tmp: Path, catalog: Catalog) -> None:
    """Fails unless everything is as the case at `path` says; its folder is the module's name."""
    text = path.read_text().replace("$BASE", str(tmp / "playbook")).replace("$EVIDENCE", str(tmp / "evidence"))
    case = yaml.safe_load(text)
    assert set(case) <= KEYS, f"unknown keys {sorted(set(case) - KEYS)}"
    assert case.get("does"), "a case says in one sentence what it shows (`does`)"
    entry = catalog.get(path.parent.name)
    assert entry, f"there is no module {path.parent.name}"
    world, wire = _world(case, tmp)
    if "invalid" in case:
        with pytest.raises(jsonschema.ValidationError, match=re.escape(case["invalid"])):
            valid(entry, world.params)
        return
    valid(entry, world.params)
    if "error" in case:
        with pytest.raises(ModuleError) as caught:
            _do(entry, world.params, case, world.context(wire, case.get("seconds")))
        assert case["error"] == caught.value.message
        assert case.get("hint", caught.value.hint) == caught.value.hint
        assert case.get("outcome", "failed") == caught.value.outcome
        assert MARK not in f"{caught.value.message} {caught.value.hint}"
    else:
        _do(entry, world.params, case, world.context(wire, case.get("seconds")))
    assert not wire.script, f"the module never made these calls: {wire.script}"
    for name, content in (case.get("left") or {}).items():
        there = world.base / name
        assert content == (there.read_text() if there.is_file() else None), f"{name} is not as the case says"
    for name, target in (case.get("left_links") or {}).items():
        there = world.base / name
        assert target == (str(there.readlink()) if there.is_symlink() else None), f"{name} points elsewhere"


def _world(case: dict[str, Any], tmp: Path) -> tuple[World, ScriptedWire]:
    def history(_module: str, _params: Any) -> list[dict[str, Any]]:
        return case["history"]

    world = World(
        tmp,
        _with_secret(case.get("params", {})),
        history=history if "history" in case else no_history,
        destinations=case.get("destinations", {}),
        now=lambda: float(case.get("now", 1_767_225_600.0)),
    )
    for folder, key in ((world.base, "files"), (world.evidence, "evidence")):
        for name, content in (case.get(key) or {}).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
    for name, target in (case.get("links") or {}).items():
        (world.base / name).parent.mkdir(parents=True, exist_ok=True)
        (world.base / name).symlink_to(target)
    return world, ScriptedWire(case.get("wire") or [], case.get("answers") or {})


def _with_secret(value: Any) -> Any:
    """`$SECRET` stands for a secret whose text is looked for in every message."""
    if isinstance(value, dict):
        return {key: _with_secret(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_with_secret(part) for part in value]
    if isinstance(value, str) and "$SECRET" in value:
        before, after = value.split("$SECRET", 1)
        return before + MARKED + after if before or after else MARKED
    return value


def _do(entry: Entry, params: dict[str, Any], case: dict[str, Any], ctx: Context) -> None:
    """`plan` reads and compares; `run` also applies and reads again; `undo` takes the change given; `history` lists."""
    what = case.get("do", "plan")
    if what == "history":
        _holds(case.get("candidates"), entry.call("history", params, ctx))
        return
    if what == "undo":
        _over(entry, params, entry.call("undo", params, Change.of(case["given"]), ctx), ctx)
        if "state" in case:
            _holds(case["state"], entry.module.read(params, ctx))
        return
    state, wanted = entry.module.read(params, ctx), entry.module.desired(params)
    change = diff(state, wanted)
    if "change" in case:
        assert case["change"] == (change.json() if change else None)
    if what == "run":
        assert change, f"nothing to do: {state}"
        _over(entry, params, entry.call("start" if entry.has("start") else "apply", params, change, ctx), ctx)
        state = entry.module.read(params, ctx)
    if "state" in case:
        _holds(case["state"], state)
    assert MARK not in json.dumps(state)


def _over(entry: Entry, params: dict[str, Any], handle: Any, ctx: Context) -> None:
    """Looks after an operation until it is over; anything else is over at once."""
    while entry.has("start") and handle is not None and entry.call("ended", params, handle, ctx) is not True:
        pass


def _holds(wanted: Any, found: Any) -> None:
    """Every key that the case names is found with that value; lists have the same length. Other keys may be there."""
    if isinstance(wanted, dict):
        assert isinstance(found, dict), f"{found!r} is no mapping"
        for key, value in wanted.items():
            assert key in found, f"no `{key}` in {found}"
            _holds(value, found[key])
    elif isinstance(wanted, list):
        assert isinstance(found, list), f"{found!r} is no list"
        assert len(wanted) == len(found), f"{len(found)} instead of {len(wanted)}: {found}"
        for one, other in zip(wanted, found, strict=True):
            _holds(one, other)
    else:
        assert wanted == found
