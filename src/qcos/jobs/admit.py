"""Stage "admitted": authenticated, checked by policy, a backend chosen, money and quota reserved, recorded and queued.

All of it is one scope: the job, its decision, its reservation, its ledger entries and its task exist together or not at all. Requests of
a tenant that arrive while a scope of his is being written share the next one: they are decided in it one after the other, each on the
funds that those before it left, and committed together; when that cannot be, each has a scope of its own. Reading the circuits comes
before, in a killable process; circuits that are not known yet are read only for somebody who may submit in the project at all, which a
short scope before finds out. Nothing here calls a network.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

import sqlalchemy as sa
from psycopg.errors import DeadlockDetected

from qcos.backends.catalogue import Catalogue
from qcos.base.clock import now
from qcos.base.combiner import Combiner
from qcos.base.errors import Conflict, Invalid, NotFound, QcosError, Unavailable
from qcos.base.ids import new_id
from qcos.base.limits import ADMIT_BATCH, IDEMPOTENCY_KEY_MAX
from qcos.circuits.model import CircuitFacts
from qcos.circuits.reader import CircuitReader
from qcos.db import queue
from qcos.db.engine import scope
from qcos.identity import store as identity
from qcos.identity.model import Principal, Project
from qcos.jobs import store
from qcos.jobs.authorize import Question, authorize, may_submit
from qcos.jobs.conceal import SPEC, owner_of
from qcos.jobs.draft import draft, placed, recorded
from qcos.jobs.model import Job
from qcos.jobs.place import candidates, place
from qcos.jobs.reserve import FundsSeen, affordable, reserve_all
from qcos.jobs.spec import JobSpec, read_spec
from qcos.ledger.append import write
from qcos.ledger.record import Appended
from qcos.metering.price import PriceBook
from qcos.policy import store as policies
from qcos.policy.evaluate import PolicyEngine
from qcos.policy.model import Decision, PolicyBundle, Reason
from qcos.secrecy.envelope import TenantKey
from qcos.secrecy.unlock import TenantKeys

_log = logging.getLogger("qcos.api")
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
    line: Combiner[UUID, _Asked, Admitted] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "line", Combiner(partial(_admit_all, self), limit=ADMIT_BATCH))


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


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request that was read: its spec, its idempotency key, the facts of its circuits, why they were not read, and what its payloads'
    key is wrapped with.
    """

    request: Request
    spec: JobSpec
    key: str | None
    facts: tuple[CircuitFacts, ...]
    refused: tuple[Reason, ...]
    tenant_key: TenantKey


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
    return parts.line.call(request.tenant, _Asked(request, spec, key, facts, refused, tenant_key))


def _admit_all(parts: Admission, tenant: UUID, batch: Sequence[_Asked]) -> Sequence[Admitted | Exception]:
    """Admit requests in one scope, or each in its own when one of them stands in the way of the others."""
    if len(batch) > 1:
        try:
            with scope(parts.engine, tenant) as connection:
                return _admit_together(parts, connection, tenant, batch)
        except Unavailable as error:
            if not isinstance(getattr(error.__cause__, "orig", None), DeadlockDetected):
                raise
        except Exception:  # whosever it is: alone it fails for him only
            _log.debug("requests are admitted each alone", exc_info=True)
    return [_admit_alone(parts, tenant, asked) for asked in batch]


def _admit_alone(parts: Admission, tenant: UUID, asked: _Asked) -> Admitted | Exception:
    try:
        for _ in range(_TRIES):
            try:
                with scope(parts.engine, tenant) as connection:
                    return _admit_together(parts, connection, tenant, [asked])[0]
            except _FundsChanged:
                continue
            except _Taken:
                return _replay(parts, asked)
    except Exception as error:
        return error
    return Unavailable(
        "funds.contended", "budget and quota change too fast to decide", hint="try again", retry_after_s=0.2
    )


def _admit_together(
    parts: Admission, connection: sa.Connection, tenant: UUID, batch: Sequence[_Asked]
) -> list[Admitted | QcosError]:
    """Decide requests as if one came after the other, then write them all. One that cannot be a job at all gets its error and leaves
    nothing.
    """
    seen = _Seen(parts, connection, tenant, now())
    answers: list[Admitted | QcosError] = []
    for asked in batch:
        try:
            answers.append(seen.decide(asked))
        except Unavailable:  # for everybody
            raise
        except QcosError as error:
            answers.append(error)
    made = [answer for answer in answers if isinstance(answer, Admitted)]
    if made:
        jobs = [admitted.job for admitted in made]
        _insert(connection, tenant, list(zip(jobs, seen.sealed_specs, strict=True)), batch)
        policies.insert_decisions(connection, tenant, [admitted.decision for admitted in made])
        write(connection, tenant, seen.records)
        _reserve_and_queue(
            connection, tenant, [admitted.job for admitted in made if admitted.decision.allow], seen.at
        )
    return answers


class _Seen:
    """What a scope has read; the same for all of its requests, but for what they take from the funds."""

    def __init__(self, parts: Admission, connection: sa.Connection, tenant: UUID, at: dt.datetime) -> None:
        self.at = at
        self.records: list[Appended] = []  # of all that was decided
        self.sealed_specs: list[bytes] = []
        self._parts, self._connection, self._tenant = parts, connection, tenant
        self._submitters: dict[tuple[bytes, str], tuple[Principal, Project]] = {}
        self._funds = FundsSeen(connection, tenant, at)
        self._bundle: PolicyBundle | None = None
        self._refusals: dict[tuple[str, str], tuple[Reason, ...]] = {}

    def decide(self, asked: _Asked) -> Admitted:
        """Decide one request, and choose its backend."""
        parts, spec, request = self._parts, asked.spec, asked.request
        principal, project = self._submitter(request, spec)
        able, dropped = (
            ((), ())
            if asked.refused
            else candidates(parts.catalogue.statuses(), spec, asked.facts, parts.book)
        )
        funds = self._funds.of(project)
        job_id = spec.job_id or new_id("qcos-job")
        question = Question(job_id, spec, asked.facts, principal, project, funds, able, dropped, self.at)
        if self._bundle is None:
            self._bundle = parts.bundles.get(self._connection, self._tenant)
        refused = asked.refused or self._refused(self._bundle, principal, project)
        decision = authorize(parts.policy, self._bundle, question, new_id("dec"), refused)
        payload_key, wrapped = asked.tenant_key.new_payload_key(owner_of(job_id))
        job = draft(
            self._tenant,
            question,
            decision,
            key=asked.key,
            book=parts.book.id,
            trace=(request.trace, request.trace_id),
            payload_key=wrapped,
        )
        if decision.allow:
            within, dear = affordable(funds, able)
            job = placed(job, *place(decision, within, (*dropped, *dear)))
            self._funds.take(job)
        job, records = recorded(job, decision)
        self.records += records
        self.sealed_specs.append(payload_key.seal(SPEC, spec.canonical))
        return Admitted(job, decision, replayed=False)

    def _refused(self, bundle: PolicyBundle, principal: Principal, project: Project) -> tuple[Reason, ...]:
        """Return why somebody may submit nothing in a project; asked once, since nothing in the question changes within a scope."""
        who = principal.token_id, project.id
        if who not in self._refusals:
            self._refusals[who] = may_submit(self._parts.policy, bundle, principal, project.id, self.at)
        return self._refusals[who]

    def _submitter(self, request: Request, spec: JobSpec) -> tuple[Principal, Project]:
        who = request.token_hash, spec.project
        if who not in self._submitters:
            self._submitters[who] = _submitter(self._connection, request, spec, self.at)
        return self._submitters[who]


def _insert(
    connection: sa.Connection, tenant: UUID, jobs: Sequence[tuple[Job, bytes]], batch: Sequence[_Asked]
) -> None:
    """Insert jobs with their sealed specs; raises `_Taken` when one's id or key exists. A single one may take the id of a denied job."""
    if len(batch) == 1:
        named = batch[0].spec.job_id is not None
        if not store.insert_new(connection, tenant, *jobs[0]) and not (
            named and store.replace_denied(connection, tenant, *jobs[0])
        ):
            raise _Taken
    elif not store.insert_all_new(connection, tenant, jobs):
        raise _Taken


def _reserve_and_queue(connection: sa.Connection, tenant: UUID, jobs: Sequence[Job], at: dt.datetime) -> None:
    if not jobs:
        return
    for driver in sorted({job.driver or "" for job in jobs}):
        queue.enqueue(
            connection, f"run:{driver}", [queue.Task(tenant, job.id) for job in jobs if job.driver == driver]
        )
    if not reserve_all(
        connection, jobs, at
    ):  # last: it locks the project's month and the team's day until the commit
        raise _FundsChanged


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


def _replay(parts: Admission, asked: _Asked) -> Admitted:
    """Return the job that the same request made before."""
    request, spec, key = asked.request, asked.spec, asked.key
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
