"""Policies: list, show, test, upload, activate (R3.1)."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from qcos.administration import policies as acts
from qcos.administration.act import Act
from qcos.api.answers import answer, decode_cursor, instant, limit_of, page
from qcos.api.caller import act
from qcos.base.clock import rfc3339
from qcos.base.limits import PAGE_MAX
from qcos.policy import store

router = APIRouter(tags=["policy"])


class Bundle(BaseModel):
    """A policy bundle: Rego files by path."""

    model_config = ConfigDict(extra="forbid")
    files: dict[str, str] = Field(min_length=1, max_length=200)
    note: str = Field(default="", max_length=2000, description="Why; kept in the ledger.")


class Activation(BaseModel):
    """Why a bundle is activated."""

    model_config = ConfigDict(extra="forbid")
    note: str = Field(default="", max_length=2000)


@router.get("/policies", summary="List policy bundles")
async def list_policies(request: Request, after: str | None = None, limit: int | None = None) -> Response:
    """List kept versions, the latest first; ``active`` names the one in force, on whatever page it stands."""
    size = limit_of(PAGE_MAX if limit is None else limit)
    cursor = decode_cursor(after, 2)
    uploaded = instant(cursor[0], "after") if cursor else None
    before = (uploaded, cursor[1]) if cursor and uploaded else None

    def run(caller: Act) -> dict[str, Any]:
        caller.permit("policy.read")
        activation = store.active(caller.connection, caller.tenant)
        active = activation.version if activation else None
        rows = store.list_bundles(caller.connection, caller.tenant, after=before, limit=size + 1)

        def shown(upload: store.Upload) -> dict[str, Any]:
            return {
                "version": upload.version,
                "active": upload.version == active,
                "note": upload.note,
                "uploaded_by": upload.uploaded_by,
                "uploaded_at": rfc3339(upload.uploaded_at),
            }

        listed = page(rows, size, shown, lambda upload: (rfc3339(upload.uploaded_at), upload.version))
        return {"active": active, **listed}

    return answer(await act(request, run))


@router.get("/policies/{version}", summary="Show a policy bundle")
async def show(request: Request, version: str) -> Response:
    """Return a version's files; ``active`` names the one in force."""

    def run(caller: Act) -> dict[str, Any]:
        caller.permit("policy.read")
        if version == "active":
            bundle = caller.authority.bundles.get(caller.connection, caller.tenant)
        else:
            bundle = store.get_bundle(caller.connection, caller.tenant, version)
        return {"version": bundle.version, "files": dict(bundle.files)}

    return answer(await act(request, run))


@router.post("/policies/test", summary="Test a bundle without keeping it")
async def test(request: Request, body: Bundle) -> Response:
    """Read the bundle and run its own tests, with coverage."""
    await act(request, lambda caller: caller.permit("policy.test"))
    _, report = await run_in_threadpool(acts.check, body.files)
    return answer(report.as_dict())


@router.post("/policies", status_code=201, summary="Upload a policy bundle")
async def upload(request: Request, body: Bundle) -> Response:
    """Keep a bundle whose tests are green; it decides nothing before it is activated."""
    await act(request, lambda caller: caller.permit("policy.upload"))  # before its tests run
    bundle, report = await run_in_threadpool(acts.check, body.files)
    added = await act(request, lambda caller: acts.upload(caller, bundle, report, body.note))
    return answer(
        {"version": bundle.version, "added": added, "tests": report.as_dict()}, 201 if added else 200
    )


@router.post("/policies/{version}/activate", summary="Activate a policy bundle")
async def activate(request: Request, version: str, body: Activation | None = None) -> Response:
    """Make a kept version decide, from the next decision on."""
    await act(request, lambda caller: acts.activate(caller, version, body.note if body else ""))
    return answer({"version": version, "active": True})
