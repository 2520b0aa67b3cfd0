"""Check a whole log: every entry hashed, every tile compared, every signature checked, the database too.

Reads only. What is wrong is collected, not raised, so that one run shows the extent of a damage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from qcos.base.clock import rfc3339
from qcos.base.errors import NotFound, QcosError
from qcos.db.engine import scope
from qcos.ledger import store
from qcos.ledger.checkpoint import Checkpoint, parse_body
from qcos.ledger.files import LogFolder
from qcos.ledger.note import parse
from qcos.ledger.record import entry_of, read_record
from qcos.ledger.tile import WIDTH, Address, parse_path, width_of
from qcos.ledger.tree import EMPTY_ROOT, fold, leaf_hash
from qcos.ledger.verify import verify_checkpoint

Progress = Callable[[int, int], None]

_LISTED: Final = 100  # problems named; more are counted
_BATCH: Final = 16  # bundles (of 256 entries) asked of the database at once


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


def fsck(
    directory: Path,
    vkeys: Sequence[str],
    engine: sa.Engine | None = None,
    progress: Progress | None = None,
    *,
    tenants: Sequence[UUID] | None = None,
) -> Report:
    """Check a log.

    Args:
        directory: The log's files.
        vkeys: The trust root.
        engine: Compares entries, nodes, head and every signed checkpoint of the database as well.
        progress: Called with entries done and entries in all.
        tenants: All tenants: compares their records with the entries as well. Needs ``engine``.
    """
    check = _Check(LogFolder(directory), vkeys, engine, progress or (lambda done, total: None))
    checkpoint = check.published()
    root = None
    if checkpoint is not None:
        root = check.rebuild(checkpoint)
        check.strays(checkpoint.size)
    if engine is not None:
        check.database(engine, checkpoint)
        if tenants is not None:
            check.all_records(engine, tenants)
    size = checkpoint.size if checkpoint else 0
    return Report(
        size,
        root,
        check.tiles,
        check.checkpoints,
        check.records,
        tuple(check.problems[:_LISTED]),
        len(check.problems),
    )


class _Check:
    def __init__(
        self, folder: LogFolder, vkeys: Sequence[str], engine: sa.Engine | None, progress: Progress
    ) -> None:
        self.folder = folder
        self.vkeys = vkeys
        self.engine = engine
        self.progress = progress
        self.problems: list[Finding] = []
        self.tiles = self.checkpoints = self.records = 0
        self.levels: list[list[bytes]] = [[]]
        self.roots: list[list[bytes]] = []  # of full tiles, by tile level
        self.signed: dict[int, bytes] = {}  # sizes of signed checkpoints still ahead, with their roots

    def problem(self, code: str, subject: str, message: str) -> None:
        self.problems.append(Finding(code, subject, message))

    def caught(self, error: QcosError, subject: str) -> None:
        self.problem(error.code, subject or error.subject, str(error))

    def published(self) -> Checkpoint | None:
        """Check the published checkpoint's signatures; return it also when they do not hold."""
        try:
            note = self.folder.checkpoint()
            if note is None:
                self.problem("ledger.no_checkpoint", "checkpoint", "the folder has no checkpoint")
                return None
            return self.signatures(note, "checkpoint") or parse_body(parse(note)[0])
        except QcosError as error:
            self.caught(error, "checkpoint")
            return None

    def signatures(self, note: str, subject: str) -> Checkpoint | None:
        self.checkpoints += 1
        try:
            return verify_checkpoint(note, self.vkeys)[0]
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
        self.tiles += 1
        try:
            if self.folder.hashes(address) != list(hashes):
                self.problem("ledger.tile", address.path, "the tile differs from what the entries give")
        except (QcosError, OSError) as error:
            self.problem(getattr(error, "code", "ledger.file"), address.path, str(error))

    def root(self) -> bytes:
        tail: list[bytes] = []
        for hashes in self.levels:
            if hashes or tail:
                tail = [fold([*hashes, *tail])]
        return tail[0] if tail else EMPTY_ROOT

    def compare_root(self, expected: bytes, size: int, subject: str) -> None:
        if self.root() != expected:
            message = (
                f"the entries give another root than the {subject}: {self.root().hex()}, not {expected.hex()}"
            )
            self.problem("ledger.root", f"tree of {size} entries", message)

    def strays(self, size: int) -> None:
        """Find files that are no tiles of this tree, and partial tiles that differ from the tree."""
        for path in sorted((self.folder.directory / "tile").glob("**/*")):
            if path.is_dir():
                continue
            name = path.relative_to(self.folder.directory).as_posix()
            try:
                address = parse_path(name)
            except NotFound:
                self.problem("ledger.stray", name, "not a file of the log")
                continue
            if address.width < WIDTH:
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
        if address.level >= 0:
            return self.folder.hashes(address)
        return self.folder.entries(address.n, address.width)

    def load_signed(self, size: int) -> None:
        """Check the signatures of all checkpoints in the database; keep their roots for the rebuilding."""
        if self.engine is None:
            return
        with scope(self.engine, None) as connection:
            sizes = store.checkpoint_sizes(connection, -1, size)
        for one in sizes:
            with scope(self.engine, None) as connection:
                found = store.checkpoint_of(connection, one)
            signed = self.signatures(found[1], f"signed checkpoint {one}") if found else None
            if found and signed and (signed.size, signed.root) != (one, found[0]):
                self.problem("ledger.checkpoint", f"signed checkpoint {one}", "its row and its note differ")
            if signed:
                self.signed[one] = signed.root

    def kept_entries(self, size: int) -> Iterator[list[bytes] | None]:
        """Yield the database's entries, bundle by bundle; None without a database."""
        step = _BATCH * WIDTH
        for start in range(0, size, step):
            entries: list[bytes] | None = None
            if self.engine is not None:
                with scope(self.engine, None) as connection:
                    entries = store.entries_between(connection, start, min(size, start + step))
            for first in range(0, min(step, size - start), WIDTH):
                yield None if entries is None else entries[first : first + WIDTH]

    def database(self, engine: sa.Engine, checkpoint: Checkpoint | None) -> None:
        """Compare the head and the nodes."""
        with scope(engine, None) as connection:
            head = store.glance(connection).head
            if checkpoint and head.size < checkpoint.size:
                message = f"the database has {head.size} of {checkpoint.size} entries"
                self.problem("ledger.rolled_back", "head", message)
            try:
                if head.size and store.load_edge(connection, head.size).root() != head.root:
                    self.problem("ledger.forked", "head", "the database's entries do not give its root")
            except ValueError:
                self.problem("ledger.forked", "head", "the database lacks entries or nodes")
            for level, roots in enumerate(self.roots, 1):
                if store.nodes_between(connection, level, 0, len(roots)) != roots:
                    self.problem(
                        "ledger.node_differs", f"level {level}", "the database's nodes differ from the tree's"
                    )

    def all_records(self, engine: sa.Engine, tenants: Sequence[UUID]) -> None:
        """Compare every record with the entry that commits to it, and count them."""
        with scope(engine, None) as connection:
            entries, last = connection.execute(
                sa.select(sa.func.count(), sa.func.coalesce(sa.func.max(store.entry_table.c.seq), 0))
            ).one()
        counted = 0
        for tenant in tenants:
            seq = 0
            while True:
                with scope(engine, tenant) as connection:
                    rows = store.records_after(connection, tenant, seq, _BATCH * WIDTH)
                if not rows:
                    break
                seq = rows[-1].seq
                counted += sum(row.seq <= last for row in rows)
                for row in rows:
                    self.record(tenant, row)
        if counted < entries:
            self.problem("ledger.record_missing", "records", f"{entries - counted} entries have no record")

    def record(self, tenant: UUID, row: sa.Row[Any]) -> None:  # Any: the columns of `store.records_after`
        self.records += 1
        record = bytes(row.record)
        if row.entry is None or row.names != row.id:
            self.problem("ledger.entry_missing", row.id, "the record has no entry in the log")
            return
        if bytes(row.entry) != entry_of(record):
            self.problem("ledger.record_differs", row.id, "the record is not what its entry commits to")
            return
        try:
            said = read_record(record)
        except QcosError as error:
            self.caught(error, row.id)
            return
        columns = {
            "id": row.id,
            "tenant": str(tenant),
            "time": rfc3339(row.time),
            "act": row.act,
            "actor": row.actor,
            "object": row.object,
            "project": row.project,
        }
        if wrong := sorted(name for name, value in columns.items() if said.get(name) != value):
            self.problem(
                "ledger.record_columns", row.id, f"columns differ from the record: {', '.join(wrong)}"
            )
