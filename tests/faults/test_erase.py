"""Erasing is killed before and after every commit: a payload is whole with its key, or gone with its record (R4.3, law 1)."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from qcos.base.clock import now, rfc3339
from qcos.db.engine import scope
from qcos.db.queue import Task
from qcos.jobs.conceal import SPEC
from qcos.retention import store

from .dying import Dying
from .vendor import PaidDriver
from .world import World, make_execution

MOST_POINTS = 30
LATER = dt.timedelta(days=30)


def ran(world: World, tmp_path: Path, count: int) -> list[Task]:
    execution = make_execution(world.engine, [PaidDriver(tmp_path / "vendor")], world.keys)
    tasks = [world.submit(retention_days=10) for _ in range(count)]

    async def all_of_them() -> None:
        await asyncio.gather(*(execution.handle(task) for task in tasks))

    asyncio.run(all_of_them())
    execution.close()
    return tasks


def gone(world: World, task: Task) -> bool:
    """Tell whether a payload is gone; whichever it is, it is so everywhere, and the ledger says so."""
    job = world.job(task)
    rows = {
        "key": job.payload_key is not None,
        "spec": job.spec != b"",
        "result": bool(world.rows("select 1 from qcos.job_result where job = %(job)s", job=task.job)),
        "bundle": bool(
            world.rows(
                "select 1 from qcos.evidence_bundle where job = %(job)s and document is not null",
                job=task.job,
            )
        ),
        "no note": job.erased is None,
        "no record": not world.rows(
            "select 1 from qcos.ledger_record where act = 'payload.erased' and object = %(bundle)s",
            bundle=job.bundle,
        ),
    }
    assert len(set(rows.values())) == 1, rows
    if rows["key"]:
        assert world.opened(job, SPEC, job.spec)
    return not rows["key"]


def test_a_killed_erasing_leaves_nothing_half_erased(world: World, database: Any, tmp_path: Path) -> None:
    """Batches of two of five payloads; the next round does what is left, each once."""
    for k in range(1, MOST_POINTS):
        tasks = ran(world, tmp_path, 5)
        with scope(world.engine, world.tenant) as connection:
            store.set_known_time(connection, world.tenant, now() + LATER - dt.timedelta(days=1))
        at = rfc3339(now() + LATER)
        with Dying() as dying:
            ended = dying.run("erase", k, url=database.app_url, at=at)
            done = sum(gone(world, task) for task in tasks)
            assert done in (0, 2, 4, 5), ended.points
            dying.run("erase", url=database.app_url, at=at)
        assert all(gone(world, task) for task in tasks)
        records = world.rows("select object from qcos.ledger_record where act = 'payload.erased'")
        assert len(records) == len({row.object for row in records})
        if not ended.killed:
            assert k > 6, ended.points
            return
    pytest.fail(f"more than {MOST_POINTS} points")
