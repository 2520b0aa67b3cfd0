"""The four policies of the paper refuse what they say, with codes and numbers, and refusals cost nothing (R3.2-R3.5)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from qcos.base.errors import Denied

from .house import House, Person


def refused(house: House, spec: dict[str, Any], who: Person | None = None) -> Denied:
    """Submit what must be denied; check that it is recorded, and that nothing is reserved."""
    person = who or house.engineer
    before = (house.budget(), house.quota())
    with pytest.raises(Denied) as caught:
        person.client.jobs.submit(spec)
    error = caught.value
    assert error.details["status"] == 403
    job = house.engineer.client.jobs.get(error.details["job_id"])
    assert job["state"] == "denied"
    assert job["decision"]["allow"] is False
    assert job["decision"] == error.details["decision"]
    assert job["backend"] is None and job["price"] is None and job["charge"] is None
    assert (house.budget(), house.quota()) == before, "nothing is reserved"
    decided = house.records(object=error.details["decision"]["decision_id"])
    assert [(r["act"], r["details"]["allow"], r["details"]["reserved"]) for r in decided] == [
        ("policy.decided", False, None)
    ]
    return error


def test_a_budget_is_not_exceeded(house: House) -> None:
    """R3.2: "project X cannot exceed $5,000 a month": the refusal names the price, what is left and the limit."""
    poor = house.new_project(Decimal("0.000100"))
    with pytest.raises(Denied) as caught:
        house.engineer.client.jobs.submit(house.spec(shots=1000, governance={"project": poor}))
    assert caught.value.code == "budget.exceeded"
    assert "0.000100 USD left of 0.000100 USD" in caught.value.message
    assert house.budget(poor)["reserved"]["micro"] == 0
    assert house.engineer.client.jobs.get(caught.value.details["job_id"])["state"] == "denied"


def test_a_project_without_a_budget_runs_only_what_is_free(house: House) -> None:
    """R3.2: no budget, no money."""
    unfunded = house.new_project()
    error = refused(house, house.spec(governance={"project": unfunded}))
    assert error.code == "budget.missing"
    assert unfunded in error.message


def test_a_spent_budget_refuses_and_a_raised_one_admits(house: House) -> None:
    """R3.2: what was charged counts; the month's numbers are those of the policy's message."""
    price = house.engineer.client.jobs.estimate(house.spec())["candidates"][0]["price"]
    small = house.new_project(Decimal(price["micro"]) / 1_000_000)
    document = house.spec(governance={"project": small})
    charge = house.run(document)["charge"]["micro"]
    assert 0 < charge <= price["micro"]
    left = Decimal(price["micro"] - charge) / 1_000_000
    with pytest.raises(Denied) as caught:
        house.engineer.client.jobs.submit(document)
    assert caught.value.code == "budget.exceeded"
    assert f"{left:.6f} USD left" in caught.value.message
    house.admin.client.metering.set_budget(small, Decimal(1), "USD")
    assert house.run(document)["state"] == "completed"


def test_only_engineers_submit_production_jobs(house: House) -> None:
    """R3.3: "only role quantum-engineer can submit production jobs"."""
    production = house.spec(governance={"purpose": "production-forecast"})
    error = refused(house, production, house.user)
    assert error.code == "access.production"
    assert house.user.id in error.message and "quantum-engineer" in error.message
    assert house.run(production, house.engineer)["state"] == "completed"
    assert house.run(house.spec(), house.user)["state"] == "completed", "other jobs are his to submit"


def test_an_auditor_submits_nothing(house: House) -> None:
    """R3.3: roles that do not submit are refused, and so is somebody without a role."""
    assert refused(house, house.spec(), house.auditor).code == "access.role"
    assert refused(house, house.spec(), house.person("service:idle", None)).code == "access.role"


def test_a_role_in_one_project_counts_there_only(house: House) -> None:
    """R3.3, R11.4: an engineer of one project is nobody in another."""
    other = house.new_project(Decimal(10))
    dora = house.person("user:dora", "quantum-engineer", project=other)
    house.run(house.spec(governance={"project": other}), dora)
    assert refused(house, house.spec(), dora).code == "access.role"


@pytest.mark.parametrize("classification", ["classified", "secret", "TOP-SECRET"])
def test_classified_data_stays_on_sovereign_backends(house: House, classification: str) -> None:
    """R3.4: "classified data must only execute in sovereign on-premise backends"."""
    document = house.spec(
        governance={"classification": classification}, execution={"backend": "braket-local-sv"}
    )
    error = refused(house, document)
    assert error.code == "classification.sovereign"
    assert "braket-local-sv" in error.message


def test_classified_data_runs_where_it_may(house: House) -> None:
    """R3.4: of all backends only the sovereign one is permitted, and each other is excluded with the reason."""
    document = house.spec(governance={"classification": "classified"})
    document["execution"].pop("backend")
    job = house.run(document)
    assert job["backend"] == "aer-ideal"
    assert (
        job["placement"]["where"]["zone"] == "sovereign" and job["placement"]["where"]["on_premise"] is True
    )
    excluded = {reason["backend"]: reason["code"] for reason in job["decision"]["excluded"]}
    assert excluded == dict.fromkeys(
        ["aer-fake-kolkata", "aer-fake-manila", "braket-local-dm", "braket-local-sv"],
        "classification.sovereign",
    )


def test_a_team_has_so_many_shots_a_day(house: House) -> None:
    """R3.5: "team Y is limited to 50,000 shots a day": the refusal names shots, rest and limit."""
    house.run(house.spec(shots=5_000))
    error = refused(house, house.spec(shots=45_001))
    assert error.code == "quota.exceeded"
    assert "45001 shots exceed the 45000 left of 50000" in error.message
    assert house.run(house.spec(shots=45_000))["state"] == "completed", "the last shot is not too many"
    assert house.quota()["available"] == 0


def test_every_reason_is_told_at_once(house: House) -> None:
    """R3.6: a job that several policies refuse is told all of it."""
    document = house.spec(
        shots=60_000,
        governance={"purpose": "production", "classification": "secret"},
        execution={"backend": "braket-local-sv"},
    )
    error = refused(house, document, house.user)
    codes = {reason["code"] for reason in error.details["decision"]["reasons"]}
    assert codes >= {"access.production", "quota.exceeded", "classification.sovereign"}


def test_constraints_that_no_backend_meets(house: House) -> None:
    """R8.3: unsatisfiable constraints are a refusal that names each backend with its reason."""
    document = house.spec(execution={"backend_constraints": {"min_qubits": 1000}})
    document["execution"].pop("backend")
    error = refused(house, document)
    assert error.code == "routing.unsatisfiable"
    for backend in ("aer-ideal", "aer-fake-manila", "aer-fake-kolkata", "braket-local-sv", "braket-local-dm"):
        assert backend in error.message


def test_an_unknown_project_is_no_refusal_but_a_mistake(house: House) -> None:
    """R8.2: a project that does not exist: 404, and nothing is recorded."""
    response = house.engineer.http.post("/jobs", json=house.spec(governance={"project": "nowhere"}))
    assert (response.status_code, response.json()["code"]) == (404, "project.unknown")
    assert house.engineer.client.jobs.page()["items"] == []
