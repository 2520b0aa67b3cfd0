"""The installation's signing keys: list, rotate, revoke, certify (R10.5)."""

from __future__ import annotations

import datetime as dt
import functools
import time
from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from qcos.administration import key_changes as changes
from qcos.administration import keys as acts
from qcos.administration.act import Act
from qcos.administration.trust import Prepared, prepare
from qcos.api.answers import answer
from qcos.api.caller import act, app_of
from qcos.app import Api
from qcos.base.clock import now
from qcos.base.errors import Conflict
from qcos.base.limits import (
    KEY_EFFECT_S,
    KEY_LEASE_S,
    KEY_ORPHAN_S,
    KEY_OVERLAP_MAX_S,
    KEY_OVERLAP_S,
    MAX_CHAIN_BYTES,
)
from qcos.keys.make import make_keys
from qcos.keys.model import KeyEntry
from qcos.keys.open import FileStore
from qcos.keys.request import request as certificate_request

router = APIRouter(tags=["keys"])
Answer = TypeVar("Answer")
Decided = TypeVar("Decided", changes.Rotation, changes.Revocation, changes.Certification)
_TRIES = 6  # each time somebody else's act of keys was faster
_PROMPT_S = (
    KEY_EFFECT_S - KEY_LEASE_S - 1.0
)  # so long a change may be decided before it is kept; processes notice it after that


class Rotation(BaseModel):
    """Which keys of a role are replaced, and for how long what the old ones signed still counts."""

    model_config = ConfigDict(extra="forbid")
    algorithm: str | None = Field(
        default=None, max_length=40, description="Only this one; all of the role by default."
    )
    store: str | None = Field(
        default=None, max_length=40, description="Where the new key is made; where the old one is by default."
    )
    overlap_s: int = Field(
        default=KEY_OVERLAP_S, ge=KEY_EFFECT_S, le=KEY_OVERLAP_MAX_S, description="Seconds."
    )
    reason: str = Field(default="", max_length=2000, description="Why; kept in the ledger.")


class Revocation(BaseModel):
    """Why a key is not to be trusted any more, and since when."""

    model_config = ConfigDict(extra="forbid")
    reason: str = Field(
        min_length=1, max_length=500, description="Why; everybody who verifies evidence reads it."
    )
    since: AwareDatetime | None = Field(
        default=None, description="Since when it was in other hands; from now on by default."
    )
    store: str | None = Field(default=None, max_length=40, description="Where its successor is made.")


class Asked(BaseModel):
    """What a certificate is asked for."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(
        default="", max_length=64, description="Common name; one that says the role by default."
    )


class Chain(BaseModel):
    """Certificates, PEM: the key's, its issuer's, and so on to the root."""

    model_config = ConfigDict(extra="forbid")
    chain: str = Field(min_length=1, max_length=MAX_CHAIN_BYTES)


@router.get("/keys", summary="List the signing keys")
async def list_keys(request: Request) -> Response:
    """List every key there was, its role and when it counts; private halves are never told."""
    listed = await act(request, acts.list_keys)
    return answer({"items": _told(listed), "next": None, "complete": True})


@router.post("/keys/{role}/rotate", status_code=201, summary="Rotate the keys of a role")
async def rotate(request: Request, role: str, body: Rotation | None = None) -> Response:
    """Make new keys and sign with them from now on; what the old ones signed counts for the overlap."""
    asked = body or Rotation()
    plan = await act(request, lambda caller: acts.plan_rotation(caller, role, asked.algorithm))
    made = await run_in_threadpool(_make, app_of(request), plan, asked.store)

    def decide(at: dt.datetime) -> changes.Rotation:
        return changes.decide_rotation(plan, made, asked.overlap_s, at)

    await _succeed(
        request, decide, lambda caller, change, next_: acts.rotate(caller, change, next_, asked.reason)
    )
    return answer({"made": _told(made), "retired": list(plan.replaced)}, 201)


@router.post("/keys/{key_id}/revoke", summary="Revoke a key")
async def revoke(request: Request, key_id: str, body: Revocation) -> Response:
    """Let what a key signs not count any more, and put a successor in force if it was in force."""
    plan = await act(request, lambda caller: acts.plan_revocation(caller, key_id))
    made = await run_in_threadpool(_make, app_of(request), plan, body.store)
    since = body.since.astimezone(dt.UTC) if body.since is not None else None

    def decide(at: dt.datetime) -> changes.Revocation:
        return changes.decide_revocation(key_id, plan, made, body.reason, at, since)

    done = await _succeed(request, decide, acts.revoke)
    return answer({"revoked": [entry.key_id for entry in done], "made": _told(made)})


@router.post("/keys/{role}/request", summary="Ask for certificates of the keys of a role")
async def request_certificates(request: Request, role: str, body: Asked | None = None) -> Response:
    """Return a certificate request (PKCS#10) for each key in force, to be given to a CA."""
    api, name = app_of(request), (body or Asked()).name
    entries = await act(request, lambda caller: acts.request_of(caller, role))
    named = name or (api.settings.origin[:64] if role == "ledger" else f"QCOS {role}")

    def sign() -> list[dict[str, str]]:
        return [
            {
                "key_id": entry.key_id,
                "algorithm": entry.algorithm,
                "request": certificate_request(api.keys.stores.open(entry), entry.role, named),
            }
            for entry in entries
        ]

    return answer({"items": await run_in_threadpool(sign)})


@router.post("/keys/certificates", status_code=201, summary="Keep the certificates of a key")
async def certify(request: Request, body: Chain) -> Response:
    """Keep a chain that a CA issued for one of the keys; the trust document carries it from then on."""
    change = await act(request, lambda caller: acts.plan_certification(caller, body.chain))
    entry = await _succeed(request, lambda at: change, acts.certify)
    return answer(acts.told(entry, now()), 201)


async def _succeed(
    request: Request,
    decide: Callable[[dt.datetime], Decided],
    do: Callable[[Act, Decided, Prepared], Answer],
) -> Answer:
    """Decide a change, sign the trust document that tells of it, and do it; anew when somebody else changed the document meanwhile.

    Signing is between the scopes: keys may lie behind a network.
    """
    issuer, ahead_s, left = app_of(request).issuer, 0.0, _TRIES
    while True:
        began, left = time.monotonic(), left - 1
        at = now()
        change = decide(at + dt.timedelta(seconds=ahead_s))
        prepared = await run_in_threadpool(prepare, issuer, change, at)
        took_s = time.monotonic() - began
        if (
            took_s > ahead_s + _PROMPT_S and left
        ):  # a slow key store: a revocation must still lie ahead when it is kept
            ahead_s = 2 * took_s
            continue
        try:
            return await act(request, functools.partial(_do, do, change, prepared))
        except Conflict as error:
            if error.code != "trust.overtaken" or not left:
                raise
            ahead_s = max(ahead_s, 2 * (time.monotonic() - began))


def _do(
    do: Callable[[Act, Decided, Prepared], Answer], change: Decided, prepared: Prepared, caller: Act
) -> Answer:
    return do(caller, change, prepared)


def _make(api: Api, plan: changes.Plan, store: str | None) -> list[KeyEntry]:
    """Make a plan's private halves; those that a killed process left unregistered long ago are swept away first."""
    if plan.role is None:
        return []
    files = api.keys.stores.store("file")
    if isinstance(files, FileStore):
        known = [entry.locator for entry in plan.entries if entry.store == "file"]
        files.sweep(known, time.time() - KEY_ORPHAN_S)
    return make_keys(api.keys.stores, plan.entries, plan.role, plan.algorithms, now(), store)


def _told(entries: list[KeyEntry]) -> list[dict[str, Any]]:  # Any: JSON
    at = now()
    return [acts.told(entry, at) for entry in entries]
