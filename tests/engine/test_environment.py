"""One folder: which groups and hosts its texts make, and which text gives a host its variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import environment
from engine.diagnostics import Diagnostic, render
from engine.environment import Environment


def _read(folder: Path, **texts: str) -> tuple[Environment, list[Diagnostic]]:
    """The folder's environment; `__` in a name is a slash, `hosts` is hosts.yml."""
    for name, text in texts.items():
        file = folder / (name.replace("__", "/") + ".yml")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    found: list[Diagnostic] = []
    one = Environment(folder, found)
    one.read(folder / "hosts.yml")
    one.finish()
    return one, found


def _values(one: Environment, host: str, variable: str) -> list[object]:
    """All values of a variable, strongest first."""
    (layers,) = [layers for name, _, layers in one.resolved() if name == host]
    return [layer.values[variable] for layer in reversed(layers) if variable in layer.values]


TREE = """
all:
  vars: {v: all-line}
  children:
    service:
      vars: {v: service-line}
      children:
        fraud:
          vars: {v: fraud-line}
          hosts:
            svc[1:2]:
            svc1: {v: host-line}
    eu:
      vars: {v: eu-line}
      hosts: {svc1: , svc3: }
"""


def test_the_nearest_text_wins(tmp_path: Path) -> None:
    """Host file, host line, then the deepest group first, in each group its file before its lines, `all` last."""
    one, found = _read(
        tmp_path,
        hosts=TREE,
        host_vars__svc1="v: host-file",
        group_vars__fraud="v: fraud-file",
        group_vars__service="v: service-file",
        group_vars__eu="v: eu-file",
        group_vars__all="v: all-file",
    )
    assert [] == found
    expected = ["host-file", "host-line", "fraud-file", "fraud-line", "service-file", "service-line", "eu-file", "eu-line"]
    assert [*expected, "all-file", "all-line"] == _values(one, "svc1", "v")
    assert "fraud-file" == _values(one, "svc2", "v")[0]
    assert "eu-file" == _values(one, "svc3", "v")[0]


def test_equally_deep_groups_win_by_the_alphabet(tmp_path: Path) -> None:
    """As in Ansible the later name wins, however the text orders them; depth is the longest way from `all`."""
    hosts = "all: {children: {%s: {hosts: {a: }, vars: {v: 1}}, %s: {hosts: {a: }, vars: {v: 2}}}}"
    for first, second, expected in (("x", "b", 1), ("b", "x", 2)):
        one, _ = _read(tmp_path, hosts=hosts % (first, second))
        assert expected == _values(one, "a", "v")[0]
    one, _ = _read(
        tmp_path,
        hosts="""
        all:
          children:
            z: {hosts: {a: }, vars: {v: z}}
            b: {hosts: {a: }, vars: {v: b}}
            top: {children: {b: }}
        """,
    )
    assert ["b", "z"] == _values(one, "a", "v")


def test_a_host_has_the_groups_of_its_groups(tmp_path: Path) -> None:
    """Parents count, `all` is not named, and a group keeps the order of its own text, then that of its children."""
    one, _ = _read(tmp_path, hosts=TREE + "    mixed: {hosts: {svc3: , svc2: }, children: {fraud: }}\n  hosts: {alone: }\n")
    groups = {name: groups for name, groups, _ in one.resolved()}
    assert ("eu", "fraud", "mixed", "service") == groups["svc1"]
    assert ("eu", "mixed") == groups["svc3"]
    assert ("ungrouped",) == groups["alone"]
    assert ["svc3", "svc2", "svc1"] == one.members()["mixed"]
    assert ["svc1", "svc2", "svc3", "alone"] == one.members()["all"]


def test_ungrouped_is_who_is_in_no_other_group(tmp_path: Path) -> None:
    """As in Ansible, whatever the text lists there."""
    one, _ = _read(tmp_path, hosts="all: {children: {ungrouped: {hosts: {a: , b: }}, g: {hosts: {a: }}}, hosts: {c: }}")
    assert ["b", "c"] == one.members()["ungrouped"]
    assert {"a": ("g",), "b": ("ungrouped",), "c": ("ungrouped",)} == {name: groups for name, groups, _ in one.resolved()}


def test_a_folder_of_files_gives_one_group_its_variables(tmp_path: Path) -> None:
    """Files below group_vars/NAME/ are read by name, hidden ones are not, and the later name wins."""
    (tmp_path / "group_vars" / "all" / "deep").mkdir(parents=True)
    (tmp_path / "group_vars" / "all" / ".swap.yml").write_text("v: hidden")
    (tmp_path / "group_vars" / "all" / "notes.md").write_text("v: notes")
    (tmp_path / "group_vars" / "all" / "deep" / "x.yml").write_text("v: deep")
    one, found = _read(tmp_path, hosts="all: {hosts: {a: }}", group_vars__all__1="v: first", group_vars__all__2="v: 2")
    assert [] == found
    assert ["deep", 2, "first"] == _values(one, "a", "v")


def test_many_hosts_share_what_a_text_says_once(tmp_path: Path) -> None:
    """A range of hosts has one layer tuple, not one each: memory does not grow with the variables."""
    one, _ = _read(tmp_path, hosts="all: {hosts: {'svc[001:999]': }, vars: {v: 1}}")
    assert 1 == len({id(layers) for _, _, layers in one.resolved()})


@pytest.mark.parametrize(
    ("text", "code", "shown"),
    [
        ("all:\n  host:\n    a:\n", "LG102", "2 |   host:\n  |   ^^^^"),
        ("all:\n  hosts: [a, b]\n", "LG102", "2 |   hosts: [a, b]\n  |          ^"),
        ("all:\n  hosts: '{{ x }}'\n", "LG102", "2 |   hosts: '{{ x }}'\n  |          ^^^^^^^^^"),
        ("all:\n  hosts:\n    a: '{{ x }}'\n", "LG102", "3 |     a: '{{ x }}'\n  |        ^^^^^^^^^"),
        ("all: 5\n", "LG102", "1 | all: 5\n  |      ^"),
        ("- all\n", "LG102", "1 | - all\n  | ^"),
        ("'{{ x }}'\n", "LG102", "1 | '{{ x }}'\n  | ^"),
        ("all:\n  hosts:\n    svc[01:9]:\n", "LG105", "3 |     svc[01:9]:\n  |        ^^^^^^"),
        ("all:\n  hosts:\n    'svc[9:1]':\n", "LG105", "3 |     'svc[9:1]':\n  |         ^^^^^"),
        ("all:\n  hosts:\n    svc[1:100001]:\n", "LG105", "3 |     svc[1:100001]:\n  |        ^^^^^^^^^^"),
        ("all:\n  hosts:\n    svc;reboot:\n", "LG106", "3 |     svc;reboot:\n  |        ^"),
        ("all:\n  hosts:\n    -rf[1:900]:\n", "LG106", "3 |     -rf[1:900]:\n  |     ^"),
        ("all:\n  hosts:\n    '.hidden':\n", "LG106", "3 |     '.hidden':\n  |      ^"),
        ("all:\n  hosts:\n    ../up:\n", "LG106", "3 |     ../up:\n  |       ^"),
        ("all:\n  hosts:\n    $(id):\n", "LG106", "3 |     $(id):\n  |     ^"),
        ("all:\n  hosts:\n    svcä:\n", "LG106", "3 |     svcä:\n  |        ^"),
        ("all:\n  hosts:\n    '':\n", "LG106", "3 |     '':\n  |     ^"),
        ("all:\n  children:\n    a*:\n", "LG106", "3 |     a*:\n  |      ^"),
        (
            "all:\n  children:\n    a: {children: {b: {children: {a: }}}}\n",
            "LG109",
            "{children: {a: }}}}\n  |                                   ^",
        ),
        (
            "all:\n  children:\n    a: {children: {all: }}\n",
            "LG109",
            "3 |     a: {children: {all: }}\n  |                    ^^^",
        ),
        ("all:\n  vars:\n    a-b: 1\n", "LG113", "3 |     a-b: 1\n  |     ^^^"),
        ("all:\n  vars:\n    _x: 1\n", "LG113", "3 |     _x: 1\n  |     ^^"),
        ("all:\n  hosts:\n    a: {run: 1}\n", "LG113", "3 |     a: {run: 1}\n  |         ^^^"),
        ("all:\n  vars: {ansible_group_priority: 1}\n", "LG113", "  |          ^^^^^^^^^^^^^^^^^^^^^^"),
        ("all:\n  vars: {not: 1}\n", "LG113", "  |          ^^^\n"),
        ("all:\n  hosts:\n    a:\n    a:\n", "LG009", "4 |     a:\n  |     ^"),
    ],
)
def test_a_mistake_is_shown_under_its_characters(tmp_path: Path, text: str, code: str, shown: str) -> None:
    """One mistake gives one diagnostic, with the caret under what is wrong."""
    _, found = _read(tmp_path, hosts=text)
    errors = [mistake for mistake in found if mistake.severity == "error"]
    assert [code] == [mistake.code for mistake in errors]
    assert shown in render(errors) + "\n"


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    """Reading goes on after a mistake, in the same file and in the files beside it."""
    _, found = _read(
        tmp_path,
        hosts="all: {hosts: {'a b': , 'c[2:1]': , d: }, vars: {item: 1}}",
        group_vars__all="x-y: 1\ngroups: 2",
        host_vars__d="- list",
    )
    assert ["LG102", "LG105", "LG106", "LG113", "LG113", "LG113"] == sorted(mistake.code for mistake in found)


def test_variables_for_nobody_are_a_warning(tmp_path: Path) -> None:
    """A misspelt file in group_vars/ is told with the likely spelling; other kinds of files are not looked at."""
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "README.md").write_text("x")
    _, found = _read(tmp_path, hosts=TREE, group_vars__fruad="v: 1", host_vars__svc99="v: 1")
    assert [("LG103", "warning")] * 2 == [(mistake.code, mistake.severity) for mistake in found]
    assert "did you mean `fraud`?" == found[0].hint


def test_two_places_for_one_name_are_refused(tmp_path: Path) -> None:
    """Ansible would read the folder or the file and pass over the other in silence."""
    _, found = _read(tmp_path, hosts=TREE, group_vars__eu="v: 1", group_vars__eu__more="v: 2")
    assert ["LG102"] == [mistake.code for mistake in found]
    assert "group_vars/eu and" in found[0].summary
    assert "group_vars/eu.yml" in found[0].summary


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ([], "should be a JSON object"),
        ({"g": {}}, "_meta.hostvars"),
        ({"_meta": []}, "_meta.hostvars"),
        ({"_meta": {"hostvars": {"a": 1}}}, "_meta.hostvars"),
        ({"_meta": {"hostvars": {}}, "g": 5}, "the group `g` should be an object"),
        ({"_meta": {"hostvars": {}}, "g": {"hosts": "a"}}, "`g.hosts`"),
        ({"_meta": {"hostvars": {}}, "g": {"hosts": [1]}}, "`g.hosts`"),
        ({"_meta": {"hostvars": {}}, "g": [None]}, "`g.hosts`"),
        ({"_meta": {"hostvars": {}}, "g": {"vars": []}}, "`g.vars`"),
        ({"_meta": {"hostvars": {}}, "g": {"childs": []}}, "`g.childs`"),
    ],
)
def test_an_answer_of_another_shape_is_refused(tmp_path: Path, answer: object, says: str) -> None:
    """What an executable answers is checked before any of it is used."""
    found: list[Diagnostic] = []
    one = Environment(tmp_path, found)
    one.answer(answer, "cmdb --list")
    assert ["LG108"] == [mistake.code for mistake in found]
    assert says in found[0].summary
    assert {} == one.hosts


def test_names_from_an_executable_are_checked_and_not_expanded(tmp_path: Path) -> None:
    """A range, a shell character, a reserved variable and a circle are refused there as in a text."""
    found: list[Diagnostic] = []
    one = Environment(tmp_path, found)
    answer = {
        "_meta": {"hostvars": {"ok": {"run": 1}}},
        "g": {"hosts": ["svc[1:2]", "a;b", "ok"], "children": ["k"]},
        "k": {"children": ["g"], "vars": {"a-b": 1}},
    }
    one.answer(answer, "cmdb --list")
    one.finish()
    assert ["LG106", "LG106", "LG109", "LG113", "LG113"] == sorted(mistake.code for mistake in found)
    assert {"cmdb --list:1:1"} == {str(mistake.place) for mistake in found}


def test_a_path_is_shown_as_it_was_written_or_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan made in two working copies names the same files."""
    monkeypatch.chdir(tmp_path)
    assert "inv/hosts.yml" == environment.shown(tmp_path / "inv" / "hosts.yml")
    assert "../inv" == environment.shown(Path("../inv"))
    assert "/elsewhere/inv" == environment.shown(Path("/elsewhere/inv"))
