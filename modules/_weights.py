"""What a model's file is, without loading it: the header of safetensors read strictly, a pickle only looked over.

In: a path. Out: plain facts. A pickle is a program; it is never run here, its operations are listed, and what the list says
is advice: a file that names nothing odd may still do harm, and one that cannot be looked over is not clean.
"""

from __future__ import annotations

import io
import json
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from modules.contract import Json

#: Bytes of a safetensors header (the format's own limit), of a pickle, and operations of one, that are looked at.
HEADER, PICKLE, OPERATIONS = 100_000_000, 256 << 20, 5_000_000
_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2, "U32": 4, "I32": 4,
    "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
#: What pickles of numbers and trained models name as a rule; anything else is said by name.
_USUAL = ("collections.OrderedDict", "numpy.", "torch._utils.", "torch.", "sklearn.", "scipy.", "_codecs.encode", "copyreg.")
_ODD = ("torch.load", "torch.hub", "numpy.testing", "torch.utils.", "numpy.f2py", "torch._inductor", "torch.serialization")
#: Parts of a name with which no model has to do, by whatever way it is reached; pickles of one archive that are looked at.
_NEVER = frozenset(("os", "sys", "posix", "nt", "subprocess", "builtins", "importlib", "shutil", "socket", "system", "eval"))
_INNER = 50
_PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib", ".ckpt")


class Malformed(Exception):
    """A header that is not one of the format, with the reason."""


def look(path: Path) -> dict[str, Json]:
    """What the file is: `format`, and for safetensors and pickles what of it can be said. Raises OSError."""
    with path.open("rb") as file:
        begin = file.read(10)
        file.seek(0)
        if path.suffix == ".safetensors":
            try:
                return {"format": "safetensors", **safetensors(file, path.stat().st_size)}
            except Malformed as error:
                return {"format": "safetensors", "fault": str(error)}
        if begin[:4] == b"PK\3\4" and path.suffix in _PICKLES:
            return {"format": "zip of pickles", **_zipped(file)}
        if path.suffix in _PICKLES or begin[:1] == b"\x80":
            return {"format": "pickle", **scan(file)}
    return {"format": "other"}


def safetensors(file: IO[bytes], size: int) -> dict[str, Json]:
    """How many tensors and parameters a safetensors file has, of which types. Raises Malformed unless every byte of it is
    accounted for, once (the format's own rules)."""
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(HEADER, size - 8):
        raise Malformed(f"its header is said to have {length} bytes, of a file of {size}")
    text = file.read(length)
    if not text.startswith(b"{"):
        raise Malformed("its header does not begin with a brace")
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"its header is not JSON: {error}") from None
    about = header.pop("__metadata__", {})
    if not isinstance(about, dict) or not all(isinstance(one, str) for one in about.values()):
        raise Malformed("its metadata are not texts")
    parts = sorted((_tensor(name, said) for name, said in header.items()), key=lambda part: part[:2])
    at = 0
    for begin, end, name, _, _ in parts:
        if begin != at:
            raise Malformed(f"the bytes of {name!a:.80} begin at {begin}, where {at} is free")
        at = end
    if at != size - 8 - length:
        raise Malformed(f"its tensors take {at} bytes, of {size - 8 - length}")
    return {
        "tensors": len(parts), "parameters": sum(part[4] for part in parts), "types": sorted({part[3] for part in parts}),
        "metadata": {key: about[key][:200] for key in sorted(about)[:50]},
    }  # fmt: skip


def _tensor(name: str, said: Any) -> tuple[int, int, str, str, int]:
    """(begin, end, name, type, how many numbers) of one tensor, held against one another. Raises Malformed."""
    if not isinstance(said, dict) or set(said) != {"dtype", "shape", "data_offsets"}:
        raise Malformed(f"{name!a:.80} is not described by type, shape and offsets")
    kind, shape, offsets = said["dtype"], said["shape"], said["data_offsets"]
    if kind not in _BYTES:
        raise Malformed(f"{name!a:.80} has the type {kind!a:.40}")
    numbers = [*shape, *offsets] if isinstance(shape, list) and isinstance(offsets, list) and len(offsets) == 2 else [-1]
    if not all(type(one) is int and 0 <= one < 1 << 62 for one in numbers):
        raise Malformed(f"{name!a:.80} has a shape or offsets that are none")
    count = 1
    for one in shape:
        count *= one
    if offsets[1] - offsets[0] != count * _BYTES[kind]:
        raise Malformed(f"{name!a:.80} takes {offsets[1] - offsets[0]} bytes, where its shape needs {count * _BYTES[kind]}")
    return offsets[0], offsets[1], name, kind, count


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


# ------------------------------------------------------------------------------------------------- pickles
def scan(file: IO[bytes]) -> dict[str, Json]:
    """What a pickle would import, without running it. Advice: `verdict` says what was seen, never that it is safe."""
    data = file.read(PICKLE + 1)
    if len(data) > PICKLE:
        return {"verdict": "not looked over: too large", "names": []}
    found, broken = set[str](), ""
    try:
        for name in _named(data):
            found.add(name)
    except Exception as error:  # noqa: BLE001 (made to break a reader: whatever it raises, the rest was not seen)
        broken = f"not looked over to its end: {type(error).__name__}"
    names = sorted(found)
    odd = [name for name in names if not name.startswith(_USUAL) or name.startswith(_ODD) or _NEVER & set(name.split("."))]
    verdict = "names what a model does not need" if odd else broken or "names nothing odd"
    return {"verdict": verdict, "names": names[:200], "odd": odd[:200]}


def _named(data: bytes) -> Iterator[str]:
    """The ``module.name`` that each importing operation names, as far as it can be told without running it. A file may hold
    several pickles, one behind the other."""
    file, count = io.BytesIO(data), 0
    while count == 0 or file.tell() < len(data):
        for name in _operations(file):
            count += 1
            if count > OPERATIONS:
                raise ValueError("too many operations")
            if name:
                yield name


def _operations(file: IO[bytes]) -> Iterator[str]:
    """For each operation of one pickle what it imports; empty: nothing."""
    memo: dict[int, str] = {}
    stack: list[str] = []  # the texts on top of the stack, with nothing between them
    for operation, argument, _ in pickletools.genops(file):
        name, imports = operation.name, ""
        if name in ("GLOBAL", "INST"):
            imports = str(argument).replace(" ", ".")
        elif name == "STACK_GLOBAL":
            imports = ".".join(stack[-2:]) if len(stack) >= 2 else "unknown"
        elif name.startswith("EXT"):
            imports = f"extension {argument}"
        yield imports
        if "UNICODE" in name or "STRING" in name:
            stack.append(str(argument))
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1] if stack else "?"
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[int(argument or 0)] = stack[-1] if stack else "?"
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo.get(int(argument or 0), "?"))
        elif name != "FRAME":
            stack.clear()


def _zipped(file: IO[bytes]) -> dict[str, Json]:
    """The pickles in a zip, as PyTorch writes them."""
    found: dict[str, Json] = {"verdict": "holds no pickle", "names": [], "odd": []}
    try:
        with zipfile.ZipFile(file) as archive:
            inner = [info for info in archive.infolist() if info.filename.lower().endswith(".pkl")]
            for info in inner[:_INNER]:
                with archive.open(info) as member:
                    said = scan(member)
                found = {key: said.get(key, []) if key == "verdict" else [*found[key], *said.get(key, [])] for key in found}
                if said["verdict"] != "names nothing odd":
                    break
            else:
                if len(inner) > _INNER:
                    found["verdict"] = f"not looked over to its end: it holds {len(inner)} pickles"
    except Exception as error:  # noqa: BLE001 (as above)
        return {"verdict": f"not looked over to its end: {type(error).__name__}", "names": []}
    return found
