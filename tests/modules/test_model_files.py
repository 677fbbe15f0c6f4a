"""Model files are looked at and never loaded: headers read strictly, pickles listed, signatures checked before a restore."""

from __future__ import annotations

import base64
import collections
import io
import json
import os
import pickle
import pickletools
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from world import World

from modules import _signature, _weights
from modules.contract import Change, ModuleError
from modules.directory import _client, current

TENSOR = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


def written(folder: Path, header: Any, body: bytes = bytes(24), length: int | None = None) -> Path:
    """A safetensors file whose header is `header` (text, bytes or data)."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + body)
    return path


def test_a_header_is_read(tmp_path: Path) -> None:
    """Tensors, parameters, types and metadata are told, from the header alone."""
    path = written(tmp_path, {"__metadata__": {"format": "pt"}, "a": TENSOR})
    told = {"format": "safetensors", "tensors": 1, "parameters": 6, "types": ["F32"], "metadata": {"format": "pt"}}
    assert told == _weights.look(path)


def test_a_file_of_the_real_library(tmp_path: Path) -> None:
    """What the format's own library writes is read, with as many parameters as it has."""
    numpy = pytest.importorskip("numpy")
    library = pytest.importorskip("safetensors.numpy")
    library.save_file({"a": numpy.zeros((3, 4), "float32"), "b": numpy.zeros(5, "int64")}, tmp_path / "m.safetensors")
    assert (2, 17, ["F32", "I64"]) == tuple(
        _weights.look(tmp_path / "m.safetensors")[key] for key in ("tensors", "parameters", "types")
    )


BAD: dict[str, tuple[Any, bytes, int | None, str]] = {
    "a length past the file": ({"a": TENSOR}, bytes(24), 1 << 20, "is said to have"),
    "a length past the limit": ({"a": TENSOR}, bytes(24), 1 << 62, "is said to have"),
    "no brace": (b" {}", b"", None, "does not begin with a brace"),
    "no JSON": (b"{nonsense}", b"", None, "is not JSON"),
    "not UTF-8": (b'{"\xff": 1}', b"", None, "is not JSON"),
    "a name twice": (b'{"a": {}, "a": {}}', b"", None, "a name stands twice"),
    "brackets without end": (b'{"a":' + b"[" * 100_000, b"", None, "is not JSON"),
    "no description": ({"a": 1}, b"", None, "is not described"),
    "a field more": ({"a": {**TENSOR, "x": 1}}, bytes(24), None, "is not described"),
    "a type that is none": ({"a": {**TENSOR, "dtype": "F31"}}, bytes(24), None, "has the type"),
    "a shape below nothing": ({"a": {**TENSOR, "shape": [-1]}}, bytes(24), None, "a shape or offsets that are none"),
    "a shape of text": ({"a": {**TENSOR, "shape": "23"}}, bytes(24), None, "a shape or offsets that are none"),
    "offsets beyond": ({"a": {**TENSOR, "data_offsets": [0, 48]}}, bytes(24), None, "takes 48 bytes, where its shape needs"),
    "offsets backwards": ({"a": {**TENSOR, "data_offsets": [24, 0]}}, bytes(24), None, "takes -24 bytes"),
    "a hole": ({"a": {**TENSOR, "data_offsets": [8, 32]}}, bytes(32), None, "begin at 8, where 0 is free"),
    "two in one place": ({"a": TENSOR, "b": TENSOR}, bytes(24), None, "begin at 0, where 24 is free"),
    "bytes of nobody": ({"a": TENSOR}, bytes(30), None, "take 24 bytes, of 30"),
    "cut": ({"a": TENSOR}, bytes(20), None, "take 24 bytes, of 20"),
    "metadata that are no texts": ({"__metadata__": {"a": 1}}, b"", None, "its metadata are not texts"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_headers_that_are_none(tmp_path: Path, case: str) -> None:
    """A header that does not account for every byte once is a fault, with its reason."""
    header, body, length, why = BAD[case]
    assert why in _weights.look(written(tmp_path, header, body, length))["fault"]


class Evil:
    """What runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    """A pickle that would run a command is looked over in every protocol: the command is named, and does not run."""
    ran = tmp_path / "ran"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path = tmp_path / "evil.pkl"
        path.write_bytes(pickle.dumps(Evil(ran), protocol))
        told = _weights.look(path)
        assert "names what a model does not need" == told["verdict"], protocol
        assert [f"{os.system.__module__}.system"] == told["odd"]
    with zipfile.ZipFile(tmp_path / "evil.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Evil(ran)))
    assert "names what a model does not need" == _weights.look(tmp_path / "evil.pt")["verdict"]
    assert not ran.exists()


HARMLESS, HARM = pickle.dumps(1001, 2), pickle.dumps(Evil(Path("/nowhere")), 2)
POPPED = b"\x80\x04\x8c\x02os\x8c\x06system\x8c\x05numpy0\x8c\x05array0\x93."  # numpy.array is taken off the stack again


@pytest.mark.parametrize(
    "content",
    [
        HARMLESS * 3 + HARM,
        POPPED,
        pickle.dumps(1, 2)[:-1] + b"ctorch._utils\nos.system\n.",
        {**{f"a{i}.pkl": HARMLESS for i in range(50)}, "z.pkl": HARM},
        {"data.pkl": HARMLESS, "more.PKL": HARM},
    ],
    ids=["the fourth of a file", "behind what is popped", "through another module", "the last of many", "in capitals"],
)
def test_harm_that_stands_behind_something_else(tmp_path: Path, content: bytes | dict[str, bytes]) -> None:
    """PyTorch wrote four pickles into a file, and a reader loads the last; nothing odd is said where all was looked over."""
    path = tmp_path / "model.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in content.items():
                archive.writestr(name, data)
    assert "names nothing odd" != _weights.look(path)["verdict"]


def test_what_follows_a_pickle_is_not_passed_over(tmp_path: Path) -> None:
    """Numbers lie behind the pickles of an old PyTorch file: what was named before them is said, and that it is not all."""
    (tmp_path / "old.pt").write_bytes(HARMLESS * 3 + pickle.dumps(collections.OrderedDict(), 2) + b"\x04\0\0\0\xff\xfe")
    told = _weights.look(tmp_path / "old.pt")
    assert ("collections.OrderedDict", True) == (told["names"][0], told["verdict"].startswith("not looked over to its end"))


def test_a_pickle_of_numbers(tmp_path: Path) -> None:
    """A pickle that names only what models need is said to name nothing odd, which is all that is said."""
    path = tmp_path / "good.pkl"
    path.write_bytes(pickletools.optimize(pickle.dumps(collections.OrderedDict(a=[1.5, 2.5]))))
    assert {
        "format": "pickle",
        "verdict": "names nothing odd",
        "names": ["collections.OrderedDict"],
        "odd": [],
    } == _weights.look(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80",
        b"\x80\x04",
        b"\x80\x04\x95\xff",
        b"cos\nsystem",
        b"\x80\x04\x8c\xff",
        b"not a pickle",
        os.urandom(400) + b"\xff",
    ],
)
def test_a_pickle_that_cannot_be_read_is_not_clean(tmp_path: Path, content: bytes) -> None:
    """A reader that breaks has seen nothing, and says that; it never says that there is nothing odd."""
    (tmp_path / "broken.pkl").write_bytes(content)
    assert "names nothing odd" != _weights.look(tmp_path / "broken.pkl")["verdict"]
    with zipfile.ZipFile(tmp_path / "broken.pt", "w") as archive:
        archive.writestr("data.pkl", content)
    assert "names nothing odd" != _weights.look(tmp_path / "broken.pt")["verdict"]
    (tmp_path / "cut.pt").write_bytes((tmp_path / "broken.pt").read_bytes()[:30])
    assert "not looked over" in _weights.look(tmp_path / "cut.pt")["verdict"]


def test_nothing_is_imported_by_looking(tmp_path: Path) -> None:
    """Looking at model files imports none of the libraries that could load them."""
    written(tmp_path, {"a": TENSOR})
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"a": 1}))
    program = (
        "import sys; from pathlib import Path; from modules import _weights\n"
        "for path in Path(sys.argv[1]).iterdir(): _weights.look(path)\n"
        "print(sorted({'pickle', 'torch', 'numpy', 'safetensors', 'joblib'} & set(sys.modules) - {'pickle'}))"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, env=env, check=True
    )
    assert "[]" == done.stdout.strip()


# ------------------------------------------------------------------------------------------------- signatures
@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two key pairs on P-256: signer and other."""
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = tmp_path_factory.mktemp("keys")
    for name in ("signer", "other"):
        private = ec.generate_private_key(ec.SECP256R1())
        form = (s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
        (folder / f"{name}.pem").write_bytes(private.private_bytes(*form))
        public = private.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
        (folder / f"{name}.pub").write_bytes(public)
    return folder


def sign(folder: Path, signature: Path, key: Path) -> None:
    """Signs with the OpenSSF's own tool."""
    argv = [
        sys.executable,
        "-m",
        "model_signing",
        "sign",
        "key",
        str(folder),
        "--private_key",
        str(key),
        "--signature",
        str(signature),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert 0 == done.returncode, done.stderr


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Path:
    """A registry of 1.0.0, signed by `signer`, and 1.1.0, which serves and is not signed."""
    pytest.importorskip("model_signing")
    path = tmp_path_factory.mktemp("registry") / "models"
    for version in ("1.0.0", "1.1.0"):
        _client.publish(path, version, {"model.json": version.encode(), "sub/vocab.txt": b"a b"}, by="ada")
    _client.point(path, "1.1.0")
    sign(path / "versions/1.0.0", path / "versions/1.0.0.sig", keys / "signer.pem")
    return path


def copied(registry: Path, tmp_path: Path) -> Path:
    shutil.copytree(registry, tmp_path / "models", symlinks=True)
    return tmp_path / "models"


def test_the_openssf_tool_and_we_agree(registry: Path, keys: Path, tmp_path: Path) -> None:
    """A version that the OpenSSF's tool signed is accepted with that key; with another, altered, or grown it is refused."""
    path = copied(registry, tmp_path)
    folder, signature = path / "versions/1.0.0", path / "versions/1.0.0.sig"
    _signature.check(folder, signature, keys / "signer.pub")
    with pytest.raises(ModuleError, match=r"was not made with other\.pub"):
        _signature.check(folder, signature, keys / "other.pub")
    (folder / "model.json").write_bytes(b"1.0.1")
    with pytest.raises(ModuleError, match=r"model.json is not what was signed"):
        _signature.check(folder, signature, keys / "signer.pub")
    (folder / "model.json").write_bytes(b"1.0.0")
    (folder / "extra").write_bytes(b"")
    with pytest.raises(ModuleError, match="extra was not signed"):
        _signature.check(folder, signature, keys / "signer.pub")
    (folder / "extra").unlink()
    (folder / "extra").symlink_to("/etc/passwd")
    with pytest.raises(ModuleError, match="extra is no plain file"):
        _signature.check(folder, signature, keys / "signer.pub")
    (folder / "extra").unlink()
    (folder / "sub/vocab.txt").unlink()
    with pytest.raises(ModuleError, match=r"sub/vocab.txt was signed and is not there"):
        _signature.check(folder, signature, keys / "signer.pub")


HOWS = ("empty", "no JSON", "another kind", "two signatures", "no signature", "flipped", "other statement", "cut")


@pytest.mark.parametrize("how", HOWS)
def test_signatures_that_are_none(registry: Path, keys: Path, tmp_path: Path, how: str) -> None:
    """An envelope of another kind, with more signatures, or with a bit flipped is refused."""
    path = copied(registry, tmp_path)
    signature = path / "versions/1.0.0.sig"
    box = json.loads(signature.read_text())
    envelope = box["dsseEnvelope"]
    payload = bytearray(base64.b64decode(envelope["payload"]))
    if how == "another kind":
        envelope["payloadType"] = "text/plain"
    elif how == "two signatures":
        envelope["signatures"] *= 2
    elif how == "no signature":
        envelope["signatures"] = []
    elif how == "flipped":
        payload[len(payload) // 2] ^= 1
        envelope["payload"] = base64.b64encode(payload).decode()
    elif how == "other statement":
        envelope["payload"] = base64.b64encode(b"{}").decode()
    text = {"empty": "", "no JSON": "{", "cut": json.dumps(box)[:-40]}.get(how, json.dumps(box))
    signature.write_text(text)
    with pytest.raises(ModuleError, match="does not hold"):
        _signature.check(path / "versions/1.0.0", signature, keys / "signer.pub")


def test_only_a_signed_version_may_serve(registry: Path, keys: Path, tmp_path: Path) -> None:
    """Where a signature is demanded a version without one is no candidate and is not restored; a signed one is."""
    path = copied(registry, tmp_path)
    there = World(tmp_path / "world", params={})
    ctx = there.context()
    params = {"path": str(path), "signed_by": str(keys / "signer.pub")}
    told = {one["version"]: (one["artifact"], one["why"]) for one in current.history(params, ctx)}
    assert ("present", "") == told["1.0.0"]
    assert "differs" == told["1.1.0"][0]
    assert "is not signed" in told["1.1.0"][1]
    _client.point(path, None)
    with pytest.raises(ModuleError, match="is not signed"):
        current.apply({**params, "version": "1.1.0"}, Change(None, {"version": "1.1.0"}), ctx)
    assert _client.serving(path) is None
    current.apply({**params, "version": "1.0.0"}, Change(None, {"version": "1.0.0"}), ctx)
    assert "1.0.0" == _client.serving(path)


def test_a_signature_that_is_there_is_looked_at(registry: Path, tmp_path: Path) -> None:
    """Without being asked, too: a version that was written anew, manifest and all, is not what was signed."""
    path, ctx = copied(registry, tmp_path), World(tmp_path / "world", params={}).context()
    params, change = {"path": str(path), "version": "1.0.0"}, Change(None, {"version": "1.0.0"})
    current.apply(params, change, ctx)
    assert "1.0.0" == _client.serving(path)
    shutil.rmtree(path / "versions/1.0.0")
    _client.publish(path, "1.0.0", {"model.json": b"poisoned"}, by="eve")
    _client.point(path, None)
    with pytest.raises(ModuleError, match="does not hold"):
        current.apply(params, change, ctx)
    assert _client.serving(path) is None
    assert ["differs"] == [one["artifact"] for one in current.history(params, ctx) if one["version"] == "1.0.0"]


def test_a_key_that_is_none(registry: Path, tmp_path: Path) -> None:
    """A file that is no key, or another kind of key, is named."""
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ed25519

    other = ed25519.Ed25519PrivateKey.generate().public_key()
    (tmp_path / "ed").write_bytes(other.public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))
    (tmp_path / "no").write_bytes(b"no")
    folder, signature = registry / "versions/1.0.0", registry / "versions/1.0.0.sig"
    for name, why in (("ed", "is no elliptic curve key"), ("no", "is no public key"), ("gone", "is no public key")):
        with pytest.raises(ModuleError, match=why):
            _signature.check(folder, signature, tmp_path / name)


def test_a_pickle_that_is_too_long() -> None:
    """A pickle past the limit is not looked over, and is said not to be."""

    assert "not looked over" in str(_weights.scan(io.BytesIO(b"\x80\x04" + b"N0" * 3_000_000))["verdict"])
