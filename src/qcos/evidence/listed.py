"""What stands in a trust document, as rows that people compare, and what differs between two of them. Pure."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from qcos.base.clock import rfc3339
from qcos.evidence.succession import Held, ledger_key
from qcos.evidence.trust import Trust, TrustedAuthority


@dataclass(frozen=True, slots=True)
class Row:
    """A key of a trust document.

    Attributes:
        role: ``evidence``, ``ledger``, ``tsa`` or ``witness``.
        algorithm: Its algorithm; for a witness the kind of its cosignature.
        key_id: As `qcos key list` says it; for a witness its name.
        not_before: When it was made, UTC; of an authority, from when its certificate is valid.
        not_after: From when on its signatures do not count, UTC, if it was replaced.
        revoked_at: From when on it is not to be trusted, UTC, if it was revoked.
        reason: Why it was revoked.
        certificate: Digest of its chain of certificates; empty without.
    """

    role: str
    algorithm: str
    key_id: str
    not_before: dt.datetime | None
    not_after: dt.datetime | None
    revoked_at: dt.datetime | None
    reason: str
    certificate: str

    def as_dict(self) -> dict[str, Any]:  # Any: JSON
        """Return it JSON-ready."""
        return {
            "role": self.role,
            "algorithm": self.algorithm,
            "key": self.key_id,
            "not_before": _said(self.not_before),
            "not_after": _said(self.not_after),
            "revoked_at": _said(self.revoked_at),
            "reason": self.reason,
            "certificate": self.certificate or None,
        }


def list_keys(trust: Trust) -> list[Row]:
    """Return the keys of a trust document, in its order."""
    rows = [
        Row(
            "evidence",
            key.public.algorithm,
            key_id,
            key.not_before,
            key.not_after,
            key.revoked_at,
            key.reason,
            _digest(key.chain),
        )
        for key_id, key in trust.keys.items()
    ]
    for pinned in trust.vkeys:
        public = ledger_key(pinned)
        rows.append(
            Row(
                "ledger",
                public.algorithm,
                public.key_id,
                pinned.not_before,
                pinned.not_after,
                pinned.revoked_at,
                pinned.reason,
                _digest(pinned.chain),
            )
        )
    rows += [_authority(der, one) for der, one in trust.authorities.items()]
    rows += [
        Row("witness", vkey.algorithm, str(vkey).rpartition("+")[0], None, None, None, "", "")
        for vkey in trust.witnesses.vkeys
    ]
    return rows


def tell_changes(before: Trust, after: Trust) -> list[dict[str, Any]]:  # Any: JSON
    """Return what is different in a later document.

    Returns:
        For each change ``change`` (``added``, ``removed``, ``retired``, ``revoked``, ``certified``; ``ledger_size`` of a revoked
        authority; ``witnesses`` when another number of them is demanded), ``role``, ``algorithm``, ``key``, ``at`` and ``reason``.
    """
    old, new = _by_identity(before), _by_identity(after)
    told = [_told("removed", row, None) for identity, row in old.items() if identity not in new]
    for identity, row in new.items():
        former = old.get(identity)
        if former is None:
            told.append(_told("added", row, row.not_before))
        if row.not_after is not None and (former is None or former.not_after != row.not_after):
            told.append(_told("retired", row, row.not_after))
        if row.revoked_at is not None and (former is None or former.revoked_at != row.revoked_at):
            told.append(_told("revoked", row, row.revoked_at))
        if former is not None and former.certificate != row.certificate:
            told.append(_told("certified", row, None))
    sizes = {der: one.ledger_size for der, one in before.authorities.items()}
    told += [
        {**_told("ledger_size", _authority(der, one), one.revoked_at), "size": one.ledger_size}
        for der, one in after.authorities.items()
        if der in sizes and sizes[der] not in (None, one.ledger_size)
    ]
    if before.witnesses.as_trust() != after.witnesses.as_trust():
        told.append(
            {"change": "witnesses", "role": "witness", "key": "", "algorithm": "", "at": None, "reason": ""}
        )
    return told


def show(held: Held) -> dict[str, Any]:  # Any: JSON
    """Return a document as `qcos trust show` tells it."""
    return {
        "origin": held.trust.origin,
        "version": held.version,
        "digest": held.digest,
        "previous": held.trust.previous or None,
        "issued": _said(held.trust.issued),
        "keys": [row.as_dict() for row in list_keys(held.trust)],
    }


def _by_identity(trust: Trust) -> Mapping[tuple[str, str, str], Row]:
    """Return the rows by what they are; an authority that got another certificate for its key is another one."""
    return {
        (row.role, row.key_id, row.certificate if row.role == "tsa" else row.algorithm): row
        for row in list_keys(trust)
    }


def _authority(der: bytes, one: TrustedAuthority) -> Row:
    certificate = x509.load_der_x509_certificate(der)
    public = certificate.public_key()
    spki = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return Row(
        "tsa",
        _algorithm(public),
        hashlib.sha256(spki).hexdigest()[:16],
        certificate.not_valid_before_utc,
        one.not_after,
        one.revoked_at,
        one.reason,
        "sha256:" + hashlib.sha256(der).hexdigest(),
    )


def _algorithm(public: Any) -> str:  # Any: a public key of any kind
    curve = getattr(public, "curve", None)
    name = type(public).__name__.removesuffix("PublicKey").lstrip("_")
    return {"secp384r1": "ECDSA-P384"}.get(curve.name, f"ECDSA {curve.name}") if curve is not None else name


def _told(change: str, row: Row, at: dt.datetime | None) -> dict[str, Any]:  # Any: JSON
    return {
        "change": change,
        "role": row.role,
        "algorithm": row.algorithm,
        "key": row.key_id,
        "at": _said(at),
        "reason": row.reason if change == "revoked" else "",
    }


def _digest(chain: str) -> str:
    return "sha256:" + hashlib.sha256(chain.encode()).hexdigest() if chain else ""


def _said(at: dt.datetime | None) -> str | None:
    return rfc3339(at) if at is not None else None
