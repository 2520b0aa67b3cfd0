"""Tables of retention: legal holds, and the latest instant the installation was seen running.

Losing the holds: what they covered is erased when its time comes; the ledger still names each (``hold.placed``).
Somebody who can write to them can release a hold without a record, which its ledger entry betrays, or stop all
erasing. Losing the clock's row stops erasing for nobody: it is made anew from the newest checkpoint.
"""

from __future__ import annotations

import datetime as dt
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from qcos.base.errors import NotFound
from qcos.base.limits import PAGE_DEFAULT, PAGE_MAX
from qcos.db.engine import metadata
from qcos.retention.model import Hold

legal_hold = sa.Table(
    "legal_hold",
    metadata,
    sa.Column("tenant", sa.Uuid, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("placed_by", sa.Text, nullable=False),
    sa.Column("placed_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("released_by", sa.Text),
    sa.Column("released_at", sa.DateTime(timezone=True)),
    sa.Column("release_reason", sa.Text),
)
retention_clock = sa.Table(
    "retention_clock",
    metadata,
    sa.Column("tenant", sa.Uuid, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("known", sa.DateTime(timezone=True), nullable=False),
)

_COLUMNS = [column for column in legal_hold.c if column.name != "tenant"]
_ERASING = "erasing"
_LOCK = "select pg_advisory_xact_lock(hashtextextended('qcos.retention/' || %(tenant)s, 0))"


def lock(connection: sa.Connection, tenant: UUID) -> None:
    """Let nobody else erase, place or release in this tenant until the scope ends: a hold is either seen or comes later."""
    connection.exec_driver_sql(_LOCK, {"tenant": str(tenant)})


def place(connection: sa.Connection, tenant: UUID, hold: Hold) -> None:
    """Keep a hold; the caller holds the `lock`."""
    values = {name: getattr(hold, name) for name in Hold.__slots__}
    connection.execute(sa.insert(legal_hold).values(tenant=tenant, **values))


def find(connection: sa.Connection, tenant: UUID, hold_id: str) -> Hold | None:
    """Return a hold, if there is one of this id."""
    query = sa.select(*_COLUMNS).where(legal_hold.c.tenant == tenant, legal_hold.c.id == hold_id)
    row = connection.execute(query).one_or_none()
    return Hold(*row) if row is not None else None


def get(connection: sa.Connection, tenant: UUID, hold_id: str) -> Hold:
    """Return a hold; raises NotFound ``hold.unknown``."""
    found = find(connection, tenant, hold_id)
    if found is None:
        raise NotFound(
            "hold.unknown", "there is no such hold", subject=hold_id, hint="list them with GET /v1/holds"
        )
    return found


def release(
    connection: sa.Connection, tenant: UUID, hold_id: str, by: str, at: dt.datetime, reason: str
) -> bool:
    """Release a hold; False when it was released before."""
    here = (legal_hold.c.tenant == tenant) & (legal_hold.c.id == hold_id) & legal_hold.c.released_at.is_(None)
    values = {"released_by": by, "released_at": at, "release_reason": reason}
    return connection.execute(sa.update(legal_hold).where(here).values(**values)).rowcount == 1


def covering(connection: sa.Connection, tenant: UUID, job_id: str, project: str) -> list[Hold]:
    """Return the holds that cover a job now, oldest first."""
    query = sa.select(*_COLUMNS).where(
        legal_hold.c.tenant == tenant,
        legal_hold.c.released_at.is_(None),
        sa.tuple_(legal_hold.c.kind, legal_hold.c.subject).in_(
            [("job", job_id.partition("~")[0]), ("project", project), ("tenant", "*")]
        ),
    )
    rows = connection.execute(query.order_by(legal_hold.c.placed_at, legal_hold.c.id))
    return [Hold(*row) for row in rows]


def held_now(connection: sa.Connection, tenant: UUID) -> frozenset[str]:
    """Return the ids of the holds that hold."""
    query = sa.select(legal_hold.c.id).where(
        legal_hold.c.tenant == tenant, legal_hold.c.released_at.is_(None)
    )
    return frozenset(connection.scalars(query))


def list_holds(
    connection: sa.Connection,
    tenant: UUID,
    *,
    held: bool | None = None,
    after: tuple[dt.datetime, str] | None = None,
    limit: int = PAGE_DEFAULT,
) -> list[Hold]:
    """Return holds, newest first; only those that hold (or not), after one of them."""
    query = sa.select(*_COLUMNS).where(legal_hold.c.tenant == tenant)
    if held is not None:
        query = query.where(legal_hold.c.released_at.is_(None) == held)
    if after is not None:
        query = query.where(sa.tuple_(legal_hold.c.placed_at, legal_hold.c.id) < sa.tuple_(*after))
    query = query.order_by(legal_hold.c.placed_at.desc(), legal_hold.c.id.desc())
    return [Hold(*row) for row in connection.execute(query.limit(min(limit, PAGE_MAX + 1)))]


def known_time(connection: sa.Connection, tenant: UUID) -> dt.datetime | None:
    """Return the latest instant at which the installation was seen running; None before the first look."""
    found: dt.datetime | None = connection.execute(
        sa.select(retention_clock.c.known).where(
            retention_clock.c.tenant == tenant, retention_clock.c.name == _ERASING
        )
    ).scalar()
    return found


def set_known_time(connection: sa.Connection, tenant: UUID, at: dt.datetime) -> None:
    """Note that the installation runs at ``at``."""
    statement = insert(retention_clock).values(tenant=tenant, name=_ERASING, known=at)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant", "name"], set_={"known": statement.excluded.known}
        )
    )
