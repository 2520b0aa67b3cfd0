"""Jobs and their results.

Losing these tables loses what was asked and what came back; evidence bundles and the ledger would still prove that it was done and what
it cost. Somebody who can write to them can show a wrong state or result, which verification of the bundle uncovers: the bundle commits
to the digests of spec and result. Somebody who can read them reads who asked what for, not the programs and results: those are sealed
(`qcos.jobs.conceal`). Nothing here is money: that is `qcos.metering`.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert

from qcos.base.clock import now
from qcos.base.errors import NotFound
from qcos.base.limits import CROWD_ATTEMPTS, RESULT_PAUSE_MAX_S
from qcos.db import queue
from qcos.db.engine import metadata
from qcos.jobs.lifecycle import COLLECTED, UNFINISHED
from qcos.jobs.model import Job, Step

job = sa.Table(
    "job",
    metadata,
    sa.Column("tenant", sa.Uuid, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("project", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("team", sa.Text, nullable=False),
    sa.Column("cost_center", sa.Text, nullable=False),
    sa.Column("spec", sa.LargeBinary, nullable=False),
    sa.Column("spec_digest", sa.Text, nullable=False),
    sa.Column("facts", JSONB, nullable=False),
    sa.Column("context", JSONB, nullable=False),
    sa.Column("shots", sa.BigInteger, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("backend", sa.Text),
    sa.Column("provider", sa.Text),
    sa.Column("driver", sa.Text),
    sa.Column("decision", sa.Text, nullable=False),
    sa.Column("placement", JSONB),
    sa.Column("price", sa.BigInteger),
    sa.Column("currency", sa.Text),
    sa.Column("price_book", sa.Text),
    sa.Column("idempotency_key", sa.Text),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("cancel_requested", sa.Boolean, nullable=False),
    sa.Column("handle", JSONB),
    sa.Column("outcome", JSONB),
    sa.Column("charge", sa.BigInteger),
    sa.Column("bundle", sa.Text),
    sa.Column("error", JSONB),
    sa.Column("steps", JSONB, nullable=False),
    sa.Column("trace", sa.Text, nullable=False),
    sa.Column("created", sa.DateTime(timezone=True), nullable=False),
    sa.Column("updated", sa.DateTime(timezone=True), nullable=False),
    sa.Column("payload_key", sa.LargeBinary),
    sa.Column("retain_until", sa.DateTime(timezone=True), nullable=False),
    sa.Column("erased", JSONB(none_as_null=True)),
)

result = sa.Table(
    "job_result",
    metadata,
    sa.Column("tenant", sa.Uuid, primary_key=True),
    sa.Column("job", sa.Text, primary_key=True),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("created", sa.DateTime(timezone=True), nullable=False),
)

# Both sides of each join below are limited to the jobs in hand: a plan made while the table was small stays good when it has grown.
_ADVANCE = """
    update qcos.job j
       set state = n.state, updated = %(at)s, steps = j.steps || n.steps,
           handle = coalesce(n.handle, j.handle), outcome = coalesce(n.outcome, j.outcome),
           charge = coalesce(n.charge, j.charge), bundle = coalesce(n.bundle, j.bundle), error = coalesce(n.error, j.error)
      from jsonb_to_recordset(%(changes)s::jsonb) as n(
           id text, attempt integer, state text, handle jsonb, outcome jsonb, charge bigint, bundle text, error jsonb, steps jsonb)
     where j.tenant = %(tenant)s::uuid and j.id = any(%(jobs)s) and j.id = n.id and j.attempt = n.attempt and j.state = any(%(expected)s)
    returning j.id"""

_CLAIM = f"""
    with o as materialized (
        select id, state as before from qcos.job
         where tenant = %(tenant)s::uuid and id = any(%(jobs)s) and state = any(%(unfinished)s)
           and (attempt < %(crowd)s or id = any(%(alone)s))
         order by id for update)
    update qcos.job j
       set state = case o.before when 'collected' then 'collected' else 'submitting' end, attempt = j.attempt + 1, updated = %(at)s,
           steps = case o.before when 'queued' then j.steps || %(step)s::jsonb else j.steps end
      from o
     where j.tenant = %(tenant)s::uuid and j.id = any(%(jobs)s) and j.id = o.id
    returning {", ".join(f"j.{field.name}" for field in dataclasses.fields(Job))}, o.before"""  # noqa: S608 - names of our own columns

_INSERT_JOB = insert(job).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
_INSERT_RESULT = insert(result).on_conflict_do_nothing()

_NAMES = tuple(field.name for field in dataclasses.fields(Job))
_COLUMNS = [job.c[name] for name in _NAMES]


def insert_new(connection: sa.Connection, tenant: UUID, new: Job, sealed_spec: bytes) -> bool:
    """Insert a job; False when its id or its idempotency key is taken (nothing is changed then)."""
    return insert_all_new(connection, tenant, [(new, sealed_spec)])


def insert_all_new(connection: sa.Connection, tenant: UUID, new: Sequence[tuple[Job, bytes]]) -> bool:
    """Insert jobs, each with its sealed spec, in one round trip; False when the id or the idempotency key of one of them is taken: end the
    scope.
    """
    # In one order, so that scopes of several processes that insert the same jobs wait for each other and not in a circle.
    ordered = sorted(new, key=lambda pair: (pair[0].idempotency_key or "", pair[0].id))
    values = [{name: getattr(job, name) for name in _NAMES} | {"spec": sealed} for job, sealed in ordered]
    return connection.execute(_INSERT_JOB, values).rowcount == len(ordered)


def get(connection: sa.Connection, tenant: UUID, job_id: str) -> Job:
    """Return a job; raises NotFound ``job.unknown``."""
    row = connection.execute(
        sa.select(*_COLUMNS).where(job.c.tenant == tenant, job.c.id == job_id)
    ).one_or_none()
    if row is None:
        raise unknown(job_id)
    return Job(*row)


def unknown(job_id: str) -> NotFound:
    """Return the error for a job that there is not, or not for this caller."""
    return NotFound("job.unknown", "there is no such job", subject=job_id, hint="list jobs with GET /v1/jobs")


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """What is looked at again and again while a job is followed: some hundred bytes of a row that may hold 8 MiB."""

    id: str
    project: str
    actor: str
    state: str
    decision: str
    steps: list[dict[str, Any]]
    bundle: str | None
    charge: int | None
    currency: str | None
    payload_key: bytes | None
    erased: dict[str, Any] | None


_LOOK = sa.select(*(job.c[field.name] for field in dataclasses.fields(Look)))


def look(connection: sa.Connection, tenant: UUID, job_id: str) -> Look:
    """Return where a job is now; raises NotFound ``job.unknown``."""
    row = connection.execute(_LOOK.where(job.c.tenant == tenant, job.c.id == job_id)).one_or_none()
    if row is None:
        raise unknown(job_id)
    return Look(*row)


@dataclasses.dataclass(frozen=True, slots=True)
class Summary:
    """A job in a listing: all of its row but the spec and what else grows with the circuits and backends."""

    id: str
    state: str
    project: str
    actor: str
    team: str
    cost_center: str
    classification: str
    purpose: str
    spec_digest: str
    shots: int
    backend: str | None
    provider: str | None
    decision: str
    price: int | None
    currency: str | None
    attempt: int
    cancel_requested: bool
    charge: int | None
    bundle: str | None
    error: dict[str, Any] | None
    steps: list[dict[str, Any]]
    created: dt.datetime
    updated: dt.datetime


_CONTEXT = {name: job.c.context[name].astext.label(name) for name in ("classification", "purpose")}
_SUMMARY = [
    _CONTEXT[field.name] if field.name in _CONTEXT else job.c[field.name]
    for field in dataclasses.fields(Summary)
]


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """Which jobs somebody may see: all jobs of some projects, and those of one principal wherever they are."""

    projects: tuple[str, ...]
    actor: str | None


def find_same(
    connection: sa.Connection, tenant: UUID, actor: str, key: str | None, job_id: str | None
) -> Job | None:
    """Return the job that has this actor's idempotency key, or else this id."""
    statement = sa.select(*_COLUMNS).where(job.c.tenant == tenant)
    if key is None:
        statement = statement.where(job.c.id == job_id)
    else:
        by_key = sa.and_(job.c.actor == actor, job.c.idempotency_key == key)
        statement = statement.where(sa.or_(by_key, job.c.id == job_id))
        statement = statement.order_by(sa.desc(sa.func.coalesce(by_key, False)))  # nulls would come first
    row = connection.execute(statement.limit(1)).first()
    return Job(*row) if row else None


def list_page(
    connection: sa.Connection,
    tenant: UUID,
    *,
    state: str | None,
    project: str | None,
    actor: str | None,
    before: tuple[dt.datetime, str] | None,
    limit: int,
    seen: Seen | None = None,
) -> list[Summary]:
    """Return jobs, newest first, after the cursor ``before`` = (created, id); only those of ``seen``, if given."""
    newest = (
        sa.select(*_SUMMARY)
        .where(job.c.tenant == tenant)
        .order_by(job.c.created.desc(), job.c.id.desc())
        .limit(limit)
    )
    for column, value in ((job.c.state, state), (job.c.project, project), (job.c.actor, actor)):
        if value is not None:
            newest = newest.where(column == value)
    if before is not None:
        newest = newest.where(
            sa.tuple_(job.c.created, job.c.id) < sa.tuple_(*(sa.literal(v) for v in before))
        )
    if seen is not None:
        newest = _seen(newest, seen, limit)
    return [Summary(*row) for row in connection.execute(newest)]


def _seen(newest: sa.Select[Any], seen: Seen, limit: int) -> sa.Select[Any]:  # Any: columns of `Summary`
    """Merge the newest of each project, and of the actor's elsewhere: each is a walk along one index that ends at the limit."""
    projects = sa.literal(list(seen.projects), ARRAY(sa.Text))
    named = sa.func.unnest(projects).table_valued("project").render_derived("seen")
    inside = newest.where(job.c.project == named.c.project).lateral("inside")
    parts = [sa.select(inside).select_from(named.join(inside, sa.true()))]
    if seen.actor is not None:
        elsewhere = newest.where(job.c.actor == seen.actor, job.c.project != sa.all_(projects)).subquery(
            "elsewhere"
        )
        parts.append(sa.select(elsewhere))
    merged = sa.union_all(*parts).subquery("merged")
    return sa.select(merged).order_by(merged.c.created.desc(), merged.c.id.desc()).limit(limit)


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """A compare-and-set of one job's row; None leaves a column as it is."""

    job: str
    attempt: int
    state: str
    steps: tuple[Step, ...] = ()
    handle: dict[str, Any] | None = None
    outcome: dict[str, Any] | None = None
    charge: int | None = None
    bundle: str | None = None
    error: dict[str, Any] | None = None


def claim(
    connection: sa.Connection, tenant: UUID, job_ids: Sequence[str], step: Step, alone: Sequence[str]
) -> list[tuple[Job, str]]:
    """Write the intent to submit jobs: state ``submitting`` and the next attempt. Jobs already collected keep their state.

    Returns:
        The jobs taken, each with the state it had before. Finished jobs are not among them, nor those with `CROWD_ATTEMPTS` that are not
        in ``alone``.
    """
    values = {
        "tenant": str(tenant),
        "jobs": list(job_ids),
        "unfinished": sorted(UNFINISHED),
        "crowd": CROWD_ATTEMPTS,
        "alone": list(alone),
        "at": step.at,
        "step": json.dumps([step.as_dict()]),
    }
    return [(Job(*row[:-1]), row[-1]) for row in connection.exec_driver_sql(_CLAIM, values)]


def advance(
    connection: sa.Connection, tenant: UUID, changes: Sequence[Change], expected: Sequence[str]
) -> set[str]:
    """Compare-and-set many jobs in one statement.

    Returns:
        Ids of the jobs that were in one of the ``expected`` states and at their attempt, and are changed now.
    """
    if not changes:
        return set()
    rows = [
        {
            **{
                name: getattr(c, name)
                for name in ("attempt", "state", "handle", "outcome", "charge", "bundle", "error")
            },
            "id": c.job,
            "steps": [s.as_dict() for s in c.steps],
        }
        for c in changes
    ]
    values = {
        "tenant": str(tenant),
        "jobs": [c.job for c in changes],
        "changes": json.dumps(rows),
        "expected": list(expected),
        "at": now(),
    }
    return {row[0] for row in connection.exec_driver_sql(_ADVANCE, values)}


def request_cancel(connection: sa.Connection, tenant: UUID, job_id: str) -> None:
    """Ask the worker that holds a job to cancel it."""
    connection.execute(
        sa.update(job)
        .where(job.c.tenant == tenant, job.c.id == job_id)
        .values(cancel_requested=True, updated=now())
    )


def cancel_wanted(connection: sa.Connection, tenant: UUID, job_id: str) -> bool:
    """Return whether somebody asked to cancel a job."""
    return bool(
        connection.execute(
            sa.select(job.c.cancel_requested).where(job.c.tenant == tenant, job.c.id == job_id)
        ).scalar()
    )


def insert_results(connection: sa.Connection, tenant: UUID, rows: Sequence[tuple[str, bytes, str]]) -> None:
    """Keep results: (job, sealed canonical JSON, digest of what was sealed). One that is already kept stays as it is."""
    if rows:
        values = [
            {"tenant": tenant, "job": j, "payload": p, "digest": d, "created": now()} for j, p, d in rows
        ]
        connection.execute(_INSERT_RESULT, values)  # one prepared statement, sent for all rows at once


def get_results(connection: sa.Connection, tenant: UUID, job_ids: Sequence[str]) -> dict[str, bytes]:
    """Return the kept results of jobs, sealed, by job id."""
    rows = connection.execute(
        sa.select(result.c.job, result.c.payload).where(
            result.c.tenant == tenant, result.c.job == sa.any_(sa.literal(list(job_ids), ARRAY(sa.Text)))
        )
    )
    return {row.job: row.payload for row in rows}


def without_task(connection: sa.Connection, tenant: UUID, older_than_s: float) -> list[tuple[str, str]]:
    """Return (id, driver) of jobs that have not ended, have not changed for a while, and have no task in the queue.

    A result that could not be sealed waits for somebody (its price book is missing): twice as long after each attempt.
    """
    tries = sa.func.least(job.c.attempt - 1, 20)
    waiting_s = sa.func.least(older_than_s * sa.func.power(2.0, tries), max(older_than_s, RESULT_PAUSE_MAX_S))
    while_s = sa.case((job.c.state == COLLECTED, waiting_s), else_=sa.cast(older_than_s, sa.Double))
    quiet = job.c.updated < sa.func.now() - sa.func.make_interval(0, 0, 0, 0, 0, 0, while_s)
    key = sa.cast(job.c.tenant, sa.Text) + "/" + job.c.id  # `qcos.db.queue.Task.key`
    lost = sa.not_(queue.has_live_task(key))
    statement = sa.select(job.c.id, job.c.driver).where(
        job.c.tenant == tenant, job.c.state.in_(UNFINISHED), quiet, lost
    )
    return [
        (row.id, row.driver) for row in connection.execute(statement.order_by(job.c.updated).limit(10_000))
    ]


_MOVE_DENIED = """
    update qcos.job j set id = j.id || '~' || j.decision
     where j.tenant = %(tenant)s and j.id = %(id)s and j.state = 'denied'
       and not exists (select from qcos.job k
            where k.tenant = %(tenant)s and k.actor = %(actor)s and k.idempotency_key = %(key)s::text)"""


def replace_denied(connection: sa.Connection, tenant: UUID, new: Job, sealed_spec: bytes) -> bool:
    """Insert a job under an id that a denied job has.

    The denied one stays, with its decision and its idempotency key, as ``<id>~<decision>``: an id that no Job Spec can ask for.

    Returns:
        False when the id belongs to a job that was not denied, or the new job's idempotency key is taken: end the scope.
    """
    values = {"tenant": tenant, "id": new.id, "actor": new.actor, "key": new.idempotency_key}
    moved = connection.exec_driver_sql(_MOVE_DENIED, values).rowcount
    return moved == 1 and insert_new(connection, tenant, new, sealed_spec)
