"""site: parameters are checked again when they are rendered, as they were when they were read."""

from __future__ import annotations

from pathlib import Path

import pytest
from stage import Stage

NEVER = {"path": "never", "content": "x"}


@pytest.mark.parametrize(
    ("module", "params", "value", "says"),
    [
        ("wait", {"for": "{{ data }}"}, "soon", "`for` after rendering"),
        ("wait", {"until_url": "{{ data }}"}, "ftp://127.0.0.1/x", "is not an address that can be called"),
        ("directory.current", {"path": "models", "version": "{{ data }}"}, "latest", "does not name one version"),
        ("directory.current", {"path": "models", "version": "{{ data }}"}, "../v1", "does not name one version"),
        ("file", {"path": "{{ data }}", "content": "x"}, "~/x", "is not a path"),
        ("file", {"path": "x", "content": "{{ data }}"}, 7, "`content` after rendering"),
    ],
)  # fmt: skip
def test_what_a_template_gives_is_checked_like_what_is_written(
    tmp_path: Path, module: str, params: dict[str, str], value: object, says: str
) -> None:
    """A duration, an address, a version or a path that comes from a variable is refused where a written one would be."""
    steps = [{"name": "a", module: params}, {"name": "b", "file": NEVER}]
    strategy = "version" if module == "directory.current" else "configuration"
    stage = Stage(tmp_path, {"strategy": strategy, "execution": steps}, host_vars={"a": {"data": value}})
    said = stage.run()
    assert said.exit in (1, 3)
    assert says in said.text
    assert not (tmp_path / "playbooks/never").exists()


def test_data_that_looks_like_a_template_is_checked_too(tmp_path: Path) -> None:
    """What came from outside is no template, so nothing waits for its rendering: it is checked as it is."""
    stage = Stage(tmp_path, {"execution": [{"name": "a", "wait": {"for": "{{ data }}"}}, {"name": "b", "file": NEVER}]})
    said = stage.run("-e", "data={{ 1 }}s")
    assert 1 == said.exit
    assert "`for` after rendering" in said.text
    assert not (tmp_path / "playbooks/never").exists()
