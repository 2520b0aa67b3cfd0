"""Tables of evidence, and of the later time stamps of it.

Losing it: the bundles are gone, though not the proof that they existed: the ledger's records keep the
digest of each, and a bundle that was fetched before stays verifiable. Somebody who can write to it as the
application could add a bundle that nothing signed, which no verifier accepts; could take one away, which leaves
no record of an erasing and so is none; could not change one (grants, and a trigger). As the database's owner
they could remove or swap bundles; the ledger shows which are missing, the signatures which are false. Whoever
reads it reads who sealed what when; documents are sealed under their jobs' payload keys. Losing the renewals:
bundles that were not fetched since are again as good as their first time stamp. What somebody adds to them
that no authority stamped makes bundles fail, never pass.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from qcos.base.errors import Conflict, NotFound
from qcos.base.limits import PAGE_DEFAULT, PAGE_MAX
from qcos.db.engine import metadata
from qcos.evidence.model import Sealed

bundle_table = sa.Table(
    "evidence_bundle",
    metadata,
    sa.Column("tenant", sa.Uuid, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("job", sa.Text, nullable=False),
    sa.Column("document", sa.LargeBinary),
    sa.Column("statement_digest", sa.Text, nullable=False),
    sa.Column("record_id", sa.Text, nullable=False),
    sa.Column("sealed_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("retain_until", sa.DateTime(timezone=True), nullable=False),
    sa.UniqueConstraint("tenant", "job"),
)


renewal_table = sa.Table(
    "evidence_renewal",
    metadata,
    sa.Column("tenant", sa.Uuid, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("token", sa.LargeBinary, nullable=False),
    sa.Column("expires", sa.DateTime(timezone=True), nullable=False),
    sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
)
archive_table = sa.Table(
    "evidence_archive",
    metadata,
    sa.Column("tenant", sa.Uuid, primary_key=True),
    sa.Column("bundle", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("renewal", sa.Text, nullable=False),
    sa.Column("tree", sa.LargeBinary, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Renewal:
    """One token over the newest time stamps of many bundles.

    Attributes:
        id: ``renewal-2026-01-09-<16 hex digits>``.
        token: DER TimeStampToken over the root of their hash tree.
        expires: Until when the authority's certificates are valid, UTC.
        made_at: The time it names, UTC.
        hash: Of its tree and imprint, one of `qcos.timestamp.archive.RENEWAL_HASHES`.
    """

    id: str
    token: bytes
    expires: dt.datetime
    made_at: dt.datetime
    hash: str = "sha512"


@dataclass(frozen=True, slots=True)
class Archived:
    """One bundle's part of a renewal.

    Attributes:
        bundle: Its id.
        position: Which of its time stamps this is: 1 for the first renewal. Two renewals of one time stamp
            would contradict each other, so there is one of each.
        tree: Its reduced hash tree (`qcos.timestamp.tree.pack`).
    """

    bundle: str
    position: int
    tree: bytes


@dataclass(frozen=True, slots=True)
class Renewed:
    """A bundle's part of a renewal, without its bytes; with until when the bundle has to be kept, UTC."""

    bundle: str
    position: int
    retain_until: dt.datetime


@dataclass(frozen=True, slots=True)
class Placed:
    """A bundle without its bytes: its job, when it was sealed and until when it has to be kept, UTC."""

    id: str
    job: str
    sealed_at: dt.datetime
    retain_until: dt.datetime


@dataclass(frozen=True, slots=True)
class StoredBundle:
    """A bundle as it is kept.

    Attributes:
        id: Bundle id.
        job: The job; it has one bundle only.
        document: The bundle's JSON bytes, without its ledger proof; sealed under the job's payload key by the
            spine, which has that key. None: erased.
        statement_digest: ``sha256:<hex>`` of the signed statement.
        record_id: The ledger record ``evidence.sealed``.
        sealed_at: System time at sealing, UTC.
        retain_until: Until when it has to be kept, UTC (R4.3).
    """

    id: str
    job: str
    document: bytes | None
    statement_digest: str
    record_id: str
    sealed_at: dt.datetime
    retain_until: dt.datetime

    @classmethod
    def of(cls, sealed: Sealed, record_id: str) -> StoredBundle:
        """Return the row of a sealed bundle whose ledger record has this id."""
        return cls(
            sealed.bundle_id,
            sealed.job_id,
            sealed.document,
            sealed.statement_digest,
            record_id,
            sealed.sealed_at,
            sealed.retain_until,
        )


_INSERT = sa.insert(bundle_table)
_COLUMNS = [column for column in bundle_table.c if column.name != "tenant"]


def insert_bundles(connection: sa.Connection, tenant: UUID, rows: Sequence[StoredBundle]) -> None:
    """Keep bundles, in one round trip.

    Executed for many, not as one statement over arrays: an array of documents travels as text, which costs
    four times as much.

    Raises:
        Conflict: ``evidence.exists`` when one of the jobs has its bundle already; nothing of the scope may be
            kept then.
    """
    if not rows:
        return
    values = [{"tenant": tenant, **asdict(row)} for row in rows]
    try:
        connection.execute(_INSERT, values)
    except IntegrityError as error:
        raise Conflict(
            "evidence.exists",
            "a job has its evidence already: a bundle is never replaced",
            got=str(error.orig).splitlines()[-1][:200],
        ) from None


def insert_renewal(
    connection: sa.Connection, tenant: UUID, renewal: Renewal, archived: Sequence[Archived]
) -> None:
    """Keep a renewal and what it is to each bundle.

    Raises:
        Conflict: ``evidence.renewed`` when another one was faster; nothing of the scope may be kept then.
    """
    connection.execute(sa.insert(renewal_table), {"tenant": tenant, **asdict(renewal)})
    rows = [{"tenant": tenant, "renewal": renewal.id, **asdict(one)} for one in archived]
    try:
        connection.execute(sa.insert(archive_table), rows)
    except IntegrityError as error:
        raise Conflict(
            "evidence.renewed",
            "another renewal of these time stamps was faster",
            got=str(error.orig).splitlines()[-1][:200],
            hint="run it again",
        ) from None


def hashes_used(connection: sa.Connection, tenant: UUID) -> set[str]:
    """Return with which hashes a tenant's evidence was renewed."""
    query = sa.select(renewal_table.c.hash).where(renewal_table.c.tenant == tenant).distinct()
    return set(connection.execute(query).scalars())


def renewals_of(connection: sa.Connection, tenant: UUID, bundle_id: str) -> list[tuple[bytes, bytes]]:
    """Return tokens and packed trees of a bundle's renewals, oldest first."""
    return renewals_of_all(connection, tenant, [bundle_id]).get(bundle_id, [])


def renewals_of_all(
    connection: sa.Connection, tenant: UUID, bundles: Sequence[str]
) -> dict[str, list[tuple[bytes, bytes]]]:
    """Return the same for many bundles, in one round trip; those without renewals are left out."""
    query = (
        sa.select(archive_table.c.bundle, renewal_table.c.token, archive_table.c.tree)
        .join_from(
            archive_table,
            renewal_table,
            (renewal_table.c.tenant == archive_table.c.tenant)
            & (renewal_table.c.id == archive_table.c.renewal),
        )
        .where(
            archive_table.c.tenant == tenant,
            archive_table.c.bundle == sa.any_(sa.cast(list(bundles), sa.ARRAY(sa.Text))),
        )
        .order_by(archive_table.c.bundle, archive_table.c.position)
    )
    found: dict[str, list[tuple[bytes, bytes]]] = {}
    for row in connection.execute(query):
        found.setdefault(row.bundle, []).append((row.token, row.tree))
    return found


def renewal_ids(connection: sa.Connection, tenant: UUID) -> frozenset[str]:
    """Return the ids of a tenant's renewals: few, for each is over many bundles."""
    query = sa.select(renewal_table.c.id).where(renewal_table.c.tenant == tenant)
    return frozenset(connection.scalars(query))


# Lateral, with an offset: in the order of the key, bundle by bundle. As a join each page reads, and sorts, all that there are.
_RENEWED_BY = """
    select a.bundle, a.position, b.retain_until from qcos.evidence_archive a
     cross join lateral (select y.retain_until from qcos.evidence_bundle y
         where y.tenant = a.tenant and y.id = a.bundle and y.document is not null offset 0) b
     where a.tenant = %(tenant)s::uuid and a.renewal = any(%(renewals)s)
       and (a.bundle, a.position) > (%(bundle)s, %(position)s)
     order by a.bundle, a.position limit %(limit)s"""


def renewed_by(
    connection: sa.Connection, tenant: UUID, renewals: Collection[str], after: tuple[str, int], limit: int
) -> list[Renewed]:
    """Return what is part of some renewals, by bundle and position, after one of them; of erased bundles nothing."""
    values = {
        "tenant": str(tenant),
        "renewals": list(renewals),
        "bundle": after[0],
        "position": after[1],
        "limit": limit,
    }
    return [Renewed(*row) for row in connection.exec_driver_sql(_RENEWED_BY, values)]


def get(connection: sa.Connection, tenant: UUID, bundle_id: str) -> StoredBundle:
    """Return a bundle.

    Raises:
        NotFound: ``evidence.unknown``.
    """
    query = sa.select(*_COLUMNS).where(bundle_table.c.tenant == tenant, bundle_table.c.id == bundle_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound("evidence.unknown", "there is no such evidence bundle", subject=bundle_id)
    return _bundle(row)


def of_job(connection: sa.Connection, tenant: UUID, job: str) -> StoredBundle | None:
    """Return the bundle of a job, or None while it has none."""
    return of_jobs(connection, tenant, [job]).get(job)


def of_jobs(connection: sa.Connection, tenant: UUID, jobs: Sequence[str]) -> Mapping[str, StoredBundle]:
    """Return the bundles of jobs by job; those that have none are left out."""
    query = sa.select(*_COLUMNS).where(
        bundle_table.c.tenant == tenant, bundle_table.c.job == sa.any_(sa.cast(list(jobs), sa.ARRAY(sa.Text)))
    )
    return {row.job: _bundle(row) for row in connection.execute(query)}


def page(
    connection: sa.Connection, tenant: UUID, *, after: str | None = None, limit: int = PAGE_DEFAULT
) -> list[StoredBundle]:
    """Return bundles, ordered by id, after one of them; for audits of all there are."""
    query = sa.select(*_COLUMNS).where(bundle_table.c.tenant == tenant)
    if after is not None:
        query = query.where(bundle_table.c.id > after)
    query = query.order_by(bundle_table.c.id).limit(min(limit, PAGE_MAX))
    return [_bundle(row) for row in connection.execute(query)]


def sealed_since(
    connection: sa.Connection, tenant: UUID, since: dt.datetime | None, limit: int
) -> list[Placed]:
    """Return bundles sealed at an instant or later, oldest first, without their bytes; for copies elsewhere."""
    table = bundle_table.c
    query = sa.select(table.id, table.job, table.sealed_at, table.retain_until).where(table.tenant == tenant)
    if since is not None:
        query = query.where(bundle_table.c.sealed_at >= since)
    query = query.order_by(bundle_table.c.sealed_at, bundle_table.c.id).limit(limit)
    return [Placed(*row) for row in connection.execute(query)]


def _bundle(row: sa.Row[Any]) -> StoredBundle:  # Any: the columns of the table
    return StoredBundle(**row._mapping)
