"""Facts of a checked program. Runs in the child only: the grammar's authors did not expect enemies."""

from __future__ import annotations

import ast as python
import bisect
import re
from typing import Final

import openqasm3
from openqasm3 import ast

from qcos.base.errors import Invalid, Limit, QcosError
from qcos.circuits.constants import Lookup, compute_angle, read_angles
from qcos.circuits.flat import Flat, Piece, split
from qcos.circuits.gates import Gate
from qcos.circuits.model import CircuitFacts
from qcos.circuits.names import Register, select
from qcos.circuits.openqasm import line_of
from qcos.circuits.walk import Walk

MAX_GRAMMAR_BYTES: Final = 256 * 1024  # text that only the full grammar reads; it takes 10 µs a byte
QASM2_PIECES: Final = ("gate", "if")

_OPERAND = re.compile(r"\s*([\w$]+)\s*(?:\[\s*(\d+)\s*\]\s*)?")
_NUMBER = re.compile(r"\s*-?\d{1,17}(?:\.\d*)?(?:[eE][-+]?\d{1,2})?\s*")
_WORD = re.compile(r"\w+")


def read(bare: str, format: str, digest: str) -> CircuitFacts:
    """Read a program's facts.

    Args:
        bare: The text that `openqasm.check` returned.
        format: One of `model.FORMATS`.
        digest: Digest of the source, kept in the facts.

    Raises:
        Invalid: ``circuit.*`` with the line.
        Limit: ``circuit.*`` with the line.
    """
    angles = _Angles(format)
    statements = [_to_grammar(s, bare, angles) for s in split(bare, format)]
    grammar = _Grammar(bare, [s for s in statements if isinstance(s, Piece)], format)
    walk = Walk(format)
    reading = _Reading(walk, angles)
    for statement in statements:
        if isinstance(statement, Piece):
            for node in grammar.nodes_of(statement):
                try:
                    walk.statement(node)
                except QcosError as error:
                    raise _located(error, grammar.line(walk.line)) from None
        else:
            try:
                reading.statement(statement)
            except QcosError as error:
                raise _located(error, line_of(bare, statement.position)) from None
    walk.tally.check()
    names, tally = walk.names, walk.tally
    if names.qubits + names.physical == 0:
        raise Invalid("circuit.no_qubits", "the program declares no qubits", hint="declare some: qubit[2] q;")
    return CircuitFacts(
        qubits=names.qubits + names.physical,
        bits=names.bits,
        depth=tally.depth,
        size=tally.size,
        gates=tally.counts,
        measured_bits=len(tally.measured & names.global_bits),
        two_qubit_gates=tally.two_qubit,
        parameters=tuple(names.parameters),
        digest=digest,
        dynamic=walk.dynamic,
    )


def _located(error: QcosError, line: int) -> QcosError:
    error.subject = error.subject or f"line {line}"
    return error


def _to_grammar(statement: Flat | Piece, bare: str, angles: _Angles) -> Flat | Piece:
    """Hand a gate whose angles are not plain arithmetic to the grammar."""
    if not isinstance(statement, Flat) or statement.kind != "gate" or statement.angles is None:
        return statement
    if angles.plain(statement.angles):
        return statement
    return Piece(statement.position, bare[statement.position : bare.index(";", statement.position) + 1])


class _Angles:
    """Parameter lists of flat gates, each different text read once."""

    def __init__(self, format: str) -> None:
        self._power = "^" if format == "QASM2" else "**"
        self._real = format == "QASM2"
        self._read: dict[str, list[python.expr] | None] = {}
        self._counts: dict[str, int] = {}

    def plain(self, text: str) -> bool:
        """Return whether a list is plain arithmetic; other lists need the grammar."""
        if _NUMBER.fullmatch(text):
            self._counts[text] = 1
            return True
        if text not in self._read:
            tree = read_angles(text, self._power)
            self._read[text] = None if tree is None else tree.elts
        return self._read[text] is not None

    def count(self, text: str, lookup: Lookup) -> int:
        """Compute a list's values, to refuse those that cannot be; return how many there are."""
        count = self._counts.get(text)
        if count is None:
            trees = self._read[text] or []
            for tree in trees:
                compute_angle(tree, lookup, self._real)
            count = self._counts[text] = len(trees)
        return count


class _Reading:
    """Executes flat statements on a walk."""

    def __init__(self, walk: Walk, angles: _Angles) -> None:
        self._walk = walk
        self._angles = angles
        self._operands: dict[str, Register] = {}  # global names keep their meaning, so this never goes stale

    def statement(self, flat: Flat) -> None:
        walk = self._walk
        match flat.kind:
            case "gate":
                gate = walk.names.gate(flat.name)
                angles = 0 if flat.angles is None else self._angles.count(flat.angles, walk.number)
                walk.apply(gate, flat.name, angles, [self._operand(text) for text in flat.operands])
            case "store":
                walk.measure(self._operand(flat.operands[0]), self._operand(flat.operands[1]))
            case "measure":
                for text in self._only(flat.operands):
                    walk.measure(self._operand(text), None)
            case "reset":
                walk.reset([self._operand(text) for text in self._only(flat.operands)])
            case "barrier":
                walk.barrier([self._operand(text) for text in flat.operands])
            case "qubit" | "bit":
                size = int(flat.operands[0]) if flat.operands[0] else None
                walk.names.declare_register(flat.name, size, quantum=flat.kind == "qubit")
            case "include":
                walk.names.include(flat.name)
            case "opaque":
                angles = 0 if not flat.angles else flat.angles.count(",") + 1
                count = len(flat.operands)
                walk.names.declare(flat.name, Gate(flat.name, angles, count, two_qubit=int(count == 2)))

    def _only(self, operands: tuple[str, ...]) -> tuple[str, ...]:
        if len(operands) > 1:
            raise Invalid("circuit.syntax", "this statement takes one operand", got=", ".join(operands)[:80])
        return operands

    def _operand(self, text: str) -> Register:
        found = self._operands.get(text)
        if found is None:
            parts = _OPERAND.fullmatch(text)
            if parts is None:
                raise Invalid("circuit.syntax", "no operand", got=text[:80])
            found = self._walk.names.register(parts[1])
            if parts[2] is not None:
                found = select(found, parts[1], int(parts[2]))
            self._operands[text] = found
        return found


class _Grammar:
    """The statements that no pattern fits, parsed in one go, and where each came from."""

    def __init__(self, bare: str, pieces: list[Piece], format: str) -> None:
        self._bare = bare
        self._pieces = pieces
        self._first_lines: list[int] = []
        self._nodes: dict[int, list[ast.Statement | ast.Pragma]] = {}
        if not pieces:
            return
        if format == "QASM2":
            self._check_qasm2()
        line = 1
        for piece in pieces:
            self._first_lines.append(line)
            line += piece.text.count("\n") + 1
        text = "\n".join(piece.text for piece in pieces)
        if len(text) > MAX_GRAMMAR_BYTES:
            raise Limit(
                "circuit.grammar",
                "too much text in statements other than plain gates, measurements and declarations",
                expected=f"at most {MAX_GRAMMAR_BYTES} bytes of them",
                got=f"{len(text)} bytes",
            )
        for node in self._parse(text).statements:
            start = node.span.start_line if node.span is not None else 1
            owner = bisect.bisect_right(self._first_lines, start) - 1
            self._nodes.setdefault(pieces[owner].position, []).append(node)

    def nodes_of(self, piece: Piece) -> list[ast.Statement | ast.Pragma]:
        """Return the statements that begin in a piece."""
        return self._nodes.get(piece.position, [])

    def line(self, line: int) -> int:
        """Return the source's line for one of the parsed text."""
        owner = max(0, bisect.bisect_right(self._first_lines, line) - 1)
        return line_of(self._bare, self._pieces[owner].position) + line - self._first_lines[owner]

    def _check_qasm2(self) -> None:
        for piece in self._pieces:
            word = _WORD.match(piece.text)
            if word is None or word[0] not in QASM2_PIECES or "@" in piece.text:
                raise Invalid(
                    "circuit.syntax",
                    "this is no statement of OpenQASM 2",
                    subject=f"line {line_of(self._bare, piece.position)}",
                    got=piece.text[:60].split("\n")[0],
                )

    def _parse(self, text: str) -> ast.Program:
        try:
            return openqasm3.parse(text)
        except RecursionError:
            raise Limit("circuit.nesting", "expressions or blocks are nested too deeply") from None
        except MemoryError:
            raise
        except Exception as error:  # the grammar's own errors, and the assertions of its visitor
            raise self._syntax(error, text) from None

    def _syntax(self, error: Exception, text: str) -> Invalid:
        message, line, got = str(error), 0, ""
        if found := re.match(r"L(\d+):C\d+: (.*)", message, re.DOTALL):
            line, message = int(found[1]), found[2]
        cause: BaseException | None = error
        while cause is not None and not line:
            token = getattr(cause, "offendingToken", None) or getattr(
                cause.args[0] if cause.args else None, "offendingToken", None
            )
            line = getattr(token, "line", 0)
            got = getattr(token, "text", "") or ""
            cause = cause.__cause__
        subject = f"line {self.line(line)}" if line else ""
        got = "the end" if got == "<EOF>" else got
        return Invalid("circuit.syntax", message[:200] or "not OpenQASM", subject=subject, got=got[:60])
