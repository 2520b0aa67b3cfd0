"""The few lines of DER (X.690) that a token is written with.

A general encoder makes 180 tokens a second; a token is forty bytes of news in a constant frame, so the
frame is encoded once and the news is put in by these functions. Reading foreign bytes is left to
asn1crypto.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
NULL: Final = b"\x05\x00"
OID: Final = 0x06
UTF8_STRING: Final = 0x0C
GENERALIZED_TIME: Final = 0x18
SEQUENCE: Final = 0x30
SET: Final = 0x31
CONTEXT_0: Final = 0xA0  # [0], constructed


def tlv(tag: int, *parts: bytes) -> bytes:
    """Return tag, length and the joined content."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def integer(value: int, tag: int = INTEGER) -> bytes:
    """Return a non-negative INTEGER, shortest form."""
    return tlv(tag, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def oid(dotted: str) -> bytes:
    """Return an OBJECT IDENTIFIER."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    content = bytearray()
    for arc in (first * 40 + second, *rest):
        septets = [arc & 0x7F]
        while arc := arc >> 7:
            septets.append(0x80 | arc & 0x7F)
        content += bytes(reversed(septets))
    return tlv(OID, bytes(content))


def set_of(*members: bytes, tag: int = SET) -> bytes:
    """Return a SET OF, its members in the order DER demands."""
    return tlv(tag, *sorted(members))


def generalized_time(instant: dt.datetime) -> bytes:
    """Return a UTC GeneralizedTime with milliseconds, trailing zeros left out (RFC 3161, 2.4.2)."""
    utc = instant.astimezone(dt.UTC)
    text = f"{utc:%Y%m%d%H%M%S}"
    if utc.microsecond >= 1000:
        text += f".{utc.microsecond // 1000:03d}".rstrip("0")
    return tlv(GENERALIZED_TIME, text.encode() + b"Z")
