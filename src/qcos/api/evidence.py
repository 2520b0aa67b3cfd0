"""Evidence bundles and the trust root (R4.*)."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from typing import Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from qcos.administration.act import Act
from qcos.administration.renewal import demand_right
from qcos.administration.renewal import renew as keep_renewal
from qcos.api.answers import answer, instant
from qcos.api.caller import act, app_of, credentials
from qcos.api.reach import opened, readable, see
from qcos.app import Api
from qcos.base.canonical import digest
from qcos.base.clock import now
from qcos.base.errors import Conflict
from qcos.base.limits import TRUST_PAGE
from qcos.db.engine import scope
from qcos.evidence import cose, store
from qcos.evidence.bundle import attach, decision_record_of, payload_of
from qcos.evidence.erased import erased_bundle
from qcos.evidence.store import StoredBundle
from qcos.jobs import materials
from qcos.jobs.conceal import BUNDLE, gone
from qcos.jobs.lifecycle import TERMINAL
from qcos.jobs.restamp import EVERYTHING
from qcos.jobs.store import Look
from qcos.keys.store import Published, documents
from qcos.ledger import prove
from qcos.published import trust_of
from qcos.timestamp.archive import ArchiveStamp
from qcos.timestamp.tree import unpack

router = APIRouter(tags=["evidence"])
_LOOK_S = 0.1


@router.get("/trust", summary="The trust root: what a verifier pins")
async def trust(request: Request) -> Response:
    """Return public keys and certificates; get it once over a channel you trust, then verify offline for ever."""
    api = app_of(request)
    document = await run_in_threadpool(trust_of, api.settings, api.engine)
    return Response(json.dumps(document, indent=2), media_type="application/json")


@router.get("/trust/updates", summary="The succession of trust documents")
async def updates(
    request: Request,
    after: int = Query(default=0, ge=0, le=2**53 - 1),
    limit: int = Query(default=TRUST_PAGE, ge=1, le=TRUST_PAGE),
) -> Response:
    """Return the signed steps to the documents after a version; whoever holds that one follows them offline, and trusts nobody."""
    api = app_of(request)

    def run() -> list[Published]:
        with scope(api.engine, None) as connection:
            return documents(connection, after, limit + 1)

    found = await run_in_threadpool(run)
    more = len(found) > limit
    items = [one.step for one in found[:limit]]
    return answer({"items": items, "next": found[limit - 1].version if more else None, "complete": not more})


@router.get("/jobs/{job_id}/evidence", summary="The evidence bundle of a job")
async def evidence(request: Request, job_id: str, wait: float = Query(default=0.0, ge=0, le=60)) -> Response:
    """Return the bundle, with its ledger proof once a checkpoint covers it; ``wait`` seconds for both.

    When its payload was erased: the erased bundle, which proves that it was sealed and erased.
    """
    turns = int(wait / _LOOK_S)
    for turn in range(turns + 1):
        if turn:
            await asyncio.sleep(_LOOK_S)
        job, stored = await see(request, lambda caller: _stored(caller, job_id))
        if stored is not None:
            return await _proved(request, job, stored, turns - turn)
    raise _pending(job_id)


async def _proved(request: Request, job: Look, stored: StoredBundle, turns: int) -> Response:
    """Return a bundle, or what was left of it, with the proofs that there are, waiting some turns for all of them."""
    if job.erased is not None:
        records = [stored.record_id, job.erased["record"]]
        proofs = await _proofs(request, records, turns)
        document = erased_bundle(stored.id, job.id, job.erased, *proofs)
    else:
        data = await _document(request, job, stored)
        decision = decision_record_of(data)
        records = [stored.record_id, decision] if decision else [stored.record_id]
        ledger, *more = await _proofs(request, records, turns)
        document = attach(data, ledger, more[0] if more else None, await _renewals(request, stored.id))
    return Response(json.dumps(document), media_type="application/json")


async def _renewals(request: Request, bundle_id: str) -> list[ArchiveStamp]:
    """Return the later time stamps of a bundle, oldest first."""
    api, (tenant, _) = app_of(request), credentials(request)

    def look() -> list[ArchiveStamp]:
        with scope(api.engine, tenant) as connection:
            found = store.renewals_of(connection, tenant, bundle_id)
        return [ArchiveStamp(token, unpack(tree)) for token, tree in found]

    return await run_in_threadpool(look)


class RenewalOrder(BaseModel):
    """Which time stamps are to be renewed."""

    model_config = ConfigDict(extra="forbid")
    before: str | None = Field(
        default=None,
        description="Those whose certificates expire until then (RFC 3339); by default as the duty.",
    )
    all: bool = Field(default=False, description="All of them, whenever they expire.")
    hash: Literal["sha3-512"] | None = Field(
        default=None,
        description="Also those that rest on an older hash: a new chain over the evidence and all its time stamps.",
    )
    after: str = Field(
        default="", max_length=200, description="`next` of the answer before; empty: from the first."
    )
    reason: str = Field(default="", max_length=2000, description="Why; kept in the ledger.")


@router.post("/evidence/renewals", summary="Renew the time stamps of evidence (RFC 4998)")
async def renew(request: Request, order: RenewalOrder) -> Response:
    """Stamp the newest time stamps of many bundles anew, by one token over a hash tree; ask again with ``after`` until ``next`` is null."""
    api, (tenant, _) = app_of(request), credentials(request)
    before = instant(order.before, "before") or now() + dt.timedelta(days=api.settings.tsa_renewal_days)
    await act(request, demand_right)
    until = EVERYTHING if order.all else before
    name = order.hash.replace("-", "_") if order.hash is not None else None
    plan = await run_in_threadpool(api.restamper.plan, tenant, until, after=order.after, hash_name=name)
    found: dict[str, Any] = {
        "late": len(plan.late),
        "broken": len(plan.broken),
        "next": None if plan.complete else plan.after,
    }
    if not plan.leaves:
        return answer({"renewal_id": None, "bundles": 0, "rehashed": 0, **found})
    stamped = await run_in_threadpool(api.restamper.stamp, plan)
    kept = await act(request, lambda caller: keep_renewal(caller, stamped, order.reason))
    return answer({**kept, **found}, 201)


async def _proofs(
    request: Request, records: list[str], turns: int
) -> list[dict[str, Any] | None]:  # Any: JSON
    """Return the ledger proofs of records in their order; None where no checkpoint covers one after so many turns."""
    api, (tenant, _) = app_of(request), credentials(request)

    def look() -> list[dict[str, Any] | None]:
        with scope(api.engine, tenant) as connection:
            found = prove.proofs_of(connection, tenant, records, api.log)
        return [found[name].as_dict() if name in found else None for name in records]

    proofs = await run_in_threadpool(look)
    for _ in range(turns):
        if None not in proofs:
            break
        await asyncio.sleep(_LOOK_S)
        proofs = await run_in_threadpool(look)
    return proofs


@router.get("/jobs/{job_id}/evidence/materials", summary="The documents that a job's evidence commits to")
async def listing(request: Request, job_id: str) -> Response:
    """Return name, digest and type of each, and whether its bytes are kept."""
    job, stored = await see(request, lambda caller: _kept(caller, job_id))
    return answer({"items": materials.listed(await _document(request, job, stored))})


@router.get(
    "/jobs/{job_id}/evidence/materials/{name:path}", summary="A document that a job's evidence commits to"
)
async def material(request: Request, job_id: str, name: str) -> Response:
    """Return the exact bytes whose SHA-256 the evidence names; ``decision-input`` needs the right to read decisions, too."""
    job, stored = await see(request, lambda caller: _kept(caller, job_id))
    document = await _document(request, job, stored)

    def run(caller: Act) -> materials.Found:
        if name == "decision-input":
            readable(caller, job_id, "decision.read")
        return materials.find(caller.connection, caller.tenant, job_id, document, name)

    found = await see(request, run)
    data = found.data
    if found.sealed_as is not None:
        data = await opened(request, job, found.sealed_as, data)
    return Response(
        found.checked(data), media_type=found.media_type, headers={"X-Content-Type-Options": "nosniff"}
    )


@router.post(
    "/jobs/{job_id}/evidence/cose", status_code=201, summary="The statement as a SCITT Signed Statement"
)
async def sign_cose(request: Request, job_id: str) -> Response:
    """Sign the evidence's statement as COSE_Sign1, too (RFC 9052, RFC 9943): recorded as ``evidence.signed``."""
    job, stored = await see(request, lambda caller: _kept(caller, job_id))
    payload = payload_of(await _document(request, job, stored))
    # Between the scopes: stamping may ask an authority elsewhere.
    data = await run_in_threadpool(signed_cose, app_of(request), payload, stored.id)

    def record(caller: Act) -> None:
        _kept(caller, job_id)
        caller.record(
            "evidence.signed",
            stored.id,
            project=job.project,
            job=job_id,
            format="cose",
            document=digest(data),
            statement=stored.statement_digest,
        )

    await see(request, record)
    return Response(data, 201, media_type=cose.MEDIA_TYPE)


def signed_cose(api: Api, payload: bytes, bundle_id: str) -> bytes:
    """Sign with the keys in force, anew when they were changed meanwhile: the authority may have taken its time."""
    while True:
        keyring = api.keys.current()
        signed = cose.signed_statement(
            payload,
            keyring.evidence[0],
            api.restamper.authority,
            issuer=api.settings.origin,
            subject=bundle_id,
            at=now(),
        )
        if api.keys.holds(keyring):
            return signed


def _stored(caller: Act, job_id: str) -> tuple[Look, StoredBundle | None]:
    """Return the bundle of a job whose evidence the caller may read; None while it is not sealed."""
    job = readable(caller, job_id, "evidence.read")
    if job.bundle is not None:
        return job, store.get(caller.connection, caller.tenant, job.bundle)
    if job.state in TERMINAL:
        raise Conflict(
            "evidence.none",
            f"the job is {job.state}: only executed jobs have evidence",
            subject=job_id,
            expected="completed",
            got=job.state,
        )
    return job, None


def _kept(caller: Act, job_id: str) -> tuple[Look, StoredBundle]:
    """Return the bundle of a job, when it is sealed and was not erased."""
    job, stored = _stored(caller, job_id)
    if stored is None:
        raise _pending(job_id)
    if job.erased is not None:
        raise gone(job_id, job.erased)
    return job, stored


async def _document(request: Request, job: Look, stored: StoredBundle) -> bytes:
    return await opened(request, job, BUNDLE, stored.document or b"")


def _pending(job_id: str) -> Conflict:
    return Conflict(
        "evidence.pending", "the job is not sealed yet", subject=job_id, hint="wait, or pass ?wait=10"
    )
