"""A tiny server that keeps JSON documents: GET, PUT, PATCH (RFC 7396, JSON merge patch), DELETE, and a POST of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from world import MARK, MARKED, Request, Served, World


def _merged(old: Any, patch: Any) -> Any:
    if not isinstance(patch, dict) or not isinstance(old, dict):
        return patch
    new = {**old, **{key: _merged(old.get(key, {}), value) for key, value in patch.items()}}
    return {key: value for key, value in new.items() if value is not None}


@contextmanager
def _store(documents: dict[str, Any]) -> Iterator[str]:
    def answer(request: Request) -> Any:
        if request.headers.get("x-token") != MARK:
            return 401
        if request.method == "DELETE":
            return 204 if documents.pop(request.path, None) is not None else 404
        if request.method == "PUT":
            documents[request.path] = request.json()
        if request.method == "PATCH":
            documents[request.path] = _merged(documents.get(request.path, {}), request.json())
        if request.method == "POST":
            documents["/route"]["weights"]["canary"] = request.json()["set"][0]["weight"]
            return 202
        return (200, documents[request.path]) if request.path in documents else 404

    with Served(answer) as server:
        yield server.url


def _params(url: str, **more: Any) -> dict[str, Any]:
    return {"url": f"{url}/route", "headers": {"X-Token": MARKED}, **more}


def world(tmp: Path) -> Iterator[World]:
    documents = {"/route": {"weights": {"stable": 90, "canary": 10}, "owner": "ml"}}
    with _store(documents) as url:
        wanted = {"weights.stable": 100, "weights.canary": 0, "note": "rolled back"}
        yield World(tmp, params=_params(url, fields=wanted), look=lambda: str(documents))


def world_created(tmp: Path) -> Iterator[World]:
    documents: dict[str, Any] = {}
    with _store(documents) as url:
        yield World(tmp, params=_params(url, method="PUT", fields={"version": "7"}), look=lambda: str(documents))


def world_with_a_body(tmp: Path) -> Iterator[World]:
    documents = {"/route": {"weights": {"canary": 10}, "history": [{"by": "ada"}]}}
    with _store(documents) as url:
        body = {"set": [{"name": "canary", "weight": "$weights.canary"}], "by": "$history.0.by"}
        fields = {"weights.canary": 0, "history.0.by": "ada"}
        more = {"method": "POST", "set_url": f"{url}/set", "fields": fields, "body": body, "ok": [202]}
        yield World(tmp, params=_params(url, **more), look=lambda: str(documents))


def world_absent(tmp: Path) -> Iterator[World]:
    documents = {"/route": {"weights": {"canary": 10}}}
    with _store(documents) as url:
        yield World(tmp, params=_params(url, absent=True), look=lambda: str(documents))
