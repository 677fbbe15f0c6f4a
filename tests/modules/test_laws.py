"""Every module of the catalogue keeps the laws of laws.py, each law in a fresh world of worlds/<module>.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from laws import PAPER, WORLDLY
from world import opened, worlds_of

from modules.catalog import OURS, Catalog


def _in_worlds() -> Iterator[object]:
    for module in OURS:
        for world in worlds_of(module):
            for law in WORLDLY:
                yield pytest.param(module, world, law, id=f"{module}-{world}-{law.__name__}")


@pytest.mark.parametrize("module", OURS)
def test_every_module_has_a_world(module: str) -> None:
    """A module of the catalogue without a world fails here: nothing escapes the laws."""
    assert worlds_of(module), f"{module} has no world: write tests/modules/worlds/{module}.py (README.md there says how)"


@pytest.mark.parametrize("law", PAPER, ids=lambda law: law.__name__)
@pytest.mark.parametrize("module", OURS)
def test_module_keeps_the_law(module: str, law: object) -> None:
    """What a module says of itself is complete and true to form."""
    law(Catalog().get(module))


@pytest.mark.parametrize(("module", "world", "law"), list(_in_worlds()))
def test_module_keeps_the_law_in_its_world(module: str, world: str, law: object, tmp_path: Path) -> None:
    """What a module does to a real world is what it says."""
    with opened(worlds_of(module)[world], tmp_path) as there:
        law(Catalog().get(module), there)
