"""Seal a bundle and attach its ledger proof. Pure: no database; the network only for an outside authority.

The statement is signed (DSSE, ML-DSA-65 and Ed25519), the raw ML-DSA-65 signature is time-stamped (RFC
3161), and the ledger's record ``evidence.sealed`` commits to the whole document but its own proof.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Final, Protocol

from qcos.base.canonical import digest, loads_strict
from qcos.base.clock import now
from qcos.base.errors import Integrity, Invalid, Limit
from qcos.base.ids import new_id
from qcos.base.limits import MAX_BUNDLE_BYTES
from qcos.evidence.drift import check_times
from qcos.evidence.envelope import Signer, sign, to_base64
from qcos.evidence.model import Sealed, SealFacts
from qcos.evidence.statement import compose, encode
from qcos.timestamp.token import time_of

SIGNATURE_PREFIX: Final = "ML-DSA-65:"
TOKEN_PREFIX: Final = "RFC3161:"  # noqa: S105 - no password
READER_MEMBERS: Final = (
    *("bundle_id", "job_id", "input_hash", "output_hash"),
    *("execution_metadata", "governance_record"),
)
"""Listing 2 without its signatures."""
_PROOF_ROOM: Final = 256 * 1024  # bytes left for the ledger proof: a record, a signed note, 63 hashes, twice


class Authority(Protocol):
    """A time-stamping authority, local or outside."""

    def stamp(self, data: bytes) -> bytes:
        """Return a DER TimeStampToken over the SHA-512 digest of the data."""
        ...


def seal(
    facts: SealFacts,
    signers: tuple[Signer, Signer],
    authority: Authority,
    *,
    bundle_id: str | None = None,
    at: dt.datetime | None = None,
) -> Sealed:
    """Seal the evidence of one executed job (R4.1, R1.7).

    Args:
        facts: The facts.
        signers: ML-DSA-65 and Ed25519, in this order.
        authority: Stamps the ML-DSA-65 signature.
        bundle_id: Id of the bundle; a new one by default.
        at: System time, UTC; now by default.

    Raises:
        Invalid: ``evidence.facts`` or ``evidence.signers``.
        Limit: ``evidence.size``.
        Integrity: ``evidence.time`` when the clocks disagree so much that no verifier would accept the
            bundle.
    """
    algorithms = [signer.algorithm for signer in signers]
    if algorithms != ["ML-DSA-65", "Ed25519"]:
        raise Invalid(
            "evidence.signers", "other keys than evidence is signed with", expected="ML-DSA-65, Ed25519"
        )
    sealed_at = (at or now()).astimezone(dt.UTC)
    sealed_at = sealed_at.replace(microsecond=sealed_at.microsecond // 1000 * 1000)
    statement = compose(facts, bundle_id or new_id("evidence"), sealed_at)
    payload = encode(statement)
    if len(payload) * 4 // 3 + _PROOF_ROOM > MAX_BUNDLE_BYTES:
        raise Limit(
            "evidence.size",
            "the facts do not fit into a bundle",
            subject=facts.job_id,
            expected=f"a bundle of at most {MAX_BUNDLE_BYTES} bytes",
            got=f"a statement of {len(payload)} bytes",
            hint="put large metadata into the result document: the bundle commits to it by its digest",
        )
    envelope, (mldsa, _) = sign(payload, signers)
    token = authority.stamp(mldsa)
    token_time = time_of(token)
    check_times(facts.when.started, facts.when.ended, sealed_at, token_time)
    reader = statement["predicate"]["bundle"]
    document = encode(
        {
            **reader,
            "signatures": {
                "qcos_signature": SIGNATURE_PREFIX + to_base64(mldsa),
                "timestamp_authority": TOKEN_PREFIX + to_base64(token),
            },
            "proof": {"envelope": envelope, "timestamp": to_base64(token), "ledger": None},
        }
    )
    return Sealed(
        bundle_id=reader["bundle_id"],
        job_id=facts.job_id,
        document=document,
        statement_digest=digest(payload),
        document_digest=digest(document),
        sealed_at=sealed_at,
        token_time=token_time,
        retain_until=sealed_at + dt.timedelta(days=facts.governance.retention_days),
    )


def attach(document: bytes, ledger_proof: Mapping[str, Any] | None) -> dict[str, Any]:  # Any: JSON
    """Return the bundle for the reader: the stored document with its ledger proof in place (null: not yet).

    Raises:
        Integrity: ``evidence.document`` when what was stored is no bundle.
    """
    bundle = loads_strict(document, subject="evidence bundle")
    if not isinstance(bundle, dict) or not isinstance(bundle.get("proof"), dict):
        raise Integrity("evidence.document", "what is stored is no evidence bundle")
    bundle["proof"]["ledger"] = dict(ledger_proof) if ledger_proof is not None else None
    return in_reading_order(bundle)


def in_reading_order(bundle: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
    """Return the members in the order of Listing 2, the proof last."""
    order = (*READER_MEMBERS, "signatures", "proof")
    return {name: bundle[name] for name in order if name in bundle}


def detached_digest(bundle: Mapping[str, Any]) -> str:  # Any: JSON
    """Return the digest of a bundle without its ledger proof: what the ledger record commits to."""
    return digest(encode({**bundle, "proof": {**bundle["proof"], "ledger": None}}))
