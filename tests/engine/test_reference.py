"""The reference: every code has a page whose examples do what it says, and every topic can be looked up."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import reference, template
from engine.cli import doc, main
from engine.diagnostics import Exit
from engine.playbook import BUILT_IN, SECTIONS
from modules.catalog import OURS, Catalog

ROOT = Path(__file__).parents[2]
PAGES = reference.diagnostics()
#: Pages with examples; those of lint's rules are held against lint itself, in test_review.
SHOWN = [code for code, page in PAGES.items() if "bad" in page and not code.startswith("LG3")]
HOSTS = "all: {hosts: {fraud: {mlflow_url: http://127.0.0.1:5000}}}\n"
FILE = "execution:\n  - name: Put the threshold back\n    file: {path: threshold.json, content: '0.5'}\n"


def _unescaped(text: str) -> bytes:
    r"""The text with \u200b as that character and \xff as that byte."""
    text = re.sub(r"\\u([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), text)
    return b"".join(
        bytes([int(part[2:], 16)]) if re.fullmatch(r"\\x[0-9a-f]{2}", part) else part.encode()
        for part in re.split(r"(\\x[0-9a-f]{2})", text)
    )


def _whole(text: str, hosts: str) -> str:
    """A part of a playbook with what it leaves out."""
    has = {key: re.search(rf"^{key}:", text, re.MULTILINE) for key in ("name", "strategy", "hosts", "execution")}
    strategy = "version" if has["execution"] else "configuration"
    rest = {"name": "name: Take the fraud model back\n", "strategy": f"strategy: {strategy}\n", "hosts": f"hosts: {hosts}\n"}
    return text + "".join(line for key, line in rest.items() if not has[key]) + ("" if has["execution"] else FILE)


def _told(code: str, example: dict[str, str], folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, set[str]]:
    """The exit code and the codes that the example leads to."""
    page, files = PAGES[code], {name: text for name, text in example.items() if name != "command"}
    books = [name for name in files if re.fullmatch(r"(playbooks/\w+|playbook)\.yml", name)] or ["playbook.yml"]
    beside = [name for name in files if name not in books and not name.startswith(("steps/", "modules/"))]
    inventories = sorted({name.split("/")[0] for name in beside if "/" in name and not name.startswith("inventories/")})
    if books[0].startswith("playbooks/"):
        inventories = ["inventories/production"]
        files.setdefault("inventories/production/hosts.yml", HOSTS)
    inventories += [name for name in beside if files[name].startswith("#!")]
    hosts = "all" if books[0] not in files else "fraud"
    for name in books:
        files[name] = files.get(name, "") if page.get("whole") else _whole(files.get(name, ""), hosts)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_unescaped(text) if page.get("escaped") else text.encode())
        if text.startswith("#!"):
            path.chmod(0o755)
    given = "".join(f" -i {name}" for name in inventories)
    command = example.get("command", f"engine validate {books[0]}{given}")
    code_ = main.run(shlex.split(command)[1:])
    out, err = capsys.readouterr()
    return int(code_), set(re.findall(r"^(?:error|warning)\[(LG\d{3})\]", out + err, re.MULTILINE))


@pytest.mark.parametrize("code", SHOWN)
def test_the_examples_of_a_code_do_what_its_page_says(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The wrong one leads to this code alone and to its exit code, the right one to nothing."""
    for word, expected in (("bad", (PAGES[code]["exit"], {code})), ("good", (0, set()))):
        folder = tmp_path / word
        folder.mkdir()
        monkeypatch.chdir(folder)
        assert expected == _told(code, PAGES[code][word], folder, capsys), word


@pytest.mark.parametrize("code", PAGES)
def test_a_page_says_what_why_and_what_to_do(code: str) -> None:
    """Every code has a title, an exit code, an explanation in sentences, and two examples unless only a run can meet it."""
    page: dict[str, Any] = PAGES[code]
    assert {"title", "exit", "why"} <= set(page) <= {"title", "exit", "why", "at", "whole", "escaped", "bad", "good"}
    assert page["exit"] in set(Exit)
    assert len(re.findall(r"[.:;]\s", page["why"])) >= 2
    assert ("at" in page) != ("bad" in page)
    assert ("bad" in page) == ("good" in page)
    assert page.get("at", "run time") == "run time"


def test_code_and_catalogue_agree() -> None:
    """A code without a page, or a page without a code, is found."""
    rooms = [path for folder in ("engine", "modules") for path in (ROOT / folder).rglob("*.py")]
    used = {code for path in rooms for code in re.findall(r"[\"\[](LG\d{3})[\"\]]", path.read_text("utf-8"))}
    assert sorted(PAGES) == sorted(used)


def test_what_no_schema_says_agrees_with_the_code() -> None:
    """Filters, tests, built-in names and exit codes are the engine's own, all of them."""
    said = reference._language()
    assert template.FILTERS == set(said["filters"])
    assert template.TESTS == set(said["tests"])
    assert BUILT_IN == set(said["names"])
    assert [str(int(code)) for code in Exit] == list(said["exits"])


def test_every_section_and_keyword_of_the_schema_can_be_looked_up() -> None:
    """What the schema knows has a page, sections included."""
    assert set(SECTIONS) <= set(reference.keywords())
    assert {"timeout", "needs", "block", "rescue", "import", "serial", "roles", "logins"} <= set(reference.keywords())


def _lines_of_prose(text: str) -> Iterator[str]:
    """The lines of a page that are not an example's."""
    return (line for line in text.splitlines() if not line.startswith(("    ", "  engine ")) and "://" not in line)


@pytest.mark.parametrize("topic", [*reference.ABOUT, *OURS, *reference.keywords(), *PAGES, *main.VERBS, "engine"])
def test_every_topic_has_a_page_of_80_columns(topic: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`engine doc` knows every module, keyword, code and command, and writes within 80 columns."""
    assert 0 == main.run(["doc", topic])
    text = capsys.readouterr().out
    assert len(text) > 40
    assert [] == [line for line in _lines_of_prose(text) if len(line) > 80]


@pytest.mark.parametrize("name", OURS)
def test_a_module_s_page_names_every_parameter(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each parameter stands on the page with its description, beside undo, crash class and an example."""
    entry = Catalog().get(name)
    assert entry is not None
    assert 0 == main.run(["doc", name])
    text = " ".join(capsys.readouterr().out.split())
    for parameter, schema in entry.schema["properties"].items():
        assert f" {parameter} (" in text
        assert " ".join(schema["description"].split()) in text
    assert ("undo" in text and "crash class" in text) or "it observes" in text
    assert f"{name}:" in text


def test_without_a_topic_everything_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Modules with their titles, keywords, commands and the topics about all of them."""
    assert 0 == main.run(["doc"])
    text = capsys.readouterr().out
    assert [] == [name for name in (*OURS, *reference.ABOUT) if f"\n  {name} " not in text]
    assert [] == [line for line in text.splitlines() if len(line) > 80]


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("mlflow.alais", "mlflow.alias"),
        ("timout", "timeout"),
        ("LG44", "LG044"),
        ("exit-code", "exit-codes"),
        ("resum", "resume"),
    ],
)
def test_an_unknown_topic_gets_the_likely_spelling(wrong: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, and what was meant."""
    assert 2 == main.run(["doc", wrong])
    assert f"did you mean `{meant}`?" in capsys.readouterr().err


def test_a_code_may_be_written_small(capsys: pytest.CaptureFixture[str]) -> None:
    """lg045 is LG045."""
    assert 0 == main.run(["doc", "lg045"])
    assert capsys.readouterr().out.startswith("LG045: ")


def test_modules_beside_a_playbook_have_pages_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --beside, and only then: nothing in the folder one happens to be in is loaded."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "shelf.py").write_text(
        '"""The shelf shows this revision."""\nMOVES = ("version",)\n'
        'SCHEMA = {"type": "object", "additionalProperties": False, "required": ["revision"], "properties":'
        ' {"revision": {"type": "string", "description": "The revision."}}}\n\n\n'
        "def read(params, ctx):\n    return None\n\n\ndef desired(params):\n    return {}\n\n\n"
        "def apply(params, change, ctx):\n    pass\n"
    )
    assert 2 == main.run(["doc", "shelf"])
    assert 0 == main.run(["doc", "shelf", "--beside", str(tmp_path / "playbook.yml")])
    text = capsys.readouterr().out
    assert "The shelf shows this revision." in text
    assert "beside the playbook" in text
    assert "NONE" in text


def test_the_pages_are_made_from_the_commands_own_help() -> None:
    """The help in the reference is what a terminal of 80 columns shows."""
    assert ["engine", *(f"engine {verb}" for verb in main.VERBS)] == [name for name in doc.helps() if name.count(" ") < 2]
