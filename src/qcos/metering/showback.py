"""Who spent what: cost and consumption by project, team, cost center or backend (R6.3)."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Sequence
from typing import Final, get_args
from uuid import UUID

import sqlalchemy as sa

from qcos.base.errors import Invalid
from qcos.metering.measure import PEAKS
from qcos.metering.model import Group, Total

_BILLED: Final = """
select {group} as name, currency, sum(amount) as amount, count(distinct job) as jobs
  from qcos.charge
 where tenant = %(tenant)s
   and at >= coalesce(%(since)s::timestamptz, '-infinity')
   and at < coalesce(%(until)s::timestamptz, 'infinity')
   and (%(projects)s::text[] is null or project = any(%(projects)s::text[]))
 group by {group}, currency order by {group}, currency"""
_CONSUMED: Final = """
select u.{group} as name, c.currency, u.meter, sum(u.quantity) as added, max(u.quantity) as largest
  from qcos.usage u join qcos.charge c on c.tenant = u.tenant and c.job = u.job and c.line = 0
 where u.tenant = %(tenant)s
   and u.at >= coalesce(%(since)s::timestamptz, '-infinity')
   and u.at < coalesce(%(until)s::timestamptz, 'infinity')
   and (%(projects)s::text[] is null or u.project = any(%(projects)s::text[]))
 group by u.{group}, c.currency, u.meter order by u.meter"""


def showback(
    connection: sa.Connection,
    tenant: UUID,
    group_by: str,
    since: dt.datetime | None = None,
    until: dt.datetime | None = None,
    projects: Sequence[str] | None = None,
) -> list[Total]:
    """Return cost and consumption of each group (R6.3).

    Args:
        connection: In a scope of the tenant.
        tenant: The tenant.
        group_by: ``project``, ``team``, ``cost_center`` or ``backend``.
        since: Jobs settled at this instant or later; None from the beginning.
        until: Jobs settled before this instant; None until now.
        projects: Jobs of these projects; None of all.

    Raises:
        Invalid: ``showback.group`` for another grouping.
    """
    if group_by not in get_args(Group):
        known = ", ".join(get_args(Group))
        raise Invalid("showback.group", "cannot group by this", got=group_by[:40], expected=known)
    values = {
        "tenant": tenant,
        "since": since,
        "until": until,
        "projects": None if projects is None else list(projects),
    }
    meters: defaultdict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for row in connection.exec_driver_sql(_CONSUMED.format(group=group_by), values):
        meters[row.name, row.currency][row.meter] = int(row.largest if row.meter in PEAKS else row.added)
    return [
        Total(row.name, row.currency, int(row.amount), row.jobs, meters[row.name, row.currency])
        for row in connection.exec_driver_sql(_BILLED.format(group=group_by), values)
    ]
