"""Listings come page by page, with no entry twice and none left out, while new ones arrive (R8.2, R5.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .house import House


def _deny(house: House) -> str:
    """Make a job that ends at once: denied."""
    response = house.engineer.http.post("/jobs", json=house.spec(shots=60_000))
    assert response.status_code == 403
    return str(response.json()["job_id"])


def _pages(
    fetch: Callable[[str | None], dict[str, Any]], between: Callable[[], object]
) -> list[list[dict[str, Any]]]:
    """Fetch all pages; after each, something new happens."""
    pages, after = [], None
    while True:
        page = fetch(after)
        pages.append(page["items"])
        if (after := page["next"]) is None:
            return pages
        between()


def test_jobs(house: House) -> None:
    """R8.2: newest first; every job that was there when paging began is seen exactly once."""
    before = [_deny(house) for _ in range(10)]
    pages = _pages(
        lambda after: dict(house.engineer.client.jobs.page(after=after, limit=3)), lambda: _deny(house)
    )
    seen = [job["job_id"] for page in pages for job in page]
    assert [len(page) for page in pages] == [3, 3, 3, 1]
    assert seen == before[::-1]
    assert len(list(house.engineer.client.jobs.each())) == 13


def test_jobs_of_a_state_or_project(house: House) -> None:
    """R8.2: filters hold on every page."""
    denied = [_deny(house) for _ in range(5)]
    done = house.run()["job_id"]
    pages = _pages(
        lambda after: dict(house.engineer.client.jobs.page(state="denied", after=after, limit=2)),
        lambda: None,
    )
    assert [job["job_id"] for page in pages for job in page] == denied[::-1]
    (only,) = house.engineer.client.jobs.page(state="completed", project=house.project)["items"]
    assert only["job_id"] == done
    assert house.engineer.client.jobs.page(project=house.new_project())["items"] == []


def test_records(house: House) -> None:
    """R5.1: records of one scope share their time; none is lost between two pages for it."""
    for _ in range(6):
        _deny(house)
    everything = house.records()
    pages = _pages(
        lambda after: dict(house.auditor.client.ledger.records(after=after, limit=3)), lambda: _deny(house)
    )
    seen = [record["id"] for page in pages for record in page]
    assert seen == [record["id"] for record in everything]
    assert len(seen) == len(set(seen))
    assert [r["time"] for r in everything] == sorted((r["time"] for r in everything), reverse=True)


def test_charges(house: House) -> None:
    """R5.4: charge lines, newest first."""
    jobs = [house.run(house.spec(shots=n))["job_id"] for n in (10, 20, 30)]
    everything = house.auditor.client.metering.charges()["items"]
    assert {line["job_id"] for line in everything} == set(jobs)
    pages = _pages(
        lambda after: dict(house.auditor.client.metering.charges(after=after, limit=2)), lambda: house.run()
    )
    assert [line for page in pages for line in page] == everything


@pytest.mark.parametrize("limit", [1, 500])
def test_the_smallest_and_the_largest_page(house: House, limit: int) -> None:
    """R8.2: 1 to 500 entries a page; the last page says that it is the last."""
    _deny(house)
    page = house.engineer.client.jobs.page(limit=limit)
    assert len(page["items"]) == 1 and page["next"] is None
