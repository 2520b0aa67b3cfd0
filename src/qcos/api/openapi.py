"""The OpenAPI document, and the page that shows it; the page's scripts are served from here, so it works without internet."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from swagger_ui_bundle import swagger_ui_path

from qcos.jobs.lifecycle import STATES
from qcos.jobs.spec import SCHEMA

_TEXT = {"type": "string"}
_MONEY = {
    "type": ["object", "null"],
    "properties": {
        "amount": {"type": "string", "examples": ["0.002501"]},
        "currency": {"type": "string", "examples": ["USD"]},
        "micro": {"type": "integer", "description": "The same in millionths of the currency's unit."},
    },
}
_PROBLEM = {
    "type": "object",
    "description": "RFC 9457. `code` is stable, `family` says what to do next; the codes are listed in docs/reference/errors.md.",
    "required": ["type", "title", "status", "code", "family", "message"],
    "properties": {
        **dict.fromkeys(
            ("type", "title", "detail", "code", "message", "subject", "expected", "got", "hint"), _TEXT
        ),
        "status": {"type": "integer"},
        "family": {
            "enum": [
                "invalid",
                "not_found",
                "conflict",
                "denied",
                "limit",
                "unavailable",
                "driver",
                "integrity",
            ]
        },
        "problems": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": dict.fromkeys(("pointer", "message", "expected", "got", "hint", "code"), _TEXT),
            },
        },
    },
}
_REASON = {
    "type": "object",
    "properties": dict.fromkeys(("policy", "code", "message", "hint", "backend"), _TEXT),
}
_DECISION = {
    "type": "object",
    "properties": {
        "decision_id": _TEXT,
        "allow": {"type": "boolean"},
        "reasons": {"type": "array", "items": _REASON},
        "excluded": {
            "type": "array",
            "items": _REASON,
            "description": "Backends that policy ruled out, each with its reason.",
        },
        "policies": {"type": "array", "items": _TEXT},
        "policy_version": _TEXT,
        "input_digest": _TEXT,
        "time": _TEXT,
    },
}
_JOB = {
    "type": "object",
    "properties": {
        **dict.fromkeys(
            ("job_id", "project", "team", "cost_center", "actor", "classification", "purpose"), _TEXT
        ),
        "state": {"enum": list(STATES)},
        "shots": {"type": "integer", "description": "Over all circuits."},
        **{name: {"type": ["string", "null"]} for name in ("backend", "provider", "bundle_id")},
        "spec_digest": _TEXT,
        "decision": {"oneOf": [{"$ref": "#/components/schemas/Decision"}, {"type": "null"}]},
        "placement": {
            "type": ["object", "null"],
            "description": "Scores, and why other backends were not taken.",
        },
        "price": {
            **_MONEY,
            "description": "Reserved; the job is not charged more on backends with capped prices.",
        },
        "charge": {**_MONEY, "description": "What it cost, once it is settled."},
        "error": {"type": ["object", "null"]},
        "steps": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "n": {"type": "integer"},
                    "step": _TEXT,
                    "at": _TEXT,
                    "detail": {"type": "object"},
                },
            },
        },
        "created_at": _TEXT,
        "updated_at": _TEXT,
    },
}
_TAKES_SPEC = ("/v1/jobs", "/v1/jobs/validate", "/v1/estimates")
_GIVES_JOB = (
    ("/v1/jobs", "post", ("200", "201")),
    ("/v1/jobs/{job_id}", "get", ("200",)),
    ("/v1/jobs/{job_id}/cancel", "post", ("200", "202")),
)
_OPEN = (
    "/v1/schemas/job-spec.json",
    "/v1/schemas/ledger-record.json",
    "/v1/trust",
    "/v1/trust/updates",
    "/v1/ledger/checkpoint",
    "/v1/ledger/tile/{path}",
    "/v1/ledger/consistency",
)


def install(app: FastAPI) -> None:
    """Serve the document at ``/v1/openapi.json`` and the page at ``/docs``."""
    app.mount("/docs/assets", StaticFiles(directory=swagger_ui_path))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        assets = "/docs/assets"
        return get_swagger_ui_html(
            openapi_url="/v1/openapi.json",
            title="QCOS API",
            swagger_js_url=f"{assets}/swagger-ui-bundle.js",
            swagger_css_url=f"{assets}/swagger-ui.css",
            swagger_favicon_url=f"{assets}/favicon-32x32.png",
        )

    def document() -> dict[str, Any]:  # Any: OpenAPI
        if app.openapi_schema is None:
            app.openapi_schema = describe(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign] # the way FastAPI documents


def describe(app: FastAPI) -> dict[str, Any]:  # Any: OpenAPI
    """Return the OpenAPI document: what the framework finds, and what handlers read and write themselves."""
    found = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    components = found.setdefault("components", {})
    components["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "An API token, qcos_..."}
    }
    schemas = components.setdefault("schemas", {})
    schemas |= {"JobSpec": _job_spec(), "Job": _JOB, "Decision": _DECISION, "Problem": _PROBLEM}
    found["security"] = [{"token": []}]
    problem = {
        "description": "A problem",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for path, operations in found["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)  # ours are problems, with status 400
            operation["responses"]["default"] = problem
            if path in _OPEN:
                operation["security"] = []
    for path in _TAKES_SPEC:
        spec = {"schema": {"$ref": "#/components/schemas/JobSpec"}}
        found["paths"][path]["post"]["requestBody"] = {
            "required": True,
            "content": {"application/json": spec},
        }
    for path, method, statuses in _GIVES_JOB:
        for status in statuses:
            content = {"application/json": {"schema": {"$ref": "#/components/schemas/Job"}}}
            found["paths"][path][method]["responses"][status] = {"description": "The job", "content": content}
    return found


def _job_spec() -> dict[str, Any]:  # Any: JSON Schema
    """Return the Job Spec's schema with its references made local to the document."""
    text = json.dumps({name: value for name, value in SCHEMA.items() if name not in ("$schema", "$id")})
    inlined: dict[str, Any] = json.loads(text.replace("#/$defs/", "#/components/schemas/JobSpec/$defs/"))
    return inlined
