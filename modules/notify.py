"""A message is delivered to a named destination.

A playbook names a destination; where that is stands in the environment's destinations.yml, as one or several addresses:
`file:PATH` appends a JSON line to a file on this machine and needs nothing installed; every other address is apprise's
(https://github.com/caronc/apprise), such as `mailto://…`, `slack://…` or `json://…`, and needs `pip install
'lastgood[notify]'`.

A message cannot be read back. What is read is the receipt that this module keeps in the run's evidence, one for each
address, so a retry sends only what is still missing. Between sending and the receipt a crash can come: delivery is at least
once, and never blocks a run, because the engine's outbox does it. Every message ends with the same `ref` line each time it
is sent, by which a receiver can tell a repetition. Crash class D. There is no undo: send a correction.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modules import _disk
from modules.contract import Change, Context, Json, ModuleError, Params, State, reveal

SECTIONS = ("communications",)
SCHEMA: dict[str, Json] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["to", "message"],
    "properties": {
        "to": {"type": "string", "minLength": 1, "description": "A name from the environment's destinations.yml."},
        "message": {"type": "string", "minLength": 1, "description": "The text, of one or several lines."},
        "title": {"type": "string", "description": "The subject, of one line; by default the run and its host."},
    },
    "examples": [{"to": "incident-channel", "message": "fraud is going back to version 1.3.2"}],
}


def crash_class(params: Params) -> str:
    """D: nothing at the receiver tells whether a message arrived."""
    return "D"


def read(params: Params, ctx: Context) -> State | None:
    receipts = _receipts(ctx)
    if len(receipts) < len(_addresses(params, ctx)):
        return None
    return {"sent": True, "_to": params["to"], "_ref": _ref(ctx), "_when": max(receipts.values())}


def desired(params: Params) -> State:
    return {"sent": True}


def apply(params: Params, change: Change, ctx: Context) -> None:
    title = " ".join(str(params.get("title", "")).split()) or f"Lastgood {ctx.run} {ctx.host}".strip()
    message = str(params["message"]).rstrip()  # a secret in it stays hidden
    refused = []
    for number, address in enumerate(_addresses(params, ctx), 1):
        if str(number) in (receipts := _receipts(ctx)):
            continue
        text = reveal(address)
        send = _to_file if text.startswith("file:") else _by_apprise
        if why := send(ctx, text, title, message):
            kind = re.match(r"[a-z0-9]+(?=:)", text)
            refused.append(f"address {number}{f', {kind[0]}' if kind else ''}: {why}")
            continue
        kept = {**receipts, str(number): datetime.fromtimestamp(ctx.now(), UTC).isoformat()}
        _path(ctx).parent.mkdir(parents=True, exist_ok=True)
        _disk.write(_path(ctx), json.dumps(kept, sort_keys=True).encode())
    if refused:
        raise ModuleError(f"{params['to']}: the message was not delivered ({'; '.join(refused)})", "check destinations.yml")


def _addresses(params: Params, ctx: Context) -> list[Any]:
    found = ctx.destinations.get(params["to"])
    if not found:
        known = ", ".join(sorted(ctx.destinations)) or "none"
        raise ModuleError(f"there is no destination `{params['to']}`", f"destinations.yml names: {known}")
    return list(found) if isinstance(found, list | tuple) else [found]


def _ref(ctx: Context) -> str:
    return ctx.key if ctx.key.startswith(ctx.run) else f"{ctx.run}/{ctx.key}"


# ------------------------------------------------------------------------------------------------ the receipts
def _path(ctx: Context) -> Path:
    return ctx.evidence / f"message-{hashlib.sha256(ctx.key.encode()).hexdigest()[:32]}.json"


def _receipts(ctx: Context) -> dict[str, str]:
    """The address' number in its destination -> when this message was sent there. The address itself may be a secret."""
    try:
        return dict(json.loads(_path(ctx).read_bytes()))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModuleError(f"the receipt {_path(ctx)} is damaged: {error}") from None


# ------------------------------------------------------------------------------------------------ sending: "" or why not
def _to_file(ctx: Context, address: str, title: str, message: str) -> str:
    line = {"at": datetime.fromtimestamp(ctx.now(), UTC).isoformat(), "ref": _ref(ctx), "title": title, "message": message}
    try:
        file = ctx.path(address.removeprefix("file:"))
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        return f"cannot be written, {error.strerror}"
    return ""


def _by_apprise(ctx: Context, address: str, title: str, message: str) -> str:
    try:
        import apprise
    except ImportError:
        raise ModuleError("messages need apprise, which is not installed", "pip install 'lastgood[notify]'") from None
    sender = apprise.Apprise()
    if not sender.add(address):
        return "this is no address that apprise understands"
    body = f"{message}\n\nref {_ref(ctx)}"
    result: Any = sender.notify(body=body, title=title, body_format=apprise.NotifyFormat.TEXT)
    if bool(result):  # an AppriseResult: it is never `False` itself
        return ""
    said = [log.message for one in result.results for attempt in one.attempts for log in attempt if log.level == "WARNING"]
    return next((text for text in said if not _tells(text, address)), "it was refused")


def _tells(text: str, address: str) -> bool:
    """Whether a text repeats something of an address that may be secret: anything but its host."""
    host = re.match(r"[a-z0-9]+://(?:[^@/]*@)?([^:/?]*)", address)
    words = set(re.split(r"[/:@?&=]+", address)) - {host[1] if host else ""}
    return any(len(word) > 3 and word in text for word in words)
