"""The Job Spec of the white paper (R2.1): accepted as printed, published as a schema, and strict with everything else."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import jsonschema_rs
import pytest

from qcos.base.errors import Invalid
from qcos.jobs.spec import read_spec

from .house import BELL, House, base64_of

LISTING_1 = """{
    "job_id": "qcos-job-2026-01-09-a7f3",
    "circuit": {
        "format": "QASM3",
        "source": "base64-encoded-circuit",
        "compiler_version": "qiskit-1.0.0"
    },
"execution": {
  "shots": 1000,
  "backend_constraints": {
    "min_qubits": 20,
    "max_depth": 100,
    "allowed_providers": ["aws-braket", "ibm-quantum"]
  }
},
"governance": {
  "project": "material-simulation-q1-2026",
  "cost_center": "CC-RD-42",
  "classification": "internal-restricted",
  "purpose": "production-benchmark"
},
"evidence_requirements": {
  "level": "full",
  "retention_days": 2555
}
}"""


def test_listing_1_is_read_as_it_is_printed() -> None:
    """R2.1: Listing 1, verbatim, has no fault, and each field is understood."""
    spec = read_spec(LISTING_1.encode())
    assert spec.job_id == "qcos-job-2026-01-09-a7f3"
    assert (spec.circuits[0].format, spec.circuits[0].compiler_version) == ("QASM3", "qiskit-1.0.0")
    assert (spec.shots, spec.min_qubits, spec.max_depth) == (1000, 20, 100)
    assert spec.allowed_providers == ("aws-braket", "ibm-quantum")
    assert (spec.project, spec.cost_center) == ("material-simulation-q1-2026", "CC-RD-42")
    assert (spec.classification, spec.purpose) == ("internal-restricted", "production-benchmark")
    assert (spec.level, spec.retention_days) == ("full", 2555)


def test_the_server_finds_only_the_circuit_wrong_in_listing_1(house: House) -> None:
    """R2.1: the printed source is no program; that is all there is to say against Listing 1."""
    response = house.engineer.http.post("/jobs/validate", content=LISTING_1)
    assert response.status_code == 400
    assert response.json()["code"].startswith("circuit.")


def test_a_copy_of_listing_1_with_a_real_circuit_runs(house: House) -> None:
    """R2.1: nothing but the source is changed; the job runs on a provider and a backend the listing allows."""
    house.admin.client.identity.create_project(
        "material-simulation-q1-2026", team=house.team, cost_center="CC-RD-42"
    )
    response = house.admin.http.put(
        "/projects/material-simulation-q1-2026/budget", json={"monthly_limit": "5000.00", "currency": "USD"}
    )
    assert response.status_code == 200
    document = json.loads(LISTING_1)
    document["circuit"]["source"] = base64_of(BELL)
    job = house.run(document)
    assert job["job_id"] == "qcos-job-2026-01-09-a7f3"
    assert (job["provider"], job["backend"]) == ("aws-braket", "braket-local-sv")
    dropped = {d["backend"]: d["code"] for d in job["placement"]["dropped"]}
    assert dropped == {
        "aer-fake-kolkata": "routing.provider",
        "aer-fake-manila": "routing.provider",
        "aer-ideal": "routing.provider",
        "braket-local-dm": "routing.qubits",
    }
    counts = house.engineer.client.jobs.result(job["job_id"])["circuits"][0]["counts"]
    assert set(counts) <= {"00", "11"}
    assert sum(counts.values()) == 1000
    assert house.bundle(job["job_id"])["job_id"] == "qcos-job-2026-01-09-a7f3"


def test_the_schema_is_published_and_accepts_listing_1(house: House) -> None:
    """R2.1: anybody can validate against the published schema, with any JSON Schema 2020-12 implementation."""
    response = house.qcos_get("/v1/schemas/job-spec.json")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("application/schema+json")
    schema = response.json()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert jsonschema_rs.meta.is_valid(schema)
    validator = jsonschema_rs.Draft202012Validator(schema)
    listing = json.loads(LISTING_1)
    assert validator.is_valid(listing)
    assert not validator.is_valid(listing | {"colour": "red"})
    assert set(listing) <= set(schema["properties"])


def test_all_problems_are_told_at_once(house: House) -> None:
    """R2.1: unknown fields, wrong types, missing fields, bad base64: each with its JSON pointer and a hint, in one answer."""
    document = house.spec()
    document["circuit"]["source"] = "not base64!"
    document["circuit"]["formt"] = "QASM3"
    document["execution"]["shots"] = "many"
    document["governance"].pop("purpose")
    document["goverment"] = {}
    response = house.engineer.http.post("/jobs", json=document)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    told = {problem["pointer"]: problem for problem in response.json()["problems"]}
    assert set(told) == {"/circuit/source", "/circuit/formt", "/execution/shots", "/governance", "/goverment"}
    assert told["/circuit/source"]["code"] == "spec.base64"
    assert told["/circuit/formt"]["code"] == "spec.unknown_field"
    assert told["/circuit/formt"]["hint"] == "did you mean 'format'?"
    assert told["/goverment"]["hint"] == "did you mean 'governance'?"
    assert told["/execution/shots"]["code"] == "spec.type"
    assert "purpose" in told["/governance"]["message"]
    assert all(problem["hint"] for pointer, problem in told.items() if pointer != "/execution/shots")
    assert house.engineer.client.jobs.page()["items"] == [], "nothing is recorded"


def _with(document: dict[str, Any], pointer: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    *path, last = pointer.strip("/").split("/")
    node = changed
    for part in path:
        node = node.setdefault(part, {})
    node[last] = value
    return changed


WRONG: list[tuple[str, Any, str]] = [
    ("/execution/shots", 0, "spec.minimum"),
    ("/execution/shots", 10_000_001, "spec.maximum"),
    ("/execution/shots", 1.5, "spec.type"),
    ("/execution/shots", True, "spec.type"),
    ("/execution/seed", -1, "spec.minimum"),
    ("/execution/backend_constraints/allowed_providers", [], "spec.minItems"),
    ("/circuit/format", "QIR9", "spec.enum"),
    ("/circuit/source", "", "spec.minLength"),
    ("/governance/project", "../etc", "spec.pattern"),
    ("/governance/purpose", "x" * 201, "spec.pattern"),
    ("/evidence_requirements/retention_days", 36_501, "spec.maximum"),
    ("/evidence_requirements/level", "extreme", "spec.enum"),
]


@pytest.mark.parametrize(("pointer", "value", "code"), WRONG, ids=[f"{p}-{c}" for p, _, c in WRONG])
def test_a_wrong_value_is_pointed_at(shared_house: House, pointer: str, value: Any, code: str) -> None:
    """R2.1: each wrong value is refused at its place."""
    with pytest.raises(Invalid) as caught:
        shared_house.engineer.client.jobs.validate(_with(shared_house.spec(), pointer, value))
    assert caught.value.code == "spec.invalid"
    assert [(p.pointer, p.code) for p in caught.value.problems] == [(pointer, code)]


def test_neither_or_both_kinds_of_circuit(shared_house: House) -> None:
    """R2.1: `circuit` or `circuits`, one of them."""
    document = shared_house.spec()
    both = document | {"circuits": [document["circuit"]]}
    neither = {k: v for k, v in document.items() if k != "circuit"}
    for wrong, pointer, code in ((both, "/circuits", "spec.both"), (neither, "/circuit", "spec.required")):
        with pytest.raises(Invalid) as caught:
            shared_house.engineer.client.jobs.validate(wrong)
        assert [(p.pointer, p.code) for p in caught.value.problems] == [(pointer, code)]


def test_a_source_over_the_limit_is_refused_with_the_limit(shared_house: House) -> None:
    """R2.1: an oversize source is refused with its size and the limit, at its place."""
    too_much = base64.b64encode(b"//" + b"x" * (1024 * 1024 - 1)).decode()
    with pytest.raises(Invalid) as caught:
        shared_house.engineer.client.jobs.validate(shared_house.spec(circuit={"source": too_much}))
    (problem,) = caught.value.problems
    assert problem.pointer == "/circuit/source"
    assert "1048576" in problem.expected or "1398104" in problem.expected
    assert "1 MiB" in problem.hint or problem.hint == "split the job"


def test_a_request_over_the_limit_is_refused(shared_house: House) -> None:
    """R2.1: a body beyond every limit is refused before it is read to its end: 413."""
    response = shared_house.engineer.http.post("/jobs", content=b" " * (8 * 1024 * 1024 + 1))
    assert response.status_code == 413
    assert response.json()["code"] == "request.size"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "json.syntax"),
        (b"\xff\xfe", "json.syntax"),
        (b'{"job_id": "a", "job_id": "b"}', "json.duplicate"),
        (b'{"job_id": NaN}', "json.syntax"),
        (b"[" * 1000, "json.depth"),
    ],
)
def test_what_is_no_json_is_refused(shared_house: House, body: bytes, code: str) -> None:
    """R2.1: broken JSON, duplicate names, NaN, deep nesting."""
    response = shared_house.engineer.http.post("/jobs", content=body)
    assert response.status_code == 400
    assert response.json()["code"] == code
