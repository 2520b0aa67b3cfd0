"""Every driver keeps the contract (R8.5): the shipped conformance suite, on the real SDKs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qcos.drivers import registry
from qcos.drivers.conformance import check
from qcos.drivers.contract import Driver

BACKENDS = {
    "aer": ["aer-ideal", "aer-fake-manila"],  # kolkata is manila with more qubits
    "braket": ["braket-local-sv", "braket-local-dm"],
    "cirq": ["cirq-simulator"],
}


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
    assert len(checks) == 1 + 15 * len(BACKENDS[driver.name])
