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

#: Seconds that a test of `make quick` may take, on a quiet machine; and the list of those that take more.
MOMENT, SLOW_LIST = 0.1, Path(__file__).parent / "slow.txt"
SLOW = frozenset(SLOW_LIST.read_text("utf-8").splitlines())
TIMES: dict[str, float] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first: workers are handed whole files, and the last one should not be waited for."""
    long: dict[Path, int] = {}
    for item in items:
        if _name(item.nodeid) in SLOW or "postgres" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
        weight = 2 if item.get_closest_marker("real") else 1 if item.get_closest_marker("slow") else 0
        long[item.path] = max(weight, long.get(item.path, 0))
    items.sort(key=lambda item: -long[item.path])


def _name(test: str) -> str:
    return test.partition("[")[0]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Adds up how long each test takes, setting up included."""
    TIMES[report.nodeid] = TIMES.get(report.nodeid, 0.0) + report.duration


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where it is asked for, writes down the tests that take more than a moment."""
    if os.environ.get("LASTGOOD_TIMES") and not hasattr(session.config, "workerinput"):
        own: dict[str, list[float]] = {}
        for test, seconds in TIMES.items():
            own.setdefault(_name(test), []).append(seconds)
        slow = sorted(name for name, took in own.items() if sum(took) / len(took) > MOMENT or max(took) > 4 * MOMENT)
        head = SLOW_LIST.read_text("utf-8").split("\n", 1)[0]
        SLOW_LIST.write_text("\n".join([head, *slow, ""]), "utf-8")


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
