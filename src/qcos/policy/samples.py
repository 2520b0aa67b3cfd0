"""Sample inputs: one whole document for each entrypoint, as docs/reference/policy.md describes them.

A bundle is tried on them before it is accepted: a policy that fails on every request is found at upload.
"""

from __future__ import annotations

import copy
from typing import Any

from qcos.policy.model import Entrypoint

_PRINCIPAL: dict[str, Any] = {  # Any: JSON
    "id": "user:alice@company.com",
    "kind": "user",
    "team": "chemistry",
    "roles": ["quantum-engineer"],
    "attributes": {"department": "research"},
}

_JOB: dict[str, Any] = {  # Any: JSON
    "job": {
        "id": "job-2026-11-23-0123456789abcdef",
        "project": "drug-discovery",
        "cost_center": "R&D-001",
        "classification": "internal-restricted",
        "purpose": "production-benchmark",
        "retention_days": 2555,
        "shots": 1000,
        "total_shots": 2000,
        "circuits": [
            {"qubits": 2, "depth": 3, "size": 4, "two_qubit_gates": 1},
            {"qubits": 12, "depth": 14, "size": 36, "two_qubit_gates": 11},
        ],
        "constraints": {"min_qubits": 5, "max_depth": 100, "allowed_providers": ["qiskit-aer", "aws-braket"]},
    },
    "principal": _PRINCIPAL,
    "project": {"id": "drug-discovery", "team": "chemistry", "cost_center": "R&D-001"},
    "budget": {
        "project": "drug-discovery",
        "month": "2026-11",
        "currency": "USD",
        "limit": 5_000_000_000,
        "reserved": 0,
        "settled": 1_200_000_000,
        "available": 3_800_000_000,
    },
    "quota": {
        "team": "chemistry",
        "day": "2026-11-23",
        "limit": 50_000,
        "reserved": 0,
        "used": 10_000,
        "available": 40_000,
    },
    "candidates": [
        {
            "backend": "aer-ideal",
            "provider": "qiskit-aer",
            "kind": "simulator",
            "region": "local",
            "zone": "sovereign",
            "on_premise": True,
            "price": 0,
            "currency": "USD",
        },
        {
            "backend": "qpu-1",
            "provider": "aws-braket",
            "kind": "qpu",
            "region": "eu-north-1",
            "zone": "cloud",
            "on_premise": False,
            "price": 12_500_000,
            "currency": "USD",
        },
    ],
    "time": "2026-11-23T10:30:00Z",
}

_ACT: dict[str, Any] = {  # Any: JSON
    "act": "job.read",
    "object": "job-2026-11-23-0123456789abcdef",
    "project": "drug-discovery",
    "own": True,
    "principal": {**_PRINCIPAL, "tenant_roles": []},
    "details": {},
    "time": "2026-11-23T10:30:00Z",
}


def sample(entrypoint: Entrypoint) -> dict[str, Any]:  # Any: JSON
    """Return a whole input document of an entrypoint, to change at will."""
    return copy.deepcopy(_JOB if entrypoint == "jobs" else _ACT)
