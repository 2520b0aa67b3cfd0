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
MAX_DEPTH: Final = 32  # a token with its certificates is 13 deep


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


def check(data: bytes) -> None:
    """Demand that bytes are one DER value, so that no second encoding of the same content passes.

    Lengths definite and shortest, INTEGER and OBJECT IDENTIFIER shortest, BOOLEAN 00 or FF, nothing left
    over. The order of a SET and default values are not looked at.

    Raises:
        ValueError: Where and what is not.
    """
    if _walk(data, 0, len(data), 0) != len(data):
        raise ValueError("bytes left over after the value")


def _walk(data: bytes, at: int, end: int, depth: int) -> int:
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    if end - at < 2:
        raise ValueError(f"cut off at byte {at}")
    tag, size, start = data[at], data[at + 1], at + 2
    if tag & 0x1F == 0x1F:
        raise ValueError(f"a long tag at byte {at}")
    if size >= 0x80:
        width = size & 0x7F
        start += width
        size = int.from_bytes(data[at + 2 : start], "big")
        if not 1 <= width <= 4 or start > end or size < 0x80 or size.bit_length() <= 8 * (width - 1):
            raise ValueError(f"a length that is not the shortest at byte {at}")
    stop = start + size
    if stop > end:
        raise ValueError(f"cut off: the value at byte {at} is longer than what holds it")
    if tag & 0x20:
        while start < stop:
            start = _walk(data, start, stop, depth + 1)
    elif not _shortest(tag, data[start:stop]):
        raise ValueError(f"not the shortest form at byte {at}")
    return stop


def _shortest(tag: int, content: bytes) -> bool:
    if tag == INTEGER:
        return len(content) == 1 or (
            len(content) > 1 and not (content[0] in (0, 0xFF) and content[0] >> 7 == content[1] >> 7)
        )
    if tag == OID:
        septets = zip(b"\x00" + content, content, strict=False)
        return bool(content) and content[-1] < 0x80 and all(b != 0x80 or a >= 0x80 for a, b in septets)
    if tag == 0x01:
        return content in (b"\x00", b"\xff")
    return tag != 0x05 or not content
