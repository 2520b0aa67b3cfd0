"""The process that runs Braket's local simulators. The only module that imports the SDK."""

from __future__ import annotations

from qcos.drivers import one_core  # noqa: F401 - before numpy

# isort: split

import json
import warnings
from importlib.metadata import version
from typing import Any

import numpy as np

from qcos.base.canonical import digest
from qcos.base.errors import DriverError
from qcos.base.process import serve
from qcos.drivers.braket.driver import QUBITS, SIMULATORS
from qcos.drivers.braket.emit import columns, emit
from qcos.drivers.braket.gates import GATES
from qcos.drivers.flatten import flatten
from qcos.drivers.program import Program, bind
from qcos.drivers.simulate import Ran, answering
from qcos.drivers.tally import tally


class Braket:
    """Braket's local simulators; programs are rewritten in Braket's dialect."""

    runtime = f"amazon-braket-default-simulator-{version('amazon-braket-default-simulator')}"
    seeded = False  # the simulators draw from a generator of their own
    packages = ("amazon-braket-sdk", "amazon-braket-default-simulator", "amazon-braket-schemas")
    language = "text/x-openqasm"
    no_calibration = "a local simulator without noise: no device, no calibration"

    def __init__(self) -> None:
        self._devices: dict[str, Any] = {}  # Any: LocalSimulator

    def load(self, backend: str) -> None:
        """Make the simulator of a backend."""
        if backend not in self._devices:
            from braket.devices import (
                LocalSimulator,
            )  # 3 to 8 s: after this process has said that it is ready

            self._devices[backend] = LocalSimulator(SIMULATORS[backend])

    def run(
        self,
        backend: str,
        program: Program,
        parameters: dict[str, float],
        shots: int,
        seed: int,
        options: dict[str, Any],
    ) -> Ran:
        """Run a program; the seed has no effect."""
        circuit = bind(program.circuit, parameters)
        flat = flatten(circuit, GATES, midway=False)
        most = QUBITS[backend]
        if circuit.num_qubits > most:
            got = str(circuit.num_qubits)
            raise DriverError(
                "driver.qubits",
                "the backend has too few qubits",
                subject=backend,
                expected=str(most),
                got=got,
            )
        source, measured = emit(flat)
        samples, result = self._samples(backend, source, shots, measured)
        counts = tally(samples, list(columns(flat, measured)))
        return Ran(
            counts,
            circuit.depth(),
            {"dialect": "braket-openqasm3", "executed": digest(source.encode())},
            executed=lambda: source,
            response=lambda: _response(result),
        )

    def settings(self, backend: str, options: dict[str, Any]) -> dict[str, Any]:
        """Return what decides how programs are run on a backend, beside the programs."""
        return {"simulator": SIMULATORS[backend], "gates": sorted(GATES.values()), "noise_model": False}

    def _samples(
        self, backend: str, source: str, shots: int, measured: tuple[int, ...]
    ) -> tuple[Any, Any]:  # Any: numpy.ndarray, GateModelQuantumTaskResult
        from braket.ir.openqasm import Program as Dialect  # loaded by now

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it advises the other simulator for programs without noise
            result = self._devices[backend].run(Dialect(source=source), shots=shots).result()
        samples = np.asarray(result.measurements)
        if tuple(result.measured_qubits) != measured or samples.shape != (shots, len(measured)):
            got = f"qubits {result.measured_qubits}, {samples.shape}"
            raise DriverError(
                "driver.vendor",
                "Braket measured other qubits than asked for",
                expected=str(measured),
                got=got,
            )
        return samples, result


def _response(result: Any) -> str:  # Any: GateModelQuantumTaskResult
    """Return what Amazon's schema ``braket.task_result.gate_model_task_result`` keeps of a result, as JSON."""
    metadata = f'"taskMetadata":{result.task_metadata.json()},"additionalMetadata":{result.additional_metadata.json()}'
    told = {
        "measurements": result.measurements.tolist(),
        "measuredQubits": list(map(int, result.measured_qubits)),
    }
    return f"{{{metadata},{json.dumps(told)[1:]}"


if __name__ == "__main__":
    serve(answering(Braket))
