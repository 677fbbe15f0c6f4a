"""What all tests share: where nothing may be skipped a skip fails; what takes long comes first; hypothesis is calm."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

sys.path.append(str(Path(__file__).parent))  # the rooms that tests share: stage, postgres

# A busy machine is no reason to fail, and a found example is printed, so that anyone can run it again.
hypothesis.settings.register_profile("lastgood", deadline=None, print_blob=True)
hypothesis.settings.load_profile("lastgood")

# Folders in memory, where many tests keep their stores, are small on some machines. Tests of the reserve set their own.
os.environ.setdefault("LASTGOOD_RESERVE", "0")

#: Set in CI (.ci/run), where everything is installed.
SKIP_NOTHING = os.environ.get("LASTGOOD_SKIP_NOTHING") == "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first: workers are handed whole files, and the last one should not be waited for."""
    long: dict[Path, int] = {}
    for item in items:
        weight = 2 if item.get_closest_marker("real") else 1 if item.get_closest_marker("slow") else 0
        long[item.path] = max(weight, long.get(item.path, 0))
    items.sort(key=lambda item: -long[item.path])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _no_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _no_skip((yield))


def _no_skip(report: Any) -> Any:
    if SKIP_NOTHING and report.skipped and not hasattr(report, "wasxfail"):
        why = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome, report.longrepr = "failed", f"nothing may be skipped here: {why}"
    return report


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """A PostgreSQL server of the tests' own, started when the first test asks; see tests/postgres.py."""
    import postgres  # here, so that whoever runs a test without it needs no psycopg

    if postgres.programs() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    yield from postgres.serving()
