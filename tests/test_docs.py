"""The documentation: the reference equals the code, links lead somewhere, commands exist, YAML is valid."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from engine import source
from engine.cli import doc, main
from modules.catalog import Catalog

ROOT = Path(__file__).parents[1]
TEXTS = sorted(
    path
    for pattern in (
        "*.md",
        "docs/**/*.md",
        "engine/**/*.md",
        "modules/**/*.md",
        "playbooks/**/*.md",
        "tests/**/*.md",
        "benchmarks/*.md",
    )
    for path in ROOT.glob(pattern)
)
#: Pages that people wrote.
WRITTEN = [path for path in TEXTS if path.parent.name != "reference"]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
SECTIONS = ("trigger", "forensics", "authority", "execution", "verification", "communications")


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _fences(path: Path, *languages: str) -> Iterator[str]:
    return (found[3] for found in FENCE.finditer(path.read_text("utf-8")) if found[2] in languages)


def _anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


# ------------------------------------------------------------------------------------------------- the reference
@pytest.mark.parametrize("name", doc.pages())
def test_the_reference_is_what_the_code_says(name: str) -> None:
    """docs/reference holds exactly what `make docs` would write."""
    assert doc.pages()[name] == (ROOT / "docs" / "reference" / name).read_text("utf-8"), "run `make docs`"


def test_the_reference_holds_nothing_else() -> None:
    """A page that is no longer made is gone."""
    assert sorted(doc.pages()) == sorted(path.name for path in (ROOT / "docs" / "reference").iterdir())


@pytest.mark.parametrize("verb", ["", *main.VERBS])
def test_the_help_in_the_reference_is_the_help_that_is_shown(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `engine VERB --help` prints on 80 columns stands in commands.md, word for word."""
    monkeypatch.setenv("COLUMNS", "80")
    assert 0 == main.run([*([verb] if verb else []), "--help"])
    shown = capsys.readouterr().out.rstrip("\n")
    assert f"```text\n{shown}\n```" in (ROOT / "docs" / "reference" / "commands.md").read_text("utf-8")


def _command(verb: str) -> click.Command:
    found = main.cli.get_command(click.Context(main.cli), verb)
    assert found is not None
    return found


@pytest.mark.parametrize("verb", main.VERBS)
def test_a_verb_s_help_has_examples_and_says_every_option(verb: str) -> None:
    """It opens with what the verb does and two examples, every option has a text, and it names its page."""
    command = _command(verb)
    assert [] == [param.name for param in command.params if isinstance(param, click.Option) and not param.help]
    examples = re.findall(rf"^\s*engine {verb}\b", command.help or "", re.MULTILINE)
    assert len(examples) >= 2
    assert "docs/reference/commands.md" in (command.epilog or "")


def test_every_room_is_on_the_door_plate() -> None:
    """engine/README.md names every room once in its table, and none that is not there."""
    text = (ROOT / "engine" / "README.md").read_text("utf-8")
    table = text[text.index("## Rooms") : text.index("## The path")]
    named = [name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)/?`", row)]
    rooms = [path.stem for path in (ROOT / "engine").iterdir() if path.suffix == ".py" and path.stem != "__init__"]
    assert sorted([*rooms, "cli"]) == sorted(named)


def test_the_glossary_is_in_order() -> None:
    """Words can be found: they stand in the order of the alphabet."""
    words = re.findall(r"^\| (?!we say|---)(.+?) \|", (ROOT / "GLOSSARY.md").read_text("utf-8"), re.MULTILINE)
    assert len(words) > 30
    assert sorted(words, key=str.lower) == words


# ------------------------------------------------------------------------------------------------- what people wrote
@pytest.mark.parametrize("path", TEXTS, ids=_name)
def test_links_lead_somewhere(path: Path) -> None:
    """Every link inside the repository leads to a file that is there, and to a heading of it."""
    text = FENCE.sub("", path.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), f"{target} leads nowhere"
        assert not anchor or anchor in _anchors(file), f"{target}: there is no such heading"


def _commands(path: Path) -> Iterator[list[str]]:
    """The engine's command lines in a page, as words."""
    for text in _fences(path, "console", "sh", "bash"):
        for line in text.splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True) if line.startswith(("$ ", "engine ")) else []
            if words and words[0].endswith("engine"):
                yield words[1:]


@pytest.mark.parametrize("path", WRITTEN, ids=_name)
def test_commands_exist(path: Path) -> None:
    """Every command line in a page names a verb that is there, with options that it has."""
    for words in _commands(path):
        verb, *rest = words
        if verb in ("--help", "--version"):
            continue
        assert verb in main.VERBS, " ".join(words)
        _command(verb).make_context(verb, rest, parent=click.Context(main.cli, obj={}))


def _playbooks(path: Path) -> Iterator[str]:
    """The playbooks in a page: whole ones, and parts with what they leave out."""
    for text in _fences(path, "yaml", "yml"):
        if text.startswith("# wrong") or re.match(r"# (inventories|tests)/|does:", text):
            continue
        if re.match(r" *- (name|block|import):", text):
            entry = text if text.startswith("-") else re.sub(r"^ {2}", "", text, flags=re.MULTILINE)
            module = next((re.sub(r":.*", "", line.strip()) for line in entry.splitlines()[1:] if line.startswith("  ")), "")
            found = Catalog().get(module)
            section = getattr(found.module, "SECTIONS", ("execution",))[0] if found else "execution"
            text = f"{section}:\n" + re.sub(r"^", "  ", entry, flags=re.MULTILINE)
        data = source.parse(text, "part.yml").data
        if isinstance(data, dict) and set(data) <= {"name", "strategy", "hosts", "owner", "vars", "serial", *SECTIONS}:
            moves = "\nexecution:\n  - name: Point it there\n    directory.current: {path: models, version: v1}\n"
            head = "name: An example\nstrategy: version\nhosts: all\n" if "name" not in data else ""
            extra = "  - name: Point it there\n    directory.current: {path: models, version: v1}\n"
            whole = head + text.rstrip("\n") + "\n" + (moves if "execution" not in data else "")
            yield (
                whole
                if "execution" not in data or "name" in data
                else whole.replace("execution:\n", "execution:\n" + extra, 1)
            )


@pytest.mark.parametrize("path", WRITTEN, ids=_name)
def test_playbooks_in_pages_are_valid(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every playbook, section or step that a page shows is one that the engine takes, unless it says `# wrong`."""
    for number, text in enumerate(_playbooks(path)):
        if "traffic.share" in text:
            continue  # the page's own module, which is run by tests/modules/test_laws_bite.py
        file = tmp_path / f"{number}.yml"
        file.write_text(text)
        code = main.run(["validate", str(file)])
        assert 0 == code, f"{capsys.readouterr().err}\n{text}"


@pytest.mark.parametrize("path", WRITTEN, ids=_name)
def test_inventories_in_pages_are_valid(path: Path, tmp_path: Path) -> None:
    """A block that begins with `# inventories/…` is a file that loads."""
    from engine import inventory

    for text in _fences(path, "yaml"):
        if found := re.match(r"# inventories/(\w+)/(\w+\.yml)\n", text):
            folder = tmp_path / found[1]
            folder.mkdir(exist_ok=True)
            (folder / found[2]).write_text(text)
            if not (folder / "hosts.yml").exists():
                (folder / "hosts.yml").write_text("all: {hosts: {one: }}\n")
            assert inventory.load([folder]).hosts


def test_the_readme_says_the_two_commands() -> None:
    """What a newcomer types first, and nothing to install besides."""
    text = (ROOT / "README.md").read_text("utf-8")
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in ("demo", "test"):
        assert f"$ make {target}\n" in text
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_the_tutorial_prints_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The wrong playbook of the tutorial gives exactly the text below it."""
    page = (ROOT / "docs" / "tutorial.md").read_text("utf-8")
    wrong = next(text for text in _fences(ROOT / "docs" / "tutorial.md", "yaml") if text.startswith("# wrong\n"))
    shown = next(text for text in _fences(ROOT / "docs" / "tutorial.md", "text") if text.startswith("error["))
    assert "inventories/demo" in page
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks" / "mine.yml").write_text(wrong.removeprefix("# wrong\n"))
    (tmp_path / "inventories" / "demo").mkdir(parents=True)
    names = "scoring_url: http://127.0.0.1:1, model: fraud, registry: models, probe: [[1]]"
    hosts = "all: {children: {scoring: {hosts: {fraud: {" + names + "}}}}}\n"
    (tmp_path / "inventories" / "demo" / "hosts.yml").write_text(hosts)
    monkeypatch.chdir(tmp_path)
    assert 3 == main.run(["validate", "playbooks/mine.yml", "-i", "inventories/demo"])
    assert shown == capsys.readouterr().err


def test_every_figure_of_the_promises_was_printed_by_a_command() -> None:
    """A number before a link to kept output stands in that output, as it was printed."""
    page = " ".join((ROOT / "docs/explanation/promises.md").read_text("utf-8").split())
    told = re.findall(r"Found: ([^()]*?) \(\[figures/(\w+)\.txt\]", page)
    assert told
    for text, name in told:
        kept = (ROOT / f"docs/explanation/figures/{name}.txt").read_text("utf-8")
        numbers = re.findall(r"\d[\d,]*(?:\.\d+)?", text)
        assert numbers, text
        assert [] == [
            number for number in numbers if not re.search(rf"(?<![\d,.]){re.escape(number)}(?![\d,.]*\d)", kept)
        ], text
