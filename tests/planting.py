"""A pytest plugin that plants a fault before any test runs: `LASTGOOD_PLANT=module:function` names it (see `mutants.py`)."""

from __future__ import annotations

import importlib
import os


def pytest_configure() -> None:
    module, _, function = os.environ["LASTGOOD_PLANT"].partition(":")
    getattr(importlib.import_module(module), function)()
