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
from qcos.base.errors import DriverError, Integrity, Unavailable
from qcos.base.limits import MAX_ATTEMPTS
from qcos.db.engine import scope
from qcos.db.queue import Task
from qcos.drivers.contract import Circuit, Driver, Handle, Outcome, Work
from qcos.jobs import store
from qcos.jobs.conceal import reveal
from qcos.jobs.lifecycle import QUEUED, RUNNING, SUBMITTING
from qcos.jobs.model import Job, Step, keepable
from qcos.jobs.observe import fetch
from qcos.jobs.spec import decode_base64
from qcos.jobs.tenants import by_tenant
from qcos.secrecy.unlock import TenantKeys


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job this worker has taken, and the state it was in before (anything but ``queued`` means that a worker was lost).

    ``unreadable``: why its spec cannot be opened, if so.
    """

    job: Job
    before: str
    unreadable: Integrity | None = None


def claim(
    engine: sa.Engine, keys: TenantKeys, worker: str, tasks: Sequence[tuple[Task, bool]]
) -> list[Claimed | None]:
    """Take jobs: write the intent to submit them.

    Args:
        engine: As the application's role.
        keys: What opens the Job Specs.
        worker: Who takes them, for the record.
        tasks: Each with whether its job runs apart from other suspects. A suspect has lost `CROWD_ATTEMPTS` workers; it is taken only so.

    Returns:
        One answer for each task, in order: None for a job that has ended, and for a suspect that is not to run apart.

    Raises:
        Unavailable: Database or wrapping key away.
    """
    taken: dict[Task, Claimed] = {}
    groups = by_tenant(tasks, lambda pair: pair[0].tenant)
    for (
        tenant
    ) in groups:  # before any is taken: a wrapping key that is away costs no attempt, for no worker was lost
        keys.newest(tenant)
    for tenant, group in groups.items():
        ids, alone = [task.job for task, _ in group], [task.job for task, apart in group if apart]
        with scope(engine, tenant) as connection:
            step = Step("executing", now(), {"worker": worker})
            claimed = store.claim(connection, tenant, ids, step, alone)
        for job, before in claimed:
            try:
                taken[Task(tenant, job.id)] = Claimed(reveal(keys, job), before)
            except Integrity as error:  # this job's alone; the others of the batch go on
                taken[Task(tenant, job.id)] = Claimed(job, before, error)
    return [taken.get(task) for task, _ in tasks]


def work_of(job: Job) -> Work:
    """Return what the driver runs, from the job's own recorded spec."""
    spec = json.loads(job.spec)
    circuits = spec["circuits"] if "circuits" in spec else [spec["circuit"]]
    return Work(
        circuits=tuple(
            Circuit(
                (decode_base64(c["source"]) or b"").decode(),
                c["format"],
                {k: float(v) for k, v in c.get("parameters", {}).items()},
            )
            for c in circuits
        ),
        shots=spec["execution"]["shots"],
        seed=job.seed,
        options={},
        provenance=job.context["level"] == "full",
    )


def submission_key(job: Job) -> str:
    """Return the key under which the vendor has this job at most once."""
    return f"{job.tenant}/{job.id}"


def submit(driver: Driver, claimed: Claimed) -> Handle | None:
    """Give a job to the vendor, or find it there when an earlier worker may have done so.

    Returns:
        The vendor's handle; None when the job is to be cancelled and the vendor has none of it.

    Raises:
        DriverError: From the driver, ``driver.answer``, or ``driver.workers_lost`` when the job has taken too many workers down with it.
        Unavailable: The vendor does not answer; it may have the job: come again with ``before`` other than ``queued``.
    """
    job = claimed.job
    assert job.backend is not None  # noqa: S101 - it is placed
    if (found := _found(driver, claimed)) is not None:
        return found
    if job.cancel_requested:
        return None
    if job.attempt > MAX_ATTEMPTS:
        raise DriverError(
            "driver.workers_lost",
            "the job was given up: each worker that took it was lost",
            subject=job.id,
            expected=f"at most {MAX_ATTEMPTS} attempts",
            got=str(job.attempt),
            hint="the circuit may need more memory than the worker has",
        )
    return _checked(driver, driver.submit(job.backend, work_of(job), submission_key(job)))


def begin(driver: Driver, claimed: Claimed, wait_s: float) -> tuple[Handle | None, Outcome | None]:
    """As `submit`; of a run on this machine also the outcome, when it has ended within ``wait_s`` seconds."""
    handle = submit(driver, claimed)
    if handle is None or not driver.local:
        return handle, None
    try:
        return handle, fetch(driver, handle, wait_s)
    except Unavailable:  # it takes longer
        return handle, None


def _found(driver: Driver, claimed: Claimed) -> Handle | None:
    job = claimed.job
    if claimed.before == QUEUED or job.backend is None:
        return None
    if job.handle is not None and not driver.local:
        return Handle.from_dict(job.handle)
    found = driver.find(job.backend, submission_key(job))
    return found if found is None else _checked(driver, found)


def _checked(driver: Driver, handle: object) -> Handle:
    """Return a handle that can be written down."""
    if isinstance(handle, Handle) and keepable(handle.as_dict()):
        return handle
    raise DriverError(
        "driver.answer",
        "the driver gave no handle that can be kept",
        subject=driver.name,
        got=repr(handle)[:200],
    )


def mark_running(engine: sa.Engine, submitted: Sequence[tuple[Job, Handle]]) -> list[bool]:
    """Write the vendor's handles. False for a job that another worker has taken since: let go of it."""
    ours: set[tuple[object, str]] = set()
    for tenant, group in by_tenant(submitted, lambda pair: pair[0].tenant).items():
        changes = [store.Change(job.id, job.attempt, RUNNING, handle=h.as_dict()) for job, h in group]
        with scope(engine, tenant) as connection:
            ours |= {(tenant, job_id) for job_id in store.advance(connection, tenant, changes, (SUBMITTING,))}
    return [(job.tenant, job.id) in ours for job, _ in submitted]
