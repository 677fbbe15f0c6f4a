"""`engine resolve`: a person says what became of a step that nobody can read, and why they say so."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import click

from engine.cli import reopening, settling
from engine.diagnostics import Exit


@click.command(epilog="Reference: docs/reference/commands.md")
@click.argument("run")
@click.argument("step")
@reopening.options
@click.option("--as", "answer", type=click.Choice(settling.ANSWERS), default=None, help="What you found when you looked.")
@click.option("--because", default=None, help="How you know, for the record.")
@click.option("-h", "--host", "hosts", multiple=True, metavar="HOST", help="On this host, where it is uncertain on several.")
@click.pass_context
def command(
    context: click.Context,
    /,
    run: str,
    step: str,
    answer: str | None,
    because: str | None,
    hosts: tuple[str, ...],
    **said: Any,
) -> int:
    """Settle an uncertain step: you looked at the host, and it was done or it was not. STEP may be written HOST:STEP.

    `done` lets it pass as waived; `not-done` has the next resume do it. What was not asked is asked on the terminal.

    \b
    engine resolve RB-0007 fraud-eu:notify --as done --because "the mail of 02:14 is in the archive"
    engine resolve RB-0007 notify -h fraud-eu --as not-done --because "its log has no request"
    """
    from engine import recall
    from engine.cli import opening, running

    store = running.store(context, must_exist=True)
    run = running.known(store, run)
    store.claim(run)  # a process that runs it would not hear of the answer, and may just be looking itself
    entries = store.verified(run)
    ready, base, body = reopening.reopened(entries, None, said["playbook"], said["inventories"])
    who = opening.requester(None)
    site = running.site(ready, store, run, base, body["requester"], body["check"], body["inventories"])
    uncertain = recall.of(site.plan, entries).uncertain
    places = _chosen(uncertain, run, step, hosts)
    if answer is None or because is None:
        told = "; ".join(f"{host} {name}: {settling.last_words(entries, (host, name))}" for host, name in places)
        answer, because = settling.asked(told, answer, because)
    if not because.strip():
        raise click.UsageError("--because says how you know; without it nobody could tell later.")
    for place in places:
        recall.decide(site, place, uncertain.pop(place), answer, because.strip(), who)
    on = ", ".join(f"{host} {name}" for host, name in places)
    click.echo(f"{run}: {on} was {answer.replace('-', ' ')}, says {who}.   next: {_next(run, entries, uncertain)}", err=True)
    return Exit.DONE


def _chosen(uncertain: Collection[tuple[str, str]], run: str, step: str, hosts: Collection[str]) -> list[tuple[str, str]]:
    """The uncertain steps that are meant. Raises UsageError, naming those that are, for none and for several hosts."""
    named = [place for place in sorted(uncertain) if step in _names(*place)]
    found = [place for place in named if place[0] in hosts] if hosts else named
    if found and (hosts or len(found) == 1):
        return found
    if found:
        several = ", ".join(host for host, _ in found)
        raise click.UsageError(f"{step} is uncertain on {several}: look at each, then name it: -h {found[0][0]}")
    known = ", ".join(f"{host}:{name.partition('/')[2]}" for host, name in sorted(uncertain)) or "none"
    on = f" on {', '.join(hosts)}" if hosts else ""
    raise click.UsageError(f"{step}{on} is not an uncertain step of {run}; those that are: {known}")


def _names(host: str, step: str) -> tuple[str, ...]:
    """The ways to name a step of a host."""
    short = step.partition("/")[2]
    return (step, short, f"{host}:{step}", f"{host}:{short}")


def _next(run: str, entries: list[Any], left: Collection[tuple[str, str]]) -> str:
    from engine import ending, journal, words

    for place in sorted(left):
        return words.resolving(run, *place)
    last = journal.ending(entries)
    return f"engine {'report' if last and last.body['outcome'] in ending.ENDED else 'resume'} {run}"
