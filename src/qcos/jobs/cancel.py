"""Cancelling: at once while the job waits, through the driver while it runs, refused with the reason when it is too late."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from qcos.backends import store as backends
from qcos.backends.model import JobOutcome
from qcos.base.clock import now
from qcos.base.errors import Conflict
from qcos.db.engine import scope
from qcos.jobs import store
from qcos.jobs.lifecycle import CANCELLED, COLLECTED, FAILED, QUEUED, RUNNING, SUBMITTING, TERMINAL
from qcos.jobs.model import Ended, Job, Step
from qcos.jobs.tenants import by_tenant
from qcos.ledger.append import append
from qcos.ledger.record import Record, change
from qcos.metering import reserve


def cancel(connection: sa.Connection, job: Job, actor: str) -> Job:
    """Cancel a job, in the caller's scope.

    Returns:
        The job as it is now: ``cancelled``, or still ``submitting`` or ``running`` with the wish noted for its worker.

    Raises:
        Conflict: ``job.too_late`` when the result is collected or the job has ended otherwise.
    """
    if job.state == CANCELLED:
        return job
    if job.state == COLLECTED or job.state in TERMINAL:
        raise Conflict(
            "job.too_late",
            f"the job is {job.state} and cannot be cancelled",
            subject=job.id,
            expected=f"{QUEUED}, {SUBMITTING} or {RUNNING}",
            got=job.state,
        )
    if job.state == QUEUED:
        ended = _end(connection, [Ended(job, CANCELLED, {})], (QUEUED,), actor)
        if ended:
            return store.get(connection, job.tenant, job.id)
    store.request_cancel(connection, job.tenant, job.id)  # a worker has taken it
    return store.get(connection, job.tenant, job.id)


def end(engine: sa.Engine, endings: Sequence[Ended]) -> list[bool]:
    """Write that jobs ended without a result: reservation released, recorded. False for a job that is no longer this worker's."""
    done: set[tuple[object, str]] = set()
    for tenant, group in by_tenant(endings, lambda ended: ended.job.tenant).items():
        with scope(engine, tenant) as connection:
            moved = _end(connection, group, (SUBMITTING, RUNNING, COLLECTED), "service:qcos-worker")
            done |= {(tenant, job_id) for job_id in moved}
    return [(ended.job.tenant, ended.job.id) in done for ended in endings]


def _end(
    connection: sa.Connection, endings: Sequence[Ended], expected: Sequence[str], actor: str
) -> set[str]:
    tenant = endings[0].job.tenant
    changes = [
        store.Change(
            e.job.id,
            e.job.attempt,
            e.state,
            (
                Step(
                    "cancelled" if e.state == CANCELLED else "failed",
                    now(),
                    {"message": e.error.get("message", "")},
                ),
            ),
            error=e.error or None,
        )
        for e in endings
    ]
    moved = store.advance(connection, tenant, changes, expected)
    ours = [e for e in endings if e.job.id in moved]
    if ours:
        reserve.release(connection, tenant, [e.job.id for e in ours])
        append(connection, tenant, [_record(e, actor) for e in ours])
        failed = [JobOutcome(e.job.backend or "", False, 0.0) for e in ours if e.state == FAILED]
        if failed:
            backends.record_outcomes(connection, failed)
    return moved


def _record(ended: Ended, actor: str) -> Record:
    job, facts = ended.job, ended.executed or {}
    return Record(
        act="job.failed" if ended.state == FAILED else "job.cancelled",
        actor=actor,
        object=job.id,
        project=job.project,
        reason=str(ended.error.get("message", "asked for"))[:2000],
        details={
            "released": job.price,
            "currency": job.currency,
            "code": ended.error.get("code", ""),
            "change": change({"id": job.id, "state": job.state}, {"id": job.id, "state": ended.state}),
            "spec": job.spec_digest,
            "backend": job.backend,
            "remote_id": str(facts.get("remote_id") or (job.handle or {}).get("remote_id", ""))[:300],
            **{name: facts[name] for name in ("output", "shots_executed") if name in facts},
        },
    )
