"""A thing of the rehearsals has these fields, or is absent.

Things lie in `world/<host>/` of the playbook's folder, one file each, so that they outlive a killed process. A thing is the
last line of its file, and every change is one line more: it is done and counted in one write, whenever a process is killed.
With `parts` every field is a change of its own, so a process can be killed half-way through an effect.
What goes wrong is written beside the thing (`<name>.trouble`), so a rehearsal can put it right between two commands.
"""

import json
import os
import signal
import time
from pathlib import Path

from modules.contract import ModuleError, Refused, TimedOut, Unreachable

MOVES = ("version", "checkpoint", "configuration", "data")
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "description": "Which thing."},
        "fields": {"type": "object", "description": "Field -> the value wanted."},
        "absent": {"const": True, "description": "It is to be gone."},
        "shared": {"const": True, "description": "One thing for all hosts."},
        "lasting": {"const": True, "description": "It has no undo."},
        "parts": {"const": True, "description": "It is changed field by field."},
        "crash": {"enum": ["A", "B", "C", "D"], "description": "Its crash class."},
        "slow": {"type": "number", "description": "Seconds that a change takes; a stop of the run cuts them short."},
        "token": {"type": "string", "description": "A secret; nothing is done with it."},
        "says": {"type": "string", "description": "A fact that every reading repeats."},
    },
}


def read(params, ctx):
    trouble = _trouble(params, ctx, "read")
    if trouble == "stuck":
        _path(params, ctx, ".stuck").touch()
        time.sleep(60)
    if trouble == "dies":
        _die()
    if trouble == "unreadable":
        raise ModuleError(f"{params['name']} cannot be read", "look at it")
    if trouble == "unreachable":
        raise Unreachable(f"{params['name']} does not answer")
    if trouble == "bug":
        raise ZeroDivisionError("nobody thought of this")
    if trouble == "exit":
        raise SystemExit(0)
    if trouble == "nan":
        return {"value": float("nan")}
    if trouble == "object":
        return {"value": object()}
    if trouble == "list":
        return ["no state"]
    if trouble == "surrogate":
        return {"value": "\ud800 from a host"}
    found = _thing(params, ctx)
    if params.get("crash") == "D":
        # like a command: what is read is the receipt of this step and run, not the world
        return {"done": _receipt(ctx).exists()}
    if found is None:
        return None
    return {**found, "_says": params.get("says", "nothing"), "_at": "now"}


def desired(params):
    if params.get("crash") == "D":
        return {"done": True}
    return None if params.get("absent") else dict(params["fields"])


def apply(params, change, ctx):
    trouble = _trouble(params, ctx, "apply")
    if trouble == "breaks":
        raise Refused("it said no", "ask it nicely")
    if trouble == "gone":
        raise Unreachable("it does not answer")
    if trouble == "lies":
        return
    if trouble == "stuck":
        time.sleep(60)  # it does not look whether the run is being stopped
    if "slow" in params:
        ctx.sleep(params["slow"])
    if trouble == "dies":
        _die()
    if trouble == "half":
        first = dict([next(iter(params["fields"].items()))])
        _set(params, ctx, {**(_thing(params, ctx) or {}), **first})
        raise ModuleError("it broke half-way")
    if params.get("parts") and not params.get("absent"):
        for key, _, after in change:
            _set(params, ctx, {**(_thing(params, ctx) or {}), key: after})
    else:
        _set(params, ctx, None if params.get("absent") else {**(_thing(params, ctx) or {}), **params.get("fields", {})})
    if trouble == "dies_after":
        _die()
    if params.get("crash") == "D":
        _receipt(ctx).write_text("{}")
    if trouble == "breaks_after":
        raise ModuleError("the connection broke")
    if trouble == "late":
        raise TimedOut("no answer in time")
    if trouble == "exits":
        raise SystemExit(0)
    if trouble == "blinds":
        _path(params, ctx, ".trouble").write_text(json.dumps({"read": "unreadable"}))


def undo(params, change, ctx):
    trouble = _trouble(params, ctx, "undo")
    if trouble == "breaks":
        raise ModuleError("it would not go back")
    if trouble == "waits":
        ctx.sleep(60)
    now = _thing(params, ctx) or {}
    if params.get("parts") and change.before is not None:
        left = [key for key in sorted(change.before) if now.get(key) != change.before[key]]
        for key in left or sorted(change.before)[:1]:  # an undo that had nothing to do is counted too
            now = {**now, key: change.before[key]}
            _set(params, ctx, now)
        return
    _set(params, ctx, None if change.before is None else {**now, **change.before})
    if trouble == "dies_after":
        _die()


def can_undo(params):
    return not params.get("lasting")


def crash_class(params):
    return params.get("crash", "B")


def history(params, ctx):
    now = (_thing(params, ctx) or {}).get("version")
    return [
        {
            "version": version, "created": f"2026-01-0{number}T00:00:00+00:00", "by": "", "tags": {}, "metrics": {},
            "lineage": {}, "digest": None, "artifact": "present", "why": "", "serving": version == now,
        }
        for number, version in reversed(list(enumerate(["v1", "v2", "v3"], 1)))
    ]  # fmt: skip


def _path(params, ctx, suffix=""):
    where = "shared" if params.get("shared") else ctx.host or "run"
    return Path(f"{ctx.base}/world/{where}/{params['name']}{suffix}")


def _receipt(ctx):
    return ctx.evidence / f"thing-{ctx.key}"


def _thing(params, ctx):
    """What it is now; None when it is absent."""
    try:
        lines = _path(params, ctx).read_text().splitlines()
    except FileNotFoundError:
        return None
    return json.loads(lines[-1])["is"] if lines else None


def _set(params, ctx, fields):
    """The target changes, and has counted that it did."""
    path = _path(params, ctx)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"is": fields, "at": time.monotonic_ns(), "key": ctx.key}) + "\n"
    out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(out, line.encode())
    finally:
        os.close(out)


def _trouble(params, ctx, when):
    """What goes wrong now: `{when: kind}`, or `{when: [kind, times]}` for the first times only."""
    path = _path(params, ctx, ".trouble")
    try:
        trouble = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    kind = trouble.get(when)
    if isinstance(kind, list):
        kind, left = kind
        trouble[when] = [kind, left - 1]
        path.write_text(json.dumps({**trouble} if left > 1 else {k: v for k, v in trouble.items() if k != when}))
    return kind


def _die():
    """The whole process is killed, at once: nothing can be caught or cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
