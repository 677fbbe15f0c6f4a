"""`engine doc`: look up a module, a keyword, a diagnostic, an exit code, expressions, a command."""

from __future__ import annotations

from pathlib import Path

import click

from engine.diagnostics import Exit, did_you_mean


@click.command(epilog="Reference: docs/reference/commands.md")
@click.argument("topic", required=False)
@click.option(
    "--beside",
    type=click.Path(path_type=Path),
    default=None,
    help="A playbook: the modules in its own folder are meant too.",
)
def command(topic: str | None, beside: Path | None) -> int:
    """Print the page of a topic; without one, what there is.

    \b
    engine doc mlflow.alias
    engine doc LG045
    """
    from engine import reference
    from engine.cli import opening
    from modules.catalog import Unusable

    catalog, shown = opening.catalog(beside or Path("playbook.yml")) if beside else opening.catalog(Path("/")), helps()
    if topic is None:
        click.echo(reference.contents(catalog, shown), nl=False)
        return Exit.DONE
    try:
        text = reference.page(topic, catalog, shown)
    except Unusable as error:
        raise click.UsageError(f"{error}.") from None
    if text is None:
        hint = did_you_mean(topic, reference.topics(catalog, shown), "engine doc lists what there is.")
        raise click.UsageError(f"there is no page about `{topic}`. {hint}")
    click.echo(text.rstrip("\n"))
    return Exit.DONE


def helps() -> dict[str, str]:
    """command -> its help as `COMMAND --help` prints it on a terminal of 80 columns."""
    from engine.cli import main

    root = click.Context(main.cli, info_name="engine", terminal_width=78, help_option_names=["-h", "--help"])
    found = {"engine": main.cli.get_help(root)}
    for verb in main.VERBS:
        if (one := main.cli.get_command(root, verb)) is not None:
            context = click.Context(one, parent=root, info_name=verb)
            found[f"engine {verb}"] = one.get_help(context)
            for name, inner in one.commands.items() if isinstance(one, click.Group) else ():
                found[f"engine {verb} {name}"] = inner.get_help(click.Context(inner, parent=context, info_name=name))
    return found


def pages() -> dict[str, str]:
    """file name -> what docs/reference holds."""
    from engine import reference
    from modules.catalog import Catalog

    return reference.pages(Catalog(), helps())
