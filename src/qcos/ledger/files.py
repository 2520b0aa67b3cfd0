"""The log's files: written so that a crash at any moment leaves each one whole, read with bounds.

A file is written to a temporary name, flushed to the disk, renamed, and its folder flushed. When any of that
fails, what was written goes away and the next attempt starts anew: a second fsync after one that failed says
nothing. A tile that is there already, and a folder this process does not know, are flushed as well: whoever
made them may have died before. Tiles never change: one that is there with other bytes means that somebody
changed it or the database, and nothing is overwritten. For one POSIX file system; not for S3 mounts.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from qcos.base.errors import Integrity, Unavailable
from qcos.base.files import read_regular
from qcos.base.limits import MAX_ENTRY_BYTES, MAX_NOTE_BYTES
from qcos.ledger.tile import ENTRIES, WIDTH, Address, Pyramid, split_hashes, unpack_entries
from qcos.ledger.tree import HASH_BYTES

CHECKPOINT: Final = "checkpoint"
_MAKING: Final = ".making"
_LEFTOVER_S: Final = 3600  # a temporary file of that age belongs to a process that was killed
_FOLDERS_KNOWN: Final = 10_000
_MAX_BUNDLE: Final = WIDTH * (MAX_ENTRY_BYTES + 2)


class LogFolder:
    """One folder with a log's files. Safe for many threads and processes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._durable: set[Path] = set()  # folders this object flushed, with those above them
        # What has an address never changes; a full tile's nodes take about 50 kB.
        self._pyramid = lru_cache(maxsize=128)(lambda address: Pyramid(self.hashes(address)))

    def prepare(self) -> None:
        """Make the folder where it is missing, and clear away what killed writers left. Readers need not."""
        making = self.directory / _MAKING
        making.mkdir(parents=True, exist_ok=True)
        _flush(self.directory)
        _flush(self.directory.parent)
        for path in making.iterdir():
            with contextlib.suppress(OSError):
                if path.name != "lock" and time.time() - path.stat().st_mtime > _LEFTOVER_S:
                    path.unlink()

    def write_tiles(self, tiles: Sequence[tuple[Address, bytes]]) -> None:
        """Write tiles and bundles durably; those that are there already are compared.

        Raises:
            Integrity: ``ledger.tile_changed`` when one is there with other bytes.
            OSError: The disk is full or fails; nothing counts as written.
        """
        there: list[Path] = []
        new: list[tuple[Path, bytes]] = []
        for address, data in tiles:
            path = self.directory / address.path
            present = _read(path, _MAX_BUNDLE)
            if present is None:
                new.append((path, data))
            elif present == data:
                there.append(path)
            else:
                raise Integrity(
                    "ledger.tile_changed",
                    "a tile on the disk differs from what the database says",
                    subject=str(path),
                    hint="stop, run `qcos ledger fsck`, find out which of the two was changed",
                )
        for path in there:
            _flush(path)
        folders = {path.parent for path in there}
        with self._temporaries([data for _, data in new]) as temporaries:
            for path, _ in new:
                folders |= self._make_folder(path.parent)
            for temporary, (path, _) in zip(temporaries, new, strict=True):
                temporary.replace(path)
        for folder in sorted(folders):
            _flush(folder)
        if len(self._durable) > _FOLDERS_KNOWN:
            self._durable.clear()
        self._durable |= folders

    def drop_partials(self, address: Address) -> None:
        """Remove the partial tiles of a full one.

        Readers of older checkpoints fall back to the full tile, as tlog-tiles tells them.
        """
        full = self.directory / address.full.path
        partials = full.with_name(full.name + ".p")
        with contextlib.suppress(OSError):
            for path in partials.iterdir():
                path.unlink(missing_ok=True)
            partials.rmdir()

    def checkpoint(self) -> str | None:
        """Return the published checkpoint, or None.

        Raises:
            Integrity: ``ledger.note`` when it is not text of a bounded size.
        """
        data = _read(self.directory / CHECKPOINT, MAX_NOTE_BYTES)
        try:
            return None if data is None else data.decode()
        except UnicodeDecodeError:
            raise Integrity(
                "ledger.note", "the published checkpoint is not text", subject=str(self.directory)
            ) from None

    def write_checkpoint(self, note: str) -> None:
        """Replace the published checkpoint, durably and in one step. The caller holds `locked`."""
        with self._temporaries([note.encode()]) as temporaries:
            temporaries[0].replace(self.directory / CHECKPOINT)
        _flush(self.directory)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's lock; the kernel gives it back when the process dies."""
        with (self.directory / _MAKING / "lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def entries(self, n: int, width: int) -> list[bytes]:
        """Return the first entries of a bundle.

        Raises:
            Unavailable: ``ledger.no_tile`` when the bundle is not there.
            Integrity: ``ledger.bundle`` when it is malformed, or has more or fewer entries than its name says.
        """
        found, data = self._tile(Address(ENTRIES, n, width))
        entries = unpack_entries(data)
        if len(entries) != found.width:
            raise Integrity(
                "ledger.bundle",
                "an entry bundle has not the entries that its name says",
                subject=found.path,
                expected=f"{found.width} entries",
                got=str(len(entries)),
            )
        return entries[:width]

    def pyramid(self, level: int, n: int, width: int) -> Pyramid:
        """Return the nodes of a tile that has at least ``width`` hashes.

        Raises:
            Unavailable: ``ledger.no_tile`` when the tile is not there.
            Integrity: ``ledger.tile`` when it is malformed, or has more or fewer hashes than its name says.
        """
        return self._pyramid(Address(level, n, width))

    def hashes(self, address: Address) -> list[bytes]:
        """Return the hashes of a tile; a full tile stands in for its partial ones."""
        found, data = self._tile(address)
        hashes = split_hashes(data)
        if len(hashes) != found.width:
            raise Integrity(
                "ledger.tile",
                "a tile has not the hashes that its name says",
                subject=found.path,
                expected=f"{found.width} hashes",
                got=str(len(hashes)),
            )
        return hashes[: address.width]

    def _tile(self, address: Address) -> tuple[Address, bytes]:
        """Return the bytes of a tile or bundle, and whose they are: its own, or those of the full one."""
        limit = _MAX_BUNDLE if address.level == ENTRIES else WIDTH * HASH_BYTES
        for candidate in dict.fromkeys((address, address.full)):
            if (data := _read(self.directory / candidate.path, limit)) is not None:
                return candidate, data
        raise Unavailable(
            "ledger.no_tile",
            "a tile is missing",
            subject=str(self.directory / address.path),
            hint="run `qcos ledger fsck`",
        )

    @contextlib.contextmanager
    def _temporaries(self, contents: Sequence[bytes]) -> Iterator[list[Path]]:
        """Write temporary files and flush them; those that were not renamed are removed."""
        name = f"{os.getpid()}-{secrets.token_hex(8)}"
        paths = [self.directory / _MAKING / f"{name}-{n}" for n in range(len(contents))]
        try:
            for path, data in zip(paths, contents, strict=True):
                path.write_bytes(data)
            for path in paths:
                _flush(path)
            yield paths
        except BaseException:
            for path in paths:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
            raise

    def _make_folder(self, folder: Path) -> set[Path]:
        """Make a folder where it is missing; return it with those above it that may not be durable yet."""
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
        found = {folder}
        while folder != self.directory and folder not in self._durable:
            folder = folder.parent
            found.add(folder)
        return found


def _read(path: Path, limit: int) -> bytes | None:
    try:
        data = read_regular(path, limit + 1)  # a log's folder may be a copy from anybody
    except FileNotFoundError:
        return None
    if len(data) > limit:
        raise Integrity(
            "ledger.file_size",
            "a file of the log is too large",
            subject=str(path),
            expected=f"at most {limit} bytes",
        )
    return data


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
