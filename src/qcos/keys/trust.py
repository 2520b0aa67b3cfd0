"""The trust document: the public half of a keyring, the only thing a verifier needs besides a bundle.

Handed over once, by a safe way.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final

from qcos.base.clock import rfc3339
from qcos.keys.certify import to_pem
from qcos.keys.model import Keyring

SCHEMA: Final = "qcos.trust/v1"


def trust_document(
    keyring: Keyring, origin: str, vkeys: Sequence[str] = (), witnesses: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the trust document as JSON-ready members.

    Args:
        keyring: The keys; only their public halves are used.
        origin: Name of the ledger (C2SP tlog-checkpoint: first line of a checkpoint).
        vkeys: The ledger's verifier keys, as the ledger formats them (C2SP signed-note).
        witnesses: Whose cosignatures its checkpoints carry (`qcos.ledger.quorum.Policy.as_trust`); None:
            nobody's.
    """
    not_before = rfc3339(keyring.created)
    leaf, *issuers = [to_pem(certificate) for certificate in keyring.tsa_chain]
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "origin": origin,
        "evidence": [
            {
                "keyId": signer.key_id,
                "algorithm": signer.algorithm,
                "publicKey": base64.b64encode(signer.spki).decode(),
                "notBefore": not_before,
            }
            for signer in keyring.evidence_signers
        ],
        "ledger": [{"vkey": vkey} for vkey in vkeys],
        "timestamp": [{"certificate": leaf, "chain": "".join(issuers)}],
    }
    if witnesses is not None:
        document["witnesses"] = dict(witnesses)
    return document
