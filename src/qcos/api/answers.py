"""How things look in answers: JSON of jobs, decisions, money; pages with cursors."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fastapi.responses import Response

from qcos.base.clock import parse_rfc3339, rfc3339
from qcos.base.errors import Invalid
from qcos.base.limits import PAGE_DEFAULT, PAGE_MAX
from qcos.jobs.model import Job
from qcos.jobs.store import Summary
from qcos.policy.model import Decision

Row = TypeVar("Row")


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:  # Any: JSON
    """Return JSON; made here once instead of being validated again by the framework."""
    return Response(json.dumps(value, separators=(",", ":")), status, headers, media_type="application/json")


def amount(micro: int) -> str:
    """Return micro-units as decimal text: ``12.500000``."""
    sign = "-" if micro < 0 else ""
    return f"{sign}{abs(micro) // 1_000_000}.{abs(micro) % 1_000_000:06d}"


def money(micro: int | None, currency: str | None) -> dict[str, Any] | None:
    """Return an amount as people and as programs read it."""
    return None if micro is None else {"amount": amount(micro), "currency": currency, "micro": micro}


def job_json(job: Job, decision: Decision | None = None) -> dict[str, Any]:
    """Return a job as the API shows it."""
    placement = job.placement
    return {
        "job_id": job.id,
        "state": job.state,
        "project": job.project,
        "team": job.team,
        "cost_center": job.cost_center,
        "actor": job.actor,
        "classification": job.context["classification"],
        "purpose": job.context["purpose"],
        "shots": job.shots,
        "backend": job.backend,
        "provider": job.provider,
        "spec_digest": job.spec_digest,
        "circuits": job.facts,
        "decision_id": job.decision,
        "decision": decision_json(decision) if decision else None,
        "placement": placement,
        "price": money(job.price, job.currency)
        if placement is None
        else money(job.price, job.currency) | {"lines": placement["price"]["lines"]},  # type: ignore[operator]
        "charge": money(job.charge, job.currency),
        "bundle_id": job.bundle,
        "cancel_requested": job.cancel_requested,
        "attempts": job.attempt,
        "outcome": job.outcome,
        "error": job.error,
        "steps": job.steps,
        "payload": {"state": "erased" if job.erased else "kept", "erased": job.erased},
        "created_at": rfc3339(job.created),
        "updated_at": rfc3339(job.updated),
    }


def summary_json(job: Summary) -> dict[str, Any]:
    """Return a job as a listing shows it: as `job_json`, without what grows with its circuits and with the backends."""
    return {
        "job_id": job.id,
        "state": job.state,
        "project": job.project,
        "team": job.team,
        "cost_center": job.cost_center,
        "actor": job.actor,
        "classification": job.classification,
        "purpose": job.purpose,
        "shots": job.shots,
        "backend": job.backend,
        "provider": job.provider,
        "spec_digest": job.spec_digest,
        "decision_id": job.decision,
        "price": money(job.price, job.currency),
        "charge": money(job.charge, job.currency),
        "bundle_id": job.bundle,
        "cancel_requested": job.cancel_requested,
        "attempts": job.attempt,
        "error": job.error,
        "steps": job.steps,
        "created_at": rfc3339(job.created),
        "updated_at": rfc3339(job.updated),
    }


def decision_json(decision: Decision, *, with_input: bool = False) -> dict[str, Any]:
    """Return a decision as the API shows it."""
    shown = {
        "decision_id": decision.id,
        "subject": decision.subject,
        "allow": decision.allow,
        "reasons": [reason.as_dict() for reason in decision.reasons],
        "excluded": [reason.as_dict() for reason in decision.excluded],
        "policies": list(decision.policies),
        "policy_version": decision.bundle_version,
        "input_digest": decision.input_digest,
        "time": rfc3339(decision.time),
        "duration_us": decision.duration_us,
    }
    return shown | {"input": decision.input} if with_input else shown


def limit_of(limit: int | None) -> int:
    """Return a page size within the limits."""
    if limit is None:
        return PAGE_DEFAULT
    if not 1 <= limit <= PAGE_MAX:
        raise Invalid("page.limit", "bad page size", expected=f"1 to {PAGE_MAX}", got=str(limit))
    return limit


def page(
    rows: Sequence[Row],
    limit: int,
    show: Callable[[Row], dict[str, Any]],
    cursor: Callable[[Row], Sequence[str]],
) -> dict[str, Any]:
    """Return a page of rows; ``rows`` holds one more than the limit when there are more."""
    more = len(rows) > limit
    shown = rows[:limit]
    return {"items": [show(row) for row in shown], "next": encode_cursor(cursor(shown[-1])) if more else None}


def encode_cursor(parts: Sequence[str]) -> str:
    """Return an opaque cursor."""
    return base64.urlsafe_b64encode(json.dumps(list(parts)).encode()).decode().rstrip("=")


def decode_cursor(text: str | None, length: int) -> list[str] | None:
    """Read `encode_cursor` back; raises Invalid ``page.cursor``."""
    if text is None:
        return None
    try:
        parts = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        parts = None
    if not (isinstance(parts, list) and len(parts) == length and all(isinstance(p, str) for p in parts)):
        raise no_cursor(text)
    return parts


def number(text: str) -> int:
    """Read a part of a cursor that is a row's number; raises Invalid ``page.cursor``."""
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise no_cursor(text)
    return int(text)


def no_cursor(text: str) -> Invalid:
    """Return the error for a text that no page's ``next`` said."""
    return Invalid(
        "page.cursor",
        "not a cursor of this listing",
        got=text[:80],
        hint="pass `next` of the page before, unchanged",
    )


def instant(text: str | None, name: str) -> dt.datetime | None:
    """Read an RFC 3339 query parameter."""
    if text is None:
        return None
    try:
        return parse_rfc3339(text)
    except ValueError:
        raise Invalid(
            "request.time",
            "not an instant",
            subject=name,
            expected="RFC 3339, as 2026-01-09T10:30:00Z",
            got=text[:40],
        ) from None
