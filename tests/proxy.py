"""A network between an engine and its database that fails when it is told to.

It passes bytes on both ways. `next(what, number)` lets it fail once, at the `number`-th message that the client sends from
now on: `cut` closes both sides before it is passed on; `hang` keeps it, and everything after it, to itself; `swallow` passes
it on, waits until the server has answered, and cuts without passing the answer on.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any


class Proxy:
    """Listens on `port` of the loopback until it is closed."""

    def __init__(self, to: tuple[str, int]) -> None:
        self._to, self._lock = to, threading.Lock()
        self._what, self._left = "", 0
        self.failed = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.close()
        for one in self._open:
            _close(one)

    def next(self, what: str, number: int) -> None:
        """The `number`-th message of a client from now on meets its fate, once."""
        with self._lock:
            self._what, self._left = what, number

    def calm(self) -> None:
        """Nothing fails any more."""
        self.next("", 0)

    def _fate(self) -> str:
        with self._lock:
            self._left -= 1
            if self._left != 0:
                return ""
            self.failed += 1
            return self._what

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                try:
                    server = socket.create_connection(self._to)
                except OSError:
                    _close(client)
                    continue
                for one in (client, server):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open += [client, server]
                deaf = threading.Event()
                threading.Thread(target=self._there, args=(client, server, deaf), daemon=True).start()
                threading.Thread(target=self._back, args=(client, server, deaf), daemon=True).start()

    def _there(self, client: socket.socket, server: socket.socket, deaf: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                fate = self._fate()
                if fate == "cut":
                    break
                if fate == "hang":
                    while client.recv(1 << 16):
                        pass  # it was sent, and never arrives
                    break
                if fate == "swallow":
                    deaf.set()
                server.sendall(data)
        if not deaf.is_set():
            _close(client)
            _close(server)

    def _back(self, client: socket.socket, server: socket.socket, deaf: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16):
                if deaf.is_set():
                    break
                client.sendall(data)
        _close(client)
        _close(server)


def _close(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
