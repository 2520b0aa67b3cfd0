"""Erased bundles: both records are proved or it fails, whatever is changed; and it never passes for a bundle (R4.3)."""

from __future__ import annotations

import copy
import datetime as dt
import json
from typing import Any

import pytest

from qcos.base.clock import rfc3339
from qcos.evidence.bundle import attach
from qcos.evidence.erased import erased_bundle, is_erased_bundle
from qcos.evidence.model import Sealed
from qcos.evidence.report import Report
from qcos.evidence.verify import verify
from qcos.ledger.checkpoint import Checkpoint
from qcos.ledger.proof import LedgerProof
from qcos.ledger.record import Record, prepare
from qcos.ledger.tree import leaf_hash, node_hash

from .conftest import ACTOR, NOW, ORIGIN, PROJECT, TENANT, Instance, facts

RULE = "retention 2555 days"
KEEPER = "service:qcos-retention"
ERASED_AT = NOW + dt.timedelta(days=2562)


def prove_both(
    instance: Instance,
    sealed: Sealed,
    /,
    *,
    at: dt.datetime = ERASED_AT,
    swapped: bool = False,
    **details: Any,
) -> dict[str, Any]:
    """Return an erased bundle from a log of the two records; ``details`` change the record of the erasing."""
    first = prepare(
        TENANT,
        Record("evidence.sealed", ACTOR, sealed.bundle_id, PROJECT, details=sealed.ledger_details),
        NOW,
    )
    said = {
        "job": sealed.job_id,
        "bundle": sealed.bundle_id,
        "sealed": first.record_id,
        "statement": sealed.statement_digest,
        "rule": RULE,
    }
    second = prepare(
        TENANT, Record("payload.erased", KEEPER, sealed.bundle_id, PROJECT, details={**said, **details}), at
    )
    order = (second, first) if swapped else (first, second)
    leaves = [leaf_hash(one.entry_bytes) for one in order]
    note = instance.ledger.sign(Checkpoint(ORIGIN, 2, node_hash(*leaves)), int(at.timestamp()))

    def proof(one: Any) -> dict[str, Any]:
        index = order.index(one)
        return LedgerProof(one.record_bytes, index, 2, (leaves[1 - index],), note).as_dict()

    erased = {"at": rfc3339(at), "rule": RULE, "by": KEEPER, "record": second.record_id}
    return erased_bundle(sealed.bundle_id, sealed.job_id, erased, proof(first), proof(second))


@pytest.fixture
def erased(instance: Instance, sealed: Sealed) -> dict[str, Any]:
    return prove_both(instance, sealed)


def failed(report: Report) -> set[str]:
    return {check.name for check in report.checks if not check.ok}


def test_the_verifier_says_what_was_erased_when_and_under_what(
    erased: dict[str, Any], sealed: Sealed, instance: Instance
) -> None:
    report = verify(erased, instance.trust)
    assert report.erased
    assert f"payload erased on {ERASED_AT:%Y-%m-%d} under {RULE}" in report.lines()[-1]
    assert f"statement {sealed.statement_digest} is no longer readable" in report.lines()[-1]
    assert report.facts["document"] == sealed.document_digest, "whoever holds a copy finds its digest here"
    assert report.as_dict()["erased"] is True


def test_it_is_no_proof_of_an_execution_unless_the_caller_says_so(
    erased: dict[str, Any], instance: Instance
) -> None:
    report = verify(erased, instance.trust)
    assert not report.ok and failed(report) == {"payload"}
    assert report.checks[-1].code == "evidence.erased"
    assert not verify(erased, instance.trust, allow_pending=True).ok
    allowed = verify(json.dumps(erased), instance.trust, allow_erased=True)
    assert allowed.ok and allowed.erased


def test_a_copy_of_the_bundle_stays_verifiable(
    sealed: Sealed, proof: dict[str, Any], instance: Instance
) -> None:
    report = verify(attach(sealed.document, proof), instance.trust)
    assert report.ok and not report.erased


CHANGES: dict[str, Any] = {
    "bundle": lambda d: d.update(bundle_id="evidence-2026-01-09-0000000000000000"),
    "job": lambda d: d.update(job_id="another"),
    "day": lambda d: d["erased"].update(at="2033-01-09T00:00:00Z"),
    "rule": lambda d: d["erased"].update(rule="request: the customer"),
    "actor": lambda d: d["erased"].update(by="user:mallory"),
    "record": lambda d: d["erased"].update(record="rec-2026-01-09-0000000000000000"),
    "no proof of sealing": lambda d: d["proof"].update(sealed=None),
    "no proof of erasing": lambda d: d["proof"].update(erased=None),
    "proofs swapped": lambda d: d.update(
        proof={"sealed": d["proof"]["erased"], "erased": d["proof"]["sealed"]}
    ),
    "one proof twice": lambda d: d["proof"].update(sealed=d["proof"]["erased"]),
    "more members": lambda d: d.update(result={"00": 1}),
    "fewer members": lambda d: d.pop("job_id"),
    "no proof file": lambda d: d["proof"]["erased"].pop("tlogProof"),
    "no object": lambda d: d.update(erased="yes"),
    "hashes": lambda d: d["proof"]["erased"].update(hashes=d["proof"]["sealed"]["hashes"]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_whatever_is_changed_it_is_erased_no_more(
    erased: dict[str, Any], instance: Instance, change: Any
) -> None:
    forged = copy.deepcopy(erased)
    change(forged)
    for allow in (False, True):
        report = verify(forged, instance.trust, allow_erased=allow)
        assert not report.ok and not report.erased
        assert not any("ERASED" in line for line in report.lines())


@pytest.mark.parametrize(
    "details",
    [
        {"job": "another"},
        {"bundle": "another"},
        {"sealed": "another"},
        {"statement": "sha256:0"},
        {"rule": "another"},
    ],
)
def test_a_record_of_another_erasing_proves_nothing(
    instance: Instance, sealed: Sealed, details: dict[str, str]
) -> None:
    """The log is honest, and what was erased was something else."""
    report = verify(prove_both(instance, sealed, **details), instance.trust, allow_erased=True)
    assert not report.ok and not report.erased and "erasing" in failed(report)


def test_nothing_is_erased_before_it_was_sealed(instance: Instance, sealed: Sealed) -> None:
    for document in (
        prove_both(instance, sealed, at=NOW - dt.timedelta(seconds=100)),
        prove_both(instance, sealed, swapped=True),
    ):
        report = verify(document, instance.trust, allow_erased=True)
        assert not report.erased and "erasing" in failed(report)


def test_another_bundles_erasing_is_not_this_ones(instance: Instance, sealed: Sealed) -> None:
    """Two honest erased bundles of one ledger; parts of one in the other."""
    mine, theirs = prove_both(instance, sealed), prove_both(instance, instance.seal(facts("job-2")))
    mixed = copy.deepcopy(mine)
    mixed["proof"]["erased"] = theirs["proof"]["erased"]
    assert not verify(mixed, instance.trust, allow_erased=True).erased


def test_another_ledger_proves_nothing(erased: dict[str, Any], instance: Instance, tmp_path: Any) -> None:
    from .conftest import make_instance

    other = make_instance(tmp_path / "other")
    assert not verify(erased, other.trust, allow_erased=True).erased


@pytest.mark.parametrize(
    "given",
    [b"", b"qcos.evidence.erased/v1", b'{"schema":"qcos.evidence.erased/v1"}', b"[" * 99_999, {"schema": 1}],
)
def test_what_is_neither_fails(given: Any, instance: Instance) -> None:
    report = verify(given, instance.trust, allow_erased=True, allow_pending=True)
    assert not report.ok and not report.erased
    assert is_erased_bundle(given) == (given == b'{"schema":"qcos.evidence.erased/v1"}')


@pytest.mark.parametrize(
    ("asked", "check"),
    [
        ({"materials": {"output": b"forged"}}, "material output"),
        ({"level": "full"}, "level"),
        ({"at": ERASED_AT}, "long term"),
    ],
)
def test_what_only_the_payload_could_prove_is_not_passed_over(
    erased: dict[str, Any], instance: Instance, asked: dict[str, Any], check: str
) -> None:
    """Who allows erased bundles does not allow any result to go with one."""
    assert verify(erased, instance.trust, allow_erased=True).ok
    report = verify(erased, instance.trust, allow_erased=True, **asked)
    assert (report.erased, report.ok, failed(report)) == (True, False, {check})
    assert report.lines()[-1].startswith("ERASED: payload erased on")
