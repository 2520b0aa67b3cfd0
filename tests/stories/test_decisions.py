"""Every decision is recorded with reasons, inputs and policy version; it can be explained and taken again (R3.6)."""

from __future__ import annotations

from typing import Any

import pytest

from qcos.base.canonical import canonical, digest
from qcos.base.errors import Denied
from qcos.db.engine import scope
from qcos.policy import store as policies
from qcos.policy.bundle import of
from qcos.policy.evaluate import PolicyEngine
from qcos.policy.explain import explain, replay

from .house import House


def _denied(house: House) -> dict[str, Any]:
    with pytest.raises(Denied) as caught:
        house.user.client.jobs.submit(house.spec(governance={"purpose": "production"}))
    return dict(house.engineer.client.jobs.decision(caught.value.details["job_id"]))


def test_a_decision_keeps_all_that_policy_saw(house: House) -> None:
    """R3.6: inputs, reasons, policy version; the input's digest is over its canonical bytes, and the ledger has it."""
    job = house.run(house.spec(shots=300))
    decision: dict[str, Any] = dict(house.engineer.client.jobs.decision(job["job_id"]))
    assert decision["allow"] is True and decision["reasons"] == []
    assert decision["policy_version"] == house.admin.client.policies.list()["active"]
    assert decision["policies"] == [
        "qcos.jobs.access",
        "qcos.jobs.budget",
        "qcos.jobs.classification",
        "qcos.jobs.cost_center",
        "qcos.jobs.quota",
        "qcos.jobs.retention",
    ]
    seen = decision["input"]
    assert digest(canonical(seen)) == decision["input_digest"]
    assert seen["job"]["id"] == job["job_id"] and seen["job"]["total_shots"] == 300
    assert seen["principal"]["id"] == house.engineer.id and seen["principal"]["roles"] == ["quantum-engineer"]
    assert seen["budget"]["available"] == 5_000_000_000 and seen["budget"]["currency"] == "USD"
    assert seen["quota"]["available"] == 50_000 and seen["quota"]["team"] == house.team
    assert seen["project"] == {"id": house.project, "team": house.team, "cost_center": house.cost_center}
    assert [c["backend"] for c in seen["candidates"]] == ["aer-ideal"]
    assert seen["job"]["circuits"] == [{"qubits": 2, "depth": 3, "size": 4, "two_qubit_gates": 1}]
    (record,) = house.records(object=decision["decision_id"])
    assert record["act"] == "policy.decided"
    assert record["details"]["input"] == decision["input_digest"]
    assert record["details"]["policy_version"] == decision["policy_version"]
    assert house.engineer.http.get(f"/decisions/{decision['decision_id']}").json() == decision


@pytest.mark.parametrize("allow", [True, False])
def test_a_decision_is_taken_again_with_the_same_verdict(house: House, allow: bool) -> None:
    """R3.6, law 8: the kept input, asked of the kept policies, gives the same verdict, reason for reason."""
    decision = dict(house.engineer.client.jobs.decision(house.run()["job_id"])) if allow else _denied(house)
    assert decision["allow"] is allow
    bundle = of(house.admin.client.policies.get(decision["policy_version"])["files"])
    assert bundle.version == decision["policy_version"]
    with PolicyEngine(size=1) as engine:
        verdict = engine.evaluate(bundle, "jobs", decision["input"])
        assert verdict.allow is allow
        assert [r.as_dict() for r in verdict.reasons] == decision["reasons"]
        assert [r.as_dict() for r in verdict.excluded] == decision["excluded"]
        assert list(verdict.policies) == decision["policies"]
        with scope(house.qcos.engine, house.tenant) as connection:
            kept = policies.get_decision(connection, house.tenant, decision["decision_id"])
        again = replay(engine, bundle, kept)
    assert again.same, again.differences


def test_a_decision_is_explained(house: House) -> None:
    """R3.6: in words: who asked for what, what was decided, and each reason with its remedy."""
    decision = _denied(house)
    with scope(house.qcos.engine, house.tenant) as connection:
        lines = "\n".join(explain(policies.get_decision(connection, house.tenant, decision["decision_id"])))
    assert decision["reasons"][0]["message"] in lines
    assert decision["reasons"][0]["hint"] in lines
    assert house.user.id in lines
    assert house.project in lines


def test_a_denied_job_is_listed_and_recorded(house: House) -> None:
    """R3.6, R5.1: a denial is a record like any other; it is shown among the jobs."""
    decision = _denied(house)
    (job,) = house.engineer.client.jobs.page(state="denied")["items"]
    assert job["job_id"] == decision["subject"]
    assert [s["step"] for s in job["steps"]] == ["authenticated", "submitted", "decided"]
    (submitted,) = house.records(object=job["job_id"])
    assert (submitted["act"], submitted["actor"], submitted["details"]["state"]) == (
        "job.submitted",
        house.user.id,
        "denied",
    )
    assert house.engineer.http.get(f"/jobs/{job['job_id']}/evidence").json()["code"] == "evidence.none"


def test_an_estimate_decides_without_recording(house: House) -> None:
    """R12.1, R3.6: the same question asked beforehand: prices, decision, choice; nothing is reserved or recorded."""
    records = len(house.records())
    told = house.user.client.jobs.estimate(house.spec(governance={"purpose": "production"}))
    assert told["allow"] is False
    assert [r["code"] for r in told["reasons"]] == ["access.production"]
    told = house.user.client.jobs.estimate(house.spec())
    assert told["allow"] is True and told["backend"] == "aer-ideal"
    (candidate,) = told["candidates"]
    assert candidate["price"]["micro"] == sum(line["amount"] for line in candidate["price"]["lines"]) > 0
    assert house.user.client.jobs.page()["items"] == []
    assert len(house.records()) == records
    job = house.run(house.spec(), house.user)
    assert job["price"]["micro"] == candidate["price"]["micro"], "the estimate is what is reserved"
    assert job["charge"]["micro"] <= job["price"]["micro"], "and the most that is charged"
