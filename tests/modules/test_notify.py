"""notify with apprise inside this process, and without it; mail through a real SMTP server is in tests/real."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from world import MARK, MARKED, Served, World

from modules import notify
from modules.contract import Change, ModuleError, Secret

# apprise looks at every plug-in of its own when it is first used, and one of them at a module that Python is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

PARAMS = {"to": "channel", "title": "fraud", "message": "fraud is going back\nto 1.3.2"}
CHANGE = Change(None, {"sent": True})
REF = "ref 2026-01-01-a1b2/key-0123456789abcdef"


def _json_address(server: Served, token: str = "") -> str:
    return f"json://{server.url.removeprefix('http://')}/hook/{token}"


def test_apprise_delivers_the_text_with_its_ref(tmp_path: Path) -> None:
    """A channel gets title and text, and a last line by which a repetition is known; a second run sends nothing."""
    with Served(lambda _: 200) as server:
        world = World(tmp_path, PARAMS, destinations={"channel": _json_address(server)})
        assert notify.read(PARAMS, world.context()) is None
        notify.apply(PARAMS, CHANGE, world.context())
        notify.apply(PARAMS, CHANGE, world.context())
    assert 1 == len(server.requests)
    sent = server.requests[0].json()
    assert ("fraud", f"fraud is going back\nto 1.3.2\n\n{REF}") == (sent["title"], sent["message"])
    assert {"sent": True} == {key: value for key, value in notify.read(PARAMS, world.context()).items() if key[0] != "_"}


def test_a_refusal_is_a_failure(tmp_path: Path) -> None:
    """apprise's result is falsy and never `False`; a refused message is an error and leaves no receipt."""
    with Served(lambda _: 500) as server:
        world = World(tmp_path, PARAMS, destinations={"channel": _json_address(server)})
        with pytest.raises(ModuleError) as caught:
            notify.apply(PARAMS, CHANGE, world.context())
    assert caught.value.message.startswith("channel: the message was not delivered (address 1, json: ")
    assert notify.read(PARAMS, world.context()) is None


def test_a_retry_sends_only_what_is_missing(tmp_path: Path) -> None:
    """Of two addresses the one that got the message does not get it again when the other is tried once more."""
    good, bad = [200], [500]
    with Served(lambda _: good[0]) as first, Served(lambda _: bad[0]) as second:
        world = World(tmp_path, PARAMS, destinations={"channel": [_json_address(first), _json_address(second)]})
        with pytest.raises(ModuleError, match=r"\(address 2, json"):
            notify.apply(PARAMS, CHANGE, world.context())
        assert notify.read(PARAMS, world.context()) is None
        bad[0] = 200
        notify.apply(PARAMS, CHANGE, world.context())
        assert (1, 2) == (len(first.requests), len(second.requests))
        refs = {json.loads(request.body)["message"].splitlines()[-1] for request in second.requests}
    assert {REF} == refs
    assert notify.read(PARAMS, world.context()) is not None


def test_another_message_has_another_receipt(tmp_path: Path) -> None:
    """What was sent under one key says nothing about another."""
    import dataclasses

    world = World(tmp_path, PARAMS, destinations={"channel": "file:messages.jsonl"})
    notify.apply(PARAMS, CHANGE, world.context())
    assert notify.read(PARAMS, dataclasses.replace(world.context(), key="2026-01-01-a1b2/another")) is None


@pytest.mark.parametrize("address", [f"json://user:{MARK}@127.0.0.1:1/x", f"json://127.0.0.1:1/{MARK}", f"nonsense {MARK}"])
def test_an_address_is_never_shown(tmp_path: Path, address: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither the error nor the evidence nor the screen shows what a destination's address holds."""
    world = World(tmp_path, PARAMS, destinations={"channel": [Secret(address), "file:messages.jsonl"]})
    with pytest.raises(ModuleError) as caught:
        notify.apply(PARAMS, CHANGE, world.context())
    kept = b"".join(path.read_bytes() for path in world.evidence.rglob("*") if path.is_file())
    assert MARK not in f"{caught.value.message} {caught.value.hint} {kept!r} {capfd.readouterr()}"
    assert kept, "the second address was reached all the same"


def test_a_secret_address_is_used(tmp_path: Path) -> None:
    """An address with a secret in it reaches the channel with the secret."""
    with Served(lambda _: 200) as server:
        world = World(tmp_path, PARAMS, destinations={"channel": _json_address(server) + MARKED})
        notify.apply(PARAMS, CHANGE, world.context())
    assert f"/hook/{MARK}" == server.requests[0].path.rstrip("/")


def test_without_apprise_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where apprise is not installed a file still works, and another address says what to install."""
    monkeypatch.setitem(sys.modules, "apprise", None)
    world = World(tmp_path, PARAMS, destinations={"channel": "file:messages.jsonl", "mail": "mailto://a@b"})
    notify.apply(PARAMS, CHANGE, world.context())
    with pytest.raises(ModuleError) as caught:
        notify.apply({**PARAMS, "to": "mail"}, CHANGE, World(tmp_path / "2", {}, destinations=world.destinations).context())
    assert ("messages need apprise, which is not installed", "pip install 'lastgood[notify]'") == (
        caught.value.message,
        caught.value.hint,
    )


def test_a_damaged_receipt_is_no_receipt(tmp_path: Path) -> None:
    """A receipt that is no JSON is an error: neither sent nor not sent is guessed."""
    world = World(tmp_path, PARAMS, destinations={"channel": "file:messages.jsonl"})
    notify.apply(PARAMS, CHANGE, world.context())
    next(world.evidence.iterdir()).write_text("[")
    with pytest.raises(ModuleError, match="damaged"):
        notify.read(PARAMS, world.context())


def test_the_receipt_stands_for_the_whole_destination(tmp_path: Path) -> None:
    """A destination with no name, or one that is empty, is refused."""
    for destinations in ({}, {"channel": []}, {"channel": ""}):
        empty: dict[str, Any] = destinations
        with pytest.raises(ModuleError, match="there is no destination `channel`"):
            notify.read(PARAMS, World(tmp_path, {}, destinations=empty).context())
