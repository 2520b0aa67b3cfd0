"""Programs as Qiskit circuits: read once, kept by digest, parameters bound (R1.1, R2.2).

Only simulating processes import this module. Flat programs (declarations, gates, measurements) go through
Qiskit's native importer, about fifteen times faster than the complete one, which takes the rest and whatever
the native one refuses.
"""

from __future__ import annotations

import hashlib
import math
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import qiskit
from qiskit import qasm2, qasm3

from qcos.base.errors import DriverError, QcosError
from qcos.base.limits import CACHED_CIRCUIT_GATES, CIRCUITS_CACHED
from qcos.circuits.openqasm import check

COMPILER = f"qiskit-{qiskit.__version__}"
_NOT_FLAT = re.compile(
    r"->|[$@~!]|\b(?:input|output|gate|def|if|else|for|while|switch|let|ctrl|negctrl|inv|pow|const|array|int|uint|float"
    r"|bool|angle|complex|duration|stretch|box|delay|return|break|continue|end|creg|qreg|opaque)\b"
)


@dataclass(frozen=True, slots=True)
class Program:
    """A program, read.

    Attributes:
        digest: Of its source and format, hexadecimal.
        circuit: The Qiskit circuit; parameters free. Not to be changed: it is kept and used again.
        measures: It measures somewhere.
    """

    digest: str
    circuit: Any  # Any: qiskit.QuantumCircuit
    measures: bool


class Kept:
    """What was made from programs, by key; the ones unused longest are forgotten."""

    def __init__(self, limit: int = CIRCUITS_CACHED) -> None:
        self._limit = limit
        self._kept: OrderedDict[object, Any] = OrderedDict()  # Any: whatever was made

    def get(self, key: object, make: Callable[[], Any], small: Callable[[Any], bool]) -> Any:
        """Return what the key stands for, made now if need be; only small things are kept."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        made = make()
        if small(made):
            self._kept[key] = made
            while len(self._kept) > self._limit:
                self._kept.popitem(last=False)
        return made


_PROGRAMS = Kept()


def is_small(circuit: Any) -> bool:  # Any: qiskit.QuantumCircuit
    """Tell whether a circuit is small enough to be kept."""
    return len(circuit.data) <= CACHED_CIRCUIT_GATES


def read(source: str, format: str) -> Program:
    """Read a program.

    Raises:
        DriverError: ``driver.source`` with what the reader said; ``driver.unsupported`` for an unknown
            language.
    """
    digest = hashlib.sha256(f"{format}\n{source}".encode()).hexdigest()

    def make() -> Program:
        circuit = _parse(source, format)
        return Program(digest, circuit, "measure" in operations(circuit))

    program: Program = _PROGRAMS.get(digest, make, lambda made: is_small(made.circuit))
    return program


def operations(circuit: Any) -> set[str]:  # Any: qiskit.QuantumCircuit
    """Return the names of all operations, those inside control flow too."""
    found = set(circuit.count_ops())
    for instruction in circuit.data:
        for block in getattr(instruction.operation, "blocks", ()):
            found |= operations(block)
    return found


def bind(circuit: Any, parameters: Mapping[str, float]) -> Any:  # Any: qiskit.QuantumCircuit
    """Return the circuit with every parameter given its value.

    Raises:
        DriverError: ``driver.parameters`` when one is missing, unknown or no finite number.
    """
    used = {parameter.name for parameter in circuit.parameters}
    declared = used | set(
        (circuit.metadata or {}).get("inputs", ())
    )  # a compiler drops those that no gate uses
    if missing := sorted(declared - set(parameters)):
        raise DriverError("driver.parameters", "a parameter has no value", subject=", ".join(missing))
    if unknown := sorted(set(parameters) - declared):
        known = ", ".join(sorted(declared)) or "none"
        raise DriverError(
            "driver.parameters",
            "the program has no such parameter",
            subject=", ".join(unknown),
            expected=known,
        )
    if wild := sorted(name for name, value in parameters.items() if not math.isfinite(value)):
        raise DriverError("driver.parameters", "a parameter's value is not finite", subject=", ".join(wild))
    values = {name: value for name, value in parameters.items() if name in used}
    return circuit.assign_parameters(values) if values else circuit


def _parse(source: str, format: str) -> Any:
    try:
        bare = check(source.encode(), format)
    except QcosError as error:
        raise DriverError("driver.source", f"the program is refused: {error}", hint=error.hint) from None
    try:
        if format == "QASM2":
            return _plain(qasm2.loads(source, include_path=(), custom_instructions=_legacy(bare)))
        circuit = _native(bare) if _is_flat(bare) else None
        if circuit is None:
            circuit = _plain(qasm3.loads(bare))
            circuit.metadata = {**(circuit.metadata or {}), "inputs": _INPUT.findall(bare)}
        return circuit
    except DriverError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise DriverError("driver.source", f"the program cannot be read: {said}") from None


_INPUT = re.compile(r"\binput\b[^;]*?(\w+)\s*;")
_VERSION = re.compile(r"^\s*OPENQASM\s+3(?:\.\d+)?\s*;")


_DEFINED = re.compile(r"\bgate\s+(\w+)")
_OWN = ("qiskit.circuit.library.", "qiskit.circuit.controlflow.")
_OWN_MODULES = frozenset(
    f"qiskit.circuit.{name}" for name in ("measure", "reset", "barrier", "delay", "store")
)


def _legacy(bare: str) -> list[Any]:  # Any: qasm2.CustomInstruction
    """Return the gates that OpenQASM 2 programs use undeclared, but those it defines itself."""
    defined = set(_DEFINED.findall(bare))
    return [known for known in qasm2.LEGACY_CUSTOM_INSTRUCTIONS if known.name not in defined]


def _plain(circuit: Any) -> Any:  # Any: qiskit.QuantumCircuit
    """Return the circuit with the gates that the program defines replaced by their definitions.

    Simulators and compilers tell gates by name alone: a program's own ``gate rzz`` would be run as theirs.
    """
    if all(_is_own(instruction.operation) for instruction in circuit.data):
        return circuit
    plain = circuit.copy_empty_like()
    for instruction in circuit.data:
        gate, qubits, clbits = instruction.operation, instruction.qubits, instruction.clbits
        if blocks := getattr(gate, "blocks", ()):
            plain.append(gate.replace_blocks([_plain(block) for block in blocks]), qubits, clbits)
        elif _is_own(gate):
            plain.append(instruction)
        elif gate.definition is None:
            raise DriverError(
                "driver.unsupported", "the program uses a gate that nothing defines", subject=gate.name
            )
        else:
            plain.compose(_plain(gate.definition), qubits, clbits, inplace=True)
    return plain


def _is_own(gate: Any) -> bool:  # Any: qiskit.circuit.Operation
    """Tell whether a gate is Qiskit's and nothing inside it needs replacing."""
    if getattr(gate, "blocks", ()):
        return False
    module = getattr(gate, "base_class", type(gate)).__module__
    return module.startswith(_OWN) or module in _OWN_MODULES


def _is_flat(bare: str) -> bool:
    return _NOT_FLAT.search(bare) is None and bool(_VERSION.match(bare))


def _native(bare: str) -> Any | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=qiskit.exceptions.ExperimentalWarning)
            return qasm3.loads_experimental(bare)
    except Exception:
        return None  # the complete importer decides, and says why
    except BaseException as error:
        if (
            type(error).__name__ != "PanicException"
        ):  # the native importer's own; it derives from BaseException
            raise
        return None
