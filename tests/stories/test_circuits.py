"""Circuits in OpenQASM 3 and 2, several in a job, with parameters and a seed (R2.2)."""

from __future__ import annotations

import math

import pytest

from qcos.base.errors import Invalid, QcosError

from .house import BELL, BELL2, GHZ3, ROTATED, House, base64_of


@pytest.mark.parametrize(("source", "format"), [(BELL, "QASM3"), (BELL2, "QASM2")])
def test_both_languages_run(house: House, source: str, format: str) -> None:
    """R2.2: the Bell state, written in either language."""
    job = house.run(house.spec(source, format=format, shots=400))
    (circuit,) = house.engineer.client.jobs.result(job["job_id"])["circuits"]
    assert set(circuit["counts"]) == {"00", "11"}
    assert sum(circuit["counts"].values()) == circuit["shots"] == 400


def test_several_circuits_in_one_job(house: House) -> None:
    """R2.2, R3.5: each circuit runs with the job's shots; quotas count them all; results keep their order."""
    document = house.spec(shots=50)
    first = document.pop("circuit")
    document["circuits"] = [
        first,
        {"format": "QASM3", "source": base64_of(GHZ3)},
        {"format": "QASM2", "source": base64_of(BELL2)},
    ]
    job = house.run(document)
    assert job["shots"] == 150
    circuits = house.engineer.client.jobs.result(job["job_id"])["circuits"]
    assert [len(next(iter(c["counts"]))) for c in circuits] == [2, 3, 2]
    assert [sum(c["counts"].values()) for c in circuits] == [50, 50, 50]
    assert house.quota()["used"] == 150


def test_parameters_are_bound(house: House) -> None:
    """R2.2: rx(pi) is certain to flip; rx(0) is certain not to."""
    for theta, expected in ((math.pi, "1"), (0, "0")):
        job = house.run(house.spec(ROTATED, circuit={"parameters": {"theta": theta}}))
        assert house.engineer.client.jobs.result(job["job_id"])["circuits"][0]["counts"] == {expected: 100}


@pytest.mark.parametrize(
    ("source", "parameters", "missing", "unknown"),
    [
        (ROTATED, {}, "theta", "none"),
        (ROTATED, {"theta": 1, "phi": 2}, "none", "phi"),
        (BELL, {"theta": 1}, "none", "theta"),
    ],
)
def test_parameters_must_be_those_of_the_program(
    house: House, source: str, parameters: dict[str, float], missing: str, unknown: str
) -> None:
    """R2.2: missing and unknown parameters are refused by name, before anything is reserved."""
    with pytest.raises(Invalid) as caught:
        house.engineer.client.jobs.submit(house.spec(source, circuit={"parameters": parameters}))
    assert caught.value.code == "circuit.parameters"
    assert caught.value.hint == f"missing: {missing}; unknown: {unknown}"
    assert house.budget()["reserved"]["micro"] == 0


def test_the_same_seed_gives_the_same_counts(house: House) -> None:
    """R2.2, R1.1: a seed that is given repeats; one that is not is made, told, and repeats as well."""
    results = [
        house.engineer.client.jobs.result(house.run(house.spec(shots=1000, execution={"seed": 7}))["job_id"])
        for _ in range(2)
    ]
    assert results[0]["circuits"] == results[1]["circuits"]
    drawn = house.run(house.spec(shots=1000))
    seed = drawn["outcome"]["seed"]
    assert 0 <= seed < 2**31
    again = house.run(house.spec(shots=1000, execution={"seed": seed}))
    jobs = house.engineer.client.jobs
    assert jobs.result(drawn["job_id"])["circuits"] == jobs.result(again["job_id"])["circuits"]


HOSTILE = {
    "reads a file": 'OPENQASM 3.0; include "/etc/passwd"; qubit q;',
    "nests deeply": "OPENQASM 3.0; qubit q; rx(" + "(" * 10_000 + "1" + ")" * 10_000 + ") q;",
    "loops for ever": 'OPENQASM 3.0; include "stdgates.inc"; qubit q; for int i in [0:1000000000] { x q; }',
    "undefined gate": "OPENQASM 3.0; qubit q; frobnicate q;",
    "no program": "hello",
    "empty": " ",
}


@pytest.mark.parametrize("source", HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_programs_are_refused_with_a_reason(shared_house: House, source: str) -> None:
    """R2.2: a program that would read files, crash or hang a parser is refused, and the next one is read."""
    with pytest.raises(QcosError) as caught:
        shared_house.engineer.client.jobs.validate(shared_house.spec(source))
    assert caught.value.code.startswith("circuit.")
    assert caught.value.family in {"invalid", "limit"}
    assert "root:" not in str(caught.value)
    assert shared_house.engineer.client.jobs.validate(shared_house.spec())["valid"] is True
