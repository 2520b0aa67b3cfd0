"""The signed statement: in-toto Statement v1 with QCOS's predicate (R1.1 to R1.7).

Names are lowerCamelCase and instants RFC 3339 UTC, as the in-toto predicate rules ask; ``predicate.bundle``
alone keeps Listing 2's names, for it is the reader's part of the bundle word for word. Verifiers that know
an older version may ignore further members: none ever weakens another.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from qcos import __version__
from qcos.base.canonical import digest
from qcos.base.clock import rfc3339
from qcos.base.errors import Invalid
from qcos.evidence.levels import LEVELS, at_least
from qcos.evidence.model import CircuitRun, SealFacts

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "urn:qcos:governed-execution:v1"
_PRODUCER: Final = {"name": "qcos", "version": __version__}


def compose(facts: SealFacts, bundle_id: str, sealed_at: dt.datetime) -> dict[str, Any]:  # Any: JSON
    """Return the statement about an execution.

    Args:
        facts: The facts.
        bundle_id: Of the bundle to be sealed.
        sealed_at: System time, UTC.

    Raises:
        Invalid: ``evidence.facts`` when a digest is none, or the level is unknown.
    """
    if facts.governance.evidence_level not in LEVELS:
        raise Invalid(
            "evidence.facts",
            "there is no such evidence level",
            expected=", ".join(LEVELS),
            got=facts.governance.evidence_level,
        )
    reader = reader_part(facts, bundle_id)
    return {
        "_type": STATEMENT_TYPE,
        "subject": _subjects(facts, reader),
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "bundle": reader,
            "producer": _PRODUCER,
            "what": _what(facts),
            "when": {
                "submittedAt": rfc3339(facts.when.submitted),
                "startedAt": rfc3339(facts.when.started),
                "endedAt": rfc3339(facts.when.ended),
                "sealedAt": rfc3339(sealed_at),
                "queueTimeMs": facts.when.queue_time_ms,
            },
            "where": _where(facts),
            "who": _who(facts),
            "why": {
                "purpose": facts.why.purpose,
                "classification": facts.why.classification,
                "costCenter": facts.why.cost_center,
                "justification": facts.why.justification,
            },
            "result": {
                "shotsExecuted": facts.result.shots_executed,
                "usage": dict(facts.result.usage),
                "charge": _charge(facts),
                "metadata": facts.result.metadata,
            },
            "governance": _governance(facts),
            "evidence": _evidence(facts),
        },
    }


def reader_part(facts: SealFacts, bundle_id: str) -> dict[str, Any]:  # Any: JSON
    """Return Listing 2 without its signatures."""
    return {
        "bundle_id": bundle_id,
        "job_id": facts.job_id,
        "input_hash": digest(facts.what.job_spec),
        "output_hash": digest(facts.result.output),
        "execution_metadata": {
            "backend": facts.where.backend,
            "start_time": rfc3339(facts.when.started),
            "end_time": rfc3339(facts.when.ended),
            "shots_executed": facts.result.shots_executed,
            "queue_time_ms": facts.when.queue_time_ms,
        },
        "governance_record": {
            "actor": facts.who.actor,
            "project": facts.who.project,
            "policies_applied": list(facts.governance.policies_applied),
            "policy_decisions": list(facts.governance.policy_decisions),
        },
    }


def encode(value: Mapping[str, Any]) -> bytes:  # Any: JSON
    """Return compact JSON with sorted names: the same facts give the same bytes.

    Not RFC 8785: signatures and digests are over exactly these bytes, nobody has to make them again from
    the value.

    Raises:
        Invalid: ``evidence.facts`` when a value is no JSON (NaN, infinity, bytes, ...).
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise Invalid("evidence.facts", "a fact that is not JSON", got=str(error)[:200]) from None


def subject_digests(statement: Mapping[str, Any]) -> dict[str, str]:  # Any: JSON
    """Return the subjects of a statement: name to ``sha256:<hex>``."""
    subjects: Sequence[Mapping[str, Any]] = statement["subject"]
    return {str(s["name"]): f"sha256:{s['digest']['sha256']}" for s in subjects}


def _subjects(facts: SealFacts, reader: Mapping[str, Any]) -> list[dict[str, Any]]:
    named = {"input": reader["input_hash"], "output": reader["output_hash"]}
    named |= {f"circuit/{n}": circuit.digest for n, circuit in enumerate(facts.what.circuits)}
    named |= {"policy-bundle": facts.governance.policy_version, "calibration": facts.where.calibration}
    if _has(facts, "standard"):
        named["decision-input"] = facts.governance.decision_digest
    if _has(facts, "full"):
        named |= {material.name: material.digest for material in facts.provenance.materials}
    return [
        {"name": name, "digest": {"sha256": _hex(value, name)}}
        for name, value in named.items()
        if value is not None
    ]


def _has(facts: SealFacts, level: str) -> bool:
    return at_least(facts.governance.evidence_level, level)


def _hex(value: str, name: str) -> str:
    kind, _, text = value.partition(":")
    if kind != "sha256" or len(text) != 64 or not set(text) <= set("0123456789abcdef"):
        raise Invalid(
            "evidence.facts", "not a digest", subject=name, expected="sha256:<64 hex digits>", got=value[:80]
        )
    return text


def _what(facts: SealFacts) -> dict[str, Any]:
    what = facts.what
    return {
        "circuits": [_circuit(circuit) for circuit in what.circuits],
        "shots": what.shots,
        "compiler": what.compiler,
        "compilerRequested": what.compiler_requested,
        "seed": what.seed,
        "options": what.options,
    }


def _circuit(circuit: CircuitRun) -> dict[str, Any]:
    return {
        "digest": circuit.digest,
        "format": circuit.format,
        "qubits": circuit.qubits,
        "depth": circuit.depth,
        "compiledDepth": circuit.compiled_depth,
        "parameters": dict(circuit.parameters),
    }


def _where(facts: SealFacts) -> dict[str, Any]:
    where = facts.where
    return {
        "backend": where.backend,
        "provider": where.provider,
        "region": where.region,
        "zone": where.zone,
        "onPremise": where.on_premise,
        "remoteId": where.remote_id,
        "calibration": where.calibration,
        "placement": where.placement if _has(facts, "standard") else {},
    }


def _who(facts: SealFacts) -> dict[str, Any]:
    who = facts.who
    return {
        "tenant": str(who.tenant),
        "actor": who.actor,
        "kind": who.kind,
        "project": who.project,
        "team": who.team,
        "roles": list(who.roles),
        "delegation": list(who.delegation),
        "tokenId": who.token_id,
    }


def _governance(facts: SealFacts) -> dict[str, Any]:
    governance = facts.governance
    return {
        "decisionId": governance.decision_id,
        "decisionDigest": governance.decision_digest if _has(facts, "standard") else None,
        "policyVersion": governance.policy_version,
        "priceBook": governance.price_book,
        "reservation": governance.reservation,
        "evidenceLevel": governance.evidence_level,
        "retentionDays": governance.retention_days,
    }


def _charge(facts: SealFacts) -> Mapping[str, Any] | None:
    charge = facts.result.charge
    if charge is None or _has(facts, "standard"):
        return charge
    return {name: value for name, value in charge.items() if name != "lines"}


def _evidence(facts: SealFacts) -> dict[str, Any]:
    """Return what the level adds, and what of it the backend has no notion of."""
    governance, provenance = facts.governance, facts.provenance
    told: dict[str, Any] = {"level": governance.evidence_level}
    if _has(facts, "standard"):
        told["decision"] = {
            "record": governance.decision_record,
            "digest": governance.decision_record_digest,
        }
        told["absent"] = dict(provenance.absent)
    if _has(facts, "full"):
        told["toolchain"] = provenance.toolchain
        told["materials"] = {
            one.name: {"bytes": one.bytes, "mediaType": one.media_type, "kept": one.kept}
            for one in provenance.materials
        }
    return told
