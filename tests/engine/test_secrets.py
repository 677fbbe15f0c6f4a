"""secrets: found where they are said to be, remembered, and taken out of everything that leaves, however it was encoded."""

from __future__ import annotations

import base64
import contextlib
import html
import json
import shlex
import urllib.parse
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import secrets
from engine.values import Fault

TEXT = "s3cr3t/+ key\"with'ünïcode&<x>"


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> secrets.Secrets:
    monkeypatch.setenv("THE_KEY", TEXT)
    found = secrets.Secrets(tmp_path)
    found("env:THE_KEY")
    return found


def test_from_the_environment_and_from_a_file(known: secrets.Secrets, tmp_path: Path) -> None:
    """A secret is read where its source says, relative to the playbook; a file's last line end is not part of it."""
    (tmp_path / "token").write_text("from a file\n", "utf-8")
    assert (TEXT, "from a file") == (known("env:THE_KEY").reveal(), known("file:token").reveal())
    assert "env:THE_KEY" == known("env:THE_KEY").source


def test_it_is_fetched_once(known: secrets.Secrets, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was fetched stays the same for the run, whatever becomes of its source."""
    monkeypatch.setenv("THE_KEY", "another")
    assert TEXT == known("env:THE_KEY").reveal()


@pytest.mark.parametrize(
    "source", ["env:NOT_THERE", "file:nothing", "file:.", "file:binary", "vault:x", "x", "", ":", "env:", "file:"]
)
def test_what_is_not_there_is_told(known: secrets.Secrets, source: str, tmp_path: Path) -> None:
    """A secret that cannot be had is named by its source, with what to do."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(Fault) as caught:
        known(source)
    assert "LG026" == caught.value.code
    assert caught.value.hint


def provide(monkeypatch: pytest.MonkeyPatch, load: Callable[[str], Any]) -> None:
    class Point(EntryPoint):
        def load(self) -> Any:
            return load

    points = EntryPoints([Point("store", "their_package:read", "lastgood.secrets")])
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **which: points.select(**which))


def test_a_provider_may_be_installed(known: secrets.Secrets, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package's entry point provides secrets under its own name."""
    provide(monkeypatch, lambda name: f"value of {name}")
    assert "value of path/to:it" == known("store:path/to:it").reveal()


def test_a_provider_that_breaks_says_nothing_of_the_secret(known: secrets.Secrets, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a provider says when it breaks is not repeated: it may hold the secret."""

    def broken(name: str) -> str:
        raise RuntimeError(f"wrong password {TEXT}")

    provide(monkeypatch, broken)
    with pytest.raises(Fault) as caught:
        known("store:x")
    assert ("LG026", "RuntimeError") == (caught.value.code, caught.value.message.rpartition(" ")[2])
    assert TEXT not in caught.value.message + caught.value.hint


RAW = TEXT.encode()
ENCODINGS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "in a sentence": lambda t: f"the password {t} was refused",
    "twice": lambda t: t + t,
    "json": lambda t: json.dumps({"k": t}),
    "json, ASCII left": lambda t: json.dumps({"k": t}, ensure_ascii=False),
    "json in json": lambda t: json.dumps({"k": json.dumps(t)})[7:-2] if "\\" not in t and '"' not in t else t,
    "repr": lambda t: repr([t]),
    "quoted": lambda t: urllib.parse.quote(t, safe=""),
    "quoted, slashes left": urllib.parse.quote,
    "form": lambda t: urllib.parse.urlencode({"k": t}),
    "html": lambda t: f"<b>{html.escape(t)}</b>",
    "hex": lambda t: t.encode().hex(),
    "HEX": lambda t: t.encode().hex().upper(),
    "base64": lambda t: base64.b64encode(t.encode()).decode(),
    "base64 for addresses": lambda t: base64.urlsafe_b64encode(t.encode()).decode(),
    "base64 without its end": lambda t: base64.b64encode(t.encode()).decode().rstrip("="),
    "authorization 1": lambda t: "Basic " + base64.b64encode(f"a:{t}".encode()).decode(),
    "authorization 2": lambda t: "Basic " + base64.b64encode(f"ab:{t}".encode()).decode(),
    "authorization 3": lambda t: "Basic " + base64.b64encode(f"abc:{t}x".encode()).decode(),
    "authorization 4": lambda t: "Basic " + base64.urlsafe_b64encode(f"abcd:{t}yz".encode()).decode(),
    "in base64 lines": lambda t: base64.b64encode(b"12" + t.encode() + b"345").decode(),
}


def told(text: str, secret: str) -> bool:
    """Whether somebody who reads `text` can get eight letters of the secret out of it."""
    parts = {secret[n : n + 8] for n in range(len(secret) - 7)}
    shapes = {text, html.unescape(text), urllib.parse.unquote_plus(text)}
    for word in text.replace(":", " ").replace('"', " ").split():
        padded = word + "=" * (-len(word) % 4)
        for decode, of in ((base64.b64decode, padded), (base64.urlsafe_b64decode, padded), (bytes.fromhex, word)):
            with contextlib.suppress(ValueError):
                shapes.add(decode(of).decode("utf-8", "replace"))
    return any(part in shape for part in parts for shape in shapes)


@pytest.mark.parametrize("name", ENCODINGS)
def test_secrets_are_taken_out_in_every_encoding(known: secrets.Secrets, name: str) -> None:
    """A secret that got into a text on its way through addresses, headers or JSON is found there and replaced."""
    leak = ENCODINGS[name](TEXT)
    assert told(leak, TEXT), "the test must be able to fail"
    scrubbed = known.scrub(leak)
    assert "***" in scrubbed
    assert not told(scrubbed, TEXT), scrubbed


def test_secrets_are_taken_out_wherever_they_are(known: secrets.Secrets) -> None:
    """In lists and mappings, in their keys, at any depth; and a `Secret` itself becomes stars."""
    leak = {"a": [TEXT, {"b": f"x{TEXT}y"}], TEXT: known("env:THE_KEY"), "n": 1, "none": None, "t": (TEXT, True)}
    assert {"a": ["***", {"b": "x***y"}], "***": "***", "n": 1, "none": None, "t": ["***", True]} == known.scrub(leak)


def test_one_secret_may_be_the_beginning_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The longer one is taken out whole, whichever was fetched first."""
    monkeypatch.setenv("SHORT", "hunter2")
    monkeypatch.setenv("LONG", "hunter2-and-the-rest")
    for order in (("env:SHORT", "env:LONG"), ("env:LONG", "env:SHORT")):
        found = secrets.Secrets(tmp_path)
        for source in order:
            found(source)
        assert ["<***>", "<***>"] == found.scrub(["<hunter2-and-the-rest>", "<hunter2>"])


@pytest.mark.parametrize("text", ["", "a", "abc"])
def test_the_shortest_are_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A secret of a letter or two would turn every word into stars."""
    monkeypatch.setenv("SHORT", text)
    found = secrets.Secrets(tmp_path)
    assert text == found("env:SHORT").reveal()
    assert "a cab about" == found.scrub("a cab about")


def texts(value: Any) -> Iterator[str]:
    """Every text in it, names included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        yield from texts(list(value.values()))
    elif isinstance(value, list):
        for one in value:
            yield from texts(one)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda s: st.lists(s) | st.dictionaries(st.text(), s),
        max_leaves=9,
    ),
    st.text(st.characters(codec="utf-8", categories=["L", "P"], exclude_characters="*"), min_size=4, max_size=12),
)
def test_scrubbing_takes_out_the_secret_and_nothing_else(value: Any, secret: str) -> None:
    """After scrubbing no text holds the secret; what did not hold it is as it was."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secrets.Secrets, "_fetch", lambda *_: secret)
        found = secrets.Secrets(Path())
        found("any:thing")
    before = json.dumps(value, ensure_ascii=False)
    scrubbed = found.scrub([value, secret, f"a{secret}b", shlex.quote(secret)])
    assert not [text for text in texts(scrubbed) if secret in text.replace("***", "")]
    if not any(form in before for form in secrets._forms(secret)):
        assert value == found.scrub(value)
