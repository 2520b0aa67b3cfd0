"""Outside authorities: a second `qcos tsa`, OpenSSL's behind loopback HTTP, and all that can go wrong with one."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.server
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from asn1crypto import tsp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from qcos.base.errors import Invalid
from qcos.keys.certify import to_pem
from qcos.keys.file import FileKeyring
from qcos.keys.model import Keyring
from qcos.timestamp.authority import LocalAuthority, NoTime
from qcos.timestamp.fallback import Authorities
from qcos.timestamp.guard import ClockGuard
from qcos.timestamp.pinned import read_authorities
from qcos.timestamp.remote import RemoteAuthority
from qcos.timestamp.request import Request, read_request
from qcos.timestamp.sources import TsaSource
from qcos.timestamp.verify import verify_root

from .service import Tsa, serving

DIGEST = bytes(range(64))
Answer = Callable[[bytes], tuple[int, bytes]]


@contextlib.contextmanager
def _http(answer: Answer) -> Iterator[str]:
    """A loopback server that answers each POST as a test wants; returns its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, body = answer(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/tsa"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@contextlib.contextmanager
def _asking(url: str, trusted: list[bytes], timeout_s: float = 30) -> Iterator[RemoteAuthority]:
    remote = RemoteAuthority(url, trusted, timeout_s=timeout_s)
    try:
        yield remote
    finally:
        remote.close()


@pytest.fixture(scope="module")
def tsa(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tsa]:
    with serving(tmp_path_factory.mktemp("outside") / "data") as running:
        yield running


def test_another_qcos_stamps(tsa: Tsa) -> None:
    trusted = [tsa.get("/certificate").content]
    with _asking(tsa.url, trusted) as remote:
        token = remote.stamp_digest(DIGEST)
    info = verify_root(token, DIGEST, trusted)
    assert info.hash_name == "sha512"
    assert info.nonce is not None


def _self_signed_authority(folder: Path) -> bytes:
    """An RSA authority of our own making, as a public one might be: key.pem and cert.pem."""
    key = rsa.generate_private_key(65537, 3072)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "An independent authority")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "cert.pem").write_bytes(pem)
    (folder / "serial").write_text("01\n")
    (folder / "ts.cnf").write_text(
        f"[tsa]\ndefault_tsa = here\n[here]\nserial = {folder}/serial\ndigests = sha512\n"
        "signer_digest = sha512\ndefault_policy = 1.2.3.4.1\ness_cert_id_alg = sha256\n"
    )
    return pem


def test_openssls_authority_stamps_and_tells_the_time(tmp_path: Path) -> None:
    """R1.2: an authority that is none of ours, with another algorithm, whole seconds and no accuracy."""
    pem = _self_signed_authority(tmp_path)
    lock = threading.Lock()  # its serial file is not locked

    def answer(query: bytes) -> tuple[int, bytes]:
        with lock:
            (tmp_path / "query").write_bytes(query)
            command = (
                "openssl ts -reply -config ts.cnf -queryfile query -signer cert.pem -inkey key.pem -out reply"
            )
            subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True, timeout=60)
            return 200, (tmp_path / "reply").read_bytes()

    with _http(answer) as url, _asking(url, [pem]) as remote:
        info = verify_root(remote.stamp_digest(DIGEST), DIGEST, [pem])
        assert info.authority == "CN=An independent authority"
        assert info.accuracy is None
        guard = ClockGuard([TsaSource(remote)], accuracy_s=1, every_s=60, patience_s=60, refuse=True)
        guard.poll()
        guard.check()
        assert guard.status()["agreeing"] == 1
    assert read_authorities(pem) == [(pem.decode(), "")]


def _bend(authority: LocalAuthority, how: str) -> Answer:
    """An authority with the pinned key that answers something else than what was asked."""

    def answer(query: bytes) -> tuple[int, bytes]:
        asked = read_request(query)
        match how:
            case "wrong nonce":
                return 200, authority.reply(Request("sha512", asked.imprint, (asked.nonce or 0) ^ 1).encode())
            case "no nonce":
                return 200, authority.reply(Request("sha512", asked.imprint).encode())
            case "wrong imprint":
                return 200, authority.reply(Request("sha512", bytes(64), asked.nonce).encode())
            case "weaker imprint":
                return 200, authority.reply(Request("sha256", asked.imprint[:32], asked.nonce).encode())
            case "rejection":
                return 200, authority.reply(Request("sha512", asked.imprint, policy="1.2.3").encode())
            case "bare token":
                reply = tsp.TimeStampResp.load(authority.reply(query))
                return 200, reply["time_stamp_token"].dump()
            case "status without token":
                return 200, b"\x30\x05\x30\x03\x02\x01\x00"
            case "garbage":
                return 200, b"\x30\x80garbage"
            case "nothing":
                return 200, b""
            case "endless":
                return 200, bytes(10_000_000)
            case "error page":
                return 500, b"<html>"
            case "elsewhere":
                return 302, b""
            case _:
                reply = bytearray(authority.reply(query))
                reply[len(reply) // 2] ^= 1
                return 200, bytes(reply)

    return answer


@pytest.mark.parametrize(
    "how",
    [
        *("wrong nonce", "no nonce", "wrong imprint", "weaker imprint", "rejection", "bare token"),
        *("status without token", "garbage", "nothing", "endless", "error page", "elsewhere", "a bit"),
    ],
)
def test_what_does_not_verify_is_no_token(authority: LocalAuthority, keyring: Keyring, how: str) -> None:
    with (
        _http(_bend(authority, how)) as url,
        _asking(url, list(keyring.tsa_chain)) as remote,
        pytest.raises(NoTime) as refused,
    ):
        remote.stamp_digest(DIGEST)
    assert refused.value.code == "timestamp.remote"
    assert refused.value.subject == url


def test_a_rejection_is_told_in_its_words(authority: LocalAuthority, keyring: Keyring) -> None:
    with (
        _http(_bend(authority, "rejection")) as url,
        _asking(url, list(keyring.tsa_chain)) as remote,
        pytest.raises(NoTime) as refused,
    ):
        remote.stamp_digest(DIGEST)
    assert "rejection" in refused.value.got
    assert "unaccepted_policy" in refused.value.got


def test_an_authority_that_is_not_pinned_stamps_nothing(tsa: Tsa, keyring: Keyring) -> None:
    with _asking(tsa.url, list(keyring.tsa_chain)) as remote, pytest.raises(NoTime) as refused:
        remote.stamp_digest(DIGEST)
    assert "timestamp.unpinned" in refused.value.message


def test_a_slow_or_absent_authority_is_given_up(authority: LocalAuthority, keyring: Keyring) -> None:
    """The next in the order stamps meanwhile."""
    over = threading.Event()

    def slow(query: bytes) -> tuple[int, bytes]:
        over.wait(200)
        return 200, authority.reply(query)

    with _http(slow) as url, _asking(url, list(keyring.tsa_chain), timeout_s=0.2) as remote:
        absent = RemoteAuthority("http://127.0.0.1:1/", list(keyring.tsa_chain), timeout_s=5)
        order = Authorities([("slow", remote), ("absent", absent), ("local", authority)])
        token = order.stamp_digest(DIGEST)
        over.set()
        absent.close()
    assert verify_root(token, DIGEST, keyring.tsa_chain).nonce is None, "the local one's"


def test_a_time_that_no_verifier_would_accept_is_not_taken(keyring: Keyring) -> None:
    """As a source it is heard all the same: that is how drift is found."""
    late = LocalAuthority(
        keyring.tsa_key, keyring.tsa_chain, clock=lambda: dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    )
    with (
        _http(lambda query: (200, late.reply(query))) as url,
        _asking(url, list(keyring.tsa_chain)) as remote,
    ):
        with pytest.raises(NoTime) as refused:
            remote.stamp_digest(DIGEST)
        assert "too far apart" in refused.value.message
        guard = ClockGuard([TsaSource(remote)], accuracy_s=1, every_s=60, patience_s=60, refuse=False)
        guard.poll()
        with pytest.raises(NoTime) as refused:
            guard.check()
        assert refused.value.code == "timestamp.drift"
        drift = guard.drift_s()
        assert drift is not None
        assert abs(drift - 3600) < 60


def test_the_file_of_pinned_certificates_is_read_in_any_order(
    keyring: Keyring, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = FileKeyring(tmp_path_factory.mktemp("other")).open_or_create()
    pems = [to_pem(c) for c in (*keyring.tsa_chain, *other.tsa_chain)]
    found = read_authorities("".join(pems[::-1]).encode())
    assert sorted(found) == sorted([(pems[0], pems[1]), (pems[2], pems[3])])
    for bad in (b"", b"nonsense", pems[1].encode(), pems[0].encode()):
        with pytest.raises(Invalid) as refused:
            read_authorities(bad)
        assert refused.value.code == "timestamp.trust"


def test_a_service_whose_clock_is_wrong_refuses(tmp_path: Path, keyring: Keyring) -> None:
    """R1.2: `qcos tsa serve` compared with a source that says an hour more: timeNotAvailable, health 503."""
    late = LocalAuthority(
        keyring.tsa_key, keyring.tsa_chain, clock=lambda: dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    )
    pins = tmp_path / "pins.pem"
    pins.write_text("".join(map(to_pem, keyring.tsa_chain)))
    with _http(lambda query: (200, late.reply(query))) as url:
        variables = {"QCOS_TIME_SOURCES": url, "QCOS_TSA_CERTIFICATES": str(pins)}
        with serving(tmp_path / "data", **variables) as running:
            reply = running.reply(Request("sha512", DIGEST).encode())
            assert b"the clock is wrong" in reply
            health = running.get("/healthz")
    assert health.status_code == 503
    assert health.json()["code"] == "timestamp.drift"
    assert health.json()["sources"] == {url: "ok"}
    assert abs(health.json()["drift_ms"] - 3_600_000) < 60_000


def test_wrong_settings_are_told_at_the_start(tmp_path: Path) -> None:
    from .service import QCOS

    for variables, code in (
        ({"QCOS_TIME_SOURCES": "http://127.0.0.1:1"}, "timestamp.source"),
        ({"QCOS_TIME_SOURCES": "nonsense", "QCOS_TSA_CERTIFICATES": "/nonexistent"}, "timestamp.trust"),
    ):
        done = subprocess.run(
            [QCOS, "tsa", "serve", "--port", "0", "--data", str(tmp_path / "data"), "--json"],
            env={"PATH": "/usr/bin:/bin", **variables},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 2
        assert f'"code":"{code}"' in done.stderr
