"""Budgets, quotas, usage, charges (R6.*)."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from qcos.administration import funds
from qcos.administration.act import Act
from qcos.api.answers import amount, answer, decode_cursor, instant, limit_of, money, number, page
from qcos.api.caller import act
from qcos.api.reach import reach
from qcos.base.clock import now, rfc3339
from qcos.base.errors import Invalid
from qcos.base.limits import PAGE_MAX
from qcos.identity import store as identity
from qcos.metering import store as metering
from qcos.metering.model import BudgetState, Charge, QuotaState
from qcos.metering.showback import showback

router = APIRouter(tags=["metering"])
_GROUPS = ("project", "team", "cost_center", "backend")


class NewBudget(BaseModel):
    """What a project may spend in a month."""

    model_config = ConfigDict(extra="forbid")
    monthly_limit: str = Field(max_length=40, description="Decimal text, as 5000.00")
    currency: str = Field(default="USD", pattern="^[A-Z]{3}$")


class NewQuota(BaseModel):
    """How many shots a team may run in a day (UTC)."""

    model_config = ConfigDict(extra="forbid")
    daily_shots: int = Field(ge=0, le=10**15)


@router.put("/projects/{project}/budget", summary="Set a project's monthly budget")
async def set_budget(request: Request, project: str, body: NewBudget) -> Response:
    """Set the budget from this month on; what is reserved or settled stays."""
    await act(request, lambda caller: funds.set_budget(caller, project, body.monthly_limit, body.currency))
    return answer(
        {
            "project": project,
            "monthly_limit": amount(funds.micros(body.monthly_limit)),
            "currency": body.currency,
        }
    )


@router.get("/budgets", summary="Budgets with what is reserved, settled and left this month")
async def budgets(request: Request, after: str | None = None, limit: int | None = None) -> Response:
    """List the budgets of the projects where the caller may read them, by project."""
    size, start = limit_of(PAGE_MAX if limit is None else limit), _start(after)

    def run(caller: Act) -> dict[str, Any]:
        projects = reach(caller, "budget.read")
        rows = [
            row
            for row in metering.list_budgets(caller.connection, caller.tenant, now())
            if row.project > start and (projects is None or row.project in projects)
        ]
        rows.sort(key=lambda row: row.project)  # as the cursor compares, whatever the database's collation
        return page(rows, size, _budget, lambda row: (row.project,))

    return answer(await act(request, run))


def _start(after: str | None) -> str:
    """Return the name after which a page starts."""
    cursor = decode_cursor(after, 1)
    return cursor[0] if cursor else ""


def _budget(row: BudgetState) -> dict[str, Any]:
    return {
        "project": row.project,
        "month": row.month,
        "limit": money(row.limit, row.currency),
        "reserved": money(row.reserved, row.currency),
        "settled": money(row.settled, row.currency),
        "available": money(row.available, row.currency),
    }


@router.put("/teams/{team}/quota", summary="Set a team's daily shots")
async def set_quota(request: Request, team: str, body: NewQuota) -> Response:
    """Set the quota from today on."""
    await act(request, lambda caller: funds.set_quota(caller, team, body.daily_shots))
    return answer({"team": team, "daily_shots": body.daily_shots})


@router.get("/quotas", summary="Quotas with what is reserved, used and left today")
async def quotas(request: Request, after: str | None = None, limit: int | None = None) -> Response:
    """List the quotas of the teams of the projects where the caller may read budgets, by team."""
    size, start = limit_of(PAGE_MAX if limit is None else limit), _start(after)

    def run(caller: Act) -> dict[str, Any]:
        projects = reach(caller, "budget.read")
        teams = projects and {
            identity.get_project(caller.connection, caller.tenant, project).team for project in projects
        }
        rows = [
            row
            for row in metering.list_quotas(caller.connection, caller.tenant, now())
            if row.team > start and (teams is None or row.team in teams)
        ]
        rows.sort(key=lambda row: row.team)
        return page(rows, size, _quota, lambda row: (row.team,))

    return answer(await act(request, run))


def _quota(row: QuotaState) -> dict[str, Any]:
    return {
        "team": row.team,
        "day": row.day,
        "limit": row.limit,
        "reserved": row.reserved,
        "used": row.used,
        "available": row.available,
    }


@router.get("/usage", summary="Showback: usage and cost by project, team, cost center or backend")
async def usage(
    request: Request,
    group_by: str = Query(default="project"),
    since: str | None = None,
    until: str | None = None,
) -> Response:
    """Total the meters and charges of a period (R6.3), over the jobs of the projects where the caller may read usage."""
    if group_by not in _GROUPS:
        raise Invalid("usage.group_by", "unknown grouping", expected=", ".join(_GROUPS), got=group_by[:40])
    start, end = instant(since, "since"), instant(until, "until")

    def run(caller: Act) -> list[dict[str, Any]]:
        projects = reach(caller, "usage.read")
        return [
            {
                "group": row.group,
                "jobs": row.jobs,
                "cost": money(row.amount, row.currency),
                "meters": dict(row.meters),
            }
            for row in showback(caller.connection, caller.tenant, group_by, start, end, projects)
        ]

    return answer({"group_by": group_by, "items": await act(request, run), "next": None})


@router.get("/charges", summary="Charge lines")
async def charges(
    request: Request,
    job: str | None = None,
    project: str | None = None,
    after: str | None = None,
    limit: int | None = None,
) -> Response:
    """List charge lines, newest first, with cost center and price book (R8.9)."""
    size = limit_of(limit)
    cursor = decode_cursor(after, 1)
    before = number(cursor[0]) if cursor else None

    def run(caller: Act) -> dict[str, Any]:
        caller.permit("charge.read", project=project or "")
        rows = metering.list_charges(
            caller.connection,
            caller.tenant,
            job=job,
            project=project,
            before=before,
            limit=size + 1,
        )
        return page(rows, size, _charge, lambda row: (str(row.n),))

    return answer(await act(request, run))


def _charge(row: Charge) -> dict[str, Any]:
    return {
        "job_id": row.job,
        "project": row.project,
        "team": row.team,
        "cost_center": row.cost_center,
        "item": row.item,
        "quantity": row.quantity,
        "unit": row.unit,
        "amount": money(row.amount, row.currency),
        "price_book": row.price_book,
        "at": rfc3339(row.at),
    }
