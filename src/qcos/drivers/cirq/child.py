"""The process that runs Cirq's simulator. The only module that imports the SDK."""

from __future__ import annotations

from qcos.drivers import one_core  # noqa: F401 - before numpy

# isort: split

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np

from qcos.base.errors import DriverError
from qcos.base.process import serve
from qcos.drivers.cirq.driver import GATES, QUBITS, SIMULATOR
from qcos.drivers.flatten import Flat, Step, flatten
from qcos.drivers.program import Program, bind
from qcos.drivers.simulate import Ran, answering
from qcos.drivers.tally import tally


class Cirq:
    """Cirq's simulator; programs are rebuilt from Cirq's operations."""

    runtime = f"cirq-core-{version('cirq-core')}"
    seeded = True
    packages = ("cirq-core",)
    language = "application/vnd.cirq+json"
    no_calibration = "a simulator without noise: no device, no calibration"

    def __init__(self) -> None:
        self._cirq: Any = None  # Any: the module cirq
        self._gates: dict[str, Callable[..., Any]] = {}  # Any: cirq.Gate

    def load(self, backend: str) -> None:
        """Import Cirq."""
        if self._cirq is None:
            import cirq  # 1 to 3 s: after this process has said that it is ready

            self._cirq = cirq
            fixed = (
                cirq.X,
                cirq.Y,
                cirq.Z,
                cirq.H,
                cirq.S,
                cirq.T,
                cirq.CNOT,
                cirq.CZ,
                cirq.SWAP,
                cirq.CCNOT,
                cirq.CSWAP,
            )
            turning = (cirq.rx, cirq.ry, cirq.rz)
            made = [lambda gate=gate: gate for gate in fixed]
            self._gates = dict(zip(GATES, (*made, *turning), strict=True))

    def run(
        self,
        backend: str,
        program: Program,
        parameters: dict[str, float],
        shots: int,
        seed: int,
        options: dict[str, Any],
    ) -> Ran:
        """Run a program."""
        circuit = bind(program.circuit, parameters)
        if circuit.num_qubits > QUBITS:
            got = str(circuit.num_qubits)
            raise DriverError(
                "driver.qubits",
                "the backend has too few qubits",
                subject=SIMULATOR,
                expected=str(QUBITS),
                got=got,
            )
        flat = flatten(circuit, GATES, midway=True)
        built, last = self._build(flat)
        result = self._cirq.Simulator(seed=seed).run(built, repetitions=shots)
        keys = sorted(last.values())
        samples = np.stack([result.records[key][:, 0, 0] for key in keys], axis=1)
        columns = [keys.index(last[bit]) if bit in last else -1 for bit in reversed(range(flat.bits))]
        return Ran(
            tally(samples, columns),
            circuit.depth(),
            {"dialect": "cirq", "precision": "complex64"},
            executed=lambda: self._cirq.to_json(built, indent=None),
            response=lambda: self._cirq.to_json(result, indent=None),
        )

    def settings(self, backend: str, options: dict[str, Any]) -> dict[str, Any]:
        """Return what decides how programs are run, beside the programs."""
        return {"gates": sorted(GATES), "noise_model": False, "precision": "complex64"}

    def _build(self, flat: Flat) -> tuple[Any, dict[int, str]]:  # Any: cirq.Circuit
        """Return Cirq's circuit, and for each bit the key of the measurement that wrote it last."""
        qubits = self._cirq.LineQubit.range(flat.qubits)
        last: dict[int, str] = {}
        operations = []
        for index, step in enumerate(flat.steps):
            on = [qubits[qubit] for qubit in step.qubits]
            if step.name == "measure":
                last[step.bit] = f"m{index}"
                operations.append(self._cirq.measure(*on, key=f"m{index}"))
            else:
                operations.append(
                    self._gate(step)(*on) if step.matrix is None else self._matrix(step)(*on[::-1])
                )
        return self._cirq.Circuit(operations), last

    def _gate(self, step: Step) -> Any:  # Any: cirq.Gate
        return self._cirq.reset if step.name == "reset" else self._gates[step.name](*step.params)

    def _matrix(self, step: Step) -> Any:  # Any: cirq.Gate; its first qubit is the most significant digit
        return self._cirq.MatrixGate(step.matrix, unitary_check_atol=1e-6)


if __name__ == "__main__":
    serve(answering(Cirq))
