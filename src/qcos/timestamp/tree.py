"""Hash trees of archive time stamps (RFC 4998, part 4).

One time stamp over a tree's root stamps every data object below it; what an object needs besides the time
stamp is its *reduced hash tree*: the hashes beside its way up to the root. A node is the hash of its
children, sorted as bytes and joined. Ours have two children each; a node left over at the end of a level goes
up as it is. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from qcos.base.errors import Integrity

ReducedHashTree = tuple[tuple[bytes, ...], ...]
"""Partial hash trees, leaf's first: that one holds the leaf's own hash, the others only what stands beside."""

MAX_LISTS: Final = 64  # a tree of two children a node would hold 2**64 objects
MAX_LIST_HASHES: Final = 4096  # in one list, of a foreign tree; ours have two


def grow(leaves: Sequence[bytes], hash_name: str = "sha512") -> tuple[bytes, list[ReducedHashTree]]:
    """Build the tree over the hashes of data objects.

    Args:
        leaves: Their hashes, at least one.
        hash_name: Hash of the inner nodes: the one the leaves were made with (RFC 4998, 4.2).

    Returns:
        The root, and the reduced hash tree of each leaf; that of a single leaf is empty: it is the root.
    """
    ways: list[list[tuple[bytes, ...]]] = [[] for _ in leaves]
    level = [(leaf, [number]) for number, leaf in enumerate(leaves)]
    while len(level) > 1:
        above: list[tuple[bytes, list[int]]] = []
        for left, right in zip(level[::2], level[1::2], strict=False):
            for (_, below), (beside, _) in ((left, right), (right, left)):
                for number in below:
                    ways[number].append((beside,))
            above.append((join((left[0], right[0]), hash_name), left[1] + right[1]))
        if len(level) % 2:
            above.append(level[-1])
        level = above
    trees = [
        (tuple(sorted((leaf, *way[0]))), *way[1:]) if way else ()
        for leaf, way in zip(leaves, ways, strict=True)
    ]
    return level[0][0], trees


def join(hashes: Sequence[bytes], hash_name: str) -> bytes:
    """Return the node above some: the hash of them, sorted as bytes and joined."""
    return hashlib.new(hash_name, b"".join(sorted(hashes))).digest()


def climb(leaf: bytes, tree: ReducedHashTree, hash_name: str) -> bytes:
    """Return the root above a data object's hash (RFC 4998, 4.3).

    Raises:
        Integrity: ``timestamp.tree`` when the object is not in its reduced hash tree, or that is none.
    """
    if not tree:
        return leaf
    if len(tree) > MAX_LISTS or any(not 1 <= len(one) <= MAX_LIST_HASHES for one in tree):
        raise _wrong(
            "the reduced hash tree has lists that are empty or too many", "1 to 64 lists", str(len(tree))
        )
    size = hashlib.new(hash_name).digest_size
    if any(len(one) != size for hashes in tree for one in hashes):
        raise _wrong("the reduced hash tree holds something else than its hashes", f"{size} bytes each", "")
    if leaf not in tree[0]:
        raise _wrong("the hash tree does not cover this object", leaf.hex(), f"{len(tree[0])} other hashes")
    if (
        len(tree[0]) == 1
    ):  # whether it is hashed once more, readers of the RFC disagree: nobody has to write it
        raise _wrong("the first list of the reduced hash tree holds one hash", "two or more", "1")
    node = join(tree[0], hash_name)
    for beside in tree[1:]:
        node = join((*beside, node), hash_name)
    return node


def pack(tree: ReducedHashTree) -> bytes:
    """Return a tree of `grow` as its hashes, joined: two of the first list, then one of each."""
    return b"".join(one for hashes in tree for one in hashes)


def unpack(packed: bytes, size: int = 64) -> ReducedHashTree:
    """Read `pack` back; ``size`` is that of a hash, bytes."""
    hashes = [packed[at : at + size] for at in range(0, len(packed), size)]
    return (tuple(hashes[:2]), *((one,) for one in hashes[2:])) if hashes else ()


def _wrong(message: str, expected: str, got: str) -> Integrity:
    return Integrity("timestamp.tree", message, subject="reduced hash tree", expected=expected, got=got)
