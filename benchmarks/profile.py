"""Where the processor time of a fleet's run goes: one worker, answers at once, every function counted to its part.

Usage: python -m benchmarks.profile [HOSTS]. With one worker nobody waits for the interpreter's lock, so the shares are those
of the work itself; what many workers pay for handing the lock around comes on top, and is printed beside it.
"""

from __future__ import annotations

import cProfile
import pstats
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.__main__ import HERE, fleet_playbook, inventory

_WAITS = ("method 'recv_into'", "method 'sendall'", "select")
PARTS = {
    "HTTP client (standard library)": ("http/client", "socket.py", "email/", "ssl.py", "urllib/parse", *_WAITS),
    "HTTP: our wire and the module": ("modules/",),
    "journal: rows, hashes, JSON, SQLite": ("engine/journal", "sqlite3", "json/", "hashlib", "_hashlib"),
    "templates": ("engine/template", "jinja2", "engine/secrets"),
    "schemas of rendered parameters": ("jsonschema", "referencing", "engine/source"),
    "the step: render, compare, record": ("engine/step", "engine/site", "engine/values", "engine/canon", "dataclasses"),
    "calls, left behind if they hang": ("engine/calling", "engine/errand"),
    "walking the graph": ("engine/runner", "engine/walk", "queue", "engine/preview"),
}


def profiled(folder: Path, port: int, hosts: int, forks: int) -> tuple[Counter[str], float]:
    """Runs the fleet with every worker under a profiler; returns seconds by part, and the processor time of the process."""
    from engine import errand, runner
    from engine.cli import main

    profiles: list[cProfile.Profile] = []
    work, call = runner.Run._work, errand._Runner._run

    def watched(what: Callable[[Any], None]) -> Callable[[Any], None]:
        def run(self: Any) -> None:
            profile = cProfile.Profile(time.thread_time)
            profiles.append(profile)
            profile.runcall(what, self)

        return run

    runner.Run._work, errand._Runner._run = watched(work), watched(call)  # type: ignore[method-assign]
    (folder / "inv" / "group_vars").mkdir(parents=True, exist_ok=True)
    base = f"http://127.0.0.1:{port}/{forks}-{{{{ inventory_hostname }}}}"
    (folder / "inv" / "group_vars" / "all.yml").write_text(f'base: "{base}"\n')
    started = time.process_time()
    state, book, stock = folder / f"state{forks}", folder / "fleet.yml", folder / "inv"
    main.run(["--state", str(state), "run", str(book), "-i", str(stock), "--forks", str(forks)])
    spent = time.process_time() - started
    runner.Run._work, errand._Runner._run = work, call  # type: ignore[method-assign]
    while any(thread.name == "errand" or "(run)" in thread.name for thread in threading.enumerate()):
        time.sleep(0.05)
    found: Counter[str] = Counter()
    for profile in profiles:
        for (file, _, name), (_, _, own, _, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
            where = f"{file} {name}"
            part = next((part for part, marks in PARTS.items() if any(mark in where for mark in marks)), "everything else")
            found[part] += own
    return found, spent


def main(hosts: int) -> None:
    """Prints the table."""
    port = 28765
    server = subprocess.Popen([sys.executable, str(HERE / "server.py"), str(port), "0"])
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/count").close()
                break
            except OSError:
                time.sleep(0.05)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            (folder / "fleet.yml").write_text(fleet_playbook(8))
            inventory(folder, hosts)
            parts, spent = profiled(folder, port, hosts, 1)
    finally:
        server.terminate()
        server.wait()
    total = sum(parts.values())
    print(f"\n{hosts} hosts × 8 steps, one worker, profiled: {spent:.2f} s of processor time, {total:.2f} s in steps\n")
    print("| part | share of the steps' time |\n| --- | --- |")
    for part, own in parts.most_common():
        print(f"| {part} | {own / total:.0%} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
