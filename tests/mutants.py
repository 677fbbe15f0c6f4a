"""`python -m tests.mutants`: plants one fault after the other in the engine, and shows which tests catch it.

A suite that cannot fail says nothing. Every suite that holds a promise names the faults that it must catch: a module of
`SUITES` has a function `mutants()` that gives them. A fault that nothing catches makes this end with exit 1.

    python -m tests.mutants                       all of them
    python -m tests.mutants --quick               the handful that `make test` plants too
    python -m tests.mutants intends_after_the_effect ...
    python -m tests.mutants --list
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: The modules that name mutants. Whoever adds a suite adds a line.
SUITES = ("tests.crash.mutants", "tests.power.mutants", "tests.leasing")
sys.path.extend(str(folder) for folder in (ROOT, ROOT / "tests"))


@dataclass(frozen=True)
class Caught:
    """That a mutant was caught: what it was caught by, and after how much (`12 points`)."""

    by: str
    after: str


@dataclass(frozen=True)
class Mutant:
    """A planted fault: its name, what the engine then does wrong, the suite that must fail, and how to see that it does.

    `shown` returns None when the fault is not caught. `quick`: whether `make test` plants it too.
    """

    name: str
    says: str
    suite: str
    shown: Callable[[], Caught | None]
    quick: bool = False


def by_tests(plant: str, *tests: str) -> Callable[[], Caught | None]:
    """Runs these tests with the function `plant` (`module:function`) called first in their process: one of them must fail.

    The tests themselves are not wrong: without the fault they pass, which the whole suite shows.
    """

    def shown() -> Caught | None:
        words = ["-q", "-x", "-p", "tests.planting", "-p", "no:cacheprovider", "--no-header", *tests]
        env = {**os.environ, "LASTGOOD_PLANT": plant, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "pytest", *words]
        ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        if ended.returncode != 1:  # 0: they pass. Anything else: they did not run
            return None
        failed = next((line for line in ended.stdout.splitlines() if line.startswith("FAILED ")), "a test")
        return Caught(failed.removeprefix("FAILED ").partition(" - ")[0], "the first test that fails")

    return shown


def every() -> list[Mutant]:
    """Every mutant there is, suite by suite."""
    return [mutant for suite in SUITES for mutant in importlib.import_module(suite).mutants()]


def _seen(name: str) -> tuple[Caught | None, float]:
    begun = time.monotonic()
    mutant = next(one for one in every() if one.name == name)
    return mutant.shown(), time.monotonic() - begun


def main() -> int:
    words = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.split("\n")[0])
    words.add_argument("names", nargs="*")
    words.add_argument("--quick", action="store_true", help="only those that `make test` plants too")
    words.add_argument("--list", action="store_true", help="name them, and plant nothing")
    words.add_argument("--workers", type=int, default=2)
    said = words.parse_args()
    chosen = [one for one in every() if (not said.names or one.name in said.names) and (one.quick or not said.quick)]
    if unknown := set(said.names) - {one.name for one in chosen}:
        words.error(f"no mutant {', '.join(sorted(unknown))}")
    if said.list:
        print("\n".join(f"{one.name:<32} {one.suite:<16} {one.says}" for one in chosen))
        return 0
    print(f"{'fault':<32} {'suite':<16} {'caught by':<44} after", flush=True)
    missed = []
    with ProcessPoolExecutor(said.workers) as pool:
        jobs = {pool.submit(_seen, one.name): one for one in chosen}
        for job in as_completed(jobs):
            mutant, (caught, seconds) = jobs[job], job.result()
            missed += [] if caught else [mutant.name]
            by, after = (caught.by, caught.after) if caught else ("NOTHING", "")
            print(f"{mutant.name:<32} {mutant.suite:<16} {by:<44} {after}, {seconds:.0f} s", flush=True)
    print(f"\n{len(chosen)} planted, {len(chosen) - len(missed)} caught" + (f"; not: {', '.join(missed)}" if missed else ""))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
