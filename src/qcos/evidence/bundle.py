"""Seal a bundle and attach its ledger proof. Pure: no database; the network only for an outside authority.

The statement is signed (DSSE, ML-DSA-65 and Ed25519), the raw ML-DSA-65 signature is time-stamped (RFC
3161), alone or in a hash tree with others (RFC 4998), and the ledger's record ``evidence.sealed`` commits to
the whole document but what is attached later: the record's own proof, and renewals of the time stamp.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from qcos.base.canonical import digest, loads_strict
from qcos.base.clock import now
from qcos.base.errors import Integrity, Invalid, Limit, QcosError
from qcos.base.ids import new_id
from qcos.base.limits import MAX_BUNDLE_BYTES
from qcos.evidence.drift import check_times
from qcos.evidence.envelope import Signer, from_base64, sign, to_base64
from qcos.evidence.levels import check_level
from qcos.evidence.model import Sealed, SealFacts
from qcos.evidence.statement import compose, encode, subject_digests
from qcos.timestamp.archive import ArchiveStamp, EvidenceRecord, read_record
from qcos.timestamp.token import time_of
from qcos.timestamp.tree import grow

SIGNATURE_PREFIX: Final = "ML-DSA-65:"
TOKEN_PREFIX: Final = "RFC3161:"  # noqa: S105 - no password
READER_MEMBERS: Final = (
    *("bundle_id", "job_id", "input_hash", "output_hash"),
    *("execution_metadata", "governance_record"),
)
"""Listing 2 without its signatures."""
DECISION_MEMBERS: Final = ("record", "index", "hashes")
"""The proof of the decision's record; size and checkpoint are those of the ledger proof."""
_PROOF_ROOM: Final = 256 * 1024  # bytes left for the ledger proof: a record, a signed note, 63 hashes, twice


FULL: Final = "full"  # evidence level whose bundles have a time stamp of their own


class Authority(Protocol):
    """A time-stamping authority, local or outside."""

    def stamp_digest(self, digest: bytes) -> bytes:
        """Return a DER TimeStampToken over a SHA-512 digest."""
        ...


@dataclass(frozen=True, slots=True)
class _Signed:
    """A statement with its signatures, not stamped yet. Any: JSON."""

    facts: SealFacts
    sealed_at: dt.datetime
    reader: dict[str, Any]
    payload: bytes
    envelope: dict[str, Any]
    mldsa: bytes

    @property
    def imprint(self) -> bytes:
        """Return what is stamped: the SHA-512 digest of the raw ML-DSA-65 signature."""
        return hashlib.sha512(self.mldsa).digest()


def seal(
    facts: SealFacts,
    signers: Sequence[Signer],
    authority: Authority,
    *,
    bundle_id: str | None = None,
    at: dt.datetime | None = None,
) -> Sealed:
    """Seal the evidence of one executed job, with a time stamp of its own (R4.1, R1.7).

    Args:
        facts: The facts.
        signers: ML-DSA-65 and Ed25519, in this order; then the countersigning ECDSA P-384 key, if there is one.
        authority: Stamps the ML-DSA-65 signature.
        bundle_id: Id of the bundle; a new one by default.
        at: System time, UTC; now by default.

    Raises:
        Invalid: ``evidence.facts`` or ``evidence.signers``.
        Limit: ``evidence.size``.
        Integrity: ``evidence.time`` when the clocks disagree so much that no verifier would accept the
            bundle; ``evidence.level`` when the facts lack what their level demands.
    """
    return _seal_alone(_sign(facts, signers, bundle_id, at), authority)


def seal_all(items: Sequence[SealFacts], signers: Sequence[Signer], authority: Authority) -> list[Sealed]:
    """Seal the evidence of jobs that are ready at the same moment, with as few time stamps as their levels allow.

    Those of level ``full`` get a token each; the others share one over the root of a hash tree (RFC 4998),
    and each bundle carries its own way to that root.

    Raises:
        Invalid, Limit, Integrity: As `seal`; nothing is sealed then.
    """
    signed = [_sign(facts, signers, None, None) for facts in items]
    shared = [one for one in signed if one.facts.governance.evidence_level != FULL]
    if len(shared) < 2:
        return [_seal_alone(one, authority) for one in signed]
    root, trees = grow([one.imprint for one in shared])
    token = authority.stamp_digest(root)
    text, time = to_base64(token), time_of(token)
    records = [EvidenceRecord(((ArchiveStamp(token, tree),),)).encode() for tree in trees]
    sealed = iter(
        [_bundle(one, text, time, to_base64(record)) for one, record in zip(shared, records, strict=True)]
    )
    return [
        _seal_alone(one, authority) if one.facts.governance.evidence_level == FULL else next(sealed)
        for one in signed
    ]


def _sign(
    facts: SealFacts, signers: Sequence[Signer], bundle_id: str | None, at: dt.datetime | None
) -> _Signed:
    algorithms = [signer.algorithm for signer in signers]
    if algorithms not in (["ML-DSA-65", "Ed25519"], ["ML-DSA-65", "Ed25519", "ECDSA-P384"]):
        raise Invalid(
            "evidence.signers",
            "other keys than evidence is signed with",
            expected="ML-DSA-65, Ed25519, and ECDSA-P384 where a key store countersigns",
            got=", ".join(algorithms),
        )
    sealed_at = (at or now()).astimezone(dt.UTC)
    sealed_at = sealed_at.replace(microsecond=sealed_at.microsecond // 1000 * 1000)
    statement = compose(facts, bundle_id or new_id("evidence"), sealed_at)
    check_level(statement, subject_digests(statement))
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
    envelope, (mldsa, *_) = sign(payload, signers)
    return _Signed(facts, sealed_at, statement["predicate"]["bundle"], payload, envelope, mldsa)


def _seal_alone(signed: _Signed, authority: Authority) -> Sealed:
    token = authority.stamp_digest(signed.imprint)
    return _bundle(signed, to_base64(token), time_of(token))


def _bundle(signed: _Signed, token: str, token_time: dt.datetime, record: str | None = None) -> Sealed:
    """Put a bundle together.

    Args:
        signed: The signed statement.
        token: The time-stamp token, base64.
        token_time: The time it names.
        record: The evidence record, base64, when the token stamps a tree's root.
    """
    facts, reader, sealed_at = signed.facts, signed.reader, signed.sealed_at
    check_times(facts.when.started, facts.when.ended, sealed_at, token_time)
    proof = {"envelope": signed.envelope, "timestamp": token, "ledger": None}
    document = encode(
        {
            **reader,
            "signatures": {
                "qcos_signature": SIGNATURE_PREFIX + to_base64(signed.mldsa),
                "timestamp_authority": TOKEN_PREFIX + token,
            },
            "proof": proof if record is None else proof | {"evidenceRecord": record},
        }
    )
    return Sealed(
        bundle_id=reader["bundle_id"],
        job_id=facts.job_id,
        document=document,
        statement_digest=digest(signed.payload),
        document_digest=digest(document),
        sealed_at=sealed_at,
        token_time=token_time,
        retain_until=sealed_at + dt.timedelta(days=facts.governance.retention_days),
    )


def attach(
    document: bytes,
    ledger_proof: Mapping[str, Any] | None,  # Any: JSON
    decision_proof: Mapping[str, Any] | None = None,  # Any: JSON
    renewals: Sequence[ArchiveStamp] = (),
) -> dict[str, Any]:  # Any: JSON
    """Return the bundle for the reader: the stored document with its ledger proof in place (null: not yet).

    Args:
        document: What is stored.
        ledger_proof: Of the record ``evidence.sealed``.
        decision_proof: Of the record ``policy.decided``, against the same checkpoint: of it only what the
            other does not say already goes into the bundle.
        renewals: Later archive time stamps, oldest first; one with another hash than the one before begins a chain.

    Raises:
        Integrity: ``evidence.document`` when what was stored is no bundle.
    """
    bundle = loads_strict(document, subject="evidence bundle")
    if not isinstance(bundle, dict) or not isinstance(bundle.get("proof"), dict):
        raise Integrity("evidence.document", "what is stored is no evidence bundle")
    bundle["proof"]["ledger"] = dict(ledger_proof) if ledger_proof is not None else None
    if ledger_proof is not None and decision_proof is not None:
        bundle["proof"]["decision"] = {name: decision_proof[name] for name in DECISION_MEMBERS}
    if renewals:
        record = record_of(bundle)
        for stamp in renewals:
            record = record.continued(stamp)
        bundle["proof"]["evidenceRecord"] = to_base64(record.encode())
    return in_reading_order(bundle)


def payload_of(document: bytes) -> bytes:
    """Return the exact bytes of the statement that a stored bundle holds; nothing of it is verified.

    Raises:
        Integrity: ``evidence.document`` when what was stored is no bundle.
    """
    try:
        bundle = loads_strict(document, subject="evidence bundle")
        return from_base64(bundle["proof"]["envelope"]["payload"], "/proof/envelope/payload")
    except (QcosError, LookupError, TypeError, AttributeError):
        raise Integrity("evidence.document", "what is stored is no evidence bundle") from None


def record_of(bundle: Mapping[str, Any]) -> EvidenceRecord:  # Any: JSON
    """Return the evidence record of a bundle: the one in it, or that of its token alone.

    Raises:
        Integrity: ``evidence.base64`` or ``timestamp.record``.
    """
    attached = bundle["proof"].get("evidenceRecord")
    if attached is not None:
        return read_record(from_base64(attached, "/proof/evidenceRecord"))
    return EvidenceRecord(((ArchiveStamp(from_base64(bundle["proof"]["timestamp"], "/proof/timestamp")),),))


def statement_of(document: bytes) -> dict[str, Any]:  # Any: JSON
    """Return the statement that a stored bundle holds; nothing of it is verified.

    Raises:
        Integrity: ``evidence.document`` when what was stored is no bundle.
    """
    try:
        statement: dict[str, Any] = loads_strict(payload_of(document), subject="statement")
        if isinstance(statement["predicate"], dict):
            return statement
    except (QcosError, LookupError, TypeError):
        pass
    raise Integrity("evidence.document", "what is stored is no evidence bundle")


def decision_record_of(document: bytes) -> str:
    """Return the id of the ledger's record whose proof belongs into a stored bundle; empty below ``full``."""
    evidence = statement_of(document)["predicate"].get("evidence", {})
    return str(evidence["decision"]["record"]) if evidence.get("level") == "full" else ""


def in_reading_order(bundle: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
    """Return the members in the order of Listing 2, the proof last."""
    order = (*READER_MEMBERS, "signatures", "proof")
    return {name: bundle[name] for name in order if name in bundle}


def detached_digest(bundle: Mapping[str, Any]) -> str:  # Any: JSON
    """Return the digest of a bundle as it was sealed: what the ledger record commits to.

    Without what is attached later: the ledger proofs, and every archive time stamp but the initial one, which
    is in the bundle from the beginning only where it holds a way through a hash tree.

    Raises:
        Integrity: ``timestamp.record`` or ``evidence.base64``.
    """
    proof = {**bundle["proof"], "ledger": None}
    proof.pop("decision", None)
    attached = proof.pop("evidenceRecord", None)
    if attached is not None:
        original = read_record(from_base64(attached, "/proof/evidenceRecord")).original()
        if original.first.tree:
            proof["evidenceRecord"] = to_base64(original.encode())
    return digest(encode({**bundle, "proof": proof}))
