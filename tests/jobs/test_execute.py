"""From the queue to settlement, failure or cancellation, with a vendor that costs money (R8.5, R8.6, R12.2, laws 3 and 6)."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.vendor import PaidDriver
from faults.world import World, make_execution, sealer_of, until
from qcos.base.canonical import digest
from qcos.base.clock import now
from qcos.base.errors import Conflict, Unavailable
from qcos.db.engine import scope
from qcos.drivers.contract import Handle, Outcome
from qcos.jobs import store
from qcos.jobs.conceal import RESULT, open_payload
from qcos.jobs.observe import Collected, load
from qcos.jobs.settle import bill_of
from qcos.jobs.submit import submission_key, work_of
from qcos.metering.price import shipped_book
from qcos.timestamp.authority import NoTime
from qcos.timestamp.fallback import Authority

Work = Callable[..., None]


def test_a_job_is_executed_sealed_and_settled_once(world: World, driver: PaidDriver, work: Work) -> None:
    """R8.5 to R8.9: one execution at the vendor, one bundle, one charge, whatever number of tasks there is."""
    task = world.submit()
    work(task)
    work(task)
    work(task)
    world.assert_completed_once(task)
    assert driver.vendor.executions() == {submission_key(world.job(task)): 1}
    assert world.nothing_reserved()


def test_a_task_delivered_many_times_at_once_is_executed_once(
    world: World, driver: PaidDriver, work: Work
) -> None:
    """Law 6: one execution at the vendor, however often the queue delivers the task while it is in hand."""
    task = world.submit()
    work(*[task] * 8)
    world.assert_completed_once(task)
    assert driver.vendor.executions() == {submission_key(world.job(task)): 1}


def test_many_jobs_at_once(world: World, driver: PaidDriver, work: Work) -> None:
    """R12.2: batches of stages do not mix jobs up: each has its own result, bundle and charge."""
    tasks = [world.submit(shots=n + 1) for n in range(12)]
    work(*tasks)
    for n, task in enumerate(tasks):
        world.assert_completed_once(task)
        assert world.job(task).outcome["shots_executed"] == n + 1  # type: ignore[index]
        assert world.job(task).charge == 300_000 + (n + 1) * 1_450
    assert set(driver.vendor.executions().values()) == {1}
    assert world.nothing_reserved()


def test_a_failed_job_costs_nothing(world: World, driver: PaidDriver, work: Work) -> None:
    """Law 3: what the vendor failed is released; the reason is the job's error and is recorded."""
    driver.vendor.mood = "failed"
    task = world.submit()
    work(task)
    world.assert_ended_once(task, "failed")
    error = world.job(task).error
    assert error is not None and "family" in error and "code" in error
    (record,) = world.rows(
        "select convert_from(record, 'utf8')::json->'details'->>'code' from qcos.ledger_record where act = 'job.failed'"
    )
    assert record[0] == error["code"]


def test_a_queued_job_is_cancelled_at_once(world: World, driver: PaidDriver, work: Work) -> None:
    """R8.5: nothing reaches the vendor; cancelling again changes nothing."""
    task = world.submit()
    assert world.cancel(task).state == "cancelled"
    assert world.cancel(task).state == "cancelled"
    work(task)
    world.assert_ended_once(task, "cancelled")
    assert driver.vendor.executions() == {}


def test_a_running_job_is_cancelled_at_the_vendor(world: World, driver: PaidDriver, work: Work) -> None:
    """R8.5: the wish is noted, the worker carries it out through the driver."""
    driver.vendor.mood = "running"
    task = world.submit()
    worker = threading.Thread(target=work, args=(task,))
    worker.start()
    until(lambda: world.job(task).state == "running", "the job runs")
    asked = world.cancel(task)
    assert (asked.state, asked.cancel_requested) == ("running", True)
    worker.join(60)
    assert not worker.is_alive()
    world.assert_ended_once(task, "cancelled")


def test_a_job_that_has_ended_is_not_cancelled(world: World, work: Work) -> None:
    """R8.5: 409, and everything stays."""
    task = world.submit()
    work(task)
    with pytest.raises(Conflict) as caught:
        world.cancel(task)
    assert (caught.value.code, caught.value.got) == ("job.too_late", "completed")
    world.assert_completed_once(task)


def test_the_driver_gets_what_was_asked(world: World) -> None:
    """R1.1, R2.2: source, format, parameters, shots and seed, from the recorded spec."""
    given = work_of(world.admit(seed=5, shots=9).job)
    assert (given.shots, given.seed) == (9, 5)
    assert given.circuits[0].source.startswith("OPENQASM 3.0;") and given.circuits[0].format == "QASM3"


def test_the_drivers_own_meters_are_billed(world: World, driver: PaidDriver, work: Work) -> None:
    """R6.1: the names of the driver's contract reach the bill: 1,000 µs of QPU time were reported, less than the wall clock."""
    task = world.submit()
    work(task)
    usage = dict(map(tuple, world.rows("select meter, quantity from qcos.usage")))
    assert usage["qpu_time_us"] == 1000
    job = world.job(task)
    assert job.outcome is not None and job.outcome["provider_queue_ms"] == 7
    assert usage["queue_time_us"] == job.outcome["queue_ms"] * 1000 >= 7000  # ours and the vendor's
    assert usage["shots"] == 100 and usage["circuit_depth"] == 3
    assert usage["cpu_time_us"] == 0
    kept = load(world.engine, world.admission.tenant_keys, world.job(task))
    assert usage["egress_bytes"] == len(kept.payload)


def test_a_job_is_billed_by_the_book_it_was_admitted_under(world: World, work: Work) -> None:
    """Law 8: a job whose price book this release does not have waits; another one is never applied."""
    task = world.submit()
    work(task)
    job = world.job(task)
    with scope(world.engine, world.tenant) as connection:
        stored = store.get_results(connection, world.tenant, [job.id])[job.id]
    payload = world.opened(job, RESULT, stored)
    assert job.outcome is not None
    assert bill_of(Collected(job, payload, job.outcome), shipped_book()).amount == job.charge
    other = dataclasses.replace(job, price_book="2020-01 sha256:0")
    with pytest.raises(Unavailable) as caught:
        bill_of(Collected(other, payload, job.outcome), shipped_book())
    assert caught.value.code == "pricebook.missing"


class FastClock(PaidDriver):
    """Its clock is an hour ahead: no true evidence can be made of what it says."""

    def result(self, handle: Handle, wait_s: float | None = None) -> Outcome:
        return dataclasses.replace(super().result(handle, wait_s), ended=now() + dt.timedelta(hours=1))


def test_a_result_that_cannot_be_sealed_ends_its_job(world: World, tmp_path: Path) -> None:
    """Law 3: the job fails with the reason, its reservation is released, and it is not taken up again for ever."""
    execution = make_execution(world.engine, [FastClock(tmp_path / "vendor")], world.keys)
    task = world.submit()
    asyncio.run(execution.handle(task))
    asyncio.run(execution.handle(task))
    execution.close()
    world.assert_ended_once(task, "failed")
    error = world.job(task).error
    assert error is not None and error["code"] == "evidence.time"
    assert world.nothing_reserved()


def test_a_result_that_cannot_be_sealed_leaves_its_trace(world: World, tmp_path: Path) -> None:
    """R4.1: it was executed, perhaps paid for: the ledger says how many shots, and commits to the result that is kept."""
    execution = make_execution(world.engine, [FastClock(tmp_path / "vendor")], world.keys)
    task = world.submit(shots=7)
    asyncio.run(execution.handle(task))
    execution.close()
    job = world.job(task)
    (row,) = world.rows(
        "select convert_from(record, 'utf8')::json->'details' from qcos.ledger_record where act = 'job.failed'"
    )
    with scope(world.engine, world.tenant) as connection:
        kept = store.get_results(connection, world.tenant, [job.id])[job.id]
    result = open_payload(execution.keys, world.tenant, job.id, job.payload_key, RESULT, kept)
    assert (row[0]["shots_executed"], row[0]["output"]) == (7, digest(result))
    assert row[0]["remote_id"]


def test_evidence_waits_for_a_time_stamp(world: World, driver: PaidDriver) -> None:
    """R1.2, law 6: while no authority names the time the result is kept; the job is executed once and ends well."""

    class Away:
        """An authority that is away for the first requests."""

        def __init__(self, authority: Authority) -> None:
            self.authority, self.asked = authority, 0

        def stamp_digest(self, digest: bytes) -> bytes:
            self.asked += 1
            if self.asked <= 2:
                raise NoTime("timestamp.unavailable", "nobody knows the time")
            return self.authority.stamp_digest(digest)

    sealer = sealer_of(world.keys)
    away = Away(sealer.authority)
    execution = make_execution(
        world.engine, [driver], world.keys, sealer=dataclasses.replace(sealer, authority=away)
    )
    task = world.submit()
    asyncio.run(execution.handle(task))
    execution.close()
    world.assert_completed_once(task)
    assert world.job(task).attempt == 1
    assert driver.vendor.executions() == {submission_key(world.job(task)): 1}
    assert away.asked == 3
