"""The process that runs Qiskit Aer, started by `qcos.drivers.runs`. The only module that imports the SDK."""

from __future__ import annotations

from qcos.drivers import one_core  # noqa: F401 - before numpy

# isort: split

import json
from functools import cache
from typing import Any

import qiskit_aer
from qiskit import generate_preset_pass_manager, qasm3
from qiskit_aer import AerSimulator

from qcos.base.canonical import digest_of
from qcos.base.errors import DriverError
from qcos.base.process import serve
from qcos.drivers.aer.driver import COMPILER_SEED, FAKES, IDEAL, IDEAL_QUBITS, properties_file
from qcos.drivers.program import Kept, Program, bind, is_small, operations
from qcos.drivers.simulate import Ran, answering

_SHORT = 100_000  # characters of a program that is kept in writing
_CONTROL = {"measure", "barrier", "delay", "reset"}


class Aer:
    """Aer's simulators, each made once; what was compiled is kept by program."""

    runtime = f"qiskit-aer-{qiskit_aer.__version__}"
    seeded = True
    packages = ("qiskit-aer", "qiskit-ibm-runtime", "rustworkx", "scipy")
    language = "text/x-openqasm"
    compiler_seed = COMPILER_SEED
    no_calibration = "an ideal simulator: no device, no noise, no calibration"

    def __init__(self) -> None:
        self._settings: dict[str, dict[str, Any]] = {}
        self._calibrations: dict[str, str] = {}
        self._written = Kept()
        self._simulators: dict[str, Any] = {}  # Any: AerSimulator
        self._qubits: dict[str, int] = {}  # Aer makes the whole target anew whenever it is asked
        self._compilers: dict[tuple[str, int], Any] = {}  # Any: PassManager
        self._compiled = Kept()
        self._native: frozenset[str] = frozenset()
        self._run_here = hasattr(AerSimulator, "_execute_circuits_job")

    def load(self, backend: str) -> None:
        """Make the simulator of a backend."""
        if backend in self._simulators:
            return
        if backend == IDEAL:
            simulator = AerSimulator(max_parallel_threads=1)
            self._native = frozenset(simulator.operation_names) | _CONTROL
        else:
            from qiskit_ibm_runtime import fake_provider  # 2 s; only this backend needs it

            device = getattr(fake_provider, f"Fake{FAKES[backend].title()}V2")()
            simulator = AerSimulator.from_backend(device, max_parallel_threads=1)
            noise = simulator.options.noise_model
            noise.to_dict = cache(noise.to_dict)  # Aer asks for it at every run: 0.2 s for 27 qubits
        self._simulators[backend] = simulator
        self._qubits[backend] = IDEAL_QUBITS if backend == IDEAL else simulator.num_qubits

    def run(
        self,
        backend: str,
        program: Program,
        parameters: dict[str, float],
        shots: int,
        seed: int,
        options: dict[str, Any],
    ) -> Ran:
        """Run a program; compiled first unless the simulator takes all its gates."""
        simulator = self._simulators[backend]
        if program.circuit.num_qubits > (most := self._qubits[backend]):
            limit, got = str(most), str(program.circuit.num_qubits)
            raise DriverError(
                "driver.qubits", "the backend has too few qubits", subject=backend, expected=limit, got=got
            )
        level = options.get("optimization_level", 1)
        compiled = self._compiled.get(
            (program.digest, backend, level), lambda: self._compile(backend, program.circuit, level), is_small
        )
        circuit = bind(compiled, parameters)
        result = self._execute(simulator, circuit, shots, seed)
        if not result.success:
            raise DriverError("driver.vendor", f"Aer failed: {result.status}"[:500])
        one = result.results[0]
        width = circuit.num_clbits
        counts = {format(int(key, 16), f"0{width}b"): count for key, count in sorted(one.data.counts.items())}
        notes = {"method": one.metadata.get("method", ""), "compiled": compiled is not program.circuit}
        if compiled is not program.circuit:
            notes["optimization_level"] = level if backend != IDEAL else 0
        key = (program.digest, backend, level, tuple(sorted(parameters.items())))
        return Ran(
            counts,
            compiled.depth(),
            notes,
            executed=lambda: self._written.get(key, lambda: _write(circuit), lambda text: len(text) < _SHORT),
            response=lambda: json.dumps(result.to_dict(), default=str, sort_keys=True),
        )

    def settings(self, backend: str, options: dict[str, Any]) -> dict[str, Any]:
        """Return what decides how programs are compiled and run on a backend, beside the programs."""
        if backend not in self._settings:
            simulator = self._simulators[backend]
            coupling = simulator.coupling_map
            self._settings[backend] = {
                "basis_gates": sorted(simulator.operation_names),
                "coupling_map": None if coupling is None else digest_of(sorted(map(list, coupling))),
                "method": simulator.options.method,
                "noise_model": simulator.options.noise_model is not None,
                "precision": simulator.options.precision,
            }
        level = options.get("optimization_level", 1) if backend != IDEAL else 0
        return {**self._settings[backend], "optimization_level": level}

    def calibration(self, backend: str) -> str | None:
        """Return the properties that the noise is made from, as IBM's package has them; None for no noise."""
        if backend == IDEAL:
            return None
        if backend not in self._calibrations:
            self._calibrations[backend] = properties_file(backend).read_text("utf-8")
        return self._calibrations[backend]

    def _compile(self, backend: str, circuit: Any, level: int) -> Any:  # Any: QuantumCircuit
        if level not in (0, 1, 2, 3):
            raise DriverError(
                "driver.option", "no such optimization_level", expected="0, 1, 2 or 3", got=str(level)
            )
        if backend == IDEAL:
            if operations(circuit) <= self._native:
                return circuit
            level = 0
        if (compiler := self._compilers.get((backend, level))) is None:
            target = self._simulators[backend]
            compiler = generate_preset_pass_manager(
                optimization_level=level, backend=target, seed_transpiler=COMPILER_SEED
            )
            self._compilers[backend, level] = compiler
        return compiler.run(circuit)

    def _execute(self, simulator: Any, circuit: Any, shots: int, seed: int) -> Any:
        if self._run_here:  # Aer 0.18 has no public way that stays in this thread, which saves 0.1 ms
            return simulator._execute_circuits_job([circuit], None, {"shots": shots, "seed_simulator": seed})
        return simulator.run(circuit, shots=shots, seed_simulator=seed).result()


def _write(circuit: Any) -> str:  # Any: QuantumCircuit
    """Return a circuit as OpenQASM 3, every number as it is."""
    return str(qasm3.dumps(circuit, disable_constants=True))


if __name__ == "__main__":
    serve(answering(Aer))
