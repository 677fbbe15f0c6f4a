"""The tree of RFC 9162, against the vectors of the reference implementation of Certificate Transparency."""

from __future__ import annotations

from hashlib import sha256

import pytest

from engine import merkle

#: The eight entries and the heads over the first n of them, as the tests of Certificate Transparency have them.
ENTRIES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
HEADS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
#: (index, size) -> proof.
INCLUSIONS = {
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
#: (old size, new size) -> proof.
CONSISTENCIES = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
LEAVES = [merkle.leaf(entry) for entry in ENTRIES]


def hexed(proof: list[bytes]) -> list[str]:
    return [one.hex() for one in proof]


def test_heads_as_in_the_vectors() -> None:
    """The heads over the first n entries are those of the vectors, and the empty tree's is the hash of nothing."""
    assert HEADS == [merkle.head(LEAVES[: size + 1]).hex() for size in range(8)]
    assert sha256(b"").digest() == merkle.head([])


@pytest.mark.parametrize(("index", "size"), INCLUSIONS)
def test_inclusion_proofs_as_in_the_vectors(index: int, size: int) -> None:
    """A proof that an entry is in the tree is the one of the vectors."""
    assert INCLUSIONS[index, size] == hexed(merkle.inclusion(LEAVES[:size], index))


@pytest.mark.parametrize(("old", "new"), CONSISTENCIES)
def test_consistency_proofs_as_in_the_vectors(old: int, new: int) -> None:
    """A proof that one tree begins with another is the one of the vectors."""
    assert CONSISTENCIES[old, new] == hexed(merkle.consistency(LEAVES[:new], old))


def test_every_proof_holds_and_no_other_does() -> None:
    """Of every tree up to 20 entries each proof is accepted; one that is altered, cut, or for another place is not."""
    entries = [b"entry %d" % number for number in range(20)]
    leaves = [merkle.leaf(entry) for entry in entries]
    for size in range(1, 21):
        root = merkle.head(leaves[:size])
        for index in range(size):
            proof = merkle.inclusion(leaves[:size], index)
            assert merkle.includes(root, size, entries[index], index, proof)
            assert not merkle.includes(root, size, entries[index] + b"!", index, proof)
            others = [other for other in range(size) if other != index]
            assert not any(merkle.includes(root, size, entries[index], other, proof) for other in others)
            assert not any(merkle.includes(root, size, entries[index], index, wrong) for wrong in altered(proof))
        for old in range(1, size + 1):
            before, proof = merkle.head(leaves[:old]), merkle.consistency(leaves[:size], old)
            assert merkle.extends(before, old, root, size, proof)
            assert not any(merkle.extends(before, old, root, size, wrong) for wrong in altered(proof))
            forged = merkle.head([*leaves[: old - 1], merkle.leaf(b"forged")])
            assert not merkle.extends(forged, old, root, size, proof)


def altered(proof: list[bytes]) -> list[list[bytes]]:
    flipped = [[*proof[:i], bytes([one[0] ^ 1]) + one[1:], *proof[i + 1 :]] for i, one in enumerate(proof)]
    return [*flipped, *([proof[:-1]] if proof else []), [*proof, merkle.EMPTY]]


def test_places_that_are_not_in_the_tree() -> None:
    """No proof is made, nor accepted, for an entry or a size that the tree never had."""
    for wrong in (-1, 8):
        with pytest.raises(ValueError, match="has no entry"):
            merkle.inclusion(LEAVES, wrong)
        assert not merkle.includes(merkle.head(LEAVES), 8, b"", wrong, [])
    for size in (0, 9):
        with pytest.raises(ValueError, match="had never"):
            merkle.consistency(LEAVES, size)
        assert not merkle.extends(merkle.head(LEAVES[:1]), size, merkle.head(LEAVES), 8, [])
