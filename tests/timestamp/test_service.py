"""`qcos tsa serve`: RFC 3161 over HTTP, for everybody's tools, and for nobody's tricks."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import rfc3161_client
from asn1crypto import core, tsp
from cryptography import x509

from qcos.base.clock import rfc3339
from qcos.keys.open import FileStore
from qcos.keys.protect import Protection
from qcos.timestamp.authority import DEFAULT_POLICY
from qcos.timestamp.request import MAX_REQUEST_BYTES, Request, request_for
from qcos.timestamp.verify import verify_token

from .service import QCOS, QUERY, Tsa, serving

DATA = b"what is to be stamped"


@pytest.fixture(scope="module")
def tsa(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tsa]:
    with serving(tmp_path_factory.mktemp("tsa") / "data") as running:
        yield running


def _status(reply: bytes) -> tuple[str, set[str]]:
    parsed = core.SequenceOf.load(reply, spec=core.Any)[0]
    status = tsp.PKIStatusInfo.load(parsed.dump())
    failure = status["fail_info"].native
    return status["status"].native, failure or set()


def _token(reply: bytes) -> bytes:
    return bytes(tsp.TimeStampResp.load(reply, strict=True)["time_stamp_token"].dump())


@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("certificates", [True, False], ids=["with certificate", "without"])
def test_curl_and_openssl_are_enough(tsa: Tsa, tmp_path: Path, digest: str, certificates: bool) -> None:
    """R1.2: the whole round with tools of others, as the page says it."""
    (tmp_path / "data").write_bytes(DATA)
    with_certificate = "-cert" if certificates else ""
    untrusted = "" if certificates else "-untrusted chain.pem"
    script = f"""
        openssl ts -query -data data -{digest} {with_certificate} -out query.tsq
        curl -fsS -H 'Content-Type: application/timestamp-query' --data-binary @query.tsq {tsa.url} -o reply.tsr
        curl -fsS {tsa.url}/certificate -o chain.pem
        openssl ts -verify -queryfile query.tsq -in reply.tsr -CAfile chain.pem {untrusted}
        openssl ts -verify -data data -in reply.tsr -CAfile chain.pem {untrusted}
    """
    done = subprocess.run(
        ["sh", "-e", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count("Verification: OK") == 2


def test_rfc3161_client_accepts_it(tsa: Tsa) -> None:
    chain = x509.load_pem_x509_certificates(tsa.get("/certificate").content)
    for hash_algorithm in (rfc3161_client.HashAlgorithm.SHA256, rfc3161_client.HashAlgorithm.SHA512):
        request = rfc3161_client.TimestampRequestBuilder(data=DATA, hash_algorithm=hash_algorithm).build()
        response = rfc3161_client.decode_timestamp_response(tsa.reply(request.as_bytes()))
        verifier = (
            rfc3161_client.VerifierBuilder()
            .add_root_certificate(chain[1])
            .tsa_certificate(chain[0])
            .policy_id(x509.ObjectIdentifier(DEFAULT_POLICY))
            .nonce(request.nonce)
            .build()
        )
        assert verifier.verify_message(response, DATA)


def test_what_is_asked_is_answered(tsa: Tsa) -> None:
    """RFC 3161, 2.4: nonce echoed, certificate on demand, policy named or refused."""
    for nonce in (0, 1, 1 << 159, None):
        reply = tsa.reply(Request("sha512", bytes(64), nonce).encode())
        info = tsp.TimeStampResp.load(reply)["time_stamp_token"]["content"]["encap_content_info"]["content"]
        assert info.parsed["nonce"].native == nonce
    bare = tsa.reply(request_for(DATA, certificates=False).encode())
    assert not tsp.TimeStampResp.load(bare)["time_stamp_token"]["content"]["certificates"]
    assert _status(tsa.reply(Request("sha512", bytes(64), policy=DEFAULT_POLICY).encode()))[0] == "granted"
    refused = tsa.reply(Request("sha512", bytes(64), policy="1.2.3").encode())
    assert _status(refused) == ("rejection", {"unaccepted_policy"})
    info = verify_token(
        _token(tsa.reply(request_for(DATA).encode())), DATA, [tsa.get("/certificate").content]
    )
    assert abs(info.time - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=5)


def test_serials_are_unique_under_load(tsa: Tsa) -> None:
    trusted = [tsa.get("/certificate").content]
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(tsa.reply, [request_for(DATA).encode()] * 64))
    found = [verify_token(_token(reply), DATA, trusted) for reply in replies]
    assert len({info.serial for info in found}) == 64


@pytest.mark.parametrize(
    "body", [b"", b"\x30\x80", b"\x30" * 4000, b"\xff" * MAX_REQUEST_BYTES, b"GET / HTTP/1.1\r\n\r\n"]
)
def test_garbage_is_rejected_in_the_words_of_the_rfc(tsa: Tsa, body: bytes) -> None:
    assert _status(tsa.reply(body)) == ("rejection", {"bad_data_format"})


def test_other_requests_are_refused(tsa: Tsa) -> None:
    query = request_for(DATA).encode()
    assert tsa.post(query, headers={"Content-Type": "text/plain"}).status_code == 415
    assert tsa.post(query, headers={}).status_code == 415
    assert tsa.post(query, headers={"Content-Type": "Application/Timestamp-Query; x=y"}).status_code == 200
    assert tsa.post(bytes(MAX_REQUEST_BYTES + 1)).status_code == 413
    assert tsa.post(query, "/elsewhere").status_code == 404
    assert tsa.post(query, "/certificate").status_code == 405
    assert tsa.get("/").status_code == 200
    assert "openssl ts -query" in tsa.get("/").text
    assert tsa.get("/healthz").json()["status"] == "ok"


def _raw(tsa: Tsa, *parts: bytes) -> bytes:
    """Send bytes over a connection and return what comes until it is closed or an answer is whole."""
    where = urlsplit(tsa.url)
    with socket.create_connection((where.hostname or "", where.port or 0), timeout=120) as connection:
        with contextlib.suppress(
            ConnectionError
        ):  # an answer may come, and the connection end, before all is sent
            for part in parts:
                connection.sendall(part)
        return connection.recv(65536)


def test_hostile_clients_do_not_stop_it(tsa: Tsa) -> None:
    """Endless, half and nonsensical requests; afterwards it still stamps."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/timestamp-query\r\n"
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
    chunk = b"1000\r\n" + b"\x30" * 0x1000 + b"\r\n"
    assert b" 413 " in _raw(tsa, chunked, chunk, chunk)
    assert b" 400 " in _raw(tsa, head + b"Content-Length: minus\r\n\r\n")
    assert b" 400 " in _raw(tsa, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    half = [
        socket.create_connection((urlsplit(tsa.url).hostname or "", urlsplit(tsa.url).port or 0), timeout=120)
        for _ in range(40)
    ]
    for connection in half:
        connection.sendall(head + b"Content-Length: 60\r\n\r\n\x30")
    assert _status(tsa.reply(request_for(DATA).encode()))[0] == "granted"
    assert b" 408 " in half[0].recv(65536), "who does not send his request is answered so, and cut off"
    for connection in half:
        connection.close()
    assert _status(tsa.reply(request_for(DATA).encode()))[0] == "granted"


def test_who_sends_no_request_is_cut_off(tsa: Tsa) -> None:
    """Else so many idle connections as are served at once would keep everybody else out."""
    where = urlsplit(tsa.url).hostname or "", urlsplit(tsa.url).port or 0
    silent, half = (socket.create_connection(where, timeout=120) for _ in range(2))
    half.sendall(b"POST / HTTP/1.1\r\nHost: a\r\n")
    for connection in (silent, half):
        with connection, contextlib.suppress(ConnectionResetError):
            assert connection.recv(100) == b""
    assert _status(tsa.reply(request_for(DATA).encode()))[0] == "granted"


def test_a_replaced_key_is_not_taken_for_the_one_in_force(tmp_path: Path) -> None:
    """Without the database nobody says which key counts: tokens by a revoked one would be worth nothing."""
    data = tmp_path / "data"
    with serving(data) as first:
        assert _status(first.reply(request_for(DATA).encode()))[0] == "granted"
    FileStore(data / "keys", Protection()).make("tsa", "ECDSA-P384")
    done = subprocess.run(
        [QCOS, "tsa", "serve", "--port", "0", "--data", str(data), "--json"],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode != 0
    assert json.loads(done.stderr)["code"] == "keys.generation"


def test_it_takes_no_port_that_is_taken(tsa: Tsa, tmp_path: Path) -> None:
    port = str(urlsplit(tsa.url).port)
    done = subprocess.run(
        [QCOS, "tsa", "serve", "--port", port, "--data", str(tmp_path / "data"), "--json"],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 5
    assert json.loads(done.stderr)["code"] == "tsa.port"


def test_a_clock_set_back_over_a_restart_is_noticed(tmp_path: Path) -> None:
    """R1.2: it names no time before one it has named, even when it was stopped meanwhile."""
    data = tmp_path / "data"
    with serving(data) as first:
        assert _status(first.reply(request_for(DATA).encode()))[0] == "granted"
        certificate = first.get("/certificate").content
    assert (data / "tsa.latest").exists()
    later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    (data / "tsa.latest").write_text(rfc3339(later) + "\n")  # as if the clock had been right then
    with serving(data) as second:
        assert second.get("/certificate").content == certificate
        assert _status(second.reply(request_for(DATA).encode())) == ("rejection", {"time_not_available"})
        health = second.get("/healthz")
        assert (health.status_code, health.json()["code"]) == (503, "timestamp.clock")
    (data / "tsa.latest").write_text("nonsense")
    with serving(data) as third:
        assert _status(third.reply(request_for(DATA).encode()))[0] == "granted"


def test_headers_are_those_of_the_rfc(tsa: Tsa) -> None:
    answer = tsa.post(request_for(DATA).encode(), headers=QUERY)
    assert answer.headers["content-type"] == "application/timestamp-reply"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert "server" not in answer.headers
