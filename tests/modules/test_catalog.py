"""The catalogue: what it finds, what it refuses, and what its digest covers."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from modules.catalog import GROUP, OURS, Catalog, Unusable

GARDEN = Path(importlib.util.find_spec("modules").origin).parent
GOOD = '''"""Something is so."""
SCHEMA = {"type": "object", "additionalProperties": False}
def read(params, ctx): return {"met": True}
def desired(params): return {"met": True}
'''


def _put(folder: Path, name: str, text: str = GOOD) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_list_of_ours_is_what_lies_in_the_folder() -> None:
    """Every module file of the garden is in the literal list, and the list names nothing else."""
    files = {
        ".".join(path.relative_to(GARDEN).with_suffix("").parts)
        for path in GARDEN.rglob("*.py")
        if not any(part.startswith("_") for part in path.relative_to(GARDEN).parts)
    } - {"catalog", "contract"}
    assert sorted(files) == list(OURS)


def test_a_file_beside_the_playbook_is_found_by_its_path(tmp_path: Path) -> None:
    """`modules/traffic/share.py` is `traffic.share`; files and folders with a leading underscore are no modules."""
    _put(tmp_path, "traffic/share.py")
    _put(tmp_path, "traffic/_client.py", "")
    _put(tmp_path, "_old/share.py")
    catalog = Catalog(tmp_path)
    assert {*OURS, "traffic.share"} == set(catalog.names())
    entry = catalog.get("traffic.share")
    assert entry is not None
    assert ("traffic.share", "beside the playbook", "Something is so.") == (entry.name, entry.origin, entry.title)


def test_an_unknown_name_is_none(tmp_path: Path) -> None:
    """A name that nobody has is None, with and without a folder."""
    assert Catalog().get("traffic.share") is None
    assert Catalog(tmp_path / "absent").get("../file") is None


def test_a_name_of_ours_cannot_be_taken(tmp_path: Path) -> None:
    """A file beside the playbook that is called like a module of ours is refused, not preferred and not ignored."""
    _put(tmp_path, "file.py")
    with pytest.raises(Unusable, match="own names"):
        Catalog(tmp_path).get("file")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def read(:", "cannot be loaded: SyntaxError"),
        ("raise RuntimeError('no licence')", "cannot be loaded: RuntimeError: no licence"),
        (GOOD.replace("def read", "def reed"), "has no `read`"),
        (GOOD.replace("def desired", "def wanted"), "has no `desired`"),
        (GOOD.replace("SCHEMA", "Schema"), "has no `SCHEMA`"),
        (GOOD.replace("False", "True"), "has an open SCHEMA"),
    ],
)
def test_what_is_no_module_is_refused_with_the_reason(text: str, reason: str, tmp_path: Path) -> None:
    """A file that cannot be loaded, or lacks a part of the contract, is refused in one sentence that names it."""
    _put(tmp_path, "odd.py", text)
    with pytest.raises(Unusable, match="module `odd` ") as caught:
        Catalog(tmp_path).get("odd")
    assert caught.value.reason.startswith(reason)


def test_the_digest_covers_the_file_and_its_client(tmp_path: Path) -> None:
    """One changed byte in the module or in the `_client.py` beside it is another digest."""
    module, client = _put(tmp_path, "a/b.py"), _put(tmp_path, "a/_client.py", "x = 1\n")

    def digest() -> str:
        entry = Catalog(tmp_path).get("a.b")
        assert entry is not None
        return entry.digest

    first = digest()
    assert first == digest()
    module.write_text(GOOD + "\n")
    second = digest()
    client.write_text("x = 2\n")
    assert 3 == len({first, second, digest()})


def test_a_package_brings_modules_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package's entry point in our group is a module, and says which package it is from."""
    _put(tmp_path, "acme_lastgood.py")
    about = _put(tmp_path, "acme-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n").parent
    _put(about, "entry_points.txt", f"[{GROUP}]\nacme.route = acme_lastgood\n")
    monkeypatch.syspath_prepend(tmp_path)
    entry = Catalog().get("acme.route")
    monkeypatch.delitem(sys.modules, "acme_lastgood")
    assert entry is not None
    assert ("package acme", "Something is so.") == (entry.origin, entry.title)


def test_what_can_be_undone_depends_on_the_params_only_where_the_module_says_so(tmp_path: Path) -> None:
    """Without undo nothing can be undone, with it everything, with can_undo what it says; crash class B is the default."""
    undo = "def undo(params, change, ctx): pass\n"
    _put(tmp_path, "never.py")
    _put(tmp_path, "always.py", GOOD + undo)
    _put(
        tmp_path,
        "some.py",
        GOOD + undo + "def can_undo(params): return 'by' in params\ndef crash_class(params): return 'D'\n",
    )
    never, always, some = (Catalog(tmp_path).get(name) for name in ("never", "always", "some"))
    assert never and always and some  # noqa: PT018
    assert [False, True, False, True] == [
        never.can_undo({}),
        always.can_undo({}),
        some.can_undo({}),
        some.can_undo({"by": 1}),
    ]
    assert ["B", "D"] == [never.crash_class({}), some.crash_class({})]
