"""Requests for certificates (PKCS#10, RFC 2986) of keys wherever they lie, and what a chain that comes back must be.

A certificate binds a key to a purpose by its extended key usage: without that, any certificate of the customer's CA, of a web
server say, could pass for a key of evidence. ML-DSA keys are written as RFC 9881 says.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from asn1crypto import csr, pem
from asn1crypto import x509 as asn1
from asn1crypto.keys import PublicKeyInfo
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from qcos.base.clock import rfc3339
from qcos.base.errors import Invalid
from qcos.base.limits import MAX_CHAIN_BYTES
from qcos.keys.model import Algorithm, Role, Signer
from qcos.keys.purpose import PURPOSES, demand_issued, demand_purpose

_SIGNATURES: Final[dict[Algorithm, str]] = {
    "Ed25519": "1.3.101.112",
    "ML-DSA-44": "2.16.840.1.101.3.4.3.17",
    "ML-DSA-65": "2.16.840.1.101.3.4.3.18",
    "ECDSA-P384": "1.2.840.10045.4.3.4",  # with SHA-512
}
_MAX_CHAIN: Final = 8  # certificates, the root included


def request(signer: Signer, role: Role, name: str) -> str:
    """Return the PEM of a request that the key signs: that it is there, and what it is for.

    Args:
        signer: The key.
        role: Its role; ``tsa-ca`` certifies itself and asks for nothing.
        name: Common name that is asked for; the CA decides.

    Raises:
        Invalid: ``keys.role``, ``keys.name``.
        Unavailable: The key store is away.
    """
    if role not in PURPOSES:
        raise Invalid(
            "keys.role", "no certificate is asked for this role", expected=", ".join(PURPOSES), got=role
        )
    if not 1 <= len(name) <= 64 or not name.isprintable():
        raise Invalid(
            "keys.name", "not a common name", expected="1 to 64 printable characters", got=name[:80]
        )
    usage = asn1.KeyUsage({"digital_signature"})
    purpose = asn1.ExtKeyUsageSyntax([PURPOSES[role]])
    info = csr.CertificationRequestInfo(
        {
            "version": "v1",
            "subject": asn1.Name.build({"common_name": name}),
            "subject_pk_info": PublicKeyInfo.load(signer.spki),
            "attributes": [
                {
                    "type": "extension_request",
                    "values": [
                        [
                            {"extn_id": "key_usage", "critical": True, "extn_value": usage},
                            {
                                "extn_id": "extended_key_usage",
                                "critical": role == "tsa",
                                "extn_value": purpose,
                            },
                        ]
                    ],
                }
            ],
        }
    )
    made = csr.CertificationRequest(
        {
            "certification_request_info": info,
            "signature_algorithm": {"algorithm": _SIGNATURES[signer.algorithm]},
            "signature": signer.sign(info.dump()),
        }
    )
    return str(pem.armor("CERTIFICATE REQUEST", made.dump()).decode())


def read_chain(text: str) -> tuple[x509.Certificate, ...]:
    """Read a chain, PEM: the key's certificate, its issuer, and so on to the root that signed itself.

    Raises:
        Invalid: ``keys.chain`` with what is wrong.
    """
    if len(text) > MAX_CHAIN_BYTES:
        raise _bad("it is too long", f"at most {MAX_CHAIN_BYTES} bytes", f"{len(text)}")
    try:
        chain = x509.load_pem_x509_certificates(text.encode())
        if len(chain) > _MAX_CHAIN:
            raise _bad("too many certificates", f"at most {_MAX_CHAIN}", str(len(chain)))
        for certificate, issuer in pairwise(chain):
            demand_issued(certificate, issuer)
        demand_issued(chain[-1], chain[-1])
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature, x509.ExtensionNotFound) as error:
        raise _bad(
            "it does not lead from the key to a root",
            "each certificate issued by the next, the last by itself",
            f"{type(error).__name__}: {error}"[:200],
        ) from None
    return tuple(chain)


def demand_fits(chain: Sequence[x509.Certificate], role: Role, at: dt.datetime) -> None:
    """Demand that a chain is good for a role now.

    Raises:
        Invalid: ``keys.chain``.
    """
    if role not in PURPOSES:
        raise _bad("a key of this role certifies itself", ", ".join(PURPOSES), role)
    for certificate in chain:
        first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if not first <= at <= last:
            raise _bad("a certificate is not valid now", f"{rfc3339(first)} to {rfc3339(last)}", rfc3339(at))
    try:
        demand_purpose(chain[0], role)
    except ValueError as error:
        raise _bad("the key's certificate is not for its purpose", PURPOSES[role], str(error)) from None


def spki_of(certificate: x509.Certificate) -> bytes:
    """Return the DER SubjectPublicKeyInfo."""
    return certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _bad(why: str, expected: str, got: str) -> Invalid:
    return Invalid(
        "keys.chain", f"the chain of certificates cannot be used: {why}", expected=expected, got=got[:200]
    )
