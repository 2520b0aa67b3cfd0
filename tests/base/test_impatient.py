"""Clients that do not get on with their requests are cut off, others are served meanwhile.

The limits are made short, as what happens when they have passed is what is tested: it takes fifteen seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from qcos.base import impatient
from qcos.base.impatient import Impatient
from qcos.base.limits import HTTP_BODY_S, HTTP_HEAD_S

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"


class Brisk(Impatient):
    """The same with less patience; enough for a client of a machine that stands still for a moment."""

    head_s = 5.0
    body_s = 5.0


class Echo:
    """Answers with the length of the body; ``/stream`` says something until it is let end, ``/late`` reads nothing
    before, ``/early`` nothing at all."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.streaming = threading.Event()
        self.late = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        length, more = 0, scope["path"] != "/early"
        while scope["path"] == "/late" and not self.let.is_set():
            self.late.set()
            await asyncio.sleep(0.05)
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            length, more = length + len(message["body"]), message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-length", b"%d" % length)]})
        if scope["path"] == "/stream":
            self.streaming.set()
            while not self.let.is_set():
                await send({"type": "http.response.body", "body": b".", "more_body": True})
                await asyncio.sleep(0.05)
        await send({"type": "http.response.body", "body": b"end"})


@pytest.fixture
def served() -> Iterator[tuple[Echo, int]]:
    app = Echo()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(impatient.served(app, Brisk, timeout_graceful_shutdown=10))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield app, listener.getsockname()[1]
        finally:
            app.let.set()
            server.should_exit = True
            thread.join()


class Slow:
    """A client that sends a beginning and then a byte whenever it is told to."""

    def __init__(self, port: int, beginning: bytes, drop: bytes, *, after_an_answer: bool = False) -> None:
        self._drop = drop
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        if after_an_answer:
            self._socket.sendall(HEAD + b"\r\n")
            answer = b""
            while not answer.endswith(b"0\r\n\r\n"):
                part = self._socket.recv(4096)
                assert part, "cut off before it was slow"
                answer += part
        self._socket.sendall(beginning)
        self._socket.setblocking(False)

    def is_cut_off(self) -> bool:
        """Send the next byte; return whether the server has closed the connection."""
        try:
            self._socket.send(self._drop)
            with contextlib.suppress(BlockingIOError):
                while self._socket.recv(4096):
                    pass
                return True
        except OSError:
            return True
        return False

    def close(self) -> None:
        self._socket.close()


def test_who_dawdles_is_cut_off_and_nobody_else(served: tuple[Echo, int]) -> None:
    """R12.9: with silence or byte by byte, in head or body, on a new connection or one that was used."""
    app, port = served
    with (
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as quick,
        httpx.stream("GET", f"http://127.0.0.1:{port}/stream", timeout=120) as long,
        ThreadPoolExecutor(1) as pool,
    ):
        unread = pool.submit(httpx.post, f"http://127.0.0.1:{port}/late", content=bytes(300_000), timeout=120)
        assert app.streaming.wait(120) and app.late.wait(120)
        waiting = {
            "silent": Slow(port, b"", b""),
            "half a head": Slow(port, HEAD, b""),
            "a head, byte by byte": Slow(port, HEAD + b"X-A: ", b"a"),
            "no body": Slow(port, POST, b""),
            "a body, byte by byte": Slow(port, POST, b"a"),
            "a body that nobody reads": Slow(port, POST.replace(b"/ ", b"/early ", 1), b"a"),
            "a second head": Slow(port, HEAD + b"X-A: ", b"a", after_an_answer=True),
            "a second body": Slow(port, POST, b"a", after_an_answer=True),
        }
        deadline = time.monotonic() + 120
        while waiting:
            assert time.monotonic() < deadline, sorted(waiting)
            assert quick.get("/").headers["x-length"] == "0"
            for name in [name for name, client in waiting.items() if client.is_cut_off()]:
                waiting.pop(name).close()
            time.sleep(0.02)
        assert not app.let.is_set()
        app.let.set()
        assert long.read().endswith(b"end"), "an answer may take as long as it takes"
        assert unread.result().headers["x-length"] == "300000", (
            "what the server was slow to read is not held against him"
        )


def test_who_says_nothing_of_it_is_served_with_these_limits() -> None:
    assert impatient.served(Echo()).http is Impatient
    assert (Impatient.head_s, Impatient.body_s) == (HTTP_HEAD_S, HTTP_BODY_S)
