"""Secrets: resolved when they are needed, remembered for as long as a run lasts, taken out of everything that is said.

In: a source such as ``env:NAME``. Out: a `Secret`, or a Fault that repeats nothing of it; and texts without the secrets
that were resolved, however they got in and however they were encoded on the way.
"""

from __future__ import annotations

import html
import json
import os
import re
import threading
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote, quote_plus

from engine.diagnostics import printable
from engine.values import Fault
from modules.contract import Json, Secret

#: Characters below which a secret is not looked for in texts: it would be found in every word.
SHORTEST = 4
_URL_SAFE = str.maketrans("+/", "-_")


class Secrets:
    """Resolves `secret('env:NAME')`, `secret('file:PATH')` and installed providers, and scrubs what it has resolved.

    One for each run: it remembers the values so that a sink can take them out of any text, however they got in.
    """

    def __init__(self, base: Path) -> None:
        self._base = base
        self._known: dict[str, Secret] = {}
        self._forms: re.Pattern[str] | None = None
        self._lock = threading.Lock()

    def __call__(self, source: str) -> Secret:
        """The secret named by `source`. Raises Fault when it is not there."""
        with self._lock:
            if source not in self._known:
                self._known[source] = Secret(self._fetch(source), source)
                found = {form for secret in self._known.values() for form in _forms(secret.reveal())}
                # The longest first: one secret may be the beginning of another.
                self._forms = re.compile("|".join(map(re.escape, sorted(found, key=len, reverse=True)))) if found else None
            return self._known[source]

    def _fetch(self, source: str) -> str:
        kind, _, name = source.partition(":")
        if kind == "env":
            if name not in os.environ:
                raise Fault(f"the secret {source} is not set", f"set the environment variable {name}", code="LG026")
            return os.environ[name]
        if kind == "file":
            try:
                return (self._base / name).read_text("utf-8").rstrip("\n")
            except (OSError, UnicodeDecodeError) as error:
                why = getattr(error, "strerror", None) or "it is not UTF-8"
                hint = "check the path and its permissions"
                raise Fault(f"the secret {source} cannot be read: {why}", hint, code="LG026") from None
        from importlib.metadata import entry_points

        for point in entry_points(group="lastgood.secrets", name=kind):
            try:
                return str(point.load()(name))
            except Exception as error:  # noqa: BLE001 (a provider may be anybody's; what it says may hold the secret)
                hint = f"it comes from {point.value}"
                raise Fault(
                    f"the provider of the secret {source} broke: {type(error).__name__}", hint, code="LG026"
                ) from None
        raise Fault(
            f"no provider for the secret `{printable(source)}`",
            "write secret('env:NAME') or secret('file:PATH')",
            code="LG026",
        )

    def scrub(self, value: Json) -> Json:
        """`value` with every resolved secret, plain or encoded, replaced by ``***``: in keys and texts, at any depth."""
        if isinstance(value, Secret):
            return "***"
        if isinstance(value, str):
            return self._forms.sub("***", value) if self._forms else value
        if isinstance(value, dict):
            return {self.scrub(key): self.scrub(inner) for key, inner in value.items()}
        return [self.scrub(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _forms(text: str) -> set[str]:
    """How a secret looks where it got out: as it is, quoted, in an address, in hexadecimal, in base64 at any offset."""
    if len(text) < SHORTEST:
        return set()
    data = text.encode()
    found = {text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], repr(text)[1:-1], html.escape(text)}
    found |= {quote(text, safe=""), quote(text), quote_plus(text), data.hex(), data.hex().upper()}
    for offset in range(3):
        # The characters that the neighbours have no part in.
        encoded = b64encode(b"\0" * offset + data).rstrip(b"=").decode()
        core = encoded[(0, 2, 3)[offset] : len(encoded) - 1]
        if len(core) >= 2 * SHORTEST:
            found |= {core, core.translate(_URL_SAFE)}
    return found
