"""The driver of Cirq's simulator; imports no SDK (`qcos.drivers.cirq.child` does).

Gates after measurements and resets run; branches and loops are refused. Amplitudes are single precision,
Cirq's default.
"""

from __future__ import annotations

from typing import ClassVar

from qcos.backends.model import Backend
from qcos.base.limits import MAX_CIRCUITS
from qcos.drivers.contract import Facts
from qcos.drivers.local import LOCAL_SHOTS, LocalDriver

SIMULATOR = "cirq-simulator"
QUBITS = 26  # a state vector of 0.5 GiB and its copies
GATES = ("x", "y", "z", "h", "s", "t", "cx", "cz", "swap", "ccx", "cswap", "rx", "ry", "rz")


class CirqDriver(LocalDriver):
    """Cirq's state-vector simulator."""

    name: ClassVar[str] = "cirq"
    extra: ClassVar[str] = "qcos[cirq]"
    requires: ClassVar[tuple[str, ...]] = ("qiskit", "cirq")
    repeatable: ClassVar[bool] = True
    child: ClassVar[str] = "qcos.drivers.cirq.child"

    def __init__(self, processes: int = 1) -> None:
        super().__init__(processes)

    def _backends(self) -> tuple[Backend, ...]:
        return (
            Backend(
                name=SIMULATOR,
                provider="google-cirq",
                kind="simulator",
                driver=self.name,
                qubits=QUBITS,
                max_shots=LOCAL_SHOTS,
                max_depth=None,
                max_circuits=MAX_CIRCUITS,
                formats=("QASM3", "QASM2"),
                gates=GATES,
                region="local",
                zone="local",
                on_premise=True,
                price_key="local/cirq",
                description="Google Cirq's state-vector simulator, on this machine",
            ),
        )

    def _bound_us(self, backend: str, facts: Facts, shots: int) -> int:
        return (
            100_000
            + facts.size * 1000
            + ((facts.size << min(facts.qubits, 40)) * 40 + shots * facts.qubits * 800) // 1000
        )
