"""The log's own signatures under a checkpoint: Ed25519, ML-DSA-44 cosignature, ML-DSA-65."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from qcos.base.errors import Invalid
from qcos.ledger.checkpoint import Checkpoint
from qcos.ledger.note import COSIGNATURE_MLDSA44, ED25519, MLDSA65, Vkey, is_name, join, sign_line

_KINDS: Final = {"Ed25519": ED25519, "ML-DSA-44": COSIGNATURE_MLDSA44, "ML-DSA-65": MLDSA65}


class Signer(Protocol):
    """A private key, wherever it lives."""

    @property
    def algorithm(self) -> str:
        """Return ``Ed25519``, ``ML-DSA-44`` or ``ML-DSA-65``."""
        ...

    @property
    def public_bytes(self) -> bytes:
        """Return the raw public key."""
        ...

    def sign(self, data: bytes) -> bytes:
        """Return the raw signature of data (ML-DSA: pure, empty context)."""
        ...


class CheckpointSigner(Protocol):
    """What signs checkpoints: `LedgerSigners`, or one that follows the keys in force."""

    @property
    def vkeys(self) -> tuple[str, ...]:
        """Return the verifier keys under which the log's checkpoints were ever signed."""
        ...

    def sign(self, checkpoint: Checkpoint, time: int) -> str:
        """Return the signed note."""
        ...


@dataclass(frozen=True, slots=True)
class LedgerSigners:
    """The log's keys.

    Attributes:
        ed25519: For every verifier of today; the public witness network asks for it.
        mldsa44: The form tlog-cosignature recommends to logs.
        mldsa65: The strength QCOS promises.
        name: Key name; the log's origin.
    """

    ed25519: Signer
    mldsa44: Signer
    mldsa65: Signer
    name: str

    def __post_init__(self) -> None:
        wanted = ((self.ed25519, "Ed25519"), (self.mldsa44, "ML-DSA-44"), (self.mldsa65, "ML-DSA-65"))
        for signer, algorithm in wanted:
            if signer.algorithm != algorithm:
                raise Invalid(
                    "ledger.key", "a key of another algorithm", expected=algorithm, got=signer.algorithm
                )
        if not is_name(self.name):
            raise Invalid(
                "ledger.key",
                "not a key name",
                expected="no white space, no '+', at most 255 bytes",
                got=self.name[:80],
            )

    @property
    def vkeys(self) -> tuple[str, ...]:
        """Return the verifier keys, for the trust document."""
        return tuple(str(self._vkey(signer)) for signer in (self.ed25519, self.mldsa44, self.mldsa65))

    def sign(self, checkpoint: Checkpoint, time: int) -> str:
        """Return the signed note.

        Args:
            checkpoint: What is signed. The caller has made sure that no other root was ever signed for its
                size.
            time: POSIX seconds, stated by the ML-DSA-44 cosignature.
        """
        body = checkpoint.body
        signers = (self.ed25519, self.mldsa44, self.mldsa65)
        return join(body, [sign_line(self._vkey(signer), body, signer.sign, time) for signer in signers])

    def _vkey(self, signer: Signer) -> Vkey:
        return Vkey(self.name, _KINDS[signer.algorithm], signer.public_bytes)


def vkey_of(name: str, algorithm: str, public: bytes) -> str:
    """Return the verifier key of a log's key, of whichever generation."""
    return str(Vkey(name, _KINDS[algorithm], public))
