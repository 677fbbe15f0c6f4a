"""The faults that the crash exploration must catch, and after how many points it does."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

sys.path.extend(str(folder) for folder in (Path(__file__).parent, *Path(__file__).parents[1:3]))

import planted
from exploration import exploring
from killer import killer

from tests.mutants import Caught, Mutant

MOST, EACH = 3000, 40
WHOLE = ("run", "resume")
#: fault -> the ways in which it shows
FAULTS: dict[Callable[[], None], Sequence[str]] = {
    planted.intends_after_the_effect: WHOLE,
    planted.settles_before_the_effect: WHOLE,
    planted.forgets_what_was_cut_off: WHOLE,
    planted.takes_up_nothing: WHOLE,
    planted.repeats_blindly: WHOLE,
    planted.repeats_finished_items: WHOLE,
    planted.forgets_what_is_firm: WHOLE,
    planted.walks_on_what_is_put_back: WHOLE,
    planted.remedies_what_is_uncertain: WHOLE,
    planted.changes_its_keys: WHOLE,
    planted.sends_under_new_keys: WHOLE,
    planted.undoes_what_ended_well: ("undo",),
    planted.undoes_without_looking: ("undo",),
    planted.forgets_the_cancel: ("cancel",),
}
QUICK = (
    planted.intends_after_the_effect,
    planted.undoes_without_looking,
    planted.changes_its_keys,
    planted.sends_under_new_keys,
)


def mutants() -> Iterator[Mutant]:
    """The faults, for the runner."""
    for fault, ways in FAULTS.items():
        says = " ".join((fault.__doc__ or "").split())
        yield Mutant(fault.__name__, says, "crash", partial(caught, fault.__name__, ways), fault in QUICK)


def caught(fault: str, ways: Sequence[str], most: int = MOST) -> Caught | None:
    """Explores playbook after playbook with the fault planted in every process, until something is wrong."""
    points, shared = 0, Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="lastgood-", dir=shared if shared.is_dir() else None) as name:
        folder = Path(name)
        with killer(folder / "killer") as kill:
            for seed in range(1, 1 + most // EACH):
                tally = exploring(folder, seed, kill, f"planted:{fault}").explored(EACH, ways, stop=True)
                points += tally.points
                if tally.wrong:
                    wrong = tally.wrong[0]
                    return Caught(f"the exploration: {wrong.sort}, in the {wrong.point.way} of {seed}", f"{points} points")
                for path in folder.glob("playbook-*"):
                    shutil.rmtree(path)
    return None
