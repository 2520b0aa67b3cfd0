"""Values of retention."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Final

KINDS: Final = ("job", "project", "tenant")
"""What a hold can cover; a tenant's hold covers all its jobs."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A legal hold: while it is not released, nothing that it covers is erased, whatever was to be.

    Attributes:
        id: ``hold-2026-01-09-<16 hex digits>``.
        kind: One of `KINDS`.
        subject: Id of the job or project; ``*`` for the tenant.
        reason: Why, as who placed it says.
        placed_by: Principal.
        placed_at: UTC.
        released_by: Principal; None while it holds.
        released_at: UTC.
        release_reason: Why it was released.
    """

    id: str
    kind: str
    subject: str
    reason: str
    placed_by: str
    placed_at: dt.datetime
    released_by: str | None = None
    released_at: dt.datetime | None = None
    release_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """Payloads whose time has come, or that somebody wants erased.

    Attributes:
        job: The job.
        project: Its project.
        bundle: Its evidence, if it has any.
        payload_key: The wrapped key that is destroyed.
        retain_until: Until when they had to be kept, UTC.
        retention_days: As asked for in the Job Spec.
        statement_digest: Of the evidence, if any.
        sealed_record: The ledger record ``evidence.sealed``, if any.
    """

    job: str
    project: str
    bundle: str | None
    payload_key: bytes
    retain_until: dt.datetime
    retention_days: int
    statement_digest: str | None
    sealed_record: str | None


@dataclass(frozen=True, slots=True)
class Erasure:
    """What is kept of an erasing, in the job's row.

    Attributes:
        at: When, UTC.
        rule: Under what: ``retention 365 days``, or ``request: <reason>``.
        by: Who asked for it, or the service that keeps time.
        record: The ledger record ``payload.erased``.
    """

    at: str
    rule: str
    by: str
    record: str

    def as_dict(self) -> dict[str, Any]:  # Any: JSON
        """Return the JSON."""
        return {"at": self.at, "rule": self.rule, "by": self.by, "record": self.record}
