"""Check a whole log: its folder (`qcos.ledger.audit`), and that the database agrees with it.

Reads only. What is wrong is collected, not raised, so that one run shows the extent of a damage.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from qcos.base.clock import rfc3339
from qcos.base.errors import QcosError
from qcos.db.engine import scope
from qcos.ledger import store
from qcos.ledger.audit import Audit, Progress, Report
from qcos.ledger.checkpoint import Checkpoint
from qcos.ledger.files import LogFolder
from qcos.ledger.record import read_record
from qcos.ledger.tile import WIDTH

_COLUMNS: Final = ("id", "tenant", "time", "act", "actor", "object", "project")
_BATCH: Final = 16  # bundles (of 256 entries) asked of the database at once


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
        progress: Called with entries done and entries in all; once more from the start for records.
        tenants: All tenants: compares their records with the entries as well. Needs ``engine``.
    """
    check = _Check(LogFolder(directory), vkeys, engine, progress)
    checkpoint, root = check.whole()
    if engine is not None:
        check.database(engine, checkpoint)
        if tenants is not None:
            check.all_records(engine, tenants)
    return check.report(checkpoint, root)


class _Check(Audit):
    def __init__(
        self, folder: LogFolder, vkeys: Sequence[str], engine: sa.Engine | None, progress: Progress | None
    ) -> None:
        super().__init__(folder, vkeys, progress)
        self.engine = engine

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
            if count := store.held_back(connection):
                self.problem("ledger.held_back", "entries", f"{count} committed entries were never numbered")
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
        counted, size = 0, entries
        for tenant in tenants:
            after: tuple[dt.datetime, int] | None = None
            while True:
                with scope(engine, tenant) as connection:
                    rows = store.records_after(connection, tenant, after, _BATCH * WIDTH)
                if not rows:
                    break
                after = (rows[-1].time, rows[-1].seq)
                counted += sum(row.seq <= last for row in rows)
                self.compare(str(tenant), rows)
                self.progress(min(counted, size), size)
        if counted < entries:
            self.problem("ledger.record_missing", "records", f"{entries - counted} entries have no record")

    def compare(self, tenant: str, rows: Sequence[Any]) -> None:  # Any: rows of `store.records_after`
        """Compare some records with what their entries commit to, and their columns with what they say."""
        self.records += len(rows)
        for time, _, name, act, actor, object_, project, record, digest in rows:
            if digest is None:
                self.problem("ledger.entry_missing", name, "the record has no entry in the log")
                continue
            if digest != sha256(record).digest():
                self.problem("ledger.record_differs", name, "the record is not what its entry commits to")
                continue
            try:
                said = read_record(record)
            except QcosError as error:
                self.caught(error, name)
                continue
            columns = (name, tenant, rfc3339(time), act, actor, object_, project)
            if columns != _of_columns(said):
                wrong = [
                    one for one, a, b in zip(_COLUMNS, columns, _of_columns(said), strict=True) if a != b
                ]
                message = f"columns differ from the record: {', '.join(sorted(wrong))}"
                self.problem("ledger.record_columns", name, message)


def _of_columns(said: dict[str, Any]) -> tuple[Any, ...]:  # Any: JSON
    return tuple(map(said.get, _COLUMNS))
