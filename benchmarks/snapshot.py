"""How fast evidence is sealed: one large file copied and hashed into a bundle, beside `sha512sum`, then `cp`, then `sync`.

`python -m benchmarks.snapshot [--size MiB] [--folder DIR] [--runs N]`. Both are measured in turn on the same disk; what
counts is the ratio. The engine hashes twice in its one pass (sha512 for the manifest, sha256 for the custody log) and ends
durable; the limit is once each of what people would type. Memory is the peak of a process of its own.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MARGIN = 1 << 30
PASS = """
import sys
from pathlib import Path
from engine import bag
with bag.Bag(Path(sys.argv[2])) as made:
    made.copy("evidence/model.bin", Path(sys.argv[1]))
    made.close({"Bagging-Date": "2026-01-01"})
"""


def filled(path: Path, size: int) -> None:
    """A file that no disk can leave out: random in every MiB, durable."""
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for number in range(size >> 20):
            file.write(number.to_bytes(8, "big") + block[8:])
        os.fsync(file.fileno())


def limit(source: Path, target: Path) -> float:
    """Seconds of what a person would type: a digest, a copy, and the copy made durable."""
    started = time.perf_counter()
    for argv in (["sha512sum", str(source)], ["cp", str(source), str(target)], ["sync", str(target)]):
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def ours(source: Path, target: Path) -> tuple[float, float]:
    """Seconds of our pass, and its peak memory in MiB."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", PASS, str(source), str(target)])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("the pass failed")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def measured(folder: Path, size: int, runs: int) -> tuple[float, float, float]:
    """(limit's seconds, ours, peak MiB): medians over `runs`, one uncounted run first."""
    source, copy, made = folder / "model.bin", folder / "copy", folder / "bundle"
    filled(source, size)
    limits, times, peaks = [], [], []
    for run in range(runs + 1):
        one = limit(source, copy)
        copy.unlink()
        two, peak = ours(source, made)
        shutil.rmtree(made)
        if run:
            limits.append(one)
            times.append(two)
            peaks.append(peak)
    return statistics.median(limits), statistics.median(times), max(peaks)


def main() -> int:
    """Prints the figure; 1 when it is under 60 % of the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=10 << 10, help="MiB of the snapshot (10240)")
    parser.add_argument("--folder", type=Path, default=None, help="on which disk (the system's folder for temporary files)")
    parser.add_argument("--runs", type=int, default=1)
    said = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=said.folder) as folder:
        room = (shutil.disk_usage(folder).free - MARGIN) // 3
        size = min(said.size << 20, max(room >> 20, 64) << 20)
        if size < said.size << 20:
            print(f"the disk is short: {size >> 20} MiB instead of {said.size}")
        one, two, peak = measured(Path(folder), size, said.runs)
    print(
        f"{size >> 20} MiB: ours {two:.1f} s ({size / two / 1e6:.0f} MB/s), sha512sum and cp and sync {one:.1f} s: "
        f"{one / two:.0%} of the limit's speed, {peak:.0f} MiB of memory"
    )
    return one / two < 0.6


if __name__ == "__main__":
    raise SystemExit(main())
