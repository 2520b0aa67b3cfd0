"""Record acts in the scope that does them: no act without its record, no record without its act."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, OperationalError

from qcos.base.clock import now
from qcos.base.errors import Unavailable
from qcos.ledger import store
from qcos.ledger.record import Appended, Record, prepare


def append(
    connection: sa.Connection, tenant: UUID, records: Sequence[Record], *, at: dt.datetime | None = None
) -> list[Appended]:
    """Record acts in the caller's scope, in order, in one statement.

    The entries get their index, and are covered by a signed checkpoint, within a second after the scope
    commits. When the scope rolls back, nothing is left of them.

    Args:
        connection: A scope of the tenant.
        tenant: Whose records.
        records: What was done.
        at: When; by default now.

    Raises:
        Limit: ``ledger.record_size``.
        Unavailable: ``ledger.unavailable``; end the scope: an act without its record does not happen.
    """
    instant = at or now()
    items = [prepare(tenant, record, instant) for record in records]
    write(connection, tenant, items)
    return items


def write(connection: sa.Connection, tenant: UUID, items: Sequence[Appended]) -> None:
    """Keep records that were prepared before (`qcos.ledger.record.prepare`), in one statement.

    Raises:
        Unavailable: ``ledger.unavailable``; end the scope.
    """
    try:
        store.insert(connection, tenant, items)
    except (OperationalError, InterfaceError, DataError):  # the database is away; the record is wrong
        raise
    except DBAPIError as error:
        raise Unavailable(
            "ledger.unavailable",
            "the ledger does not take the entry, so nothing was done",
            got=str(error.orig).splitlines()[0][:200],
            hint="an administrator has to look: every act waits for the ledger",
            retry_after_s=5.0,
        ) from error
