"""Verify a token offline, against pinned certificates (RFC 3161, 2.2 and 2.4.2; RFC 5652, 5.4; RFC 5816).

Stricter than the usual verifiers: the authority's own certificate is pinned, so that no chain a token
brings along can make itself trusted; nothing unsigned is let through, so that no byte of a token can be
changed unnoticed.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from asn1crypto import cms, tsp
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from qcos.timestamp import der
from qcos.timestamp.pinned import check_usage, check_validity, fail, path_to_root, pinned_leaf, read_pins
from qcos.timestamp.request import DIGEST_SIZES, MALFORMED
from qcos.timestamp.token import MAX_TOKEN_BYTES

_HASHES: Final[dict[str, type[hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | hashes.SHA3_512]]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
    "sha3_512": hashes.SHA3_512,
}


@dataclass(frozen=True, slots=True)
class TimeInfo:
    """What a verified token says.

    Attributes:
        time: The instant named, UTC.
        accuracy: Promised distance from the true time; None when the token promises none.
        serial: Number of the token at its authority.
        policy: Dotted policy identifier.
        authority: Subject of the authority's certificate (RFC 4514).
        hash_name: Hash of the imprint.
        certificate: DER of the authority's certificate.
        expires: Until when its certificate and those of its issuers are all valid, UTC.
        nonce: The requester's nonce, if it has one.
    """

    time: dt.datetime
    accuracy: dt.timedelta | None
    serial: int
    policy: str
    authority: str
    hash_name: str
    certificate: bytes
    expires: dt.datetime
    nonce: int | None = None


def verify_token(token: bytes, data: bytes, trusted: Sequence[str | bytes]) -> TimeInfo:
    """Check that a pinned authority stamped this data.

    Args:
        token: DER TimeStampToken (a CMS ContentInfo).
        data: The bytes that were stamped.
        trusted: Pinned certificates, PEM (one or more each) or DER: the authorities' own and their issuers'.

    Raises:
        Integrity: ``timestamp.`` and ``malformed``, ``signers``, ``unpinned``, ``usage``, ``chain``,
            ``attributes``, ``signature``, ``imprint`` or ``validity``, with what was expected and got.
        Invalid: ``timestamp.trust`` when a pinned certificate cannot be read.
    """
    return _verify(token, lambda hash_name: hashlib.new(hash_name, data).digest(), trusted)


def verify_root(token: bytes, root: bytes, trusted: Sequence[str | bytes]) -> TimeInfo:
    """Check that a pinned authority stamped a hash itself: the root of a hash tree (RFC 4998, 4.3).

    Raises:
        Integrity, Invalid: As `verify_token`.
    """
    return _verify(token, lambda _: root, trusted)


def signer_of(token: bytes, trusted: Sequence[str | bytes]) -> bytes:
    """Return the DER of the pinned certificate that a token names as its signer's; nothing is verified.

    Raises:
        Integrity: ``timestamp.malformed``, ``timestamp.signers`` or ``timestamp.unpinned``.
    """
    try:
        parsed = _Parsed.read(token)
        leaf = pinned_leaf(read_pins(trusted), *_signer_name(parsed), parsed.certificates)
    except MALFORMED as error:
        _malformed(f"{type(error).__name__}: {error}")
    return leaf.public_bytes(serialization.Encoding.DER)


def _verify(token: bytes, imprint: Callable[[str], bytes], trusted: Sequence[str | bytes]) -> TimeInfo:
    pins = read_pins(trusted)
    try:
        parsed = _Parsed.read(token)
        leaf = pinned_leaf(pins, *_signer_name(parsed), parsed.certificates)
        check_usage(leaf)
        path = list(path_to_root(leaf, pins))
        _check_attributes(parsed, leaf)
        _check_signature(parsed, leaf)
        info = _time_info(parsed, leaf, min(one.not_valid_after_utc for one in path))
        _check_imprint(parsed.info, imprint)
    except MALFORMED as error:
        _malformed(f"{type(error).__name__}: {error}")
    check_validity(path, info.time)
    return info


@dataclass(frozen=True, slots=True)
class _Parsed:
    """The parts of a token. Any: asn1crypto's values carry no types."""

    info: Any
    info_bytes: bytes
    signer: Any
    signed_attrs: bytes
    certificates: tuple[bytes, ...]

    @classmethod
    def read(cls, token: bytes) -> _Parsed:
        if len(token) > MAX_TOKEN_BYTES:
            fail(
                "malformed",
                "the token is too long",
                f"at most {MAX_TOKEN_BYTES} bytes",
                f"{len(token)} bytes",
            )
        der.check(token)
        content = cms.ContentInfo.load(token, strict=True)
        if content["content_type"].native != "signed_data":
            fail("malformed", "not a CMS SignedData", "signed_data", content["content_type"].native)
        signed = content["content"]
        encapsulated = signed["encap_content_info"]
        if encapsulated["content_type"].native != "tst_info":
            fail(
                "malformed",
                "the signed content is no TSTInfo",
                "tst_info",
                encapsulated["content_type"].native,
            )
        info_bytes = bytes(encapsulated["content"])
        if len(signed["signer_infos"]) != 1:
            fail("signers", "not exactly one signer", "1", str(len(signed["signer_infos"])))
        certificates = tuple(c.dump() for c in signed["certificates"]) if signed["certificates"] else ()
        _check_frame(signed)
        signer = signed["signer_infos"][0]
        # As they stand in the token: once its members were looked at, asn1crypto encodes them anew, which takes milliseconds.
        signed_attrs = bytes(signer["signed_attrs"].dump())
        info = tsp.TSTInfo.load(info_bytes, strict=True)
        return cls(info, info_bytes, signer, signed_attrs, certificates)


def _check_frame(signed: Any) -> None:  # Any: asn1crypto
    """Refuse what no signature covers, unless it is exactly what it has to be."""
    signer = signed["signer_infos"][0]
    if signed["crls"].native is not None or signer["unsigned_attrs"].native is not None:
        _malformed("unsigned members that nothing vouches for")
    versions = (signed["version"].native, signer["version"].native)
    if versions != ("v3", "v1"):
        _malformed(f"CMS versions {versions}")
    if signed["digest_algorithms"].dump() != der.set_of(signer["digest_algorithm"].dump()):
        _malformed("the digest algorithms are not the signer's")


def _signer_name(parsed: _Parsed) -> tuple[bytes, int]:
    sid = parsed.signer["sid"]
    if sid.name != "issuer_and_serial_number":
        fail("unpinned", "the signer is not named by issuer and serial number", got=sid.name)
    return sid.chosen["issuer"].dump(), sid.chosen["serial_number"].native


def _check_attributes(parsed: _Parsed, leaf: x509.Certificate) -> None:
    attributes: dict[str, Any] = {}  # Any: asn1crypto
    for attribute in parsed.signer["signed_attrs"]:
        kind = attribute["type"].native
        if kind in attributes or len(attribute["values"]) != 1:
            fail("attributes", "a signed attribute that stands twice", "one value", kind)
        attributes[kind] = attribute["values"][0]
    for needed in ("content_type", "message_digest", "signing_certificate_v2"):
        if needed not in attributes:
            fail("attributes", "a signed attribute is missing", needed)
    if attributes["content_type"].native != "tst_info":
        fail("attributes", "another content type is signed", "tst_info", attributes["content_type"].native)
    hash_name = _accepted_hash(parsed.signer["digest_algorithm"]["algorithm"].native)
    _compare(
        "attributes",
        "the signed digest is not that of the TSTInfo",
        hashlib.new(hash_name, parsed.info_bytes).digest(),
        attributes["message_digest"].native,
    )
    named = attributes["signing_certificate_v2"]["certs"][0]
    digest = hashlib.new(
        _accepted_hash(named["hash_algorithm"]["algorithm"].native),
        leaf.public_bytes(serialization.Encoding.DER),
    )
    _compare(
        "attributes",
        "the signed certificate id (ESSCertIDv2) is not that of the pinned certificate",
        digest.digest(),
        named["cert_hash"].native,
    )


def _check_signature(parsed: _Parsed, leaf: x509.Certificate) -> None:
    hash_name = _accepted_hash(parsed.signer["digest_algorithm"]["algorithm"].native)
    method = parsed.signer["signature_algorithm"]["algorithm"].native
    signed = b"\x31" + parsed.signed_attrs[1:]  # [0] IMPLICIT is signed as a SET (RFC 5652, 5.4)
    signature, public = parsed.signer["signature"].native, leaf.public_key()
    try:
        if isinstance(public, ec.EllipticCurvePublicKey) and method == f"{hash_name}_ecdsa":
            public.verify(signature, signed, ec.ECDSA(_HASHES[hash_name]()))
        elif isinstance(public, rsa.RSAPublicKey) and method in ("rsassa_pkcs1v15", f"{hash_name}_rsa"):
            public.verify(signature, signed, padding.PKCS1v15(), _HASHES[hash_name]())
        else:
            fail(
                "signature",
                "a signature of a kind that is not accepted",
                "ECDSA or RSA (PKCS #1 v1.5)",
                method,
            )
    except (InvalidSignature, ValueError):
        fail("signature", "the authority's signature does not fit the token")


def _check_imprint(info: Any, imprint: Callable[[str], bytes]) -> None:  # Any: asn1crypto
    found = info["message_imprint"]
    hash_name = _accepted_hash(found["hash_algorithm"]["algorithm"].native)
    _compare("imprint", "the token is for other data", imprint(hash_name), found["hashed_message"].native)


def _time_info(parsed: _Parsed, leaf: x509.Certificate, expires: dt.datetime) -> TimeInfo:
    info = parsed.info
    if info["version"].native != "v1":
        fail("malformed", "an unknown version of TSTInfo", "v1", str(info["version"].native))
    for extension in info["extensions"] if info["extensions"].native is not None else ():
        if extension["critical"].native:
            fail("malformed", "a critical extension that is not known", got=str(extension["extn_id"].dotted))
    accuracy = None
    if info["accuracy"].native is not None:
        parts = {name: value or 0 for name, value in info["accuracy"].native.items()}
        accuracy = dt.timedelta(
            seconds=parts["seconds"], milliseconds=parts["millis"], microseconds=parts["micros"]
        )
    return TimeInfo(
        time=info["gen_time"].native.astimezone(dt.UTC),
        accuracy=accuracy,
        serial=info["serial_number"].native,
        policy=info["policy"].dotted,
        authority=leaf.subject.rfc4514_string(),
        hash_name=info["message_imprint"]["hash_algorithm"]["algorithm"].native,
        certificate=leaf.public_bytes(serialization.Encoding.DER),
        expires=expires,
        nonce=info["nonce"].native,
    )


def _accepted_hash(name: str) -> str:
    if name not in DIGEST_SIZES:
        fail("malformed", "a hash that is not accepted", ", ".join(DIGEST_SIZES), name)
    return name


def _compare(code: str, message: str, expected: bytes, got: bytes) -> None:
    if not hmac.compare_digest(expected, got):
        fail(code, message, expected.hex(), got.hex())


def _malformed(text: str) -> NoReturn:
    fail("malformed", "not a time-stamp token as RFC 3161 writes it", got=text[:200])
