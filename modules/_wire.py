"""Our one socket and our one way to start a process. Tests replace the object, never the module.

In: a request or an argument list. Out: a `Reply` or a `Completed`. It refuses to know what is asked for, follows no
redirect (an address that was reviewed is the address that is called) and retries nothing (the engine decides that).
"""

from __future__ import annotations

import json as jsonlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from modules.contract import Completed, Json, ModuleError, Reply, TimedOut, Unreachable, reveal

if TYPE_CHECKING:
    import urllib3

# More than the engine's widest fan-out to one address, so that connections are kept instead of made anew.
_CONNECTIONS = 512
_CHUNK = 1 << 16


class Wire:
    """The real one: urllib3's connection pool for HTTP, `subprocess` for commands. Safe to share between threads."""

    def __init__(self) -> None:
        self._pools: dict[tuple[str, str], urllib3.HTTPConnectionPool] = {}
        self._making = threading.Lock()

    def _pool(self, scheme: str, address: str) -> urllib3.HTTPConnectionPool:
        """The kept connections to one address. Raises ValueError for what is no address."""
        pool = self._pools.get((scheme, address))
        if pool is None:
            import urllib3

            with self._making:  # or each of the first threads would make a pool of its own
                pool = self._pools.get((scheme, address))
                if pool is None:
                    kinds = {"http": urllib3.HTTPConnectionPool, "https": urllib3.HTTPSConnectionPool}
                    if scheme not in kinds:
                        raise ValueError(f"{scheme or 'no scheme'} is not http or https")
                    parts = urlsplit(f"{scheme}://{address}")
                    pool = kinds[scheme](parts.hostname or "", parts.port, maxsize=_CONNECTIONS)
                    self._pools[scheme, address] = pool
        return pool

    def close(self) -> None:
        """Lets go of the kept connections."""
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()

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
        import urllib3

        sent = {name.lower(): reveal(value) for name, value in (headers or {}).items()}
        if json is not None:
            body = jsonlib.dumps(json, separators=(",", ":"), default=reveal).encode()
            sent.setdefault("content-type", "application/json")
        started = time.monotonic()
        where = str(url).split("?")[0]
        try:
            parts = urlsplit(reveal(url))
            # The pool itself, not urllib3's manager: that would take every address apart three times more.
            answer = self._pool(parts.scheme, parts.netloc.rpartition("@")[2]).urlopen(
                method,
                (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
                body=body,
                headers=sent,
                retries=False,
                redirect=False,
                assert_same_host=False,
                preload_content=False,
                timeout=urllib3.Timeout(connect=min(timeout, 10.0), read=timeout),
            )
            read = self._body(answer, limit, started + timeout, where)
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError) as error:
            raise Unreachable(f"{where} does not answer: {_reason(error)}", "is it up, and is the address right?") from None
        except urllib3.exceptions.TimeoutError:
            raise TimedOut(f"{where} gave no answer within {timeout:.3g} s") from None
        except urllib3.exceptions.SSLError as error:
            raise Unreachable(f"{where}: the TLS connection was refused: {_reason(error)}") from None
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            # The connection broke in mid-exchange: the request may have been acted on, so this is not `Unreachable`.
            raise ModuleError(f"{where}: the connection broke: {_reason(error)}") from None
        names = {name.lower(): value for name, value in answer.headers.items()}
        return Reply(answer.status, names, read, time.monotonic() - started)

    @staticmethod
    def _body(answer: urllib3.BaseHTTPResponse, limit: int, deadline: float, where: str) -> bytes:
        parts, total = [], 0
        try:
            # read1 returns what has come; read would wait for a whole chunk, however slowly it drips in.
            while part := answer.read1(_CHUNK):
                parts.append(part)
                total += len(part)
                if total > limit:
                    raise ModuleError(f"{where} answered with more than {limit} bytes")
                if time.monotonic() > deadline:
                    raise TimedOut(f"{where} was still sending its answer when the time was up")
        except BaseException:
            answer.close()
            raise
        answer.release_conn()
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
            raise ModuleError(
                f"{words[0]} cannot be started: {error.strerror}", "is it installed on this machine?"
            ) from None
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


def _reason(error: Exception) -> str:
    """The innermost words of a library's exception, without its object addresses."""
    text = str(error.args[0]) if error.args else str(error)
    return text.rsplit(": ", 1)[-1] if ": " in text else text
