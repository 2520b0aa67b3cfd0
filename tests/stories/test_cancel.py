"""Cancelling works in every state, gives back what was reserved, and is refused with the reason when it is too late (R8.5)."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

from qcos.base.errors import Conflict, Denied, NotFound

from .house import House

GATES = (
    f"h q[{i % 24}];\ncx q[{i % 24}], q[{(i + 7) % 24}];\nrz(0.{i + 1}) q[{(i + 3) % 24}];\n"
    for i in range(6000)
)
LONG = (
    'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[24] q;\nbit[24] c;\n' + "".join(GATES) + "c = measure q;\n"
)


def given_back(house: House, job: dict[str, Any]) -> None:
    """Check that a cancelled job keeps nothing, cost nothing and is recorded once."""
    assert job["state"] == "cancelled"
    assert job["charge"] is None and job["bundle_id"] is None
    assert house.budget()["reserved"]["micro"] == house.budget()["settled"]["micro"] == 0
    assert (house.quota()["reserved"], house.quota()["used"]) == (0, 0)
    acts = [r["act"] for r in reversed(house.records(object=job["job_id"]))]
    assert acts == ["job.submitted", "job.cancelled"]
    assert house.records(act="job.cancelled")[0]["details"]["released"] == job["price"]["micro"]
    assert house.engineer.http.get(f"/jobs/{job['job_id']}/evidence").json()["code"] == "evidence.none"
    assert house.engineer.http.get(f"/jobs/{job['job_id']}/result").json()["code"] == "result.none"


def test_a_queued_job_is_cancelled_at_once(house: House) -> None:
    """R8.5: while no worker has it: 200, released at once; the worker that comes later does not run it."""
    with house.qcos.frozen("worker-aer"):
        job_id = house.engineer.client.jobs.submit(house.spec())["job_id"]
        assert house.engineer.client.jobs.get(job_id)["state"] == "queued"
        assert house.budget()["reserved"]["micro"] > 0
        response = house.engineer.http.post(f"/jobs/{job_id}/cancel")
        assert response.status_code == 200
        given_back(house, response.json())
    after = house.run()
    assert after["state"] == "completed", "the queue is served again, in order"
    job = dict(house.engineer.client.jobs.get(job_id))
    assert job["state"] == "cancelled" and job["attempts"] == 0
    assert [s["step"] for s in job["steps"]] == [
        "authenticated",
        "submitted",
        "decided",
        "placed",
        "cancelled",
    ]


def test_a_running_job_is_cancelled_by_its_worker(house: House) -> None:
    """R8.5: while it runs: 202, then the worker stops it through the driver; nothing is charged."""
    job_id = house.engineer.client.jobs.submit(house.spec(LONG, shots=10))["job_id"]
    for step in house.engineer.client.jobs.steps(job_id, timeout_s=120):
        if step["step"] == "executing":
            break
    for _ in itertools.count():
        if (state := house.engineer.client.jobs.get(job_id)["state"]) != "submitting":
            break
        time.sleep(0.05)
    assert state == "running"
    response = house.engineer.http.post(f"/jobs/{job_id}/cancel")
    assert response.status_code == 202
    assert response.json()["cancel_requested"] is True
    job = dict(house.engineer.client.jobs.wait_for(job_id, timeout_s=120))
    given_back(house, job)
    assert house.engineer.http.post(f"/jobs/{job_id}/cancel").status_code == 200, "cancelled again: it is"
    assert house.run()["state"] == "completed"


def test_a_completed_job_is_not_cancelled(house: House) -> None:
    """R8.5: 409 with the state; evidence and charge stay."""
    job = house.run()
    with pytest.raises(Conflict) as caught:
        house.engineer.client.jobs.cancel(job["job_id"])
    assert caught.value.code == "job.too_late"
    assert caught.value.got == "completed"
    assert (
        house.engineer.client.jobs.get(job["job_id"]) == house.engineer.client.jobs.get(job["job_id"]) == job
    )
    assert house.records(act="job.cancelled") == []


def test_a_denied_job_is_not_cancelled(house: House) -> None:
    """R8.5: 409: there is nothing to cancel."""
    with pytest.raises(Denied) as denied:
        house.engineer.client.jobs.submit(house.spec(shots=60_000))
    with pytest.raises(Conflict) as caught:
        house.engineer.client.jobs.cancel(denied.value.details["job_id"])
    assert (caught.value.code, caught.value.got) == ("job.too_late", "denied")


def test_a_job_that_is_not_there(house: House) -> None:
    """R8.5: 404."""
    with pytest.raises(NotFound) as caught:
        house.engineer.client.jobs.cancel("qcos-job-none")
    assert caught.value.code == "job.unknown"
