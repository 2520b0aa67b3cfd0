"""Reserve, then settle, release or expire: each at most once, in one statement (R3.2, R3.5).

Every statement takes its row locks in one order (budget periods by project and month, quota periods by team
and day, reservations by job), whatever the order of what it is given, so that two of them wait for each
other but never in a circle. That holds as long as **one scope reserves once and settles once**: hand in all
jobs together. The locks last until the scope ends, so reserve as late in it as possible.

A reservation made in November is settled in November's period, whenever that is. A job that costs more than
was reserved is settled with what it cost: the period then shows more than its limit, and `audit.overruns`
lists the job.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Final, NoReturn
from uuid import UUID

import sqlalchemy as sa

from qcos.base.clock import now
from qcos.base.errors import Conflict, Invalid, Unavailable
from qcos.base.limits import MAX_MICRO
from qcos.metering.model import Ask, Ended, Settlement
from qcos.metering.period import day_of, month_of

# An unlocked look finds out whether all period rows exist, before any lock is taken. Then the locks, in
# order; locked rows show the newest figures. Running sums let one statement decide many asks: an ask is
# refused when it and those before it do not fit together. The reservations go in first, and only what really
# went in is added to the periods: an ask that lost a race against its own double adds nothing.
# Rows are looked up one by one, by their whole key ("lateral" with a limit or a lock, not "in" or a plain
# join): so a plan that was cached while a table was small stays good when it has grown.
_RESERVE: Final = """
with ask as materialized (
    select a.*, u.started is not null as budgeted, v.started is not null as limited,
           coalesce(u.started, true) and coalesce(v.started, true) as ready
      from unnest(%(ids)s::text[], %(jobs)s::text[], %(projects)s::text[], %(months)s::text[],
                  %(teams)s::text[], %(days)s::text[], %(currencies)s::text[], %(amounts)s::bigint[],
                  %(shots)s::bigint[], %(ats)s::timestamptz[])
           with ordinality as a (id, job, project, month, team, day, currency, amount, shots, at, n)
      left join lateral (
        select (select true from qcos.budget_period p
                 where p.tenant = u.tenant and p.project = u.project and p.month = a.month) is true as started
          from qcos.budget u where u.tenant = %(tenant)s and u.project = a.project limit 1) u on true
      left join lateral (
        select (select true from qcos.quota_period p
                 where p.tenant = v.tenant and p.team = v.team and p.day = a.day) is true as started
          from qcos.quota v where v.tenant = %(tenant)s and v.team = a.team limit 1) v on true
), missing as materialized (
    select count(*) as n from ask where not ready
), budget as materialized (
    select k.project, k.month, p.currency, p.available
      from (select distinct project, month from ask
             where (select n from missing) = 0 order by project, month) k
     cross join lateral (
        select p.currency, p.monthly_limit - p.reserved - p.settled as available from qcos.budget_period p
         where p.tenant = %(tenant)s and p.project = k.project and p.month = k.month for update) p
), quota as materialized (
    select k.team, k.day, p.available
      from (select distinct team, day from ask
             where (select n from missing) = 0 and (select count(*) from budget) >= 0 order by team, day) k
     cross join lateral (
        select p.daily_limit - p.reserved - p.used as available from qcos.quota_period p
         where p.tenant = %(tenant)s and p.team = k.team and p.day = k.day for update) p
), verdict as materialized (
    select a.*, case
        when (select n from missing) > 0 then 'missing'
        when r.job is not null then 'repeated'
        when a.amount > 0 and b.currency <> a.currency then 'currency'
        when a.amount > 0 and coalesce(b.available, 0)
             < sum(a.amount) over (partition by a.project, a.month order by a.n) then 'short'
        when a.shots > 0 and a.limited and q.available
             < sum(a.shots) over (partition by a.team, a.day order by a.n) then 'short'
        else 'reserved' end as word
      from ask a
      left join budget b on b.project = a.project and b.month = a.month
      left join quota q on q.team = a.team and q.day = a.day
      left join lateral (
        select r.job from qcos.reservation r where r.tenant = %(tenant)s and r.job = a.job limit 1) r on true
), made as (
    insert into qcos.reservation (tenant, id, job, project, month, budgeted, team, day, limited, currency,
                                  amount, shots, state, reserved_at)
    select %(tenant)s, id, job, project, month, budgeted, team, day, limited, currency,
           amount, shots, 'reserved', at
      from verdict where word = 'reserved' order by job
        on conflict do nothing
    returning id, job, project, month, budgeted, team, day, limited, amount, shots
), spent as (
    update qcos.budget_period p set reserved = p.reserved + s.amount
      from (select project, month, sum(amount)::bigint as amount
              from made where budgeted group by project, month) s
     where p.tenant = %(tenant)s and p.project = s.project and p.month = s.month
), used as (
    update qcos.quota_period p set reserved = p.reserved + s.shots
      from (select team, day, sum(shots)::bigint as shots from made where limited group by team, day) s
     where p.tenant = %(tenant)s and p.team = s.team and p.day = s.day
)
select case when v.word = 'reserved' and m.id is null then 'repeated' else v.word end as word
  from verdict v left join made m on m.id = v.id and m.job = v.job
 order by v.n"""

# The first job of a month or day makes the row. "for share" waits for whoever is changing the limit just now.
_MAKE_BUDGET_PERIODS: Final = """
insert into qcos.budget_period (tenant, project, month, currency, monthly_limit, reserved, settled)
select u.tenant, u.project, a.month, u.currency, u.monthly_limit, 0, 0
  from (select distinct * from unnest(%(projects)s::text[], %(months)s::text[]) as a (project, month)) a
  join qcos.budget u on u.tenant = %(tenant)s and u.project = a.project
 where not exists (select from qcos.budget_period p
            where p.tenant = u.tenant and p.project = u.project and p.month = a.month)
 order by u.project, a.month for share of u
    on conflict do nothing"""
_MAKE_QUOTA_PERIODS: Final = """
insert into qcos.quota_period (tenant, team, day, daily_limit, reserved, used)
select v.tenant, v.team, a.day, v.daily_limit, 0, 0
  from (select distinct * from unnest(%(teams)s::text[], %(days)s::text[]) as a (team, day)) a
  join qcos.quota v on v.tenant = %(tenant)s and v.team = a.team
 where not exists (select from qcos.quota_period p
            where p.tenant = v.tenant and p.team = v.team and p.day = a.day)
 order by v.team, a.day for share of v
    on conflict do nothing"""

_RECORDED: Final = """
select r.job, r.state = 'reserved' and r.id = a.id and r.project = a.project and r.team = a.team
              and r.amount = a.amount and r.currency = a.currency and r.shots = a.shots as same
  from unnest(%(ids)s::text[], %(jobs)s::text[], %(projects)s::text[], %(teams)s::text[],
              %(amounts)s::bigint[], %(currencies)s::text[], %(shots)s::bigint[])
       as a (id, job, project, team, amount, currency, shots)
  join qcos.reservation r on r.tenant = %(tenant)s and (r.job = a.job or r.id = a.id)"""

_END: Final = """
with ask as materialized (
    select * from unnest(%(jobs)s::text[], %(amounts)s::bigint[], %(shots)s::bigint[])
                  as a (job, amount, shots)
), open as materialized (
    select r.* from ask a
     cross join lateral (
        select r.project, r.month, r.team, r.day, r.budgeted, r.limited from qcos.reservation r
         where r.tenant = %(tenant)s and r.job = a.job and r.state = 'reserved' limit 1) r
), budget as materialized (
    select 1
      from (select distinct project, month from open where budgeted order by project, month) k
     cross join lateral (
        select from qcos.budget_period p
         where p.tenant = %(tenant)s and p.project = k.project and p.month = k.month for update) p
), quota as materialized (
    select 1
      from (select distinct team, day from open
             where limited and (select count(*) from budget) >= 0 order by team, day) k
     cross join lateral (
        select from qcos.quota_period p
         where p.tenant = %(tenant)s and p.team = k.team and p.day = k.day for update) p
), held as materialized (
    select k.job, k.amount, k.shots
      from (select * from ask where (select count(*) from quota) >= 0 order by job) k
     cross join lateral (
        select from qcos.reservation r
         where r.tenant = %(tenant)s and r.job = k.job and r.state = 'reserved' for update) r
), done as (
    update qcos.reservation r
       set state = %(state)s, settled_amount = h.amount, settled_shots = h.shots, ended_at = %(at)s
      from held h
     where r.tenant = %(tenant)s and r.job = h.job and r.state = 'reserved'
    returning r.job, r.project, r.month, r.team, r.day, r.budgeted, r.limited, r.amount as reserved_amount,
              r.shots as reserved_shots, r.settled_amount, r.settled_shots
), spent as (
    update qcos.budget_period p set reserved = p.reserved - s.reserved, settled = p.settled + s.settled
      from (select project, month, sum(reserved_amount)::bigint as reserved,
                   sum(settled_amount)::bigint as settled
              from done where budgeted group by project, month) s
     where p.tenant = %(tenant)s and p.project = s.project and p.month = s.month
), used as (
    update qcos.quota_period p set reserved = p.reserved - s.reserved, used = p.used + s.used
      from (select team, day, sum(reserved_shots)::bigint as reserved, sum(settled_shots)::bigint as used
              from done where limited group by team, day) s
     where p.tenant = %(tenant)s and p.team = s.team and p.day = s.day
)
select job from done"""


def reserve(connection: sa.Connection, tenant: UUID, ask: Ask) -> bool:
    """Reserve a job's money and shots, both or neither; one statement (four for the first job of a day).

    Returns:
        False when the project's month or the team's day has no longer enough: nothing was changed, decide
        again. A retry of an ask that was reserved before (same id) is True and reserves nothing more.

    Raises:
        Conflict: ``reservation.exists`` when the job has another reservation; ``budget.currency`` when the
            budget is in another currency.
        Invalid: ``reservation.amount`` for a negative or absurd amount or number of shots.
    """
    return reserve_all(connection, tenant, [ask])[0]


def reserve_all(connection: sa.Connection, tenant: UUID, asks: Sequence[Ask]) -> tuple[bool, ...]:
    """As `reserve`, for many jobs in one statement, each on its own.

    An ask is refused when it does not fit together with all asks before it, even with those that are
    refused: ask again alone to be sure.

    Raises:
        Conflict: As `reserve`; then none of them was reserved, end the scope.
        Invalid: As `reserve`.
    """
    if not asks:
        return ()
    for ask in asks:
        _check(ask.job, ask.amount, ask.shots)
    values = {
        "tenant": tenant,
        "ids": [ask.id for ask in asks],
        "jobs": [ask.job for ask in asks],
        "projects": [ask.project for ask in asks],
        "months": [month_of(ask.at) for ask in asks],
        "teams": [ask.team for ask in asks],
        "days": [day_of(ask.at) for ask in asks],
        "currencies": [ask.currency for ask in asks],
        "amounts": [ask.amount for ask in asks],
        "shots": [ask.shots for ask in asks],
        "ats": [ask.at for ask in asks],
    }
    words = _words(connection, values)
    if "missing" in words:
        connection.exec_driver_sql(_MAKE_BUDGET_PERIODS, values)
        connection.exec_driver_sql(_MAKE_QUOTA_PERIODS, values)
        words = _words(connection, values)
    if "missing" in words:  # somebody set the project's first budget between the two statements
        raise Unavailable(
            "budget.changing", "the budget or quota is being set", hint="try again", retry_after_s=0.1
        )
    if "currency" in words:
        _wrong_currency(asks[words.index("currency")])
    if "repeated" in words:
        _only_retries(
            connection, values, {ask.job for ask, word in zip(asks, words, strict=True) if word == "repeated"}
        )
    return tuple(word != "short" for word in words)


def settle(
    connection: sa.Connection, tenant: UUID, settlements: Sequence[Settlement], at: dt.datetime | None = None
) -> frozenset[str]:
    """Turn reservations into what the jobs really cost; one statement for any number.

    Returns:
        The jobs that were settled by this call. The others had been settled, released or expired before, or
        never reserved anything; nothing was changed for them, and nothing must be charged for them.

    Raises:
        Invalid: ``settlement.twice`` when a job is given twice with different figures;
            ``reservation.amount``.
    """
    return _end(connection, tenant, "settled", settlements, at)


def release(
    connection: sa.Connection, tenant: UUID, jobs: Sequence[str], at: dt.datetime | None = None
) -> frozenset[str]:
    """Give back what jobs reserved that will cost nothing; one statement. Returns as `settle`."""
    return _end(connection, tenant, "released", [Settlement(job, 0, 0) for job in jobs], at)


def expire(
    connection: sa.Connection, tenant: UUID, jobs: Sequence[str], at: dt.datetime | None = None
) -> frozenset[str]:
    """As `release`, for jobs given up; only if they certainly never ran: a lost job may still cost money."""
    return _end(connection, tenant, "expired", [Settlement(job, 0, 0) for job in jobs], at)


def _end(
    connection: sa.Connection,
    tenant: UUID,
    state: Ended,
    settlements: Sequence[Settlement],
    at: dt.datetime | None,
) -> frozenset[str]:
    by_job: dict[str, Settlement] = {}
    for settlement in settlements:
        _check(settlement.job, settlement.amount, settlement.shots)
        if by_job.setdefault(settlement.job, settlement) != settlement:
            raise Invalid(
                "settlement.twice", "a job is settled twice with different figures", subject=settlement.job
            )
    if not by_job:
        return frozenset()
    values = {
        "tenant": tenant,
        "state": state,
        "jobs": list(by_job),
        "amounts": [settlement.amount for settlement in by_job.values()],
        "shots": [settlement.shots for settlement in by_job.values()],
        "at": at or now(),
    }
    return frozenset(connection.exec_driver_sql(_END, values).scalars())


def _words(connection: sa.Connection, values: dict[str, Any]) -> list[str]:  # Any: values of mixed columns
    return list(connection.exec_driver_sql(_RESERVE, values).scalars())


def _only_retries(connection: sa.Connection, values: dict[str, Any], jobs: set[str]) -> None:  # Any: as above
    rows = connection.exec_driver_sql(_RECORDED, values).all()
    others = sorted(
        (jobs - {row.job for row in rows if row.same}) | {row.job for row in rows if not row.same} & jobs
    )
    if others:
        raise Conflict(
            "reservation.exists",
            "there is another reservation for the job, or it has ended",
            subject=others[0],
            hint="a job has at most one reservation: make a new job",
        )


def _check(job: str, amount: int, shots: int) -> None:
    if not (0 <= amount <= MAX_MICRO and 0 <= shots <= MAX_MICRO):
        raise Invalid(
            "reservation.amount", "no amount of money or shots", subject=job, got=f"{amount} µ, {shots} shots"
        )


def _wrong_currency(ask: Ask) -> NoReturn:
    raise Conflict(
        "budget.currency",
        "the project's budget is in another currency than the price",
        subject=ask.project,
        got=ask.currency,
        hint="set the budget in the price book's currency",
    )
