"""The same request is one job, however often and however parallel it is sent (R12.2, R8.2)."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from .house import House


def _post(house: House, spec: object, key: str | None) -> httpx.Response:
    return house.engineer.http.post("/jobs", json=spec, headers={"Idempotency-Key": key} if key else {})


def test_the_same_key_and_spec_is_the_same_job(house: House) -> None:
    """R12.2: 201 with the new job, then 200 with the same one; reserved once."""
    spec = house.spec()
    first, second = _post(house, spec, "order-1"), _post(house, spec, "order-1")
    assert (first.status_code, second.status_code) == (201, 200)
    job_id = first.json()["job_id"]
    assert second.json()["job_id"] == job_id
    assert second.json()["decision"] == first.json()["decision"]
    assert first.headers["location"] == second.headers["location"] == f"/v1/jobs/{job_id}"
    house.engineer.client.jobs.wait_for(job_id, timeout_s=90)
    assert _post(house, spec, "order-1").json()["state"] == "completed"
    assert len(house.engineer.client.jobs.page()["items"]) == 1
    assert len(house.records(act="job.submitted")) == 1


def test_the_key_may_stand_in_the_spec(house: House) -> None:
    """R2.1, R12.2: in the spec or in the header it is the same key; the digest does not depend on it."""
    first = _post(house, house.spec(idempotency_key="order-2"), None)
    second = _post(house, house.spec(), "order-2")
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["job_id"] == second.json()["job_id"]
    differing = _post(house, house.spec(idempotency_key="order-2"), "order-3")
    assert (differing.status_code, differing.json()["code"]) == (400, "idempotency.differs")


def test_the_same_key_with_another_spec_is_a_conflict(house: House) -> None:
    """R12.2: 409, with both digests; nothing new."""
    first = _post(house, house.spec(shots=100), "order-4")
    second = _post(house, house.spec(shots=101), "order-4")
    assert second.status_code == 409
    problem = second.json()
    assert problem["code"] == "idempotency.reused"
    assert problem["subject"] == first.json()["job_id"]
    assert first.json()["spec_digest"] in problem["expected"]
    assert len(house.engineer.client.jobs.page()["items"]) == 1


def test_a_job_id_is_taken_once(house: House) -> None:
    """R2.1: the caller's own id: the same spec is the same job, another spec or another owner is a conflict."""
    spec = house.spec(job_id="my-own-id")
    assert [_post(house, spec, key).status_code for key in (None, "a", "b")] == [201, 200, 200]
    other = _post(house, house.spec(job_id="my-own-id", shots=7), None)
    assert (other.status_code, other.json()["code"]) == (409, "job.exists")
    stranger = house.user.http.post("/jobs", json=spec)
    assert (stranger.status_code, stranger.json()["code"]) == (409, "job.exists")


def test_keys_of_different_people_do_not_meet(house: House) -> None:
    """R12.2: a key belongs to who sends it."""
    spec = house.spec()
    jobs = {
        p.http.post("/jobs", json=spec, headers={"Idempotency-Key": "k"}).json()["job_id"]
        for p in (house.engineer, house.user)
    }
    assert len(jobs) == 2


def test_a_denial_is_the_same_denial(house: House) -> None:
    """R12.2, R3.6: a denied request sent again is the same denied job: 403 with the same decision, recorded once."""
    spec = house.spec(shots=60_000)
    first, second = _post(house, spec, "order-5"), _post(house, spec, "order-5")
    assert (first.status_code, second.status_code) == (403, 403)
    assert first.json()["job_id"] == second.json()["job_id"]
    assert first.json()["decision"] == second.json()["decision"]
    assert len(house.records(act="policy.decided")) == 1


def _post_until_taken(house: House, spec: object, key: str) -> httpx.Response:
    """Post as a client does: a server that is busy did nothing and says when to come again."""
    deadline = time.monotonic() + 120
    while (answer := _post(house, spec, key)).status_code == 503:
        assert time.monotonic() < deadline, answer.text
        time.sleep(float(answer.headers["retry-after"]))
    return answer


def test_twenty_at_once_are_one_job_and_one_charge(house: House) -> None:
    """R12.2, law 6: 20 parallel identical submissions: one 201, nineteen 200, one execution, one charge, one bundle."""
    spec = house.spec()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: _post_until_taken(house, spec, "storm"), range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    (job_id,) = {answer.json()["job_id"] for answer in answers}
    job = house.engineer.client.jobs.wait_for(job_id, timeout_s=90)
    assert job["state"] == "completed"
    assert len(house.engineer.client.jobs.page()["items"]) == 1
    acts = [record["act"] for record in house.records(actor=house.engineer.id)]
    assert sorted(acts) == ["cost.charged", "evidence.sealed", "job.submitted", "policy.decided"]
    assert house.budget()["settled"]["micro"] == job["charge"]["micro"]  # type: ignore[index,typeddict-item]
    assert house.quota()["used"] == 100
