"""Envelope encryption, pure: a tenant's key wraps a key for each owner of payloads, which encrypts the payloads.

Everything is AES-256-GCM (NIST SP 800-38D) under a fresh random nonce. What is authenticated with it names the
tenant, the owner and the payload: a ciphertext that was moved to another row, tenant or column does not open.

A sealed payload is ``0x01`` | nonce (12 bytes) | ciphertext | tag (16). A wrapped payload key is ``0x01`` |
generation of the tenant's key (4 bytes, big-endian) | nonce (12) | ciphertext (32) | tag (16). The first byte
is the version; JSON never begins with it, so that what was kept before encryption is known at a glance.

An *owner* is whatever has payloads (for QCOS a job): text without NUL that never changes.
"""

from __future__ import annotations

import os
import struct
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from qcos.base.errors import Integrity

KEY_BYTES: Final = 32
VERSION: Final = b"\x01"
OVERHEAD: Final = 1 + 12 + 16
"""Bytes that sealing adds."""

_NONCE: Final = 12
_HEAD: Final = struct.Struct(">BI")
_WRAPPED_BYTES: Final = _HEAD.size + _NONCE + KEY_BYTES + 16
_PAYLOAD: Final = b"qcos.payload/v1\0"
_KEY: Final = b"qcos.payload-key/v1\0"


class PayloadKey:
    """The key of one owner's payloads; encrypts a handful of them.

    Args:
        key: 32 bytes.
        tenant: Whose.
        owner: What has the payloads.
    """

    __slots__ = ("_cipher", "_owner", "_place")

    def __init__(self, key: bytes, tenant: UUID, owner: str) -> None:
        self._cipher = AESGCM(key)
        self._owner = owner
        self._place = _place(_PAYLOAD, tenant, owner)

    def seal(self, name: str, payload: bytes) -> bytes:
        """Return a payload encrypted, bound to tenant, owner and name."""
        nonce = os.urandom(_NONCE)
        return VERSION + nonce + self._cipher.encrypt(nonce, payload, self._place + name.encode())

    def open(self, name: str, sealed: bytes) -> bytes:
        """Return what was sealed under this name.

        Raises:
            Integrity: ``payload.sealed`` when it is none of this key's, changed, or of another name or owner.
        """
        try:
            if sealed[:1] != VERSION:
                raise ValueError("another version")
            nonce = sealed[1 : 1 + _NONCE]
            return self._cipher.decrypt(nonce, sealed[1 + _NONCE :], self._place + name.encode())
        except (InvalidTag, ValueError):
            raise Integrity(
                "payload.sealed",
                f"the payload {name} does not open",
                subject=self._owner,
                expected="what this key sealed under this name",
                hint="the database was changed, or restored in part: restore it from a backup",
            ) from None

    def __repr__(self) -> str:
        return "<payload key>"


class TenantKey:
    """One generation of a tenant's key, unwrapped; it wraps payload keys and nothing else.

    Args:
        key: 32 bytes.
        tenant: Whose.
        generation: From 1.
    """

    __slots__ = ("_cipher", "generation", "tenant")

    def __init__(self, key: bytes, tenant: UUID, generation: int) -> None:
        self._cipher = AESGCM(key)
        self.tenant = tenant
        self.generation = generation

    def new_payload_key(self, owner: str) -> tuple[PayloadKey, bytes]:
        """Return a fresh key for an owner, and the same wrapped."""
        key = os.urandom(KEY_BYTES)
        return PayloadKey(key, self.tenant, owner), self._wrap(key, owner)

    def unwrap(self, wrapped: bytes, owner: str) -> PayloadKey:
        """Return an owner's key.

        Raises:
            Integrity: ``payload.key`` when this generation did not wrap it for this owner.
        """
        return PayloadKey(self._open(wrapped, owner), self.tenant, owner)

    def rewrap(self, old: TenantKey, wrapped: bytes, owner: str) -> bytes:
        """Return a payload key of an older generation, wrapped by this one.

        Raises:
            Integrity: ``payload.key``.
        """
        return self._wrap(old._open(wrapped, owner), owner)

    def _wrap(self, key: bytes, owner: str) -> bytes:
        head, nonce = _HEAD.pack(VERSION[0], self.generation), os.urandom(_NONCE)
        return head + nonce + self._cipher.encrypt(nonce, key, head + _place(_KEY, self.tenant, owner))

    def _open(self, wrapped: bytes, owner: str) -> bytes:
        head, nonce, body = (
            wrapped[: _HEAD.size],
            wrapped[_HEAD.size : _HEAD.size + _NONCE],
            wrapped[_HEAD.size + _NONCE :],
        )
        try:
            if generation_of(wrapped) != self.generation:
                raise InvalidTag
            return self._cipher.decrypt(nonce, body, head + _place(_KEY, self.tenant, owner))
        except InvalidTag:
            raise _no_key(owner) from None

    def __repr__(self) -> str:
        return f"<tenant key, generation {self.generation}>"


def generation_of(wrapped: bytes) -> int:
    """Return which generation of the tenant's key wrapped a payload key; not authenticated.

    Raises:
        Integrity: ``payload.key`` when it is no wrapped payload key.
    """
    if len(wrapped) != _WRAPPED_BYTES or wrapped[:1] != VERSION:
        raise _no_key("")
    generation: int = _HEAD.unpack_from(wrapped)[1]
    return generation


def is_sealed(stored: bytes) -> bool:
    """Tell whether stored bytes are a sealed payload, and not what was kept before there was encryption."""
    return stored[:1] == VERSION


def _place(kind: bytes, tenant: UUID, owner: str) -> bytes:
    return kind + tenant.bytes + owner.encode() + b"\0"


def _no_key(owner: str) -> Integrity:
    return Integrity(
        "payload.key",
        "the payload key does not open",
        subject=owner,
        expected="a key that this tenant's key wrapped for this owner",
        hint="the database was changed, or restored in part: restore it from a backup",
    )
