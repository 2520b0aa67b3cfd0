"""C2SP tlog-tiles: names of tiles, which tiles a tree has, entry bundles, the nodes inside a tile. Pure.

Hash i of tile n at level l covers the leaves ``[(n * 256 + i) * 256**l, (n * 256 + i + 1) * 256**l)``.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from qcos.base.errors import Integrity, Invalid, NotFound
from qcos.base.limits import MAX_ENTRY_BYTES
from qcos.ledger.tree import HASH_BYTES, pair_up

WIDTH: Final = 256
LEVEL_BITS: Final = 8
ENTRIES: Final = -1  # the level that stands for entry bundles
_MAX_LEVEL: Final = 7  # 256**8 leaves are more than a tree may have
_PATH: Final = re.compile(
    r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a tile stands.

    Attributes:
        level: 0 to 7; `ENTRIES` for an entry bundle.
        n: Number of the tile in its level.
        width: Hashes (entries) in it, 1 to 256; below 256 it is a partial tile.
    """

    level: int
    n: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """Return the path below the log's prefix, ``tile/0/x001/x234/067.p/17``."""
        level = "entries" if self.level == ENTRIES else str(self.level)
        rest, text = divmod(self.n, 1000)
        name = f"{text:03d}"
        while rest:
            rest, part = divmod(rest, 1000)
            name = f"x{part:03d}/{name}"
        return f"tile/{level}/{name}" + (f".p/{self.width}" if self.width < WIDTH else "")

    @property
    def full(self) -> Address:
        """Return the address of the full tile."""
        return Address(self.level, self.n)


def parse_path(path: str) -> Address:
    """Read a tile's path; only its one exact spelling is taken, so it is safe to join to a folder.

    Raises:
        NotFound: ``ledger.no_tile``.
    """
    match = _PATH.fullmatch(path) if len(path) <= 64 else None
    if match:
        level = ENTRIES if match[1] == "entries" else int(match[1])
        n = int(match[2].replace("/", "").replace("x", ""))
        address = Address(level, n, int(match[3] or WIDTH))
        if level <= _MAX_LEVEL and address.width <= WIDTH and address.path == path:
            return address
    raise NotFound(
        "ledger.no_tile", "not the path of a tile", subject=path[:64], expected="as in C2SP tlog-tiles"
    )


def tiles_of(size: int) -> list[tuple[int, int, int]]:
    """Return, for each level of a tree, ``(level, full tiles, width of the partial tile or 0)``."""
    found = []
    level = 0
    while size >> (LEVEL_BITS * level):
        full, width = divmod(size >> (LEVEL_BITS * level), WIDTH)
        found.append((level, full, width))
        level += 1
    return found


def width_of(level: int, n: int, size: int) -> int:
    """Return how many hashes a tile has in a tree of a size: 0 to 256."""
    count = size >> (LEVEL_BITS * max(level, 0))
    return max(0, min(WIDTH, count - n * WIDTH))


def pack_entries(entries: Sequence[bytes]) -> bytes:
    """Return an entry bundle: each entry behind its length (uint16, big-endian).

    Raises:
        Invalid: ``ledger.entry_size`` when an entry is longer than the length can say.
    """
    for entry in entries:
        if len(entry) > MAX_ENTRY_BYTES:
            raise Invalid(
                "ledger.entry_size", "the entry is too long", expected=f"at most {MAX_ENTRY_BYTES} bytes"
            )
    return b"".join([part for entry in entries for part in (struct.pack(">H", len(entry)), entry)])


def unpack_entries(bundle: bytes) -> list[bytes]:
    """Return the entries of a bundle.

    Raises:
        Integrity: ``ledger.bundle`` when it is cut or holds more than 256 entries.
    """
    return list(_unpack(bundle))


def _unpack(bundle: bytes) -> Iterator[bytes]:
    offset = count = 0
    while offset < len(bundle):
        start = offset + 2
        end = start + int.from_bytes(bundle[offset:start], "big")
        count += 1
        if start > len(bundle) or end > len(bundle):
            raise Integrity("ledger.bundle", "the entry bundle is cut short", got=f"{len(bundle)} bytes")
        if count > WIDTH:
            raise Integrity(
                "ledger.bundle", "the entry bundle holds too many entries", expected=f"at most {WIDTH}"
            )
        yield bundle[start:end]
        offset = end


def split_hashes(data: bytes) -> list[bytes]:
    """Return the hashes of a tile.

    Raises:
        Integrity: ``ledger.tile`` when the length is none a tile can have.
    """
    if not data or len(data) % HASH_BYTES or len(data) > WIDTH * HASH_BYTES:
        raise Integrity(
            "ledger.tile",
            "a tile has an impossible length",
            expected="1 to 256 hashes of 32 bytes",
            got=f"{len(data)} bytes",
        )
    return [data[i : i + HASH_BYTES] for i in range(0, len(data), HASH_BYTES)]


class Pyramid:
    """All complete nodes inside one tile, so that many proofs hash it once."""

    __slots__ = ("levels",)

    def __init__(self, hashes: Sequence[bytes]) -> None:
        self.levels: list[list[bytes]] = [list(hashes)]
        while len(self.levels[-1]) > 1:
            self.levels.append(pair_up(self.levels[-1]))

    def node(self, level: int, i: int) -> bytes:
        """Return node i of a level inside the tile (0 to 8).

        Raises:
            Integrity: ``ledger.tile`` when the tile is too narrow to have it.
        """
        try:
            return self.levels[level][i]
        except IndexError:
            raise Integrity(
                "ledger.tile", "a tile is narrower than the tree needs", got=f"{len(self.levels[0])} hashes"
            ) from None
