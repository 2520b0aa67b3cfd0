"""The driver of Amazon Braket's local simulators; imports no SDK (`qcos.drivers.braket.child` does).

The simulators take no seed, so their outcomes cannot be repeated and carry none. Programs with resets,
branches or gates after a measurement are refused, as Amazon's devices refuse them.
"""

from __future__ import annotations

from typing import ClassVar

from qcos.backends.model import Backend
from qcos.base.limits import MAX_CIRCUITS
from qcos.drivers.braket.gates import GATES
from qcos.drivers.contract import Facts
from qcos.drivers.local import LOCAL_SHOTS, LocalDriver

SIMULATORS = {"braket-local-sv": "braket_sv", "braket-local-dm": "braket_dm"}
QUBITS = {
    "braket-local-sv": 25,
    "braket-local-dm": 12,
}  # one less than the SDK states: 0.5 GiB and its copies
_WHAT = {"braket-local-sv": "state vector", "braket-local-dm": "density matrix"}


class BraketDriver(LocalDriver):
    """Amazon Braket's local state-vector and density-matrix simulators."""

    name: ClassVar[str] = "braket"
    extra: ClassVar[str] = "qcos[braket]"
    requires: ClassVar[tuple[str, ...]] = ("qiskit", "braket")
    repeatable: ClassVar[bool] = False
    child: ClassVar[str] = "qcos.drivers.braket.child"

    def __init__(self, processes: int = 1) -> None:
        super().__init__(processes)

    def _backends(self) -> tuple[Backend, ...]:
        return tuple(
            Backend(
                name=name,
                provider="aws-braket",
                kind="simulator",
                driver=self.name,
                qubits=QUBITS[name],
                max_shots=LOCAL_SHOTS,
                max_depth=None,
                max_circuits=MAX_CIRCUITS,
                formats=("QASM3", "QASM2"),
                gates=tuple(sorted(GATES)),
                region="local",
                zone="local",
                on_premise=True,
                price_key="local/braket",
                description=f"Amazon Braket's local {_WHAT[name]} simulator, on this machine",
            )
            for name in SIMULATORS
        )

    def _bound_us(self, backend: str, facts: Facts, shots: int) -> int:
        bits = facts.qubits * (2 if backend == "braket-local-dm" else 1)
        return (
            500_000
            + facts.size * 1000
            + ((facts.size << min(bits, 40)) * 80 + shots * facts.qubits * 4000) // 1000
        )
