"""What an admission or a denial leaves behind, as values: the job with its steps, and the records of both (R5.1). Pure; nothing is written
here.
"""

from __future__ import annotations

import datetime as dt
import secrets
from dataclasses import replace
from typing import Any
from uuid import UUID

from qcos.base.canonical import canonical, digest
from qcos.base.clock import now
from qcos.identity.model import Principal, Project
from qcos.jobs.authorize import Question
from qcos.jobs.lifecycle import DENIED, QUEUED
from qcos.jobs.model import Job, Step
from qcos.jobs.place import Candidate, where
from qcos.jobs.spec import JobSpec
from qcos.ledger.record import Appended, Record, change, prepare
from qcos.policy.model import Decision
from qcos.routing.model import Placement


def draft(
    tenant: UUID,
    question: Question,
    decision: Decision,
    *,
    key: str | None,
    book: str,
    trace: tuple[str, str],
    payload_key: bytes,
) -> Job:
    """Return the job as it is before a backend is chosen.

    Args:
        tenant: Whose job.
        question: What was decided.
        decision: The answer.
        key: The idempotency key.
        book: The price book in force.
        trace: W3C traceparent, kept for the worker; and the trace's id, shown to people.
        payload_key: The wrapped key of its payloads.
    """
    spec, principal, project, at = question.spec, question.principal, question.project, question.at
    return Job(
        tenant=tenant,
        id=question.job_id,
        state=QUEUED if decision.allow else DENIED,
        project=project.id,
        actor=principal.id,
        team=project.team,
        cost_center=spec.cost_center or project.cost_center,
        spec=spec.canonical,
        spec_digest=spec.digest,
        facts=[f.as_dict() for f in question.facts],
        context=_context(principal, project, spec) | {"decision": _decided(decision)},
        shots=spec.total_shots,
        seed=spec.seed if spec.seed is not None else secrets.randbelow(2**31),
        backend=None,
        provider=None,
        driver=None,
        decision=decision.id,
        placement=None,
        price=None,
        currency=None,
        price_book=book,
        idempotency_key=key,
        attempt=0,
        cancel_requested=False,
        handle=None,
        outcome=None,
        charge=None,
        bundle=None,
        error=None,
        steps=[step.as_dict() for step in _steps(question, decision, trace[1])],
        trace=trace[0],
        created=at,
        updated=at,
        payload_key=payload_key,
        retain_until=at + dt.timedelta(days=spec.retention_days),
        erased=None,
    )


def _steps(question: Question, decision: Decision, trace_id: str) -> tuple[Step, ...]:
    spec, principal, project, at = question.spec, question.principal, question.project, question.at
    return (
        Step(
            "authenticated",
            at,
            {
                "actor": principal.id,
                "roles": list(principal.roles_for(project.id)),
                "token": principal.token_id,
            },
        ),
        Step(
            "submitted",
            at,
            {
                "spec": spec.digest,
                "circuits": len(spec.circuits),
                "total_shots": spec.total_shots,
                "trace": trace_id,
            },
        ),
        Step(
            "decided",
            now(),
            {
                "decision": decision.id,
                "allow": decision.allow,
                "reasons": [r.message for r in decision.reasons],
            },
        ),
    )


def placed(job: Job, placement: Placement, chosen: Candidate) -> Job:
    """Return the job with its backend and price."""
    detail = {
        "backend": placement.backend,
        "provider": placement.provider,
        "reserved": chosen.price.amount,
        "currency": chosen.price.currency,
    }
    return replace(
        job,
        backend=placement.backend,
        provider=placement.provider,
        driver=chosen.status.backend.driver,
        placement=placement.as_dict() | {"where": where(chosen), "price": chosen.price.as_dict()},
        price=chosen.price.amount,
        currency=chosen.price.currency,
        steps=[*job.steps, Step("placed", now(), detail).as_dict()],
    )


def _context(principal: Principal, project: Project, spec: JobSpec) -> dict[str, Any]:
    return {
        "principal": principal.id,
        "kind": principal.kind,
        "team": project.team,
        "roles": list(principal.roles_for(project.id)),
        "delegation": list(principal.delegation),
        "token": principal.token_id,
        "classification": spec.classification,
        "purpose": spec.purpose,
        "justification": spec.justification,
        "level": spec.level,
        "retention_days": spec.retention_days,
    }


def _decided(decision: Decision) -> dict[str, Any]:
    """Return what the evidence says of the decision."""
    return {
        "allow": decision.allow,
        "policies": list(decision.policies),
        "version": decision.bundle_version,
        "input": decision.input_digest,
    }


def recorded(job: Job, decision: Decision) -> tuple[Job, list[Appended]]:
    """Return the records of an admission or a denial (R5.1), and the job with a note of the decision's, to which its evidence commits."""
    entries = [prepare(job.tenant, record, now()) for record in _records(job, decision)]
    record = {"id": entries[-1].record_id, "digest": digest(entries[-1].record_bytes)}
    context = {**job.context, "decision": {**job.context["decision"], "record": record}}
    return replace(job, context=context), entries


def _records(job: Job, decision: Decision) -> list[Record]:
    delegation = tuple(job.context["delegation"])
    decided = {
        "job": job.id,
        "allow": decision.allow,
        "codes": sorted({r.code for r in decision.reasons}),
        "policy_version": decision.bundle_version,
        "input": decision.input_digest,
        "backend": job.backend,
        "reserved": job.price,
        "currency": job.currency,
        "price_book": job.price_book,
        "placement": digest(canonical(job.placement)) if job.placement else None,
        "evidence_level": job.context["level"],
    }
    return [
        Record(
            act="job.submitted",
            actor=job.actor,
            object=job.id,
            project=job.project,
            delegation=delegation,
            reason=job.context["justification"] or job.context["purpose"],
            details={
                "spec": job.spec_digest,
                "classification": job.context["classification"],
                "shots": job.shots,
                "state": job.state,
                "change": change(None, job.spec_digest),
            },
        ),
        Record(
            act="policy.decided",
            actor=job.actor,
            object=decision.id,
            project=job.project,
            delegation=delegation,
            reason="; ".join(r.message for r in decision.reasons)[:2000],
            details=decided | {"change": change(None, decided)},
        ),
    ]
