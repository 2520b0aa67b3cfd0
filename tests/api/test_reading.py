"""What is read, by whom, and how much of it: listings, streams, and projects that one has no role in."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from qcos.api.answers import encode_cursor
from qcos.api.backends import _order
from qcos.api.follow import STREAMS, Streams
from qcos.backends import store as backends
from qcos.backends.model import JobOutcome
from qcos.base.clock import now, parse_rfc3339
from qcos.base.limits import STREAMS_PER_PRINCIPAL
from qcos.db.engine import scope
from qcos.identity import store as identity
from qcos.metering import store as metering
from qcos.policy.bundle import shipped

from .conftest import Door

Headers = dict[str, str]


def _person(door: Door, name: str, *grants: tuple[str, str | None]) -> Headers:
    """Register somebody with roles and return the headers of his requests."""
    assert door.http.post("/principals", json={"id": name}).status_code == 201
    for role, project in grants:
        body = {"role": role, "project": project}
        assert door.http.post(f"/principals/{name}/roles", json=body).status_code == 200
    made = door.http.post("/tokens", json={"principal": name, "days": 1}).json()
    return {"Authorization": f"Bearer {made['token']}"}


def _submit(door: Door, project: str = "p1", headers: Headers | None = None, **parts: Any) -> str:
    response = door.http.post(
        "/jobs", json=door.spec(governance={"project": project}, **parts), headers=headers
    )
    assert response.status_code in (201, 403), response.text
    return str(response.json()["job_id"])


@pytest.fixture
def three(door: Door) -> Door:
    """A door with projects p1, p2 and p3, of the teams t1, t2 and t3, each with budget and quota."""
    with scope(door.api.engine, door.tenant) as connection:
        for n in (2, 3):
            identity.create_project(connection, door.tenant, f"p{n}", team=f"t{n}", cost_center=f"CC-{n}")
            metering.set_budget(connection, door.tenant, f"p{n}", 1_000_000_000, "USD")
        for n in (1, 2, 3):
            metering.set_quota(connection, door.tenant, f"t{n}", 10_000)
    return door


@contextmanager
def _statements(door: Door) -> Iterator[list[str]]:
    """Collect the statements sent to the database."""
    sent: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        sent.append(statement)

    sa.event.listen(door.api.engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        sa.event.remove(door.api.engine, "before_cursor_execute", note)


# --- how much is read


def test_a_listing_does_not_read_what_was_submitted(door: Door) -> None:
    """R8.2: a listing stays small however large the jobs are: neither Job Spec nor circuits are read."""
    source = "OPENQASM 3.0;\n" + "// large\n" * 50_000 + "qubit[1] q;\nbit[1] c;\nc = measure q;\n"
    job = _submit(door, circuit={"source": base64.b64encode(source.encode()).decode()})
    with _statements(door) as sent:
        response = door.http.get("/jobs")
    (listed,) = response.json()["items"]
    assert listed["job_id"] == job
    assert [step["step"] for step in listed["steps"]][:2] == ["authenticated", "submitted"]
    assert (listed["classification"], listed["purpose"]) == ("internal", "exploration")
    assert not {"circuits", "placement", "outcome"} & set(listed)
    assert len(response.content) < 4_000
    (select,) = [s for s in sent if "from qcos.job" in s.lower() and "limit" in s.lower()]
    assert "job.spec," not in select and "job.facts" not in select


def test_following_and_waiting_read_only_where_the_job_is(door: Door) -> None:
    """R8.2: what is asked ten times a second is some hundred bytes."""
    job = _submit(door)
    door.http.post(f"/jobs/{job}/cancel")
    with _statements(door) as sent:
        assert "event: end" in door.http.get(f"/jobs/{job}/events").text
        assert door.http.get(f"/jobs/{job}/evidence?wait=0.3").json()["code"] == "evidence.none"
    read = [s for s in sent if "from qcos.job" in s.lower()]
    assert len(read) == 2
    assert not [s for s in read if "job.spec," in s or "job.facts" in s or "job.placement" in s]


# --- streams


def _events(text: str) -> list[tuple[str, Any]]:
    blocks = [
        dict(line.split(": ", 1) for line in block.splitlines())
        for block in text.split("\n\n")
        if "event: " in block
    ]
    return [(block["event"], json.loads(block["data"])) for block in blocks]


def test_a_stream_ends_when_its_token_is_revoked(door: Door) -> None:
    """R11.8: a revoked token is worth nothing to who is already listening either; the stream says why it ends."""
    job = _submit(door)
    headers = _person(door, "user:eve", ("auditor", None))
    with ThreadPoolExecutor(1) as pool:
        stream = pool.submit(door.http.get, f"/jobs/{job}/events", headers=headers)
        token = door.http.get("/whoami", headers=headers).json()["token"]
        while STREAMS.count(door.tenant, "user:eve") == 0:
            assert not stream.done(), stream.result().text
        assert door.http.delete(f"/tokens/{token}").status_code == 200
        *steps, (last, problem) = _events(stream.result(timeout=60).text)
    assert {name for name, _ in steps} == {"step"}
    assert (last, problem["status"], problem["code"]) == ("error", 401, "auth.revoked")
    _until_open(door, "user:eve", 0)


def test_a_stream_ends_when_its_reader_loses_the_role(door: Door) -> None:
    """R11.4: policy is asked again while a stream is open."""
    job = _submit(door)
    headers = _person(door, "user:eve", ("auditor", None))
    with ThreadPoolExecutor(1) as pool:
        stream = pool.submit(door.http.get, f"/jobs/{job}/events", headers=headers)
        while STREAMS.count(door.tenant, "user:eve") == 0:
            assert not stream.done(), stream.result().text
        assert door.http.delete("/principals/user:eve/roles?role=auditor").status_code == 200
        *_, (last, problem) = _events(stream.result(timeout=60).text)
    assert (last, problem["status"], problem["code"]) == ("error", 403, "access.denied")


def _until_open(door: Door, principal: str, count: int) -> None:
    """Wait until so many streams are counted: a server learns of a stream's end right after its reader."""
    while STREAMS.count(door.tenant, principal) != count:
        time.sleep(0.001)


def test_one_stream_too_many_is_refused_and_each_end_makes_room(door: Door) -> None:
    """Law 9: open streams of one principal are limited; those that end count no more."""
    job = _submit(door)
    door.http.post(f"/jobs/{job}/cancel")
    for _ in range(STREAMS_PER_PRINCIPAL):
        assert STREAMS.take(door.tenant, "user:admin")
    refused = door.http.get(f"/jobs/{job}/events")
    assert (refused.status_code, refused.json()["code"]) == (422, "stream.limit")
    assert refused.headers["content-type"] == "application/problem+json"
    STREAMS.give(door.tenant, "user:admin")
    for _ in range(3):  # each gives its place back
        assert door.http.get(f"/jobs/{job}/events").status_code == 200
        _until_open(door, "user:admin", STREAMS_PER_PRINCIPAL - 1)
    for _ in range(STREAMS_PER_PRINCIPAL - 1):
        STREAMS.give(door.tenant, "user:admin")
    assert STREAMS.count(door.tenant, "user:admin") == 0


def test_streams_are_counted_right_by_many_threads(door: Door) -> None:
    """Law 9: no more than the limit, and none is forgotten."""
    streams, taken, together = Streams(5), [], threading.Barrier(8)

    def run() -> None:
        together.wait()
        for _ in range(200):
            if streams.take(door.tenant, "a"):
                taken.append(streams.count(door.tenant, "a"))
                streams.give(door.tenant, "a")

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken and max(taken) <= 5
    assert streams.count(door.tenant, "a") == 0


# --- roles for one project


def test_a_role_in_one_project_lists_that_project_and_ones_own(three: Door) -> None:
    """R11.4: without a filter: all jobs of the projects one may read, one's own wherever, and nothing else; page by page, none twice."""
    door = three
    gina = _person(door, "user:gina", ("quantum-engineer", "p1"), ("auditor", "p2"))
    mine = [_submit(door, "p1"), _submit(door, "p1", gina), _submit(door, "p2"), _submit(door, "p2", gina)]
    theirs = _submit(door, "p3")
    own = _submit(door, "p3", gina)  # denied: no role there; a job of hers all the same
    assert door.http.get(f"/jobs/{own}").json()["state"] == "denied"
    seen, after = [], None
    while True:
        listed = door.http.get(
            "/jobs", params={"limit": 2, **({"after": after} if after else {})}, headers=gina
        )
        assert listed.status_code == 200, listed.text
        seen += [job["job_id"] for job in listed.json()["items"]]
        if (after := listed.json()["next"]) is None:
            break
    assert [job for job in seen if job != own] == mine[::-1]
    assert theirs not in seen
    assert door.http.get("/jobs?project=p1", headers=gina).json()["next"] is None
    assert {j["project"] for j in door.http.get("/jobs?project=p1", headers=gina).json()["items"]} == {"p1"}
    elsewhere = door.http.get("/jobs?project=p3", headers=gina)
    assert theirs not in elsewhere.text
    assert elsewhere.status_code == 403 or [j["actor"] for j in elsewhere.json()["items"]] == ["user:gina"]
    by_admin = door.http.get("/jobs?actor=user:admin", headers=gina).json()["items"]
    assert [job["job_id"] for job in by_admin] == [mine[2], mine[0]]
    assert len(door.http.get("/jobs").json()["items"]) == 6


def test_a_role_in_one_project_validates_and_estimates_there(three: Door) -> None:
    """R12.1, R11.4: in that project and in no other."""
    hank = _person(three, "user:hank", ("quantum-user", "p2"))
    for path in ("/jobs/validate", "/estimates"):
        there = three.http.post(path, json=three.spec(governance={"project": "p2"}), headers=hank)
        assert there.status_code == 200, there.text
        elsewhere = three.http.post(path, json=three.spec(), headers=hank)
        assert (elsewhere.status_code, elsewhere.json()["code"]) == (403, "access.denied")
        assert three.http.post(path, json={}, headers={"Authorization": "Bearer qcos_x"}).status_code == 401


def test_a_role_in_one_project_reads_its_money(three: Door) -> None:
    """R11.4, R6.3: budgets of its projects, quotas of their teams, usage of its projects; nothing of others."""
    hank = _person(three, "user:hank", ("quantum-user", "p2"))
    assert [b["project"] for b in three.http.get("/budgets", headers=hank).json()["items"]] == ["p2"]
    assert [q["team"] for q in three.http.get("/quotas", headers=hank).json()["items"]] == ["t2"]
    assert three.http.get("/usage", headers=hank).json()["items"] == []
    nobody = _person(three, "user:nobody")
    for path in ("/budgets", "/quotas", "/usage"):
        assert three.http.get(path, headers=nobody).status_code == 403


def test_usage_by_project_shows_only_projects_one_may_read(three: Door) -> None:
    """R6.3: totals of other projects are left out."""
    with scope(three.api.engine, three.tenant) as connection:
        for n in (1, 2, 3):
            connection.execute(
                metering.CHARGE.insert().values(
                    tenant=three.tenant, job=f"job-{n}", line=0, item="task", quantity=1, unit="task", unit_price=5, per=1, amount=5,
                    currency="USD", price_key="local/aer", price_book="sha256:0", project=f"p{n}", team=f"t{n}", cost_center="CC",
                    backend="paper-sim", month="2026-11", at=now(),
                )
            )  # fmt: skip
    hank = _person(three, "user:hank", ("quantum-user", "p2"))
    assert [row["group"] for row in three.http.get("/usage", headers=hank).json()["items"]] == ["p2"]
    assert [row["group"] for row in three.http.get("/usage").json()["items"]] == ["p1", "p2", "p3"]
    for group, mine, jobs in (("team", "t2", 1), ("cost_center", "CC", 1), ("backend", "paper-sim", 1)):
        (row,) = three.http.get(f"/usage?group_by={group}", headers=hank).json()["items"]
        assert (row["group"], row["jobs"], row["cost"]["micro"]) == (mine, jobs, 5)
    (row,) = three.http.get("/usage?group_by=cost_center").json()["items"]
    assert (row["jobs"], row["cost"]["micro"]) == (3, 15)


def test_projects_one_may_not_read_are_not_listed(three: Door) -> None:
    """R11.4: page by page, too; and nobody without a role sees any."""
    hank = _person(three, "user:hank", ("quantum-user", "p2"), ("auditor", "p3"))
    listed = three.http.get("/projects", headers=hank).json()
    assert [project["id"] for project in listed["items"]] == ["p2", "p3"] and listed["next"] is None
    first = three.http.get("/projects?limit=1", headers=hank).json()
    rest = three.http.get("/projects", params={"after": first["next"]}, headers=hank).json()
    assert [p["id"] for p in (*first["items"], *rest["items"])] == ["p2", "p3"]
    assert len(three.http.get("/projects").json()["items"]) == 3
    assert three.http.get("/projects", headers=_person(three, "user:nobody")).status_code == 403


def test_policies_come_page_by_page(three: Door) -> None:
    """R8.2, R3.1: the latest first, each once; the one in force is named on every page."""
    active = three.http.get("/policies").json()["active"]
    files = dict(shipped().files)
    for n in range(4):
        body = {"files": files | {"lib/note.rego": f"package qcos.lib.note\n\nn := {n}\n"}}
        assert three.http.post("/policies", json=body).status_code == 201
    seen: list[str] = []
    after = None
    while True:
        listed = three.http.get(
            "/policies", params={"limit": 2, **({"after": after} if after else {})}
        ).json()
        assert listed["active"] == active
        seen += [item["version"] for item in listed["items"]]
        if (after := listed["next"]) is None:
            break
    assert len(seen) == len(set(seen)) == 5 and seen[-1] == active
    assert [item["version"] for item in three.http.get("/policies").json()["items"]] == seen


def test_budgets_and_quotas_come_page_by_page(three: Door) -> None:
    """R8.2: a listing says when there is more."""
    for path, name, all_ in (
        ("/budgets", "project", ["p1", "p2", "p3"]),
        ("/quotas", "team", ["t1", "t2", "t3"]),
    ):
        first = three.http.get(path, params={"limit": 2}).json()
        assert [item[name] for item in first["items"]] == all_[:2]
        rest = three.http.get(path, params={"limit": 2, "after": first["next"]}).json()
        assert [item[name] for item in rest["items"]] == all_[2:] and rest["next"] is None
        whole = three.http.get(path).json()
        assert [item[name] for item in whole["items"]] == all_ and whole["next"] is None
        for bad in ({"limit": 501}, {"after": "nonsense"}):
            assert three.http.get(path, params=bad).json()["code"].startswith("page.")


def test_a_job_one_may_not_read_is_one_that_does_not_exist(three: Door) -> None:
    """Law 7, R11.4: the answers are equal but for the name asked for; who may read and no more is told so."""
    job = _submit(three)
    decision = three.http.get(f"/jobs/{job}").json()["decision_id"]
    hank = _person(three, "user:hank", ("quantum-engineer", "p2"))
    for tail in ("", "/result", "/spec", "/events", "/decision", "/evidence"):
        there = three.http.get(f"/jobs/{job}{tail}", headers=hank)
        absent = three.http.get(f"/jobs/job-none{tail}", headers=hank)
        assert (there.status_code, there.json()["code"]) == (404, "job.unknown"), there.text
        assert there.text.replace(job, "job-none") == absent.text
    there = three.http.get(f"/decisions/{decision}", headers=hank)
    absent = three.http.get("/decisions/dec-none", headers=hank)
    assert there.status_code == 404
    assert there.text.replace(decision, "dec-none") == absent.text
    assert three.http.post(f"/jobs/{job}/cancel", headers=hank).status_code == 403


# --- what callers see of backends


def test_backends_do_not_count_other_tenants_jobs_exactly(door: Door) -> None:
    """Law 7: the history of a backend is that of all tenants: told in orders of magnitude."""
    with scope(door.api.engine, None) as connection:
        outcomes = [JobOutcome("paper-sim", n % 3 > 0, 1.2345) for n in range(123)]
        backends.record_outcomes(connection, outcomes)
    (shown,) = door.http.get("/backends").json()["items"]
    assert (shown["jobs"], shown["mean_seconds"], shown["success_rate"]) == ("100+", 1.0, 0.67)
    assert shown["queue_depth"] == 0


@given(st.integers(0, 10**15))
def test_orders_of_magnitude(count: int) -> None:
    """Each count is at least what is told, and less than ten times of it."""
    told = _order(count)
    if count < 10:
        assert told == "<10"
    else:
        floor = int(told.removesuffix("+"))
        assert told.endswith("+") and floor <= count < 10 * floor and set(told[1:-1]) <= {"0"}


# --- what is refused


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"])
def test_instants_outside_of_the_calendar_are_refused(door: Door, text: str) -> None:
    """R12.9: 400 and no 500."""
    with pytest.raises(ValueError, match="years 1 to 9999"):
        parse_rfc3339(text)
    for path in ("/usage", "/ledger/records"):
        for name in ("since", "until"):
            response = door.http.get(path, params={name: text})
            assert (response.status_code, response.json()["code"]) == (400, "request.time"), response.text
    response = door.http.get("/jobs", params={"after": encode_cursor([text, "job-1"])})
    assert (response.status_code, response.json()["code"]) == (400, "request.time")


def test_a_state_that_there_is_not_is_refused_with_those_that_there_are(door: Door) -> None:
    """R12.9: and not taken for one that no job is in."""
    response = door.http.get("/jobs?state=nonsense")
    assert (response.status_code, response.json()["code"]) == (400, "job.state")
    assert {"queued", "completed", "denied"} <= set(response.json()["expected"].split(", "))
    for state in response.json()["expected"].split(", "):
        assert door.http.get(f"/jobs?state={state}").status_code == 200


@pytest.mark.parametrize("after", ["", "nonsense", "rec-2026-01-09-xyz", "rec-2026-01-09-0123456789abcdef0"])
def test_a_bad_cursor_of_records_is_refused(door: Door, after: str) -> None:
    """R12.9: an empty page would look like the end."""
    response = door.http.get("/ledger/records", params={"after": after})
    assert (response.status_code, response.json()["code"]) == (400, "page.cursor")


def test_listings_walk_indexes(door: Door) -> None:
    """R8.2: jobs of an actor or project, and charges of a project, are found in order, without reading those of others."""
    indexes = {
        row[0]: row[1]
        for row in door.rows("select indexname, indexdef from pg_indexes where schemaname = 'qcos'")
    }
    wanted = {
        "job_newest_of_actor": "(tenant, actor, created DESC, id DESC)",
        "job_newest_of_project": "(tenant, project, created DESC, id DESC)",
        "charge_n_of_project": "(tenant, project, n DESC)",
    }
    for name, columns in wanted.items():
        assert columns in indexes[name]
