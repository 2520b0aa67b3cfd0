"""Backends: what there is, whether it is there now, how long its queue is (R12.3)."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from qcos.api.answers import answer
from qcos.api.caller import act, app_of

router = APIRouter(tags=["backends"])


@router.get("/backends", summary="List backends")
async def list_backends(request: Request) -> Response:
    """List all backends with availability, queue depth and history."""
    await act(request, lambda caller: caller.permit("backend.read"))
    statuses = await run_in_threadpool(app_of(request).admission.catalogue.statuses)
    items: list[dict[str, Any]] = [status.as_dict() for status in statuses]
    return answer({"items": items, "next": None})
