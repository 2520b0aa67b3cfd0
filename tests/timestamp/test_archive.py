"""Hash trees and evidence records are what RFC 4998 says."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from asn1crypto import core
from hypothesis import given
from hypothesis import strategies as st

from qcos.base.errors import Integrity
from qcos.keys.model import Keyring
from qcos.timestamp import der
from qcos.timestamp.archive import (
    ArchiveStamp,
    EvidenceRecord,
    encode_sequence,
    hash_to_rehash,
    hash_to_renew,
    read_record,
    read_stamp,
)
from qcos.timestamp.authority import LocalAuthority
from qcos.timestamp.tree import MAX_LISTS, climb, grow
from qcos.timestamp.verify import verify_root


def _h(data: bytes) -> bytes:
    return hashlib.sha512(data).digest()


def _node(*hashes: bytes) -> bytes:
    """The rule of RFC 4998, 4.2, once more in other words: binary ascending order, joined, hashed."""
    return _h(b"".join(sorted(hashes, key=lambda one: int.from_bytes(one, "big"))))


def _refused(leaf: bytes, tree: tuple[tuple[bytes, ...], ...]) -> str:
    with pytest.raises(Integrity) as refused:
        climb(leaf, tree, "sha512")
    return refused.value.code


A, B, C, D, E = (_h(letter) for letter in (b"a", b"b", b"c", b"d", b"e"))


def test_the_tree_of_five_written_out() -> None:
    root, trees = grow([A, B, C, D, E])
    ab, cd = _node(A, B), _node(C, D)
    assert root == _node(_node(ab, cd), E)
    assert trees[2] == (tuple(sorted((C, D))), (ab,), (E,))
    assert trees[4] == (tuple(sorted((_node(ab, cd), E))),), "a node left over goes up as it is"


def test_a_foreign_tree_with_more_children_is_read() -> None:
    """Groups of any size are allowed (RFC 4998, 4.2)."""
    root = _node(_node(A, B, C), D, E)
    assert climb(B, ((C, A, B), (E, D)), "sha512") == root, "in whatever order they are listed"


@given(st.lists(st.binary(min_size=1, max_size=8), min_size=1, max_size=40, unique=True))
def test_every_object_finds_the_root_and_no_other_does(data: list[bytes]) -> None:
    leaves = [_h(one) for one in data]
    root, trees = grow(leaves)
    assert all(climb(leaf, tree, "sha512") == root for leaf, tree in zip(leaves, trees, strict=True))
    assert all(len(tree) <= (len(leaves) - 1).bit_length() for tree in trees)
    for (leaf, _), (_, tree) in pairwise(zip(leaves, trees, strict=True)):
        if tree and leaf not in tree[0]:
            assert _refused(leaf, tree) == "timestamp.tree"


def test_trees_that_are_none_are_refused() -> None:
    assert climb(A, (), "sha512") == A
    for tree in (((),), ((A,),), ((B, C),), ((A, B), ()), ((A, B[:-1]),), ((A, B),) * (MAX_LISTS + 1)):
        assert _refused(A, tree) == "timestamp.tree"


def test_a_record_is_read_as_it_was_written(authority: LocalAuthority) -> None:
    root, trees = grow([A, B, C])
    token = authority.stamp_digest(root)
    record = EvidenceRecord(((ArchiveStamp(token, trees[1]),),))
    again = authority.stamp_digest(hash_to_renew(record))
    for one in (record, record.renewed(ArchiveStamp(again))):
        der.check(one.encode())
        assert read_record(one.encode()) == one
        assert one.original() == record
    rehashed = record.rehashed(
        ArchiveStamp(authority.stamp_digest(hash_to_rehash(record.chains, b"b", "sha512"))), "sha512"
    )
    assert read_record(rehashed.encode()) == rehashed


def test_the_asn1_is_that_of_the_rfc(authority: LocalAuthority) -> None:
    """Walked with a general reader: versions, tags and order of RFC 4998's module."""
    root, trees = grow([A, B, C, D])
    token = authority.stamp_digest(root)
    record = core.Sequence.load(EvidenceRecord(((ArchiveStamp(token, trees[0]),),)).encode())
    assert record[0].native == 1
    assert record[1][0][0].native == "2.16.840.1.101.3.4.2.3", "SHA-512"
    stamp = record[2][0][0]
    reduced = stamp[0]
    assert (reduced.class_, reduced.tag) == (2, 2), "[2] IMPLICIT"
    first, second = core.SequenceOf.load(b"\x30" + reduced.dump()[1:], spec=core.SequenceOf)
    assert [one.native for one in core.SequenceOf.load(first.dump(), spec=core.OctetString)] == sorted((A, B))
    assert [one.native for one in core.SequenceOf.load(second.dump(), spec=core.OctetString)] == [_node(C, D)]
    assert stamp[1].dump() == token


def test_what_a_renewal_covers_is_what_the_rfc_says(authority: LocalAuthority) -> None:
    token = authority.stamp(b"object")
    record = EvidenceRecord(((ArchiveStamp(token),),))
    assert hash_to_renew(record) == _h(token), "the whole timeStamp field (5.2)"
    older = _h(encode_sequence(record.chains))
    assert hash_to_rehash(record.chains, b"object", "sha512") == _h(_h(b"object") + older)


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(noise: bytes) -> None:
    with pytest.raises(Integrity):
        read_record(noise)
    with pytest.raises(Integrity):
        read_stamp(noise)


def test_a_stamp_alone_is_read_as_it_was_written(authority: LocalAuthority) -> None:
    """As it stands in a WORM store; changed anywhere, it is another one or none, and breaks nothing."""
    root, trees = grow([A, B, C])
    for stamp in (ArchiveStamp(authority.stamp_digest(root), trees[1]), ArchiveStamp(authority.stamp(b"x"))):
        encoded = stamp.encode()
        assert read_stamp(encoded) == stamp
        for position in range(0, len(encoded), 7):
            changed = bytearray(encoded)
            changed[position] ^= 1 << (position % 8)
            with contextlib.suppress(Integrity):
                assert read_stamp(bytes(changed)) != stamp
        for wrong in (encoded[:-1], encoded + b"\0", b"\x30\x80" + encoded):
            with pytest.raises(Integrity):
                read_stamp(wrong)


def test_no_bit_of_a_record_goes_unnoticed(authority: LocalAuthority, keyring: Keyring) -> None:
    """Changed anywhere, it is unreadable, covers the object no more, or its token does not hold."""
    root, trees = grow([A, B, C])
    encoded = EvidenceRecord(((ArchiveStamp(authority.stamp_digest(root), trees[0]),),)).encode()
    for position in range(0, len(encoded), 7):
        changed = bytearray(encoded)
        changed[position] ^= 1 << (position % 8)
        with pytest.raises(Integrity):
            stamp = read_record(bytes(changed)).first
            verify_root(stamp.token, climb(A, stamp.tree, "sha512"), keyring.tsa_chain)


def test_openssl_accepts_the_token_over_a_root(authority: LocalAuthority, pem: Path, tmp_path: Path) -> None:
    root, _ = grow([A, B, C, D, E])
    (tmp_path / "token").write_bytes(authority.stamp_digest(root))
    command = ["openssl", "ts", "-verify", "-digest", root.hex(), "-sha512", "-token_in", "-CAfile", str(pem)]
    done = subprocess.run(
        [*command, "-in", str(tmp_path / "token")], capture_output=True, text=True, timeout=60
    )
    assert "Verification: OK" in done.stdout + done.stderr
