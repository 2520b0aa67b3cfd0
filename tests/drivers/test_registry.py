"""Drivers are found by entry points, made without their SDK, and missed by name (R8.5)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from qcos.base.errors import Conflict, NotFound, Unavailable
from qcos.drivers import registry
from qcos.drivers.contract import Driver

_PROBE = """
import sys
from qcos.drivers import registry
from qcos.drivers.contract import Circuit, Work

class Facts:
    qubits, size = 3, 10

assert registry.names() == ("aer", "braket", "cirq"), registry.names()
assert not {n for n in sys.modules if n.startswith("qcos.drivers.aer")}, "listing imports a driver"
for name, driver in registry.load_installed().items():
    for backend in driver.describe():
        driver.estimate(backend.name, [Facts()], Work((Circuit(""),), 100))
heavy = {"qiskit", "qiskit_aer", "qiskit_ibm_runtime", "braket", "cirq", "numpy"}
loaded = {n.split(".")[0] for n in sys.modules} & heavy
assert not loaded, loaded
"""


def test_listing_describing_and_estimating_load_no_sdk() -> None:
    """R8.5: the control plane asks every driver what it has and costs, and carries none of their SDKs."""
    done = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_shipped_drivers_are_drivers() -> None:
    """R8.5: three vendors, one contract; names are unique over all of them."""
    drivers = registry.load_installed()
    assert sorted(drivers) == ["aer", "braket", "cirq"]
    assert all(isinstance(driver, Driver) for driver in drivers.values())
    backends = [b for driver in drivers.values() for b in driver.describe()]
    assert len({b.name for b in backends}) == len(backends) == 6
    assert {b.provider for b in backends} == {"qiskit-aer", "aws-braket", "google-cirq"}
    assert {(b.zone, b.on_premise) for b in backends} == {("local", True)}, "sovereign is the operator's word"
    assert {b.price_key for b in backends} == {"local/aer", "local/aer-noise", "local/braket", "local/cirq"}
    assert {b.name for b in backends if b.calibration} == {"aer-fake-manila", "aer-fake-kolkata"}
    assert next(b.qubits for b in backends if b.name == "aer-fake-manila") == 5


def _package(folder: Path, name: str, points: str) -> None:
    """Install a package with entry points and nothing else."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[qcos.drivers]\n{points}\n")


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R8.5: a driver without its SDK says what to install; no driver and two of a name are refused."""
    (tmp_path / "elsewhere.py").write_text(
        "class Lonely:\n    extra = 'elsewhere[sdk]'\n    requires = ('qcos', 'no_such_sdk')\n\n"
        "class Nothing:\n    pass\n"
    )
    (tmp_path / "greedy.py").write_text("import no_such_sdk\n")
    _package(
        tmp_path, "elsewhere", "lonely = elsewhere:Lonely\nnothing = elsewhere:Nothing\nlost = elsewhere:Lost"
    )
    _package(tmp_path, "greedy", "greedy = greedy:Driver\ncirq = greedy:Driver")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert registry.names() == ("aer", "braket", "cirq", "greedy", "lonely", "lost", "nothing")
    with pytest.raises(Unavailable) as lonely:
        registry.load("lonely")
    assert (lonely.value.code, lonely.value.hint) == ("driver.not_installed", "pip install 'elsewhere[sdk]'")
    assert "no_such_sdk" in lonely.value.got
    with pytest.raises(Unavailable, match="not installed"):
        registry.load("greedy")
    for name in ("nothing", "lost"):
        with pytest.raises(Unavailable) as broken:
            registry.load(name)
        assert broken.value.code == "driver.broken"
    with pytest.raises(Conflict, match="two packages"):
        registry.load("cirq")
    with pytest.raises(NotFound, match="aer"):
        registry.load("ibm")
