"""What a module is and what it is handed: the one file that engine and modules share.

A module is a Python file that keeps one kind of state true. It says what *is* (``read``), what *should be*
(``desired``), how to make it so (``apply``) and how to put it back (``undo``). Whether, when and in what order is
the engine's affair, and so is the record: a module cannot claim success, it can only leave the world as asked.

Nothing here imports anything but the standard library, and nothing here knows the engine.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

# A JSON value. `Any`, because a recursive alias makes every module cast where it reads a reply.
Json = Any
Params = Mapping[str, Json]
#: What is, as plain JSON values. A key that starts with ``_`` is a fact for the record and is never compared.
State = dict[str, Json]


class ModuleError(Exception):
    """It did not work. ``message`` is one plain sentence, ``hint`` the one thing to do about it.

    It does not say that nothing was done: an answer that breaks off, or a 500, may come after the effect. Where that is
    certain, ``nothing_done`` is true.
    """

    outcome = "failed"
    nothing_done = False

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Refused(ModuleError):
    """The world said no, and has done nothing of what was asked."""

    nothing_done = True


class Unreachable(ModuleError):
    """Nobody answered: the request did not get there, so nothing was done by it."""

    outcome = "unreachable"
    nothing_done = True


class Unanswered(Unreachable):
    """A gateway answered for a host that did not (502 to 504): the request may have got there all the same."""

    nothing_done = False


class TimedOut(ModuleError):
    """The answer did not come in time. What was asked may or may not have been done: the engine reads again."""

    outcome = "timed_out"


class Over(ModuleError):
    """The operation has come to an end, and not to the one that was wanted: it failed, was stopped or took itself back."""

    nothing_done = True


class Stopped(ModuleError):
    """The run is being stopped while this step waits: it is neither done nor failed, and is taken up again on resume."""


class Secret:
    """A text that must not be seen. It prints as ``***`` everywhere and cannot be pickled; ``reveal()`` is for the
    moment at which it leaves through the wire. Joined with text it stays a secret."""

    __slots__ = ("_text", "source")

    def __init__(self, text: str, source: str = "") -> None:
        self._text = text
        self.source = source

    def reveal(self) -> str:
        """The text itself: for the wire alone."""
        return self._text

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "***"

    def __add__(self, other: object) -> Secret:
        return Secret(self._text + reveal(other), self.source)

    def __radd__(self, other: object) -> Secret:
        return Secret(reveal(other) + self._text, self.source)

    def __reduce__(self) -> str:
        raise TypeError("a secret cannot be pickled")


def reveal(value: object) -> str:
    """The text of a secret or of anything else: for the wire alone."""
    return value.reveal() if isinstance(value, Secret) else str(value)


@dataclass(frozen=True)
class Change:
    """The difference between what is and what should be: the object that plan, approval, journal and undo share.

    ``before`` and ``after`` hold only the keys that differ; ``None`` stands for a thing that is absent as a whole.
    """

    before: State | None
    after: State | None

    def __bool__(self) -> bool:
        return self.before != self.after

    def __iter__(self) -> Iterator[tuple[str, Json, Json]]:
        """Yields (key, before, after), sorted by key."""
        for key in sorted({**(self.before or {}), **(self.after or {})}):
            yield key, (self.before or {}).get(key), (self.after or {}).get(key)

    def json(self) -> dict[str, Json]:
        """As the journal has it: ``{"before": …, "after": …}``."""
        return {"before": self.before, "after": self.after}

    @classmethod
    def of(cls, value: Mapping[str, Json]) -> Change:
        """The change that `json` wrote."""
        return cls(value["before"], value["after"])


def compared(state: State | None) -> State | None:
    """The state without its facts (keys that start with ``_``)."""
    return None if state is None else {key: value for key, value in state.items() if not key.startswith("_")}


def diff(actual: State | None, desired: State | None) -> Change:
    """What must change in `actual` to become `desired`. Only the keys of `desired` are owned, so only they count;
    where `desired` is ``None`` the thing as a whole is to be absent."""
    actual, desired = compared(actual), compared(desired)
    if actual is None or desired is None:
        return Change(actual, desired)
    keys = [key for key in desired if key not in actual or actual[key] != desired[key]]
    return Change({key: actual.get(key) for key in keys}, {key: desired[key] for key in keys})


@dataclass(frozen=True)
class Reply:
    """An HTTP answer. ``body`` is what was read of it, in bytes; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    def json(self) -> Json:
        """The body as JSON. Raises ModuleError when it is none."""
        import json

        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):  # also 100,000 brackets, which are no answer either
            raise ModuleError(f"the answer is not JSON: {self.text(80)!r}") from None

    def text(self, limit: int = 500) -> str:
        """The first `limit` bytes of the body, as text."""
        return self.body[:limit].decode("utf-8", "replace")

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300


@dataclass(frozen=True)
class Completed:
    """A process that has ended: its exit code and what it wrote, as text."""

    code: int
    out: str
    err: str


class Wire(Protocol):
    """The only way out of a module, and the one place that tests replace."""

    def http(
        self,
        method: str,
        url: str,
        *,
        json: Json = None,
        body: bytes | None = None,
        headers: Mapping[str, object] | None = None,
        timeout: float = 30.0,
        limit: int = 64 << 20,
    ) -> Reply:
        """One request, no redirects followed, no retry. Raises Unreachable, TimedOut, or ModuleError past `limit` bytes.
        Any status is an answer; `expect_ok` turns a bad one into a ModuleError."""

    def command(
        self,
        argv: Sequence[object],
        *,
        stdin: bytes = b"",
        env: Mapping[str, object] | None = None,
        cwd: Path | None = None,
        timeout: float = 30.0,
    ) -> Completed:
        """One process, without a shell. Raises ModuleError when it cannot be started, TimedOut when it was killed."""

    def connect(self, host: str, port: int, *, timeout: float = 5.0) -> None:
        """Opens a TCP connection and closes it. Raises Unreachable when nobody takes it within `timeout` seconds."""


def nobody(names: Sequence[str]) -> list[str]:
    """The keys of people where there is no roster. Raises ModuleError."""
    raise ModuleError(f"there is no roster that could name {', '.join(names)}", "write roster.yml beside the inventory")


@dataclass(frozen=True)
class Context:
    """What a step is handed besides its parameters. Frozen and small: no ambient state, no other clock.

    ``host``, ``run`` and ``step`` name the place; ``key`` is the idempotency key, the same for every retry of this
    step and run. Relative paths start at ``base`` (the playbook's folder); ``evidence`` is this host's folder of the run.
    ``test(expression, names)`` decides a bare expression; ``history(module, params)`` asks a registry module for its
    earlier states; ``destinations`` maps the names that `notify` may use to addresses; ``recipients(names)`` gives the
    SSH public keys of people and roles of the roster.
    """

    host: str
    run: str
    step: str
    key: str
    base: Path
    evidence: Path
    wire: Wire
    deadline: float
    now: Callable[[], float]
    test: Callable[[str, Mapping[str, Json]], bool]
    history: Callable[[str, Params], list[dict[str, Json]]]
    destinations: Mapping[str, Json]
    stop: threading.Event
    recipients: Callable[[Sequence[str]], list[str]] = nobody

    def left(self, most: float = 3600.0) -> float:
        """Seconds until the step's timeout, at most `most`. Raises TimedOut when there are none."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimedOut("the step's timeout has passed")
        return min(left, most)

    def sleep(self, seconds: float) -> None:
        """Waits, but no longer than the step may. Raises TimedOut, or Stopped when the run is being stopped."""
        if self.stop.wait(min(seconds, self.left())):
            raise Stopped("stopped while waiting")
        self.left()

    def path(self, text: object) -> Path:
        """A path of the parameters; a relative one starts at the playbook's folder."""
        return self.base / str(text)

    def http(self, method: str, url: str, **options: Any) -> Reply:
        """``wire.http`` within the time this step has left. Raises what it raises."""
        options["timeout"] = self.left(options.get("timeout", 30.0))
        return self.wire.http(method, url, **options)

    def command(self, argv: Sequence[object], **options: Any) -> Completed:
        """``wire.command`` within the time this step has left. Raises what it raises."""
        options["timeout"] = self.left(options.get("timeout", 3600.0))
        return self.wire.command(argv, **options)


@runtime_checkable
class Module(Protocol):
    """What every module file has. Optional beside it: ``apply(params, change, ctx)``, ``undo(params, change, ctx)``,
    ``can_undo(params) -> bool`` where only some params can be undone, ``history(params, ctx)``,
    ``crash_class(params) -> "A" | "B" | "C" | "D"`` (default B), ``MOVES``: which strategy it serves, and ``SECTIONS``: the
    sections it may stand in (default: all).

    Where the platform accepts at once and is done later, instead of ``apply``: ``start(params, change, ctx)`` returns a
    handle (JSON, no secret in it) as soon as it has been accepted, and ``ended(params, handle, ctx)`` says where it is: True
    when it is over, else False or a few words. It raises Over when it ended badly; any other error means that nobody knows
    yet. Optional: ``abandon(params, handle, ctx)`` asks for it to be stopped; ``find(params, ctx)`` returns the handle of
    what was started under ``ctx.key`` or is under way there, None for nothing. ``undo`` returns a handle, or None for done.
    """

    __doc__: str | None
    #: JSON Schema of the parameters, closed, every property described: the only statement of them.
    SCHEMA: dict[str, Json]

    def read(self, params: Params, ctx: Context) -> State | None:
        """What is. ``None``: it is absent. Leaves the world alone."""

    def desired(self, params: Params) -> State | None:
        """What should be. ``None``: it should be absent. Pure."""


def expect_ok(reply: Reply, what: str, hint: str = "") -> Reply:
    """The reply if its status is 2xx. Raises an error that quotes it: Refused for 4xx but 408, which says no more than that
    time was up; Unanswered for a gateway's 502 to 504; ModuleError for all else, a 500 after the effect among it."""
    if reply.ok:
        return reply
    gateway, refused = reply.status in (502, 503, 504), 400 <= reply.status < 500 and reply.status != 408
    kind = Unanswered if gateway else Refused if refused else ModuleError
    raise kind(f"{what}: HTTP {reply.status} {reply.text(200).strip()}".rstrip(), hint)


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
#: The formats of a schema that are types of the language. `source` checks them, the functions below read them.
FORMATS = {
    "duration": re.compile(r"(?:\d{1,9}(?:\.\d{1,6})?)(?:ms|s|m|h|d)"),
    "percentage": re.compile(r"(?:100|\d{1,2})(?:\.\d{1,6})?%"),
    "size": re.compile(r"\d{1,15}(?:B|KiB|MiB|GiB|TiB)"),
}


def seconds(text: str) -> float:
    """`90s`, `5m`, `80ms` as seconds. Raises ValueError."""
    if not FORMATS["duration"].fullmatch(str(text)):
        raise ValueError(f"{text!r} is not a duration; write for example 90s, 5m or 2h")
    number, unit = re.fullmatch(r"([\d.]+)([a-z]+)", text).groups()  # type: ignore[union-attr]
    return float(number) * _UNITS[unit]


def fraction(value: str | float) -> float:
    """`95%` or `0.95` as a number from 0 to 1. Raises ValueError."""
    if isinstance(value, str):
        if not FORMATS["percentage"].fullmatch(value):
            raise ValueError(f"{value!r} is not a percentage; write for example 95%")
        return float(value[:-1]) / 100
    return float(value)


def size(text: str) -> int:
    """`64MiB` as bytes. Raises ValueError."""
    if not FORMATS["size"].fullmatch(str(text)):
        raise ValueError(f"{text!r} is not a size; write for example 64MiB")
    number, unit = re.fullmatch(r"(\d+)([A-Za-z]+)", text).groups()  # type: ignore[union-attr]
    return int(number) * _SIZES[unit]
