"""Operands and expressions: which wires an operand means, what a value is before the program runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Final

from openqasm3 import ast

from qcos.base.errors import Invalid, Limit
from qcos.circuits import constants
from qcos.circuits.constants import Value
from qcos.circuits.gates import Gate
from qcos.circuits.names import Names, Number, Register, Subroutine, select

MAX_STEPS: Final = (
    50_000  # statements walked one by one, about 0.5 s; a longer loop is walked once and multiplied
)
HARD_STEPS: Final = 4 * MAX_STEPS  # statements walked at all; subroutines that call subroutines reach it

Operand = ast.Identifier | ast.IndexedIdentifier


class Operands(ABC):
    """Names and what can be said of expressions over them."""

    def __init__(self, format: str) -> None:
        self.names = Names(format)
        self._steps = 0

    @abstractmethod
    def _call(self, node: ast.FunctionCall) -> Value:
        """Return what a subroutine returns."""

    def _step(self) -> None:
        self._steps += 1
        if self._steps > HARD_STEPS:
            raise Limit(
                "circuit.work",
                "the program is too much work to read",
                expected=f"at most {HARD_STEPS} statements after expanding subroutines",
            )

    def value(self, node: ast.Expression) -> Value:
        """Compute an expression as far as it is known; walks the subroutines it calls."""
        self._step()
        return constants.evaluate(node, self.number, self._call)

    def number(self, name: str) -> Value:
        """Return a name's value; None when it is not known before the program runs."""
        meaning = self.names.find(name)
        if isinstance(meaning, (Gate, Subroutine)):
            raise Invalid("circuit.operand", f"{name!r} is no value")
        return meaning.value if isinstance(meaning, Number) else None

    def _whole(self, node: ast.Expression, what: str) -> int:
        value = self.value(node)
        if value is None:
            raise Invalid("circuit.unbounded", f"{what} cannot be known", hint="use a constant")
        if not isinstance(value, int):
            raise Invalid("circuit.constant", f"{what} is no whole number", got=str(value)[:40])
        return int(value)

    def _range(self, node: ast.RangeDefinition, size: int) -> range:
        """Return a range of the language, both ends included; open ends are those of ``size`` elements."""
        step = 1 if node.step is None else self._whole(node.step, "a range's step")
        if step == 0:
            raise Invalid("circuit.constant", "a range's step is zero")
        up = step > 0
        start = (0 if up else size - 1) if node.start is None else self._whole(node.start, "a range's start")
        end = (size - 1 if up else 0) if node.end is None else self._whole(node.end, "a range's end")
        if size:
            start, end = start + size * (start < 0), end + size * (end < 0)
        return range(start, end + (1 if up else -1), step)

    def operand(self, node: Operand) -> Register:
        """Return the register, or the part of one, that an operand names."""
        if isinstance(node, ast.Identifier):
            return self.names.register(node.name)
        register = self.names.register(node.name.name)
        for index in node.indices:
            register = self._index(register, node.name.name, index)
        return register

    def _qubits(self, node: Operand) -> Register:
        register = self.operand(node)
        if not register.quantum:
            raise Invalid("circuit.operand", "gates act on qubits")
        return register

    def _barred(self, node: ast.Expression) -> Register:
        """An operand where the grammar has an expression."""
        if isinstance(node, ast.Identifier | ast.IndexedIdentifier):
            return self.operand(node)
        if isinstance(node, ast.IndexExpression):
            return self._index(self._barred(node.collection), "it", node.index)
        if isinstance(node, ast.Concatenation):
            return self._alias(node)
        raise Invalid("circuit.operand", "here stands a register", got=type(node).__name__)

    def _alias(self, node: ast.Expression) -> Register:
        if not isinstance(node, ast.Concatenation):
            return self._barred(node)
        left, right = self._alias(node.lhs), self._alias(node.rhs)
        if left.quantum != right.quantum or left.vague or right.vague:
            raise Invalid("circuit.operand", "these cannot be joined")
        wires = left.wires + right.wires
        if len(set(wires)) != len(wires):
            raise Invalid("circuit.operand", "the same element stands twice")
        return Register(wires, left.quantum)

    def _index(self, register: Register, name: str, index: object) -> Register:
        if isinstance(index, list) and len(index) == 1:
            index = index[0]
        if isinstance(index, ast.RangeDefinition):
            span = self._range(index, len(register.wires))
            if len(span) > len(register.wires):
                raise Invalid(
                    "circuit.index", "there are no such elements", got=f"{name}[{span[0]}:{span[-1]}]"[:80]
                )
            return self._several(register, name, span)
        if isinstance(index, ast.DiscreteSet):
            return self._several(register, name, [self._whole(part, "an index") for part in index.values])
        if not isinstance(index, ast.Expression):
            raise Invalid("circuit.operand", "a register has one dimension")
        value = self.value(index)
        if value is None:
            return Register(register.wires, register.quantum, vague=True)
        if not isinstance(value, int):
            raise Invalid("circuit.index", "an index is no whole number", got=str(value)[:40])
        return select(register, name, int(value))

    def _several(self, register: Register, name: str, indices: Sequence[int]) -> Register:
        wires = tuple(select(register, name, index).wires[0] for index in indices)
        if not wires or len(set(wires)) != len(wires):
            raise Invalid("circuit.operand", "an index list is empty or repeats", got=name[:80])
        return Register(wires, register.quantum)

    def _each(self, operands: Sequence[Register]) -> Iterator[tuple[int, ...]]:
        """Yield the wires of each single operation that an operation on registers stands for."""
        widths = {register.width for register in operands if not register.scalar and register.width > 1}
        if len(widths) > 1:
            raise Invalid(
                "circuit.operand", "registers of different sizes", got=" and ".join(map(str, sorted(widths)))
            )
        for turn in range(max(widths, default=1)):
            wires: list[int] = []
            certain: list[int] = []
            for register in operands:
                if register.vague:
                    wires += register.wires
                else:
                    wire = register.wires[turn if len(register.wires) > 1 else 0]
                    wires.append(wire)
                    certain.append(wire)
            if len(set(certain)) != len(certain):
                raise Invalid("circuit.operand", "an operation uses the same qubit twice")
            yield tuple(wires) if len(certain) == len(wires) else tuple(dict.fromkeys(wires))

    def _all_qubits(self) -> list[Register]:
        registers = [m for m in self.names.scopes[1].values() if isinstance(m, Register) and m.quantum]
        return [
            *registers,
            *(Register((-1 - n,), quantum=True, scalar=True) for n in range(self.names.physical)),
        ]

    def _read_bits(self, node: ast.Expression) -> list[int]:
        """Return the wires of the bits a condition reads."""
        found: list[int] = []
        todo: list[object] = [node]
        while todo:
            part = todo.pop()
            if isinstance(part, ast.Identifier):
                meaning = self.names.find(part.name)
                found += meaning.wires if isinstance(meaning, Register) else ()
            elif isinstance(part, ast.IndexExpression) and isinstance(part.collection, ast.Identifier):
                found += self._barred(part).wires if self._is_register(part.collection.name) else ()
            elif isinstance(part, ast.BinaryExpression):
                todo += [part.lhs, part.rhs]
            elif isinstance(part, (ast.UnaryExpression, ast.Cast)):
                todo.append(part.expression if isinstance(part, ast.UnaryExpression) else part.argument)
        return found

    def _is_register(self, name: str) -> bool:
        return isinstance(self.names.find(name), Register)
