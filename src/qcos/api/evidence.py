"""Evidence bundles and the trust root (R4.*)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from qcos.administration.act import Act
from qcos.api.caller import app_of
from qcos.api.reach import readable, see
from qcos.base.errors import Conflict
from qcos.evidence import store
from qcos.evidence.bundle import attach
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
        job = readable(caller, job_id, "evidence.read")
        if job.bundle is None:
            if job.state in TERMINAL:
                raise Conflict(
                    "evidence.none",
                    f"the job is {job.state}: only executed jobs have evidence",
                    subject=job_id,
                    expected="completed",
                    got=job.state,
                )
            return None, False
        stored = store.get(caller.connection, caller.tenant, job.bundle)
        found = prove.proof_of(caller.connection, caller.tenant, stored.record_id, log)
        return json.dumps(
            attach(stored.document, found.as_dict() if found else None)
        ).encode(), found is not None

    for turn in range(int(wait / _LOOK_S) + 1):
        if turn:
            await asyncio.sleep(_LOOK_S)
        document, proved = await see(request, run)
        if document is not None and (proved or turn >= int(wait / _LOOK_S)):
            return Response(document, media_type="application/json")
    raise Conflict(
        "evidence.pending", "the job is not sealed yet", subject=job_id, hint="wait, or pass ?wait=10"
    )
