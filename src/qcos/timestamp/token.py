"""The token: a TSTInfo in a CMS SignedData (RFC 3161, 2.4.2; RFC 5652; RFC 5816).

Everything that does not change from token to token is encoded once by `Frame`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from asn1crypto import cms, tsp, x509

from qcos.base.errors import Integrity
from qcos.timestamp import der
from qcos.timestamp.request import MALFORMED, Request, algorithm, message_imprint

MAX_TOKEN_BYTES: Final = 64 * 1024  # ours are 1.3 kB; with a chain of RSA-4096 certificates about 8 kB

_SIGNED_DATA: Final = der.oid("1.2.840.113549.1.7.2")
_TST_INFO: Final = der.oid("1.2.840.113549.1.9.16.1.4")
_CONTENT_TYPE: Final = der.oid("1.2.840.113549.1.9.3")
_MESSAGE_DIGEST: Final = der.oid("1.2.840.113549.1.9.4")
_SIGNING_CERTIFICATE_V2: Final = der.oid("1.2.840.113549.1.9.16.2.47")
_ECDSA_SHA512: Final = der.tlv(der.SEQUENCE, der.oid("1.2.840.10045.4.3.4"))
_SHA512: Final = algorithm("sha512")


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How far the named time may be from the true one.

    Attributes:
        seconds: Whole seconds.
        millis: Milliseconds, 0 to 999.
    """

    seconds: int = 1
    millis: int = 0

    @property
    def interval(self) -> dt.timedelta:
        """Return it as a duration."""
        return dt.timedelta(seconds=self.seconds, milliseconds=self.millis)

    def encode(self) -> bytes:
        """Return the DER; parts that are zero are left out."""
        parts = (
            der.integer(self.seconds) if self.seconds else b"",
            der.integer(self.millis, 0x80) if self.millis else b"",
        )
        return der.tlv(der.SEQUENCE, *parts)


class Frame:
    """The constant parts of one authority's tokens.

    Args:
        chain: DER certificates, the authority's first. Only that one is put into tokens; verifiers pin the
            others.
        policy: Dotted policy identifier.
        accuracy: Promised in every token.
    """

    def __init__(self, chain: Sequence[bytes], policy: str, accuracy: Accuracy) -> None:
        leaf = x509.Certificate.load(chain[0])
        issuer, serial = leaf.issuer.dump(), der.integer(leaf.serial_number)
        self._head = der.integer(1) + der.oid(policy)
        self._accuracy = accuracy.encode()
        self._certificate = der.tlv(der.CONTEXT_0, chain[0])
        self._content_type = der.tlv(der.SEQUENCE, _CONTENT_TYPE, der.set_of(_TST_INFO))
        directory_name = der.tlv(0xA4, issuer)
        certificate_id = der.tlv(  # ESSCertIDv2 with its default hash, SHA-256 (RFC 5816 through RFC 5035)
            der.SEQUENCE,
            der.tlv(der.OCTET_STRING, hashlib.sha256(chain[0]).digest()),
            der.tlv(der.SEQUENCE, der.tlv(der.SEQUENCE, directory_name), serial),
        )
        signing_certificate = der.tlv(der.SEQUENCE, der.tlv(der.SEQUENCE, certificate_id))
        self._signing_certificate = der.tlv(
            der.SEQUENCE, _SIGNING_CERTIFICATE_V2, der.set_of(signing_certificate)
        )
        self._signer_head = der.integer(1) + der.tlv(der.SEQUENCE, issuer, serial) + _SHA512
        self._digests = der.set_of(_SHA512)

    def compose(
        self, request: Request, serial: int, at: dt.datetime, sign: Callable[[bytes], bytes]
    ) -> bytes:
        """Return the token: DER ContentInfo.

        Args:
            request: What is stamped; its policy and size were checked.
            serial: Of this token, at most 160 bits.
            at: The time.
            sign: Returns the DER ECDSA signature with SHA-512.
        """
        info = der.tlv(
            der.SEQUENCE,
            self._head,
            message_imprint(request.hash_name, request.imprint),
            der.integer(serial),
            der.generalized_time(at),
            self._accuracy,
            der.integer(request.nonce) if request.nonce is not None else b"",
        )
        digest = der.tlv(der.OCTET_STRING, hashlib.sha512(info).digest())
        message_digest = der.tlv(der.SEQUENCE, _MESSAGE_DIGEST, der.set_of(digest))
        attributes = der.set_of(self._content_type, message_digest, self._signing_certificate)
        signer_info = der.tlv(
            der.SEQUENCE,
            self._signer_head,
            b"\xa0" + attributes[1:],  # signed as a SET, carried as [0] IMPLICIT (RFC 5652, 5.4)
            _ECDSA_SHA512,
            der.tlv(der.OCTET_STRING, sign(attributes)),
        )
        signed_data = der.tlv(
            der.SEQUENCE,
            der.integer(3),
            self._digests,
            der.tlv(der.SEQUENCE, _TST_INFO, der.tlv(der.CONTEXT_0, der.tlv(der.OCTET_STRING, info))),
            self._certificate if request.certificates else b"",
            der.set_of(signer_info),
        )
        return der.tlv(der.SEQUENCE, _SIGNED_DATA, der.tlv(der.CONTEXT_0, signed_data))


def time_of(token: bytes) -> dt.datetime:
    """Return the time a token names, without checking anything: for tokens of one's own authority.

    Raises:
        Integrity: ``timestamp.malformed``.
    """
    try:
        info = cms.ContentInfo.load(token)["content"]["encap_content_info"]["content"].parsed
        if not isinstance(info, tsp.TSTInfo):
            raise ValueError("no TSTInfo")
        instant: dt.datetime = info["gen_time"].native
    except MALFORMED as error:
        raise Integrity("timestamp.malformed", "not a time-stamp token", got=str(error)[:100]) from None
    return instant
