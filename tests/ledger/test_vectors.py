"""Published vectors: other people's logs and notes verify here."""

from __future__ import annotations

import json

import pytest

from qcos.base.errors import Integrity
from qcos.ledger.edge import Edge
from qcos.ledger.files import LogFolder
from qcos.ledger.fsck import fsck
from qcos.ledger.note import parse_vkey, verify
from qcos.ledger.prove import nodes_of
from qcos.ledger.tile import Address, unpack_entries
from qcos.ledger.tree import (
    consistency_ranges,
    hash_range,
    inclusion_ranges,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)
from qcos.ledger.verify import verify_checkpoint

from .conftest import vector

# transparency-dev/tessera@1811ae1a testdata/log
TESSERA_VKEY = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"


def test_the_signed_note_of_c2sp() -> None:
    given = json.loads(vector("signed-note.json").read_text())
    assert verify(given["note"], [parse_vkey(given["vkey"])])[0] == "This is an example message.\n"


def test_the_mldsa44_cosignature_of_torchwood() -> None:
    """A log whose only signature is a type 0x06 line with time 0."""
    given = json.loads(vector("mldsa44-cosignature.json").read_text())
    checkpoint, held = verify_checkpoint(given["note"], [given["vkey"]])
    assert (checkpoint.origin, checkpoint.size) == ("example.com/mldsa-log", 1)
    assert [(signed.vkey.algorithm, signed.time) for signed in held] == [("ML-DSA-44 cosignature", 0)]
    with pytest.raises(Integrity):
        verify_checkpoint(given["note"].replace("\n1\n", "\n2\n", 1), [given["vkey"]])


def test_every_checkpoint_and_tile_of_tesseras_test_log() -> None:
    log = vector("tessera-log")
    edge = Edge()
    entries = unpack_entries((log / "tile/entries/000.p/15").read_bytes())
    for size in range(16):
        if size:
            edge.extend(entries[size - 1 : size])
        checkpoint, _ = verify_checkpoint((log / f"checkpoint.{size}").read_bytes(), [TESSERA_VKEY])
        assert (checkpoint.size, checkpoint.root) == (size, edge.root())
        for address, data in edge.partials():
            assert (log / address.path).read_bytes() == data, address


def test_tesseras_test_log_passes_fsck() -> None:
    report = fsck(vector("tessera-log"), [TESSERA_VKEY])
    assert report.ok, report.problems
    assert (report.size, report.tiles) == (15, 1)


def test_proofs_made_from_tesseras_tiles_hold_against_its_checkpoints() -> None:
    log = vector("tessera-log")
    folder = LogFolder(log)
    roots = [
        verify_checkpoint((log / f"checkpoint.{n}").read_bytes(), [TESSERA_VKEY])[0].root for n in range(16)
    ]
    entries = folder.entries(0, 15)
    held = 0
    for size in range(1, 16):
        node = nodes_of(folder, size)
        for index in range(size):
            hashes = [hash_range(*r, node) for r in inclusion_ranges(index, size)]
            verify_inclusion(leaf_hash(entries[index]), index, size, hashes, roots[size])
            held += 1
        for old in range(size + 1):
            hashes = [hash_range(*r, node) for r in consistency_ranges(old, size)]
            verify_consistency(old, size, hashes, roots[old], roots[size])
            held += 1
    assert held == 15 * 16 // 2 + 15 * 18 // 2, "every leaf of every size, and every older size"


def test_a_full_tile_stands_in_for_its_partial_ones(tmp_path) -> None:
    edge = Edge()
    growth = edge.extend([b"%d" % n for n in range(256)])
    folder = LogFolder(tmp_path)
    folder.prepare()
    folder.write_tiles(growth.tiles)
    hashes = folder.hashes(Address(0, 0))
    assert folder.hashes(Address(0, 0, 7)) == hashes[:7]
    assert folder.entries(0, 7) == [b"%d" % n for n in range(7)]
