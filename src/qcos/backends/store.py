"""Tables of backends.

Losing them: nothing that matters. Workers register their backends again within seconds; routing forgets how
well each backend did in the last days. Somebody who can write to them could draw jobs to a backend or away
from it, or lie about a backend's zone: placement and evidence record the facts used, and a worker runs a job
only on a backend that its own driver describes, but policy believes the zone stated here.

The tables have no tenant: which backends there are, and how they fare over all jobs, is the same for
everybody. They hold no job's id.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from qcos.backends.model import Backend, BackendStatus, JobOutcome
from qcos.base.clock import now
from qcos.base.errors import Conflict
from qcos.base.limits import BACKEND_HISTORY_DAYS, BACKEND_SILENCE_S
from qcos.db.engine import metadata

_TIME = sa.DateTime(timezone=True)

BACKEND = sa.Table(
    "backend",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("driver", sa.Text, nullable=False),
    sa.Column("facts", pg.JSONB, nullable=False),
    sa.Column("queue_depth", sa.BigInteger, nullable=False),
    sa.Column("registered_at", _TIME, nullable=False),
    sa.Column("seen_at", _TIME, nullable=False),
)
HISTORY = sa.Table(
    "backend_history",
    metadata,
    sa.Column("backend", sa.Text, primary_key=True),
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("jobs", sa.BigInteger, nullable=False),
    sa.Column("succeeded", sa.BigInteger, nullable=False),
    sa.Column("microseconds", sa.BigInteger, nullable=False),
)


def register(connection: sa.Connection, backends: Sequence[Backend], at: dt.datetime) -> None:
    """Write what a driver describes; the newest description wins, and the backends count as seen.

    Raises:
        Conflict: ``backends.taken`` when another driver has a backend of that name; nothing is written.
    """
    if not backends:
        return
    rows = [
        {
            "name": b.name,
            "driver": b.driver,
            "facts": b.as_dict(),
            "queue_depth": 0,
            "registered_at": at,
            "seen_at": at,
        }
        for b in sorted(
            backends, key=lambda b: b.name
        )  # one order for all workers, so that two never wait for each other
    ]
    insert = pg.insert(BACKEND).values(rows)
    written = insert.on_conflict_do_update(
        index_elements=["name"],
        set_={
            "facts": insert.excluded.facts,
            "seen_at": sa.func.greatest(BACKEND.c.seen_at, insert.excluded.seen_at),
        },
        where=BACKEND.c.driver == insert.excluded.driver,
    ).returning(BACKEND.c.name)
    done = set(connection.execute(written).scalars())
    if taken := sorted({b.name for b in backends} - done):
        raise Conflict(
            "backends.taken",
            "another driver has a backend of that name",
            subject=", ".join(taken),
            hint="backends' names are unique over all drivers; rename one",
        )


def touch(
    connection: sa.Connection, driver: str, at: dt.datetime, queue_depths: Mapping[str, int] | None = None
) -> int:
    """Say that a worker serving a driver is alive; return how many backends that made seen.

    Args:
        connection: The scope's connection.
        driver: Name of the driver.
        at: When the worker was alive.
        queue_depths: Jobs waiting, by backend. When given, only the backends named are touched: those the
            driver no longer describes go offline.
    """
    statement = sa.update(BACKEND).where(BACKEND.c.driver == driver)
    values: dict[str, sa.ColumnElement[object] | dt.datetime] = {
        "seen_at": sa.func.greatest(BACKEND.c.seen_at, at)
    }
    if queue_depths is not None:
        if not queue_depths:
            return 0
        statement = statement.where(BACKEND.c.name.in_(sorted(queue_depths)))
        values["queue_depth"] = sa.case(queue_depths, value=BACKEND.c.name, else_=BACKEND.c.queue_depth)
    return connection.execute(statement.values(values)).rowcount


def load(connection: sa.Connection, at: dt.datetime | None = None) -> list[BackendStatus]:
    """Return every backend ever registered with its status, ordered by name, in one statement.

    Args:
        connection: The scope's connection.
        at: For when the status is asked; the present by default.
    """
    at = at or now()
    since = at.date() - dt.timedelta(days=BACKEND_HISTORY_DAYS)
    past = (
        sa.select(
            HISTORY.c.backend,
            sa.func.sum(HISTORY.c.jobs).label("jobs"),
            sa.func.sum(HISTORY.c.succeeded).label("succeeded"),
            sa.func.sum(HISTORY.c.microseconds).label("microseconds"),
        )
        .where(HISTORY.c.day > since)
        .group_by(HISTORY.c.backend)
        .subquery()
    )
    query = (
        sa.select(
            BACKEND.c.facts,
            BACKEND.c.queue_depth,
            BACKEND.c.seen_at,
            past.c.jobs,
            past.c.succeeded,
            past.c.microseconds,
        )
        .select_from(BACKEND.outerjoin(past, past.c.backend == BACKEND.c.name))
        .order_by(sa.collate(BACKEND.c.name, "C"))
    )
    return [_status(row, at) for row in connection.execute(query)]


# As text: compiling it anew for each number of backends took a twelfth of a worker's time.
_RECORD_OUTCOMES = """
    insert into qcos.backend_history as h (backend, day, jobs, succeeded, microseconds)
    select a.name, %(day)s::date, a.jobs, a.succeeded, a.microseconds
      from unnest(%(names)s::text[], %(jobs)s::bigint[], %(succeeded)s::bigint[], %(microseconds)s::bigint[])
           as a (name, jobs, succeeded, microseconds)
        on conflict (backend, day) do update
       set jobs = h.jobs + excluded.jobs, succeeded = h.succeeded + excluded.succeeded,
           microseconds = h.microseconds + excluded.microseconds"""


def record_outcomes(
    connection: sa.Connection, outcomes: Sequence[JobOutcome], at: dt.datetime | None = None
) -> None:
    """Add how jobs went to the history of their backends: one statement, one row a backend and day."""
    sums: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for outcome in outcomes:
        total = sums[outcome.backend]
        total[0] += 1
        total[1] += outcome.succeeded
        total[2] += max(0, round(outcome.seconds * 1_000_000))
    if not sums:
        return
    names = sorted(sums)
    jobs, succeeded, microseconds = zip(*(sums[name] for name in names), strict=True)
    values = {
        "names": names,
        "day": (at or now()).date(),
        "jobs": list(jobs),
        "succeeded": list(succeeded),
        "microseconds": list(microseconds),
    }
    connection.exec_driver_sql(_RECORD_OUTCOMES, values)


def _status(row: Any, at: dt.datetime) -> BackendStatus:  # Any: columns by name
    jobs = int(row.jobs or 0)
    return BackendStatus(
        backend=Backend.from_dict(row.facts),
        online=(at - row.seen_at).total_seconds() <= BACKEND_SILENCE_S,
        queue_depth=row.queue_depth,
        seen_at=row.seen_at,
        mean_seconds=int(row.microseconds) / jobs / 1_000_000 if jobs else 0.0,
        success_rate=int(row.succeeded) / jobs if jobs else 1.0,
        jobs=jobs,
    )
