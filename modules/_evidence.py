"""How a module keeps a file as evidence: once for this step and run, with what is known of it beside it.

In: bytes that were fetched, and the parameters that say what of them may be kept. Out: the file, and `<name>.about.json`
with where it came from, by which means, when, its size and its sha256. A copy that was altered since is set aside under a
name of its own and captured again, and the second copy says so. It refuses to know what the bytes mean, except where parts
of them are to be left out.

Encryption is age's (age-encryption.org/v1), for SSH keys of people of the roster: what is kept, hashed and sealed is the
ciphertext, so that personal data can be erased by losing keys and no digest tells anything of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from modules import _disk
from modules.contract import Completed, Context, Json, ModuleError, Params, Reply, State, fraction, seconds

#: Parameters that every module has which keeps a file.
AS: dict[str, Json] = {
    "as": {
        "type": "string",
        "pattern": r"^(?!.*\.about\.json$)[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        "x-says": "a file's name of letters, digits and . _ - (64 at most)",
        "description": "The file's name among the evidence: letters, digits and . _ - (64 at most).",
    },
    "encrypt_for": {
        "type": "array",
        "items": {"type": "string", "minLength": 1},
        "minItems": 1,
        "description": "People or roles of the roster: the file is kept encrypted for their SSH keys; nobody else reads it.",
    },
}
#: Parameters for rows of JSON: which of them are kept, and what of them is not.
ROWS: dict[str, Json] = {
    "redact": {
        "type": "array",
        "items": {"type": "string", "minLength": 1},
        "minItems": 1,
        "description": "Names of fields, at any depth, whose values are not kept; the body is then JSON, or JSON lines.",
    },
    "sample": {
        "type": ["string", "number"],
        "format": "percentage",
        "description": "Which part of the JSON lines is kept, like 10%: the same rows whenever it is captured again.",
    },
    "since": {
        "type": "string",
        "format": "duration",
        "description": "Only JSON lines whose `time` is so recent, like 15m.",
    },
    "time": {
        "type": "string",
        "default": "time",
        "description": "The field with a row's time, for `since`: ISO 8601, or seconds since 1970.",
    },
}
_LEFT_OUT = "(left out)"
#: Seconds in which a `Date` header counts: RFC 9110, 5.6.7.
_TICK = 1.0


class Clock:
    """The wire of one capture, which also looks at the clock of whoever answers: `offset` says how far ours is ahead.

    It costs no request: a `Date` header comes with every answer that is captured anyway.
    """

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self.offset: dict[str, Json] = {"seconds": None, "why": "nobody answered with a clock"}

    def http(self, method: str, url: str, **options: Any) -> Reply:
        """See `contract.Wire`. Of several answers the one counts that tells most exactly."""
        reply = self._ctx.wire.http(method, url, **options)
        found = _ahead(reply, self._ctx.now(), urlsplit(str(url)).netloc.rpartition("@")[2])
        known = self.offset.get("within")
        if known is None or found.get("within", known) < known:
            self.offset = found
        return reply

    def command(self, argv: Sequence[object], **options: Any) -> Completed:
        """See `contract.Wire`."""
        return self._ctx.wire.command(argv, **options)

    def connect(self, host: str, port: int, *, timeout: float = 5.0) -> None:
        """See `contract.Wire`."""
        self._ctx.wire.connect(host, port, timeout=timeout)


def timed(ctx: Context) -> tuple[Context, Clock]:
    """The context with a wire that looks at clocks, and that wire."""
    clock = Clock(ctx)
    return replace(ctx, wire=clock), clock


def _ahead(reply: Reply, now: float, whose: str) -> dict[str, Json]:
    """How many seconds our clock is ahead of the answer's, and within how many that is known; or why it is not.

    `now`: by our clock, when the answer was there. The header was written at some moment of the exchange, by which half of
    that can be wrong; and it counts whole seconds, some servers writing it only once in each.
    """
    said = reply.headers.get("date")
    if said is None:
        return {"seconds": None, "why": f"{whose} answered without a Date header"}
    if reply.headers.get("age", "0").strip() != "0":
        return {"seconds": None, "why": f"a cache answered for {whose}, with the Date of an earlier answer"}
    try:
        theirs = parsedate_to_datetime(said)
    except (ValueError, TypeError):
        return {"seconds": None, "why": f"the Date header of {whose} is no date"}
    theirs = theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC)
    middle = now - reply.seconds / 2
    seconds_ahead = round(middle - theirs.timestamp() - _TICK / 2, 3)
    return {"seconds": seconds_ahead, "within": round(reply.seconds / 2 + _TICK, 3), "clock": f"{whose} (Date header)"}


def stored(params: Params, ctx: Context) -> State:
    """What lies there: `stored`, and facts about it. Raises ModuleError for a name that another step has taken."""
    path = place(params, ctx)
    about = _about(path)
    if about is None:
        return {"stored": False, "_path": str(path)}
    if about["key"] != ctx.key:
        raise ModuleError(f"the evidence already holds {path.name}, kept by {about['step']}", "choose another name for `as`")
    if not path.is_file() or _disk.sha256(path) != about["sha256"]:
        why = f"{path.name} is not what was captured at {about['captured']}: its digest differs"
        return {"stored": False, "_path": str(path), "_why": why}
    facts = {name: value for name, value in about.items() if name not in ("key", "step")}
    return {"stored": True, "_path": str(path), **{f"_{name}": value for name, value in facts.items()}}


def keep(params: Params, ctx: Context, body: bytes, source: str, tool: str, **facts: Json) -> None:
    """Puts what may be kept of `body` in place. `source`: where it came from; `tool`: what fetched it. Raises ModuleError:
    then nothing is kept."""
    path = place(params, ctx)
    body, left_out = chosen(params, body, ctx.now())
    if str(params["as"]).endswith(".jsonl"):
        facts["rows"] = sum(bool(line.strip()) for line in body.split(b"\n"))
    if "encrypt_for" in params:
        body = encrypted(body, ctx.recipients(params["encrypt_for"]))
        facts["encrypted_for"] = list(params["encrypt_for"])
    about: dict[str, Json] = {
        "source": source, "tool": tool, "step": ctx.step, "key": ctx.key,
        "captured": datetime.fromtimestamp(ctx.now(), UTC).isoformat(timespec="milliseconds"),
        "size": len(body), "sha256": sha256(body).hexdigest(), **left_out, **facts,
    }  # fmt: skip
    if note := _set_aside(path):
        about["note"] = note
    # The body first: what lies there without its `.about.json` counts as never captured.
    _disk.write(path, body)
    _disk.write(_beside(path), json.dumps(about, indent=1, sort_keys=True).encode())


def place(params: Params, ctx: Context) -> Path:
    """Where the file lies; an encrypted one says so in its name."""
    return ctx.evidence / (str(params["as"]) + (".age" if "encrypt_for" in params else ""))


def chosen(params: Params, body: bytes, now: float) -> tuple[bytes, dict[str, Json]]:
    """What is kept of a body, and how much was left out. Where a part of it is to be left out, it is JSON or JSON lines.

    Raises ModuleError for a body that is neither: what cannot be looked through is not kept.
    """
    asked = {name: params[name] for name in ("redact", "sample", "since") if name in params}
    if not asked:
        return body, {}
    lines = [line for line in body.split(b"\n") if line.strip()]
    rows, whole = _parsed(lines, body)
    kept = list(range(len(rows)))
    if "since" in asked:
        field, oldest = params.get("time", "time"), now - seconds(asked["since"])
        kept = [i for i in kept if _moment(rows[i], field) >= oldest]
    if "sample" in asked:
        part = fraction(asked["sample"])
        kept = [i for i in kept if int.from_bytes(sha256(lines[i]).digest()[:7]) < part * (1 << 56)]
    count = 0
    names = frozenset(asked.get("redact", ()))

    def without(value: Json) -> Json:
        nonlocal count
        if isinstance(value, dict):
            count += len(names & value.keys())
            return {key: _LEFT_OUT if key in names else without(inner) for key, inner in value.items()}
        return [without(inner) for inner in value] if isinstance(value, list) else value

    made = [
        json.dumps(without(rows[i]), ensure_ascii=False, separators=(",", ":")).encode() if names else lines[i] for i in kept
    ]
    said: dict[str, Json] = {"left_out": len(rows) - len(kept)} if "since" in asked or "sample" in asked else {}
    if names:
        said["redacted"] = count
    return (made[0] if whole and made else b"".join(line + b"\n" for line in made)), said


def _parsed(lines: list[bytes], body: bytes) -> tuple[list[Any], bool]:
    """The rows of a body, and whether it is one JSON value rather than lines."""
    try:
        return [json.loads(body)], True
    except ValueError:
        pass
    try:
        return [json.loads(line) for line in lines], False
    except ValueError:
        why = "it is neither JSON nor JSON lines, so nothing can be left out of it"
        raise ModuleError(
            f"nothing was kept: {why}", "encrypt it whole with `encrypt_for`, or capture another form"
        ) from None


def _moment(row: Json, field: str) -> float:
    """A row's time in seconds since 1970. Raises ModuleError: a row without one is not quietly left out."""
    value = row.get(field) if isinstance(row, dict) else None
    try:
        if isinstance(value, str):
            return datetime.fromisoformat(value).timestamp()
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value) / (1000 if value > 1e11 else 1)
    except ValueError:
        pass
    raise ModuleError(
        f"nothing was kept: a row has no time in `{field}`", "name the field with `time`, or leave out `since`"
    )


def encrypted(body: bytes, keys: list[str]) -> bytes:
    """`body` in age's format for these SSH public keys. Raises ModuleError naming a key that cannot be encrypted for."""
    try:
        import pyrage
    except ImportError:
        raise ModuleError(
            "nothing was kept: encryption needs the package pyrage", "pip install 'lastgood[encrypt]'"
        ) from None
    found = []
    for line in keys:
        try:
            found.append(pyrage.ssh.Recipient.from_str(line))
        except (pyrage.RecipientError, ValueError):
            said = f"nothing was kept: nothing can be encrypted for a key of the kind {line.split()[0]}"
            raise ModuleError(said, "list an ssh-ed25519 key of that person in the roster") from None
    made: bytes = pyrage.encrypt(body, found)
    return made


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".about.json")


def _about(path: Path) -> dict[str, Json] | None:
    """What lies beside the body; None when nothing does."""
    try:
        about: dict[str, Json] = json.loads(_beside(path).read_bytes())
        if {"key", "step", "captured", "sha256"} <= about.keys():
            return about
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError):
        pass  # it is there and it is not ours: said below
    raise ModuleError(f"{_beside(path).name} is damaged", "the evidence was altered; look at it")


def _set_aside(path: Path) -> str:
    """Renames a copy that is not what its `.about.json` says, and says so; an empty text when all is well."""
    about = _about(path)
    if about is None or (path.is_file() and (found := _disk.sha256(path)) == about["sha256"]):
        return ""
    if path.is_file():
        with _disk.told(f"{path.name} cannot be set aside"):
            path.rename(path.with_name(f"{path.name}.altered-{found[:12]}"))
    aside = sorted(other.name for other in path.parent.glob(f"{path.name}.altered-*"))
    found_as = f"; what was found lies aside as {', '.join(aside)}" if aside else ""
    return f"the copy of {about['captured']} (sha256 {about['sha256']}) was altered or removed{found_as}"
