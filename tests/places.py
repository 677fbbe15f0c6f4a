"""Places where a store can be made, of either kind, for the laws that hold on both: opened, and changed past the engine."""

from __future__ import annotations

import itertools
import sqlite3
from pathlib import Path
from typing import Any

from postgres import Server

from engine.journal import Journal
from engine.postgres_store import PostgresStore


class Place:
    """One store: a folder, or a schema of a server."""

    def __init__(self, folder: Path, server: Server | None) -> None:
        self.folder, self.server = folder, server
        self.schema = server.schema() if server else ""

    @property
    def state(self) -> str:
        """What `--state` calls it."""
        return self.server.url(self.schema) if self.server else str(self.folder)

    def open(self, **more: Any) -> Journal:
        return Journal(PostgresStore(self.state, self.folder, 60) if self.server else self.folder, **more)

    def sql(self, script: str, *values: object) -> list[tuple[Any, ...]]:
        """Statements past the engine, in one transaction (values: one statement, with `?`); the rows of the last."""
        if self.server:
            with self.server.direct(schema=self.schema) as pg, pg.transaction():
                found = pg.execute(script.replace("%", "%%").replace("?", "%s") if values else script, values or None)
                while found.nextset():
                    pass
                return found.fetchall() if found.description else []
        db = sqlite3.connect(self.folder / "journal.db", isolation_level=None)
        try:
            if values or ";" not in script:
                return db.execute(script, values).fetchall()
            db.executescript(script)
            return []
        finally:
            db.close()


class Places:
    """As many as are asked for. Hypothesis asks once for each example."""

    def __init__(self, folder: Path, server: Server | None) -> None:
        self._folder, self._server, self._number = folder, server, itertools.count(1)

    def new(self) -> Place:
        return Place(self._folder / f"store{next(self._number)}", self._server)
