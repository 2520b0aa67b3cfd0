"""The linear check: what it lets through has its comments blanked and every position kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcos.base.errors import Invalid, QcosError
from qcos.base.limits import MAX_NESTING, MAX_QUBITS, MAX_SOURCE_BYTES, MAX_UNARY_RUN
from qcos.circuits.openqasm import check, line_of

_PARTS = [
    "// a\n",
    "/* b */",
    "/*\n*/",
    "x q;",
    "\n",
    "\r\n",
    '"01_1"',
    "(",
    ")",
    "[2]",
    "π",
    "θ",
    "/",
    "*",
    '"',
    "-",
    "//",
]


@given(st.lists(st.sampled_from(_PARTS)).map("".join))
def test_positions_are_kept_and_comments_gone(text: str) -> None:
    try:
        bare = check(text.encode(), "QASM3")
    except QcosError as error:
        assert error.code.startswith("circuit.")
        return
    assert len(bare) == len(text)
    assert [n for n, c in enumerate(bare) if c == "\n"] == [n for n, c in enumerate(text) if c == "\n"]
    assert all(ours in (theirs, " ") for ours, theirs in zip(bare, text, strict=True))
    assert "//" not in bare
    assert "/*" not in bare
    assert check(bare.encode(), "QASM3") == bare


@given(st.binary(max_size=200))
def test_any_bytes_are_text_or_refused(data: bytes) -> None:
    try:
        assert check(data, "QASM2").strip()
    except QcosError as error:
        assert error.code.startswith("circuit.")


@pytest.mark.parametrize(
    "text",
    [
        "qubit θ;",
        "// naïve – “quoted” 量子 \U0001f600\nqubit q;",
        "qubit q; rx(π/2) q; delay[1µs] q;",
        "qubit q;\r\n// windows\r\n",
        'qubit q; /* // */ /* " */ // /* " \'\n',
        'bit[4] c = "0101";',
        "qubit q; ctrl @ x q;",
        "qubit calculus; qubit _cal; qubit includes;",
        f"qubit[{MAX_QUBITS}] q;",
        "(" * MAX_NESTING + ")" * MAX_NESTING,
        "x" + "-" * MAX_UNARY_RUN + "1;",
        "/**/ qubit q;",
        "/***/ qubit q;",
        "/* * / */ qubit q;",
    ],
)
def test_what_is_harmless_passes(text: str) -> None:
    check(text.encode(), "QASM3")


def test_the_largest_program_passes() -> None:
    assert len(check(b"x q;" * (MAX_SOURCE_BYTES // 4), "QASM3")) == MAX_SOURCE_BYTES


def test_the_line_of_a_refusal() -> None:
    with pytest.raises(Invalid) as caught:
        check(b'qubit q;\n/* \n */\ninclude "/etc/passwd";', "QASM3")
    assert caught.value.subject == "line 4"
    assert caught.value.got == '"/etc/passwd"'
    assert line_of("a\nb", 2) == 2
