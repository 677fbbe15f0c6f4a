"""v2.model against a stand-in server, and what _client makes of replies that nobody wrote on purpose."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standins import V2, v2
from world import ScriptedWire, World

from modules.contract import ModuleError, diff
from modules.v2 import _client, model

PARAMS = {"model": "fraud", "version": "1", "probe": [[3.0], [30.0]], "within": "5s"}
BEFORE = '{"name": "fraud", "parameters": {"uri": "/models/2", "version": "2"}}'


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "fraud" / "model-settings.json"
    path.parent.mkdir()
    path.write_text(BEFORE)
    return path


@pytest.fixture
def server(settings: Path) -> Iterator[tuple[V2, str]]:
    with v2(settings=settings) as running:
        yield running


def _apply(world: World, params: dict[str, Any]) -> Any:
    change = diff(model.read(params, world.context()), model.desired(params))
    model.apply(params, change, world.context())
    return change


def test_the_index_is_not_believed(tmp_path: Path, settings: Path, server: tuple[V2, str]) -> None:
    """The settings file may say version 1 already; what answers is version 2, and that is what is read."""
    stand_in, url = server
    settings.write_text(BEFORE.replace("2", "1"))
    assert '"version": "1"' in json.dumps(stand_in.answer(_index())[1])
    assert model.read({**PARAMS, "url": url}, World(tmp_path, {}).context())["version"] == "2"


def _index() -> Any:
    from world import Request

    return Request("POST", "/v2/repository/index", {}, b"{}")


def test_a_retry_keeps_the_first_text(tmp_path: Path, settings: Path, server: tuple[V2, str]) -> None:
    """However often apply runs, undo puts back the bytes that were there before the run."""
    params = {**PARAMS, "url": server[1], "settings": str(settings), "uri": "/models/1"}
    world = World(tmp_path, params)
    change = _apply(world, params)
    model.apply(params, change, world.context())
    assert json.loads(settings.read_text())["parameters"] == {"uri": "/models/1", "version": "1"}
    model.undo(params, change, world.context())
    assert (BEFORE, "2") == (settings.read_text(), server[0].serving)


def test_a_crash_before_the_load_is_mended_by_a_retry(tmp_path: Path, settings: Path, server: tuple[V2, str]) -> None:
    """Killed between writing the settings and loading, the next reading still finds the old version, and apply ends it."""
    params = {**PARAMS, "url": server[1], "settings": str(settings), "uri": "/models/1"}
    world = World(tmp_path, params)
    model._rewrite(params, world.context())
    change = _apply(world, params)
    assert "1" == server[0].serving
    model.undo(params, change, world.context())
    assert BEFORE == settings.read_text()


def test_settings_behind_a_link_stay_behind_it(tmp_path: Path, settings: Path, server: tuple[V2, str]) -> None:
    """A settings file that is a link is rewritten where it is; the link and the mode stay."""
    real = settings.with_name("real.json")
    settings.rename(real)
    real.chmod(0o640)
    settings.symlink_to("real.json")
    params = {**PARAMS, "url": server[1], "settings": str(settings), "uri": "/models/1"}
    _apply(World(tmp_path, params), params)
    assert settings.is_symlink()
    assert (0o640, "1") == (real.stat().st_mode & 0o777, json.loads(real.read_text())["parameters"]["version"])


def test_a_server_that_says_yes_and_serves_the_old_version(tmp_path: Path) -> None:
    """Apply waits no longer than `within`, and the reading after it shows the difference."""
    with v2() as (stand_in, url):
        stand_in.deaf = True
        params = {**PARAMS, "url": url, "within": "300ms"}
        world = World(tmp_path, params)
        started = time.monotonic()
        _apply(world, params)
        assert time.monotonic() - started < 20
        assert {"version": "2"} == diff(model.read(params, world.context()), model.desired(params)).before


def test_a_server_that_does_not_load_keeps_its_settings(tmp_path: Path, settings: Path, server: tuple[V2, str]) -> None:
    """Where the settings were rewritten and the version does not come, they get their old bytes back, and apply says so."""
    stand_in, url = server
    stand_in.deaf = True
    params = {**PARAMS, "url": url, "settings": str(settings), "uri": "/models/1", "within": "300ms"}
    with pytest.raises(ModuleError, match="says that it has loaded fraud, and version 1 does not answer"):
        _apply(World(tmp_path, params), params)
    assert (BEFORE, "2") == (settings.read_text(), stand_in.serving)


def test_undo_of_the_settings_alone_loads_nothing(tmp_path: Path, settings: Path, server: tuple[V2, str]) -> None:
    """Version 1 was loaded by hand and the settings still named 2: undo gives the file its text, and 1 goes on answering."""
    stand_in, url = server
    stand_in.serving = "1"
    params = {**PARAMS, "url": url, "settings": str(settings), "uri": "/models/1"}
    world = World(tmp_path, params)
    change = _apply(world, params)
    assert {"uri": "/models/1", "version": "1"} == json.loads(settings.read_text())["parameters"]
    model.undo(params, change, world.context())
    assert (BEFORE, "1") == (settings.read_text(), stand_in.serving)


def test_undo_of_another_artifact_loads_it(tmp_path: Path, settings: Path, server: tuple[V2, str]) -> None:
    """Where the same version came from another place before, undo has the server load it from there again."""
    stand_in, url = server
    stand_in.serving = "2"
    params = {**PARAMS, "url": url, "version": "2", "settings": str(settings), "uri": "/copies/2"}
    world = World(tmp_path, params)
    change = _apply(world, params)
    assert {"settings"} == set(change.before)
    stand_in.serving = None  # so that a load shows
    model.undo(params, change, world.context())
    assert (BEFORE, "2") == (settings.read_text(), stand_in.serving)


def test_waiting_leaves_time_for_the_reading(tmp_path: Path) -> None:
    """Patience longer than the step's timeout is cut, so that the reading can still say what is wrong."""
    with v2() as (stand_in, url):
        stand_in.deaf = True
        params = {**PARAMS, "url": url, "within": "1h"}
        ctx = World(tmp_path, params).context(seconds=2.0)
        model.apply(params, diff({"version": "2"}, {"version": "1"}), ctx)
        assert "2" == model.read(params, ctx)["version"]


# ------------------------------------------------------------------------------------------------ replies nobody wrote
VALUES = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.floats(), st.text(max_size=3))
DATA = st.recursive(VALUES, lambda inner: st.lists(inner, max_size=4), max_leaves=8)
OUTPUT = st.fixed_dictionaries(
    {"shape": st.one_of(st.lists(st.integers(-2, 4), max_size=3), VALUES), "data": DATA},
    optional={"name": st.sampled_from(["label", "score", "x"]), "datatype": st.just("FP64")},
)
REPLY = st.one_of(DATA, st.fixed_dictionaries({"outputs": st.one_of(st.lists(st.one_of(OUTPUT, DATA), max_size=3), DATA)}))


@given(reply=REPLY, count=st.integers(1, 3))
def test_a_reply_is_whole_or_refused(tmp_path_factory: pytest.TempPathFactory, reply: Any, count: int) -> None:
    """Whatever the server says, there is one finite prediction for each row, or a ModuleError."""
    ctx = World(tmp_path_factory.mktemp("w"), {}).context(_answering(json.dumps(reply)))
    with contextlib.suppress(ModuleError):
        answer = _client.ask(ctx, {"url": "http://svc", "model": "fraud"}, [[1.0]] * count)
        assert count == len(answer.predictions)
        json.dumps(answer.predictions, allow_nan=False)
        assert not any(value is None or isinstance(value, list) for value in answer.predictions)


def _answering(text: str) -> ScriptedWire:
    return ScriptedWire([], {"POST http://svc/v2/models/fraud/infer": {"text": text}})


def test_a_deep_reply_is_refused(tmp_path: Path) -> None:
    """A tensor nested four hundred deep is no tensor."""
    text = '{"outputs": [{"shape": [1], "data": ' + "[" * 400 + "1" + "]" * 400 + "}]}"
    with pytest.raises(ModuleError, match="among the predictions"):
        _client.ask(World(tmp_path, {}).context(_answering(text)), {"url": "http://svc", "model": "fraud"}, [[1.0]])


@given(st.binary(max_size=60))
def test_a_file_of_records_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever a file holds, there are JSON objects with a digest, or a ModuleError."""
    path = tmp_path_factory.mktemp("r") / "rows.jsonl"
    path.write_bytes(content)
    with contextlib.suppress(ModuleError):
        found, digest = _client.records(path, "rows.jsonl")
        assert all(isinstance(record, dict) for record in found)
        assert 64 == len(digest)


def test_line_separators_inside_a_record(tmp_path: Path) -> None:
    """U+2028 in a text does not end a line."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"input": [1], "note": "a\u2028b"}\n', encoding="utf-8")
    assert [{"input": [1], "note": "a\u2028b"}] == _client.records(path, "rows.jsonl")[0]


def test_a_bottomless_reply_is_refused(tmp_path: Path) -> None:
    """A hundred thousand brackets are an error in plain words, not the end of the process."""
    with pytest.raises(ModuleError, match="the answer is not JSON"):
        _client.ask(World(tmp_path, {}).context(_answering("[" * 100_000)), {"url": "http://svc", "model": "fraud"}, [[1.0]])
