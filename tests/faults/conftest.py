"""A world for each test."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from .vendor import BACKEND
from .world import World


@pytest.fixture
def world(engine: sa.Engine, tmp_path: Path) -> World:
    return World.make(engine, tmp_path / "keys", [BACKEND])
