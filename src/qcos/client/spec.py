"""A Job Spec (R2.1, Listing 1) from OpenQASM sources and options."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qcos.base.canonical import loads_strict
from qcos.base.errors import Invalid, Limit
from qcos.base.limits import MAX_CIRCUITS, MAX_REQUEST_BYTES, MAX_SOURCE_BYTES
from qcos.client.model import Json

_SPACE = re.compile(rb"\s*")
_VERSION = re.compile(rb"OPENQASM\s+2\b")


@dataclass(frozen=True, slots=True)
class Options:
    """What a Job Spec says beside its circuits; a member that is None is left as it is.

    Attributes:
        shots: Repetitions of each circuit.
        seed: Seed for simulators and compilers.
        backend: The only backend to run on.
        min_qubits: Qubits the backend has at least.
        max_depth: Depth the circuit has at most.
        providers: Providers allowed; empty allows all.
        project: Project that pays.
        cost_center: Who is charged, when not the project's own.
        classification: Classification of the data.
        purpose: What the job is for.
        justification: The business reason, in words.
        level: Evidence level: basic, standard or full.
        retention_days: Days evidence is kept.
        compiler_version: What made the source.
        parameters: Values of the program's input parameters.
        job_id: The caller's own id of the job.
    """

    shots: int | None = None
    seed: int | None = None
    backend: str | None = None
    min_qubits: int | None = None
    max_depth: int | None = None
    providers: tuple[str, ...] = ()
    project: str | None = None
    cost_center: str | None = None
    classification: str | None = None
    purpose: str | None = None
    justification: str | None = None
    level: str | None = None
    retention_days: int | None = None
    compiler_version: str | None = None
    parameters: Mapping[str, float] | None = None
    job_id: str | None = None


DEFAULTS = Options(shots=1000, classification="internal", purpose="exploration")


def from_files(paths: Sequence[Path], options: Options, defaults: Options = DEFAULTS) -> Json:
    """Return the Job Spec of OpenQASM files, or of one JSON file that is a Job Spec already; options given
    change it.

    Raises:
        Invalid: ``spec.file``, ``spec.mixed``, ``json.*``.
        Limit: ``spec.file_size``.
    """
    contents = [_read(path) for path in paths]
    if any(content.lstrip()[:1] == b"{" for content in contents):
        if len(contents) > 1:
            raise Invalid(
                "spec.mixed",
                "a Job Spec holds its circuits itself",
                expected="one JSON file, or OpenQASM files",
            )
        document = loads_strict(contents[0], subject=str(paths[0]))
        return changed(document, options)
    return from_sources(contents, options, defaults)


def from_sources(sources: Sequence[bytes | str], options: Options, defaults: Options = DEFAULTS) -> Json:
    """Return the Job Spec of OpenQASM programs; their version is read from their ``OPENQASM`` line (3 without
    one).

    Raises:
        Invalid: ``spec.empty`` without a program.
        Limit: ``spec.circuits``, ``spec.file_size``.
    """
    if not sources:
        raise Invalid("spec.empty", "no circuit is given", expected="at least one OpenQASM program")
    if len(sources) > MAX_CIRCUITS:
        raise Limit(
            "spec.circuits",
            "too many circuits in one job",
            expected=f"at most {MAX_CIRCUITS}",
            got=str(len(sources)),
        )
    circuits = [_circuit(source.encode() if isinstance(source, str) else source) for source in sources]
    document: Json = {"circuit": circuits[0]} if len(circuits) == 1 else {"circuits": circuits}
    return changed(changed(document, defaults), options)


def changed(document: Json, options: Options) -> Json:
    """Return a Job Spec with the given options set; the rest of it is untouched."""
    if not isinstance(document, dict):
        raise Invalid("spec.invalid", "a Job Spec is a JSON object", subject="Job Spec")
    execution = _merged(
        document.get("execution"), {"shots": options.shots, "seed": options.seed, "backend": options.backend}
    )
    constraints = {
        "min_qubits": options.min_qubits,
        "max_depth": options.max_depth,
        "allowed_providers": list(options.providers) or None,
    }
    governance = {
        "project": options.project,
        "cost_center": options.cost_center,
        "classification": options.classification,
        "purpose": options.purpose,
        "justification": options.justification,
    }
    if any(value is not None for value in constraints.values()):
        execution = _merged(
            execution,
            {"backend_constraints": _merged(_member(execution, "backend_constraints"), constraints)},
        )
    evidence = {"level": options.level, "retention_days": options.retention_days}
    parts = {
        "job_id": options.job_id,
        "execution": execution or None,
        "governance": _merged(document.get("governance"), governance) or None,
        "evidence_requirements": _merged(document.get("evidence_requirements"), evidence) or None,
    }
    return _with_circuits(_merged(document, parts), options)


def _with_circuits(document: Json, options: Options) -> Json:
    change = {
        "compiler_version": options.compiler_version,
        "parameters": dict(options.parameters) if options.parameters else None,
    }
    if not any(value is not None for value in change.values()):
        return document
    if isinstance(listed := document.get("circuits"), list):
        return document | {"circuits": [_merged(circuit, change) for circuit in listed]}
    return document | {"circuit": _merged(document.get("circuit"), change)}


def _circuit(source: bytes) -> Json:
    if len(source) > MAX_SOURCE_BYTES:
        raise Limit(
            "spec.file_size",
            "the program is too large",
            expected=f"at most {MAX_SOURCE_BYTES} bytes",
            hint="split the job",
        )
    start = _after_comments(source)
    return {
        "format": "QASM2" if _VERSION.match(source, start) else "QASM3",
        "source": base64.b64encode(source).decode("ascii"),
    }


def _after_comments(source: bytes) -> int:
    at = 0
    while True:
        space = _SPACE.match(source, at)
        at = space.end() if space else at
        end = {b"//": b"\n", b"/*": b"*/"}.get(source[at : at + 2])
        if end is None:
            return at
        found = source.find(end, at + 2)
        if found < 0:
            return len(source)
        at = found + len(end)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_REQUEST_BYTES + 1)
    except OSError as error:
        raise Invalid("spec.file", f"cannot read the file: {error.strerror}", subject=str(path)) from None
    if len(data) > MAX_REQUEST_BYTES:
        raise Limit(
            "spec.file_size",
            "the file is too large",
            subject=str(path),
            expected=f"at most {MAX_REQUEST_BYTES} bytes",
        )
    return data


def _member(document: object, name: str) -> object:
    return document.get(name) if isinstance(document, dict) else None


def _merged(old: object, new: Json) -> Json:
    """Set the members of `new` that are not None; something that is no object is left for the server to
    refuse.
    """
    if old is not None and not isinstance(old, dict):
        return old  # type: ignore[return-value]  # whatever was written there, the server says what is wrong with it
    return (old or {}) | {name: value for name, value in new.items() if value is not None}
