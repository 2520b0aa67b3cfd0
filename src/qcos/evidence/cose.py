"""A bundle's statement as a SCITT Signed Statement (RFC 9943): COSE_Sign1 (RFC 9052), signed with ML-DSA-65 (RFC 9964).

COSE signs its own structure, so this is a signature of its own, made by whoever holds the evidence key, not a
view of the bundle's. Protected: ``alg``, content type, ``kid``, and as CWT claims (RFC 9597) the ledger's name as
issuer, the bundle's id as subject, and when. Unprotected: the RFC 3161 token ``3161-ctt`` (RFC 9921), over the
CBOR-encoded signature. No receipt (RFC 9942): its leaf would have to be this statement, and the ledger's leaves are digests
of records; docs/how-to/export-evidence.md says how the ledger commits to it instead.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Final

import cbor2

from qcos.base.errors import Invalid
from qcos.evidence.bundle import Authority
from qcos.evidence.envelope import PAYLOAD_TYPE, Signer

MEDIA_TYPE: Final = "application/scitt-statement+cose"
ALG: Final = 1
CONTENT_TYPE: Final = 3
KID: Final = 4
CWT_CLAIMS: Final = 15
TOKEN_OVER_SIGNATURE: Final = 270  # 3161-ctt
ISS: Final = 1
SUB: Final = 2
IAT: Final = 6
ML_DSA_65: Final = -49
_SIGN1: Final = 18  # CBOR tag


def signed_statement(
    payload: bytes, signer: Signer, authority: Authority, *, issuer: str, subject: str, at: dt.datetime
) -> bytes:
    """Sign a statement as COSE_Sign1.

    Args:
        payload: The in-toto statement's exact bytes.
        signer: The ML-DSA-65 evidence key.
        authority: Stamps the signature.
        issuer: Name of the ledger.
        subject: Id of the bundle.
        at: When, UTC.

    Raises:
        Invalid: ``evidence.signers`` when it is a key of another algorithm.
    """
    if signer.algorithm != "ML-DSA-65":
        raise Invalid("evidence.signers", "not the key for this", expected="ML-DSA-65", got=signer.algorithm)
    protected = cbor2.dumps(
        {
            ALG: ML_DSA_65,
            CONTENT_TYPE: PAYLOAD_TYPE,
            KID: signer.key_id.encode(),
            CWT_CLAIMS: {ISS: issuer, SUB: subject, IAT: int(at.timestamp())},
        },
        canonical=True,
    )
    signature = signer.sign(to_be_signed(protected, payload))
    unprotected = {
        TOKEN_OVER_SIGNATURE: authority.stamp_digest(hashlib.sha512(cbor2.dumps(signature)).digest())
    }
    return cbor2.dumps(cbor2.CBORTag(_SIGN1, [protected, unprotected, payload, signature]))


def to_be_signed(protected: bytes, payload: bytes) -> bytes:
    """Return the Sig_structure of a COSE_Sign1 without external data (RFC 9052, 4.4)."""
    return cbor2.dumps(["Signature1", protected, b"", payload])
