"""Renewing time stamps on demand: a governed act (R4.3)."""

from __future__ import annotations

from typing import Any

from qcos.administration.act import Act
from qcos.jobs.restamp import Stamped, details_of, keep

RENEW = "evidence.renew"


def demand_right(act: Act) -> None:
    """Refuse who may not renew before anything is read or stamped; the act itself is decided in its own scope.

    Raises:
        Denied: By policy.
    """
    if not act.may(RENEW):
        act.permit(RENEW)


def renew(act: Act, stamped: Stamped, reason: str) -> dict[str, Any]:  # Any: JSON
    """Keep a renewal with its record.

    Raises:
        Denied: By policy.
        Conflict: ``evidence.renewed``.
    """
    act.permit(RENEW, stamped.renewal.id)
    keep(act.connection, act.tenant, stamped)
    details = details_of(stamped)
    act.record("evidence.renewed", stamped.renewal.id, reason=reason, states=(None, details), **details)
    return {"renewal_id": stamped.renewal.id, **details}
