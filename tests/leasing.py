"""The faults of leases and of the fleet that their tests must catch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from engine import leases, recall
from engine.journal import Journal
from engine.plan import Plan
from tests.mutants import Mutant, by_tests

LEASES, BUDGET = "tests/engine/test_leases.py", "tests/engine/test_fleet.py"


def skips_the_token_check() -> None:
    """An entry is written without looking whether the lease of its writer still holds."""
    leases.holds = lambda *_: True


def prolongs_what_has_lapsed() -> None:
    """A late process renews its lease as if it had never lapsed."""
    holds = leases.holds

    def renew(store: Any, rows: Any, run: str, token: int, seconds: float) -> bool:
        rows("UPDATE leases SET until = ? WHERE token = ?", store.clock(rows) + int(seconds * 1e6), token)
        return holds(store, rows, run, token)

    leases.renew = renew


def gives_a_token_twice() -> None:
    """The number of a lease does not grow with every lease."""
    leases.next_token = lambda rows: rows("SELECT value FROM numbers WHERE name = 'token'")[0][0] + 1


def takes_what_is_held() -> None:
    """A live lease of another run keeps nobody away."""
    leases.in_the_way = lambda *_: None


def waits_for_the_dead() -> None:
    """Of a process of this machine it is not looked whether it still lives."""
    leases.Owner.gone = lambda _: False  # type: ignore[method-assign]


def acts_without_a_last_look() -> None:
    """Before an effect it is not looked whether the run is still this process's."""
    Journal.live = lambda *_: None  # type: ignore[method-assign]


def tolerates_one_more() -> None:
    """One host more than `max_failed` may fail before the run stops."""
    tolerated = Plan.tolerated.fget  # type: ignore[attr-defined]
    Plan.tolerated = property(lambda plan: tolerated(plan) + 1)  # type: ignore[assignment,method-assign]


def begins_anew_elsewhere() -> None:
    """What one host had begun for all is begun anew by the host that comes there first."""
    of = recall.of

    def forgetful(*given: Any) -> recall.Recalled:
        found = of(*given)
        found.doers.clear()
        return found

    recall.of = forgetful


FAULTS: dict[Callable[[], None], str] = {
    skips_the_token_check: LEASES,
    prolongs_what_has_lapsed: LEASES,
    gives_a_token_twice: LEASES,
    takes_what_is_held: LEASES,
    waits_for_the_dead: LEASES,
    acts_without_a_last_look: LEASES,
    tolerates_one_more: BUDGET,
    begins_anew_elsewhere: BUDGET,
}


def mutants() -> Iterator[Mutant]:
    """The faults, for the runner."""
    for fault, tests in FAULTS.items():
        says, suite = " ".join((fault.__doc__ or "").split()), "leases" if tests == LEASES else "fleet"
        yield Mutant(fault.__name__, says, suite, by_tests(f"tests.leasing:{fault.__name__}", tests))
