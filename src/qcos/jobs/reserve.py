"""Stage "reserved": the money and the shots a job may use are set aside, in the scope that admits it (R3.2, R3.5).

Policy has seen a snapshot; the database enforces: the reservation is a conditional update that fails when others were faster, and the
decision is then taken again on fresh numbers. What the snapshot itself does not hold is denied, also where no policy looks at funds.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import sqlalchemy as sa

from qcos.identity.model import Project
from qcos.jobs.model import Job
from qcos.jobs.place import Candidate
from qcos.metering import reserve as reservations
from qcos.metering import store as metering
from qcos.metering.model import Ask, BudgetState, Funds, QuotaState
from qcos.metering.money import format_amount
from qcos.policy.model import Reason
from qcos.routing.model import Dropped

FUNDS = "funds"  # the policy named in reasons that are the database's, whatever the policies say


def funds_of(connection: sa.Connection, project: Project, at: dt.datetime) -> Funds:
    """Return what the project's month and the team's day still allow."""
    return metering.funds(connection, project.tenant, project.id, project.team, at)


class FundsSeen:
    """Funds as the requests of one scope see them, each after what those before it take."""

    def __init__(self, connection: sa.Connection, tenant: UUID, at: dt.datetime) -> None:
        self._connection, self._tenant, self._at = connection, tenant, at
        self._budgets: dict[str, BudgetState | None] = {}
        self._quotas: dict[str, QuotaState | None] = {}

    def of(self, project: Project) -> Funds:
        """Return what a job of the project may draw on."""
        if project.id not in self._budgets or project.team not in self._quotas:
            read = metering.funds(self._connection, self._tenant, project.id, project.team, self._at)
            self._budgets.setdefault(project.id, read.budget)
            self._quotas.setdefault(project.team, read.quota)
        return Funds(self._budgets[project.id], self._quotas[project.team])

    def take(self, job: Job) -> None:
        """Let those that follow see that a job's price and shots are reserved."""
        if (budget := self._budgets[job.project]) is not None:
            self._budgets[job.project] = replace(budget, reserved=budget.reserved + (job.price or 0))
        if (quota := self._quotas[job.team]) is not None:
            self._quotas[job.team] = replace(quota, reserved=quota.reserved + job.shots)


def reserve_all(connection: sa.Connection, jobs: Sequence[Job], at: dt.datetime) -> bool:
    """Reserve the prices and shots of a tenant's jobs; False when the funds changed since they were read: end the scope."""
    return all(reservations.reserve_all(connection, jobs[0].tenant, [_ask(job, at) for job in jobs]))


def _ask(job: Job, at: dt.datetime) -> Ask:
    assert job.price is not None and job.currency is not None  # noqa: S101 - it is placed
    return Ask(
        id=f"reservation-{job.id}",
        job=job.id,
        project=job.project,
        team=job.team,
        amount=job.price,
        currency=job.currency,
        shots=job.shots,
        at=at,
    )


def affordable(funds: Funds, able: Sequence[Candidate]) -> tuple[tuple[Candidate, ...], tuple[Dropped, ...]]:
    """Return the backends whose price the budget takes, and the others. The database would refuse those, whatever the policies allow."""
    dear = [_too_dear(funds.budget, candidate) for candidate in able]
    taken = tuple(candidate for candidate, reason in zip(able, dear, strict=True) if reason is None)
    return taken, tuple(Dropped(r.backend or "", r.code, r.message) for r in dear if r is not None)


def shortages(funds: Funds, able: Sequence[Candidate], shots: int) -> tuple[Reason, ...]:
    """Return why no reservation can be made for a job on any of the backends that policies left; empty when one can."""
    dear = [_too_dear(funds.budget, candidate) for candidate in able]
    reasons = tuple(reason for reason in dear if reason is not None)
    quota = funds.quota
    if len(reasons) < len(able):
        reasons = ()
    if quota is not None and shots > quota.available:
        text = f"{shots} shots exceed the {quota.available} left of {quota.limit} for team {quota.team} on {quota.day}"
        hint = "ask for fewer shots, wait for tomorrow (UTC) or ask for a higher quota"
        reasons += (Reason(FUNDS, "quota.exceeded", text, hint),)
    return reasons


def _too_dear(budget: BudgetState | None, candidate: Candidate) -> Reason | None:
    price, name = candidate.price, candidate.backend
    if price.amount == 0:
        return None
    hint = "ask for fewer shots, a cheaper backend or another budget"
    if budget is None:
        text = f"the project has no budget, and {name} is not free"
        return Reason(FUNDS, "budget.missing", text, hint, name)
    if budget.currency != price.currency:
        text = f"the budget is in {budget.currency}, the price of {name} in {price.currency}"
        return Reason(FUNDS, "budget.currency", text, hint, name)
    if price.amount > budget.available:
        left, limit = format_amount(budget.available), format_amount(budget.limit)
        text = (
            f"price {format_amount(price.amount)} {price.currency} of {name} exceeds "
            f"{left} {budget.currency} left of {limit} {budget.currency} for {budget.month}"
        )
        return Reason(FUNDS, "budget.exceeded", text, hint, name)
    return None
