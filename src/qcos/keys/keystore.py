"""What a key store gives an installation: a key that wraps, and keys that it holds itself.

Each kind is opened by one function; its library is imported there, so that it has to be installed only where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from qcos.base.errors import Invalid
from qcos.keys.file import COUNTERSIGNER, FileKeyring
from qcos.keys.held import Maker
from qcos.keys.model import Signer
from qcos.keys.open import FileStore, HeldStore, KeyStores
from qcos.keys.protect import Protection
from qcos.keys.where import KmsAt, TokenAt, TransitAt
from qcos.keys.wrap import KeyWrapper, open_file_wrapper, open_the_same


@dataclass(frozen=True, slots=True)
class Keystore:
    """A key store that is open.

    Attributes:
        directory: The folder of the files of private keys.
        wrapper: Wraps payload keys, and, unless it lies in a file itself, the files of private keys.
        held: Signing keys that the store holds, by role.
        maker: Makes those of later generations, if the store does.
        passphrase: Of the files, where nothing wraps them.
        wraps_files: Whether the wrapper wraps the files of private keys.
    """

    directory: Path
    wrapper: KeyWrapper
    held: Mapping[str, Signer] = field(default_factory=dict)
    maker: Maker | None = None
    passphrase: bytes | None = field(default=None, repr=False)
    wraps_files: bool = True

    def keyring(self) -> FileKeyring:
        """Return the keyring whose files this store wraps, with the keys it holds."""
        wrapper = self.wrapper if self.wraps_files else None
        return FileKeyring(self.directory, self.passphrase, wrapper=wrapper, held=self.held)


def stores_of(keystore: Keystore) -> KeyStores:
    """Return where the private halves of registered keys are: files that this store wraps, and keys that it holds."""
    protection = Protection(keystore.passphrase, keystore.wrapper if keystore.wraps_files else None)
    return KeyStores(
        {"file": FileStore(keystore.directory, protection), "held": HeldStore(keystore.held, keystore.maker)}
    )


def open_file_keystore(directory: Path, passphrase: bytes | None) -> Keystore:
    """Open the store that is nothing but files, under a passphrase if there is one.

    Raises:
        Invalid, Integrity: As `open_file_wrapper`.
    """
    return Keystore(
        directory, open_file_wrapper(directory, passphrase), passphrase=passphrase, wraps_files=False
    )


def open_token_keystore(directory: Path, at: TokenAt) -> Keystore:
    """Open a PKCS#11 token; its two keys are made on the first call.

    Raises:
        Invalid: ``keys.extra``, ``keys.module``, ``keys.token``, ``keys.pin``, ``keys.token_key``, ``keys.protection``.
        Integrity: ``keys.missing``, ``keys.changed``.
        Unavailable: ``keys.token_away``.
    """
    from qcos.keys.pkcs11 import Token, TokenMaker, TokenWrapper, make_keys, token_signer

    token = Token(at)
    wrapper = open_the_same(directory, "pkcs11", lambda: make_keys(token), lambda: TokenWrapper(token))
    return Keystore(directory, wrapper, {COUNTERSIGNER: token_signer(token)}, TokenMaker(token))


def open_transit_keystore(directory: Path, at: TransitAt) -> Keystore:
    """Open the transit engine of a Vault or OpenBao server; its three keys are made on the first call.

    Raises:
        Invalid: ``keys.extra``, ``keys.settings``, ``keys.secret``, ``keys.store_key``, ``keys.protection``.
        Integrity: ``keys.missing``, ``keys.changed``.
        Unavailable: ``keys.store_away``, ``keys.store_denied``, ``keys.store_answer``.
    """
    from qcos.keys.transit import TransitMaker, TransitWrapper, make_keys, transit_signer
    from qcos.keys.vault import Server

    server = Server(at)
    wrapper = open_the_same(directory, "transit", lambda: make_keys(server), lambda: TransitWrapper(server))
    held = {
        COUNTERSIGNER: transit_signer(server, "countersign"),
        "evidence-ed25519": transit_signer(server, "ed25519"),
    }
    return Keystore(directory, wrapper, held, TransitMaker(server))


def open_kms_keystore(directory: Path, at: KmsAt) -> Keystore:
    """Open keys in AWS KMS, which its administrators made; QCOS makes one there only for rotation.

    Raises:
        Invalid: ``keys.extra``, ``keys.settings``, ``keys.store_key``, ``keys.protection``.
        Integrity: ``keys.missing``, ``keys.changed``.
        Unavailable: ``keys.store_away``, ``keys.store_denied``, ``keys.store_answer``.
    """
    from qcos.keys.awskms import Kms, KmsMaker, KmsWrapper, kms_signer

    kms = Kms(at)
    wrapper = open_the_same(directory, "awskms", lambda: None, lambda: KmsWrapper(kms, at.wrapping_key))
    asked = {
        "evidence-mldsa65": (at.mldsa_key, "ML_DSA_65"),
        COUNTERSIGNER: (at.countersigning_key, "ECC_NIST_P384"),
    }
    held = {role: kms_signer(kms, key, spec) for role, (key, spec) in asked.items() if key}
    return Keystore(directory, wrapper, held, KmsMaker(kms))


def demand_settings(kind: str, **values: str) -> None:
    """Demand that the settings a key store needs are there.

    Raises:
        Invalid: ``keys.settings`` with the names of those that are not.
    """
    lacking = [name for name, value in values.items() if not value]
    if lacking:
        raise Invalid(
            "keys.settings",
            f"the key store {kind} needs more settings",
            expected=", ".join(f"QCOS_{name.upper()}" for name in lacking),
            hint="see docs/reference/keystores.md",
        )
