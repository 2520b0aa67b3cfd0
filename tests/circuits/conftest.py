"""One reader with one child for all tests of a worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qcos.circuits.reader import CircuitReader


@pytest.fixture(scope="session")
def reader() -> Iterator[CircuitReader]:
    made = CircuitReader(
        1, deadline_s=50, job_s=50
    )  # nothing here takes three seconds where nothing else runs
    yield made
    made.close()
