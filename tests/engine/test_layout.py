"""layout: what the order of the nodes must not depend on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHOW = """
from pathlib import Path
from engine import layout
from engine.cli import opening
path = Path("playbooks/mlflow-rollback.yml")
book = opening.read(path, opening.catalog(path), [])
print([(node.id, node.after) for node in layout.nodes(book, layout.Options(), []).values()])
"""


def test_every_process_lays_out_the_same_graph() -> None:
    """A plan made by one process is taken up by another, so no edge may come in the order of a set."""
    seen = set()
    for seed in ("1", "2", "3", "4", "5", "6"):
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
        seen.add(subprocess.run([sys.executable, "-c", SHOW], cwd=ROOT, env=env, capture_output=True, check=True).stdout)
    assert 1 == len(seen)
