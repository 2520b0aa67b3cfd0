"""What a certificate of a QCOS key is for (RFC 5280, 4.2.1.12), and who issued it. Pure; the offline verifier uses it."""

from __future__ import annotations

import contextlib
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

# A UUID-based arc (ITU-T X.667) needs no registration and belongs to nobody else.
_ARC: Final = "2.25.75528076544071846905543174856402254528"
PURPOSES: Final = {
    "evidence": f"{_ARC}.1",
    "ledger": f"{_ARC}.2",
    "tsa": ExtendedKeyUsageOID.TIME_STAMPING.dotted_string,
}
"""The extended key usage of each role that a CA may certify."""


def demand_purpose(certificate: x509.Certificate, role: str) -> None:
    """Demand that a certificate is for a role: its extended key usage, and for time stamps nothing else (RFC 3161, 2.3).

    Raises:
        ValueError: With what it is for.
    """
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        raise ValueError("no extended key usage") from None
    named = [oid.dotted_string for oid in usage.value]
    if PURPOSES[role] not in named or (role == "tsa" and (len(named) > 1 or not usage.critical)):
        raise ValueError(f"extended key usage {', '.join(named)}{' (critical)' if usage.critical else ''}")


def demand_issued(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    """Demand that a CA issued a certificate.

    Raises:
        ValueError, TypeError, InvalidSignature, ExtensionNotFound: When it did not, or is none.
    """
    certificate.verify_directly_issued_by(issuer)
    constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
    if not constraints.ca:
        raise ValueError(f"{issuer.subject.rfc4514_string()} is no CA")
    with contextlib.suppress(x509.ExtensionNotFound):
        if not issuer.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign:
            raise ValueError(f"{issuer.subject.rfc4514_string()} may not sign certificates")
