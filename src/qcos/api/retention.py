"""Legal holds, what is due to be erased, and erasing on request (R4.3)."""

from __future__ import annotations

import datetime as dt
from typing import Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from qcos.administration import retention
from qcos.administration.act import Act
from qcos.administration.retention import Standing
from qcos.api.answers import answer, decode_cursor, instant, limit_of, page
from qcos.api.caller import act
from qcos.api.reach import readable, see
from qcos.base.clock import now, rfc3339
from qcos.base.limits import MAX_HOLD_REASON, MAX_NAME
from qcos.retention import store
from qcos.retention.decide import GRACE
from qcos.retention.model import Due, Hold

router = APIRouter(tags=["retention"])
_REASON = Field(
    min_length=1, max_length=MAX_HOLD_REASON, description="Why; it stands in the ledger for ever."
)


class NewHold(BaseModel):
    """What is to be held."""

    model_config = ConfigDict(extra="forbid")
    kind: str = Field(description="job, project or tenant")
    subject: str = Field(
        default="", max_length=2 * MAX_NAME, description="Id of the job or project; empty for the tenant."
    )
    reason: str = _REASON


class Reason(BaseModel):
    """Why a hold is released."""

    model_config = ConfigDict(extra="forbid")
    reason: str = _REASON


class Erasing(BaseModel):
    """Why a payload is erased."""

    model_config = ConfigDict(extra="forbid")
    reason: str = _REASON
    dry_run: bool = Field(default=False, description="Ask policy and check everything, and erase nothing.")


class Today(BaseModel):
    """What day it is."""

    model_config = ConfigDict(extra="forbid")
    today: dt.date = Field(description="As you know it, not as the server's clock says.")


@router.post("/holds", status_code=201, summary="Place a legal hold")
async def place(request: Request, body: NewHold) -> Response:
    """Hold a job, a project or the whole tenant: nothing that it covers is erased until it is released."""
    hold = await act(
        request, lambda caller: retention.place_hold(caller, body.kind, body.subject, body.reason)
    )
    return answer(_hold(hold), 201)


@router.get("/holds", summary="List legal holds, newest first")
async def holds(
    request: Request,
    held: bool | None = Query(default=None, description="Only those that hold, or only those released."),
    after: str | None = None,
    limit: int | None = None,
) -> Response:
    """List the tenant's holds, released ones too."""
    size, cursor = limit_of(limit), decode_cursor(after, 2)
    placed = instant(cursor[0], "after") if cursor else None

    def run(caller: Act) -> dict[str, Any]:
        caller.permit("hold.read")
        start = (placed, cursor[1]) if cursor and placed else None
        rows = store.list_holds(caller.connection, caller.tenant, held=held, after=start, limit=size + 1)
        return page(rows, size, _hold, lambda hold: (rfc3339(hold.placed_at), hold.id))

    return answer(await act(request, run))


@router.post("/holds/{hold_id}/release", summary="Release a legal hold")
async def release(request: Request, hold_id: str, body: Reason) -> Response:
    """End a hold; what it covered is erased when its time comes, or has come."""
    return answer(
        _hold(await act(request, lambda caller: retention.release_hold(caller, hold_id, body.reason)))
    )


@router.get("/jobs/{job_id}/retention", summary="How long a job's payload is kept")
async def of_job(request: Request, job_id: str) -> Response:
    """Return until when the payload is kept, what holds it, and whether it was erased."""

    def run(caller: Act) -> dict[str, Any]:
        readable(caller, job_id)
        return _standing(retention.standing(caller, job_id))

    return answer(await see(request, run))


@router.post("/jobs/{job_id}/erase", summary="Erase a job's payload on request")
async def erase(request: Request, job_id: str, body: Erasing) -> Response:
    """Destroy the key of spec, result and evidence; before its time only as far as policy lets, never under a legal hold."""
    found = await act(
        request,
        lambda caller: retention.erase_on_request(caller, job_id, body.reason, dry_run=body.dry_run),
    )
    return answer(_standing(found) | {"dry_run": body.dry_run})


@router.get("/retention/due", summary="What is due to be erased")
async def due(request: Request, before: str | None = None, limit: int | None = None) -> Response:
    """List the payloads that will be erased by an instant (now), longest due first; what is held is not among them."""
    size, until = limit_of(limit), instant(before, "before") or now()
    rows = await act(request, lambda caller: retention.list_due(caller, until, size))
    return answer({"before": rfc3339(until), "items": [_due(row) for row in rows], "next": None})


@router.post("/retention/clock", summary="Say what day it is, after the clock was not believed")
async def clock(request: Request, body: Today) -> Response:
    """Let erasing go on after the clock jumped or the installation was off for long."""
    at = await act(request, lambda caller: retention.resume_erasing(caller, body.today))
    return answer({"clock": rfc3339(at)})


def _hold(hold: Hold) -> dict[str, Any]:
    return {
        "hold_id": hold.id,
        "kind": hold.kind,
        "subject": hold.subject,
        "reason": hold.reason,
        "placed_by": hold.placed_by,
        "placed_at": rfc3339(hold.placed_at),
        "released_by": hold.released_by,
        "released_at": rfc3339(hold.released_at) if hold.released_at else None,
        "release_reason": hold.release_reason,
    }


def _standing(found: Standing) -> dict[str, Any]:
    kept = found.kept
    return {
        "job_id": found.job,
        "state": "erased" if kept.erased else "held" if found.holds else "kept",
        "retention_days": kept.retention_days,
        "retain_until": rfc3339(kept.retain_until),
        "erased_after": rfc3339(kept.retain_until + GRACE),
        "holds": [_hold(hold) for hold in found.holds],
        "erased": kept.erased,
    }


def _due(row: Due) -> dict[str, Any]:
    return {
        "job_id": row.job,
        "bundle_id": row.bundle,
        "project": row.project,
        "retention_days": row.retention_days,
        "retain_until": rfc3339(row.retain_until),
        "erased_after": rfc3339(row.retain_until + GRACE),
    }
