"""Heads kept outside: what was taken away, replaced or stamped is told from there; an anchor that is down stops nothing."""

from __future__ import annotations

import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from evidence import Case, examined
from test_evidence import bundles, staged, well

from engine import anchor, canon
from engine.members import Fault
from modules._wire import Wire

CONFIG = """
[tsa]
default_tsa = here
[here]
serial = {folder}/serial
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha512
accuracy = secs:1
ess_cert_id_chain = no
ess_cert_id_alg = sha256
[root]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
[stamp]
basicConstraints = CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,timeStamping
"""


def openssl(folder: Path, *words: str, given: bytes = b"") -> bytes:
    done = subprocess.run(["openssl", *words], cwd=folder, input=given, capture_output=True, timeout=60)
    assert 0 == done.returncode, done.stderr.decode()
    return done.stdout


class Service:
    """A time stamping service: OpenSSL's own, behind HTTP. `broken`: what it answers instead."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.broken = folder, b""
        folder.mkdir()
        (folder / "tsa.cnf").write_text(CONFIG.format(folder=folder))
        (folder / "serial").write_text("01\n")
        new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-config", "/dev/null")
        named = ("-x509", "-days", "30", "-extensions", "root", "-config", "tsa.cnf")
        (folder / "tsa.cnf").write_text((folder / "tsa.cnf").read_text() + "[req]\ndistinguished_name = dn\n[dn]\n")
        openssl(folder, *new[:-2], *named, "-subj", "/CN=Test root", "-keyout", "root.key", "-out", "root.pem")
        openssl(
            folder, *new[:-2], "-config", "tsa.cnf", "-subj", "/CN=Test stamps", "-keyout", "stamp.key", "-out", "stamp.csr"
        )
        openssl(
            folder, "x509", "-req", "-in", "stamp.csr", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial",
            "-days", "30", "-extfile", "tsa.cnf", "-extensions", "stamp", "-out", "stamp.pem",
        )  # fmt: skip
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"

    def handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                query = self.rfile.read(int(self.headers["content-length"]))
                answer = service.broken or service.stamp(query)
                self.send_response(200)
                self.send_header("content-type", "application/timestamp-reply")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def stamp(self, query: bytes) -> bytes:
        (self.folder / "query").write_bytes(query)
        words = ("ts", "-reply", "-config", "tsa.cnf", "-section", "here", "-queryfile", "query", "-signer", "stamp.pem")
        return openssl(self.folder, *words, "-inkey", "stamp.key")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    made = Service(tmp_path_factory.mktemp("tsa") / "service")
    thread = threading.Thread(target=made.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def repository(folder: Path) -> str:
    """A repository with a commit, and hooks and configuration that would run a program if anybody let them."""
    subprocess.run(["git", "init", "-q", "-b", "main", str(folder)], check=True)
    (folder / "README").write_text("kept\n")
    git(folder, "add", "README")
    git(folder, "-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "first")
    for name in ("reference-transaction", "pre-commit", "post-commit", "commit-msg"):
        hook = folder / ".git/hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\necho ran >> {folder}/ran\n")
        hook.chmod(0o755)
    git(folder, "config", "commit.gpgSign", "true")
    git(folder, "config", "gpg.program", str(folder / ".git/hooks/pre-commit"))
    (folder / "ran").unlink(missing_ok=True)
    return str(folder)


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, text=True)
    return done.stdout


def test_every_kind_of_anchor(tmp_path: Path, service: Service) -> None:
    """A run takes the head of each bundle to a file, a branch and a service; each alone shows later what is missing."""
    stage = staged(tmp_path / "one")
    repo = repository(tmp_path / "repo")
    heads = tmp_path / "heads.jsonl"
    targets = [f"file:{heads}", f"git:{repo}#evidence", service.url]
    well(stage.run(*(word for target in targets for word in ("--anchor", target))))
    told = stage.bodies("evidence.anchored")
    assert (6, {""}) == (len(told), {one["why"] for one in told})
    offsets = [one["clock_offset"] for one in told if one["target"] == service.url]
    assert all(abs(one) < 60 for one in offsets)
    branch = git(Path(repo), "show", f"evidence:{anchor.LINES}")
    assert heads.read_text().replace(" ", "") == heads.read_text()
    assert (2, 2) == (len(heads.read_text().splitlines()), len(branch.splitlines()))
    assert not (tmp_path / "repo/ran").exists()
    assert "README\n" == git(Path(repo), "ls-tree", "--name-only", "main")
    (tmp_path / "branch.jsonl").write_text(branch)
    place = stage.state / "runs" / stage.latest / "bundles"
    stamps = sorted(str(path) for path in place.glob("*.tsr"))
    assert 2 == len(stamps)
    outside = ["--anchor", str(heads), "--anchor", str(tmp_path / "branch.jsonl"), "--anchor", stamps[0], "--authority"]
    said = stage.engine("evidence", "verify", str(place), *outside, str(service.folder / "root.pem"))
    well(said)
    assert "2 heads, each grown out of the one before" in said.out
    assert "RB-0001.1 was there at 20" in said.out
    shutil.rmtree(place / "RB-0001.2")
    for path in (heads, tmp_path / "branch.jsonl"):
        said = stage.engine("evidence", "verify", str(place), "--anchor", str(path))
        assert 1 == said.exit
        assert "RB-0001.2: is in" in said.out
        assert "not here: it was taken away" in said.out


def test_openssl_agrees_about_a_stamp(tmp_path: Path, service: Service) -> None:
    """What the service stamped is the attestation, to openssl too; a stamp of another bundle or authority is none."""
    with Case(tmp_path / "one") as case:
        path = case.seal()
        done = anchor.anchor(service.url, b"", path, Wire(), 0.0)
        case.journal.append(case.run, "note", {"text": "x", "by": "ana"})
        other = case.seal()
    assert "" == done.why
    data = str(path / "attestation.json")
    openssl(service.folder, "ts", "-verify", "-in", done.where, "-data", data, "-CAfile", "root.pem")
    root = service.folder / "root.pem"
    assert [] == anchor.stamped(Path(done.where), root, [examined(other), examined(path)])[1]
    assert "is a stamp of none of these bundles" in anchor.stamped(Path(done.where), root, [examined(other)])[1][0].why
    openssl(
        tmp_path, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3",
        "-subj", "/CN=Another", "-keyout", "k", "-out", "another.pem", "-extensions", "root",
        "-config", str(service.folder / "tsa.cnf"),
    )  # fmt: skip
    assert (
        "not one of this authority" in anchor.stamped(Path(done.where), tmp_path / "another.pem", [examined(path)])[1][0].why
    )
    (tmp_path / "no.tsr").write_bytes(b"no")
    assert "cannot be read" in anchor.stamped(tmp_path / "no.tsr", root, [examined(path)])[1][0].why


@pytest.mark.parametrize(("name", "value"), [("bundle", 1), ("previous", 5), ("previous", {"rows": 1}), ("consistency", 0)])
def test_a_line_of_other_kinds_is_no_head(tmp_path: Path, name: str, value: object) -> None:
    """Whatever stands in a file of heads is refused as a line that is none."""
    texts = dict.fromkeys(("digest", "root", "signer", "at"), "00")
    said = {"bundle": "RB-0001.1", **texts, "rows": 1, "previous": None, "consistency": [], name: value}
    (tmp_path / "heads").write_bytes(canon.dumps(said) + b"\n")
    with pytest.raises(ValueError, match="line 1 is not a bundle's head"):
        anchor.Heads.read(tmp_path / "heads")


def test_an_anchor_that_is_down_holds_nothing_up(tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The change is made, and the record says which anchor has nothing and why; it can be taken there later."""
    stage = staged(tmp_path / "one")
    monkeypatch.setattr(service, "broken", b"\x30\x05\x30\x03\x02\x01\x02")  # a refusal, as RFC 3161 has it
    targets = [f"file:{tmp_path}/no/such/folder", f"git:{tmp_path}/nothing#b", "http://127.0.0.1:9/", service.url]
    well(stage.run(*(word for target in targets for word in ("--anchor", target))))
    assert ['a/weight {"x": 1}'] == stage.effects()
    told = [(one["target"], bool(one["why"])) for one in stage.bodies("evidence.anchored")]
    assert {(target, True) for target in targets} == set(told)
    assert 1 == stage.engine("evidence", "anchor", stage.latest, targets[0]).exit
    well(stage.engine("evidence", "anchor", stage.latest, f"file:{tmp_path}/heads"))
    assert "RB-0001.2" == json.loads((tmp_path / "heads").read_text())["bundle"]
    assert 2 == len(bundles(stage))


@pytest.mark.parametrize(
    "target", ["", "heads", "git:repo", "git:#b", "git:r#--upload-pack=x", "git:r#../x", "ftp://x", "file:"]
)
def test_targets_that_are_none(tmp_path: Path, target: str) -> None:
    """What is no anchor is refused before the run begins."""
    stage = staged(tmp_path)
    assert 2 == stage.run("--anchor", target).exit
    assert "" == stage.latest


def lines(tmp_path: Path) -> list[dict[str, Any]]:
    """The heads of a run's two bundles, as an anchor holds them."""
    with Case(tmp_path) as case:
        case.seal(["a"])
        case.seal()
        from engine import seal

        told = seal.sealed(case.journal.entries(case.run))
        place = seal.folder(case.journal, case.run)
        made = [
            anchor.line(place / one.name, one, before, "SHA256:x", "now")
            for one, before in zip(told, [None, told[0]], strict=True)
        ]
    return [json.loads(one) for one in made]


@pytest.mark.parametrize("how", ["proof", "root", "another before", "field", "order", "blank"])
def test_an_anchor_that_was_forged(tmp_path: Path, how: str) -> None:
    """Lines that do not grow out of one another, or are not written as they are, are no anchor."""
    first, second = lines(tmp_path)
    path = tmp_path / "heads"
    path.write_bytes(b"".join(canon.dumps(one) + b"\n" for one in (first, second)))
    assert 2 == len(anchor.Heads.read(path).lines)
    if how == "proof":
        second["consistency"][0] = "00" * 32
    elif how == "root":
        second["root"] = "00" * 32
    elif how == "another before":
        first["digest"] = "sha256:" + "0" * 64
    elif how == "field":
        second["more"] = 1
    text = canon.dumps(second) if how != "blank" else json.dumps(second).encode()
    path.write_bytes(canon.dumps(first) + b"\n" + (text.replace(b'"at"', b'"at" ') if how == "order" else text))
    with pytest.raises(ValueError, match="line 2"):
        anchor.Heads.read(path)


def test_another_bundle_under_the_same_name(tmp_path: Path) -> None:
    """A bundle that was made anew after it was anchored is another one, whatever it says of itself."""
    first, second = lines(tmp_path / "one")
    with Case(tmp_path / "two") as case:
        found = examined(case.seal(["a"]))
    heads = anchor.Heads("heads", (first, second))
    assert [
        Fault("RB-0001.1", f"is another one than heads has: {first['digest']}"),
        Fault("RB-0001.2", "is in heads and not here: it was taken away"),
    ] == sorted(heads.against([found]))
