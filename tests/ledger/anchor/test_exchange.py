"""Whatever a node or a calendar answers: so many bytes and seconds, and a reason."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from qcos.base.errors import Unavailable
from qcos.ledger.anchor.ethereum import Ethereum
from qcos.ledger.anchor.exchange import exchange

from ..servers import answering, say, say_packed


def test_a_bounded_answer_is_returned_with_its_status() -> None:
    with answering(lambda h, b: say(h, 418, b"<" + b + b">")) as url:
        assert exchange("POST", url, 5, content=b"abc") == (418, b"<abc>")
        with pytest.raises(Unavailable) as caught:
            exchange("POST", url, 4, content=b"abc")
    assert (caught.value.message, caught.value.expected) == ("the answer is too long", "at most 4 bytes")


def test_a_packed_answer_stays_packed() -> None:
    with answering(lambda h, b: say_packed(h, b"x" * 2_000_000)) as url:
        _, body = exchange("POST", url, 10_000, content=b"")
    assert body.startswith(b"\x1f\x8b")


def test_an_answer_that_drips_for_ever_ends() -> None:
    over = threading.Event()

    def drip(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        while not over.wait(0.02):
            handler.wfile.write(b"x")

    with answering(drip) as url:
        try:
            with pytest.raises(Unavailable) as caught:
                exchange("POST", url, 1_000_000, content=b"", timeout_s=0.5)
        finally:
            over.set()
    assert caught.value.code == "anchor.unavailable"


HOSTILE: dict[str, Callable[[BaseHTTPRequestHandler, bytes], None]] = {
    "noise": lambda h, b: say(h, 200, b"\xff\xfe"),
    "nothing": lambda h, b: say(h, 200, b""),
    "another kind": lambda h, b: say(h, 200, b"[]"),
    "depth": lambda h, b: say(h, 200, b"[" * 200_000),
    "an error page": lambda h, b: say(h, 502, json.dumps({"result": "0x1"}).encode()),
    "a redirect": lambda h, b: say(h, 302, b""),
    "packed": lambda h, b: say_packed(h, b"{}"),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_node_that_answers_anything_makes_the_anchor_wait(tmp_path: Path, how: str) -> None:
    with answering(HOSTILE[how]) as url:
        chain = Ethereum(url, tmp_path / "anchor.key")
        with pytest.raises(Unavailable) as caught:
            chain.advance(bytes(32), {"hash": "0x" + "11" * 32})
    assert (caught.value.code, caught.value.subject) == ("anchor.unavailable", url)
    assert caught.value.got.startswith("HTTP ")
