"""The Job Spec (white paper 3.2.1, Listing 1): read strictly, all problems reported at once."""

from __future__ import annotations

import base64
import binascii
import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jsonschema_rs

from qcos.base.canonical import canonical, digest, loads_strict
from qcos.base.errors import Invalid, Problem
from qcos.base.limits import MAX_PARAMETERS, MAX_REQUEST_BYTES, MAX_SOURCE_BYTES

SCHEMA: dict[str, Any] = json.loads(
    resources.files("qcos.jobs").joinpath("job-spec.schema.json").read_text()
)  # Any: JSON Schema
_VALIDATOR = jsonschema_rs.Draft202012Validator(SCHEMA)
_MAX_PROBLEMS = 50  # more tell nobody anything


@dataclass(frozen=True, slots=True)
class CircuitSpec:
    """One circuit as asked for: its language, source bytes, what made it, and values of its parameters."""

    format: str
    source: bytes
    compiler_version: str
    parameters: dict[str, float]


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A valid Job Spec.

    Attributes:
        document: The request as it came, without the idempotency key; what evidence commits to.
        canonical: RFC 8785 bytes of `document`.
        digest: ``sha256:<hex>`` of `canonical`: the evidence's ``input_hash``.
        shots: Repetitions of each circuit.
    """

    document: dict[str, Any]  # Any: JSON
    canonical: bytes
    digest: str
    job_id: str | None
    circuits: tuple[CircuitSpec, ...]
    shots: int
    seed: int | None
    backend: str | None
    min_qubits: int | None
    max_depth: int | None
    allowed_providers: tuple[str, ...] | None
    project: str
    cost_center: str | None
    classification: str
    purpose: str
    justification: str
    level: str
    retention_days: int
    idempotency_key: str | None

    @property
    def total_shots(self) -> int:
        """Return shots over all circuits: what quotas count."""
        return self.shots * len(self.circuits)


def read_spec(body: bytes) -> JobSpec:
    """Read a Job Spec.

    Raises:
        Invalid: ``spec.invalid`` with one `Problem` (JSON pointer, expected, got, hint) for each fault, or ``json.*``.
    """
    if len(body) > MAX_REQUEST_BYTES:
        raise Invalid(
            "spec.size",
            "the Job Spec is too large",
            expected=f"at most {MAX_REQUEST_BYTES} bytes",
            got=f"{len(body)} bytes",
        )
    document = loads_strict(body, subject="Job Spec", halves=True)  # they are pointed at below
    problems = list(_unkept_texts(document, "")) if b"\\u" in body else []
    problems = problems or list(_schema_problems(document))
    sources = list(_decoded_sources(document, problems)) if isinstance(document, dict) else []
    if not problems and (many := _parameters(document)) > MAX_PARAMETERS:
        problems.append(
            Problem(
                "/circuits",
                "too many parameters",
                expected=f"at most {MAX_PARAMETERS} over all circuits",
                got=str(many),
                hint="the evidence names each value: split the job",
                code="spec.parameters",
            )
        )
    if problems:
        raise Invalid(
            "spec.invalid",
            f"the Job Spec has {len(problems)} problem{'s' if len(problems) > 1 else ''}",
            subject="Job Spec",
            problems=problems[:_MAX_PROBLEMS],
            hint="the schema is published at /v1/schemas/job-spec.json",
        )
    return _build(document, sources)


def _parameters(document: dict[str, Any]) -> int:
    circuits = document["circuits"] if "circuits" in document else [document["circuit"]]
    return sum(len(circuit.get("parameters", {})) for circuit in circuits)


def _build(document: dict[str, Any], sources: list[bytes]) -> JobSpec:
    key = document.pop("idempotency_key", None)
    data = canonical(document)
    execution, governance = document["execution"], document["governance"]
    constraints = execution.get("backend_constraints", {})
    evidence = document.get("evidence_requirements", {})
    providers = constraints.get("allowed_providers")
    circuits = document["circuits"] if "circuits" in document else [document["circuit"]]
    return JobSpec(
        document=document,
        canonical=data,
        digest=digest(data),
        job_id=document.get("job_id"),
        circuits=tuple(
            CircuitSpec(
                c["format"],
                source,
                c.get("compiler_version", ""),
                {k: float(v) for k, v in c.get("parameters", {}).items()},
            )
            for c, source in zip(circuits, sources, strict=True)
        ),
        shots=execution["shots"],
        seed=execution.get("seed"),
        backend=execution.get("backend"),
        min_qubits=constraints.get("min_qubits"),
        max_depth=constraints.get("max_depth"),
        allowed_providers=tuple(providers) if providers is not None else None,
        project=governance["project"],
        cost_center=governance.get("cost_center"),
        classification=governance["classification"],
        purpose=governance["purpose"],
        justification=governance.get("justification", ""),
        level=evidence.get("level", "standard"),
        retention_days=evidence.get("retention_days", 365),
        idempotency_key=key,
    )


def _schema_problems(document: object) -> Iterator[Problem]:
    for error in _VALIDATOR.iter_errors(document):
        at = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in error.instance_path)
        kind = str(getattr(error.kind, "name", ""))
        if kind == "additionalProperties":
            yield from _unknown_fields(at, error)
        elif kind == "oneOf" and at == "":
            yield from _circuit_or_circuits(document)
        else:
            yield Problem(
                at,
                error.message[:300],
                expected=_expected(error),
                got=_shorten(error.instance),
                hint=_hint(at, kind),
                code=f"spec.{kind or 'schema'}",
            )


def _unkept_texts(value: object, at: str) -> Iterator[Problem]:
    """Find texts with NUL characters or halves of surrogate pairs; only escapes (``\\u0000``) bring them in."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _unkept_texts(name, at)
            yield from _unkept_texts(member, f"{at}/{name}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _unkept_texts(item, f"{at}/{number}")
    elif isinstance(value, str) and ("\0" in value or any("\ud800" <= c <= "\udfff" for c in value)):
        pointer = at.encode("ascii", "backslashreplace").decode().replace("\0", "\\x00")
        yield Problem(
            pointer[:300],
            "the text holds a character that cannot be kept",
            expected="no NUL characters and no halves of surrogate pairs",
            code="spec.text",
        )


def _circuit_or_circuits(document: object) -> Iterator[Problem]:
    if isinstance(document, dict) and "circuit" in document and "circuits" in document:
        yield Problem(
            "/circuits",
            "both `circuit` and `circuits` are given",
            expected="one of them",
            hint="remove one",
            code="spec.both",
        )
    elif isinstance(document, dict):
        hint = "put the program into circuit.source, in base64"
        yield Problem(
            "/circuit",
            "no circuit is given",
            expected="`circuit` or `circuits`",
            hint=hint,
            code="spec.required",
        )


def _unknown_fields(at: str, error: Any) -> Iterator[Problem]:  # Any: jsonschema_rs.ValidationError
    known = list(_schema_at(error.schema_path).get("properties", {}))
    for name in getattr(error.kind, "unexpected", []):
        near = difflib.get_close_matches(name, known, 1)
        pointer = f"{at}/{name}".replace("\n", " ")[:300]
        hint = f"did you mean {near[0]!r}?" if near else "remove it"
        yield Problem(
            pointer,
            f"unknown field {name!r}"[:300],
            expected=f"one of {', '.join(known)}",
            hint=hint,
            code="spec.unknown_field",
        )


def _schema_at(path: list[str | int]) -> dict[str, Any]:
    """Return the schema object that holds the keyword a schema path ends with; ``$ref`` steps are followed."""
    node: Any = SCHEMA  # Any: JSON Schema
    for part in path[:-1]:
        if part == "$ref":
            continue
        if isinstance(node, dict) and "$ref" in node and part not in node:
            node = SCHEMA["$defs"][node["$ref"].rsplit("/", 1)[1]]
        node = node[part]
    if isinstance(node, dict) and "$ref" in node and "properties" not in node:
        node = SCHEMA["$defs"][node["$ref"].rsplit("/", 1)[1]]
    return node if isinstance(node, dict) else {}


def _expected(error: Any) -> str:  # Any: jsonschema_rs.ValidationError
    rule = getattr(error.kind, "value", None)
    name = str(getattr(error.kind, "name", ""))
    return f"{name}: {json.dumps(rule, default=str)}"[:200] if rule is not None else name


def _hint(at: str, kind: str) -> str:
    if kind == "required":
        return "add the field; GET /v1/schemas/job-spec.json describes it"
    if kind == "pattern":
        return "letters, digits and ._:@+- only, starting with a letter or digit, at most 200 characters"
    if at.endswith("/source"):
        return "at most 1 MiB of program text, in base64"
    return ""


def _decoded_sources(document: dict[str, Any], problems: list[Problem]) -> Iterator[bytes]:
    listed = document.get("circuits")
    named = (
        [("/circuit", document.get("circuit"))]
        if listed is None
        else [(f"/circuits/{n}", c) for n, c in enumerate(listed)]
        if isinstance(listed, list)
        else []
    )
    for at, circuit in named:
        text = circuit.get("source") if isinstance(circuit, dict) else None
        if not isinstance(text, str) or not text:
            continue  # the schema says so already
        source = decode_base64(text)
        if source is None:
            problems.append(
                Problem(
                    f"{at}/source",
                    "not base64",
                    expected="RFC 4648 base64 of the program",
                    got=_shorten(text),
                    hint="base64.b64encode(program.encode()).decode()",
                    code="spec.base64",
                )
            )
        elif len(source) > MAX_SOURCE_BYTES:
            problems.append(
                Problem(
                    f"{at}/source",
                    "the program is too large",
                    expected=f"at most {MAX_SOURCE_BYTES} bytes",
                    got=f"{len(source)} bytes",
                    hint="split the job",
                    code="spec.size",
                )
            )
        else:
            yield source


def decode_base64(text: str) -> bytes | None:
    """Decode standard or URL-safe base64, padded or not; None when it is neither."""
    body = text.rstrip("=")
    if not re.fullmatch(r"[A-Za-z0-9+/]*|[A-Za-z0-9_-]*", body) or len(body) % 4 == 1:
        return None
    try:
        return base64.b64decode(
            body.replace("-", "+").replace("_", "/") + "=" * (-len(body) % 4), validate=True
        )
    except (binascii.Error, ValueError):
        return None


def _shorten(value: object) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
