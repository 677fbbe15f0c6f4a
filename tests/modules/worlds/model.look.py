"""A model's folder with a file of numbers and a pickle."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

from world import World


def world(tmp: Path) -> Iterator[World]:
    there = World(tmp, params={"path": "model", "as": "files.json"})
    folder = there.base / "model"
    folder.mkdir()
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    (folder / "scaler.pkl").write_bytes(b"\x80\x04N.")
    yield there
