"""Check a log's folder, or a copy of one: every entry hashed, every tile compared, the signatures checked (R4.2).

Reads only; needs no database, no network and no server. What is wrong is collected, not raised, so that one
run shows the extent of a damage.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qcos.base.errors import NotFound, QcosError
from qcos.ledger.checkpoint import Checkpoint, parse_body
from qcos.ledger.files import LogFolder
from qcos.ledger.note import parse
from qcos.ledger.pinned import PinnedVkey
from qcos.ledger.quorum import NOBODY, Policy
from qcos.ledger.tile import WIDTH, Address, parse_path, width_of
from qcos.ledger.tree import EMPTY_ROOT, fold, leaf_hash
from qcos.ledger.verify import verify_checkpoint

Progress = Callable[[int, int], None]

_LISTED: Final = 100  # problems named; more are counted


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: its code, the object, what is the matter."""

    code: str
    subject: str
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """What was checked and what is wrong.

    Attributes:
        size: Entries of the published checkpoint.
        root: Root rebuilt from the entries; None when it could not be.
        tiles: Tiles compared.
        checkpoints: Signed checkpoints checked.
        records: Records compared with their commitments.
        problems: At most 100.
        problem_count: All of them.
    """

    size: int
    root: bytes | None
    tiles: int
    checkpoints: int
    records: int
    problems: tuple[Finding, ...]
    problem_count: int

    @property
    def ok(self) -> bool:
        """Return whether nothing is wrong."""
        return self.problem_count == 0


def audit(
    directory: Path,
    vkeys: Sequence[str | PinnedVkey],
    progress: Progress | None = None,
    *,
    witnesses: Policy = NOBODY,
) -> Report:
    """Check a folder.

    Args:
        directory: The log's files, or a copy of them.
        vkeys: The trust root.
        progress: Called with entries done and entries in all.
        witnesses: Whose cosignatures the published checkpoint must carry.
    """
    found = Audit(LogFolder(directory), vkeys, progress, witnesses)
    return found.report(*found.whole())


class Audit:
    """What is wrong with a folder, collected; `qcos.ledger.fsck` adds the database."""

    def __init__(
        self,
        folder: LogFolder,
        vkeys: Sequence[str | PinnedVkey],
        progress: Progress | None,
        witnesses: Policy = NOBODY,
    ) -> None:
        self.folder = folder
        self.vkeys = vkeys
        self.witnesses = witnesses
        self.progress = progress or (lambda done, total: None)
        self.problems: list[Finding] = []
        self.tiles = self.checkpoints = self.records = 0
        self.levels: list[list[bytes]] = [[]]
        self.roots: list[list[bytes]] = []  # of full tiles, by tile level
        self.signed: dict[int, bytes] = {}  # sizes of signed checkpoints still ahead, with their roots

    def whole(self) -> tuple[Checkpoint | None, bytes | None]:
        """Check everything; return the published checkpoint, and the root rebuilt from the entries."""
        checkpoint, root = self.published(), None
        if checkpoint is not None:
            root = self.rebuild(checkpoint)
            self.strays(checkpoint.size)
        return checkpoint, root

    def report(self, checkpoint: Checkpoint | None, root: bytes | None) -> Report:
        """Return what was checked and what is wrong."""
        return Report(
            checkpoint.size if checkpoint else 0,
            root,
            self.tiles,
            self.checkpoints,
            self.records,
            tuple(self.problems[:_LISTED]),
            len(self.problems),
        )

    def load_signed(self, size: int) -> None:
        """Keep the roots of more signed checkpoints of up to this size, for the rebuilding; a folder has none."""

    def kept_entries(self, size: int) -> Iterator[list[bytes] | None]:
        """Yield, bundle by bundle, entries kept elsewhere to compare with; None where there are none."""
        return itertools.repeat(None)

    def problem(self, code: str, subject: str, message: str) -> None:
        """Note one thing that is wrong."""
        self.problems.append(Finding(code, subject, message))

    def caught(self, error: QcosError, subject: str) -> None:
        """Note an error as a thing that is wrong."""
        self.problem(error.code, subject or error.subject, str(error))

    def published(self) -> Checkpoint | None:
        """Check the published checkpoint's signatures; return it also when they do not hold."""
        try:
            note = self.folder.checkpoint()
            if note is None:
                self.problem("ledger.no_checkpoint", "checkpoint", "the folder has no checkpoint")
                return None
            found = self.signatures(note, "checkpoint", self.witnesses)
            return found or parse_body(parse(note)[0])
        except QcosError as error:
            self.caught(error, "checkpoint")
        except OSError as error:
            self.problem("ledger.file", "checkpoint", str(error))
        return None

    def signatures(self, note: str, subject: str, witnesses: Policy = NOBODY) -> Checkpoint | None:
        """Check a signed checkpoint; None when it does not hold."""
        self.checkpoints += 1
        try:
            return verify_checkpoint(note, self.vkeys, witnesses)[0]
        except QcosError as error:
            self.caught(error, subject)
            return None

    def rebuild(self, checkpoint: Checkpoint) -> bytes | None:
        """Hash all entries, compare every tile of the tree, then the root."""
        size = checkpoint.size
        self.load_signed(size)
        if 0 in self.signed:
            self.compare_root(self.signed.pop(0), 0, "signed checkpoint")
        kept: Iterator[list[bytes] | None] = self.kept_entries(size)
        for n in range((size + WIDTH - 1) // WIDTH):
            width = width_of(0, n, size)
            leaves = self.leaves(n, width, next(kept))
            if leaves is None:
                self.problem("ledger.incomplete", f"entries from {n * WIDTH}", "the tree cannot be rebuilt")
                return None
            for position, leaf in enumerate(leaves, n * WIDTH + 1):
                self.levels[0].append(leaf)
                if position in self.signed:
                    self.compare_root(self.signed.pop(position), position, "signed checkpoint")
            self.complete(n)
            self.progress(min(size, (n + 1) * WIDTH), size)
        for level, hashes in enumerate(self.levels):
            if hashes:
                self.compare_tile(Address(level, size >> (8 * (level + 1)), len(hashes)), hashes)
        self.compare_root(checkpoint.root, size, "published checkpoint")
        return self.root()

    def leaves(self, n: int, width: int, kept: list[bytes] | None) -> list[bytes] | None:
        """Return the leaf hashes of a bundle; those of the tile when the bundle is not readable."""
        try:
            entries = self.folder.entries(n, width)
        except (QcosError, OSError) as error:
            self.problem(getattr(error, "code", "ledger.file"), f"bundle {n}", str(error))
            try:
                return self.folder.hashes(Address(0, n, width))
            except (QcosError, OSError):
                return None
        if kept is not None and kept != entries:
            self.problem(
                "ledger.entry_differs", f"bundle {n}", "the database's entries differ from the bundle's"
            )
        return [leaf_hash(entry) for entry in entries]

    def complete(self, n: int) -> None:
        """Compare the tiles that bundle ``n`` made full, and keep their roots."""
        level = 0
        while len(self.levels[level]) == WIDTH:
            hashes = self.levels[level]
            self.compare_tile(Address(level, n), hashes)
            root = fold(hashes)
            hashes.clear()
            n //= WIDTH
            if level + 1 == len(self.levels):
                self.levels.append([])
                self.roots.append([])
            self.roots[level].append(root)
            level += 1
            self.levels[level].append(root)

    def compare_tile(self, address: Address, hashes: Sequence[bytes]) -> None:
        """Compare a tile's file with what the entries give."""
        self.tiles += 1
        try:
            if self.folder.hashes(address) != list(hashes):
                self.problem("ledger.tile", address.path, "the tile differs from what the entries give")
        except (QcosError, OSError) as error:
            self.problem(getattr(error, "code", "ledger.file"), address.path, str(error))

    def root(self) -> bytes:
        """Return the root of the entries hashed so far."""
        tail: list[bytes] = []
        for hashes in self.levels:
            if hashes or tail:
                tail = [fold([*hashes, *tail])]
        return tail[0] if tail else EMPTY_ROOT

    def compare_root(self, expected: bytes, size: int, subject: str) -> None:
        """Compare the root of the entries hashed so far with a signed one."""
        if self.root() != expected:
            message = (
                f"the entries give another root than the {subject}: {self.root().hex()}, not {expected.hex()}"
            )
            self.problem("ledger.root", f"tree of {size} entries", message)

    def strays(self, size: int) -> None:
        """Find files that are no tiles of this tree, and partial tiles that differ from the tree."""
        for path in sorted((self.folder.directory / "tile").glob("**/*")):
            name, folder = path.relative_to(self.folder.directory).as_posix(), path.is_dir()
            try:
                address = parse_path(name)
            except NotFound:
                if not folder:
                    self.problem("ledger.stray", _shown(name), "not a file of the log")
                continue
            if folder:
                self.problem("ledger.stray", name, "a folder with the name of a tile")
            elif address.width < WIDTH:
                self.partial(address, size)

    def partial(self, address: Address, size: int) -> None:
        """Compare a partial tile with the widest one of its tile, which was compared with the tree."""
        width = width_of(address.level, address.n, size)
        if address.width >= width:
            return
        try:
            wide = self.content(Address(address.level, address.n, width))
            same = self.content(address) == wide[: address.width]
        except (QcosError, OSError) as error:
            self.problem(getattr(error, "code", "ledger.file"), address.path, str(error))
            return
        if not same:
            self.problem("ledger.tile", address.path, "the partial tile is no beginning of the full one")

    def content(self, address: Address) -> list[bytes]:
        """Return the hashes or entries of a file."""
        if address.level >= 0:
            return self.folder.hashes(address)
        return self.folder.entries(address.n, address.width)


def _shown(name: str) -> str:
    """Return a file's name as text that can be printed: names are bytes, and anybody's."""
    return name.encode("utf-8", "backslashreplace").decode()
