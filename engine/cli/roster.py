"""`engine roster`: who may give which key, until when, signed by whom; and how that is changed without copying keys."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine import sshsig
from engine.cli import keeping
from engine.diagnostics import Diagnostic, EngineError, Exit, printable

if TYPE_CHECKING:
    from engine.roster import Roster
    from engine.trust import Trust

_DAYS = 365
_SOON = 30 * 86400.0

_where = click.option(
    "-i", "--inventory", "folder", required=True, type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The inventory's folder, in which roster.yml lies.",
)  # fmt: skip
_least = click.option(
    "--least", type=click.Choice(["automatic", "one-click", "two-key"]), default=None,
    help="What every playbook has to ask for here, or more.",
)  # fmt: skip
_epilog = "Reference: docs/reference/commands.md"


@click.group(invoke_without_command=True, epilog=_epilog)
@click.option(
    "-i", "--inventory", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The inventory's folder, in which roster.yml lies.",
)  # fmt: skip
@click.option("--allowed-signers", is_flag=True, help="Print it as ssh and Git read it (more laxly).")
@click.pass_context
def command(context: click.Context, /, folder: Path | None, allowed_signers: bool) -> int | None:
    """Show who may give which key, when each lapses, who has signed, and what is wrong (exit 3).

    \b
    engine roster -i inventories/production
    engine roster init -i inventories/production --person ana=keeper,ml-oncall=ana.pub
    engine roster add -i inventories/production dee --role fraud-risk --key dee.pub
    engine roster sign -i inventories/production --key ~/.ssh/id_ed25519
    engine roster pin -i inventories/production
    """
    if context.invoked_subcommand:
        return None
    if folder is None:
        raise click.UsageError("Name the inventory: engine roster -i inventories/production")
    from engine import roster, rostering, source

    document = source.load(_file(folder))
    people = roster.read(document)
    if allowed_signers:
        click.echo(rostering.allowed_signers(people), nl=False)
        return Exit.DONE
    wrong = _wrong(document, folder, _outside(context))
    click.echo("\n".join(_shown(people, folder, _outside(context))))
    if wrong is not None:
        raise wrong
    click.echo(f"it counts.   next: {_next(people)}")
    return Exit.DONE


def _file(folder: Path) -> Path:
    """The roster of the folder. Raises click.UsageError."""
    for name in ("roster.yml", "roster.yaml"):
        if (folder / name).is_file():
            return folder / name
    raise click.UsageError(f"{folder} has no roster.yml. Make one: engine roster init -i {folder} --person …")


def _outside(context: click.Context) -> Trust:
    from engine import trust

    return trust.trust(keeping.here(context))


def _wrong(document: Any, folder: Path, outside: Trust) -> EngineError | None:
    """Why the roster does not count now, if it does not."""
    from engine import trust

    try:
        trust.current(document, folder.resolve().name, outside, time.time())
    except EngineError as error:
        return error
    return None


def _shown(people: Roster, folder: Path, outside: Trust) -> list[str]:
    from engine import words

    now = time.time()
    if people.version:
        wanted = ", ".join(f"{count} of {role}" for role, count in people.thresholds.items())
        lines = [
            f"{people.path}: version {people.version} of {people.environment}, {people.digest}",
            f"  lapses      {_until(people.expires, now)}",
            f"  to change   {wanted}",
            f"  at least    {people.least}",
            f"  signed by   {', '.join(_signed(people, folder)) or 'nobody'}",
            f"  pinned      {_pinned(people, outside)}",
        ]
    else:
        lines = [
            f"{people.path}: not signed (no version); who can change the file decides who may approve",
            f"  {people.digest}",
        ]
    for person in people.people:
        logins = f"   (also {', '.join(person.logins)})" if person.logins else ""
        lines.append(f"{person.name}: {', '.join(person.roles)}{logins}")
        for key in person.keys:
            limits = [f"demands {' and '.join(key.demand)}"] if key.demand else []
            limits += [f"from {words.utc(key.since)}"] if key.since > now else []
            limits += [_until(key.until, now)] if key.until != float("inf") else []
            lines.append(f"  {key.public.fingerprint} {key.public.kind}{'; '.join(['', *limits])}")
    return [printable(line, 400) for line in lines]


def _until(at: float, now: float) -> str:
    from engine import words

    if at <= now:
        return f"LAPSED at {words.utc(at)}"
    return f"at {words.utc(at)}, in {words.span(at - now)}" + (": SOON" if at - now < _SOON else "")


def _signed(people: Roster, folder: Path) -> list[str]:
    """Who of the roster has signed its version, without a judgement."""
    from engine import envelope, source, trust

    path = folder / trust.FOLDER / f"{people.version:04d}.json"
    try:
        signed = envelope.read(source.strict_json(path.read_bytes(), str(path)))
        return trust.signers(signed, people, None, str(path))
    except (OSError, EngineError, sshsig.Refused):
        return []


def _pinned(people: Roster, outside: Trust) -> str:
    try:
        mark = (outside.pins() or {}).get(people.environment)
    except EngineError as error:
        return error.diagnostics[0].summary
    return f"version {mark.version}, {mark.digest[:23]}… in {outside.home}" if mark else f"not in {outside.home}"


def _next(people: Roster) -> str:
    folder = Path(people.path).parent
    if not people.version:
        return f"engine roster init -i {folder} makes it one that has to be signed"
    return (
        f"engine roster renew -i {folder}"
        if people.expires - time.time() < _SOON
        else "engine validate PLAYBOOK -i INVENTORY"
    )


# ------------------------------------------------------------------------------------------------- changing it
def _changed(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> int:
    """Writes the roster with the change in it, as the next version or as the one that is being worked on."""
    from engine import roster, rostering, source
    from engine.sshsig import Refused

    path = _file(folder)
    data = source.load(path).data
    try:
        made = rostering.following(data, _complete(folder, data), **change(data))
        text = rostering.text(made)
        roster.read(source.parse(text, str(path)))
    except Refused as refused:
        raise _refused(refused) from None
    return _written(folder, path, data, made, text)


def _refused(refused: Any) -> EngineError:
    return EngineError(Diagnostic("LG110", f"the roster was not changed: {refused.reason}", hint=refused.hint), Exit.USAGE)


def _complete(folder: Path, data: dict[str, Any]) -> bool:
    """Whether this very version has all the signatures that it and the one before it demand."""
    from engine import envelope, roster, rostering, source, trust

    path = folder / trust.FOLDER / f"{data.get('version', 0):04d}.json"
    if not path.is_file():
        return False
    try:
        signed = envelope.read(source.strict_json(path.read_bytes(), str(path)))
        people, before = roster.read(source.parse(rostering.text(data), str(path))), _before(folder, data["version"])
        known = [people, before[0]] if before else [people]
        fits = signed.data == trust.stated(data)
        return fits and not any(trust.lacking(one, trust.signers(signed, one, None)) for one in known)
    except (EngineError, sshsig.Refused):
        return False


def _written(folder: Path, path: Path, before: dict[str, Any] | None, made: dict[str, Any], text: str) -> int:
    from engine import rostering, trust

    path.write_text(text, "utf-8")
    stale = folder / trust.FOLDER / f"{made.get('version', 0):04d}.json"
    if made.get("version") and stale.is_file():  # signed for a text that is no more
        stale.unlink()
    for line in rostering.differences(before, made):
        click.echo(printable(line, 400), err=True)
    number = f"version {made['version']}" if "version" in made else "a roster that nobody has to sign"
    after = f"engine roster sign -i {folder}" if "version" in made else f"engine roster -i {folder}"
    click.echo(f"{path} is {number} now.   next: {after}", err=True)
    return Exit.DONE


def _keys(paths: tuple[Path, ...]) -> list[str]:
    """The lines of .pub files. Raises click.UsageError."""
    found = []
    for path in paths:
        public = path if path.suffix == ".pub" else path.with_name(path.name + ".pub")
        try:
            found.append(sshsig.public_key(public.read_text("utf-8")).line)
        except OSError as error:
            raise click.UsageError(f"{public} cannot be read: {error.strerror}") from None
        except sshsig.Refused as refused:
            raise click.UsageError(f"{public}: {refused.reason}. {refused.hint}") from None
    return found


@command.command(epilog=_epilog)
@_where
@click.option("--person", "people", multiple=True, metavar="NAME=ROLE,…=FILE.pub", help="Somebody in it; may be repeated.")
@click.option(
    "--change", "thresholds", multiple=True, metavar="ROLE=COUNT", help="So many of ROLE sign a change [keeper=2]."
)
@click.option("--days", default=_DAYS, show_default=True, type=click.IntRange(1, 3650), help="It lapses after so many days.")
@_least
def init(folder: Path, people: tuple[str, ...], thresholds: tuple[str, ...], days: int, least: str | None) -> int:
    """Make version 1: of the people named, or of an unsigned roster.yml that is there.

    \b
    engine roster init -i inventories/production --person ana=keeper=ana.pub --person bo=keeper,fraud-risk=bo.pub
    """
    from engine import roster, rostering, source
    from engine.sshsig import Refused

    path = folder / "roster.yml"
    data = source.load(_file(folder)).data if path.is_file() else None
    if data and "version" in data:
        raise click.UsageError(f"{path} is version {data['version']} already. Change it: engine roster add, remove, renew")
    listed = list(data["people"]) if data else []
    for one in people:
        name, roles, file = [*one.split("=", 2), "", ""][:3]
        if not (name and roles and file):
            raise click.UsageError(f"--person {one}: write NAME=ROLE,ROLE=FILE.pub")
        try:
            listed = rostering.added(listed, name, roles.split(","), _keys((Path(file),)))
        except Refused as refused:
            raise _refused(refused) from None
    counts = dict(one.partition("=")[::2] for one in thresholds) or {"keeper": "2"}
    if not all(count.isdigit() for count in counts.values()):
        raise click.UsageError("--change: write ROLE=COUNT, for example keeper=2")
    until = time.time() + days * 86400
    demanded = {"least": least} if least else {}
    made = rostering.first(folder.resolve().name, listed, {role: int(count) for role, count in counts.items()}, until)
    made |= demanded
    text = rostering.text(made)
    roster.read(source.parse(text, str(path)))
    return _written(folder, path, None, made, text)


@command.command(epilog=_epilog)
@_where
@click.argument("name")
@click.option("--role", "roles", multiple=True, help="A role of theirs; may be repeated.")
@click.option("--key", "keys", multiple=True, type=click.Path(path_type=Path), help="Their .pub file; may be repeated.")
@click.option("--login", "logins", multiple=True, help="A name under which they work on machines.")
@click.option("--demand", multiple=True, type=click.Choice(["touch", "pin"]), help="What these security keys have to show.")
@click.option("--until", default="", help="Until when these keys count: 2027-06-30T12:00:00Z.")
def add(
    folder: Path, name: str, roles: tuple[str, ...], keys: tuple[Path, ...], logins: tuple[str, ...],
    demand: tuple[str, ...], until: str,
) -> int:  # fmt: skip
    """Add a person, or roles and keys to one who is there. The next version, to be signed.

    \b
    engine roster add -i inventories/production dee --role fraud-risk --key dee.pub
    """
    from engine import rostering

    conditions = {**({"demand": list(demand)} if demand else {}), **({"until": until} if until else {})}
    lines = _keys(keys)
    return _changed(folder, lambda data: {"people": rostering.added(data["people"], name, roles, lines, logins, conditions)})


@command.command(epilog=_epilog)
@_where
@click.argument("name")
@click.option("--role", "roles", multiple=True, help="Only this role of theirs.")
@click.option("--key", "prints", multiple=True, metavar="SHA256:…", help="Only this key of theirs, by its fingerprint.")
def remove(folder: Path, name: str, roles: tuple[str, ...], prints: tuple[str, ...]) -> int:
    """Take a person out, or some of their roles or keys. The next version, to be signed.

    \b
    engine roster remove -i inventories/production dee
    engine roster remove -i inventories/production ana --key SHA256:…
    """
    from engine import rostering

    return _changed(folder, lambda data: {"people": rostering.removed(data["people"], name, roles, prints)})


@command.command(epilog=_epilog)
@_where
@click.option("--days", default=_DAYS, show_default=True, type=click.IntRange(1, 3650), help="It lapses after so many days.")
@_least
def renew(folder: Path, days: int, least: str | None) -> int:
    """Let the roster hold longer. The next version, to be signed.

    \b
    engine roster renew -i inventories/production
    engine roster renew -i inventories/production --least two-key
    """
    from engine import rostering, source

    if "version" not in source.load(_file(folder)).data:
        raise click.UsageError("An unsigned roster does not lapse. Make it one that does: engine roster init")
    demanded = {"least": least} if least else {}
    return _changed(folder, lambda _: {"expires": rostering.renewed(time.time(), days), **demanded})


@command.command(epilog=_epilog)
@_where
@click.option("--key", "keys", multiple=True, type=click.Path(path_type=Path), help="An SSH key file (else ssh-agent).")
@click.option("--as", "person", default=None, help="As whom, where several people's keys are at hand.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask: you have read what changes.")
@click.pass_context
def sign(context: click.Context, /, folder: Path, keys: tuple[Path, ...], person: str | None, yes: bool) -> int:
    """Sign the version in roster.yml, after reading what it changes.

    \b
    engine roster sign -i inventories/production --key ~/.ssh/id_ed25519
    """
    from engine import roster, rostering, source, trust
    from engine.sshsig import Refused

    document = source.load(_file(folder))
    people, data = roster.read(document), document.data
    if not people.version:
        raise click.UsageError("An unsigned roster is not signed. Make it one that is: engine roster init")
    told = trust.before(folder, people.version, people.environment, _outside(context))
    before = _before(folder, people.version)
    click.echo(f"Version {people.version} of the roster of {people.environment}, {people.digest}:", err=True)
    for line in rostering.differences(before and before[1], data):
        click.echo(f"  {printable(line, 400)}", err=True)
    if not told:
        _all_of_it(people)
    if not yes and (not sys.stdin.isatty() or not click.confirm("Sign it?", default=False, err=True)):
        raise click.UsageError("nothing was signed. Without a terminal say --yes, after reading what changes.")
    known = [one for one in (people, before[0] if before else None) if one]
    try:
        who, signer = _signer(known, keys, person)
        path = trust.sign(folder, data, signer)
    except Refused as refused:
        raise _refused(refused) from None
    wrong = _wrong(document, folder, _outside(context))
    state = "it counts" if wrong is None else wrong.diagnostics[0].summary
    click.echo(f"signed by {who} in {path}. {state}.   next: engine roster -i {folder}", err=True)
    return Exit.DONE


def _all_of_it(people: Roster) -> None:
    """Says whom a version names: what changes in it is told by a version that nobody here can hold against a pin."""
    said = f"nobody on this machine has pinned the roster of `{people.environment}` before this version: read whom it names"
    wanted = ", ".join(f"{count} of {role}" for role, count in people.thresholds.items())
    click.echo(f"  {said}\n  to change it: {printable(wanted, 400)}; at least: {people.least}", err=True)
    for one in people.people:
        keys = [key.public.fingerprint for key in one.keys]
        click.echo(f"  {printable(', '.join((f'{one.name}: {one.roles[0]}', *one.roles[1:], *keys)), 400)}", err=True)


def _before(folder: Path, version: int) -> tuple[Roster, dict[str, Any]] | None:
    """The version before, as far as it lies there."""
    from engine import envelope, roster, rostering, source, trust

    path = folder / trust.FOLDER / f"{version - 1:04d}.json"
    if not path.is_file():
        return None
    data = envelope.read(source.strict_json(path.read_bytes(), str(path))).data["predicate"]["roster"]
    return roster.read(source.parse(rostering.text(data), str(path))), data


def _signer(known: list[Roster], keys: tuple[Path, ...], person: str | None) -> Any:
    """The one person of the new or the old version whose key is at hand. Raises Refused."""
    from engine.cli import giving

    signers = [sshsig.key_file(path, giving.passphrase) for path in keys]
    agent = os.environ.get("SSH_AUTH_SOCK")
    if agent and not keys:
        signers += sshsig.agent(agent)
    able = [
        (who.name, signer) for signer in signers for one in known[:2]
        if (who := one.person_by_key(signer.key.fingerprint)) and person in (None, who.name)
    ]  # fmt: skip
    if not able:
        raise sshsig.Refused("no SSH key of anybody in this version or the one before is at hand", "name a file with --key")
    if len({name for name, _ in able}) > 1:
        raise sshsig.Refused("keys of several people are at hand", "say as whom with --as")
    return able[0]


@command.command(epilog=_epilog)
@_where
@click.option("--unsigned", is_flag=True, help="Let this environment's roster be one that nobody signs.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask: you have compared the digest with somebody who knows it.")
@click.pass_context
def pin(context: click.Context, /, folder: Path, unsigned: bool, yes: bool) -> int:
    """Let this machine trust the roster from the version that is there now. Once pins are kept, no other roster counts here.

    \b
    engine roster pin -i inventories/production
    """
    from engine import roster, source, trust

    people, outside, environment = roster.read(source.load(_file(folder))), _outside(context), folder.resolve().name
    if unsigned and people.version:
        raise click.UsageError("This roster is signed: leave --unsigned out.")
    if not unsigned and not people.version:
        raise click.UsageError(
            "Nobody signs this roster: make it one that is signed (engine roster init), or say --unsigned."
        )
    mark = trust.Mark(people.version, "unsigned" if unsigned else people.digest)
    click.echo(f"{environment}: version {mark.version}, {mark.digest}, into {outside.home / trust.PINS}", err=True)
    question = "Have you compared it, by another way than the repository?"
    if not yes and (not sys.stdin.isatty() or not click.confirm(question, default=False, err=True)):
        raise click.UsageError("nothing was pinned. Without a terminal say --yes, after comparing the digest.")
    try:
        path = trust.pin(outside.home, environment, mark)
    except OSError as error:
        hint = f"do it as who owns {outside.home}, or name another folder with LASTGOOD_TRUST"
        raise EngineError(Diagnostic("LG213", f"nothing was pinned: {error.strerror}", hint=hint), Exit.FAILED) from None
    click.echo(f"pinned in {path}.   next: engine roster -i {folder}", err=True)
    return Exit.DONE
