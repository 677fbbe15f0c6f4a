"""What restarts a scoring server at somebody's site; run in a folder whose serve.json names MLflow's `url` and a `port`.

python serve_mlflow.py models:/NAME/VERSION            ends the one it started before, returns when the new one answers
python serve_mlflow.py models:/NAME/VERSION --check    ends with 0 if that is what runs
python serve_mlflow.py --stop
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

from servers import READY, Server, script

NOTE = Path("served.json")


def main(what: str, check: bool = False) -> int:
    about = json.loads(Path("serve.json").read_text())
    running = json.loads(NOTE.read_text()) if NOTE.exists() else {}
    if check:
        return 0 if running.get("what") == what and answers(about["port"]) else 1
    if running:
        NOTE.unlink()
        os.killpg(running["pid"], signal.SIGTERM)
        until = time.monotonic() + READY
        while answers(about["port"]):
            assert time.monotonic() < until, "it does not end"
            time.sleep(0.05)
    if what != "--stop":
        argv = ["models", "serve", "-m", what, "--env-manager", "local", "--host", "127.0.0.1", "--workers", "1"]
        ready = f"http://127.0.0.1:{about['port']}/ping"
        env = {"MLFLOW_TRACKING_URI": about["url"]}
        server = Server(Path.cwd(), [script("mlflow"), *argv, "--port", str(about["port"])], ready, env)
        server.start()
        assert server.process is not None
        NOTE.write_text(json.dumps({"pid": server.process.pid, "what": what}))
        server.wait()
    return 0


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], "--check" in sys.argv))
