"""A stand-in for platforms that accept a change at once and are done later, as a server and as a process of its own.

One endpoint, `fraud`, which two things are known of, its version and how many replicas run it. It is modelled on how
managed endpoints of the large clouds are updated: an update is accepted with 202 and the name of an operation; while one
goes on another is refused; it ends well, fails half-way, takes itself back, or is cancelled. Whether an idempotency key
is honoured, what becomes of an operation and of the answer to its request is set by `POST /admin`. An operation goes on
until it is told to end or, with `seconds`, until so many have passed. What was really begun and done is counted here.

    GET /endpoints/fraud   POST /endpoints/fraud/update   GET, DELETE /operations/op-1   GET, POST /admin
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from world import Request, Served

#: How an operation ends -> the state that it then has.
ENDS = {"well": "Succeeded", "half": "Failed", "back": "RolledBack", "lies": "Succeeded"}


class Platform:
    """`answer` is for `Served`. `ends`: how the next operations end; `seconds` after which, None: when `finish` is called;
    `loses`: what becomes of the answers to the next requests that begin one (`late`, `503`); `keyed`: keys are honoured."""

    def __init__(self, seconds: float | None = None, keyed: bool = True) -> None:
        self.now: dict[str, Any] = {"version": "2", "replicas": 2}
        self.operations: list[dict[str, Any]] = []
        self.asked = 0
        self.seconds, self.keyed, self.ends, self.stubborn = seconds, keyed, "well", False
        self.looks: int | None = None  # after so many looks at it an operation ends
        self.loses: list[str] = []
        self.lock = threading.Lock()
        self.token = ""

    def answer(self, request: Request) -> Any:
        if self.token and not request.path.startswith("/admin") and request.headers.get("authorization") != self.token:
            return 401
        with self.lock:
            self._pass()
            if request.path == "/admin":
                return self._admin(request)
            if request.path == "/endpoints/fraud":
                going = self._going()
                return 200, {"deployment": self.now, "operation": {"id": going["id"]} if going else None}
            if request.path.startswith("/operations/"):
                return self._operation(request)
            said, lost = self._update(request)
        if lost == "late":
            time.sleep(3)  # nobody is there any more to hear it
        return 503 if lost else said

    def _admin(self, request: Request) -> Any:
        if request.method == "POST":
            for name, value in request.json().items():
                if name == "finish":
                    self._finish(self.ends if value is True else value)
                else:
                    setattr(self, name, value)
        ended = [one["state"] for one in self.operations]
        return 200, {"now": self.now, "asked": self.asked, "operations": ended, "keys": [o["key"] for o in self.operations]}

    def _update(self, request: Request) -> tuple[Any, str]:
        self.asked += 1
        key = request.headers.get("idempotency-key", "")
        known = next((one for one in self.operations if self.keyed and key and one["key"] == key), None)
        if known is None:
            if self._going():
                return (409, {"error": "an update is going on"}), ""
            known = {"id": f"op-{len(self.operations) + 1}", "key": key, "state": "Running", "began": time.monotonic()}
            known |= {"before": dict(self.now), "wanted": request.json()}
            self.operations.append(known)
            self._pass()
        where = {"location": f"/operations/{known['id']}"}
        return (202, {"operation": {"id": known["id"]}}, where), self.loses.pop(0) if self.loses else ""

    def _operation(self, request: Request) -> Any:
        name = request.path.rpartition("/")[2]
        one = next((one for one in self.operations if one["id"] == name), None)
        if one is None:
            return 404
        if request.method == "GET" and self.looks is not None:
            self.looks -= 1
            if self.looks <= 0:
                self._finish(self.ends)
        if request.method == "DELETE" and one["state"] == "Running" and not self.stubborn:
            one["state"] = "Cancelled"
        said = {"Running": "half of the replicas are new", "Failed": "no capacity", "RolledBack": "unhealthy, rolled back"}
        return 200, {"id": name, "state": one["state"], "message": said.get(one["state"], one["state"])}

    def _going(self) -> dict[str, Any] | None:
        return next((one for one in self.operations if one["state"] == "Running"), None)

    def _pass(self) -> None:
        going = self._going()
        if going and self.seconds is not None and time.monotonic() - going["began"] >= self.seconds:
            self._finish(self.ends)

    def _finish(self, how: str) -> None:
        if one := self._going():
            one["state"] = ENDS[how]
            wanted = list(one["wanted"].items())
            self.now.update(dict({"well": wanted, "half": wanted[:1]}.get(how, [])))


def main() -> None:
    """The platform as a process: its address on standard output; it ends with its standard input."""
    with Served(Platform().answer) as served:
        print(json.dumps({"url": served.url}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
