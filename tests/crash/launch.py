"""A process that runs command lines of the engine, each in a child of its own, and kills the child where it is told to.

It reads one JSON object a line: `{"argv": […], "cwd": "…", "kill": 7, "out": "file", "env": {…}}`. The child runs
`engine ARGV`; at its seventh boundary it gets a real SIGKILL (0: never). `kill` may also name the boundary and say which
time it is come to: `["before step.intent a execution/switch", 1]`. With `beside`, a second command line is run by another
process when the boundary of that number is come to, as if somebody had typed it just then. The answer is one JSON object a
line, too: `{"exit": -9, "points": ["before run.started", …]}`.

A boundary is before and after each commit of the journal, before and after each effect (`apply` and `undo` of every module
that acts), and inside it: before and after each change that a thing of the rehearsals makes to the world. The engine knows
nothing of this: its functions are wrapped here, in the test's own process.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))

from stage import Stage, look, step

from engine import inventory, plan
from engine.cli import cancel, main, opening, running
from engine.journal import Journal
from engine.layout import Options
from modules import catalog

#: Seconds after which a child counts as stuck; it is ended then, and its exit is -14.
LONGEST = 120


class Boundaries:
    """Counts boundaries, over all threads, and dies at the one that was named."""

    def __init__(self, kill: int | tuple[str, int], trace: int, aside: tuple[int, Callable[[], None]] | None = None) -> None:
        self.kill, self.trace, self.aside = kill, trace, aside
        self.count = 0
        self.times: Counter[str] = Counter()
        self.lock = threading.Lock()

    def at(self, name: str) -> None:
        """A boundary has been reached."""
        with self.lock:
            self.count += 1
            self.times[name] += 1
            os.write(self.trace, f"{name}\n".encode())
            if self.kill in (self.count, (name, self.times[name])):
                os.kill(os.getpid(), signal.SIGKILL)
            if self.aside and self.aside[0] == self.count:
                self.aside[1]()


#: The child's own; the process that forks the children comes to no boundary.
boundaries: Boundaries | None = None


def wrapped(function: Callable[..., Any], name: Callable[..., str]) -> Callable[..., Any]:
    """The function with a boundary before and one after it."""

    def around(*args: Any, **more: Any) -> Any:
        if boundaries is None:
            return function(*args, **more)
        said = name(*args, **more)
        boundaries.at(f"before {said}")
        result = function(*args, **more)
        boundaries.at(f"after {said}")
        return result

    return around


def wrap() -> None:
    """Wraps the engine's journal and the effects of every module that is loaded from now on."""
    Journal.append_all = wrapped(Journal.append_all, _entries)  # type: ignore[method-assign]
    Journal.start = wrapped(Journal.start, lambda *_: "run.started")  # type: ignore[method-assign]
    made = catalog._entry

    def entry(name: str, module: Any, *rest: Any) -> Any:
        found = made(name, module, *rest)
        if not hasattr(module, "_is_wrapped"):
            module._is_wrapped = True
            for word in ("apply", "undo"):
                if hasattr(module, word):
                    setattr(module, word, wrapped(getattr(module, word), _effect(word, name)))
            if hasattr(module, "_set"):  # the rehearsals' things are changed by it, inside their effects
                module._set = wrapped(module._set, lambda _p, ctx, _f: f"change {ctx.host} {ctx.step}")
        return found

    catalog._entry = entry


def _entries(_journal: Journal, _run: str, rows: Any) -> str:
    return " ".join(word for word in ("+".join(row[0] for row in rows), *rows[0][2:]) if word)


def _effect(word: str, name: str) -> Callable[..., str]:
    return lambda _params, _change, ctx: f"{word} of {name} {ctx.host} {ctx.step}"


class Read:
    """A playbook that is read and compiled before a child is forked, so that every child need not do it: what that comes to
    is the same each time, and nothing has begun yet. The child is handed all of it when it asks for this playbook's."""

    def __init__(self, playbook: str, stock: str) -> None:
        self.asked = (Path(playbook), (stock,), Options(), os.environ.get("LASTGOOD_USER", ""))
        self.found = opening.opened(*self.asked)
        self.document = self.found.plan.document()
        self.loaded = plan.load(self.document, self.found.catalog)
        assert self.loaded.digest == self.found.plan.digest  # they are counted once, here

    def install(self) -> None:
        """Answers for the engine's two ways to a plan, the file and the record."""
        opened, load, modules, stock = opening.opened, plan.load, opening.catalog, inventory.load
        opening.opened = lambda *asked: self.found if asked == self.asked else opened(*asked)
        opening.catalog = lambda path: self.found.catalog if path == self.asked[0] else modules(path)
        inventory.load = lambda paths: self.found.inventory if tuple(paths) == self.asked[1] else stock(paths)
        plan.load = lambda said, *more: self.loaded if said == self.document else load(said, *more)


def run(order: dict[str, Any], read: Read | None) -> None:
    """The child: it becomes the engine."""
    global boundaries
    signal.alarm(LONGEST)
    gc.disable()  # it does not live long
    os.chdir(order["cwd"])
    os.environ.update(order.get("env", {}))
    aside = (order["beside"][0], _bystander(order["beside"][1])) if order.get("beside") else None
    out = os.open(order["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    null = os.open(os.devnull, os.O_RDONLY)
    for number, stream in enumerate((null, out, out)):
        os.dup2(stream, number)
    trace = os.open(order["trace"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    kill = order.get("kill", 0)
    boundaries = Boundaries(kill if isinstance(kill, int) else (kill[0], kill[1]), trace, aside)
    if read:
        read.install()
    if not order.get("report", True):
        running.written = lambda *_: Path("report.html")  # type: ignore[assignment]
    if extra := order.get("install"):
        sys.path.insert(0, str(Path(__file__).parent))
        module, _, function = extra.partition(":")
        getattr(importlib.import_module(module), function)()
    code = main.run(order["argv"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _bystander(argv: list[str]) -> Callable[[], None]:
    """A process that runs a command line when the function is called, which returns when it has ended. It is forked now,
    because later there are threads."""
    (asked, ask), (done, tell) = os.pipe(), os.pipe()
    if not os.fork():
        os.close(ask)
        if os.read(asked, 1):  # else who would ask is dead
            null = os.open(os.devnull, os.O_RDWR)
            for number in range(3):
                os.dup2(null, number)
            cancel.PATIENCE = 0.0  # it asks while the run stands still: nobody could honour it meanwhile
            main.run(argv)
            os.write(tell, b".")
        os._exit(0)
    os.close(asked)
    os.close(tell)

    def call() -> None:
        os.write(ask, b".")
        os.read(done, 1)

    return call


def warm() -> None:
    """Imports what the engine would import in every child anew, and plays a small play, which makes what is made once."""
    for name in ("run", "resume", "resolve", "undo", "cancel", "approve", "running", "opening", "giving"):
        importlib.import_module(f"engine.cli.{name}")
    importlib.import_module("engine.postgres_store")
    for name in ("jinja2", "jsonschema", "urllib3", "cryptography.hazmat.primitives.serialization", "yaml", "rfc8785"):
        importlib.import_module(name)
    from engine import source

    for name in ("playbook", "inventory", "roster", "destinations"):
        source.schema(name)
    with tempfile.TemporaryDirectory() as folder:
        tell = {"name": "Tell", "on": ["ended"], "notify": {"to": "desk", "message": "{{ run.summary }}"}}
        steps = [step("a", {"x": 1}, register="r"), step("b", {"x": "{{ r.x }}"}, when="r.changed")]
        stage = Stage(Path(folder) / "warm", {"execution": steps, "verification": [look("a")], "communications": [tell]})
        stage.trouble("b", apply="breaks")
        stage.run()
        stage.resume()
        stage.undo()
    gc.collect()
    gc.freeze()  # what is here now stays, and no child needs to look at it


def serve() -> None:
    """Forks a child for each order, and says how it ended."""
    warm()
    wrap()
    print(json.dumps({"ready": True}), flush=True)
    read: dict[tuple[str, str], Read] = {}
    for line in sys.stdin:
        order = json.loads(line)
        book = tuple(order.get("read") or ())
        if book and book not in read:
            os.environ.update(order.get("env", {}))
            read = {book: Read(*book)}  # one at a time
        child = os.fork()
        if not child:
            try:
                run(order, read.get(book))
            finally:
                os._exit(99)
        print(json.dumps({"child": child}), flush=True)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        points = Path(order["trace"]).read_text().splitlines() if Path(order["trace"]).exists() else []
        print(json.dumps({"exit": code, "points": points}), flush=True)


if __name__ == "__main__":
    serve()
