"""The files of a log between two sizes, as bytes: for copies that shall be complete for the later size. Pure but for reading."""

from __future__ import annotations

from collections.abc import Iterator

from qcos.ledger.files import LogFolder
from qcos.ledger.tile import ENTRIES, LEVEL_BITS, WIDTH, Address, pack_entries


def pieces(old: int, new: int) -> Iterator[Address]:
    """Yield the tiles and bundles that a copy of size ``old`` lacks at size ``new``.

    Those are the ones that became full, and the partial ones of ``new``.
    """
    level = ENTRIES
    while level <= 0 or new >> (LEVEL_BITS * level):
        bits = LEVEL_BITS * max(level, 0)
        first, last = (old >> bits) // WIDTH, (new >> bits) // WIDTH
        for n in range(first, last):
            yield Address(level, n)
        if width := (new >> bits) % WIDTH:
            yield Address(level, last, width)
        level += 1


def read(folder: LogFolder, address: Address) -> bytes:
    """Return the bytes of a tile or bundle; of a partial one that was dropped, the beginning of the full one.

    Raises:
        Unavailable: ``ledger.no_tile``.
        Integrity: ``ledger.bundle`` or ``ledger.tile`` when it is malformed.
    """
    if address.level == ENTRIES:
        return pack_entries(folder.entries(address.n, address.width))
    return b"".join(folder.hashes(address))
