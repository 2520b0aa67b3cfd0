"""Make the next generation of a role's keys: private halves first, then everything the registry will say of them.

Nothing of it counts before it is registered: who is killed in between leaves a key that nobody knows of.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from qcos.base.errors import Invalid
from qcos.keys.certify import issue_ca, issue_tsa
from qcos.keys.model import NEEDED, OPTIONAL, Algorithm, KeyEntry, Role, Signer
from qcos.keys.open import KeyStores
from qcos.keys.signer import PrivateKeySigner


def algorithms_of(role: Role, algorithm: str | None, entries: Sequence[KeyEntry]) -> tuple[Algorithm, ...]:
    """Return which keys of a role a rotation replaces: all in force, or the one asked for.

    Raises:
        Invalid: ``keys.algorithm`` when the role has no key of it.
    """
    if algorithm is None:
        live = {entry.algorithm for entry in entries if entry.role == role and entry.in_force}
        return tuple(one for one in (*NEEDED[role], *OPTIONAL.get(role, ())) if one in live)
    possible = (*NEEDED[role], *OPTIONAL.get(role, ()))
    chosen = next((one for one in possible if one == algorithm), None)
    if chosen is None:
        raise Invalid(
            "keys.algorithm",
            "the role has no key of this algorithm",
            subject=role,
            expected=", ".join(possible),
            got=algorithm[:80],
        )
    return (chosen,)


def role_of(text: str) -> Role:
    """Return a role.

    Raises:
        Invalid: ``keys.role``.
    """
    found = next((role for role in NEEDED if role == text), None)
    if found is None:
        raise Invalid("keys.role", "there is no such role", expected=", ".join(NEEDED), got=text[:80])
    return found


def make_keys(
    stores: KeyStores,
    entries: Sequence[KeyEntry],
    role: Role,
    algorithms: Sequence[Algorithm],
    at: dt.datetime,
    store: str | None = None,
) -> list[KeyEntry]:
    """Make keys that take the place of those in force. A new CA needs a new authority: both are made.

    Args:
        stores: Where private halves are made.
        entries: The registry's.
        role: Whose keys.
        algorithms: Which of them.
        at: When, UTC.
        store: Kind of store; by default that of the key that is replaced.

    Raises:
        Invalid: ``keys.store``, ``keys.make``.
        Unavailable: The key store is away.
    """
    made: list[KeyEntry] = []
    for algorithm in algorithms:
        entry, signer = _make(stores, entries, role, algorithm, at, store)
        if role == "tsa":
            entry = _stamped(stores, [*entries], entry, at)
        elif role == "tsa-ca":
            entry = replace(entry, chain=(_der(issue_ca(_private(signer), at)),))
        made.append(entry)
    if role == "tsa-ca":
        leaf, _ = _make(stores, entries, "tsa", "ECDSA-P384", at, store)
        made.append(_stamped(stores, made, leaf, at))
    return made


def _make(
    stores: KeyStores,
    entries: Sequence[KeyEntry],
    role: Role,
    algorithm: Algorithm,
    at: dt.datetime,
    store: str | None,
) -> tuple[KeyEntry, Signer]:
    former = [entry for entry in entries if (entry.role, entry.algorithm) == (role, algorithm)]
    kind = store or (former[-1].store if former else "file")
    signer, locator = stores.store(kind).make(role, algorithm)
    if signer.algorithm != algorithm:
        raise Invalid(
            "keys.make", "the key store made another kind of key", expected=algorithm, got=signer.algorithm
        )
    entry = KeyEntry(
        key_id=signer.key_id,
        role=role,
        algorithm=algorithm,
        generation=max((one.generation for one in former), default=0) + 1,
        spki=signer.spki,
        store=kind,
        locator=locator,
        not_before=at,
    )
    return entry, signer


def _stamped(stores: KeyStores, entries: Sequence[KeyEntry], entry: KeyEntry, at: dt.datetime) -> KeyEntry:
    """Return the authority's entry with a certificate by the CA in force."""
    ca = next(one for one in reversed(entries) if one.role == "tsa-ca" and one.in_force)
    public = serialization.load_der_public_key(entry.spki)
    assert isinstance(public, ec.EllipticCurvePublicKey)  # noqa: S101 - for the type checker
    issuer = x509.load_der_x509_certificate(ca.chain[0])
    leaf = issue_tsa(issuer, _private(stores.open(ca)), public, at)
    return replace(entry, chain=(_der(leaf), *ca.chain))


def _private(signer: Signer) -> ec.EllipticCurvePrivateKey:
    """Return the key of the local CA, which issues one certificate a generation and lies in a file."""
    if isinstance(signer, PrivateKeySigner) and isinstance(signer.private_key, ec.EllipticCurvePrivateKey):
        return signer.private_key
    raise Invalid("keys.make", "the local CA's key lies in a file only", subject=signer.key_id)


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)
