"""Tables of metering.

Losing them: nobody knows what is left of any budget or quota, nor what was charged; the charges could be
made again from the evidence bundles (usage and charge are in the sealed statement), limits from the ledger's
records. Somebody who can write to them can give a project money, or free a team of its quota; as the
application's role he cannot change or delete a charge or usage, nor touch a reservation that has ended, and
`audit.check_books` shows a period that does not agree with its reservations, or a settlement that does not
agree with its charges.

Reservations, and what is reserved and settled in a period, are moved by `reserve` only.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from qcos.base.clock import now
from qcos.base.errors import Conflict, Integrity, Invalid
from qcos.base.limits import MAX_MICRO, PAGE_DEFAULT
from qcos.db.engine import metadata
from qcos.metering.model import Bill, BudgetState, Charge, Funds, QuotaState
from qcos.metering.money import check_currency
from qcos.metering.period import day_of, month_of

# One place to call: what moves or totals these tables' figures is a module of its own, called from here.
from qcos.metering.reserve import expire as expire
from qcos.metering.reserve import release as release
from qcos.metering.reserve import reserve as reserve
from qcos.metering.reserve import reserve_all as reserve_all
from qcos.metering.reserve import settle as settle
from qcos.metering.showback import showback as showback

_TIME = sa.DateTime(timezone=True)


def _text(name: str, *, key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, primary_key=key, nullable=False)


def _count(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable)


def _tenant() -> sa.Column[UUID]:
    return sa.Column("tenant", sa.Uuid, primary_key=True)


BUDGET = sa.Table(
    "budget",
    metadata,
    _tenant(),
    _text("project", key=True),
    _text("currency"),
    _count("monthly_limit"),
    sa.Column("set_at", _TIME, nullable=False),
)
BUDGET_PERIOD = sa.Table(
    "budget_period",
    metadata,
    _tenant(),
    _text("project", key=True),
    _text("month", key=True),
    _text("currency"),
    _count("monthly_limit"),
    _count("reserved"),
    _count("settled"),
)
QUOTA = sa.Table(
    "quota",
    metadata,
    _tenant(),
    _text("team", key=True),
    _count("daily_limit"),
    sa.Column("set_at", _TIME, nullable=False),
)
QUOTA_PERIOD = sa.Table(
    "quota_period",
    metadata,
    _tenant(),
    _text("team", key=True),
    _text("day", key=True),
    _count("daily_limit"),
    _count("reserved"),
    _count("used"),
)
RESERVATION = sa.Table(
    "reservation",
    metadata,
    _tenant(),
    _text("id", key=True),
    _text("job"),
    _text("project"),
    _text("month"),
    sa.Column("budgeted", sa.Boolean, nullable=False),  # counts in its budget period
    _text("team"),
    _text("day"),
    sa.Column("limited", sa.Boolean, nullable=False),  # counts in its quota period
    _text("currency"),
    _count("amount"),
    _count("shots"),
    _text("state"),
    _count("settled_amount", nullable=True),
    _count("settled_shots", nullable=True),
    sa.Column("reserved_at", _TIME, nullable=False),
    sa.Column("ended_at", _TIME),
    sa.UniqueConstraint("tenant", "job", name="reservation_job"),
)
USAGE = sa.Table(
    "usage",
    metadata,
    _tenant(),
    _text("job", key=True),
    _text("meter", key=True),
    _count("quantity"),
    _text("unit"),
    _text("project"),
    _text("team"),
    _text("cost_center"),
    _text("backend"),
    sa.Column("at", _TIME, nullable=False),
    sa.Index("usage_at", "tenant", "at"),
)
CHARGE = sa.Table(
    "charge",
    metadata,
    _tenant(),
    sa.Column("n", sa.BigInteger, sa.Identity(always=True), nullable=False),
    _text("job", key=True),
    sa.Column("line", sa.Integer, primary_key=True),
    _text("item"),
    _count("quantity"),
    _text("unit"),
    _count("unit_price"),
    _count("per"),
    _count("amount"),
    _text("currency"),
    _text("price_key"),
    _text("price_book"),
    _text("project"),
    _text("team"),
    _text("cost_center"),
    _text("backend"),
    _text("month"),
    sa.Column("at", _TIME, nullable=False),
    sa.Index("charge_n", "tenant", "n", unique=True),
    sa.Index("charge_at", "tenant", "at"),
)

# --- limits

# The period of the instant is made or changed too, so that it holds at once; later ones may exist when
# clocks differ.
_SET_BUDGET: Final = """
with old as materialized (
    select monthly_limit, currency from qcos.budget
     where tenant = %(tenant)s and project = %(subject)s for update
), new as (
    insert into qcos.budget (tenant, project, currency, monthly_limit, set_at)
    select %(tenant)s, %(subject)s, %(currency)s, %(limit)s, %(at)s where (select count(*) from old) >= 0
        on conflict (tenant, project) do update
           set currency = excluded.currency, monthly_limit = excluded.monthly_limit, set_at = excluded.set_at
)
select monthly_limit, currency from old"""
_SET_BUDGET_PERIOD: Final = """
with now as (
    insert into qcos.budget_period (tenant, project, month, currency, monthly_limit, reserved, settled)
    values (%(tenant)s, %(subject)s, %(period)s, %(currency)s, %(limit)s, 0, 0)
        on conflict (tenant, project, month) do update
           set monthly_limit = excluded.monthly_limit, currency = excluded.currency
         where budget_period.currency = excluded.currency
            or (budget_period.reserved = 0 and budget_period.settled = 0)
    returning *
), later as (
    update qcos.budget_period p set monthly_limit = n.monthly_limit
      from now n
     where p.tenant = n.tenant and p.project = n.project and p.month > n.month and p.currency = n.currency
)
select project from now"""
_SET_QUOTA: Final = """
with old as materialized (
    select daily_limit from qcos.quota where tenant = %(tenant)s and team = %(subject)s for update
), new as (
    insert into qcos.quota (tenant, team, daily_limit, set_at)
    select %(tenant)s, %(subject)s, %(limit)s, %(at)s where (select count(*) from old) >= 0
        on conflict (tenant, team) do update set daily_limit = excluded.daily_limit, set_at = excluded.set_at
)
select daily_limit as daily_shots from old"""
_SET_QUOTA_PERIOD: Final = """
with now as (
    insert into qcos.quota_period (tenant, team, day, daily_limit, reserved, used)
    values (%(tenant)s, %(subject)s, %(period)s, %(limit)s, 0, 0)
        on conflict (tenant, team, day) do update set daily_limit = excluded.daily_limit
    returning *
), later as (
    update qcos.quota_period p set daily_limit = n.daily_limit
      from now n where p.tenant = n.tenant and p.team = n.team and p.day > n.day
)
select team from now"""

_FUNDS: Final = """
select u.project, u.currency, coalesce(p.monthly_limit, u.monthly_limit) as monthly_limit,
       coalesce(p.reserved, 0) as reserved, coalesce(p.settled, 0) as settled,
       v.team, coalesce(q.daily_limit, v.daily_limit) as daily_limit,
       coalesce(q.reserved, 0) as shots_reserved, coalesce(q.used, 0) as shots_used
  from (values (1)) as one (n)
  left join qcos.budget u on u.tenant = %(tenant)s and u.project = %(project)s
  left join qcos.budget_period p on p.tenant = u.tenant and p.project = u.project and p.month = %(month)s
  left join qcos.quota v on v.tenant = %(tenant)s and v.team = %(team)s
  left join qcos.quota_period q on q.tenant = v.tenant and q.team = v.team and q.day = %(day)s"""


def set_budget(
    connection: sa.Connection,
    tenant: UUID,
    project: str,
    monthly_limit: int,
    currency: str,
    at: dt.datetime | None = None,
) -> dict[str, Any] | None:  # Any: JSON
    """Set what a project may spend a month, from this month on (R3.2).

    Args:
        connection: In a scope of the tenant.
        tenant: The tenant.
        project: The project.
        monthly_limit: Micro-units. May be less than was spent: then nothing more can be reserved.
        currency: ISO 4217 code; changes only while nothing was reserved or settled in the month.
        at: Now.

    Returns:
        ``monthly_limit`` and ``currency`` as they were before; None for a project that had no budget.

    Raises:
        Invalid: ``money.currency``, or ``budget.limit`` for a negative or absurd limit.
        Conflict: ``budget.currency`` when the month has figures in another currency; end the scope.
    """
    _check_limit("budget.limit", project, monthly_limit)
    instant = at or now()
    values = {
        "tenant": tenant,
        "subject": project,
        "currency": check_currency(currency),
        "limit": monthly_limit,
        "period": month_of(instant),
        "at": instant,
    }
    before = connection.exec_driver_sql(_SET_BUDGET, values).mappings().one_or_none()
    if connection.exec_driver_sql(_SET_BUDGET_PERIOD, values).one_or_none() is None:
        raise Conflict(
            "budget.currency",
            "this month has figures in another currency",
            subject=project,
            got=currency,
            hint="change the currency before the first job of a month",
        )
    return dict(before) if before is not None else None


def set_quota(
    connection: sa.Connection, tenant: UUID, team: str, daily_limit: int, at: dt.datetime | None = None
) -> dict[str, Any] | None:  # Any: JSON
    """Set how many shots a team may take a day (R3.5), from today on.

    Jobs that were reserved while the team had no quota are not counted.

    Returns:
        ``daily_shots`` as they were before; None for a team that had no quota.

    Raises:
        Invalid: ``quota.limit`` for a negative or absurd limit.
    """
    _check_limit("quota.limit", team, daily_limit)
    instant = at or now()
    values = {
        "tenant": tenant,
        "subject": team,
        "limit": daily_limit,
        "period": day_of(instant),
        "at": instant,
    }
    before = connection.exec_driver_sql(_SET_QUOTA, values).mappings().one_or_none()
    connection.exec_driver_sql(_SET_QUOTA_PERIOD, values)
    return dict(before) if before is not None else None


def funds(connection: sa.Connection, tenant: UUID, project: str, team: str, at: dt.datetime) -> Funds:
    """Return what a job of the project may draw on now; one statement, no lock."""
    month, day = month_of(at), day_of(at)
    values = {"tenant": tenant, "project": project, "team": team, "month": month, "day": day}
    row = connection.exec_driver_sql(_FUNDS, values).one()
    budget = quota = None
    if row.project is not None:
        budget = BudgetState(project, month, row.currency, row.monthly_limit, row.reserved, row.settled)
    if row.team is not None:
        quota = QuotaState(team, day, row.daily_limit, row.shots_reserved, row.shots_used)
    return Funds(budget, quota)


def list_budgets(connection: sa.Connection, tenant: UUID, at: dt.datetime) -> list[BudgetState]:
    """Return all budgets as they stand in a month, by project."""
    budget, period, month = BUDGET.c, BUDGET_PERIOD.c, month_of(at)
    joined = sa.and_(period.tenant == budget.tenant, period.project == budget.project, period.month == month)
    statement = (
        sa.select(
            budget.project,
            sa.literal(month),
            sa.func.coalesce(period.currency, budget.currency),
            sa.func.coalesce(period.monthly_limit, budget.monthly_limit),
            sa.func.coalesce(period.reserved, 0),
            sa.func.coalesce(period.settled, 0),
        )
        .select_from(BUDGET.outerjoin(BUDGET_PERIOD, joined))
        .where(budget.tenant == tenant)
        .order_by(budget.project)
    )
    return [BudgetState(*row) for row in connection.execute(statement)]


def list_quotas(connection: sa.Connection, tenant: UUID, at: dt.datetime) -> list[QuotaState]:
    """Return all quotas as they stand on a day, by team."""
    quota, period, day = QUOTA.c, QUOTA_PERIOD.c, day_of(at)
    joined = sa.and_(period.tenant == quota.tenant, period.team == quota.team, period.day == day)
    statement = (
        sa.select(
            quota.team,
            sa.literal(day),
            sa.func.coalesce(period.daily_limit, quota.daily_limit),
            sa.func.coalesce(period.reserved, 0),
            sa.func.coalesce(period.used, 0),
        )
        .select_from(QUOTA.outerjoin(QUOTA_PERIOD, joined))
        .where(quota.tenant == tenant)
        .order_by(quota.team)
    )
    return [QuotaState(*row) for row in connection.execute(statement)]


# --- usages and charges

_RECORD_USAGE: Final = """
insert into qcos.usage (tenant, job, meter, quantity, unit, project, team, cost_center, backend, at)
select %(tenant)s, a.*
  from unnest(%(jobs)s::text[], %(meters)s::text[], %(quantities)s::bigint[], %(units)s::text[],
              %(projects)s::text[], %(teams)s::text[], %(cost_centers)s::text[], %(backends)s::text[],
              %(ats)s::timestamptz[]) as a
    on conflict do nothing"""
_RECORD_CHARGES: Final = """
insert into qcos.charge (tenant, job, line, item, quantity, unit, unit_price, per, amount, currency,
                         price_key, price_book, project, team, cost_center, backend, month, at)
select %(tenant)s, a.job, a.line, a.item, a.quantity, a.unit, a.unit_price, a.per, a.amount, a.currency,
       a.price_key, a.price_book, a.project, a.team, a.cost_center, a.backend, r.month, a.at
  from unnest(%(jobs)s::text[], %(lines)s::integer[], %(items)s::text[], %(quantities)s::bigint[],
              %(units)s::text[], %(unit_prices)s::bigint[], %(pers)s::bigint[], %(amounts)s::bigint[],
              %(currencies)s::text[],
              %(price_keys)s::text[], %(price_books)s::text[], %(projects)s::text[], %(teams)s::text[],
              %(cost_centers)s::text[], %(backends)s::text[], %(ats)s::timestamptz[])
       as a (job, line, item, quantity, unit, unit_price, per, amount, currency, price_key, price_book,
             project, team, cost_center, backend, at)
 cross join lateral (
    select r.month from qcos.reservation r
     where r.tenant = %(tenant)s and r.job = a.job and r.state = 'settled' limit 1) r
    on conflict do nothing"""


def record_usage(connection: sa.Connection, tenant: UUID, bills: Sequence[Bill]) -> None:
    """Keep the usages of jobs that `reserve.settle` says were settled just now; one statement.

    Raises:
        Integrity: ``usage.twice`` when a usage of a job was kept before; end the scope.
    """
    rows = [(bill, usage) for bill in bills for usage in bill.usages]
    if not rows:
        return
    values = {
        "tenant": tenant,
        "jobs": [bill.job for bill, _ in rows],
        "meters": [usage.meter for _, usage in rows],
        "quantities": [usage.quantity for _, usage in rows],
        "units": [usage.unit for _, usage in rows],
        "projects": [bill.project for bill, _ in rows],
        "teams": [bill.team for bill, _ in rows],
        "cost_centers": [bill.cost_center for bill, _ in rows],
        "backends": [bill.backend for bill, _ in rows],
        "ats": [bill.at for bill, _ in rows],
    }
    if connection.exec_driver_sql(_RECORD_USAGE, values).rowcount != len(rows):
        raise Integrity("usage.twice", "a usage of the job was kept before", subject=bills[0].job)


def record_charges(connection: sa.Connection, tenant: UUID, bills: Sequence[Bill]) -> None:
    """Keep the charge lines of jobs that `reserve.settle` says were settled just now; one statement.

    Raises:
        Integrity: ``charge.twice`` when a line of a job was kept before, or a job is not settled; end the
            scope.
    """
    rows = [(bill, n, line) for bill in bills for n, line in enumerate(bill.lines)]
    if not rows:
        return
    values = {
        "tenant": tenant,
        "jobs": [bill.job for bill, _, _ in rows],
        "lines": [n for _, n, _ in rows],
        "items": [line.item for _, _, line in rows],
        "quantities": [line.quantity for _, _, line in rows],
        "units": [line.unit for _, _, line in rows],
        "unit_prices": [line.unit_price for _, _, line in rows],
        "pers": [line.per for _, _, line in rows],
        "amounts": [line.amount for _, _, line in rows],
        "currencies": [bill.currency for bill, _, _ in rows],
        "price_keys": [bill.price_key for bill, _, _ in rows],
        "price_books": [bill.price_book for bill, _, _ in rows],
        "projects": [bill.project for bill, _, _ in rows],
        "teams": [bill.team for bill, _, _ in rows],
        "cost_centers": [bill.cost_center for bill, _, _ in rows],
        "backends": [bill.backend for bill, _, _ in rows],
        "ats": [bill.at for bill, _, _ in rows],
    }
    if connection.exec_driver_sql(_RECORD_CHARGES, values).rowcount != len(rows):
        raise Integrity(
            "charge.twice", "a charge was kept before, or its job is not settled", subject=bills[0].job
        )


def list_charges(
    connection: sa.Connection,
    tenant: UUID,
    *,
    job: str | None = None,
    project: str | None = None,
    before: int | None = None,
    limit: int = PAGE_DEFAULT,
) -> list[Charge]:
    """Return charge lines, the newest first, from the one before ``before`` (the ``n`` of a line)."""
    table = CHARGE.c
    statement = sa.select(*(table[name] for name in Charge.__slots__)).where(table.tenant == tenant)
    if job is not None:
        statement = statement.where(table.job == job)
    if project is not None:
        statement = statement.where(table.project == project)
    if before is not None:
        statement = statement.where(table.n < before)
    return [Charge(*row) for row in connection.execute(statement.order_by(table.n.desc()).limit(limit))]


def _check_limit(code: str, subject: str, limit: int) -> None:
    if not 0 <= limit <= MAX_MICRO:
        raise Invalid(code, "not a limit", subject=subject, expected=f"0 to {MAX_MICRO}", got=str(limit))
