"""How a private key lies in its file: as it is, under a passphrase, or wrapped by a key that never lies in a file."""

from __future__ import annotations

import base64
import textwrap
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from qcos.base.errors import Integrity, Invalid
from qcos.keys import folder
from qcos.keys.signer import PrivateKey
from qcos.keys.wrap import KeyWrapper

_BEGIN: Final = "-----BEGIN QCOS WRAPPED PRIVATE KEY-----"
_END: Final = "-----END QCOS WRAPPED PRIVATE KEY-----"
_CONTEXT: Final = b"qcos.private-key/v1/"  # and the role: a file under another role's name does not open


class Protection:
    """Reads and writes the files of private keys.

    Args:
        passphrase: When given, files are PKCS#8 PEM encrypted with it (PBES2).
        wrapper: When given, files hold the PKCS#8 DER wrapped by it; there is then no passphrase. With
            neither, files are plain PKCS#8 PEM and only their mode protects them.

    Raises:
        Invalid: ``keys.passphrase`` when both are given.
    """

    def __init__(self, passphrase: bytes | None = None, wrapper: KeyWrapper | None = None) -> None:
        if passphrase and wrapper is not None:
            raise Invalid(
                "keys.passphrase",
                "keys that a key store wraps have no passphrase",
                hint="unset QCOS_KEY_PASSPHRASE",
            )
        self._passphrase = passphrase or None
        self._wrapper = wrapper

    def encode(self, key: PrivateKey, role: str) -> bytes:
        """Return the file of a private key in a role.

        Raises:
            Unavailable: The key store is away.
        """
        kind = serialization.PrivateFormat.PKCS8
        if self._wrapper is not None:
            der = key.private_bytes(serialization.Encoding.DER, kind, serialization.NoEncryption())
            wrapped = base64.b64encode(self._wrapper.wrap(der, _CONTEXT + role.encode())).decode()
            return "\n".join([_BEGIN, *textwrap.wrap(wrapped, 64), _END, ""]).encode()
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if self._passphrase is not None:
            encryption = serialization.BestAvailableEncryption(self._passphrase)
        return key.private_bytes(serialization.Encoding.PEM, kind, encryption)

    def load(self, path: Path, role: str) -> PrivateKey:
        """Read the file of the private key in a role.

        Raises:
            Invalid: ``keys.passphrase`` or ``keys.protection`` when it is protected in another way than this.
            Integrity: ``keys.missing``, ``keys.permissions``, ``keys.unreadable``, or what unwrapping raises.
            Unavailable: The key store is away.
        """
        text = folder.read_private(path)
        self._demand_protection(text, path)
        try:
            if self._wrapper is not None:
                key = serialization.load_der_private_key(self._unwrap(text, role, path, self._wrapper), None)
            else:
                key = serialization.load_pem_private_key(text, self._passphrase)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            if self._passphrase is not None:
                raise Invalid(
                    "keys.passphrase", "the passphrase does not open this key", subject=str(path)
                ) from None
            raise folder.unreadable(path, error) from None
        if not isinstance(key, PrivateKey):
            raise folder.unreadable(path, ValueError(f"a {type(key).__name__}"))
        return key

    def _unwrap(self, text: bytes, role: str, path: Path, wrapper: KeyWrapper) -> bytes:
        lines = text.decode("ascii").strip().split("\n")
        if lines[-1] != _END:
            raise ValueError("its last line is missing")
        wrapped = base64.b64decode("".join(lines[1:-1]), validate=True)
        try:
            return wrapper.unwrap(wrapped, _CONTEXT + role.encode())
        except Integrity as error:
            error.subject = str(path)
            raise

    def _demand_protection(self, text: bytes, path: Path) -> None:
        wrapped = text.startswith(_BEGIN.encode())
        if wrapped != (self._wrapper is not None):
            raise Invalid(
                "keys.protection",
                "this key is wrapped by a key store and none is set"
                if wrapped
                else "a key store is set and this key is not wrapped by it",
                subject=str(path),
                hint="set QCOS_KEYSTORE to what this folder was made with; see docs/reference/keystores.md",
            )
        encrypted = b"BEGIN ENCRYPTED PRIVATE KEY" in text
        if encrypted != (self._passphrase is not None):
            raise Invalid(
                "keys.passphrase",
                "this key is encrypted and no passphrase is set"
                if encrypted
                else "a passphrase is set and this key is not encrypted",
                subject=str(path),
            )
