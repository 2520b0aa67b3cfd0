"""What is known about a circuit before it runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

FORMATS: Final = ("QASM3", "QASM2")


@dataclass(frozen=True, slots=True)
class CircuitFacts:
    """Facts of one circuit. User-defined gates and subroutines are expanded into the gates that run.

    For a flat program (declarations, gates, measurements, resets, barriers) all numbers are exact, and
    depth and size are those of Qiskit's ``QuantumCircuit.depth()`` and ``size()``. Where a program branches
    or calls, depth, size and counts are upper bounds: of the branches of an ``if`` the larger counts, and a
    called gate is as deep on each of its qubits as on its deepest.

    Attributes:
        qubits: Qubits declared, physical ones (``$7``) included up to the highest.
        bits: Classical bits declared in ``bit`` registers.
        depth: Operations on the longest path; barriers order but do not count.
        size: Operations without barriers.
        gates: How often each gate is applied, by name; neither measurements nor resets, barriers, delays.
        measured_bits: Different classical bits that a measurement writes.
        two_qubit_gates: Gates on exactly two qubits.
        parameters: Names of ``input`` parameters, in order of declaration.
        digest: ``sha256:...`` of the source bytes.
        dynamic: Whether control flow depends on anything known only while it runs.
    """

    qubits: int
    bits: int
    depth: int
    size: int
    gates: dict[str, int]
    measured_bits: int
    two_qubit_gates: int
    parameters: tuple[str, ...]
    digest: str
    dynamic: bool = field(default=False)

    def as_dict(self) -> dict[str, Any]:  # Any: JSON
        """Return the facts as JSON-ready members."""
        return {**asdict(self), "parameters": list(self.parameters)}

    @classmethod
    def from_dict(cls, members: dict[str, Any]) -> CircuitFacts:  # Any: JSON made by `as_dict`
        """Return the facts that `as_dict` wrote."""
        return cls(**{**members, "gates": dict(members["gates"]), "parameters": tuple(members["parameters"])})
