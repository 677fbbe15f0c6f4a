"""What is shipped works where nothing of the checkout is: the wheel in an empty environment, from another folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PACKAGES = ("engine", "modules", "schemas", "playbooks", "inventories")
#: A venv of its own: nothing that points at this checkout or this environment may reach it.
CLEAN = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}


def run(argv: Sequence[str | Path], cwd: Path, most: float = 600) -> str:
    """What the command said. It must end well."""
    done = subprocess.run(argv, cwd=cwd, env=CLEAN, capture_output=True, text=True, timeout=most, check=False)
    assert done.returncode == 0, f"{argv}:\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: a `build` folder that lies about must not get into it."""
    copy = tmp_path_factory.mktemp("source")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", copy / "dist", copy], copy)
    (built,) = (copy / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs in an empty venv that holds the wheel and what it asks for, without extras."""
    venv = tmp_path_factory.mktemp("venv") / "venv"
    run([sys.executable, "-m", "venv", "--without-pip", venv], venv.parent)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", venv / "bin/python", "install", "--quiet"]
    run([*pip, "--constraint", ROOT / "requirements/test.txt", wheel], venv.parent)
    return venv / "bin"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    return tmp_path


def test_the_wheel_holds_every_file(wheel: Path) -> None:
    """Schemas, playbooks, pages and texts are shipped with the code; nothing else is."""
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *PACKAGES], cwd=ROOT, capture_output=True, text=True
    )
    files = {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}
    assert files == inside


def test_help_from_the_wheel(installed: Path, elsewhere: Path) -> None:
    """`engine --help` and `--version` answer in an environment without extras."""
    assert "engine run playbooks/fraud.yml" in run([installed / "engine", "--help"], elsewhere)
    assert run([installed / "engine", "--version"], elsewhere).startswith("engine, version ")


def test_it_is_the_wheel_that_answers(installed: Path, elsewhere: Path) -> None:
    """The engine of the empty venv is not the one of this checkout."""
    where = run(
        [installed / "python", "-c", "import engine, modules, schemas; print(engine.__file__, schemas.__file__)"], elsewhere
    )
    assert str(ROOT) not in where
    assert str(installed.parent) in where


def test_shipped_playbooks_validate_from_the_wheel(installed: Path, elsewhere: Path) -> None:
    """Every shipped playbook is valid, read with the schemas and modules that the wheel brought."""
    for playbook in sorted((ROOT / "playbooks").glob("*.yml")):
        shutil.copy(playbook, elsewhere)
    names = sorted(path.name for path in elsewhere.glob("*.yml"))
    assert names
    assert f"{len(names)} playbooks valid" in run([installed / "engine", "validate", *names], elsewhere)


def test_the_demo_from_the_wheel(installed: Path, elsewhere: Path) -> None:
    """`engine demo` rolls its service back, in a folder that has never seen the checkout, without extras."""
    assert "5/5" in run([installed / "engine", "demo"], elsewhere)
    (current,) = (elsewhere / "demo").rglob("current")
    assert current.resolve().name == "v1"
    assert list((elsewhere / "demo/.lastgood/runs").glob("*/report.html"))
