"""A server that speaks AWS KMS's protocol on loopback, for what no server that can be had here does: ML-DSA.

It is not KMS. It follows the documented JSON 1.1 protocol (``X-Amz-Target: TrentService.<Operation>``) and the documented rules
of the operations used: lengths and message types, error names, key states, encryption contexts. It checks every request's SigV4
signature and really signs, with `cryptography`, ML-DSA included: `sign_mu` for EXTERNAL_MU, so what it answers is a true signature over
what it was sent. What it cannot show is that AWS does the same.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, mldsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ACCESS_KEY, SECRET_KEY, REGION = "AKIAQCOSTESTING00000", "wire-secret-of-this-test", "eu-central-2"
_SIGNS = {"ML_DSA_65": "ML_DSA_SHAKE_256", "ECC_NIST_P384": "ECDSA_SHA_384"}


class Said(Exception):
    """An error as KMS says it."""

    def __init__(self, kind: str, message: str = "", status: int = 400) -> None:
        super().__init__(kind)
        self.kind, self.message, self.status = kind, message, status


@dataclass
class Key:
    """One KMS key."""

    spec: str
    key_id: str = field(default_factory=lambda: secrets.token_hex(16))
    enabled: bool = True
    private: Any = None

    def __post_init__(self) -> None:
        make = {
            "ML_DSA_65": mldsa.MLDSA65PrivateKey.generate,
            "ECC_NIST_P384": lambda: ec.generate_private_key(ec.SECP384R1()),
            "ECC_NIST_P256": lambda: ec.generate_private_key(ec.SECP256R1()),
            "SYMMETRIC_DEFAULT": lambda: AESGCM(secrets.token_bytes(32)),
        }
        self.private = make[self.spec]()

    @property
    def arn(self) -> str:
        return f"arn:aws:kms:{REGION}:111122223333:key/{self.key_id}"

    @property
    def usage(self) -> str:
        return "ENCRYPT_DECRYPT" if self.spec == "SYMMETRIC_DEFAULT" else "SIGN_VERIFY"


@dataclass
class Wire:
    """The server's state: its keys, what it was asked, and what goes wrong next."""

    url: str = ""
    keys: dict[str, Key] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    failing: list[Said] = field(default_factory=list)
    unsigned: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def make(self, spec: str, alias: str = "") -> Key:
        key = Key(spec)
        self.keys[key.key_id] = key
        if alias:
            self.aliases[f"alias/{alias}"] = key.key_id
        return key

    def answer(self, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            self.asked.append((operation, given))
            if self.failing:
                raise self.failing.pop(0)
        if operation == "CreateKey":
            return {"KeyMetadata": {"Arn": self.make(given["KeySpec"]).arn}}
        key = self._find(given["KeyId"])
        if operation == "DescribeKey":
            return {
                "KeyMetadata": {
                    "Arn": key.arn,
                    "KeyId": key.key_id,
                    "KeySpec": key.spec,
                    "KeyUsage": key.usage,
                }
            }
        if not key.enabled:
            raise Said("DisabledException", f"{key.arn} is disabled.")
        operations = {"GetPublicKey": _public, "Sign": _sign, "Encrypt": _encrypt, "Decrypt": _decrypt}
        return operations[operation](key, given)

    def _find(self, name: str) -> Key:
        name = self.aliases.get(name, name.rpartition("/")[2])
        if name not in self.keys:
            raise Said("NotFoundException", f"Key {name} does not exist")
        return self.keys[name]


def _public(key: Key, given: dict[str, Any]) -> dict[str, Any]:
    if key.usage != "SIGN_VERIFY":
        raise Said("UnsupportedOperationException")
    der = key.private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return {"KeyId": key.arn, "PublicKey": _text(der), "KeySpec": key.spec, "KeyUsage": key.usage}


def _sign(key: Key, given: dict[str, Any]) -> dict[str, Any]:
    message, kind = base64.b64decode(given["Message"], validate=True), given.get("MessageType", "RAW")
    if not 1 <= len(message) <= 4096:
        raise Said("ValidationException", "'message' failed to satisfy constraint: length 1 to 4096")
    if key.usage != "SIGN_VERIFY" or given["SigningAlgorithm"] != _SIGNS.get(key.spec):
        raise Said("InvalidKeyUsageException")
    if key.spec == "ML_DSA_65":
        if kind not in ("RAW", "EXTERNAL_MU") or (kind == "EXTERNAL_MU" and len(message) != 64):
            raise Said("ValidationException", "EXTERNAL_MU needs 64 bytes")
        signature = key.private.sign(message) if kind == "RAW" else key.private.sign_mu(message)
    else:
        if kind not in ("RAW", "DIGEST") or (kind == "DIGEST" and len(message) != 48):
            raise Said("ValidationException", "Digest is invalid length for algorithm ECDSA_SHA_384.")
        digest = message if kind == "DIGEST" else hashlib.sha384(message).digest()
        signature = key.private.sign(digest, ec.ECDSA(Prehashed(hashes.SHA384())))
    return {"KeyId": key.arn, "Signature": _text(signature), "SigningAlgorithm": given["SigningAlgorithm"]}


def _encrypt(key: Key, given: dict[str, Any]) -> dict[str, Any]:
    plain = base64.b64decode(given["Plaintext"], validate=True)
    if key.usage != "ENCRYPT_DECRYPT":
        raise Said("InvalidKeyUsageException")
    if not 1 <= len(plain) <= 4096:
        raise Said("ValidationException", "'plaintext' failed to satisfy constraint: length 1 to 4096")
    nonce = secrets.token_bytes(12)
    blob = key.key_id.encode() + nonce + key.private.encrypt(nonce, plain, _bound(given))
    return {"KeyId": key.arn, "CiphertextBlob": _text(blob), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}


def _decrypt(key: Key, given: dict[str, Any]) -> dict[str, Any]:
    blob = base64.b64decode(given["CiphertextBlob"], validate=True)
    if blob[:32] != key.key_id.encode():
        raise Said("IncorrectKeyException" if len(blob) > 60 else "InvalidCiphertextException")
    try:
        plain = key.private.decrypt(blob[32:44], blob[44:], _bound(given))
    except (InvalidTag, ValueError):
        raise Said("InvalidCiphertextException") from None
    return {"KeyId": key.arn, "Plaintext": _text(plain), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}


def _bound(given: dict[str, Any]) -> bytes:
    context = given.get("EncryptionContext", {})
    assert sum(len(k) + len(v) for k, v in context.items()) <= 8192, "KMS's limit"
    return json.dumps(sorted(context.items())).encode()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _signed(handler: BaseHTTPRequestHandler, body: bytes) -> bool:
    """Return whether the request carries the SigV4 signature of its very self (AWS: Signature Version 4 for API requests)."""
    kind, _, rest = handler.headers.get("Authorization", "").partition(" ")
    parts = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    if kind != "AWS4-HMAC-SHA256" or not {"Credential", "SignedHeaders", "Signature"} <= parts.keys():
        return False
    access, date, region, service, end = parts["Credential"].split("/")
    names = parts["SignedHeaders"].split(";")
    if (access, region, service, end) != (
        ACCESS_KEY,
        REGION,
        "kms",
        "aws4_request",
    ) or "x-amz-target" not in names:
        return False
    lines = "".join(f"{name}:{' '.join(handler.headers.get(name, '').split())}\n" for name in names)
    digest = hashlib.sha256(body).hexdigest()
    request = f"POST\n/\n\n{lines}\n{parts['SignedHeaders']}\n{digest}"
    scope = f"{date}/{region}/{service}/{end}"
    stamp = handler.headers["X-Amz-Date"]
    signed = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = b"AWS4" + SECRET_KEY.encode()
    for step in (date, region, service, end):
        key = hmac.digest(key, step.encode(), "sha256")
    return hmac.compare_digest(hmac.new(key, signed.encode(), "sha256").hexdigest(), parts["Signature"])


@contextmanager
def kms_wire() -> Iterator[Wire]:
    """Run the server until the block ends."""
    wire = Wire()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            target, _, operation = self.headers.get("X-Amz-Target", "").partition(".")
            try:
                if target != "TrentService" or self.headers["Content-Type"] != "application/x-amz-json-1.1":
                    raise Said("UnknownOperationException")
                if not _signed(self, body):
                    wire.unsigned += 1
                    raise Said(
                        "UnrecognizedClientException",
                        "The security token included in the request is invalid.",
                    )
                status, answer = 200, wire.answer(operation, json.loads(body))
            except Said as said:
                status, answer = said.status, {"__type": said.kind, "message": said.message}
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: Any) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    wire.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield wire
    finally:
        server.shutdown()
        server.server_close()
