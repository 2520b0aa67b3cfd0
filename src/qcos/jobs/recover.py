"""Mending: an unfinished job that has no task in the queue gets one; the queue's own log is kept short.

Tasks are lost when a handler failed without ending its job (the database went away in the middle). The job's row says what is left to
do; the stages' compare-and-set makes a task too many harmless.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import sqlalchemy as sa

from qcos.backends import store as backends
from qcos.db import queue
from qcos.db.engine import scope
from qcos.identity import store as identity
from qcos.jobs import store

_QUIET_S = 3.0  # a job whose row changed just now is being worked on
_KEEP_LOG = dt.timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Mended:
    """What a round found: tasks enqueued again, and tasks waiting by entrypoint."""

    enqueued: int
    depths: dict[str, int]


def recover(engine: sa.Engine) -> Mended:
    """Enqueue unfinished jobs that have no live task, for all tenants."""
    with scope(engine, None) as connection:
        served = {f"run:{status.backend.driver}": 0 for status in backends.load(connection)}
        depths = served | queue.depths(connection)  # an empty queue is told as empty
        queue.forget_log(connection, _KEEP_LOG)
        tenants = [tenant for tenant, _ in identity.tenants(connection)]
    enqueued = 0
    for tenant in tenants:
        with scope(engine, tenant) as connection:
            lost = [
                (driver, queue.Task(tenant, job))
                for job, driver in store.without_task(connection, tenant, _QUIET_S)
            ]
            for driver in sorted({driver for driver, _ in lost}):
                queue.enqueue(connection, f"run:{driver}", [task for name, task in lost if name == driver])
            enqueued += len(lost)
    return Mended(enqueued, depths)
