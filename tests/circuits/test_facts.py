"""Facts of circuits: equal to Qiskit's for flat programs, bounds for the others (R2.2, R6.1)."""

from __future__ import annotations

import math
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit, qasm2, qasm3

from qcos.base.canonical import digest
from qcos.circuits.facts import read as read_checked
from qcos.circuits.gates import QELIB1, STDGATES
from qcos.circuits.model import CircuitFacts
from qcos.circuits.openqasm import check
from qcos.circuits.reader import CircuitReader

STD = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'
NOT_GATES = ("measure", "reset", "barrier", "delay")


def facts(source: str, format: str = "QASM3") -> CircuitFacts:
    """Read a harmless program without a child."""
    return read_checked(check(source.encode(), format), format, "sha256:-")


def test_a_bell_pair(reader: CircuitReader) -> None:
    source = (STD + "qubit[2] q;\nbit[2] c;\nh q[0];\ncx q[0], q[1];\nc = measure q;\n").encode()
    assert reader.read(source, "QASM3") == CircuitFacts(
        qubits=2,
        bits=2,
        depth=3,
        size=4,
        gates={"h": 1, "cx": 1},
        measured_bits=2,
        two_qubit_gates=1,
        parameters=(),
        digest=digest(source),
        dynamic=False,
    )


def test_facts_travel_as_json() -> None:
    made = facts(STD + "input float a; qubit q; rx(a) q;")
    assert CircuitFacts.from_dict(made.as_dict()) == made
    assert made.parameters == ("a",)


@pytest.mark.parametrize(
    ("text", "depth", "size", "gates"),
    [
        ("", 0, 0, {}),
        ("h q;", 1, 4, {"h": 4}),
        ("cx q[0:1], q[2:3];", 1, 2, {"cx": 2}),
        ("cx q[0], q[{1, 2, 3}];", 3, 3, {"cx": 3}),
        ("x q[-1];", 1, 1, {"x": 1}),
        ("let a = q[1:2]; x a;", 1, 2, {"x": 2}),
        ("let a = q[0] ++ q[3]; x a; x q[3];", 2, 3, {"x": 3}),
        ("U(1, 2, 3) q[0]; gphase(pi);", 1, 1, {"U": 1}),
        ("ctrl @ gphase(pi) q[0];", 1, 1, {"ctrl @ gphase": 1}),
        (
            "ctrl @ x q[0], q[1]; ctrl(2) @ inv @ x q[0], q[1], q[2];",
            2,
            2,
            {"ctrl @ x": 1, "ctrl @ inv @ x": 1},
        ),
        ("pow(1/2) @ x q[0];", 1, 1, {"pow @ x": 1}),
        ("rx(pi/2) q[0]; rx(-pi/4 + 2 * (1 - 0.5)) q[0]; rx(sin(π)) q[0];", 3, 3, {"rx": 3}),
        ("x q[0]; barrier q; x q[1];", 2, 2, {"x": 2}),
        ("x q[0]; barrier; x q[1];", 2, 2, {"x": 2}),
        ("delay[100ns] q[0]; x q[0];", 2, 2, {"x": 1}),
        ("x $2; x $0; cx $0, $2;", 2, 3, {"x": 2, "cx": 1}),
        (
            "gate g(a) x0, y0 { rx(a) x0; cx x0, y0; } g(1) q[0], q[1]; g(2) q[1], q[2];",
            4,
            4,
            {"rx": 2, "cx": 2},
        ),
        ("gate g a { h a; } gate k a { g a; g a; } k q[0];", 2, 2, {"h": 2}),
        ("gate nothing a { } nothing q[0];", 0, 0, {}),
        ("const int n = 2 ** 1; x q[n];", 1, 1, {"x": 1}),
        ("for int i in [0:3] { x q[i]; }", 1, 4, {"x": 4}),
        ("for int i in [0:2:3] x q[i];", 1, 2, {"x": 2}),
        ("for int i in [3:-1:0] { x q[i]; }", 1, 4, {"x": 4}),
        ("for int i in {0, 2} x q[i];", 1, 2, {"x": 2}),
        ("for int i in [0:2] { for int j in [i+1:3] { cx q[i], q[j]; } }", 5, 6, {"cx": 6}),
        ("for int i in [5:0] { x q[0]; }", 0, 0, {}),
        ("for int i in [1:500000] { x q[0]; }", 500_000, 500_000, {"x": 500_000}),
        ("if (true) { x q[0]; } else { y q[0]; }", 1, 1, {"x": 1}),
        ("while (false) { x q[0]; }", 0, 0, {}),
        (
            "def f(qubit a, int k) -> bit { x a; return measure a; } bit r; r = f(q[0], 1); f(q[1], 2);",
            2,
            4,
            {"x": 2},
        ),
        ("def g(qubit[2] a) { cx a[0], a[1]; } g(q[1:2]);", 1, 1, {"cx": 1}),
        ("box { x q[0]; }", 1, 1, {"x": 1}),
        ("array[int[8], 3] a = {1, 2, 3}; x q[0];", 1, 1, {"x": 1}),
    ],
)
def test_what_a_statement_counts(text: str, depth: int, size: int, gates: dict[str, int]) -> None:
    made = facts(STD + "qubit[4] q;\n" + text)
    assert (made.depth, made.size, made.gates) == (depth, size, gates)
    assert not made.dynamic


def test_branches_count_the_larger() -> None:
    made = facts(STD + "qubit[2] q; bit c; c = measure q[0]; if (c) { x q[1]; x q[1]; } else { y q[1]; }")
    assert made.dynamic
    assert (made.depth, made.size, made.gates) == (3, 3, {"x": 2, "y": 1})


def test_a_switch_counts_the_larger() -> None:
    made = facts(STD + "qubit[2] q; int n; switch (n) { case 1 { x q[0]; } case 2, 3 { h q; } default { } }")
    assert made.dynamic
    assert (made.depth, made.size, made.gates) == (1, 2, {"x": 1, "h": 2})


def test_an_unknown_index_touches_the_whole_register() -> None:
    made = facts(STD + "qubit[4] q; input int i; x q[0]; x q[i]; x q[3];")
    assert (made.depth, made.size) == (3, 3)


def test_measured_bits_are_counted_once() -> None:
    made = facts(
        STD + "qubit[3] q; bit[3] c; c[0] = measure q[0]; c[0] = measure q[1];"
        " measure q[2] -> c[2]; measure q[2];"
    )
    assert (made.measured_bits, made.bits, made.size) == (2, 3, 4)


def test_flat_statements_between_others_keep_their_order() -> None:
    made = facts(
        STD + "qubit[2] q; x q[0]; if (true) { h q[1]; } cx q[0], q[1];\nfor int i in {0, 1} x q[i]; y q[0];"
    )
    assert made.gates == {"x": 3, "h": 1, "cx": 1, "y": 1}
    assert made.depth == 4


def test_openqasm_2() -> None:
    made = facts(
        'OPENQASM 2.0; include "qelib1.inc"; gate g(a) q { rx(a) q; h q; } opaque o a, b; qreg q[3];'
        " creg c[3];"
        " g(pi^2) q[0]; o q[1], q[2]; if (c == 1) x q[1]; barrier q; measure q -> c; reset q;"
        " u3(1, 2, 3) q[0];",
        "QASM2",
    )
    assert made.gates == {"rx": 1, "h": 1, "o": 1, "x": 1, "u3": 1}
    assert (made.qubits, made.bits, made.measured_bits, made.size, made.two_qubit_gates) == (3, 3, 3, 11, 1)
    assert made.dynamic


_ANGLE = st.floats(-10, 10, allow_nan=False) | st.sampled_from([math.pi, math.pi / 2, 0.0])
_FIXED = {
    1: ["x", "y", "z", "h", "s", "sdg", "t", "tdg", "sx", "id"],
    2: ["cx", "cy", "cz", "ch", "swap"],
    3: ["ccx", "cswap"],
}
_TURNED = {1: ["p", "rx", "ry", "rz"], 2: ["cp", "crx", "cry", "crz"]}


@st.composite
def circuits(draw: st.DrawFn) -> QuantumCircuit:
    """Flat circuits of standard gates, measurements, resets and barriers."""
    qubits, bits = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    circuit = QuantumCircuit(qubits, bits)
    for _ in range(draw(st.integers(0, 30))):
        kind = draw(st.sampled_from(["fixed", "fixed", "turned", "measure", "reset", "barrier"]))
        width = draw(st.integers(1, min(qubits, 3 if kind == "fixed" else 2 if kind == "turned" else qubits)))
        chosen = draw(st.permutations(range(qubits)))[:width]
        if kind == "fixed":
            getattr(circuit, draw(st.sampled_from(_FIXED[width])))(*chosen)
        elif kind == "turned":
            getattr(circuit, draw(st.sampled_from(_TURNED[width])))(draw(_ANGLE), *chosen)
        elif kind == "measure":
            circuit.measure(chosen[0], draw(st.integers(0, bits - 1)))
        elif kind == "reset":
            circuit.reset(chosen[0])
        else:
            circuit.barrier(chosen)
    return circuit


def _agrees(made: CircuitFacts, circuit: QuantumCircuit) -> None:
    assert made.depth == circuit.depth()
    assert made.size == circuit.size()
    assert made.qubits == circuit.num_qubits
    assert made.bits == circuit.num_clbits
    expected = {name: count for name, count in circuit.count_ops().items() if name not in NOT_GATES}
    assert made.gates == expected
    two = sum(1 for part in circuit.data if len(part.qubits) == 2 and part.operation.name not in NOT_GATES)
    assert made.two_qubit_gates == two
    measured = {part.clbits[0] for part in circuit.data if part.operation.name == "measure"}
    assert made.measured_bits == len(measured)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(circuits())
def test_facts_are_those_of_qiskit(circuit: QuantumCircuit) -> None:
    _agrees(facts(qasm3.dumps(circuit)), circuit)
    _agrees(facts(qasm2.dumps(circuit), "QASM2"), circuit)


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(circuits())
def test_patterns_and_grammar_agree(circuit: QuantumCircuit) -> None:
    """A block that always runs makes every statement go through the grammar instead of the patterns."""
    source = qasm3.dumps(circuit)
    head, body = source.split(";\n", 2)[:2], source.split(";\n", 2)[2]
    declarations = "".join(line + "\n" for line in body.splitlines() if line.startswith(("qubit", "bit")))
    rest = "".join(line + "\n" for line in body.splitlines() if not line.startswith(("qubit", "bit")))
    by_grammar = facts(";\n".join(head) + ";\n" + declarations + "if (true) {\n" + rest + "}\n")
    assert by_grammar == facts(source)


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(circuits())
def test_facts_are_those_of_the_native_importer_where_it_reads(circuit: QuantumCircuit) -> None:
    """The native importer refuses resets and whole angles, or panics at both; what it reads, it reads the same."""
    source = qasm3.dumps(circuit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            native = qasm3.loads_experimental(source)
        except BaseException as error:  # its panic is no Exception
            if isinstance(error, qasm3.QASM3ImporterError) or type(error).__name__ == "PanicException":
                return
            raise
    assert facts(source).depth == native.depth()
    assert facts(source).size == native.size()


def _call(name: str, angles: int, qubits: int) -> str:
    given_angles = f"({', '.join(['0.5'] * angles)})" if angles else ""
    return f"{name}{given_angles} {', '.join(f'q[{n}]' for n in range(qubits))};"


def test_the_library_of_openqasm_3_is_that_of_qiskit() -> None:
    for name, (angles, qubits) in STDGATES.items():
        circuit = qasm3.loads(STD + f"qubit[{qubits}] q;\n{_call(name, angles, qubits)}")
        assert circuit.size() == 1, name
    text = "".join(_call(name, *shape) for name, shape in STDGATES.items())
    assert facts(STD + "qubit[3] q;" + text).size == len(STDGATES)


def test_the_library_of_openqasm_2_is_that_of_qiskit() -> None:
    text = "".join(_call(name, *shape) for name, shape in QELIB1.items() if name != "u0")
    source = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[5];' + text
    circuit = qasm2.loads(source, custom_instructions=qasm2.LEGACY_CUSTOM_INSTRUCTIONS)
    assert circuit.size() == facts(source, "QASM2").size == len(QELIB1) - 1
