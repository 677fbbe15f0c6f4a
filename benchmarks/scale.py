"""What a step costs beyond itself, from one host to a thousand: a table, a plot, and how often the disk is asked to sync.

Usage: python -m benchmarks.scale [--runs N] [--sizes 1,3,10] [--write]. Each size runs eight steps on every host, each of
which changes one small file that is not synced: what is measured is the engine. Beside it, in turn, the limit: a bare loop
that commits two rows for every step, each commit synced in the same mode. What a process needs to start is taken off both:
`engine validate` of the same playbook, and Python itself. `--write` puts OVERHEAD.md and overhead.svg here.

Syncs are counted by the system, not by us: the largest size is run once more under strace, which counts fsync and fdatasync.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.__main__ import ENGINE, HERE, inventory, machine, playbook, timed

SIZES, STEPS = (1, 3, 10, 30, 100, 300, 1000), 8
#: The limit is measured with so many steps at most.
MOST = 400
#: A step of a thousand hosts may cost so many times what one of thirty costs: more would not be linear.
LINEAR = 1.5
LIMIT = (
    "import sqlite3,sys;db=sqlite3.connect(sys.argv[1],isolation_level=None);db.execute('PRAGMA synchronous=EXTRA');"
    "db.execute('CREATE TABLE e(a INTEGER PRIMARY KEY,b)')\n"
    "for n in range(int(sys.argv[2])):\n"
    " db.execute('BEGIN IMMEDIATE');db.execute('INSERT INTO e(b) VALUES(?)',('x'*400,));db.execute('COMMIT')"
)


@dataclass(frozen=True)
class Point:
    """One size: seconds a step, on the clock and of the processor, of the engine and of the limit beside it."""

    hosts: int
    wall: float
    processor: float
    limit: float

    @property
    def ratio(self) -> float:
        return self.wall / self.limit


def processor(before: resource.struct_rusage) -> float:
    """Seconds of processor time that children have used since."""
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def once(folder: Path, hosts: int, name: str, under: list[str] | None = None) -> tuple[float, float]:
    """One run: (seconds, seconds of processor time), the start of the process included."""
    shutil.rmtree(folder / "cells", ignore_errors=True)
    (folder / "cells").mkdir()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    took, _ = timed([*(under or []), *ENGINE, "--state", name, "run", "scale.yml", "-i", "inv"], folder)
    if len(list((folder / "cells").iterdir())) != hosts * STEPS:
        raise SystemExit("not every step made its change")
    return took, processor(before)


def measured(folder: Path, hosts: int, runs: int) -> Point:
    """The medians of a size, engine and limit in turn; what their processes need to start is taken off both."""
    inventory(folder, hosts)
    synced = min(hosts * STEPS, MOST)  # a synced row costs the same, however many there are
    rows: list[tuple[float, float, float]] = []
    for run in range(runs + 1):
        bare_loop = [sys.executable, "-c", LIMIT, str(folder / f"limit{hosts}-{run}.db"), str(2 * synced)]
        limit = timed(bare_loop, folder)[0]
        wall, spent = once(folder, hosts, f"state{hosts}-{run}")
        if run:
            rows.append((wall, spent, limit))
    start, start_spent = started(folder, [*ENGINE, "validate", "scale.yml"])
    bare, _ = started(folder, [sys.executable, "-c", "pass"])
    wall, spent, limit = (statistics.median(row[n] for row in rows) for n in range(3))
    steps = hosts * STEPS
    return Point(hosts, (wall - start) / steps, max(spent - start_spent, 0.0) / steps, (limit - bare) / synced)


def started(folder: Path, argv: list[str], runs: int = 5) -> tuple[float, float]:
    """The least that a command takes in a few runs: seconds, and seconds of processor time."""
    found = []
    for _ in range(runs):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append((timed(argv, folder)[0], processor(before)))
    return min(wall for wall, _ in found), min(spent for _, spent in found)


def commits(folder: Path, hosts: int) -> int:
    """How many commits a run of this size has made: the entries of one commit have one moment less apart than any sync."""
    code = (
        "import sys;from engine.journal import Journal;from engine.cli import main,running\n"
        "seen=[];made=Journal.close\n"
        "def close(self):\n seen.append(self.commits);made(self)\n"
        "Journal.close=close\n"
        "main.run(sys.argv[1:]);print('commits',sum(seen))"
    )
    shutil.rmtree(folder / "cells", ignore_errors=True)
    (folder / "cells").mkdir()
    argv = [sys.executable, "-c", code, "--state", "counted", "run", "scale.yml", "-i", "inv"]
    out = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=True).stdout
    found = re.search(r"^commits (\d+)$", out, re.MULTILINE)
    return int(found[1]) if found else 0


def syncs(folder: Path, hosts: int) -> int | None:
    """How often the run has asked the disk to sync, as strace counts it; None where there is no strace."""
    if not shutil.which("strace"):
        return None
    trace = folder / "trace"
    once(folder, hosts, "traced", ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=fsync,fdatasync", "-o", str(trace)])
    return sum(1 for line in trace.read_text().splitlines() if re.search(r"\bf(?:data)?sync\(", line))


def table(points: list[Point]) -> list[str]:
    """The figures as rows of Markdown."""
    rows = [
        "| hosts | a step on the clock | of the processor | limit: two synced rows | ratio |",
        "| --: | --: | --: | --: | --: |",
    ]
    rows += [
        f"| {p.hosts:,} | {p.wall * 1e3:.2f} ms | {p.processor * 1e3:.2f} ms | {p.limit * 1e3:.2f} ms | {p.ratio:.2f} × |"
        for p in points
    ]
    return rows


def plot(points: list[Point]) -> str:
    """The three figures over the number of hosts, both axes logarithmic, as an SVG that prints in grey."""
    width, height, left, bottom = 720, 400, 70, 50
    series = (
        ("engine, on the clock", "M", "", [p.wall for p in points]),
        ("engine, processor", "M", "6 3", [p.processor for p in points]),
        ("limit: two synced rows a step", "M", "2 3", [p.limit for p in points]),
    )
    values = [value for _, _, _, row in series for value in row if value > 0]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    most = math.log10(points[-1].hosts) or 1.0

    def at(hosts: int, value: float) -> tuple[float, float]:
        x = left + (width - left - 20) * math.log10(hosts) / most
        y = height - bottom - (height - bottom - 20) * (math.log10(max(value, 10**low)) - low) / max(high - low, 1)
        return round(x, 1), round(y, 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        "<title>What a step costs beyond itself, over the number of hosts</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for power in range(low, high + 1):
        _, y = at(1, 10.0**power)
        parts.append(f'<path d="M{left} {y}H{width - 20}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{10.0 ** (power + 3):g} ms</text>')
    for point in points:
        x, _ = at(point.hosts, 1)
        parts.append(f'<text x="{x}" y="{height - bottom + 20}" text-anchor="middle">{point.hosts:,}</text>')
    parts.append(f'<text x="{width / 2}" y="{height - 8}" text-anchor="middle">hosts, {STEPS} steps each</text>')
    for number, (name, move, dash, row) in enumerate(series):
        line = move + "L".join(f"{x} {y}" for x, y in (at(p.hosts, v) for p, v in zip(points, row, strict=True)))
        style = f'fill="none" stroke="#{("222", "06c", "a40")[number]}" stroke-width="2" stroke-dasharray="{dash or "none"}"'
        parts.append(f'<path d="{line}" {style}/>')
        y = 30 + 18 * number
        parts.append(f'<path d="M{width - 260} {y}h30" {style}/><text x="{width - 222}" y="{y + 4}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])


def main() -> int:
    """Prints the figures; with --write they and the plot are put beside this file."""
    said = argparse.ArgumentParser(description=__doc__)
    said.add_argument("--runs", type=int, default=3, help="counted runs of each size")
    said.add_argument("--sizes", default=",".join(map(str, SIZES)))
    said.add_argument("--write", action="store_true", help="write OVERHEAD.md and overhead.svg")
    args = said.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    about, sizes = machine(), [int(size) for size in args.sizes.split(",")]
    with tempfile.TemporaryDirectory(prefix="scale-", dir=os.environ.get("BENCH_DIR")) as scratch:
        folder = Path(scratch)
        (folder / "scale.yml").write_text(playbook(STEPS, folder).replace("cells/", "cells/{{ inventory_hostname }}-"))
        points = [measured(folder, hosts, args.runs) for hosts in sizes]
        made, counted = commits(folder, sizes[-1]), syncs(folder, sizes[-1])
    by_size = {point.hosts: point for point in points}
    last, thirty = points[-1], by_size.get(30, points[0])
    grows = last.processor / thirty.processor if thirty.processor else math.inf
    steps = last.hosts * STEPS
    told = f" and {counted:,} syncs of the disk, counted by strace" if counted is not None else "; there is no strace here"
    lines = [
        *table(points),
        "",
        f"A step of {last.hosts:,} hosts takes {grows:.2f} × the processor time of one of {thirty.hosts} (≤ {LINEAR}).",
        f"{last.hosts:,} hosts × {STEPS} steps write {2 * steps:,} entries of steps in {made:,} commits{told}.",
        f"One commit for each entry would be {2 * steps:,} commits.",
    ]
    print("\n".join([about, "", *lines]))
    if args.write:
        head = (
            "# What a step costs beyond itself\n\n"
            "`python -m benchmarks.scale --write` measures this page and draws `overhead.svg`; its docstring says how.\n\n"
        )
        (HERE / "OVERHEAD.md").write_text(
            f"{head}![The three figures over the number of hosts](overhead.svg)\n\nMachine: {about}. Medians of {args.runs} "
            "runs.\n\n" + "\n".join(lines) + "\n"
        )
        (HERE / "overhead.svg").write_text(plot(points))
    return int(grows > LINEAR or (counted is not None and counted >= 2 * steps))


if __name__ == "__main__":
    sys.exit(main())
