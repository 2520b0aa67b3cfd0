"""The application itself: what it answers when things go wrong, and what it says of itself (R12.9, R8.1)."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from fastapi import APIRouter

from qcos.api import errors
from qcos.api.answers import amount, decode_cursor, encode_cursor, money
from qcos.api.errors import STATUS
from qcos.base.errors import Conflict, Invalid, QcosError, Unavailable

from .conftest import Door


def test_every_family_has_a_status() -> None:
    """R12.9: no family of errors is forgotten in the one table."""
    families = {kind.family for kind in QcosError.__subclasses__()}
    assert families == set(STATUS)


def test_a_problem_carries_when_to_come_back() -> None:
    """RFC 9110: Retry-After in whole seconds, at least one."""
    for seconds, told in ((0.2, "1"), (3.0, "3")):
        answer = errors.problem(Unavailable("x.y", "away", retry_after_s=seconds))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, told)
    assert "retry-after" not in errors.problem(Conflict("x.y", "no")).headers


def test_an_unexpected_error_is_a_problem_without_its_inside(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    """R12.9: 500 `server.bug`: the cause goes to the log, not to the caller."""
    router = APIRouter()

    @router.get("/v1/breaks")
    def breaks() -> None:
        raise RuntimeError("the inside")

    door.app.include_router(router)
    with caplog.at_level(logging.ERROR):
        response = door.http.get("/breaks")
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == "server.bug"
    assert "the inside" not in response.text
    assert "the inside" in caplog.text


def test_health_and_readiness(door: Door) -> None:
    """Probes need no token; readiness asks the database."""
    for path, status in (("/healthz", "ok"), ("/readyz", "ready")):
        response = door.http.get(f"http://testserver{path}", headers={"Authorization": ""})
        assert (response.status_code, response.json()) == (200, {"status": status})


def test_the_openapi_document_describes_every_route(door: Door) -> None:
    """R2.1: each operation has a summary, a tag and no duplicate id."""
    document = door.http.get("/openapi.json").json()
    operations = [op for methods in document["paths"].values() for op in methods.values()]
    assert all(op["summary"] and op["tags"] for op in operations)
    assert len({op["operationId"] for op in operations}) == len(operations) > 30


def test_a_queued_job_is_cancelled_with_nobody_to_run_it(door: Door) -> None:
    """R8.5: deterministic: there is no worker; 201, 200, reservation released, and the job shows no secrets of its row."""
    submitted = door.http.post("/jobs", json=door.spec())
    assert submitted.status_code == 201
    job = submitted.json()
    assert job["state"] == "queued" and job["backend"] == "paper-sim"
    assert not {"spec", "context", "tenant", "handle", "trace"} & set(job)
    assert door.rows("select state from qcos.reservation") == [("reserved",)]
    assert door.http.get(f"/jobs/{job['job_id']}/evidence").json()["code"] == "evidence.pending"
    cancelled = door.http.post(f"/jobs/{job['job_id']}/cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert door.rows("select state, coalesce(settled_amount, 0) from qcos.reservation") == [("released", 0)]
    events = door.http.get(f"/jobs/{job['job_id']}/events").text
    assert events.count("event: step") == 5 and events.count("event: end") == 1


def test_a_body_over_the_limit_is_refused_on_every_route(door: Door) -> None:
    """R2.1: also where the framework reads the body."""
    big = json.dumps({"files": {"x.rego": "#" * (9 * 1024 * 1024)}})
    for path in ("/jobs", "/policies", "/projects"):
        response = door.http.post(path, content=big, headers={"Content-Type": "application/json"})
        assert (response.status_code, response.json()["code"]) == (413, "request.size"), path


@pytest.mark.parametrize(
    ("micro", "text"),
    [
        (0, "0.000000"),
        (1, "0.000001"),
        (12_500_000, "12.500000"),
        (-6, "-0.000006"),
        (-1_000_001, "-1.000001"),
    ],
)
def test_amounts_are_exact_text(micro: int, text: str) -> None:
    """R3.2: no float near money."""
    assert amount(micro) == text
    assert money(micro, "USD") == {"amount": text, "currency": "USD", "micro": micro}
    assert money(None, None) is None


@pytest.mark.parametrize("parts", [["a"], ["2026-01-01T00:00:00Z", "job-1"], ["ü", "\x00"]])
def test_a_cursor_is_read_back(parts: list[str]) -> None:
    """R8.2: and nothing else is."""
    assert decode_cursor(encode_cursor(parts), len(parts)) == parts
    wrong: list[Any] = ["", "x", "====", "W10", encode_cursor([*parts, "more"])]
    for text in wrong:
        with pytest.raises(Invalid):
            decode_cursor(text, len(parts))
