"""A Qiskit circuit as a flat list of steps, for vendors that take simpler programs (R2.2).

Gates the vendor knows keep their name; others of at most three qubits become matrices, larger ones are
replaced by their definition. Global phases are dropped: they change no count. Qubits that nothing happens to
are left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from qcos.base.errors import DriverError

_NOTHING: Final = frozenset({"barrier", "delay", "id", "global_phase"})
_MATRIX_QUBITS: Final = 3  # larger gates are cheaper by definition than as matrices
_MEASURE, _RESET = "measure", "reset"


@dataclass(frozen=True, slots=True)
class Step:
    """One operation.

    Attributes:
        name: Qiskit's name of the gate, ``measure``, ``reset`` or ``unitary``.
        qubits: What it acts on, numbered without gaps in the order of the circuit.
        params: Angles, radians.
        matrix: Of a ``unitary``; the first qubit is the least significant digit of its indices.
        bit: Where a measurement goes.
    """

    name: str
    qubits: tuple[int, ...]
    params: tuple[float, ...] = ()
    matrix: Any = None  # Any: numpy.ndarray
    bit: int = -1


@dataclass(frozen=True, slots=True)
class Flat:
    """A flat program.

    Attributes:
        steps: In order.
        qubits: Number of qubits used.
        bits: Number of classical bits declared.
    """

    steps: tuple[Step, ...]
    qubits: int
    bits: int


def flatten(circuit: Any, known: Collection[str], *, midway: bool) -> Flat:  # Any: qiskit.QuantumCircuit
    """Return a bound circuit as steps.

    Args:
        circuit: What to flatten.
        known: Names of the gates to keep.
        midway: The vendor takes resets and gates after measurements.

    Raises:
        DriverError: ``driver.unsupported`` naming the operation that cannot be had.
    """
    qubits = {qubit: index for index, qubit in enumerate(circuit.qubits)}
    bits = {bit: index for index, bit in enumerate(circuit.clbits)}
    steps = list(_walk(circuit, qubits, bits, frozenset(known)))
    if not midway:
        _check_terminal(steps)
    used = sorted({qubit for step in steps for qubit in step.qubits})
    place = {qubit: index for index, qubit in enumerate(used)}
    placed = tuple(Step(s.name, tuple(place[q] for q in s.qubits), s.params, s.matrix, s.bit) for s in steps)
    return Flat(placed, len(used), len(bits))


def _walk(
    circuit: Any, qubits: dict[Any, int], bits: dict[Any, int], known: frozenset[str]
) -> Iterator[Step]:
    for instruction in circuit.data:
        gate = instruction.operation
        on = tuple(qubits[qubit] for qubit in instruction.qubits)
        if gate.name in _NOTHING:
            continue
        if gate.name == _MEASURE:
            yield Step(_MEASURE, on, bit=bits[instruction.clbits[0]])
        elif gate.name == _RESET:
            yield Step(_RESET, on)
        elif gate.name in known:
            yield Step(gate.name, on, tuple(float(value) for value in gate.params))
        elif instruction.clbits or getattr(gate, "blocks", ()) or not hasattr(gate, "to_matrix"):
            _refuse(gate.name)
        elif len(on) <= _MATRIX_QUBITS and (matrix := _matrix(gate)) is not None:
            yield Step("unitary", on, matrix=matrix)
        elif gate.definition is not None:
            inner = dict(zip(gate.definition.qubits, on, strict=True))
            yield from _walk(gate.definition, inner, {}, known)
        else:
            _refuse(gate.name)


def _matrix(gate: Any) -> Any | None:
    try:
        return gate.to_matrix()
    except Exception:
        return None  # a gate defined by the program has only its definition


def _check_terminal(steps: list[Step]) -> None:
    measured: set[int] = set()
    for step in steps:
        if step.name == _RESET:
            _refuse("reset")
        if step.name != _MEASURE and measured & set(step.qubits):
            _refuse("mid-circuit measurement")
        if step.name == _MEASURE:
            measured.update(step.qubits)


def _refuse(what: str) -> NoReturn:
    raise DriverError(
        "driver.unsupported",
        "the backend cannot run the program",
        subject=what,
        hint="a backend of another provider may, aer-ideal for instance",
    )
