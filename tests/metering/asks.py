"""What the tests of metering share: one instant, asks, states."""

from __future__ import annotations

import datetime as dt
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from qcos.metering import store
from qcos.metering.model import Ask, BudgetState, QuotaState

AT = dt.datetime(2026, 11, 30, 23, 59, 58, tzinfo=dt.UTC)


def ask(job: str, amount: int = 10, shots: int = 100, **changes: Any) -> Ask:
    """An ask of project alpha and team physics in USD."""
    given = {"id": f"r-{job}", "project": "alpha", "team": "physics", "currency": "USD", "at": AT}
    return Ask(job=job, amount=amount, shots=shots, **{**given, **changes})


def budget_of(
    connection: sa.Connection, tenant: UUID, project: str = "alpha", at: dt.datetime = AT
) -> BudgetState:
    found = store.funds(connection, tenant, project, "physics", at).budget
    assert found is not None
    return found


def quota_of(
    connection: sa.Connection, tenant: UUID, team: str = "physics", at: dt.datetime = AT
) -> QuotaState:
    found = store.funds(connection, tenant, "alpha", team, at).quota
    assert found is not None
    return found


def money_of(connection: sa.Connection, tenant: UUID, at: dt.datetime = AT) -> tuple[int, int]:
    """(reserved, settled) of alpha's month."""
    state = budget_of(connection, tenant, at=at)
    return state.reserved, state.settled


def shots_of(connection: sa.Connection, tenant: UUID, at: dt.datetime = AT) -> tuple[int, int]:
    """(reserved, used) of physics' day."""
    state = quota_of(connection, tenant, at=at)
    return state.reserved, state.used
