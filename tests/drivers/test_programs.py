"""Programs mean the same to every reader and every vendor (R2.2, R8.5)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit, qasm3
from qiskit.circuit.library import get_standard_gate_name_mapping
from qiskit.quantum_info import Operator

from qcos.base.errors import DriverError
from qcos.drivers.braket.emit import columns, emit
from qcos.drivers.braket.gates import GATES as BRAKET
from qcos.drivers.cirq.driver import GATES as CIRQ
from qcos.drivers.flatten import flatten
from qcos.drivers.program import bind, operations, read
from qcos.drivers.tally import tally

HEAD = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'
FIXED = {
    "x": 1,
    "y": 1,
    "z": 1,
    "h": 1,
    "s": 1,
    "sdg": 1,
    "t": 1,
    "tdg": 1,
    "sx": 1,
    "cx": 2,
    "cz": 2,
    "swap": 2,
    "ccx": 3,
}
TURNING = {"rx": 1, "ry": 1, "rz": 1, "p": 1, "crx": 2, "cp": 2}


@st.composite
def flat_programs(draw: st.DrawFn) -> str:
    """A program of declarations, gates and measurements into several registers."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    qubits = [f"q{r}[{i}]" for r, size in enumerate(sizes) for i in range(size)]
    bits = [f"c{r}[{i}]" for r, size in enumerate(sizes) for i in range(size)]
    lines = [f"qubit[{size}] q{r};\nbit[{size}] c{r};" for r, size in enumerate(sizes)]
    for _ in range(draw(st.integers(0, 8))):
        name = draw(st.sampled_from([*FIXED, *TURNING]))
        count = FIXED.get(name) or TURNING[name]
        if count <= len(qubits):
            on = draw(st.permutations(qubits))[:count]
            angle = f"({draw(st.floats(-7, 7))!r})" if name in TURNING else ""
            lines.append(f"{name}{angle} {', '.join(on)};")
    order = draw(st.permutations(range(len(bits))))
    lines += [f"{bits[i]} = measure {qubits[k]};" for k, i in enumerate(order)]
    return HEAD + "\n".join(lines) + "\n"


def unmeasured(circuit: QuantumCircuit) -> QuantumCircuit:
    return circuit.remove_final_measurements(inplace=False)


@settings(max_examples=60, deadline=None)
@given(flat_programs())
def test_the_fast_reader_reads_what_the_complete_one_reads(source: str) -> None:
    """R2.2: what goes through the native importer is the same circuit, gate for gate and bit for bit."""
    fast, complete = read(source, "QASM3").circuit, qasm3.loads(source)

    def listed(circuit: QuantumCircuit) -> list[object]:
        place = {q: i for i, q in enumerate(circuit.qubits)} | {c: i for i, c in enumerate(circuit.clbits)}
        return [
            (
                i.operation.name,
                [float(p) for p in i.operation.params],
                [place[b] for b in (*i.qubits, *i.clbits)],
            )
            for i in circuit.data
        ]

    assert listed(fast) == listed(complete)


@settings(max_examples=60, deadline=None)
@given(flat_programs(), st.sampled_from([frozenset(BRAKET), frozenset(CIRQ), frozenset()]))
def test_flattening_keeps_the_unitary_and_the_bits(source: str, known: frozenset[str]) -> None:
    """R8.5: the steps a vendor gets are the program, whatever gates it knows by name."""
    circuit = read(source, "QASM3").circuit
    flat = flatten(circuit, known, midway=False)
    again = QuantumCircuit(circuit.num_qubits, circuit.num_clbits)
    library = get_standard_gate_name_mapping()
    for step in flat.steps:  # every qubit is measured, so that none is left out
        if step.matrix is not None:
            again.unitary(step.matrix, step.qubits)
        elif step.name != "measure":
            assert step.name in known
            again.append(library[step.name].base_class(*step.params), step.qubits)
    assert Operator(unmeasured(circuit)).equiv(Operator(again))
    bits = {step.bit: step.qubits[0] for step in flat.steps if step.name == "measure"}
    place = {c: i for i, c in enumerate(circuit.clbits)}
    index = {q: i for i, q in enumerate(circuit.qubits)}
    expected = {place[i.clbits[0]]: index[i.qubits[0]] for i in circuit.data if i.operation.name == "measure"}
    assert bits == expected


def test_a_programs_own_gate_means_what_the_program_says() -> None:
    """R2.2: a gate the program defines under a vendor's name is not run as the vendor's."""
    source = (
        'OPENQASM 3.0;\ngate h a { U(pi, 0, pi) a; }\ngate rzz(t) a, b { h a; ctrl @ U(0, 0, t) a, b; }\n'
        "qubit[2] q;\nbit[2] c;\nh q[0];\nrzz(0.2) q[0], q[1];\nc = measure q;\n"
    )  # fmt: skip
    assert operations(read(source, "QASM3").circuit) == {"u", "cu", "measure"}
    inside = (
        HEAD
        + "gate rzz(t) a, b { x a; }\nqubit[2] q;\nbit[2] c;\nc = measure q;\n"
        + "if (c[0]) { rzz(1) q[0], q[1]; }\n"
    )
    assert operations(read(inside, "QASM3").circuit) == {"x", "measure", "if_else"}
    old = "OPENQASM 2.0;\ngate h a { U(0,0,0) a; }\nqreg q[1];\ncreg c[1];\nh q[0];\nmeasure q -> c;\n"
    assert operations(read(old, "QASM2").circuit) == {"u", "measure"}


@pytest.mark.parametrize(
    ("source", "format", "said"),
    [
        (HEAD + 'include "/etc/passwd";\nqubit q;\n', "QASM3", "include"),
        ('OPENQASM 2.0;\ninclude "../secret.inc";\nqreg q[1];\n', "QASM2", "include"),
        (HEAD + "qubit q;\nnosuchgate q;\n", "QASM3", "nosuchgate"),
        (HEAD + "qubit[2] q;\nx q[5];\n", "QASM3", "read"),
        (HEAD + "qubit q;\nx " + "(" * 500 + "q" + ")" * 500 + ";\n", "QASM3", "nested"),
        ("", "QASM3", "empty"),
    ],
)
def test_bad_sources_are_refused_with_a_reason(source: str, format: str, said: str) -> None:
    """R2.2: no file is opened and no parser is crashed by a program, here neither."""
    with pytest.raises(DriverError, match=said) as refused:
        read(source, format)
    assert refused.value.code == "driver.source"


def test_parameters_are_bound_by_name_and_checked() -> None:
    """R1.1: every input gets its value, also one that no gate uses."""
    source = HEAD + "input float a;\ninput float b;\nqubit q;\nbit c;\nrx(2 * a) q;\nc = measure q;\n"
    circuit = read(source, "QASM3").circuit
    bound = bind(circuit, {"a": 0.25, "b": 1.0})
    assert [float(i.operation.params[0]) for i in bound.data if i.operation.name == "rx"] == [0.5]
    assert {p.name for p in circuit.parameters} == {"a", "b"}, "the kept circuit was changed"
    full = {"a": 1.0, "b": 1.0}
    for wrong, said in (({}, "a, b"), ({**full, "z": 1.0}, "z"), ({**full, "a": math.nan}, "a")):
        with pytest.raises(DriverError) as refused:
            bind(circuit, wrong)
        assert (refused.value.code, refused.value.subject) == ("driver.parameters", said)


def test_what_a_vendor_cannot_do_is_named() -> None:
    """R8.5: refusals name the operation."""
    cases = {
        "bit[2] c;\nc[0] = measure q[0];\nx q[0];\nc[1] = measure q[0];": "mid-circuit measurement",
        "bit[2] c;\nx q[0];\nreset q[0];\nc[0] = measure q[0];": "reset",
        "bit[2] c;\nc[0] = measure q[0];\nif (c[0]) { x q[1]; }": "if_else",
        "bit[2] c;\nc[0] = measure q[0];\nwhile (c[0]) { c[0] = measure q[0]; }": "while_loop",
        "bit[2] c;\nfor int i in [0:2] { x q[0]; }\nc = measure q;": "for_loop",
    }
    for body, what in cases.items():
        circuit = read(f"{HEAD}qubit[2] q;\n{body}\n", "QASM3").circuit
        with pytest.raises(DriverError) as refused:
            flatten(circuit, BRAKET, midway=False)
        assert (refused.value.code, refused.value.subject) == ("driver.unsupported", what)


def test_braket_gets_only_what_is_used_and_its_bits_are_put_back() -> None:
    """R8.5: idle qubits are left out, one measured twice is measured once, unwritten bits are zero."""
    source = (
        HEAD
        + "qubit[9] q;\nbit[2] a;\nbit[3] b;\nx q[7];\n"
        + "b[2] = measure q[7];\na[0] = measure q[7];\nb[0] = measure q[3];\n"
    )
    flat = flatten(read(source, "QASM3").circuit, BRAKET, midway=False)
    text, measured = emit(flat)
    assert text == (
        "OPENQASM 3.0;\nqubit[2] q;\nbit[2] b;\ni q[0];\nx q[1];\n"
        "b[0] = measure q[0];\nb[1] = measure q[1];\n"
    )
    assert tally(np.array([[0, 1], [0, 1], [1, 1]]), list(columns(flat, measured))) == {
        "10001": 2,
        "10101": 1,
    }
