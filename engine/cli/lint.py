"""`engine lint`: a valid playbook held against a profile. Contacts nobody and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.diagnostics import Diagnostic, Exit, Place, render

if TYPE_CHECKING:
    from engine.review import Review

_SARIF = "https://json.schemastore.org/sarif-2.1.0.json"


@click.command(epilog="Reference: docs/reference/commands.md")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--profile",
    type=click.Choice(["draft", "team", "production", "regulated"]),
    default="production",
    show_default=True,
    help="How much is asked for; each asks for all that the one before it asks for.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "sarif"]),
    default="text",
    show_default=True,
    help="How it is said.",
)
def command(files: tuple[Path, ...], profile: str, form: str) -> int:
    """Review playbooks: what is missing, what proves nothing, what cannot be undone. Contacts nobody.

    \b
    engine lint playbooks/fraud.yml
    engine lint playbooks/*.yml --profile regulated --format sarif > lint.sarif

    Exit 3 when there are errors. A comment excuses a line or a step: # lint: ignore LG303 and the reason.
    """
    reviews = {file: _reviewed(file, profile) for file in files}
    found = [diagnostic for review in reviews.values() for diagnostic in review.diagnostics]
    errors = sum(d.severity == "error" for d in found)
    if form == "json":
        click.echo("\n".join(_lines(reviews, profile)))
    elif form == "sarif":
        click.echo(json.dumps(_sarif(reviews), indent=1))
    elif found:
        for review in reviews.values():
            if review.diagnostics:
                click.echo(render(review.diagnostics))
    click.echo(_said(found, reviews, profile), err=form != "text")
    return Exit.INVALID if errors else Exit.DONE


def _reviewed(file: Path, profile: str) -> Review:
    """The review of one playbook; what makes it invalid is all that is said of one that is."""
    from engine import plan, review
    from engine.cli import opening
    from engine.layout import Options

    mistakes: list[Diagnostic] = []
    modules = opening.catalog(file)
    book = opening.read(file, modules, mistakes)
    made = plan.check(book, modules, (), Options(), mistakes) if book is not None else None
    if made is None or mistakes:
        return review.Review(tuple(mistakes), ())
    return review.lint(made, modules, profile)


def _said(found: Sequence[Diagnostic], reviews: dict[Path, Review], profile: str) -> str:
    from engine.words import plural

    excused = sum(len(review.excused) for review in reviews.values())
    aside = f" {excused} excused by comments." if excused else ""
    where = f"{plural(len(reviews), 'playbook')} at profile {profile}"
    if not found:
        return f"{where}: clean.{aside} No host was contacted.\nnext: engine plan {next(iter(reviews))} -i INVENTORY"
    errors = sum(d.severity == "error" for d in found)
    counts = f"{plural(errors, 'error')}, {plural(len(found) - errors, 'warning')}"
    first = min(found, key=lambda d: (d.severity, d.code)).code
    return f"{where}: {counts}.{aside} No host was contacted.\nnext: engine doc {first}"


# ------------------------------------------------------------------------------------------------- for machines
def _lines(reviews: dict[Path, Review], profile: str) -> list[str]:
    """JSON lines: the format, then one finding a line, excused ones too."""
    lines: list[dict[str, Any]] = [
        {"format": "lastgood.lint/1", "profile": profile, "files": [str(file) for file in reviews]}
    ]
    for review in reviews.values():
        both = [(d, None) for d in review.diagnostics] + [(d, reason) for d, reason in review.excused]
        for found, reason in both:
            place = found.place or Place("")
            where = (
                {"path": place.path, "line": place.line, "column": place.column, "length": place.length}
                if found.place
                else {}
            )
            said = {"code": found.code, "severity": found.severity, "summary": found.summary, "detail": found.detail}
            lines.append({**said, "hint": found.hint, **where, "excused": reason})
    return [json.dumps(line) for line in lines]


def _sarif(reviews: dict[Path, Review]) -> dict[str, Any]:
    """SARIF 2.1.0 (https://docs.oasis-open.org/sarif/sarif/v2.1.0/): for code scanning."""
    from engine import __version__

    results = []
    for review in reviews.values():
        results += [_result(found, None) for found in review.diagnostics]
        results += [_result(found, reason) for found, reason in review.excused]
    codes, pages = sorted({result["ruleId"] for result in results}), _pages()
    listed = [
        {
            "id": code,
            "shortDescription": {"text": pages.get(code, {}).get("title", code)},
            "help": {"text": pages.get(code, {}).get("why", f"engine doc {code}")},
        }
        for code in codes
    ]
    driver = {"name": "Lastgood", "semanticVersion": __version__, "rules": listed}
    return {"$schema": _SARIF, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def _result(found: Diagnostic, reason: str | None) -> dict[str, Any]:
    text = f"{found.summary}. {found.hint}" if found.hint else found.summary
    result: dict[str, Any] = {"ruleId": found.code, "level": found.severity, "message": {"text": text}}
    if place := found.place:
        region = {"startLine": place.line, "startColumn": place.column, "endColumn": place.column + place.length}
        location = {"artifactLocation": {"uri": Path(place.path).as_posix()}, "region": region}
        result["locations"] = [{"physicalLocation": location}]
    if reason is not None:
        result["suppressions"] = [{"kind": "inSource", "justification": reason}]
    return result


def _pages() -> dict[str, Any]:
    """Title and explanation of every diagnostic of lint, as `engine doc` shows them."""
    from importlib import resources

    from engine import source

    file = resources.files("schemas") / "diagnostics.d" / "lint.yml"
    found: dict[str, Any] = source.parse(file.read_bytes(), file.name).data
    return found
