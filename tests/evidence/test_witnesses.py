"""The verifier demands the witnesses its trust document names, and tells when they saw the ledger."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import mldsa

from qcos.evidence.bundle import attach
from qcos.evidence.model import Sealed
from qcos.evidence.verify import verify
from qcos.ledger.note import COSIGNATURE_MLDSA44, Line, Vkey, join, parse, sign_line
from qcos.ledger.proof import read_proof

from .conftest import Instance

KEYS = [mldsa.MLDSA44PrivateKey.from_seed_bytes(bytes([n]) * 32) for n in range(3)]
VKEYS = [
    Vkey(f"w{n}.example", COSIGNATURE_MLDSA44, k.public_key().public_bytes_raw()) for n, k in enumerate(KEYS)
]
NONE = -(2**62)  # an offset that stands for no time


def cosign(n: int, text: str, offset: int) -> Line:
    """Cosign at so many seconds from now."""
    at = 0 if offset == NONE else min(2**63 - 1, int(time.time()) + offset)
    return sign_line(VKEYS[n], text, KEYS[n].sign, at)


def witnessed(sealed: Sealed, proof: dict[str, Any], *offsets: int) -> dict[str, Any]:
    """Return the bundle with its checkpoint cosigned by as many witnesses as there are offsets."""
    text, lines = parse(proof["checkpoint"])
    changed = proof | {
        "checkpoint": join(text, [*lines, *(cosign(n, text, t) for n, t in enumerate(offsets))])
    }
    changed.pop("tlogProof")
    return attach(sealed.document, read_proof(changed).as_dict())


@pytest.fixture
def trust(instance: Instance) -> dict[str, Any]:
    document = copy.deepcopy(instance.trust)
    document["witnesses"] = {"quorum": 2, "keys": [{"vkey": str(vkey)} for vkey in VKEYS]}
    return document


def test_two_of_three_witnesses_are_named_with_their_times(
    sealed: Sealed, proof: dict[str, Any], trust: dict[str, Any]
) -> None:
    """R4.2, R5.5: no split view, and a second source of time."""
    report = verify(witnessed(sealed, proof, 2, 3), trust)
    assert report.ok, report.reason
    assert [one["name"] for one in report.facts["witnesses"]] == ["w0.example", "w1.example"]
    (detail,) = [check.detail for check in report.checks if check.name == "ledger checkpoint"]
    assert "witnessed by w0.example at 20" in detail


@pytest.mark.parametrize("offsets", [(), (2,), (2, NONE)], ids=["none", "one", "one without a time"])
def test_fewer_witnesses_fail(
    sealed: Sealed, proof: dict[str, Any], trust: dict[str, Any], offsets: tuple[int, ...]
) -> None:
    report = verify(witnessed(sealed, proof, *offsets), trust)
    assert not report.ok
    failed = {check.name: check.code for check in report.checks if not check.ok}
    assert failed["ledger checkpoint"] == failed["ledger inclusion"] == "ledger.unwitnessed"


def test_a_trust_document_that_demands_none_takes_what_has_some(
    sealed: Sealed, proof: dict[str, Any], instance: Instance
) -> None:
    report = verify(witnessed(sealed, proof, 2), instance.trust)
    assert report.ok, report.reason
    assert "witnesses" not in report.facts  # nothing is said of those nobody trusts


def test_a_witness_cannot_have_seen_what_was_not_signed_yet(
    sealed: Sealed, proof: dict[str, Any], trust: dict[str, Any]
) -> None:
    report = verify(witnessed(sealed, proof, 2, -4000), trust)
    assert [check.code for check in report.checks if not check.ok] == ["evidence.witness_time"]


def test_times_out_of_the_calendar_are_only_odd(
    sealed: Sealed, proof: dict[str, Any], trust: dict[str, Any]
) -> None:
    report = verify(witnessed(sealed, proof, 2, 2**63), trust)
    assert report.ok, report.reason
