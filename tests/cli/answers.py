"""Answers of the API, as `qcos.api` makes them."""

from __future__ import annotations

from typing import Any

DECISION: dict[str, Any] = {
    "decision_id": "dec-2026-01-09-aa",
    "allow": True,
    "reasons": [],
    "excluded": [
        {
            "policy": "qcos.jobs.budget",
            "code": "budget.exceeded",
            "message": "12.50 of 3.00 USD",
            "backend": "braket-sv1",
        }
    ],
    "policy_version": "sha256:abc",
}
DENIED: dict[str, Any] = DECISION | {
    "allow": False,
    "reasons": [
        {
            "policy": "qcos.jobs.quota",
            "code": "quota.exceeded",
            "message": "5000 of 100 shots left",
            "hint": "wait",
        },
        {"policy": "qcos.jobs.access", "code": "access.role", "message": "production needs quantum-engineer"},
    ],
}
PLACEMENT: dict[str, Any] = {
    "backend": "aer-ideal",
    "provider": "qiskit-aer",
    "scores": [
        {"backend": "aer-ideal", "total": 900000, "cost": 1000000, "queue": 800000, "history": 700000}
    ],
    "dropped": [{"backend": "aer-fake-manila", "code": "qubits.few", "message": "has 5 of 12 qubits"}],
}
JOB: dict[str, Any] = {
    "job_id": "qcos-job-2026-01-09-a7f3",
    "state": "queued",
    "project": "material",
    "actor": "user:alice@company.com",
    "backend": "aer-ideal",
    "provider": "qiskit-aer",
    "created_at": "2026-01-09T10:30:00.123456Z",
    "updated_at": "2026-01-09T10:30:01Z",
    "decision": DECISION,
    "placement": PLACEMENT,
    "price": {"amount": "0.000123", "currency": "USD", "micro": 123, "lines": []},
    "charge": None,
    "bundle_id": None,
    "error": None,
    "steps": [{"n": 3, "step": "decided", "at": "2026-01-09T10:30:00.2Z", "detail": {"allow": True}}],
}
DONE: dict[str, Any] = JOB | {
    "state": "completed",
    "charge": {"amount": "0.000100", "currency": "USD", "micro": 100},
    "bundle_id": "evidence-2026-01-09-xyz",
}
RESULT: dict[str, Any] = {
    "job_id": JOB["job_id"],
    "backend": "aer-ideal",
    "circuits": [{"counts": {"00": 507, "11": 493}, "shots": 1000}],
}
