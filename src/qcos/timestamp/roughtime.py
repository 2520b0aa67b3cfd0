"""A Roughtime client (RFC 10049, version 1 of the protocol), as far as asking one server for the time goes.

A server signs a Merkle root over the requests it answers together, so an answer cannot be made before its
request; its long-term key, which is pinned, delegates to a short-term one. Google's older protocol and the
drafts are not spoken.
"""

from __future__ import annotations

import hashlib
import secrets
import socket
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from qcos.base.errors import Integrity, Unavailable

VERSION: Final = 1
REQUEST_BYTES: Final = 1024  # of the datagram: never less than its answer, so nobody is flooded with it
_MAX_ANSWER_BYTES: Final = 2048
_MAX_TAGS: Final = 32
_MAX_PATH: Final = 32  # levels of the server's tree
_MAGIC: Final = b"ROUGHTIM"
_RESPONSE: Final = b"Roughtime v1 response signature\0"
_DELEGATION: Final = b"Roughtime v1 delegation signature\0"


@dataclass(frozen=True, slots=True)
class Midpoint:
    """What a server says: the true time was within ``radius`` of ``time`` when it answered.

    Attributes:
        time: Seconds since 1970, UTC.
        radius: Seconds.
        sent: Monotonic clock when the request went out, seconds.
        received: Monotonic clock when the answer was there, seconds.
    """

    time: int
    radius: int
    sent: float
    received: float


def ask(
    host: str, port: int, key: bytes, *, timeout_s: float, monotonic: Callable[[], float] = time.monotonic
) -> Midpoint:
    """Ask a server for the time, over UDP.

    Args:
        host: Its address.
        port: Its port.
        key: Its long-term Ed25519 public key, raw.
        timeout_s: Seconds to wait for the answer.
        monotonic: A clock that never jumps, seconds.

    Raises:
        Unavailable: ``roughtime.silent`` when it does not answer.
        Integrity: ``roughtime.answer`` when what came is no answer of this server to this request.
    """
    request = compose(key, secrets.token_bytes(32))
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as connection:
            connection.settimeout(timeout_s)
            connection.connect(address)
            sent = monotonic()
            connection.send(request)
            answer = connection.recv(_MAX_ANSWER_BYTES)
            received = monotonic()
    except OSError as error:
        raise Unavailable(
            "roughtime.silent", "the server does not answer", subject=f"{host}:{port}", got=str(error)
        ) from None
    midpoint, radius = read(answer, request, key)
    return Midpoint(midpoint, radius, sent, received)


def compose(key: bytes, nonce: bytes) -> bytes:
    """Return a request for the server with that long-term key."""
    members = {
        b"VER\0": struct.pack("<I", VERSION),
        b"SRV\0": _hash(b"\xff", key),
        b"NONC": nonce,
        b"TYPE": struct.pack("<I", 0),
    }
    bare = len(frame(message({**members, b"ZZZZ": b""})))
    return frame(message({**members, b"ZZZZ": bytes(REQUEST_BYTES - bare)}))


def read(answer: bytes, request: bytes, key: bytes) -> tuple[int, int]:
    """Return midpoint and radius of a server's answer, verified down to its long-term key.

    Raises:
        Integrity: ``roughtime.answer``.
    """
    try:
        return _read(answer, request, key)
    except (ValueError, KeyError, struct.error) as error:
        raise Integrity(
            "roughtime.answer", "not an answer as RFC 10049 writes it", got=str(error)[:100]
        ) from None
    except InvalidSignature:
        raise Integrity("roughtime.answer", "a signature does not fit: not this server's answer") from None


def _read(answer: bytes, request: bytes, key: bytes) -> tuple[int, int]:
    found = parse(unframe(answer))
    signed, certificate = parse(found[b"SREP"]), parse(found[b"CERT"])
    delegated = parse(certificate[b"DELE"])
    Ed25519PublicKey.from_public_bytes(key).verify(certificate[b"SIG\0"], _DELEGATION + certificate[b"DELE"])
    Ed25519PublicKey.from_public_bytes(delegated[b"PUBK"]).verify(found[b"SIG\0"], _RESPONSE + found[b"SREP"])
    if found[b"TYPE"] != struct.pack("<I", 1) or signed[b"VER\0"] != struct.pack("<I", VERSION):
        raise ValueError("another type or version")
    if found[b"NONC"] != parse(unframe(request))[b"NONC"]:
        raise ValueError("the nonce of another request")
    if _root(request, found[b"PATH"], struct.unpack("<I", found[b"INDX"])[0]) != signed[b"ROOT"]:
        raise ValueError("the signed tree does not cover this request")
    (midpoint,), (radius,) = struct.unpack("<Q", signed[b"MIDP"]), struct.unpack("<I", signed[b"RADI"])
    (first,), (last,) = struct.unpack("<Q", delegated[b"MINT"]), struct.unpack("<Q", delegated[b"MAXT"])
    if not first <= midpoint <= last:
        raise ValueError("a time for which the server's key was not delegated")
    return midpoint, radius


def _root(request: bytes, path: bytes, index: int) -> bytes:
    if len(path) % 32 or len(path) > 32 * _MAX_PATH:
        raise ValueError("a path that is none")
    node = _hash(b"\0", request)
    for at in range(0, len(path), 32):
        beside = path[at : at + 32]
        node = _hash(b"\1", beside, node) if index & 1 else _hash(b"\1", node, beside)
        index >>= 1
    if index:
        raise ValueError("an index beyond the tree")
    return node


def message(members: Mapping[bytes, bytes]) -> bytes:
    """Return a message: tags in ascending order, as little-endian numbers; values of multiples of four bytes."""
    tags = sorted(members, key=lambda tag: int.from_bytes(tag, "little"))
    ends, offset = [], 0
    for tag in tags[:-1]:
        offset += len(members[tag])
        ends.append(offset)
    head = struct.pack(f"<I{len(ends)}I", len(tags), *ends)
    return b"".join((head, *tags, *(members[tag] for tag in tags)))


def parse(data: bytes) -> dict[bytes, bytes]:
    """Read a message; raises ValueError or struct.error when it is none."""
    (count,) = struct.unpack_from("<I", data)
    if not 1 <= count <= _MAX_TAGS:
        raise ValueError(f"{count} tags")
    offsets = [0, *struct.unpack_from(f"<{count - 1}I", data, 4)]
    names, start = 4 * count, 8 * count
    tags = [data[names + 4 * n : names + 4 * n + 4] for n in range(count)]
    values = data[start:]
    ends = [*offsets[1:], len(values)]
    order = [int.from_bytes(tag, "little") for tag in tags]
    if len(data) < start or order != sorted(set(order)):
        raise ValueError("tags that are cut off or out of order")
    if any(end < begin or begin % 4 or end > len(values) for begin, end in zip(offsets, ends, strict=True)):
        raise ValueError("values out of bounds")
    return {tag: values[begin:end] for tag, begin, end in zip(tags, offsets, ends, strict=True)}


def frame(body: bytes) -> bytes:
    """Return the datagram around a message."""
    return _MAGIC + struct.pack("<I", len(body)) + body


def unframe(datagram: bytes) -> bytes:
    """Return the message in a datagram; raises ValueError when it is none."""
    if datagram[:8] != _MAGIC or len(datagram) != 12 + int.from_bytes(datagram[8:12], "little"):
        raise ValueError("not a Roughtime packet")
    return datagram[12:]


def _hash(*parts: bytes) -> bytes:
    return hashlib.sha512(b"".join(parts)).digest()[:32]
