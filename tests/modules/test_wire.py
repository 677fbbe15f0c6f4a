"""The wire against real sockets and real processes, and the disk against real files."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from world import MARK, MARKED, Served

from modules import _disk
from modules._wire import Wire
from modules.contract import ModuleError, Refused, Reply, Secret, TimedOut, Unanswered, Unreachable, expect_ok

#: Longer than any test waits; what must not be awaited is cut off long before.
LONG = 60.0


@pytest.fixture
def wire() -> Iterator[Wire]:
    """A wire whose connections are closed afterwards."""
    there = Wire()
    yield there
    there.close()


@contextmanager
def _raw(behave: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that takes one connection, reads the request, and does to the socket what `behave` says."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        taken, _ = listening.accept()
        with taken:
            taken.recv(65536)
            try:
                behave(taken)
            except OSError:
                pass  # the other side has gone, which is what some tests are about

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    listening.close()
    thread.join(LONG)


def test_json_headers_and_secrets_arrive(wire: Wire) -> None:
    """JSON is sent as such, a secret arrives in clear wherever it stands, and no header is sent twice."""
    with Served(lambda request: (201, {"ok": True}, {"X-Seen": "yes"})) as server:
        reply = wire.http(
            "POST",
            Secret(f"{server.url}/a?token=", "") + MARKED,  # type: ignore[arg-type]
            json={"password": MARKED, "n": 1},
            headers={"Content-Type": "application/merge-patch+json", "X-Token": MARKED},
        )
    (request,) = server.requests
    assert (201, {"ok": True}, "yes") == (reply.status, reply.json(), reply.headers["x-seen"])
    assert ("POST", f"/a?token={MARK}", {"password": MARK, "n": 1}) == (request.method, request.path, request.json())
    assert ("application/merge-patch+json", MARK) == (request.headers["content-type"], request.headers["x-token"])


def test_a_redirect_is_an_answer_and_is_not_followed(wire: Wire) -> None:
    """The address that was reviewed is the only one that is called."""
    with Served(lambda request: (302, b"", {"location": "/elsewhere"})) as server:
        reply = wire.http("GET", f"{server.url}/here")
    assert (302, ["/here"]) == (reply.status, [request.path for request in server.requests])


def test_an_answer_past_the_limit_is_refused(wire: Wire) -> None:
    """An answer may have `limit` bytes and not one more."""
    with Served(lambda request: (200, b"x" * 1000)) as server:
        assert b"x" * 1000 == wire.http("GET", server.url, limit=1000).body
        with pytest.raises(ModuleError, match="more than 999 bytes"):
            wire.http("GET", server.url, limit=999)


def test_nobody_there_is_unreachable(wire: Wire) -> None:
    """A port that nobody listens on is `Unreachable`, and the message keeps query and secret to itself."""
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]
    with pytest.raises(Unreachable, match="Connection refused") as caught:
        wire.http("GET", f"http://127.0.0.1:{port}/a?token={MARK}", headers={"x": MARKED})
    assert MARK not in str(caught.value)
    with pytest.raises(Unreachable, match=f"127.0.0.1:{port} does not answer: Connection refused"):
        wire.connect("127.0.0.1", port)


def test_a_port_that_listens_takes_the_connection(wire: Wire) -> None:
    """Knocking at an open port returns, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        wire.connect("127.0.0.1", listening.getsockname()[1])


def test_an_answer_that_never_comes_is_timed_out(wire: Wire) -> None:
    """Silence after the request is `TimedOut`, never `Unreachable`: the request may have been acted on."""
    over = threading.Event()
    with _raw(lambda _: over.wait(LONG) and None) as url:
        with pytest.raises(TimedOut, match="gave no answer within"):
            wire.http("PUT", url, timeout=0.2)
        over.set()


def test_an_answer_that_drips_is_timed_out(wire: Wire) -> None:
    """The timeout bounds the whole answer: a server cannot hold a step by sending a byte now and then."""
    over = threading.Event()

    def drip(taken: socket.socket) -> None:
        taken.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        while not over.wait(0.05):
            taken.sendall(b"x")

    with _raw(drip) as url:
        with pytest.raises(TimedOut, match="still sending"):
            wire.http("GET", url, timeout=0.5)
        over.set()


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", b"what?\r\n\r\n"])
def test_a_broken_exchange_is_not_called_unreachable(sent: bytes, wire: Wire) -> None:
    """A connection that breaks in mid-exchange is a plain failure: whether the request was acted on is unknown."""
    with _raw(lambda taken: taken.sendall(sent)) as url, pytest.raises(ModuleError, match="the connection broke") as caught:
        wire.http("PUT", url)
    assert "failed" == caught.value.outcome
    assert "(" not in caught.value.message.replace("IncompleteRead(", "")


def test_what_a_bad_status_says_of_the_effect() -> None:
    """4xx is a no before anything was done; 408, 5xx and a gateway's 502 to 504 may come after the effect."""
    kinds = dict.fromkeys((301, 408, 500, 501), ModuleError) | dict.fromkeys((400, 404, 409, 429), Refused)
    for status, kind in {**kinds, 502: Unanswered, 503: Unanswered, 504: Unanswered}.items():
        with pytest.raises(ModuleError) as caught:
            expect_ok(Reply(status, {}, b"no", 0.0), "GET x")
        assert (kind, f"GET x: HTTP {status} no") == (type(caught.value), caught.value.message)
        assert (kind is Refused) == caught.value.nothing_done
    assert issubclass(Unanswered, Unreachable), "who waits for a host that starts need not tell them apart"


def test_a_command_gets_its_input_environment_and_folder(wire: Wire, tmp_path: Path) -> None:
    """Standard input, environment (secrets in clear) and folder reach the process; its code and both outputs come back."""
    ended = wire.command(
        ["sh", "-c", 'cat; printf "%s %s" "$TOKEN" "$(pwd)"; echo bad >&2; exit 3'],
        stdin=b"in ",
        env={"TOKEN": MARKED},
        cwd=tmp_path,
    )
    assert (3, f"in {MARK} {tmp_path}", "bad\n") == (ended.code, ended.out, ended.err)


def test_no_shell_reads_a_commands_words(wire: Wire) -> None:
    """What looks like shell stays text."""
    assert "$(id); *\n" == wire.command(["echo", "$(id); *"]).out


def test_a_program_that_is_not_there_is_said_so(wire: Wire) -> None:
    """A missing program is a failure with its name, and no traceback."""
    with pytest.raises(ModuleError, match="no-such-program cannot be started: No such file or directory"):
        wire.command(["no-such-program"])


def test_a_command_that_takes_too_long_ends_with_its_children(wire: Wire, tmp_path: Path) -> None:
    """At the timeout the whole process group is killed: no child goes on behind the engine's back."""
    # The child writes its number and then sleeps; `sh` waits for it.
    script = f"sleep {LONG} & echo $! > {tmp_path}/child; wait"
    with pytest.raises(TimedOut, match="sh did not end within 3 s and was killed"):
        wire.command(["sh", "-c", script], timeout=3.0)
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + LONG
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _runs(child), "the child is still running"


def _runs(process: int) -> bool:
    """Whether a process is there and is not only waiting to be collected."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_process_that_was_killed_says_by_what(wire: Wire) -> None:
    """A signal shows as a negative code."""
    assert -signal.SIGKILL == wire.command(["sh", "-c", "kill -9 $$"]).code


def test_a_file_is_written_whole_with_its_mode_and_nothing_beside_it(tmp_path: Path) -> None:
    """Writing replaces the content and sets exactly the mode, whatever the umask, and leaves no file of its own."""
    path = tmp_path / "a"
    old = os.umask(0o077)
    try:
        _disk.write(path, b"one", 0o644)
        _disk.write(path, b"two", 0o4711)
    finally:
        os.umask(old)
    assert (b"two", 0o4711, [path]) == (path.read_bytes(), path.stat().st_mode & 0o7777, list(tmp_path.iterdir()))


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk says no before the rename, the old content stays and nothing is left over."""
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModuleError, match="a cannot be written: No space left on device"):
        _disk.write(path, b"new")
    assert (b"old", [path]) == (path.read_bytes(), list(tmp_path.iterdir()))


def test_a_folder_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    """Writing into a missing folder is a failure in plain words."""
    with pytest.raises(ModuleError, match="a/b cannot be written: No such file or directory"):
        _disk.write(tmp_path / "a/b", b"")
