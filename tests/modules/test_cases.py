"""Every case file, `cases/<module>/<case>.yml`: a new case is a new file, and nothing is registered anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from player import play
from world import HERE

from modules.catalog import Catalog

CASES = sorted((HERE / "cases").glob("*/*.yml"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_case(path: Path, tmp_path: Path) -> None:
    """Params and a world lead to the change, the calls and the files, or to the exact error, that the case file says."""
    play(path, tmp_path, Catalog())
