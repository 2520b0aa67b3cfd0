"""A log's folder without a database: tiles, bundles and a signed checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qcos.ledger.checkpoint import Checkpoint
from qcos.ledger.edge import Edge
from qcos.ledger.files import LogFolder
from qcos.ledger.sign import LedgerSigners

NOW = 1_790_000_000


def grow(folder: Path, edge: Edge, entries: Sequence[bytes], signers: LedgerSigners, time: int = NOW) -> str:
    """Add entries to a log's folder and publish its checkpoint; returns it."""
    files = LogFolder(folder)
    files.prepare()
    growth = edge.extend(entries)
    files.write_tiles([*growth.tiles, *edge.partials()])
    note = signers.sign(Checkpoint(signers.name, edge.size, edge.root()), time)
    files.write_checkpoint(note)
    return note
