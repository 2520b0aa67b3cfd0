"""Values of the spine."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from qcos.base.canonical import canonical
from qcos.base.clock import rfc3339
from qcos.base.errors import QcosError
from qcos.jobs.lifecycle import STEPS


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened to a job: its name (see `qcos.jobs.lifecycle.STEPS`), when, and particulars for people."""

    step: str
    at: dt.datetime
    detail: dict[str, Any]  # Any: JSON

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON kept in the job's row and sent to watchers."""
        return {"n": STEPS[self.step], "step": self.step, "at": rfc3339(self.at), "detail": self.detail}


@dataclass(frozen=True, slots=True)
class Job:
    """A job's row.

    Attributes:
        spec: Canonical bytes of the Job Spec; of a row that was read they are sealed, until `qcos.jobs.conceal.reveal` opens them.
        facts: What was read from each circuit, in order.
        context: Who asked, as it was at admission (principal, roles, team, delegation, token).
        price: Reserved amount in micro-units of `currency`.
        placement: The chosen backend with the reasons, as recorded.
        attempt: How many workers have taken the job; the fence of compare-and-set.
        handle: What the driver needs to find the job at the vendor.
        outcome: What the driver said of the run, without the counts.
        steps: `Step.as_dict` values in the order they happened.
        trace: W3C traceparent of the request.
        payload_key: The wrapped key of spec, result and evidence; None when they were erased, or are older than encryption.
        retain_until: Until when they are kept at least, counted from admission; evidence counts from its sealing.
        erased: When and why they were erased (`qcos.jobs.erase`); None while they are kept.
    """

    tenant: UUID
    id: str
    state: str
    project: str
    actor: str
    team: str
    cost_center: str
    spec: bytes
    spec_digest: str
    facts: list[dict[str, Any]]
    context: dict[str, Any]
    shots: int
    seed: int
    backend: str | None
    provider: str | None
    driver: str | None
    decision: str
    placement: dict[str, Any] | None
    price: int | None
    currency: str | None
    price_book: str | None
    idempotency_key: str | None
    attempt: int
    cancel_requested: bool
    handle: dict[str, Any] | None
    outcome: dict[str, Any] | None
    charge: int | None
    bundle: str | None
    error: dict[str, Any] | None
    steps: list[dict[str, Any]]
    trace: str
    created: dt.datetime
    updated: dt.datetime
    payload_key: bytes | None
    retain_until: dt.datetime
    erased: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended without evidence.

    Attributes:
        state: ``failed`` or ``cancelled``.
        error: The error's members (`qcos.base.errors.QcosError.as_dict`); empty when cancelled.
        executed: What the driver said of the run, when there was a result that could not be sealed.
    """

    job: Job
    state: str
    error: dict[str, Any]
    executed: dict[str, Any] | None = None


def keepable(value: object) -> bool:
    """Tell whether a value from outside is JSON that the database takes: no NUL character, no number beyond 2^53."""
    try:
        return b"\\u0000" not in canonical(value)
    except (QcosError, ValueError, TypeError, RecursionError):
        return False
