"""Keys in the transit engine of HashiCorp Vault or OpenBao: the server signs and wraps, and gives no private key away.

It holds an ECDSA P-384 key that countersigns and an Ed25519 key of evidence, and an AES-256-GCM key that wraps the
others, which lie in files: no transit engine that can be had freely signs with ML-DSA. The wrapping key may be
rotated on the server at any time (``transit/keys/<name>/rotate``): what older versions wrapped still opens. Of a
signing key the oldest version there is signs, so that rotating it there does not change what verifiers trust.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from qcos.base.errors import Integrity, Invalid, Unavailable
from qcos.keys.held import HeldSigner, makes_none
from qcos.keys.model import Algorithm, Signer
from qcos.keys.signer import PublicKey
from qcos.keys.vault import Rejected, Server
from qcos.keys.wrap import body_of, demand_fitting, does_not_open, header

SIGNERS: Final = {"countersign": "ecdsa-p384", "ed25519": "ed25519"}
"""What follows the label in the names of the signing keys, and their types on the server."""
_WHAT: Final[dict[Algorithm, str]] = {"ECDSA-P384": "countersign", "Ed25519": "ed25519"}
WRAPPER: Final = "wrap"
_WRAPPER_TYPE: Final = "aes256-gcm96"
_PROBE: Final = b"qcos: does this key still work?"


class TransitWrapper:
    """Wraps with an AES-256-GCM key on the server, the context as associated data.

    The body is the version of the server's key (4 bytes, big-endian) and what the server's ciphertext says
    after ``vault:v<version>:``, decoded.
    """

    __slots__ = ("_header", "_key_id", "_name", "_server")

    def __init__(self, server: Server) -> None:
        self._server = server
        self._name = _name(server, WRAPPER)
        _read(server, WRAPPER, _WRAPPER_TYPE)
        named = f"{server.at.namespace}\0{server.at.mount}\0{self._name}"
        self._key_id = hashlib.sha256(b"qcos.transit\0" + named.encode()).hexdigest()[:16]
        self._header = header("transit", self._key_id)

    @property
    def key_id(self) -> str:
        """Return a hash of where the key is on the server: it stays when the server is moved or restored."""
        return self._key_id

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """Return the key, encrypted and bound to the context."""
        demand_fitting(key, context)
        return self._header + self._encrypt(key, self._header + context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Return the key that was wrapped in this context."""
        body = body_of(wrapped, "transit", self._key_id)
        if len(body) <= 4 or not int.from_bytes(body[:4]):  # a server reads version 0 as its first
            raise does_not_open(self._key_id)
        bound = _text(self._header + context)
        ciphertext = f"vault:v{int.from_bytes(body[:4])}:{_text(body[4:])}"
        path = f"{self._server.at.mount}/decrypt/{self._name}"
        try:
            answer = self._server.write(path, {"ciphertext": ciphertext, "associated_data": bound})
        except Rejected:  # also what it says of other faults: so ask whether the key works
            self._encrypt(_PROBE, b"")
            raise does_not_open(self._key_id) from None
        return base64.b64decode(str(answer.get("plaintext")))

    def _encrypt(self, data: bytes, bound: bytes) -> bytes:
        path = f"{self._server.at.mount}/encrypt/{self._name}"
        answer = _accepted(self._server, path, {"plaintext": _text(data), "associated_data": _text(bound)})
        version, sealed = _versioned(answer.get("ciphertext"))
        return version.to_bytes(4) + sealed

    def __repr__(self) -> str:
        return f"<wrapper {self._key_id} in {self._server!r}>"


def transit_signer(server: Server, what: str, version: int = 0) -> HeldSigner:
    """Return a signing key of the server.

    Args:
        server: The server.
        what: One of `SIGNERS`.
        version: Which version of it; by default the oldest there is.

    Raises:
        Integrity: ``keys.missing``.
        Invalid: ``keys.store_key`` when it is of another type, or could leave the server.
    """
    versions = _read(server, what, SIGNERS[what])["keys"]
    version = version or min(int(number) for number in versions)
    if str(version) not in versions:
        raise Integrity(
            "keys.missing",
            "the key store's server has not got this version of the key",
            subject=f"{server.at.url} {server.at.mount}/{_name(server, what)}",
            expected=f"version {version}",
            got=", ".join(versions),
            hint="restore the server from its backup",
        )
    public = _public(versions[str(version)]["public_key"])
    ecdsa = public.algorithm == "ECDSA-P384"

    def sign(data: bytes) -> bytes:
        given: dict[str, Any] = {"key_version": version}  # Any: JSON
        if ecdsa:
            given |= {"prehashed": True, "hash_algorithm": "sha2-512", "marshaling_algorithm": "asn1"}
            data = hashlib.sha512(data).digest()
        path = f"{server.at.mount}/sign/{_name(server, what)}"
        return _versioned(_accepted(server, path, {"input": _text(data), **given}).get("signature"))[1]

    return HeldSigner(public, sign, f"{server.at.url} {_name(server, what)} version {version}")


class TransitMaker:
    """Makes further versions of the signing keys on the server; a key is found again by its name and version."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def make(self, algorithm: Algorithm) -> tuple[Signer, str]:
        """Rotate the key on the server and return its new version."""
        what = _WHAT.get(algorithm)
        if what is None:
            raise makes_none(self._server.at.url, algorithm, ", ".join(_WHAT))
        _accepted(self._server, f"{self._server.at.mount}/keys/{_name(self._server, what)}/rotate", {})
        version = max(int(number) for number in _read(self._server, what, SIGNERS[what])["keys"])
        return transit_signer(self._server, what, version), f"{what}:{version}"

    def open(self, locator: str, algorithm: Algorithm) -> Signer:
        """Return a version of a key."""
        what, _, version = locator.partition(":")
        if what != _WHAT.get(algorithm) or not version.isdecimal():
            raise Integrity("keys.locator", "not the name of a key on the server", got=locator[:100])
        return transit_signer(self._server, what, int(version))


def make_keys(server: Server) -> None:
    """Make those keys that the server does not have yet; none can be exported."""
    for what, kind in {**SIGNERS, WRAPPER: _WRAPPER_TYPE}.items():
        path = f"{server.at.mount}/keys/{_name(server, what)}"
        if server.read(path) is None:
            _accepted(server, path, {"type": kind, "exportable": False, "allow_plaintext_backup": False})


def _read(server: Server, what: str, kind: str) -> dict[str, Any]:  # Any: JSON
    """Return what the server says of a key that is fit for its use."""
    name = _name(server, what)
    found = server.read(f"{server.at.mount}/keys/{name}")
    if found is None:
        raise Integrity(
            "keys.missing",
            "the key store's server has not got the key",
            subject=f"{server.at.url} {server.at.mount}/{name}",
            hint="restore the server from its backup; what the key wrapped opens with no other",
        )
    expected = {"type": kind, "exportable": False, "allow_plaintext_backup": False, "derived": False}
    got = {member: found.get(member) for member in expected}
    if got != expected:
        raise Invalid(
            "keys.store_key",
            "a key of the key store is not fit for this",
            subject=f"{server.at.url} {server.at.mount}/{name}",
            expected=", ".join(f"{k} {v}" for k, v in expected.items()),
            got=", ".join(f"{k} {v}" for k, v in got.items()),
            hint="name another QCOS_TRANSIT_LABEL, or remove that key if nothing uses it",
        )
    return found


def _accepted(server: Server, path: str, data: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
    try:
        return server.write(path, data)
    except Rejected as error:
        raise Unavailable(
            "keys.store_answer",
            "the key store refuses what it should do",
            subject=f"{server.at.url} {path}",
            got=str(error),
            hint="is the transit engine mounted there, and the key there and of the right type?",
        ) from None


def _public(text: str) -> PublicKey:
    try:
        if text.startswith("-----BEGIN"):
            key = serialization.load_pem_public_key(text.encode())
        else:
            key = ed25519.Ed25519PublicKey.from_public_bytes(base64.b64decode(text))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _odd(f"public key: {error}") from None
    return PublicKey.load(
        key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def _versioned(text: Any) -> tuple[int, bytes]:  # Any: JSON
    try:
        _, version, data = str(text).split(":")
        return int(version.removeprefix("v")), base64.b64decode(data, validate=True)
    except (ValueError, binascii.Error):
        raise _odd(str(text)) from None


def _odd(got: str) -> Unavailable:
    return Unavailable(
        "keys.store_answer", "the key store answers something else than it should", got=got[:100]
    )


def _name(server: Server, what: str) -> str:
    return f"{server.at.label}-{what}"


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
