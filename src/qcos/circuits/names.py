"""Names of a program and what they stand for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from openqasm3 import ast

from qcos.base.errors import Invalid, Limit
from qcos.base.limits import MAX_QUBITS
from qcos.circuits.constants import CONSTANTS, Value
from qcos.circuits.gates import BUILT_IN, LIBRARIES, Gate, known

_PHYSICAL = re.compile(r"\$(\d{1,9})")


@dataclass(frozen=True, slots=True)
class Register:
    """Qubits or bits under one name.

    Attributes:
        wires: Their numbers; negative for physical qubits.
        quantum: Whether they are qubits.
        scalar: Whether it was declared without a size.
        vague: Whether only one of the wires is meant, and which is not known before the program runs.
    """

    wires: tuple[int, ...]
    quantum: bool
    scalar: bool = False
    vague: bool = False

    @property
    def width(self) -> int:
        """Return how many operations a gate on it stands for."""
        return 1 if self.vague else len(self.wires)


@dataclass(frozen=True, slots=True)
class Number:
    """A classical value; None when it is not known before the program runs."""

    value: Value


@dataclass(frozen=True, slots=True)
class Subroutine:
    """A ``def``; its body is walked at each call."""

    tree: ast.SubroutineDefinition


Meaning = Register | Number | Gate | Subroutine
_GLOBAL_CONSTANTS: Final = {name: Number(value) for name, value in CONSTANTS.items()}


@dataclass(slots=True)
class Names:
    """All names that can be seen, innermost scope last, and the wires declared so far."""

    format: str
    scopes: list[dict[str, Meaning]] = field(default_factory=list)
    parameters: list[str] = field(default_factory=list)
    qubits: int = 0
    bits: int = 0
    physical: int = 0
    next_wire: int = 0
    global_bits: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.scopes = [{**_GLOBAL_CONSTANTS, **known(BUILT_IN[self.format])}, {}]

    def include(self, library: str) -> None:
        """Make a standard library's gates known."""
        self.scopes[0].update(known(LIBRARIES[library]))

    def find(self, name: str) -> Meaning:
        """Return what a name stands for.

        Raises:
            Invalid: ``circuit.undefined``.
        """
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        if found := _PHYSICAL.fullmatch(name):
            return self._physical_qubit(int(found[1]))
        raise Invalid("circuit.undefined", f"{name!r} is not defined", got=name[:80])

    def gate(self, name: str) -> Gate:
        """Return a gate.

        Raises:
            Invalid: ``circuit.undefined``, with a hint when a standard library defines it.
        """
        for scope in reversed(self.scopes):
            meaning = scope.get(name)
            if isinstance(meaning, Gate):
                return meaning
        homes = [library for library, table in LIBRARIES.items() if name in table]
        hint = f'write include "{homes[0]}"; first' if homes else "define it with gate, or check its spelling"
        raise Invalid("circuit.undefined", f"the gate {name!r} is not defined", got=name[:80], hint=hint)

    def register(self, name: str) -> Register:
        """Return a register.

        Raises:
            Invalid: ``circuit.undefined``, ``circuit.operand``.
        """
        meaning = self.find(name)
        if not isinstance(meaning, Register):
            raise Invalid("circuit.operand", f"{name!r} is no register", expected="qubits or bits")
        return meaning

    def declare(self, name: str, meaning: Meaning) -> None:
        """Give a name its meaning in the innermost scope.

        Raises:
            Invalid: ``circuit.redefined``.
        """
        scope = self.scopes[-1]
        if name in scope or (len(self.scopes) == 2 and isinstance(self.scopes[0].get(name), Number)):
            raise Invalid("circuit.redefined", f"{name!r} is already defined", got=name[:80])
        scope[name] = meaning

    def declare_register(self, name: str, size: int | None, quantum: bool) -> None:
        """Declare qubits or bits.

        Args:
            name: Name of the register.
            size: Number of wires; None for a single one.
            quantum: Whether they are qubits.

        Raises:
            Invalid: ``circuit.size`` below one, ``circuit.scope`` for qubits that are not global.
            Limit: ``circuit.qubits``.
        """
        outermost = len(self.scopes) == 2
        if quantum and not outermost:
            raise Invalid("circuit.scope", "qubits are declared outside of blocks", got=name[:80])
        count = 1 if size is None else size
        if count < 1:
            raise Invalid("circuit.register", f"the register {name!r} has no elements", got=str(count))
        total = count + (self.qubits if quantum else self.bits)
        if total > MAX_QUBITS:
            what = "qubits" if quantum else "bits"
            raise Limit(
                f"circuit.{what}", f"too many {what}", expected=f"at most {MAX_QUBITS}", got=str(total)[:40]
            )
        wires = tuple(range(self.next_wire, self.next_wire + count))
        self.declare(name, Register(wires, quantum, scalar=size is None))
        self.next_wire += count
        if quantum:
            self.qubits += count
        elif outermost:
            self.bits += count
            self.global_bits.update(wires)

    def _physical_qubit(self, number: int) -> Register:
        if number >= MAX_QUBITS:
            raise Limit(
                "circuit.qubits",
                "a physical qubit's number is too large",
                expected=f"below {MAX_QUBITS}",
                got=f"${number}",
            )
        self.physical = max(self.physical, number + 1)
        return Register((-1 - number,), quantum=True, scalar=True)


def select(register: Register, name: str, index: int) -> Register:
    """Return one element; negative numbers count from the end.

    Raises:
        Invalid: ``circuit.index`` outside of the register.
    """
    size = len(register.wires)
    if register.scalar or not -size <= index < size:
        got = f"{name}[{index}]" + (" of a single one" if register.scalar else f" of {size}")
        raise Invalid("circuit.index", "there is no such element", got=got[:80])
    return Register((register.wires[index],), register.quantum, scalar=True)
