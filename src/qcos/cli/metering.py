"""``qcos budget``, ``qcos quota``, ``qcos usage``: money and shots."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer
from rich.console import Console

from qcos.base.errors import Invalid
from qcos.cli.job_view import instant
from qcos.cli.listing import Cell, Column, amount, items_of, of, show_items, show_object
from qcos.cli.options import After, AsJson, Number, Project, Since, Until
from qcos.cli.output import bars, emit, money
from qcos.client import from_environment
from qcos.client.model import Json

budget = typer.Typer(
    no_args_is_help=True, add_completion=False, help="List and set monthly budgets of projects."
)
quota = typer.Typer(
    no_args_is_help=True, add_completion=False, help="List and set daily shot quotas of teams."
)
usage = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Show what was consumed and what it cost."
)

_MONEY = ("limit", "reserved", "settled", "available")
_SHOTS = ("daily shots", "reserved", "used", "available")
_BUDGETS: list[Column] = [
    ("project", of("project")),
    ("month", of("month")),
    ("limit", lambda item: amount("limit" if "limit" in item else "monthly_limit")(item)),
    *((name, amount(name)) for name in _MONEY[1:]),
]
_QUOTAS: list[Column] = [
    ("team", of("team")),
    ("day", of("day")),
    ("daily shots", of("daily_shots", "limit")),
    *((name, of(name)) for name in _SHOTS[1:]),
]
_CHARGES: list[Column] = [
    ("time", lambda item: instant(item.get("at", item.get("time")))),
    ("job", of("job", "job_id")),
    ("project", of("project")),
    ("cost center", of("cost_center")),
    ("item", of("item")),
    ("quantity", of("quantity")),
    ("unit", of("unit")),
    ("amount", amount("amount")),
]


@budget.command("list")
def list_budgets(as_json: AsJson = False) -> None:
    """List the budgets with what is reserved, settled and left this month."""
    with from_environment() as client:
        answer = client.metering.budgets()
    emit(answer, as_json, lambda console: show_items(console, answer, _BUDGETS, right=_MONEY))


@budget.command("set")
def set_budget(
    project: Annotated[str, typer.Argument(metavar="PROJECT")],
    limit: Annotated[str, typer.Argument(metavar="LIMIT", help="Monthly limit, for example 5000.00.")],
    currency: Annotated[str, typer.Option(help="ISO 4217 code.")] = "USD",
    as_json: AsJson = False,
) -> None:
    """Set the monthly limit of a project."""
    monthly = _decimal(limit)
    with from_environment() as client:
        answer = client.metering.set_budget(project, monthly, currency)
    emit(answer, as_json, lambda console: show_object(console, answer))


@quota.command("list")
def list_quotas(as_json: AsJson = False) -> None:
    """List the quotas with what is reserved, used and left today."""
    with from_environment() as client:
        answer = client.metering.quotas()
    emit(answer, as_json, lambda console: show_items(console, answer, _QUOTAS, right=_SHOTS))


@quota.command("set")
def set_quota(
    team: Annotated[str, typer.Argument(metavar="TEAM")],
    daily_shots: Annotated[int, typer.Argument(metavar="SHOTS", min=0, help="Shots a day.")],
    as_json: AsJson = False,
) -> None:
    """Set the shots a team may use a day."""
    with from_environment() as client:
        answer = client.metering.set_quota(team, daily_shots)
    emit(answer, as_json, lambda console: show_object(console, answer))


@usage.command("show")
def show_usage(
    group_by: Annotated[str, typer.Option("--by", help="project, team, cost_center or backend.")] = "project",
    since: Since = None,
    until: Until = None,
    as_json: AsJson = False,
) -> None:
    """Show what was consumed and charged, summed."""
    with from_environment() as client:
        answer = client.metering.usage(group_by=group_by, since=since, until=until)
    emit(answer, as_json, lambda console: _show_usage(console, answer))


@usage.command()
def charges(
    job: Annotated[str | None, typer.Option(help="Only this job's.")] = None,
    project: Project = None,
    after: After = None,
    limit: Number = 50,
    as_json: AsJson = False,
) -> None:
    """List charge lines."""
    with from_environment() as client:
        page = client.metering.charges(job=job, project=project, after=after, limit=limit)
    emit(page, as_json, lambda console: show_items(console, page, _CHARGES, right=("quantity", "amount")))


def _show_usage(console: Console, answer: Json) -> None:
    rows = items_of(answer)
    meters = sorted({meter for row in rows for meter in row.get("meters") or {}})
    columns: list[Column] = [
        (str(answer.get("group_by", "group")), of("group")),
        ("jobs", of("jobs")),
        ("cost", amount("cost")),
        *((meter, _meter(meter)) for meter in meters),
    ]
    show_items(console, answer, columns, right=("jobs", "cost", *meters))
    costs = {row["group"]: row["cost"]["micro"] for row in rows if isinstance(row.get("cost"), dict)}
    if any(costs.values()):
        currency = rows[0]["cost"].get("currency")
        console.print()
        console.print(bars(costs, show=lambda micro: money(micro, currency)))


def _meter(name: str) -> Cell:
    return lambda item: (item.get("meters") or {}).get(name, "—")


def _decimal(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or value < 0 or abs(int(value.as_tuple().exponent)) > 6:
        raise Invalid(
            "cli.amount",
            "not an amount of money",
            got=text,
            expected="a number with at most six decimals, for example 5000.00",
        )
    return value
