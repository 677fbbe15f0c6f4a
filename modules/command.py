"""A command has done its work, as a path, a second command or a receipt shows.

`creates` and `unless` look at the world, so a run that was killed can look again. `once` has nothing to look at but its
own receipt in the run's evidence: after a crash in mid-command a person decides.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from modules import _disk
from modules.contract import Change, Completed, Context, Json, ModuleError, Params, Refused, Secret, State, reveal

# A command may move anything; that it does is its author's word.
MOVES = ("version", "checkpoint", "configuration", "data")
_TAIL = 2000
_ARGV: dict[str, Json] = {"type": "array", "minItems": 1, "items": {"type": "string"}}
SCHEMA: dict[str, Json] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["argv"],
    "x-says": "a mapping with exactly one of `creates`, `unless` and `once`",
    "oneOf": [{"required": ["creates"]}, {"required": ["unless"]}, {"required": ["once"]}],
    "properties": {
        "argv": {
            **_ARGV,
            "description": "The program and its arguments, one by one; no shell reads them, and none is a secret.",
        },
        "creates": {
            "type": "string",
            "format": "path",
            "minLength": 1,
            "description": "A path that is there when the work is done; a relative one starts at the playbook.",
        },
        "unless": {**_ARGV, "description": "A command that changes nothing and ends with 0 when the work is done already."},
        "once": {
            "const": True,
            "description": "Nothing shows whether the work is done: it is done once per run, by its receipt.",
        },
        "undo": {**_ARGV, "description": "The command that puts things back; without it the step has no undo."},
        "env": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "Environment variables beside those of the engine; a value may be a secret.",
        },
        "cwd": {
            "type": "string",
            "format": "path",
            "minLength": 1,
            "description": "The folder to run in; the playbook's unless given.",
        },
        "stdin": {"type": "string", "description": "What the command reads from standard input; may be a secret."},
        "expect": {
            "oneOf": [{"type": "integer"}, {"type": "array", "minItems": 1, "items": {"type": "integer"}}],
            "description": "The exit code, or several, that mean success; 0 unless given.",
        },
    },
    "examples": [
        {"argv": ["tar", "-xf", "known-good.tar"], "cwd": "serving", "creates": "serving/model.bin"},
        {
            "argv": ["systemctl", "start", "scoring"],
            "unless": ["systemctl", "is-active", "--quiet", "scoring"],
            "undo": ["systemctl", "stop", "scoring"],
        },
        {"argv": ["nginx", "-s", "reload"], "once": True},
    ],
}


def read(params: Params, ctx: Context) -> State | None:
    _no_secret_argument(params)
    receipt = _receipt(ctx)
    if "creates" in params:
        done = ctx.path(params["creates"]).exists()
    elif "unless" in params:
        done = _run(params["unless"], params, ctx, stdin=False).code == 0
    else:
        done = bool(receipt)
    return {"done": done, **{f"_{key}": value for key, value in receipt.items()}}


def desired(params: Params) -> State | None:
    return {"done": True}


def apply(params: Params, change: Change, ctx: Context) -> None:
    ended = _expected(params["argv"], params, ctx)
    out = _clean(ended.out, params)
    receipt = {
        "code": ended.code,
        "out": out[-_TAIL:],
        "out_sha256": hashlib.sha256(out.encode()).hexdigest(),
        "at": ctx.now(),
    }
    _disk.write(_place(ctx), json.dumps(receipt).encode())


def undo(params: Params, change: Change, ctx: Context) -> None:
    if not (read(params, ctx) or {})["done"]:
        return
    _expected(params["undo"], params, ctx)
    with _disk.told("the receipt cannot be removed"):
        _place(ctx).unlink(missing_ok=True)


def can_undo(params: Params) -> bool:
    return "undo" in params


def crash_class(params: Params) -> str:
    return "D" if "once" in params else "B"


def _run(argv: Sequence[object], params: Params, ctx: Context, stdin: bool = True) -> Completed:
    given = reveal(params["stdin"]).encode() if stdin and "stdin" in params else b""
    return ctx.command(argv, stdin=given, env=params.get("env"), cwd=ctx.path(params.get("cwd", "")))


def _expected(argv: Sequence[object], params: Params, ctx: Context) -> Completed:
    """Runs it. Raises ModuleError with the last words of the command when its exit code is not one of those expected."""
    ended, expected = _run(argv, params, ctx), params.get("expect", 0)
    if ended.code not in (expected if isinstance(expected, list) else [expected]):
        said = _clean(ended.err.strip() or ended.out.strip(), params).strip()[-300:]
        # An exit code is the command's own no; whom a signal has ended could not say what was done by then.
        kind = ModuleError if ended.code < 0 else Refused
        raise kind(f"{argv[0]} ended with {_code(ended.code)}{': ' + said if said else ''}")
    return ended


def _code(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _clean(text: str, params: Params) -> str:
    """What a command wrote, without the secrets that it was handed: commands like to repeat them."""
    for value in (params.get("stdin"), *params.get("env", {}).values()):
        if isinstance(value, Secret) and value.reveal():
            text = text.replace(value.reveal(), "***")
    return text


def _no_secret_argument(params: Params) -> None:
    for word in (*params["argv"], *params.get("unless", ()), *params.get("undo", ())):
        if isinstance(word, Secret):
            raise Refused(
                "a secret cannot be an argument: every process on the machine could read it",
                "hand it over by `stdin` or `env`",
            )


def _place(ctx: Context) -> Path:
    return ctx.evidence / f"command-{hashlib.sha256(ctx.key.encode()).hexdigest()[:32]}.json"


def _receipt(ctx: Context) -> Mapping[str, Json]:
    """What the receipt of this step and run says; empty when there is none."""
    try:
        return dict(json.loads(_place(ctx).read_bytes()))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModuleError(
            f"the receipt {_place(ctx).name} cannot be read: {error}", "look at it, and decide whether it ran"
        ) from None
