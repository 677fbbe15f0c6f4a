"""How far this machine has seen a chain of the record grow, written down outside of it, in several places.

In: folders, whose chain it is, how many entries it has and the hash of the last. Out: what each place remembers. Who cuts
the chain, or puts an older copy of the store back, would have to change every place too. It refuses to know what the entries
say, and what follows when a chain is not what it was.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

FILE = "ledger-seen"


@dataclass(frozen=True)
class Seen:
    """A chain as a place remembers it: how many entries it had, the hash of the last; `place` is the file."""

    count: int
    hash: str
    place: Path


def seen(folders: Sequence[Path], name: str) -> list[Seen]:
    """What each of the places remembers of the chain `name`. Raises ValueError for a file that cannot be read."""
    found = []
    for folder in dict.fromkeys(folders):
        path = folder / FILE
        try:
            known = _read(path).get(name)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{path} cannot be read: {error}") from None
        if known is not None:
            found.append(Seen(*known, path))
    return found


def remember(folders: Sequence[Path], name: str, count: int, last: str) -> None:
    """Writes down that the chain had `count` entries, `last` being the hash of the newest. A place that cannot be written is
    passed over: there is another, and who only looks need not be able to write."""
    for folder in dict.fromkeys(folders):
        path = folder / FILE
        with suppress(OSError, ValueError, TypeError, AttributeError):
            known = _read(path) if path.exists() else {}
            if known.get(name, (0, ""))[0] < count:
                beside = path.with_name(f".{FILE}.{os.getpid()}.{threading.get_ident()}")
                with beside.open("w", encoding="utf-8") as file:
                    json.dump({**known, name: (count, last)}, file, indent=1, sort_keys=True)
                    file.flush()
                    os.fsync(file.fileno())
                beside.replace(path)


def _read(path: Path) -> dict[str, tuple[int, str]]:
    """name -> (count, hash). Raises ValueError, TypeError or AttributeError for a file of another shape."""
    return {str(name): (int(count), str(last)) for name, (count, last) in json.loads(path.read_text("utf-8")).items()}
