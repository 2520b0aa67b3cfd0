"""The one module that knows the task queue (pgqueuer, schema ``queue``, on the same PostgreSQL).

A task is enqueued in the scope of the act that needs it: it exists exactly when the act does. Delivery is at least once, so a task's
handler checks by compare-and-set what is left to do. Losing the queue's tables loses no job: `qcos.jobs.recover` enqueues again
whatever a job row says is unfinished. Tables hold tenant and job ids only.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import sqlalchemy as sa
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.qb import (
    DBSettings,
    QueryBuilderEnvironment,
    QueryQueueBuilder,
    QuerySchedulerBuilder,
)
from pgqueuer.adapters.persistence.queries import Queries, SyncQueries
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.models import Job as QueuedTask
from psycopg import Connection, RawCursor
from psycopg.rows import dict_row

from qcos.base.limits import DEQUEUE_TIMEOUT_S, HEARTBEAT_TIMEOUT_S

SETTINGS = DBSettings(db_schema="queue")
_BUILDER = QueryQueueBuilder(SETTINGS)


@dataclass(frozen=True, slots=True)
class Task:
    """A job that wants a worker: the queue's payload."""

    tenant: UUID
    job: str

    @property
    def key(self) -> str:
        """Return the key under which a live task of this job exists at most once."""
        return f"{self.tenant}/{self.job}"

    def payload(self) -> bytes:
        """Return the bytes kept in the queue."""
        return json.dumps([str(self.tenant), self.job]).encode()

    @classmethod
    def read(cls, payload: bytes) -> Task:
        """Read `payload` back."""
        tenant, job = json.loads(payload)
        return cls(UUID(tenant), job)


class _ScopeDriver:
    """Lets pgqueuer write inside a scope of ours; its own driver insists on autocommit."""

    def __init__(self, connection: Connection[Any]) -> None:  # Any: rows of any shape
        self._connection = connection

    def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        cursor = RawCursor(self._connection, row_factory=dict_row)
        cursor.execute(query.encode(), args or None)
        return cursor.fetchall()


def enqueue(connection: sa.Connection, entrypoint: str, tasks: Sequence[Task]) -> None:
    """Enqueue tasks in the caller's scope, in one statement; one that is already waiting or running is skipped."""
    driver = _ScopeDriver(connection.connection.driver_connection)  # type: ignore[arg-type] # psycopg's, by make_engine
    SyncQueries(driver, qbq=_BUILDER).enqueue(
        [entrypoint] * len(tasks),
        [task.payload() for task in tasks],
        [0] * len(tasks),
        dedupe_key=[task.key for task in tasks],
        on_conflict="skip",
    )


def has_live_task(key: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Return the condition that a task with this key waits or runs, for the caller's own statement."""
    task = sa.table("pgqueuer", sa.column("dedupe_key"), sa.column("status"), schema=SETTINGS.db_schema)
    live: sa.ColumnElement[list[str]] = sa.literal_column(
        "array['queued', 'picked']::queue.pgqueuer_status[]"
    )
    return sa.exists().where(task.c.dedupe_key == key, task.c.status == sa.func.any(live))


def depths(connection: sa.Connection) -> dict[str, int]:
    """Return how many tasks wait, by entrypoint."""
    rows = connection.exec_driver_sql(
        "select entrypoint, count(*) from queue.pgqueuer where status = 'queued' group by 1"
    )
    return {row[0]: row[1] for row in rows}


def forget_log(connection: sa.Connection, older_than: timedelta) -> int:
    """Delete the queue's own log rows, which repeat what job rows say; returns how many."""
    return connection.exec_driver_sql(
        "delete from queue.pgqueuer_log where created < now() - %s", (older_than,)
    ).rowcount


class _Manager(QueueManager):
    """Waits for the next notification without asking three times whether work is left, as long as it has room for more.

    With room an empty dequeue means an empty queue: no task of ours is deferred. Only while many are in hand may tasks have been left
    for want of room; then it asks, as pgqueuer does.
    """

    crowded = 1

    async def _effective_dequeue_timeout(self, dequeue_timeout: timedelta) -> timedelta:
        if len(self.job_context) < self.crowded:
            return dequeue_timeout
        return await super()._effective_dequeue_timeout(dequeue_timeout)


async def consume(
    url: str,
    handlers: dict[str, Callable[[Task], Awaitable[None]]],
    *,
    concurrency: int,
    stop: asyncio.Event,
) -> None:
    """Run tasks until ``stop`` is set, then finish those in hand.

    Args:
        url: ``postgresql+psycopg://`` URL; the queue is read over asyncpg (pgqueuer's psycopg driver holds its connection 1 s at a time).
        handlers: By entrypoint. A handler that raises has its task dropped: it must have written what happened.
        concurrency: Most tasks in hand.
        stop: Set by a signal handler.

    Raises:
        Exception: The connection is lost. Handlers in hand are cancelled, since nobody would know that they still run; their tasks are
            picked again later.
    """
    connection = await asyncpg.connect(
        url.replace("postgresql+psycopg://", "postgresql://"),
        server_settings={"plan_cache_mode": "force_generic_plan", "application_name": "qcos-queue"},
    )
    try:
        manager = _Manager(
            Queries(
                AsyncpgDriver(connection),
                qbe=QueryBuilderEnvironment(SETTINGS),
                qbq=QueryQueueBuilder(SETTINGS),
                qbs=QuerySchedulerBuilder(SETTINGS),
            )
        )
        manager.shutdown = stop
        manager.crowded = max(1, concurrency // 4)
        in_hand: set[asyncio.Task[Any]] = set()  # Any: tasks of pgqueuer's
        connection.add_termination_listener(lambda _: [task.cancel() for task in in_hand])
        for entrypoint, handler in handlers.items():
            manager.entrypoint(entrypoint)(_reading(handler, in_hand))
        await manager.run(
            batch_size=max(1, concurrency // 2),
            max_concurrent_tasks=concurrency,
            dequeue_timeout=timedelta(seconds=DEQUEUE_TIMEOUT_S),
            heartbeat_timeout=timedelta(seconds=HEARTBEAT_TIMEOUT_S),
            shutdown_on_listener_failure=True,
            log_aggregation_interval=timedelta(0),
        )
    finally:
        await connection.close()


def _reading(
    handler: Callable[[Task], Awaitable[None]], in_hand: set[asyncio.Task[Any]]
) -> Callable[[QueuedTask], Awaitable[None]]:
    async def read_and_handle(queued: QueuedTask) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - we are in one
        in_hand.add(task)
        try:
            await handler(Task.read(queued.payload or b""))
        finally:
            in_hand.discard(task)

    return read_and_handle
