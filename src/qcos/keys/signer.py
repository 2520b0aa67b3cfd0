"""A private key in memory as a `Signer`, and the public keys that check what it signed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa

from qcos.base.errors import Integrity, Invalid
from qcos.keys.model import Algorithm

PrivateKey = (
    ed25519.Ed25519PrivateKey | mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey | ec.EllipticCurvePrivateKey
)
Public = (
    ed25519.Ed25519PublicKey | mldsa.MLDSA44PublicKey | mldsa.MLDSA65PublicKey | ec.EllipticCurvePublicKey
)

GENERATORS: Final[dict[Algorithm, Callable[[], PrivateKey]]] = {
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "ML-DSA-44": mldsa.MLDSA44PrivateKey.generate,
    "ML-DSA-65": mldsa.MLDSA65PrivateKey.generate,
    "ECDSA-P384": lambda: ec.generate_private_key(ec.SECP384R1()),
}

_RAW: Final[dict[Algorithm, Callable[[bytes], Public]]] = {
    "Ed25519": ed25519.Ed25519PublicKey.from_public_bytes,
    "ML-DSA-44": mldsa.MLDSA44PublicKey.from_public_bytes,
    "ML-DSA-65": mldsa.MLDSA65PublicKey.from_public_bytes,
}
_ECDSA: Final = ec.ECDSA(hashes.SHA512())


class PublicHalf:
    """What every signer says of its key, wherever the private half lies."""

    __slots__ = ("_public",)

    def __init__(self, public: PublicKey) -> None:
        self._public = public

    @property
    def key_id(self) -> str:
        """Return the first 16 hex digits of the SHA-256 of the SPKI."""
        return self._public.key_id

    @property
    def algorithm(self) -> Algorithm:
        """Return the algorithm."""
        return self._public.algorithm

    @property
    def public_bytes(self) -> bytes:
        """Return the raw public key."""
        return self._public.raw

    @property
    def spki(self) -> bytes:
        """Return the DER SubjectPublicKeyInfo."""
        return self._public.spki


class PrivateKeySigner(PublicHalf):
    """Signs with a private key held in memory. Safe for many threads."""

    __slots__ = ("_key",)

    def __init__(self, key: PrivateKey) -> None:
        super().__init__(PublicKey(key.public_key()))
        self._key = key

    @property
    def private_key(self) -> PrivateKey:
        """Return the key itself, for those who store it or issue certificates with it."""
        return self._key

    def sign(self, data: bytes) -> bytes:
        """Return the signature over the data."""
        if isinstance(self._key, ec.EllipticCurvePrivateKey):
            return self._key.sign(data, _ECDSA)
        return self._key.sign(data)

    def __repr__(self) -> str:
        return f"<{self.algorithm} signer {self.key_id}>"


class PublicKey:
    """A public key that checks signatures. The algorithm belongs to the key, never to the message."""

    __slots__ = ("_key", "algorithm", "key_id", "raw", "spki")

    def __init__(self, key: Public) -> None:
        self._key = key
        self.algorithm: Algorithm = _algorithm(key)
        self.spki = key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.key_id = hashlib.sha256(self.spki).hexdigest()[:16]
        self.raw = (
            key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
            if isinstance(key, ec.EllipticCurvePublicKey)
            else key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        )

    @classmethod
    def load(cls, spki: bytes) -> PublicKey:
        """Read a DER SubjectPublicKeyInfo.

        Raises:
            Invalid: ``keys.public`` when it is none, or of an algorithm QCOS does not use.
        """
        try:
            key = serialization.load_der_public_key(spki)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise Invalid(
                "keys.public", "not a public key", expected="DER SubjectPublicKeyInfo", got=str(error)[:100]
            ) from None
        if not isinstance(key, Public):
            raise Invalid(
                "keys.public", "a key of an algorithm that is not used here", got=type(key).__name__
            )
        return cls(key)

    @classmethod
    def of_raw(cls, algorithm: Algorithm, raw: bytes) -> PublicKey:
        """Read a raw public key of a known algorithm.

        Raises:
            Invalid: ``keys.public``.
        """
        try:
            return cls(_RAW[algorithm](raw))
        except (KeyError, ValueError, TypeError) as error:
            raise Invalid(
                "keys.public", "not a raw public key", expected=algorithm, got=str(error)[:100]
            ) from None

    def verify(self, signature: bytes, data: bytes) -> None:
        """Check a signature over the data.

        Raises:
            Integrity: ``keys.signature``.
        """
        try:
            if isinstance(self._key, ec.EllipticCurvePublicKey):
                self._key.verify(signature, data, _ECDSA)
            else:
                self._key.verify(signature, data)
        except (InvalidSignature, ValueError):
            raise Integrity(
                "keys.signature",
                f"the {self.algorithm} signature does not fit the data",
                subject=f"key {self.key_id}",
            ) from None


def _algorithm(key: Public) -> Algorithm:
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "Ed25519"
    if isinstance(key, mldsa.MLDSA44PublicKey):
        return "ML-DSA-44"
    if isinstance(key, mldsa.MLDSA65PublicKey):
        return "ML-DSA-65"
    if isinstance(key.curve, ec.SECP384R1):
        return "ECDSA-P384"
    raise Invalid("keys.public", "a curve that is not used here", expected="P-384", got=key.curve.name)
