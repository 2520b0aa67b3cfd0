"""Reading Job Specs: strict, canonical, and never failing otherwise than with problems (R2.1)."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcos.base.canonical import canonical, digest
from qcos.base.errors import Invalid
from qcos.base.limits import MAX_REQUEST_BYTES, MAX_SOURCE_BYTES
from qcos.jobs.spec import SCHEMA, decode_base64, read_spec

GOOD: dict[str, Any] = {
    "circuit": {"format": "QASM3", "source": base64.b64encode(b"OPENQASM 3.0;").decode()},
    "execution": {"shots": 10},
    "governance": {"project": "p", "classification": "internal", "purpose": "test"},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def problems(document: object) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        read_spec(json.dumps(document).encode())
    assert caught.value.code == "spec.invalid"
    return {problem.pointer: problem.code for problem in caught.value.problems}


def read_or_refused(body: bytes) -> None:
    """Read a Job Spec, or see it refused with its reasons."""
    try:
        spec = read_spec(body)
    except Invalid as refused:
        assert refused.code.startswith(("spec.", "json."))
        assert refused.problems or refused.code != "spec.invalid"
    else:
        assert spec.circuits


def test_what_is_left_out_is_as_documented() -> None:
    """R2.1: optional fields and their meaning when absent."""
    spec = read_spec(json.dumps(GOOD).encode())
    assert (spec.job_id, spec.seed, spec.backend, spec.min_qubits, spec.max_depth) == (None,) * 5
    assert (spec.allowed_providers, spec.cost_center, spec.idempotency_key) == (None,) * 3
    assert (spec.level, spec.retention_days, spec.justification) == ("standard", 365, "")
    assert spec.total_shots == 10


def test_the_digest_is_of_the_document_without_its_key_and_order() -> None:
    """R4.1: `input_hash` is over RFC 8785 bytes; the idempotency key is about the request, not the job."""
    spec = read_spec(json.dumps(GOOD | {"idempotency_key": "k"}).encode())
    assert spec.idempotency_key == "k"
    assert spec.canonical == canonical(GOOD)
    assert spec.digest == digest(canonical(GOOD))
    turned = dict(reversed(list(GOOD.items())))
    assert read_spec(json.dumps(turned, indent=3).encode()).digest == spec.digest


@given(st.binary(max_size=200))
def test_every_kind_of_base64_is_read(data: bytes) -> None:
    """R2.1: standard or URL-safe, padded or not."""
    for text in (base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()):
        assert decode_base64(text) == decode_base64(text.rstrip("=")) == data


@given(st.text(max_size=40))
def test_what_is_no_base64_is_none(text: str) -> None:
    """R2.1: nothing is guessed."""
    decoded = decode_base64(text)
    if decoded is not None:
        assert (
            base64.urlsafe_b64encode(decoded).decode().rstrip("=")[:-1]
            == text.rstrip("=").replace("+", "-").replace("/", "_")[:-1]
        )


@given(JSON)
def test_anything_is_read_or_refused(document: object) -> None:
    """R2.1: no document makes the reader fail otherwise."""
    for body in (
        document,
        GOOD | {"governance": document},
        GOOD | {"circuit": document},
        GOOD | {"circuits": document},
    ):
        read_or_refused(json.dumps(body).encode())


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    read_or_refused(body)


@pytest.mark.parametrize("text", ["a\x00", "\ud800", "\udfff!"])
def test_texts_that_cannot_be_kept_are_pointed_at(text: str) -> None:
    """R2.1: NUL and halves of surrogate pairs, in values and in names."""
    governance = GOOD["governance"] | {"justification": text}
    assert problems(GOOD | {"governance": governance}) == {"/governance/justification": "spec.text"}
    circuit = GOOD["circuit"] | {"parameters": {text: 1}}
    assert problems(GOOD | {"circuit": circuit}) == {"/circuit/parameters": "spec.text"}


def test_limits_are_exact() -> None:
    """R2.1: the largest source is accepted, one byte more is not; nor is a body beyond the limit."""
    for size, fits in ((MAX_SOURCE_BYTES, True), (MAX_SOURCE_BYTES + 1, False)):
        source = base64.b64encode(b"/" * size).decode()
        document = GOOD | {"circuit": GOOD["circuit"] | {"source": source}}
        if fits:
            assert len(read_spec(json.dumps(document).encode()).circuits[0].source) == size
        else:
            assert set(problems(document)) == {"/circuit/source"}
    with pytest.raises(Invalid) as caught:
        read_spec(b" " * (MAX_REQUEST_BYTES + 1))
    assert caught.value.code == "spec.size"


def test_several_faults_in_several_circuits() -> None:
    """R2.1: the pointer has the circuit's number."""
    bad = {"format": "QASM3", "source": "%%%"}
    document = {k: v for k, v in GOOD.items() if k != "circuit"} | {
        "circuits": [GOOD["circuit"], bad, {"format": "C"}]
    }
    assert problems(document) == {
        "/circuits/1/source": "spec.base64",
        "/circuits/2": "spec.required",
        "/circuits/2/format": "spec.enum",
    }
    assert problems(document | {"circuits": []}) == {"/circuits": "spec.minItems"}
    assert problems(document | {"circuits": [GOOD["circuit"]] * 101}) == {"/circuits": "spec.maxItems"}


def test_every_object_of_the_schema_is_closed_and_described() -> None:
    """R2.1: unknown fields are refused at every level, and every field says what it is."""

    def walk(schema: dict[str, Any], at: str) -> None:
        if "properties" in schema:
            assert schema["additionalProperties"] is False, at
            for name, inner in schema["properties"].items():
                assert inner.get("description") or inner.get("type") == "object", f"{at}/{name}"
                walk(inner, f"{at}/{name}")

    walk(SCHEMA, "")
    for name, definition in SCHEMA["$defs"].items():
        walk(definition, name)


def test_parameters_are_bounded_over_all_circuits() -> None:
    """R1.1: evidence names each value, so there must not be more than it can carry."""
    circuit = {**GOOD["circuit"], "parameters": {f"p{n}": 1 for n in range(5_000)}}
    spec = {**GOOD, "circuits": [circuit] * 4}
    del spec["circuit"]
    assert len(read_spec(json.dumps(spec).encode()).circuits) == 4
    assert problems({**spec, "circuits": [circuit] * 5}) == {"/circuits": "spec.parameters"}
