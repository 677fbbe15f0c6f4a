"""`engine report`: a run told from its journal alone, as a page, as Markdown, as JSON."""

from __future__ import annotations

from pathlib import Path

import click

from engine.diagnostics import Exit

_SUFFIXES = {".html": "html", ".htm": "html", ".md": "md", ".json": "json"}


@click.command(epilog="Reference: docs/reference/commands.md")
@click.argument("run", required=False)
@click.option(
    "--format", "form", type=click.Choice(["html", "md", "json"]), default=None, help="Default: html, or as FILE ends."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="Where to; - is standard output. Default: the run's folder.",
)
@click.option("--open", "show", is_flag=True, help="Show the page in the browser.")
@click.pass_context
def command(context: click.Context, /, run: str | None, form: str | None, out: Path | None, show: bool) -> int:
    """Write the report of a run (the newest, if none is named), made anew from its journal, which is verified first.

    \b
    engine report RB-0007 --open
    engine report RB-0007 --format md --out -

    The same journal gives the same bytes, so anybody who has the journal can make the report again and compare.
    """
    from engine import report, story
    from engine.cli import running

    store = running.store(context, must_exist=True)
    run = running.known(store, run)
    form = form or (_SUFFIXES.get(out.suffix.lower()) if out else None) or "html"
    if show and form != "html":
        raise click.UsageError(f"--open shows the page, and --format {form} makes none.")
    entries = store.verified(run)
    told = story.tell(entries)
    text = {"html": report.html, "md": report.markdown, "json": report.json_document}[form](told)
    follow = (
        f"next: engine status {run}"
        if told.ended is None
        else "next: engine runs"
        if show
        else f"next: engine report {run} --open"
    )
    if out == Path("-"):
        click.echo(text, nl=False)
        click.echo(follow, err=True)
        return Exit.DONE
    path = out or store.files(run) / f"report.{form}"
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise click.UsageError(
            f"The report cannot be written to {path}: {error.strerror}. Name another file with --out."
        ) from None
    click.echo(f"{path}: {run}, from {len(entries)} journal entries, whose chain is whole.")
    if show and not _opened(path):
        click.echo("no browser could be started; open the file by hand", err=True)
    click.echo(follow)
    return Exit.DONE


def _opened(path: Path) -> bool:
    import webbrowser

    try:
        return webbrowser.open(path.resolve().as_uri())
    except webbrowser.Error:
        return False
