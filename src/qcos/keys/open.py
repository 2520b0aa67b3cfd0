"""From a key's public entry to what signs with it: one small dispatch by the kind of store that has its private half."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from qcos.base.errors import Integrity, Invalid
from qcos.keys import folder
from qcos.keys.held import Maker
from qcos.keys.model import NEEDED, Algorithm, KeyEntry, Keyring, Role, Signer, slot
from qcos.keys.protect import Protection
from qcos.keys.signer import GENERATORS, PrivateKeySigner


class KeyStore(Protocol):
    """Where private halves are made and kept. Safe for many threads."""

    def make(self, role: Role, algorithm: Algorithm) -> tuple[Signer, str]:
        """Make a new key and return it with its locator. Nobody signs with it before it is registered.

        Raises:
            Invalid: The store has no keys of this algorithm.
            Unavailable: The store is away.
        """
        ...

    def open(self, locator: str, role: Role, algorithm: Algorithm) -> Signer:
        """Return the key at a locator.

        Raises:
            Integrity: It is gone or cannot be read.
            Unavailable: The store is away.
        """
        ...


class FileStore:
    """Private keys in files of the keyring's folder: the first generation's, and ``<slot>-<key id>.pem`` of later ones.

    Args:
        directory: The folder.
        protection: How the files are written and read.
    """

    def __init__(self, directory: Path, protection: Protection) -> None:
        self._directory = directory
        self._protection = protection

    def make(self, role: Role, algorithm: Algorithm) -> tuple[Signer, str]:
        """Write a new key: whole, for the owner alone, before anybody hears of it."""
        name = slot(role, algorithm)
        signer = PrivateKeySigner(GENERATORS[algorithm]())
        locator = f"{name}-{signer.key_id}.pem"
        with folder.locked(self._directory):
            folder.write_new(self._directory / locator, self._protection.encode(signer.private_key, name))
        return signer, locator

    def open(self, locator: str, role: Role, algorithm: Algorithm) -> Signer:
        """Read a key; a locator is a file name, never a path."""
        if Path(locator).name != locator:
            raise Integrity("keys.locator", "not the name of a key file", got=locator[:200])
        return PrivateKeySigner(self._protection.load(self._directory / locator, slot(role, algorithm)))

    def sweep(self, registered: Sequence[str], before: float) -> list[str]:
        """Remove the files of keys that were made and never registered: their maker was killed in between.

        Args:
            registered: Locators of all keys in the registry.
            before: POSIX seconds; younger files stay, for their maker may be about to register them.

        Returns:
            The names of those removed.
        """
        kept = {*registered, *(f"{name}.pem" for name in _first_slots())}
        gone = []
        with folder.locked(self._directory):
            folder.sweep(
                self._directory
            )  # a copy of a private key, when its writer was killed at the very end
            for name in _first_slots() | _optional_slots():
                for path in self._directory.glob(_later(name)):
                    if path.name not in kept and path.stat().st_mtime < before:
                        path.unlink()
                        gone.append(path.name)
        return gone


def has_later_keys(directory: Path, name: str) -> bool:
    """Return whether the folder has keys of a slot beside that of the first generation."""
    return any(directory.glob(_later(name)))


def _later(name: str) -> str:
    return f"{name}-{'[0-9a-f]' * 16}.pem"


class HeldStore:
    """Keys that a key store holds: the first ones, named in the settings, and those that it makes later.

    Args:
        held: The first ones, by slot.
        maker: Makes those of later generations, if the store does.
    """

    def __init__(self, held: Mapping[str, Signer], maker: Maker | None = None) -> None:
        self._held = held
        self._maker = maker

    def make(self, role: Role, algorithm: Algorithm) -> tuple[Signer, str]:
        """Let the key store make a key.

        Raises:
            Invalid: ``keys.make`` when it makes no such keys.
            Unavailable: The store is away, or does not let this installation make keys.
        """
        if self._maker is None or role != "evidence":
            raise Invalid(
                "keys.make",
                "no key store makes such keys here",
                subject=slot(role, algorithm),
                hint="make it in a file: --store file",
            )
        return self._maker.make(algorithm)

    def open(self, locator: str, role: Role, algorithm: Algorithm) -> Signer:
        """Return a key that the store holds."""
        if locator in self._held:
            return self._held[locator]
        if self._maker is not None and locator != slot(role, algorithm):
            return self._maker.open(locator, algorithm)
        raise Integrity(
            "keys.missing",
            "the settings name no key store that holds this key",
            subject=locator,
            hint="set the key store that this key was registered with",
        )


class KeyStores:
    """The stores of this process by the name entries call them.

    Args:
        stores: By kind; ``file`` is always among them.
    """

    def __init__(self, stores: Mapping[str, KeyStore]) -> None:
        self._stores = stores

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of store there are here."""
        return tuple(self._stores)

    def store(self, kind: str) -> KeyStore:
        """Return a store.

        Raises:
            Invalid: ``keys.store`` when this process has none of this kind.
        """
        found = self._stores.get(kind)
        if found is None:
            raise Invalid(
                "keys.store",
                "this process has no such key store",
                expected=", ".join(self._stores),
                got=kind[:80],
                hint="set QCOS_KEYSTORE as where the key was made; see docs/reference/keystores.md",
            )
        return found

    def open(self, entry: KeyEntry) -> Signer:
        """Return what signs with a key, after looking whether it is that very key.

        Raises:
            Invalid: ``keys.store``.
            Integrity: ``keys.changed`` when the store gives another key; what the store raises.
            Unavailable: The store is away.
        """
        signer = self.store(entry.store).open(entry.locator, entry.role, entry.algorithm)
        if signer.spki != entry.spki:
            raise Integrity(
                "keys.changed",
                f"the key store gives another key for role {entry.slot}",
                subject=f"{entry.store}:{entry.locator}",
                expected=entry.key_id,
                got=signer.key_id,
                hint="restore the right key; a new key is made by `qcos key rotate` only",
            )
        return signer

    def keyring(self, entries: Sequence[KeyEntry], version: int) -> Keyring:
        """Open the keys in force.

        Raises:
            Integrity: ``keys.missing`` when a role has none.
        """
        live = {(entry.role, entry.algorithm): entry for entry in entries if entry.in_force}

        def signer(role: Role, algorithm: Algorithm) -> Signer:
            return self.open(_needed(live, role, algorithm))

        ed25519, mldsa44, mldsa65 = (signer("ledger", algorithm) for algorithm in NEEDED["ledger"])
        counter = live.get(("evidence", "ECDSA-P384"))
        return Keyring(
            evidence=(signer("evidence", "ML-DSA-65"), signer("evidence", "Ed25519")),
            ledger=(ed25519, mldsa44, mldsa65),
            tsa_key=signer("tsa", "ECDSA-P384"),
            tsa_chain=_needed(live, "tsa", "ECDSA-P384").chain,
            created=min(entry.not_before for entry in entries),
            entries=tuple(entries),
            countersigner=self.open(counter) if counter is not None else None,
            version=version,
        )


def _needed(live: Mapping[tuple[Role, Algorithm], KeyEntry], role: Role, algorithm: Algorithm) -> KeyEntry:
    entry = live.get((role, algorithm))
    if entry is None:
        raise Integrity(
            "keys.missing",
            "a role has no key in force",
            subject=slot(role, algorithm),
            hint="restore the table of keys from a backup",
        )
    return entry


def _first_slots() -> set[str]:
    return {slot(role, algorithm) for role, algorithms in NEEDED.items() for algorithm in algorithms}


def _optional_slots() -> set[str]:
    return {"evidence-p384"}
