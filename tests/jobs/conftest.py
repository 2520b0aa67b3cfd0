"""A tenant on a database of its own, a vendor whose moods are chosen by the test, and a worker's part of the spine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from faults.vendor import BACKEND, PaidDriver
from faults.world import World, make_execution
from qcos.db.queue import Task


@pytest.fixture
def world(engine: sa.Engine, tmp_path: Path) -> World:
    return World.make(engine, tmp_path / "keys", [BACKEND])


@pytest.fixture
def driver(tmp_path: Path) -> PaidDriver:
    return PaidDriver(tmp_path / "vendor")


@pytest.fixture
def work(world: World, driver: PaidDriver) -> Iterator[Callable[..., None]]:
    """Take tasks to the end of their jobs, all at once."""
    execution = make_execution(world.engine, [driver], world.keys)

    def run(*tasks: Task) -> None:
        async def all_of_them() -> None:
            await asyncio.gather(*(execution.handle(task) for task in tasks))

        asyncio.run(all_of_them())

    yield run
    execution.close()
