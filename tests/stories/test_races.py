"""Budgets and quotas hold under parallel submissions: nothing is overspent, nothing is lost, the books balance (R3.2, R3.5)."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

from qcos.base.errors import Denied
from qcos.db.engine import scope
from qcos.metering.audit import check_books

from .house import House


def submit(house: House, project: str) -> str:
    """Submit as the client does, which asks again when a starved server is busy; return the job, or why it was denied."""
    try:
        return house.engineer.client.jobs.submit(house.spec(governance={"project": project}))["job_id"]
    except Denied as error:
        return error.code


def test_a_budget_for_ten_jobs_admits_ten_of_fifty(house: House) -> None:
    """R3.2, law 3: 50 at once on a budget for 10: exactly 10 are admitted, 40 denied with numbers, the limit holds at every look."""
    price = house.engineer.client.jobs.estimate(house.spec())["candidates"][0]["price"]["micro"]
    project = house.new_project(Decimal(price * 10) / 1_000_000)
    with house.qcos.frozen("worker-aer"):  # nothing is settled meanwhile: what is reserved stays reserved
        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(lambda _: submit(house, project), range(50)))
        admitted = [answer for answer in answers if answer != "budget.exceeded"]
        assert len(admitted) == len(set(admitted)) == 10, Counter(answers)
        budget = house.budget(project)
        assert budget["reserved"]["micro"] == budget["limit"]["micro"] == price * 10
        assert budget["available"]["micro"] == 0
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

    with house.qcos.frozen("worker-aer"), ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda n: submit(house, projects[n % 2]), range(20)))
        admitted = [answer for answer in answers if answer != "quota.exceeded"]
        assert len(admitted) == len(set(admitted)) == 5, Counter(answers)
        assert (house.quota()["reserved"], house.quota()["available"]) == (500, 0)
    for job_id in admitted:
        assert house.engineer.client.jobs.wait_for(job_id, timeout_s=90)["state"] == "completed"
    assert (house.quota()["reserved"], house.quota()["used"]) == (0, 500)
    with scope(house.qcos.engine, house.tenant) as connection:
        assert check_books(connection, house.tenant) == []
