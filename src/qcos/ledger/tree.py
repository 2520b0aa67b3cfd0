"""The Merkle tree of RFC 6962 / RFC 9162: hashes, the shape of proofs, their verification. Pure.

A proof is a list of hashes of *ranges* of leaves. `inclusion_ranges` and `consistency_ranges` say which;
`hash_range` puts a range together from *nodes*, the perfect subtrees: node (level, i) covers the leaves
``[i * 2**level, (i + 1) * 2**level)``.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final

from qcos.base.errors import Integrity, Invalid

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()
MAX_SIZE: Final = (
    2**63 - 1
)  # what a checkpoint may state; tlog-tiles has 64 levels of 8 bits, a bigint has 63 bits
MAX_PROOF: Final = 63  # hashes; no tree of MAX_SIZE leaves needs more

Node = Callable[[int, int], bytes]


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of a leaf, ``SHA-256(0x00 || entry)``."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node, ``SHA-256(0x01 || left || right)``."""
    return sha256(b"\x01" + left + right).digest()


def pair_up(hashes: Sequence[bytes]) -> list[bytes]:
    """Return the hashes of complete pairs, one level up; an odd last one is left out."""
    return [sha256(b"\x01" + hashes[i] + hashes[i + 1]).digest() for i in range(0, len(hashes) - 1, 2)]


def fold(hashes: Sequence[bytes]) -> bytes:
    """Return the tree hash over consecutive subtrees of one size, of which the last may be smaller.

    Level by level, an odd last one moves up unchanged: the same tree as RFC 6962's split at the largest power
    of two.
    """
    level = list(hashes)
    if not level:
        return EMPTY_ROOT
    while len(level) > 1:
        odd = level[-1:] if len(level) % 2 else []
        level = pair_up(level) + odd
    return level[0]


def inclusion_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """Return the ranges of an inclusion proof, the leaf's sibling first (RFC 6962 section 2.1.1, PATH).

    Raises:
        Invalid: ``ledger.range`` unless ``0 <= index < size``.
    """
    if not 0 <= index < size:
        raise Invalid("ledger.range", "no such leaf", expected=f"an index below {size}", got=str(index))
    low, high = 0, size
    ranges = []
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            ranges.append((middle, high))
            high = middle
        else:
            ranges.append((low, middle))
            low = middle
    return ranges[::-1]


def consistency_ranges(old: int, new: int) -> list[tuple[int, int]]:
    """Return the ranges of a consistency proof (RFC 6962 section 2.1.2, SUBPROOF).

    There are none when ``old`` is 0 or ``new``.

    Raises:
        Invalid: ``ledger.range`` unless ``0 <= old <= new``.
    """
    if not 0 <= old <= new:
        raise Invalid(
            "ledger.range", "no such pair of sizes", expected=f"an old size of at most {new}", got=str(old)
        )
    if old == 0:
        return []
    low, high = 0, new
    ranges = []
    while old < high:
        middle = low + _split(high - low)
        if old <= middle:
            ranges.append((middle, high))
            high = middle
        else:
            ranges.append((low, middle))
            low = middle
    if low > 0:
        ranges.append((low, high))
    return ranges[::-1]


def hash_range(start: int, end: int, node: Node) -> bytes:
    """Return the tree hash of the leaves ``[start, end)``.

    ``start`` is a multiple of the power of two at or above the length, as in every proof.
    """
    peaks = []
    while start < end:
        level = (end - start).bit_length() - 1
        peaks.append(node(level, start >> level))
        start += 1 << level
    root = peaks.pop()
    while peaks:
        root = node_hash(peaks.pop(), root)
    return root


def verify_inclusion(leaf: bytes, index: int, size: int, hashes: Sequence[bytes], root: bytes) -> None:
    """Check an inclusion proof (RFC 9162 section 2.1.3.2).

    Raises:
        Integrity: ``ledger.inclusion`` with what does not fit.
    """
    if not 0 <= index < size <= MAX_SIZE:
        raise Integrity(
            "ledger.inclusion", "the index is outside the tree", expected=f"below {size}", got=str(index)
        )
    _check_hashes("ledger.inclusion", hashes, root)
    first, last, current = index, size - 1, leaf
    for sibling in hashes:
        if last == 0:
            raise Integrity("ledger.inclusion", "the proof is too long", got=f"{len(hashes)} hashes")
        if first & 1 or first == last:
            current = node_hash(sibling, current)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            current = node_hash(current, sibling)
        first, last = first >> 1, last >> 1
    if last != 0:
        raise Integrity("ledger.inclusion", "the proof is too short", got=f"{len(hashes)} hashes")
    _check_root(
        "ledger.inclusion", "the proof does not lead from the entry to the checkpoint's root", current, root
    )


def verify_consistency(old: int, new: int, hashes: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Check that the tree of ``new`` leaves begins with that of ``old`` (RFC 9162 section 2.1.4.2).

    Raises:
        Integrity: ``ledger.consistency`` with what does not fit.
    """
    code = "ledger.consistency"
    if not 0 <= old <= new <= MAX_SIZE:
        raise Integrity(code, "the log shrank", expected=f"at least {old} entries", got=str(new))
    _check_hashes(code, hashes, old_root, new_root)
    if old in (0, new):
        if hashes:
            raise Integrity(code, "the proof is too long", expected="no hashes", got=f"{len(hashes)} hashes")
        if old == 0:
            _check_root(code, "the old root is not the empty tree's", EMPTY_ROOT, old_root)
            if new:
                return
        _check_root(code, "two roots for one size", old_root, new_root)
        return
    path = list(hashes)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        raise Integrity(code, "the proof is too short", got="no hashes")
    first, last = old - 1, new - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    from_old = from_new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise Integrity(code, "the proof is too long", got=f"{len(hashes)} hashes")
        if first & 1 or first == last:
            from_old, from_new = node_hash(sibling, from_old), node_hash(sibling, from_new)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            from_new = node_hash(from_new, sibling)
        first, last = first >> 1, last >> 1
    if last != 0:
        raise Integrity(code, "the proof is too short", got=f"{len(hashes)} hashes")
    _check_root(
        code, "the proof does not lead to the old root: the log's past was changed", from_old, old_root
    )
    _check_root(code, "the proof does not lead to the new root", from_new, new_root)


def _split(length: int) -> int:
    """Return the largest power of two below a length of at least 2."""
    return 1 << ((length - 1).bit_length() - 1)


def _check_hashes(code: str, hashes: Sequence[bytes], *roots: bytes) -> None:
    if len(hashes) > MAX_PROOF:
        raise Integrity(
            code, "the proof is too long", expected=f"at most {MAX_PROOF} hashes", got=f"{len(hashes)}"
        )
    for value in (*hashes, *roots):
        if len(value) != HASH_BYTES:
            raise Integrity(
                code, "a hash has the wrong length", expected="32 bytes", got=f"{len(value)} bytes"
            )


def _check_root(code: str, message: str, got: bytes, expected: bytes) -> None:
    if not hmac.compare_digest(got, expected):
        raise Integrity(code, message, expected=expected.hex(), got=got.hex())
