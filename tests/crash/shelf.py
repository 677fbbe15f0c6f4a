"""A theatre's store in a PostgreSQL: one schema, put back as it was from a copy of its tables, with the files beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from postgres import Server

from engine.journal import Journal
from engine.postgres_store import PostgresStore


class Schema:
    """A `Shelf`. `files`: where the engine keeps evidence, as the command lines of the theatre say."""

    def __init__(self, server: Server, files: Path) -> None:
        self.server, self.files = server, files
        self.schema = server.schema()
        self.address = server.url(self.schema)
        self._db = server.direct(schema=self.schema)
        PostgresStore(self.address, files).close()  # makes the tables: they need not be made for every run

    def clear(self) -> None:
        self._write({})
        shutil.rmtree(self.files, ignore_errors=True)

    def keep(self, to: Path) -> None:
        to.mkdir()
        rows = {table: self._db.execute(f"SELECT * FROM {table}").fetchall() for table in self._tables()}
        (to / "tables.json").write_text(json.dumps(rows))
        if self.files.exists():
            shutil.copytree(self.files, to / "files")

    def bring(self, back: Path) -> None:
        self._write(json.loads((back / "tables.json").read_text()))
        shutil.rmtree(self.files, ignore_errors=True)
        if (back / "files").exists():
            shutil.copytree(back / "files", self.files)

    def _tables(self) -> list[str]:
        found = self._db.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (self.schema,))
        return [name for (name,) in found.fetchall()]

    def _write(self, rows: dict[str, list[list[object]]]) -> None:
        """Makes the tables so. What a killed process had still on its way is waited for."""
        with self._db.transaction(), self._db.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {', '.join(self._tables())} IN ACCESS EXCLUSIVE MODE")
            for table in self._tables():
                cursor.execute(f"DELETE FROM {table}")
                if them := rows.get(table):
                    cursor.executemany(f"INSERT INTO {table} VALUES ({', '.join(['%s'] * len(them[0]))})", them)

    def close(self) -> None:
        self._db.close()

    def journal(self) -> Journal:
        return Journal(PostgresStore(self.address, self.files))

    def there(self) -> bool:
        return bool(self._db.execute("SELECT 1 FROM entries LIMIT 1").fetchall())
