"""The tree and its proofs against RFC 6962's own recursive definition; no changed proof passes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcos.base.errors import Integrity, Invalid
from qcos.ledger.tile import Pyramid
from qcos.ledger.tree import (
    EMPTY_ROOT,
    Node,
    consistency_ranges,
    fold,
    hash_range,
    inclusion_ranges,
    leaf_hash,
    node_hash,
    verify_consistency,
    verify_inclusion,
)

from . import reference

# The eight leaves and roots that Certificate Transparency's implementations test with
# (google/certificate-transparency, merkletree tests: "ReferenceMerkleInputs"; used with RFC 6962).
LEAVES = [
    bytes.fromhex(h)
    for h in (
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
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


def entries_of(size: int) -> list[bytes]:
    return [n.to_bytes(3, "big") for n in range(size)]


def node_of(entries: Sequence[bytes]) -> Node:
    return Pyramid([leaf_hash(entry) for entry in entries]).node


def inclusion(index: int, entries: Sequence[bytes]) -> list[bytes]:
    return [hash_range(start, end, node_of(entries)) for start, end in inclusion_ranges(index, len(entries))]


def consistency(old: int, entries: Sequence[bytes]) -> list[bytes]:
    return [hash_range(start, end, node_of(entries)) for start, end in consistency_ranges(old, len(entries))]


def test_the_published_roots_of_certificate_transparency() -> None:
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    for size, root in enumerate(ROOTS, 1):
        assert fold([leaf_hash(leaf) for leaf in LEAVES[:size]]).hex() == root
        assert reference.mth(LEAVES[:size]).hex() == root


def test_the_example_proofs_of_rfc_6962_section_2_1_3() -> None:
    """The tree of seven leaves d0..d6 drawn there: a..j leaves and g, h, i, k, l its nodes."""
    d = entries_of(7)
    a, b, c, leaf_d, e, f, j = (leaf_hash(entry) for entry in d)
    g, h, i = node_hash(a, b), node_hash(c, leaf_d), node_hash(e, f)
    k, last = node_hash(g, h), node_hash(i, j)
    assert inclusion(0, d) == [b, h, last]
    assert inclusion(3, d) == [c, g, last]
    assert inclusion(4, d) == [f, j, k]
    assert inclusion(6, d) == [i, k]
    assert consistency(3, d) == [c, leaf_d, g, last]
    assert consistency(4, d) == [last]
    assert consistency(6, d) == [i, j, k]


@given(st.integers(1, 200), st.data())
def test_inclusion_proofs_are_those_of_the_definition_and_hold(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    entries = entries_of(size)
    hashes = inclusion(index, entries)
    assert hashes == reference.path(index, entries)
    verify_inclusion(leaf_hash(entries[index]), index, size, hashes, reference.mth(entries))


@given(st.integers(0, 200), st.data())
def test_consistency_proofs_are_those_of_the_definition_and_hold(new: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(0, new))
    entries = entries_of(new)
    hashes = consistency(old, entries)
    assert hashes == reference.proof(old, entries)
    verify_consistency(old, new, hashes, reference.mth(entries[:old]), reference.mth(entries))


@st.composite
def changed(draw: st.DrawFn, hashes: list[bytes]) -> list[bytes]:
    """Return another list of hashes: one bit flipped, one removed, one added, two swapped."""
    kinds = ["add", "flip", "drop"] if hashes else ["add"]
    kind = draw(st.sampled_from(kinds))
    out = list(hashes)
    if kind == "add":
        position = draw(st.integers(0, len(out)))
        out.insert(
            position, draw(st.sampled_from([*hashes, bytes(32), draw(st.binary(min_size=32, max_size=32))]))
        )
    else:
        position = draw(st.integers(0, len(out) - 1))
        if kind == "drop":
            del out[position]
        else:
            bit = draw(st.integers(0, 255))
            out[position] = (int.from_bytes(out[position], "big") ^ (1 << bit)).to_bytes(32, "big")
    return out


@given(st.integers(1, 130), st.data())
def test_no_changed_inclusion_proof_holds(size: int, data: st.DataObject) -> None:
    """R4.2."""
    index = data.draw(st.integers(0, size - 1))
    entries = entries_of(size)
    hashes, root, leaf = inclusion(index, entries), reference.mth(entries), leaf_hash(entries[index])
    other = data.draw(st.integers(0, size + 300))
    if other != index:
        with pytest.raises(Integrity):
            verify_inclusion(leaf, other, size, hashes, root)
    with pytest.raises(Integrity):
        verify_inclusion(leaf, index, size, data.draw(changed(hashes)), root)
    with pytest.raises(Integrity):
        verify_inclusion(leaf_hash(b"other"), index, size, hashes, root)
    with pytest.raises(Integrity):
        verify_inclusion(leaf, index, size, hashes, leaf_hash(root))


@given(st.integers(1, 130), st.data())
def test_no_changed_consistency_proof_holds(new: int, data: st.DataObject) -> None:
    """R5.5: a log that changed its past cannot be shown to continue."""
    old = data.draw(st.integers(1, new))
    entries = entries_of(new)
    hashes, old_root, new_root = (
        consistency(old, entries),
        reference.mth(entries[:old]),
        reference.mth(entries),
    )
    rewritten = [*entries]
    rewritten[data.draw(st.integers(0, old - 1))] = b"rewritten"
    with pytest.raises(Integrity):
        verify_consistency(old, new, data.draw(changed(hashes)), old_root, new_root)
    with pytest.raises(Integrity):
        verify_consistency(old, new, hashes, leaf_hash(old_root), new_root)
    with pytest.raises(Integrity):
        verify_consistency(old, new, hashes, old_root, leaf_hash(new_root))
    with pytest.raises(Integrity):
        verify_consistency(old, new, consistency(old, rewritten), old_root, reference.mth(rewritten))


def test_proofs_about_the_empty_tree() -> None:
    verify_consistency(0, 0, [], EMPTY_ROOT, EMPTY_ROOT)
    verify_consistency(0, 5, [], EMPTY_ROOT, bytes(32))
    for arguments in (
        (0, 5, [], bytes(32), bytes(32)),
        (0, 0, [], EMPTY_ROOT, bytes(32)),
        (0, 5, [bytes(32)], EMPTY_ROOT, bytes(32)),
    ):
        with pytest.raises(Integrity):
            verify_consistency(*arguments)


@pytest.mark.parametrize(
    ("index", "size", "hashes", "root"),
    [
        (0, 0, [], bytes(32)),
        (-1, 5, [], bytes(32)),
        (0, 2**63, [], bytes(32)),
        (0, 2, [b"short"], bytes(32)),
        (0, 2, [bytes(32)] * 64, bytes(32)),
        (0, 1, [], b""),
    ],
)
def test_hostile_numbers_are_refused(index: int, size: int, hashes: list[bytes], root: bytes) -> None:
    with pytest.raises(Integrity):
        verify_inclusion(bytes(32), index, size, hashes, root)


def test_there_are_no_proofs_outside_the_tree() -> None:
    for index, size in ((5, 5), (-1, 5), (0, 0)):
        with pytest.raises(Invalid):
            inclusion_ranges(index, size)
    for old, new in ((6, 5), (-1, 5)):
        with pytest.raises(Invalid):
            consistency_ranges(old, new)
