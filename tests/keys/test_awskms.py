"""R10.2, R10.5: keys in AWS KMS, on the wire.

No server that can be had here signs with ML-DSA. ML-DSA is tested against `tests/kms_wire.py`, which follows AWS's
documentation, checks SigV4 and really signs by `cryptography` (EXTERNAL_MU by its `sign_mu`); it shows that QCOS speaks the
documented protocol, not that AWS does. LocalStack is right about P-384 (`tests/contracts/test_signers.py`), moto about
symmetric keys (`tests/contracts/test_wrappers.py`); moto hashes a digest again, which is used here as a store that signs wrongly.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest
from cryptography.hazmat.primitives.asymmetric import mldsa

from kms_wire import REGION, Key, Said, Wire
from qcos.app import open_keyring
from qcos.base.errors import Integrity, Invalid, QcosError, Unavailable
from qcos.base.limits import KEYSTORE_ATTEMPTS
from qcos.evidence.envelope import sign
from qcos.keys.awskms import Kms, KmsWrapper, kms_signer
from qcos.keys.held import mldsa_mu
from qcos.keys.keystore import open_kms_keystore
from qcos.keys.signer import GENERATORS, PrivateKeySigner, PublicKey
from qcos.keys.where import KmsAt
from qcos.settings import Settings


@pytest.fixture(autouse=True)
def _quiet(kms: Wire) -> None:
    kms.asked.clear()
    kms.failing.clear()


def _client(kms: Wire) -> Kms:
    return Kms(KmsAt("", region=REGION, endpoint=kms.url))


def _at(kms: Wire, wrapping: Key, mldsa_key: Key | None = None, p384: Key | None = None) -> KmsAt:
    names = [key.arn if key else "" for key in (wrapping, mldsa_key, p384)]
    return KmsAt(*names, region=REGION, endpoint=kms.url)


def _code(call: Callable[[], object], family: type[QcosError]) -> str:
    with pytest.raises(family) as refused:
        call()
    assert refused.value.hint or refused.value.expected
    return refused.value.code


@pytest.mark.parametrize(
    ("size", "kind", "sent"),
    [
        (0, "EXTERNAL_MU", 64),
        (1, "RAW", 1),
        (4096, "RAW", 4096),
        (4097, "EXTERNAL_MU", 64),
        (10**6, "EXTERNAL_MU", 64),
    ],
)
def test_long_messages_and_the_empty_one_go_as_their_representative(
    kms: Wire, size: int, kind: str, sent: int
) -> None:
    """AWS's Sign takes 1 to 4,096 bytes; the signature is that of the message all the same (FIPS 204, 6.2)."""
    key, data = kms.make("ML_DSA_65"), b"m" * size
    signer = kms_signer(_client(kms), key.arn, "ML_DSA_65")
    key.private.public_key().verify(signer.sign(data), data)
    operation, given = kms.asked[-1]
    assert operation == "Sign"
    assert (given["MessageType"], len(base64.b64decode(given["Message"]))) == (kind, sent)
    assert given["SigningAlgorithm"] == "ML_DSA_SHAKE_256"
    assert given["KeyId"] == key.arn


@pytest.mark.parametrize("data", [b"", b"m", b"m" * 5000])
def test_the_representative_is_that_of_fips_204(data: bytes) -> None:
    """By the library's own hasher, and by a signature over it that verifies over the message."""
    private = mldsa.MLDSA65PrivateKey.generate()
    mu = mldsa_mu(PublicKey(private.public_key()), data)
    hasher = mldsa.MLDSAMuHasher(private.public_key())
    hasher.update(data)
    assert mu == hasher.finalize()
    assert private.public_key().verify(private.sign_mu(mu), data) is None


def test_p384_is_given_the_digest_cut_to_its_order(kms: Wire) -> None:
    """KMS knows P-384 with SHA-384 only; over these 48 bytes it makes the signature of ECDSA with SHA-512."""
    signer = kms_signer(_client(kms), kms.make("ECC_NIST_P384").arn, "ECC_NIST_P384")
    PublicKey.load(signer.spki).verify(signer.sign(b"m" * 9999), b"m" * 9999)
    _, given = kms.asked[-1]
    assert (given["MessageType"], given["SigningAlgorithm"]) == ("DIGEST", "ECDSA_SHA_384")
    assert len(base64.b64decode(given["Message"])) == 48


def test_every_request_was_signed(kms: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server recomputes SigV4 of each request; with another secret it refuses."""
    key = kms.make("ML_DSA_65")
    before = kms.unsigned
    signer = kms_signer(_client(kms), key.arn, "ML_DSA_65")
    signer.sign(b"m")
    assert kms.unsigned == before
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    assert _code(lambda: kms_signer(_client(kms), key.arn, "ML_DSA_65"), Unavailable) == "keys.store_denied"
    assert kms.unsigned == before + 1
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert _code(lambda: kms_signer(_client(kms), key.arn, "ML_DSA_65"), Unavailable) == "keys.store_denied"


def test_an_installation_keeps_its_post_quantum_key_there(kms: Wire, tmp_path: Path) -> None:
    """The ML-DSA key of evidence is in no file; the rest is wrapped; the whole is as it was when opened again."""
    keys = (kms.make("SYMMETRIC_DEFAULT"), kms.make("ML_DSA_65"), kms.make("ECC_NIST_P384"))
    made = open_kms_keystore(tmp_path / "keys", _at(kms, *keys)).keyring().open_or_create()
    assert [s.algorithm for s in made.evidence_signers] == ["ML-DSA-65", "Ed25519", "ECDSA-P384"]
    files = {path.name: path.read_text() for path in (tmp_path / "keys").glob("*.pem")}
    assert "evidence-mldsa65.pem" not in files
    assert all("WRAPPED" in text for name, text in files.items() if name != "tsa-chain.pem")
    _, (mldsa65, _, p384) = sign(b'{"large":"%s"}' % (b"x" * 100_000), made.evidence_signers)
    assert len(mldsa65) == 3309 and p384[0] == 0x30
    again = open_kms_keystore(tmp_path / "keys", _at(kms, *keys)).keyring().open_or_create()
    assert [s.key_id for s in again.evidence_signers] == [s.key_id for s in made.evidence_signers]
    for other in (
        _at(kms, keys[0], kms.make("ML_DSA_65"), keys[2]),
        _at(kms, keys[0], keys[1], kms.make("ECC_NIST_P384")),
        _at(kms, keys[0], keys[1]),
    ):
        store = open_kms_keystore(tmp_path / "keys", other)
        assert _code(store.keyring().open_or_create, Integrity) == "keys.changed"
    stranger = _at(kms, kms.make("SYMMETRIC_DEFAULT"), *keys[1:])
    assert _code(lambda: open_kms_keystore(tmp_path / "keys", stranger), Integrity) == "keys.changed"


def test_an_alias_is_resolved_once(kms: Wire) -> None:
    """Pointed at another key meanwhile, it changes nothing for those who run."""
    first, second = kms.make("ML_DSA_65", "evidence"), kms.make("ML_DSA_65")
    signer = kms_signer(_client(kms), "alias/evidence", "ML_DSA_65")
    kms.aliases["alias/evidence"] = second.key_id
    first.private.public_key().verify(signer.sign(b"m"), b"m")
    assert kms.asked[-1][1]["KeyId"] == first.arn


def test_what_is_wrapped_is_bound_by_the_encryption_context(kms: Wire) -> None:
    wrapper = KmsWrapper(_client(kms), kms.make("SYMMETRIC_DEFAULT").arn)
    wrapped = wrapper.wrap(b"k", b"tenant/one")
    _, given = kms.asked[-1]
    assert base64.b64decode(given["EncryptionContext"]["qcos"]) == wrapped[:13] + b"tenant/one"
    assert wrapper.unwrap(wrapped, b"tenant/one") == b"k"


def test_a_damaged_ciphertext_that_kms_denies_is_told_from_a_policy_that_denies(kms: Wire) -> None:
    wrapper = KmsWrapper(_client(kms), kms.make("SYMMETRIC_DEFAULT").arn)
    wrapped = wrapper.wrap(b"k", b"")
    kms.failing = [Said("AccessDeniedException")]
    assert _code(lambda: wrapper.unwrap(wrapped, b""), Integrity) == "keys.unwrap"
    kms.failing = [Said("AccessDeniedException")] * 2
    assert _code(lambda: wrapper.unwrap(wrapped, b""), Unavailable) == "keys.store_denied"
    assert wrapper.unwrap(wrapped, b"") == b"k"


# Errors


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("KMSInternalException", 500, "keys.store_away"),
        ("ThrottlingException", 400, "keys.store_away"),
        ("DependencyTimeoutException", 503, "keys.store_away"),
        ("KeyUnavailableException", 500, "keys.store_away"),
        ("KMSInvalidStateException", 400, "keys.store_away"),
        ("SomethingNewException", 400, "keys.store_away"),
        ("AccessDeniedException", 400, "keys.store_denied"),
        ("ExpiredTokenException", 400, "keys.store_denied"),
        ("NotFoundException", 400, "keys.missing"),
        ("ValidationException", 400, "keys.store_key"),
    ],
)
def test_while_it_runs_every_failure_of_the_store_is_one_to_wait_for(
    kms: Wire, kind: str, status: int, code: str
) -> None:
    """Law 6: a job that has run is not failed because the store could not sign now."""
    signer = kms_signer(_client(kms), kms.make("ML_DSA_65").arn, "ML_DSA_65")
    kms.failing = [Said(kind, status=status)] * KEYSTORE_ATTEMPTS
    assert _code(lambda: signer.sign(b"m"), Unavailable) == code
    kms.failing.clear()
    PublicKey.load(signer.spki).verify(signer.sign(b"m"), b"m")


def test_a_failure_that_passes_is_not_noticed(kms: Wire) -> None:
    signer = kms_signer(_client(kms), kms.make("ML_DSA_65").arn, "ML_DSA_65")
    kms.failing = [Said("KMSInternalException", status=500)] * (KEYSTORE_ATTEMPTS - 1)
    PublicKey.load(signer.spki).verify(signer.sign(b"m"), b"m")
    assert not kms.failing


def test_disabled_and_missing_keys_and_keys_of_another_kind(kms: Wire) -> None:
    client = _client(kms)
    assert _code(lambda: kms_signer(client, "alias/none", "ML_DSA_65"), Integrity) == "keys.missing"
    assert _code(lambda: KmsWrapper(client, "alias/none"), Integrity) == "keys.missing"
    for make, ask in (
        ("ECC_NIST_P256", "ECC_NIST_P384"),
        ("ECC_NIST_P384", "ML_DSA_65"),
        ("SYMMETRIC_DEFAULT", "ML_DSA_65"),
    ):
        key = kms.make(make)
        assert _code(lambda key=key, ask=ask: kms_signer(client, key.arn, ask), Invalid) == "keys.store_key"  # type: ignore[misc]
    assert _code(lambda: KmsWrapper(client, kms.make("ML_DSA_65").arn), Invalid) == "keys.store_key"
    key = kms.make("ML_DSA_65")
    signer = kms_signer(client, key.arn, "ML_DSA_65")
    key.enabled = False
    assert _code(lambda: signer.sign(b"m"), Unavailable) == "keys.store_away"


def test_an_endpoint_that_is_not_there_is_waited_for(_aws_credentials: None) -> None:
    at = KmsAt("", region=REGION, endpoint="http://127.0.0.1:1")
    assert _code(lambda: KmsWrapper(Kms(at), "k"), Unavailable) == "keys.store_away"


def test_nothing_is_sent_in_clear_to_another_machine_and_a_region_is_needed(
    _aws_credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        _code(lambda: Kms(KmsAt("k", region=REGION, endpoint="http://kms.example.org")), Invalid)
        == "keys.settings"
    )
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    assert _code(lambda: Kms(KmsAt("k")), Invalid) == "keys.settings"


def test_a_store_that_signs_wrongly_is_noticed_before_anybody_gets_the_signature(moto: str) -> None:
    """moto hashes a digest again: its signature fails outside verification, and so does not leave QCOS."""
    client = boto3.client("kms", region_name=REGION, endpoint_url=moto)
    key = client.create_key(KeySpec="ECC_NIST_P384", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    signer = kms_signer(Kms(KmsAt("", region=REGION, endpoint=moto)), key, "ECC_NIST_P384")
    assert _code(lambda: signer.sign(b"m"), Unavailable) == "keys.held_signature"


def test_a_key_exchanged_behind_its_name_makes_nothing(kms: Wire) -> None:
    key = kms.make("ML_DSA_65")
    signer = kms_signer(_client(kms), key.arn, "ML_DSA_65")
    key.private = mldsa.MLDSA65PrivateKey.generate()
    assert _code(lambda: signer.sign(b"m"), Unavailable) == "keys.held_signature"


def test_the_settings_open_it(kms: Wire, tmp_path: Path) -> None:
    wrapping, evidence = kms.make("SYMMETRIC_DEFAULT", "wrap"), kms.make("ML_DSA_65", "evidence")
    given = {
        "keystore": "awskms",
        "kms_region": REGION,
        "kms_endpoint": kms.url,
        "kms_wrapping_key": "alias/wrap",
    }
    keyring = open_keyring(Settings(data=tmp_path, kms_mldsa_key="alias/evidence", **given))  # type: ignore[arg-type]
    assert keyring.countersigner is None
    key_id = PublicKey(evidence.private.public_key()).key_id
    assert keyring.evidence[0].key_id == key_id != PrivateKeySigner(GENERATORS["ML-DSA-65"]()).key_id
    assert {wrapping.arn, evidence.arn} >= {
        given["KeyId"] for op, given in kms.asked if op in ("Sign", "Encrypt")
    }
    with pytest.raises(Invalid) as refused:
        open_keyring(Settings(data=tmp_path, keystore="awskms"))
    assert (refused.value.code, refused.value.expected) == ("keys.settings", "QCOS_KMS_WRAPPING_KEY")
