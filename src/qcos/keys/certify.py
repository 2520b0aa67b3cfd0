"""The certificates of the local time-stamping authority (RFC 3161 part 2.3, RFC 5280)."""

from __future__ import annotations

import datetime as dt
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# A token is checked at the time it names, so a certificate need only outlive its use, not the seven years
# evidence is kept.
CA_DAYS: Final = 7305  # twenty years
TSA_DAYS: Final = 3652  # ten years
_BACKDATE: Final = dt.timedelta(
    minutes=10
)  # another machine's clock may be behind when the first token is made


def issue_ca(key: ec.EllipticCurvePrivateKey, at: dt.datetime) -> x509.Certificate:
    """Return a self-signed certificate of a CA that issues nothing but time-stamping certificates."""
    serial = x509.random_serial_number()
    name = _name(
        f"QCOS local CA {serial:x}"[:30]
    )  # a name of its own: two instances must not share an issuer
    return (
        _builder(name, name, key.public_key(), serial, at, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA512())
    )


def issue_tsa(
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    public: ec.EllipticCurvePublicKey,
    at: dt.datetime,
) -> x509.Certificate:
    """Return the authority's certificate: one extended key usage, time stamping, critical (RFC 3161, 2.3)."""
    serial = x509.random_serial_number()
    return (
        _builder(_name("QCOS time-stamping authority"), ca.subject, public, serial, at, TSA_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA512())
    )


def to_pem(certificate: bytes) -> str:
    """Return the PEM text of a DER certificate."""
    return x509.load_der_x509_certificate(certificate).public_bytes(serialization.Encoding.PEM).decode()


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    serial: int,
    at: dt.datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(at - _BACKDATE)
        .not_valid_after(at + dt.timedelta(days=days))
    )


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )
