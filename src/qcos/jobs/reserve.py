"""Stage "reserved": the money and the shots a job may use are set aside, in the scope that admits it (R3.2, R3.5).

Policy has seen a snapshot; the database enforces: the reservation is a conditional update that fails when others were faster, and the
decision is then taken again on fresh numbers.
"""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa

from qcos.identity.model import Project
from qcos.jobs.model import Job
from qcos.metering import reserve as reservations
from qcos.metering import store as metering
from qcos.metering.model import Ask, Funds


def funds_of(connection: sa.Connection, project: Project, at: dt.datetime) -> Funds:
    """Return what the project's month and the team's day still allow."""
    return metering.funds(connection, project.tenant, project.id, project.team, at)


def reserve(connection: sa.Connection, job: Job, at: dt.datetime) -> bool:
    """Reserve a job's price and shots; False when the funds changed since they were read."""
    assert job.price is not None and job.currency is not None  # noqa: S101 - it is placed
    ask = Ask(
        id=f"reservation-{job.id}",
        job=job.id,
        project=job.project,
        team=job.team,
        amount=job.price,
        currency=job.currency,
        shots=job.shots,
        at=at,
    )
    return reservations.reserve(connection, job.tenant, ask)
