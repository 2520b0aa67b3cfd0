"""The pinned certificates of authorities, and what is demanded of them (RFC 3161, 2.3; RFC 5280, 6)."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator, Sequence
from typing import Final, NoReturn

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from qcos.base.clock import rfc3339
from qcos.base.errors import Integrity, Invalid

Pins = dict[bytes, x509.Certificate]
"""Certificates by their DER."""

_MAX_CHAIN: Final = 8  # certificates from the authority up to its root


def read_pins(trusted: Sequence[str | bytes]) -> Pins:
    """Read pinned certificates, PEM (one or more each) or DER.

    Raises:
        Invalid: ``timestamp.trust``.
    """
    pins: Pins = {}
    try:
        for given in trusted:
            data = given.encode() if isinstance(given, str) else given
            pem = b"-----BEGIN" in data
            found = x509.load_pem_x509_certificates(data) if pem else [x509.load_der_x509_certificate(data)]
            pins |= {c.public_bytes(serialization.Encoding.DER): c for c in found}
    except ValueError as error:
        raise Invalid(
            "timestamp.trust", "a pinned certificate cannot be read", got=str(error)[:200]
        ) from None
    return pins


def read_authorities(pem: bytes) -> list[tuple[str, str]]:
    """Read the file that pins outside authorities.

    Args:
        pem: Certificates of authorities and of their issuers up to the roots, in any order.

    Returns:
        For each authority its own certificate and the chain of its issuers, PEM.

    Raises:
        Invalid: ``timestamp.trust`` when it holds no authority, or the issuer of one is missing.
    """
    pins = read_pins([pem])
    found = []
    for certificate in pins.values():
        try:
            check_usage(certificate)
        except Integrity:
            continue
        try:
            path = [_pem(one) for one in path_to_root(certificate, pins)]
        except Integrity as error:
            raise Invalid(
                "timestamp.trust", error.message, subject=error.got, expected=error.expected
            ) from None
        found.append((path[0], "".join(path[1:])))
    if not found:
        raise Invalid("timestamp.trust", "no certificate of a time-stamping authority is in the file")
    return found


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def pinned_leaf(pins: Pins, issuer: bytes, serial: int, carried: Sequence[bytes]) -> x509.Certificate:
    """Return the one pinned certificate that a signer names.

    Args:
        pins: The pinned certificates.
        issuer: DER name of its issuer.
        serial: Its serial number.
        carried: DER certificates the token brings along: they count for nothing, and must be pinned ones.

    Raises:
        Integrity: ``timestamp.unpinned``.
    """
    for certificate in carried:
        if certificate not in pins:
            digest = f"sha256:{hashlib.sha256(certificate).hexdigest()}"
            fail("unpinned", "the token carries a certificate that is not pinned", "pinned ones only", digest)
    for pin in pins.values():
        if pin.serial_number == serial and pin.issuer.public_bytes() == issuer:
            return pin
    fail("unpinned", "the signer's certificate is not pinned", "a pinned authority", f"serial {serial:x}")


def check_usage(leaf: x509.Certificate) -> None:
    """Demand exactly one extended key usage, time stamping, critical (RFC 3161, 2.3).

    Raises:
        Integrity: ``timestamp.usage``.
    """
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        fail("usage", "the authority's certificate names no extended key usage", "timeStamping")
    if not usage.critical:
        fail("usage", "the authority's extended key usage is not critical", "critical")
    if list(usage.value) != [ExtendedKeyUsageOID.TIME_STAMPING]:
        names = ", ".join(oid.dotted_string for oid in usage.value)
        fail("usage", "the authority's certificate is not for time stamping alone", "timeStamping", names)


def path_to_root(leaf: x509.Certificate, pins: Pins) -> Iterator[x509.Certificate]:
    """Yield the pinned certificates from the authority up to its root, each signed by the next.

    Raises:
        Integrity: ``timestamp.chain``.
    """
    current = leaf
    for _ in range(_MAX_CHAIN):
        yield current
        if current.issuer == current.subject:
            return
        current = _issuer_of(current, pins)
    fail("chain", "the chain of certificates is too long", f"at most {_MAX_CHAIN}")


def _issuer_of(certificate: x509.Certificate, pins: Pins) -> x509.Certificate:
    name = certificate.issuer.rfc4514_string()
    for candidate in pins.values():
        if candidate.subject != certificate.issuer:
            continue
        try:
            certificate.verify_directly_issued_by(candidate)
            if candidate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
                return candidate
        except (InvalidSignature, x509.ExtensionNotFound, ValueError, TypeError):
            continue
    fail("chain", "no pinned certificate issued this one", name, certificate.subject.rfc4514_string())


def check_validity(path: Sequence[x509.Certificate], at: dt.datetime) -> None:
    """Demand that each certificate of a path was valid at an instant.

    Raises:
        Integrity: ``timestamp.validity``.
    """
    for certificate in path:
        name = certificate.subject.rfc4514_string()
        first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if not first <= at <= last:
            fail(
                "validity",
                f"the certificate of {name} was not valid at the time of the token",
                f"a time from {rfc3339(first)} to {rfc3339(last)}",
                rfc3339(at),
            )


def fail(code: str, message: str, expected: str = "", got: str = "") -> NoReturn:
    """Raise Integrity ``timestamp.<code>`` about a token."""
    raise Integrity(f"timestamp.{code}", message, subject="time-stamp token", expected=expected, got=got)
