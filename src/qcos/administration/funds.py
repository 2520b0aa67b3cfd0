"""Budgets of projects and quotas of teams (R3.2, R3.5, R5.4)."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from qcos.administration.act import Act
from qcos.base.errors import Invalid
from qcos.identity import store as identity
from qcos.metering import store as metering

_MOST = 9_000_000_000  # currency units; micro-units stay inside ±(2^53-1)


def micros(text: str) -> int:
    """Return an amount in micro-units; exact, no float.

    Raises:
        Invalid: ``money.amount``.
    """
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    scaled = value * 1_000_000 if value.is_finite() and 0 <= value <= _MOST else Decimal("NaN")
    if not scaled.is_finite() or scaled != scaled.to_integral_value():
        raise Invalid(
            "money.amount",
            "not an amount of money",
            expected=f"0 to {_MOST}, at most 6 decimals, as text",
            got=text[:40],
        )
    return int(scaled)


def set_budget(act: Act, project: str, monthly_limit: str, currency: str) -> None:
    """Set what a project may spend in a month, from this month on."""
    act.permit("budget.set", project, project=project)
    identity.get_project(act.connection, act.tenant, project)
    limit = micros(monthly_limit)
    before = metering.set_budget(act.connection, act.tenant, project, limit, currency)
    after = {"monthly_limit": limit, "currency": currency}
    act.record(
        "budget.set",
        project,
        project=project,
        states=(before, after),
        before=before,
        after=after,
    )


def set_quota(act: Act, team: str, daily_shots: int) -> None:
    """Set how many shots a team may run in a day (UTC), from today on."""
    act.permit("quota.set", team)
    before = metering.set_quota(act.connection, act.tenant, team, daily_shots)
    after = {"daily_shots": daily_shots}
    act.record("quota.set", team, states=(before, after), before=before, after=after)
