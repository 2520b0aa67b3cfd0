"""Jobs: submit, look, follow, cancel (R2.*, R8.*)."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from qcos.administration.act import Act
from qcos.api.answers import (
    amount,
    answer,
    decision_json,
    decode_cursor,
    instant,
    job_json,
    limit_of,
    money,
    page,
)
from qcos.api.caller import act, app_of, credentials
from qcos.api.errors import problem
from qcos.base.clock import rfc3339
from qcos.base.errors import Denied, NotFound
from qcos.db.engine import scope
from qcos.jobs import store
from qcos.jobs.admit import Admitted, admit
from qcos.jobs.admit import Request as Submission
from qcos.jobs.cancel import cancel
from qcos.jobs.estimate import estimate_job
from qcos.jobs.lifecycle import TERMINAL
from qcos.jobs.model import Job
from qcos.jobs.spec import SCHEMA, read_spec
from qcos.metering.model import Price
from qcos.policy import store as policies
from qcos.telemetry import instruments, tracing

router = APIRouter(tags=["jobs"])
_log = logging.getLogger("qcos.api")
_LOOK_S = 0.1  # how often a followed job's row is read
_FOLLOW_S = 3_600  # a stream ends after an hour; the client resumes


@router.get("/schemas/job-spec.json", summary="The JSON Schema of the Job Spec")
async def schema() -> Response:
    """Return the published schema (JSON Schema 2020-12)."""
    return Response(json.dumps(SCHEMA, indent=2), media_type="application/schema+json")


@router.post("/jobs", status_code=201, summary="Submit a Job Spec")
async def submit(
    request: Request, idempotency_key: str | None = Header(default=None, max_length=255)
) -> Response:
    """Admit or deny a job; the answer carries the decision.

    201 with the new job; 200 with the existing one when the same request was admitted before; 403 with every reason when denied.
    """
    api = app_of(request)
    tenant, token_hash = credentials(request)
    body = await request.body()
    with tracing.span("job.admit") as span:
        submission = Submission(
            tenant, token_hash, body, idempotency_key, tracing.inject(), tracing.trace_id()
        )

        def run() -> Admitted:
            request.app.state.known_tokens.check(api, tenant, token_hash)
            return admit(api.admission, submission)

        with instruments.timed("admit"):
            admitted = await run_in_threadpool(run)
        span.set_attribute("qcos.job", admitted.job.id)
        span.set_attribute("qcos.allow", admitted.decision.allow)
        if not admitted.replayed:
            codes = sorted({reason.code for reason in admitted.decision.reasons})
            _log.info(
                "job %s",
                admitted.job.state,
                extra={"job": admitted.job.id, "project": admitted.job.project, "codes": codes},
            )
    if not admitted.decision.allow:
        if not admitted.replayed:
            instruments.outcome("denied", "")
        return _denied(admitted)
    status = 200 if admitted.replayed else 201
    return answer(
        job_json(admitted.job, admitted.decision), status, {"Location": f"/v1/jobs/{admitted.job.id}"}
    )


def _denied(admitted: Admitted) -> Response:
    decision = admitted.decision
    reasons = decision.reasons
    return problem(
        Denied(
            reasons[0].code if reasons else "policy.denied",
            "; ".join(dict.fromkeys(reason.message for reason in reasons)) or "policy denies the job",
            subject=admitted.job.id,
            hint="; ".join(dict.fromkeys(reason.hint for reason in reasons if reason.hint)),
            details={"job_id": admitted.job.id, "decision": decision_json(decision)},
        )
    )


@router.post("/jobs/validate", summary="Check a Job Spec without submitting it")
async def validate(request: Request) -> Response:
    """Check shape and circuits; nothing is recorded."""
    body = await request.body()
    await act(request, lambda caller: caller.permit("estimate.create"))
    reader = app_of(request).admission.circuits

    def run() -> dict[str, Any]:
        spec = read_spec(body)
        return {
            "valid": True,
            "spec_digest": spec.digest,
            "circuits": [reader.read(c.source, c.format).as_dict() for c in spec.circuits],
        }

    return answer(await run_in_threadpool(run))


@router.post("/estimates", summary="What a job would cost, on each backend")
async def estimate(request: Request) -> Response:
    """Price a Job Spec on every backend that could run it, and say what policy would decide now; nothing is reserved or recorded."""
    body = await request.body()
    await act(request, lambda caller: caller.permit("estimate.create"))
    admission = app_of(request).admission
    spec = read_spec(body)
    facts = await run_in_threadpool(
        lambda: tuple(admission.circuits.read(c.source, c.format) for c in spec.circuits)
    )
    found = await act(
        request, lambda caller: estimate_job(admission, caller.connection, caller.principal, spec, facts)
    )
    for candidate in found["candidates"]:
        price: Price = candidate["price"]
        candidate["price"] = {
            "amount": amount(price.amount),
            "micro": price.amount,
            **{k: v for k, v in price.as_dict().items() if k != "amount"},
        }
    return answer(found)


@router.get("/jobs", summary="List jobs, newest first")
async def list_jobs(
    request: Request,
    state: str | None = None,
    project: str | None = None,
    actor: str | None = None,
    after: str | None = None,
    limit: int | None = Query(default=None),
) -> Response:
    """List jobs the caller may see: all of a project he has a role in, his own elsewhere."""
    size = limit_of(limit)
    cursor = decode_cursor(after, 2)
    before = (instant(cursor[0], "after"), cursor[1]) if cursor else None

    def run(caller: Act) -> dict[str, Any]:
        seen_actor = actor
        try:
            caller.permit("job.read", project=project or "")
        except Denied:
            caller.permit("job.read", project=project or "", own=True)
            seen_actor = caller.principal.id
        rows = store.list_page(
            caller.connection,
            caller.tenant,
            state=state,
            project=project,
            actor=seen_actor,
            before=before,
            limit=size + 1,
        )
        return page(rows, size, job_json, lambda job: (rfc3339(job.created), job.id))

    return answer(await act(request, run))


def readable(caller: Act, job_id: str, what: str = "job.read") -> Job:
    """Return a job that the caller may see (or do ``what`` to)."""
    job = store.get(caller.connection, caller.tenant, job_id)
    caller.permit(what, job.id, project=job.project, own=job.actor == caller.principal.id)
    return job


@router.get("/jobs/{job_id}", summary="Show a job")
async def show(request: Request, job_id: str) -> Response:
    """Return the job with its decision and steps."""

    def run(caller: Act) -> dict[str, Any]:
        job = readable(caller, job_id)
        return job_json(job, policies.get_decision(caller.connection, caller.tenant, job.decision))

    return answer(await act(request, run))


@router.get("/jobs/{job_id}/result", summary="The result of a job")
async def result(request: Request, job_id: str) -> Response:
    """Return the exact bytes whose SHA-256 is the evidence's ``output_hash``."""

    def run(caller: Act) -> bytes:
        job = readable(caller, job_id)
        found = store.get_results(caller.connection, caller.tenant, [job_id]).get(job_id)
        if found is None:
            raise NotFound(
                "result.none",
                f"the job has no result: it is {job.state}",
                subject=job_id,
                hint="wait until it is collected",
            )
        return found

    return Response(await act(request, run), media_type="application/json")


@router.get("/jobs/{job_id}/spec", summary="The Job Spec of a job")
async def spec(request: Request, job_id: str) -> Response:
    """Return the exact bytes whose SHA-256 is the evidence's ``input_hash``."""
    return Response(
        await act(request, lambda caller: readable(caller, job_id).spec), media_type="application/json"
    )


@router.get("/jobs/{job_id}/decision", summary="The decision on a job, with all that policy saw")
async def decision(request: Request, job_id: str) -> Response:
    """Return the decision with its whole input (R3.6)."""

    def run(caller: Act) -> dict[str, Any]:
        job = readable(caller, job_id, "decision.read")
        return decision_json(
            policies.get_decision(caller.connection, caller.tenant, job.decision), with_input=True
        )

    return answer(await act(request, run))


@router.post("/jobs/{job_id}/cancel", summary="Cancel a job")
async def cancel_job(request: Request, job_id: str) -> Response:
    """Cancel at once (200), or ask its worker to (202); 409 when it is too late."""

    def run(caller: Act) -> Job:
        return cancel(caller.connection, readable(caller, job_id, "job.cancel"), caller.principal.id)

    job = await act(request, run)
    return answer(job_json(job), 200 if job.state in TERMINAL else 202)


@router.get("/jobs/{job_id}/events", summary="Follow a job's steps (server-sent events)")
async def events(request: Request, job_id: str, last_event_id: str | None = Header(default=None)) -> Response:
    """Stream each step as it happens; ends with the event ``end`` when the job has ended. Resumes after ``Last-Event-ID``."""
    seen = int(last_event_id) if last_event_id and last_event_id.isdecimal() and len(last_event_id) < 6 else 0
    first = await act(request, lambda caller: readable(caller, job_id))
    return StreamingResponse(
        _steps(request, first, seen), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _steps(request: Request, job: Job, seen: int) -> AsyncIterator[str]:
    engine = app_of(request).engine

    def look() -> Job:
        with scope(engine, job.tenant) as connection:
            return store.get(connection, job.tenant, job.id)

    for turn in range(int(_FOLLOW_S / _LOOK_S)):
        for step in job.steps[seen:]:
            seen += 1
            yield f"event: step\nid: {seen}\ndata: {json.dumps(step)}\n\n"
        if job.state in TERMINAL:
            closing = {
                "job_id": job.id,
                "state": job.state,
                "bundle_id": job.bundle,
                "charge": money(job.charge, job.currency),
            }
            yield f"event: end\ndata: {json.dumps(closing)}\n\n"
            return
        if turn % 100 == 99:
            yield ": still here\n\n"
        await asyncio.sleep(_LOOK_S)
        if await request.is_disconnected():
            return
        job = await run_in_threadpool(look)


@router.get("/decisions/{decision_id}", summary="A decision with all that policy saw")
async def show_decision(request: Request, decision_id: str) -> Response:
    """Return a decision by its id (R3.6)."""

    def run(caller: Act) -> dict[str, Any]:
        found = policies.get_decision(caller.connection, caller.tenant, decision_id)
        project = str(found.input.get("job", {}).get("project", ""))
        caller.permit(
            "decision.read",
            decision_id,
            project=project,
            own=found.input.get("principal", {}).get("id") == caller.principal.id,
        )
        return decision_json(found, with_input=True)

    return answer(await act(request, run))
