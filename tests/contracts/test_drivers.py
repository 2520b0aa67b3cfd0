"""Every driver keeps the contract (R8.5): the shipped conformance suite, on the real SDKs."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from qiskit import QuantumCircuit, qasm2, qasm3, transpile
from qiskit.circuit.library import get_standard_gate_name_mapping

from qcos.drivers import registry
from qcos.drivers.conformance import check
from qcos.drivers.contract import Circuit, Driver, Work

BACKENDS = {
    "aer": ["aer-ideal", "aer-fake-manila"],  # kolkata is manila with more qubits
    "braket": ["braket-local-sv", "braket-local-dm"],
    "cirq": ["cirq-simulator"],
}
UNITARY = set(get_standard_gate_name_mapping()) - {"measure", "reset", "delay", "id", "global_phase"}


@pytest.fixture(scope="module", params=sorted(BACKENDS))
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    made = registry.load(request.param)
    yield made
    made.close()


def test_the_driver_keeps_the_contract(driver: Driver) -> None:
    """R8.5: every promise of the contract, on every kind of backend of every driver that ships."""
    checks = check(driver, BACKENDS[driver.name])
    broken = [f"{c.backend}: {c.name}: {c.detail}" for c in checks if not c.ok]
    assert not broken, "\n".join(broken)
    assert {c.backend for c in checks if c.backend} == set(BACKENDS[driver.name])
    assert len(checks) == 1 + 16 * len(BACKENDS[driver.name])


def _echo(name: str, rng: random.Random) -> Circuit:
    """A random state, a gate, the gate undone by elementary ones, the state undone: all bits are zero."""
    known = get_standard_gate_name_mapping()[name]
    gate = known.base_class(*[rng.uniform(-3, 3) for _ in known.params]) if known.params else known
    qubits = gate.num_qubits
    start = QuantumCircuit(qubits)
    for qubit in range(qubits):
        start.u(*[rng.uniform(-3, 3) for _ in range(3)], qubit)
    for qubit in range(qubits - 1):
        start.cx(qubit, qubit + 1)
        start.u(*[rng.uniform(-3, 3) for _ in range(3)], qubit + 1)
    undo = QuantumCircuit(qubits)
    undo.append(gate.inverse(), range(qubits))
    elementary = transpile(undo, basis_gates=["u", "cx"], optimization_level=1, seed_transpiler=1)
    whole = QuantumCircuit(qubits, qubits)
    whole.compose(start, inplace=True)
    whole.append(gate, range(qubits))
    whole.compose(elementary, inplace=True)
    whole.compose(start.inverse(), inplace=True)
    whole.measure(range(qubits), range(qubits))
    if name in ("rxx", "rzz"):  # standard gates of OpenQASM 2 alone
        return Circuit(str(qasm2.dumps(whole)), "QASM2")
    return Circuit(str(qasm3.dumps(whole)))


def test_every_gate_is_the_gate(driver: Driver) -> None:
    """R8.5: each standard gate, with random angles on a random state, is undone by others."""
    rng = random.Random(20260109)
    names = sorted(UNITARY)
    work = Work(tuple(_echo(name, rng) for name in names), 50, 1)
    backend = BACKENDS[driver.name][0]
    outcome = driver.result(driver.submit(backend, work, "echoes"))
    wrong = {
        name: counts
        for name, counts in zip(names, outcome.counts, strict=True)
        if set("".join(counts)) != {"0"}
    }
    assert not wrong
    assert len(names) > 40
