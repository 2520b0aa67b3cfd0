"""Keys in AWS KMS: it signs evidence with ML-DSA-65 and countersigns with P-384, and wraps the keys that lie in files.

KMS takes messages of 1 to 4,096 bytes (API reference, Sign). Of longer ones, and of the empty one, it is given the
64-byte representative of FIPS 204 (MessageType EXTERNAL_MU): the signature is the same. P-384 is offered with SHA-384
only; it is given the 48 bytes that ECDSA with SHA-512 uses of its digest (MessageType DIGEST), see `held.p384_digest`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any, Final

from qcos.base.errors import Integrity, Invalid, QcosError, Unavailable
from qcos.base.limits import KEYSTORE_ATTEMPTS, KEYSTORE_CALL_S
from qcos.keys.held import HeldSigner, makes_none, mldsa_mu, p384_digest
from qcos.keys.model import Algorithm, Signer
from qcos.keys.signer import PublicKey
from qcos.keys.where import KmsAt, demand_private
from qcos.keys.wrap import body_of, demand_fitting, does_not_open, header

try:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError
except ImportError as missing:
    raise Invalid(
        "keys.extra", "the AWS library is not installed", got=str(missing), hint="pip install 'qcos[aws]'"
    ) from None

MAX_RAW_BYTES: Final = 4_096
"""Longest message that KMS hashes itself (API reference, Sign: Message)."""

_PROBE: Final = b"qcos: does this key still work?"
_ALGORITHMS: Final = {"ML_DSA_65": "ML_DSA_SHAKE_256", "ECC_NIST_P384": "ECDSA_SHA_384"}
_SPECS: Final[dict[Algorithm, str]] = {"ML-DSA-65": "ML_DSA_65", "ECDSA-P384": "ECC_NIST_P384"}
_DOES_NOT_OPEN: Final = ("InvalidCiphertextException", "IncorrectKeyException")
_DENIED: Final = (
    *("AccessDeniedException", "UnrecognizedClientException", "InvalidSignatureException"),
    *("ExpiredTokenException", "MissingAuthenticationTokenException", "IncompleteSignatureException"),
)
_UNFIT: Final = (
    *(
        "ValidationException",
        "UnsupportedOperationException",
        "InvalidKeyUsageException",
        "InvalidArnException",
    ),
)


class Kms:
    """A client of KMS. Safe for many threads.

    Raises:
        Invalid: ``keys.settings``.
    """

    def __init__(self, at: KmsAt) -> None:
        if at.endpoint:
            demand_private(at.endpoint, "QCOS_KMS_ENDPOINT")
        try:
            self._client = boto3.session.Session().client(
                "kms",
                region_name=at.region or None,
                endpoint_url=at.endpoint or None,
                config=Config(
                    connect_timeout=KEYSTORE_CALL_S,
                    read_timeout=KEYSTORE_CALL_S,
                    retries={"total_max_attempts": KEYSTORE_ATTEMPTS, "mode": "standard"},
                    max_pool_connections=16,
                ),
            )
        except NoRegionError:
            raise Invalid(
                "keys.settings", "no AWS region is set", expected="QCOS_KMS_REGION", hint="set it"
            ) from None

    def call(
        self, operation: str, key: str, **given: Any
    ) -> Mapping[str, Any]:  # Any: as boto3 takes and gives it
        """Call an operation on a key.

        Raises:
            Rejected: KMS says that what is to be decrypted is not what this key encrypted so.
            Integrity: ``keys.missing``.
            Invalid: ``keys.store_key`` when the key cannot do this.
            Unavailable: ``keys.store_away``, ``keys.store_denied``.
        """
        return self._call(operation, key, KeyId=key, **given)

    def create(self, **given: str) -> str:
        """Make a key and return its ARN.

        Raises:
            Invalid, Unavailable: As `call`.
        """
        return str(self._call("create_key", "a new key", **given)["KeyMetadata"]["Arn"])

    def _call(self, operation: str, key: str, **given: Any) -> Mapping[str, Any]:  # Any: as boto3 has it
        try:
            answer: Mapping[str, Any] = getattr(self._client, operation)(**given)
        except ClientError as error:
            raise _said(error.response.get("Error", {}).get("Code", ""), str(error), key) from None
        except NoCredentialsError as error:
            raise _said("AccessDeniedException", str(error), key) from None
        except BotoCoreError as error:
            raise _said(type(error).__name__, str(error), key) from None
        return answer


class Rejected(Exception):
    """A ciphertext that this key does not open in this context."""


class KmsWrapper:
    """Wraps with a symmetric KMS key; header and context are its encryption context. The body is KMS's ciphertext.

    Args:
        kms: The client.
        key: Id, ARN or alias of the key; the key it names now is used until the end.
    """

    __slots__ = ("_header", "_key_id", "_kms", "_resource")

    def __init__(self, kms: Kms, key: str) -> None:
        self._kms = kms
        found = kms.call("describe_key", key)["KeyMetadata"]
        _demand({"KeySpec": "SYMMETRIC_DEFAULT", "KeyUsage": "ENCRYPT_DECRYPT"}, found, key)
        self._resource = str(found["Arn"])
        name = self._resource.rpartition("/")[2]  # the same in every region, for keys that are in several
        self._key_id = hashlib.sha256(b"qcos.awskms\0" + name.encode()).hexdigest()[:16]
        self._header = header("awskms", self._key_id)

    @property
    def key_id(self) -> str:
        """Return a hash of the KMS key's id."""
        return self._key_id

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """Return the key, encrypted and bound to the context."""
        demand_fitting(key, context)
        answer = self._kms.call(
            "encrypt", self._resource, Plaintext=key, EncryptionContext=self._bound(context)
        )
        return self._header + bytes(answer["CiphertextBlob"])

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Return the key that was wrapped in this context."""
        body = body_of(wrapped, "awskms", self._key_id)
        if not body:
            raise does_not_open(self._key_id)
        try:
            return self._decrypt(body, context)
        except Rejected:
            raise does_not_open(self._key_id) from None
        except (Invalid, Unavailable) as error:  # a damaged ciphertext may name a key that nobody has
            if error.code not in ("keys.store_denied", "keys.store_key"):
                raise
            self._decrypt(self.wrap(_PROBE, b"")[len(self._header) :], b"")
            raise does_not_open(self._key_id) from None

    def _decrypt(self, body: bytes, context: bytes) -> bytes:
        answer = self._kms.call(
            "decrypt", self._resource, CiphertextBlob=body, EncryptionContext=self._bound(context)
        )
        return bytes(answer["Plaintext"])

    def _bound(self, context: bytes) -> dict[str, str]:
        """Return the encryption context; it shows in CloudTrail."""
        return {"qcos": base64.b64encode(self._header + context).decode()}

    def __repr__(self) -> str:
        return f"<wrapper {self._key_id} in {self._resource}>"


def kms_signer(kms: Kms, key: str, spec: str) -> HeldSigner:
    """Return a signing key of KMS.

    Args:
        kms: The client.
        key: Id, ARN or alias of the key; the key it names now is used until the end.
        spec: ``ML_DSA_65`` or ``ECC_NIST_P384``.

    Raises:
        Integrity: ``keys.missing``.
        Invalid: ``keys.store_key`` when it is of another kind.
    """
    found = kms.call("get_public_key", key)
    told = {"KeySpec": found.get("CustomerMasterKeySpec"), **found}  # the member's name until 2021
    _demand({"KeySpec": spec, "KeyUsage": "SIGN_VERIFY"}, told, key)
    public, resource = PublicKey.load(bytes(found["PublicKey"])), str(found["KeyId"])

    def sign(data: bytes) -> bytes:
        message, kind = _message(public, spec, data)
        answer = kms.call(
            "sign", resource, Message=message, MessageType=kind, SigningAlgorithm=_ALGORITHMS[spec]
        )
        return bytes(answer["Signature"])

    return HeldSigner(public, sign, resource)


class KmsMaker:
    """Makes further keys in KMS, for which its policy has to allow ``kms:CreateKey``; a key is found again by its ARN."""

    def __init__(self, kms: Kms) -> None:
        self._kms = kms

    def make(self, algorithm: Algorithm) -> tuple[Signer, str]:
        """Make a KMS key."""
        spec = _SPECS.get(algorithm)
        if spec is None:
            raise makes_none("AWS KMS", algorithm, ", ".join(_SPECS))
        arn = self._kms.create(KeySpec=spec, KeyUsage="SIGN_VERIFY", Description="QCOS: signs evidence")
        return kms_signer(self._kms, arn, spec), arn

    def open(self, locator: str, algorithm: Algorithm) -> Signer:
        """Return the key of an ARN."""
        return kms_signer(self._kms, locator, _SPECS[algorithm])


def _message(public: PublicKey, spec: str, data: bytes) -> tuple[bytes, str]:
    if spec == "ECC_NIST_P384":
        return p384_digest(data), "DIGEST"
    if 0 < len(data) <= MAX_RAW_BYTES:
        return data, "RAW"
    return mldsa_mu(public, data), "EXTERNAL_MU"


def _demand(
    expected: Mapping[str, str], found: Mapping[str, Any], key: str
) -> None:  # Any: as boto3 gives it
    got = {name: str(found.get(name)) for name in expected}
    if got != expected:
        raise Invalid(
            "keys.store_key",
            "a key of AWS KMS is not fit for this",
            subject=key,
            expected=", ".join(f"{k} {v}" for k, v in expected.items()),
            got=", ".join(f"{k} {v}" for k, v in got.items()),
            hint="see docs/how-to/use-aws-kms.md for the keys that are needed",
        )


def _said(code: str, text: str, key: str) -> QcosError | Rejected:
    """Return what an error of KMS means here."""
    got = text[:300]
    if code in _DOES_NOT_OPEN:
        return Rejected(got)
    if code == "NotFoundException":
        what, hint = "AWS KMS has not got the key", "look at QCOS_KMS_REGION and at the key's name"
        return Integrity("keys.missing", what, subject=key, got=got, hint=hint)
    if code in _UNFIT:
        what, hint = (
            "a key of AWS KMS cannot do this",
            "see docs/how-to/use-aws-kms.md for the keys that are needed",
        )
        return Invalid("keys.store_key", what, subject=key, got=got, hint=hint)
    if code in _DENIED:
        what, hint = (
            "AWS KMS refuses this installation",
            "look at its credentials, its policy and the key's policy",
        )
        return Unavailable("keys.store_denied", what, subject=key, got=got, hint=hint)
    hint = "is the endpoint reachable, and the key enabled? It is asked again"
    what = "AWS KMS does not answer as it should"
    return Unavailable("keys.store_away", what, subject=key, got=got, hint=hint)
