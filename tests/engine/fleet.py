"""A fleet in memory: the real `Run` with the real journal, on hosts that are dictionaries and whose troubles are a table.

`Fleet(tmp, playbook, hosts)` compiles the plan; `fleet.run()` carries it out. What was read and changed is counted by the
things themselves, host by host.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import books

from engine import plan, reader, source
from engine.check import HostRow
from engine.diagnostics import Diagnostic, Exit
from engine.journal import Entry, Journal
from engine.plan import Plan
from engine.runner import Run, Wishes
from engine.site import Site
from modules import catalog
from modules._wire import Wire
from modules.contract import ModuleError, TimedOut, Unreachable


@dataclass
class Things:
    """What the hosts hold, and what goes wrong there: (host, step) -> what a call of the module does instead.

    A trouble is called with the word of the call (read, apply, undo) and the context, and may raise or wait; what it returns
    is passed over.
    """

    is_: dict[tuple[str, str], Any] = field(default_factory=dict)
    trouble: dict[tuple[str, str], Callable[[str, Any], None]] = field(default_factory=dict)
    reads: Counter[str] = field(default_factory=Counter)
    effects: Counter[str] = field(default_factory=Counter)
    undone: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def called(self, word: str, params: Mapping[str, Any], ctx: Any) -> tuple[str, str]:
        """Counts the call, and has happen what goes wrong with it."""
        place = ctx.host, params["name"]
        with self.lock:
            self.reads[ctx.host] += word == "read"
        act = self.trouble.get(place)
        if act:
            act(word, ctx)
        return place


class Thing:
    """A module whose things are in memory: `value` is what should be."""

    SCHEMA: ClassVar[dict[str, Any]] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {"name": {"type": "string"}, "value": {"type": "integer"}, "class": {"type": "string"}},
    }
    MOVES = ("version", "checkpoint", "configuration", "data")

    def __init__(self, things: Things) -> None:
        self.things = things

    def read(self, params: Any, ctx: Any) -> Any:
        place = self.things.called("read", params, ctx)
        return {"value": self.things.is_.get(place, 0)}

    def desired(self, params: Any) -> Any:
        return {"value": params["value"]}

    def apply(self, params: Any, change: Any, ctx: Any) -> None:
        place = self.things.called("apply", params, ctx)
        with self.things.lock:
            self.things.is_[place] = params["value"]
            self.things.effects[ctx.host] += 1

    def undo(self, params: Any, change: Any, ctx: Any) -> None:
        place = self.things.called("undo", params, ctx)
        with self.things.lock:
            self.things.is_[place] = change.before["value"]
            self.things.undone[ctx.host] += 1

    def crash_class(self, params: Any) -> str:
        return str(params.get("class", "B"))


class Check(Thing):
    """Observes a thing; there is nothing that it could change."""

    apply = undo = None  # type: ignore[assignment]


def thing(name: str, value: int = 1, **more: Any) -> dict[str, Any]:
    """A step that sets the thing `name`."""
    return {"name": name, "id": name, "mem.thing": {"name": name, "value": value}, **more}


def check(name: str, value: int = 1, **more: Any) -> dict[str, Any]:
    """A step that observes the thing `name`; its id is `see_NAME`."""
    return {"name": f"See {name}", "id": f"see_{name}", "mem.check": {"name": name, "value": value}, **more}


def raising(word: str, error: type[ModuleError]) -> Callable[[str, Any], None]:
    """A trouble: each call of `word` raises `error`."""

    def act(called: str, _ctx: Any) -> None:
        if called == word:
            raise error("it would not")

    return act


BREAKS, GONE, LATE = raising("apply", ModuleError), raising("read", Unreachable), raising("read", TimedOut)


class Fleet:
    """A plan for `hosts` hosts (their names, or how many), and its runs in one store."""

    def __init__(self, folder: Path, sections: Mapping[str, Any], hosts: Sequence[str] | int = 1) -> None:
        self.folder, self.things = folder, Things()
        self.names = [f"h{n:03}" for n in range(hosts)] if isinstance(hosts, int) else list(hosts)
        self.catalog = catalog.Catalog()
        for name, module in (("mem.thing", Thing(self.things)), ("mem.check", Check(self.things))):
            self.catalog._loaded[name] = catalog.Entry(name, module, "the tests", "0" * 64)  # type: ignore[arg-type]
        self.plan = self._compiled(sections)
        self.store = Journal(folder / "state")
        self.run_id = ""
        self.code: Exit | None = None

    def _compiled(self, sections: Mapping[str, Any]) -> Plan:
        text = json.dumps({**books.book(), **sections})
        found: list[Diagnostic] = []
        book = reader.read(lambda name: source.parse(text, name), "book.yml", ("mem.thing", "mem.check").__contains__, found)
        assert book is not None, found
        assert [] == found
        return plan.compile(book, self.catalog, [HostRow(name, (), {}) for name in self.names])

    def site(self, **more: Any) -> Site:
        """A fresh site of the run, as a process that takes it up makes one."""
        return Site(
            plan=self.plan, catalog=self.catalog, journal=self.store, run=self.run_id, wire=Wire(), base=self.folder,
            requester="eve", **more,
        )  # fmt: skip

    def begin(self) -> str:
        """The first entry of a new run."""
        body = {
            "name": self.plan.playbook.name, "hosts": self.names, "check": False, "digest": self.plan.digest,
            "batches": [list(batch) for batch in self.plan.batches], "plan": self.plan.document(), "requester": "eve",
        }  # fmt: skip
        self.run_id = self.store.start(body)
        return self.run_id

    def run(self, forks: int = 1, before: Callable[[Run], None] | None = None, **more: Any) -> Exit:
        """A new run, to its end; `before` is called with it at the start."""
        self.begin()
        one = self.made(forks, **more)
        return self._gone(one, before)

    def made(self, forks: int = 1, **more: Any) -> Run:
        """The run as a value, not begun."""
        site = self.site(**more)
        site.started = site.now()
        return Run(site, Wishes(forks=forks))

    def resume(self, forks: int = 1, before: Callable[[Run], None] | None = None, **more: Any) -> Exit:
        """Takes the run up again, as `engine resume` does."""
        self.store.claim(self.run_id)
        entries = self.store.verified(self.run_id)
        one = self.made(forks, **more)
        one.site.started = entries[0].at
        counts = one.restore(entries)
        self.store.append(self.run_id, "run.resumed", {"by": "eve", **counts})
        return self._gone(one, before)

    def _gone(self, one: Run, before: Callable[[Run], None] | None) -> Exit:
        if before:
            before(one)
        self.code = one.go()
        self.store.unlock(self.run_id)
        return self.code

    def entries(self, kind: str = "") -> list[Entry]:
        """The run's entries, after its chain was verified."""
        return [entry for entry in self.store.verified(self.run_id) if not kind or entry.kind == kind]

    @property
    def ended(self) -> dict[str, Any]:
        """The body of the last `run.ended`."""
        found = self.entries("run.ended")
        return found[-1].body if found else {}

    def outcomes(self, step: str) -> dict[str, str]:
        """host -> how the step (without its section) ended last."""
        found = self.entries("step.outcome")
        return {entry.host: entry.body["outcome"] for entry in found if entry.step.endswith(f"/{step}")}

    def close(self) -> None:
        self.store.close()
