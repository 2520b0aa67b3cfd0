"""Stage "collected": follow the job at the vendor until it ends, and bring its result home (R8.6).

The result is committed before anything is made of it: from then on no crash can lose it. Only that of a short run on this machine, which
costs less to run again than to commit, is committed together with what is made of it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from qcos.base.canonical import canonical, digest
from qcos.base.clock import now, parse_rfc3339, rfc3339
from qcos.base.errors import DriverError
from qcos.base.limits import MAX_MICRO
from qcos.db.engine import scope
from qcos.drivers.contract import Driver, Handle, Outcome
from qcos.evidence import materials
from qcos.evidence.materials import StoredMaterial
from qcos.jobs import store
from qcos.jobs.conceal import RESULT, material_name, open_payload, seal_payload
from qcos.jobs.lifecycle import COLLECTED, RUNNING, SUBMITTING
from qcos.jobs.model import Job, Step, keepable
from qcos.jobs.provenance import gather
from qcos.jobs.tenants import by_tenant
from qcos.secrecy.unlock import TenantKeys


@dataclass(frozen=True, slots=True)
class Collected:
    """A result that is ours.

    Attributes:
        payload: Canonical JSON of the result: what ``output_hash`` is over.
        facts: What the driver said of the run, without the counts; kept in the job's row.
        materials: Documents of the evidence level ``full`` that are to be kept; empty once they are.
        kept: It is committed already.
    """

    job: Job
    payload: bytes
    facts: dict[str, Any]
    materials: tuple[StoredMaterial, ...] = ()
    kept: bool = True

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


def fetch(driver: Driver, handle: Handle, wait_s: float) -> Outcome:
    """Return what `Driver.result` gives, when it is an outcome at all.

    Raises:
        DriverError: From the driver; ``driver.answer``.
        Unavailable: ``driver.not_done`` when the job has not ended in that time; the vendor does not answer.
    """
    given: object = driver.result(handle, wait_s)
    if not isinstance(given, Outcome):
        raise DriverError(
            "driver.answer", "the driver gave no outcome", subject=driver.name, got=repr(given)[:200]
        )
    return given


def collected(job: Job, outcome: Outcome, remote_id: str, *, kept: bool = True) -> Collected:
    """Turn a driver's outcome into the result that is kept.

    ``queue_ms`` is all the waiting from admission to the start, ours and the provider's; the provider's own figure stands beside it.

    Raises:
        DriverError: ``driver.answer`` when the outcome is not what the contract promises; nothing could be proved with it.
    """
    if wrong := _wrong(outcome, len(job.facts)):
        raise DriverError(
            "driver.answer",
            f"the driver gave an outcome that cannot be kept: {wrong}",
            subject=job.driver or "",
        )
    payload = canonical(
        {
            "job_id": job.id,
            "backend": job.backend,
            "circuits": [
                {"counts": dict(counts), "shots": sum(counts.values())} for counts in outcome.counts
            ],
        }
    )
    facts = {
        "started": rfc3339(outcome.started),
        "ended": rfc3339(outcome.ended),
        "shots_executed": outcome.shots_executed,
        "remote_id": remote_id,
        "queue_ms": max(outcome.queue_ms, (outcome.started - job.created) // dt.timedelta(milliseconds=1)),
        "provider_queue_ms": outcome.queue_ms,
        "seed": outcome.seed,
        "compiler": outcome.compiler,
        "compiled_depth": outcome.compiled_depth,
        "metadata": outcome.metadata,
        "meters": dict(outcome.meters),
        "output": digest(payload),
    }
    if job.context["level"] != "full":
        return Collected(job, payload, facts, kept=kept)
    told = gather(job, outcome.provenance)
    return Collected(job, payload, facts | {"provenance": told.facts}, told.materials, kept)


def _wrong(given: Any, circuits: int) -> str:  # Any: an outcome by somebody whose members may be anything
    """Return what is wrong with an outcome; empty: nothing."""
    if not isinstance(given.counts, tuple | list) or len(given.counts) != circuits:
        return f"not one count for each of {circuits} circuits"
    numbers = [given.shots_executed, given.queue_ms, given.compiled_depth]
    for counts in given.counts:
        if not isinstance(counts, Mapping) or not all(
            isinstance(bits, str) and set(bits) <= set("01 ") for bits in counts
        ):
            return "counts are not by bit string"
        numbers += counts.values()
    if not isinstance(given.meters, Mapping) or not isinstance(given.metadata, Mapping):
        return "meters or metadata are no mapping"
    numbers += given.meters.values()
    if not all(type(n) is int and 0 <= n <= MAX_MICRO for n in numbers):
        return "a number is no integer from 0 to 2^53-1"
    if not all(isinstance(at, dt.datetime) and at.tzinfo is not None for at in (given.started, given.ended)):
        return "times have no zone"
    if given.ended < given.started:
        return "it ended before it started"
    if not isinstance(given.compiler, str) or not keepable(
        [given.seed, given.compiler, given.metadata, dict(given.meters)]
    ):
        return "metadata is not JSON"
    return ""


def keep(engine: sa.Engine, keys: TenantKeys, results: Sequence[Collected]) -> list[bool]:
    """Commit results. False for a job that another worker has taken since: its result is not ours to keep."""
    ours: set[tuple[object, str]] = set()
    for tenant, group in by_tenant(results, lambda c: c.job.tenant).items():
        changes = [
            store.Change(c.job.id, c.job.attempt, COLLECTED, (step_of(c),), outcome=c.facts) for c in group
        ]
        rows = [conceal(keys, c) for c in group]
        with scope(engine, tenant) as connection:
            moved = store.advance(connection, tenant, changes, (SUBMITTING, RUNNING))
            insert(connection, tenant, [row for row in rows if row.job in moved])
            ours |= {(tenant, job_id) for job_id in moved}
    return [(c.job.tenant, c.job.id) in ours for c in results]


@dataclass(frozen=True, slots=True)
class Concealed:
    """A result as it is kept: sealed, with the digest of what was sealed, and its sealed materials."""

    job: str
    payload: bytes
    digest: str
    materials: tuple[StoredMaterial, ...]


def conceal(keys: TenantKeys, result: Collected) -> Concealed:
    """Seal a result and what belongs to it; never inside a scope (`qcos.secrecy.unlock`)."""
    job = result.job
    documents = (
        replace(m, payload=seal_payload(keys, job, material_name(m.name), m.payload))
        for m in result.materials
    )
    return Concealed(job.id, seal_payload(keys, job, RESULT, result.payload), result.digest, tuple(documents))


def insert(connection: sa.Connection, tenant: UUID, rows: Sequence[Concealed]) -> None:
    """Keep results in the caller's scope."""
    store.insert_results(connection, tenant, [(row.job, row.payload, row.digest) for row in rows])
    materials.insert(connection, tenant, [material for row in rows for material in row.materials])


def load(engine: sa.Engine, keys: TenantKeys, job: Job) -> Collected:
    """Return the kept result of a job that was collected by a worker that is gone."""
    with scope(engine, job.tenant) as connection:
        kept = store.get_results(connection, job.tenant, [job.id])[job.id]
    payload = open_payload(keys, job.tenant, job.id, job.payload_key, RESULT, kept)
    assert job.outcome is not None  # noqa: S101 - written with the result
    return Collected(job, payload, job.outcome)


def step_of(collected: Collected) -> Step:
    """Return the job's step ``collected``."""
    facts = collected.facts
    return Step(
        "collected",
        now(),
        {"output": facts["output"], "shots_executed": facts["shots_executed"], "queue_ms": facts["queue_ms"]},
    )
