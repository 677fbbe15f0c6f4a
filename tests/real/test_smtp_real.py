"""notify by mail through apprise and a real SMTP server (aiosmtpd) on this machine."""

from __future__ import annotations

import email
import email.policy
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from world import World

from modules import notify
from modules.contract import Change, ModuleError

# apprise looks at every plug-in of its own when it is first used, and one of them at a module that Python is about to drop.
pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")]

PARAMS = {"to": "mail", "title": "fraud is back", "message": "fraud is back at 1.3.2 – précision 0.98\nsince 14:07 UTC"}
CHANGE = Change(None, {"sent": True})


class Post:
    """A mailbox that accepts everybody but those in `unknown`, and keeps what arrives."""

    def __init__(self) -> None:
        self.letters: list[Any] = []
        self.unknown: set[str] = set()

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802
        if address in self.unknown:
            return "550 no such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.letters.append((envelope.rcpt_tos, email.message_from_bytes(envelope.content, policy=email.policy.default)))
        return "250 OK"


def _free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


@pytest.fixture
def post() -> Iterator[tuple[Post, int]]:
    office, port = Post(), _free_port()
    controller = Controller(office, hostname="127.0.0.1", port=port, ready_timeout=60)
    controller.start()
    yield office, port
    controller.stop()


def _world(tmp_path: Path, port: int) -> World:
    address = f"mailto://127.0.0.1:{port}/?from=lastgood@example.org&to=oncall@example.org&mode=insecure"
    return World(tmp_path, PARAMS, destinations={"mail": address})


def _text(letter: Any) -> str:
    return str(letter.get_body(("plain", "html")).get_content())


def test_the_mail_arrives_once_with_its_text(tmp_path: Path, post: tuple[Post, int]) -> None:
    """One letter with subject, every line and the ref; what was sent is read back, and a second run sends no other."""
    office, port = post
    world = _world(tmp_path, port)
    notify.apply(PARAMS, CHANGE, world.context())
    notify.apply(PARAMS, CHANGE, world.context())
    assert 1 == len(office.letters)
    to, letter = office.letters[0]
    assert (["oncall@example.org"], "fraud is back") == (to, letter["subject"])
    for line in ("fraud is back at 1.3.2 – précision 0.98", "since 14:07 UTC", "ref 2026-01-01-a1b2/key-0123456789abcdef"):
        assert line in _text(letter)
    assert {"sent": True} == {key: value for key, value in notify.read(PARAMS, world.context()).items() if key[0] != "_"}


def test_a_refused_recipient_is_a_failure(tmp_path: Path, post: tuple[Post, int]) -> None:
    """When the server does not know the recipient, the message counts as not sent; once it does, a retry sends it."""
    office, port = post
    office.unknown.add("oncall@example.org")
    world = _world(tmp_path, port)
    with pytest.raises(ModuleError, match=r"mail: the message was not delivered \(address 1, mailto: ") as caught:
        notify.apply(PARAMS, CHANGE, world.context())
    assert "oncall@example.org" not in caught.value.message
    assert ([], None) == (office.letters, notify.read(PARAMS, world.context()))
    office.unknown.clear()
    notify.apply(PARAMS, CHANGE, world.context())
    assert 1 == len(office.letters)


def test_a_mail_server_that_is_down_is_a_failure(tmp_path: Path) -> None:
    """Nobody at the port: not delivered, and no receipt."""
    world = _world(tmp_path, _free_port())
    with pytest.raises(ModuleError, match="the message was not delivered"):
        notify.apply(PARAMS, CHANGE, world.context())
    assert notify.read(PARAMS, world.context()) is None
