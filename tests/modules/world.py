"""A small real world for one module: folders, a tiny HTTP server, a scripted wire, and the context a step is handed.

`World` is what `worlds/<module>.py` yields, `Served` is a server of a few lines on loopback, `ScriptedWire` plays the
replies of a case file and remembers what was asked. README.md says how they are used.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from modules._wire import Wire
from modules.contract import Completed, Context, ModuleError, Reply, Secret, TimedOut, Unreachable, reveal

HERE = Path(__file__).parent
#: Put `MARKED` where a world's params may hold a secret: a law looks for its text in everything that is kept.
MARK = "marked-secret-7f3a9c"
MARKED = Secret(MARK, "env:MARKED")


def tree(folder: Path) -> dict[str, str]:
    """Every entry below `folder`: its path -> kind, mode and content digest or link target."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            what = f"link to {path.readlink()}"
        elif path.is_dir():
            what = "folder"
        else:
            what = f"{path.stat().st_mode & 0o7777:04o} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        found[str(path.relative_to(folder))] = what
    return found


def ask(expression: str, names: Mapping[str, Any]) -> bool:
    """Decides a bare expression, as the engine does for a module: strict names, a boolean result, else a ModuleError."""
    engine = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined)
    try:
        answer = engine.compile_expression(expression, undefined_to_none=False)(**names)
    except jinja2.TemplateError as error:
        raise ModuleError(str(error)) from None
    if not isinstance(answer, bool):
        raise ModuleError(f"`{expression}` gives {type(answer).__name__}, not true or false")
    return answer


def no_history(module: str, params: Mapping[str, Any]) -> list[dict[str, Any]]:
    raise AssertionError(f"this world has no history, and {module} was asked for it")


@dataclass
class World:
    """One module's surroundings. `params` ask for something that is not so yet (or, for a module that observes, can be met).

    `look()` says what the world holds without asking the module; the default is every file below `base`.
    The folders `base` (the playbook's) and `evidence` are made below `tmp`.
    """

    tmp: Path
    params: dict[str, Any]
    look: Callable[[], Any] | None = None
    wire: Any = field(default_factory=Wire)
    history: Callable[[str, Mapping[str, Any]], list[dict[str, Any]]] = no_history
    destinations: Mapping[str, Any] = field(default_factory=dict)
    now: Callable[[], float] = time.time
    seconds: float = 60.0

    def __post_init__(self) -> None:
        self.base.mkdir(parents=True, exist_ok=True)
        self.evidence.mkdir(parents=True, exist_ok=True)

    @property
    def base(self) -> Path:
        return self.tmp / "playbook"

    @property
    def evidence(self) -> Path:
        return self.tmp / "evidence"

    def seen(self) -> Any:
        """What the world holds now, as a value that can be compared."""
        return self.look() if self.look else tree(self.base)

    def context(self, wire: Any = None, seconds: float | None = None) -> Context:
        """What the engine would hand to the module: the same key every time, a fresh deadline."""
        return Context(
            host="svc-1",
            run="2026-01-01-a1b2",
            step="execution/step",
            key="key-0123456789abcdef",
            base=self.base,
            evidence=self.evidence,
            wire=wire or self.wire,
            deadline=time.monotonic() + (self.seconds if seconds is None else seconds),
            now=self.now,
            test=ask,
            history=self.history,
            destinations=self.destinations,
            stop=threading.Event(),
        )


def worlds_of(module: str, folder: Path = HERE / "worlds") -> dict[str, Callable[[Path], Iterator[World]]]:
    """The worlds in `worlds/<module>.py`: every function there whose name begins with `world`; none without a file."""
    path = folder / f"{module}.py"
    if not path.is_file():
        return {}
    loaded = load(path)
    return {name: thing for name, thing in vars(loaded).items() if name.startswith("world") and callable(thing)}


def load(path: Path) -> ModuleType:
    """A Python file by its path; its name may hold dots."""
    spec = importlib.util.spec_from_file_location(f"loaded_{path.stem.replace('.', '_')}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def opened(make: Callable[[Path], Iterator[World]], tmp: Path) -> Iterator[World]:
    """The world that `make` yields; its clean-up runs and its connections are closed in every case."""
    with contextmanager(make)(tmp) as world:
        try:
            yield world
        finally:
            if isinstance(world.wire, Wire):
                world.wire.close()


# ------------------------------------------------------------------------------------------------ a tiny server
@dataclass(frozen=True)
class Request:
    """What reached the server: `path` with its query, header names in lower case, the body in bytes."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


#: An answer: a status, or (status, body) or (status, body, headers); a body that is not bytes is sent as JSON.
Answer = Any


class Served:
    """A real HTTP server on 127.0.0.1 that asks `answer(request)`; `.url`, and `.requests` in their order.

    with Served(lambda request: (200, {"version": "7"})) as server:
        ... server.url ...
    """

    def __init__(self, answer: Callable[[Request], Answer]) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.served = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Served:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for the answers that are under way
    request_queue_size = 64
    served: Served


class _Handler(BaseHTTPRequestHandler):
    def _serve(self) -> None:
        served = self.server.served  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        request = Request(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        served.requests.append(request)
        answer = served.answer(request)
        status, content, headers = (*answer, None, {})[:3] if isinstance(answer, tuple) else (answer, None, {})
        sent = content if isinstance(content, bytes) else b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"content-length": str(len(sent)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(sent)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Says nothing."""


# ------------------------------------------------------------------------------------------------ wires for tests
class DeafWire:
    """Nobody answers. `asked` says whether anybody tried."""

    def __init__(self) -> None:
        self.asked = False

    def http(self, method: str, url: str, **_: Any) -> Reply:
        self.asked = True
        raise Unreachable(f"{reveal(url).split('?')[0]} does not answer: connection refused")

    def command(self, argv: Any, **_: Any) -> Completed:
        self.asked = True
        raise Unreachable(f"{reveal(argv[0])} cannot reach its server")

    def connect(self, host: str, port: int, **_: Any) -> None:
        self.asked = True
        raise Unreachable(f"{host}:{port} does not answer: connection refused")


class ScriptedWire:
    """Plays a case file's replies. `wire` is a list in its order, each used once; `answers` holds replies that may be
    asked for any number of times and in any order (`METHOD url` -> reply)."""

    def __init__(self, wire: list[dict[str, Any]], answers: Mapping[str, Any]) -> None:
        self.script = list(wire)
        self.answers = answers

    def http(self, method: str, url: str, *, json: Any = None, body: Any = None, headers: Any = None, **_: Any) -> Reply:
        line = f"{method} {reveal(url)}"
        if line in self.answers:
            return _reply(self.answers[line], line)
        asked = self._next(line)
        assert asked.get("request") == line, f"the case expects {asked}, the module asked {line}"
        if "json" in asked:
            assert asked["json"] == _plain(json), f"{line} was sent {_plain(json)}"
        if "body" in asked:
            assert asked["body"] == (body or b"").decode(), f"{line} was sent {body!r}"
        sent = {str(name).lower(): reveal(value) for name, value in (headers or {}).items()}
        for name, value in asked.get("headers", {}).items():
            assert value == sent.get(name.lower()), f"{line} was sent the headers {sent}"
        return _reply(asked.get("reply", {}), line)

    def command(self, argv: Any, *, stdin: bytes = b"", env: Any = None, cwd: Any = None, **_: Any) -> Completed:
        words = [reveal(word) for word in argv]
        asked = self._next(" ".join(words))
        assert asked.get("command") == words, f"the case expects {asked}, the module ran {words}"
        if "stdin" in asked:
            assert asked["stdin"] == stdin.decode(), f"{words} was given {stdin!r}"
        reply = asked.get("reply", {})
        _raise(reply, words[0])
        return Completed(reply.get("code", 0), reply.get("out", ""), reply.get("err", ""))

    def connect(self, host: str, port: int, **_: Any) -> None:
        line = f"{host}:{port}"
        if f"connect {line}" in self.answers:
            return _raise(self.answers[f"connect {line}"], line)
        asked = self._next(f"connect {line}")
        assert asked.get("connect") == line, f"the case expects {asked}, the module connected to {line}"
        return _raise(asked.get("reply", {}), line)

    def _next(self, asked: str) -> dict[str, Any]:
        assert self.script, f"the case expects no more calls, the module asked {asked}"
        return self.script.pop(0)


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=reveal))


def _raise(reply: Mapping[str, Any], what: str) -> None:
    kinds = {"unreachable": Unreachable, "timed_out": TimedOut, "failed": ModuleError}
    if "error" in reply:
        raise kinds[reply["error"]](reply.get("why", f"{what}: {reply['error']}"))


def _reply(reply: Mapping[str, Any], line: str) -> Reply:
    _raise(reply, line)
    content = json.dumps(reply["json"]) if "json" in reply else reply.get("text", "")
    return Reply(reply.get("status", 200), reply.get("headers", {}), content.encode(), reply.get("seconds", 0.01))
