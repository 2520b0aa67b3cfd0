"""``qcos tsa serve``: the local time-stamping authority as a service of its own (RFC 3161, part 3.4: HTTP).

A request is one POST of ``application/timestamp-query``, the answer ``application/timestamp-reply``; whoever
can reach the address may ask, as with every public authority. It needs the keys and nothing else: no
database, no framework between the socket and the signature. Waiting, chattering and endless clients are cut
off; nothing is kept of a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import uvicorn
from starlette.types import Receive, Scope, Send

from qcos.app import guard_of, keyring_in_force, make_local_authority
from qcos.base.errors import Conflict
from qcos.base.impatient import Impatient, served
from qcos.base.limits import TSA_BODY_S, TSA_CONNECTIONS, TSA_IDLE_S
from qcos.base.process import collect_rarely, take_long_turns
from qcos.keys.certify import to_pem
from qcos.settings import Settings
from qcos.telemetry import configure, instruments, shutdown
from qcos.timestamp.authority import LocalAuthority, NoTime
from qcos.timestamp.request import MAX_REQUEST_BYTES

QUERY: Final = b"application/timestamp-query"
REPLY: Final = b"application/timestamp-reply"
_STAMPING: Final = ("/", "/v1/timestamp")
_HELP: Final = b"""RFC 3161 time-stamping authority.
openssl ts -query -data FILE -sha512 -cert -out query.tsq
curl -sS -H 'Content-Type: application/timestamp-query' --data-binary @query.tsq URL -o reply.tsr
curl -sS URL/certificate -o chain.pem
openssl ts -verify -queryfile query.tsq -in reply.tsr -CAfile chain.pem
"""
_TEXT: Final = b"text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back over HTTP."""

    status: int
    kind: bytes
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


class _Connection(Impatient):
    """Cut off when the head of a request does not come; a body that does not is answered first, by `Service`."""

    head_s = TSA_BODY_S
    body_s = 2 * TSA_BODY_S


class Service:
    """The ASGI application.

    Args:
        authority: Issues the tokens.
        chain: DER certificates, the authority's own first.
    """

    def __init__(self, authority: LocalAuthority, chain: tuple[bytes, ...]) -> None:
        self._authority = authority
        self._chain = Answer(200, b"application/pem-certificate-chain", "".join(map(to_pem, chain)).encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        answer = await self._answer(scope, receive)
        length = b"%d" % len(answer.body)
        head = [(b"content-type", answer.kind), (b"content-length", length), *answer.headers]
        await send({"type": "http.response.start", "status": answer.status, "headers": head})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        method, path = scope["method"], scope["path"]
        if path in _STAMPING and method == "POST":
            return await self._stamp(scope, receive)
        if path not in (*_STAMPING, "/certificate", "/healthz"):
            return _plain(404, "there is nothing at this address")
        if method not in ("GET", "HEAD"):
            allowed = b"GET, HEAD, POST" if path in _STAMPING else b"GET, HEAD"
            return _plain(405, "not with this method", (b"allow", allowed))
        if path == "/certificate":
            return self._chain
        return self._health() if path == "/healthz" else Answer(200, _TEXT, _HELP)

    async def _stamp(self, scope: Scope, receive: Receive) -> Answer:
        kind = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
        if kind.partition(b";")[0].strip().lower() != QUERY:
            return _plain(415, "not a time-stamp request", (b"accept", QUERY))
        try:
            body = await asyncio.wait_for(_body(receive), TSA_BODY_S)
        except TimeoutError:
            return _plain(408, "the request did not come in time", (b"connection", b"close"))
        if body is None:
            return _plain(413, f"at most {MAX_REQUEST_BYTES} bytes", (b"connection", b"close"))
        reply, granted = self._authority.answer(body)
        instruments.time_stamp("granted" if granted else "rejected")
        return Answer(200, REPLY, reply)

    def _health(self) -> Answer:
        known = self._authority.status()
        try:
            self._authority.check()
        except NoTime as error:
            return Answer(
                503,
                b"application/json",
                json.dumps({"status": "no time", **known, **error.as_dict()}).encode(),
            )
        return Answer(200, b"application/json", json.dumps({"status": "ok", **known}).encode())


async def _body(receive: Receive) -> bytes | None:
    """Return the body; None when it is too long."""
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if len(body) > MAX_REQUEST_BYTES:
            return None
        if not message.get("more_body"):
            return body


def _plain(status: int, text: str, *headers: tuple[bytes, bytes]) -> Answer:
    return Answer(status, _TEXT, text.encode() + b"\n", headers)


def serve(settings: Settings, *, host: str, port: int, ready: Callable[[dict[str, Any]], None]) -> None:
    """Run the authority until SIGTERM or SIGINT.

    Args:
        settings: Where the keys are, and what the clock is compared with.
        host: Address to listen on.
        port: Port; 0 takes a free one.
        ready: Told where it answers. Any: JSON.

    Raises:
        Conflict: ``tsa.port`` when the port cannot be used.
    """
    configure("qcos-tsa")
    take_long_turns()
    keyring = keyring_in_force(settings)  # as of now: a new key of the authority needs a new start
    authority = make_local_authority(settings, keyring, guard_of(settings))
    with contextlib.closing(_listen(host, port)) as listener:
        server = uvicorn.Server(
            served(
                Service(authority, keyring.tsa_chain),
                _Connection,
                lifespan="off",
                limit_concurrency=TSA_CONNECTIONS,
                timeout_keep_alive=TSA_IDLE_S,
                timeout_graceful_shutdown=5,
            )
        )
        url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again once it has ended well
            signal.signal(number, lambda *_: None)
        ready({"url": url, "certificate": f"{url}/certificate", "pid": os.getpid()})
        collect_rarely()
        server.run(sockets=[listener])  # not `fd=`: see qcos.api.main
    shutdown()


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise Conflict(
            "tsa.port",
            "the port cannot be used",
            subject=f"{host}:{port}",
            got=str(error),
            hint="choose another --port; 0 takes a free one",
        ) from None
    return listener
