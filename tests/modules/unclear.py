"""A module used by the whole engine in its own world, where the answer to its effect gets lost, in one way or another.

`Trial` writes a playbook of one step with the world's params and runs command lines on it. What a request does is done by
the world; what becomes of the answer is decided here. Which request is the effect nobody declares: it is the one after which
the world looks different. A module whose effect is no request (a file) loses its answer where `apply` returns.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from world import MARK, World, opened, tree, worlds_of

from engine.cli import main
from engine.journal import Journal
from modules.catalog import OURS, Catalog
from modules.contract import Completed, ModuleError, Reply, Secret, TimedOut, Unanswered

#: What becomes of the answer. `late`: the engine is killed when it has asked, and what it asked for is done after it has
#: looked in its next life.
FAULTS = ("timeout", "reset", "503", "late")


class Killed(BaseException):
    """The engine ends here, as signal 9 would end it."""


@dataclass
class Wire:
    """The world's wire, whose answers get lost inside `apply` or `start`. `effects`: the calls that changed the world."""

    real: Any
    seen: Callable[[], Any]
    fault: str = ""
    at: int = 0
    inside: bool = False
    calls: int = 0
    effects: list[int] = field(default_factory=list)
    later: list[Callable[[], Any]] = field(default_factory=list)

    def http(self, *given: Any, **more: Any) -> Reply:
        reply: Reply = self._asked(lambda: self.real.http(*given, **more))
        return Reply(int(self.fault), {}, b"out of order", reply.seconds) if self._lost() else reply

    def command(self, *given: Any, **more: Any) -> Completed:
        ended: Completed = self._asked(lambda: self.real.command(*given, **more))
        return Completed(-9, "", "") if self._lost() else ended

    def connect(self, *given: Any, **more: Any) -> None:
        self.real.connect(*given, **more)

    def _asked(self, act: Callable[[], Any]) -> Any:
        if not self.inside:
            return act()
        self.calls += 1
        if self.calls == self.at and self.fault == "late":
            self.later.append(lambda: self._counted(act))
            raise Killed
        return self._answered(self._counted(act))

    def _counted(self, act: Callable[[], Any]) -> Any:
        before = self.seen()
        try:
            return act()
        finally:
            if self.seen() != before:
                self.effects.append(self.calls)

    def _lost(self) -> bool:
        return self.inside and self.calls == self.at and self.fault == "503"

    def _answered(self, answer: Any) -> Any:
        if self.calls == self.at and self.fault in ("timeout", "reset"):
            raise _error(self.fault)
        return answer


def _error(fault: str) -> ModuleError:
    kinds = {"timeout": TimedOut, "503": Unanswered}
    return kinds.get(fault, ModuleError)(f"the answer was lost: {fault}")


class Trial:
    """One module in a fresh world. `fault` strikes at the `at`-th call of `apply`; 0: where `apply` returns."""

    def __init__(self, module: str, world: World, patch: pytest.MonkeyPatch, fault: str = "", at: int = 0) -> None:
        self.world, self.fault = world, fault
        self.state = world.tmp / "state"
        self.entry = Catalog().get(module)
        assert self.entry
        self.wire = Wire(world.wire, self.seen, fault, at)
        self.applies = 0
        patch.setenv("LASTGOOD_MARK", MARK)
        patch.setattr("engine.cli.running.Wire", lambda: self.wire)
        inner = self.entry.module
        word = "apply" if self.entry.has("apply") else "start"
        self._apply, self._read = getattr(inner, word), inner.read
        patch.setattr(inner, word, self._applied)
        patch.setattr(inner, "read", self._looked)
        self._write(module)

    def _write(self, module: str) -> None:
        assert self.entry
        sections = getattr(self.entry.module, "SECTIONS", ("execution",))
        section = "execution" if "execution" in sections else sections[0]
        moves = getattr(self.entry.module, "MOVES", ()) or ("configuration",)
        step = {"name": "Do it", "id": "do", module: _plain(self.world.params)}
        rest = {"name": "The rest", "id": "rest", "command": {"argv": ["true"], "unless": ["true"]}}
        book = {"name": "A trial", "strategy": moves[0], "hosts": "all", "execution": [rest]}
        if section == "communications":
            step["on"] = ["started"]
        book[section] = [*book.get(section, []), step]
        (self.world.base / "play.yml").write_text(json.dumps(book))
        stock = self.world.tmp / "stock"
        stock.mkdir()
        (stock / "hosts.yml").write_text(json.dumps({"all": {"hosts": {"svc-1": {}}}}))
        if self.world.destinations:
            (stock / "destinations.yml").write_text(json.dumps(dict(self.world.destinations)))
        self.place, self.told = f"{section}/do", section == "communications"

    def _applied(self, params: Any, change: Any, ctx: Any) -> Any:
        self.applies += 1
        self.wire.inside = True
        strikes = self.wire.at == 0 and self.fault and self.applies == 1
        try:
            if strikes and self.fault == "late":
                sent = replace(ctx, wire=self.wire)  # it is out, and no lease that is given back holds it up
                self.wire.later.append(lambda: self._apply(params, change, sent))
                raise Killed
            handle = self._apply(params, change, ctx)
        finally:
            self.wire.inside = False
        if strikes:
            raise _error(self.fault)
        return handle

    def _looked(self, params: Any, ctx: Any) -> Any:
        found = self._read(params, ctx)
        later, self.wire.later = self.wire.later, []
        for act in later if self.landing else ():
            act()
        return found

    landing = False

    def seen(self) -> Any:
        """What the world and the evidence hold: what is there besides the playbook."""
        seen = self.world.seen()
        kept = tree(self.state / "runs") if self.state.exists() else {}
        evidence = {path: what for path, what in kept.items() if "/evidence/" in path}
        return ({k: v for k, v in seen.items() if k != "play.yml"} if isinstance(seen, dict) else seen), evidence

    def engine(self, *words: str) -> tuple[int, str]:
        """One command line: its exit code and what it said."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            code = main.run(["--debug", "--state", str(self.state), *words])
        return code, " ".join(out.getvalue().split())

    def run(self) -> tuple[int, str]:
        """The playbook, until the fault has done its worst: a run that was killed is taken up again."""
        try:
            return self.engine("run", str(self.world.base / "play.yml"), "-i", str(self.world.tmp / "stock"))
        except Killed:
            self.landing = True
            return self.engine("resume", "-y")

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        """The bodies of the step's entries of this kind."""
        store = Journal(self.state)
        try:
            entries = store.verified("RB-0001")
        finally:
            store.close()
        return [entry.body for entry in entries if entry.kind == kind and entry.step == self.place]

    @property
    def outcome(self) -> str:
        """How the step ended."""
        return str(self.bodies("step.outcome")[-1]["outcome"])

    @property
    def blind(self) -> bool:
        """Whether nothing can be read back (class D)."""
        assert self.entry
        return self.entry.crash_class(self.world.params) == "D"


def _plain(value: Any) -> Any:
    """Params as a playbook says them: a secret by its name."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, Secret):
        return value.reveal().replace(MARK, "{{ secret('env:LASTGOOD_MARK') }}")
    return value


def acting() -> Iterator[tuple[str, str]]:
    """(module, world) of everything in the catalogue that acts."""
    for module in OURS:
        entry = Catalog().get(module)
        if entry and (entry.has("apply") or entry.has("start")):
            yield from ((module, world) for world in worlds_of(module))


@contextlib.contextmanager
def trial(module: str, world: str, tmp: Path, fault: str = "", at: int = 0) -> Iterator[Trial]:
    """The module in a world of its own, for as long as the block lasts."""
    with opened(worlds_of(module)[world], tmp) as there, pytest.MonkeyPatch.context() as patch:
        yield Trial(module, there, patch, fault, at)
    shutil.rmtree(tmp, ignore_errors=True)
