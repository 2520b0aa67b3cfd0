"""What signs, what is known of every key, and the set of keys one instance of QCOS signs with."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final, Literal, Protocol

Algorithm = Literal["Ed25519", "ML-DSA-44", "ML-DSA-65", "ECDSA-P384"]
Role = Literal["evidence", "ledger", "tsa", "tsa-ca"]
State = Literal["active", "retiring", "retired", "revoked"]

NEEDED: Final[dict[Role, tuple[Algorithm, ...]]] = {
    "evidence": ("ML-DSA-65", "Ed25519"),
    "ledger": ("Ed25519", "ML-DSA-44", "ML-DSA-65"),
    "tsa": ("ECDSA-P384",),
    "tsa-ca": ("ECDSA-P384",),
}
"""The keys every installation has: roles, and the algorithms each signs with, in this order."""

OPTIONAL: Final[dict[Role, tuple[Algorithm, ...]]] = {"evidence": ("ECDSA-P384",)}
"""Keys a role may have besides: the countersignature of evidence, held by an HSM."""


def slot(role: Role, algorithm: Algorithm) -> str:
    """Return the short name of a role's key of an algorithm: ``evidence-mldsa65``; what its file is called."""
    if len(NEEDED[role]) == 1:
        return role
    return f"{role}-{algorithm.replace('-', '').removeprefix('ECDSA').lower()}"


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
class KeyEntry:
    """What is known publicly of one key, of whichever generation.

    Attributes:
        key_id: First 16 hex digits of the SHA-256 of the SPKI.
        role: What it signs; a key has one role, ever.
        algorithm: Its algorithm.
        generation: 1 for the first key of its role and algorithm, then 2, 3, ...
        spki: DER SubjectPublicKeyInfo.
        store: Kind of store that has the private half: ``file``, ``pkcs11``, ``transit``, ``awskms``.
        locator: Which one it is there; for a file, its name.
        not_before: When it was made, UTC.
        not_after: From when on its signatures do not count, for another key took its place.
        revoked_at: From when on its signatures do not count, for it is not to be trusted.
        reason: Why it was revoked.
        chain: DER certificates, its own first: of the installation's CA for ``tsa``, else of a customer's.
        former: Chains it had before: what was stamped with them names them.
        announced_at: When the ledger said that it is in use.
    """

    key_id: str
    role: Role
    algorithm: Algorithm
    generation: int
    spki: bytes
    store: str
    locator: str
    not_before: dt.datetime
    not_after: dt.datetime | None = None
    revoked_at: dt.datetime | None = None
    reason: str = ""
    chain: tuple[bytes, ...] = ()
    former: tuple[tuple[bytes, ...], ...] = ()
    announced_at: dt.datetime | None = None

    @property
    def in_force(self) -> bool:
        """Return whether it signs: it was neither replaced nor revoked."""
        return self.not_after is None and self.revoked_at is None

    @property
    def slot(self) -> str:
        """Return the short name of its role and algorithm."""
        return slot(self.role, self.algorithm)

    def state(self, at: dt.datetime) -> State:
        """Return how it stands at an instant: ``retiring`` no longer signs, but what it signed still counts."""
        if self.revoked_at is not None:
            return "revoked"
        if self.not_after is None:
            return "active"
        return "retiring" if at <= self.not_after else "retired"


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys one instance signs with now, and all that are known.

    Attributes:
        evidence: ML-DSA-65 and Ed25519: the two signatures of an evidence envelope.
        ledger: Ed25519, ML-DSA-44 and ML-DSA-65: the three signature lines of a checkpoint.
        tsa_key: ECDSA P-384 key of the local time-stamping authority (`openssl ts` cannot use ML-DSA).
        tsa_chain: DER certificates of that authority, its own first, then its CA's (self-signed).
        created: When the first keys were made, UTC.
        entries: The public side of every key, of all generations, in the order of `NEEDED`, the oldest first.
        countersigner: ECDSA P-384 key that a key store holds, the third signature of an envelope; if there is one.
        version: Of the registry this was read from; 0 for keys that stand in no registry.
    """

    evidence: tuple[Signer, Signer]
    ledger: tuple[Signer, Signer, Signer]
    tsa_key: Signer
    tsa_chain: tuple[bytes, ...]
    created: dt.datetime
    entries: tuple[KeyEntry, ...] = ()
    countersigner: Signer | None = None
    version: int = 0

    @property
    def evidence_signers(self) -> tuple[Signer, ...]:
        """Return what signs an evidence envelope, in the order of its signatures."""
        return self.evidence if self.countersigner is None else (*self.evidence, self.countersigner)

    def of(self, role: Role) -> tuple[KeyEntry, ...]:
        """Return the entries of a role."""
        return tuple(entry for entry in self.entries if entry.role == role)
