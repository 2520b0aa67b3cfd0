"""The trust document: the public half of every key there was, and when each counted; all a verifier needs besides a bundle.

Handed over once, by a safe way. Keys that were replaced or revoked stay in it: what they signed in their time is verified with them.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final

from qcos.base.clock import rfc3339
from qcos.keys.certify import to_pem
from qcos.keys.model import KeyEntry, Keyring

SCHEMA: Final = "qcos.trust/v1"


def trust_document(
    keyring: Keyring,
    origin: str,
    vkeys: Sequence[str] = (),
    witnesses: Mapping[str, Any] | None = None,
    authorities: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:  # Any: JSON
    """Return the trust document as JSON-ready members.

    Args:
        keyring: The keys; only their public halves are used.
        origin: Name of the ledger (C2SP tlog-checkpoint: first line of a checkpoint).
        vkeys: The ledger's verifier keys, as the ledger formats them (C2SP signed-note): one for each of the
            keyring's entries of role ``ledger``, in their order; none to leave the ledger out.
        witnesses: Whose cosignatures its checkpoints carry (`qcos.ledger.quorum.Policy.as_trust`); None:
            nobody's.
        authorities: Outside time-stamping authorities: each one's certificate and its issuers', PEM.
    """
    ledger = keyring.of("ledger") if vkeys else ()
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "origin": origin,
        "evidence": [_evidence(entry) for entry in keyring.of("evidence")],
        "ledger": [
            {"vkey": vkey, **_validity(entry), **_certificate(entry)}
            for entry, vkey in zip(ledger, vkeys, strict=True)
        ],
        "timestamp": [
            *(_authority(entry) for entry in keyring.of("tsa")),
            *({"certificate": certificate, "chain": chain} for certificate, chain in authorities),
        ],
    }
    if witnesses is not None:
        document["witnesses"] = dict(witnesses)
    return document


def _evidence(entry: KeyEntry) -> dict[str, str | int]:
    return {
        "keyId": entry.key_id,
        "algorithm": entry.algorithm,
        "publicKey": base64.b64encode(entry.spki).decode(),
        **_validity(entry),
        **_certificate(entry),
    }


def _authority(entry: KeyEntry) -> dict[str, str | int]:
    leaf, *issuers = [to_pem(certificate) for certificate in entry.chain]
    validity = _validity(entry)
    del validity["notBefore"]  # the certificate says it
    return {"certificate": leaf, "chain": "".join(issuers), **validity}


def _validity(entry: KeyEntry) -> dict[str, str | int]:
    members: dict[str, str | int] = {"notBefore": rfc3339(entry.not_before)}
    if entry.not_after is not None:
        members["notAfter"] = rfc3339(entry.not_after)
    if entry.revoked_at is not None:
        members |= {"revokedAt": rfc3339(entry.revoked_at), "reason": entry.reason}
        if entry.revoked_size is not None:
            members["ledgerSize"] = entry.revoked_size
    return members


def _certificate(entry: KeyEntry) -> dict[str, str]:
    return {"certificate": "".join(to_pem(der) for der in entry.chain)} if entry.chain else {}
