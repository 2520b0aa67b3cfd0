"""Workflow A: ten steps in order, seen as they happen, one transaction from validation to settlement (R2.3, R8.2 to R8.10)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from qcos.client.events import Decoder, Event

from .house import House

TEN = [
    "authenticated",
    "submitted",
    "decided",
    "placed",
    "executing",
    "collected",
    "evidenced",
    "recorded",
    "charged",
    "exported",
]


def events(house: House, job_id: str, last_id: str | None = None) -> Iterator[Event]:
    """Follow a job's stream to its end."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    with house.engineer.http.stream("GET", f"/jobs/{job_id}/events", headers=headers, timeout=90) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        decoder = Decoder()
        for chunk in response.iter_bytes():
            yield from decoder.feed(chunk)


def test_the_ten_steps_in_order(house: House) -> None:
    """R8.2, R8.3, R8.4, R8.5, R8.6, R8.7, R8.8, R8.9, R8.10: each step of the paper's workflow, over server-sent events.

    Numbered, timed, with its particulars, and the same as the job shows afterwards.
    """
    job_id = house.engineer.client.jobs.submit(house.spec())["job_id"]
    *told, end = events(house, job_id)
    steps: list[dict[str, Any]] = [json.loads(event.data) for event in told]
    assert [event.event for event in told] == ["step"] * 10
    assert [event.id for event in told] == [str(n) for n in range(1, 11)]
    assert [(step["n"], step["step"]) for step in steps] == list(enumerate(TEN, 1))
    assert [step["at"] for step in steps] == sorted(step["at"] for step in steps)
    detail = {step["step"]: step["detail"] for step in steps}

    job = house.engineer.client.jobs.get(job_id)
    assert job["steps"] == steps
    assert detail["authenticated"]["actor"] == house.engineer.id
    assert detail["submitted"]["spec"] == job["spec_digest"]
    assert detail["decided"] == {"decision": job["decision"]["decision_id"], "allow": True, "reasons": []}
    assert (
        detail["placed"]["backend"] == "aer-ideal" and detail["placed"]["reserved"] == job["price"]["micro"]
    )
    assert detail["executing"]["worker"]
    assert detail["collected"]["shots_executed"] == 100
    assert detail["evidenced"]["bundle"] == job["bundle_id"]
    assert detail["charged"] == {
        "amount": job["charge"]["micro"],
        "currency": "USD",
        "cost_center": house.cost_center,
    }
    recorded = {r["id"]: r["act"] for r in house.records()}
    assert [recorded[record] for record in detail["recorded"]["records"]] == [
        "evidence.sealed",
        "cost.charged",
    ]

    assert end.event == "end"
    closing = json.loads(end.data)
    assert closing["state"] == "completed" and closing["bundle_id"] == job["bundle_id"]


def test_a_stream_resumes_where_it_broke(house: House) -> None:
    """R8.2: after Last-Event-ID only what came later is sent: nothing twice, nothing left out."""
    job_id = house.run()["job_id"]
    whole = list(events(house, job_id))
    for seen in (1, 4, 9, 10):
        assert list(events(house, job_id, str(seen))) == [
            *whole[seen:-1],
            *[Event(whole[-1].event, whole[-1].data, e) for e in [whole[-1].id if seen < 10 else ""]],
        ]
    assert [e.event for e in events(house, job_id, "no number")][-1] == "end"


def test_one_transaction_from_validation_to_settlement(house: House) -> None:
    """R2.3: before: reserved with its decision; after: settled with its evidence; each piece names the others."""
    job = house.run()
    decision = house.engineer.client.jobs.decision(job["job_id"])
    bundle = house.bundle(job["job_id"])
    assert decision["subject"] == job["job_id"] == bundle["job_id"]  # type: ignore[typeddict-item]
    acts = [
        r["act"]
        for r in reversed(house.records())
        if r["object"] in (job["job_id"], job["decision_id"], job["bundle_id"])
    ]
    assert acts == ["job.submitted", "policy.decided", "evidence.sealed", "cost.charged"]
    lines = house.engineer.client.metering.charges(job=job["job_id"])["items"]
    assert sum(line["amount"]["micro"] for line in lines) == job["charge"]["micro"]
    assert house.budget()["reserved"]["micro"] == 0


def test_routing_takes_the_best_permitted_backend_with_reasons(house: House) -> None:
    """R8.4: constraints drop backends with reasons; cost, queue and history score the others; the best is taken."""
    document = house.spec(execution={"backend_constraints": {"min_qubits": 20}})
    document["execution"].pop("backend")
    placement = house.run(document)["placement"]
    assert {d["backend"]: d["code"] for d in placement["dropped"]} == {
        "aer-fake-manila": "routing.qubits",
        "braket-local-dm": "routing.qubits",
    }
    scores = {score["backend"]: score for score in placement["scores"]}
    assert set(scores) == {"aer-ideal", "aer-fake-kolkata", "braket-local-sv"}
    assert all(
        type(score[part]) is int
        for score in scores.values()
        for part in ("total", "cost", "queue", "history")
    )
    best = max(score["total"] for score in scores.values())
    assert placement["backend"] == min(name for name, score in scores.items() if score["total"] == best)


def test_backends_are_listed_with_queue_and_availability(house: House) -> None:
    """R8.4, R12.3: what there is, whether it is there now, and how long its queue is."""
    backends = {b["name"]: b for b in house.user.client.backends()["items"]}
    assert set(backends) == {
        "aer-ideal",
        "aer-fake-manila",
        "aer-fake-kolkata",
        "braket-local-sv",
        "braket-local-dm",
    }
    for backend in backends.values():
        assert backend["online"] is True
        assert backend["queue_depth"] >= 0
    assert backends["aer-ideal"]["zone"] == "sovereign" and backends["aer-ideal"]["on_premise"] is True
