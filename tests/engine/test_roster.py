"""Rosters and destinations: each way in which one person could count as two, and each address that reaches nobody."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from engine import roster, source
from engine.diagnostics import Diagnostic, EngineError, render

EXAMPLE = Path(__file__).parents[2] / "inventories" / "example"
ADA = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFsNrETva5eg+IK2+CFbc8eW35AdeQkY6Exk8kMdthdg"
GRACE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOo+VL8gOA+Os17Y7kNM92Nrk2vI6mpZK4jAS4pOTkeJ"


def _people(text: str) -> list[Diagnostic]:
    return roster.people_mistakes(source.parse("people:\n" + text, "roster.yml"))


def _person(name: str = "ada", key: str = ADA, roles: str = "[ml-oncall]", more: str = "") -> str:
    return f"  - name: {name}\n    roles: {roles}\n    keys:\n      - {key}\n{more}"


def test_a_roster_of_people_with_keys_of_their_own_is_accepted() -> None:
    """The shipped example, and every kind of key that can sign, pass."""
    assert [] == roster.people_mistakes(source.load(EXAMPLE / "roster.yml"))
    keys = [ed25519.Ed25519PrivateKey.generate().public_key(), ec.generate_private_key(ec.SECP256R1()).public_key()]
    lines = [key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() for key in keys]
    assert [] == _people("".join(_person(f"p{i}", f"{line} p{i}@host") for i, line in enumerate(lines)))


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        (_person() + _person("grace"), "9:9", "the same key of `ada` and of `grace`"),
        (_person() + _person("grace", f"{ADA} other-comment"), "9:9", "the same key"),
        (_person() + _person("grace", ADA.replace(" ", "   ")), "9:9", "the same key"),
        (_person(more=f"      - {ADA} again\n"), "6:9", "the same key of `ada` stands twice"),
        (_person() + _person("Ada", GRACE), "6:11", "the same name"),
        (
            _person(more="    logins: [root]\n") + _person("grace", GRACE, more="    logins: [root]\n"),
            "11:14",
            "the same login of `ada` and of `grace`",
        ),
        (_person("'*'"), "2:11", "no wildcards"),
        (_person("'a?a'"), "2:11", "no wildcards"),
        (_person("ada lovelace"), "2:11", "no blanks"),
        (_person(roles="['*']"), "3:13", "no wildcards"),
        (_person(roles="[]"), "3:12", "not be empty"),
        (_person(roles="[a, a]"), "3:12", "no role stands twice"),
        (_person(more="    role: x\n"), "6:5", "unknown key `role`"),
        ("  - {name: ada, roles: [a]}\n", "2:5", "`keys` is missing"),
        ("  - {name: ada, roles: [a], keys: []}\n", "2:35", "not be empty"),
        ("  []\n", "2:3", "not be empty"),
        (_person(roles='"{{ roles }}"'), "3:13", "holds no templates"),
        (_person('"{{ me }}"'), "2:12", "holds no templates"),
        (_person(key=ADA[:-4]), "5:9", "cut short"),
        (_person(key=ADA[:-1] + "!"), "5:9", "not base64"),
        (_person(key=ADA.split()[1]), "5:9", "no public key line"),
        (_person(key=f"cert-authority {ADA}"), "5:9", "no public key line"),
        (_person(key="ssh-rsa AAAAB3NzaC1yc2E="), "5:9", "ssh-rsa keys are not accepted"),
        (_person(key=ADA.replace("ssh-ed25519 ", "ecdsa-sha2-nistp256 ")), "5:9", "the key in it is ssh-ed25519"),
    ],
)
def test_what_would_let_one_count_as_two_is_refused_with_its_place(text: str, at: str, says: str) -> None:
    """Each mistake is LG110 and points at the name, role or key that is wrong."""
    mistakes = _people(text)
    assert {"LG110"} == {mistake.code for mistake in mistakes}
    found = {str(mistake.place).removeprefix("roster.yml:"): mistake.summary for mistake in mistakes}
    assert at in found
    assert says in found[at]


def test_a_private_key_is_never_repeated() -> None:
    """Reading stops there; the message tells what to do and shows no part of the key, not even its line."""
    text = _person(
        key='"-----BEGIN OPENSSH PRIVATE KEY-----\\nb3BlbnNzaC1rZXktdjEAAAAA\\n-----END OPENSSH PRIVATE KEY-----"'
    )
    with pytest.raises(EngineError) as caught:
        _people(text)
    shown = render(caught.value.diagnostics)
    assert "a private key is written down here" in shown
    assert "have this one replaced" in shown
    assert "BEGIN" not in shown
    assert "b3Blbn" not in shown


@pytest.mark.parametrize(
    "address",
    [
        "mailtos://user@example.com",
        "file:messages.log",
        "slack://{{ secret('env:TOKEN') }}",
        "{{ secret('file:token') }}",
    ],
)
def test_an_address_or_a_secret_that_holds_one_is_a_destination(address: str) -> None:
    """Addresses pass alone and in lists; templates stay text."""
    document = source.parse(f'ops: "{address}"\nall-of-us: ["{address}", "file:x"]\n', "destinations.yml")
    assert [] == roster.destination_mistakes(document)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("ops: hooks.slack.example/T0/B0/hunter2\n", "1:6"),
        ("ops: [file:x, hunter2]\n", "1:15"),
        ("ops: 'file:'\n", "1:6"),
        ("ops: ''\n", "1:6"),
        ("ops: []\n", "1:6"),
        ("ops: {url: hunter2}\n", "1:6"),
        ("ops: 5\n", "1:6"),
        ("ops: null\n", "1:6"),
        ("'a b': file:x\n", "1:1"),
        ("[hunter2]\n", "1:1"),
        ("'{{ everything }}'\n", "1:1"),
        ("{}\n", "1:1"),
    ],
)
def test_an_address_that_reaches_nobody_is_refused_and_not_repeated(text: str, at: str) -> None:
    """Each is LG111 at its place, and what may be a token is on no line of the message."""
    mistakes = roster.destination_mistakes(source.parse(text, "destinations.yml"))
    assert {"LG111"} == {mistake.code for mistake in mistakes}
    assert f"destinations.yml:{at}" == str(mistakes[0].place)
    assert "hunter2" not in render(mistakes)
