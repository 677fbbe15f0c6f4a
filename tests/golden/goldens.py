"""A golden scene on disk: a store of an earlier version as text, and all that its run needs. Restoring makes it real again.

    journals/VERSION/modules/    the modules beside the playbook, the same for every scene of the version
    journals/VERSION/SCENE/      play.yml: the playbook; hosts.yml, roster.yml: the inventory; world/: the things;
                                 journal.sql: the store; files/: what the run has kept beside it; end.txt: what comes next

Restored, it is a folder with `playbooks/`, `inventory/` and `state/`. Nothing here knows the engine: what a store of an
earlier version looks like is a matter of that version.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

HERE = Path(__file__).parent
JOURNALS = HERE / "journals"
PEOPLE = {"ana": "ml-oncall", "ben": "fraud-risk"}
NO_BOOT = "00000000-0000-4000-8000-000000000000"
INVENTORY = ("hosts.yml", "roster.yml")


def scenes() -> list[Path]:
    """Every golden scene of every version."""
    return sorted(path.parent for path in JOURNALS.glob("*/*/journal.sql"))


def dumped(store: Path) -> str:
    """The store as SQL: one statement a line, the format's number among them. Leases are of a boot that no machine had."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    with contextlib.closing(sqlite3.connect(store / "journal.db")) as db:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        return "\n".join([f"PRAGMA user_version={version};", *db.iterdump()]).replace(boot, NO_BOOT) + "\n"


def restored(scene: Path, into: Path) -> Path:
    """Makes the scene real in the folder `into`, which is not there yet. Returns it."""
    base, stock, state = into / "playbooks", into / "inventory", into / "state"
    shutil.copytree(scene.parent / "modules", base / "modules")
    shutil.copy(scene / "play.yml", base)
    shutil.copytree(scene / "world", base / "world")
    stock.mkdir()
    for name in INVENTORY:
        if (scene / name).exists():
            shutil.copy(scene / name, stock)
    state.mkdir(mode=0o700)
    if (scene / "files").exists():
        shutil.copytree(scene / "files", state / "runs")
    with contextlib.closing(sqlite3.connect(state / "journal.db")) as db:
        db.executescript((scene / "journal.sql").read_text("utf-8"))
    (state / "journal.db").chmod(0o600)
    return into


def frozen(folder: Path, scene: Path) -> None:
    """Writes what lies in `folder` as the golden scene `scene`; its version's modules must be there."""
    shutil.rmtree(scene, ignore_errors=True)
    scene.mkdir(parents=True)
    shutil.copy(folder / "playbooks" / "play.yml", scene)
    for path in sorted((folder / "playbooks" / "world").rglob("*")):
        if path.is_file():
            _copy(path, scene / "world" / path.relative_to(folder / "playbooks" / "world"))
    for name in INVENTORY:
        if (folder / "inventory" / name).exists():
            shutil.copy(folder / "inventory" / name, scene)
    for path in sorted((folder / "state" / "runs").rglob("*/evidence/**/*")):
        if path.is_file():
            _copy(path, scene / "files" / path.relative_to(folder / "state" / "runs"))
    (scene / "journal.sql").write_text(dumped(folder / "state"), "utf-8")


def _copy(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, to)


# ------------------------------------------------------------------------------------------------- what is written by hand
def rewritten(folder: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """The entries of the store after `change`, in a chain that is whole again: as an engine would have written them."""
    names = ("run", "seq", "at", "kind", "host", "step", "body", "hash")
    with contextlib.closing(sqlite3.connect(folder / "state" / "journal.db")) as db, db:
        rows = db.execute(f"SELECT {', '.join(names)} FROM entries ORDER BY run, seq").fetchall()
        entries = [dict(zip(names, row, strict=True)) for row in rows]
        change(entries)
        before = ""
        for number, entry in enumerate(entries, 1):
            entry["seq"] = number
            entry["hash"] = before = chained(before, *(str(entry[name]) for name in names[:-1]))
        db.execute("DELETE FROM entries")
        marks = ", ".join("?" * len(names))
        db.executemany(f"INSERT INTO entries VALUES ({marks})", [tuple(entry.values()) for entry in entries])


def chained(before: str, *fields: str) -> str:
    """An entry's hash: sha256 over the hash before it and its fields, each after its length."""
    return hashlib.sha256("".join(f"{len(one)}:{one}" for one in (before, *fields)).encode()).hexdigest()


def written(folder: Path) -> int:
    """When the last entry was written: seconds since 1970."""
    with contextlib.closing(sqlite3.connect(folder / "state" / "journal.db")) as db:
        return int(db.execute("SELECT MAX(at) FROM entries").fetchone()[0] // 1_000_000)


# ------------------------------------------------------------------------------------------------- the world
def have(folder: Path, host: str, name: str, fields: Mapping[str, Any] | None) -> None:
    """Somebody makes the thing so, by hand. This is not counted as an effect."""
    path = folder / "playbooks" / "world" / host / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps({"is": fields, "at": 0, "key": ""}) + "\n")


def trouble(folder: Path, host: str, name: str, kinds: Mapping[str, Any]) -> None:
    """What goes wrong with the thing from now on."""
    path = folder / "playbooks" / "world" / host / f"{name}.trouble"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kinds))


def effects(folder: Path, since: Iterable[str] = ()) -> list[str]:
    """What was done to the things, as they counted it themselves, host by host, without those of `since`."""
    found = []
    for path in (folder / "playbooks" / "world").glob("*/*"):
        if not path.suffix:
            for number, line in enumerate(path.read_text().splitlines()):
                said = json.loads(line)
                if said["key"]:
                    shown = f"{path.parent.name}/{path.name} {json.dumps(said['is'], sort_keys=True)}"
                    found.append((path.parent.name, said["at"], f"{number}: {shown}"))
    old = set(since)
    return [text for _, _, text in sorted(found) if text not in old]


# ------------------------------------------------------------------------------------------------- the people
def person(name: str, folder: Path) -> str:
    """Writes the person's private key into `folder`. Returns the public one, as a roster has it. It is the same for ever:
    no secret of anybody's, but a number that the name makes."""
    private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"{name} of the golden scenes".encode()).digest())
    path = folder / name
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    path.chmod(0o600)
    return private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() + f" {name}@example.org"


def roster(folder: Path) -> str:
    """The roster of everybody in PEOPLE, whose keys are written into `folder`."""
    people = [{"name": name, "roles": [role], "keys": [person(name, folder)]} for name, role in PEOPLE.items()]
    return json.dumps({"people": people}, indent=1) + "\n"
