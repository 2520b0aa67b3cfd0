"""Stage "submitted": the intent is written, then the vendor is asked, exactly once (R8.5, R12.2).

The intent (state ``submitting`` and the attempt) is committed before the driver is called. After a crash the next worker finds it and
asks the vendor for the job by its key before submitting anything.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from qcos.base.clock import now
from qcos.base.errors import DriverError
from qcos.base.limits import MAX_ATTEMPTS
from qcos.db.engine import scope
from qcos.db.queue import Task
from qcos.drivers.contract import Circuit, Driver, Handle, Work
from qcos.jobs import store
from qcos.jobs.lifecycle import QUEUED, RUNNING, SUBMITTING
from qcos.jobs.model import Job, Step
from qcos.jobs.spec import decode_base64
from qcos.jobs.tenants import by_tenant


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job this worker has taken, and the state it was in before (anything but ``queued`` means that a worker was lost)."""

    job: Job
    before: str


def claim(engine: sa.Engine, worker: str, tasks: Sequence[Task]) -> list[Claimed | None]:
    """Take jobs: write the intent to submit them. None for a job that has ended already.

    Returns:
        One answer for each task, in order.
    """
    taken: dict[Task, Claimed] = {}
    for tenant, group in by_tenant(tasks, lambda task: task.tenant).items():
        with scope(engine, tenant) as connection:
            step = Step("executing", now(), {"worker": worker})
            for job, before in store.claim(connection, tenant, [task.job for task in group], step):
                taken[Task(tenant, job.id)] = Claimed(job, before)
    return [taken.get(task) for task in tasks]


def work_of(job: Job) -> Work:
    """Return what the driver runs, from the job's own recorded spec."""
    spec = json.loads(job.spec)
    circuits = spec["circuits"] if "circuits" in spec else [spec["circuit"]]
    return Work(
        circuits=tuple(
            Circuit((decode_base64(c["source"]) or b"").decode(), c["format"], {k: float(v) for k, v in c.get("parameters", {}).items()})
            for c in circuits
        ),
        shots=spec["execution"]["shots"],
        seed=job.seed,
        options={},
    )


def submission_key(job: Job) -> str:
    """Return the key under which the vendor has this job at most once."""
    return f"{job.tenant}/{job.id}"


def submit(driver: Driver, claimed: Claimed) -> Handle:
    """Give a job to the vendor, or find it there when an earlier worker may have done so.

    Raises:
        DriverError: From the driver, or ``driver.workers_lost`` when the job has taken too many workers down with it.
    """
    job = claimed.job
    assert job.backend is not None  # noqa: S101 - it is placed
    if job.attempt > MAX_ATTEMPTS:
        raise DriverError(
            "driver.workers_lost",
            "the job was given up: each worker that took it was lost",
            subject=job.id,
            expected=f"at most {MAX_ATTEMPTS} attempts",
            got=str(job.attempt),
            hint="the circuit may need more memory than the worker has",
        )
    if claimed.before != QUEUED:
        if job.handle is not None and not driver.local:
            return Handle.from_dict(job.handle)
        if (found := driver.find(job.backend, submission_key(job))) is not None:
            return found
    return driver.submit(job.backend, work_of(job), submission_key(job))


def mark_running(engine: sa.Engine, submitted: Sequence[tuple[Job, Handle]]) -> list[bool]:
    """Write the vendor's handles. False for a job that another worker has taken since: let go of it."""
    ours: set[tuple[object, str]] = set()
    for tenant, group in by_tenant(submitted, lambda pair: pair[0].tenant).items():
        changes = [
            store.Change(job.id, job.attempt, RUNNING, handle=h.as_dict())
            for job, h in group
        ]
        with scope(engine, tenant) as connection:
            ours |= {(tenant, job_id) for job_id in store.advance(connection, tenant, changes, (SUBMITTING,))}
    return [(job.tenant, job.id) in ours for job, _ in submitted]


