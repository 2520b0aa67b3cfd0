"""Proofs from the running ledger: inclusion of records, consistency of checkpoints.

One tile a tile level is read, two at most: three levels hold 16 million entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from qcos.base.errors import Integrity, NotFound
from qcos.ledger import store
from qcos.ledger.checkpoint import encode
from qcos.ledger.nodes import Tiles, consistency_of, nodes_of
from qcos.ledger.proof import LedgerProof
from qcos.ledger.tile import Pyramid
from qcos.ledger.tree import hash_range, inclusion_ranges, leaf_hash


class DatabaseTiles:
    """Tiles made from the entries and the kept nodes: no file is needed. For one scope."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def pyramid(self, level: int, n: int, width: int) -> Pyramid:
        """Return the nodes of a tile.

        Raises:
            Integrity: ``ledger.tile`` when the database lacks some.
        """
        start = n * 256
        if level == 0:
            hashes = [
                leaf_hash(entry) for entry in store.entries_between(self._connection, start, start + width)
            ]
        else:
            hashes = store.nodes_between(self._connection, level, start, start + width)
        if len(hashes) != width:
            raise Integrity(
                "ledger.tile",
                "the database lacks a part of the tree",
                subject=f"tile {level}/{n}",
                hint="run `qcos ledger fsck`",
            )
        return Pyramid(hashes)


@dataclass(frozen=True, slots=True)
class ConsistencyProof:
    """That a tree continues another.

    Attributes:
        old: Entries of the older tree.
        new: Entries of the newer tree.
        hashes: The proof (RFC 6962 section 2.1.2).
        old_checkpoint: The signed note of the old size; None when that size was never signed.
        new_checkpoint: The same of the new size.
    """

    old: int
    new: int
    hashes: tuple[bytes, ...]
    old_checkpoint: str | None
    new_checkpoint: str | None

    def as_dict(self) -> dict[str, Any]:  # Any: JSON
        """Return the JSON."""
        return {
            "old": self.old,
            "new": self.new,
            "hashes": [encode(value) for value in self.hashes],
            "oldCheckpoint": self.old_checkpoint,
            "newCheckpoint": self.new_checkpoint,
        }


def proof_of(
    connection: sa.Connection, tenant: UUID, record_id: str, tiles: Tiles | None = None
) -> LedgerProof | None:
    """Return the inclusion proof of a record; None until a checkpoint covers it, and for no such record."""
    return proofs_of(connection, tenant, [record_id], tiles).get(record_id)


def proofs_of(
    connection: sa.Connection, tenant: UUID, record_ids: Sequence[str], tiles: Tiles | None = None
) -> dict[str, LedgerProof]:
    """Return the inclusion proofs of records against the newest checkpoint, those that it covers.

    Args:
        connection: A scope of the tenant.
        tenant: Whose records.
        record_ids: Which.
        tiles: Where tiles come from; the database by default.
    """
    latest = store.latest_checkpoint(connection) if record_ids else None
    if latest is None:
        return {}
    size, note = latest
    node = nodes_of(tiles or DatabaseTiles(connection), size)
    found = {}
    for item in store.placed(connection, tenant, record_ids):
        if item.index is not None and item.index < size:
            hashes = tuple(hash_range(start, end, node) for start, end in inclusion_ranges(item.index, size))
            found[item.record_id] = LedgerProof(item.record_bytes, item.index, size, hashes, note)
    return found


def consistency(
    connection: sa.Connection, old: int, new: int, tiles: Tiles | None = None
) -> ConsistencyProof:
    """Return the proof that the tree of ``new`` entries continues that of ``old``.

    Raises:
        NotFound: ``ledger.no_tree`` when no signed checkpoint covers ``new``.
        Invalid: ``ledger.range`` unless ``0 <= old <= new``.
    """
    latest = store.latest_checkpoint(connection)
    if latest is None or new > latest[0]:
        raise NotFound(
            "ledger.no_tree",
            "the log has no checkpoint of that size yet",
            got=str(new),
            expected=f"at most {latest[0] if latest else 0}",
        )
    hashes = consistency_of(tiles or DatabaseTiles(connection), old, new)
    kept = [store.checkpoint_of(connection, size) for size in (old, new)]
    notes = [found[1] if found else None for found in kept]
    return ConsistencyProof(old, new, hashes, notes[0], notes[1])
