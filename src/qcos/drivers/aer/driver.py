"""The driver of Qiskit Aer; imports no SDK (`qcos.drivers.aer.child` does).

Option: ``optimization_level`` (0 to 3, default 1), how hard Qiskit's compiler tries for the ``aer-fake-*``
backends.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import ClassVar

from qcos.backends.model import Backend
from qcos.base.canonical import digest
from qcos.base.limits import MAX_CIRCUITS
from qcos.drivers.contract import Facts
from qcos.drivers.local import LOCAL_SHOTS, LocalDriver

IDEAL = "aer-ideal"
FAKES = {"aer-fake-manila": "manila", "aer-fake-kolkata": "kolkata"}
IDEAL_QUBITS = 27  # a state vector of 2 GiB; Aer would take more
COMPILER_SEED = 0  # the compiler's choices are the same in every run
_NOISY_QUBITS = 14  # above it noise is simulated shot by shot, not by a density matrix


class AerDriver(LocalDriver):
    """Qiskit Aer, ideal and with the noise of IBM's fake backends."""

    name: ClassVar[str] = "aer"
    extra: ClassVar[str] = "qcos[aer]"
    requires: ClassVar[tuple[str, ...]] = ("qiskit", "qiskit_aer")
    repeatable: ClassVar[bool] = True
    options: ClassVar[frozenset[str]] = frozenset({"optimization_level"})
    child: ClassVar[str] = "qcos.drivers.aer.child"

    def prepare(self) -> None:
        """Start the processes and load the ideal simulator; the fake backends load with their first work."""
        self._runs.prepare([IDEAL])

    def _backends(self) -> tuple[Backend, ...]:
        ideal = Backend(
            name=IDEAL,
            provider="qiskit-aer",
            kind="simulator",
            driver=self.name,
            qubits=IDEAL_QUBITS,
            max_shots=LOCAL_SHOTS,
            max_depth=None,
            max_circuits=MAX_CIRCUITS,
            formats=("QASM3", "QASM2"),
            gates=("*",),
            region="local",
            zone="local",
            on_premise=True,
            price_key="local/aer",
            description="Qiskit Aer without noise, on this machine",
        )
        return (ideal, *(fake for name in FAKES if (fake := _fake(name)) is not None))

    def _bound_us(self, backend: str, facts: Facts, shots: int) -> int:
        if backend == IDEAL:
            return (
                20_000
                + ((facts.size << min(facts.qubits, 40)) * 16 + shots * (facts.qubits + 1) * 40) // 1000
            )
        gates = facts.size * 8  # routing and the native gate set make that many of one
        if facts.qubits <= _NOISY_QUBITS:
            return 1_000_000 + ((gates << 2 * facts.qubits) * 64 + shots * (facts.qubits + 1) * 40) // 1000
        return 1_000_000 + shots * ((gates << min(facts.qubits, 40)) * 16) // 1000


def _fake(name: str) -> Backend | None:
    """Describe a fake backend from the files of IBM's package, or None when it is not installed."""
    device = FAKES[name]
    try:
        properties = properties_file(name)
        facts = json.loads(properties.with_name(f"conf_{device}.json").read_bytes())
        calibration = digest(properties.read_bytes())
    except FileNotFoundError:
        return None
    return Backend(
        name=name,
        provider="qiskit-aer",
        kind="simulator",
        driver="aer",
        qubits=facts["n_qubits"],
        max_shots=facts["max_shots"],
        max_depth=None,
        max_circuits=MAX_CIRCUITS,
        formats=("QASM3", "QASM2"),
        gates=tuple(facts["basis_gates"]),
        region="local",
        zone="local",
        on_premise=True,
        price_key="local/aer-noise",
        description=f"Qiskit Aer with the noise recorded on IBM's {facts['backend_name']}, on this machine",
        calibration=calibration,
    )


def properties_file(name: str) -> Path:
    """Return the file of the calibration that a fake backend's noise is made from.

    Raises:
        FileNotFoundError: IBM's package is not installed.
    """
    spec = importlib.util.find_spec("qiskit_ibm_runtime")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("qiskit_ibm_runtime")
    device = FAKES[name]
    return Path(spec.origin).parent / "fake_provider" / "backends" / device / f"props_{device}.json"
