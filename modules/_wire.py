"""Our one socket and our one way to start a process. Tests replace the object, never the module.

In: a request or an argument list. Out: a `Reply` or a `Completed`. It refuses to know what is asked for, follows no
redirect (an address that was reviewed is the address that is called) and retries nothing (the engine decides that).
"""

from __future__ import annotations

import json as jsonlib
import os
import select
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from pathlib import Path
from urllib.parse import quote, urlsplit

from modules.contract import Completed, Json, ModuleError, Refused, Reply, TimedOut, Unreachable, reveal

_CHUNK = 1 << 16
#: Seconds until an address that does not take the connection counts as unreachable.
_CONNECT = 10.0
#: Seconds for which a kept connection is believed to be open; no server gives up one sooner.
_FRESH = 0.5
#: What may stand in the path and the query as it is written; everything else is percent-encoded.
_SAFE = "/%:=&?+!$,;'@()*[]~-._"


class Wire:
    """The real one: the standard library's HTTP client with kept connections, `subprocess` for commands.

    Safe to share between threads: a connection belongs to one exchange at a time. A larger client library was measured
    too; it costs twice the processor time for each request, which is what a fleet of a thousand hosts spends most on.
    """

    def __init__(self) -> None:
        self._idle: dict[tuple[str, str], list[tuple[HTTPConnection, float]]] = {}
        self._lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None

    def close(self) -> None:
        """Lets go of the kept connections."""
        with self._lock:
            kept, self._idle = [one for idle in self._idle.values() for one, _ in idle], {}
        for one in kept:
            one.close()

    def __del__(self) -> None:
        self.close()

    def http(
        self,
        method: str,
        url: str,
        *,
        json: Json = None,
        body: bytes | None = None,
        headers: Mapping[str, object] | None = None,
        timeout: float = 30.0,
        limit: int = 64 << 20,
    ) -> Reply:
        """One HTTP request; see `contract.Wire`. `timeout` (seconds) bounds the whole exchange, body included."""
        sent = {name.lower(): reveal(value) for name, value in (headers or {}).items()}
        if json is not None:
            body = jsonlib.dumps(json, separators=(",", ":"), default=reveal).encode()
            sent.setdefault("content-type", "application/json")
        started = time.monotonic()
        where = str(url).split("?")[0]
        try:
            parts = urlsplit(reveal(url))
            address = parts.scheme, parts.netloc.rpartition("@")[2]
            target = quote(parts.path or "/", safe=_SAFE) + (f"?{quote(parts.query, safe=_SAFE)}" if parts.query else "")
            connection = self._connection(address, min(timeout, _CONNECT), where)
        except ValueError as error:
            raise Refused(f"{where} is no address: {error}", "write http://… or https://…") from None
        answer: HTTPResponse | None = None
        done = False
        try:
            _allow(connection, timeout)
            connection.request(method, target, body, sent)
            answer = connection.getresponse()
            read = self._body(connection, answer, limit, started + timeout, where)
            done = not answer.will_close
        except TimeoutError:
            raise TimedOut(f"{where} gave no answer within {timeout:.3g} s") from None
        except (HTTPException, OSError, ValueError) as error:
            # The exchange broke in its middle: the request may have been acted on, so this is not `Unreachable`.
            raise ModuleError(f"{where}: the connection broke: {_reason(error)}") from None
        finally:
            if answer is not None:
                answer.close()  # read1 leaves it open at its very end, and the connection would refuse the next request
            if done:
                with self._lock:
                    self._idle.setdefault(address, []).append((connection, time.monotonic()))
            else:
                connection.close()
        names = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, names, read, time.monotonic() - started)

    def _connection(self, address: tuple[str, str], timeout: float, where: str) -> HTTPConnection:
        """A kept connection that the other side has not closed, or a new one. Raises Unreachable, or ValueError."""
        while True:
            with self._lock:
                idle = self._idle.get(address)
                kept, since = idle.pop() if idle else (None, 0.0)
            if kept is None:
                return self._connected(address, timeout, where)
            # What can be read on an idle connection is its end. Asking costs a system call, so one just used is believed.
            if time.monotonic() - since < _FRESH or not _readable(kept.sock):
                return kept
            kept.close()

    def _connected(self, address: tuple[str, str], timeout: float, where: str) -> HTTPConnection:
        scheme, netloc = address
        if scheme not in ("http", "https"):
            raise ValueError(f"{scheme or 'no scheme'} is not http or https")
        parts = urlsplit(f"//{netloc}")
        made: HTTPConnection
        if scheme == "https":
            self._tls = self._tls or ssl.create_default_context()
            made = HTTPSConnection(parts.hostname or "", parts.port, timeout=timeout, context=self._tls)
        else:
            made = HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
        try:
            made.connect()
        except ssl.SSLError as error:
            raise Unreachable(f"{where}: the TLS connection was refused: {_reason(error)}") from None
        except OSError as error:
            raise Unreachable(f"{where} does not answer: {_reason(error)}", "is it up, and is the address right?") from None
        return made

    @staticmethod
    def _body(connection: HTTPConnection, answer: HTTPResponse, limit: int, deadline: float, where: str) -> bytes:
        parts, total = [], 0
        # read1 returns what has come; read would wait for a whole chunk, however slowly it drips in.
        while True:
            try:
                part = answer.read1(_CHUNK)
            except TimeoutError:
                raise TimedOut(f"{where} was still sending its answer when the time was up") from None
            if not part:
                break
            parts.append(part)
            total += len(part)
            if total > limit:
                raise ModuleError(f"{where} answered with more than {limit} bytes")
            if answer.length == 0:
                break
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimedOut(f"{where} was still sending its answer when the time was up")
            _allow(connection, left)
        if answer.length:
            raise IncompleteRead(b"", answer.length)
        return b"".join(parts)

    def command(
        self,
        argv: Sequence[object],
        *,
        stdin: bytes = b"",
        env: Mapping[str, object] | None = None,
        cwd: Path | None = None,
        timeout: float = 30.0,
    ) -> Completed:
        """One process in its own process group, so that a timeout ends its children too; see `contract.Wire`."""
        words = [reveal(word) for word in argv]
        surroundings = {**os.environ, **{name: reveal(value) for name, value in (env or {}).items()}}
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=cwd,
                env=surroundings,
                start_new_session=True,
            )
        except OSError as error:
            raise Refused(f"{words[0]} cannot be started: {error.strerror}", "is it installed on this machine?") from None
        try:
            out, err = process.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise TimedOut(f"{words[0]} did not end within {timeout:.3g} s and was killed") from None
        return Completed(process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))

    def connect(self, host: str, port: int, *, timeout: float = 5.0) -> None:
        """One TCP connection, opened and closed; see `contract.Wire`."""
        try:
            socket.create_connection((host, port), timeout).close()
        except OSError as error:
            raise Unreachable(f"{host}:{port} does not answer: {error.strerror or error}") from None


def _allow(connection: HTTPConnection, seconds: float) -> None:
    """Bounds the next reading or writing on the connection. Setting the same bound again would cost a system call."""
    if connection.sock is not None and connection.sock.gettimeout() != seconds:
        connection.sock.settimeout(max(seconds, 0.001))


def _readable(sock: socket.socket | None) -> bool:
    if sock is None:
        return True
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _reason(error: Exception) -> str:
    """What the system or the library says, in its own words, without numbers of errors."""
    if isinstance(error, IncompleteRead):
        return "the answer was cut short"
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return text.rsplit(": ", 1)[-1]
