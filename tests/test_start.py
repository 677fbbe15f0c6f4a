"""A command starts fast, because it loads only what it needs (the figures are in benchmarks/; here is what keeps them)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: What costs tens of milliseconds each, by the name that an import of it leaves behind.
HEAVY = {"apprise", "cryptography", "jinja2", "jsonschema", "networkx", "rfc8785", "structlog", "urllib3"}
ASK = """
import json, sys
from engine.cli import main
code = main.run(sys.argv[1:])
print(json.dumps([code, sorted(sys.modules)]))
"""


def loaded(*argv: str) -> tuple[int, set[str]]:
    """The exit code of a command in a fresh process (what it said is printed), and the packages that it has loaded."""
    done = subprocess.run([sys.executable, "-c", ASK, *argv], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stdout, done.stderr)
    code, modules = json.loads(done.stdout.splitlines()[-1])
    return code, {name.split(".")[0] for name in modules}


def playbook(steps: int) -> str:
    """A playbook of `steps` steps, with keywords, templates and a name for every module to be looked up by."""
    head = "name: twenty steps\nstrategy: version\nhosts: all\nvars: {room: /srv/fraud}\nexecution:\n"
    move = '  - name: Back\n    directory.current: {path: "{{ room }}/fraud", version: v1}\n'
    more = "  - {name: Wait %d, when: room != '', timeout: 20s, file: {path: '{{ room }}/%d', content: hello}}\n"
    return head + move + "".join(more % (number, number) for number in range(1, steps))


def test_help_loads_nothing_heavy() -> None:
    """`engine --help` is answered from one table: it loads click, and none of the libraries that work later."""
    code, modules = loaded("--help")
    assert code == 0
    assert set() == modules & (HEAVY | {"sqlite3", "yaml"})
    assert "click" in modules


@pytest.mark.parametrize("verb", ["run", "plan", "validate", "resume", "demo"])
def test_help_of_a_verb_loads_nothing_heavy(verb: str) -> None:
    """`engine VERB --help` loads the verb's own file and still nothing that works."""
    code, modules = loaded(verb, "--help")
    assert code == 0
    assert set() == modules & HEAVY


def test_validate_loads_what_reading_needs(tmp_path: Path) -> None:
    """`engine validate` of 20 steps reads YAML, schemas and expressions; nothing that draws, signs, stores or sends."""
    path = tmp_path / "twenty.yml"
    path.write_text(playbook(20), "utf-8")
    code, modules = loaded("validate", str(path))
    assert code == 0
    assert set() == modules & {"apprise", "cryptography", "networkx", "rfc8785", "sqlite3", "ssl", "structlog", "urllib3"}
    assert modules >= {"yaml", "jsonschema", "jinja2"}, "it has read nothing"


def test_a_large_graph_needs_no_graph_library(tmp_path: Path) -> None:
    """networkx is for pictures and for explaining a circle; an order that the text already has is not searched for."""
    circle = playbook(3).replace("Wait 1,", "Wait 1, needs: [wait_2],").replace("Wait 2,", "Wait 2, needs: [wait_1],")
    for text, code, wanted in ((playbook(100), 0, False), (circle, 3, True)):
        path = tmp_path / "book.yml"
        path.write_text(text, "utf-8")
        got, modules = loaded("validate", str(path))
        assert (code, wanted) == (got, "networkx" in modules)
