"""A key that a key store holds, as a `Signer`: it is used where it lies and cannot be read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Protocol

from qcos.base.errors import Integrity, Invalid, Unavailable
from qcos.keys.model import Algorithm, Signer
from qcos.keys.signer import PublicHalf, PublicKey


class Maker(Protocol):
    """A key store that makes the keys of later generations. Safe for many threads."""

    def make(self, algorithm: Algorithm) -> tuple[Signer, str]:
        """Make a new key and return it with what finds it again in the store.

        Raises:
            Invalid: ``keys.make`` when the store has no such keys.
            Unavailable: The store is away, or does not let this installation make keys.
        """
        ...

    def open(self, locator: str, algorithm: Algorithm) -> Signer:
        """Return a key that was made so.

        Raises:
            Integrity: ``keys.missing``.
            Unavailable: The store is away.
        """
        ...


def makes_none(store: str, algorithm: Algorithm, makes: str) -> Invalid:
    """Return the error of a store that has no keys of an algorithm."""
    return Invalid(
        "keys.make",
        "this key store makes no such keys",
        subject=store,
        expected=makes,
        got=algorithm,
        hint="keys of this algorithm are made in files, wrapped by the store: --store file",
    )


class HeldSigner(PublicHalf):
    """Signs in a key store. Safe for many threads if the store is.

    Every signature is checked before it is given away: a key store that answers with another key, or wrongly,
    must not make evidence that nobody can verify.

    Args:
        public: The public key.
        sign: Asks the store for the signature over the data (for ECDSA: DER, over SHA-512).
        where: Where the key lies, for messages.
    """

    __slots__ = ("_sign", "_where")

    def __init__(self, public: PublicKey, sign: Callable[[bytes], bytes], where: str) -> None:
        super().__init__(public)
        self._sign = sign
        self._where = where

    def sign(self, data: bytes) -> bytes:
        """Return the signature over the data.

        Raises:
            Unavailable: The key store does not sign now, for whatever reason; ``keys.held_signature`` when what it
                answers is no signature by this key. What was to be signed waits until the store is put right.
        """
        try:
            signature = self._sign(data)
        except (Invalid, Integrity) as error:  # it did sign once: no input of the caller's is wrong
            raise Unavailable(
                error.code,
                error.message,
                subject=error.subject or self._where,
                got=error.got,
                hint=error.hint,
            ) from error
        try:
            self._public.verify(signature, data)
        except Integrity:
            raise Unavailable(
                "keys.held_signature",
                "the key store's signature is not by the key it showed",
                subject=self._where,
                expected=f"a signature by key {self.key_id}",
                hint="was the key replaced in the store? Restore the one that this installation was made with",
            ) from None
        return signature

    def __repr__(self) -> str:
        return f"<{self.algorithm} signer {self.key_id} in {self._where}>"


def p384_digest(data: bytes) -> bytes:
    """Return what a P-384 key signs of the data: the leftmost 48 bytes of its SHA-512 digest.

    ECDSA uses no more bits of a digest than the curve's order has (FIPS 186-5, 6.4.1), so this gives the very
    signature that ECDSA with SHA-512 gives, also in stores that take no digest longer than the order or know
    P-384 with SHA-384 only.
    """
    return hashlib.sha512(data).digest()[:48]


def mldsa_mu(public: PublicKey, data: bytes) -> bytes:
    """Return the 64 bytes that an ML-DSA key signs of the data: the message representative (FIPS 204, 6.2 and 5.2).

    Pure ML-DSA with the empty context: mu = H(H(pk, 64) || 0 || 0 || M, 64), H being SHAKE256. A signature over mu is
    the very signature over the data; this is not HashML-DSA.
    """
    seen = hashlib.shake_256(public.raw).digest(64)
    return hashlib.shake_256(seen + b"\0\0" + data).digest(64)
