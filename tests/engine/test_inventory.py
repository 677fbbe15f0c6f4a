"""The whole inventory: several folders, executables, origins, and the pages of its diagnostics."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import pytest

from engine import inventory, source
from engine.diagnostics import Diagnostic, EngineError, Exit, Place, render

ROOT = Path(__file__).parents[2]
PAGES = source.load(ROOT / "schemas" / "diagnostics.d" / "inventory.yml").data


def _write(folder: Path, texts: dict[str, str]) -> list[Path]:
    """Writes the files; what is to be given with -i: the folders among them, and the files that start with #!."""
    for name, text in texts.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        if text.startswith("#!"):
            file.chmod(0o755)
    return sorted({folder / name.split("/")[0] for name, text in texts.items() if "/" in name or text.startswith("#!")})


def _script(folder: Path, answer: object, name: str = "cmdb.sh") -> Path:
    _write(folder, {name: f"#!/bin/sh\ntest \"$*\" = --list || exit 9\ncat <<'END'\n{json.dumps(answer)}\nEND\n"})
    return folder / name


def _roster(name: str = "ada") -> str:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFsNrETva5eg+IK2+CFbc8eW35AdeQkY6Exk8kMdthdg"
    return f"people: [{{name: {name}, roles: [ml-oncall], keys: [{key}]}}]\n"


def _refused(*paths: str | Path) -> tuple[Diagnostic, ...]:
    with pytest.raises(EngineError) as caught:
        inventory.load(paths)
    assert Exit.INVALID == caught.value.exit
    return caught.value.diagnostics


def _outcome(texts: dict[str, str], folder: Path) -> set[str]:
    """The codes of the errors that the example gives."""
    try:
        loaded = inventory.load(_write(folder, texts))
        if "playbook.yml" in texts:
            document = source.parse(texts["playbook.yml"], "playbook.yml")
            inventory.select(loaded, document.data["hosts"], document.place(("hosts",)))
    except EngineError as error:
        return {d.code for d in error.diagnostics}
    return set()


@pytest.mark.parametrize("code", [f"LG{number}" for number in range(101, 114)])
def test_the_page_of_a_diagnostic_shows_what_it_says(code: str, tmp_path: Path) -> None:
    """The bad example gives exactly this code, the good one gives none, and the reason is in full sentences."""
    page = PAGES[code]
    assert {"title", "exit", "why", "bad", "good"} == set(page)
    assert 3 == page["exit"]
    assert len(re.findall(r"\.\s", page["why"])) >= 3
    assert {code} == _outcome(page["bad"], tmp_path / "bad")
    assert set() == _outcome(page["good"], tmp_path / "good")


def test_every_code_in_the_rooms_has_a_page() -> None:
    """A code without a page, or a page without a code, is found."""
    rooms = "".join(
        (ROOT / "engine" / f"{room}.py").read_text() for room in ("inventory", "environment", "freeze", "pattern", "roster")
    )
    assert sorted(PAGES) == sorted({f"LG1{part[:2]}" for part in rooms.split('"LG1')[1:] if part[:2].isdigit()})


def test_the_shipped_example_loads_without_a_warning() -> None:
    """Its five services, two people and two destinations are there, and every file of it was read."""
    loaded = inventory.load([ROOT / "inventories" / "example"])
    assert ("fraud-eu-01", "fraud-eu-02", "fraud-eu-03", "fraud-us-01", "fraud-us-02") == loaded.groups["fraud"]
    assert ["ada", "grace"] == [person["name"] for person in loaded.roster.data["people"]]
    assert {"incident-channel", "on-call"} == set(loaded.destinations)
    assert () == loaded.warnings
    folder = ROOT / "inventories" / "example"
    assert {str(file.relative_to(folder)) for file in folder.rglob("*.yml")} == {
        str(Path(name).absolute().relative_to(folder)) for name in loaded.files
    }
    assert all(len(digest) == 64 for digest in loaded.files.values())


def test_each_value_knows_its_origin_and_what_it_beat(tmp_path: Path) -> None:
    """`origin` is the winner's place; `explain` lists all values, the strongest first."""
    (folder,) = _write(
        tmp_path,
        {
            "prod/hosts.yml": "all:\n  vars: {v: 1}\n  children:\n    fraud:\n      hosts:\n        svc[1:2]: {v: 3}\n",
            "prod/group_vars/fraud.yml": "# first\nv: 2\nw: true\n",
        },
    )
    loaded = inventory.load([folder])
    host = loaded.hosts["svc1"]
    assert {"v": 3, "w": True} == host.vars
    assert Place(f"{folder}/hosts.yml", 6, 20, 1, "        svc[1:2]: {v: 3}") == host.origin["v"]
    assert f"{folder}/group_vars/fraud.yml:3:1" == str(host.origin["w"])
    assert [
        (3, f"{folder}/hosts.yml:6:20 (host svc[1:2])"),
        (2, f"{folder}/group_vars/fraud.yml:2:1 (group fraud)"),
        (1, f"{folder}/hosts.yml:2:10 (group all)"),
    ] == loaded.explain("svc1", "v")
    assert [] == loaded.explain("svc1", "nothing")
    with pytest.raises(EngineError, match="LG103"):
        loaded.explain("svc9", "v")


def test_selected_hosts_come_in_inventory_order_and_as_plain_rows(tmp_path: Path) -> None:
    """The plan gets only the chosen hosts, as JSON that a second loading gives again."""
    (folder,) = _write(
        tmp_path, {"p/hosts.yml": "all: {children: {b: {hosts: {z: , y: {v: [1]}}}, a: {hosts: {y: , x: }}}}"}
    )
    loaded = inventory.load([folder])
    chosen = [host.name for host in inventory.select(loaded, "a:z")]
    assert ["z", "y", "x"] == chosen
    rows = inventory.rows(loaded, chosen[:2])
    assert {
        "z": {"groups": ["b"], "vars": {}, "outside": []},
        "y": {"groups": ["a", "b"], "vars": {"v": [1]}, "outside": []},
    } == rows
    assert json.dumps(rows) == json.dumps(inventory.rows(inventory.load([folder]), chosen[:2]))


@pytest.mark.parametrize("name", ["hosts.yml", "hosts.yaml", "inventory.yml", "inventory.yaml"])
def test_a_folder_and_its_file_are_the_same_inventory(name: str, tmp_path: Path) -> None:
    """Either way the neighbours are read, and giving both reads the file once."""
    _write(tmp_path, {f"p/{name}": "all: {hosts: {a: {w: 1}}}", "p/group_vars/all.yml": "v: 1", "p/roster.yml": _roster()})
    for paths in ([tmp_path / "p"], [tmp_path / "p" / name], [tmp_path / "p", tmp_path / "p" / name]):
        loaded = inventory.load(paths)
        assert {"v": 1, "w": 1} == loaded.hosts["a"].vars
        assert loaded.roster is not None
        assert [1, 1] == [len(loaded.explain("a", variable)) for variable in "vw"]


def test_of_two_files_of_one_folder_the_later_wins(tmp_path: Path) -> None:
    """Several -i of the same folder are one environment, merged in their order."""
    _write(tmp_path, {"p/hosts.yml": "all: {hosts: {a: {v: 1, w: 1}}}", "p/more.yml": "g: {hosts: {a: {v: 2}, b: }}"})
    loaded = inventory.load([tmp_path / "p", tmp_path / "p" / "more.yml"])
    assert {"v": 2, "w": 1} == loaded.hosts["a"].vars
    assert ("g",) == loaded.hosts["a"].groups
    assert ["a", "b"] == list(loaded.hosts)
    assert {"v": 1, "w": 1} == inventory.load([tmp_path / "p" / "more.yml", tmp_path / "p"]).hosts["a"].vars


def test_environments_with_other_hosts_do_not_mix(tmp_path: Path) -> None:
    """Production and staging may be given together; a group of both names has its variables in each folder alone."""
    paths = _write(
        tmp_path,
        {
            "production/hosts.yml": "all: {children: {fraud: {hosts: {p1: }}}}",
            "production/group_vars/all.yml": "env: production",
            "production/destinations.yml": "ops: file:p\nboth: file:p",
            "staging/hosts.yml": "all: {children: {eu: {children: {fraud: }}, fraud: {hosts: {s1: }}}}",
            "staging/group_vars/all.yml": "env: staging",
            "staging/destinations.yml": "both: file:s",
        },
    )
    loaded = inventory.load(paths)
    assert {"env": "production"} == loaded.hosts["p1"].vars
    assert {"env": "staging"} == loaded.hosts["s1"].vars
    assert ("fraud",) == loaded.hosts["p1"].groups
    assert ("p1", "s1") == loaded.groups["fraud"]
    assert ("s1",) == loaded.groups["eu"]
    assert {"ops": "file:p", "both": "file:s"} == loaded.destinations


def test_hosts_of_two_environments_are_one_diagnostic(tmp_path: Path) -> None:
    """A thousand hosts in both do not bury the reason; the place is in the second folder, the first is named."""
    texts = {"p/hosts.yml": "all: {hosts: {'svc[1:1000]': }}", "s/hosts.yml": "all:\n  hosts:\n    svc[1:1000]:\n"}
    (mistake,) = _refused(*_write(tmp_path, texts))
    assert "LG112" == mistake.code
    assert f"{tmp_path}/s/hosts.yml:3:5" == str(mistake.place)
    assert f"{tmp_path}/p/hosts.yml:1:15" in mistake.detail
    assert "999 more" in mistake.detail


def test_an_executable_elsewhere_adds_but_does_not_contradict(tmp_path: Path) -> None:
    """Its groups and variables join those of the folder; another value for the same variable is refused."""
    _write(tmp_path, {"p/hosts.yml": "all: {hosts: {a: {v: 1}}}"})
    adding = _script(tmp_path / "x", {"_meta": {"hostvars": {"a": {"w": "{{ 1 }}", "v": 1}}}, "seen": ["a"]})
    loaded = inventory.load([tmp_path / "p", adding])
    assert {"v": 1, "w": "{{ 1 }}"} == loaded.hosts["a"].vars
    assert ("seen", "ungrouped") == loaded.hosts["a"].groups
    contrary = _script(tmp_path / "y", {"_meta": {"hostvars": {"a": {"v": 2}}}, "seen": ["a"]})
    (mistake,) = _refused(tmp_path / "p", contrary)
    assert "LG112" == mistake.code
    assert "`v` has one value" in mistake.detail


def test_what_an_executable_answers_is_data(tmp_path: Path) -> None:
    """The winning value decides: from outside it is marked, and a text beside it that wins takes the mark away."""
    answer = {
        "_meta": {"hostvars": {"a": {"v": "{{ secret('env:X') }}", "w": 1}, "unlisted": {}}},
        "g": {"hosts": ["a"], "vars": {"x": 1}, "children": ["k"]},
        "k": {"hosts": ["b"]},
        "all": {"children": ["g", "ungrouped"]},
        "ungrouped": {},
    }
    script = _script(tmp_path / "p", answer)
    _write(tmp_path, {"p/host_vars/a.yml": "w: 2", "p/group_vars/k.yml": "x: 3"})
    loaded = inventory.load([script])
    assert {"v": "{{ secret('env:X') }}", "w": 2, "x": 1} == loaded.hosts["a"].vars
    assert frozenset({"v", "x"}) == loaded.hosts["a"].outside
    assert frozenset() == loaded.hosts["b"].outside
    assert f"{script} --list" == loaded.hosts["a"].origin["v"]
    assert ("a", "b") == loaded.groups["g"]
    assert ["v", "x"] == inventory.rows(loaded, ["a"])["a"]["outside"]
    assert () == loaded.warnings
    assert str(script) in loaded.files


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("#!/bin/sh\necho one >&2; echo 'no such cmdb' >&2; exit 3\n", "failed with exit code 3"),
        ("#!/no/such/interpreter\n", "cannot be started"),
        ("no interpreter named\n", "cannot be started"),
        ("#!/bin/sh\necho hello\n", "not JSON"),
        ("#!/bin/sh\n", "not JSON"),
        ('#!/bin/sh\necho \'{"_meta": {"hostvars": {}}, "g": [], "g": []}\'\n', "a key stands twice"),
        ('#!/bin/sh\necho \'{"_meta": {"hostvars": {"a": {"v": NaN}}}}\'\n', "NaN"),
        ('#!/bin/sh\necho \'{"_meta": {"hostvars": {"a": {"v": 1e999}}}}\'\n', "cannot hold"),
        ('#!/bin/sh\nprintf \'%s\' \'{"_meta": {"hostvars": {"a": {"v": "\\ud800"}}}}\'\n', "cannot hold"),
        ("#!/bin/sh\nyes [ | head -c 200000\n", "not JSON"),
        ("#!/bin/sh\nprintf '\\377'\n", "not JSON"),
    ],
)
def test_an_executable_that_fails_is_told_with_its_own_words(text: str, says: str, tmp_path: Path) -> None:
    """Each way to fail is LG108 with the reason; nothing of a bad answer is used."""
    _write(tmp_path, {"cmdb": text})
    (tmp_path / "cmdb").chmod(0o755)
    (mistake,) = _refused(tmp_path / "cmdb")
    assert "LG108" == mistake.code
    assert says in mistake.summary
    if "exit 3" in text:
        assert "It wrote on standard error: one / no such cmdb" == mistake.detail


def test_an_executable_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is limited even when a grandchild keeps the output open, and nobody is left behind."""
    monkeypatch.setattr(inventory, "EXECUTABLE_SECONDS", 1.0)
    _write(tmp_path, {"cmdb": '#!/bin/sh\necho waiting >&2\nsleep 600 &\necho $! > "$0.pid"\nwait\n'})
    began = time.monotonic()
    (mistake,) = _refused(tmp_path / "cmdb")
    assert time.monotonic() - began < 60
    assert "did not end within 1 s" in mistake.summary
    child = Path("/proc") / (tmp_path / "cmdb.pid").read_text().strip() / "stat"
    while child.exists() and child.read_text().rsplit(")", 1)[1].split()[0] != "Z":  # killed, perhaps not yet gone
        assert time.monotonic() - began < 60
        time.sleep(0.05)


def test_nothing_in_a_folder_is_executed_unless_it_is_named(tmp_path: Path) -> None:
    """An executable beside hosts.yml, or hosts.yml with its executable bit, is not run."""
    (folder,) = _write(tmp_path, {"p/hosts.yml": "all: {hosts: {a: }}", "p/trap": "#!/bin/sh\ntouch sprung\n"})
    (folder / "hosts.yml").chmod(0o755)
    assert ["a"] == list(inventory.load([folder]).hosts)
    assert not (folder / "sprung").exists()
    assert not Path("sprung").exists()


@pytest.mark.parametrize(
    ("given", "says", "hint"),
    [
        ("prodution", "there is no inventory", "did you mean `production`?"),
        ("production/hosts.yaml", "there is no inventory", "did you mean `production/hosts.yml`?"),
        ("nowhere/at/all", "there is no inventory", "check the path"),
        (".", "has no hosts.yml", "did you mean `production`?"),
        ("empty", "has no hosts.yml", "write empty/hosts.yml"),
        ("two", "hosts.yml and inventory.yml", "keep one"),
        ("classic.ini", "neither YAML", "ansible-inventory -i classic.ini"),
    ],
)
def test_a_wrong_path_is_told_with_the_likely_one(
    given: str, says: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LG101 names what was looked for and the one thing to do."""
    monkeypatch.chdir(tmp_path)
    _write(tmp_path, {"production/hosts.yml": "all: {hosts: {a: }}", "classic.ini": "[fraud]\na\n"})
    _write(tmp_path, {"two/hosts.yml": "a: ", "two/inventory.yml": "a: "})
    (tmp_path / "empty").mkdir()
    (mistake,) = _refused(given)
    assert "LG101" == mistake.code
    assert says in mistake.summary
    assert hint in mistake.hint


def test_no_path_and_an_unreadable_one_are_mistakes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing -i and a folder that the system does not let us list end as diagnostics, not as tracebacks."""
    assert ["LG101"] == [d.code for d in _refused()]
    (folder,) = _write(tmp_path, {"p/hosts.yml": "all: {hosts: {a: }}", "p/group_vars/all.yml": "v: 1"})

    def forbidden(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", forbidden)
    (mistake,) = _refused(folder)
    assert "cannot read" in mistake.summary
    assert "Permission denied" in mistake.summary


def test_mistakes_of_all_folders_come_together(tmp_path: Path) -> None:
    """One error carries what is wrong in hosts, variables, roster and destinations of every -i."""
    paths = _write(
        tmp_path,
        {
            "p/hosts.yml": "all: {hosts: {'a b': }}",
            "p/group_vars/all.yml": "x: 1\nx: 2",
            "p/roster.yml": "people: []",
            "s/hosts.yml": "all: {hosts: [a]}",
            "s/destinations.yml": "ops: nowhere",
        },
    )
    mistakes = _refused(*paths, tmp_path / "none")
    assert ["LG009", "LG101", "LG102", "LG106", "LG110", "LG111"] == sorted(d.code for d in mistakes)
    assert 6 == render(mistakes).count("error[")


def test_two_rosters_must_be_one(tmp_path: Path) -> None:
    """Who may approve does not depend on the order of -i: equal rosters pass, different ones are LG110."""
    texts = {"p/hosts.yml": "all: {hosts: {a: }}", "s/hosts.yml": "all: {hosts: {b: }}", "p/roster.yml": _roster()}
    paths = _write(tmp_path, {**texts, "s/roster.yml": _roster()})
    assert inventory.load(paths).roster is not None
    _write(tmp_path, {"s/roster.yml": _roster("grace")})
    assert ["LG110"] == [d.code for d in _refused(*paths)]


def test_an_empty_group_is_a_warning_until_somebody_asks_for_it(tmp_path: Path) -> None:
    """The warning and the error have the same code; the error points into the pattern."""
    (folder,) = _write(tmp_path, {"p/hosts.yml": "all:\n  hosts: {a: }\n  children:\n    idle:\n"})
    loaded = inventory.load([folder])
    assert [("LG107", "warning", 4)] == [(d.code, d.severity, d.place.line) for d in loaded.warnings if d.place]
    with pytest.raises(EngineError) as caught:
        inventory.select(loaded, "a:idle", Place("p.yml", 3, 8, 6, "hosts: a:idle"))
    (mistake,) = caught.value.diagnostics
    assert ("LG107", "error", "p.yml:3:10") == (mistake.code, mistake.severity, str(mistake.place))


def test_a_name_is_a_group_or_a_host(tmp_path: Path) -> None:
    """A host called like a group, in the same folder or in another, would make every pattern ambiguous."""
    for texts in (
        {"p/hosts.yml": "all: {hosts: {fraud: }, children: {fraud: }}"},
        {"p/hosts.yml": "all: {hosts: {fraud: }}", "s/hosts.yml": "all: {children: {fraud: {hosts: {b: }}}}"},
    ):
        assert ["LG106"] == [d.code for d in _refused(*_write(tmp_path / str(len(texts)), texts))]


def test_a_large_inventory_loads_in_time(tmp_path: Path) -> None:
    """1,000 hosts with 8 variables are resolved within a second of processor time, and they share one mapping."""
    variables = "".join(f"v{i}: {i}\n" for i in range(8))
    (folder,) = _write(tmp_path, {"p/hosts.yml": "all: {hosts: {'svc[0001:1000]': }}", "p/group_vars/all.yml": variables})
    began = time.process_time()
    loaded = inventory.load([folder])
    assert time.process_time() - began < 1
    assert 1000 == len(loaded.hosts)
    assert 1 == len({id(host.vars) for host in loaded.hosts.values()})


def test_a_run_from_another_folder_shows_the_same_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An absolute -i below the working folder is shown as if it had been written relative to it."""
    _write(tmp_path, {"inv/hosts.yml": "all: {hosts: {a: {v: 1}}}"})
    monkeypatch.chdir(tmp_path)
    for path in ("inv", "./inv", str(tmp_path / "inv"), f"inv{os.sep}"):
        loaded = inventory.load([path])
        assert ["inv/hosts.yml"] == list(loaded.files)
        assert "inv/hosts.yml:1:19" == str(loaded.hosts["a"].origin["v"])
