"""Name -> module: ours from one literal list, others' by entry point or from the `modules/` folder beside the playbook.

The only room that loads by name, and only on first use: a playbook pays for the modules that it names.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from modules.contract import Json, Module

GROUP = "lastgood.modules"
OURS = (
    "benchmark.latency",
    "command",
    "directory.current",
    "directory.mark",
    "directory.snapshot",
    "file",
    "golden.predictions",
    "http.capture",
    "http.operation",
    "http.resource",
    "last_good",
    "logs.capture",
    "mlflow.alias",
    "mlflow.snapshot",
    "mlflow.tag",
    "model.look",
    "notify",
    "prometheus.capture",
    "prometheus.metric",
    "replay.requests",
    "v2.model",
    "wait",
)


class Unusable(Exception):
    """A module that is there and cannot be used: `reason` is a sentence."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"module `{name}` {reason}")
        self.reason = reason


@dataclass(frozen=True)
class Entry:
    """One module, loaded: its name, where it is from, and the digest (sha256, hex) of the files it consists of."""

    name: str
    module: Module
    origin: str
    digest: str

    @property
    def schema(self) -> dict[str, Json]:
        """The JSON Schema of its parameters."""
        return self.module.SCHEMA

    def has(self, word: str) -> bool:
        """Whether the module has the optional function `word` (apply, undo, history, ...)."""
        return callable(getattr(self.module, word, None))

    @property
    def acts(self) -> bool:
        """Whether it changes anything: at once (`apply`), or by an operation that goes on (`start`). Else it observes."""
        return self.has("apply") or self.has("start")

    def call(self, word: str, *args: Any) -> Any:
        """Calls an optional function that `has` has found."""
        return getattr(self.module, word)(*args)

    def can_undo(self, params: Json) -> bool:
        """Whether what the module does with these params can be put back: it has `undo`, and `can_undo` does not say no."""
        return self.has("undo") and (not self.has("can_undo") or bool(self.call("can_undo", params)))

    def crash_class(self, params: Json) -> str:
        """A, B, C or D: how sure a reading after a crash can be (docs: write a module)."""
        return str(self.call("crash_class", params)) if self.has("crash_class") else "B"

    @property
    def title(self) -> str:
        """The first line of the docstring: the catalogue entry."""
        return (self.module.__doc__ or "").strip().split("\n")[0]


@dataclass
class Catalog:
    """The table of modules. `folder` is the `modules/` folder beside the playbook, if there is one."""

    folder: Path | None = None
    _loaded: dict[str, Entry] = field(default_factory=dict)

    def names(self) -> list[str]:
        """Every name there is, sorted: ours, the folder's, the installed packages'."""
        return sorted({*OURS, *self._folder_names(), *self._points()})

    def get(self, name: str) -> Entry | None:
        """The module called `name`, or None. Raises Unusable when it is there and is none, or takes a name of ours."""
        if name not in self._loaded:
            entry = self._load(name)
            if entry is None:
                return None
            self._loaded[name] = entry
        return self._loaded[name]

    def _load(self, name: str) -> Entry | None:
        if name in OURS:
            if name in self._folder_names():
                raise Unusable(name, "is one of Lastgood's own names; a file beside the playbook cannot take it")
            return _entry(name, importlib.import_module(f"modules.{name}"), "lastgood")
        if name in (files := self._folder_names()):
            return _entry(name, _from_file(name, files[name]), "beside the playbook")
        if name in (points := self._points()):
            point = points[name]
            return _entry(name, cast(ModuleType, point.load()), f"package {point.dist.name if point.dist else point.module}")
        return None

    def _folder_names(self) -> dict[str, Path]:
        if self.folder is None or not self.folder.is_dir():
            return {}
        return {
            ".".join(path.relative_to(self.folder).with_suffix("").parts): path
            for path in self.folder.rglob("*.py")
            if not any(part.startswith("_") for part in path.relative_to(self.folder).parts)
        }

    @staticmethod
    def _points() -> dict[str, Any]:
        from importlib.metadata import entry_points

        return {point.name: point for point in entry_points(group=GROUP)}


def _from_file(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"lastgood_beside_playbook.{name}", path)
    if spec is None or spec.loader is None:
        raise Unusable(name, f"cannot be loaded from {path.name}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise Unusable(name, f"cannot be loaded: {type(error).__name__}: {error}") from error
    return module


def _entry(name: str, module: ModuleType, origin: str) -> Entry:
    for word in ("SCHEMA", "read", "desired"):
        if not hasattr(module, word):
            raise Unusable(name, f"has no `{word}`; every module has SCHEMA, read and desired")
    if module.SCHEMA.get("additionalProperties") is not False:
        raise Unusable(name, "has an open SCHEMA; it needs `additionalProperties: False`")
    return Entry(name, cast(Module, module), origin, _digest(module))


def _digest(module: ModuleType) -> str:
    """Over the module's own file and what it may share: the `_client.py` beside it, and for ours every private file."""
    path, here = Path(module.__file__ or ""), Path(__file__).parent
    total = hashlib.sha256(path.read_bytes())
    client = path.parent / "_client.py"
    if here in path.parents:
        total.update(_shared(here))
    elif client.is_file():
        total.update(client.read_bytes())
    return total.hexdigest()


@cache
def _shared(folder: Path) -> bytes:
    files = sorted(path for path in folder.rglob("_*.py") if path.name != "__init__.py")
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)).digest()
