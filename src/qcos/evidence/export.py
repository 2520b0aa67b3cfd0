"""A bundle's signatures in the forms that other tools read: DSSE, in-toto, Sigstore. Nothing is signed anew.

Pure: no database, no network, no key. What is exported is what the bundle holds; verify the bundle first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from asn1crypto import tsp

from qcos.base.errors import Integrity, Invalid, QcosError
from qcos.evidence.envelope import from_base64, to_base64
from qcos.evidence.shape import read_bundle
from qcos.evidence.signed import ALGORITHMS

SIGSTORE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"


def to_dsse(bundle: Mapping[str, Any]) -> bytes:  # Any: JSON
    """Return the DSSE v1.0.0 envelope with all its signatures (secure-systems-lab/dsse, envelope.md)."""
    return json.dumps(_envelope(bundle), indent=2).encode() + b"\n"


def to_in_toto(bundle: Mapping[str, Any]) -> bytes:  # Any: JSON
    """Return an in-toto attestation bundle: JSON lines, one envelope a line (in-toto/attestation, bundle.md)."""
    return json.dumps(_envelope(bundle), separators=(",", ":")).encode() + b"\n"


def to_sigstore(bundle: Mapping[str, Any], algorithm: str = "Ed25519") -> tuple[bytes, str]:  # Any: JSON
    """Return a Sigstore bundle v0.3 (sigstore/protobuf-specs, sigstore_bundle.proto) with one of the signatures.

    Sigstore's clients take exactly one signature in an envelope, and want its time stamps over *that*
    signature. The bundle's token is over the ML-DSA-65 signature, or over a batch of them: so it goes along
    with a view of ML-DSA-65 whose token is its own, and with no other. There is no entry of Rekor's log: QCOS's
    ledger is another log, whose proof stands in the bundle.

    Args:
        bundle: The bundle.
        algorithm: Of the signature: ``Ed25519``, which Sigstore's clients check today, or ``ML-DSA-65``.

    Returns:
        The Sigstore bundle, and why it holds no time stamp; empty when it holds one.

    Raises:
        Invalid: ``evidence.algorithm``.
        Integrity: ``evidence.document``; ``evidence.token`` when the bundle's token is none.
    """
    if algorithm not in ALGORITHMS:
        raise Invalid(
            "evidence.algorithm", "no such signature", expected=", ".join(ALGORITHMS), got=algorithm
        )
    envelope, proof = _envelope(bundle), bundle["proof"]
    signatures = envelope["signatures"]
    if len(signatures) < len(ALGORITHMS):
        raise Integrity("evidence.document", "the envelope lacks signatures", expected=", ".join(ALGORITHMS))
    one = signatures[ALGORITHMS.index(algorithm)]
    without = ""
    if algorithm != ALGORITHMS[0]:
        without = f"the bundle's time stamp is over the {ALGORITHMS[0]} signature, not over this one"
    elif "evidenceRecord" in proof:
        without = "the bundle's time stamp is not over this signature alone"
    material: dict[str, Any] = {"publicKey": {"hint": one["keyid"]}, "tlogEntries": []}
    if not without:
        stamp = to_base64(_response(from_base64(proof["timestamp"], "/proof/timestamp")))
        material["timestampVerificationData"] = {"rfc3161Timestamps": [{"signedTimestamp": stamp}]}
    view = {
        "mediaType": SIGSTORE_TYPE,
        "verificationMaterial": material,
        "dsseEnvelope": {**envelope, "signatures": [one]},
    }
    return json.dumps(view, indent=2).encode() + b"\n", without


def read(document: bytes) -> dict[str, Any]:  # Any: JSON
    """Read a bundle that is to be exported; raises `Integrity` ``evidence.document``."""
    return read_bundle(document)


def _envelope(bundle: Mapping[str, Any]) -> dict[str, Any]:
    envelope: dict[str, Any] = bundle["proof"]["envelope"]
    return {name: envelope[name] for name in ("payloadType", "payload", "signatures")}


def _response(token: bytes) -> bytes:
    """Return the RFC 3161 TimeStampResp around a token: Sigstore's member is the response, not the token."""
    try:
        content = tsp.ContentInfo.load(token, strict=True)
        response = tsp.TimeStampResp({"status": {"status": "granted"}, "time_stamp_token": content})
        return bytes(response.dump())
    except (ValueError, TypeError, QcosError) as error:
        raise Integrity("evidence.token", "the bundle's token is none", got=str(error)[:100]) from None
