"""Budgets and quotas hold under parallel submissions: nothing is overspent, nothing is lost, the books balance (R3.2, R3.5)."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import httpx

from qcos.db.engine import scope
from qcos.metering.audit import check_books

from .house import House


def test_a_budget_for_ten_jobs_admits_ten_of_fifty(house: House) -> None:
    """R3.2, law 3: 50 at once on a budget for 10: exactly 10 are admitted, 40 denied with numbers, the limit holds at every look."""
    price = house.engineer.client.jobs.estimate(house.spec())["candidates"][0]["price"]["micro"]
    project = house.new_project(Decimal(price * 10) / 1_000_000)
    spec = house.spec(governance={"project": project})
    with house.qcos.frozen("worker-aer"):  # nothing is settled meanwhile: what is reserved stays reserved
        with ThreadPoolExecutor(50) as pool:
            answers = list(
                pool.map(lambda _: house.engineer.http.post("/jobs", json=spec, timeout=120), range(50))
            )
        assert Counter(a.status_code for a in answers) == {201: 10, 403: 40}
        assert {a.json()["code"] for a in answers if a.status_code == 403} == {"budget.exceeded"}
        budget = house.budget(project)
        assert budget["reserved"]["micro"] == budget["limit"]["micro"] == price * 10
        assert budget["available"]["micro"] == 0
    admitted = [a.json()["job_id"] for a in answers if a.status_code == 201]
    jobs = [house.engineer.client.jobs.wait_for(job_id, timeout_s=90) for job_id in admitted]
    assert {job["state"] for job in jobs} == {"completed"}
    budget = house.budget(project)
    assert budget["reserved"]["micro"] == 0
    assert budget["settled"]["micro"] == sum(job["charge"]["micro"] for job in jobs) <= price * 10  # type: ignore[index,typeddict-item,misc]
    states = Counter(job["state"] for job in house.engineer.client.jobs.each(project=project))
    assert states == {"completed": 10, "denied": 40}
    with scope(house.qcos.engine, house.tenant) as connection:
        assert check_books(connection, house.tenant) == []


def test_a_quota_is_shared_by_the_teams_projects(house: House) -> None:
    """R3.5, law 3: two projects of a team submit in parallel; together they get the team's shots and not one more."""
    house.admin.client.metering.set_quota(house.team, 500)
    projects = [house.project, house.new_project(Decimal(100))]

    def submit(n: int) -> httpx.Response:
        return house.engineer.http.post(
            "/jobs", json=house.spec(governance={"project": projects[n % 2]}), timeout=120
        )

    with house.qcos.frozen("worker-aer"), ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(submit, range(20)))
        assert Counter(a.status_code for a in answers) == {201: 5, 403: 15}
        assert {a.json()["code"] for a in answers if a.status_code == 403} == {"quota.exceeded"}
        assert (house.quota()["reserved"], house.quota()["available"]) == (500, 0)
    for answer in answers:
        if answer.status_code == 201:
            house.engineer.client.jobs.wait_for(answer.json()["job_id"], timeout_s=90)
    assert (house.quota()["reserved"], house.quota()["used"]) == (0, 500)
    with scope(house.qcos.engine, house.tenant) as connection:
        assert check_books(connection, house.tenant) == []
