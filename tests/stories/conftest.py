"""Stories: promises kept by a real installation (``qcos up``) through its public doors.

One installation for each worker of the test run; each story has a tenant of its own, with a project, a team, users of the four roles,
a budget and a quota, so that stories neither see nor wait for each other.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .house import House, furnish
from .installation import Installation, running


@pytest.fixture(scope="session")
def qcos() -> Iterator[Installation]:
    """A running installation with the drivers aer and braket."""
    with (
        tempfile.TemporaryDirectory(prefix="qcos-stories-") as folder,
        running(Path(folder) / "data", "aer,braket") as ready,
    ):
        yield ready


@pytest.fixture
def house(qcos: Installation) -> Iterator[House]:
    """A tenant of its own for one story; what it left in the ledger is as published."""
    with furnish(qcos) as made:
        yield made
        made.records_are_as_published()


@pytest.fixture(scope="module")
def shared_house(qcos: Installation) -> Iterator[House]:
    """A tenant for the stories of one file that only look."""
    with furnish(qcos) as made:
        yield made
        made.records_are_as_published()


@pytest.fixture
def clean_environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a program that knows nothing of this test run."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("QCOS_", "OTEL_", "HTTP", "http"))}
    return kept | {"HOME": str(tmp_path), "QCOS_CONFIG": str(tmp_path / "none.toml")}
