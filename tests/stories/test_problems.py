"""Every error is an RFC 9457 problem with a stable code; nothing that is sent makes the server fail (R12.9)."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from .house import House


def problem_of(response: httpx.Response) -> dict[str, Any]:
    """Check that an answer is a well-formed problem, and return it."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    problem: dict[str, Any] = response.json()
    assert problem["status"] == response.status_code
    assert problem["type"] == f"urn:qcos:problem:{problem['code']}"
    for member in ("title", "detail", "family", "code", "message"):
        assert isinstance(problem[member], str) and problem[member], member
    assert problem["message"] in problem["detail"]
    for item in problem.get("problems", []):
        assert item["pointer"] == "" or item["pointer"].startswith("/")
        assert item["message"]
    return problem


ERRORS: list[tuple[str, str, dict[str, Any], int, str]] = [
    ("GET", "/nothing", {}, 404, "route.unknown"),
    ("GET", "/jobs/none", {}, 404, "job.unknown"),
    ("GET", "/jobs/none/result", {}, 404, "job.unknown"),
    ("GET", "/jobs/none/events", {}, 404, "job.unknown"),
    ("GET", "/jobs/none/evidence", {}, 404, "job.unknown"),
    ("POST", "/jobs/none/cancel", {}, 404, "job.unknown"),
    ("GET", "/decisions/none", {}, 404, "decision.unknown"),
    ("GET", "/policies/sha256:none", {}, 404, "policy.unknown"),
    ("GET", "/ledger/records/none", {}, 404, "ledger.record"),
    ("GET", "/ledger/proofs/none", {}, 404, "ledger.record"),
    ("GET", "/ledger/tile/0/000.p/9999", {}, 404, "ledger.tile"),
    ("GET", "/ledger/tile/..%2f..%2f..%2fadmin.token", {}, 404, "ledger.tile"),
    ("PUT", "/projects/none/budget", {"json": {"monthly_limit": "1"}}, 404, "project.unknown"),
    ("DELETE", "/tokens/none", {}, 404, "token.unknown"),
    ("DELETE", "/jobs", {}, 405, "http.405"),
    ("GET", "/jobs", {"params": {"limit": "0"}}, 400, "page.limit"),
    ("GET", "/jobs", {"params": {"limit": "501"}}, 400, "page.limit"),
    ("GET", "/jobs", {"params": {"limit": "many"}}, 400, "request.invalid"),
    ("GET", "/jobs", {"params": {"after": "nonsense"}}, 400, "page.cursor"),
    ("GET", "/jobs", {"params": {"after": "WyJhIiwiYiJd"}}, 400, "request.time"),
    ("GET", "/charges", {"params": {"after": "WyJhIl0"}}, 400, "page.cursor"),
    ("GET", "/usage", {"params": {"group_by": "colour"}}, 400, "usage.group_by"),
    ("GET", "/usage", {"params": {"since": "yesterday"}}, 400, "request.time"),
    ("GET", "/ledger/records", {"params": {"since": "2026-01-01T00:00:00"}}, 400, "request.time"),
    ("GET", "/ledger/consistency", {"params": {"old": "x", "new": "1"}}, 400, "request.invalid"),
    ("POST", "/projects", {"content": b"{"}, 400, "request.invalid"),
    ("POST", "/projects", {"json": {"id": "p"}}, 400, "request.invalid"),
    ("POST", "/projects", {"json": {"id": "../p", "team": "t", "cost_center": "c"}}, 400, "project.name"),
    ("POST", "/projects", {"json": {"id": "p", "team": "t", "cost_center": "c", "colour": "red"}}, 400, "request.invalid"),
    ("POST", "/principals", {"json": {"id": "alice"}}, 400, "principal.id"),
    ("POST", "/principals/user:admin/roles", {"json": {"role": "king"}}, 400, "role.unknown"),
    ("PUT", "/teams/t/quota", {"json": {"daily_shots": -1}}, 400, "request.invalid"),
    ("POST", "/tokens", {"json": {"principal": "user:none", "days": 1}}, 404, "principal.unknown"),
    ("POST", "/policies", {"json": {"files": {}}}, 400, "request.invalid"),
    ("POST", "/policies", {"json": {"files": {"x.rego": "no rego"}}}, 400, "policy.bundle"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "given", "status", "code"), ERRORS, ids=[f"{m}{p}-{c}" for m, p, _, _, c in ERRORS]
)
def test_each_error_is_a_problem(
    shared_house: House, method: str, path: str, given: dict[str, Any], status: int, code: str
) -> None:
    """R12.9: one taxonomy: the status, the stable code, the members of RFC 9457."""
    problem = problem_of(shared_house.admin.http.request(method, path, **given))
    assert (problem["status"], problem["code"]) == (status, code), problem


@pytest.mark.parametrize("amount", ["-1", "NaN", "Infinity", "1e400", "0.0000001", "five", "", "9000000001"])
def test_what_is_no_amount_of_money(shared_house: House, amount: str) -> None:
    """R3.2: budgets are exact amounts, within limits."""
    response = shared_house.admin.http.put(
        f"/projects/{shared_house.project}/budget", json={"monthly_limit": amount}
    )
    assert problem_of(response)["code"] == "money.amount"
    assert shared_house.budget()["limit"]["micro"] == 5_000_000_000


def test_conflicts_are_problems(house: House) -> None:
    """R12.9: 409 for what exists already."""
    again = house.admin.http.post(
        "/projects", json={"id": house.project, "team": house.team, "cost_center": "c"}
    )
    assert (problem_of(again)["status"], problem_of(again)["code"]) == (409, "project.exists")
    again = house.admin.http.post("/principals", json={"id": house.engineer.id})
    assert (problem_of(again)["status"], problem_of(again)["code"]) == (409, "principal.exists")


NASTY = [
    "\x00",
    "\ud800",
    "a\x00b",
    "😀" * 300,
    "'; drop table qcos.job; --",
    "%s%n",
    "{}" * 50,
    "9" * 400,
    "../../etc/passwd",
]


@pytest.mark.parametrize("text", NASTY, ids=[f"nasty{n}" for n in range(len(NASTY))])
def test_no_text_makes_the_server_fail(shared_house: House, text: str) -> None:
    """R12.9: whatever stands in a field, a query or a path: no 5xx, and every refusal is a problem."""
    house, http = shared_house, shared_house.admin.http
    quoted = "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))
    answers = [http.get(f"{where}{quoted}") for where in (
        "/jobs/", "/decisions/", "/policies/", "/ledger/records/", "/ledger/proofs/", "/ledger/tile/",
        "/jobs?state=", "/jobs?project=", "/jobs?actor=", "/jobs?after=", "/charges?job=", "/charges?after=",
        "/ledger/records?actor=", "/ledger/records?object=", "/ledger/records?act=", "/ledger/records?after=",
        "/ledger/records?since=", "/usage?group_by=", "/usage?since=", "/tokens?principal=",
    )]  # fmt: skip
    bodies: list[tuple[str, str, Any]] = [
        ("POST", "/jobs", house.spec(governance={"justification": text})),
        ("POST", "/jobs", house.spec(governance={"purpose": text})),
        ("POST", "/jobs", house.spec(circuit={"compiler_version": text[:200]})),
        ("POST", "/jobs", house.spec(circuit={"parameters": {text: 1}})),
        ("POST", "/jobs", house.spec(idempotency_key=text[:255])),
        ("POST", "/projects", {"id": text, "team": "t", "cost_center": "c"}),
        ("POST", "/principals", {"id": f"user:x{len(text)}", "attributes": {"a": text}}),
        ("POST", f"/principals/{house.user.id}/roles", {"role": text}),
        ("PUT", f"/projects/{house.project}/budget", {"monthly_limit": text}),
        ("PUT", f"/teams/{quoted}/quota", {"daily_shots": 50_000}),
        ("POST", "/tokens", {"principal": text}),
        ("POST", "/policies/test", {"files": {text: "package x"}}),
        ("POST", "/policies/test", {"files": {"jobs/x.rego": text}}),
        ("POST", "/policies", {"files": {"jobs/x.rego": "package qcos.jobs.x"}, "note": text}),
    ]
    for method, path, body in bodies:
        answers.append(
            http.request(method, path, content=json.dumps(body), headers={"Content-Type": "application/json"})
        )
    failed = [
        f"{a.request.method} {a.request.url}: {a.status_code} {a.text[:150]}"
        for a in answers
        if a.status_code >= 500
    ]
    assert not failed, "\n".join(failed)
    for answer in answers:
        if answer.status_code >= 400:
            problem_of(answer)
