"""Job Specs from files and options (R2.1)."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from qcos.base.errors import Invalid, Limit
from qcos.base.limits import MAX_SOURCE_BYTES
from qcos.client.spec import Options, changed, from_files, from_sources

QASM3 = (
    'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[2] q; bit[2] c;\nh q[0]; cx q[0], q[1]; c = measure q;\n'
)
QASM2 = '// OPENQASM 3 in a comment\n/* and\n here */ OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[1];\n'
LISTING_1 = {
    "job_id": "qcos-job-2026-01-09-a7f3",
    "circuit": {"format": "QASM3", "source": "T1BFTlFBU00gMzs=", "compiler_version": "qiskit-1.0.0"},
    "execution": {
        "shots": 1000,
        "backend_constraints": {
            "min_qubits": 20,
            "max_depth": 100,
            "allowed_providers": ["aws-braket", "ibm-quantum"],
        },
    },
    "governance": {
        "project": "material-simulation-q1-2026",
        "cost_center": "CC-RD-42",
        "classification": "internal-restricted",
        "purpose": "production-benchmark",
    },
    "evidence_requirements": {"level": "full", "retention_days": 2555},
}


def test_every_field_of_listing_1_can_be_said_with_options() -> None:
    options = Options(
        job_id="qcos-job-2026-01-09-a7f3",
        compiler_version="qiskit-1.0.0",
        shots=1000,
        min_qubits=20,
        max_depth=100,
        providers=("aws-braket", "ibm-quantum"),
        project="material-simulation-q1-2026",
        cost_center="CC-RD-42",
        classification="internal-restricted",
        purpose="production-benchmark",
        level="full",
        retention_days=2555,
    )
    assert from_sources(["OPENQASM 3;"], options) == LISTING_1


def test_the_language_is_read_from_the_source() -> None:
    for source, expected in (
        (QASM3, "QASM3"),
        (QASM2, "QASM2"),
        ("qubit q;", "QASM3"),
        ("/* OPENQASM 2.0;", "QASM3"),
        ("", "QASM3"),
    ):
        circuit = from_sources([source], Options(project="p"))["circuit"]
        assert circuit["format"] == expected
        assert base64.b64decode(circuit["source"]).decode() == source


def test_comments_without_end_are_read_in_linear_time() -> None:
    assert from_sources(["/**/" * 200_000], Options())["circuit"]["format"] == "QASM3"


def test_several_files_are_one_job(tmp_path: Path) -> None:
    files = [tmp_path / "a.qasm", tmp_path / "b.qasm"]
    files[0].write_text(QASM3)
    files[1].write_text(QASM2)
    spec = from_files(files, Options(project="p", parameters={"theta": 0.5}))
    assert "circuit" not in spec
    assert [c["format"] for c in spec["circuits"]] == ["QASM3", "QASM2"]
    assert all(c["parameters"] == {"theta": 0.5} for c in spec["circuits"])


def test_a_job_spec_file_is_taken_as_it_is_and_options_change_it(tmp_path: Path) -> None:
    file = tmp_path / "job.json"
    file.write_text("\n " + json.dumps(LISTING_1))
    assert from_files([file], Options()) == LISTING_1
    other = from_files([file], Options(shots=5, seed=7, project="other"))
    assert other["execution"] == LISTING_1["execution"] | {"shots": 5, "seed": 7}
    assert other["governance"] == LISTING_1["governance"] | {"project": "other"}
    assert other["circuit"] == LISTING_1["circuit"]


def test_what_is_wrong_in_a_job_spec_is_left_for_the_server_to_say() -> None:
    wrong = {"circuit": 5, "execution": [], "governance": "x", "more": 1}
    assert changed(wrong, Options(shots=5, project="p", compiler_version="c")) == wrong


def test_bad_files_are_refused(tmp_path: Path) -> None:
    spec, circuit, twice = tmp_path / "a.json", tmp_path / "a.qasm", tmp_path / "twice.json"
    spec.write_text("{}")
    circuit.write_text(QASM3)
    twice.write_text('{"a": 1, "a": 2}')
    for files, code in (
        ([spec, circuit], "spec.mixed"),
        ([tmp_path / "none"], "spec.file"),
        ([twice], "json.duplicate"),
        ([], "spec.empty"),
    ):
        with pytest.raises(Invalid) as caught:
            from_files(files, Options())
        assert caught.value.code == code
    circuit.write_bytes(b" " * (MAX_SOURCE_BYTES + 1))
    with pytest.raises(Limit):
        from_files([circuit], Options())
