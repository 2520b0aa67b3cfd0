"""The facts of one governed execution: Table 1 of the paper, one class a row (R1.1 to R1.6)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class CircuitRun:
    """One circuit that was executed.

    Attributes:
        digest: ``sha256:<hex>`` of its source bytes.
        format: ``QASM3`` or ``QASM2``.
        qubits: Qubits used.
        depth: Depth as submitted.
        parameters: Values bound to its parameters.
        compiled_depth: Depth as executed, if the driver knows it.
    """

    digest: str
    format: str
    qubits: int
    depth: int
    parameters: Mapping[str, float] = field(default_factory=dict)
    compiled_depth: int | None = None


@dataclass(frozen=True, slots=True)
class What:
    """R1.1: what was executed.

    Attributes:
        job_spec: Canonical bytes (RFC 8785) of the Job Spec; its digest is the bundle's ``input_hash``.
        circuits: The circuits, in the order of the Job Spec.
        shots: Shots asked for, per circuit.
        compiler: What compiled the circuits, with its version (``qiskit-2.6.2``).
        compiler_requested: The Job Spec's ``compiler_version``.
        seed: Random seed, if one was used.
        options: Further options given to the driver; JSON.
    """

    job_spec: bytes
    circuits: tuple[CircuitRun, ...]
    shots: int
    compiler: str
    compiler_requested: str = ""
    seed: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON


@dataclass(frozen=True, slots=True)
class When:
    """R1.2: when, by the clocks of this system and of the backend; the trusted time is added by sealing.

    Attributes:
        submitted: When the job was admitted, UTC.
        started: When execution began, UTC.
        ended: When it ended, UTC.
        queue_time_ms: Time spent in queues, milliseconds.
    """

    submitted: dt.datetime
    started: dt.datetime
    ended: dt.datetime
    queue_time_ms: int


@dataclass(frozen=True, slots=True)
class Where:
    """R1.3: where.

    Attributes:
        backend: Name of the backend.
        provider: Who sells it.
        region: Region.
        zone: Compliance zone: ``sovereign``, ``cloud`` or ``local``.
        on_premise: Whether it stands on the customer's premises.
        remote_id: The provider's id of the task.
        calibration: ``sha256:<hex>`` of the calibration snapshot, if there is one.
        placement: Why this backend: scores and what was dropped; JSON.
    """

    backend: str
    provider: str
    region: str
    zone: str
    on_premise: bool
    remote_id: str = ""
    calibration: str | None = None
    placement: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON


@dataclass(frozen=True, slots=True)
class Who:
    """R1.4: who.

    Attributes:
        tenant: Tenant.
        actor: Principal (``user:alice@company.com``).
        project: Project.
        team: Team, if any.
        kind: ``user`` or ``service``.
        roles: Effective roles in the project.
        delegation: On whose behalf, nearest first.
        token_id: Id of the credential that authenticated the request.
    """

    tenant: UUID
    actor: str
    project: str
    team: str | None = None
    kind: str = "user"
    roles: tuple[str, ...] = ()
    delegation: tuple[str, ...] = ()
    token_id: str = ""


@dataclass(frozen=True, slots=True)
class Why:
    """R1.5: why.

    Attributes:
        purpose: Purpose.
        classification: Classification.
        cost_center: Who pays.
        justification: Business justification, if one was given.
    """

    purpose: str
    classification: str
    cost_center: str
    justification: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """R1.6: the result.

    Attributes:
        output: Canonical bytes of the result document; its digest is the bundle's ``output_hash``.
        shots_executed: Shots executed, all circuits together.
        usage: Meter to quantity in the meter's unit (integers).
        charge: What it costs, when that is known before sealing; money in integer micro-units. JSON.
        metadata: What the driver reports besides; JSON.
    """

    output: bytes
    shots_executed: int
    usage: Mapping[str, int] = field(default_factory=dict)
    charge: Mapping[str, Any] | None = None  # Any: JSON
    metadata: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON


@dataclass(frozen=True, slots=True)
class Governance:
    """What governed it (R3.6).

    Attributes:
        policies_applied: Names of the policies that were evaluated.
        policy_decisions: Their outcome (``allow``).
        decision_id: Id of the decision record.
        policy_version: ``sha256:<hex>``: version of the policy bundle.
        decision_digest: ``sha256:<hex>`` of the decision's input, if known.
        price_book: Version of the price book.
        reservation: What was reserved; money in integer micro-units. JSON.
        decision_record: Id of the ledger's record ``policy.decided``.
        decision_record_digest: ``sha256:<hex>`` of that record.
        evidence_level: The Job Spec's evidence level (`qcos.evidence.levels`).
        retention_days: How long the bundle is to be kept (R4.3).
    """

    policies_applied: tuple[str, ...]
    policy_decisions: tuple[str, ...]
    decision_id: str
    policy_version: str
    decision_digest: str | None = None
    price_book: str = ""
    reservation: Mapping[str, Any] | None = None  # Any: JSON
    decision_record: str = ""
    decision_record_digest: str = ""
    evidence_level: str = "basic"
    retention_days: int = 2555


@dataclass(frozen=True, slots=True)
class Material:
    """A document that the statement commits to and that is kept beside the bundle.

    Attributes:
        name: Its name as a subject: ``transpiled/0``, ``calibration``, ``vendor-response``.
        digest: ``sha256:<hex>`` of its bytes.
        bytes: How many.
        media_type: What they are.
        kept: Whether they can be fetched; false for what is larger than anybody keeps.
    """

    name: str
    digest: str
    bytes: int
    media_type: str
    kept: bool = True


@dataclass(frozen=True, slots=True)
class Provenance:
    """What the level ``full`` adds (R1.1, R12.5); empty below it.

    Attributes:
        toolchain: What compiled and ran the circuits, with versions, seeds and settings; JSON.
        materials: Each program as executed, the calibration, the vendor's raw answer.
        absent: What the backend has no notion of: member to reason. ``calibration`` counts from ``standard``
            on.
    """

    toolchain: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON
    materials: tuple[Material, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SealFacts:
    """Everything a bundle says about one executed job; what is above its level is left out."""

    job_id: str
    what: What
    when: When
    where: Where
    who: Who
    why: Why
    result: Result
    governance: Governance
    provenance: Provenance = field(default_factory=Provenance)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed bundle, not yet in the ledger.

    Attributes:
        bundle_id: ``evidence-2026-01-09-<16 hex digits>``.
        job_id: The job.
        document: The bundle's JSON bytes, with ``proof.ledger`` null.
        statement_digest: ``sha256:<hex>`` of the signed statement.
        document_digest: ``sha256:<hex>`` of `document`.
        sealed_at: System time at sealing, UTC, milliseconds.
        token_time: Time the time-stamping authority named, UTC.
        retain_until: Until when the bundle has to be kept, UTC.
    """

    bundle_id: str
    job_id: str
    document: bytes
    statement_digest: str
    document_digest: str
    sealed_at: dt.datetime
    token_time: dt.datetime
    retain_until: dt.datetime

    @property
    def drift_ms(self) -> int:
        """Return trusted time minus system time, milliseconds (R1.2)."""
        return milliseconds(self.token_time - self.sealed_at)

    @property
    def ledger_details(self) -> dict[str, Any]:  # Any: JSON
        """Return the details of the ledger record ``evidence.sealed``, whose object is the bundle's id."""
        return {
            "job": self.job_id,
            "statement": self.statement_digest,
            "document": self.document_digest,
            "clockDriftMs": self.drift_ms,
        }


def milliseconds(interval: dt.timedelta) -> int:
    """Return a duration in whole milliseconds, rounded down."""
    return interval // dt.timedelta(milliseconds=1)
