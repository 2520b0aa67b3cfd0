"""Walking a program's statements, in order, without running them: what they declare, apply and measure.

Loops whose number of turns is known are walked turn by turn while the allowance of steps lasts (so that
``q[i]`` means what it says), then once, times the number of turns. A loop whose number of turns cannot be
known is refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

from openqasm3 import ast

from qcos.base.errors import Invalid, Limit
from qcos.base.limits import MAX_GATES, MAX_NESTING
from qcos.circuits import constants
from qcos.circuits.constants import Value
from qcos.circuits.gates import Gate
from qcos.circuits.names import Number, Register, Subroutine
from qcos.circuits.operands import MAX_STEPS, Operands
from qcos.circuits.tally import Tally, either

MAX_MODIFIER: Final = 1_000  # control qubits of one gate, and its largest power
MAX_ELEMENTS: Final = 1_000_000  # elements of a classical array


class Walk(Operands):
    """The state of one walk: names, the tally being filled, what the program has turned out to need."""

    def __init__(self, format: str) -> None:
        super().__init__(format)
        self.tally = Tally()
        self.dynamic = False
        self.line = 0
        self._calls: list[str] = []
        self._in_gate = False

    # Statements

    def statements(self, nodes: Sequence[ast.Statement | ast.Pragma]) -> None:
        """Walk statements in order."""
        for node in nodes:
            self.statement(node)

    def statement(self, node: ast.Statement | ast.Pragma) -> None:
        """Walk one statement.

        Raises:
            Invalid: ``circuit.*``, what is wrong with it.
            Limit: ``circuit.*``, what it has too much of.
        """
        self._step()
        if node.span is not None:
            self.line = node.span.start_line
        match node:
            case ast.QuantumGate():
                self._apply_tree(node)
            case ast.QuantumPhase():
                self._phase(node)
            case ast.QuantumMeasurementStatement():
                self.measure(
                    self.operand(node.measure.qubit), self.operand(node.target) if node.target else None
                )
            case ast.QuantumReset():
                self.reset([self.operand(node.qubits)])
            case ast.QuantumBarrier():
                self.barrier([self._barred(part) for part in node.qubits])
            case ast.DelayInstruction():
                self.value(node.duration)
                for wires in self._each([self._qubits(part) for part in node.qubits] or self._all_qubits()):
                    self.tally.operation(wires)
            case ast.Box():
                self._block(node.body)
            case ast.CompoundStatement():
                self._block(node.statements)
            case ast.BranchingStatement() | ast.SwitchStatement() | ast.ForInLoop() | ast.WhileLoop():
                self._control(node)
            case ast.BreakStatement() | ast.ContinueStatement() | ast.EndStatement():
                pass  # what follows is counted all the same: an upper bound
            case _:
                self._classical(node)

    def _control(
        self, node: ast.BranchingStatement | ast.SwitchStatement | ast.ForInLoop | ast.WhileLoop
    ) -> None:
        match node:
            case ast.BranchingStatement():
                self._branch(node.condition, [(None, node.if_block), (None, node.else_block)])
            case ast.SwitchStatement():
                self._switch(node)
            case ast.ForInLoop():
                self._for(node)
            case ast.WhileLoop():
                if (
                    self.value(node.while_condition) not in (False, 0)
                    or self.value(node.while_condition) is None
                ):
                    raise Invalid(
                        "circuit.unbounded",
                        "how often a while loop runs cannot be known",
                        hint="write a for loop over a range, with break where it may end early",
                    )

    def _classical(self, node: ast.Statement | ast.Pragma) -> None:
        match node:
            case ast.QubitDeclaration():
                size = None if node.size is None else self._whole(node.size, "a register's size")
                self.names.declare_register(node.qubit.name, size, quantum=True)
            case ast.ClassicalDeclaration():
                self._declare(node.identifier.name, node.type, node.init_expression)
            case ast.ConstantDeclaration():
                self._check_type(node.type)
                self.names.declare(node.identifier.name, Number(self.value(node.init_expression)))
            case ast.IODeclaration():
                self._declare(node.identifier.name, node.type, None)
                if node.io_identifier is ast.IOKeyword.input:
                    self.names.parameters.append(node.identifier.name)
            case ast.ClassicalAssignment():
                self.names.find(
                    node.lvalue.name if isinstance(node.lvalue, ast.Identifier) else node.lvalue.name.name
                )
                self.value(node.rvalue)
            case ast.AliasStatement():
                self.names.declare(node.target.name, self._alias(node.value))
            case ast.ExpressionStatement():
                self.value(node.expression)
            case ast.ReturnStatement():
                if isinstance(node.expression, ast.QuantumMeasurement):
                    self.measure(self.operand(node.expression.qubit), None)
                elif node.expression is not None:
                    self.value(node.expression)
            case ast.QuantumGateDefinition():
                self._define_gate(node)
            case ast.SubroutineDefinition():
                self._global_only("subroutines")
                self.names.declare(node.name.name, Subroutine(node))
            case _:
                what = type(node).__name__
                raise Invalid(
                    "circuit.unsupported", f"this kind of statement is not accepted: {what}", got=what
                )

    def _declare(self, name: str, kind: ast.ClassicalType | None, value: object) -> None:
        if isinstance(kind, ast.BitType):
            size = None if kind.size is None else self._whole(kind.size, "a register's size")
            self.names.declare_register(name, size, quantum=False)
        else:
            self._check_type(kind)
            self.names.declare(name, Number(None))
        if isinstance(value, ast.QuantumMeasurement):
            target = self.names.find(name)
            self.measure(self.operand(value.qubit), target if isinstance(target, Register) else None)
        elif isinstance(value, ast.Expression):
            self.value(value)
            self._measured_by_call(value, self.names.find(name))

    def _assign(self, node: ast.ClassicalAssignment) -> None:
        name = node.lvalue.name if isinstance(node.lvalue, ast.Identifier) else node.lvalue.name.name
        target = self.names.find(name)
        if isinstance(target, Register):
            target = self.operand(node.lvalue)
            if target.quantum:
                raise Invalid("circuit.operand", "nothing can be assigned to qubits", got=name[:80])
        self.value(node.rvalue)
        self._measured_by_call(node.rvalue, target)

    def _measured_by_call(self, value: object, target: object) -> None:
        """A subroutine's result comes from measurements as far as anybody can tell."""
        if isinstance(value, ast.FunctionCall) and isinstance(target, Register):
            self.tally.measured.update(target.wires)

    def _check_type(self, kind: ast.ClassicalType | None) -> None:
        if isinstance(kind, ast.ArrayType):
            total = 1
            for dimension in kind.dimensions:
                total *= self._whole(dimension, "an array's size")
                if not 0 <= total <= MAX_ELEMENTS:
                    raise Limit(
                        "circuit.array", "an array is too large", expected=f"at most {MAX_ELEMENTS} elements"
                    )
            self._check_type(kind.base_type)
        elif (
            isinstance(kind, (ast.IntType, ast.UintType, ast.FloatType, ast.AngleType))
            and kind.size is not None
        ):
            width = self._whole(kind.size, "a type's width")
            if not 1 <= width <= 1024:
                raise Limit(
                    "circuit.width", "a number's width", expected="1 to 1024 bits", got=str(width)[:40]
                )

    # Gates

    def apply(
        self, gate: Gate, name: str, angles: int, operands: Sequence[Register], controls: int = 0
    ) -> None:
        """Apply a gate to registers, once for each of their elements.

        Raises:
            Invalid: ``circuit.arguments``, ``circuit.operand``.
        """
        wanted = gate.qubits + controls
        if angles != gate.angles or len(operands) != wanted:
            raise Invalid(
                "circuit.arguments",
                f"the gate {name!r} is applied wrongly",
                expected=f"{gate.angles} parameters and {wanted} qubits",
                got=f"{angles} parameters and {len(operands)} operands",
            )
        for register in operands:
            if not register.quantum:
                raise Invalid("circuit.operand", f"the gate {name!r} acts on qubits, not on bits")
        for wires in self._each(operands):
            self.tally.gate(gate, name, wires, controls)

    def _apply_tree(self, node: ast.QuantumGate) -> None:
        if node.duration is not None:
            raise Invalid("circuit.unsupported", "a gate with a duration is not accepted")
        for argument in node.arguments:
            self.value(argument)
        controls, prefix = self._modifiers(node.modifiers)
        gate = self.names.gate(node.name.name)
        operands = [self._qubits(part) for part in node.qubits]
        self.apply(gate, prefix + gate.name, len(node.arguments), operands, controls)

    def _phase(self, node: ast.QuantumPhase) -> None:
        """A global phase is no operation; a controlled one is a gate on its controls."""
        self.value(node.argument)
        controls, prefix = self._modifiers(node.modifiers)
        operands = [self._qubits(part) for part in node.qubits]
        if controls:
            self.apply(Gate("gphase", 0, 0), prefix + "gphase", 0, operands, controls)

    def _modifiers(self, modifiers: Sequence[ast.QuantumGateModifier]) -> tuple[int, str]:
        controls, prefix = 0, ""
        for modifier in modifiers:
            kind = modifier.modifier
            if kind is ast.GateModifierName.pow:
                power = self.value(modifier.argument) if modifier.argument is not None else None
                if power is not None and abs(power) > MAX_MODIFIER:
                    raise Limit(
                        "circuit.modifier", "a gate's power is too large", expected=f"at most {MAX_MODIFIER}"
                    )
            elif kind in (ast.GateModifierName.ctrl, ast.GateModifierName.negctrl):
                count = (
                    1
                    if modifier.argument is None
                    else self._whole(modifier.argument, "the number of controls")
                )
                controls += count
                if count < 1 or controls > MAX_MODIFIER:
                    raise Limit("circuit.modifier", "too many controls", expected=f"1 to {MAX_MODIFIER}")
            prefix += f"{kind.name} @ "
        return controls, prefix

    def _define_gate(self, node: ast.QuantumGateDefinition) -> None:
        self._global_only("gates")
        name = node.name.name
        angles: list[str] = [part.name for part in node.arguments]
        qubits: list[str] = [part.name for part in node.qubits]
        outer, self.tally, self._in_gate = self.tally, Tally(), True
        try:
            with self._scope():
                for angle in angles:
                    self.names.declare(angle, Number(None))
                for wire, qubit in enumerate(qubits):
                    self.names.declare(qubit, Register((wire,), quantum=True, scalar=True))
                self.statements(node.body)
            body = self.tally
        except Invalid as error:
            if error.code == "circuit.undefined" and error.got == name:
                raise Invalid(
                    "circuit.recursion", f"the gate {name!r} is defined by itself", got=name[:80]
                ) from None
            raise
        finally:
            self.tally, self._in_gate = outer, False
        gate = Gate(name, len(angles), len(qubits), body.depth, body.size, dict(body.counts), body.two_qubit)
        self.names.declare(name, gate)

    # Measurements and the like

    def measure(self, source: Register, target: Register | None) -> None:
        """Measure qubits, into bits if there are any."""
        self._no_gate("a measurement")
        if not source.quantum or (target is not None and target.quantum):
            raise Invalid("circuit.operand", "a measurement goes from qubits to bits")
        if target is None:
            for wire in source.wires if not source.vague else source.wires[:1]:
                self.tally.operation(source.wires if source.vague else (wire,))
            return
        if source.width != target.width:
            raise Invalid(
                "circuit.operand",
                "a measurement's sides differ in size",
                got=f"{source.width} qubits into {target.width} bits",
            )
        for wires in self._each([source, target]):
            self.tally.operation(wires)
        self.tally.measured.update(target.wires)

    def reset(self, operands: Sequence[Register]) -> None:
        """Reset qubits."""
        self._no_gate("a reset")
        for register in operands:
            if not register.quantum:
                raise Invalid("circuit.operand", "only qubits can be reset")
            for wires in self._each([register]):
                self.tally.operation(wires)

    def barrier(self, operands: Sequence[Register]) -> None:
        """Hold qubits until all are there; without operands, all."""
        wires = [wire for register in operands or self._all_qubits() for wire in register.wires]
        self.tally.place([*dict.fromkeys(wires)], 0)

    # Blocks

    def _block(self, nodes: Sequence[ast.Statement]) -> None:
        with self._scope():
            self.statements(nodes)

    def _apart(self, nodes: Sequence[ast.Statement]) -> Tally:
        """Walk statements into a tally of their own."""
        outer, self.tally = self.tally, Tally()
        try:
            self._block(nodes)
            return self.tally
        finally:
            self.tally = outer

    def _branch(
        self, condition: ast.Expression, ways: Sequence[tuple[object, Sequence[ast.Statement]]]
    ) -> None:
        decided = self.value(condition)
        if decided is not None and len(ways) == 2:
            self._block(ways[0 if decided else 1][1])
            return
        self.dynamic = True
        bound = Tally()
        for _, nodes in ways:
            bound = either(bound, self._apart(nodes))
        self.tally.block(bound, 1, self._read_bits(condition))

    def _switch(self, node: ast.SwitchStatement) -> None:
        for values, _ in node.cases:
            for value in values:
                self.value(value)
        ways = [(None, body.statements) for _, body in node.cases]
        ways += [(None, node.default.statements if node.default else []), (None, [])]
        self._branch(node.target, ways if len(ways) != 2 else [*ways, (None, [])])

    def _for(self, node: ast.ForInLoop) -> None:
        self._check_type(node.type)
        turns, values = self._turns(node.set_declaration)
        if turns > MAX_GATES:
            raise Limit(
                "circuit.gates",
                "a loop runs too often",
                expected=f"at most {MAX_GATES} turns",
                got=str(turns)[:40],
            )
        name = node.identifier.name
        if turns * _statements(node.block) <= MAX_STEPS - self._steps:
            for value in values:
                self._turn(name, value, node.block)
            return
        outer, self.tally = self.tally, Tally()
        try:
            self._turn(name, None, node.block)
            body = self.tally
        finally:
            self.tally = outer
        self.tally.block(body, turns)

    def _turn(self, name: str, value: Value, nodes: Sequence[ast.Statement]) -> None:
        with self._scope():
            self.names.declare(name, Number(value))
            self._block(nodes)

    def _turns(
        self, values: ast.RangeDefinition | ast.DiscreteSet | ast.Expression
    ) -> tuple[int, Sequence[Value]]:
        if isinstance(values, ast.DiscreteSet):
            return len(values.values), [self.value(part) for part in values.values]
        if isinstance(values, ast.RangeDefinition) and values.start is not None and values.end is not None:
            span = self._range(values, 0)
            return _length(span), span
        if isinstance(values, ast.Identifier):
            register = self.names.find(values.name)
            if isinstance(register, Register):
                return len(register.wires), [None] * len(register.wires)
        raise Invalid(
            "circuit.unbounded",
            "how often a loop runs cannot be known",
            hint="give it a range of constants, as in [0:9]",
        )

    # Subroutines

    def _call(self, node: ast.FunctionCall) -> Value:
        name = node.name.name
        if name in constants.FUNCTIONS or name in constants.UNKNOWN_FUNCTIONS:
            if name == "sizeof":
                return None
            return constants.call(name, [self.value(part) for part in node.arguments])
        meaning = self.names.find(name)
        if not isinstance(meaning, Subroutine):
            raise Invalid("circuit.undefined", f"the function {name!r} is not defined", got=name[:80])
        if name in self._calls or len(self._calls) >= MAX_NESTING:
            raise Invalid("circuit.recursion", f"the subroutine {name!r} calls itself", got=name[:80])
        tree = meaning.tree
        if len(tree.arguments) != len(node.arguments):
            raise Invalid(
                "circuit.arguments", f"the subroutine {name!r} takes {len(tree.arguments)} arguments"
            )
        given = [
            (part.name.name, self._argument(part, value))
            for part, value in zip(tree.arguments, node.arguments, strict=True)
        ]
        self._calls.append(name)
        hidden, self.names.scopes = self.names.scopes, self.names.scopes[:2]
        try:
            with self._scope():
                for parameter, argument in given:
                    self.names.declare(parameter, argument)
                self._block(tree.body)
        finally:
            self.names.scopes = hidden
            self._calls.pop()
        return None

    def _argument(
        self, part: ast.ClassicalArgument | ast.QuantumArgument, value: ast.Expression
    ) -> Register | Number:
        if isinstance(part, ast.QuantumArgument):
            register = self._barred(value)
            wanted = 1 if part.size is None else self._whole(part.size, "a register's size")
            if not register.quantum or register.width != wanted:
                raise Invalid(
                    "circuit.arguments", "a subroutine's qubits differ in number", expected=str(wanted)
                )
            return register
        if isinstance(part.type, ast.BitType) and isinstance(value, (ast.Identifier, ast.IndexExpression)):
            return self._barred(value)
        return Number(self.value(value))

    # Guards

    @contextlib.contextmanager
    def _scope(self) -> Iterator[None]:
        self.names.scopes.append({})
        try:
            yield
        finally:
            self.names.scopes.pop()

    def _global_only(self, what: str) -> None:
        if len(self.names.scopes) != 2:
            raise Invalid("circuit.scope", f"{what} are defined outside of blocks")

    def _no_gate(self, what: str) -> None:
        if self._in_gate:
            raise Invalid("circuit.unitary", f"{what} cannot stand in a gate definition")


def _length(span: range) -> int:
    """Return how many numbers a range has; `len` refuses ranges above 2^63."""
    return max(0, (span.stop - span.start + span.step - (1 if span.step > 0 else -1)) // span.step)


def _statements(nodes: Sequence[ast.Statement]) -> int:
    """Count statements in a block and the blocks within it, each once."""
    count, todo = 0, list(nodes)
    while todo:
        node = todo.pop()
        count += 1
        match node:
            case ast.QuantumGate() | ast.QuantumBarrier():
                count += len(node.qubits)
            case ast.ForInLoop() | ast.WhileLoop():
                todo += node.block
            case ast.BranchingStatement():
                todo += [*node.if_block, *node.else_block]
            case ast.Box():
                todo += node.body
            case ast.CompoundStatement():
                todo += node.statements
    return max(count, 1)
