"""A real PostgreSQL for the tests: found, started on a port and in a folder of its own, stopped and killed at will.

Debian's package comes first: it is what people run, and `.ci/run` can install it. Root is refused by the server, so that its
processes belong to `postgres` (or `nobody`) then. Everything listens on the loopback and on a socket in the server's folder.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg

PASSWORD = "s3cr%t:wörd/@"
_NAMES = (f"s{number}" for number in itertools.count(1))


def programs() -> Path | None:
    """Where `initdb` and `postgres` lie; Debian keeps them out of the PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    return next((path for path in folders if (path / "initdb").exists() and (path / "postgres").exists()), None)


def _somebody() -> str | None:
    """Who the server runs as, when we are root."""
    if os.geteuid():
        return None
    names = {one.pw_name for one in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


class Server:
    """A server of one's own. `url` names a fresh schema each time: an empty store, made in a millisecond."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder, self.settings, self.process = folder, settings, None
        self.bin, self.user = programs(), _somebody()
        assert self.bin
        if self.user:
            shutil.chown(folder, self.user)
        folder.chmod(0o755)  # others reach the socket; the data below are closed
        secret = folder / "password"
        secret.write_text(PASSWORD, "utf-8")
        words = ["--username=lastgood", "--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={secret}"]
        more = ["--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"]
        self._run("initdb", f"--pgdata={folder / 'data'}", *words, *more)
        secret.unlink()
        self.port = 0
        self.start()
        with self.direct("postgres") as db:
            db.execute("CREATE DATABASE lastgood")

    def _run(self, program: str, *words: str) -> None:
        done = subprocess.run(
            [str(self.bin / program), *words], user=self.user, cwd=self.folder, capture_output=True, text=True, timeout=300
        )
        assert 0 == done.returncode, done.stderr

    def start(self, wait: bool = True) -> None:
        """Starts it, on the port that it had. What a kill left behind in memory may be in the way for a moment."""
        if not self.port:
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.port = free.getsockname()[1]
        settings = {
            "listen_addresses": "127.0.0.1", "port": str(self.port), "unix_socket_directories": str(self.folder),
            "max_connections": "260", "shared_buffers": "16MB", "wal_level": "minimal", "max_wal_senders": "0",
            "logging_collector": "off", **self.settings,
        }  # fmt: skip
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        deadline = time.monotonic() + 120
        while True:
            with (self.folder / "log").open("ab") as log:
                self.process = subprocess.Popen(
                    [str(self.bin / "postgres"), "-D", str(self.folder / "data"), *words],
                    user=self.user, cwd=self.folder, stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
            if not wait or self._answers(deadline):
                return
            assert time.monotonic() < deadline, (self.folder / "log").read_text("utf-8", "replace")[-2000:]
            time.sleep(0.1)

    def _answers(self, deadline: float) -> bool:
        while self.process and self.process.poll() is None and time.monotonic() < deadline:
            try:
                self.direct("postgres").close()
                return True
            except psycopg.OperationalError:
                time.sleep(0.02)
        return False

    def kill(self) -> None:
        """As if its machine had gone: every process of it at once, nothing is finished or said."""
        assert self.process
        family = [self.process.pid, *_children(self.process.pid)]
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        while any(Path(f"/proc/{pid}").exists() for pid in family[1:]):
            time.sleep(0.005)

    def crash(self, dice: random.Random) -> None:
        """Kills one of its processes; the server then throws out all others and recovers, which takes no time to start."""
        assert self.process
        if family := _children(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(dice.choice(family), signal.SIGKILL)

    def direct(self, database: str = "lastgood", schema: str = "public") -> psycopg.Connection:
        """A connection past the engine."""
        options = f"-csearch_path={schema}"
        return psycopg.connect(
            host=str(self.folder), port=self.port, user="lastgood", dbname=database, options=options, autocommit=True
        )

    def schema(self) -> str:
        """The name of a new and empty schema."""
        name = f"{next(_NAMES)}p{os.getpid()}"
        with self.direct() as db:
            db.execute(f"CREATE SCHEMA {name}")
        return name

    def url(self, schema: str | None = None, port: int = 0, password: str = "") -> str:
        """The address of an empty store, or of the one in that schema: by the socket, or by TCP with the password."""
        path = quote(f"-csearch_path={schema or self.schema()}", safe="")
        if not password:
            return f"postgresql://lastgood@/lastgood?host={quote(str(self.folder), safe='')}&port={self.port}&options={path}"
        who = f"lastgood:{quote(password, safe='')}@127.0.0.1:{port or self.port}"
        return f"postgresql://{who}/lastgood?options={path}"


def _children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state = path.read_text("utf-8", "replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(state[1]) == parent:
            found.append(int(path.parent.name))
    return found


def serving(parent: Path = Path("/tmp"), **settings: str) -> Iterator[Server]:
    """A server for as long as somebody uses it. Its folder: short, because a socket's path may have 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir=parent))
    server = None
    try:
        server = Server(folder, **settings)
        yield server
    finally:
        if server:
            server.kill()  # what it kept is deleted: no checkpoint is worth waiting for
        shutil.rmtree(folder, ignore_errors=True)
