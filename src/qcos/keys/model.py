"""What signs, and the set of keys one instance of QCOS signs with."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Literal, Protocol

Algorithm = Literal["Ed25519", "ML-DSA-44", "ML-DSA-65", "ECDSA-P384"]


class Signer(Protocol):
    """Something that signs: a key in a file, in an HSM or behind a KMS.

    Signing is pure mode with the empty context for ML-DSA (FIPS 204, RFC 9881) and SHA-512 for ECDSA.
    """

    @property
    def key_id(self) -> str:
        """Return the first 16 hex digits of the SHA-256 of the DER SubjectPublicKeyInfo."""
        ...

    @property
    def algorithm(self) -> Algorithm:
        """Return the algorithm."""
        ...

    @property
    def public_bytes(self) -> bytes:
        """Return the raw public key (for ECDSA: the uncompressed point)."""
        ...

    @property
    def spki(self) -> bytes:
        """Return the DER SubjectPublicKeyInfo."""
        ...

    def sign(self, data: bytes) -> bytes:
        """Return the signature over the data (for ECDSA: DER)."""
        ...


@dataclass(frozen=True, slots=True)
class Keyring:
    """Every key of one instance.

    Attributes:
        evidence: ML-DSA-65 and Ed25519: the two signatures of an evidence envelope.
        ledger: Ed25519, ML-DSA-44 and ML-DSA-65: the three signature lines of a checkpoint.
        tsa_key: ECDSA P-384 key of the local time-stamping authority (`openssl ts` cannot use ML-DSA).
        tsa_chain: DER certificates of that authority, its own first, then its CA's (self-signed).
        created: When the keys were made, UTC.
        countersigner: ECDSA P-384 key that a key store holds, the third signature of an envelope; if there is one.
    """

    evidence: tuple[Signer, Signer]
    ledger: tuple[Signer, Signer, Signer]
    tsa_key: Signer
    tsa_chain: tuple[bytes, ...]
    created: dt.datetime
    countersigner: Signer | None = None

    @property
    def evidence_signers(self) -> tuple[Signer, ...]:
        """Return what signs an evidence envelope, in the order of its signatures."""
        return self.evidence if self.countersigner is None else (*self.evidence, self.countersigner)
