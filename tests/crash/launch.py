"""A process that runs command lines of the engine, each in a child of its own, and kills the child where it is told to.

It reads one JSON object a line: `{"argv": […], "cwd": "…", "kill": 7, "out": "file", "env": {…}}`. The child runs
`engine ARGV`; at its seventh boundary it gets a real SIGKILL (0: never). The answer is one JSON object a line, too:
`{"exit": 0}`, or `{"exit": -9, "point": "before step.intent"}`.

A boundary is before and after each commit of the journal, and before and after each effect: `apply` and `undo` of every
module that acts. The engine knows nothing of this: its functions are wrapped here, in the test's own process.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.cli import main
from engine.journal import Journal
from modules import catalog


class Boundaries:
    """Counts boundaries, over all threads, and dies at the one that was named."""

    def __init__(self, kill: int, trace: int) -> None:
        self.kill, self.trace = kill, trace
        self.count = 0
        self.lock = threading.Lock()

    def at(self, name: str) -> None:
        """A boundary has been reached."""
        with self.lock:
            self.count += 1
            os.write(self.trace, f"{name}\n".encode())
            if self.count == self.kill:
                os.kill(os.getpid(), signal.SIGKILL)

    def wrapped(self, function: Callable[..., Any], name: Callable[..., str]) -> Callable[..., Any]:
        """The function with a boundary before and one after it."""

        def around(*args: Any, **more: Any) -> Any:
            said = name(*args, **more)
            self.at(f"before {said}")
            result = function(*args, **more)
            self.at(f"after {said}")
            return result

        return around

    def install(self) -> None:
        """Wraps the engine's journal and every module's effects."""
        Journal.append_all = self.wrapped(Journal.append_all, lambda _s, _run, rows: "+".join(row[0] for row in rows))  # type: ignore[method-assign]
        Journal.start = self.wrapped(Journal.start, lambda *_: "run.started")  # type: ignore[method-assign]
        made = catalog._entry

        def entry(name: str, module: Any, *rest: Any) -> Any:
            found = made(name, module, *rest)
            for word in ("apply", "undo", "_set"):  # the rehearsals' things are `_set` inside their effects
                if hasattr(module, word) and not hasattr(module, f"_{word}_is_wrapped"):
                    setattr(module, word, self.wrapped(getattr(module, word), lambda *_, w=word: f"{w} of {name}"))
                    setattr(module, f"_{word}_is_wrapped", True)
            return found

        catalog._entry = entry


def run(order: dict[str, Any]) -> None:
    """The child: it becomes the engine."""
    os.chdir(order["cwd"])
    out = os.open(order["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    null = os.open(os.devnull, os.O_RDONLY)
    for number, stream in enumerate((null, out, out)):
        os.dup2(stream, number)
    os.environ.update(order.get("env", {}))
    trace = os.open(order["trace"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    Boundaries(order.get("kill", 0), trace).install()
    if extra := order.get("install"):
        sys.path.insert(0, str(Path(__file__).parent))
        module, _, function = extra.partition(":")
        getattr(importlib.import_module(module), function)()
    code = main.run(order["argv"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def warm() -> None:
    """Imports what the engine would import in every child anew."""
    for name in ("run", "resume", "resolve", "undo", "approve", "running", "opening", "giving"):
        importlib.import_module(f"engine.cli.{name}")
    for name in ("jinja2", "jsonschema", "urllib3", "cryptography.hazmat.primitives.serialization", "yaml", "rfc8785"):
        importlib.import_module(name)
    from engine import source

    for name in ("playbook", "inventory", "roster", "destinations"):
        source.schema(name)


def serve() -> None:
    """Forks a child for each order, and says how it ended."""
    warm()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if not child:
            try:
                run(order)
            finally:
                os._exit(99)
        print(json.dumps({"child": child}), flush=True)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        points = Path(order["trace"]).read_text().splitlines() if Path(order["trace"]).exists() else []
        print(json.dumps({"exit": code, "points": points}), flush=True)


if __name__ == "__main__":
    serve()
