"""Stage "sealed": what is known of the job becomes evidence, signed and time-stamped (R4.1, R8.7). Pure; nothing is written here."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from qcos.evidence.bundle import Authority, seal_all
from qcos.evidence.envelope import Signer
from qcos.evidence.model import (
    CircuitRun,
    Governance,
    Material,
    Provenance,
    Result,
    Sealed,
    SealFacts,
    What,
    When,
    Where,
    Who,
    Why,
)
from qcos.jobs.model import Job
from qcos.jobs.observe import Collected
from qcos.keys.live import LiveKeyring
from qcos.metering.model import Bill


class Sealing(Protocol):
    """What seals evidence: a `Sealer`, or one that follows the keys in force."""

    def seal_all(self, items: Sequence[tuple[Collected, Bill]]) -> list[Sealed]:
        """Seal the evidence of jobs, in their order."""
        ...


@dataclass(frozen=True, slots=True)
class Sealer:
    """What evidence is signed with: the evidence keys, and the authority that names the time."""

    signers: Sequence[Signer]
    authority: Authority

    def seal_all(self, items: Sequence[tuple[Collected, Bill]]) -> list[Sealed]:
        """Seal the evidence of jobs, in their order; those of a level below ``full`` share a time stamp."""
        return seal_all([facts_of(*item) for item in items], self.signers, self.authority)


class LiveSealer:
    """Seals with the keys in force.

    Args:
        keys: The keys.
        authority: Stamps with that of them which is the authority's.
    """

    def __init__(self, keys: LiveKeyring, authority: Callable[[], Authority]) -> None:
        self._keys = keys
        self._authority = authority

    def seal_all(self, items: Sequence[tuple[Collected, Bill]]) -> list[Sealed]:
        """Seal the evidence of jobs, anew when the keys were changed meanwhile: what a revoked key signed counts for nothing.

        Raises:
            Unavailable: The registry of keys cannot be looked at.
        """
        while True:
            keyring = self._keys.current()
            sealed = Sealer(keyring.evidence_signers, self._authority()).seal_all(items)
            if self._keys.holds(keyring):
                return sealed


def facts_of(collected: Collected, bill: Bill) -> SealFacts:
    """Return everything the evidence of a job says (Table 1, R1.1-R1.6)."""
    job, ran, context = collected.job, collected.facts, collected.job.context
    spec, decided = json.loads(job.spec), context["decision"]
    where, provenance = _calibrated(job, ran)
    return SealFacts(
        job_id=job.id,
        what=What(
            job_spec=job.spec,
            circuits=_circuits(job.facts, spec, ran),
            shots=spec["execution"]["shots"],
            compiler=ran["compiler"],
            compiler_requested=", ".join(
                dict.fromkeys(c.get("compiler_version", "") for c in _asked(spec))
            ).strip(", "),
            seed=ran["seed"],
        ),
        when=When(
            submitted=job.created,
            started=collected.started,
            ended=collected.ended,
            queue_time_ms=ran["queue_ms"],
        ),
        where=where,
        who=Who(
            tenant=job.tenant,
            actor=job.actor,
            project=job.project,
            team=job.team,
            kind=context["kind"],
            roles=tuple(context["roles"]),
            delegation=tuple(context["delegation"]),
            token_id=context["token"],
        ),
        why=Why(
            purpose=context["purpose"],
            classification=context["classification"],
            cost_center=job.cost_center,
            justification=context["justification"],
        ),
        result=Result(
            output=collected.payload,
            shots_executed=ran["shots_executed"],
            usage={usage.meter: usage.quantity for usage in bill.usages},
            charge={
                "amount": bill.amount,
                "currency": bill.currency,
                "lines": [line.as_dict() for line in bill.lines],
            },
            metadata=ran["metadata"],
        ),
        governance=Governance(
            policies_applied=tuple(decided["policies"]),
            policy_decisions=("allow" if decided["allow"] else "deny",),
            decision_id=job.decision,
            policy_version=decided["version"],
            decision_digest=decided["input"],
            decision_record=decided["record"]["id"],
            decision_record_digest=decided["record"]["digest"],
            price_book=bill.price_book,
            reservation={"amount": job.price, "currency": job.currency},
            evidence_level=context["level"],
            retention_days=context["retention_days"],
        ),
        provenance=provenance,
    )


def _calibrated(job: Job, ran: dict[str, Any]) -> tuple[Where, Provenance]:
    """Return where the job ran, and the full record; the calibration is that of the run if the driver told it, else the catalogue's."""
    where, told = _where(job, ran.get("remote_id", "")), ran.get("provenance")
    if told is None:
        absent = {} if where.calibration else {"calibration": _without_calibration(job)}
        return where, Provenance(absent=absent)
    materials = tuple(Material(name, **rest) for name, rest in told["materials"].items())
    own = next((one.digest for one in materials if one.name == "calibration"), where.calibration)
    return replace(where, calibration=own), Provenance(told["toolchain"], materials, told["absent"])


def _without_calibration(job: Job) -> str:
    kind = (job.placement or {})["where"]["kind"]
    if kind == "simulator":
        return "a simulator without noise: no device, no calibration"
    return "the backend's provider publishes none"


def _where(job: Job, remote_id: str) -> Where:
    placement = job.placement or {}
    where = placement["where"]
    return Where(
        backend=job.backend or "",
        provider=where["provider"],
        region=where["region"],
        zone=where["zone"],
        on_premise=where["on_premise"],
        remote_id=remote_id,
        calibration=where.get("calibration"),
        placement={name: placement[name] for name in ("scores", "weights", "dropped") if name in placement},
    )


def _circuits(
    facts: list[dict[str, Any]], spec: dict[str, Any], ran: dict[str, Any]
) -> tuple[CircuitRun, ...]:
    return tuple(
        CircuitRun(
            digest=fact["digest"],
            format=circuit["format"],
            qubits=fact["qubits"],
            depth=fact["depth"],
            parameters=circuit.get("parameters", {}),
            compiled_depth=ran["compiled_depth"] if len(facts) == 1 else None,  # known of the deepest only
        )
        for fact, circuit in zip(facts, _asked(spec), strict=True)
    )


def _asked(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return spec["circuits"] if "circuits" in spec else [spec["circuit"]]
