"""The first generation of keys, in files: made once, under a lock, each atomically, never overwritten.

A directory (0700) holds one PKCS#8 PEM file (0600) for each role, the authority's certificates, and
`keyring.json`, written last: which key stands in which role. While `keyring.json` is missing, making the
keys was interrupted and goes on where it stopped; once it is there, a missing or other key is an error, for
a new key would silently change what verifiers have to trust. Losing the directory means that no further
evidence can be signed with these keys; what was signed stays verifiable with the trust document. Somebody
who can read it (and knows the passphrase, if there is one) can sign as this instance.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from qcos.base.canonical import canonical, loads_strict
from qcos.base.clock import now, parse_rfc3339, rfc3339
from qcos.base.errors import Integrity, Invalid, QcosError
from qcos.keys import folder
from qcos.keys.certify import issue_ca, issue_tsa
from qcos.keys.model import NEEDED, OPTIONAL, Algorithm, KeyEntry, Keyring, Role, Signer, slot
from qcos.keys.protect import Protection
from qcos.keys.signer import GENERATORS, PrivateKeySigner
from qcos.keys.wrap import KeyWrapper

ROLES: Final[dict[str, Algorithm]] = {
    slot(role, algorithm): algorithm for role, algorithms in NEEDED.items() for algorithm in algorithms
}
"""The first generation's files, and the algorithm of each."""
COUNTERSIGNER: Final = "evidence-p384"
"""A role that no file holds: there is such a key only where a key store has it."""
HELD: Final[dict[str, Algorithm]] = {
    "evidence-mldsa65": "ML-DSA-65",
    "evidence-ed25519": "Ed25519",
    COUNTERSIGNER: "ECDSA-P384",
}
"""Roles whose key a key store may hold."""
CHAIN_FILE: Final = "tsa-chain.pem"
MANIFEST_FILE: Final = "keyring.json"
_SCHEMA: Final = "qcos.keyring/v1"


class FileKeyring:
    """The keys in one directory.

    Args:
        directory: Where the files lie; made when missing. Must be able to hold hard links (every POSIX file
            system).
        passphrase: When given, new keys are written encrypted (PBES2) and existing ones must be.
        wrapper: When given, new keys are written wrapped by it and existing ones must be.
        held: Keys that a key store holds, by role; such a role has no file.
    """

    def __init__(
        self,
        directory: Path,
        passphrase: bytes | None = None,
        *,
        wrapper: KeyWrapper | None = None,
        held: Mapping[str, Signer] | None = None,
    ) -> None:
        self._directory = directory
        self._held = dict(held or {})
        for role, signer in self._held.items():
            if HELD.get(role) != signer.algorithm:
                raise Invalid(
                    "keys.held",
                    "no key store may hold this key",
                    subject=role,
                    expected=", ".join(f"{k} in {role}" for role, k in HELD.items()),
                    got=signer.algorithm,
                )
        self._protection = Protection(passphrase, wrapper)

    def open_or_create(self) -> Keyring:
        """Return the keys, making them when there are none. Any number of processes may call this at once.

        Raises:
            Invalid: ``keys.passphrase`` when it is wrong, missing or not needed; ``keys.protection``.
            Integrity: ``keys.missing``, ``keys.changed``, ``keys.unreadable`` or ``keys.permissions``; or what
                unwrapping raises.
            Unavailable: The key store that wraps them is away.
        """
        with folder.locked(self._directory):
            if not (self._directory / MANIFEST_FILE).exists():
                self._create()
            return self._open()

    def _create(self) -> None:
        folder.sweep(self._directory)
        keys: dict[str, PrivateKeySigner] = {}
        for role in [role for role in ROLES if role not in self._held]:
            if not self._path(role).exists():
                new = GENERATORS[ROLES[role]]()
                folder.write_new(self._path(role), self._protection.encode(new, role))
            keys[role] = self._load(role)
        created = now().replace(microsecond=0)
        if not (self._directory / CHAIN_FILE).exists():
            folder.write_new(self._directory / CHAIN_FILE, _new_chain(keys, created))
        manifest = {
            "schema": _SCHEMA,
            "created": rfc3339(created),
            "keys": {role: signer.key_id for role, signer in {**keys, **self._held}.items()},
        }
        folder.write_new(self._directory / MANIFEST_FILE, canonical(manifest) + b"\n")

    def _open(self) -> Keyring:
        created, key_ids = self._manifest()
        keys: dict[str, Signer] = {role: self._load(role) for role in ROLES if role not in self._held}
        tsa_chain = self._chain(keys["tsa"])
        keys |= self._held
        for role in {**keys, **key_ids}:
            found = keys[role].key_id if role in keys else "none"
            if key_ids.get(role, "none") != found:
                raise Integrity(
                    "keys.changed",
                    f"the key in role {role} is not the one this keyring was made with",
                    subject=str(self._path(role)),
                    expected=key_ids.get(role, "none"),
                    got=found,
                    hint="restore the file from a backup, or set the key store that this keyring was made with",
                )
        return Keyring(
            evidence=(keys["evidence-mldsa65"], keys["evidence-ed25519"]),
            ledger=(keys["ledger-ed25519"], keys["ledger-mldsa44"], keys["ledger-mldsa65"]),
            tsa_key=keys["tsa"],
            tsa_chain=tsa_chain,
            created=created,
            entries=_first_entries(keys, self._held, tsa_chain, created),
            countersigner=keys.get(COUNTERSIGNER),
        )

    def _manifest(self) -> tuple[dt.datetime, dict[str, str]]:
        path = self._directory / MANIFEST_FILE
        try:
            found = loads_strict(path.read_bytes(), subject=str(path))
            if found["schema"] != _SCHEMA:
                raise ValueError(f"schema {found['schema']!r}")
            return parse_rfc3339(found["created"]), {str(k): str(v) for k, v in found["keys"].items()}
        except (QcosError, ValueError, TypeError, KeyError, AttributeError, OSError) as error:
            raise folder.unreadable(path, error) from None

    def _chain(self, tsa: Signer) -> tuple[bytes, ...]:
        path = self._directory / CHAIN_FILE
        try:
            chain = x509.load_pem_x509_certificates(path.read_bytes())
        except FileNotFoundError:
            raise folder.missing(path) from None
        except (ValueError, OSError) as error:
            raise folder.unreadable(path, error) from None
        der = tuple(c.public_bytes(serialization.Encoding.DER) for c in chain)
        if tsa.spki != _spki(chain[0]):
            raise Integrity(
                "keys.changed",
                "the authority's certificate is not for its key",
                subject=str(path),
                hint="restore the file from a backup",
            )
        return der

    def _path(self, role: str) -> Path:
        return self._directory / f"{role}.pem"

    def _load(self, role: str) -> PrivateKeySigner:
        path = self._path(role)
        key = self._protection.load(path, role)
        if PrivateKeySigner(key).algorithm != ROLES[role]:
            raise Integrity(
                "keys.changed",
                f"the key in role {role} has another algorithm",
                subject=str(path),
                expected=ROLES[role],
            )
        return PrivateKeySigner(key)


def _first_entries(
    keys: Mapping[str, Signer], held: Mapping[str, Signer], chain: tuple[bytes, ...], created: dt.datetime
) -> tuple[KeyEntry, ...]:
    chains: dict[Role, tuple[bytes, ...]] = {"tsa": chain, "tsa-ca": chain[1:]}
    places = [
        (role, algorithm, slot(role, algorithm))
        for role, algorithms in NEEDED.items()
        for algorithm in (*algorithms, *OPTIONAL.get(role, ()))
    ]
    return tuple(
        KeyEntry(
            key_id=keys[name].key_id,
            role=role,
            algorithm=algorithm,
            generation=1,
            spki=keys[name].spki,
            store="held" if name in held else "file",
            locator=name if name in held else f"{name}.pem",
            not_before=created,
            chain=chains.get(role, ()),
        )
        for role, algorithm, name in places
        if name in keys
    )


def _new_chain(keys: dict[str, PrivateKeySigner], at: dt.datetime) -> bytes:
    key, ca_key = keys["tsa"].private_key, keys["tsa-ca"].private_key
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - for the type checker
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)  # noqa: S101 - for the type checker
    ca = issue_ca(ca_key, at)
    leaf = issue_tsa(ca, ca_key, key.public_key(), at)
    return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in (leaf, ca))


def _spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
