"""Backends: what there is, whether it is there now, how long its queue is (R12.3)."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from qcos.api.answers import answer
from qcos.api.caller import act, app_of
from qcos.backends.model import BackendStatus
from qcos.base.clock import rfc3339

router = APIRouter(tags=["backends"])


@router.get("/backends", summary="List backends")
async def list_backends(request: Request) -> Response:
    """List all backends with availability, queue depth and history."""
    await act(request, lambda caller: caller.permit("backend.read"))
    statuses = await run_in_threadpool(app_of(request).admission.catalogue.statuses)
    items: list[dict[str, Any]] = [_status(status) for status in statuses]
    return answer({"items": items, "next": None})


def _status(status: BackendStatus) -> dict[str, Any]:
    """Return a backend as callers see it. The history counts the jobs of all tenants: told exactly, it would show each of them."""
    return {
        **status.backend.as_dict(),
        "online": status.online,
        "queue_depth": status.queue_depth,
        "seen_at": rfc3339(status.seen_at) if status.seen_at else None,
        "mean_seconds": float(f"{status.mean_seconds:.0e}"),
        "success_rate": round(status.success_rate, 2),
        "jobs": _order(status.jobs),
    }


def _order(count: int) -> str:
    """Return the order of magnitude of a count: ``<10``, ``10+``, ``100+``."""
    return f"1{'0' * (len(str(count)) - 1)}+" if count >= 10 else "<10"
