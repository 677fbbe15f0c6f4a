"""postgres_store: what a server must be like, what happens when it dies, hangs, or swallows an answer; no password is told.

The laws of the record itself are those of test_journal.py, which run over this store too.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from postgres import PASSWORD, Server
from proxy import Proxy

from engine.cli import main
from engine.diagnostics import Exit
from engine.journal import Journal, JournalError
from engine.postgres_store import PostgresStore

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def opened(url: str, folder: Path, patience: float = 60, limit: float | None = None) -> Iterator[Journal]:
    journal = Journal(PostgresStore(url, folder, patience, limit), lease=90)
    try:
        yield journal
    finally:
        journal.close()


def refused(call: Callable[[], Any], code: str) -> str:
    with pytest.raises(JournalError) as caught:
        call()
    assert (code, Exit.FAILED) == (caught.value.diagnostics[0].code, caught.value.exit)
    assert caught.value.diagnostics[0].hint
    return f"{caught.value.diagnostics[0].summary} {caught.value.diagnostics[0].hint}"


def test_how_far_our_clock_is_ahead_of_the_database(postgres: Server, tmp_path: Path) -> None:
    """The database's time of day is compared with ours: here they are one clock, and an hour is found to be an hour."""
    for ahead in (0.0, 3600.0):
        journal = Journal(PostgresStore(postgres.url(), tmp_path), lambda ahead=ahead: time.time() + ahead)
        said = journal.clock_offset()
        journal.close()
        assert "the record's database" == said["clock"]
        assert abs(said["seconds"] - ahead) <= said["within"] + 0.001 < 2.0


# -- what a server must be like


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
def test_a_server_that_may_lose_what_it_acknowledged_is_refused(postgres: Server, tmp_path: Path, setting: str) -> None:
    """The list of modes is closed: with fsync or full_page_writes off, the store does not open."""
    url = postgres.url()
    with postgres.direct() as db:
        try:
            db.execute(f"ALTER SYSTEM SET {setting} TO off")
            db.execute("SELECT pg_reload_conf()")
            while db.execute(f"SHOW {setting}").fetchone() != ("off",):
                time.sleep(0.02)
            assert f"{setting}=off" in refused(lambda: PostgresStore(url, tmp_path), "LG070")
        finally:
            db.execute(f"ALTER SYSTEM RESET {setting}")
            db.execute("SELECT pg_reload_conf()")
            while db.execute(f"SHOW {setting}").fetchone() != ("on",):
                time.sleep(0.02)


def test_every_transaction_waits_for_the_disk(postgres: Server, tmp_path: Path) -> None:
    """Whatever the database, the user or the address ask for, an acknowledged transaction has been flushed."""
    schema = postgres.schema()
    with opened(postgres.url(schema) + "%20-csynchronous_commit%3Doff", tmp_path) as journal:
        assert [("off",)] == journal.store.look(lambda rows: rows("SHOW synchronous_commit"))
        assert [("on",)] == journal.store.write(lambda rows: rows("SHOW synchronous_commit"))


@pytest.mark.parametrize("table", ["entries", "leases", "numbers"])
def test_tables_that_a_crash_would_empty_are_refused(postgres: Server, tmp_path: Path, table: str) -> None:
    """An unlogged table is faster and gone after a crash."""
    schema = postgres.schema()
    with opened(postgres.url(schema), tmp_path):
        pass
    with postgres.direct(schema=schema) as db:
        db.execute(f"ALTER TABLE {table} SET UNLOGGED")
    assert f"{table} unlogged" in refused(lambda: PostgresStore(postgres.url(schema), tmp_path), "LG070")


def test_a_newer_format_and_strange_tables_are_refused_by_name(postgres: Server, tmp_path: Path) -> None:
    """A record that a newer engine wrote, and tables that are somebody else's, stay as they are."""
    schema = postgres.schema()
    with opened(postgres.url(schema), tmp_path):
        pass
    with postgres.direct(schema=schema) as db:
        db.execute("UPDATE numbers SET value = 7 WHERE name = 'format'")
    assert "format 7, this engine reads" in refused(lambda: PostgresStore(postgres.url(schema), tmp_path), "LG071")
    for strange in ("CREATE TABLE entries (id INT)", "CREATE TABLE numbers (name TEXT, value INT)"):
        schema = postgres.schema()
        url = postgres.url(schema)
        with postgres.direct(schema=schema) as db:
            db.execute(strange)
        assert "not ours" in refused(lambda url=url: PostgresStore(url, tmp_path), "LG070")
        with postgres.direct(schema=schema) as db:
            assert 1 == len(db.execute("SELECT 1 FROM pg_tables WHERE schemaname = %s", (schema,)).fetchall())


def test_twenty_engines_open_an_empty_database_at_once(postgres: Server, tmp_path: Path) -> None:
    """The tables are made once, and everybody finds them."""
    url, runs, start = postgres.url(), [], threading.Barrier(20)

    def go() -> None:
        start.wait()
        with opened(url, tmp_path) as journal:
            runs.append(journal.start({}))

    threads = [threading.Thread(target=go) for _ in range(20)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(120)
    assert [f"RB-{n:04d}" for n in range(1, 21)] == sorted(runs)


# -- a server that dies, hangs or is cut off


def test_a_server_that_dies_and_comes_back_within_the_patience(postgres: Server, tmp_path: Path) -> None:
    """The write waits for it, and then every entry is there once."""
    with opened(postgres.url(), tmp_path) as journal:
        run = journal.start({})
        postgres.kill()
        back = threading.Timer(0.3, postgres.start)
        back.start()
        try:
            assert 2 == journal.append(run, "note", {}).seq
        finally:
            back.join()
        assert ["run.started", "note"] == [entry.kind for entry in journal.verified(run)]


def test_a_server_that_stays_away_breaks_the_store(postgres: Server, tmp_path: Path) -> None:
    """After the patience the write is refused, with what a person does about it; another process goes on later."""
    url = postgres.url()
    with opened(url, tmp_path, patience=0.3) as journal:
        run = journal.start({})
        postgres.kill()
        try:
            said = refused(lambda: journal.append(run, "note", {}), "LG072")
            assert "nothing more was changed" in said
            assert "database can be reached" in said
            refused(lambda: PostgresStore(url, tmp_path), "LG070")
        finally:
            postgres.start()
        refused(lambda: journal.append(run, "note", {}), "LG072")
    with opened(url, tmp_path) as other:
        other.append(run, "note", {"n": 2})
        assert [{}, {"n": 2}] == [entry.body for entry in other.verified(run)]


@pytest.mark.parametrize("what", ["hang", "cut", "swallow"])
def test_the_network_fails_at_any_message(postgres: Server, tmp_path: Path, what: str) -> None:
    """Silence, a cut, or an answer that never arrives (the commit is done, and nobody is told): every entry is there once,
    in its order, whichever message of the transaction it hits."""
    schema = postgres.schema()
    with Proxy(("127.0.0.1", postgres.port)) as proxy:
        url = postgres.url(schema, port=proxy.port, password=PASSWORD)
        with opened(url, tmp_path, limit=0.5) as journal:
            run = journal.start({})
            numbers = [1, 4, 5, 6] if what == "hang" else list(range(1, 9))
            for number in numbers:
                proxy.next(what, number)
                assert journal.append(run, "note", {"n": number}).body == {"n": number}
            assert [{}, *({"n": n} for n in numbers)] == [entry.body for entry in journal.verified(run)]
            assert proxy.failed >= min(6, len(numbers)), "every message of a transaction has been hit"


def test_a_server_that_lets_us_in_and_says_nothing_more(postgres: Server, tmp_path: Path) -> None:
    """Opening a store ends soon too, with a store or with a message, whichever message of it is not answered."""
    with Proxy(("127.0.0.1", postgres.port)) as proxy:
        url = postgres.url(port=proxy.port, password=PASSWORD)
        for number in range(1, 9):
            proxy.next("hang", number)
            began = time.monotonic()
            with contextlib.suppress(JournalError):
                PostgresStore(url, tmp_path, patience=2.0, limit=0.5).close()
            assert time.monotonic() - began < 30


@pytest.mark.parametrize("what", ["cut", "swallow"])
def test_a_run_is_started_once_whatever_becomes_of_the_answer(postgres: Server, tmp_path: Path, what: str) -> None:
    """Starting, taking hosts, breaking a lock: done once each, though the connection is lost at any of their messages."""
    with Proxy(("127.0.0.1", postgres.port)) as proxy:
        url = postgres.url(port=proxy.port, password=PASSWORD)
        with opened(url, tmp_path) as journal:
            for number in range(1, 11):
                proxy.next(what, number)
                run = journal.start({"n": number})
                assert f"RB-{number:04d}" == run
                proxy.next(what, number)
                journal.lock(run, ["a", "b"], "x")
                assert {"run " + run, "host a", "host b"} == {one.name for one in journal.leases()}
                proxy.next(what, number)
                assert journal.break_lock("a", "ben", "a drill")
                proxy.calm()
                assert ["run.started", "lock.broken"] == [entry.kind for entry in journal.verified(run)]
                assert [] == journal.leases()


# -- secrets


def test_the_password_is_nowhere(postgres: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not in the store's name, not in any error, not in a report of a bug, and never accepted on the command line."""
    url = postgres.url(password=PASSWORD)
    secret = url.split("@")[0].split(":")[-1]
    with opened(url, tmp_path) as journal:
        assert f"postgresql://lastgood@127.0.0.1:{postgres.port}/lastgood" == journal.store.name
    wrong = [url.replace(secret, secret + "x"), url.replace(secret, "%zz" + secret), url.replace("/lastgood", "/none")]
    for one in wrong:
        said = refused(lambda one=one: PostgresStore(one, tmp_path), "LG070")
        assert (False, False) == (secret in said, PASSWORD in said)
    assert Exit.USAGE == main.run(["--state", url, "runs"])
    assert Exit.USAGE == main.run([f"--state={url}", "runs"])
    assert Exit.USAGE == main.run(["--state", "postgresql://h/d?password=" + secret, "runs"])
    out, err = capsys.readouterr()
    assert (False, True) == (secret in out + err or PASSWORD in out + err, "PGPASSWORD" in err)


def test_a_password_from_the_environment_opens_the_store(postgres: Server, tmp_path: Path) -> None:
    """PGPASSWORD works, and so does the whole address in LASTGOOD_STATE; nothing of either is printed."""
    url = postgres.url(password=PASSWORD)
    bare = url.replace(":" + url.split("@")[0].split(":")[-1], "", 1)
    for more, words in (({"PGPASSWORD": PASSWORD}, ["--state", bare]), ({"LASTGOOD_STATE": url}, [])):
        script = "from engine.cli.main import main; main()"
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PGOPTIONS": "", **more}
        done = subprocess.run(
            [sys.executable, "-c", script, *words, "runs"],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert 0 == done.returncode, done.stderr
        assert PASSWORD not in done.stdout + done.stderr


def test_without_psycopg_the_package_is_named(tmp_path: Path) -> None:
    """Only who asks for PostgreSQL needs it, and is told what to install."""
    script = "import sys; sys.modules['psycopg'] = None; from engine.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "--state", "postgresql://h/d", "runs"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (1, True) == (done.returncode, "lastgood[pg]" in done.stderr)


@pytest.mark.parametrize("state", ["mysql://u@h/d", "http://u:secret@h"])
def test_an_address_of_something_else_is_a_mistake_of_usage(state: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is no PostgreSQL address is refused, and told by its scheme alone."""
    assert Exit.USAGE == main.run(["--state", state, "runs"])
    assert "secret" not in capsys.readouterr().err
