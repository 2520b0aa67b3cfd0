"""Jobs: submit, look, follow, cancel (R2.*, R8.*)."""

from __future__ import annotations

import json
import logging
from typing import Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response
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
    page,
    summary_json,
)
from qcos.api.caller import act, app_of, credentials
from qcos.api.errors import problem
from qcos.api.follow import Followed
from qcos.api.reach import opened, reach, readable, refusal, see
from qcos.base.clock import rfc3339
from qcos.base.errors import Denied, Invalid, NotFound
from qcos.jobs import store
from qcos.jobs.admit import Admitted, admit
from qcos.jobs.admit import Request as Submission
from qcos.jobs.cancel import cancel
from qcos.jobs.conceal import RESULT, SPEC, gone
from qcos.jobs.estimate import estimate_job
from qcos.jobs.lifecycle import STATES, TERMINAL
from qcos.jobs.model import Job
from qcos.jobs.spec import SCHEMA, JobSpec, read_spec
from qcos.metering.model import Price
from qcos.policy import store as policies
from qcos.telemetry import instruments, tracing

router = APIRouter(tags=["jobs"])
_log = logging.getLogger("qcos.api")


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
    spec = await _estimable(request)
    reader = app_of(request).admission.circuits
    programs = [(circuit.source, circuit.format) for circuit in spec.circuits]
    tenant, _ = credentials(request)

    def run() -> dict[str, Any]:
        return {
            "valid": True,
            "spec_digest": spec.digest,
            "circuits": [facts.as_dict() for facts in reader.read_job(programs, tenant)],
        }

    return answer(await run_in_threadpool(run))


@router.post("/estimates", summary="What a job would cost, on each backend")
async def estimate(request: Request) -> Response:
    """Price a Job Spec on every backend that could run it, and say what policy would decide now; nothing is reserved or recorded."""
    spec = await _estimable(request)
    admission = app_of(request).admission
    tenant, _ = credentials(request)
    facts = await run_in_threadpool(
        lambda: admission.circuits.read_job([(c.source, c.format) for c in spec.circuits], tenant)
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


async def _estimable(request: Request) -> JobSpec:
    """Return the Job Spec in the body, for somebody who may have estimates in its project; only for who is known is it read at all."""
    tenant, token_hash = credentials(request)
    body = await request.body()

    def read() -> JobSpec:
        request.app.state.known_tokens.check(app_of(request), tenant, token_hash)
        return read_spec(body)

    spec = await run_in_threadpool(read)
    await act(request, lambda caller: caller.permit("estimate.create", project=spec.project))
    return spec


@router.get("/jobs", summary="List jobs, newest first")
async def list_jobs(
    request: Request,
    state: str | None = None,
    project: str | None = None,
    actor: str | None = None,
    after: str | None = None,
    limit: int | None = Query(default=None),
) -> Response:
    """List jobs the caller may see: all of the projects where he may read jobs, his own elsewhere."""
    size = limit_of(limit)
    cursor = decode_cursor(after, 2)
    created = instant(cursor[0], "after") if cursor else None
    before = (created, cursor[1]) if cursor and created else None
    if state is not None and state not in STATES:
        raise Invalid("job.state", "there is no such state", expected=", ".join(STATES), got=state[:40])

    def run(caller: Act) -> dict[str, Any]:
        rows = store.list_page(
            caller.connection,
            caller.tenant,
            state=state,
            project=project,
            actor=actor,
            before=before,
            limit=size + 1,
            seen=_seen(caller, project),
        )
        return page(rows, size, summary_json, lambda job: (rfc3339(job.created), job.id))

    return answer(await act(request, run))


def _seen(caller: Act, project: str | None) -> store.Seen | None:
    """Return which jobs, of a project or of all, the caller may see; None for each of them."""
    me = caller.principal.id
    if project:
        denied = refusal(caller, "job.read", project=project)
        if denied is None:
            return None
        projects: tuple[str, ...] = ()
    else:
        try:
            found = reach(caller, "job.read")
        except Denied as error:
            denied, projects = error, ()
        else:
            if found is None:
                return None
            denied, projects = None, found
    own = refusal(caller, "job.read", project=project or "", own=True)
    if own is not None and not projects:
        raise denied or own
    return store.Seen(projects, me if own is None else None)


@router.get("/jobs/{job_id}", summary="Show a job")
async def show(request: Request, job_id: str) -> Response:
    """Return the job with its decision and steps."""

    def run(caller: Act) -> dict[str, Any]:
        readable(caller, job_id)
        job = store.get(caller.connection, caller.tenant, job_id)
        return job_json(job, policies.get_decision(caller.connection, caller.tenant, job.decision))

    return answer(await see(request, run))


@router.get("/jobs/{job_id}/result", summary="The result of a job")
async def result(request: Request, job_id: str) -> Response:
    """Return the exact bytes whose SHA-256 is the evidence's ``output_hash``."""

    def run(caller: Act) -> tuple[store.Look, bytes]:
        job = readable(caller, job_id)
        if job.erased is not None:
            raise gone(job_id, job.erased)
        found = store.get_results(caller.connection, caller.tenant, [job_id]).get(job_id)
        if found is None:
            raise NotFound(
                "result.none",
                f"the job has no result: it is {job.state}",
                subject=job_id,
                hint="wait until it is collected",
            )
        return job, found

    job, kept = await see(request, run)
    return Response(await opened(request, job, RESULT, kept), media_type="application/json")


@router.get("/jobs/{job_id}/spec", summary="The Job Spec of a job")
async def spec(request: Request, job_id: str) -> Response:
    """Return the exact bytes whose SHA-256 is the evidence's ``input_hash``."""

    def run(caller: Act) -> tuple[store.Look, bytes]:
        job = readable(caller, job_id)
        if job.erased is not None:
            raise gone(job_id, job.erased)
        return job, store.get(caller.connection, caller.tenant, job_id).spec

    job, kept = await see(request, run)
    return Response(await opened(request, job, SPEC, kept), media_type="application/json")


@router.get("/jobs/{job_id}/decision", summary="The decision on a job, with all that policy saw")
async def decision(request: Request, job_id: str) -> Response:
    """Return the decision with its whole input (R3.6)."""

    def run(caller: Act) -> dict[str, Any]:
        job = readable(caller, job_id, "decision.read")
        return decision_json(
            policies.get_decision(caller.connection, caller.tenant, job.decision), with_input=True
        )

    return answer(await see(request, run))


@router.post("/jobs/{job_id}/cancel", summary="Cancel a job")
async def cancel_job(request: Request, job_id: str) -> Response:
    """Cancel at once (200), or ask its worker to (202); 409 when it is too late."""

    def run(caller: Act) -> Job:
        job = store.get(caller.connection, caller.tenant, job_id)
        caller.permit("job.cancel", job_id, project=job.project, own=job.actor == caller.principal.id)
        return cancel(caller.connection, job, caller.principal.id)

    job = await act(request, run)
    return answer(job_json(job), 200 if job.state in TERMINAL else 202)


@router.get("/jobs/{job_id}/events", summary="Follow a job's steps (server-sent events)")
async def events(request: Request, job_id: str, last_event_id: str | None = Header(default=None)) -> Response:
    """Stream each step as it happens; ends with the event ``end`` when the job has ended, or ``error`` (a problem) when its caller may no
    longer see it. Resumes after ``Last-Event-ID``.
    """
    seen = int(last_event_id) if last_event_id and last_event_id.isdecimal() and len(last_event_id) < 6 else 0
    principal, look = await see(request, lambda caller: (caller.principal, readable(caller, job_id)))
    return Followed(request, principal.tenant, principal.id, look, seen)


@router.get("/decisions/{decision_id}", summary="A decision with all that policy saw")
async def show_decision(request: Request, decision_id: str) -> Response:
    """Return a decision by its id (R3.6)."""

    def run(caller: Act) -> dict[str, Any]:
        found = policies.get_decision(caller.connection, caller.tenant, decision_id)
        project = str(found.input.get("job", {}).get("project", ""))
        own = found.input.get("principal", {}).get("id") == caller.principal.id
        denied = refusal(caller, "decision.read", decision_id, project=project, own=own)
        if (
            denied is not None
            and refusal(caller, "job.read", found.subject, project=project, own=own) is None
        ):
            raise denied
        if denied is not None:
            raise denied from NotFound("decision.unknown", "there is no such decision", subject=decision_id)
        return decision_json(found, with_input=True)

    return answer(await see(request, run))
