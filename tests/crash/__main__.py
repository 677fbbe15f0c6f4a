"""`python -m tests.crash`: explores crashes of drawn playbooks, and prints its figures as a table.

    python -m tests.crash                          17,500 points
    python -m tests.crash --points 500 --seed 1000
    python -m tests.crash --replay '[17, "run", ["after change a execution/s3", 1], 0, []]'

Every point that went wrong is printed with the command that goes through it again. A playbook with one thread comes to the
same point in the same way; where several threads are at work it may take a few tries (`--times`).
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from pathlib import Path

sys.path.extend(str(folder) for folder in (Path(__file__).parent, *Path(__file__).parents[1:3]))

from exploration import WAYS as FIRST
from exploration import Point, Tally, exploring
from killer import Killer, killer

POINTS, EACH = 17_500, 125
WAYS = (*FIRST, "again")


@contextmanager
def memory() -> Iterator[Path]:
    """A folder in memory, where there is one: a kill loses nothing there either, and thousands of runs wait for no disk."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="lastgood-", dir=shared if os.access(shared, os.W_OK) else None) as folder:
        yield Path(folder)


@cache
def launcher(folder: Path) -> Killer:
    """This process's own, for all that it explores. It ends when this process does."""
    return Killer(folder / f"killer-{os.getpid()}")


def explore(seed: int, points: int, folder: Path, install: str = "", stop: bool = False) -> Tally:
    """One playbook's points."""
    place = folder / f"{os.getpid()}-{seed}"
    try:
        return exploring(place, seed, launcher(folder), install).explored(points, stop=stop)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def explored(points: int, each: int, seed: int, workers: int, until: float = float("inf")) -> Tally:
    """Playbooks from `seed` on until there are so many points, or (`until`, as `time.monotonic` counts) time is up."""
    total, pending, left = Tally(), set[Future[Tally]](), points
    with memory() as folder, ProcessPoolExecutor(workers) as pool:
        while left > 0 or pending:
            while left > 0 and len(pending) < 2 * workers:
                pending.add(pool.submit(explore, seed, min(each, left), folder))
                seed, left = seed + 1, left - min(each, left)
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for one in done:
                found = one.result()
                total.add(found)
            left = points - total.points - each * len(pending) if time.monotonic() < until else 0
            for wrong in (wrong for one in done for wrong in one.result().wrong):
                print(f"{wrong.sort}: python -m tests.crash --replay '{wrong.point}'\n{wrong.text}\n", flush=True)
            if sys.stderr.isatty():
                print(f"\r{total.points} points, {len(total.wrong)} wrong", end="", file=sys.stderr, flush=True)
    return total


def table(total: Tally, seconds: float) -> str:
    """The figures."""
    sorts = sorted({sort for _, sort in total.kills}, key=lambda sort: (sort.partition(" ")[2], sort))
    rows = [["killed", *WAYS]]
    for sort in sorts:
        rows.append([sort, *(f"{total.kills[way, sort]:,}" for way in WAYS)])
    rows.append(["all", *(f"{sum(n for (w, _), n in total.kills.items() if w == way):,}" for way in WAYS)])
    lines = [f"{row[0]:<40}" + "".join(f"{cell:>9}" for cell in row[1:]) for row in rows]
    wrong = {sort: sum(one.sort == sort for one in total.wrong) for sort in ("lost", "doubled", "stuck", "otherwise")}
    figures = {
        "points killed": total.points, "graphs": total.graphs,
        "steps": total.steps, "hosts": total.hosts, **wrong, "seconds": round(seconds),
    }  # fmt: skip
    lines += ["", *(f"{name:<40}{value:>9,}" for name, value in figures.items())]
    return "\n".join([*lines, f"{'points/s':<40}{total.points / seconds:>9.1f}"])


def replayed(point: Point, times: int) -> bool:
    """Goes through one point until it goes wrong, and says so."""
    with memory() as folder, killer(folder / "killer") as kill:
        one = exploring(folder, point.seed, kill)
        for turn in range(1, times + 1):
            found = one.replayed(point)
            for wrong in found:
                print(f"{wrong.sort}, in try {turn}: {wrong.text}\n")
            if found:
                for entry in one.theatre.entries():
                    said = {key: entry.body[key] for key in ("outcome", "why") if entry.body.get(key)}
                    print(f"{entry.seq:4} {entry.kind:16} {entry.host:4} {entry.step} {said or ''}")
                return True
    print(f"nothing went wrong in {times} tries")
    return False


def main() -> int:
    words = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__.split("\n")[0])
    words.add_argument("--points", type=int, default=POINTS)
    words.add_argument("--each", type=int, default=EACH, help="points of one playbook")
    words.add_argument("--seed", type=int, default=1, help="the first playbook")
    words.add_argument("--workers", type=int, default=2)
    words.add_argument("--seconds", type=float, default=float("inf"), help="begin no further playbook after this time")
    words.add_argument("--replay", type=Point.read, help="one point, as a failure prints it")
    words.add_argument("--times", type=int, default=20, help="tries of --replay")
    said = words.parse_args()
    if said.replay:
        return int(replayed(said.replay, said.times))
    begun = time.monotonic()
    total = explored(said.points, said.each, said.seed, said.workers, begun + said.seconds)
    print(table(total, time.monotonic() - begun))
    short = total.points < said.points and said.seconds == float("inf")
    return int(bool(total.wrong) or short)


if __name__ == "__main__":
    sys.exit(main())
