"""`engine roster`: from nothing to a signed roster and back, as people would type it, and what it says of each."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from stage import Said, Stage, step

from engine import envelope, roster, rostering, source, sshsig, statement, trust
from engine.cli import main

PEOPLE = ("ana", "bo", "cy", "dee", "moe")


class Desk:
    """An inventory without a roster, keys of some people, and a folder for pins outside."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.folder = root, root / "repository" / "production"
        self.folder.mkdir(parents=True)
        (root / "repository" / ".git").mkdir()
        (root / "etc").mkdir()
        monkeypatch.setenv("LASTGOOD_TRUST", str(root / "etc"))
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        (self.folder / "hosts.yml").write_text("all: {hosts: {a: }}\n")
        for name in PEOPLE:
            sshsig.generate(root / name, name)

    def engine(self, *words: str) -> Said:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main.run(["--state", str(self.root / "state"), *words])
        return Said(code, out.getvalue(), err.getvalue())

    def roster(self, *words: str) -> Said:
        verb, *rest = words or ("",)
        head = ["roster", verb] if verb and not verb.startswith("-") else ["roster"]
        return self.engine(*head, "-i", str(self.folder), *(rest if len(head) == 2 else words if verb else ()))

    def done(self, *words: str) -> Said:
        said = self.roster(*words)
        assert 0 == said.exit, said.err
        return said

    def sign(self, *people: str) -> None:
        for name in people:
            self.done("sign", "--key", str(self.root / name), "--yes")

    def person(self, name: str, roles: str = "keeper,ml-oncall") -> list[str]:
        return ["--person", f"{name}={roles}={self.root / name}.pub"]

    @property
    def data(self) -> dict[str, object]:
        found: dict[str, object] = source.load(self.folder / "roster.yml").data
        return found


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def begun(desk: Desk) -> None:
    """Version 1, signed by ana and bo, and pinned."""
    desk.done("init", *desk.person("ana"), *desk.person("bo"))
    desk.sign("ana", "bo")
    desk.done("pin", "--yes")


def test_from_nothing_to_a_roster_that_counts(desk: Desk) -> None:
    """init, sign, pin: before the last signature and the pin it does not count, and each step says what is next."""
    said = desk.done("init", *desk.person("ana"), *desk.person("bo"))
    assert "engine roster sign" in said.text
    assert 3 == desk.roster().exit
    desk.sign("ana")
    said = desk.roster()
    assert (3, True) == (said.exit, "LG213" in said.err)
    desk.done("pin", "--yes")
    said = desk.roster()
    assert (3, True) == (said.exit, "1 of 2 people of `keeper`" in said.text)
    desk.sign("bo")
    said = desk.done()
    assert "version 1 of production" in said.text
    assert "signed by ana, bo" in said.text
    assert "it counts" in said.text


def test_beside_a_database_the_version_seen_is_remembered_too(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record on PostgreSQL has a folder for files on this machine: there the highest version is kept."""
    begun(desk)
    shutil.rmtree(desk.root / "state", ignore_errors=True)
    files = desk.root / "files"
    files.mkdir()
    argv = ["--state", "postgresql://nobody@127.0.0.1:1/none", "--files", str(files), "roster", "-i", str(desk.folder)]
    with contextlib.redirect_stdout(io.StringIO()):
        assert 0 == main.run(argv)
    assert ["production 1 "] == [line[:13] for line in (files / trust.SEEN).read_text().splitlines()]


def test_a_change_needs_its_signatures(desk: Desk) -> None:
    """add, remove and renew make the next version once; it counts when both versions' keepers have signed."""
    begun(desk)
    assert "dee is new, as fraud-risk" in desk.done("add", "dee", "--role", "fraud-risk", "--key", f"{desk.root}/dee").text
    assert 2 == desk.data["version"]
    desk.done("add", "dee", "--login", "dsmith")
    assert 2 == desk.data["version"], "it is the same work"
    assert 3 == desk.roster().exit
    desk.sign("ana", "bo")
    desk.done()
    assert "dee is not in it any more" in desk.done("remove", "dee").text
    assert 3 == desk.data["version"]
    desk.sign("ana", "bo")
    desk.done("renew", "--days", "30")
    assert 4 == desk.data["version"]
    desk.sign("ana", "bo")
    assert "it counts" in desk.done().text


def test_a_playbook_cannot_ask_for_less_than_the_roster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the signed roster says `least`, a playbook that asks for less is refused, also when the roster is taken away."""
    (tmp_path / "etc").mkdir()
    monkeypatch.setenv("LASTGOOD_TRUST", str(tmp_path / "etc"))
    stage = Stage(tmp_path / "stage", {"execution": [step("a", {"x": 1})]}).people()
    words = ["-i", str(stage.stock)]
    people = json.loads((stage.stock / "roster.yml").read_text())["people"]
    for one in people:
        one["roles"].append("keeper")
    (stage.stock / "roster.yml").write_text(json.dumps({"people": people}))
    assert 0 == stage.engine("roster", "init", *words, "--least", "one-click").exit
    for name in ("ana", "ben"):
        assert 0 == stage.engine("roster", "sign", *words, "--key", str(stage.folder / name), "--yes").exit
    assert 0 == stage.engine("roster", "pin", *words, "--yes").exit
    said = stage.run()
    assert (3, True) == (said.exit, "LG207" in said.err)
    assert "asks for `one-click` at least, and the playbook for `automatic`" in said.text
    for taken in ((), ("roster.yml", "roster.sig")):  # the same hosts under another name, with the roster and without
        elsewhere = tmp_path / f"stage/copy-{len(taken)}"
        shutil.copytree(stage.stock, elsewhere, ignore=shutil.ignore_patterns(*taken))
        said = stage.engine("run", str(stage.playbook), "-i", str(elsewhere))
        assert (3, True) == (said.exit, "LG21" in said.err), said.text
    assert "write `copy-2 0 unsigned` into" in said.text
    assert stage.thing("a") is None
    (tmp_path / "stage/more").mkdir()
    (tmp_path / "stage/more/hosts.yml").write_text("all: {vars: {y: 1}}\n")
    assert 0 == stage.engine("roster", "renew", *words, "--least", "automatic").exit
    for name in ("ana", "ben"):
        assert 0 == stage.engine("roster", "sign", *words, "--key", str(stage.folder / name), "--yes").exit
    assert 0 == stage.engine("run", str(stage.playbook), "-i", str(tmp_path / "stage/more"), *words).exit
    done = stage.effects()
    (stage.stock / "roster.yml").unlink()
    said = stage.run()
    assert (3, True) == (said.exit, "LG210" in said.err)
    assert done == stage.effects()


def test_who_signs_sees_what_changes(desk: Desk) -> None:
    """Before a signature the difference to the version before is told; without a yes nothing is signed."""
    begun(desk)
    desk.done("add", "moe", "--role", "keeper", "--key", f"{desk.root}/moe.pub", "--until", "2030-01-01")
    said = desk.roster("sign", "--key", str(desk.root / "ana"))
    assert 2 == said.exit
    assert "moe is new, as keeper, with 1 key" in said.text
    assert "until 2030-01-01" in said.text
    assert "nothing was signed" in said.text
    assert not (desk.folder / "roster.sig" / "0002.json").exists()


def test_who_signs_is_shown_the_difference_to_what_is_trusted(desk: Desk) -> None:
    """Somebody who can change the repository writes themselves into the version before as well: the difference would not
    name them, and with the old file put back the new version would count."""
    begun(desk)
    folder = desk.folder / "roster.sig"
    known = (folder / "0001.json").read_bytes()
    desk.done("add", "moe", "--role", "keeper", "--key", f"{desk.root}/moe.pub")
    people = desk.data["people"]
    bent = {**source.load(desk.folder / "roster.yml").data, "version": 1}
    forged = sshsig.key_file(desk.root / "moe", lambda _: "")
    (folder / "0001.json").write_text(json.dumps(envelope.seal(trust.stated(bent), forged, statement.NAMESPACES["roster"])))
    desk.done("renew", "--days", "30")
    assert people == desk.data["people"]
    said = desk.roster("sign", "--key", str(desk.root / "ana"), "--yes")
    assert (3, True) == (said.exit, "version 1 of the roster of `production` is not the one" in said.text), said.text
    assert not (folder / "0002.json").exists()
    (folder / "0001.json").write_bytes(known)
    assert "moe is new, as keeper, with 1 key" in desk.done("sign", "--key", str(desk.root / "ana"), "--yes").text


def test_who_signs_without_a_pin_is_shown_all_of_it(desk: Desk) -> None:
    """A machine that has pinned nothing cannot tell whether the version before is right: whom the new one names is told."""
    begun(desk)
    (desk.root / "etc" / trust.PINS).unlink()
    desk.done("renew", "--days", "30")
    said = desk.done("sign", "--key", str(desk.root / "ana"), "--yes")
    assert "nobody on this machine has pinned the roster of `production`" in said.text
    assert "to change it: 2 of keeper; at least: automatic" in said.text
    assert f"bo: keeper, ml-oncall, {sshsig.public_key((desk.root / 'bo.pub').read_text()).fingerprint}" in said.text


def test_a_change_after_a_signature_voids_it(desk: Desk) -> None:
    """What was signed is a text: change it, and the signatures are gone with it."""
    begun(desk)
    desk.done("add", "cy", "--role", "keeper", "--key", f"{desk.root}/cy.pub")
    desk.sign("ana")
    desk.done("add", "cy", "--role", "finance")
    assert not (desk.folder / "roster.sig" / "0002.json").exists()
    desk.sign("ana", "bo")
    desk.done()


def test_a_stranger_signs_nothing(desk: Desk) -> None:
    """A key of nobody in either version is refused; one of the new version alone does not suffice."""
    begun(desk)
    said = desk.roster("sign", "--key", str(desk.root / "moe"), "--yes")
    assert 2 == said.exit
    assert "no SSH key of anybody" in said.text
    desk.done("add", "moe", "--role", "keeper", "--key", f"{desk.root}/moe.pub")
    desk.sign("moe")
    assert "LG210" in desk.roster().err


def test_an_unsigned_roster_becomes_a_signed_one(desk: Desk) -> None:
    """A roster that is there is taken over by init: the people stay, and keepers are named."""
    key = (desk.root / "ana.pub").read_text().strip()
    (desk.folder / "roster.yml").write_text(f"people:\n  - name: ana\n    roles: [ml-oncall]\n    keys: [{key}]\n")
    assert "not signed" in desk.done().text
    assert 2 == desk.roster("pin", "--yes").exit
    desk.done("add", "ana", "--role", "keeper")
    assert "version" not in desk.data
    desk.done("init", *desk.person("bo"))
    desk.sign("ana", "bo")
    desk.done("pin", "--yes")
    assert "it counts" in desk.done().text


def test_unsigned_by_leave_of_the_pins(desk: Desk) -> None:
    """Where pins are kept, an unsigned roster counts only when they say so."""
    key = (desk.root / "ana.pub").read_text().strip()
    (desk.folder / "roster.yml").write_text(f"people:\n  - name: ana\n    roles: [ml-oncall]\n    keys: [{key}]\n")
    (desk.root / "etc" / "roster-pins").write_text("staging 0 unsigned\n")
    assert "LG210" in desk.roster().err
    desk.done("pin", "--unsigned", "--yes")
    desk.done()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["add", "zoe"], "zoe is new: a person has a role and a key"),
        (["add", "zoe", "--role", "x", "--key", "nowhere"], "cannot be read"),
        (["add", "ana", "--role", "x", "--key", "hosts.yml"], "cannot be read"),
        (["remove", "zoe"], "nobody in the roster is called zoe"),
        (["remove", "ana", "--role", "finance"], "ana has no finance"),
        (["remove", "ana", "--key", "SHA256:x"], "ana has no SHA256:x"),
        (["remove", "ana", "--role", "keeper", "--role", "ml-oncall"], "would be left without a role or a key"),
        (["init"], "is version 1 already"),
        (["pin", "--unsigned"], "leave --unsigned out"),
        (["pin"], "nothing was pinned"),
    ],
)
def test_what_cannot_be_done_is_said(words: list[str], says: str, desk: Desk) -> None:
    """Every refusal says why, changes nothing and ends with exit 2."""
    begun(desk)
    before = (desk.folder / "roster.yml").read_text()
    said = desk.roster(*words)
    assert 2 == said.exit
    assert says in said.text
    assert before == (desk.folder / "roster.yml").read_text()


def test_a_threshold_that_nobody_meets_is_not_written(desk: Desk) -> None:
    """A change that would leave too few keepers is LG110, and roster.yml stays as it is."""
    begun(desk)
    said = desk.roster("remove", "bo")
    assert (3, True) == (said.exit, "LG110" in said.err)
    assert 1 == desk.data["version"]


def test_the_written_text_is_what_was_meant() -> None:
    """Whatever is in a roster is read again as it was, awkward words included."""
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFsNrETva5eg+IK2+CFbc8eW35AdeQkY6Exk8kMdthdg it's: #1"
    data = {
        "version": 7, "environment": "on", "expires": "2027-01-01", "thresholds": {"no": 2},
        "people": [
            {"name": "null", "roles": ["yes", "1.0"], "logins": ["0644"], "keys": [key, {"key": key, "until": "2030"}]},
        ],
    }  # fmt: skip
    assert data == source.parse(rostering.text(data), "roster.yml").data


@pytest.mark.real
@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="ssh-keygen is not installed (openssh-client)")
def test_ssh_reads_the_allowed_signers(desk: Desk, tmp_path: Path) -> None:
    """What --allowed-signers prints is taken by ssh-keygen: within the key's time, and in our namespaces alone."""
    desk.done("init", *desk.person("ana"), *desk.person("bo"))
    desk.done("add", "cy", "--role", "keeper", "--key", f"{desk.root}/cy.pub", "--until", "2020-01-01")
    allowed = tmp_path / "allowed"
    allowed.write_text(desk.done("--allowed-signers").out)
    for name, namespace, expected in (
        ("ana", "lastgood-approve@1", 0),
        ("ana", "git", 255),
        ("cy", "lastgood-approve@1", 255),
    ):
        sig = tmp_path / f"{name}.sig"
        sig.write_text(sshsig.key_file(desk.root / name, lambda _: "").sign(b"x", namespace))
        words = ["ssh-keygen", "-Y", "verify", "-f", str(allowed), "-I", name, "-n", namespace, "-s", str(sig)]
        assert expected == subprocess.run(words, input=b"x", capture_output=True).returncode


def test_a_run_goes_by_the_signed_roster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With pins kept, a run takes no keys by a roster that was changed by hand; signed again it goes on."""
    home = tmp_path / "etc"
    home.mkdir()
    monkeypatch.setenv("LASTGOOD_TRUST", str(home))
    keys = {"mode": "one-click", "roles": ["ml-oncall", "fraud-risk"]}
    stage = Stage(tmp_path / "stage", {"execution": [step("a", {"x": 1})], "authority": keys}).people()
    people = json.loads((stage.stock / "roster.yml").read_text())["people"]
    for one in people:
        one["roles"].append("keeper")
    (stage.stock / "roster.yml").write_text(json.dumps({"people": people}))
    words = ["-i", str(stage.stock)]
    assert 0 == stage.engine("roster", "init", *words).exit
    for name in ("ana", "ben"):
        assert 0 == stage.engine("roster", "sign", *words, "--key", str(stage.folder / name), "--yes").exit
    assert 0 == stage.engine("roster", "pin", *words, "--yes").exit
    assert 5 == stage.run("--no-wait").exit
    assert 1 == stage.bodies("key.asked")[0]["roster"]["version"]
    text = (stage.stock / "roster.yml").read_text()
    (stage.stock / "roster.yml").write_text(text.replace("name: ben", "name: mal"))
    for said in (
        stage.engine("approve", "RB-0001", "--key", str(stage.folder / "ben"), "--confirm", "RB-0001"),
        stage.resume(),
    ):
        assert (3, True) == (said.exit, "LG210" in said.err)
    assert roster.read(source.parse(text, "roster.yml")).version == 1
    (stage.stock / "roster.yml").write_text(text)
    stage.approve("ana")
    assert 0 == stage.resume().exit
