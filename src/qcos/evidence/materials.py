"""Table of materials: documents that bundles of level ``full`` commit to, kept so that they can be fetched (R12.5).

Losing it: the digests in the bundles still prove what the documents were, but nobody can show them, unless
they were fetched before. Somebody who can write to it as the application could add a document to a job that
has none of that name, and take one away, as erasing does; not change one (a trigger). Documents are sealed under
their jobs' payload keys. A document that is not what the bundle commits to is
found by whoever compares it, as `qcos evidence verify` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as pg_insert

from qcos.base.clock import now
from qcos.db.engine import metadata

material_table = sa.Table(
    "evidence_material",
    metadata,
    sa.Column("tenant", sa.Uuid, primary_key=True),
    sa.Column("job", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("media_type", sa.Text, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Column("created", sa.DateTime(timezone=True), nullable=False),
)
_INSERT = pg_insert(material_table).on_conflict_do_nothing()


@dataclass(frozen=True, slots=True)
class StoredMaterial:
    """A document as it is kept.

    Attributes:
        job: Whose.
        name: Its name as a subject of the statement: ``transpiled/0``, ``calibration``, ``vendor-response``.
        digest: ``sha256:<hex>`` of its bytes.
        media_type: What they are.
        payload: The bytes, sealed by the spine under the job's payload key.
    """

    job: str
    name: str
    digest: str
    media_type: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Listed:
    """A document without its bytes."""

    name: str
    digest: str
    media_type: str


def insert(connection: sa.Connection, tenant: UUID, rows: Sequence[StoredMaterial]) -> None:
    """Keep documents, in one round trip. One that is already kept stays as it is."""
    if rows:
        at = now()
        connection.execute(_INSERT, [{"tenant": tenant, "created": at, **asdict(row)} for row in rows])


def get(connection: sa.Connection, tenant: UUID, job: str, name: str) -> StoredMaterial | None:
    """Return a document, or None when the job has none of that name."""
    table = material_table
    query = sa.select(table.c.job, table.c.name, table.c.digest, table.c.media_type, table.c.payload).where(
        table.c.tenant == tenant, table.c.job == job, table.c.name == name
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else StoredMaterial(*row)


def names_of(connection: sa.Connection, tenant: UUID, jobs: Sequence[str]) -> dict[str, list[str]]:
    """Return the names of the documents that jobs have; jobs without any are left out."""
    table = material_table
    query = sa.select(table.c.job, table.c.name).where(
        table.c.tenant == tenant, table.c.job == sa.any_(sa.literal(list(jobs), sa.ARRAY(sa.Text)))
    )
    found: dict[str, list[str]] = {}
    for row in connection.execute(query.order_by(table.c.job, table.c.name)):
        found.setdefault(row.job, []).append(row.name)
    return found


def of_job(connection: sa.Connection, tenant: UUID, job: str) -> list[Listed]:
    """Return what documents a job has, by name."""
    table = material_table
    query = (
        sa.select(table.c.name, table.c.digest, table.c.media_type)
        .where(table.c.tenant == tenant, table.c.job == job)
        .order_by(table.c.name)
    )
    return [Listed(*row) for row in connection.execute(query)]
