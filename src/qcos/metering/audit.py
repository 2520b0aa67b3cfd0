"""Do the books agree? Money and shots are conserved, or it shows here."""

from __future__ import annotations

import datetime as dt
from typing import Final
from uuid import UUID

import sqlalchemy as sa

from qcos.metering.model import Discrepancy, Overrun

# Each yields what, subject, expected (from the single jobs), got (from the running figure).
_CHECKS: Final = (
    """
    select 'reserved of a budget' as what, p.project || ' ' || p.month as subject,
           coalesce(s.reserved, 0) as expected, p.reserved as got
      from qcos.budget_period p
      left join (select project, month, sum(amount) as reserved from qcos.reservation
                  where tenant = %(tenant)s and budgeted and state = 'reserved' group by project, month) s
             using (project, month)
     where p.tenant = %(tenant)s and p.reserved <> coalesce(s.reserved, 0)""",
    """
    select 'settled of a budget', p.project || ' ' || p.month, coalesce(s.settled, 0), p.settled
      from qcos.budget_period p
      left join (select project, month, sum(settled_amount) as settled from qcos.reservation
                  where tenant = %(tenant)s and budgeted and state = 'settled' group by project, month) s
             using (project, month)
     where p.tenant = %(tenant)s and p.settled <> coalesce(s.settled, 0)""",
    """
    select 'reserved of a quota', p.team || ' ' || p.day, coalesce(s.reserved, 0), p.reserved
      from qcos.quota_period p
      left join (select team, day, sum(shots) as reserved from qcos.reservation
                  where tenant = %(tenant)s and limited and state = 'reserved' group by team, day) s
             using (team, day)
     where p.tenant = %(tenant)s and p.reserved <> coalesce(s.reserved, 0)""",
    """
    select 'used of a quota', p.team || ' ' || p.day, coalesce(s.used, 0), p.used
      from qcos.quota_period p
      left join (select team, day, sum(settled_shots) as used from qcos.reservation
                  where tenant = %(tenant)s and limited and state = 'settled' group by team, day) s
             using (team, day)
     where p.tenant = %(tenant)s and p.used <> coalesce(s.used, 0)""",
    """
    select 'period of a reservation', r.job, 1, 0
      from qcos.reservation r
      left join qcos.budget_period p on p.tenant = r.tenant and p.project = r.project and p.month = r.month
      left join qcos.quota_period q on q.tenant = r.tenant and q.team = r.team and q.day = r.day
     where r.tenant = %(tenant)s
       and ((r.budgeted and p.project is null) or (r.limited and q.team is null))""",
    """
    select 'charges of a job', r.job, coalesce(r.settled_amount, 0), coalesce(c.amount, 0)
      from qcos.reservation r
      left join (select job, sum(amount) as amount from qcos.charge
                  where tenant = %(tenant)s group by job) c using (job)
     where r.tenant = %(tenant)s and coalesce(r.settled_amount, 0) <> coalesce(c.amount, 0)""",
    """
    select 'charges without a reservation', c.job, 0, sum(c.amount)
      from qcos.charge c
     where c.tenant = %(tenant)s
       and not exists (select from qcos.reservation r where r.tenant = c.tenant and r.job = c.job)
     group by c.job""",
)
_BOOKS: Final = " union all ".join(_CHECKS) + " order by 1, 2"

_OVERRUNS: Final = """
select job, project, amount, settled_amount, shots, settled_shots
  from qcos.reservation
 where tenant = %(tenant)s and state = 'settled' and ended_at >= %(since)s
   and (settled_amount > amount or settled_shots > shots)
 order by ended_at, job"""


def check_books(connection: sa.Connection, tenant: UUID) -> list[Discrepancy]:
    """Compare running figures with single jobs, and settlements with charges, in one snapshot; empty: all
    agree.

    Reads every reservation and charge of the tenant: for audits, not for requests.
    """
    rows = connection.exec_driver_sql(_BOOKS, {"tenant": tenant})
    return [Discrepancy(what, subject, int(expected), int(got)) for what, subject, expected, got in rows]


def overruns(connection: sa.Connection, tenant: UUID, since: dt.datetime) -> list[Overrun]:
    """Return the jobs settled since an instant that cost more than was reserved for them."""
    return [
        Overrun(*row) for row in connection.exec_driver_sql(_OVERRUNS, {"tenant": tenant, "since": since})
    ]
