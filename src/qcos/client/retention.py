"""Legal holds, what is due to be erased, and erasing on request."""

from __future__ import annotations

import datetime as dt
from typing import cast

from qcos.client.model import Json, Page
from qcos.client.transport import Transport, quoted


class Retention:
    """``/holds``, ``/retention`` and what of it hangs on a job."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def holds(
        self, *, held: bool | None = None, after: str | None = None, limit: int | None = None
    ) -> Page[Json]:
        """Return one page of the legal holds, newest first; only those that hold, or only those released."""
        params = {"held": None if held is None else str(held).lower(), "after": after, "limit": limit}
        return cast(Page[Json], self._transport.call("GET", "holds", params=params).json())

    def place_hold(self, kind: str, subject: str, reason: str) -> Json:
        """Place a legal hold (R4.3).

        Args:
            kind: ``job``, ``project`` or ``tenant``.
            subject: Id of the job or project; empty for the tenant.
            reason: Why; it stands in the ledger for ever.
        """
        body = {"kind": kind, "subject": subject, "reason": reason}
        return cast(Json, self._transport.call("POST", "holds", json=body).json())

    def release_hold(self, hold_id: str, reason: str) -> Json:
        """Release a legal hold."""
        path = f"holds/{quoted(hold_id)}/release"
        return cast(Json, self._transport.call("POST", path, json={"reason": reason}).json())

    def of_job(self, job_id: str) -> Json:
        """Return until when a job's payload is kept, what holds it, and whether it was erased."""
        return cast(Json, self._transport.call("GET", f"jobs/{quoted(job_id)}/retention").json())

    def due(self, *, before: str | None = None, limit: int | None = None) -> Page[Json]:
        """Return the payloads that will be erased by an instant (now), longest due first."""
        params = {"before": before, "limit": limit}
        return cast(Page[Json], self._transport.call("GET", "retention/due", params=params).json())

    def erase(self, job_id: str, reason: str, *, dry_run: bool = False) -> Json:
        """Erase a job's payload on request; it cannot be had back.

        Raises:
            Denied: Policy does not let you, or not before its time.
            Conflict: ``erasure.held`` and other ``erasure.*``.
        """
        body = {"reason": reason, "dry_run": dry_run}
        return cast(Json, self._transport.call("POST", f"jobs/{quoted(job_id)}/erase", json=body).json())

    def resume_erasing(self, today: dt.date) -> Json:
        """Say what day it is, after the server's clock was not believed."""
        return cast(
            Json, self._transport.call("POST", "retention/clock", json={"today": today.isoformat()}).json()
        )
