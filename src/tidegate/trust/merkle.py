"""RFC 6962 Merkle trees: roots, and proofs of inclusion and consistency, made and verified. Standard library alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

from tidegate.core.errors import Untrusted

Node = Callable[[int, int], bytes]
"""`node(level, index)`: the hash of the complete subtree over leaves [index << level, (index + 1) << level)."""

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """Hash one entry as a leaf (RFC 6962 section 2.1)."""
    return hashlib.sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees as one."""
    return hashlib.sha256(b"\1" + left + right).digest()


def subtree(low: int, high: int, node: Node) -> bytes:
    """Hash the leaves [low, high); `low` must be aligned to the largest power of two below `high - low`."""
    count = high - low
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return node(level, low >> level)
    middle = low + _split(count)
    return node_hash(subtree(low, middle, node), subtree(middle, high, node))


def root_of(size: int, node: Node) -> bytes:
    """Give the root of a tree of `size` leaves."""
    return subtree(0, size, node) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, node: Node) -> list[bytes]:
    """Prove that leaf `index` is in the tree of `size` leaves; the leaf's neighbour comes first.

    Raises:
        ValueError: if there is no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size}")
    proof: list[bytes] = []
    low, high = 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            proof.append(subtree(middle, high, node))
            high = middle
        else:
            proof.append(subtree(low, middle, node))
            low = middle
    return proof[::-1]


def consistency_proof(old: int, size: int, node: Node) -> list[bytes]:
    """Prove that the tree of `old` leaves is the beginning of that of `size`. Raises ValueError if it cannot be."""
    if not 0 <= old <= size:
        raise ValueError(f"a tree of {old} cannot be the beginning of one of {size}")
    return [] if old in (0, size) else _grown(old, 0, size, node, True)


def _grown(old: int, low: int, high: int, node: Node, whole: bool) -> list[bytes]:
    if old == high - low:
        return [] if whole else [subtree(low, high, node)]
    half = _split(high - low)
    if old <= half:
        return [*_grown(old, low, low + half, node, whole), subtree(low + half, high, node)]
    return [*_grown(old - half, low + half, high, node, False), subtree(low, low + half, node)]


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """Check that a leaf hash is at `index` of the tree with this root (RFC 9162 section 2.1.3.2).

    Raises:
        Untrusted: if the proof does not show it.
    """
    if not 0 <= index < size:
        raise Untrusted(f"entry {index} cannot be in a ledger of {size} entries")
    _check_lengths(leaf, root, *proof)
    at, last, found = index, size - 1, leaf
    for other in proof:
        if last == 0:
            raise Untrusted("the inclusion proof is longer than the ledger is deep")
        if at & 1 or at == last:
            found = node_hash(other, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, other)
        at, last = at >> 1, last >> 1
    if last or found != root:
        raise Untrusted(f"entry {index} is not in the ledger of {size} entries with this root: it was edited or forked")


def verify_consistency(old: int, size: int, proof: Sequence[bytes], old_root: bytes, root: bytes) -> None:
    """Check that the tree of `old` leaves is the beginning of that of `size` (RFC 9162 section 2.1.4.2).

    Raises:
        Untrusted: if the proof does not show it: the ledger was forked, edited or truncated.
    """
    if not 0 <= old <= size:
        raise Untrusted(f"the ledger has shrunk from {old} entries to {size}: it was truncated")
    if old == size:
        if proof or old_root != root or (size == 0 and root != EMPTY_ROOT):
            raise Untrusted(_FORKED)
        return
    _check_lengths(old_root, root, *proof)
    if old == 0:
        if proof or old_root != EMPTY_ROOT:
            raise Untrusted(_FORKED)
        return
    if _climb(old, size, proof, old_root) != (old_root, root):
        raise Untrusted(_FORKED)


def _climb(old: int, size: int, proof: Sequence[bytes], old_root: bytes) -> tuple[bytes, bytes] | None:
    """Give both roots as a proof of consistency has them, or None where it is too short or too long."""
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not proof:
        return None
    at, last = old - 1, size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    first = second = path[0]
    for other in path[1:]:
        if last == 0:
            return None
        if at & 1 or at == last:
            first, second = node_hash(other, first), node_hash(other, second)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            second = node_hash(second, other)
        at, last = at >> 1, last >> 1
    return None if last else (first, second)


class Tree:
    """A tree in memory, for as many leaves as fit there; it makes roots and proofs."""

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        """Begin with these leaf hashes."""
        self._levels: list[list[bytes]] = [[]]
        for leaf in leaves:
            self.append(leaf)

    @property
    def size(self) -> int:
        """The number of leaves."""
        return len(self._levels[0])

    def append(self, leaf: bytes) -> None:
        """Add a leaf hash."""
        level, found = 0, leaf
        while True:
            if level == len(self._levels):
                self._levels.append([])
            row = self._levels[level]
            row.append(found)
            if len(row) & 1:
                return
            found, level = node_hash(row[-2], row[-1]), level + 1

    def node(self, level: int, index: int) -> bytes:
        """Give the hash of a complete subtree."""
        return self._levels[level][index]

    def root(self, size: int | None = None) -> bytes:
        """Give the root over the first `size` leaves, or over all."""
        return root_of(self.size if size is None else size, self.node)

    def prove(self, index: int, size: int | None = None) -> list[bytes]:
        """Prove that a leaf is in it."""
        return inclusion_proof(index, self.size if size is None else size, self.node)


def _check_lengths(*hashes: bytes) -> None:
    if any(len(found) != len(EMPTY_ROOT) for found in hashes):
        raise Untrusted("a hash of the ledger has another length than 32 bytes")


def _split(count: int) -> int:
    return 1 << ((count - 1).bit_length() - 1)


_FORKED = "the ledger does not continue the checkpoint that was seen before: it was forked, edited or truncated"
