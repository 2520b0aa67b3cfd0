"""Erasing what was kept of jobs (R4.3): by time, or because somebody wants it gone; never under a legal hold.

One scope destroys the payload key, takes away what it encrypted, and records ``payload.erased``: nothing is erased without its record. The
proofs stay: the ledger's records of sealing and of erasing are what an *erased bundle* is made of (`qcos.evidence.erased`).
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa

from qcos.base.canonical import digest
from qcos.base.clock import now, rfc3339
from qcos.base.errors import Conflict
from qcos.base.limits import ERASURE_BATCH
from qcos.db.engine import scope
from qcos.identity import store as identity
from qcos.jobs import payloads
from qcos.ledger import store as ledger
from qcos.ledger.append import append
from qcos.ledger.record import Record
from qcos.retention import store
from qcos.retention.decide import check_clock, due_before, rule_of
from qcos.retention.model import Due, Erasure

KEEPER = "service:qcos-retention"
_KNOWN_EVERY = dt.timedelta(hours=1)
_log = logging.getLogger("qcos.retention")


@dataclass(frozen=True, slots=True)
class Round:
    """What a round of erasing did in all tenants: payloads erased, and tenants whose clock was not believed."""

    erased: int
    stopped: tuple[UUID, ...]


def erase_due(engine: sa.Engine, *, at: dt.datetime | None = None, batch: int = ERASURE_BATCH) -> Round:
    """Erase everything whose time has come, in all tenants. Several at once are harmless, and so is a kill at any point.

    Args:
        engine: As the application's role.
        at: What time it is; now by default.
        batch: Payloads erased in one scope.
    """
    instant = at or now()
    with scope(engine, None) as connection:
        tenants = [tenant for tenant, _ in identity.tenants(connection)]
    erased, stopped = 0, []
    for tenant in tenants:
        try:
            while (count := _erase_batch(engine, tenant, instant, batch)) > 0:
                erased += count
        except Conflict as refused:
            _log.error("nothing is erased: %s", refused, extra={"tenant": str(tenant), "code": refused.code})
            stopped.append(tenant)
    return Round(erased, tuple(stopped))


def _erase_batch(engine: sa.Engine, tenant: UUID, at: dt.datetime, batch: int) -> int:
    with scope(engine, tenant) as connection:
        mind_clock(connection, tenant, at)
        if not payloads.due(connection, tenant, due_before(at), 1):
            return 0
        store.lock(connection, tenant)
        due = payloads.due(
            connection, tenant, due_before(at), batch
        )  # again: a hold may have come before the lock
        return len(
            erase(connection, tenant, due, {d.job: rule_of(d.retention_days) for d in due}, by=KEEPER, at=at)
        )


def mind_clock(connection: sa.Connection, tenant: UUID, at: dt.datetime) -> None:
    """Demand a plausible clock, and note that it was.

    The first time, the ledger's newest checkpoint is when the installation was seen last.

    Raises:
        Conflict: ``erasure.clock``.
    """
    known = store.known_time(connection, tenant)
    seen = known or ledger.latest_checkpoint_time(connection) or at
    check_clock(seen, at)
    if known is None or abs(at - known) > _KNOWN_EVERY:
        store.set_known_time(connection, tenant, at)


def erase(
    connection: sa.Connection,
    tenant: UUID,
    due: Sequence[Due],
    rules: dict[str, str],
    *,
    by: str,
    at: dt.datetime,
    delegation: tuple[str, ...] = (),
    **details: str,
) -> set[str]:
    """Erase the payloads of jobs, in the caller's scope, which holds the lock of `qcos.retention.store`.

    Args:
        rules: Under what, by job.
        by: Who wants it.
        details: What the records say besides.

    Returns:
        The jobs erased: those whose key was there still.
    """
    if not due:
        return set()
    records = append(
        connection,
        tenant,
        [_record(one, rules[one.job], by, delegation, details) for one in due],
        at=at,
    )
    erased = {
        one.job: Erasure(rfc3339(at), rules[one.job], by, record.record_id).as_dict()
        for one, record in zip(due, records, strict=True)
    }
    wiped = payloads.wipe(connection, tenant, erased)
    if wiped != erased.keys():  # nobody else erases under the lock; a record without its act would be a lie
        raise Conflict("erasure.meanwhile", "the payloads changed meanwhile", hint="try again")
    return wiped


def _record(due: Due, rule: str, by: str, delegation: tuple[str, ...], details: dict[str, str]) -> Record:
    return Record(
        act="payload.erased",
        actor=by,
        object=due.bundle or due.job,
        project=due.project,
        reason=rule,
        delegation=delegation,
        details={
            "job": due.job,
            "bundle": due.bundle,
            "sealed": due.sealed_record,
            "statement": due.statement_digest,
            "rule": rule,
            "retainUntil": rfc3339(due.retain_until),
            "key": digest(due.payload_key),
            **details,
        },
    )
