"""A real HTTP server on loopback that answers as told, in order, and keeps what it was asked."""

from __future__ import annotations

import json
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Told:
    """One answer.

    ``chunks`` are sent one by one; ``cut`` closes the connection before the announced end; ``silent`` closes
    it without any answer.
    """

    status: int = 200
    chunks: tuple[bytes, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    silent: bool = False


def told(value: Any = None, status: int = 200, **headers: str) -> Told:
    """Return a JSON answer."""
    return Told(
        status, (json.dumps(value).encode(),), {"Content-Type": "application/json", **_names(headers)}
    )


def problem(status: int, *, family: str, code: str, retry_after: str | None = None, **members: Any) -> Told:
    """Return an RFC 9457 problem, as `qcos.api.errors` makes it."""
    body = {
        "type": f"urn:qcos:problem:{code}",
        "title": "t",
        "status": status,
        "family": family,
        "code": code,
        **members,
    }
    headers = {"Content-Type": "application/problem+json"} | (
        {"Retry-After": retry_after} if retry_after else {}
    )
    return Told(status, (json.dumps(body).encode(),), headers)


def stream(*events: str, cut: bool = False) -> Told:
    """Return server-sent events."""
    return Told(
        200, tuple(event.encode() for event in events), {"Content-Type": "text/event-stream"}, cut=cut
    )


def step(n: int, name: str, position: int | None = None) -> str:
    """Return one step as `qcos.api.jobs` sends it."""
    data = {"n": n, "step": name, "at": f"2026-01-09T10:30:{position or n:02d}Z", "detail": {}}
    return f"event: step\nid: {position or n}\ndata: {json.dumps(data)}\n\n"


END = 'event: end\ndata: {"state": "completed"}\n\n'


class Wire:
    """What to answer, and what was asked."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._answers: dict[tuple[str, str], deque[Told]] = defaultdict(deque)
        self._lock = threading.Lock()
        self.url = ""

    def on(self, method: str, path: str, *answers: Told) -> None:
        """Answer requests for a path (below ``/v1/``) with these, in order; the last one again and again."""
        self._answers[(method, f"/v1/{path}")].extend(answers)

    def next(self, asked: Asked) -> Told:
        with self._lock:
            self.asked.append(asked)
            queue = self._answers[(asked.method, asked.path)]
            if not queue:
                return problem(404, family="not_found", code="route.unknown", message="no such route")
            return queue.popleft() if len(queue) > 1 else queue[0]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wire: Wire

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(
            self.command, parts.path, dict(parse_qsl(parts.query)), headers, self.rfile.read(length)
        )
        answer = self.wire.next(asked)
        self.close_connection = True
        if answer.silent:
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        whole = sum(map(len, answer.chunks))
        self.send_header("Content-Length", str(whole + 1 if answer.cut else whole))
        self.end_headers()
        for chunk in answer.chunks:
            self.wfile.write(chunk)
            self.wfile.flush()

    do_GET = do_POST = do_PUT = do_DELETE = _serve

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[Wire]:
    """Run the server."""
    wire = Wire()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"wire": wire}))
    server.daemon_threads = True
    wire.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield wire
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _names(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
