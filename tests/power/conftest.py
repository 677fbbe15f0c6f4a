"""A folder in memory, where there is one: what a disk may hold is worked out, so no disk needs to be waited for."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """An empty folder, of the owner alone."""
    shared = Path("/dev/shm")
    place = shared if os.access(shared, os.W_OK) else tmp_path
    with tempfile.TemporaryDirectory(prefix="lastgood-power-", dir=place) as folder:
        yield Path(folder)
