"""One policy engine for the tests that do not break theirs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qcos.policy.evaluate import PolicyEngine


@pytest.fixture(scope="session")
def policy_engine() -> Iterator[PolicyEngine]:
    with PolicyEngine() as engine:
        yield engine
