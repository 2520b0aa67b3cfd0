"""Wrapped keys: a key leaves its owner's memory only encrypted by another one, bound to what it is for.

A wrapped key is ``QCW`` | version 1 | kind of wrapper (1 byte) | id of the wrapping key (8 bytes) | body. The
header and the caller's context are authenticated with the body (AES-256-GCM, NIST SP 800-38D), so that a
wrapped key opens only for the purpose, and with the key, it was made for. The body in a file's wrapper is the
nonce (12 bytes, random: one key may wrap 2^32 keys, SP 800-38D 8.3), the ciphertext and the tag (16 bytes).

Losing the wrapping key loses everything that it wraps. Somebody who has it opens all of that.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from qcos.base.canonical import canonical, loads_strict
from qcos.base.errors import Integrity, Invalid, QcosError
from qcos.base.limits import MAX_WRAP_CONTEXT_BYTES, MAX_WRAPPED_KEY_BYTES
from qcos.keys import folder

KEY_FILE: Final = "wrapping-key.json"
MARK_FILE: Final = "wrapping.json"
KINDS: Final = {"memory": 1, "pkcs11": 2, "transit": 3, "awskms": 4}
"""The byte after the version: which kind of wrapper made it."""

_MAGIC: Final = b"QCW\x01"
_HEADER: Final = len(_MAGIC) + 1 + 8
_NONCE: Final = 12
_KEY_SCHEMA: Final = "qcos.wrapping-key/v1"
_MARK_SCHEMA: Final = "qcos.wrapping/v1"
_PROOF: Final = b"qcos.wrapping-key/v1/proof"
_SCRYPT: Final = {"n": 2**15, "r": 8, "p": 1}  # RFC 7914: 32 MiB and a tenth of a second a guess


class KeyWrapper(Protocol):
    """Something that wraps keys: a key in a file, in an HSM or behind a KMS. Safe for many threads."""

    @property
    def key_id(self) -> str:
        """Return 16 hex digits that name the wrapping key and never change."""
        ...

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """Return the key, encrypted and bound to the context.

        Raises:
            Invalid: ``keys.wrap`` when the key is empty or too long, or the context is too long.
            Unavailable: The wrapping key cannot be reached now.
        """
        ...

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Return the key that was wrapped in this context.

        Raises:
            Integrity: ``keys.wrapped`` when it is no wrapped key, ``keys.wrapped_by_another`` when another
                key wrapped it, ``keys.unwrap`` when it was changed or belongs to another context.
            Unavailable: The wrapping key cannot be reached now.
        """
        ...


Wrapper = TypeVar("Wrapper", bound=KeyWrapper)


class MemoryWrapper:
    """Wraps with an AES-256 key held in memory.

    Args:
        key: 32 bytes of good randomness.
    """

    __slots__ = ("_cipher", "_header", "_key_id")

    def __init__(self, key: bytes) -> None:
        if len(key) != 32:
            raise Invalid("keys.wrap", "not a wrapping key", expected="32 bytes", got=f"{len(key)} bytes")
        self._cipher = AESGCM(key)
        self._key_id = hashlib.sha256(b"qcos.wrapping-key/v1\0" + key).hexdigest()[:16]
        self._header = header("memory", self._key_id)

    @property
    def key_id(self) -> str:
        """Return the first 16 hex digits of a hash of the key."""
        return self._key_id

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """Return the key, encrypted and bound to the context."""
        demand_fitting(key, context)
        nonce = secrets.token_bytes(_NONCE)
        return self._header + nonce + self._cipher.encrypt(nonce, key, self._header + context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Return the key that was wrapped in this context."""
        body = body_of(wrapped, "memory", self._key_id)
        try:
            return self._cipher.decrypt(body[:_NONCE], body[_NONCE:], self._header + context)
        except (InvalidTag, ValueError):
            raise does_not_open(self._key_id) from None

    def __repr__(self) -> str:
        return f"<wrapper {self._key_id}>"


def open_file_wrapper(directory: Path, passphrase: bytes | None = None) -> MemoryWrapper:
    """Return the wrapping key of a keyring's folder, made once; any number of processes may call this at once.

    ``wrapping-key.json`` (0600) holds the key, under the passphrase (scrypt, RFC 7914) if there is one.

    Args:
        directory: The keyring's folder; made when missing.
        passphrase: When given, a new key is written encrypted and an existing one must be.

    Raises:
        Invalid: ``keys.passphrase`` when it is wrong, missing or not needed; ``keys.protection``.
        Integrity: ``keys.missing``, ``keys.changed``, ``keys.unreadable`` or ``keys.permissions``.
    """
    path, secret = directory / KEY_FILE, passphrase or None

    def make() -> None:
        if not path.exists():
            folder.write_new(path, _encode(secrets.token_bytes(32), secret))

    return open_the_same(directory, "file", make, lambda: _load(path, secret))


def open_the_same(
    directory: Path, kind: str, make: Callable[[], None], open_key: Callable[[], Wrapper]
) -> Wrapper:
    """Return the folder's wrapping key, made on the first call and the same ever after.

    ``wrapping.json``, written last, says in which kind of key store it lies and holds something that only that key
    opens: a lost or other key, or another key store, is an error and never a reason to make a key.

    Args:
        directory: The keyring's folder; made when missing.
        kind: Kind of key store.
        make: Makes the key where there is none; called with the folder's lock held, perhaps again after a crash.
        open_key: Opens the key.

    Raises:
        Invalid: ``keys.protection`` when the folder belongs to another kind of key store.
        Integrity: ``keys.changed``, ``keys.unreadable``, ``keys.permissions``; what opening raises.
    """
    mark = directory / MARK_FILE
    if not mark.exists():
        with folder.locked(directory):
            if not mark.exists():
                folder.sweep(directory)
                make()
                wrapper = open_key()
                proof = base64.b64encode(wrapper.wrap(secrets.token_bytes(32), _PROOF)).decode()
                members = {"schema": _MARK_SCHEMA, "kind": kind, "keyId": wrapper.key_id, "proof": proof}
                folder.write_new(mark, canonical(members) + b"\n")
    members = _member(mark, _MARK_SCHEMA)
    if members.get("kind") != kind:
        raise Invalid(
            "keys.protection",
            "the keys of this folder are wrapped by another kind of key store",
            subject=str(directory),
            expected=str(members.get("kind"))[:40],
            got=kind,
            hint="set QCOS_KEYSTORE to what this folder was made with; see docs/reference/keystores.md",
        )
    wrapper = open_key()
    try:
        wrapper.unwrap(base64.b64decode(str(members.get("proof")), validate=True), _PROOF)
    except (Integrity, ValueError):
        raise Integrity(
            "keys.changed",
            "the wrapping key is not the one this folder was made with",
            subject=str(mark),
            expected=f"key {members.get('keyId')}"[:40],
            got=f"key {wrapper.key_id}, which does not open what that one wrapped",
            hint="restore the key from a backup; no other opens what it wrapped",
        ) from None
    return wrapper


def header(kind: str, key_id: str) -> bytes:
    """Return the first 13 bytes of what this wrapper wraps."""
    return _MAGIC + bytes([KINDS[kind]]) + bytes.fromhex(key_id)


def wrapped_by(wrapped: bytes) -> tuple[str, str]:
    """Return which kind of wrapper, and the id of which key, wrapped this. Not authenticated.

    Raises:
        Integrity: ``keys.wrapped``.
    """
    kinds = {number: name for name, number in KINDS.items()}
    if not wrapped.startswith(_MAGIC) or len(wrapped) < _HEADER or wrapped[len(_MAGIC)] not in kinds:
        raise Integrity(
            "keys.wrapped",
            "not a wrapped key, or of a version this QCOS does not know",
            expected=_MAGIC.hex() + " and a known kind of wrapper",
            got=wrapped[: len(_MAGIC) + 1].hex() or "nothing",
        )
    return kinds[wrapped[len(_MAGIC)]], wrapped[len(_MAGIC) + 1 : _HEADER].hex()


def body_of(wrapped: bytes, kind: str, key_id: str) -> bytes:
    """Return what follows the header, after looking whether this wrapper's key made it.

    Raises:
        Integrity: ``keys.wrapped`` or ``keys.wrapped_by_another``.
    """
    found = wrapped_by(wrapped)
    if found != (kind, key_id):
        raise Integrity(
            "keys.wrapped_by_another",
            "another key wrapped this",
            expected=f"{kind} key {key_id}",
            got=f"{found[0]} key {found[1]}",
            hint="open it with the key store it was wrapped by; see docs/reference/keystores.md",
        )
    return wrapped[_HEADER:]


def demand_fitting(key: bytes, context: bytes) -> None:
    """Demand that a key and its context are of a size every wrapper takes.

    Raises:
        Invalid: ``keys.wrap``.
    """
    if not 0 < len(key) <= MAX_WRAPPED_KEY_BYTES or len(context) > MAX_WRAP_CONTEXT_BYTES:
        raise Invalid(
            "keys.wrap",
            "cannot be wrapped",
            expected=f"a key of 1 to {MAX_WRAPPED_KEY_BYTES} bytes, a context of up to {MAX_WRAP_CONTEXT_BYTES}",
            got=f"{len(key)} and {len(context)} bytes",
        )


def does_not_open(key_id: str) -> Integrity:
    """Return the error of a wrapped key that this key does not open."""
    return Integrity(
        "keys.unwrap",
        "the wrapped key was changed, or belongs to another purpose",
        subject=f"wrapping key {key_id}",
        hint="restore what was wrapped from a backup",
    )


def _encode(key: bytes, passphrase: bytes | None) -> bytes:
    members: dict[str, Any] = {"schema": _KEY_SCHEMA}  # Any: JSON
    if passphrase is None:
        members["key"] = base64.b64encode(key).decode()
    else:
        salt, nonce = secrets.token_bytes(16), secrets.token_bytes(_NONCE)
        sealed = AESGCM(_stretch(passphrase, salt)).encrypt(nonce, key, _KEY_SCHEMA.encode())
        members["scrypt"] = {**_SCRYPT, "salt": base64.b64encode(salt).decode()}
        members["sealed"] = base64.b64encode(nonce + sealed).decode()
    return canonical(members) + b"\n"


def _load(path: Path, passphrase: bytes | None) -> MemoryWrapper:
    members = _member(path, _KEY_SCHEMA)
    encrypted = "sealed" in members
    if encrypted != (passphrase is not None):
        raise Invalid(
            "keys.passphrase",
            "this key is encrypted and no passphrase is set"
            if encrypted
            else "a passphrase is set and this key is not encrypted",
            subject=str(path),
        )
    try:
        if passphrase is None:
            return MemoryWrapper(base64.b64decode(members["key"], validate=True))
        if {name: members["scrypt"][name] for name in _SCRYPT} != _SCRYPT:
            raise ValueError("other parameters of scrypt than this version writes")
        salt = base64.b64decode(members["scrypt"]["salt"], validate=True)
        sealed = base64.b64decode(members["sealed"], validate=True)
        opened = AESGCM(_stretch(passphrase, salt)).decrypt(
            sealed[:_NONCE], sealed[_NONCE:], _KEY_SCHEMA.encode()
        )
        return MemoryWrapper(opened)
    except InvalidTag:
        raise Invalid("keys.passphrase", "the passphrase does not open this key", subject=str(path)) from None
    except (QcosError, ValueError, TypeError, KeyError) as error:
        raise folder.unreadable(path, error) from None


def _member(path: Path, schema: str) -> dict[str, Any]:  # Any: JSON of our own writing
    text = folder.read_private(path)
    try:
        found = loads_strict(text, subject=str(path))
        if not isinstance(found, dict) or found["schema"] != schema:
            raise ValueError(f"not of schema {schema}")
    except (QcosError, ValueError, KeyError) as error:
        raise folder.unreadable(path, error) from None
    return found


def _stretch(passphrase: bytes, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, **_SCRYPT).derive(passphrase)
