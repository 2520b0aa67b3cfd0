"""The proof that policy allowed this very job: the ledger's record ``policy.decided``, held against the statement (R3.6).

Pure, as all of the verifier. The bundle carries of that proof only what its ledger proof does not say already:
both are against one checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qcos.base.canonical import digest
from qcos.base.errors import Integrity
from qcos.evidence.envelope import from_base64
from qcos.evidence.levels import Claimed, at_least
from qcos.evidence.trust import Trust
from qcos.ledger.record import check_members
from qcos.ledger.verify import verify_proof

_POINTER = "/proof/decision"


def check_decision(
    bundle: Mapping[str, Any],  # Any: JSON from anybody, of the right shape
    predicate: Mapping[str, Any],  # Any: JSON that was signed
    claimed: Claimed,
    trust: Trust,
) -> tuple[int, dict[str, Any]]:
    """Demand that the record of the decision is the one the statement names, says the same, and is in the ledger.

    Args:
        bundle: With its ledger proof.
        predicate: Of its statement.
        claimed: Its level.
        trust: The ledger's keys and witnesses are in it.

    Returns:
        The entry's index, and the record.

    Raises:
        Integrity: ``evidence.level`` when the level demands the proof and there is none; ``evidence.field``;
            ``ledger.*``.
    """
    ledger, given = bundle["proof"]["ledger"], bundle["proof"].get("decision")
    if given is None:
        raise Integrity(
            "evidence.level",
            f"a bundle of level {claimed.level} must hold the ledger proof of its decision",
            subject=_POINTER,
            expected=f"the proof of record {claimed.decision}"[:300],
            got="nothing",
        )
    record = from_base64(given["record"], f"{_POINTER}/record")
    if digest(record) != claimed.decision_digest:
        raise Integrity(
            "evidence.field",
            "another record of a decision than the statement names",
            subject=f"{_POINTER}/record",
            expected=claimed.decision_digest or "none",
            got=digest(record),
        )
    proof = {**given, "size": ledger["size"], "checkpoint": ledger["checkpoint"]}
    held = verify_proof(proof, trust.vkeys, witnesses=trust.witnesses)
    governance, who = predicate["governance"], predicate["who"]
    check_members(
        held.record,
        {
            "id": claimed.decision,
            "act": "policy.decided",
            "object": governance["decisionId"],
            "details": {
                "job": bundle["job_id"],
                "allow": True,
                "policy_version": governance["policyVersion"],
                "input": governance["decisionDigest"],
            },
            **{name: who[name] for name in ("actor", "project", "tenant")},
        },
    )
    promised = held.record["details"].get("evidence_level", claimed.level)
    if not at_least(claimed.level, promised):
        raise Integrity(
            "evidence.level",
            "less evidence than was decided",
            subject=f"{_POINTER}/record",
            expected=promised,
            got=claimed.level,
        )
    return held.index, held.record
