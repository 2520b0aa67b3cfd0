"""A flat program as OpenQASM 3 in Braket's dialect (R2.2)."""

from __future__ import annotations

from collections.abc import Iterator

from qcos.drivers.braket.gates import GATES
from qcos.drivers.flatten import Flat, Step


def emit(flat: Flat) -> tuple[str, tuple[int, ...]]:
    """Return the program, and for each measured column the qubit it comes from.

    Every measured qubit is measured once, in ascending order, whatever bits it goes to.
    """
    measured = tuple(sorted({step.qubits[0] for step in flat.steps if step.name == "measure"}))
    lines = ["OPENQASM 3.0;", f"qubit[{flat.qubits}] q;", f"bit[{len(measured)}] b;"]
    touched = {qubit for step in flat.steps if step.name != "measure" for qubit in step.qubits}
    lines += [f"i q[{qubit}];" for qubit in measured if qubit not in touched]
    lines += [_line(step) for step in flat.steps if step.name != "measure"]
    lines += [f"b[{column}] = measure q[{qubit}];" for column, qubit in enumerate(measured)]
    return "\n".join(lines) + "\n", measured


def _line(step: Step) -> str:
    if step.matrix is not None:
        rows = ", ".join("[" + ", ".join(_complex(value) for value in row) + "]" for row in step.matrix)
        on = ", ".join(
            f"q[{qubit}]" for qubit in reversed(step.qubits)
        )  # Braket: first qubit most significant
        return f"#pragma braket unitary([{rows}]) {on}"
    angles = f"({', '.join(repr(value) for value in step.params)})" if step.params else ""
    return f"{GATES[step.name]}{angles} {', '.join(f'q[{qubit}]' for qubit in step.qubits)};"


def _complex(value: complex) -> str:
    real, imaginary = float(value.real), float(value.imag)
    return f"{real!r} {'-' if imaginary < 0 else '+'} {abs(imaginary)!r}im"


def columns(flat: Flat, measured: tuple[int, ...]) -> Iterator[int]:
    """Return for each bit, last declared first, the column it is read from; -1 for one never written."""
    last = {step.bit: step.qubits[0] for step in flat.steps if step.name == "measure"}
    place = {qubit: column for column, qubit in enumerate(measured)}
    for bit in reversed(range(flat.bits)):
        yield place[last[bit]] if bit in last else -1
