"""The right edge of the tree: all that is needed to grow it without hashing what is already there. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcos.ledger.tile import ENTRIES, WIDTH, Address, pack_entries
from qcos.ledger.tree import EMPTY_ROOT, fold, leaf_hash


@dataclass(frozen=True, slots=True)
class NewNode:
    """The root of a tile that became full: hash ``index`` of tile level ``level`` (1 and above)."""

    level: int
    index: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Growth:
    """What one growth completed.

    Attributes:
        old: Entries before.
        new: Entries after.
        tiles: Full tiles and bundles, with their bytes.
        nodes: Their roots.
    """

    old: int
    new: int
    tiles: tuple[tuple[Address, bytes], ...]
    nodes: tuple[NewNode, ...]


class Edge:
    """The partial tiles of a tree and the entries of its partial bundle.

    Args:
        size: Entries in the tree.
        entries: Those of the partial bundle, ``size % 256``.
        upper: For each tile level from 1, the hashes of its partial tile; may be shorter than the tree is
            high.
    """

    __slots__ = ("entries", "levels", "size")

    def __init__(
        self, size: int = 0, entries: Sequence[bytes] = (), upper: Sequence[Sequence[bytes]] = ()
    ) -> None:
        self.size = size
        self.entries = list(entries)
        self.levels = [[leaf_hash(entry) for entry in entries], *(list(hashes) for hashes in upper)]
        if any(len(hashes) != (size >> (8 * level)) % WIDTH for level, hashes in enumerate(self.levels)):
            raise ValueError(f"not the edge of a tree of {size} entries")

    def extend(self, entries: Sequence[bytes]) -> Growth:
        """Add entries: one hash each, and one for each inner node that became complete."""
        old = self.size
        tiles: list[tuple[Address, bytes]] = []
        nodes: list[NewNode] = []
        position = 0
        while position < len(entries):
            part = entries[position : position + WIDTH - len(self.entries)]
            position += len(part)
            self.entries.extend(part)
            self.levels[0].extend([leaf_hash(entry) for entry in part])
            self.size += len(part)
            if len(self.entries) == WIDTH:
                tiles.append((Address(ENTRIES, self.size // WIDTH - 1), pack_entries(self.entries)))
                self.entries = []
                self._complete(tiles, nodes)
        return Growth(old, self.size, tuple(tiles), tuple(nodes))

    def _complete(self, tiles: list[tuple[Address, bytes]], nodes: list[NewNode]) -> None:
        level = 0
        while len(self.levels[level]) == WIDTH:
            hashes = self.levels[level]
            n = (self.size >> (8 * (level + 1))) - 1
            tiles.append((Address(level, n), b"".join(hashes)))
            root = fold(hashes)
            hashes.clear()
            level += 1
            if level == len(self.levels):
                self.levels.append([])
            self.levels[level].append(root)
            nodes.append(NewNode(level, n, root))

    def root(self) -> bytes:
        """Return the tree's root."""
        tail: list[bytes] = []
        for hashes in self.levels:
            if hashes or tail:
                tail = [fold([*hashes, *tail])]
        return tail[0] if tail else EMPTY_ROOT

    def partials(self, sizes: Sequence[int] = ()) -> list[tuple[Address, bytes]]:
        """Return the partial tiles and the partial bundle of this size.

        Args:
            sizes: Earlier sizes, whose partial tiles are returned too where they lie in the same tile.
        """
        found = []
        for level in range(ENTRIES, len(self.levels)):
            bits = 8 * max(level, 0)
            count = self.size >> bits
            n = count // WIDTH
            for width in sorted(
                {(size >> bits) % WIDTH for size in (*sizes, self.size) if (size >> bits) // WIDTH == n}
            ):
                if width:
                    data = (
                        pack_entries(self.entries[:width])
                        if level == ENTRIES
                        else b"".join(self.levels[level][:width])
                    )
                    found.append((Address(level, n, width), data))
        return found
