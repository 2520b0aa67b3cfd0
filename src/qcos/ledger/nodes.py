"""The nodes of a log's tree, read from its tiles wherever they lie. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from qcos.ledger.tile import LEVEL_BITS, Pyramid, width_of
from qcos.ledger.tree import consistency_ranges, hash_range


class Tiles(Protocol):
    """Where tiles come from: the log's folder (`qcos.ledger.files.LogFolder`), its database, its server."""

    def pyramid(self, level: int, n: int, width: int) -> Pyramid:
        """Return the nodes of a tile that has at least ``width`` hashes."""
        ...


def nodes_of(tiles: Tiles, size: int) -> Callable[[int, int], bytes]:
    """Return the node function of a tree of a size; each tile is read once."""
    read: dict[tuple[int, int], Pyramid] = {}

    def node(level: int, i: int) -> bytes:
        tile_level, inside = divmod(level, LEVEL_BITS)
        n = (i << inside) // 256
        if (tile_level, n) not in read:
            read[tile_level, n] = tiles.pyramid(tile_level, n, width_of(tile_level, n, size))
        return read[tile_level, n].node(inside, i - ((n * 256) >> inside))

    return node


def consistency_of(tiles: Tiles, old: int, new: int) -> tuple[bytes, ...]:
    """Return the proof that the tree of ``new`` entries continues that of ``old`` (RFC 6962 section 2.1.2).

    Raises:
        Invalid: ``ledger.range`` unless ``0 <= old <= new``.
    """
    node = nodes_of(tiles, new)
    return tuple(hash_range(start, end, node) for start, end in consistency_ranges(old, new))
