"""Make a customer's CA the trust root: of a trust document, whoever sent it, only the keys count that the CA certified (R10.5).

The CA says that a key belongs to the installation, what it is for, and how long it says so. Everything else that a trust document
restricts (revocations, witnesses) is worth what the way it came by is worth: who does not trust that way looks at the CA's
revocation lists, too.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from qcos.base.errors import Invalid
from qcos.evidence.trust import Trust, TrustedAuthority, TrustedKey
from qcos.keys.purpose import demand_issued, demand_purpose
from qcos.ledger.note import COSIGNATURE_MLDSA44, ED25519, MLDSA65
from qcos.ledger.pinned import PinnedVkey

_MAX_PATH: Final = 8  # certificates from a key up to the CA
_EVIDENCE: Final = {"ML-DSA-65", "Ed25519"}
_LEDGER: Final = {ED25519, COSIGNATURE_MLDSA44, MLDSA65}
_BROKEN: Final = (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.ExtensionNotFound)


def read_roots(text: str | bytes) -> tuple[x509.Certificate, ...]:
    """Read the CA's certificates, PEM: one, or several of which each is trusted.

    Raises:
        Invalid: ``trust.ca``.
    """
    try:
        return tuple(x509.load_pem_x509_certificates(text.encode() if isinstance(text, str) else text))
    except ValueError as error:
        raise Invalid(
            "trust.ca", "the CA's certificate cannot be read", expected="PEM", got=str(error)[:200]
        ) from None


def certified(trust: Trust, roots: Sequence[x509.Certificate]) -> Trust:
    """Return what is left of a trust document when only certified keys count, each as long as its certificates do.

    Raises:
        Invalid: ``trust.uncertified`` when the CA certified no key of a kind that every verification needs, with the reason of each.
    """
    sieve = _Sieve(roots)
    keys = {key_id: found for key_id, key in trust.keys.items() if (found := sieve.key(key_id, key))}
    vkeys = tuple(pinned for key in trust.vkeys if (pinned := sieve.vkey(key)))
    authorities = {
        certificate: authority
        for certificate, authority in trust.authorities.items()
        if sieve.authority(certificate, authority)
    }
    sieve.demand(
        {
            "evidence": {key.public.algorithm for key in keys.values()} >= _EVIDENCE,
            "ledger": {key.vkey.kind for key in vkeys} >= _LEDGER,
            "tsa": bool(authorities),
        }
    )
    chains = tuple(dict.fromkeys(authority.chain for authority in authorities.values()))
    return replace(trust, keys=keys, vkeys=vkeys, certificates=chains, authorities=authorities)


class _Sieve:
    """Lets through what the roots certified, and remembers why it did not let the rest through."""

    def __init__(self, roots: Sequence[x509.Certificate]) -> None:
        self._roots = roots
        self._refused: list[str] = []

    def key(self, key_id: str, key: TrustedKey) -> TrustedKey | None:
        found = self._window(key.chain, key.public.spki, "evidence", f"evidence key {key_id}")
        if found is None:
            return None
        first, last = found
        return replace(key, not_before=max(first, key.not_before), not_after=min(last, key.not_after or last))

    def vkey(self, key: PinnedVkey) -> PinnedVkey | None:
        raw = key.vkey.public
        found = self._window(
            key.chain, raw, "ledger", f"{key.vkey.algorithm} key {key.vkey.key_id.hex()} of the ledger"
        )
        if found is None:
            return None
        first, last = found
        return replace(
            key, not_before=max(first, key.not_before or first), not_after=min(last, key.not_after or last)
        )

    def authority(self, certificate: bytes, authority: TrustedAuthority) -> bool:
        spki = _spki(x509.load_der_x509_certificate(certificate))
        return self._window(authority.chain, spki, "tsa", "a time-stamping authority") is not None

    def demand(self, held: dict[str, bool]) -> None:
        lacking = [role for role, ok in held.items() if not ok]
        if lacking:
            raise Invalid(
                "trust.uncertified",
                f"the CA certified no key, or not every kind of key, for: {', '.join(lacking)}",
                expected="a chain of certificates to the CA beside each key of the trust document",
                got="; ".join(self._refused)[:1000] or "no such key",
                hint="see docs/how-to/use-your-own-ca.md",
            )

    def _window(
        self, chain: str, public: bytes, role: str, what: str
    ) -> tuple[dt.datetime, dt.datetime] | None:
        """Return in which time all certificates from the key to a root are valid; None, and why, when there is no way."""
        try:
            if not chain:
                raise ValueError("it has no certificate")
            leaf, *issuers = x509.load_pem_x509_certificates(chain.encode())
            if public not in (_spki(leaf), _raw(leaf)):
                raise ValueError("its certificate is for another key")
            demand_purpose(leaf, role)
            path = self._path(leaf, issuers)
        except _BROKEN as error:
            self._refused.append(f"{what}: {str(error) or type(error).__name__}")
            return None
        return max(c.not_valid_before_utc for c in path), min(c.not_valid_after_utc for c in path)

    def _path(self, leaf: x509.Certificate, issuers: Sequence[x509.Certificate]) -> list[x509.Certificate]:
        path = [leaf]
        while path[-1] not in self._roots:
            issuer = next((one for one in (*self._roots, *issuers) if _issued(path[-1], one)), None)
            if issuer is None or issuer in path or len(path) == _MAX_PATH:
                names = ", ".join(root.subject.rfc4514_string() for root in self._roots)
                raise ValueError(f"{path[-1].subject.rfc4514_string()} does not lead to {names}")
            path.append(issuer)
        return path


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        demand_issued(certificate, issuer)
    except _BROKEN:
        return False
    return True


def _spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _raw(certificate: x509.Certificate) -> bytes:
    """Return the public key as a verifier key of a ledger has it; nothing for keys that have no such form."""
    try:
        return certificate.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )
    except (ValueError, TypeError):
        return b""
