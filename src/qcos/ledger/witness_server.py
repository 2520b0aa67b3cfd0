"""A witness's HTTP interface, with nothing but the standard library: it shall run on anybody's small machine.

Bounded in connections, bytes and seconds. A request that is not whole in time loses its connection, whatever
it sends meanwhile, and so does one that has been idle for a minute.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from qcos.base.errors import Conflict
from qcos.base.limits import WITNESS_CONNECTIONS, WITNESS_REQUEST_S
from qcos.ledger.submission import MAX_SUBMISSION_BYTES
from qcos.ledger.witness import Answer, Witness

_CHECKPOINT: Final = re.compile(r"/([0-9a-f]{64})/checkpoint", re.ASCII)
_LENGTH: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
_IDLE_S: Final = 60.0  # a log asks about once a second while it grows
_REAP_S: Final = 0.5

_log = logging.getLogger(__name__)


class WitnessServer(ThreadingHTTPServer):
    """Serves one witness until `shutdown`.

    Args:
        witness: Answers.
        host: Address to listen on.
        port: Port; 0 takes a free one.

    Raises:
        Conflict: ``witness.port`` when the port cannot be had.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, witness: Witness, host: str, port: int) -> None:
        self.witness = witness
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._places = threading.BoundedSemaphore(WITNESS_CONNECTIONS)
        self._due: dict[socket.socket, float] = {}
        self._guard = threading.Lock()
        self._closed = threading.Event()
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise Conflict(
                "witness.port", "the port cannot be used", subject=f"{host}:{port}", got=str(error)
            ) from None
        self._reaper = threading.Thread(target=self._reap, name="reaper", daemon=True)
        self._reaper.start()

    @property
    def url(self) -> str:
        """Return the submission prefix."""
        host, port = str(self.server_address[0]), self.server_address[1]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def due(self, connection: socket.socket, seconds: float) -> None:
        """Give a connection so many seconds from now."""
        with self._guard:
            self._due[connection] = time.monotonic() + seconds

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        """Serve a connection in a thread of its own once there is a place."""
        if not self._places.acquire(timeout=WITNESS_REQUEST_S):
            self.shutdown_request(request)
            return
        self.due(request, WITNESS_REQUEST_S)
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be had: the place is free again
            self._left(request)
            raise

    def process_request_thread(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        """Serve a connection to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._left(request)

    def _left(self, request: socket.socket) -> None:
        with self._guard:
            self._due.pop(request, None)
        self._places.release()

    def server_close(self) -> None:
        """Stop listening, and end the connections that are open."""
        super().server_close()
        self._closed.set()
        self._end(float("inf"))

    def handle_error(self, request: object, client_address: object) -> None:
        """Say that a connection broke, or what failed."""
        _log.debug("a connection of %s ended", client_address, exc_info=True)

    def _reap(self) -> None:
        while not self._closed.wait(_REAP_S):
            self._end(time.monotonic())

    def _end(self, now: float) -> None:
        """End the connections whose time is over."""
        with self._guard:
            late = [connection for connection, due in self._due.items() if due < now]
        for connection in late:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: WitnessServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes
    server_version = "qcos-witness"
    sys_version = ""

    def parse_request(self) -> bool:
        """Give the request its seconds from its first line on."""
        self.server.due(self.connection, WITNESS_REQUEST_S)
        return super().parse_request()

    def do_POST(self) -> None:
        """Add a checkpoint."""
        length = self.headers.get("Content-Length", "")
        if self.path != "/add-checkpoint":
            self._send(Answer(404, "there is only /add-checkpoint\n"), close=True)
        elif "Transfer-Encoding" in self.headers or not _LENGTH.fullmatch(length):
            self._send(Answer(411, "a Content-Length is needed\n"), close=True)
        elif int(length) > MAX_SUBMISSION_BYTES:
            self._send(Answer(413, f"at most {MAX_SUBMISSION_BYTES} bytes\n"), close=True)
        else:
            body = self.rfile.read(int(length))
            if len(body) < int(length):
                self.close_connection = True
                return
            self._send(self.server.witness.add_checkpoint(body))

    def do_GET(self) -> None:
        """Show the last cosigned checkpoint of a log."""
        found = _CHECKPOINT.fullmatch(self.path)
        close = self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers
        answer = self.server.witness.monitored(found[1]) if found else Answer(404, "not found\n")
        self._send(answer, close=close)

    def _send(self, answer: Answer, *, close: bool = False) -> None:
        data = answer.body.encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        if close:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(data)
        self.server.due(self.connection, _IDLE_S)

    def log_message(self, format: str, *args: object) -> None:
        """Log requests for whoever debugs; nobody's address is kept otherwise."""
        _log.debug(format, *args)
