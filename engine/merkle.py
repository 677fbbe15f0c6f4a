"""A Merkle tree over a list that only grows, hashed as RFC 9162 has it: its head, and proofs for who has only heads.

In: the entries' bytes, in order. Out: heads of 32 bytes, inclusion and consistency proofs, and whether a proof holds. It
refuses to know what the entries are. A leaf is hashed behind a zero byte and a node behind a one, so neither passes for the
other.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

EMPTY = sha256(b"").digest()


def leaf(entry: bytes) -> bytes:
    """The hash of one entry (RFC 9162, 2.1.1)."""
    return sha256(b"\0" + entry).digest()


def node(left: bytes, right: bytes) -> bytes:
    """The hash over two subtrees (RFC 9162, 2.1.1)."""
    return sha256(b"\1" + left + right).digest()


def head(leaves: Sequence[bytes]) -> bytes:
    """The head of the tree with these leaf hashes. Built from the left, so it needs no more memory than the tree is high."""
    stack: list[tuple[int, bytes]] = []  # (entries under it, hash), each at least twice as large as the next
    for one in leaves:
        size, made = 1, one
        while stack and stack[-1][0] == size:
            size, made = size * 2, node(stack.pop()[1], made)
        stack.append((size, made))
    if not stack:
        return EMPTY
    made = stack.pop()[1]
    while stack:
        made = node(stack.pop()[1], made)
    return made


def _split(size: int) -> int:
    """The largest power of two below `size`: where the tree is divided."""
    return 1 << (size - 1).bit_length() - 1


def inclusion(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The hashes that lead from leaf `index` to the head (RFC 9162, 2.1.3.1)."""
    if not 0 <= index < len(leaves):
        raise ValueError(f"the tree of {len(leaves)} entries has no entry {index}")
    if len(leaves) == 1:
        return []
    k = _split(len(leaves))
    if index < k:
        return [*inclusion(leaves[:k], index), head(leaves[k:])]
    return [*inclusion(leaves[k:], index - k), head(leaves[:k])]


def includes(root: bytes, size: int, entry: bytes, index: int, proof: Sequence[bytes]) -> bool:
    """Whether `proof` shows `entry` at `index` of the tree of `size` entries with this head (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    at, last, made = index, size - 1, leaf(entry)
    for one in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            made = node(one, made)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            made = node(made, one)
        at, last = at >> 1, last >> 1
    return last == 0 and made == root


def consistency(leaves: Sequence[bytes], size: int) -> list[bytes]:
    """The hashes that show the tree of the first `size` leaves to be the beginning of this one (RFC 9162, 2.1.4.1)."""
    if not 0 < size <= len(leaves):
        raise ValueError(f"the tree of {len(leaves)} entries had never {size}")
    return _subproof(leaves, size, True)


def _subproof(leaves: Sequence[bytes], size: int, whole: bool) -> list[bytes]:
    if size == len(leaves):
        return [] if whole else [head(leaves)]
    k = _split(len(leaves))
    if size <= k:
        return [*_subproof(leaves[:k], size, whole), head(leaves[k:])]
    return [*_subproof(leaves[k:], size - k, False), head(leaves[:k])]


def extends(old: bytes, old_size: int, new: bytes, new_size: int, proof: Sequence[bytes]) -> bool:
    """Whether `proof` shows that the tree with head `new` begins with the tree with head `old` (RFC 9162, 2.1.4.2)."""
    if not 0 < old_size <= new_size:
        return False
    if old_size == new_size:
        return old == new and not proof
    path = list(proof)
    if old_size & (old_size - 1) == 0:
        path.insert(0, old)
    if not path:
        return False
    at, last = old_size - 1, new_size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    was = made = path[0]
    for one in path[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            was, made = node(one, was), node(one, made)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            made = node(made, one)
        at, last = at >> 1, last >> 1
    return last == 0 and was == old and made == new
