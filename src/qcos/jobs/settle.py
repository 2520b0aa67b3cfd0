"""Stage "settled": metered, priced, charged, recorded, in one scope with the sealed evidence (R5.3, R5.4, R6.1, R8.8, R8.9).

Measuring, pricing and signing come first and touch nothing; then one scope per tenant writes everything for the jobs that are still this
worker's: bundle, ledger records, usage, charges, the reservation's end, the job's state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa

from qcos.backends import store as backends
from qcos.backends.model import JobOutcome
from qcos.base.clock import now
from qcos.base.errors import Integrity
from qcos.db.engine import scope
from qcos.evidence import store as evidence
from qcos.evidence.model import Sealed
from qcos.evidence.store import StoredBundle
from qcos.jobs import store
from qcos.jobs.conceal import BUNDLE, seal_payload
from qcos.jobs.lifecycle import COLLECTED, COMPLETED, SUBMITTING
from qcos.jobs.model import Step
from qcos.jobs.observe import Collected, Concealed, conceal, insert, step_of
from qcos.jobs.seal import Sealing
from qcos.jobs.tenants import by_tenant
from qcos.ledger.append import write
from qcos.ledger.record import Appended, Record, change, prepare
from qcos.metering import reserve
from qcos.metering import store as metering
from qcos.metering.measure import measure
from qcos.metering.model import Bill, Settlement
from qcos.metering.price import PriceBook, charges, find_book
from qcos.secrecy.unlock import TenantKeys
from qcos.telemetry.variables import exporters

_REPORTED = {
    "qpu_us": "qpu_time_us",
    "cpu_us": "cpu_time_us",
    "memory_peak_bytes": "memory_peak_bytes",
}  # metering's name: the driver's


@dataclass(frozen=True, slots=True)
class Settled:
    """A job ready to be written: its bill, its evidence (``kept``: the document encrypted), the records of both, and its result if that
    is not kept yet.
    """

    collected: Collected
    bill: Bill
    sealed: Sealed
    kept: bytes
    evidence_record: Appended
    charge_record: Appended
    result: Concealed | None


@dataclass(frozen=True, slots=True)
class Settler:
    """Seals and settles collected jobs."""

    engine: sa.Engine
    sealer: Sealing
    book: PriceBook
    keys: TenantKeys

    def seal_and_settle(self, batch: Sequence[Collected]) -> list[bool]:
        """Finish jobs. False for a job that another worker has finished or taken since."""
        done: set[tuple[UUID, str]] = set()
        for tenant, group in by_tenant(batch, lambda collected: collected.job.tenant).items():
            ready = self._prepare_all(group)
            with scope(self.engine, tenant) as connection:
                done |= {(tenant, job_id) for job_id in _write(connection, tenant, ready)}
        return [(collected.job.tenant, collected.job.id) in done for collected in batch]

    def _prepare_all(self, group: Sequence[Collected]) -> list[Settled]:
        billed = [(collected, bill_of(collected, self.book)) for collected in group]
        sealed = self.sealer.seal_all(billed)
        return [self._prepare(*pair, one) for pair, one in zip(billed, sealed, strict=True)]

    def _prepare(self, collected: Collected, bill: Bill, sealed: Sealed) -> Settled:
        job, at = collected.job, now()
        delegation = tuple(job.context["delegation"])
        evidence_record = prepare(
            job.tenant,
            Record(
                "evidence.sealed",
                job.actor,
                sealed.bundle_id,
                job.project,
                delegation=delegation,
                details=sealed.ledger_details | {"change": change(None, sealed.document_digest)},
            ),
            at,
        )
        charge = {
            "amount": bill.amount,
            "currency": bill.currency,
            "reserved": job.price,
            "cost_center": job.cost_center,
            "price_book": bill.price_book,
            "shots": collected.facts["shots_executed"],
        }
        charge_record = prepare(
            job.tenant,
            Record(
                "cost.charged",
                job.actor,
                job.id,
                job.project,
                delegation=delegation,
                details=charge | {"change": change(None, charge)},
            ),
            at,
        )
        kept = seal_payload(self.keys, job, BUNDLE, sealed.document)
        result = None if collected.kept else conceal(self.keys, collected)
        return Settled(collected, bill, sealed, kept, evidence_record, charge_record, result)


def bill_of(collected: Collected, book: PriceBook) -> Bill:
    """Meter and price a job, with the price book it was admitted under.

    Args:
        collected: The job's result.
        book: The newest book; an older one is looked up when the job was admitted under it.

    Raises:
        Unavailable: ``pricebook.missing``: the job waits until the book is there.
    """
    job, ran = collected.job, collected.facts
    if job.price_book != book.id:
        book = find_book(job.price_book or "")
    where = (job.placement or {})["where"]
    meters = ran["meters"]
    usages = measure(
        kind=where["kind"],
        tasks=len(job.facts),
        shots=ran["shots_executed"],
        started=collected.started,
        ended=collected.ended,
        queue_us=ran["queue_ms"] * 1000,
        depth=ran["compiled_depth"],
        egress_bytes=len(collected.payload),
        reported={ours: meters[theirs] for ours, theirs in _REPORTED.items() if theirs in meters},
    )
    assert job.price is not None and job.currency is not None  # noqa: S101 - it was placed
    return Bill(
        job=job.id,
        project=job.project,
        team=job.team,
        cost_center=job.cost_center,
        backend=job.backend or "",
        currency=job.currency,
        price_key=where["price_key"],
        price_book=book.id,
        usages=usages,
        lines=charges(book, where["price_key"], usages, job.price),
        at=now(),
    )


def _write(connection: sa.Connection, tenant: UUID, ready: Sequence[Settled]) -> set[str]:
    kept, fresh = [s for s in ready if s.collected.kept], [s for s in ready if not s.collected.kept]
    moved = store.advance(connection, tenant, [_change(s) for s in kept], (COLLECTED,))
    moved |= store.advance(connection, tenant, [_change(s) for s in fresh], (SUBMITTING,))
    insert(connection, tenant, [s.result for s in fresh if s.result and s.result.job in moved])
    ours = [s for s in ready if s.collected.job.id in moved]
    if not ours:
        return moved
    write(connection, tenant, [record for s in ours for record in (s.evidence_record, s.charge_record)])
    evidence.insert_bundles(connection, tenant, [_stored(s) for s in ours])
    metering.record_usage(connection, tenant, [s.bill for s in ours])
    # From here on rows are locked that other scopes need: the project's month, the team's day, the backend's history.
    settlements = [Settlement(s.bill.job, s.bill.amount, s.collected.facts["shots_executed"]) for s in ours]
    settled = reserve.settle(connection, tenant, settlements)
    if settled != moved:
        raise Integrity(
            "settlement.lost",
            "a job has no open reservation to settle",
            subject=", ".join(sorted(moved - settled))[:500],
            hint="compare reservations with charges: qcos.metering.audit",
        )
    metering.record_charges(connection, tenant, [s.bill for s in ours])
    outcomes = [JobOutcome(s.bill.backend, True, _seconds(s.collected)) for s in ours]
    backends.record_outcomes(connection, outcomes)
    return moved


def _change(settled: Settled) -> store.Change:
    collected, job = settled.collected, settled.collected.job
    before, outcome = ((), None) if collected.kept else ((step_of(collected),), collected.facts)
    return store.Change(
        job.id,
        job.attempt,
        COMPLETED,
        (*before, *_steps(settled)),
        outcome=outcome,
        charge=settled.bill.amount,
        bundle=settled.sealed.bundle_id,
    )


def _steps(settled: Settled) -> tuple[Step, ...]:
    sealed, bill, at = settled.sealed, settled.bill, now()
    return (
        Step(
            "evidenced",
            at,
            {
                "bundle": sealed.bundle_id,
                "statement": sealed.statement_digest,
                "clock_drift_ms": sealed.drift_ms,
            },
        ),
        Step(
            "recorded", at, {"records": [settled.evidence_record.record_id, settled.charge_record.record_id]}
        ),
        Step(
            "charged", at, {"amount": bill.amount, "currency": bill.currency, "cost_center": bill.cost_center}
        ),
        Step(
            "exported",
            at,
            {"trace": settled.collected.job.trace, "to": ", ".join(exporters("traces")) or "no exporter"},
        ),
    )


def _stored(settled: Settled) -> StoredBundle:
    sealed = settled.sealed
    return StoredBundle(
        id=sealed.bundle_id,
        job=sealed.job_id,
        document=settled.kept,
        statement_digest=sealed.statement_digest,
        record_id=settled.evidence_record.record_id,
        sealed_at=sealed.sealed_at,
        retain_until=sealed.retain_until,
    )


def _seconds(collected: Collected) -> float:
    return (collected.ended - collected.started).total_seconds()
