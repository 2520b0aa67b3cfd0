"""Money and shots: budgets, quotas, usage, charges. Amounts are decimal text on the wire, never floats."""

from __future__ import annotations

from decimal import Decimal
from typing import cast

from qcos.client.model import Json, Page
from qcos.client.transport import Transport, quoted


class Metering:
    """``/budgets``, ``/quotas``, ``/usage`` and ``/charges``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def budgets(self) -> Json:
        """Return the budgets of all projects with what is reserved, settled and left this month."""
        return cast(Json, self._transport.call("GET", "budgets").json())

    def set_budget(self, project: str, monthly_limit: Decimal, currency: str) -> Json:
        """Set the monthly limit of a project (R3.2)."""
        body = {"monthly_limit": f"{monthly_limit:f}", "currency": currency}
        return cast(Json, self._transport.call("PUT", f"projects/{quoted(project)}/budget", json=body).json())

    def quotas(self) -> Json:
        """Return the quotas of all teams with what is reserved, used and left today."""
        return cast(Json, self._transport.call("GET", "quotas").json())

    def set_quota(self, team: str, daily_shots: int) -> Json:
        """Set the shots a team may use a day (R3.5)."""
        return cast(
            Json,
            self._transport.call(
                "PUT", f"teams/{quoted(team)}/quota", json={"daily_shots": daily_shots}
            ).json(),
        )

    def usage(
        self, *, group_by: str | None = None, since: str | None = None, until: str | None = None
    ) -> Json:
        """Return what was consumed and charged, summed (R6.3)."""
        return cast(
            Json,
            self._transport.call(
                "GET", "usage", params={"group_by": group_by, "since": since, "until": until}
            ).json(),
        )

    def charges(
        self,
        *,
        job: str | None = None,
        project: str | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> Page[Json]:
        """Return one page of charge lines."""
        params = {"job": job, "project": project, "after": after, "limit": limit}
        return cast(Page[Json], self._transport.call("GET", "charges", params=params).json())
