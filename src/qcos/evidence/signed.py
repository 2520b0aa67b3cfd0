"""Checks of a bundle's envelope: whose signatures it has, and whether each covers the statement."""

from __future__ import annotations

from typing import Final

from qcos.base.canonical import digest
from qcos.base.errors import Integrity
from qcos.evidence.bundle import SIGNATURE_PREFIX, TOKEN_PREFIX
from qcos.evidence.envelope import PAYLOAD_TYPE, from_base64, pae
from qcos.evidence.run import Run, differs, known
from qcos.evidence.shape import demand_equal
from qcos.evidence.trust import TrustedKey

ALGORITHMS: Final = ("ML-DSA-65", "Ed25519")
"""Signatures of an envelope, in this order: the promise, and the one every DSSE verifier checks today."""

COUNTERSIGNATURE: Final = "ECDSA-P384"
"""A third signature, by a key that a key store holds: demanded while the trust document has such a key."""


def check_envelope(run: Run) -> str:
    """Demand an envelope with exactly the signatures there have to be, by trusted keys."""
    envelope = run.bundle["proof"]["envelope"]
    run.payload = from_base64(envelope["payload"], "/proof/envelope/payload")
    run.facts["statement"] = digest(run.payload)
    if envelope["payloadType"] != PAYLOAD_TYPE:
        raise differs(
            "/proof/envelope/payloadType", "another payload type", PAYLOAD_TYPE, envelope["payloadType"]
        )
    given = envelope["signatures"]
    expected = (*ALGORITHMS, COUNTERSIGNATURE)[: max(len(given), len(ALGORITHMS))]
    if len(given) != len(expected):
        raise differs(
            "/proof/envelope/signatures",
            "an envelope has two signatures, and a third where a key store countersigns",
            ", ".join(expected),
            f"{len(given)} of them",
        )
    keys = [_key(run, index, algorithm) for index, algorithm in enumerate(expected)]
    run.signatures = tuple(
        from_base64(one["sig"], f"/proof/envelope/signatures/{n}/sig") for n, one in enumerate(given)
    )
    run.keys = tuple(keys)
    return f"DSSE, {PAYLOAD_TYPE}, keys {', '.join(key.public.key_id for key in keys)}"


def check_signature(run: Run, index: int) -> str:
    """Demand that one of the signatures covers the statement."""
    public = run.keys[index].public
    try:
        public.verify(run.signatures[index], pae(PAYLOAD_TYPE, run.payload))
    except Integrity as error:
        raise Integrity(
            "evidence.signature",
            f"{error.message}: the statement or the signature was changed",
            subject=f"/proof/envelope/signatures/{index}/sig",
            expected=f"a signature by key {public.key_id} over the statement {run.facts['statement']}",
        ) from None
    return f"key {public.key_id} signed the statement"


def check_shown(run: Run) -> str:
    """Demand that the reader's signatures are those of the proof."""
    proof = run.bundle["proof"]
    signature = next((one["sig"] for one in proof["envelope"]["signatures"]), "")
    demand_equal(
        {
            "signatures": {
                "qcos_signature": SIGNATURE_PREFIX + signature,
                "timestamp_authority": TOKEN_PREFIX + proof["timestamp"],
            }
        },
        {"signatures": run.bundle["signatures"]},
        "evidence.field",
        "the bundle shows another signature than its proof holds",
    )
    return "the signatures shown are those of the proof"


def check_countersignature(run: Run) -> str:
    """Demand the key store's signature, if one was due when the evidence was signed."""
    made = [key.not_before for key in run.keys]  # whatever a stolen authority's token says, not before
    at = max(known(run.time).time, *made)
    due = [
        key.public.key_id
        for key in run.trust.keys.values()
        if key.public.algorithm == COUNTERSIGNATURE and key.in_force(at)
    ]
    by = [key.public.key_id for key in run.keys if key.public.algorithm == COUNTERSIGNATURE]
    if due and not by:
        raise Integrity(
            "evidence.countersignature",
            "the countersignature by the key store's key is missing",
            subject="/proof/envelope/signatures",
            expected=f"a third signature, by key {' or '.join(due)}",
            got="none",
        )
    return f"countersigned by key {by[0]}" if by else "none was due at that time"


def _key(run: Run, index: int, algorithm: str) -> TrustedKey:
    pointer = f"/proof/envelope/signatures/{index}/keyid"
    key_id = run.bundle["proof"]["envelope"]["signatures"][index]["keyid"]
    key = run.trust.keys.get(key_id)
    trusted = ", ".join(k for k, v in run.trust.keys.items() if v.public.algorithm == algorithm)
    if key is None:
        raise differs(pointer, "a key that is not trusted", f"key {trusted}", key_id)
    if key.public.algorithm != algorithm:
        raise differs(
            pointer, "a key of another algorithm", f"{algorithm} key {trusted}", key.public.algorithm
        )
    return key
