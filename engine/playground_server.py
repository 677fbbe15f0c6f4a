"""The playground's server: the Open Inference Protocol (V2), a Prometheus metric page, and traffic that runs by itself.

In: a registry folder. Out: a service on 127.0.0.1 that answers with the version it has loaded, and whose metrics move when
that version does. It lives in the process that starts it and ends with it, so that none is ever left behind.
"""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from engine import __version__, playground
from engine.playground import FEATURES, MODEL, Broken, FraudModel

#: Transactions per second that pass through the service by themselves.
RATE = 400
#: The precision on the metric page is taken over this many of the newest transactions: two seconds of them.
WINDOW = 2 * RATE
_LARGEST_BODY = 8 << 20


@dataclass(frozen=True)
class Loaded:
    """What serves: one value, replaced as a whole, so that a request sees one version from start to end."""

    version: str
    model: FraudModel


class Service:
    """The scoring server on 127.0.0.1 and the traffic that runs through it. It lives in this process and ends with it.

    `port` 0 takes a free one; `url` says which. Use it as a context manager, or call `start` and `stop`.
    """

    def __init__(self, registry: Path, port: int = 0, seed: int = 4, rate: float = RATE) -> None:
        self.registry = registry
        self.rate = rate
        self._rows = playground.transactions(seed)
        self._lock = threading.Lock()
        self._seen: deque[tuple[str, str]] = deque(maxlen=WINDOW)
        self._wrong: deque[dict[str, Any]] = deque(maxlen=1000)
        self._requests: Counter[str] = Counter()
        self._ended = threading.Event()
        self._loaded = Loaded(*playground.live_model(registry))
        self._server = _Server(("127.0.0.1", port), type("Door", (_Door,), {"service": self}))
        self._threads = [
            threading.Thread(target=self._server.serve_forever, args=(0.1,), name="playground-server", daemon=True),
            threading.Thread(target=self._traffic, name="playground-traffic", daemon=True),
        ]

    @property
    def url(self) -> str:
        """Its address, as `http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def version(self) -> str:
        """The version that answers now."""
        return self._loaded.version

    def start(self) -> Service:
        """Opens the door and starts the traffic."""
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        """Ends the traffic, closes the door and every connection, and waits for the threads."""
        self._ended.set()
        self._server.shutdown()
        self._server.close()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Service:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def load(self, version: str = "") -> str:
        """Serves `version`, or what `current` points to; returns which. Raises Broken, and goes on with what it had."""
        self._loaded = loaded = Loaded(*playground.live_model(self.registry, version))
        return loaded.version

    def configure(self, threshold: float) -> None:
        """Moves the live decision threshold (0 to 1), until the next load."""
        self._loaded = replace(self._loaded, model=replace(self._loaded.model, threshold=threshold))

    @property
    def threshold(self) -> float:
        """From which score up a transaction is called fraud."""
        return self._loaded.model.threshold

    def answer(self, rows: Sequence[Sequence[float]]) -> tuple[str, list[str], list[float]]:
        """(version, labels, scores) of the rows, all by one version."""
        loaded = self._loaded
        scores = [loaded.model.score(row) for row in rows]
        with self._lock:
            self._requests[loaded.version] += len(rows)
        return loaded.version, [loaded.model.label(score) for score in scores], scores

    def figures(self) -> dict[str, float]:
        """`measure` of the newest traffic, once there is a window of it."""
        with self._lock:
            return playground.measure(self._seen) if len(self._seen) == WINDOW else {}

    def wrong(self, limit: int) -> list[dict[str, Any]]:
        """The newest requests that the version which serves now got wrong, newest last, at most `limit`."""
        with self._lock:
            found = [entry for entry in self._wrong if entry["version"] == self.version]
        return found[-limit:] if limit > 0 else []

    def exposition(self) -> str:
        """The metric page, in the Prometheus text format 0.0.4."""
        with self._lock:
            requests = sorted(self._requests.items())
        lines = []
        for name, value in self.figures().items():
            lines += [f"# TYPE {MODEL}_{name} gauge", f'{MODEL}_{name}{{service="{MODEL}"}} {value}']
        lines.append(f"# TYPE {MODEL}_requests_total counter")
        lines += [f'{MODEL}_requests_total{{service="{MODEL}",version="{version}"}} {count}' for version, count in requests]
        lines += [f"# TYPE {MODEL}_model_info gauge", f'{MODEL}_model_info{{service="{MODEL}",version="{self.version}"}} 1']
        return "\n".join(lines) + "\n"

    def _traffic(self) -> None:
        """Scores transactions whose truth is known, as many as are due, so that a busy machine does not slow the story."""
        last, owed = time.monotonic(), 0.0
        while not self._ended.wait(0.02):
            now = time.monotonic()
            owed = min(owed + (now - last) * self.rate, self.rate)
            last, due = now, int(owed)
            owed -= due
            rows = playground.take(due, self._rows)
            version, labels, scores = self.answer([values for values, _ in rows])
            with self._lock:
                for (values, truth), label, score in zip(rows, labels, scores, strict=True):
                    self._seen.append((label, truth))
                    if label != truth:
                        entry = {
                            "input": values,
                            "label": label,
                            "truth": truth,
                            "score": round(score, 4),
                            "version": version,
                        }
                        self._wrong.append(entry)


class _Server(ThreadingHTTPServer):
    """Knows its open connections, so that `close` leaves no thread behind that waits for a client."""

    daemon_threads = False
    block_on_close = True

    def __init__(self, address: tuple[str, int], door: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, door)
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in mid-answer is no news."""

    def close(self) -> None:
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the client was faster
        self.server_close()


class _Refused(Exception):
    """An answer that is not 200: status and words."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class _Door(BaseHTTPRequestHandler):
    """The paths of the service. V2 protocol: https://github.com/kserve/open-inference-protocol."""

    service: ClassVar[Service]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # one packet per answer
    timeout = 60

    def do_GET(self) -> None:
        self._route("GET")

    def do_POST(self) -> None:
        self._route("POST")

    def do_PUT(self) -> None:
        self._route("PUT")

    def log_message(self, format: str, *args: Any) -> None:
        """The metric page counts; nobody reads lines."""

    def _route(self, method: str) -> None:
        routes: dict[tuple[str, str], Callable[[], object]] = {
            ("GET", "/v2"): lambda: {"name": "playground", "version": __version__, "extensions": ["model_repository"]},
            ("GET", "/v2/health/live"): lambda: {"live": True},
            ("GET", "/v2/health/ready"): lambda: {"ready": True},
            ("GET", f"/v2/models/{MODEL}"): self._describe,
            ("GET", f"/v2/models/{MODEL}/ready"): lambda: {"name": MODEL, "ready": True},
            ("POST", f"/v2/models/{MODEL}/infer"): self._infer,
            ("POST", f"/v2/repository/models/{MODEL}/load"): self._load,
            ("GET", "/metrics"): self.service.exposition,
            ("GET", "/audit"): self._audit,
            ("GET", "/config"): lambda: {"threshold": self.service.threshold},
            ("PUT", "/config"): self._configure,
        }
        path = urlsplit(self.path).path.rstrip("/")
        try:
            body = self._read()
            if (method, path) not in routes:
                raise _Refused(404, f"there is no {method} {path} here")
            self.body = body
            status, answer = 200, routes[method, path]()
        except _Refused as refused:
            status, answer = refused.status, {"error": str(refused)}
        self._send(status, answer)

    def _read(self) -> bytes:
        try:
            length = int(self.headers.get("content-length", 0))
        except ValueError:
            length = -1
        if not 0 <= length <= _LARGEST_BODY:
            self.close_connection = True
            raise _Refused(413, f"a body has at most {_LARGEST_BODY} bytes")
        return self.rfile.read(length)

    def _send(self, status: int, answer: object) -> None:
        kind = "text/plain; version=0.0.4; charset=utf-8" if isinstance(answer, str) else "application/json"
        data = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            raise _Refused(400, "the body is not JSON") from None

    def _describe(self) -> object:
        return {
            "name": MODEL,
            "versions": [self.service.version],
            "platform": "lastgood_playground",
            "inputs": [{"name": "transactions", "datatype": "FP64", "shape": [-1, len(FEATURES)]}],
            "outputs": [
                {"name": "label", "datatype": "BYTES", "shape": [-1]},
                {"name": "score", "datatype": "FP64", "shape": [-1]},
            ],
        }

    def _infer(self) -> object:
        request, wide = self._json(), len(FEATURES)
        try:
            data = request["inputs"][0]["data"]
            flat = [float(x) for part in data for x in (part if isinstance(part, list) else [part])]
        except (KeyError, IndexError, TypeError, ValueError):
            raise _Refused(400, "an inference request has inputs[0].data, a list of numbers") from None
        if not flat or len(flat) % wide or any(not math.isfinite(x) or x < 0 for x in flat):
            raise _Refused(400, f"each transaction has {wide} features, none negative: {', '.join(FEATURES)}")
        version, labels, scores = self.service.answer([flat[i : i + wide] for i in range(0, len(flat), wide)])
        return {
            "model_name": MODEL,
            "model_version": version,
            "id": str(request.get("id", "")),
            "outputs": [
                {"name": "label", "datatype": "BYTES", "shape": [len(labels)], "data": labels},
                {"name": "score", "datatype": "FP64", "shape": [len(scores)], "data": scores},
            ],
        }

    def _load(self) -> object:
        wanted = (self._json() if self.body else {}).get("parameters", {}).get("version", "")
        if not isinstance(wanted, str) or "/" in wanted or wanted.startswith("."):
            raise _Refused(400, "parameters.version is the name of a version")
        try:
            return {"name": MODEL, "version": self.service.load(wanted)}
        except Broken as broken:
            raise _Refused(422, f"{broken}; {self.service.version} keeps serving") from None

    def _audit(self) -> str:
        query = parse_qs(urlsplit(self.path).query)
        if query.get("wrong") != ["true"]:
            raise _Refused(400, "only the wrong ones are kept: ask for /audit?wrong=true&limit=500")
        limit = query.get("limit", ["100"])[0]
        if not limit.isdecimal():
            raise _Refused(400, "limit is a whole number")
        return "".join(json.dumps(entry) + "\n" for entry in self.service.wrong(int(limit)))

    def _configure(self) -> object:
        wanted = self._json()
        threshold = wanted.get("threshold") if isinstance(wanted, dict) else None
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
            raise _Refused(400, 'a configuration is {"threshold": NUMBER FROM 0 TO 1}')
        self.service.configure(float(threshold))
        return {"threshold": self.service.threshold}
