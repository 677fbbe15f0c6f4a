"""`engine init`: a playbook repository that validates and lints clean, and overwrites nothing."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from string import Template

import click

from engine.diagnostics import Exit
from modules.catalog import OURS, Catalog
from modules.contract import Json

#: Where each file goes, and the one in playbooks/starter/ that it is made from. `$environment` becomes the folder's name.
_FILES = {
    "README.md": "readme.md",
    ".gitignore": "gitignore.txt",
    ".github/workflows/playbooks.yml": "workflow.yml",
    ".vscode/settings.json": "vscode.json",
    "playbooks/rollback.yml": "rollback.yml",
    "playbooks/modules/README.md": "modules.md",
    "golden/fraud.jsonl": "golden.jsonl",
}
_ENVIRONMENT = {
    "hosts.yml": "hosts.yml",
    "group_vars/scoring.yml": "group_vars.yml",
    "roster.yml": "roster.yml",
    "destinations.yml": "destinations.yml",
}


@click.command("init", epilog="Reference: docs/reference/commands.md")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=".")
def command(folder: Path) -> int:
    """Make a playbook repository in FOLDER (here, unless given).

    \b
    engine init rollbacks
    engine init                   in the folder you are in

    A first playbook, inventories for staging and production, a roster, a golden set, schemas for editors, a check for CI.
    It validates as it is. A file that is there already is never overwritten.
    """
    texts = _texts()
    there = [name for name in texts if (folder / name).exists()]
    if there:
        names = ", ".join(there[:3]) + (f" and {len(there) - 3} more" if len(there) > 3 else "")
        raise click.UsageError(
            f"{folder / ''} has {names} already; nothing was written. Choose another folder, or move them away."
        )
    try:
        for name, text in texts.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        click.echo(f"{error.filename} cannot be written: {error.strerror}", err=True)
        return Exit.FAILED
    click.echo(f"{len(texts)} files in {folder}/: README.md says what to change first. Nothing was contacted.", err=True)
    cd = f"cd {folder} && " if folder != Path() else ""
    click.echo(f"next: {cd}engine validate playbooks/rollback.yml -i inventories/staging", err=True)
    return Exit.DONE


def _texts() -> dict[str, str]:
    """Every file of a new repository, by its path in it."""
    starter = files("playbooks") / "starter"
    found = {name: (starter / source).read_text("utf-8") for name, source in _FILES.items()}
    for environment in ("staging", "production"):
        for name, source in _ENVIRONMENT.items():
            text = Template((starter / source).read_text("utf-8"))
            found[f"inventories/{environment}/{name}"] = text.safe_substitute(environment=environment)
    found |= {f"schemas/{name}": text for name, text in schemas().items()}
    return found


def schemas() -> dict[str, str]:
    """The schemas for editors, by file name. That of the playbook also knows every module's parameters."""
    found = {file.name: file.read_text("utf-8") for file in files("schemas").iterdir() if file.name.endswith(".schema.json")}
    book = json.loads(found["playbook.schema.json"])
    modules = Catalog()
    for name in OURS:
        entry = modules.get(name)
        if entry is not None:
            book["$defs"]["step"]["properties"][name] = {**_templated(entry.schema), "description": entry.title}
    found["playbook.schema.json"] = json.dumps(book, indent=2) + "\n"
    return dict(sorted(found.items()))


def _templated(schema: dict[str, Json]) -> dict[str, Json]:
    """A module's schema in which every parameter may also be a `{{ template }}`: what it becomes, the engine checks."""
    template = {"type": "string", "pattern": r"\{\{"}
    wrapped = {}
    for name, about in schema["properties"].items():
        wrapped[name] = {"description": about["description"], "anyOf": [about, template]}
    return {**schema, "properties": wrapped}
