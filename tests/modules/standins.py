"""Small stand-ins for other people's servers. They prove what we ask; what those answer is for the tests in tests/real.

`V2` is a scoring server, after what MLServer 1.7 does: a load that fails is 422 and the old version serves on, and the index
tells what the settings file says, not what the process serves. `Mlflow` is a model registry, after MLflow 3.17: a page of
versions at a time, an alias that nobody checks the files for. `Prometheus` answers instant and range queries of one series.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from world import MARK, Request, Served

Row = Sequence[float]


class V2:
    """One model, `fraud`, in several versions: version -> what it says to a row. `answer` is for `Served`.

    With `settings` a load takes version and uri from that file, and a uri that ends in `missing` is refused; without, it
    takes the version from the request's parameters. `deaf` makes loads answer 200 and change nothing.
    """

    def __init__(self, says: dict[str, Callable[[Row], Any]], serving: str | None, settings: Path | None = None) -> None:
        self.says, self.serving, self.settings = says, serving, settings
        self.deaf = False
        self.secret: str | None = None

    def answer(self, request: Request) -> Any:
        if self.secret and request.headers.get("authorization") != self.secret:
            return 401, {"error": "who are you?"}
        if request.method == "GET" and request.path == "/v2":
            return 200, {"name": "stand-in", "version": "0", "extensions": []}
        path = unquote(request.path)
        if path == "/v2/repository/index":
            written = json.loads(self.settings.read_text())["parameters"]["version"] if self.settings else self.serving
            return 200, [{"name": "fraud", "version": written, "state": "READY"}]
        if found := re.fullmatch(r"/v2/repository/models/fraud/(load|unload)", path):
            return self._load(found[1], request)
        if path == "/v2/models/fraud/infer" and self.serving:
            return self._infer(request.json()["inputs"][0])
        return 404, {"error": "Model fraud not found"}

    def _load(self, verb: str, request: Request) -> Any:
        wanted = None
        if verb == "load":
            if self.settings:
                parameters = json.loads(self.settings.read_text())["parameters"]
                wanted = parameters["version"]
                if parameters["uri"].endswith("missing"):
                    return 422, {"error": "Invalid URI specified for model fraud"}
            else:
                wanted = request.json().get("parameters", {}).get("version")
        if not self.deaf:
            self.serving = wanted
        return 200, b""

    def _infer(self, tensor: dict[str, Any]) -> Any:
        count, width = tensor["shape"]
        rows = [tensor["data"][i : i + width] for i in range(0, count * width, width)]
        said = [self.says[self.serving](row) for row in rows]
        kind = "BYTES" if isinstance(said[0], str) else "FP64"
        output = {"name": "predict", "shape": [count, 1], "datatype": kind, "data": said}
        return 200, {"model_name": "fraud", "model_version": self.serving, "outputs": [output]}


@contextmanager
def v2(serving: str | None = "2", settings: Path | None = None) -> Iterator[tuple[V2, str]]:
    """A running `V2` whose version 1 calls everything above 10 fraud, and version 2 everything; and its address."""
    says = {"1": lambda row: "fraud" if row[0] > 10 else "legitimate", "2": lambda row: "fraud"}
    server = V2(says, serving, settings)
    with Served(server.answer) as served:
        yield server, served.url


class Mlflow:
    """A registry with one model, `fraud`. Versions have a run each; `files` is version -> path -> bytes."""

    def __init__(self, versions: int = 3) -> None:
        numbers = [str(number) for number in range(1, versions + 1)]
        self.aliases = {"champion": numbers[-1]}
        self.tags: dict[str, dict[str, str]] = {number: {"validation": "passed"} for number in numbers}
        self.files = {number: {"MLmodel": b"flavors: {}\n", "data/model.bin": number.encode() * 9} for number in numbers}
        self.pages = 2  # versions on a page
        self.asked: list[str] = []

    def answer(self, request: Request) -> Any:
        if request.headers.get("authorization") != f"Bearer {MARK}":
            return 401, b"unauthorized"
        parts = urlsplit(request.path)
        asked = {key: values[0] for key, values in parse_qs(parts.query).items()}
        path = parts.path.removeprefix("/api/2.0/mlflow/")
        self.asked.append(path)
        body = json.loads(request.body) if request.body else asked
        routes: dict[str, Callable[[dict[str, Any], str], Any]] = {
            "registered-models/get": self._model,
            "registered-models/alias": self._alias,
            "model-versions/get": self._one,
            "model-versions/search": self._search,
            "model-versions/set-tag": self._tag,
            "model-versions/delete-tag": self._tag,
            "model-versions/get-download-uri": lambda body, _: (200, {"artifact_uri": self._uri(body["version"])}),
            "runs/get": self._run,
            "/api/2.0/mlflow-artifacts/artifacts": self._list,
            "/model-versions/get-artifact": lambda body, _: self._file(body, request),
        }
        return routes[path](body, request.method)

    @staticmethod
    def _error(status: int, code: str, message: str) -> Any:
        return status, {"error_code": code, "message": message}

    def _known(self, body: dict[str, Any]) -> Any:
        if not isinstance(body["version"], str):
            return self._error(400, "INVALID_PARAMETER_VALUE", "version must be a string")
        if body["version"] in self.tags:
            return None
        return self._error(
            404, "RESOURCE_DOES_NOT_EXIST", f"Model Version (name=fraud, version={body['version']}) not found"
        )

    def _model(self, body: dict[str, Any], _: str) -> Any:
        if body["name"] != "fraud":
            return self._error(404, "RESOURCE_DOES_NOT_EXIST", f"Registered Model with name={body['name']} not found")
        aliases = [{"alias": alias, "version": version} for alias, version in self.aliases.items()]
        return 200, {"registered_model": {"name": "fraud", **({"aliases": aliases} if aliases else {})}}

    def _alias(self, body: dict[str, Any], method: str) -> Any:
        if method == "DELETE":
            self.aliases.pop(body["alias"], None)
            return 200, {}
        if wrong := self._known(body):
            return wrong
        self.aliases[body["alias"]] = body["version"]
        return 200, {}

    @staticmethod
    def _uri(version: str) -> str:
        return f"mlflow-artifacts:/1/run{version}/artifacts/model"

    def _version(self, number: str) -> dict[str, Any]:
        tags = [{"key": key, "value": value} for key, value in self.tags[number].items()]
        about = {"name": "fraud", "version": number, "run_id": f"run{number}", "status": "READY", "user_id": "ada"}
        return {**about, "creation_timestamp": 1_700_000_000_000 + int(number), "source": self._uri(number), "tags": tags}

    def _one(self, body: dict[str, Any], _: str) -> Any:
        return self._known(body) or (200, {"model_version": self._version(body["version"])})

    def _search(self, body: dict[str, Any], _: str) -> Any:
        numbers = sorted(self.tags, key=int, reverse=True)
        start = int(body.get("page_token", 0))
        size = min(self.pages, int(body["max_results"]))
        page: dict[str, Any] = {"model_versions": [self._version(number) for number in numbers[start : start + size]]}
        if start + size < len(numbers):
            page["next_page_token"] = str(start + size)
        return 200, page

    def _tag(self, body: dict[str, Any], method: str) -> Any:
        if wrong := self._known(body):
            return wrong
        if method == "DELETE":
            self.tags[body["version"]].pop(body["key"], None)
        else:
            self.tags[body["version"]][body["key"]] = body["value"]
        return 200, {}

    def _run(self, body: dict[str, Any], _: str) -> Any:
        number = body["run_id"].removeprefix("run")
        data = {"metrics": [{"key": "precision", "value": 0.9 + int(number) / 100}, {"key": "loss", "value": "NaN"}]}
        data["params"] = [{"key": "C", "value": "1.0"}]
        data["tags"] = [{"key": "mlflow.source.git.commit", "value": f"c0ffee{number}"}]
        inputs = {"dataset_inputs": [{"dataset": {"name": "cards", "digest": "d1g3st"}}]}
        about = {"run_id": body["run_id"], "artifact_uri": f"mlflow-artifacts:/1/run{number}/artifacts"}
        return 200, {"run": {"info": about, "data": data, "inputs": inputs}}

    def _list(self, body: dict[str, Any], _: str) -> Any:
        where = re.fullmatch(r"1/run(\d+)/artifacts/model/?(.*)", body["path"])
        assert where, body
        number, folder = where.groups()
        found: dict[str, Any] = {}
        for path, content in self.files[number].items():
            if folder and not path.startswith(f"{folder}/"):
                continue
            name, _slash, rest = path.removeprefix(folder).strip("/").partition("/")
            found[name] = {"path": name, "is_dir": True} if rest else {"path": name, "file_size": len(content)}
        return 200, {"files": list(found.values())} if found else {}

    def _file(self, body: dict[str, Any], request: Request) -> Any:
        content = self.files[body["version"]].get(body["path"])
        if content is None:
            return self._error(404, "RESOURCE_DOES_NOT_EXIST", f"No such artifact: '{body['path']}'")
        if asked := re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("range", "")):
            return 206, content[int(asked[1]) : int(asked[2]) + 1]
        return 200, content


@contextmanager
def mlflow(versions: int = 3) -> Iterator[tuple[Mlflow, str]]:
    """A running `Mlflow` and its address."""
    registry = Mlflow(versions)
    with Served(registry.answer) as served:
        yield registry, served.url


class Prometheus:
    """Instant queries of `timestamp(…)` and range queries of one series: `value` says its value at a moment, None for none.

    Its clock stands still at `now`; `raw(t)` is when the sample that counts at `t` was taken. `more` adds other series.
    """

    def __init__(self, value: Callable[[float], object], now: float = 1_767_225_600.0) -> None:
        self.value, self.now, self.more = value, now, 0
        self.raw: Callable[[float], float] = lambda when: when
        self.asked: list[str] = []

    def answer(self, request: Request) -> Any:
        parts = urlsplit(request.path)
        asked = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.asked.append(asked["query"])
        say = (lambda when: self.raw(when)) if asked["query"].startswith("timestamp(") else self.value
        if parts.path == "/api/v1/query":
            found = [] if self.value(self.now) is None else [{"metric": {}, "value": [self.now, str(say(self.now))]}]
            return self._success(found, "vector")
        start, end, step = (round(float(asked[key]) * 1000) for key in ("start", "end", "step"))
        moments = [moment / 1000 for moment in range(start, end + 1, step)]
        values = [[when, str(say(when))] for when in moments if self.value(when) is not None]
        return self._success([{"metric": {}, "values": values}] if values else [], "matrix")

    def _success(self, result: list[Any], kind: str) -> Any:
        others = [{**series, "metric": {"service": f"other-{n}"}} for series in result for n in range(self.more)]
        return 200, {"status": "success", "data": {"resultType": kind, "result": [*result, *others]}}


@contextmanager
def prometheus(value: Callable[[float], object]) -> Iterator[tuple[Prometheus, str]]:
    """A running `Prometheus` and its address."""
    server = Prometheus(value)
    with Served(server.answer) as served:
        yield server, served.url
