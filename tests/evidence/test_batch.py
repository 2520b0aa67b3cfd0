"""Batch time stamping: bundles that are sealed together share one token over a hash tree (RFC 4998)."""

from __future__ import annotations

import base64
import copy
import dataclasses
import hashlib
import json
from typing import Any

import pytest

from qcos.evidence.bundle import detached_digest, seal_all
from qcos.evidence.model import Sealed
from qcos.evidence.report import Report
from qcos.evidence.trust import Trust
from qcos.evidence.verify import verify
from qcos.timestamp.archive import ArchiveStamp, EvidenceRecord, read_record
from qcos.timestamp.tree import grow

from .conftest import Instance, facts


class Counting:
    """An authority that counts the tokens it was asked for."""

    def __init__(self, instance: Instance) -> None:
        self._authority = instance.authority
        self.tokens = 0

    def stamp_digest(self, digest: bytes) -> bytes:
        self.tokens += 1
        return self._authority.stamp_digest(digest)


def _facts(number: int, level: str = "standard") -> Any:
    given = facts(f"job-{number}")
    return dataclasses.replace(given, governance=dataclasses.replace(given.governance, evidence_level=level))


def _seal(instance: Instance, *levels: str) -> tuple[list[Sealed], int]:
    counting = Counting(instance)
    given = [_facts(number, level) for number, level in enumerate(levels)]
    return seal_all(given, instance.keyring.evidence, counting), counting.tokens


@pytest.fixture(scope="module")
def batch(instance: Instance) -> list[Sealed]:
    return _seal(instance, *["standard"] * 7)[0]


@pytest.fixture(scope="module")
def trust(instance: Instance) -> Trust:
    return Trust.load(instance.trust)


def _bundle(instance: Instance, sealed: Sealed) -> dict[str, Any]:
    return instance.bundle(sealed)


def _failed(report: Report) -> dict[str, tuple[str, str]]:
    assert not report.ok
    return {check.name: (check.code, check.pointer) for check in report.checks if not check.ok}


@pytest.mark.parametrize("size", [2, 3, 7, 8])
def test_bundles_sealed_together_share_one_token(instance: Instance, trust: Trust, size: int) -> None:
    """R4.1, R4.2: one token for all of them, and each verifies alone, offline."""
    sealed, tokens = _seal(instance, *["standard"] * size)
    assert tokens == 1
    bundles = [_bundle(instance, one) for one in sealed]
    assert len({bundle["proof"]["timestamp"] for bundle in bundles}) == 1
    for one, bundle in zip(sealed, bundles, strict=True):
        report = verify(bundle, trust)
        assert report.ok, report.reason
        assert "hash tree" in next(check.detail for check in report.checks if check.name == "timestamp")
        assert detached_digest(bundle) == one.document_digest
        assert bundle["signatures"]["timestamp_authority"] == "RFC3161:" + bundle["proof"]["timestamp"]


def test_full_evidence_has_a_token_of_its_own(instance: Instance, trust: Trust) -> None:
    sealed, tokens = _seal(instance, "standard", "full", "basic", "full")
    assert tokens == 3
    assert [one.job_id for one in sealed] == ["job-0", "job-1", "job-2", "job-3"], "in the order given"
    proofs = [_bundle(instance, one)["proof"] for one in sealed]
    assert ["evidenceRecord" in proof for proof in proofs] == [True, False, True, False]
    assert all(verify(_bundle(instance, one), trust).ok for one in sealed)


def test_a_lone_bundle_needs_no_tree(instance: Instance, trust: Trust) -> None:
    for levels in (["standard"], ["full", "basic"]):
        sealed, tokens = _seal(instance, *levels)
        assert tokens == len(levels)
        bundle = _bundle(instance, sealed[-1])
        assert set(bundle["proof"]) == {"envelope", "timestamp", "ledger"}
        assert verify(bundle, trust).ok
    assert _seal(instance) == ([], 0)


def _changed(bundle: dict[str, Any], record: EvidenceRecord | bytes | str) -> dict[str, Any]:
    changed = copy.deepcopy(bundle)
    data = record.encode() if isinstance(record, EvidenceRecord) else record
    changed["proof"]["evidenceRecord"] = base64.b64encode(data).decode() if isinstance(data, bytes) else data
    return changed


def test_the_way_of_another_bundle_proves_nothing(
    instance: Instance, trust: Trust, batch: list[Sealed]
) -> None:
    mine, other = _bundle(instance, batch[0]), _bundle(instance, batch[5])
    report = verify(_changed(mine, other["proof"]["evidenceRecord"]), trust)
    assert _failed(report)["timestamp"] == ("timestamp.tree", "/proof/evidenceRecord")
    assert "does not cover" in report.reason


def test_every_hash_of_the_way_counts(instance: Instance, trust: Trust, batch: list[Sealed]) -> None:
    bundle = _bundle(instance, batch[2])
    record = read_record(base64.b64decode(bundle["proof"]["evidenceRecord"]))
    token, tree = record.first.token, record.first.tree
    own = hashlib.sha512(base64.b64decode(bundle["proof"]["envelope"]["signatures"][0]["sig"])).digest()
    for number, hashes in enumerate(tree):
        for place, one in enumerate(hashes):
            other = bytes([one[0] ^ 1, *one[1:]])
            lists = [list(inner) for inner in tree]
            lists[number][place] = other
            changed = _changed(bundle, EvidenceRecord(((ArchiveStamp(token, tuple(map(tuple, lists))),),)))
            code = "timestamp.tree" if one == own else "timestamp.imprint"
            assert _failed(verify(changed, trust))["timestamp"][0] == code
    for lists in (
        tree[:-1],
        tree[1:],
        (*tree, tree[-1]),
        (*tree, ()),
        ((own,), *tree),
        (tree[0] * 2, *tree[1:]),
    ):
        changed = _changed(bundle, EvidenceRecord(((ArchiveStamp(token, tuple(lists)),),)))
        assert {"timestamp", "ledger record"} <= set(_failed(verify(changed, trust)))


def test_a_record_that_is_none_is_refused(instance: Instance, trust: Trust, batch: list[Sealed]) -> None:
    bundle = _bundle(instance, batch[1])
    encoded = base64.b64decode(bundle["proof"]["evidenceRecord"])
    for noise in (
        b"",
        b"\x30\x00",
        encoded[:-1],
        encoded + b"\x00",
        b"\x30" * 4000,
        encoded.replace(b"\xa2", b"\xa1", 1),
    ):
        failed = _failed(verify(_changed(bundle, noise), trust))
        assert failed["timestamp"] == ("timestamp.record", "/proof/evidenceRecord")
        assert "ledger record" in failed
    assert _failed(verify(_changed(bundle, "no base64"), trust))["timestamp"][0] == "evidence.base64"


def test_without_its_way_the_token_is_for_other_data(
    instance: Instance, trust: Trust, batch: list[Sealed]
) -> None:
    bundle = _bundle(instance, batch[3])
    del bundle["proof"]["evidenceRecord"]
    failed = _failed(verify(bundle, trust))
    assert failed["timestamp"] == ("timestamp.imprint", "/proof/timestamp")
    assert "ledger record" in failed


def test_another_token_over_the_same_tree_is_not_the_one_that_was_sealed(
    instance: Instance, trust: Trust, batch: list[Sealed]
) -> None:
    bundle = _bundle(instance, batch[0])
    record = read_record(base64.b64decode(bundle["proof"]["evidenceRecord"]))
    signatures = [
        base64.b64decode(json.loads(one.document)["proof"]["envelope"]["signatures"][0]["sig"])
        for one in batch
    ]
    root, _ = grow([hashlib.sha512(one).digest() for one in signatures])
    token = instance.authority.stamp_digest(root)
    changed = _changed(bundle, EvidenceRecord(((ArchiveStamp(token, record.first.tree),),)))
    failed = _failed(verify(changed, trust))
    assert failed["timestamp"] == ("evidence.field", "/proof/evidenceRecord")
    text = base64.b64encode(token).decode()
    changed["proof"]["timestamp"] = text
    changed["signatures"]["timestamp_authority"] = "RFC3161:" + text
    assert set(_failed(verify(changed, trust))) == {"ledger record"}


def test_a_record_does_not_replace_a_stamp_of_ones_own(instance: Instance, trust: Trust) -> None:
    """A record without a tree, put beside a token that stamps the signature itself, says nothing new."""
    (sealed,), _ = _seal(instance, "full")
    bundle = _bundle(instance, sealed)
    token = base64.b64decode(bundle["proof"]["timestamp"])
    assert not verify(_changed(bundle, EvidenceRecord(((ArchiveStamp(token),),))), trust).ok
