"""The reference: modules, keywords, diagnostics, exit codes, expressions and commands, for a terminal and for docs/.

In: the catalog, the help of the commands, the schemas and the pages of diagnostics. Out: text. It says nothing of its own:
a module's page is its docstring and SCHEMA, a keyword's is the playbook's schema, a command's is its own help.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Protocol

from engine import check, source
from modules.contract import Json

#: Columns of a page on a terminal.
WIDTH = 80
CRASH = {
    "A": "the platform compares before it sets, so a change is made once",
    "B": "an absolute state that can be read back: after a crash it is read, then set if need be",
    "C": "the platform honours the idempotency key, so a repetition has no second effect",
    "D": "nothing can be read back: it is never done twice, and after a crash a person decides",
}
ABOUT = {
    "modules": "Modules: what a step can keep true",
    "keywords": "Keywords: what a playbook, a step and the files beside an inventory may say",
    "expressions": "Expressions and values",
    "diagnostics": "Diagnostics: what each LGnnn means",
    "exit-codes": "Exit codes",
    "commands": "Commands",
}
_MADE = "This page is made from the code by `make docs`; a test compares the two."


class Entry(check.Entry, Protocol):
    """A module of the catalog, as far as its page goes."""

    @property
    def title(self) -> str:
        """The first line of its docstring."""


@dataclass(frozen=True)
class Block:
    """A piece of a page. `kind`: title, text, code (`text` is it), or rows (name, note, text)."""

    kind: str
    text: str = ""
    rows: tuple[tuple[str, str, str], ...] = ()
    #: title: its level; code: its language; rows: the heads of the columns.
    more: tuple[str, ...] = ()


Blocks = Iterator[Block]


def _title(text: str, level: int = 2) -> Block:
    return Block("title", text, more=("#" * level,))


def _rows(rows: Sequence[tuple[str, str, str]], *heads: str) -> Block:
    return Block("rows", rows=tuple(rows), more=heads)


# ----------------------------------------------------------------------------------------------- what there is
@cache
def diagnostics() -> dict[str, dict[str, Json]]:
    """code -> its page: title, exit, why, and `bad` and `good`, or `at` for what only a run can meet."""
    found: dict[str, dict[str, Json]] = {}
    for entry in sorted((resources.files("schemas") / "diagnostics.d").iterdir(), key=lambda entry: entry.name):
        pages = source.parse(entry.read_bytes(), entry.name).data
        if twice := found.keys() & pages.keys():
            raise ValueError(f"{entry.name} says again what {sorted(twice)} mean")
        found |= pages
    return dict(sorted(found.items()))


@cache
def _language() -> dict[str, Json]:
    """What no schema says."""
    found: dict[str, Json] = source.parse((resources.files("schemas") / "language.yml").read_bytes(), "language.yml").data
    return found


@cache
def keywords() -> dict[str, tuple[tuple[str, dict[str, Json], bool], ...]]:
    """word -> where it may stand, its schema there, and whether it must."""
    book, people = source.schema("playbook"), source.schema("roster")
    parts = book["$defs"]
    person = people["properties"]["people"]["items"]
    holders = {
        "the playbook": book,
        "trigger": parts["trigger"],
        "authority": parts["authority"],
        "break_glass": parts["authority"]["properties"]["break_glass"],
        "verification": parts["verification"],
        "a step": parts["step"],
        "a block": parts["block"],
        "an import": parts["import"],
        "roster.yml": people,
        "a person of roster.yml": person,
    }
    found: dict[str, list[tuple[str, dict[str, Json], bool]]] = {}
    for where, holder in holders.items():
        for word, schema in holder["properties"].items():
            whole = {**parts[schema["$ref"].rpartition("/")[2]], **schema} if "$ref" in schema else schema
            found.setdefault(word, []).append((where, whole, word in holder.get("required", ())))
    return {word: tuple(places) for word, places in found.items()}


def topics(catalog: check.Catalog, helps: Mapping[str, str]) -> list[str]:
    """Everything that `page` can be asked for."""
    return [*ABOUT, *catalog.names(), *keywords(), *diagnostics(), *(verb.removeprefix("engine ") for verb in helps)]


# ----------------------------------------------------------------------------------------------- pages
def page(topic: str, catalog: check.Catalog, helps: Mapping[str, str]) -> str | None:
    """The page of a topic for a terminal, or None where there is none of that name. Raises catalog.Unusable."""
    wholes = _wholes(catalog, helps)
    if topic in wholes:
        return _plain(wholes[topic])
    if (entry := catalog.get(topic)) is not None:
        return _plain(_module(entry))
    if topic in keywords():
        return _plain(_keyword(topic))
    if topic.upper() in diagnostics():
        return _plain(_diagnostic(topic.upper()))
    return helps.get(f"engine {topic}") or helps.get(topic)


def contents(catalog: check.Catalog, helps: Mapping[str, str]) -> str:
    """What there is to look up, for a terminal."""
    return _plain(_contents(catalog, helps))


def pages(catalog: check.Catalog, helps: Mapping[str, str]) -> dict[str, str]:
    """file name -> Markdown: what docs/reference holds."""
    return {f"{name}.md": _markdown(blocks) for name, blocks in _wholes(catalog, helps).items()}


def _wholes(catalog: check.Catalog, helps: Mapping[str, str]) -> dict[str, Blocks]:
    made = {
        "modules": (block for name in catalog.names() if (entry := catalog.get(name)) for block in _module(entry)),
        "keywords": (block for word in sorted(keywords()) for block in _keyword(word)),
        "expressions": _expressions(),
        "diagnostics": _all_diagnostics(),
        "exit-codes": _exits(),
        "commands": (block for verb, text in helps.items() for block in (_title(verb), Block("code", text))),
    }
    return {name: _with_title(ABOUT[name], blocks) for name, blocks in made.items()}


def _with_title(title: str, blocks: Blocks) -> Blocks:
    yield _title(title, 1)
    yield from blocks


def _contents(catalog: check.Catalog, helps: Mapping[str, str]) -> Blocks:
    yield Block(
        "text", "engine doc TOPIC prints a page. TOPIC is a module, a keyword, a diagnostic (LG045), a command, or one of:"
    )
    yield _rows([(name, "", title) for name, title in ABOUT.items()])
    yield _title("Modules")
    yield _rows([(name, "", entry.title) for name in catalog.names() if (entry := catalog.get(name))])
    yield _title("Keywords")
    yield Block("text", ", ".join(sorted(keywords())))
    yield _title("Commands")
    yield Block("text", ", ".join(verb.removeprefix("engine ") for verb in helps))


def _module(entry: Entry) -> Blocks:
    text = (entry.module.__doc__ or "").strip()
    examples: list[Json] = entry.schema.get("examples", [])
    yield _title(entry.name)
    for paragraph in text.split("\n\n"):
        yield Block("text", " ".join(paragraph.split()))
    sections = getattr(entry.module, "SECTIONS", ())
    moves = getattr(entry.module, "MOVES", ())
    facts = [
        (
            "stands in",
            "",
            ", ".join(sections) or "every section" + ("" if not entry.acts else " that changes things"),
        )
    ]
    if moves:
        facts.append(("serves", "", "the strategy " + " or ".join(f"`{one}`" for one in moves)))
    parts = [entry.schema, *entry.schema.get("allOf", ()), *entry.schema.get("dependentSchemas", {}).values()]
    facts += [("parameters", "", part["x-says"].removeprefix("a mapping ")) for part in parts if "x-says" in part]
    if entry.acts:
        can = [entry.can_undo(params) for params in examples] or [entry.has("undo")]
        undo = "automatic" if all(can) else "automatic with some of its parameters, none with others" if any(can) else "NONE"
        facts.append(("undo", "", undo))
        classes = sorted({entry.crash_class(params) for params in examples})
        facts += [(f"crash class {one}", "", CRASH[one]) for one in classes]
    else:
        facts.append(("changes", "", "nothing: it observes"))
    if entry.origin != "lastgood":
        facts.append(("from", "", entry.origin))
    yield _rows(facts, "fact", "", "says")
    needed = entry.schema.get("required", ())
    yield _rows(
        [(name, _takes(prop, name in needed), prop["description"]) for name, prop in entry.schema["properties"].items()],
        "parameter",
        "takes",
        "is",
    )
    for params in examples:
        yield Block(
            "code", f"- name: {_scalar(entry.title.rstrip('.'))}\n  {entry.name}:\n" + _lines(params), more=("yaml",)
        )


def _keyword(word: str) -> Blocks:
    yield _title(word)
    rows: dict[tuple[str, str], list[str]] = {}
    for where, schema, must in keywords()[word]:
        rows.setdefault((_takes(schema, must), schema.get("description", "")), []).append(where)
    yield _rows([(f"in {', '.join(where)}", takes, text) for (takes, text), where in rows.items()], "where", "takes", "is")


def _diagnostic(code: str) -> Blocks:
    told = diagnostics()[code]
    yield _title(f"{code}: {told['title']}")
    when = " It is met at run time." if told.get("at") else ""
    yield Block("text", f"Exit code {told['exit']}.{when}")
    yield Block("text", " ".join(told["why"].split()))
    for word, says in (("bad", "Wrong:"), ("good", "Right:")):
        if word in told:
            yield Block("text", says)
            yield Block("code", "\n".join(_files(told[word])).rstrip("\n"), more=("text",))


def _files(example: Mapping[str, str]) -> Iterator[str]:
    for name, text in example.items():
        if name == "command":
            yield f"$ {text}"
        else:
            yield f"# {name}\n{text}"


def _all_diagnostics() -> Blocks:
    yield Block("text", "Where an example shows a part of a playbook, the rest of it is valid.")
    for code in diagnostics():
        yield from _diagnostic(code)


def _exits() -> Blocks:
    text = "The code says how a command ended, and never depends on the format of its output."
    yield Block("text", f"{text} A failed step (1) and a broken engine (70) are different facts.")
    said = _language()["exits"]
    yield _rows([(code, "", f"{one['means']}. Next: {one['next']}") for code, one in said.items()], "code", "", "means")


def _expressions() -> Blocks:
    said = _language()
    for text in said["expressions"]:
        yield Block("text", text)
    for part, title, heads in (
        ("names", "Names that are always there", ("name", "", "is")),
        ("filters", "Filters", ("filter", "", "gives")),
        ("tests", "Tests", ("test", "", "holds for")),
        ("kinds", "Kinds of values", ("kind", "", "is written")),
    ):
        yield _title(title)
        yield _rows([(name, "", text) for name, text in said[part].items()], *heads)
        if part == "names":
            yield Block("text", said["variables"])


# ----------------------------------------------------------------------------------------------- words of schemas
def _takes(schema: Mapping[str, Json], must: bool) -> str:
    """What a key takes, in a few words: its type, its limits, whether it must be there, its default."""
    words = [_kind(schema)]
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None or high is not None:
        words[0] += f" {low} to {high}" if None not in (low, high) else f" from {low}" if high is None else f" up to {high}"
    if must:
        words.append("needed")
    if "default" in schema:
        words.append(f"default {_scalar(schema['default'])}")
    return ", ".join(words)


def _kind(schema: Mapping[str, Json]) -> str:
    names = {
        "string": "text",
        "object": "mapping",
        "array": "list",
        "integer": "whole number",
        "number": "number",
        "boolean": "true or false",
        "null": "nothing",
    }
    if "enum" in schema:
        return " | ".join(str(one) for one in schema["enum"])
    if "const" in schema:
        return _scalar(schema["const"])
    form = schema.get("format")
    if "anyOf" in schema or "oneOf" in schema:
        return " or ".join(dict.fromkeys(_kind(one) for one in (schema.get("anyOf") or schema["oneOf"])))
    kinds = schema.get("type", "any value")
    words = []
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        if kind == "string" and form:
            words.append("address" if form == "url" else str(form))
        elif kind == "array" and "items" in schema and "type" in schema["items"]:
            words.append(
                f"list of {names[schema['items']['type']]}s" if isinstance(schema["items"]["type"], str) else "list"
            )
        else:
            words.append(names.get(kind, kind))
    return " or ".join(words)


def _lines(params: Mapping[str, Json]) -> str:
    return "\n".join(f"    {key}: {_scalar(value)}" for key, value in params.items())


def _scalar(value: Json) -> str:
    """A value as YAML on one line, quoted only where it would be read as something else."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_scalar(key)}: {_scalar(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_scalar(inner) for inner in value) + "]"
    plain = isinstance(value, str) and re.fullmatch(
        r"[A-Za-z/][\w ./:@%+-]*[\w/%]|[A-Za-z]|\d+(?:\.\d+)?(?:ms|s|m|h|d|%|[KMGT]iB)", value
    )
    if plain and ": " not in value and value.lower() not in ("true", "false", "null"):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


# ----------------------------------------------------------------------------------------------- two ways to show
def _plain(blocks: Blocks) -> str:
    """For a terminal: no line wider than WIDTH, unless an example has one."""
    parts = []
    for block in blocks:
        if block.kind == "title":
            parts.append(f"{block.text}\n{('=' if block.more == ('#',) else '-') * len(block.text)}")
        elif block.kind == "text":
            parts.append(textwrap.fill(block.text, WIDTH))
        elif block.kind == "code":
            parts.append(textwrap.indent(block.text, "    "))
        else:
            parts.append(_listed(block.rows))
    return "\n\n".join(parts) + "\n"


def _listed(rows: Sequence[tuple[str, str, str]]) -> str:
    """Rows as an indented list: name and note on one line with the text where they fit, else the text below."""
    wide = min(max((len(name) for name, note, _ in rows if not note), default=0), 24) + 4
    lines = []
    for name, note, text in rows:
        head = f"  {name}" + (f"  ({note})" if note else "")
        if not note and len(head) < wide:
            lines.append(textwrap.fill(text, WIDTH, initial_indent=head.ljust(wide), subsequent_indent=" " * wide))
        else:
            lines += [textwrap.fill(head, WIDTH, subsequent_indent="      ")]
            lines += [textwrap.fill(text, WIDTH, initial_indent="      ", subsequent_indent="      ")] if text else []
    return "\n".join(lines)


def _markdown(blocks: Blocks) -> str:
    parts = []
    for block in blocks:
        if block.kind == "title":
            parts.append(f"{block.more[0]} {block.text}")
            if block.more == ("#",):
                parts.append(_MADE)
        elif block.kind == "text":
            parts.append(textwrap.fill(block.text, 125, break_long_words=False, break_on_hyphens=False))
        elif block.kind == "code":
            parts.append(f"```{block.more[0] if block.more else 'text'}\n{block.text}\n```")
        else:
            parts.append(_table(block))
    return "\n\n".join(parts) + "\n"


def _table(block: Block) -> str:
    used = [at for at in range(3) if at != 1 or any(row[1] for row in block.rows)]
    heads = block.more or ("name", "", "is")
    lines = ["| " + " | ".join(heads[at] or "kind" for at in used) + " |", "|" + " --- |" * len(used)]
    for row in block.rows:
        cells = [f"`{row[0]}`" if heads[0] in ("parameter", "filter", "test", "name") else row[0], row[1], row[2]]
        lines.append("| " + " | ".join(cells[at].replace("|", "\\|") for at in used) + " |")
    return "\n".join(lines)
