"""leak: shapes, names and disorder give a secret away; digests, public keys and words do not."""

from __future__ import annotations

import base64
import random

import pytest

from engine import leak


@pytest.mark.parametrize(
    "name", ["password", "db_password", "api_key", "registry-token", "AUTHORIZATION", "private_key", "client_secret"]
)
def test_a_name_that_says_so_makes_any_value_a_secret(name: str) -> None:
    """What stands under it is one, unless it is short, a template, or a sentence."""
    assert f"the value of `{name}`" == leak.kind("correct-horse", name)
    assert "" == leak.kind("{{ secret('env:X') }}", name)
    assert "" == leak.kind("none", name)
    assert "" == leak.kind("ask the team on call", name)


@pytest.mark.parametrize("name", ["token_limit", "passwords_file", "secretary", "tokenizer", "keys", "model"])
def test_a_name_that_only_sounds_like_it_does_not(name: str) -> None:
    """The last word of the name decides."""
    assert "" == leak.kind("correct-horse", name)


def test_generated_keys_are_found_and_digests_are_not() -> None:
    """Of a thousand random keys nearly all are found; no hexadecimal digest is taken for one."""
    chance = random.Random(7)
    keys = [base64.b64encode(chance.randbytes(30)).decode() for _ in range(1000)]
    assert 950 <= sum(leak.kind(key) == "a generated key" for key in keys)
    assert not any(leak.kind(chance.randbytes(32).hex()) for _ in range(1000))


@pytest.mark.parametrize(
    "text",
    [
        "Roll the fraud model back to its last known-good version",
        "sum(rate(http_requests_total{job='fraud'}[5m])) by (code)",
        "http://scoring-1.example.org:8080/audit?wrong=true&limit=500",
        "/srv/mlserver/fraud/model-settings.json",
        "FraudScoringServiceProductionV2EuCentral1",
        "8f14e45f-ceea-467f-a0e6-3f8c2b1d9a77",
        "AAAAC3NzaC1lZDI1NTE5AAAAILKcy+LPdgEVO+9HSxuYyWNNSDWdqsZuVssuR6PT0d57",
        "candidate.tags.validation == 'passed'",
    ],
)
def test_what_playbooks_are_made_of_passes(text: str) -> None:
    """Names, queries, addresses, paths, public keys and expressions are no secrets."""
    assert "" == leak.kind(text, "value")


def test_what_is_said_of_a_secret_repeats_nothing_of_it() -> None:
    """Only the kind is named."""
    assert "an address with a password" == leak.kind("postgresql://ada:correct-horse@db/models", "url")
