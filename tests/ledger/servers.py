"""Witnesses on loopback: real ones in threads, and bad ones."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from qcos.ledger.note import Vkey, parse_vkey
from qcos.ledger.quorum import Policy, read_policy
from qcos.ledger.sign import LedgerSigners
from qcos.ledger.witness import Witness
from qcos.ledger.witness_server import WitnessServer
from qcos.ledger.witness_state import WitnessFolder


class Serving:
    """A witness in this process; `stop` and `start` as its operator would, on the same port."""

    def __init__(self, folder: Path, name: str, vkeys: Sequence[str], clock: Callable[[], float] = time.time):
        self.folder = WitnessFolder(folder)
        self.keys = self.folder.open_or_create(name)
        self._logs = [parse_vkey(vkey) for vkey in vkeys]
        self._clock = clock
        self.port = 0
        self.start()

    @property
    def vkey(self) -> Vkey:
        return self.keys.vkeys[0]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        witness = Witness(self.folder, self.keys, self._logs, clock=self._clock)
        self._server = WitnessServer(witness, "127.0.0.1", self.port)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def witnesses(folder: Path, signers: LedgerSigners, count: int) -> Iterator[list[Serving]]:
    running = [Serving(folder / f"w{n}", f"w{n}.example", signers.vkeys) for n in range(count)]
    try:
        yield running
    finally:
        for one in running:
            one.stop()


def policy_of(running: list[Serving], least: int | str, *others: tuple[Vkey, str]) -> Policy:
    """Return the policy that asks for so many of the witnesses; others are members with an address only."""
    members = [*((one.vkey, one.url) for one in running), *others]
    lines = [f"witness w{n} {vkey} {url}\n" for n, (vkey, url) in enumerate(members)]
    names = " ".join(f"w{n}" for n in range(len(members)))
    return read_policy("".join(lines) + f"group all-of-them {least} {names}\nquorum all-of-them\n")


@contextlib.contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler, bytes], None]) -> Iterator[str]:
    """A server of somebody who answers add-checkpoint as he likes; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            connections.append(self.connection)
            with contextlib.suppress(OSError):
                answer(self, body)

        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    connections: list[socket.socket] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        for connection in connections:  # nobody waits for an answer any more that does not come
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def say(handler: BaseHTTPRequestHandler, status: int, body: bytes, kind: str = "text/plain") -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def say_packed(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """Answer with what grows when it is unpacked, though nobody asked for it."""
    packed = gzip.compress(body)
    handler.send_response(200)
    handler.send_header("Content-Encoding", "gzip")
    handler.send_header("Content-Length", str(len(packed)))
    handler.end_headers()
    handler.wfile.write(packed)
