"""All routes of the API, from its own OpenAPI document, with values for what they need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .house import House

PUBLIC = {
    "/v1/trust",
    "/v1/trust/updates",
    "/v1/schemas/job-spec.json",
    "/v1/schemas/ledger-record.json",
    "/v1/ledger/checkpoint",
    "/v1/ledger/tile/{path}",
    "/v1/ledger/consistency",
    "/v1/ledger/anchors",
    "/v1/ledger/anchors/{kind}/{size}",
}


def routes(house: House) -> Iterator[tuple[str, str]]:
    """Return (method, path template) of every route."""
    document = house.qcos_get("/v1/openapi.json").json()
    for path, methods in document["paths"].items():
        for method in methods:
            yield method.upper(), path


def names(house: House, job: dict[str, Any]) -> dict[str, str]:
    """Return a value of this house for every path parameter there is.

    The record is the job's first: its last may be a moment old, a refusal say, and have no proof yet.
    """
    size = int(house.qcos_get("/v1/ledger/checkpoint").text.splitlines()[1])
    return {
        "job_id": job["job_id"],
        "decision_id": job["decision_id"],
        "record_id": house.records(object=job["job_id"], act="job.submitted")[0]["id"],
        "version": house.admin.client.policies.list()["active"],
        "token_id": house.auditor.token_id,
        "principal": house.engineer.id,
        "project": house.project,
        "name": "input",
        "team": house.team,
        "hold_id": "hold-none",
        "role": "evidence",
        "key_id": house.qcos.trust["evidence"][0]["keyId"],
        "path": "0/000" if size >= 256 else f"0/000.p/{size}",
    }
