"""Stage "admitted": authenticated, checked by policy, a backend chosen, money and quota reserved, recorded and queued.

All of it is one scope: the job, its decision, its reservation, its ledger entries and its task exist together or not at all. Reading
the circuits comes before, in a killable process; circuits that are not known yet are read only for somebody who may submit in the project
at all, which a short scope before finds out. Nothing here calls a network.
"""

from __future__ import annotations

import datetime as dt
import secrets
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from qcos.backends.catalogue import Catalogue
from qcos.base.canonical import canonical, digest
from qcos.base.clock import now
from qcos.base.errors import Conflict, Invalid, NotFound, Unavailable
from qcos.base.ids import new_id
from qcos.base.limits import IDEMPOTENCY_KEY_MAX
from qcos.circuits.model import CircuitFacts
from qcos.circuits.reader import CircuitReader
from qcos.db import queue
from qcos.db.engine import scope
from qcos.identity import store as identity
from qcos.identity.model import Principal, Project
from qcos.jobs import store
from qcos.jobs.authorize import Question, authorize, may_submit
from qcos.jobs.conceal import SPEC, owner_of
from qcos.jobs.lifecycle import DENIED, QUEUED
from qcos.jobs.model import Job, Step
from qcos.jobs.place import Candidate, candidates, place, where
from qcos.jobs.reserve import affordable, funds_of, reserve
from qcos.jobs.spec import JobSpec, read_spec
from qcos.ledger.append import write
from qcos.ledger.record import Appended, Record, change, prepare
from qcos.metering.price import PriceBook
from qcos.policy import store as policies
from qcos.policy.evaluate import PolicyEngine
from qcos.policy.model import Decision, Reason
from qcos.routing.model import Placement
from qcos.secrecy.envelope import TenantKey
from qcos.secrecy.unlock import TenantKeys

_TRIES = 5  # times a decision is taken anew because others reserved in between


@dataclass(frozen=True, slots=True)
class Admission:
    """What admitting works with; made once, in `qcos.app`."""

    engine: sa.Engine
    circuits: CircuitReader
    policy: PolicyEngine
    bundles: policies.ActiveBundles
    catalogue: Catalogue
    book: PriceBook
    tenant_keys: TenantKeys


@dataclass(frozen=True, slots=True)
class Request:
    """A submission as it arrives.

    Attributes:
        tenant: From the token's text; whether the token is good is checked in the admitting scope.
        token_hash: SHA-256 of the token.
        body: The Job Spec.
        idempotency_key: From the header; may also stand in the spec.
        trace: W3C traceparent, kept for the worker.
        trace_id: Shown to people.
    """

    tenant: UUID
    token_hash: bytes
    body: bytes
    idempotency_key: str | None = None
    trace: str = ""
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class Admitted:
    """The job with its decision; ``replayed`` when the same request had been admitted before."""

    job: Job
    decision: Decision
    replayed: bool


class _FundsChanged(Exception):
    """Others reserved between reading the funds and reserving: decide again."""


class _Taken(Exception):
    """The job id or idempotency key exists already."""


def admit(parts: Admission, request: Request) -> Admitted:
    """Admit a job, or deny it with reasons; both are recorded.

    A denied job does not keep its id from a new request: `store.replace_denied`. The same idempotency key gets the same answer.

    Raises:
        Invalid: ``spec.*``, ``circuit.*``; nothing is recorded.
        Denied: ``auth.*``.
        NotFound: ``project.unknown``.
        Conflict: ``job.exists``, ``idempotency.reused``.
        Unavailable: database, ledger or reader not there; nothing is kept.
    """
    spec = read_spec(request.body)
    key = _idempotency_key(request, spec)
    programs = [(circuit.source, circuit.format) for circuit in spec.circuits]
    refused: tuple[Reason, ...] = ()
    facts = parts.circuits.recall(programs)
    if facts is None:
        refused = _refusals(parts, request, spec)
        facts = () if refused else parts.circuits.read_job(programs, request.tenant)
    if not refused:
        _check_parameters(spec, facts)
    tenant_key = parts.tenant_keys.newest(request.tenant)
    for _ in range(_TRIES):
        try:
            with scope(parts.engine, request.tenant) as connection:
                return _admit_once(parts, connection, request, spec, key, facts, refused, tenant_key)
        except _FundsChanged:
            continue
        except _Taken:
            return _replay(parts, request, spec, key)
    raise Unavailable(
        "funds.contended", "budget and quota change too fast to decide", hint="try again", retry_after_s=0.2
    )


def _admit_once(
    parts: Admission,
    connection: sa.Connection,
    request: Request,
    spec: JobSpec,
    key: str | None,
    facts: tuple[CircuitFacts, ...],
    refused: tuple[Reason, ...],
    tenant_key: TenantKey,
) -> Admitted:
    at = now()
    principal, project = _submitter(connection, request, spec, at)
    job_id = spec.job_id or new_id("qcos-job")
    able, dropped = ((), ()) if refused else candidates(parts.catalogue.statuses(), spec, facts, parts.book)
    question = Question(
        job_id, spec, facts, principal, project, funds_of(connection, project, at), able, dropped, at
    )
    bundle = parts.bundles.get(connection, request.tenant)
    decision = authorize(parts.policy, bundle, question, new_id("dec"), refused)
    payload_key, wrapped = tenant_key.new_payload_key(owner_of(job_id))
    sealed_spec = payload_key.seal(SPEC, spec.canonical)
    job = _job(request, spec, key, question, decision, parts.book, wrapped)
    if decision.allow:
        within, dear = affordable(question.funds, able)
        placement, chosen = place(decision, within, (*dropped, *dear))
        job = _placed(job, placement, chosen)
    records = [prepare(request.tenant, record, now()) for record in _records(job, decision)]
    job = _proven(job, records[-1])
    if not store.insert_new(connection, request.tenant, job, sealed_spec) and not (
        spec.job_id and store.replace_denied(connection, request.tenant, job, sealed_spec)
    ):
        raise _Taken
    policies.insert_decisions(connection, request.tenant, [decision])
    write(connection, request.tenant, records)
    if decision.allow:
        queue.enqueue(connection, f"run:{job.driver}", [queue.Task(request.tenant, job_id)])
        if not reserve(
            connection, job, at
        ):  # last: it locks the project's month and the team's day until the commit
            raise _FundsChanged
    return Admitted(job, decision, replayed=False)


def _refusals(parts: Admission, request: Request, spec: JobSpec) -> tuple[Reason, ...]:
    """Return why the caller may submit nothing in the project; empty when it is worth reading his circuits."""
    at = now()
    with scope(parts.engine, request.tenant) as connection:
        principal, project = _submitter(connection, request, spec, at)
        bundle = parts.bundles.get(connection, request.tenant)
    return may_submit(parts.policy, bundle, principal, project.id, at)


def _submitter(
    connection: sa.Connection, request: Request, spec: JobSpec, at: dt.datetime
) -> tuple[Principal, Project]:
    principal, project = identity.submission_facts(
        connection, request.tenant, request.token_hash, spec.project, at
    )
    if project is None:
        raise NotFound(
            "project.unknown",
            "there is no such project",
            subject=spec.project,
            hint="list projects with GET /v1/projects",
        )
    return principal, project


def _job(
    request: Request,
    spec: JobSpec,
    key: str | None,
    question: Question,
    decision: Decision,
    book: PriceBook,
    payload_key: bytes,
) -> Job:
    principal, project, at = question.principal, question.project, question.at
    return Job(
        tenant=request.tenant,
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
        price_book=book.id,
        idempotency_key=key,
        attempt=0,
        cancel_requested=False,
        handle=None,
        outcome=None,
        charge=None,
        bundle=None,
        error=None,
        steps=[step.as_dict() for step in _first_steps(request, spec, question, decision)],
        trace=request.trace,
        created=at,
        updated=at,
        payload_key=payload_key,
        retain_until=at + dt.timedelta(days=spec.retention_days),
        erased=None,
    )


def _first_steps(request: Request, spec: JobSpec, question: Question, decision: Decision) -> tuple[Step, ...]:
    principal, project, at = question.principal, question.project, question.at
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
                "trace": request.trace_id,
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


def _placed(job: Job, placement: Placement, chosen: Candidate) -> Job:
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


def _proven(job: Job, decided: Appended) -> Job:
    """Note the ledger's record of the decision in the job: its evidence commits to it."""
    record = {"id": decided.record_id, "digest": digest(decided.record_bytes)}
    return replace(job, context={**job.context, "decision": {**job.context["decision"], "record": record}})


def _records(job: Job, decision: Decision) -> list[Record]:
    """Return the ledger records of an admission or a denial (R5.1)."""
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


def _replay(parts: Admission, request: Request, spec: JobSpec, key: str | None) -> Admitted:
    """Return the job that the same request made before."""
    with scope(parts.engine, request.tenant) as connection:
        principal = identity.authenticate(connection, request.tenant, request.token_hash, now())
        job = store.find_same(connection, request.tenant, principal.id, key, spec.job_id)
        if job is None:
            raise Conflict(
                "job.exists",
                "another request with this id or key is being admitted",
                subject=spec.job_id or key or "",
                hint="try again",
            )
        if job.actor != principal.id:
            raise Conflict(
                "job.exists",
                "the job id is taken",
                subject=job.id,
                hint="choose another job_id or leave it out",
            )
        if job.spec_digest != spec.digest:
            by_key = job.idempotency_key is not None and job.idempotency_key == key
            code, what = ("idempotency.reused", "idempotency key") if by_key else ("job.exists", "job id")
            raise Conflict(
                code,
                f"this {what} belongs to a job with another spec",
                subject=job.id,
                expected=f"the spec with digest {job.spec_digest}",
                got=spec.digest,
                hint=f"use a new {what} for a new job",
            )
        return Admitted(job, policies.get_decision(connection, request.tenant, job.decision), replayed=True)


def _idempotency_key(request: Request, spec: JobSpec) -> str | None:
    key = request.idempotency_key or spec.idempotency_key
    if request.idempotency_key and spec.idempotency_key and request.idempotency_key != spec.idempotency_key:
        raise Invalid(
            "idempotency.differs",
            "header and spec carry different idempotency keys",
            expected=spec.idempotency_key,
            got=request.idempotency_key,
        )
    if key is not None and not (0 < len(key) <= IDEMPOTENCY_KEY_MAX and key.isprintable()):
        raise Invalid(
            "idempotency.key",
            "bad idempotency key",
            expected=f"1 to {IDEMPOTENCY_KEY_MAX} printable characters",
            got=key[:80],
        )
    return key


def _check_parameters(spec: JobSpec, facts: tuple[CircuitFacts, ...]) -> None:
    for number, (circuit, fact) in enumerate(zip(spec.circuits, facts, strict=True)):
        missing = sorted(set(fact.parameters) - set(circuit.parameters))
        unknown = sorted(set(circuit.parameters) - set(fact.parameters))
        if missing or unknown:
            raise Invalid(
                "circuit.parameters",
                "the parameters given are not the program's inputs",
                subject=f"circuit {number}",
                expected=", ".join(fact.parameters) or "none",
                got=", ".join(sorted(circuit.parameters)) or "none",
                hint=f"missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}",
            )
