"""Chains to anchor to: a real Ethereum development node; a calendar and a header source that speak the documented wire formats."""

from __future__ import annotations

import hashlib
import http.server
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bitcoin.core
import httpx
import pytest
from opentimestamps.core.notary import BitcoinBlockHeaderAttestation, PendingAttestation
from opentimestamps.core.op import OpAppend, OpPrepend, OpSHA256
from opentimestamps.core.serialize import BytesSerializationContext
from opentimestamps.core.timestamp import Timestamp

from ledger.conftest import make_signers
from qcos.base import tls
from qcos.ledger.checkpoint import Checkpoint

SIGNERS = make_signers()
KEY = "0x" + hashlib.sha256(b"a key for tests only").hexdigest()


def checkpoint(size: int = 70_000) -> str:
    """Return a signed checkpoint of the test's log."""
    root = hashlib.sha256(b"root %d" % size).digest()
    return SIGNERS.sign(Checkpoint(SIGNERS.name, size, root), 1_760_000_000)


@dataclass(frozen=True)
class Node:
    """A development node."""

    url: str

    def call(self, method: str, *parameters: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(parameters)}
        return httpx.post(self.url, json=body, timeout=60, verify=tls.trusted(self.url)).json()["result"]

    def fund(self, address: str) -> None:
        self.call("anvil_setBalance", address, hex(10**18))

    def taken(self, transaction: str) -> None:
        """Wait until it has mined a transaction; it says that it has one before it has done that."""
        until = time.monotonic() + 120
        while self.call("eth_getTransactionReceipt", transaction) is None:
            assert time.monotonic() < until, "the transaction is not mined"
            time.sleep(0.01)

    def mine(self, blocks: int) -> None:
        self.call("anvil_mine", hex(blocks))


@pytest.fixture(scope="session")
def anvil(component: Callable[[str], Path]) -> Iterator[Node]:
    """A node that mines each transaction at once."""
    binary = component("anvil")
    process = subprocess.Popen(
        [str(binary), "--host", "127.0.0.1", "--port", "0", "--chain-id", "31337"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = next(line.split()[-1] for line in process.stdout if line.startswith("Listening on"))
        threading.Thread(target=process.stdout.read, daemon=True).start()
        node = Node(f"http://{url}")
        for _ in range(2000):
            try:
                node.call("eth_chainId")
                break
            except httpx.HTTPError:
                time.sleep(0.05)
        yield node
    finally:
        process.terminate()
        process.wait(120)
        if process.stdout is not None:
            process.stdout.close()


@dataclass
class Bitcoin:
    """What a calendar and an Esplora server know: commitments, blocks. One server plays both."""

    url: str = ""
    waiting: list[Timestamp] = field(default_factory=list)
    ways: dict[str, bytes] = field(default_factory=dict)
    headers: list[bytes] = field(default_factory=list)
    first: int = 800_000
    broken: bool = False

    @property
    def tip(self) -> int:
        return self.first + len(self.headers) - 1

    def submit(self, digest: bytes) -> bytes:
        """Answer a POST to /digest: a way to a commitment, with a promise."""
        timestamp = Timestamp(digest)
        commitment = timestamp.ops.add(OpPrepend(b"\x65\x00\x00\x00")).ops.add(OpSHA256())
        commitment.attestations.add(PendingAttestation(self.url))
        self.waiting.append(Timestamp(commitment.msg))
        return _serialized(timestamp)

    def block(self, *, work: int = 0x207FFFFF) -> None:
        """Make a block that holds what waits, by the way calendars take: a transaction's output, then the Merkle tree."""
        roots = []
        for commitment in self.waiting:
            transaction = commitment.ops.add(OpPrepend(b"\x01\x00\x00\x00tx")).ops.add(OpAppend(b"\x00" * 8))
            root = transaction.ops.add(OpSHA256()).ops.add(OpSHA256())
            root.attestations.add(BitcoinBlockHeaderAttestation(self.tip + 1))
            roots.append(root.msg)
            self.ways[commitment.msg.hex()] = _serialized(commitment)
        assert len(roots) <= 1, "one commitment a block is enough for a test"
        self.headers.append(_mined(roots[0] if roots else b"\0" * 32, work))
        self.waiting.clear()

    def answer(self, path: str) -> bytes | None:
        name = path.rsplit("/", 1)[-1]
        if path.startswith("/timestamp/"):
            return self.ways.get(name)
        if path == "/blocks/tip/height":
            return str(self.tip).encode()
        if path.startswith("/block-height/"):
            return _name(self.headers[int(name) - self.first]).encode()
        if path.endswith("/header"):
            wanted = path.split("/")[2]
            return next((h.hex().encode() for h in self.headers if _name(h) == wanted), None)
        return None


@pytest.fixture
def btc() -> Iterator[Bitcoin]:
    """A calendar with headers on a loopback server."""
    chain = Bitcoin()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._send(200, b"garbage" if chain.broken else chain.submit(body))

        def do_GET(self) -> None:
            found = chain.answer(self.path)
            self._send(200 if found is not None else 404, found or b"not found")

        def _send(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    chain.url = f"http://127.0.0.1:{server.server_port}"
    yield chain
    server.shutdown()
    server.server_close()


def _serialized(timestamp: Timestamp) -> bytes:
    context = BytesSerializationContext()
    timestamp.serialize(context)
    return bytes(context.getbytes())


def _name(header: bytes) -> str:
    return hashlib.sha256(hashlib.sha256(header).digest()).digest()[::-1].hex()


def _mined(root: bytes, bits: int) -> bytes:
    target = bitcoin.core.serialize.uint256_from_compact(bits)
    for nonce in range(1 << 32):
        header = bytes(bitcoin.core.CBlockHeader(4, b"\0" * 32, root, 1_760_000_000, bits, nonce).serialize())
        if int(_name(header), 16) <= target:
            return header
    raise AssertionError
