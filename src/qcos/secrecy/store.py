"""Table of the tenants' keys, wrapped by the installation's wrapping key.

Losing it, or the installation's wrapping key: every payload of every tenant is lost for ever; evidence that was
fetched and the ledger stay verifiable. Somebody who can write to it can make payloads unreadable, not readable: a
wrapped key opens only with the wrapping key and for the tenant and generation it was made for. Somebody who can
read it reads nothing without the wrapping key.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from qcos.base.errors import NotFound
from qcos.db.engine import metadata

tenant_key = sa.Table(
    "tenant_key",
    metadata,
    sa.Column("tenant", sa.Uuid, primary_key=True),
    sa.Column("generation", sa.Integer, primary_key=True),
    sa.Column("wrapped", sa.LargeBinary, nullable=False),
    sa.Column("wrapper", sa.Text, nullable=False),
    sa.Column("created", sa.DateTime(timezone=True), nullable=False),
)


@dataclass(frozen=True, slots=True)
class WrappedTenantKey:
    """One generation of a tenant's key as it is kept.

    Attributes:
        generation: From 1; the highest wraps new payload keys.
        wrapped: By the installation's wrapping key.
        wrapper: Id of that wrapping key.
        created: When, UTC.
    """

    generation: int
    wrapped: bytes
    wrapper: str
    created: dt.datetime


_COLUMNS = [column for column in tenant_key.c if column.name != "tenant"]


def newest(connection: sa.Connection, tenant: UUID) -> WrappedTenantKey | None:
    """Return the generation that wraps now; None before the first."""
    query = sa.select(*_COLUMNS).where(tenant_key.c.tenant == tenant)
    row = connection.execute(query.order_by(tenant_key.c.generation.desc()).limit(1)).first()
    return WrappedTenantKey(*row) if row else None


def get(connection: sa.Connection, tenant: UUID, generation: int) -> WrappedTenantKey:
    """Return a generation.

    Raises:
        NotFound: ``payload.tenant_key`` when it was never made, or was destroyed.
    """
    query = sa.select(*_COLUMNS).where(tenant_key.c.tenant == tenant, tenant_key.c.generation == generation)
    row = connection.execute(query).first()
    if row is None:
        raise NotFound(
            "payload.tenant_key",
            "the key of this tenant is gone",
            subject=f"generation {generation}",
            hint="the database was restored in part: restore the table tenant_key with the rest",
        )
    return WrappedTenantKey(*row)


def every(connection: sa.Connection, tenant: UUID) -> list[WrappedTenantKey]:
    """Return all generations, oldest first."""
    query = sa.select(*_COLUMNS).where(tenant_key.c.tenant == tenant).order_by(tenant_key.c.generation)
    return [WrappedTenantKey(*row) for row in connection.execute(query)]


def add(connection: sa.Connection, tenant: UUID, key: WrappedTenantKey) -> bool:
    """Keep a generation; False when somebody else made it meanwhile.

    Raises:
        NotFound: ``tenant.unknown``.
    """
    values = {name: getattr(key, name) for name in WrappedTenantKey.__slots__}
    statement = insert(tenant_key).values(tenant=tenant, **values).on_conflict_do_nothing()
    try:
        return connection.execute(statement.returning(tenant_key.c.generation)).first() is not None
    except IntegrityError:
        raise NotFound("tenant.unknown", "there is no such tenant", subject=str(tenant)) from None


def replace(connection: sa.Connection, tenant: UUID, old: WrappedTenantKey, new: WrappedTenantKey) -> bool:
    """Put the same key, wrapped anew, in the place of the old wrapping; False when it is there no more."""
    here = (
        (tenant_key.c.tenant == tenant)
        & (tenant_key.c.generation == old.generation)
        & (tenant_key.c.wrapped == old.wrapped)
    )
    changed = sa.update(tenant_key).where(here).values(wrapped=new.wrapped, wrapper=new.wrapper)
    return connection.execute(changed).rowcount == 1


def remove(connection: sa.Connection, tenant: UUID, generation: int) -> bool:
    """Destroy a generation: what it still wraps is lost."""
    here = (tenant_key.c.tenant == tenant) & (tenant_key.c.generation == generation)
    return connection.execute(sa.delete(tenant_key).where(here)).rowcount == 1
