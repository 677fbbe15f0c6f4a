"""The same work on many things side by side, in threads that nobody has to wait for.

Unlike an executor's, these threads are daemons: Ctrl-C while a host does not answer ends the command at once, not when the
last thread has had its answer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(work: Callable[[Item], Result], items: Iterable[Item], most: int) -> list[Result]:
    """`work` of every item, in their order, done by at most `most` threads. Raises what the first that failed has raised."""
    given = list(items)
    found: dict[int, Result] = {}
    failed: list[BaseException] = []
    left = iter(range(len(given)))

    def go_on() -> None:
        for at in left:  # one iterator for all: `next` of a range iterator is atomic
            if failed:
                return
            try:
                found[at] = work(given[at])
            except BaseException as error:  # noqa: BLE001 (it is raised by who waits for us)
                failed.append(error)

    threads = [threading.Thread(target=go_on, daemon=True) for _ in range(max(1, min(most, len(given))))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return [found[at] for at in range(len(given))]
