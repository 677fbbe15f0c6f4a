"""The faults that the suites of power cuts and failing disks must catch."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.extend(str(folder) for folder in (Path(__file__).parent, *Path(__file__).parents[1:3]))

import planted_disk

from tests.mutants import Mutant, by_tests

POWER, DISK = "tests/power/test_power.py::test_no_power_cut_loses_what_was_acknowledged", "tests/power/test_faults.py"
KEEPS, LAWS = "tests/engine/test_database_file.py", "tests/engine/test_journal.py"
#: fault -> the suite by its name, and its tests
FAULTS = {
    planted_disk.drops_the_fsync: ("power", f"{POWER}[delete]"),
    planted_disk.drops_the_directory_sync: ("power", f"{POWER}[delete]"),
    planted_disk.drops_the_fsync_of_the_log: ("power", f"{POWER}[wal]"),
    planted_disk.acknowledges_before_the_commit: ("power", f"{POWER}[delete]"),
    planted_disk.commits_by_halves: ("power", f"{POWER}[delete]"),
    planted_disk.tries_a_failed_commit_again: ("failing disk", DISK),
    planted_disk.ignores_a_failed_commit: ("failing disk", DISK),
    planted_disk.acts_without_its_intent: ("failing disk", DISK),
    planted_disk.acts_after_another_failed: ("record", f"{LAWS}::test_a_commit_that_fails_breaks_the_store_for_good"),
    planted_disk.checks_no_hash: ("record", f"{LAWS}::test_a_changed_record_is_refused"),
    planted_disk.takes_any_log: ("store", KEEPS),
    planted_disk.takes_any_journal: ("store", "tests/power/test_foreign.py"),
    planted_disk.takes_any_disk: ("store", KEEPS),
    planted_disk.forgets_the_folders_name: ("store", KEEPS),
}
QUICK = (planted_disk.checks_no_hash, planted_disk.takes_any_log)


def mutants() -> Iterator[Mutant]:
    """The faults, for the runner."""
    for fault, (suite, tests) in FAULTS.items():
        says, plant = " ".join((fault.__doc__ or "").split()), f"tests.power.planted_disk:{fault.__name__}"
        yield Mutant(fault.__name__, says, suite, by_tests(plant, tests), fault in QUICK)
