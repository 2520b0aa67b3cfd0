"""Time-stamp requests (RFC 3161, 2.4.1)."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Final

from asn1crypto import tsp

from qcos.base.errors import Invalid
from qcos.timestamp import der

DIGEST_SIZES: Final = {"sha256": 32, "sha384": 48, "sha512": 64, "sha3_512": 64}
MAX_REQUEST_BYTES: Final = 4096  # a request is about 60 bytes; extensions are refused anyway
MAX_NONCE_BITS: Final = 256

_HASH_OIDS: Final = {
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
    "sha3_512": "2.16.840.1.101.3.4.2.10",
}

MALFORMED: Final = (
    TypeError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""What asn1crypto raises on bytes that are not the type they should be."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request for a token.

    Attributes:
        hash_name: ``sha256``, ``sha384``, ``sha512`` or ``sha3_512``.
        imprint: Digest of the data to be stamped.
        nonce: To be echoed, if any.
        certificates: Whether the token shall carry the authority's certificate.
        policy: Dotted policy the token must be issued under, if any.
    """

    hash_name: str
    imprint: bytes
    nonce: int | None = None
    certificates: bool = True
    policy: str | None = None

    def encode(self) -> bytes:
        """Return the DER of the request."""
        return der.tlv(
            der.SEQUENCE,
            der.integer(1),
            message_imprint(self.hash_name, self.imprint),
            der.oid(self.policy) if self.policy else b"",
            der.integer(self.nonce) if self.nonce is not None else b"",
            b"\x01\x01\xff" if self.certificates else b"",
        )


class Refused(Invalid):
    """The request cannot be answered; ``failure`` is the bit that says why (RFC 3161, 2.4.2)."""

    def __init__(self, failure: int, message: str, *, expected: str = "", got: str = "") -> None:
        super().__init__("timestamp.request", message, expected=expected, got=got)
        self.failure = failure


BAD_ALGORITHM, BAD_REQUEST, BAD_FORMAT = 0, 2, 5
TIME_NOT_AVAILABLE, UNACCEPTED_POLICY, UNACCEPTED_EXTENSION = 14, 15, 16


def request_for(data: bytes, *, nonce: int | None = None, certificates: bool = True) -> Request:
    """Return a request for a token over the SHA-512 digest of data, with a nonce of 64 random bits."""
    return Request(
        "sha512",
        hashlib.sha512(data).digest(),
        secrets.randbits(64) if nonce is None else nonce,
        certificates,
    )


def read_request(encoded: bytes) -> Request:
    """Read a DER request.

    Raises:
        Refused: With the failure bit to answer.
    """
    if len(encoded) > MAX_REQUEST_BYTES:
        raise Refused(BAD_FORMAT, "the request is too long", expected=f"at most {MAX_REQUEST_BYTES} bytes")
    try:
        parsed = tsp.TimeStampReq.load(encoded, strict=True)
        version = parsed["version"].native
        hash_name = parsed["message_imprint"]["hash_algorithm"]["algorithm"].native
        imprint = parsed["message_imprint"]["hashed_message"].native
        nonce = parsed["nonce"].native
        certificates = bool(parsed["cert_req"].native)
        policy = parsed["req_policy"].dotted if parsed["req_policy"].native is not None else None
        extensions = len(parsed["extensions"]) if parsed["extensions"].native is not None else 0
    except MALFORMED as error:
        raise Refused(BAD_FORMAT, "not a time-stamp request", got=str(error)[:100]) from None
    if version != "v1":
        raise Refused(BAD_REQUEST, "an unknown version", expected="1", got=str(version))
    if hash_name not in DIGEST_SIZES:
        raise Refused(
            BAD_ALGORITHM, "a hash that is not accepted", expected=", ".join(DIGEST_SIZES), got=str(hash_name)
        )
    if len(imprint) != DIGEST_SIZES[hash_name]:
        raise Refused(BAD_FORMAT, "a digest of the wrong length", expected=str(DIGEST_SIZES[hash_name]))
    if nonce is not None and not 0 <= nonce < 1 << MAX_NONCE_BITS:
        raise Refused(
            BAD_FORMAT, "a nonce that is negative or too long", expected=f"at most {MAX_NONCE_BITS} bits"
        )
    if extensions:
        raise Refused(UNACCEPTED_EXTENSION, "extensions are not accepted")
    return Request(hash_name, imprint, nonce, certificates, policy)


def message_imprint(hash_name: str, imprint: bytes) -> bytes:
    """Return the DER MessageImprint: algorithm (parameters absent, RFC 5754) and digest."""
    return der.tlv(der.SEQUENCE, algorithm(hash_name), der.tlv(der.OCTET_STRING, imprint))


def algorithm(hash_name: str) -> bytes:
    """Return the DER AlgorithmIdentifier of a hash."""
    return der.tlv(der.SEQUENCE, der.oid(_HASH_OIDS[hash_name]))
