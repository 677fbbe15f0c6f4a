"""Each wrong playbook of tests/mistakes beside the exact text that it must print.

A case is NAME.txt: the command, what it prints, the exit code. What it is about lies in NAME.yml or in the folder NAME/; for
texts that an editor would spoil, or that nobody wants in a repository, it is made here and the .txt lies in hostile/. After
a wanted change write them anew with LASTGOOD_WRITE=1, and read every one of them as somebody would at three in the morning.
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.cli import main
from engine.gate import MAX_BYTES

MISTAKES = Path(__file__).parents[1] / "mistakes"
HOSTILE = MISTAKES / "hostile"
CASES = sorted(path.stem for path in MISTAKES.glob("[!.]*.txt"))

HEAD = "name: Take the fraud model back\nstrategy: version\nhosts: fraud\n"
ALIAS = """\
execution:
  - name: Point the alias at the good version
    mlflow.alias: {server: "{{ mlflow_url }}", model: fraud, alias: champion, version: "7"}
"""
WHOLE = HEAD + ALIAS

#: Characters and bytes that show something else than they are.
CHARACTERS: dict[str, bytes] = {
    "next-line-hides-a-key": (HEAD + "# a comment\u0085max_failed: 9\n" + ALIAS).encode(),
    "line-separator-hides-a-key": (HEAD + "# a comment\u2028max_failed: 9\n" + ALIAS).encode(),
    "paragraph-separator-hides-a-key": (HEAD + "# a comment\u2029max_failed: 9\n" + ALIAS).encode(),
    "carriage-return-hides-a-key": (HEAD + "# a comment\rmax_failed: 9\n" + ALIAS).encode(),
    "windows-line-ends": WHOLE.replace("\n", "\r\n").encode(),
    "right-to-left": (HEAD + "owner: team\u202egniksa\n" + ALIAS).encode(),
    "zero-width": (HEAD + "own\u200ber: ml-platform\n" + ALIAS).encode(),
    "soft-hyphen": (HEAD + "owner: ml\u00adplatform\n" + ALIAS).encode(),
    "tag-characters": (HEAD + "owner: ml\U000e0041\U000e0042\n" + ALIAS).encode(),
    "look-alike-key": (HEAD + "vars: {\u0430lias: champion}\n" + ALIAS).encode(),
    "look-alike-host": (WHOLE.replace("hosts: fraud", "hosts: fr\u0430ud")).encode(),
    "look-alike-name-in-a-template": WHOLE.replace('"{{ mlflow_url }}"', '"{{ mlfl\u043ew_url }}"').encode(),
    "other-alphabet-in-a-template": WHOLE.replace(
        '"{{ mlflow_url }}"', '"{{ \u043c\u043e\u0434\u0435\u043b\u044c }}"'
    ).encode(),
    "escaped-null": (HEAD + 'owner: "ml\\0platform"\n' + ALIAS).encode(),
    "escaped-escape": (HEAD + 'owner: "\\e[2Jml-platform"\n' + ALIAS).encode(),
    "terminal-escape": (HEAD + "owner: \x1b[2Jml-platform\n" + ALIAS).encode(),
    "control-c1": (HEAD + "owner: \x9b2Jml-platform\n" + ALIAS).encode(),
    "not-utf-8": (HEAD + "owner: ").encode() + b"M\xfcller\n" + ALIAS.encode(),
    "utf-16": WHOLE.encode("utf-16"),
    "utf-16-without-a-mark": WHOLE.encode("utf-16-le"),
    "byte-order-mark": b"\xef\xbb\xbf" + WHOLE.encode(),
    "decomposed-key": (HEAD + "vars: {cafe\u0301: 1, caf\u00e9: 2}\n" + ALIAS).encode(),
}
#: Sizes and depths, within 2 s of processor time and 256 MiB.
SIZES: dict[str, Callable[[], bytes]] = {
    "brackets-3000": lambda: b"name: " + b"[" * 3_000 + b"\n",
    "brackets-200000": lambda: b"name: " + b"[" * 200_000 + b"\n",
    "braces-200000": lambda: b"name: " + b"{a: " * 200_000 + b"\n",
    "indented-200-levels": lambda: b"".join(b" " * level + b"a:\n" for level in range(200)),
    "a-text-of-50-mb": lambda: b"name: " + b"x" * (50 << 20) + b"\n",
    "a-text-of-65-kib": lambda: b"name: " + b"x" * (65 << 10) + b"\n",
    "a-key-of-65-kib": lambda: b"x" * (65 << 10) + b": 1\n",
    "200000-keys": lambda: b"".join(b"k%d: 1\n" % number for number in range(200_000)),
    "a-million-values": lambda: b"vars: {a: [" + b"0," * 1_100_000 + b"0]}\n",
    "one-byte-too-many": lambda: (WHOLE + "#" * (MAX_BYTES - len(WHOLE) + 1)).encode(),
    "5000-digits": lambda: (HEAD + "max_failed: " + "7" * 5_000 + "\n" + ALIAS).encode(),
    "a-small-exponent": lambda: (HEAD + "max_failed: 1e-99999\n" + ALIAS).encode(),
    "100000-documents": lambda: b"---\na: 1\n" * 100_000,
    "5000-wrong-steps": lambda: (
        HEAD + "execution:\n" + "".join(f"  - nam: {n}\n    wiat: {{fro: 1}}\n" for n in range(5_000))
    ).encode(),
    "an-expression-of-1500-terms": lambda: (WHOLE + "    when: " + "+".join("a" * 1_500) + "\n").encode(),
    "an-expression-of-nots": lambda: (WHOLE + "    when: " + "not " * 1_000 + "a\n").encode(),
    "an-expression-of-brackets": lambda: (WHOLE + "    when: " + "(" * 2_000 + "a" + ")" * 2_000 + "\n").encode(),
    "5000-templates-in-a-text": lambda: (HEAD + 'vars: {a: "' + "{{ a" * 5_000 + '"}\n' + ALIAS).encode(),
}
#: What each looks like is put together here, so that no scanner of repositories takes it for a real one.
SECRETS = {
    "an AWS access key": "AKIA" + "IOSFODNN7EXAMPLE",
    "a GitHub token": "ghp_" + "x7Kq2mZ9" * 5,
    "a GitLab token": "glpat-" + "x7Kq2mZ9" * 3,
    "a Slack token": "xoxb-" + "123456789012-abcdefghij",
    "a Google API key": "AIza" + "x7Kq2mZ9" * 4 + "abc",
    "a Hugging Face token": "hf_" + "x7Kq2mZ9" * 5,
    "an API key": "sk-" + "x7Kq2mZ9" * 3,
    "a JSON web token": "eyJ" + "hbGciOiJIUzI1NiJ9" + ".eyJ" + "zdWIiOiJhZGEifQ" + ".c2lnbmF0dXJl",
    "an authorization": "Bearer " + "x7Kq2mZ9x7Kq2mZ9",
    "an address with a password": "postgresql://ada:" + "correct-horse" + "@db.example.org/models",
    "a generated key": "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYEXAMPLEKEY",
}


@pytest.fixture
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be contacted and nothing started: whoever tries ends as our own bug (exit 70)."""

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a mistake was looked for outside the texts")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(subprocess, "Popen", refused)
    monkeypatch.setattr(os, "posix_spawn", refused)


def _transcript(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.chdir(folder)
    code = main.run(shlex.split(command)[1:])
    out, err = capsys.readouterr()
    return f"$ {command}\n{out}{err}exit {int(code)}\n"


def _compare(file: Path, told: str) -> None:
    if os.environ.get("LASTGOOD_WRITE"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(told, "utf-8")
    assert file.read_text("utf-8") == told
    assert told.endswith("\nexit 3\n")


@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_told_word_for_word(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command prints exactly the text that lies beside the mistake, and ends with exit 3."""
    file, folder = MISTAKES / f"{name}.txt", MISTAKES / name
    command = file.read_text("utf-8").split("\n", 1)[0].removeprefix("$ ")
    _compare(file, _transcript(command, folder if folder.is_dir() else MISTAKES, monkeypatch, capsys))


@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize("name", CHARACTERS)
def test_a_text_that_shows_something_else_than_it_is_says_so(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hidden, look-alike and misread characters are named with their place, and never printed as they are."""
    (tmp_path / f"{name}.yml").write_bytes(CHARACTERS[name])
    told = _transcript(f"engine validate {name}.yml", tmp_path, monkeypatch, capsys)
    assert all(char == "\n" or char.isprintable() for char in told)
    _compare(HOSTILE / f"{name}.txt", told)


#: A process that leaves its own peak memory (KiB) behind. What `wait4` tells would be the peak of the parent too, because
#: that is counted for a child until it has become another program.
PEAK = """
import atexit, re
atexit.register(lambda: open("peak", "w").write(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]))
from engine.cli.main import main
main()
"""


@pytest.mark.parametrize("name", SIZES)
def test_what_is_too_large_is_refused_early(name: str, tmp_path: Path) -> None:
    """Whatever its size or depth, a text is judged within 2 s of processor time and 256 MiB, and never ends the process."""
    (tmp_path / f"{name}.yml").write_bytes(SIZES[name]())
    output = tmp_path / "output"
    with output.open("wb") as into:
        argv = [sys.executable, "-c", PEAK, "validate", f"{name}.yml"]
        child = subprocess.Popen(argv, cwd=tmp_path, stdout=into, stderr=into)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    told = f"$ engine validate {name}.yml\n{output.read_text('utf-8')}exit {child.returncode}\n"
    _compare(HOSTILE / f"{name}.txt", told)
    assert used.ru_utime + used.ru_stime < 2
    assert int((tmp_path / "peak").read_text()) < 256 << 10


@pytest.mark.usefixtures("_alone")
def test_the_largest_file_that_is_read_is_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The cap itself is still read: one byte less than what is refused."""
    file = tmp_path / "playbook.yml"
    file.write_text(WHOLE + "#" * (MAX_BYTES - len(WHOLE)))
    assert 0 == main.run(["validate", str(file)])


@pytest.mark.usefixtures("_alone")
def test_a_device_without_an_end_is_left_in_time(capsys: pytest.CaptureFixture[str]) -> None:
    """No more than the cap is read of anything."""
    assert 3 == main.run(["validate", "/dev/zero"])
    assert "larger than 8 MiB" in capsys.readouterr().err


@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize("what", SECRETS)
def test_a_secret_that_is_written_down_is_found_and_not_repeated(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its place is told, and no part of it, not even by another mistake in the same line."""
    file = tmp_path / "playbook.yml"
    file.write_text(HEAD + f'vars: {{a: "{SECRETS[what]}", a: 1}}\n' + ALIAS)
    assert 3 == main.run(["validate", str(file)])
    told = capsys.readouterr().err
    assert f"error[LG027]: {what} is written down here\n  --> {file}:4:11\n4 | vars: {{a: …\n" in told
    assert "error[LG009]" in told
    assert SECRETS[what][6:] not in told


@pytest.mark.usefixtures("_alone")
def test_a_private_key_over_several_lines_is_found_and_not_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it begins is told, and none of its lines."""
    file = tmp_path / "playbook.yml"
    lines = ["-----BEGIN " + "EC PRIVATE KEY-----", "MHcCAQEEIIGWmYGqLcT", "-----END " + "EC PRIVATE KEY-----"]
    file.write_text(HEAD + "vars:\n  deploy: |\n" + "".join(f"    {line}\n" for line in lines) + ALIAS)
    assert 3 == main.run(["validate", str(file)])
    told = capsys.readouterr().err
    assert f"error[LG027]: a private key is written down here\n  --> {file}:5:11\n" in told
    assert not any(line in told for line in lines)


@pytest.mark.parametrize(
    "text",
    [
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "3f786850e387550fdab836ed7e6dc881de23001b",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILKcy+LPdgEVO+9HSxuYyWNNSDWdqsZuVssuR6PT0d57 ana",
        "FraudScoringServiceProductionV2EuCentral1",
        "mlflow-artifacts/0/Fraud2024/artifacts/model",
        "{{ secret('env:DB_PASSWORD') }}",
        "mailto://localhost:25?from=engine@example.com&to=ml-oncall@example.com",
    ],
)
def test_what_only_looks_disorderly_is_no_secret(text: str, tmp_path: Path) -> None:
    """Digests, public keys, names, paths and references to secrets pass."""
    file = tmp_path / "playbook.yml"
    file.write_text(HEAD + f'vars: {{value: "{text}"}}\n' + ALIAS)
    assert 0 == main.run(["validate", str(file)])


@pytest.mark.usefixtures("_alone")
def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An import that is a link to somewhere else is refused at its place, whatever stands there."""
    (tmp_path / "outside.yml").write_text("- name: Wait\n  wait: {for: 1s}\n")
    folder = tmp_path / "playbooks"
    folder.mkdir()
    (folder / "steps.yml").symlink_to("../outside.yml")
    (folder / "playbook.yml").write_text(WHOLE + "  - import: steps.yml\n")
    assert 3 == main.run(["validate", str(folder / "playbook.yml")])
    told = capsys.readouterr().err
    assert "error[LG035]: `steps.yml` is a link that leads out of the playbook's folder" in told
    assert f"--> {folder / 'playbook.yml'}:7:13" in told


@pytest.mark.usefixtures("_alone")
def test_what_the_inventory_remarks_is_shown_and_does_not_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A group without hosts that no playbook asks for is a warning: exit 0."""
    (tmp_path / "production").mkdir()
    hosts = "all:\n  children:\n    fraud: {hosts: {fraud-eu: {mlflow_url: http://m.example.org}}}\n    churn:\n"
    (tmp_path / "production" / "hosts.yml").write_text(hosts)
    (tmp_path / "playbook.yml").write_text(WHOLE)
    assert 0 == main.run(["validate", str(tmp_path / "playbook.yml"), "-i", str(tmp_path / "production")])
    assert "warning[LG107]: the group `churn` has no hosts" in capsys.readouterr().err
