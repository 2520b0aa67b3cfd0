"""The OpenAPI document says what the handlers really take and give, and the page that shows it needs no internet."""

from __future__ import annotations

import re
from typing import Any

import jsonschema_rs

from .conftest import Door


def _resolved(document: dict[str, Any], name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}", "components": document["components"]}


def test_the_document_describes_what_is_sent_and_answered(door: Door) -> None:
    """R2.1: the schemas in the document accept what the API takes and gives."""
    document = door.http.get("/openapi.json").json()
    body = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/JobSpec"}
    spec = door.spec()
    validator = jsonschema_rs.Draft202012Validator(_resolved(document, "JobSpec"))
    assert validator.is_valid(spec)
    assert not validator.is_valid({**spec, "execution": {"shots": 0}})
    answer = door.http.post("/jobs", json=spec)
    assert answer.status_code == 201, answer.text
    assert jsonschema_rs.Draft202012Validator(_resolved(document, "Job")).is_valid(answer.json())
    problem = door.http.post("/jobs", json={})
    assert jsonschema_rs.Draft202012Validator(_resolved(document, "Problem")).is_valid(problem.json())
    assert problem.headers["content-type"] == "application/problem+json"


def test_every_operation_says_how_it_fails_and_who_may_call(door: Door) -> None:
    """R12.9: one form of refusal everywhere; what is open without a token is named."""
    document = door.http.get("/openapi.json").json()
    operations = {
        (path, method): o for path, found in document["paths"].items() for method, o in found.items()
    }
    assert all(
        "application/problem+json" in o["responses"]["default"]["content"] for o in operations.values()
    )
    assert document["security"] == [{"token": []}]
    free = sorted(path for (path, _), o in operations.items() if o.get("security") == [])
    assert free == [
        "/v1/ledger/checkpoint",
        "/v1/ledger/consistency",
        "/v1/ledger/tile/{path}",
        "/v1/schemas/job-spec.json",
        "/v1/schemas/ledger-record.json",
        "/v1/trust",
        "/v1/trust/updates",
    ]


def test_the_page_loads_nothing_from_elsewhere(door: Door) -> None:
    """R10.4: the page works on a network without internet."""
    page = door.http.get("http://testserver/docs").text
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(sources) >= 3
    for source in sources:
        assert source.startswith("/docs/assets/")
        assert door.http.get(f"http://testserver{source}").status_code == 200
