"""Where runs are kept: opens the store that `--state` names, a folder of this machine or a database that several share."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import click

from engine.diagnostics import Diagnostic, EngineError, Exit
from engine.store import Store

_SCHEMES = ("postgresql", "postgres")
#: MiB that have to be free where this machine keeps its files before a run begins to change something.
_RESERVE = 64


def shared(state: str) -> bool:
    """Whether it names a database, and no folder."""
    return "://" in state


def here(context: click.Context | None) -> Path:
    """The folder of this machine that goes with the record: it is the record's own, or lies beside a database."""
    said = (context.find_root().obj if context else None) or {}
    state = said.get("state", ".lastgood")
    return Path(said["files"] if shared(state) else state)


def exists(state: str) -> bool:
    """Whether there may be runs. A database is asked when it is opened."""
    from engine import sqlite_store

    return shared(state) or sqlite_store.exists(Path(state))


def roomy(files: Path) -> None:
    """Raises EngineError where the disk is nearly full: a run that cannot write down what it does would stop half-way."""
    said = os.environ.get("LASTGOOD_RESERVE", str(_RESERVE))
    if not said.isdecimal():
        raise click.UsageError(f"LASTGOOD_RESERVE: {said!r} is no number of MiB")
    whole = files.absolute()  # the folder is made when something is kept in it: until then its disk is that of one above it
    disk = os.statvfs(next(path for path in (whole, *whole.parents) if path.exists()))
    free = disk.f_bavail * disk.f_frsize >> 20
    if free < int(said):
        told = f"only {free} MiB are free at {files}, and {said} MiB are kept for the record of what is changed"
        hint = "nothing was changed; free the disk, then try again (LASTGOOD_RESERVE=0 goes on without)"
        raise EngineError(Diagnostic("LG077", told, hint=hint), Exit.FAILED)


def opened(state: str, files: Path, lease: float) -> Store:
    """The store at that place. `files`: where this machine keeps what is no entry. Raises EngineError, or UsageError.

    A database that is lost is waited for no longer than what is left of a lease that is renewed in time: a run that could
    not write any more anyway shall say so.
    """
    if not shared(state):
        from engine import sqlite_store

        return sqlite_store.SqliteStore(Path(state))
    if state.partition(":")[0] not in _SCHEMES:
        raise click.UsageError(f"--state {state.partition(':')[0]}: a folder, or an address postgresql://USER@HOST/DATABASE")
    try:
        from engine import postgres_store
    except ImportError:
        said, hint = "a record on PostgreSQL needs the package psycopg", "pip install 'lastgood[pg]'"
        raise EngineError(Diagnostic("LG070", said, hint=hint), Exit.FAILED) from None
    return postgres_store.PostgresStore(state, files, patience=lease * 2 / 3)


def no_password(context: click.Context, _option: click.Parameter, state: str) -> str:
    """For the option: what stands on the command line can be read by everybody on the machine."""
    if context.get_parameter_source("state") != click.core.ParameterSource.COMMANDLINE:
        return state
    return typed(state, "--state", " into ~/.pgpass or PGPASSWORD, or the whole address into LASTGOOD_STATE")


def typed(state: str, what: str = "the address", where: str = " into ~/.pgpass or PGPASSWORD") -> str:
    """A place as it was typed. Raises UsageError for one that holds a password."""
    if not shared(state):
        return state
    try:
        parts = urlsplit(state)
        found = parts.password is not None or "password" in parse_qs(parts.query)
    except ValueError:
        found = True
    if found:
        said = f"{what} holds a password, and everybody on this machine can read the arguments of a process."
        raise click.UsageError(f"{said} Put it{where}")
    return state
