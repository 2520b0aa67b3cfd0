"""The local authority's tokens are what RFC 3161 says, and others accept them."""

from __future__ import annotations

import datetime as dt
import hashlib
import subprocess
from pathlib import Path

import pytest
import rfc3161_client
from asn1crypto import core, tsp
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from qcos.base.errors import Integrity, Unavailable
from qcos.keys.model import Keyring
from qcos.timestamp import der
from qcos.timestamp.authority import LocalAuthority
from qcos.timestamp.request import Request, request_for
from qcos.timestamp.token import Accuracy, time_of
from qcos.timestamp.verify import verify_token

DATA = b"the raw bytes of a signature"


def _openssl(*arguments: object) -> str:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def test_openssl_accepts_a_token(authority: LocalAuthority, pem: Path, tmp_path: Path) -> None:
    """R1.2: somebody else's tool checks the trusted time."""
    (tmp_path / "data").write_bytes(DATA)
    (tmp_path / "token").write_bytes(authority.stamp(DATA))
    options = ("-in", tmp_path / "token", "-token_in", "-CAfile", pem)
    assert "Verification: OK" in _openssl("ts", "-verify", "-data", tmp_path / "data", *options)
    (tmp_path / "other").write_bytes(DATA + b".")
    assert "Verification: FAILED" in _openssl("ts", "-verify", "-data", tmp_path / "other", *options)


def test_openssl_gets_an_answer_to_its_request(authority: LocalAuthority, pem: Path, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(DATA)
    for option in ("-sha256", "-sha384", "-sha512", "-sha3-512"):
        query, reply = tmp_path / "query", tmp_path / "reply"
        _openssl("ts", "-query", "-data", tmp_path / "data", option, "-cert", "-out", query)
        reply.write_bytes(authority.reply(query.read_bytes()))
        verified = _openssl("ts", "-verify", "-queryfile", query, "-in", reply, "-CAfile", pem)
        assert "Verification: OK" in verified


def test_rfc3161_client_accepts_a_reply(authority: LocalAuthority, keyring: Keyring) -> None:
    leaf, root = (x509.load_der_x509_certificate(c) for c in keyring.tsa_chain)
    request = rfc3161_client.TimestampRequestBuilder().data(DATA).build()
    response = rfc3161_client.decode_timestamp_response(authority.reply(request.as_bytes()))
    verifier = (
        rfc3161_client.VerifierBuilder()
        .add_root_certificate(root)
        .tsa_certificate(leaf)
        .nonce(request.nonce)
        .build()
    )
    assert verifier.verify_message(response, DATA)
    with pytest.raises(rfc3161_client.VerificationError):
        verifier.verify_message(response, DATA + b".")


def test_the_token_says_what_was_asked(keyring: Keyring) -> None:
    at = dt.datetime(2026, 1, 9, 10, 30, 45, 120_999, tzinfo=dt.UTC)
    authority = LocalAuthority(
        keyring.tsa_key, keyring.tsa_chain, "1.3.6.1.4.1.99999.1", Accuracy(0, 500), clock=lambda: at
    )
    token = authority.stamp(DATA)
    parsed = tsp.TimeStampResp.load(authority.reply(request_for(DATA, nonce=12345).encode()), strict=True)
    info = parsed["time_stamp_token"]["content"]["encap_content_info"]["content"].parsed
    assert parsed["status"]["status"].native == "granted"
    assert info["nonce"].native == 12345
    assert info["policy"].dotted == "1.3.6.1.4.1.99999.1"
    assert info["message_imprint"]["hashed_message"].native == hashlib.sha512(DATA).digest()
    assert info["gen_time"].contents == b"20260109103045.12Z", "no trailing zero (RFC 3161, 2.4.2)"
    assert info["accuracy"].native == {"seconds": None, "millis": 500, "micros": None}
    assert time_of(token) == at.replace(microsecond=120_000)
    der.check(token)


def test_serials_are_unique_and_short_enough(authority: LocalAuthority, keyring: Keyring) -> None:
    serials = [verify_token(authority.stamp(DATA), DATA, keyring.tsa_chain).serial for _ in range(20)]
    assert len(set(serials)) == len(serials)
    assert all(0 < serial < 1 << 160 for serial in serials)


def test_without_certificates_the_pinned_ones_suffice(authority: LocalAuthority, keyring: Keyring) -> None:
    bare = authority.reply(request_for(DATA, certificates=False).encode())
    token = tsp.TimeStampResp.load(bare)["time_stamp_token"].dump()
    assert len(token) < len(authority.stamp(DATA)) - len(keyring.tsa_chain[0]) + 30
    assert verify_token(token, DATA, keyring.tsa_chain).hash_name == "sha512"


def _failure(reply: bytes) -> tuple[str, set[str]]:
    der.check(reply)
    (status,) = core.SequenceOf.load(reply, strict=True, spec=tsp.PKIStatusInfo)
    return status["status"].native, status["fail_info"].native


def _with_extension() -> bytes:
    request = tsp.TimeStampReq.load(request_for(DATA).encode())
    request["extensions"] = [{"extn_id": "1.2.3.4", "critical": False, "extn_value": b"\x05\x00"}]
    return bytes(request.dump(force=True))


_BAD = [
    (b"", "bad_data_format"),
    (b"\x30\x80", "bad_data_format"),
    (b"\x30" * 5000, "bad_data_format"),
    (Request("sha512", b"short").encode(), "bad_data_format"),
    (Request("sha512", bytes(64), nonce=1 << 300).encode(), "bad_data_format"),
    (request_for(DATA).encode().replace(b"\x02\x01\x01", b"\x02\x01\x02", 1), "bad_request"),
    (Request("sha512", bytes(64), policy="1.2.3").encode(), "unaccepted_policy"),
    (_with_extension(), "unaccepted_extensions"),
    (request_for(DATA).encode().replace(b"\x04\x02\x03\x04\x40", b"\x04\x02\x0b\x04\x40"), "bad_alg"),
]


@pytest.mark.parametrize(("request_bytes", "reason"), _BAD, ids=range(len(_BAD)))
def test_a_bad_request_is_rejected_with_its_reason(
    authority: LocalAuthority, request_bytes: bytes, reason: str
) -> None:
    status, failure = _failure(authority.reply(request_bytes))
    assert status == "rejection"
    assert failure == {reason}


@given(st.binary(max_size=200))
def test_no_bytes_break_the_authority(authority: LocalAuthority, noise: bytes) -> None:
    assert _failure(authority.reply(noise))[0] == "rejection"


def test_time_never_goes_back(keyring: Keyring) -> None:
    """R1.2: a clock that jumps back stops the authority instead of lying."""
    start = dt.datetime(2026, 1, 9, 10, 30, tzinfo=dt.UTC)
    times = iter([start, start - dt.timedelta(milliseconds=500), start - dt.timedelta(seconds=5), start])
    authority = LocalAuthority(keyring.tsa_key, keyring.tsa_chain, clock=lambda: next(times))
    assert time_of(authority.stamp(DATA)) == start
    assert time_of(authority.stamp(DATA)) == start, "within the promised accuracy the later time stands"
    with pytest.raises(Unavailable) as refused:
        authority.stamp(DATA)
    assert refused.value.code == "timestamp.clock"
    assert time_of(authority.stamp(DATA)) == start, "it recovers by itself"


def test_a_token_that_is_none_names_no_time() -> None:
    for noise in (b"", b"\x30\x00", b"nonsense"):
        with pytest.raises(Integrity):
            time_of(noise)


@given(st.integers(0, 1 << 200), st.lists(st.integers(0, 1 << 130), max_size=6), st.datetimes())
def test_our_encoder_agrees_with_asn1crypto(number: int, arcs: list[int], instant: dt.datetime) -> None:
    assert der.integer(number) == core.Integer(number).dump()
    dotted = ".".join(map(str, [2, 25, *arcs]))
    assert core.ObjectIdentifier.load(der.oid(dotted)).dotted == dotted
    for encoded in (der.integer(number), der.oid(dotted), der.tlv(der.OCTET_STRING, bytes(len(arcs) * 60))):
        der.check(encoded)
    at = instant.replace(tzinfo=dt.UTC, year=max(instant.year, 1000))
    milliseconds = at.microsecond // 1000 * 1000
    assert core.GeneralizedTime.load(der.generalized_time(at)).native == at.replace(microsecond=milliseconds)


@pytest.mark.parametrize(
    "not_der",
    [
        b"",
        b"\x30",
        b"\x30\x80\x00\x00",  # indefinite length
        b"\x04\x81\x01x",  # a long length where a short one does
        b"\x04\x82\x00\x80" + bytes(128),
        b"\x02\x02\x00\x01",  # a leading zero
        b"\x02\x00",
        b"\x06\x02\x80\x01",
        b"\x06\x01\x80",
        b"\x01\x01\x01",
        b"\x05\x01\x00",
        b"\x02\x01\x01\x00",  # left over
        b"\x30\x03\x02\x02\x01",  # longer than what holds it
        b"\x1f\x01\x00",
        b"".join(b"\x30" + bytes([78 - 2 * n]) for n in range(40)),
    ],
)
def test_what_is_not_der_is_refused(not_der: bytes) -> None:
    with pytest.raises(ValueError):
        der.check(not_der)
