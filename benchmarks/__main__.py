"""`make bench`: every figure beside a limit that is measured in the same run, printed as a ratio.

Each pair is measured in turn (limit, ours, limit, ours, ...) after one run that does not count, and the median of the
ratios is what is reported: these machines drift, and a ratio drifts less than a time.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import platform
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

HERE = Path(__file__).parent
ENGINE = [sys.executable, "-m", "engine.cli"]


def timed(argv: list[str], cwd: Path, expect: int = 0) -> tuple[float, float]:
    """Runs a command; returns (seconds, peak resident memory of the process in MiB)."""
    started = time.perf_counter()
    with (cwd / "out.txt").open("w") as out:
        process = subprocess.Popen(argv, cwd=cwd, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status) != expect:
        raise SystemExit(
            f"{' '.join(argv)} ended with {os.waitstatus_to_exitcode(status)}:\n{(cwd / 'out.txt').read_text()[-2000:]}"
        )
    return took, usage.ru_maxrss / 1024


def pairs(limit: Callable[[int], float], ours: Callable[[int], float], runs: int) -> tuple[list[float], list[float]]:
    """Both in turn, one uncounted run first."""
    limits, times = [], []
    for run in range(runs + 1):
        one, two = limit(run), ours(run)
        if run:
            limits.append(one)
            times.append(two)
    return limits, times


class Row:
    """The figures of the table, as they come."""

    rows: ClassVar[list[str]] = []
    worst = False

    @classmethod
    def add(cls, what: str, ours: str, limit: str, result: str, reach: str, met: bool) -> None:
        cls.rows.append(f"| {what} | {ours} | {limit} | **{result}** | {reach} | {'yes' if met else 'NO'} |")
        cls.worst |= not met
        print(cls.rows[-1], flush=True)


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def startup(folder: Path, runs: int) -> None:
    (folder / "twenty.yml").write_text(playbook(20, folder))
    bare = [sys.executable, "-c", "pass"]
    for what, argv, most in (
        ("`engine --help`", [*ENGINE, "--help"], 0.130),
        ("`engine validate`, 20 steps", [*ENGINE, "validate", "twenty.yml"], 0.250),
    ):
        limits, times = pairs(lambda _: timed(bare, folder)[0], lambda _, argv=argv: timed(argv, folder)[0], runs * 3)
        over = statistics.median(b - a for a, b in zip(limits, times, strict=True))
        Row.add(
            what,
            ms(statistics.median(times)),
            f"bare Python {ms(statistics.median(limits))}",
            f"+{ms(over)}",
            f"≤ +{ms(most)}",
            over <= most,
        )


def playbook(steps: int, folder: Path, module: str = "bench.cell") -> str:
    """A chain of steps that each change one thing. The module keeps its state in a file, without syncing it."""
    (folder / "modules" / "bench").mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "cell.py", folder / "modules" / "bench" / "cell.py")
    head = "name: A chain\nstrategy: configuration\nhosts: all\nexecution:\n"
    return head + "".join(f"  - name: Step {n}\n    {module}: {{path: 'cells/{n}', value: '1'}}\n" for n in range(steps))


def fleet_playbook(steps: int) -> str:
    """A chain of HTTP steps on every host."""
    head = "name: A fleet\nstrategy: configuration\nhosts: all\nexecution:\n"
    step = '  - name: Step {n}\n    http.resource: {{url: "{{{{ base }}}}/{n}", method: PUT, fields: {{version: "1"}}}}\n'
    return head + "".join(step.format(n=n) for n in range(steps))


def inventory(folder: Path, hosts: int) -> None:
    (folder / "inv").mkdir(exist_ok=True)
    (folder / "inv" / "hosts.yml").write_text(
        f"all:\n  hosts:\n    host[0:{hosts - 1}]: {{}}\n" if hosts > 1 else "all:\n  hosts:\n    host0: {}\n"
    )


def chain(folder: Path, runs: int, steps: int = 1000) -> None:
    (folder / "chain.yml").write_text(playbook(steps, folder))
    inventory(folder, 1)

    def limit(run: int) -> float:
        path = folder / f"limit{run}.db"
        code = (
            "import sqlite3,sys;db=sqlite3.connect(sys.argv[1],isolation_level=None);db.execute('PRAGMA synchronous=EXTRA');"
            "db.execute('CREATE TABLE e(a INTEGER PRIMARY KEY,b)')\n"
            f"for n in range({2 * steps}):\n"
            " db.execute('BEGIN IMMEDIATE');db.execute('INSERT INTO e(b) VALUES(?)',('x'*400,));db.execute('COMMIT')"
        )
        return timed([sys.executable, "-c", code, str(path)], folder)[0]

    def ours(run: int) -> float:
        shutil.rmtree(folder / "cells", ignore_errors=True)
        (folder / "cells").mkdir()
        took = timed([*ENGINE, "--state", f"state{run}", "run", "chain.yml", "-i", "inv"], folder)[0]
        if len(list((folder / "cells").iterdir())) != steps:
            raise SystemExit("not every step made its change")
        return took

    limits, times = pairs(limit, ours, runs)
    ratio = statistics.median(b / a for a, b in zip(limits, times, strict=True))
    Row.add(
        f"{steps:,} changing steps in a chain",
        f"{statistics.median(times):.2f} s",
        f"two fsynced rows a step {statistics.median(limits):.2f} s",
        f"{ratio:.2f} ×",
        "≤ 2.5 ×",
        ratio <= 2.5,
    )


def fleet(folder: Path, runs: int, hosts: int, steps: int = 8, delay: float = 0.05) -> None:
    port = 20000 + os.getpid() % 20000 + hosts % 997
    server = subprocess.Popen([sys.executable, str(HERE / "server.py"), str(port), str(delay)])
    try:
        count = f"http://127.0.0.1:{port}/count"
        for _ in range(200):
            try:
                urllib.request.urlopen(count).close()
                break
            except OSError:
                time.sleep(0.05)
        (folder / "fleet.yml").write_text(fleet_playbook(steps))
        inventory(folder, hosts)
        memory: list[float] = []

        def asked() -> int:
            with urllib.request.urlopen(count) as reply:
                return sum(json.load(reply).values())

        def limit(run: int) -> float:
            before = asked()
            took = timed(
                [sys.executable, str(HERE / "script.py"), str(port), str(hosts), str(steps), f"limit{run}-"], folder
            )[0]
            if asked() - before != 3 * hosts * steps:
                raise SystemExit("the script did not make three requests a step")
            return took

        def ours(run: int) -> float:
            (folder / "inv" / "group_vars").mkdir(exist_ok=True)
            (folder / "inv" / "group_vars" / "all.yml").write_text(
                f'base: "http://127.0.0.1:{port}/ours{run}-{{{{ inventory_hostname }}}}"\n'
            )
            before = asked()
            took, peak = timed([*ENGINE, "--state", f"fleet{hosts}-{run}", "run", "fleet.yml", "-i", "inv"], folder)
            if asked() - before != 3 * hosts * steps:
                raise SystemExit(f"the engine made {asked() - before} requests, not {3 * hosts * steps}")
            memory.append(peak)
            return took

        limits, times = pairs(limit, ours, runs)
    finally:
        server.terminate()
        server.wait()
    ratio = statistics.median(b / a for a, b in zip(limits, times, strict=True))
    what = f"{hosts:,} hosts × {steps} HTTP steps, answers after {ms(delay)}"
    Row.add(
        what,
        f"{statistics.median(times):.2f} s",
        f"asynchronous script {statistics.median(limits):.2f} s",
        f"{ratio:.2f} ×",
        "≤ 2 ×",
        ratio <= 2,
    )
    if hosts >= 1000:
        Row.add(
            "  its resident memory", f"{max(memory):.0f} MiB", "–", f"{max(memory):.0f} MiB", "≤ 250 MiB", max(memory) <= 250
        )


def shared(folder: Path, runs: int, steps: int = 300) -> None:
    """What a record on PostgreSQL adds to a step, and how many syncs of its log a fleet costs."""
    from benchmarks import shared as database

    (folder / "chain.yml").write_text(playbook(steps, folder))
    inventory(folder, 1)

    def run(state: str) -> float:
        shutil.rmtree(folder / "cells", ignore_errors=True)
        (folder / "cells").mkdir()
        return timed([*ENGINE, "--state", state, "run", "chain.yml", "-i", "inv"], folder)[0]

    here, there, ratio, added = database.each_step(run, runs, steps)
    Row.add(
        f"a record on PostgreSQL, {steps} changing steps in a chain",
        f"{there:.2f} s",
        f"the same in a folder {here:.2f} s",
        f"{ratio:.2f} ×, {added * 1000:+.2f} ms a step",
        "≤ +3 ms a step",
        added <= 0.003,
    )
    hosts, each = 1000, 8
    text = playbook(each, folder).replace("cells/", "cells/{{ inventory_hostname }}-")
    (folder / "chain.yml").write_text(text)
    inventory(folder, hosts)
    synced, entries = database.syncs(run)
    most = hosts * each * 2
    Row.add(
        f"its syncs for {hosts:,} hosts × {each} steps ({entries:,} entries)",
        f"{synced:,}",
        f"two a step {most:,}",
        f"{synced / most:.2f} ×",
        "≤ 0.5 ×",
        synced <= most / 2,
    )


def compiling(folder: Path, runs: int) -> None:
    code = (
        "import sys,time;from pathlib import Path;from engine.cli import opening;t=time.perf_counter();"
        "o=opening.opened(Path(sys.argv[1]),['inv']);o.plan.digest;print(time.perf_counter()-t)"
    )
    inventory(folder, 1)
    took: dict[int, float] = {}
    for steps in (1000, 10000):
        (folder / f"p{steps}.yml").write_text(playbook(steps, folder))
        found = []
        for _ in range(runs):
            out = subprocess.run(
                [sys.executable, "-c", code, f"p{steps}.yml"], cwd=folder, capture_output=True, text=True, check=True
            )
            found.append(float(out.stdout))
        took[steps] = statistics.median(found)
    ratio = took[10000] / took[1000]
    Row.add(
        "validate and compile 10,000 steps, digest included",
        f"{took[10000]:.2f} s",
        f"1,000 steps {took[1000]:.2f} s",
        f"{took[10000]:.2f} s, {ratio:.1f} ×",
        "≤ 4 s, ≤ 12 ×",
        took[10000] <= 4 and ratio <= 12,
    )


def resuming(folder: Path, runs: int, entries: int = 100_000) -> None:
    """A run of 1,000 hosts × 50 steps that was cut off one step before its end; timed until the first step acts."""
    hosts, steps = 1000, entries // 2000
    (folder / "long.yml").write_text(playbook(steps, folder))
    inventory(folder, hosts)
    text = (folder / "long.yml").read_text().replace("cells/", "cells/{{ inventory_hostname }}-")
    (folder / "long.yml").write_text(text)
    shutil.rmtree(folder / "cells", ignore_errors=True)
    (folder / "cells").mkdir()
    subprocess.run(
        [sys.executable, str(HERE / "long_run.py"), "long.yml", "inv", "long", str(hosts)], cwd=folder, check=True
    )
    found = []
    for run in range(runs):
        state = folder / f"long{run}"
        shutil.rmtree(state, ignore_errors=True)
        shutil.copytree(folder / "long", state)
        for cell in (folder / "cells").iterdir():
            cell.unlink()
        started = time.time()
        timed([*ENGINE, "--state", state.name, "resume", "-y"], folder)
        found.append(min(cell.stat().st_mtime for cell in (folder / "cells").iterdir()) - started)
    with sqlite3.connect(folder / "long" / "journal.db") as db:
        [(count,)] = db.execute("SELECT COUNT(*) FROM entries").fetchall()
    took = statistics.median(found)
    Row.add(
        f"resume of a run with {count:,} entries, until the first step acts",
        f"{took:.2f} s",
        "–",
        f"{took:.2f} s",
        "≤ 2 s",
        took <= 2,
    )


def machine() -> str:
    with Path("/proc/cpuinfo").open() as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), platform.machine())
    load = os.getloadavg()
    return (
        f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}; load {load[0]:.1f} when it began"
    )


def main() -> int:
    said = argparse.ArgumentParser(description=__doc__)
    said.add_argument("--runs", type=int, default=3, help="counted runs of each figure")
    said.add_argument("--only", default="", help="start, chain, fleet100, fleet1000, shared, compile or resume")
    said.add_argument("--write", action="store_true", help="write RESULTS.md")
    args = said.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    figures: dict[str, Callable[[Path, int], None]] = {
        "start": startup, "chain": chain,
        "fleet100": lambda f, n: fleet(f, n, 100), "fleet1000": lambda f, n: fleet(f, n, 1000),
        "shared": shared, "compile": compiling, "resume": resuming,
    }  # fmt: skip
    # pip compiles what it installs; an editable install would be compiled anew at every start where writing it is turned off
    for folder in ("engine", "modules", "schemas"):
        compileall.compile_dir(HERE.parent / folder, quiet=1)
    about = machine()
    print(about)
    print("| what | ours | limit beside it | result | to reach | met |\n| --- | --- | --- | --- | --- | --- |")
    for name, figure in figures.items():
        if args.only in ("", name):
            with tempfile.TemporaryDirectory(prefix="bench-", dir=os.environ.get("BENCH_DIR")) as scratch:
                figure(Path(scratch), args.runs)
    if args.write:
        text = (HERE / "RESULTS.head.md").read_text() + f"\nMachine: {about}. Medians of {args.runs} pairs.\n\n"
        text += (
            "| what | ours | limit beside it | result | to reach | met |\n| --- | --- | --- | --- | --- | --- |\n"
            + "\n".join(Row.rows)
            + "\n"
        )
        (HERE / "RESULTS.md").write_text(text)
    return Row.worst


if __name__ == "__main__":
    sys.exit(main())
