"""A world for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from .vendor import BACKEND
from .world import World


@pytest.fixture
def world(engine: sa.Engine, tmp_path: Path) -> Iterator[World]:
    made = World.make(engine, tmp_path / "keys", [BACKEND])
    yield made
    made.close()
