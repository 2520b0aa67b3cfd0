"""A task exists exactly when the scope that enqueued it committed, and is handed to a worker at once."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
import sqlalchemy as sa

from qcos.db import queue
from qcos.db.engine import scope


def live_keys(connection: sa.Connection) -> set[str]:
    return {row[0] for row in connection.exec_driver_sql("select dedupe_key from queue.pgqueuer")}


def test_a_task_of_a_rolled_back_scope_does_not_exist(engine: sa.Engine) -> None:
    task = queue.Task(uuid4(), "job-1")
    with pytest.raises(ZeroDivisionError), scope(engine, task.tenant) as connection:
        queue.enqueue(connection, "run:aer", [task])
        raise ZeroDivisionError
    with scope(engine, None) as connection:
        assert live_keys(connection) == set()
    with scope(engine, task.tenant) as connection:
        queue.enqueue(connection, "run:aer", [task])
        queue.enqueue(connection, "run:aer", [task, queue.Task(task.tenant, "job-2")])
    with scope(engine, None) as connection:
        assert live_keys(connection) == {task.key, f"{task.tenant}/job-2"}
        assert queue.depths(connection) == {"run:aer": 2}


def test_tasks_reach_their_handler_once(engine: sa.Engine) -> None:
    tasks = [queue.Task(uuid4(), f"job-{n}") for n in range(20)]
    with scope(engine, None) as connection:
        queue.enqueue(connection, "run:aer", tasks)
    seen: list[queue.Task] = []

    async def main() -> None:
        stop = asyncio.Event()

        async def handle(task: queue.Task) -> None:
            seen.append(task)
            if len(seen) == len(tasks):
                stop.set()

        url = engine.url.render_as_string(hide_password=False)
        await asyncio.wait_for(queue.consume(url, {"run:aer": handle}, concurrency=8, stop=stop), 120)

    asyncio.run(main())
    assert sorted(seen, key=lambda task: task.job) == sorted(tasks, key=lambda task: task.job)
    with scope(engine, None) as connection:
        assert live_keys(connection) == set()
