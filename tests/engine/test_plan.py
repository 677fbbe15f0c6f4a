"""plan: what will be done, as a value: the same everywhere, another one as soon as anything differs, and never another's."""

from __future__ import annotations

import copy
import json
import locale
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import books
import pytest
from books import book, step
from hypothesis import given
from hypothesis import strategies as st

from engine import canon, plan
from engine.check import HostRow
from engine.cli import opening
from engine.diagnostics import EngineError, Exit
from engine.layout import Options
from engine.plan import Plan
from modules.catalog import Catalog

ROOT = Path(__file__).parents[2]


def row(name: str = "one", outside: Sequence[str] = (), **values: Any) -> HostRow:
    return HostRow(name, ("all", "fraud"), values, frozenset(outside))


def compiled(data: Any, rows: Sequence[HostRow] = (), options: Options | None = None, **more: Any) -> Plan:
    return plan.compile(books.read(data), Catalog(), rows, options=options, **more)


DATA = book(
    vars={"greeting": "hello {{ who }}"},
    forensics=[step("keep", file={"path": "/keep", "content": "{{ greeting }}"}, register="kept")],
    execution=[step("act", file={"path": "/act", "content": "{{ kept.x }} {{ extra }}"}), step("late", when="deep == 1")],
    communications=[{"name": name, "notify": {"to": name, "message": "{{ groups }}"}} for name in ("chat", "mail")],
)
ROWS = (row(who="{{ inner }}", inner="a", deep=1, unused=1), row("two", who="b", inner="c", deep=2, unused=2))
SITE: dict[str, Any] = {
    "groups": {"all": ("one", "two"), "fraud": ("one",)},
    "roster": {"path": "roster.yml", "text": "people: {}\n"},
    "destinations": {"chat": {"url": "x"}, "mail": {"url": "y"}, "other": {"url": "z"}},
}


def base(data: Any = DATA, rows: Sequence[HostRow] = ROWS, options: Options | None = None, **more: Any) -> Plan:
    read = {**SITE, **more}
    made = plan.compile(
        notify_book(data),
        Catalog(),
        rows,
        read["groups"],
        options or Options({"extra": 1}),
        read["roster"],
        read["destinations"],
    )
    preview = {
        "changes": [
            {
                "host": "one",
                "step": "execution/act",
                "grade": "exact",
                "change": [["content", "a", "b"]],
                "wanted": "b",
                "says": "",
            }
        ]
    }
    return replace(made, preview=preview)


def notify_book(data: Any) -> Any:
    found: list[Any] = []
    text = json.dumps(data, indent=1)
    made = books.reader.read(lambda _: books.source.parse(text, "books/book.yml"), "book.yml", lambda name: True, found)
    assert [] == found
    return made


# -- the digest


def changed(data: Any, *keys: Any, to: Any) -> Any:
    made = copy.deepcopy(data)
    owner = made
    for key in keys[:-1]:
        owner = owner[key]
    owner[keys[-1]] = to
    return made


OTHERS: dict[str, Callable[[], Plan]] = {
    "a name": lambda: base(changed(DATA, "name", to="other")),
    "a step's name": lambda: base(changed(DATA, "execution", 0, "name", to="other")),
    "a parameter": lambda: base(changed(DATA, "execution", 0, "file", "path", to="/other")),
    "a condition": lambda: base(changed(DATA, "execution", 1, "when", to="deep == 2")),
    "a timeout": lambda: base(changed(DATA, "execution", 0, "timeout", to="1s")),
    "an order": lambda: base(changed(DATA, "execution", to=DATA["execution"][::-1])),
    "a step less": lambda: base(changed(DATA, "execution", to=DATA["execution"][:1])),
    "authority": lambda: base({**DATA, "authority": {"mode": "automatic"}}),
    "a comment": lambda: commented(),
    "a variable": lambda: base(changed(DATA, "vars", "greeting", to="bye {{ who }}")),
    "a host's variable": lambda: base(rows=(row(who="x", inner="a", deep=1), ROWS[1])),
    "a variable behind a variable": lambda: base(rows=(row(who="{{ inner }}", inner="z", deep=1), ROWS[1])),
    "a variable in a condition": lambda: base(rows=(row(who="{{ inner }}", inner="a", deep=7), ROWS[1])),
    "data instead of a template": lambda: base(rows=(row(outside=("who",), who="{{ inner }}", inner="a", deep=1), ROWS[1])),
    "data that mentions a variable": lambda: base(rows=(row(who="{{ deep }}", inner="a", deep=1), ROWS[1])),
    "a type": lambda: base(rows=(row(who="{{ inner }}", inner="a", deep="1"), ROWS[1])),
    "a host less": lambda: base(rows=ROWS[:1]),
    "a host more": lambda: base(rows=(*ROWS, row("three", who="a", deep=1))),
    "a host's name": lambda: base(rows=(replace(ROWS[0], name="uno"), ROWS[1])),
    "a host's groups": lambda: base(rows=(replace(ROWS[0], groups=("all",)), ROWS[1])),
    "the order of hosts": lambda: base(rows=ROWS[::-1]),
    "groups": lambda: base(groups={"all": ("one", "two"), "fraud": ("two",)}),
    "-e": lambda: base(options=Options({"extra": 2})),
    "the type of -e": lambda: base(options=Options({"extra": "1"})),
    "--limit": lambda: base(options=Options({"extra": 1}, limit="one:two")),
    "--tags": lambda: base(options=Options({"extra": 1}, tags=("all",))),
    "--skip-tags": lambda: base(options=Options({"extra": 1}, skip_tags=("never",))),
    "the roster": lambda: base(roster={"path": "roster.yml", "text": "people: {a: 1}\n"}),
    "no roster": lambda: base(roster=None),
    "a destination": lambda: base(destinations={"chat": {"url": "other"}, "mail": {"url": "y"}}),
    "a module": lambda: replace(base(), modules={**base().modules, "file": "0" * 64}),
    "an undo": lambda: replace(base(), undo={**base().undo, "execution/act": False}),
    "the preview's change": lambda: previewed(change=[["x", 1, 3]]),
    "the preview's grade": lambda: previewed(grade="estimate"),
    "the preview's host": lambda: previewed(host="two"),
    "the preview's target": lambda: previewed(wanted=3),
    "no preview": lambda: replace(base(), preview=None),
}


def commented() -> Plan:
    text = "# a comment\n" + json.dumps(DATA)
    made = books.reader.read(lambda _: books.source.parse(text, "books/book.yml"), "book.yml", lambda name: True, [])
    assert made is not None
    return replace(base(), playbook=made)


def previewed(**more: Any) -> Plan:
    made = base()
    return replace(made, preview={"changes": [{**made.preview["changes"][0], **more}]})


@pytest.mark.parametrize("what", OTHERS)
def test_whatever_decides_what_is_done_changes_the_digest(what: str) -> None:
    """A key is for this plan: change one thing that decides what is done, and it is for another."""
    assert base().digest != OTHERS[what]().digest


def test_data_and_template_of_the_same_text_are_two_plans() -> None:
    """A value from outside is never rendered: the same text as a template is another plan, whatever else it reaches."""
    rows = [(row(outside=outside, who="{{ deep }}", inner="a", deep=1), ROWS[1]) for outside in ((), ("who",))]
    plans = [base(rows=one) for one in rows]
    assert plans[0].hosts[0].vars == plans[1].hosts[0].vars
    assert plans[0].digest != plans[1].digest


SAME: dict[str, Callable[[], Plan]] = {
    "made again": lambda: base(),
    "a variable that nothing mentions": lambda: base(
        rows=(row(who="{{ inner }}", inner="a", deep=1, unused=9, more=1), ROWS[1])
    ),
    "a destination that nothing names": lambda: base(destinations={**SITE["destinations"], "other": {"url": "changed"}}),
    "the place of the roster": lambda: base(roster={"path": "/elsewhere/roster.yml", "text": "people: {}\n"}),
    "what the preview says": lambda: previewed(says="other words"),
    "the order of variables": lambda: base(
        rows=(HostRow("one", ("all", "fraud"), dict(reversed(ROWS[0].vars.items()))), ROWS[1])
    ),
    "the order of groups": lambda: base(groups=dict(reversed(SITE["groups"].items()))),
    "the order of destinations": lambda: base(destinations=dict(reversed(SITE["destinations"].items()))),
}


@pytest.mark.parametrize("what", SAME)
def test_what_decides_nothing_changes_nothing(what: str) -> None:
    """Places on a machine, unused variables and the order of mappings are no part of what is approved."""
    assert base().digest == SAME[what]().digest


def leaves(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    pairs = list(value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ())
    return [path for key, inner in pairs for path in leaves(inner, (*at, key))] if pairs else [at]


def test_every_leaf_of_the_content_is_in_the_digest() -> None:
    """Two thousand and more mutants of the stored content: none has the digest of the original."""
    content = base().document(digest=False)
    original, seen = canon.digest(content), set()
    for keys in leaves(content):
        for other in ("", "x", 0, 1, None, True, [], {}, [[]], 0.5, "0" * 64):
            mutant = changed(content, *keys, to=other)
            if mutant != content or canon.dumps(mutant) != canon.dumps(content):
                seen.add(canon.digest(mutant))
                assert original != canon.digest(mutant), keys
    assert len(seen) > 500


# -- the same on every machine

OWN_KIND = """
'A kind of our own.'
SCHEMA = {"type": "object", "additionalProperties": False, "properties": {"x": {}}}
MOVES = ("configuration",)
def read(params, ctx): return None
def desired(params): return None
def apply(params, change, ctx): pass
"""
REPOSITORY = {
    "playbooks/book.yml": json.dumps(
        {**DATA, "execution": [{"import": "steps/act.yml"}, {"name": "own", "mine.kind": {"x": "{{ deep }}"}}]}
    ),
    "playbooks/steps/act.yml": json.dumps(DATA["execution"]),
    "playbooks/modules/mine/kind.py": OWN_KIND,
    "playbooks/modules/mine/_client.py": "A = 1\n",
    "inventory/hosts.yml": json.dumps({"fraud": {"hosts": {"svc[01:20]": {}}}, "eu": {"children": {"fraud": {}}}}),
    "inventory/group_vars/fraud.yml": "who: '{{ inner }}'\ndeep: 1\n",
    "inventory/group_vars/all.yml": "inner: ö\n",
    "inventory/host_vars/svc07.yml": "inner: seven\n",
    "inventory/destinations.yml": "chat: json://127.0.0.1\nmail: json://127.0.0.1\n",
}
DIGEST = """
import os, sys
from pathlib import Path
from engine.cli import opening
from engine.layout import Options
made = opening.opened(Path(sys.argv[1]), [sys.argv[2]], Options({"extra": 1}))
print(made.plan.digest)
"""


def repository(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(REPOSITORY[name], "utf-8")
    return folder


def digest_of(folder: Path, cwd: Path, **environment: str) -> str:
    """The digest as another process computes it."""
    paths = [os.path.relpath(folder / "playbooks/book.yml", cwd), os.path.relpath(folder / "inventory", cwd)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(
        [sys.executable, "-c", DIGEST, *paths], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_machine_makes_the_same_digest(tmp_path: Path) -> None:
    """Twenty processes, each with another hash seed, locale, time zone, folder and order of files: one digest."""
    zones = ["UTC", "Asia/Kolkata", "America/St_Johns", "Pacific/Chatham", "Europe/Berlin"]
    locales = ["C", "C.UTF-8", "POSIX", *sorted({one for one in locale.locale_alias.values() if "UTF-8" in one})[:2]]
    names, found = sorted(REPOSITORY), {}
    for seed in range(20):
        folder = repository(
            tmp_path / f"{'x' * seed}{seed}",
            names[seed % len(names) :] + names[: seed % len(names)][:: 1 if seed % 2 else -1],
        )
        cwd = (tmp_path, folder, folder / "playbooks", folder / "inventory", Path("/"))[seed % 5]
        environment = {
            "PYTHONHASHSEED": str(seed),
            "LC_ALL": locales[seed % 5],
            "TZ": zones[seed * 3 % 5],
            "COLUMNS": str(40 + seed),
        }
        found[seed] = digest_of(folder, cwd, **environment)
    assert 1 == len(set(found.values())), found


@pytest.mark.parametrize("name", sorted(REPOSITORY))
def test_every_file_that_is_used_changes_the_digest(tmp_path: Path, name: str) -> None:
    """One byte more in a playbook, an import, a module, its client, an inventory's file: another digest."""
    folder = repository(tmp_path, sorted(REPOSITORY))
    options = Options({"extra": 1})
    before = opening.opened(folder / "playbooks/book.yml", [str(folder / "inventory")], options).plan.digest
    text = (folder / name).read_text("utf-8")
    other = {
        "inventory/hosts.yml": text.replace(":20]", ":21]"),
        "inventory/group_vars/fraud.yml": text.replace("deep: 1", "deep: 2"),
        "inventory/group_vars/all.yml": text.replace("ö", "ä"),
        "inventory/host_vars/svc07.yml": text.replace("seven", "eight"),
        "inventory/destinations.yml": text.replace("127.0.0.1", "127.0.0.2"),
    }.get(name, text + (" \n" if name.endswith(".yml") else "# a comment\n"))  # fmt: skip
    assert other != text
    (folder / name).write_text(other, "utf-8")
    for cached in folder.rglob("__pycache__"):
        shutil.rmtree(cached)
    assert before != opening.opened(folder / "playbooks/book.yml", [str(folder / "inventory")], options).plan.digest


def test_no_place_of_the_machine_in_the_content(tmp_path: Path) -> None:
    """The content of a plan names no folder of the machine that made it."""
    folder = repository(tmp_path, sorted(REPOSITORY))
    made = opening.opened(folder / "playbooks/book.yml", [str(folder / "inventory")], Options({"extra": 1})).plan
    assert str(tmp_path) not in json.dumps(made.document(digest=False))


# -- stored and loaded


def stored() -> dict[str, Any]:
    """A plan as `--out` writes it, read back."""
    found: dict[str, Any] = json.loads(json.dumps(base().document()))
    return found


def test_a_stored_plan_is_made_again_from_its_inputs() -> None:
    """What was stored gives the same digest, nodes, hosts and options, and stores itself the same."""
    made = plan.load(stored(), Catalog())
    assert (base().digest, list(base().nodes.items()), base().hosts) == (made.digest, list(made.nodes.items()), made.hosts)
    assert stored() == json.loads(json.dumps(made.document()))


@pytest.mark.parametrize("key", sorted(stored()))
@pytest.mark.parametrize("how", ["gone", "null", "a text", "a number", "a list", "a mapping"])
def test_a_damaged_plan_is_refused(key: str, how: str) -> None:
    """A part of a stored plan that is gone or of another kind: refused with a reason, or of no effect."""
    document = stored()
    value = {"null": None, "a text": "x", "a number": 1, "a list": [], "a mapping": {}}.get(how)
    if how == "gone":
        del document[key]
    else:
        document[key] = value
    # What people who read the file see, and what is made again from the texts and from the modules that are there.
    if key in ("name", "strategy", "steps", "nodes") or (key, how) == ("shown", "a text"):
        assert base().digest == plan.load(document, Catalog()).digest
        return
    with pytest.raises(EngineError) as caught:
        plan.load(document, Catalog())
    assert {d.code for d in caught.value.diagnostics} <= {"LG001", "LG060", "LG061"}
    assert all(d.hint for d in caught.value.diagnostics)


@given(st.data())
def test_a_stored_plan_that_was_changed_is_refused_or_does_the_same(data: st.DataObject) -> None:
    """Whatever is changed in a stored plan: it is refused, or the plan that comes out is the one that was approved."""
    document = stored()
    keys = data.draw(st.sampled_from(leaves(document)))
    other = data.draw(st.sampled_from(["", "x", 0, None, True, [], {}, ["x"], {"x": 1}, [["x"]], "{{ x }}"]))
    try:
        made = plan.load(changed(document, *keys, to=other), Catalog())
    except EngineError:
        return
    same = replace(made, preview=base().preview) if keys[0] == "preview" else made
    assert base().digest == same.digest == made.digest
    assert list(base().nodes.items()) == list(made.nodes.items())


def test_a_module_that_changed_is_named() -> None:
    """A plan is for the modules that it was made with: another one is refused by name, as stale."""
    document = stored()
    document["modules"] = {name: "0" * 64 if name == "file" else digest for name, digest in document["modules"].items()}
    with pytest.raises(EngineError) as caught:
        plan.load(document, Catalog())
    assert (Exit.STALE, "LG061") == (caught.value.exit, caught.value.diagnostics[0].code)
    assert "`file`" in caught.value.diagnostics[0].summary


# -- what a host is known by


def test_a_host_keeps_the_variables_that_can_be_reached() -> None:
    """Variables that the playbook mentions, through others too, and no more; all where `hostvars` is mentioned."""
    assert [{"who", "inner", "deep"}, {"who", "deep"}] == [set(one.vars) for one in base().hosts]
    whole = book(execution=[step("a", file={"path": "/x", "content": "{{ hostvars }}"})])
    assert {"who", "inner", "deep", "unused"} == set(compiled(whole, ROWS).hosts[0].vars)


def test_variables_of_bare_expressions_are_reached() -> None:
    """A name in a parameter that is an expression is as much mentioned as one in braces: kept, and an edge of the graph."""
    choose = {
        "of": "directory.current",
        "with": {"path": "/m"},
        "where": "candidate.version != floor and candidate.version != seen.version",
    }
    data = {**book(), "strategy": "version", "execution": [
        step("look", register="seen"), step("other"),
        {"name": "choose", "needs": [], "last_good": choose, "register": "target"},
        {"name": "back", "directory.current": {"path": "/m", "version": "{{ target.version }}"}},
    ]}  # fmt: skip
    made = compiled(data, [row(floor="v1", roof="v9")])
    assert {"floor": "v1"} == made.hosts[0].vars
    assert "execution/look" in made.nodes["execution/choose"].after
    assert made.digest != compiled(data, [row(floor="v2", roof="v9")]).digest
    assert made.digest == compiled(data, [row(floor="v1", roof="v8")]).digest


# -- batches and budgets


@given(st.integers(0, 40), st.lists(st.integers(1, 12) | st.integers(0, 100).map(lambda n: f"{n}%"), max_size=4))
def test_batches_hold_every_host_once(count: int, sizes: list[Any]) -> None:
    """However hosts are divided, each is in one batch, in order, and no batch is empty; the last size is repeated."""
    data = {**book(), **({"serial": sizes} if sizes else {})}
    names = [f"h{n}" for n in range(count)]
    made = compiled(data, [row(name) for name in names])
    assert names == [name for batch in made.batches for name in batch]
    wanted = [max(1, int(size[:-1]) * count // 100) if isinstance(size, str) else size for size in sizes] or [count]
    assert [wanted[min(n, len(wanted) - 1)] for n in range(len(made.batches) - 1)] == [
        len(batch) for batch in made.batches[:-1]
    ]
    assert all(batch for batch in made.batches)


@pytest.mark.parametrize(
    ("most", "hosts", "tolerated"),
    [(0, 5, 0), (3, 5, 3), ("10%", 20, 2), ("10%", 19, 1), ("0%", 9, 0), ("100%", 7, 7), ("50%", 1, 0), ("33.4%", 3, 1)],
)
def test_how_many_hosts_may_fail(most: Any, hosts: int, tolerated: int) -> None:
    """`max_failed` is the number that is tolerated; a percentage is of all hosts, rounded down."""
    assert tolerated == compiled({**book(), "max_failed": most}, [row(f"h{n}") for n in range(hosts)]).tolerated
