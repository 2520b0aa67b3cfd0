"""Table of anchors.

Losing it: receipts that nobody fetched are gone, and commitments under way are begun anew; the ledger itself loses
nothing. Somebody who can write to it as the application could hold back receipts or put false ones there, which no
verifier accepts; a signed transaction in `work` can only be sent, not changed.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from qcos.db.engine import metadata
from qcos.ledger.anchor.model import SCHEMA

anchor_table = sa.Table(
    "ledger_anchor",
    metadata,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("size", sa.BigInteger, primary_key=True),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("work", JSONB, nullable=False),
    sa.Column("proof", JSONB),
    sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("block_at", sa.DateTime(timezone=True)),
)


@dataclass(frozen=True, slots=True)
class Anchor:
    """A checkpoint's commitment to one chain.

    Attributes:
        kind: ``ethereum`` or ``opentimestamps``.
        size: Entries of the checkpoint.
        note: The checkpoint.
        work: What the chain's client remembers; JSON.
        proof: The finished proof; None while it is not confirmed.
        begun_at: When it was begun, UTC.
        block_at: The time the block states, UTC.
    """

    kind: str
    size: int
    note: str
    work: Mapping[str, Any]  # Any: JSON
    proof: Mapping[str, Any] | None  # Any: JSON
    begun_at: dt.datetime
    block_at: dt.datetime | None

    def receipt(self) -> dict[str, Any]:  # Any: JSON
        """Return what a verifier takes (`qcos.ledger.anchor.verify`)."""
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            "size": self.size,
            "checkpoint": self.note,
            "proof": self.proof,
        }


def begin(connection: sa.Connection, anchor: Anchor) -> bool:
    """Keep the intent to anchor a checkpoint; False when somebody has begun it already."""
    statement = sa.text(
        "insert into qcos.ledger_anchor (kind, size, note, work, begun_at) "
        "values (:kind, :size, :note, cast(:work as jsonb), :begun_at) on conflict do nothing"
    ).bindparams(sa.bindparam("work", type_=JSONB))
    values = {name: getattr(anchor, name) for name in ("kind", "size", "note", "work", "begun_at")}
    return connection.execute(statement, values).rowcount == 1


def move(connection: sa.Connection, anchor: Anchor) -> bool:
    """Keep how far an anchor has come; False when it was finished before."""
    table = anchor_table
    here = (table.c.kind == anchor.kind) & (table.c.size == anchor.size) & table.c.proof.is_(None)
    values = {"work": anchor.work, "proof": anchor.proof or sa.null(), "block_at": anchor.block_at}
    return connection.execute(sa.update(table).where(here).values(values)).rowcount == 1


def unfinished(connection: sa.Connection, kind: str) -> list[Anchor]:
    """Return the anchors of a chain that are not confirmed, oldest first."""
    table = anchor_table
    query = sa.select(table).where(table.c.kind == kind, table.c.proof.is_(None)).order_by(table.c.size)
    return [_anchor(row) for row in connection.execute(query)]


def newest(connection: sa.Connection, kind: str) -> Anchor | None:
    """Return the newest anchor of a chain."""
    table = anchor_table
    query = sa.select(table).where(table.c.kind == kind).order_by(table.c.size.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return _anchor(row) if row else None


def page(connection: sa.Connection, before: int | None, limit: int) -> list[Anchor]:
    """Return anchors, newest first, of sizes below ``before``."""
    table = anchor_table
    query = sa.select(table)
    if before is not None:
        query = query.where(table.c.size < before)
    return [
        _anchor(row)
        for row in connection.execute(query.order_by(table.c.size.desc(), table.c.kind).limit(limit))
    ]


def get(connection: sa.Connection, kind: str, size: int) -> Anchor | None:
    """Return one anchor, or None."""
    table = anchor_table
    row = connection.execute(sa.select(table).where(table.c.kind == kind, table.c.size == size)).one_or_none()
    return _anchor(row) if row else None


def _anchor(row: sa.Row[Any]) -> Anchor:  # Any: the columns of the table
    return Anchor(**row._mapping)
