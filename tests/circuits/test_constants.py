"""Constants are computed as the language says, or refused; nothing large is ever made."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcos.base.errors import Invalid
from qcos.circuits.constants import MAX_INTEGER, Value, binary, call, compute_angle, read_angles, unary

_NUMBERS = st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6, allow_nan=False)
_ANY = st.none() | st.booleans() | st.integers() | st.floats()
_SIGNS = [
    "+",
    "-",
    "*",
    "/",
    "%",
    "**",
    "==",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "&&",
    "||",
    "&",
    "|",
    "^",
    "<<",
    ">>",
    "++",
]


@given(st.sampled_from(_SIGNS), _ANY, _ANY)
def test_every_result_is_bounded_unknown_or_refused(sign: str, left: Value, right: Value) -> None:
    try:
        result = binary(sign, left, right)
    except Invalid as error:
        assert error.code == "circuit.constant"
        return
    if isinstance(result, float):
        assert math.isfinite(result)
    elif result is not None:
        assert abs(result) <= MAX_INTEGER


@pytest.mark.parametrize(
    ("sign", "left", "right", "result"),
    [
        ("/", 7, 2, 3),
        ("/", -7, 2, -3),
        ("/", 7.0, 2, 3.5),
        ("%", -7, 3, -1),
        ("**", 2, 10, 1024),
        ("**", 2, -1, 0.5),
        ("<<", 1, 10, 1024),
        ("^", 6, 3, 5),
        ("+", None, 1, None),
    ],
)
def test_arithmetic(sign: str, left: Value, right: Value, result: Value) -> None:
    assert binary(sign, left, right) == result


@pytest.mark.parametrize(
    ("sign", "left", "right"),
    [("**", 9, 387420489), ("<<", 1, 10**9), ("/", 1, 0), ("%", 1, 0), ("**", -1.0, 0.5)],
)
def test_what_cannot_be_computed(sign: str, left: Value, right: Value) -> None:
    with pytest.raises(Invalid) as caught:
        binary(sign, left, right)
    assert caught.value.code == "circuit.constant"


def test_signs_and_functions() -> None:
    assert unary("-", 3) == -3
    assert unary("!", False) is True
    assert unary("~", 3) is None
    assert call("sin", [0]) == 0
    assert call("sin", [None]) is None
    with pytest.raises(Invalid, match="cannot be computed"):
        call("log", [0])
    with pytest.raises(Invalid, match="cannot be computed"):
        call("sin", [1, 2, 3])
    with pytest.raises(Invalid, match="not defined"):
        call("system", [1])


@given(_NUMBERS.filter(lambda n: n >= 0), _NUMBERS.filter(lambda n: n > 0), st.sampled_from(["+", "-", "*"]))
def test_angles_are_read_the_short_way(left: float, right: float, sign: str) -> None:
    tree = read_angles(f" ({left!r}) {sign} {right!r} , pi", "**")
    assert tree is not None
    first, second = (compute_angle(part, lambda _: math.pi, False) for part in tree.elts)
    assert first == {"+": left + right, "-": left - right, "*": left * right}[sign]
    assert second == math.pi


@pytest.mark.parametrize(
    "text",
    [
        "1 if 1 else 2",
        "lambda: 1",
        "[1]",
        "a.b",
        "1,",
        "*a",
        "f(x=1)",
        "1 // 2",
        "True",
        "1j",
        "not 1",
        "a := 1",
        "'x'",
        "1 < 2",
        "+1",
        "",
    ],
)
def test_what_python_reads_otherwise_goes_to_the_grammar(text: str) -> None:
    assert read_angles(text, "**") is None


def test_powers_are_written_by_version() -> None:
    assert read_angles("2^3", "**") is None
    assert read_angles("2**3", "^") is None
    tree = read_angles("2^3", "^")
    assert tree is not None
    assert compute_angle(tree.elts[0], lambda _: None, True) == 8.0
