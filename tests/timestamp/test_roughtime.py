"""The Roughtime client against a server written to RFC 10049, over loopback."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from qcos.base.errors import Integrity, Invalid, Unavailable
from qcos.timestamp import roughtime
from qcos.timestamp.sources import RoughtimeSource, read_sources


def _h(*parts: bytes) -> bytes:
    return hashlib.sha512(b"".join(parts)).digest()[:32]


def _message(members: dict[bytes, bytes]) -> bytes:
    """RFC 10049, section 4.2, once more in other words."""
    ordered = sorted(members.items(), key=lambda member: int.from_bytes(member[0], "little"))
    out = struct.pack("<I", len(ordered))
    end = 0
    for _, value in ordered[:-1]:
        end += len(value)
        out += struct.pack("<I", end)
    return out + b"".join(tag for tag, _ in ordered) + b"".join(value for _, value in ordered)


@dataclass
class Server:
    """Answers one request; a test may bend what it says."""

    long_term: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    midpoint: int = 1_800_000_000
    radius: int = 3
    others: int = 4  # requests answered in the same tree
    index: int = 2
    bend: Callable[[dict[bytes, bytes]], None] = lambda _: None
    delegation_context: bytes = b"Roughtime v1 delegation signature\0"

    @property
    def key(self) -> bytes:
        return self.long_term.public_key().public_bytes_raw()

    def answer(self, request: bytes) -> bytes:
        assert len(request) == 1024, "never shorter than the answer"
        asked = roughtime.parse(request[12:])
        assert asked[b"SRV\0"] == _h(b"\xff", self.key)
        short = Ed25519PrivateKey.generate()
        leaves = [_h(b"\0", b"another request", bytes([n])) for n in range(self.others)]
        leaves[self.index] = _h(b"\0", request)
        path, level, index = b"", leaves, self.index
        while len(level) > 1:
            path += level[index ^ 1]
            level = [_h(b"\1", level[n], level[n + 1]) for n in range(0, len(level), 2)]
            index //= 2
        delegation = _message(
            {
                b"PUBK": short.public_key().public_bytes_raw(),
                b"MINT": struct.pack("<Q", 1_700_000_000),
                b"MAXT": struct.pack("<Q", 1_900_000_000),
            }
        )
        signed = _message(
            {
                b"VER\0": struct.pack("<I", 1),
                b"RADI": struct.pack("<I", self.radius),
                b"MIDP": struct.pack("<Q", self.midpoint),
                b"VERS": struct.pack("<I", 1),
                b"ROOT": level[0],
            }
        )
        members = {
            b"SIG\0": short.sign(b"Roughtime v1 response signature\0" + signed),
            b"NONC": asked[b"NONC"],
            b"TYPE": struct.pack("<I", 1),
            b"PATH": path,
            b"SREP": signed,
            b"CERT": _message(
                {
                    b"SIG\0": self.long_term.sign(self.delegation_context + delegation),
                    b"DELE": delegation,
                }
            ),
            b"INDX": struct.pack("<I", self.index),
        }
        self.bend(members)
        body = _message(members)
        return b"ROUGHTIM" + struct.pack("<I", len(body)) + body


@contextlib.contextmanager
def _listening(server: Server | None) -> Iterator[int]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    request, sender = listener.recvfrom(2048)
                    if not request:
                        return
                    if server is not None:
                        listener.sendto(server.answer(request), sender)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        try:
            yield port
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ender:
                ender.sendto(b"", ("127.0.0.1", port))
            thread.join(10)


@pytest.mark.parametrize(("others", "index"), [(1, 0), (2, 1), (4, 2), (8, 7)])
def test_an_honest_server_tells_the_time(others: int, index: int) -> None:
    """R1.2: a signed answer, whatever other requests it was batched with."""
    server = Server(others=others, index=index)
    clock = iter([10.0, 12.0])
    with _listening(server) as port:
        told = roughtime.ask("127.0.0.1", port, server.key, timeout_s=30, monotonic=lambda: next(clock))
    assert told == roughtime.Midpoint(1_800_000_000, 3, 10.0, 12.0)


def test_as_a_source_it_is_an_interval() -> None:
    """Three seconds about the midpoint, whose second is cut off, held at some moment between 10 and 12."""
    server = Server()
    clock = iter([10.0, 12.0])
    with _listening(server) as port:
        text = f"roughtime:127.0.0.1:{port}:{base64.b64encode(server.key).decode()}"
        (source,) = read_sources(text, [], timeout_s=30)
        assert isinstance(source, RoughtimeSource)
        reading = dataclasses.replace(source, monotonic=lambda: next(clock)).read()
    assert reading.low == 1_800_000_000 - 3 - 12
    assert reading.high == 1_800_000_000 + 3 + 1 - 10
    assert reading.source == f"roughtime:127.0.0.1:{port}"


def _set(tag: bytes, value: bytes) -> Callable[[dict[bytes, bytes]], None]:
    def bend(members: dict[bytes, bytes]) -> None:
        members[tag] = value

    return bend


_BENT = {
    "another nonce": Server(bend=_set(b"NONC", bytes(32))),
    "another signature": Server(bend=_set(b"SIG\0", bytes(64))),
    "not an answer": Server(bend=_set(b"TYPE", bytes(4))),
    "a path that leads elsewhere": Server(bend=_set(b"PATH", bytes(64))),
    "a cut path": Server(bend=_set(b"PATH", bytes(36))),
    "an endless path": Server(bend=_set(b"PATH", bytes(32 * 33))),
    "another place": Server(bend=_set(b"INDX", struct.pack("<I", 1))),
    "a place beyond the tree": Server(bend=_set(b"INDX", struct.pack("<I", 2 + 4))),
    "a time beyond the delegation": Server(midpoint=2_000_000_000),
    "a draft's delegation": Server(delegation_context=b"RoughTime v1 delegation signature\0"),
    "a certificate cut off": Server(bend=_set(b"CERT", bytes(8))),
    "no root": Server(bend=_set(b"SREP", _message({b"VER\0": bytes(4)}))),
}


@pytest.mark.parametrize("what", _BENT)
def test_a_dishonest_answer_is_refused(what: str) -> None:
    server = _BENT[what]
    request = roughtime.compose(server.key, bytes(range(32)))
    with pytest.raises(Integrity) as refused:
        roughtime.read(server.answer(request), request, server.key)
    assert refused.value.code == "roughtime.answer"


def test_an_answer_to_another_request_is_refused() -> None:
    server = Server()
    first, second = (roughtime.compose(server.key, bytes([n]) * 32) for n in (1, 2))
    with pytest.raises(Integrity):
        roughtime.read(server.answer(first), second, server.key)


def test_another_servers_answer_is_refused() -> None:
    server = Server()
    request = roughtime.compose(server.key, bytes(32))
    with pytest.raises(Integrity):
        roughtime.read(server.answer(request), request, Server().key)


@given(st.binary(max_size=200) | st.binary(max_size=100).map(roughtime.frame))
def test_no_bytes_break_the_client(noise: bytes) -> None:
    key = bytes(range(32))
    with pytest.raises(Integrity):
        roughtime.read(noise, roughtime.compose(key, bytes(32)), key)


@given(
    st.dictionaries(
        st.binary(min_size=4, max_size=4), st.binary(max_size=12).map(lambda b: b * 4), min_size=1, max_size=8
    )
)
def test_messages_are_read_as_they_are_written(members: dict[bytes, bytes]) -> None:
    assert roughtime.message(members) == _message(members)
    assert roughtime.parse(_message(members)) == members


def test_silence_is_unavailable() -> None:
    with _listening(None) as port, pytest.raises(Unavailable) as refused:
        roughtime.ask("127.0.0.1", port, bytes(32), timeout_s=0.2)
    assert refused.value.code == "roughtime.silent"


@pytest.mark.parametrize(
    "text",
    [
        "roughtime:host:1",
        "roughtime:host:0:" + "A" * 43 + "=",
        "roughtime:h:1:short",
        "ftp://a",
        "http://",
        "http://a:x",
        "nonsense",
    ],
)
def test_a_source_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_sources(text, [b"some certificate"], timeout_s=1)
    assert refused.value.code == "timestamp.source"
