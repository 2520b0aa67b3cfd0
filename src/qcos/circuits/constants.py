"""Bounded evaluation of constant expressions: what a parser would compute must not be able to stop it.

A value is an integer, a float, a truth value, or None for what is not known before the program runs.
``9**9**9**9``, ``1 << 10**9`` and division by zero are refused, not computed.
"""

from __future__ import annotations

import ast as python
import math
import operator
import re
from collections.abc import Callable, Sequence
from typing import Final

from openqasm3 import ast

from qcos.base.errors import Invalid

Value = int | float | bool | None
Lookup = Callable[[str], Value]

MAX_INTEGER: Final = 2**64  # no classical type of a program holds more
CONSTANTS: Final = {"pi": math.pi, "π": math.pi, "tau": math.tau, "τ": math.tau, "euler": math.e, "ℇ": math.e}

_MAX_TEXT = 256  # characters of angles read by the short way; longer ones go to the grammar
_ANGLES = re.compile(r"[A-Za-z0-9_πτℇ\s.+\-*/%^(),]+")
_NAMES = str.maketrans({"π": " pi ", "τ": " tau ", "ℇ": " euler "})
_BINARY: Final[dict[str, Callable[[float, float], float | bool]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "%": math.fmod,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "&&": lambda a, b: bool(a) and bool(b),
    "||": lambda a, b: bool(a) or bool(b),
}
_BITS: Final[dict[str, Callable[[int, int], int]]] = {
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
}
FUNCTIONS: Final[dict[str, Callable[..., float]]] = {
    "arccos": math.acos,
    "acos": math.acos,
    "arcsin": math.asin,
    "asin": math.asin,
    "arctan": math.atan,
    "atan": math.atan,
    "ceiling": math.ceil,
    "cos": math.cos,
    "exp": math.exp,
    "floor": math.floor,
    "ln": math.log,
    "log": math.log,
    "mod": math.fmod,
    "pow": math.pow,
    "sin": math.sin,
    "sqrt": math.sqrt,
    "tan": math.tan,
}
UNKNOWN_FUNCTIONS: Final = frozenset({"popcount", "rotl", "rotr", "real", "imag", "sizeof"})


def refuse(message: str, got: str = "") -> Invalid:
    """Return the error for a constant that cannot be computed."""
    return Invalid("circuit.constant", message, got=got[:80], hint="write the value as a number")


def binary(sign: str, left: Value, right: Value) -> Value:
    """Compute ``left sign right``; None when either is not known.

    Raises:
        Invalid: ``circuit.constant`` when the result is not finite or too large.
    """
    if left is None or right is None:
        return None
    try:
        return _bounded(_compute(sign, left, right), sign)
    except (ArithmeticError, ValueError, TypeError):
        raise refuse("a constant cannot be computed", f"{left} {sign} {right}") from None


def _compute(sign: str, left: int | float, right: int | float) -> Value:
    whole = isinstance(left, int) and isinstance(right, int)
    if sign in _BINARY:
        if sign == "%" and whole:
            return math.trunc(math.fmod(left, right))
        return _BINARY[sign](left, right)
    if sign == "/":
        return int(left / right) if whole else left / right
    if sign == "**":
        if whole and right >= 0:
            if abs(left) > 1 and right > 64:
                raise OverflowError
            return left**right
        return math.pow(left, right)
    if not (isinstance(left, int) and isinstance(right, int)):
        return None
    if sign in _BITS:
        return _BITS[sign](left, right)
    if sign in ("<<", ">>"):
        if not 0 <= right <= 64:
            raise OverflowError
        return left << right if sign == "<<" else left >> right
    return None


def _bounded(value: Value, what: str) -> Value:
    if isinstance(value, float) and not math.isfinite(value):
        raise refuse("a constant is not finite", what)
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise refuse("a constant is too large", what)
    return value


def unary(sign: str, operand: Value) -> Value:
    """Compute ``-x``, ``~x`` or ``!x``."""
    if operand is None:
        return None
    if sign == "-":
        return -operand
    if sign == "!":
        return not operand
    return None  # the width of ~x is not known here


def call(name: str, arguments: Sequence[Value]) -> Value:
    """Compute a built-in function.

    Raises:
        Invalid: ``circuit.constant`` outside its domain, ``circuit.undefined`` when there is no such
            function.
    """
    if name in UNKNOWN_FUNCTIONS:
        return None
    if name not in FUNCTIONS:
        raise Invalid("circuit.undefined", f"the function {name!r} is not defined")
    if any(a is None for a in arguments):
        return None
    try:
        return _bounded(FUNCTIONS[name](*arguments), name)
    except (ArithmeticError, ValueError, TypeError):
        raise refuse("a constant cannot be computed", f"{name}({', '.join(map(str, arguments))})") from None


def evaluate(node: ast.Expression, lookup: Lookup, function: Callable[[ast.FunctionCall], Value]) -> Value:
    """Compute an expression of the grammar's tree.

    Args:
        node: The expression.
        lookup: Gives a name's value; raises when there is none of that name.
        function: Computes a call.
    """
    match node:
        case ast.IntegerLiteral() | ast.FloatLiteral() | ast.BooleanLiteral():
            return _bounded(node.value, "literal")
        case ast.Identifier():
            return lookup(node.name)
        case ast.BinaryExpression():
            left, right = evaluate(node.lhs, lookup, function), evaluate(node.rhs, lookup, function)
            return binary(node.op.name, left, right)
        case ast.UnaryExpression():
            return unary(node.op.name, evaluate(node.expression, lookup, function))
        case ast.FunctionCall():
            return function(node)
        case ast.Cast():
            value = evaluate(node.argument, lookup, function)
            if isinstance(node.type, (ast.IntType, ast.UintType)) and isinstance(value, float):
                return int(value)
            return value if isinstance(node.type, (ast.IntType, ast.UintType, ast.FloatType)) else None
        case ast.IndexExpression():
            evaluate(node.collection, lookup, function)
            return None
        case ast.Concatenation():
            evaluate(node.lhs, lookup, function)
            evaluate(node.rhs, lookup, function)
            return None
        case ast.ArrayLiteral():
            for value_node in node.values:
                evaluate(value_node, lookup, function)
            return None
    return None  # durations, bit strings, sizes: not numbers that decide anything here


def read_angles(text: str, power: str) -> python.Tuple | None:
    """Read a gate's parameter list the short way: its arithmetic is that of Python's own grammar.

    Args:
        text: What stands between the parentheses.
        power: The sign for powers: ``**`` in OpenQASM 3, ``^`` in OpenQASM 2.

    Returns:
        The expressions, or None when the list needs the full grammar.
    """
    if (
        len(text) > _MAX_TEXT
        or not _ANGLES.fullmatch(text)
        or (power == "**" and "^" in text)
        or "//" in text
    ):
        return None
    if power == "^":
        if "**" in text:
            return None
        text = text.replace("^", "**")
    try:
        tree = python.parse(f"({text.translate(_NAMES)},)", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if not isinstance(tree, python.Tuple) or not all(_plain(part) for part in tree.elts):
        return None
    return tree


_SIGNS: Final = {
    python.Add: "+",
    python.Sub: "-",
    python.Mult: "*",
    python.Div: "/",
    python.Mod: "%",
    python.Pow: "**",
}


def _plain(node: python.expr) -> bool:
    match node:
        case python.Constant():
            return type(node.value) in (int, float)
        case python.Name():
            return True
        case python.BinOp():
            return type(node.op) in _SIGNS and _plain(node.left) and _plain(node.right)
        case python.UnaryOp():
            return isinstance(node.op, python.USub) and _plain(node.operand)
        case python.Call():
            return isinstance(node.func, python.Name) and not node.keywords and all(map(_plain, node.args))
    return False


def compute_angle(node: python.expr, lookup: Lookup, real: bool) -> Value:
    """Compute an expression of `read_angles`.

    Args:
        node: The expression.
        lookup: Gives a name's value; raises when there is none of that name.
        real: Whether whole numbers are reals, as in OpenQASM 2.
    """
    match node:
        case python.Constant():
            value = node.value
            assert isinstance(value, (int, float))  # noqa: S101 - `_plain` let nothing else through
            return _bounded(float(value) if real and abs(value) <= MAX_INTEGER else value, "literal")
        case python.Name():
            return lookup(node.id)
        case python.BinOp():
            left = compute_angle(node.left, lookup, real)
            return binary(_SIGNS[type(node.op)], left, compute_angle(node.right, lookup, real))
        case python.UnaryOp():
            return unary("-", compute_angle(node.operand, lookup, real))
        case python.Call() if isinstance(node.func, python.Name):
            return call(node.func.id, [compute_angle(a, lookup, real) for a in node.args])
    return None
