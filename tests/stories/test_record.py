"""Table 1: what, when, where, who, why, result and evidence of every execution stand in the signed evidence (R1.1 to R1.7)."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
from typing import Any

import pytest

from qcos.base.clock import parse_rfc3339
from qcos.evidence.verify import verify

from .house import ROTATED, House

SPEC_PARTS: dict[str, Any] = {
    "circuit": {"compiler_version": "qiskit-1.0.0", "parameters": {"theta": 0.5}},
    "execution": {"seed": 4711, "backend_constraints": {"allowed_providers": ["qiskit-aer"]}},
    "governance": {
        "classification": "internal-restricted",
        "purpose": "production-benchmark",
        "justification": "Quarterly benchmark, ticket 4711",
    },
    "evidence_requirements": {"level": "full", "retention_days": 2555},
}


@pytest.fixture(scope="module")
def told(shared_house: House) -> tuple[House, dict[str, Any], dict[str, Any], dict[str, Any]]:
    """One executed job, its bundle, and the statement that both keys have signed."""
    house = shared_house
    job = house.run(house.spec(ROTATED, shots=200, **{k: dict(v) for k, v in SPEC_PARTS.items()}))
    bundle = house.bundle(job["job_id"])
    assert verify(bundle, house.qcos.trust).ok
    statement = json.loads(base64.b64decode(bundle["proof"]["envelope"]["payload"]))
    return house, job, bundle, statement["predicate"]


def test_what(told: Any) -> None:
    """R1.1: circuit, parameters, compiler and version, seeds."""
    _, job, _, predicate = told
    what = predicate["what"]
    assert what["seed"] == 4711
    assert what["shots"] == 200
    assert what["compilerRequested"] == "qiskit-1.0.0"
    assert what["compiler"].startswith("qiskit-")
    assert what["compiler"] == job["outcome"]["compiler"]
    (circuit,) = what["circuits"]
    assert circuit["parameters"] == {"theta": 0.5}
    assert circuit["digest"] == "sha256:" + hashlib.sha256(ROTATED.encode()).hexdigest()
    assert circuit["qubits"] == 1


def test_when(told: Any) -> None:
    """R1.2: a trusted timestamp, not only the system clock; the drift of the clock against it is measured."""
    house, job, bundle, predicate = told
    report = verify(bundle, house.qcos.trust)
    stamped = next(check for check in report.checks if check.name == "timestamp")
    assert stamped.ok
    assert bundle["signatures"]["timestamp_authority"].startswith("RFC3161:")
    when = {
        name: parse_rfc3339(predicate["when"][name])
        for name in ("submittedAt", "startedAt", "endedAt", "sealedAt")
    }
    assert list(when.values()) == sorted(when.values())
    trusted = parse_rfc3339(report.facts["trustedTime"])
    evidenced = next(step for step in job["steps"] if step["step"] == "evidenced")
    digits = dt.timedelta(milliseconds=1)  # the token's time has no more of them
    assert when["sealedAt"] - digits < trusted <= parse_rfc3339(evidenced["at"])
    assert type(evidenced["detail"]["clock_drift_ms"]) is int


def test_where(told: Any) -> None:
    """R1.3: backend, provider, region, compliance zone."""
    _, _, _, predicate = told
    where = predicate["where"]
    assert (where["backend"], where["provider"], where["region"], where["zone"]) == (
        "aer-ideal",
        "qiskit-aer",
        "local",
        "sovereign",
    )
    assert where["onPremise"] is True


def test_who(told: Any) -> None:
    """R1.4: authenticated identity, delegation chain, project, team, tenant."""
    house, _, _, predicate = told
    who = predicate["who"]
    assert who["actor"] == house.engineer.id
    assert who["project"] == house.project
    assert who["team"] == house.team
    assert who["tenant"] == str(house.tenant)
    assert who["delegation"] == []
    assert who["roles"] == ["quantum-engineer"]
    assert who["tokenId"] == house.engineer.token_id


def test_why(told: Any) -> None:
    """R1.5: business justification, classification, purpose."""
    house, _, _, predicate = told
    assert predicate["why"] == {
        "purpose": "production-benchmark",
        "classification": "internal-restricted",
        "costCenter": house.cost_center,
        "justification": "Quarterly benchmark, ticket 4711",
    }


def test_result(told: Any) -> None:
    """R1.6: output data, execution metadata, resources consumed."""
    house, job, bundle, predicate = told
    output = house.engineer.client.jobs.result_document(job["job_id"])
    assert "sha256:" + hashlib.sha256(output).hexdigest() == bundle["output_hash"]
    counts = json.loads(output)["circuits"][0]["counts"]
    assert sum(counts.values()) == 200
    result = predicate["result"]
    assert result["shotsExecuted"] == 200
    assert result["usage"]["shots"] == 200
    assert result["usage"]["egress_bytes"] == len(output)
    assert result["charge"]["amount"] == job["charge"]["micro"]
    assert result["metadata"] == job["outcome"]["metadata"]


def test_evidence(told: Any) -> None:
    """R1.7: cryptographic proof of integrity and provenance: materials, signatures, time and ledger all hold together."""
    house, job, bundle, _ = told
    jobs = house.engineer.client.jobs
    materials = {"input": jobs.spec_document(job["job_id"]), "output": jobs.result_document(job["job_id"])}
    report = verify(bundle, house.qcos.trust, materials=materials)
    assert report.ok, report.reason
    assert not report.pending
    assert {check.name for check in report.checks} >= {
        "envelope", "signature ML-DSA-65", "signature Ed25519", "statement", "reader's fields", "hashes", "timestamp",
        "ledger checkpoint", "ledger inclusion", "ledger record",
    }  # fmt: skip
    forged = verify(
        bundle, house.qcos.trust, materials={"output": materials["output"].replace(b"1", b"2", 1)}
    )
    assert not forged.ok
