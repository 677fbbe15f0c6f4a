"""Makes the golden scenes of this version: run it once for each release, before the version's number is raised.

    python tests/golden/make.py             every scene, into journals/VERSION (as root, or whoever may make PLACE)
    python tests/golden/make.py 0.2.0rc1    into a folder of this name, where VERSION is there already (0.1.0-format-2: what
                                            0.1.0 wrote once its store had leases)

Every scene is played by command lines in PLACE, a folder that no machine has otherwise: a run records its place.
What then lies on the disk is the scene. After that it is played to its end, in the same place and with the same engine:
`end.txt` holds what came of it, and is to be read. Later engines have to come to the same.

Scenes that are there are not made again: they are what their version wrote.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import endings
import goldens
import scenes as plays
from scenes import Scene

import engine

#: Nobody's folder.
PLACE = Path("/srv/lastgood/golden")
MODULES = Path(__file__).parents[1] / "rehearsals" / "modules"


def set_up(scene: Scene, folder: Path) -> None:
    """Writes the playbook, its modules, the inventory and the world."""
    base, stock = folder / "playbooks", folder / "inventory"
    shutil.copytree(MODULES, base / "modules", ignore=shutil.ignore_patterns("__pycache__"))
    (base / "play.yml").write_text(scene.book, "utf-8")
    stock.mkdir()
    hosts = "".join(f"    {host}: {{}}\n" for host in scene.hosts)
    (stock / "hosts.yml").write_text(f"all:\n  hosts:\n{hosts}", "utf-8")
    if "authority:" in scene.book:
        (stock / "roster.yml").write_text(goldens.roster(folder), "utf-8")
    for (host, name), fields in scene.things.items():
        goldens.have(folder, host, name, fields)
    for (host, name), kinds in scene.troubles.items():
        goldens.trouble(folder, host, name, kinds)


def play(scene: Scene, folder: Path) -> None:
    """Plays the scene up to where it stops, by command lines as they are typed."""
    for line, wanted in scene.typed:
        words = endings.spelled(folder, line.split())
        if words[0] == "run":
            words[1:1] = ["playbooks/play.yml", "-i", "inventory"]
        done = endings.engine(folder, words)
        if done.returncode != wanted:
            raise SystemExit(f"{scene.name}: engine {line}: exit {done.returncode}, not {wanted}\n{done.stderr}")


def make(scene: Scene, place: Path, version: Path) -> Path:
    """Plays the scene in `place` and keeps it below `version`. Returns the folder of the golden scene."""
    folder, golden = place / scene.name, version / scene.name
    folder.mkdir(parents=True)
    set_up(scene, folder)
    play(scene, folder)
    goldens.frozen(folder, golden)

    def types(words: Sequence[str]) -> int:
        return endings.engine(folder, words, late=-7200.0 if "@ late" in scene.then else 0.0).returncode

    told = endings.played(folder, [f"# {scene.about}", *scene.then], types)
    (golden / "end.txt").write_text(told, "utf-8")
    return golden


def main(name: str = engine.__version__) -> None:
    """Makes every scene of this version."""
    version = goldens.JOURNALS / name
    if version.exists():
        raise SystemExit(f"{version} is there already: what a version wrote is not written again; give another name")
    shutil.copytree(MODULES, version / "modules", ignore=shutil.ignore_patterns("__pycache__"))
    if PLACE.exists():
        raise SystemExit(f"{PLACE} is there already: it is to be nobody's")
    try:
        for scene in plays.SCENES:
            golden = make(scene, PLACE, version)
            size = sum(path.stat().st_size for path in golden.rglob("*") if path.is_file())
            print(json.dumps({"scene": scene.name, "bytes": size}))
    finally:
        shutil.rmtree(PLACE, ignore_errors=True)
        for parent in PLACE.parents[:1]:
            if parent.exists() and not any(parent.iterdir()):
                parent.rmdir()


if __name__ == "__main__":
    main(*sys.argv[1:])
