"""Files and captures where a world and a case do not reach: races, limits, and what is kept beside a capture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from world import MARK, MARKED, Served, World

from modules import file
from modules.contract import Change, ModuleError, diff
from modules.http import capture


def test_a_file_that_changed_since_it_was_read_is_not_overwritten(tmp_path: Path) -> None:
    """Between reading and writing somebody else wrote: nothing is lost, the step fails and says why."""
    there = World(tmp_path, params={"path": "a.yml", "content": "new"})
    (there.base / "a.yml").write_text("old")
    change = diff(file.read(there.params, there.context()), file.desired(there.params))
    (there.base / "a.yml").write_text("somebody else's")
    with pytest.raises(ModuleError, match="has changed since it was read"):
        file.apply(there.params, change, there.context())
    assert "somebody else's" == (there.base / "a.yml").read_text()


def test_an_answer_past_the_limit_is_not_kept(tmp_path: Path) -> None:
    """A capture that is larger than its limit fails and leaves nothing among the evidence."""
    with Served(lambda request: (200, b"x" * 2048)) as server:
        there = World(tmp_path, params={"url": server.url, "as": "a.bin", "limit": "1KiB"})
        with pytest.raises(ModuleError, match="more than 1024 bytes"):
            capture.apply(there.params, Change({"stored": False}, {"stored": True}), there.context())
        there.wire.close()
    assert not list(there.evidence.iterdir())


def test_what_lies_beside_a_capture_says_where_it_came_from(tmp_path: Path) -> None:
    """The description holds the address with its query, the time in UTC, status, size and digest, and no secret."""
    with Served(lambda request: (200, b"abc")) as server:
        there = World(
            tmp_path, params={"url": f"{server.url}/a?n=5", "as": "a.txt", "headers": {"x": MARKED}}, now=lambda: 0.0
        )
        capture.apply(there.params, Change({"stored": False}, {"stored": True}), there.context())
        there.wire.close()
        text = (there.evidence / "a.txt.about.json").read_text()
        about = json.loads(text)
    assert (f"{server.url}/a?n=5", "1970-01-01T00:00:00.000+00:00", 200, 3) == tuple(
        about[key] for key in ("url", "captured", "status", "size")
    )
    assert MARK not in text
