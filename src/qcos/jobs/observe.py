"""Stage "collected": follow the job at the vendor until it ends, and bring its result home (R8.6).

The result is committed before anything is made of it: from then on no crash can lose it.
"""

from __future__ import annotations

import datetime as dt

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from qcos.base.canonical import canonical, digest
from qcos.base.clock import now, parse_rfc3339, rfc3339
from qcos.db.engine import scope
from qcos.drivers.contract import Outcome
from qcos.jobs import store
from qcos.jobs.lifecycle import COLLECTED, RUNNING, SUBMITTING
from qcos.jobs.model import Job, Step
from qcos.jobs.tenants import by_tenant



@dataclass(frozen=True, slots=True)
class Collected:
    """A result that is ours.

    Attributes:
        payload: Canonical JSON of the result: what ``output_hash`` is over.
        facts: What the driver said of the run, without the counts; kept in the job's row.
    """

    job: Job
    payload: bytes
    facts: dict[str, Any]

    @property
    def digest(self) -> str:
        """Return the evidence's ``output_hash``."""
        return digest(self.payload)

    @property
    def started(self) -> dt.datetime:
        """Return when the run began, by the driver."""
        return parse_rfc3339(self.facts["started"])

    @property
    def ended(self) -> dt.datetime:
        """Return when the run ended, by the driver."""
        return parse_rfc3339(self.facts["ended"])


def collected(job: Job, outcome: Outcome) -> Collected:
    """Turn a driver's outcome into the result that is kept."""
    payload = canonical(
        {
            "job_id": job.id,
            "backend": job.backend,
            "circuits": [{"counts": dict(counts), "shots": sum(counts.values())} for counts in outcome.counts],
        }
    )
    facts = {
        "started": rfc3339(outcome.started),
        "ended": rfc3339(outcome.ended),
        "shots_executed": outcome.shots_executed,
        "queue_ms": outcome.queue_ms,
        "seed": outcome.seed,
        "compiler": outcome.compiler,
        "compiled_depth": outcome.compiled_depth,
        "metadata": outcome.metadata,
        "meters": dict(outcome.meters),
        "output": digest(payload),
    }
    return Collected(job, payload, facts)


def keep(engine: sa.Engine, results: Sequence[Collected]) -> list[bool]:
    """Commit results. False for a job that another worker has taken since: its result is not ours to keep."""
    ours: set[tuple[object, str]] = set()
    for tenant, group in by_tenant(results, lambda c: c.job.tenant).items():
        changes = [store.Change(c.job.id, c.job.attempt, COLLECTED, (_step(c),), outcome=c.facts) for c in group]
        with scope(engine, tenant) as connection:
            moved = store.advance(connection, tenant, changes, (SUBMITTING, RUNNING))
            store.insert_results(connection, tenant, [(c.job.id, c.payload, c.digest) for c in group if c.job.id in moved])
            ours |= {(tenant, job_id) for job_id in moved}
    return [(c.job.tenant, c.job.id) in ours for c in results]


def load(engine: sa.Engine, job: Job) -> Collected:
    """Return the kept result of a job that was collected by a worker that is gone."""
    with scope(engine, job.tenant) as connection:
        payload = store.get_results(connection, job.tenant, [job.id])[job.id]
    assert job.outcome is not None  # noqa: S101 - written with the result
    return Collected(job, payload, job.outcome)


def _step(collected: Collected) -> Step:
    facts = collected.facts
    return Step("collected", now(), {"output": facts["output"], "shots_executed": facts["shots_executed"], "queue_ms": facts["queue_ms"]})
