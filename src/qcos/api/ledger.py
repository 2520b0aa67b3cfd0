"""The audit ledger: checkpoint, tiles, records, proofs (R5.*). Checkpoint and tiles are public: they hold only hashes."""

from __future__ import annotations

import json
import re
from typing import Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, Response
from starlette.concurrency import run_in_threadpool

from qcos.administration.act import Act
from qcos.administration.recorded import SCHEMA
from qcos.api.answers import answer, instant, limit_of, no_cursor
from qcos.api.caller import act, app_of
from qcos.base.clock import rfc3339
from qcos.base.errors import NotFound, Unavailable
from qcos.db.engine import scope
from qcos.ledger import prove, store
from qcos.ledger.anchor import store as anchored
from qcos.ledger.publish import read_status

router = APIRouter(tags=["ledger"])
_RECORD_ID = re.compile(r"rec-[0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9a-f]{16}")  # the cursor of this listing


@router.get("/ledger/checkpoint", summary="The newest signed checkpoint")
async def checkpoint(request: Request) -> Response:
    """Return the C2SP signed note."""
    path = app_of(request).settings.ledger / "checkpoint"
    if not path.exists():
        raise Unavailable(
            "ledger.empty", "no checkpoint is published yet", hint="try again in a second", retry_after_s=1.0
        )
    return Response(
        await run_in_threadpool(path.read_bytes),
        media_type="text/plain; charset=utf-8",
        headers={"Cache-Control": "no-cache"},
    )


@router.get("/ledger/status", summary="How far the ledger is, and what its witnesses say")
async def status(request: Request) -> Response:
    """Return the size of the tree, of the published checkpoint, and what each witness answered last."""
    api = app_of(request)

    def run(caller: Act) -> dict[str, Any]:
        caller.permit("ledger.read")
        seen = store.glance(caller.connection)
        latest = store.latest_checkpoint(caller.connection)
        told = read_status(api.settings.ledger) if api.witnesses.witnesses else None
        return {
            "origin": api.settings.origin,
            "size": seen.head.size,
            "waiting": seen.waiting,
            "published": latest[0] if latest else None,
            "quorum": api.witnesses.describe(),
            "witnesses": told,
        }

    return answer(await act(request, run))


@router.get("/ledger/tile/{path:path}", summary="A tile or entry bundle (C2SP tlog-tiles)")
async def tile(request: Request, path: str) -> Response:
    """Return a static tile; it never changes."""
    root = (app_of(request).settings.ledger / "tile").resolve()
    try:
        file = (root / path).resolve()
        there = file.is_relative_to(root) and file.is_file()
    except (OSError, ValueError):  # a name too long, or with NUL
        there = False
    if not there:
        raise NotFound("ledger.tile", "there is no such tile", subject=path[:200])
    return FileResponse(
        file,
        media_type="application/octet-stream",
        headers={"Cache-Control": "public, max-age=31536000, immutable"},
    )


@router.get("/schemas/ledger-record.json", summary="The JSON Schema of the ledger's records")
async def schema() -> Response:
    """Return the published schema (JSON Schema 2020-12): every act with its details; `x-not-recorded` lists what is not recorded."""
    return Response(json.dumps(SCHEMA, indent=2), media_type="application/schema+json")


@router.get("/ledger/consistency", summary="Proof that one checkpoint continues another")
async def consistency(request: Request, old: int = Query(ge=0), new: int = Query(ge=0)) -> Response:
    """Return an RFC 6962 consistency proof between two published sizes."""
    api = app_of(request)

    def run() -> dict[str, Any]:
        with scope(api.engine, None) as connection:
            return prove.consistency(connection, old, new).as_dict()

    return answer(await run_in_threadpool(run))


@router.get("/ledger/anchors", summary="Checkpoints committed to public chains")
async def anchors(
    request: Request, before: int | None = Query(default=None, ge=0), limit: int | None = None
) -> Response:
    """List anchors, newest first, without their proofs."""
    api, size = app_of(request), limit_of(limit)

    def run() -> dict[str, Any]:
        with scope(api.engine, None) as connection:
            found = anchored.page(connection, before, size)
        items = [
            {
                "kind": one.kind,
                "size": one.size,
                "state": "confirmed" if one.proof is not None else "pending",
                "begun": rfc3339(one.begun_at),
                "block_time": rfc3339(one.block_at) if one.block_at else None,
            }
            for one in found
        ]
        return {"items": items, "next": str(found[-1].size) if len(found) == size else None}

    return answer(await run_in_threadpool(run))


@router.get("/ledger/anchors/{kind}/{size}", summary="The receipt of an anchor")
async def anchor(request: Request, kind: str, size: int) -> Response:
    """Return the receipt, which verifies offline; its proof is null until the chain has confirmed it."""
    api = app_of(request)

    def run() -> dict[str, Any]:
        with scope(api.engine, None) as connection:
            found = anchored.get(connection, kind, size) if 0 <= size < 2**63 else None
        if found is None:
            raise NotFound("anchor.unknown", "there is no such anchor", subject=f"{kind[:40]}/{size}")
        return found.receipt()

    return answer(await run_in_threadpool(run))


@router.get("/ledger/records", summary="Search the ledger's records")
async def records(
    request: Request,
    actor: str | None = None,
    object: str | None = None,
    act_: str | None = Query(default=None, alias="act"),
    since: str | None = None,
    until: str | None = None,
    after: str | None = None,
    limit: int | None = None,
) -> Response:
    """List records of the tenant's acts, newest first."""
    size = limit_of(limit)
    start, end = instant(since, "since"), instant(until, "until")
    if after is not None and not _RECORD_ID.fullmatch(after):
        raise no_cursor(after)

    def run(caller: Act) -> dict[str, Any]:
        caller.permit("ledger.read")
        found = store.search(
            caller.connection,
            caller.tenant,
            actor=actor,
            object=object,
            act=act_,
            since=start,
            until=end,
            after=after,
            limit=size,
        )
        items = [{**placed.record, "index": placed.index} for placed in found.items]
        return {"items": items, "next": found.next}

    return answer(await act(request, run))


@router.get("/ledger/records/{record_id}", summary="A record of the ledger")
async def record(request: Request, record_id: str) -> Response:
    """Return one record, with the index of its entry once it is sequenced."""

    def run(caller: Act) -> dict[str, Any]:
        caller.permit("ledger.read")
        found = _placed(caller, record_id)
        return {**found.record, "index": found.index}

    return answer(await act(request, run))


@router.get("/ledger/proofs/{record_id}", summary="A record with its inclusion proof")
async def proof(request: Request, record_id: str) -> Response:
    """Return the offline proof that a record is in the ledger; 503 until a checkpoint covers it (at most about a second)."""

    log = app_of(request).log

    def run(caller: Act) -> dict[str, Any] | None:
        caller.permit("ledger.read")
        found = prove.proof_of(caller.connection, caller.tenant, record_id, log)
        if found is None:
            _placed(caller, record_id)  # one that does not exist is not waited for
        return found.as_dict() if found else None

    found = await act(request, run)
    if found is None:
        raise Unavailable(
            "ledger.pending",
            "no checkpoint covers the record yet",
            subject=record_id,
            hint="try again in a second",
            retry_after_s=1.0,
        )
    return answer(found)


def _placed(caller: Act, record_id: str) -> store.Placed:
    found = store.placed(caller.connection, caller.tenant, [record_id])
    if not found:
        raise NotFound("ledger.record", "there is no such record", subject=record_id)
    return found[0]
