"""The trust document: the public half of every key there was, and when each counted; all a verifier needs besides a bundle.

Handed over once, by a safe way. Keys that were replaced or revoked stay in it: what they signed in their time is verified with them.
"""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from qcos.base.clock import rfc3339
from qcos.keys.certify import to_pem
from qcos.keys.model import KeyEntry, Keyring

SCHEMA: Final = "qcos.trust/v1"
UNTIL_COVERED: Final = dt.timedelta(seconds=5)  # what was sealed at an instant is in the ledger by then


def trust_document(
    keyring: Keyring | Sequence[KeyEntry],
    origin: str,
    vkeys: Sequence[str] = (),
    witnesses: Mapping[str, Any] | None = None,
    authorities: Sequence[tuple[str, str]] = (),
    ledger_size: Callable[[dt.datetime], int] | None = None,
) -> dict[str, Any]:  # Any: JSON
    """Return the trust document as JSON-ready members.

    Args:
        keyring: The keys, or their entries; only public halves are used.
        origin: Name of the ledger (C2SP tlog-checkpoint: first line of a checkpoint).
        vkeys: The ledger's verifier keys, as the ledger formats them (C2SP signed-note): one for each of the
            keyring's entries of role ``ledger``, in their order; none to leave the ledger out.
        witnesses: Whose cosignatures its checkpoints carry (`qcos.ledger.quorum.Policy.as_trust`); None:
            nobody's.
        authorities: Outside time-stamping authorities: each one's certificate and its issuers', PEM.
        ledger_size: Returns how many entries the ledger had at an instant; asked for each revoked authority,
            whose tokens count only where the ledger shows that they are older.
    """
    entries = keyring.entries if isinstance(keyring, Keyring) else keyring
    ledger = [entry for entry in entries if entry.role == "ledger"] if vkeys else []
    own = {
        to_pem(chain[0]) for entry in entries if entry.role == "tsa" for chain in (entry.chain, *entry.former)
    }
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "origin": origin,
        "evidence": [_evidence(entry) for entry in entries if entry.role == "evidence"],
        "ledger": [
            {"vkey": vkey, **_validity(entry), **_certificate(entry)}
            for entry, vkey in zip(ledger, vkeys, strict=True)
        ],
        "timestamp": [
            *(
                _authority(entry, chain, ledger_size)
                for entry in entries
                if entry.role == "tsa"
                for chain in (entry.chain, *entry.former)
            ),
            *(
                {"certificate": certificate, "chain": chain}
                for certificate, chain in authorities
                if certificate not in own  # the registry says when our own counts
            ),
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


def _authority(
    entry: KeyEntry, chain: Sequence[bytes], ledger_size: Callable[[dt.datetime], int] | None
) -> dict[str, str | int]:
    leaf, *issuers = [to_pem(certificate) for certificate in chain]
    validity = _validity(entry)
    del validity["notBefore"]  # the certificate says it
    if entry.revoked_at is not None and ledger_size is not None:
        validity["ledgerSize"] = ledger_size(entry.revoked_at + UNTIL_COVERED)
    return {"certificate": leaf, "chain": "".join(issuers), **validity}


def _validity(entry: KeyEntry) -> dict[str, str | int]:
    members: dict[str, str | int] = {"notBefore": rfc3339(entry.not_before)}
    if entry.not_after is not None:
        members["notAfter"] = rfc3339(entry.not_after)
    if entry.revoked_at is not None:
        members |= {"revokedAt": rfc3339(entry.revoked_at), "reason": entry.reason}
    return members


def _certificate(entry: KeyEntry) -> dict[str, str]:
    return {"certificate": "".join(to_pem(der) for der in entry.chain)} if entry.chain else {}
