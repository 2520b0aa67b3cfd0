"""Splitting a program into statements, reading the flat ones by patterns.

Most statements of most programs are one gate on some qubits. A pattern reads such a statement in
microseconds, where the grammar takes a quarter of a millisecond. What no pattern fits goes to the grammar,
in one piece and in order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from qcos.base.errors import Invalid, Limit
from qcos.base.limits import MAX_NESTING
from qcos.circuits.gates import LIBRARIES
from qcos.circuits.openqasm import line_of

_NAME = r"[^\W\d]\w*+"
_OPERAND = rf"(?:\$\d{{1,9}}|{_NAME})(?:\s*+\[\s*+\d{{1,9}}\s*+\])?"
_LIST = rf"{_OPERAND}(?:\s*+,\s*+{_OPERAND})*"
_BLANK = re.compile(r"\s*+")
_APPLY = re.compile(rf"({_NAME})\s*+(?:\(([^;{{}}\"]*)\)\s*+)?({_LIST})\s*+;")
_REGISTER = re.compile(
    rf"(?:(qubit|bit)\s*+(?:\[\s*+(\d+)\s*+\])?\s*+\b({_NAME})"
    rf"|(qreg|creg)\s+({_NAME})\s*+\[\s*+(\d+)\s*+\])\s*+;"
)
_MEASURE = re.compile(
    rf"(?:measure\s+({_OPERAND})\s*+->\s*+({_OPERAND})"
    rf"|({_OPERAND})\s*+=\s*+measure\s+({_OPERAND}))\s*+;"
)
_INCLUDE = re.compile(rf'include\s*+"({"|".join(map(re.escape, LIBRARIES))})"\s*+;')
_VERSION = re.compile(r"OPENQASM\s+(\d{1,3})(?:\.(\d{1,3}))?\s*+;")
_OPAQUE = re.compile(rf"opaque\s+({_NAME})\s*+(?:\(([\w\s,]*+)\)\s*+)?({_NAME}(?:\s*+,\s*+{_NAME})*)\s*+;")
_STOP = re.compile(r"[;{}]")
_BEFORE_VALUES = tuple("=,(<>+-*/:&|!~^%[")
_IN = re.compile(r"\W?in")
_CONTROL = re.compile(r"(?<!\w)(?:if|for|while|else|ctrl|negctrl|inv|pow)(?!\w)")
_FIRST_WORD = re.compile(_NAME)

_KEYWORDS = """
OPENQASM include defcalgrammar def cal defcal gate extern box let break continue if else end return
for while in switch case default nop pragma input output const readonly mutable qreg qubit creg bool
bit int uint float angle complex array void duration stretch gphase inv pow ctrl negctrl durationof
delay reset measure barrier true false opaque
"""
KEYWORDS: Final = frozenset(_KEYWORDS.split())


@dataclass(frozen=True, slots=True)
class Flat:
    """A statement that a pattern read: its kind, and its parts as text."""

    kind: str
    position: int
    name: str = ""
    angles: str | None = None
    operands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """A statement for the grammar: its place and its text."""

    position: int
    text: str


def split(bare: str, format: str) -> Iterator[Flat | Piece]:
    """Yield the statements of a checked program in order.

    Raises:
        Invalid: ``circuit.syntax``, ``circuit.version``.
        Limit: ``circuit.nesting``.
    """
    position, first, after_piece, chain = 0, True, False, 0
    while (position := _skip_blanks(bare, position)) < len(bare):
        statement, end = _flat(bare, position, format)
        if statement is None:
            end = _piece_end(bare, position)
            text = bare[position:end]
            word = _FIRST_WORD.match(text)
            chain = chain + 1 if word and word[0] == "else" else 0
            if chain and not after_piece:
                where = f"line {line_of(bare, position)}"
                raise Invalid("circuit.syntax", "an else without its if", subject=where)
            _check_chain(bare, position, text, chain)
            yield Piece(position, text)
            after_piece = True
        else:
            if statement.kind == "version":
                _check_version(statement, format, first, bare)
            yield statement
            after_piece = False
        first, position = False, end


def _check_chain(bare: str, position: int, text: str, chain: int) -> None:
    """Refuse nesting that needs no brackets: ``if (a) if (b) ...`` and ``else if ... else if ...``."""
    longest = max(len(_CONTROL.findall(part)) for part in _STOP.split(text))
    if max(longest, chain) > MAX_NESTING:
        raise Limit(
            "circuit.nesting",
            "conditions, loops or modifiers are nested too deeply",
            subject=f"line {line_of(bare, position)}",
            expected=f"at most {MAX_NESTING} levels",
            hint="write conditions one after another, and ctrl(n) for many controls",
        )


def _skip_blanks(bare: str, position: int) -> int:
    found = _BLANK.match(bare, position)
    return found.end() if found else position


def _flat(bare: str, position: int, format: str) -> tuple[Flat | None, int]:
    """Read the statement at a position; None when no pattern of the format fits."""
    third = format == "QASM3"
    found = _APPLY.match(bare, position)
    if found and (third or "$" not in found[3]):
        if found[1] not in KEYWORDS:
            return Flat("gate", position, found[1], found[2], tuple(found[3].split(","))), found.end()
        if found[1] in ("barrier", "reset", "measure")[: 3 if third else 2] and found[2] is None:
            return Flat(found[1], position, operands=tuple(found[3].split(","))), found.end()
    if found := _MEASURE.match(bare, position):
        if found[1]:
            return Flat("store", position, operands=(found[1], found[2])), found.end()
        return (Flat("store", position, operands=(found[4], found[3])) if third else None), found.end()
    if (found := _REGISTER.match(bare, position)) and (found[3] or found[5]) not in KEYWORDS:
        if found[1]:
            return (
                Flat(found[1], position, found[3], operands=(found[2] or "",)) if third else None
            ), found.end()
        kind = "qubit" if found[4] == "qreg" else "bit"
        return Flat(kind, position, found[5], operands=(found[6],)), found.end()
    if (found := _INCLUDE.match(bare, position)) and (third or found[1] == "qelib1.inc"):
        return Flat("include", position, found[1]), found.end()
    if found := _VERSION.match(bare, position):
        return Flat("version", position, found[1]), found.end()
    if not third and (found := _OPAQUE.match(bare, position)):
        return Flat("opaque", position, found[1], found[2], tuple(found[3].split(","))), found.end()
    return None, position


def _piece_end(bare: str, position: int) -> int:
    """Return where a statement ends: after its semicolon, or the brace that closes its block."""
    depth, literal, start = 0, False, position
    while found := _STOP.search(bare, position):
        position = found.end()
        if found[0] == ";":
            if depth == 0:
                return position
        elif found[0] == "{":
            if depth == 0:
                literal = _opens_set(bare, start, found.start())
            depth += 1
        else:
            depth -= 1
            if depth < 0 or (depth == 0 and not literal):
                return position
    return len(bare)


def _opens_set(bare: str, start: int, brace: int) -> bool:
    """Return whether a brace opens a list of values, as in ``in {1, 2}``, and not a block."""
    end = brace
    while end > start and bare[end - 1].isspace():
        end -= 1
    return (
        bare[max(start, end - 1) : end] in _BEFORE_VALUES
        or _IN.fullmatch(bare[max(start, end - 3) : end]) is not None
    )


def _check_version(statement: Flat, format: str, first: bool, bare: str) -> None:
    wanted = format[-1]
    if not first or statement.name != wanted:
        raise Invalid(
            "circuit.version",
            "the version stands first" if not first else f"the program is not in {format}",
            subject=f"line {line_of(bare, statement.position)}",
            expected=f"OPENQASM {wanted}.0",
            got=f"OPENQASM {statement.name}",
            hint="give the format that the program is written in" if first else "",
        )
