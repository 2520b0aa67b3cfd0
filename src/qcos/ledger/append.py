"""Record acts in the scope that does them: no act without its record, no record without its act."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, OperationalError

from qcos.base.batcher import Batcher
from qcos.base.clock import now
from qcos.base.errors import Limit, Unavailable
from qcos.base.limits import BACKLOG_RETRY_S, GROUP_RECORDS, MAX_BACKLOG_ENTRIES, MAX_BACKLOG_S
from qcos.db.engine import bind_tenant, scope
from qcos.ledger import store
from qcos.ledger.record import Appended, Record, prepare


def append(
    connection: sa.Connection, tenant: UUID, records: Sequence[Record], *, at: dt.datetime | None = None
) -> list[Appended]:
    """Record acts in the caller's scope, in order, in one statement.

    The entries get their index, and are covered by a signed checkpoint, within a second after the scope
    commits. When the scope rolls back, nothing is left of them. When the sequencer has stood still for too long,
    the records are refused: acts that nobody could prove do not happen.

    Args:
        connection: A scope of the tenant.
        tenant: Whose records.
        records: What was done.
        at: When; by default now.

    Raises:
        Limit: ``ledger.record_size``.
        Unavailable: ``ledger.unavailable``, ``ledger.backlog``; end the scope: an act without its record does not
            happen.
    """
    instant = at or now()
    items = [prepare(tenant, record, instant) for record in records]
    write(connection, tenant, items)
    return items


def write(connection: sa.Connection, tenant: UUID, items: Sequence[Appended]) -> None:
    """Keep records that were prepared before (`qcos.ledger.record.prepare`), in one statement.

    Raises:
        Unavailable: ``ledger.unavailable``, ``ledger.backlog``; end the scope.
    """
    try:
        backlog = store.insert(connection, tenant, items)
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
    if backlog.entries > MAX_BACKLOG_ENTRIES + len(items) or backlog.age_s > MAX_BACKLOG_S:
        raise Unavailable(
            "ledger.backlog",
            "the ledger does not come on, so nothing was done",
            expected=f"at most {MAX_BACKLOG_ENTRIES} entries waiting, none longer than {MAX_BACKLOG_S:.0f} s",
            got=f"{backlog.entries - len(items)} entries waiting, the oldest for {backlog.age_s:.0f} s",
            hint="an administrator has to see to the sequencer (process `duties`: its log, its disk, its keys)",
            retry_after_s=BACKLOG_RETRY_S,
        )


@dataclass(frozen=True, slots=True)
class _Handed:
    tenant: UUID
    items: list[Appended]


class GroupAppender:
    """The append interface for many writers at once: whoever waits while one scope is written shares the next.

    For records that stand alone. An act's record belongs into the act's own scope: `append`. Durable when it
    returns; each caller's records stand together, in order, or not at all.

    Args:
        engine: As the application's role.
        limit: Most callers written in one scope; each gives at most `GROUP_RECORDS` records.
    """

    def __init__(self, engine: sa.Engine, *, limit: int = 64) -> None:
        self._engine = engine
        self._batcher = Batcher[_Handed, list[Appended]](self._write, limit=limit, name="ledger-append")

    def append(self, tenant: UUID, records: Sequence[Record]) -> list[Appended]:
        """Record acts of a tenant; returns when they are on the disk.

        Raises:
            Limit: ``ledger.record_size``, ``ledger.group_size``.
            Unavailable: ``ledger.unavailable``, ``ledger.backlog``, ``database.unavailable``: none is kept.
        """
        if len(records) > GROUP_RECORDS:
            raise Limit(
                "ledger.group_size",
                "too many records at once",
                expected=f"at most {GROUP_RECORDS}",
                got=str(len(records)),
                hint="hand them in in parts",
            )
        instant = now()
        items = [prepare(tenant, record, instant) for record in records]
        return self._batcher.submit(_Handed(tenant, items)).result()

    def close(self) -> None:
        """Write what waits, then end."""
        self._batcher.close()

    def _write(self, handed: Sequence[_Handed]) -> list[list[Appended]]:
        """Write all in one scope; row-level security wants the tenant bound, so each in turn."""
        by_tenant: dict[UUID, list[Appended]] = {}
        for one in handed:
            by_tenant.setdefault(one.tenant, []).extend(one.items)
        with scope(self._engine, None) as connection:
            for tenant, items in by_tenant.items():
                bind_tenant(connection, tenant)
                write(connection, tenant, items)
        return [one.items for one in handed]
