"""A stage: a playbook, an inventory and a small world on disk, and the engine run on them as a person would type it.

`Stage(tmp, playbook)` makes the folder, `stage.run()`, `stage.resume()` and the like are whole command lines in this
process; what was journaled and what was really done to the world are read back from where they lie.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import sshsig
from engine.cli import keeping, main
from engine.journal import Entry, Journal

MODULES = Path(__file__).parent / "rehearsals" / "modules"
PEOPLE = {"ana": "ml-oncall", "ben": "fraud-risk"}
TWO_KEYS = {"mode": "two-key", "roles": ["ml-oncall", "fraud-risk"], "expires": "30m"}

#: A module of forensics that keeps a file; what goes wrong is written beside the world, as for things.
KEEP = '''
"""A file is kept as evidence."""
import hashlib
from pathlib import Path
from modules.contract import ModuleError, TimedOut
SECTIONS = ("forensics",)
SCHEMA = {"type": "object", "additionalProperties": False, "required": ["as"],
          "properties": {"as": {"type": "string", "description": "The file's name."}}}
def read(params, ctx):
    path = ctx.evidence / params["as"]
    if not path.exists() or (ctx.base / "world" / ctx.host / "again").exists():
        return {"stored": False}
    return {"stored": True, "_path": str(path), "_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
def desired(params):
    return {"stored": True}
def apply(params, change, ctx):
    if (ctx.base / "world" / ctx.host / "silent").exists():
        raise TimedOut("the step's timeout has passed")
    (ctx.evidence / params["as"]).write_bytes(b"kept of " + ctx.host.encode())
    if (ctx.base / "world" / ctx.host / "bend").exists():
        (ctx.base / "world" / ctx.host / "bend").rename(ctx.base / "world" / ctx.host / "bent")
'''


@dataclass(frozen=True)
class Said:
    """What a command answered: exit code, standard output, standard error."""

    exit: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both streams, line breaks and runs of blanks as one blank: what was said, however it was wrapped."""
        return " ".join((self.out + self.err).split())


class Stage:
    """A playbook repository with a world. `playbook`: its text, or its sections as a mapping."""

    def __init__(
        self,
        folder: Path,
        playbook: str | Mapping[str, Any],
        hosts: Sequence[str] = ("a",),
        host_vars: Mapping[str, Mapping[str, Any]] | None = None,
        state: str = "",
        **variables: Any,
    ) -> None:
        self.folder = folder
        self.base, self.stock, self.files = folder / "playbooks", folder / "inventory", folder / "state"
        self.state: Any = state or self.files  # the address of a database, or the folder in which all of it lies
        self.playbook = self.base / "play.yml"
        shutil.copytree(MODULES, self.base / "modules", ignore=shutil.ignore_patterns("__pycache__"))
        self.stock.mkdir(parents=True)
        self.write(playbook)
        self.host_vars = {host: dict((host_vars or {}).get(host, {})) for host in hosts}
        self.inventory({**variables})
        (self.base / "world").mkdir()

    def write(self, playbook: str | Mapping[str, Any]) -> None:
        """Puts the playbook there (JSON is YAML)."""
        if not isinstance(playbook, str):
            playbook = json.dumps({"name": "A play", "strategy": "configuration", "hosts": "all", **playbook}, indent=1)
        self.playbook.write_text(playbook)

    def inventory(self, variables: Mapping[str, Any] | None = None) -> None:
        """Writes the hosts with their variables, the roster and a destination that is a file."""
        stock: dict[str, Any] = {"all": {"hosts": self.host_vars}}
        if variables:
            stock["all"]["vars"] = dict(variables)
        (self.stock / "hosts.yml").write_text(json.dumps(stock))
        if (self.folder / "ana.pub").exists():
            roster = [
                {"name": name, "roles": [role], "keys": [(self.folder / f"{name}.pub").read_text().strip()]}
                for name, role in PEOPLE.items()
            ]
            (self.stock / "roster.yml").write_text(json.dumps({"people": roster}))
        (self.stock / "destinations.yml").write_text(json.dumps({"desk": f"file:{self.folder}/messages"}))

    def people(self) -> Stage:
        """Gives the inventory a roster: ana (ml-oncall) and ben (fraud-risk), each with a key of their own."""
        for name in PEOPLE:
            sshsig.generate(self.folder / name, f"{name}@example.org")
        self.inventory()
        return self

    # -- commands, as they are typed
    def process(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        """A command line as a process of its own, with the same store. `before`: Python that it runs first; `within`: the
        program that starts it."""
        env = {**os.environ, "LASTGOOD_STATE": str(self.state), "LASTGOOD_FILES": str(self.files)}
        env |= {"LASTGOOD_USER": "eve", "SSH_AUTH_SOCK": "", **more.pop("env", {})}
        script = more.pop("before", "") + "from engine.cli.main import main; main()"
        argv = [*more.pop("within", ()), sys.executable, "-c", script, *words]
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        return subprocess.Popen(argv, cwd=self.folder, env=env, text=True, **streams)

    def engine(self, *words: str) -> Said:
        """One command line, in this process."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main.run(["--state", str(self.state), "--files", str(self.files), *words])
        return Said(code, out.getvalue(), err.getvalue())

    def run(self, *words: str, what: Path | None = None) -> Said:
        """`engine run` of the playbook (or of a saved plan), asked for by eve."""
        given = [str(what)] if what else [str(self.playbook), "-i", str(self.stock)]
        return self.engine("run", *given, "--as", "eve", *words)

    def plan(self, *words: str) -> Said:
        return self.engine("plan", str(self.playbook), "-i", str(self.stock), "--as", "eve", *words)

    def resume(self, *words: str) -> Said:
        return self.engine("resume", "-y", *words)

    def undo(self, *words: str) -> Said:
        return self.engine("undo", "-y", "--as", "eve", *words)

    def approve(self, *people: str, run: str = "", confirm: str = "") -> Said:
        """A key by each of these people."""
        said = Said(0, "", "")
        for name in people or tuple(PEOPLE):
            run_id = run or self.latest
            said = self.engine("approve", run_id, "--key", str(self.folder / name), "--confirm", confirm or run_id)
            assert 0 == said.exit, said.err
        return said

    # -- what was written down
    @contextlib.contextmanager
    def store(self) -> Iterator[Journal]:
        """The journal, opened and closed."""
        store = Journal(keeping.opened(str(self.state), self.files, 90))
        try:
            yield store
        finally:
            store.close()

    @property
    def latest(self) -> str:
        """The newest run's id."""
        with self.store() as store:
            return store.latest() or ""

    def entries(self, run: str = "", kind: str = "") -> list[Entry]:
        """The run's entries (the newest run's), after its chain was verified."""
        with self.store() as store:
            found = store.verified(run or store.latest() or "")
        return [entry for entry in found if not kind or entry.kind == kind]

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        """The bodies of the newest run's entries of this kind."""
        return [entry.body for entry in self.entries(kind=kind)]

    def outcomes(self, host: str = "a") -> dict[str, str]:
        """Step (without its section) -> how it ended last, on a host."""
        return {
            entry.step.partition("/")[2]: entry.body["outcome"]
            for entry in self.entries(kind="step.outcome")
            if entry.host == host
        }

    def last(self, step: str, host: str = "a") -> dict[str, Any]:
        """The body of the last outcome of a step, named without its section."""
        found = [e.body for e in self.entries(kind="step.outcome") if e.step.partition("/")[2] == step and e.host == host]
        return found[-1]

    @property
    def ended(self) -> dict[str, Any]:
        """The body of the last run.ended; empty when the run has not ended."""
        found = self.bodies("run.ended")
        return found[-1] if found else {}

    # -- the world itself
    def have(self, name: str, fields: Mapping[str, Any] | None, host: str = "a") -> None:
        """Somebody makes the thing so, by hand (None: takes it away). This is not counted."""
        line = json.dumps({"is": fields if fields is None else dict(fields), "at": time.monotonic_ns(), "key": ""})
        self.beside(name, host).parent.mkdir(parents=True, exist_ok=True)
        with self.beside(name, host).open("a") as file:
            file.write(line + "\n")

    def beside(self, name: str, host: str = "a") -> Path:
        """A file of the world: a thing's own, or one beside it (`NAME.trouble`, `NAME.broken`)."""
        return self.base / "world" / host / name

    def _lines(self, name: str, host: str) -> list[dict[str, Any]]:
        path = self.beside(name, host)
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def thing(self, name: str, host: str = "a") -> Any:
        """What the thing is now; None when it is absent."""
        lines = self._lines(name, host)
        return lines[-1]["is"] if lines else None

    def things(self) -> dict[str, Any]:
        """Every thing of the world: `host/name` -> what it is."""
        paths = [path for path in (self.base / "world").glob("*/*") if not path.suffix]
        return {f"{path.parent.name}/{path.name}": self.thing(path.name, path.parent.name) for path in paths}

    def trouble(self, name: str, host: str = "a", **kinds: Any) -> None:
        """What goes wrong with the thing from now on: `read=`, `apply=`, `undo=`; without any, nothing."""
        path = self.beside(f"{name}.trouble", host)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(kinds))

    def effects(self, host: str = "") -> list[str]:
        """What was changed in the world, in order, as the things themselves counted it: `a/weight {"x": 2}`."""
        found = []
        for place in self.things():
            where, name = place.split("/")
            mine = [line for line in self._lines(name, where) if line["key"] and host in ("", where)]
            found += [(line["at"], f"{place} {json.dumps(line['is'], sort_keys=True)}") for line in mine]
        return [text for _, text in sorted(found)]

    def messages(self) -> list[dict[str, Any]]:
        """What arrived at the destination `desk`."""
        path = self.folder / "messages"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def until(holds: Callable[[], bool]) -> None:
    """Waits for it, for as long as a busy machine may need."""
    end = time.monotonic() + 60
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    assert holds()


def step(name: str, fields: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A step that sets a thing of the same name (`fields` None: absent); `thing=` adds parameters, the rest are keywords."""
    params = {
        "name": name,
        **({"fields": dict(fields)} if fields is not None else {"absent": True}),
        **more.pop("thing", {}),
    }
    return {"name": name, "id": name, "thing": params, **more}


def look(name: str, wanted: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A step that observes a thing; its id is `see_NAME`."""
    params = {"name": name, **({"is": dict(wanted)} if wanted is not None else {}), **more.pop("look", {})}
    return {"name": f"See {name}", "id": f"see_{name}", "look": params, **more}
