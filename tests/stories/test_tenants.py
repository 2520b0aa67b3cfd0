"""Tenants cannot see each other, through any route, nor in the database (law 7, R10.1, R1.4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from qcos.db.engine import scope
from qcos.jobs.erase import erase_due

from .house import House, furnish
from .installation import Installation
from .routes import PUBLIC, names, routes


@pytest.fixture(scope="module")
def others(qcos: Installation) -> Iterator[tuple[House, dict[str, Any], House, list[str]]]:
    """A house where things have happened, another one, and everything by which the first could be recognised."""
    with furnish(qcos) as mine, furnish(qcos) as theirs:
        job = mine.run(mine.spec(evidence_requirements={"level": "full"}))
        hold = mine.auditor.client.retention.place_hold("job", job["job_id"], f"case of {mine.team}")
        mine.bundle(job["job_id"])  # until a checkpoint covers it: routes are asked for its proof
        erase_due(qcos.engine)  # nothing is due; it notes that it ran
        marks = [
            hold["hold_id"],
            str(mine.tenant),
            mine.project,
            mine.team,
            mine.cost_center,
            job["job_id"],
            job["decision_id"],
            job["bundle_id"],
        ]
        marks += [person.id for person in mine.people.values() if person is not mine.admin]
        marks += [person.token_id for person in mine.people.values()] + [
            record["id"] for record in mine.records()
        ]
        yield mine, job, theirs, marks


def test_no_route_shows_another_tenants_things(others: Any) -> None:
    """Law 7: every GET route there is, asked by another tenant's administrator for what is ours, by our ids: 404, or without a trace."""
    mine, job, theirs, marks = others
    values = names(mine, job)
    asked = 0
    for method, path in routes(mine):
        if method != "GET" or "{kind}" in path:  # anchors are the installation's, and there are none here
            continue
        if (
            "{path}" in path
        ):  # the newest tile: the ledger grows, and a part of a tile goes when the tile is full
            values |= {"path": names(mine, job)["path"]}
        url = path.format(**values) + ("?old=1&new=2" if path.endswith("consistency") else "")
        response = theirs.admin.http.get(theirs.qcos.url + url)
        shown = [
            mark
            for mark in marks
            if mark in response.text.replace(url, "").replace(values.get("job_id", ""), "")
        ]
        if response.status_code == 404:
            shown = []  # it repeats the name asked for, which the caller knows
        assert not shown, f"{path} shows {shown}"
        if "{" in path and path not in PUBLIC and path != "/v1/policies/{version}":
            assert response.status_code == 404, f"{path}: {response.status_code} {response.text[:200]}"
        if path == "/v1/keys":  # the installation's own tenant's alone
            assert (response.status_code, response.json()["code"]) == (403, "access.installation")
            continue
        own = mine.admin.http.get(mine.qcos.url + url)
        assert own.status_code == 200, f"{path} answers its owner: {own.text[:200]}"
        asked += 1
    assert asked >= 25


@pytest.mark.parametrize(
    "query",
    [
        "/jobs?project={project}",
        "/jobs?actor={principal}",
        "/charges?job={job_id}",
        "/charges?project={project}",
        "/ledger/records?object={job_id}",
        "/ledger/records?actor={principal}",
        "/ledger/records?after={record_id}",
        "/tokens?principal={principal}",
    ],
)
def test_no_filter_reaches_into_another_tenant(others: Any, query: str) -> None:
    """Law 7: filters and cursors with ids of another tenant find nothing."""
    mine, job, theirs, _ = others
    response = theirs.admin.http.get(query.format(**names(mine, job)))
    assert response.status_code == 200
    assert response.json()["items"] == []
    if "after" not in query:
        assert mine.admin.http.get(query.format(**names(mine, job))).json()["items"] != []


def test_no_change_reaches_into_another_tenant(others: Any) -> None:
    """Law 7: acts on another tenant's objects find nothing to act on, and change nothing there."""
    mine, job, theirs, _ = others
    before = (len(mine.records()), mine.budget(), mine.quota(), mine.engineer.client.jobs.get(job["job_id"]))
    http, values = theirs.admin.http, names(mine, job)
    attempts = [
        http.post("/jobs/{job_id}/cancel".format(**values)),
        http.put("/projects/{project}/budget".format(**values), json={"monthly_limit": "1"}),
        http.post("/principals/{principal}/roles".format(**values), json={"role": "auditor"}),
        http.delete("/principals/{principal}/roles?role=quantum-engineer".format(**values)),
        http.delete("/tokens/{token_id}".format(**values)),
        http.post("/jobs/{job_id}/erase".format(**values), json={"reason": "x"}),
        theirs.auditor.http.post("/holds", json={"kind": "job", "subject": job["job_id"], "reason": "x"}),
        http.post("/tokens", json={"principal": values["principal"], "days": 1}),
        http.post("/jobs", json=theirs.spec(governance={"project": mine.project})),
    ]
    assert [r.status_code for r in attempts] == [404] * len(attempts), [r.text[:200] for r in attempts]
    assert (
        len(mine.records()),
        mine.budget(),
        mine.quota(),
        mine.engineer.client.jobs.get(job["job_id"]),
    ) == before
    assert mine.engineer.client.whoami()["id"] == mine.engineer.id


def test_equal_names_are_different_things(others: Any) -> None:
    """Law 7: each tenant may use any name: job ids, projects, idempotency keys do not collide."""
    mine, job, theirs, _ = others
    theirs.admin.client.identity.create_project(mine.project, team=mine.team, cost_center="CC-OTHER")
    assert (
        theirs.admin.http.put(f"/projects/{mine.project}/budget", json={"monthly_limit": "1.00"}).status_code
        == 200
    )
    spec = theirs.spec(job_id=job["job_id"], governance={"project": mine.project})
    same = theirs.run(spec)
    assert same["job_id"] == job["job_id"] and same["bundle_id"] != job["bundle_id"]
    assert mine.engineer.client.jobs.get(job["job_id"])["actor"] == mine.engineer.id
    assert mine.budget()["limit"]["micro"] == 5_000_000_000


def test_the_database_itself_keeps_tenants_apart(others: Any) -> None:
    """Law 7: in every table with a tenant, the application's role sees its own tenant's rows, and none when it is bound to none."""
    mine, _, theirs, _ = others
    renewed = mine.admin.http.post("/evidence/renewals", json={"all": True, "reason": "a yearly renewal"})
    assert renewed.status_code == 201, renewed.text
    engine = mine.qcos.engine
    with scope(engine, None) as connection:
        tables = connection.execute(
            sa.text("select table_name from information_schema.columns where table_schema = 'qcos' and column_name = 'tenant' order by 1")
        ).scalars().all()  # fmt: skip
        for table in tables:
            assert connection.exec_driver_sql(f"select count(*) from qcos.{table}").scalar() == 0, (
                f"{table} without a tenant"
            )
    filled = set()
    for house, stranger in ((mine, theirs), (theirs, mine)):
        with scope(engine, house.tenant) as connection:
            for table in tables:
                rows = connection.exec_driver_sql(f"select tenant from qcos.{table}").scalars().all()
                assert {str(row) for row in rows} <= {str(house.tenant)}, table
                assert (
                    connection.exec_driver_sql(
                        f"select count(*) from qcos.{table} where tenant = '{stranger.tenant}'"
                    ).scalar()
                    == 0
                )
                filled |= {table} if rows else set()
    assert filled == set(tables), f"nothing was looked for in {set(tables) - filled}"
