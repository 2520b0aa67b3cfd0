"""Who has a role in one project works there as others do everywhere, and sees nothing of the rest (R11.4, law 7)."""

from __future__ import annotations

from decimal import Decimal

from .house import House


def test_an_engineer_of_one_project(house: House) -> None:
    """R11.4: submits, follows, lists, reads the money of his project through the API; other projects are not there for him."""
    other = house.new_project()
    foreign = house.run()["job_id"]
    ivan = house.person("user:ivan", "quantum-engineer", project=other)
    house.admin.client.metering.set_budget(other, Decimal(5000), "USD")
    spec = house.spec(governance={"project": other})
    assert ivan.http.post("/jobs/validate", json=spec).status_code == 200
    assert ivan.http.post("/estimates", json=spec).json()["allow"] is True
    job = house.run(spec, ivan)
    assert [j["job_id"] for j in ivan.client.jobs.page()["items"]] == [job["job_id"]]
    assert [b["project"] for b in ivan.client.metering.budgets()["items"]] == [other]
    (usage,) = ivan.client.metering.usage(group_by="project")["items"]
    assert (usage["group"], usage["jobs"]) == (other, 1)
    assert usage["cost"]["micro"] == job["charge"]["micro"]
    for tail in ("", "/result", "/spec", "/events", "/decision", "/evidence"):
        hidden = ivan.http.get(f"/jobs/{foreign}{tail}")
        assert (hidden.status_code, hidden.json()["code"]) == (404, "job.unknown")
    backend = next(b for b in ivan.http.get("/backends").json()["items"] if b["name"] == "aer-ideal")
    assert isinstance(backend["jobs"], str)
