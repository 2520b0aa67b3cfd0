"""What each role may do, route by route: the auditor reads everything and changes nothing (R11.4, R3.3)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from .house import House, Person, furnish
from .installation import Installation
from .routes import PUBLIC, names, routes

EVERYBODY = {"quantum-admin", "quantum-engineer", "quantum-user", "auditor", "nobody"}
MEMBERS = EVERYBODY - {"nobody"}
SUBMITTERS = {"quantum-admin", "quantum-engineer", "quantum-user"}
ENGINEERS = {"quantum-admin", "quantum-engineer"}
AUDIT = {"quantum-admin", "auditor"}
ADMIN = {"quantum-admin"}

# Who is let through. What is let through may still fail for another reason, such as a name that is taken.
ALLOWED: dict[tuple[str, str], set[str]] = {
    ("POST", "/v1/jobs"): SUBMITTERS,
    ("POST", "/v1/jobs/validate"): SUBMITTERS,
    ("POST", "/v1/estimates"): SUBMITTERS,
    ("GET", "/v1/jobs"): EVERYBODY,
    ("GET", "/v1/jobs/{job_id}"): MEMBERS,
    ("GET", "/v1/jobs/{job_id}/result"): MEMBERS,
    ("GET", "/v1/jobs/{job_id}/spec"): MEMBERS,
    ("GET", "/v1/jobs/{job_id}/events"): MEMBERS,
    ("GET", "/v1/jobs/{job_id}/decision"): MEMBERS,
    ("GET", "/v1/jobs/{job_id}/evidence"): MEMBERS,
    ("GET", "/v1/jobs/{job_id}/evidence/materials"): MEMBERS,
    ("GET", "/v1/jobs/{job_id}/evidence/materials/{name}"): MEMBERS,
    ("POST", "/v1/jobs/{job_id}/evidence/cose"): MEMBERS,
    ("POST", "/v1/evidence/renewals"): ADMIN,
    ("GET", "/v1/decisions/{decision_id}"): MEMBERS,
    ("POST", "/v1/jobs/{job_id}/cancel"): ENGINEERS,
    ("GET", "/v1/jobs/{job_id}/retention"): MEMBERS,
    ("POST", "/v1/jobs/{job_id}/erase"): set(),  # before its time by nobody
    ("POST", "/v1/holds"): {"auditor"},
    ("GET", "/v1/holds"): AUDIT,
    ("POST", "/v1/holds/{hold_id}/release"): {"auditor"},
    ("GET", "/v1/retention/due"): AUDIT,
    ("POST", "/v1/retention/clock"): ADMIN,
    ("GET", "/v1/backends"): EVERYBODY,
    ("GET", "/v1/whoami"): EVERYBODY,
    ("PUT", "/v1/projects/{project}/budget"): ADMIN,
    ("GET", "/v1/budgets"): MEMBERS,
    ("PUT", "/v1/teams/{team}/quota"): ADMIN,
    ("GET", "/v1/quotas"): MEMBERS,
    ("GET", "/v1/usage"): MEMBERS,
    ("GET", "/v1/charges"): MEMBERS,
    ("POST", "/v1/projects"): ADMIN,
    ("GET", "/v1/projects"): MEMBERS,
    ("POST", "/v1/principals"): ADMIN,
    ("GET", "/v1/principals"): AUDIT,
    ("POST", "/v1/principals/{principal}/disable"): ADMIN,
    ("POST", "/v1/principals/{principal}/enable"): ADMIN,
    ("POST", "/v1/principals/{principal}/roles"): ADMIN,
    ("DELETE", "/v1/principals/{principal}/roles"): ADMIN,
    ("POST", "/v1/tokens"): ADMIN,
    ("GET", "/v1/tokens"): EVERYBODY,
    ("DELETE", "/v1/tokens/{token_id}"): ADMIN,
    ("GET", "/v1/policies"): MEMBERS,
    ("GET", "/v1/policies/{version}"): MEMBERS,
    ("POST", "/v1/policies"): ADMIN,
    ("POST", "/v1/policies/test"): ENGINEERS,
    ("POST", "/v1/policies/{version}/activate"): ADMIN,
    ("GET", "/v1/ledger/status"): AUDIT,
    ("GET", "/v1/ledger/records"): AUDIT,
    ("GET", "/v1/ledger/records/{record_id}"): AUDIT,
    ("GET", "/v1/ledger/proofs/{record_id}"): AUDIT,
    ("GET", "/v1/keys"): set(),  # the keys belong to the installation: tests/stories/test_keys.py
    ("POST", "/v1/keys/{role}/rotate"): set(),
    ("POST", "/v1/keys/{key_id}/revoke"): set(),
    ("POST", "/v1/keys/{role}/request"): set(),
    ("POST", "/v1/keys/certificates"): set(),
}


@pytest.fixture(scope="module")
def settled(qcos: Installation) -> Iterator[tuple[House, dict[str, Any], dict[str, Person]]]:
    """A house with a finished job of its engineer, and somebody without a role."""
    with furnish(qcos) as house:
        people = house.people | {"nobody": house.person("service:nobody", None)}
        job = house.run()
        house.bundle(job["job_id"])  # until a checkpoint covers it: routes are asked for its proof
        yield house, job, people


def test_every_route_is_in_the_table(settled: Any) -> None:
    """R11.4: a new route must say who may use it."""
    house, _, _ = settled
    assert {route for route in routes(house) if route[1] not in PUBLIC} == set(ALLOWED)


def _ask(house: House, values: dict[str, str], person: Person, method: str, path: str) -> httpx.Response:
    values = values | {"token_id": "tok-none", "principal": "user:none"}
    if path.endswith("/{version}/activate"):
        values["version"] = "sha256:none"
    bodies: dict[str, Any] = {
        "/v1/jobs": house.spec(),
        "/v1/jobs/validate": house.spec(),
        "/v1/estimates": house.spec(),
        "/v1/projects/{project}/budget": {"monthly_limit": "5000.00"},
        "/v1/teams/{team}/quota": {"daily_shots": 50_000},
        "/v1/projects": {"id": house.project, "team": house.team, "cost_center": "CC"},
        "/v1/principals": {"id": house.engineer.id},
        "/v1/principals/{principal}/roles": {"role": "auditor"},
        "/v1/tokens": {"principal": "user:none", "days": 1},
        "/v1/policies": {"files": {"jobs/x.rego": "package qcos.jobs.x\n"}},
        "/v1/policies/test": {"files": {"jobs/x.rego": "package qcos.jobs.x\n"}},
        "/v1/policies/{version}/activate": {"note": "x"},
        "/v1/evidence/renewals": {"all": False},
        "/v1/jobs/{job_id}/erase": {"reason": "x"},
        "/v1/holds": {"kind": "project", "subject": house.project, "reason": "x"},
        "/v1/holds/{hold_id}/release": {"reason": "x"},
        "/v1/retention/clock": {"today": f"{dt.date.today()}"},
        "/v1/keys/{key_id}/revoke": {"reason": "x"},
        "/v1/keys/certificates": {"chain": "x"},
    }
    params = {"role": "auditor"} if method == "DELETE" and path.endswith("roles") else None
    content = bodies.get(path) if method in ("POST", "PUT") else None
    return person.http.request(method, house.qcos.url + path.format(**values), json=content, params=params)


@pytest.mark.parametrize("role", sorted(EVERYBODY))
def test_each_route_lets_through_whom_it_should(settled: Any, role: str) -> None:
    """R11.4: 403 with the policy's code for everybody else; a job that he may not see does not exist for him."""
    house, job, people = settled
    wrong = []
    values = names(house, job)  # asked for once: four requests each time would be most of what this test does
    for (method, path), allowed in ALLOWED.items():
        response = _ask(house, values, people[role], method, path)
        if role in allowed:
            if response.status_code in (401, 403) or response.status_code >= 500:
                wrong.append(f"{method} {path} refuses {role}: {response.status_code} {response.text[:200]}")
        elif not (
            (response.status_code == 403 and response.json()["code"].startswith("access."))
            or (
                response.status_code == 404  # whose job or decision it is, is not told
                and response.json()["code"] in ("job.unknown", "decision.unknown")
            )
        ):
            wrong.append(f"{method} {path} admits {role}: {response.status_code} {response.text[:200]}")
    assert not wrong, "\n".join(wrong)


def test_the_auditor_holds_and_changes_nothing_else(settled: Any) -> None:
    """R11.4: having tried every route, the auditor has left no act behind but a hold, a signature asked for, denied submissions and
    refusals.
    """
    house, _, _ = settled
    acts = {record["act"] for record in house.records(actor=house.auditor.id)}
    assert "access.denied" in acts
    assert acts <= {"job.submitted", "policy.decided", "access.denied", "hold.placed", "evidence.signed"}
    assert all(r["details"].get("state", "denied") == "denied" for r in house.records(actor=house.auditor.id))


def test_a_user_cancels_only_what_is_his(settled: Any) -> None:
    """R11.4: quantum-user may cancel his own jobs: the job has ended, so the answer is 409 and no refusal."""
    house, job, _ = settled
    own = house.run(house.spec(), house.user)
    assert house.user.http.post(f"/jobs/{own['job_id']}/cancel").status_code == 409
    assert house.user.http.post(f"/jobs/{job['job_id']}/cancel").status_code == 403


def test_a_role_counts_as_soon_as_it_is_given_and_no_longer_when_taken(settled: Any) -> None:
    """R11.4: grants and revocations hold for the next request."""
    house, _, _ = settled
    fred = house.person("user:fred", None)
    assert fred.http.get("/budgets").status_code == 403
    house.admin.client.identity.grant_role("user:fred", "auditor")
    assert fred.http.get("/budgets").status_code == 200
    house.admin.client.identity.revoke_role("user:fred", "auditor")
    assert fred.http.get("/budgets").status_code == 403
    assert [r["act"] for r in reversed(house.records(object="user:fred"))] == [
        "principal.created",
        "role.granted",
        "role.revoked",
    ]


def test_a_role_for_one_project_opens_that_project(settled: Any) -> None:
    """R11.4: project-scoped assignments: the jobs of that project, and of no other."""
    house, job, _ = settled
    other = house.new_project()
    gina = house.person("user:gina", "quantum-engineer", project=house.project)
    assert gina.http.get(f"/jobs/{job['job_id']}").status_code == 200
    assert gina.http.get(f"/jobs?project={house.project}").status_code == 200
    assert gina.http.get(f"/jobs?project={other}").json()["items"] == []
    hank = house.person("user:hank", "quantum-engineer", project=other)
    assert hank.http.get(f"/jobs/{job['job_id']}").status_code == 404  # nor is he told that it exists
