"""The product's own servers as processes on 127.0.0.1: started, waited for, ended by their process id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

#: Seconds that a server may take to be ready: generous, because it loads half a gigabyte on a machine that has other work.
READY = 240.0
#: MLflow without its telemetry, and without the ten processes of its job executor.
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


def script(name: str) -> str:
    """A program that was installed beside the interpreter which runs the tests."""
    return str(Path(sys.executable).with_name(name))


class Server:
    """One server: `argv` started in `folder`, ready when `GET ready` is answered 200. `stop` and `start` may alternate."""

    def __init__(self, folder: Path, argv: list[str], ready: str, env: Mapping[str, str] | None = None) -> None:
        self.folder, self.argv, self.ready = folder, argv, ready
        self.env = {**os.environ, **QUIET, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **(env or {})}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / f"{Path(self.argv[0]).name}-{self.argv[1]}.log"

    def start(self) -> None:
        """Starts it unless it runs; `wait` says when it is ready."""
        if self.process is None:
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    self.argv, cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True,  # so that `stop` reaches its workers, whatever became of their parent
                )  # fmt: skip

    def wait(self) -> None:
        """Until it is ready. Fails with the end of its log when it ends instead, or takes too long."""
        until = time.monotonic() + READY
        while not self._answers():
            assert self.process is not None
            assert self.process.poll() is None, f"{self.argv} has ended:\n{self.log.read_text()[-4000:]}"
            assert time.monotonic() < until, f"{self.argv} is not ready:\n{self.log.read_text()[-4000:]}"
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.ready, timeout=5) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        """Asks it to end, then ends what is left of its process group."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # nothing is left
        self.process.wait(30)
        self.process = None
