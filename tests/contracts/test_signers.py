"""One suite for everything that signs (contract: `qcos.keys.model.Signer`), wherever its key lies. R10.5."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kms_wire import REGION, Wire
from qcos.base.errors import Integrity
from qcos.keys import transit
from qcos.keys.awskms import Kms, kms_signer
from qcos.keys.file import ROLES, FileKeyring
from qcos.keys.model import Signer
from qcos.keys.pkcs11 import Token, make_keys, token_signer
from qcos.keys.signer import PublicKey
from qcos.keys.vault import Server
from qcos.keys.where import KmsAt, TokenAt
from real_keystores import PIN, Bao, MakeToken

Open = Callable[[], Signer]
"""Opens the same key each time."""

STORES = (
    *("file ML-DSA-65", "file Ed25519", "file ML-DSA-44", "file ECDSA-P384"),
    *("pkcs11 ECDSA-P384", "transit ECDSA-P384", "transit Ed25519"),
    *("awskms ML-DSA-65", "awskms ECDSA-P384", "localstack ECDSA-P384"),
)
BIG = b"\xa5" * 1_000_003  # larger than any key store takes at once


def _from_file(role: str, tmp_path: Path) -> Open:
    def load() -> Signer:
        keyring = FileKeyring(tmp_path).open_or_create()
        signers = (*keyring.evidence, *keyring.ledger, keyring.tsa_key)
        return signers[list(ROLES).index(role)]

    return load


def _from_token(softhsm: Path, label: str) -> Open:
    at = TokenAt(str(softhsm), label, PIN)
    make_keys(Token(at))
    return lambda: token_signer(Token(at))


def _from_server(bao: Bao, algorithm: str) -> Open:
    at = bao.at(secrets.token_hex(4))
    transit.make_keys(Server(at))
    what = "ed25519" if algorithm == "Ed25519" else "countersign"
    return lambda: transit.transit_signer(Server(at), what)


def _from_kms(url: str, key: str, algorithm: str, region: str) -> Open:
    spec = {"ML-DSA-65": "ML_DSA_65", "ECDSA-P384": "ECC_NIST_P384"}[algorithm]
    return lambda: kms_signer(Kms(KmsAt("", region=region, endpoint=url)), key, spec)


@pytest.fixture(params=STORES)
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    store, _, algorithm = request.param.partition(" ")
    if store == "pkcs11":
        make: MakeToken = request.getfixturevalue("new_token")
        return _from_token(request.getfixturevalue("softhsm"), make())
    if store == "localstack":
        url = request.getfixturevalue("localstack")
        client = boto3.client("kms", region_name="us-east-1", endpoint_url=url)
        made = client.create_key(KeySpec="ECC_NIST_P384", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
        return _from_kms(url, made, algorithm, "us-east-1")
    if store == "awskms":
        wire: Wire = request.getfixturevalue("kms")
        key = wire.make({"ML-DSA-65": "ML_DSA_65", "ECDSA-P384": "ECC_NIST_P384"}[algorithm])
        return _from_kms(wire.url, key.arn, algorithm, REGION)
    if store == "transit":
        return _from_server(request.getfixturevalue("bao"), algorithm)
    role = {"ML-DSA-65": "evidence-mldsa65", "Ed25519": "evidence-ed25519", "ML-DSA-44": "ledger-mldsa44"}
    return _from_file(role.get(algorithm, "tsa"), tmp_path)


@pytest.fixture
def signer(reopen: Open) -> Signer:
    return reopen()


@pytest.mark.parametrize("data", [b"", b"m", b"x" * 4096, b"x" * 4097, BIG], ids=len)
def test_what_it_signs_verifies_with_its_public_key(signer: Signer, data: bytes) -> None:
    signature = signer.sign(data)
    PublicKey.load(signer.spki).verify(signature, data)
    with pytest.raises(Integrity):
        PublicKey.load(signer.spki).verify(signature, data + b"!")


def test_it_says_what_it_is(signer: Signer, request: pytest.FixtureRequest) -> None:
    public = PublicKey.load(signer.spki)
    assert signer.algorithm == public.algorithm
    assert signer.algorithm in request.node.name
    assert signer.key_id == hashlib.sha256(signer.spki).hexdigest()[:16]
    assert signer.public_bytes == public.raw
    assert signer.key_id in repr(signer)


def test_opened_again_it_is_the_same_key(reopen: Open) -> None:
    one, two = reopen(), reopen()
    assert (one.key_id, one.spki) == (two.key_id, two.spki)
    PublicKey.load(one.spki).verify(two.sign(b"m"), b"m")


def test_a_signature_is_over_these_bytes_alone(signer: Signer) -> None:
    public, signature = PublicKey.load(signer.spki), signer.sign(b"message")
    for other in (b"", b"message ", b"messag", b"Message"):
        with pytest.raises(Integrity) as refused:
            public.verify(signature, other)
        assert refused.value.code == "keys.signature"
    with pytest.raises(Integrity):
        public.verify(signature[:-1] + bytes([signature[-1] ^ 1]), b"message")


@pytest.mark.parametrize("reopen", [name for name in STORES if "P384" in name], indirect=True)
def test_ecdsa_is_der_over_sha_512_as_any_library_checks_it(signer: Signer) -> None:
    key = serialization.load_der_public_key(signer.spki)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(signer.sign(BIG), BIG, ec.ECDSA(hashes.SHA512()))


def test_many_threads_sign_at_once(signer: Signer) -> None:
    public = PublicKey.load(signer.spki)

    def turn(n: int) -> bool:
        public.verify(signer.sign(b"%d" % n), b"%d" % n)
        return True

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(turn, range(64)))
