"""Random text and mutated programs: facts or one of our errors; what is accepted, the grammar accepts too."""

from __future__ import annotations

import openqasm3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcos.base.errors import Invalid, Limit
from qcos.circuits.model import CircuitFacts
from qcos.circuits.reader import CircuitReader

STD = 'include "stdgates.inc";\n'
PROGRAMS = [
    "OPENQASM 3.0;\n"
    + STD
    + "qubit[3] q;\nbit[3] c;\nh q;\ncx q[0], q[1];\nrx(pi/2) q[2];\nc = measure q;\n",
    STD + "gate g(a) x0, y0 { rx(a) x0; cx x0, y0; }\nqubit[2] q; g(1.5) q[0], q[1]; barrier q; reset q;",
    STD + "qubit[4] q; bit[4] c; for int i in [0:3] h q[i];\nif (c[0] == 1) { x q[0]; } else { y q[1]; }",
    STD + "const int n = 3; qubit[n] q; let a = q[0:1]; x a; for int i in {0, 2} x q[i]; z q[n - 1];",
    STD + "def f(qubit a, int k) -> bit { x a; return measure a; }\nqubit q; bit c; c = f(q, 1);",
    STD + "input float t; qubit[2] q; ctrl @ inv @ rz(t) q[0], q[1]; pow(2) @ x $3; delay[10ns] q[0];",
]
_TOKENS = """
; { } ( ) [ ] , : = == -> ++ @ $0 $9 -1 0 1 2 1e9 9**9 0x1 // /* */ h x cx q c i n pi ctrl inv
pow(2) if else for in while gate def qubit bit measure reset barrier let const int float input
include box switch case true "stdgates.inc" "01" "
"""
TOKENS = [*_TOKENS.split(), "\n", "\t"]


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A valid program after some cuts, copies, moves and insertions."""
    text = draw(st.sampled_from(PROGRAMS))
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        match draw(st.sampled_from(["cut", "copy", "move", "insert", "replace"])):
            case "cut":
                text = text[:start] + text[end:]
            case "copy":
                text = text[:end] + text[start:end] * draw(st.integers(1, 3)) + text[end:]
            case "move":
                piece, rest = text[start:end], text[:start] + text[end:]
                at = draw(st.integers(0, len(rest)))
                text = rest[:at] + piece + rest[at:]
            case "insert":
                text = (
                    text[:start]
                    + " " * draw(st.integers(0, 1))
                    + draw(st.sampled_from(TOKENS))
                    + " "
                    + text[start:]
                )
            case "replace":
                text = text[:start] + draw(st.sampled_from(TOKENS)) + text[end:]
    return text


def _read(reader: CircuitReader, source: bytes, format: str) -> CircuitFacts | None:
    try:
        return reader.read(source, format)
    except (Invalid, Limit) as error:
        assert error.code.startswith("circuit.")
        assert error.code not in ("circuit.unreadable", "circuit.memory", "circuit.deadline"), source
        return None


_SETTINGS = settings(max_examples=300, suppress_health_check=list(HealthCheck), deadline=None)


@_SETTINGS
@given(st.text() | st.binary())
def test_random_text(reader: CircuitReader, text: str | bytes) -> None:
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    _read(reader, data, "QASM3")
    _read(reader, data, "QASM2")


@_SETTINGS
@given(st.lists(st.sampled_from(TOKENS), max_size=60).map(" ".join))
def test_random_tokens(reader: CircuitReader, text: str) -> None:
    source = 'include "stdgates.inc"; qubit[3] q; bit[3] c; ' + text
    if _read(reader, source.encode(), "QASM3"):
        openqasm3.parse(source)


@_SETTINGS
@given(mutated())
def test_mutated_programs(reader: CircuitReader, text: str) -> None:
    found = _read(reader, text.encode(), "QASM3")
    if found:
        openqasm3.parse(text)
        assert found.depth <= found.size
        assert found.measured_bits <= found.bits
        assert found.two_qubit_gates <= found.size
        assert max(found.gates.values(), default=0) <= found.size
    _read(reader, text.encode(), "QASM2")


@pytest.mark.parametrize("text", PROGRAMS)
def test_the_programs_are_valid(reader: CircuitReader, text: str) -> None:
    assert reader.read(text.encode(), "QASM3").qubits > 0
