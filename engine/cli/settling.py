"""What `resolve` and `resume` ask a person of a step that nobody can read: was it done, and how do they know?"""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import Any

import click

ANSWERS = ("done", "not-done")


def asked(told: str, answer: str | None, because: str | None, later: bool = False) -> tuple[str, str]:
    """What is not known yet, asked on the terminal. Raises UsageError where there is none. `later`: may be left open."""
    if not sys.stdin.isatty():
        raise click.UsageError("There is no terminal to ask on: say --as done or --as not-done, and --because why.")
    choice = click.Choice([*ANSWERS, *(["later"] if later else [])])
    if answer is None:
        click.echo(told, err=True)
        question = "You have looked: was it done?"
        answer = str(click.prompt(question, type=choice, default="later" if later else None, err=True))
    if because is None and answer != "later":
        because = str(click.prompt("How do you know?", err=True))
    return answer, because or ""


def last_words(entries: Collection[Any], place: tuple[str, str]) -> str:
    """Why the step of this host and name is uncertain, as its last outcome says."""
    said = (e.body["why"] for e in reversed(list(entries)) if e.kind == "step.outcome" and (e.host, e.step) == place)
    return next(said, "")
