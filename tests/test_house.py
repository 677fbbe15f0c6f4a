"""The house: which room may know which, what comes in by which door, how large anything may grow.

Every rule is read from the source itself, lazy imports and those for the type checker included. A rule that stands in
the way of a better house is changed here, in the same commit, with the reason.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import networkx
import pytest

from engine import ledger, recall
from engine.cli import main
from modules import catalog

ROOT = Path(__file__).parents[1]
PACKAGES = ("engine", "modules", "schemas", "playbooks", "inventories")

#: The floor plan, ground floor first. A room may know the rooms below its floor, and nobody on its own floor.
FLOORS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("evidence: files, archives, trees", ("bag", "members", "merkle")),
    ("values and words", ("abreast", "budget", "canon", "chain", "diagnostics", "errand", "layers", "leak", "sshsig")),
    (
        "one thing each, that needs no other",
        ("calling", "curve", "dialect", "envelope", "gate", "memory", "pattern", "refusal", "store", "values", "words"),
    ),
    (
        "texts that have a meaning, what the record needs",
        ("database_file", "leases", "secrets", "source", "template"),
    ),
    ("the databases", ("postgres_store", "sqlite_store")),
    ("the record", ("journal",)),
    ("entries that have a meaning", ("custody", "ledger", "migration", "story")),
    ("evidence, sealed", ("seal",)),
    ("evidence, verified, erased", ("erasure", "proof")),
    ("evidence, kept outside", ("anchor",)),
    ("what people wrote, where a run stands", ("environment", "freeze", "playbook", "roster", "standing", "underway")),
    (
        "the graph, the hosts, the people",
        ("duties", "inventory", "layout", "look", "picture", "reader", "statement", "waiver"),
    ),
    (
        "what is wrong with it, what is shown of it",
        ("account", "authority", "check", "live", "rostering", "screen", "trust"),
    ),
    ("the plan", ("page", "plan", "policy", "reference", "walk")),
    ("what the steps of a run share", ("drawing", "ending", "report", "rules", "site")),
    ("what goes on elsewhere", ("operation",)),
    ("one try of a step", ("effect",)),
    ("one step", ("outbox", "question", "review", "step")),
    ("many steps, back and forth", ("evidence", "playground", "preview", "recall", "undo")),
    ("what a failure asks for", ("playground_server", "remedy")),
    ("leave to change something", ("leave",)),
    ("a run", ("runner",)),
    ("the command line", ("cli",)),
)

#: foreign package -> the rooms that may import it. Everything else that is not the standard library is refused.
DOORS: dict[str, set[str]] = {
    "yaml": {"engine.source"},
    "jsonschema": {"engine.source"},
    "referencing": {"engine.source"},
    "jinja2": {"engine.template"},
    "networkx": {"engine.layout", "engine.plan"},  # plan: for the type checker alone
    "cryptography": {"engine.sshsig", "engine.anchor", "modules._signature"},
    "rfc8785": {"engine.canon"},
    "rfc3161_client": {"engine.anchor"},
    "psycopg": {"engine.postgres_store"},
    "structlog": {"engine.report"},
    "click": {"engine.cli"},
    "apprise": {"modules.notify"},
    "pyrage": {"modules._evidence"},
}
#: The same for the parts of the standard library that reach out of the process.
STANDARD_DOORS: dict[str, set[str]] = {
    "sqlite3": {"engine.sqlite_store"},
    "fcntl": {"engine.sqlite_store"},  # the locks of journals of format 1
    "subprocess": {"modules._wire", "engine.inventory", "engine.cli"},  # inventory: executable inventories
    # the name of a machine, for people; ssh-agent; the demo's own service
    "socket": {"modules._wire", "engine.leases", "engine.postgres_store", "engine.sshsig", "engine.playground_server"},
    "ssl": {"modules._wire"},
    "http": {"modules._wire", "engine.playground_server"},
    "urllib.request": set(),
    "asyncio": set(),
    "pickle": set(),
    "pickletools": {"modules._weights"},  # lists operations, runs none
    "multiprocessing": set(),
}
#: What the engine may know of the garden, besides the contract.
GATE: dict[str, set[str]] = {
    "modules.contract": {"*"},
    "modules.catalog": {"engine.cli"},
    "modules._wire": {"engine.cli"},
    "modules.directory._client": {"engine.playground", "engine.cli"},  # the demo fills a registry
}
DISCOURAGED = re.compile(r"(?:^|_)(?:utils?|helpers?|manag\w+|base|common|core|misc|handlers?|stuff|lib|tools?)(?:_|$)")
MOST_LINES, MOST_LINES_OF_A_FUNCTION, MOST_FRAMES = 500, 60, 8
#: path -> why it may be longer than the rule says.
LONGER: dict[str, str] = {}


@dataclass(frozen=True)
class Import:
    """One import statement: who imports what, where, and whether only when a function is called."""

    room: str
    name: str
    place: str
    lazy: bool


@dataclass(frozen=True)
class Source:
    """One Python file of ours, parsed."""

    path: Path
    tree: ast.Module

    @property
    def name(self) -> str:
        return ".".join(self.path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")

    @property
    def shown(self) -> str:
        return str(self.path.relative_to(ROOT))


@cache
def sources() -> tuple[Source, ...]:
    paths = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return tuple(Source(path, ast.parse(path.read_text("utf-8"), str(path))) for path in paths)


def _imports(source: Source) -> Iterator[Import]:
    """Every import of the file, as the dotted name of a module (`from engine import x` is `engine.x`)."""
    known = {other.name for other in sources()}

    def walk(node: ast.AST, lazy: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            place = f"{source.shown}:{getattr(child, 'lineno', 0)}"
            if isinstance(child, ast.Import):
                yield from (Import(source.name, alias.name, place, lazy) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{place}: imports are written in full"
                for alias in child.names:
                    inner = f"{child.module}.{alias.name}"
                    yield Import(source.name, inner if inner in known else str(child.module), place, lazy)
            yield from walk(child, lazy or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)))

    return walk(source.tree, False)


@cache
def imports() -> tuple[Import, ...]:
    return tuple(one for source in sources() for one in _imports(source))


def room(name: str) -> str:
    """The room that a module belongs to: all of engine/cli is one, every other file of the engine is its own."""
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] == "engine" else name


def allowed(one: Import, rooms: set[str]) -> bool:
    return bool({one.room, room(one.room), "*"} & rooms)


FLOOR = {f"engine.{name}": number for number, (_, names) in enumerate(FLOORS, 1) for name in names}


def test_every_room_has_its_floor() -> None:
    """The floor plan names every room of the engine once, and none that is not there."""
    rooms = {room(source.name) for source in sources() if source.name.startswith("engine.")}
    named = [f"engine.{name}" for _, names in FLOORS for name in names]
    assert sorted(rooms) == sorted(named)


def test_imports_go_down() -> None:
    """A room imports only rooms of floors below its own: so there is no circle, and floor-mates do not know each other."""
    wrong = [
        f"{one.place}: {one.room} (floor {FLOOR[room(one.room)]}) imports {one.name} (floor {FLOOR[room(one.name)]})"
        for one in imports()
        if room(one.room) in FLOOR and room(one.name) in FLOOR
        if room(one.room) != room(one.name) and FLOOR[room(one.name)] >= FLOOR[room(one.room)]
    ]
    assert [] == wrong


def test_no_circles() -> None:
    """No file reaches itself by imports, within engine/cli too, whether it imports at once, late or for types alone."""
    known = {source.name for source in sources()}
    graph = networkx.DiGraph((one.room, one.name) for one in imports() if one.name in known and one.room != one.name)
    assert [] == [sorted(group) for group in networkx.strongly_connected_components(graph) if len(group) > 1]


def test_modules_know_only_the_contract_and_what_is_shared() -> None:
    """The garden never imports the house, and one kind of state never imports another; the wire is handed to a module."""

    def shared(name: str) -> bool:
        return name == "modules.contract" or (name.rpartition(".")[2].startswith("_") and name != "modules._wire")

    inside = [one for one in imports() if one.room.startswith("modules.") and one.name.split(".")[0] in PACKAGES]
    assert [] == [f"{one.place}: {one.name}" for one in inside if not shared(one.name)]


def test_the_gate_to_the_garden() -> None:
    """The engine knows the contract; the catalog and the wire are handed down by the command line alone."""
    through = [one for one in imports() if one.room.startswith("engine") and one.name.split(".")[0] == "modules"]
    assert [] == [f"{one.place}: {one.name}" for one in through if not allowed(one, GATE.get(one.name, set()))]


def test_nobody_imports_the_packages_of_data() -> None:
    """schemas, playbooks and inventories are found by importlib.resources, not imported."""
    assert [] == [one.place for one in imports() if one.name.split(".")[0] in ("schemas", "playbooks", "inventories")]


def test_one_door_for_each_foreigner() -> None:
    """Every foreign package comes in through its own room, and none comes in unannounced."""
    foreign = [one for one in imports() if one.name.split(".")[0] not in {*sys.stdlib_module_names, *PACKAGES}]
    wrong = [f"{one.place}: {one.name}" for one in foreign if not allowed(one, DOORS.get(one.name.split(".")[0], set()))]
    assert [] == wrong
    assert set(DOORS) == {one.name.split(".")[0] for one in foreign}, "a door that nobody uses"


def test_the_doors_of_the_standard_library() -> None:
    """Databases, processes and sockets have one room each; nothing is ever unpickled."""
    for name, rooms in STANDARD_DOORS.items():
        found = [one for one in imports() if one.name == name or one.name.startswith(f"{name}.")]
        assert [] == [f"{one.place}: {one.name}" for one in found if not allowed(one, rooms)]


def test_own_rooms_are_imported_at_the_top() -> None:
    """A late import of our own would hide an edge; only the command line loads a verb when it is asked for."""
    late = [one for one in imports() if one.lazy and one.name.split(".")[0] in PACKAGES]
    assert [] == [f"{one.place}: {one.name}" for one in late if room(one.room) != "engine.cli"]


def test_packages_are_doors_not_rooms() -> None:
    """An __init__.py holds a docstring, and at most the version."""
    for source in sources():
        if source.path.name == "__init__.py":
            rest = [node for node in source.tree.body if not isinstance(node, ast.Expr)]
            assert ast.get_docstring(source.tree), source.shown
            assert ["__version__"] * len(rest) == [getattr(node.targets[0], "id", "") for node in rest], source.shown  # type: ignore[attr-defined]


def test_names_say_what_a_room_is_for() -> None:
    """No file is called after the absence of a purpose."""
    assert [] == [source.shown for source in sources() if DISCOURAGED.search(source.path.stem)]


def test_nothing_is_oversized() -> None:
    """Files and functions stay small enough to be read in one go, or say in `LONGER` why not."""
    files = {source.shown: len(source.path.read_text("utf-8").splitlines()) for source in sources()}
    functions = {
        f"{source.shown}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for source in sources()
        for node in ast.walk(source.tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    engine = sum(lines for name, lines in files.items() if name.startswith("engine"))
    longest = sorted(files.items(), key=lambda item: -item[1])[:3], sorted(functions.items(), key=lambda item: -item[1])[:3]
    print(f"engine: {engine} lines in {sum(name.startswith('engine') for name in files)} files; the longest: {longest}")
    over = {name for name, lines in files.items() if lines > MOST_LINES}
    over |= {name for name, lines in functions.items() if lines > MOST_LINES_OF_A_FUNCTION}
    assert set(LONGER) == over


def test_the_catalog_lists_what_is_there() -> None:
    """The list of our modules is the list of the files that are modules."""
    files = [source.name.removeprefix("modules.") for source in sources() if source.name.startswith("modules.")]
    kinds = [
        name
        for name in files
        if not any(part.startswith("_") for part in name.split("."))
        and name not in ("contract", "catalog")
        and not (ROOT / "modules" / name).is_dir()
    ]
    assert sorted(kinds) == sorted(catalog.OURS)


def test_no_mutable_state_at_the_top_of_a_room() -> None:
    """What a room holds at its top is a constant: nothing rebinds it, and no function declares it global."""
    assert [] == [
        f"{source.shown}:{node.lineno}"
        for source in sources()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Global)
    ]


def test_every_kind_of_entry_is_known_to_a_resume() -> None:
    """What the engine writes into a record, `recall.KINDS` names: a kind that is not there is refused as one of tomorrow."""
    kind = re.compile(r"[a-z]+\.[a-z_]+|note")
    said = {
        node.value
        for source in sources()
        for call in ast.walk(source.tree)
        if isinstance(call, ast.Call)
        if getattr(call.func, "attr", getattr(call.func, "id", "")) in ("append", "append_all", "_Ticket")
        for argument in call.args
        for node in ast.walk(argument)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and kind.fullmatch(node.value)
    }
    assert len(said) > 15
    assert set() == said - recall.KINDS - ledger.KINDS, "say in engine/recall.py what a resume makes of it"


PROBE = '''
"""A note that says what is asked; keeps the frames of its apply beside itself."""
import json, sys
from pathlib import Path
NOTE = {"type": "string", "description": "the note"}
SCHEMA = {"type": "object", "additionalProperties": False, "properties": {"path": NOTE}}
MOVES = ("configuration",)
def read(params, ctx):
    path = Path(params["path"])
    return {"there": True} if path.exists() else None
def desired(params):
    return {"there": True}
def apply(params, change, ctx):
    frames, frame = [], sys._getframe()
    while frame:
        frames.append([frame.f_code.co_filename, frame.f_code.co_name])
        frame = frame.f_back
    Path(params["path"]).write_text(json.dumps(frames))
'''
PLAYBOOK = """
name: count the frames
strategy: configuration
hosts: all
execution:
  - name: Leave a note
    probe: {path: "PATH"}
"""


def test_few_frames_from_the_command_to_the_effect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Between the command and a module's `apply` stand few frames of ours (click's and the pool's are not ours)."""
    note = tmp_path / "note"
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/probe.py").write_text(PROBE, "utf-8")
    (tmp_path / "count.yml").write_text(PLAYBOOK.replace("PATH", str(note)), "utf-8")
    (tmp_path / "hosts.yml").write_text("all: {hosts: {one: {}}}\n", "utf-8")
    argv = ["--state", str(tmp_path / "state"), "run", str(tmp_path / "count.yml"), "-i", str(tmp_path)]
    code = main.run(argv)
    shown = capsys.readouterr()
    assert code == 0, shown.out + shown.err
    own = [
        f"{Path(file).stem}.{name}"
        for file, name in json.loads(note.read_text())
        if Path(file).is_relative_to(ROOT / "engine")
    ]
    print(f"{len(own)} frames: {' < '.join(own)}")
    assert len(own) <= MOST_FRAMES, own


def _texts() -> Iterator[tuple[str, str]]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if path.is_file():
            yield name, path.read_bytes().decode("utf-8", "replace")


def _lines(matches: Callable[[str], object]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in _texts()
        for number, line in enumerate(text.splitlines(), 1)
        if matches(line)
    ]


def test_no_place_of_a_machine_in_the_tree() -> None:
    """No file names a folder that only the writer's machine has."""
    homes = re.compile(r"(?<![\w.])/(?:root|home/\w+|Users/\w+|work)/|/tmp/[a-z]{2}/")
    assert [] == _lines(homes.search)


def test_no_package_index_in_the_tree() -> None:
    """Where packages come from is a matter of the machine: no file names an index."""
    ends = ("org", "io", "com")
    hosts = [
        ("pypi", 0),
        ("pythonhosted", 0),
        ("npmjs", 0),
        ("anaconda", 0),
        ("debian", 0),
        ("crates", 1),
        ("docker", 1),
        ("ghcr", 1),
    ]
    named = re.compile("|".join(rf"\b{name}\.{ends[end]}\b" for name, end in hosts))
    assert [] == _lines(named.search)
