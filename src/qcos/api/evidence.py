"""Evidence bundles and the trust root (R4.*)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from qcos.administration.act import Act
from qcos.api.answers import answer
from qcos.api.caller import app_of
from qcos.api.reach import readable, see
from qcos.base.errors import Conflict
from qcos.evidence import store
from qcos.evidence.bundle import attach, decision_record_of
from qcos.jobs import materials
from qcos.jobs.lifecycle import TERMINAL
from qcos.keys.trust import trust_document
from qcos.ledger import prove
from qcos.ledger.sign import LedgerSigners

router = APIRouter(tags=["evidence"])
_LOOK_S = 0.1


@router.get("/trust", summary="The trust root: what a verifier pins")
async def trust(request: Request) -> Response:
    """Return public keys and certificates; get it once over a channel you trust, then verify offline for ever."""
    api = app_of(request)
    return Response(json.dumps(trust_of(api), indent=2), media_type="application/json")


def trust_of(api: Any) -> dict[str, Any]:  # Any: qcos.app.Api, JSON
    """Return the trust document of this installation."""
    ed25519, mldsa44, mldsa65 = api.keyring.ledger
    signers = LedgerSigners(ed25519=ed25519, mldsa44=mldsa44, mldsa65=mldsa65, name=api.settings.origin)
    return trust_document(api.keyring, api.settings.origin, signers.vkeys)


@router.get("/jobs/{job_id}/evidence", summary="The evidence bundle of a job")
async def evidence(request: Request, job_id: str, wait: float = Query(default=0.0, ge=0, le=60)) -> Response:
    """Return the bundle, with its ledger proof once a checkpoint covers it; ``wait`` seconds for both."""

    log = app_of(request).log

    def run(caller: Act) -> tuple[bytes | None, bool]:
        stored = _stored(caller, job_id)
        if stored is None:
            return None, False
        decision = decision_record_of(stored.document)
        records = [stored.record_id, decision] if decision else [stored.record_id]
        found = prove.proofs_of(caller.connection, caller.tenant, records, log)
        proofs = [found[name].as_dict() if name in found else None for name in records]
        return json.dumps(attach(stored.document, *proofs)).encode(), None not in proofs

    for turn in range(int(wait / _LOOK_S) + 1):
        if turn:
            await asyncio.sleep(_LOOK_S)
        document, proved = await see(request, run)
        if document is not None and (proved or turn >= int(wait / _LOOK_S)):
            return Response(document, media_type="application/json")
    raise _pending(job_id)


@router.get("/jobs/{job_id}/evidence/materials", summary="The documents that a job's evidence commits to")
async def listing(request: Request, job_id: str) -> Response:
    """Return name, digest and type of each, and whether its bytes are kept."""

    def run(caller: Act) -> dict[str, Any]:
        stored = _stored(caller, job_id)
        if stored is None:
            raise _pending(job_id)
        return {"items": materials.listed(stored)}

    return answer(await see(request, run))


@router.get(
    "/jobs/{job_id}/evidence/materials/{name:path}", summary="A document that a job's evidence commits to"
)
async def material(request: Request, job_id: str, name: str) -> Response:
    """Return the exact bytes whose SHA-256 the evidence names; ``decision-input`` needs the right to read decisions, too."""

    def run(caller: Act) -> tuple[bytes, str]:
        stored = _stored(caller, job_id)
        if stored is None:
            raise _pending(job_id)
        if name == "decision-input":
            readable(caller, job_id, "decision.read")
        return materials.fetch(caller.connection, caller.tenant, stored, name)

    data, media_type = await see(request, run)
    return Response(data, media_type=media_type, headers={"X-Content-Type-Options": "nosniff"})


def _stored(caller: Act, job_id: str) -> store.StoredBundle | None:
    """Return the bundle of a job whose evidence the caller may read; None while it is not sealed."""
    job = readable(caller, job_id, "evidence.read")
    if job.bundle is not None:
        return store.get(caller.connection, caller.tenant, job.bundle)
    if job.state in TERMINAL:
        raise Conflict(
            "evidence.none",
            f"the job is {job.state}: only executed jobs have evidence",
            subject=job_id,
            expected="completed",
            got=job.state,
        )
    return None


def _pending(job_id: str) -> Conflict:
    return Conflict(
        "evidence.pending", "the job is not sealed yet", subject=job_id, hint="wait, or pass ?wait=10"
    )
