"""Every job is metered and charged to its cost center, and the books balance (R6.1, R6.3, R8.9)."""

from __future__ import annotations

from decimal import Decimal

import pytest

from qcos.base.errors import Denied
from qcos.db.engine import scope
from qcos.metering.audit import check_books

from .house import GHZ3, House


def test_the_six_meters(house: House) -> None:
    """R6.1: shots, QPU time, queue time, circuit depth, data egress, simulator CPU and memory: really measured."""
    job = house.run(house.spec(GHZ3, shots=500))
    (row,) = house.admin.client.metering.usage(group_by="project")["items"]
    meters = row["meters"]
    assert row["group"] == house.project and row["jobs"] == 1
    outcome = job["outcome"]
    assert meters["shots"] == 500
    assert meters["qpu_time_us"] == 0, "a simulator uses no QPU"
    assert meters["queue_time_us"] == outcome["queue_ms"] * 1000
    assert meters["circuit_depth"] == outcome["compiled_depth"] >= 4
    assert meters["egress_bytes"] == len(house.engineer.client.jobs.result_document(job["job_id"]))
    assert meters["cpu_time_us"] == outcome["meters"]["cpu_time_us"] > 0, (
        "the processor time the driver measured, not the wall clock"
    )
    assert meters["memory_peak_bytes"] == outcome["meters"]["memory_peak_bytes"] > 1_000_000


def test_a_job_is_charged_line_by_line_to_its_cost_center(house: House) -> None:
    """R8.9, R5.4: lines of a versioned price book; their sum is the charge; the charge is what was settled."""
    job = house.run(house.spec(shots=500, governance={"cost_center": house.cost_center}))
    lines = house.engineer.client.metering.charges(job=job["job_id"])["items"]
    assert {line["item"]: line["quantity"] for line in lines if line["item"] in ("task", "shot")} == {
        "task": 1,
        "shot": 500,
    }
    assert {line["cost_center"] for line in lines} == {house.cost_center}
    assert {line["project"] for line in lines} == {house.project}
    assert len({line["price_book"] for line in lines}) == 1 and lines[0]["price_book"].startswith("2026-11")
    assert sum(line["amount"]["micro"] for line in lines) == job["charge"]["micro"]
    assert job["charge"]["micro"] <= job["price"]["micro"]
    budget = house.budget()
    assert budget["settled"]["micro"] == job["charge"]["micro"]
    assert budget["reserved"]["micro"] == 0
    assert budget["available"]["micro"] == 5_000_000_000 - job["charge"]["micro"]
    assert house.quota() == {
        "team": house.team,
        "day": house.quota()["day"],
        "limit": 50_000,
        "reserved": 0,
        "used": 500,
        "available": 49_500,
    }


def test_nobody_charges_another_cost_center(house: House) -> None:
    """R8.9: a job that names somebody else's cost center is refused, reserves nothing and is charged to nobody."""
    with pytest.raises(Denied) as caught:
        house.run(house.spec(governance={"cost_center": "CC-SPECIAL"}))
    assert caught.value.code == "cost_center.foreign"
    assert house.budget()["reserved"]["micro"] == house.budget()["settled"]["micro"] == 0


def test_showback_adds_up_whatever_the_grouping(house: House) -> None:
    """R6.3: cost by project, team, cost center and backend; each grouping sums to the same money."""
    side = house.new_project(Decimal(10))
    jobs = [
        house.run(house.spec(shots=n, governance={"project": p}))
        for n, p in ((100, house.project), (200, side), (300, side))
    ]
    total = sum(job["charge"]["micro"] for job in jobs)
    for group_by, groups in (
        ("project", {house.project, side}),
        ("team", {house.team}),
        ("cost_center", {house.cost_center, "CC-SIDE"}),
        ("backend", {"aer-ideal"}),
    ):
        rows = house.auditor.client.metering.usage(group_by=group_by)["items"]
        assert {row["group"] for row in rows} == groups
        assert sum(row["cost"]["micro"] for row in rows) == total
        assert sum(row["meters"]["shots"] for row in rows) == 600
        assert sum(row["jobs"] for row in rows) == 3
    with scope(house.qcos.engine, house.tenant) as connection:
        assert check_books(connection, house.tenant) == []
