"""Our verifier accepts true tokens, ours and others', and nothing else."""

from __future__ import annotations

import datetime as dt
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from qcos.base.errors import Integrity, Invalid
from qcos.keys.certify import issue_ca, issue_tsa
from qcos.keys.model import Keyring
from qcos.keys.signer import PrivateKeySigner
from qcos.timestamp.authority import LocalAuthority
from qcos.timestamp.token import MAX_TOKEN_BYTES
from qcos.timestamp.verify import verify_token

DATA = b"the raw bytes of a signature"
NOW = dt.datetime.now(dt.UTC)
Certificates = tuple[bytes, ...]


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def _refused(token: bytes, trusted: Certificates, data: bytes = DATA) -> str:
    with pytest.raises(Integrity) as refused:
        verify_token(token, data, trusted)
    return refused.value.code


def _leaf(
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePrivateKey,
    usages: list[x509.ObjectIdentifier] | None,
    *,
    critical: bool = True,
) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - dt.timedelta(days=1))
        .not_valid_after(NOW + dt.timedelta(days=1))
    )
    if usages is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=critical)
    return _der(builder.sign(ca_key, hashes.SHA256()))


def test_a_true_token_tells_its_time(authority: LocalAuthority, keyring: Keyring) -> None:
    """R1.2, R4.2."""
    info = verify_token(authority.stamp(DATA), DATA, keyring.tsa_chain)
    assert abs(info.time - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=5)
    assert info.accuracy == dt.timedelta(seconds=1)
    assert info.authority == "CN=QCOS time-stamping authority"
    assert info.hash_name == "sha512"


def test_pem_in_one_text_or_apart_is_the_same(authority: LocalAuthority, keyring: Keyring) -> None:
    token = authority.stamp(DATA)
    texts = [
        x509.load_der_x509_certificate(c).public_bytes(serialization.Encoding.PEM).decode()
        for c in keyring.tsa_chain
    ]
    assert verify_token(token, DATA, texts) == verify_token(token, DATA, ["\n".join(texts)])


def test_other_data_is_refused(authority: LocalAuthority, keyring: Keyring) -> None:
    assert _refused(authority.stamp(DATA), keyring.tsa_chain, DATA + b".") == "timestamp.imprint"


def test_a_forged_chain_is_refused() -> None:
    """A token that brings its own certificates, even of the same names, is not trusted for them."""
    key, ca_key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
    ca = issue_ca(ca_key, NOW)
    leaf = issue_tsa(ca, ca_key, key.public_key(), NOW)
    pinned = (_der(leaf), _der(ca))
    forger_key = ec.generate_private_key(ec.SECP384R1())
    own_ca = issue_ca(forger_key, NOW)
    own = _der(issue_tsa(own_ca, forger_key, forger_key.public_key(), NOW))
    forged = LocalAuthority(PrivateKeySigner(forger_key), (own,)).stamp(DATA)
    assert _refused(forged, pinned) == "timestamp.unpinned"

    same_name = (
        x509.CertificateBuilder(issuer_name=ca.subject, subject_name=leaf.subject)
        .public_key(forger_key.public_key())
        .serial_number(leaf.serial_number)
        .not_valid_before(NOW - dt.timedelta(days=1))
        .not_valid_after(NOW + dt.timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
        .sign(forger_key, hashes.SHA256())
    )
    forged = LocalAuthority(PrivateKeySigner(forger_key), (_der(same_name),)).stamp(DATA)
    assert _refused(forged, pinned) == "timestamp.unpinned"
    hidden = LocalAuthority(PrivateKeySigner(forger_key), pinned)  # the pinned certificate, the forger's key
    assert _refused(hidden.stamp(DATA), pinned) == "timestamp.signature"


def test_a_certificate_of_the_pinned_ca_is_not_enough() -> None:
    """Only the authority's own certificate may sign tokens, not another one of its issuer."""
    key, ca_key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
    ca = issue_ca(ca_key, NOW)
    leaf, sister = (_der(issue_tsa(ca, ca_key, key.public_key(), NOW)) for _ in range(2))
    token = LocalAuthority(PrivateKeySigner(key), (sister,)).stamp(DATA)
    assert _refused(token, (leaf, _der(ca))) == "timestamp.unpinned"


@pytest.mark.parametrize(
    ("usages", "critical"),
    [
        (None, True),
        ([ExtendedKeyUsageOID.TIME_STAMPING], False),
        ([ExtendedKeyUsageOID.CODE_SIGNING], True),
        ([ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.CODE_SIGNING], True),
    ],
)
def test_the_certificate_is_for_time_stamping_alone(
    usages: list[x509.ObjectIdentifier] | None, critical: bool
) -> None:
    key, ca_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
    ca = issue_ca(ca_key, NOW)
    chain = (_leaf(ca, ca_key, key, usages, critical=critical), _der(ca))
    signer = ec.ECDSA(hashes.SHA512())

    class Key:
        def sign(self, data: bytes) -> bytes:
            return key.sign(data, signer)

    assert _refused(LocalAuthority(Key(), chain).stamp(DATA), chain) == "timestamp.usage"


def test_the_pinned_chain_must_hold_together() -> None:
    key, ca_key, other = (ec.generate_private_key(ec.SECP384R1()) for _ in range(3))
    ca = issue_ca(ca_key, NOW)
    leaf = issue_tsa(ca, ca_key, key.public_key(), NOW)
    impostor = x509.CertificateBuilder(issuer_name=ca.subject, subject_name=ca.subject)
    root = (
        impostor.public_key(other.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + dt.timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(other, hashes.SHA256())
    )
    token = LocalAuthority(PrivateKeySigner(key), (_der(leaf),)).stamp(DATA)
    assert _refused(token, (_der(leaf), _der(root))) == "timestamp.chain"
    assert _refused(token, (_der(leaf),)) == "timestamp.chain"
    assert verify_token(token, DATA, (_der(root), _der(ca), _der(leaf))).authority


def test_certificates_are_judged_at_the_time_of_the_token(keyring: Keyring) -> None:
    for years, at in ((11, NOW + dt.timedelta(days=365 * 11)), (-1, NOW - dt.timedelta(days=365))):
        authority = LocalAuthority(keyring.tsa_key, keyring.tsa_chain, clock=lambda at=at: at)
        assert _refused(authority.stamp(DATA), keyring.tsa_chain) == "timestamp.validity", years


def test_a_pin_that_is_no_certificate_is_an_error_of_the_caller() -> None:
    with pytest.raises(Invalid) as refused:
        verify_token(b"", DATA, ["-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----"])
    assert refused.value.code == "timestamp.trust"


def test_every_single_byte_of_a_token_counts(authority: LocalAuthority, keyring: Keyring) -> None:
    token = authority.stamp(DATA)
    for position in range(len(token)):
        changed = bytearray(token)
        changed[position] ^= 1 << (position % 8)
        assert _refused(bytes(changed), keyring.tsa_chain).startswith("timestamp.")


@pytest.fixture(scope="session")
def token(authority: LocalAuthority) -> bytes:
    return authority.stamp(DATA)


@given(st.data())
def test_no_change_of_a_token_passes(token: bytes, keyring: Keyring, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(token)))
    end = data.draw(st.integers(start, min(len(token), start + 20)))
    changed = token[:start] + data.draw(st.binary(max_size=20)) + token[end:]
    if changed != token:
        assert _refused(changed, keyring.tsa_chain).startswith("timestamp.")


_NOISE = [b"", b"\x30\x00", b"\x30\x84", b"\x30\x80" * 5000, bytes(MAX_TOKEN_BYTES + 1)]


@pytest.mark.parametrize("noise", _NOISE, ids=range(len(_NOISE)))
def test_noise_is_refused(keyring: Keyring, noise: bytes) -> None:
    assert _refused(noise, keyring.tsa_chain) == "timestamp.malformed"


_OPENSSL_CONFIG = """
[req]
distinguished_name = dn
prompt = no
[dn]
CN = An outside authority
[root]
basicConstraints = critical,CA:TRUE
[leaf]
basicConstraints = CA:FALSE
extendedKeyUsage = critical,timeStamping
[tsa]
default_tsa = one
[one]
serial = {folder}/serial
signer_cert = {folder}/leaf.pem
certs = {folder}/root.pem
signer_key = {folder}/leaf.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
accuracy = secs:1, millisecs:500, microsecs:100
ess_cert_id_alg = sha256
"""


@pytest.mark.parametrize("kind", [("rsa", "rsa_keygen_bits:2048"), ("EC", "ec_paramgen_curve:P-256")])
def test_tokens_of_openssl_are_verified(tmp_path: Path, kind: tuple[str, str]) -> None:
    """An outside authority, RSA or ECDSA, can be pinned instead of the local one."""
    config = tmp_path / "openssl.cnf"
    config.write_text(_OPENSSL_CONFIG.format(folder=tmp_path))
    (tmp_path / "serial").write_text("01")
    (tmp_path / "data").write_bytes(DATA)

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=tmp_path, timeout=120)

    new = ("req", "-config", str(config), "-nodes", "-newkey", kind[0], "-pkeyopt", kind[1])
    root = ("-x509", "-extensions", "root", "-subj", "/CN=A root")
    openssl(*new, *root, "-keyout", "root.key", "-out", "root.pem")
    openssl(*new, "-keyout", "leaf.key", "-out", "leaf.csr")
    openssl(
        *("x509", "-req", "-in", "leaf.csr", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial"),
        *("-extfile", str(config), "-extensions", "leaf", "-out", "leaf.pem"),
    )
    openssl("ts", "-query", "-data", "data", "-sha512", "-cert", "-out", "query")
    openssl("ts", "-reply", "-config", str(config), "-queryfile", "query", "-token_out", "-out", "token")
    pins = [(tmp_path / name).read_text() for name in ("leaf.pem", "root.pem")]
    info = verify_token((tmp_path / "token").read_bytes(), DATA, pins)
    assert info.policy == "1.2.3.4.1"
    assert info.accuracy == dt.timedelta(seconds=1, milliseconds=500, microseconds=100)
    assert info.authority == "CN=An outside authority"
    assert info.serial == 2
